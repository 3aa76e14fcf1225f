-- External workers: waiting, acknowledging with the fetch, claims by advisory lock, jobs that expire.
CREATE EXTENSION queue;
SET client_min_messages = notice;	-- whatever the caller has set
SELECT queue.create_queue('w', lease => '10 min', keep_completed => '1 day');
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text; m text; h text;
BEGIN
	EXECUTE sql INTO r;
	RETURN coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
	RETURN s || ': ' || m || CASE WHEN h <> '' THEN E'\n  HINT: ' || h ELSE '' END;
END $$;
-- our claims among the advisory locks
CREATE VIEW session_claim AS SELECT (classid::bigint << 32) + objid::bigint AS id FROM pg_locks
	WHERE locktype = 'advisory' AND objsubid NOT IN (1, 2) AND pid = pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
\pset format unaligned

-- ---- wait: returns at once if there is something, else when the time is up
SELECT clock_timestamp() AS t0 \gset
SELECT count(*) FROM queue.fetch('w', wait => '100 ms');
SELECT clock_timestamp() - :'t0' BETWEEN '99 ms' AND '20 s' AS waited;
SELECT count(queue.enqueue('k', to_jsonb(n), 'w')) FROM generate_series(1, 3) n;
SELECT payload, attempt FROM queue.fetch('w', wait => '1 min');
SELECT payload, attempt FROM queue.fetch('w', 10, wait => '1 min');
-- until it falls due, also in a transaction that enqueued it
SELECT queue.enqueue('k', '4', 'w', delay => '200 ms') IS NOT NULL AS e;
SELECT payload, run_at <= clock_timestamp() AS due FROM queue.fetch('w', wait => '25 s');
BEGIN;
SELECT queue.enqueue('k', '5', 'w', delay => '200 ms') IS NOT NULL AS e;
SELECT payload, run_at <= clock_timestamp() AS due FROM queue.fetch('w', wait => '25 s');
ROLLBACK;
-- several queues, kinds, null, zero
SELECT queue.enqueue('k', '6', 'w') IS NOT NULL AS e;
SELECT payload FROM queue.fetch_any('{default,w}', wait => '1 min');
SELECT queue.enqueue('k', '7', 'w') IS NOT NULL AS e;
SELECT count(*) FROM queue.fetch('w', wait => '10 ms', kinds => '{other}');
SELECT payload FROM queue.fetch('w', wait => null);
SELECT count(*) FROM queue.fetch('w', wait => '0');
-- at most queue.max_wait
SET queue.max_wait = '50ms';
SELECT count(*) FROM queue.fetch('w', wait => '1 hour');
RESET queue.max_wait;
-- a paused queue gives nothing; a statement that is cancelled neither
SELECT queue.pause('w');
SELECT queue.enqueue('k', '8', 'w') IS NOT NULL AS e;
SELECT count(*) FROM queue.fetch('w', wait => '10 ms');
SELECT queue.resume('w');
SET statement_timeout = '100ms';
SELECT count(*) FROM queue.fetch('w', kinds => '{other}', wait => '1 min');
RESET statement_timeout;
SELECT payload FROM queue.fetch('w');
-- in READ COMMITTED only
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try($$SELECT queue.fetch('w', wait => '1 s')$$);
SELECT count(*) FROM queue.fetch('w');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT try($$SELECT queue.fetch_any('{w}', wait => '1 s')$$);
COMMIT;
SELECT try($$SELECT queue.fetch('w', wait => '-1 s')$$);
SELECT try($$SELECT queue.fetch('w', wait => '-1 month')$$);
SELECT try($$SELECT queue.fetch('nowhere', wait => '1 s')$$);

-- ---- await: only tells, claims nothing
CALL queue.await('{w}', '10 ms');
SELECT queue.enqueue('k', '9', 'w') IS NOT NULL AS e;
CALL queue.await('{w}', '1 min');
CALL queue.await('{default,w}');
CALL queue.await('{w}', '10 ms', '{other}');
CALL queue.await('{w}', '1 min', '{k,other}');
CALL queue.await('{w}', '100000 years');
CALL queue.await('{default}', '0');
SELECT payload, attempt FROM queue.fetch('w');
SELECT queue.enqueue('k', '10', 'w', delay => '200 ms') IS NOT NULL AS e;
CALL queue.await('{w}', '1 min');
SELECT payload FROM queue.fetch('w');
DO $$
DECLARE r boolean;
BEGIN
	CALL queue.await('{w}', '10 ms', null, r);
	RAISE NOTICE 'ready: %', r;
	PERFORM queue.enqueue('k', '11', 'w');
	COMMIT;
	CALL queue.await('{w}', '1 min', null, r);
	RAISE NOTICE 'ready: %, payload: %', r, (SELECT payload FROM queue.fetch('w'));
END $$;
BEGIN;
CALL queue.await('{w}', '10 ms');
ROLLBACK;
\set VERBOSITY sqlstate
SELECT try($$CALL queue.await('{w}', '10 ms')$$);
CALL queue.await(null);
CALL queue.await('{w,NULL}');
CALL queue.await('{nowhere}');
CALL queue.await('{w}', '-1 s');
SET default_transaction_isolation = 'repeatable read';
CALL queue.await('{w}', '10 ms');
RESET default_transaction_isolation;
\set VERBOSITY default

-- ---- complete_ids: acknowledge and fetch in one call
SELECT queue.drop_queue('w', force => true), queue.create_queue('w', keep_completed => '1 day');
SELECT array_agg(i) AS ids FROM queue.enqueue_many('k', '{1,2,3,4,5}', 'w') i \gset
SELECT payload, attempt FROM queue.fetch('w', 2);
SELECT payload, attempt FROM queue.fetch('w', 1, complete_ids => (:'ids'::bigint[])[1:2], complete_attempts => '{1,1}');
SELECT payload, state, attempt FROM queue.job WHERE queue = 'w' ORDER BY id;
-- fenced: a wrong attempt, a job that is not claimed, an unknown id and a repeated id complete nothing
SELECT payload FROM queue.fetch('w', 1, complete_ids => (:'ids'::bigint[])[3:5] || 9223372036854775807, complete_attempts => '{7,1,null,1}');
SELECT payload, state, attempt FROM queue.job WHERE queue = 'w' ORDER BY id;
SELECT payload FROM queue.fetch('w', 1, complete_ids => (:'ids'::bigint[])[3:3] || (:'ids'::bigint[])[3:3], complete_attempts => '{1,1}');
-- without attempts it is not fenced; without ids there is nothing to acknowledge
SELECT payload FROM queue.fetch('w', 1, complete_ids => (:'ids'::bigint[])[4:4]);
SELECT count(*) FROM queue.fetch('w', complete_ids => '{}');
SELECT count(*) FROM queue.fetch('w', complete_ids => null, complete_attempts => null);
-- it returns at once, so that the completion commits
SELECT count(*) FROM queue.fetch('w', 1, complete_ids => (:'ids'::bigint[])[5:5], complete_attempts => '{1}', wait => '1 hour');
SELECT payload, state, attempt FROM queue.job WHERE queue = 'w' ORDER BY id;
-- in one transaction: all or nothing
SELECT queue.enqueue('k', '6', 'w') AS id \gset
SELECT queue.enqueue('k', '7', 'w') AS id2 \gset
BEGIN;
SELECT payload, attempt FROM queue.fetch('w');
SELECT payload, attempt FROM queue.fetch_any('{w}', complete_ids => ARRAY[:id::bigint], complete_attempts => '{1}');
ROLLBACK;
SELECT payload, state, attempt FROM queue.job WHERE id >= :id ORDER BY id;
SELECT payload, attempt FROM queue.fetch('w', 2);
SELECT try($$SELECT queue.fetch('w', complete_attempts => '{1}')$$);
SELECT try(format($$SELECT queue.fetch('w', complete_ids => '{%s}', complete_attempts => '{1,1}')$$, :id));
SELECT try($$SELECT queue.fetch('w', complete_ids => '{1,NULL}')$$);
SELECT state FROM queue.job WHERE id = :id;

-- ---- claim 'session': the attempt that it gives is a token, negative and drawn by chance; noted here
CREATE TEMP TABLE token (id bigint PRIMARY KEY, attempt int);
CREATE FUNCTION session_fetch(qty int = 1, kinds text[] = NULL, ids bigint[] = NULL, attempts int[] = NULL)
	RETURNS TABLE (id bigint, payload jsonb, token boolean, failures int, state text, leased_until timestamptz) LANGUAGE sql AS $$
	WITH f AS MATERIALIZED (SELECT * FROM queue.fetch('w', qty, kinds => kinds, claim => 'session', complete_ids => ids, complete_attempts => attempts)),
		 t AS (INSERT INTO token SELECT f.id, attempt FROM f ON CONFLICT (id) DO UPDATE SET attempt = excluded.attempt)
	SELECT f.id, payload, attempt < 0, failures, state, leased_until FROM f $$;
CREATE FUNCTION token(job_id bigint) RETURNS int LANGUAGE sql AS 'SELECT attempt FROM token WHERE id = job_id';
SELECT queue.drop_queue('w', force => true), queue.create_queue('w', keep_completed => '1 day', max_attempts => 3);
SELECT i AS id FROM queue.enqueue_many('k', '{1,2,3,4,5,6}', 'w') i ORDER BY 1 LIMIT 1 \gset
SELECT payload, token, state, leased_until FROM session_fetch();
-- nothing is written, a lock is held
SELECT payload, state, attempt FROM queue.job WHERE id = :id;
SELECT id - :id AS n FROM session_claim;
SELECT queue.explain_job(:id);
SELECT queue.test_run(:id);
-- the next ones: not the same again, in either mode
SELECT payload, token FROM session_fetch();
SELECT payload, attempt FROM queue.fetch('w');
SELECT id - :id AS n FROM session_claim ORDER BY 1;
-- control leaves it alone
SELECT queue.alter_job(:id, priority => 5);
BEGIN;
SELECT queue.purge('w');
SELECT payload, state FROM queue.job WHERE queue = 'w' ORDER BY id;
ROLLBACK;
-- fenced by the attempt, and by the lock
SELECT queue.complete(:id, 0), queue.complete(:id, 1), queue.complete(:id, token(:id) + 1), queue.fail(:id, 2), queue.heartbeat(:id, '1 min', token(:id));
SELECT queue.complete(:id, token(:id), '{"r": 1}');
SELECT state, attempt, result FROM queue.job WHERE id = :id;
SELECT queue.complete(:id, token(:id)), queue.fail(:id, token(:id), 'again') IS NULL AS over;
SELECT queue.complete(:id + 1, token(:id + 1));
SELECT id - :id AS n FROM session_claim ORDER BY 1;
-- failed: its retry is the next attempt; given back; snoozed; progress noted; out of attempts
SELECT queue.enqueue('r', '7', 'w') AS r \gset
SELECT payload, token, failures FROM session_fetch(kinds => '{r}');
SELECT queue.fail(:r, token(:r), 'no luck', '0');
SELECT state, attempt, failures, last_error FROM queue.job WHERE id = :r;
SELECT payload, token, failures FROM session_fetch(kinds => '{r}');
SELECT queue.progress(:r, '0.5', token(:r));
SELECT progress, attempt FROM queue.job WHERE id = :r;
SELECT queue.release(:r, token(:r));
SELECT payload, token, failures FROM session_fetch(kinds => '{r}');
SELECT queue.snooze(:r, '0', token(:r));
SELECT payload, token, failures FROM session_fetch(kinds => '{r}');
SELECT queue.fail(:r, token(:r), 'no luck', '0');
SELECT payload, token, failures FROM session_fetch(kinds => '{r}');
SELECT queue.fail(:r, token(:r), 'no luck', '0');
SELECT state, attempt, failures, last_error FROM queue.job WHERE id = :r;
SELECT attempt, error FROM queue.job_error WHERE job_id = :r ORDER BY 1;
SELECT id - :id AS n FROM session_claim ORDER BY 1;
-- a transaction that rolls back gives it back, a savepoint likewise
BEGIN;
SELECT payload, token FROM session_fetch();
SAVEPOINT s;
SELECT payload, token FROM session_fetch();
ROLLBACK TO s;
SELECT id - :id AS n FROM session_claim ORDER BY 1;
SELECT payload, token FROM session_fetch();
ROLLBACK;
SELECT id - :id AS n FROM session_claim ORDER BY 1;
-- a completion that rolls back keeps the claim of before
SELECT payload, token FROM session_fetch();
BEGIN;
SELECT queue.complete(:id + 3, token(:id + 3));
ROLLBACK;
SELECT id - :id AS n FROM session_claim ORDER BY 1;
BEGIN;
SAVEPOINT s;
SELECT queue.complete(:id + 3, token(:id + 3));
ROLLBACK TO s;
COMMIT;
SELECT id - :id AS n FROM session_claim ORDER BY 1;
SELECT queue.complete(:id + 3, token(:id + 3));
SELECT id - :id AS n FROM session_claim ORDER BY 1;
-- dropped locks are no claims: complete and fail say so
SELECT payload, token FROM session_fetch();
SELECT pg_advisory_unlock_all();
SELECT queue.complete(:id + 4, token(:id + 4)), queue.fail(:id + 4, token(:id + 4)) IS NULL AS lost, queue.heartbeat(:id + 4, attempt => token(:id + 4)) IS NULL AS gone;
SELECT payload, state, attempt FROM queue.job WHERE id = :id + 4;
-- the application's own advisory locks never meet ours
SELECT pg_advisory_lock(:id + 5), pg_try_advisory_lock(0, (:id + 5)::int), pg_try_advisory_lock_shared(:id + 5);
SELECT payload, token FROM session_fetch(5, '{k}') WHERE id = :id + 5;
SELECT pg_advisory_unlock_all();
-- acknowledged with the next fetch
SELECT queue.purge('w') >= 0 AS purged;
SELECT i AS id FROM queue.enqueue_many('k', '{21,22,23}', 'w') i ORDER BY 1 LIMIT 1 \gset
SELECT payload, token FROM session_fetch();
SELECT payload, token FROM session_fetch(2, ids => ARRAY[:id::bigint], attempts => ARRAY[token(:id)]);
SELECT payload, state, attempt FROM queue.job WHERE queue = 'w' AND payload::int > 20 ORDER BY id;
SELECT queue.complete_many(ARRAY[:id + 1, :id + 2], ARRAY[token(:id + 1), token(:id + 2)]) - :id AS n;
SELECT count(*) FROM session_claim;
-- cancelled and discarded by their holder's session too
SELECT queue.enqueue('k', '24', 'w') AS id \gset
SELECT payload FROM queue.fetch('w', claim => 'session', wait => '1 s');
SELECT queue.cancel(:id, 'not needed');
SELECT state, last_error FROM queue.job WHERE id = :id;
SELECT queue.complete(:id, token(:id));
SELECT try($$SELECT queue.fetch('w', claim => 'advisory')$$);
SELECT pg_advisory_unlock_all();

-- ---- expires_at
SELECT queue.enqueue('k', '31', 'w', expires_at => clock_timestamp() + interval '1 min') AS id \gset
SELECT state, expires_at > enqueued_at AS later FROM queue.job WHERE id = :id;
SET queue.debug_clock_offset = '2 min';
SELECT count(*) FROM queue.fetch('w');
SELECT queue.wait_for(:id, '10 s');
RESET queue.debug_clock_offset;
SELECT state, last_error, expires_at IS NOT NULL AS e, attempt FROM queue.job WHERE id = :id;
-- started in time: it runs on, and is tried again
SELECT queue.enqueue('k', '32', 'w', expires_at => clock_timestamp() + interval '1 min') AS id \gset
SELECT payload FROM queue.fetch('w');
SET queue.debug_clock_offset = '2 min';
SELECT queue.fail(:id, 1, 'no', '0');
SELECT payload, attempt FROM queue.fetch('w');
SELECT queue.complete(:id, 2);
RESET queue.debug_clock_offset;
-- a session works on it: it was started in time, whoever passes it later
SELECT queue.enqueue('k', '30', 'w', expires_at => clock_timestamp() + interval '1 min') AS id \gset
SELECT payload, token FROM session_fetch();
SET queue.debug_clock_offset = '2 min';
BEGIN ISOLATION LEVEL REPEATABLE READ;	-- reads the line from its front
SELECT count(*) FROM queue.fetch('w');
COMMIT;
RESET queue.debug_clock_offset;
SELECT queue.complete(:id, token(:id), '"done"');
SELECT state, result FROM queue.job WHERE id = :id;
-- in the past already; infinity is never; in the JSON form
SELECT queue.enqueue('k', '33', 'w', expires_at => '2001-01-01') AS id \gset
SELECT count(*) FROM queue.fetch('w', claim => 'session');
SELECT queue.wait_for(:id, '10 s') AS state;		-- the scheduler may be at it
SELECT queue.enqueue('k', '34', 'w') AS id \gset
SELECT payload, expires_at FROM queue.fetch('w');
SELECT queue.enqueue_json('{"kind": "k", "payload": 35, "queue": "w", "expires_at": "2001-01-01 00:00+00"}') AS id \gset
SELECT count(*) FROM queue.fetch('w');
SELECT queue.wait_for(:id, '10 s');
SELECT state, expires_at = '2001-01-01 00:00+00' AS e FROM queue.job WHERE id = :id;
SELECT try($$SELECT queue.enqueue('k', expires_at => '-infinity')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "k", "expires_at": "soon"}')$$);

-- ---- what drivers send: text, untyped, other integer types
SELECT queue.enqueue('k', '41', 'w') AS id \gset
PREPARE untyped AS SELECT payload, attempt FROM queue.fetch($1, $2, $3, $4, $5, $6, $7);
EXECUTE untyped('w', '1', '1 min', '0', 'host:1', '{k}', 'lease');
PREPARE ended AS SELECT queue.complete($1, $2, $3);
EXECUTE ended(:'id', '1', '{"ok": true}');
PREPARE typed(text, text) AS SELECT queue.enqueue($1, $2, 'w');
SELECT queue.enqueue_json('{"kind": "k", "payload": {"n": 42}, "queue": "w"}'::text) IS NOT NULL AS e;
PREPARE cast_it(text, text, text) AS SELECT queue.complete($1::bigint, $2::int) FROM queue.fetch('w', lease => $3::interval);
EXECUTE cast_it('0', '1', '1 min');
PREPARE wide(bigint, bigint) AS SELECT queue.complete($1, $2);
PREPARE narrow(int, smallint) AS SELECT queue.complete($1, $2);
DEALLOCATE ALL;

DROP VIEW session_claim;
DROP FUNCTION try(text);
DROP EXTENSION queue;
