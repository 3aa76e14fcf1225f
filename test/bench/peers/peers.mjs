// peers.mjs: drives graphile-worker and pg-boss for test/bench/suite.sh.  The database is that of the PG* variables.
//
//	peers.mjs PEER install                 makes its schema
//	peers.mjs PEER enqueue CLIENTS SECONDS one job a call, that many calls at a time; prints jobs a second
//	peers.mjs PEER load JOBS               its bulk call with 1,000 jobs each; prints jobs a second
//	peers.mjs PEER drain JOBS PROCESSES    no-op handlers until so many have run; prints jobs a second
//	peers.mjs PEER latency SAMPLES         prints, in ms, the time from the end of the enqueuing call to the handler, a line each
//
// Settings: graphile-worker as its page on performance has them, pg-boss with batches of 500 through fetch and complete, since
// its own work() pauses for half a second at least between two fetches.
import { fork } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const [peer, verb, first, second] = process.argv.slice(2)
const PAYLOAD = JSON.parse(process.env.PAYLOAD ?? '{}')
const QUEUE = verb === 'latency' ? 'quick' : 'bench'
const now = () => performance.now()

const graphile = {
	async module() { return import('graphile-worker') },
	preset: { worker: { concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
	async utils(max) {
		const { makeWorkerUtils } = await this.module()
		const pgPool = this.pool(max)
		const utils = await makeWorkerUtils({ pgPool, logger: await this.silent() })
		return { utils, pgPool }
	},
	pool(max) {
		const pool = new pg.Pool({ max })
		pool.on('error', () => {})
		pool.on('connect', client => client.on('error', () => {}))
		return pool
	},
	async silent() { const { Logger } = await this.module(); return new Logger(() => () => {}) },
	async install() { const { utils, pgPool } = await this.utils(2); await utils.migrate(); await utils.release(); await pgPool.end() },
	async sender(max) {
		const { utils, pgPool } = await this.utils(max)
		return {
			one: () => utils.addJob('noop', PAYLOAD),
			many: n => utils.addJobs(Array.from({ length: n }, () => ({ identifier: 'noop', payload: PAYLOAD }))),
			end: async () => { await utils.release(); await pgPool.end() }
		}
	},
	async worker(ran, preset = this.preset) {
		const { run } = await this.module()
		const pgPool = this.pool(25)
		const runner = await run({ preset, pgPool, logger: await this.silent(), noHandleSignals: true, taskList: { noop: ran } })
		return async () => { await runner.stop(); await pgPool.end() }
	},
	// what its latency is measured with: its documentation takes the local queue for throughput alone
	quick: { worker: { concurrentJobs: 4, maxPoolSize: 6 } }
}

const boss = {
	async start(max, workers = false) {
		const { PgBoss } = await import('pg-boss')
		const b = new PgBoss({ host: process.env.PGHOST, port: +process.env.PGPORT, user: process.env.PGUSER,
			database: process.env.PGDATABASE, max, supervise: false, schedule: false })
		b.on('error', error => { console.error(error); process.exitCode = 1 })
		await b.start()
		return b
	},
	async install() {
		const b = await this.start(2)
		await b.createQueue('bench')
		await b.createQueue('quick', { notify: true })	// wakes its workers, which costs every send a lock of the cluster's
		await b.stop({ graceful: false })
	},
	async sender(max) {
		const b = await this.start(max)
		return {
			one: () => b.send(QUEUE, PAYLOAD),
			many: n => b.insert(QUEUE, Array.from({ length: n }, () => ({ data: PAYLOAD }))),
			end: () => b.stop({ graceful: false })
		}
	},
	async worker(ran) {
		const b = await this.start(5)
		let stopped = false
		const loops = Array.from({ length: 4 }, async () => {
			while (!stopped) {
				const jobs = await b.fetch(QUEUE, { batchSize: 500 })
				if (jobs.length === 0) { await sleep(50); continue }
				jobs.forEach(ran)
				await b.complete(QUEUE, jobs.map(j => j.id))
			}
		})
		return async () => { stopped = true; await Promise.all(loops); await b.stop({ graceful: false }) }
	},
	async latencyWorker(ran) {
		const b = await this.start(5)
		await b.work(QUEUE, { pollingIntervalSeconds: 0.5 }, async () => { ran() })
		return () => b.stop({ graceful: false })
	}
}

const it = { graphile, boss }[peer]

async function enqueue(clients, seconds) {
	const s = await it.sender(clients)
	await s.one()
	const end = now() + seconds * 1000
	let n = 0
	await Promise.all(Array.from({ length: clients }, async () => { while (now() < end) { await s.one(); n++ } }))
	await s.end()
	return n / seconds
}

async function load(jobs) {
	const s = await it.sender(1)
	const start = now()
	for (let n = 0; n < jobs; n += 1000)
		await s.many(Math.min(1000, jobs - n))
	const rate = jobs / (now() - start) * 1000
	await s.end()
	return rate
}

// The workers are processes of their own; each says when it is ready and how many jobs it has run.
async function drain(jobs, processes) {
	const children = Array.from({ length: processes }, () => fork(process.argv[1], [peer, 'child']))
	const counts = children.map(() => 0)
	await Promise.all(children.map(child => new Promise(resolve => child.once('message', resolve))))
	const start = now()
	const all = new Promise(resolve => children.forEach((child, i) => child.on('message', n => {
		counts[i] = n
		if (counts.reduce((a, b) => a + b) >= jobs) resolve()
	})))
	children.forEach(child => child.send('go'))
	await all
	const rate = jobs / (now() - start) * 1000
	await Promise.all(children.map(child => new Promise(resolve => { child.once('exit', resolve); child.send('stop') })))
	return rate
}

async function child() {
	let n = 0, told = 0
	await (it.module?.() ?? import('pg-boss'))
	process.send('ready')
	await new Promise(resolve => process.once('message', resolve))
	const stop = await it.worker(() => { n++ })
	const timer = setInterval(() => { if (n !== told) process.send(told = n) }, 10)
	await new Promise(resolve => process.once('message', resolve))
	clearInterval(timer)
	await stop()
	process.disconnect()
}

async function latency(samples) {
	const s = await it.sender(1)
	let ran
	const stop = it.latencyWorker ? await it.latencyWorker(() => ran?.(now())) : await it.worker(() => ran?.(now()), it.quick)
	await sleep(1000)
	for (let i = 0; i < samples; i++) {
		const started = new Promise(resolve => { ran = resolve })
		await s.one()
		const sent = now()
		console.log(Math.max(await started - sent, 0).toFixed(3))
		await sleep(10)
	}
	await stop()
	await s.end()
}

switch (verb) {
	case 'install': await it.install(); break
	case 'enqueue': console.log((await enqueue(+first, +second)).toFixed(1)); break
	case 'load': console.log((await load(+first)).toFixed(1)); break
	case 'drain': console.log((await drain(+first, +second)).toFixed(1)); break
	case 'child': await child(); break
	case 'latency': await latency(+first); break
	default: throw new Error(`unknown verb ${verb}`)
}
process.exit()
