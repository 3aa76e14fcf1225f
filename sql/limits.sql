-- Limits, in short, with the library preloaded and without (there they are rows): claims in force, keys, rates.
SET client_min_messages = warning;
CREATE EXTENSION queue;
\pset format unaligned
\pset tuples_only on
SELECT queue.create_queue('q', max_running => 2, lease => '1 min');
SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3,4,5,6,7}', 'q');
SELECT payload FROM queue.fetch('q', 5);
SELECT payload FROM queue.fetch('q', 5);
SELECT queue.complete(min(id)) FROM queue.job WHERE state = 'running';
SELECT payload FROM queue.fetch('q', 5);
-- a transaction uses again what it let go of, and a rollback undoes both
BEGIN;
SELECT count(queue.complete(id)) FROM queue.job WHERE state = 'running';
SELECT payload FROM queue.fetch('q', 5);
ROLLBACK;
SELECT payload FROM queue.fetch('q', 5);
BEGIN;
SELECT count(queue.complete(id)) FROM queue.job WHERE state = 'running';
SELECT payload FROM queue.fetch('q', 5, lease => '1 min');
COMMIT;
SELECT payload FROM queue.fetch('q', 5);
-- a lease that ended has no place; a heartbeat takes one if there is one
-- (by the clock that the scheduler has too: by that, a lease that only this session's clock ended is in force, and counts)
SELECT count(queue.heartbeat(id, '1 ms', 1)) FROM queue.job WHERE state = 'running';
DO $$ BEGIN WHILE EXISTS (SELECT FROM queue.live_job WHERE leased_until > clock_timestamp()) LOOP PERFORM pg_sleep(0.001); END LOOP; END $$;
SELECT count(queue.enqueue('k', '0', 'q', priority => -1));
SELECT payload FROM queue.fetch('q', 1, lease => '1 hour');
SELECT queue.heartbeat(id, '1 hour', 1) IS NOT NULL FROM queue.job WHERE payload = '4';
SELECT queue.heartbeat(id, '1 hour', 1) IS NOT NULL FROM queue.job WHERE payload = '5';
SELECT payload FROM queue.fetch('q', 5);
-- by key, set while jobs wait
SELECT count(queue.complete(id)) FROM queue.job WHERE state = 'running';
SELECT queue.purge('q');
SELECT count(queue.enqueue('k', to_jsonb(k), 'q', concurrency_key => k)) FROM unnest('{a,a,b}'::text[]) k;
-- (a limit that is new counts what is claimed; one that only changes does not)
SELECT limited_at AS since FROM queue.queue WHERE name = 'q' \gset
SELECT queue.alter_queue('q', max_running => 3);
SELECT limited_at = :'since' FROM queue.queue WHERE name = 'q';
SELECT queue.alter_queue('q', max_running_per_key => 1, reset => '{max_running}');
SELECT limited_at > :'since' FROM queue.queue WHERE name = 'q';
SELECT count(*) <= 2 FROM queue.fetch('q', 5);
SELECT count(*) <= 2 FROM queue.fetch('q', 5);
SELECT payload FROM queue.job WHERE state = 'running' ORDER BY id;
SELECT payload FROM queue.fetch('q', 5);
-- a limit that is set while jobs run counts them
SELECT queue.alter_queue('q', max_running => 3, reset => '{max_running_per_key}');
SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3,4,5,6,7}', 'q');
SELECT payload FROM queue.fetch('q', 5);
-- and so does one by key
SELECT queue.create_queue('n');
SELECT count(queue.enqueue('k', to_jsonb(k), 'n', concurrency_key => k)) FROM unnest('{a,a,b}'::text[]) k;
SELECT payload FROM queue.fetch('n');
SELECT queue.alter_queue('n', max_running_per_key => 1);
SELECT count(*) <= 2 FROM queue.fetch('n', 5);
SELECT count(*) <= 2 FROM queue.fetch('n', 5);
SELECT payload FROM queue.job WHERE queue = 'n' AND state = 'running' ORDER BY id;
-- the largest limit is like any other
SELECT queue.create_queue('l', max_running => 2147483647);
SELECT count(*) FROM queue.enqueue_many('k', '{1,2}', 'l');
SELECT payload FROM queue.fetch('l', 5);
-- rates: no token at first
SELECT queue.create_queue('r', rate_limit => 1, rate_period => '2 min');
SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3,4,5,6}', 'r');
SELECT payload FROM queue.fetch('r', 10);
SET queue.debug_clock_offset = '5 min';
SELECT count(*) >= 1 FROM queue.fetch('r', 10);
-- a period that is made shorter: nobody waits for what the longer one left
SELECT queue.create_queue('s', rate_limit => 1, rate_period => '1 day');
SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3}', 's');
SELECT payload FROM queue.fetch('s', 10);
SELECT queue.alter_queue('s', rate_period => '1 s');
SELECT count(*) <= 1 FROM queue.fetch('s', 10);
SET queue.debug_clock_offset = '6 min';
SELECT count(*) FROM queue.fetch('s', 10);
-- a rate by key, set while jobs wait: the jobs of one key hide none of another's
SELECT queue.create_queue('p');
SELECT count(queue.enqueue('k', to_jsonb(k), 'p', concurrency_key => k)) FROM unnest('{a,a,a,b}'::text[]) k;
SELECT queue.alter_queue('p', rate_limit_per_key => 1);
SELECT count(*) FROM queue.fetch('p', 10);
SET queue.debug_clock_offset = '8 min';
SELECT count(*) <= 2 FROM queue.fetch('p', 10);
SET queue.debug_clock_offset = '10 min';
SELECT count(*) <= 2 FROM queue.fetch('p', 10);
SELECT string_agg(DISTINCT payload::text, ',') FROM queue.job WHERE queue = 'p' AND attempt > 0;
DROP EXTENSION queue CASCADE;
