// What node-postgres makes of parameters: everything goes as untyped text, so all of it fits.
import pg from 'pg';
const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
const q = process.env.QUEUE;
const check = async (name, text, values, expected) => {
  try {
    const { rows } = await client.query({ text, values, rowMode: 'array' });
    const got = JSON.stringify(rows[0]?.[0] ?? null);
    console.log(got === JSON.stringify(expected) ? `ok ${name}` : `not ok ${name}: got ${got}`);
  } catch (e) { console.log(`not ok ${name}: ${e.message}`); }
};
await check('enqueue, payload as an object', 'SELECT queue.enqueue($1, $2, $3) > 0', ['k', { n: 1 }, q], true);
await check('enqueue, payload as text, delay as text', 'SELECT queue.enqueue($1, $2, $3, delay => $4) > 0', ['k', '{"n": 2}', q, '1 hour'], true);
await check('enqueue_json', 'SELECT queue.enqueue_json($1) > 0', [JSON.stringify({ kind: 'k', payload: { n: 3 }, queue: q, delay: '1 hour' })], true);
await check('enqueue_many, payloads as an array of text', 'SELECT count(*)::int FROM queue.enqueue_many($1, $2, $3)', ['k', ['{"n": 4}', '{"n": 5}'], q], 2);
const { rows: [job] } = await client.query({ name: 'fetch', text: 'SELECT * FROM queue.fetch($1, $2, lease => $3)', values: [q, 1, '1 min'] });
await check('heartbeat, numbers and an interval', 'SELECT queue.heartbeat($1, $2, $3) > now()', [job.id, '2 min', job.attempt], true);
await check('progress, an object', 'SELECT queue.progress($1, $2, $3)', [job.id, { part: 1 }, job.attempt], true);
await check('complete, the id as text, a wrong attempt', 'SELECT queue.complete($1, $2)', [job.id, 99], false);
await check('complete, a result', 'SELECT queue.complete($1, $2, $3)', [String(job.id), String(job.attempt), { ok: true }], true);
const { rows: [next] } = await client.query({ name: 'next', text: 'SELECT id, attempt FROM queue.fetch($1, complete_ids => $2, complete_attempts => $3)', values: [q, [job.id], [job.attempt]] });
await check('complete_many, arrays', 'SELECT count(*)::int FROM queue.complete_many($1, $2)', [[next.id], [next.attempt]], 1);
await check('null for an option', 'SELECT queue.enqueue($1, $2, $3, run_at => $4, headers => $5) > 0', ['k', {}, q, null, null], true);
await check('a Date as run_at', 'SELECT queue.enqueue($1, $2, $3, run_at => $4) > 0', ['k', {}, q, new Date()], true);
await client.end();
