-- Jobs out: which jobs a fetch takes, in what order, and what it leaves behind.
CREATE EXTENSION queue;
SET client_min_messages = notice;	-- whatever the caller has set
SELECT queue.create_queue('f', lease => '10 min');
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text; m text; d text; h text;
BEGIN
	EXECUTE sql INTO r;
	RETURN coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN s || ': ' || m || CASE WHEN d <> '' THEN E'\n  DETAIL: ' || d ELSE '' END
		|| CASE WHEN h <> '' THEN E'\n  HINT: ' || h ELSE '' END;
END $$;
\pset format unaligned

-- nothing there
SELECT * FROM queue.fetch('f');
SELECT * FROM queue.fetch('default');

-- order: priority (lower first), run_at, id; the future is left alone
SELECT count(queue.enqueue(k, to_jsonb(n), 'f', priority => p, run_at => '2001-01-01 00:00+00'::timestamptz + s * interval '1 s'))
  FROM (VALUES ('a', 'low', 10, 0), ('b', 'second', 0, 5), ('a', 'first', 0, 1), ('a', 'third', 0, 5), ('c', 'urgent', -32768, 9),
	('b', 'last', 32767, 0), ('a', 'future', -100, 3155760000)) v(k, n, p, s);
SELECT payload, kind, priority, state FROM queue.fetch('f', 2);
SELECT payload, kind, priority, state FROM queue.fetch('f', 100);
SELECT payload FROM queue.fetch('f', 100);
SELECT payload, state, attempt FROM queue.job WHERE queue = 'f' ORDER BY priority, run_at, id;
SELECT queue.drop_queue('f', force => true);

-- many of one line come out in the order in which they went in
SELECT queue.create_queue('f', lease => '10 min');
SELECT count(queue.enqueue('k', to_jsonb(i), 'f')) FROM generate_series(1, 1000) i;
SELECT count(*), bool_and(payload::int = o) AS in_order FROM queue.fetch('f', 1000) WITH ORDINALITY AS t(id, queue, kind, state, payload, priority, attempt,
	failures, max_attempts, run_at, enqueued_at, started_at, finished_at, leased_until, worker, headers, tags, unique_key, group_key, concurrency_key,
	expires_at, progress, result, last_error, origin, workflow, o);
SELECT queue.drop_queue('f', force => true);

-- what a claim is: the row that comes out and the row that the view shows
SELECT queue.create_queue('f', lease => '10 min', max_attempts => 7);
SELECT queue.enqueue('k', '{"n": 1}', 'f', headers => '{"h": 1}', tags => '{t}') AS id \gset
CREATE TEMP TABLE claim AS SELECT * FROM queue.fetch('f', worker => 'w ☃');
\x on
SELECT id = :id AS id, queue, kind, state, payload, priority, attempt, failures, max_attempts, worker, headers, tags,
       started_at BETWEEN clock_timestamp() - interval '1 min' AND clock_timestamp() AS started_at,
       leased_until - started_at = '10 min' AS leased_until, enqueued_at <= started_at AS enqueued_at, run_at = enqueued_at AS run_at,
       finished_at, unique_key, group_key, concurrency_key, expires_at, progress, result, last_error, origin FROM claim;
\x off
SELECT c = j AS view_agrees FROM claim c, queue.job j WHERE j.id = c.id;
DROP TABLE claim;
SELECT count(*) FROM queue.fetch('f');

-- the caller's lease, short and long
SELECT queue.release(:id, 1);
SELECT attempt, failures, leased_until - started_at AS lease, worker FROM queue.fetch('f', lease => '2 hours');
SELECT queue.release(:id, 2);
SELECT attempt, leased_until - started_at AS lease FROM queue.fetch('f', lease => '1.5 s');
SELECT queue.release(:id, 3);
SELECT attempt, leased_until - started_at AS lease FROM queue.fetch('f', null, null, null, null, null, null, null, null);
SELECT queue.complete(:id, 4);

-- kinds
SELECT count(queue.enqueue(k, to_jsonb(n), 'f', run_at => '2001-01-01 00:00+00'::timestamptz + n * interval '1 s'))
  FROM (VALUES ('a', 1), ('b', 2), ('c', 3), ('a', 4), ('A', 5)) v(k, n);
SELECT kind, payload FROM queue.fetch('f', 10, kinds => '{c,a}');
SELECT kind, payload FROM queue.fetch('f', 10, kinds => '{never}');
SELECT kind, payload FROM queue.fetch('f', 10, kinds => '{}');
SELECT kind, payload FROM queue.fetch('f', 10);

-- given back one by one, the later one first: in their order again, over the kinds too
SELECT count(queue.enqueue(k, to_jsonb(n), 'f', run_at => '2001-01-01 00:00+00'::timestamptz + n * interval '1 s'))
  FROM (VALUES ('x', 1), ('y', 2), ('x', 3)) v(k, n);
SELECT count(*) FROM queue.fetch('f', 10, kinds => '{x,y}');
SELECT count(*) FROM queue.fetch('f', 10, kinds => '{x,y}');
SELECT queue.release(id) FROM queue.job WHERE kind = 'x' AND payload = '3';
SELECT queue.release(id) FROM queue.job WHERE kind = 'x' AND payload = '1';
SELECT queue.release(id) FROM queue.job WHERE kind = 'y';
SELECT payload FROM queue.fetch('f', kinds => '{x,y}');
SELECT payload FROM queue.fetch('f', 10, kinds => '{x,y}');

-- several queues: merged as one; the emptiness of one costs the other nothing
SELECT queue.create_queue('g'), queue.create_queue('empty');
SELECT count(queue.enqueue('k', to_jsonb(n), q, priority => p, run_at => '2001-01-01 00:00+00'::timestamptz + s * interval '1 s'))
  FROM (VALUES ('f', 1, 0, 1), ('g', 2, 0, 2), ('f', 3, 0, 3), ('g', 4, -1, 9), ('g', 5, 1, 0), ('default', 6, 0, 0)) v(q, n, p, s);
SELECT queue, payload, priority FROM queue.fetch_any('{empty,g,f}', 4, kinds => '{k}');
SELECT queue, payload, priority FROM queue.fetch_any('{f,g,f}', 4, worker => 'any');
SELECT queue, payload, priority FROM queue.fetch_any('{default}');
SELECT queue.drop_queue('g', force => true), queue.drop_queue('empty');

-- a paused queue gives nothing, but keeps what it has
SELECT queue.enqueue('k', '"paused"', 'f') AS id \gset
SELECT queue.pause('f');
SELECT payload FROM queue.fetch('f', 10);
SELECT payload FROM queue.fetch_any('{f}', 10);
SELECT state FROM queue.job WHERE id = :id;
SELECT queue.resume('f');
SELECT payload FROM queue.fetch('f', 10);
SELECT queue.drop_queue('f', force => true);

-- in the caller's transaction: once per job, back at once after a rollback
SELECT queue.create_queue('f');
SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3,4}', 'f');
BEGIN;
SELECT payload, attempt FROM queue.fetch('f');
SELECT payload, attempt FROM queue.fetch('f');
ROLLBACK;
BEGIN;
SELECT payload, attempt FROM queue.fetch('f');
SAVEPOINT s;
SELECT payload, attempt FROM queue.fetch('f', 2);
ROLLBACK TO s;
SELECT payload, attempt FROM queue.fetch('f');
SAVEPOINT s2;
SELECT payload, attempt FROM queue.fetch('f');
RELEASE s2;
COMMIT;
SELECT payload, state, attempt FROM queue.job WHERE queue = 'f' ORDER BY id;
SELECT payload, attempt FROM queue.fetch('f', 10);

-- fetched, completed and replaced in one transaction
SELECT queue.enqueue('k', '5', 'f') AS id \gset
BEGIN;
SELECT queue.complete(id, attempt), queue.enqueue(kind, '6', 'f') > id AS next FROM queue.fetch('f');
SELECT payload, state FROM queue.job WHERE queue = 'f' AND state <> 'running' ORDER BY id;
ROLLBACK;
SELECT payload, state, attempt FROM queue.job WHERE queue = 'f' AND state <> 'running' ORDER BY id;
BEGIN;
SELECT queue.complete(id, attempt), queue.enqueue(kind, '6', 'f') > id AS next FROM queue.fetch('f');
COMMIT;
SELECT payload, state, attempt FROM queue.job WHERE queue = 'f' AND state <> 'running' ORDER BY id;
SELECT payload FROM queue.fetch('f');

-- enqueued and fetched in one transaction, also in a savepoint that rolls back
BEGIN;
SAVEPOINT s;
SELECT queue.enqueue('k', '7', 'f') IS NOT NULL AS e;
SELECT payload, attempt FROM queue.fetch('f');
ROLLBACK TO s;
SELECT queue.enqueue('k', '8', 'f') IS NOT NULL AS e;
SELECT payload, attempt FROM queue.fetch('f');
COMMIT;
SELECT payload, state, attempt FROM queue.job WHERE queue = 'f' AND payload::int >= 7 ORDER BY id;

-- what this transaction made claimable behind what it passed: nobody else sees it yet, its own fetch does
SELECT count(*) FROM queue.enqueue_many('own', '{1,2,3}', 'f');
BEGIN;
SELECT count(*) FROM queue.fetch('f', 10);
SELECT count(*) FROM queue.fetch('f', 10);
SELECT queue.enqueue('own', '"new"', 'f', run_at => '2001-01-01 00:00+00') AS n, queue.enqueue('own', '"newer"', 'f') AS m \gset
SELECT payload, attempt FROM queue.fetch('f', 10);
SELECT payload, attempt FROM queue.fetch('f', 10);
SELECT queue.release(:n, 1);
SELECT payload, attempt FROM queue.fetch('f');
SELECT queue.snooze(:m, '1 hour', 1), queue.alter_job(:m, run_at => '2001-01-01 00:00+00');
SELECT payload, attempt FROM queue.fetch('f');
SELECT queue.cancel(:m), queue.retry(:m, '2001-01-01 00:00+00');
SAVEPOINT s;
SELECT payload, attempt FROM queue.fetch('f');
ROLLBACK TO s;
SELECT payload, attempt FROM queue.fetch('f');
SELECT payload, attempt FROM queue.fetch('f');
ROLLBACK;
SELECT payload, attempt FROM queue.fetch('f', 10);

-- WHERE and LIMIT come after the claim
SELECT count(*) FROM queue.enqueue_many('k', '{20,21,22}', 'f');
SELECT payload FROM queue.fetch('f', 3) WHERE payload = '21';
SELECT payload, state FROM queue.job WHERE queue = 'f' AND payload::int >= 20 ORDER BY id;

-- now() stands still in a transaction, the queue's clock does not
BEGIN;
SELECT now() IS NOT NULL AS t;
SELECT pg_sleep(0.02);
SELECT queue.enqueue('k', '30', 'f') IS NOT NULL AS e;
SELECT payload, run_at > now() AS after_now FROM queue.fetch('f');
SELECT queue.enqueue('k', '31', 'f', delay => '5 ms') IS NOT NULL AS e;
SELECT pg_sleep(0.02);
SELECT payload FROM queue.fetch('f');
COMMIT;

-- isolation levels above: the same in a transaction that is alone
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT queue.enqueue('k', '40', 'f') IS NOT NULL AS e;
SELECT payload, attempt FROM queue.fetch('f');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT queue.enqueue('k', '41', 'f') IS NOT NULL AS e;
SELECT payload, attempt FROM queue.fetch('f', 10);
COMMIT;

-- used as functions are: in a select list, in PL/pgSQL, through a cursor, in a prepared statement
SELECT count(*) FROM queue.enqueue_many('k', '{50,51,52,53,54,55}', 'f');
SELECT (queue.fetch('f')).payload;
DO $$
DECLARE j queue.job;
BEGIN
	FOR j IN SELECT * FROM queue.fetch('f', 2) LOOP
		RAISE NOTICE '% %: %', j.kind, j.payload, queue.complete(j.id, j.attempt);
	END LOOP;
END $$;
PREPARE p(int) AS SELECT payload FROM queue.fetch('f', $1);
EXECUTE p(1);
EXECUTE p(1);
DEALLOCATE p;
BEGIN;
DECLARE c CURSOR FOR SELECT payload FROM queue.fetch('f', 5);
FETCH 1 FROM c;
CLOSE c;
COMMIT;

-- the kinds that the server runs are left out, unless asked for
CREATE FUNCTION regress_served(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.drop_queue('f', force => true), queue.create_queue('f'), queue.create_queue('g');
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('served', 'regress_served', queues => '{f}');
SELECT count(queue.enqueue(k, to_jsonb(n), q)) FROM (VALUES ('served', 1, 'f'), ('mine', 2, 'f'), ('served', 3, 'f'), ('served', 4, 'g')) v(k, n, q);
SELECT payload FROM queue.fetch_any('{f,g}', 10);
SELECT payload FROM queue.fetch('f', 1, kinds => '{served}');
SELECT queue.pause_handler('served');
SELECT payload FROM queue.fetch('f', 10);
SELECT count(queue.enqueue('served', '5', 'f'));
SELECT queue.resume_handler('served');
SELECT payload FROM queue.fetch('f', 10);
SELECT queue.unregister_handler('served');
SELECT payload FROM queue.fetch('f', 10);
ROLLBACK;
-- what a transaction changed of the handlers holds for its own fetch, also of jobs that were there before
CREATE FUNCTION regress_gone(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SET client_min_messages = error;
SELECT queue.register_sql_handler('gone', 'regress_gone', queues => '{f}');
RESET client_min_messages;
DROP FUNCTION regress_gone(queue.job);
SELECT count(queue.enqueue('gone', '6', 'f'));
SELECT payload FROM queue.fetch('f', 10);
BEGIN;
SELECT queue.unregister_handler('gone');
-- an executor may just find out that it cannot run it
DO $$
DECLARE found jsonb;
BEGIN
	FOR i IN 1..1000 LOOP
		SELECT payload INTO found FROM queue.fetch('f', 10);
		EXIT WHEN found IS NOT NULL;
		PERFORM pg_sleep(0.01);
	END LOOP;
	PERFORM set_config('my.found', found::text, true);
END $$;
SELECT current_setting('my.found') AS payload;
ROLLBACK;
SELECT queue.unregister_handler('gone');
-- its executor may just find out that it has none any more
DO $$
DECLARE found jsonb;
BEGIN
	FOR i IN 1..1000 LOOP
		SELECT payload INTO found FROM queue.fetch('f', 10);
		EXIT WHEN found IS NOT NULL;
		PERFORM pg_sleep(0.01);
	END LOOP;
	PERFORM set_config('my.found', found::text, false);
END $$;
SELECT current_setting('my.found') AS payload;
SELECT queue.purge('f'), queue.drop_queue('f', force => true), queue.create_queue('f');
-- a handler for '*' serves every kind without a handler of its own
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('*', 'regress_served');
SELECT queue.register_sql_handler('own', 'regress_served', queues => '{g}');
SELECT count(queue.enqueue(k, to_jsonb(k), 'f')) FROM (VALUES ('any'), ('own')) v(k);
SELECT payload FROM queue.fetch('f', 10);
ROLLBACK;

-- bad values
SELECT try($$SELECT queue.fetch(null)$$);
SELECT try($$SELECT queue.fetch('')$$);
SELECT try($$SELECT queue.fetch('nowhere')$$);
SELECT try($$SELECT queue.fetch('*')$$);
SELECT try($$SELECT queue.fetch('f', 0)$$);
SELECT try($$SELECT queue.fetch('f', -1)$$);
SELECT try($$SELECT count(*) FROM queue.fetch('f', 2147483647)$$);
SELECT try($$SELECT queue.fetch('f', lease => '-1 s')$$);
SELECT try($$SELECT queue.fetch('f', lease => '0')$$);
SELECT try($$SELECT count(*) FROM queue.fetch('f', lease => '290000 years')$$);
SELECT try($$SELECT queue.fetch('f', kinds => '{a,NULL}')$$);
SELECT try($$SELECT queue.fetch('f', kinds => '{a,""}')$$);
SELECT try($$SELECT queue.fetch('f', claim => 'perhaps')$$);
SELECT try($$SELECT queue.fetch('f', wait => '-1 s')$$);
SELECT try($$SELECT queue.fetch_any(null)$$);
SELECT try($$SELECT queue.fetch_any('{}')$$);
SELECT try($$SELECT queue.fetch_any('{f,NULL}')$$);
SELECT try($$SELECT queue.fetch_any('{f,nowhere}')$$);
SELECT try($$SELECT queue.fetch_any('{f}', 0)$$);
-- waiting needs a snapshot that sees new jobs; who acknowledges in the same call does not wait
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try($$SELECT queue.fetch('f', wait => '1 ms')$$);
ROLLBACK;
SELECT queue.enqueue('ack', '1', 'f') AS a \gset
SELECT attempt FROM queue.fetch('f', kinds => '{ack}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM queue.fetch('f', wait => '30 s', kinds => '{ack}', complete_ids => ARRAY[:a], complete_attempts => '{1}');
COMMIT;
SELECT count(*) FROM queue.job WHERE id = :a;
SELECT try($$SELECT queue.fetch('f', complete_attempts => '{1}')$$);

DROP FUNCTION regress_served(queue.job);
DROP FUNCTION try(text);
DROP EXTENSION queue;
