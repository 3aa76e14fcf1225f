// A worker in Node.js with node-postgres (npm install pg).  Copy it, and change `work`.
//
//   DATABASE_URL=postgres://... node worker.mjs      SIGTERM: finish or give back what is claimed, then end
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const QUEUE = process.env.QUEUE ?? 'default';
const LEASE_S = Number(process.env.LEASE ?? 60);
const worker = `node:${process.pid}`;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
pool.on('error', (e) => console.error(e.message));   // a broken idle connection is replaced

async function work(job, signal) {
  if (job.payload?.fail) throw new Error(job.payload.fail);
  await sleep(job.payload?.sleep_ms ?? 0, null, { signal });   // rejects when we are to stop or lost the job
  return { ok: true };                               // the result, kept if the queue keeps completed jobs
}

let stopping = false;
let current = null;
process.on('SIGTERM', () => { stopping = true; current?.abort.abort(); });
process.on('SIGINT', () => { stopping = true; current?.abort.abort(); });

async function run(job) {
  const abort = new AbortController();
  current = { job, abort };
  const beat = setInterval(async () => {
    const { rows } = await pool.query('SELECT queue.heartbeat($1, $2, $3) AS until', [job.id, `${LEASE_S} s`, job.attempt]);
    if (rows[0].until === null) abort.abort();       // not ours any more
  }, LEASE_S * 1000 / 3);
  try {
    const result = await work(job, abort.signal);
    await pool.query('SELECT queue.complete($1, $2, $3)', [job.id, job.attempt, JSON.stringify(result)]);
  } catch (e) {
    if (abort.signal.aborted) await pool.query('SELECT queue.release($1, $2)', [job.id, job.attempt]);
    else await pool.query('SELECT queue.fail($1, $2, $3)', [job.id, job.attempt, String(e.stack ?? e)]);
  } finally {
    clearInterval(beat);
    current = null;
  }
}

while (!stopping) {
  try {
    // name: prepared once a connection.  bigint ids arrive as strings, and go back as they came.
    const { rows } = await pool.query({
      name: 'queue-fetch',
      text: 'SELECT id, attempt, kind, payload FROM queue.fetch($1, 1, lease => $2, wait => $3, worker => $4)',
      values: [QUEUE, `${LEASE_S} s`, process.env.WAIT ?? '5 s', worker],
    });
    for (const job of rows) await run(job);
  } catch (e) {
    console.error(e.message);
    if (!stopping) await sleep(1000);
  }
}
await pool.end();
