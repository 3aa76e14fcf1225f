// overview.js: all queues at a glance, and above them what needs somebody: alarms, pauses, late and failed jobs.

import { bulk } from './bulk.js';
import { sparkline } from './chart.js';
import { ask, button, empty, h, psql, state, table, toast } from './dom.js';
import { parse } from './exact.js';
import { age, count, exact, plural, short, span, told } from './format.js';

const LATE = 60; // seconds that a due job may wait before it is said
const SAMPLE = 200; // failed jobs that are looked at to group them
const EVERY = 10000; // ms between two looks at the failed ones
const WINDOW = 20000; // ms over which the rates of now are taken

// What is remembered from one refresh to the next, by database.
const memory = new Map();

export function remembered(db) {
	if (!memory.has(db))
		memory.set(db, { samples: new Map(), failures: null, asked: 0, dead: { asked: 0, of: new Map() } });
	return memory.get(db);
}

// Jobs a second, in and out, from the totals of two answers; until there are two, from the last whole minute.
export function rates(db, q, at) {
	const samples = remembered(db).samples;
	let list = samples.get(q.queue) || [];
	const out = (Number(q.completed) || 0) + (Number(q.discarded) || 0) + (Number(q.cancelled) || 0);
	const last = list[list.length - 1];
	// Totals that shrink were reset.
	if (last && (last.in > q.enqueued || last.out > out)) list = [];
	if (!last || at > last.at) list = [...list, { at, in: q.enqueued, out }].filter((s) => s.at >= at - WINDOW);
	samples.set(q.queue, list);
	const first = list[0];
	if (list.length > 1 && at - first.at >= 1500) {
		const s = (at - first.at) / 1000;
		return { in: (q.enqueued - first.in) / s, out: (out - first.out) / s };
	}
	const minute = (key) => {
		const kept = ((q.minutes && q.minutes[key]) || []).filter((v) => v !== null);
		return kept.length ? kept[kept.length - 1] / 60 : 0;
	};
	return { in: minute('enqueued'), out: minute('completed') };
}

export function rate(perSecond) {
	if (perSecond === 0) return h('span', { class: 'zero' }, '0');
	if (perSecond >= 1)
		return `${short(Math.round(perSecond * (perSecond < 10 ? 10 : 1)) / (perSecond < 10 ? 10 : 1))}/s`;
	return `${Math.max(1, Math.round(perSecond * 60))}/min`;
}

// The minutes of the overview as rows of history.
export function minuteRows(minutes) {
	if (!minutes || !minutes.first) return [];
	const first = Date.parse(minutes.first);
	return minutes.enqueued
		.map((enqueued, i) =>
			enqueued === null
				? null
				: {
						minute: new Date(first + i * 60000).toISOString(),
						enqueued,
						completed: minutes.completed[i],
						failed: minutes.failed[i],
						discarded: minutes.discarded[i],
					},
		)
		.filter((r) => r);
}

const total = (list) => (list || []).reduce((n, v) => n + (v || 0), 0);

// Failed jobs by queue and kind, with the error that most of them tell.
function group(jobs, what) {
	const groups = new Map();
	for (const j of jobs) {
		const key = JSON.stringify([j.queue, j.kind]);
		const g = groups.get(key) || { queue: j.queue, kind: j.kind, state: what, n: 0, errors: new Map() };
		g.n++;
		const error = (j.error || 'no error was told').split('\n')[0];
		g.errors.set(error, (g.errors.get(error) || 0) + 1);
		groups.set(key, g);
	}
	return [...groups.values()].sort((a, b) => b.n - a.n);
}

// The failed jobs, grouped and counted.  Among a million others the search for some takes a moment, so it is left out
// where the gauges say that there are none, and the page does not wait for it.
async function failures(ctx, queues) {
	const of = async (name, any) => {
		if (!any) return [];
		const { data } = await ctx.view('jobs', { filter: JSON.stringify({ state: name }), qty: SAMPLE, before: 0 });
		return group(data.jobs, name);
	};
	const [discarded, retryable] = await Promise.all([
		of('discarded', true),
		of(
			'retryable',
			queues.some((q) => q.retryable === null || q.retryable > 0),
		),
	]);
	// The number that stands there is counted, not the sample's.
	return Promise.all(
		[...discarded, ...retryable].slice(0, 6).map(async (g) => {
			const { data } = await ctx.view('count', {
				filter: JSON.stringify({ state: g.state, queue: g.queue, kind: g.kind }),
				at_most: 10000,
			});
			return { ...g, count: Number(data.count), more: data.more };
		}),
	);
}

// Looks at them now and then, and shows what has come of it.
function lookAside(ctx, mem, queues) {
	if (Date.now() - mem.asked < EVERY) return;
	const asked = (mem.asked = Date.now());
	// What one may not see is not told; the table below stands.
	Promise.all([failures(ctx, queues).catch(() => []), deadLetters(ctx, mem, queues)]).then(([failed]) => {
		if (mem.asked !== asked) return;
		mem.failures = failed;
		ctx.redraw();
	});
}

// All queues, each with its last hour as `minutes`.
export async function loadQueues(ctx) {
	const [stat, past] = await Promise.all([ctx.view('overview'), ctx.view('minutes')]);
	const { first, queues: minutes } = past.data;
	return {
		...stat.data,
		at: stat.at,
		queues: stat.data.queues.map((q) => ({
			...q,
			minutes: Object.hasOwn(minutes, q.queue) ? { ...minutes[q.queue], first } : null,
		})),
	};
}

export const overview = {
	every: 2000,
	title: () => 'Overview',
	reset: () => {
		for (const mem of memory.values()) mem.asked = mem.dead.asked = 0;
	},
	load: async (ctx) => {
		const mem = remembered(ctx.db);
		const [stat, doctor] = await Promise.all([loadQueues(ctx), ctx.view('doctor').catch(() => null)]);
		lookAside(ctx, mem, stat.queues);
		return { ...stat, doctor: doctor ? doctor.data : null };
	},
	render: (ctx, loaded) =>
		draw(ctx, { ...loaded, failed: remembered(ctx.db).failures, dead: remembered(ctx.db).dead.of }),
};

function draw(ctx, data) {
	return [
		h('div', { class: 'head' }, h('h1', null, 'Overview'), figures(ctx, data)),
		attention(ctx, data),
		data.queues.length
			? queues(ctx, data)
			: empty(
					'No queue yet, or none that this role may read',
					h('p', null, 'The first job makes queue ', h('code', null, 'default'), '. In psql:'),
					psql('SELECT queue.enqueue(\'hello\', \'{"name": "Ada"}\');'),
					h('p', null, 'To let a role see a queue:'),
					psql("SELECT queue.grant_queue('*', 'reader', 'read');"),
				),
	];
}

function figures(ctx, data) {
	const of = (key) => data.queues.reduce((n, q) => n + (Number(q[key]) || 0), 0);
	return h(
		'p',
		{ class: 'muted' },
		`${plural(data.queues.length, 'queue')} · ${count(of('available'))} waiting · ${count(of('running'))} running` +
			` · ${count(of('retryable'))} to be retried`,
	);
}

function alarm(worst, key, title, detail, ...actions) {
	return h(
		'div',
		{ class: worst ? 'alarm worst' : 'alarm', key },
		h('div', { class: 'what' }, h('strong', null, title), detail ? h('p', null, detail) : null),
		h('div', { class: 'actions' }, actions),
	);
}

function attention(ctx, data) {
	const list = [];
	const said = new Set(); // queues that are called late below
	if (data.paused_all_at) {
		list.push(
			alarm(
				true,
				'all',
				'All queues are paused',
				[`since `, age(data.paused_all_at), '. Nothing runs before they are resumed.'],
				ctx.write &&
					button('Resume all', () => ctx.act('resume_queue', { queue: '*' }, () => 'All queues run again')),
			),
		);
	}
	for (const q of data.queues) {
		const from = data.dead && data.dead.get(q.queue);
		if (from !== undefined && from !== null && q.available) {
			list.push(
				alarm(
					false,
					`dead ${q.queue}`,
					`${plural(q.available, 'dead letter')} in ${q.queue}`,
					`Jobs that ${from} gave up, kept aside.`,
					h('a', { class: 'button', href: ctx.link('jobs', '', { queue: q.queue }) }, 'See them'),
					ctx.write && button('Redrive …', () => redrive(ctx, q)),
				),
			);
			continue;
		}
		const late = q.oldest_run_at ? (data.at - Date.parse(q.oldest_run_at)) / 1000 : 0;
		if (q.paused_at) {
			list.push(
				alarm(
					false,
					`paused ${q.queue}`,
					`${q.queue} is paused`,
					[
						'since ',
						age(q.paused_at),
						q.available ? `; ${plural(q.available, 'job')} ${q.available === 1 ? 'waits' : 'wait'}.` : '.',
					],
					ctx.write && button('Resume', () => resume(ctx, q)),
				),
			);
		} else if (late > LATE && !data.paused_all_at) {
			said.add(q.queue);
			list.push(
				alarm(
					late > 15 * LATE,
					`late ${q.queue}`,
					`${q.queue} is late`,
					`${plural(q.available, 'job')} ${q.available === 1 ? 'waits' : 'wait'}, the oldest for ${span(late)}.`,
					button('Why?', () => why(ctx, q)),
				),
			);
		}
	}
	for (const g of data.failed || []) {
		if (!g.count) continue;
		const [error, n] = [...g.errors].sort((a, b) => b[1] - a[1])[0];
		const filter = { state: g.state, queue: g.queue, kind: g.kind };
		const many = `${count(g.count)}${g.more ? '+' : ''} ${g.count === 1 ? 'job' : 'jobs'}`;
		list.push(
			alarm(
				g.state === 'discarded',
				`${g.state} ${g.queue} ${g.kind}`,
				g.state === 'discarded'
					? `${many} of kind ${g.kind} in ${g.queue} failed for good`
					: `${many} of kind ${g.kind} in ${g.queue} failed and will be tried again`,
				n === g.n ? error : `${error} (${n} of the last ${g.n})`,
				h('a', { class: 'button', href: ctx.link('jobs', '', filter) }, 'See them'),
				ctx.write &&
					button(
						'Retry all …',
						() =>
							bulk(
								ctx,
								'retry_jobs',
								JSON.stringify(filter),
								`${g.state}, kind ${g.kind}, queue ${g.queue}`,
							),
						{ class: g.state === 'discarded' ? 'primary' : null },
					),
			),
		);
	}
	list.push(...findings(ctx, data, said));
	if (!list.length)
		return data.doctor && data.failed
			? h('p', { class: 'well', key: 'well' }, 'All is well: nothing is late, paused or failed.')
			: null;
	// The worst first; a stable sort keeps the rest in order.
	list.sort((a, b) => Number(b.className.includes('worst')) - Number(a.className.includes('worst')));
	return h('div', { class: 'alarms', key: 'alarms' }, list);
}

// What doctor() found, but for what stands above with a button; several of one sort are one.
function findings(ctx, data, late) {
	const sorts = new Map();
	for (const d of data.doctor || []) {
		if (d.ok || d.check === 'queue paused') continue;
		if (d.check === 'backlog' && [...late].some((name) => d.detail.startsWith(`queue "${name}" `))) continue;
		if (
			d.check === 'kind without handler' &&
			data.dead &&
			[...data.dead].some(([name, from]) => from && d.detail.includes(` in queue "${name}"`))
		)
			continue;
		sorts.set(d.check, [...(sorts.get(d.check) || []), d]);
	}
	return [...sorts].map(([check, [first, ...rest]]) =>
		h(
			'div',
			{ class: 'alarm', key: `doctor ${check}` },
			h(
				'div',
				{ class: 'what' },
				h('strong', null, told(first.detail || check)),
				first.hint ? h('p', null, told(first.hint)) : null,
				rest.length
					? h(
							'details',
							null,
							h('summary', null, `and ${plural(rest.length, 'more like it', 'more like it')}`),
							h(
								'ul',
								null,
								rest.map((d) => h('li', { key: d.detail }, told(d.detail))),
							),
						)
					: null,
			),
		),
	);
}

export async function redrive(ctx, q) {
	const yes = await ask(
		`Give the dead letters in ${q.queue} back?`,
		h(
			'p',
			null,
			'Each job that came here because another queue gave it up goes back there and is tried again. Other jobs stay.',
		),
		'Redrive',
	);
	if (yes)
		await ctx.act('redrive', { queue: q.queue }, ({ done }) => `${plural(Number(done), 'dead letter')} went back`);
}

// Which queues hold dead letters, and whose: told by the origin of a job in those where nothing is ever completed.
export async function deadLetters(ctx, mem, queues) {
	if (Date.now() - mem.dead.asked < EVERY) return mem.dead.of;
	mem.dead.asked = Date.now();
	for (const q of queues
		.filter((x) => x.available > 0 && !Number(x.completed) && !Number(x.running) && !mem.dead.of.get(x.queue))
		.slice(0, 10)) {
		try {
			const { data } = await ctx.view('jobs', {
				filter: JSON.stringify({ queue: q.queue, state: 'available' }),
				qty: 1,
				before: 0,
			});
			if (!data.jobs.length) continue;
			const found = (await ctx.view('job', { id: data.jobs[0].id })).data.job;
			const origin = found && found.origin ? parse(found.origin) : null;
			mem.dead.of.set(
				q.queue,
				origin && typeof origin === 'object' && 'id' in origin && typeof origin.queue === 'string'
					? origin.queue
					: null,
			);
		} catch {
			mem.dead.of.set(q.queue, null); // may not be read, or is gone
		}
	}
	return mem.dead.of;
}

// Leads to the oldest due job of the queue, whose page says why it waits.
async function why(ctx, q) {
	try {
		const { data } = await ctx.view('jobs', {
			filter: JSON.stringify({ queue: q.queue, state: 'available' }),
			qty: 200,
			after: 0,
		});
		const due = data.jobs.reduce((a, b) => (a && a.run_at <= b.run_at ? a : b), null);
		ctx.go(due ? ctx.link('job', due.id) : ctx.link('queue', '', { name: q.queue }));
	} catch (error) {
		toast(error.message, true);
	}
}

function resume(ctx, q) {
	return ctx.act('resume_queue', { queue: q.queue }, () => `${q.queue} runs again`);
}

export async function pause(ctx, q) {
	const yes = await ask(
		`Pause ${q.queue}?`,
		[
			h(
				'p',
				null,
				'No job of it is started until it is resumed; those that run go on. New jobs still come in and wait.',
			),
		],
		'Pause',
	);
	if (yes) await ctx.act('pause_queue', { queue: q.queue }, () => `${q.queue} is paused`);
}

export function pauseButton(ctx, q) {
	if (!ctx.write) return null;
	return q.paused_at
		? button('Resume', () => resume(ctx, q), { class: 'small' })
		: button('Pause', () => pause(ctx, q), { class: 'small' });
}

// A number that leads to the jobs that it counts.
function jobsLink(ctx, q, name) {
	const n = q[name];
	if (n === null || n === undefined)
		return h('span', { class: 'muted', title: "Needs shared_preload_libraries = 'queue'" }, '–');
	const shown = Math.max(Number(n), 0);
	return h(
		'span',
		{ class: shown ? '' : 'zero' },
		h('a', { href: ctx.link('jobs', '', { state: name, queue: q.queue }), title: count(shown) }, short(shown)),
	);
}

function queues(ctx, data) {
	const columns = [
		{ label: 'Queue', class: 'full' },
		{ label: 'Oldest waits', class: 'num' },
		{ label: 'Waiting', class: 'num' },
		{ label: 'Running', class: 'num' },
		{ label: 'To retry', class: 'num' },
		{ label: 'Scheduled', class: 'num' },
		{ label: 'Pending', class: 'num', title: 'Held by a group or a dependency' },
		{ label: 'In', class: 'num', title: 'Jobs enqueued now' },
		{ label: 'Out', class: 'num', title: 'Jobs that end now' },
		{ label: 'Last hour', class: 'full' },
		{ label: 'Failed', class: 'num', title: 'Failed attempts in the last hour' },
		{ label: 'Discarded', class: 'num', title: 'Jobs given up in the last hour' },
		{ label: '', class: ctx.write ? 'num' : 'none' },
	];
	return [
		h(
			'p',
			{ class: 'legends muted small', key: 'legends' },
			'Last hour: ',
			h('span', { class: 'legend' }, 'in'),
			h('span', { class: 'legend legend-completed' }, 'completed'),
			h('span', { class: 'legend legend-failed' }, 'failed attempts'),
		),
		table(
			columns,
			data.queues.map((q) => {
				const now = rates(ctx.db, q, data.at);
				const late = q.oldest_run_at ? (data.at - Date.parse(q.oldest_run_at)) / 1000 : null;
				const failed = total(q.minutes && q.minutes.failed);
				const discarded = total(q.minutes && q.minutes.discarded);
				return {
					key: q.queue,
					cells: [
						[
							h('a', { class: 'name', href: ctx.link('queue', '', { name: q.queue }) }, q.queue),
							data.dead && data.dead.get(q.queue)
								? h('span', { class: 'sub' }, `dead letters of ${data.dead.get(q.queue)}`)
								: null,
							q.paused_at
								? h(
										'span',
										{ class: 'sub' },
										state('paused', exact(q.paused_at)),
										' since ',
										age(q.paused_at),
									)
								: null,
						],
						late !== null && late > 0
							? h(
									'span',
									{
										class: late > 15 * LATE ? 'bad' : late > LATE ? 'warn' : '',
										title: exact(q.oldest_run_at),
									},
									span(late),
								)
							: h('span', { class: 'zero' }, '–'),
						jobsLink(ctx, q, 'available'),
						jobsLink(ctx, q, 'running'),
						jobsLink(ctx, q, 'retryable'),
						jobsLink(ctx, q, 'scheduled'),
						jobsLink(ctx, q, 'pending'),
						rate(now.in),
						rate(now.out),
						q.minutes
							? sparkline(minuteRows(q.minutes), data.at)
							: h('span', { class: 'zero', title: 'Recorded each minute' }, '–'),
						h('span', { class: failed ? 'warn' : 'zero' }, short(failed)),
						h(
							'span',
							{ class: discarded ? 'bad' : 'zero' },
							h(
								'a',
								{
									href: ctx.link('jobs', '', { state: 'discarded', queue: q.queue }),
									class: discarded ? 'bad' : '',
								},
								short(discarded),
							),
						),
						pauseButton(ctx, q),
					],
				};
			}),
			{ class: 'queues' },
		),
	];
}
