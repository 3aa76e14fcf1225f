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

// Tries again when the server or the pooler was restarted.  Safe for every call here: with the attempt given, a second
// complete or fail of one claim changes nothing.
async function call(text, values, name) {
  for (;;) {
    try {
      return (await pool.query({ text, values, name })).rows;
    } catch (e) {
      const lost = e.severity === undefined || /^(08|53|57P)/.test(e.code);   // no answer, or the server is going or coming
      if (!lost || stopping) throw e;
      console.error(e.message);
      await sleep(500);
    }
  }
}

let stopping = false;
let current = null;
process.on('SIGTERM', () => { stopping = true; current?.abort.abort(); });
process.on('SIGINT', () => { stopping = true; current?.abort.abort(); });

async function run(job) {
  const abort = new AbortController();
  current = { job, abort };
  const beat = setInterval(async () => {
    try {
      const [{ until }] = await call('SELECT queue.heartbeat($1, $2, $3) AS until', [job.id, `${LEASE_S} s`, job.attempt]);
      if (until === null) abort.abort();             // not ours any more
    } catch (e) {
      console.error(e.message);
    }
  }, LEASE_S * 1000 / 3);
  try {
    const result = await work(job, abort.signal);
    await call('SELECT queue.complete($1, $2, $3)', [job.id, job.attempt, JSON.stringify(result)]);
  } catch (e) {
    if (abort.signal.aborted) await call('SELECT queue.release($1, $2)', [job.id, job.attempt]);
    else await call('SELECT queue.fail($1, $2, $3)', [job.id, job.attempt, String(e.stack ?? e)]);
  } finally {
    clearInterval(beat);
    current = null;
  }
}

while (!stopping) {
  try {
    // queue-fetch: prepared once a connection.  bigint ids arrive as strings, and go back as they came.
    const rows = await call(
      'SELECT id, attempt, kind, payload FROM queue.fetch($1, 1, lease => $2, wait => $3, worker => $4)',
      [QUEUE, `${LEASE_S} s`, process.env.WAIT ?? '5 s', worker], 'queue-fetch');
    for (const job of rows) await run(job);
  } catch (e) {
    console.error(e.message);
    if (!stopping) await sleep(1000);
  }
}
await pool.end();
