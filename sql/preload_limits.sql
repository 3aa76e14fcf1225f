-- max_running and rate_limit of queues and handlers, through fetch, session claims and test_run
CREATE EXTENSION queue;
SET client_min_messages = warning;
SET datestyle = 'ISO';
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || regexp_replace(SQLERRM, 'job \d+', 'job N');
END $$;
CREATE FUNCTION add(kind text, queue text, n int) RETURNS bigint LANGUAGE sql AS
    $$ SELECT count(*) FROM queue.enqueue_many(kind, (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, n) i), queue) $$;
\pset format unaligned
\pset tuples_only on
CREATE VIEW held AS SELECT count(*) FROM queue.job WHERE state = 'running';

-- a queue's limit, over several calls
SELECT queue.create_queue('l_q', max_running => 3);
SELECT add('l_k', 'l_q', 10);
SELECT count(*) FROM queue.fetch('l_q', 2);
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT count(*) FROM queue.fetch('l_q');
-- what waits there hides nothing of another queue
SELECT queue.create_queue('l_free');
SELECT add('l_k', 'l_free', 2);
SELECT queue, count(*) FROM queue.fetch_any('{l_q,l_free}', 5) GROUP BY 1;
SELECT regexp_replace(queue.explain_job(min(id)), 'job \d+', 'job N') FROM queue.job WHERE queue = 'l_q' AND state = 'available';
-- each end gives a unit back
SELECT queue.complete(min(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.fail(min(id), error => 'x') FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.snooze(min(id), '1 hour') FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.release(min(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.cancel(min(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.discard(min(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT count(*) FROM queue.fetch('l_q', 5);
-- acknowledging and fetching in one call; and one after the other in one transaction
SELECT array_agg(id) AS ids, array_agg(attempt) AS attempts FROM queue.job WHERE queue = 'l_q' AND state = 'running' \gset
SELECT count(*) FROM queue.fetch('l_q', 3, complete_ids => :'ids', complete_attempts => :'attempts');
SELECT add('l_k', 'l_q', 10);
BEGIN;
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
ROLLBACK;
SELECT count(*) FROM queue.fetch('l_q', 5);
BEGIN;
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SAVEPOINT s;
SELECT count(*) FROM queue.fetch('l_q', 2);
ROLLBACK TO s;
SELECT count(*) FROM queue.fetch('l_q', 5);
COMMIT;
SELECT count(*) FROM queue.fetch('l_q', 5);
-- given back and taken again
BEGIN;
SELECT count(queue.release(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
COMMIT;
SELECT count(*) FROM queue.fetch('l_q', 5);
-- given back, while taking it again is undone
BEGIN;
SELECT count(queue.release(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SAVEPOINT s;
SELECT count(*) FROM queue.fetch('l_q', 5);
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT * FROM held;
-- a rolled back fetch gives back
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
BEGIN;
SELECT count(*) FROM queue.fetch('l_q', 5);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM queue.fetch('l_q', 5);
ROLLBACK TO s;
SELECT count(*) FROM queue.fetch('l_q', 5);
COMMIT;
SELECT count(*) FROM queue.fetch('l_q', 5);
-- one in a savepoint that was released does not, when another one is rolled back
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT add('l_k', 'l_q', 3);
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM queue.fetch('l_q', 5);
RELEASE s;
SAVEPOINT s;
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM queue.fetch('l_q', 5);

-- changed while jobs run: below what runs, above it, 0, none, and set again
SELECT queue.alter_queue('l_q', max_running => 1);
SELECT queue.complete(min(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.alter_queue('l_q', max_running => 4);
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.alter_queue('l_q', max_running => 0);
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT regexp_replace(queue.explain_job(min(id)), 'job \d+', 'job N') FROM queue.job WHERE queue = 'l_q' AND state = 'available';
SELECT queue.alter_queue('l_q', reset => '{max_running}');
SELECT add('l_k', 'l_q', 10);
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT queue.alter_queue('l_q', max_running => 6);
SELECT count(*) FROM queue.fetch('l_q', 5);
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT count(*) FROM queue.fetch('l_q', 10);
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';

-- a lease that ended is not in force; a late finish gives nothing back twice
SELECT queue.alter_queue('l_q', max_running => 1);
SELECT add('l_k', 'l_q', 1);
SELECT id AS late, attempt FROM queue.fetch('l_q', lease => '10 ms') \gset
SELECT count(*) FROM queue.fetch('l_q', kinds => '{l_k}', lease => '1 hour', wait => '30 s');
SELECT add('l_k', 'l_q', 2);
SELECT queue.complete(:late, :attempt);
SELECT count(*) FROM queue.fetch('l_q');
-- a heartbeat after the end finds the place taken, or takes it
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND state = 'running';
SELECT add('l_k', 'l_q', 3);
SELECT id AS late, attempt FROM queue.fetch('l_q', lease => '10 ms') \gset
SELECT pg_sleep(0.05);
SELECT queue.heartbeat(:late, '1 hour', :attempt) IS NOT NULL AS extended;
SELECT count(*) FROM queue.fetch('l_q');
SELECT queue.heartbeat(:late, '10 ms', :attempt) IS NOT NULL AS extended;
SELECT pg_sleep(0.05);
SELECT count(queue.enqueue('l_k', queue => 'l_q', priority => -1));
SELECT count(*) FROM queue.fetch('l_q', lease => '1 hour');
SELECT queue.heartbeat(:late, '1 hour', :attempt) IS NULL AS stop;
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_q' AND priority = -1;
SELECT queue.heartbeat(:late, '1 hour', :attempt) IS NOT NULL AS extended;
SELECT count(*) FROM queue.fetch('l_q');
SELECT queue.purge('l_q') > 0;

-- session claims
SELECT queue.create_queue('l_s', max_running => 2);
SELECT add('l_k', 'l_s', 5);
SELECT count(*) FROM queue.fetch('l_s', 1);
SELECT count(*) FROM queue.fetch('l_s', 5, claim => 'session');
SELECT count(*) FROM queue.fetch('l_s', 5, claim => 'session');
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_s' AND state = 'running' AND leased_until IS NULL;
SELECT count(*) FROM queue.fetch('l_s', 5, claim => 'session');
SELECT count(queue.release(id)) FROM queue.job WHERE queue = 'l_s' AND state = 'running' AND leased_until IS NULL;
SELECT count(*) FROM queue.fetch('l_s', 5, claim => 'session');
SELECT count(*) FROM queue.fetch('l_s', 5);
SELECT pg_advisory_unlock_all();
SELECT count(*) FROM queue.fetch('l_s', 5);
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_s' AND state = 'running';
-- one that was there before the limit
SELECT queue.alter_queue('l_s', reset => '{max_running}');
SELECT count(*) FROM queue.fetch('l_s', 1, claim => 'session');
SELECT queue.alter_queue('l_s', max_running => 1);
SELECT count(*) FROM queue.fetch('l_s', 1);
DISCARD ALL;
SET client_min_messages = warning;
SET datestyle = 'ISO';
SELECT count(*) FROM queue.fetch('l_s', 5);
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_s' AND state = 'running';

-- a handler's limit, in whatever queue; its jobs through fetch by kind, too
CREATE FUNCTION l_f(j queue.job) RETURNS void LANGUAGE sql AS 'SELECT 1';
SELECT queue.create_queue('l_h1');
SELECT queue.create_queue('l_h2');
SET client_min_messages = error;
SELECT queue.register_sql_handler('l_handled', 'l_f', '{l_h1,l_h2}', max_running => 2);
SELECT queue.pause('l_h1'), queue.pause('l_h2');
SELECT add('l_handled', 'l_h1', 2), add('l_handled', 'l_h2', 2), add('l_other', 'l_h1', 1);
SELECT queue.pause_handler('l_handled', 'l_h1'), queue.resume('l_h1'), queue.resume('l_h2');
SELECT queue, kind, count(*) FROM queue.fetch_any('{l_h1,l_h2}', 10) GROUP BY 1, 2 ORDER BY 1, 2;
SELECT regexp_replace(queue.explain_job(min(id)), ' since[^;]*;( the launcher has not [^;]*;)?', ' since N;') FROM queue.job WHERE queue = 'l_h2' AND state = 'available';
SELECT count(queue.complete(id)) FROM queue.job WHERE queue IN ('l_h1', 'l_h2') AND state = 'running';
SELECT queue.purge('l_h2');
-- test_run
SELECT queue.register_sql_handler('l_t', 'l_f', '{l_h1}', max_running => 0);
SELECT try($$SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'))$$);
SELECT queue.register_sql_handler('l_t', 'l_f', '{l_h1}', max_running => 1);
BEGIN;
SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'));
SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'));
ROLLBACK;
-- what is rolled back to a savepoint gives back; what is released before does not
BEGIN;
SELECT count(queue.enqueue('l_t', queue => 'l_h1'));
SAVEPOINT s;
SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'));
ROLLBACK TO s;
SELECT count(*) FROM queue.fetch('l_h1', kinds => '{l_t}');
ROLLBACK TO s;
SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'));
RELEASE s;
SAVEPOINT s;
ROLLBACK TO s;
SELECT count(*) FROM queue.fetch('l_h1', kinds => '{l_t}');
ROLLBACK;
-- a run's place is of no use to one under another limit
SELECT queue.register_sql_handler('l_u', 'l_f', '{l_h1}', max_running => 0);
BEGIN;
SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'));
SELECT try($$SELECT queue.test_run(queue.enqueue('l_u', queue => 'l_h1'))$$);
ROLLBACK;
SELECT queue.unregister_handler('l_u', 'l_h1');
SELECT queue.unregister_handler('l_t', 'l_h1');
SELECT queue.unregister_handler('l_handled', 'l_h1');

-- rates: empty at first, refilled evenly
SELECT queue.create_queue('l_r', rate_limit => 2, rate_period => '1 hour');
SELECT add('l_k', 'l_r', 5);
SELECT count(*) FROM queue.fetch('l_r', 5);
SELECT regexp_replace(queue.explain_job(min(id)), 'start at.*', 'start at T') FROM queue.job WHERE queue = 'l_r';
SELECT queue.alter_queue('l_r', rate_limit => 3600000);
SELECT pg_sleep(0.01);
SELECT count(*) BETWEEN 1 AND 5 FROM queue.fetch('l_r', 5);
SELECT queue.alter_queue('l_r', rate_limit => 0);
SELECT add('l_k', 'l_r', 5);
SELECT count(*) FROM queue.fetch('l_r', 5);
SELECT queue.explain_job(min(id)) FROM queue.job WHERE queue = 'l_r' AND state = 'available';
SELECT queue.alter_queue('l_r', reset => '{rate_limit,rate_period}');
SELECT count(*) >= 5 FROM queue.fetch('l_r', 10);

-- keys: each at most two at a time, jobs without one freely; none hides another
SELECT queue.create_queue('l_c', max_running_per_key => 2);
SELECT count(queue.enqueue('l_k', queue => 'l_c', concurrency_key => k)) FROM unnest('{a,a,a,a,b,b,b,NULL,NULL,NULL}'::text[]) k;
SELECT concurrency_key, count(*) FROM queue.fetch('l_c', 10) GROUP BY 1 ORDER BY 1;
SELECT queue.explain_job(min(id)) FROM queue.job WHERE queue = 'l_c' AND state = 'available' AND concurrency_key = 'a';
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_c' AND state = 'running' AND concurrency_key = 'b';
SELECT concurrency_key, count(*) FROM queue.fetch('l_c', 10) GROUP BY 1 ORDER BY 1;
-- with a limit of the queue beside it
SELECT queue.alter_queue('l_c', max_running => 7);
SELECT count(queue.enqueue('l_k', queue => 'l_c', concurrency_key => 'c')) FROM generate_series(1, 3);
SELECT concurrency_key, count(*) FROM queue.fetch('l_c', 10) GROUP BY 1 ORDER BY 1;
-- other priorities and kinds of the key count too
SELECT queue.alter_queue('l_c', reset => '{max_running}');
SELECT queue.enqueue('l_k2', queue => 'l_c', concurrency_key => 'a', priority => -5) > 0;
SELECT concurrency_key, count(*) FROM queue.fetch('l_c', 10) GROUP BY 1 ORDER BY 1;
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_c' AND state = 'running';
SELECT kind, count(*) FROM queue.fetch('l_c', 10) GROUP BY 1 ORDER BY 1;
SELECT queue.drop_queue('l_c', true);
-- limits by key that come while jobs wait and run: those in lines without a key go to their keys' lines
SELECT queue.create_queue('l_c');
SELECT count(queue.enqueue('l_k', queue => 'l_c', concurrency_key => k)) FROM unnest('{a,a,a,b,b,NULL}'::text[]) k;
SELECT count(*) FROM queue.line WHERE queue = 'l_c';
SELECT concurrency_key FROM queue.fetch('l_c', 1);
SELECT queue.alter_queue('l_c', max_running_per_key => 1);
SELECT count(*) > 0 FROM queue.fetch('l_c', 10, wait => '30 s');
SELECT concurrency_key, state FROM queue.job WHERE queue = 'l_c' AND concurrency_key IS DISTINCT FROM 'b' ORDER BY id;
SELECT count(*) FROM queue.line WHERE queue = 'l_c';
-- the key is kept through retries and moves, is shown and can be searched
SELECT queue.fail(min(id), discard => true) FROM queue.job WHERE queue = 'l_c' AND state = 'running' AND concurrency_key = 'a';
SELECT queue.retry_jobs('{"queue": "l_c"}');
SELECT queue.move_jobs('{"queue": "l_c", "concurrency_key": "a"}', priority => 3);
SELECT j.concurrency_key, l.concurrency_key, l.priority, count(*) FROM queue.live_job v JOIN queue.job j USING (id) JOIN queue.line l ON l.id = v.line WHERE l.queue = 'l_c' GROUP BY 1, 2, 3 ORDER BY 1, 2;
SELECT concurrency_key, count(*) FROM queue.find_jobs('{"concurrency_key": ["a", "b"]}') GROUP BY 1 ORDER BY 1;
SELECT queue.enqueue_json('{"kind": "l_k", "queue": "l_c", "concurrency_key": "z"}') > 0;
SELECT try($$SELECT queue.enqueue('l_k', queue => 'l_c', concurrency_key => '')$$);
SELECT try($$SELECT queue.enqueue('l_k', queue => 'l_c', concurrency_key => repeat('x', 256))$$);
-- rates by key
SELECT queue.create_queue('l_d', rate_limit_per_key => 1, rate_period => '1 hour');
SELECT count(queue.enqueue('l_k', queue => 'l_d', concurrency_key => k)) FROM unnest('{a,a,b,NULL}'::text[]) k;
SELECT concurrency_key FROM queue.fetch('l_d', 10);
SELECT queue.alter_queue('l_d', rate_period => '1 ms');
SELECT count(*) <= 2 FROM queue.fetch('l_d', 10);
SELECT pg_sleep(0.02);
SELECT count(*) <= 2 FROM queue.fetch('l_d', 10);
SELECT concurrency_key, min(1) FROM queue.job WHERE queue = 'l_d' AND state = 'running' AND concurrency_key <> '' GROUP BY 1 ORDER BY 1;

-- a lease that goes on after its end is no new claim: it needs a place, but no token of the rate
SELECT queue.create_queue('l_h', max_running => 1);
SELECT add('l_k', 'l_h', 2);
SELECT id AS id FROM queue.fetch('l_h', lease => '1 min', wait => '20 s') \gset
SELECT queue.alter_queue('l_h', rate_limit => 0);
SET queue.debug_clock_offset = '2 min';
SELECT count(*) FROM queue.fetch('l_h');
SELECT queue.heartbeat(:id, '1 min', 1) IS NOT NULL;
RESET queue.debug_clock_offset;

-- a lease that only ends earlier leaves no place before its end
SELECT queue.create_queue('l_e', max_running => 1);
SELECT add('l_k', 'l_e', 2);
SELECT id AS id FROM queue.fetch('l_e', lease => '1 hour') \gset
BEGIN;
SELECT queue.heartbeat(:id, '10 min', 1) IS NOT NULL;
SELECT count(*) FROM queue.fetch('l_e');
ROLLBACK;

-- one whose lease has ended and that is claimed again has one place
SELECT queue.create_queue('l_x', max_running => 2);
SELECT add('l_k', 'l_x', 1);
SELECT count(*) FROM queue.fetch('l_x', lease => '1 ms');
SELECT count(*) FROM queue.fetch('l_x', wait => '20 s');
SELECT add('l_k', 'l_x', 1);
SELECT count(*) FROM queue.fetch('l_x');
-- a lease that was made longer, and then longer again, or given back and taken anew, ends as before when that is rolled back
SELECT queue.create_queue('l_l', max_running => 1);
SELECT add('l_k', 'l_l', 2);
SELECT id AS id, attempt FROM queue.fetch('l_l', lease => '1 s') \gset
BEGIN;
SELECT queue.heartbeat(:id, '1 hour', :attempt) IS NOT NULL, queue.heartbeat(:id, '2 hours', :attempt) IS NOT NULL;
ROLLBACK;
SELECT id AS id, attempt FROM queue.fetch('l_l', lease => '1 s', wait => '20 s') \gset
BEGIN;
SELECT queue.release(:id, :attempt);
SELECT count(*) FROM queue.fetch('l_l', lease => '1 hour');
ROLLBACK;
SELECT count(*) FROM queue.fetch('l_l', wait => '20 s');
-- one that is given back and taken again is a new claim for a rate
SELECT queue.create_queue('l_t', rate_limit => 1, rate_period => '1 hour', lease => '1 day');
SELECT add('l_k', 'l_t', 2);
SELECT count(*) FROM queue.fetch('l_t');
SET queue.debug_clock_offset = '2 h';
SELECT id AS id, attempt FROM queue.fetch('l_t') \gset
BEGIN;
SELECT queue.release(:id, :attempt);
SELECT count(*) FROM queue.fetch('l_t', 2);
COMMIT;
RESET queue.debug_clock_offset;
-- a claim for which one of two rates has no token uses none of the other one
SELECT queue.create_queue('l_2', rate_limit => 1, rate_period => '1 hour', rate_limit_per_key => 1);
SELECT queue.enqueue('l_k', '"without a key"', 'l_2') > 0;
SELECT count(*) FROM queue.fetch('l_2');
SET queue.debug_clock_offset = '2 h';
SELECT queue.enqueue('l_k', '"of a new key"', 'l_2', priority => -1, concurrency_key => 'new') > 0;
SELECT payload FROM queue.fetch('l_2', 2);
RESET queue.debug_clock_offset;

-- PREPARE could not tell of it
BEGIN;
SELECT count(*) FROM queue.fetch('l_s', 5);
PREPARE TRANSACTION 'l';
ROLLBACK;
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_s' AND state = 'running';
SELECT add('l_k', 'l_s', 1);
SELECT count(*) FROM queue.fetch('l_s', 1, claim => 'session');
BEGIN;
SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'l_s' AND state = 'running';
PREPARE TRANSACTION 'l';
ROLLBACK;
SELECT queue.register_sql_handler('l_t', 'l_f', '{l_h1}', max_running => 1);
BEGIN;
SELECT try($$SELECT queue.test_run(queue.enqueue('l_t', queue => 'l_h1'))$$);
PREPARE TRANSACTION 'l';
ROLLBACK;
-- one that was prepared all the same would be waited for
SET lock_timeout = '20 s';
DROP EXTENSION queue CASCADE;
DROP FUNCTION add(text, text, int), try(text);
