-- Bad input and wrong places: an error with its SQLSTATE and a hint, or the documented false; nothing half done.
-- (Each function's bad values are in the file of that function; here is what all share.)
CREATE EXTENSION queue;
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
\pset null NULL

-- as a client sees it
SELECT queue.enqueue('k', queue => 'nowhere');
\echo :LAST_ERROR_SQLSTATE
SELECT queue.enqueue(null);
\echo :LAST_ERROR_SQLSTATE
SELECT queue.enqueue('');
\echo :LAST_ERROR_SQLSTATE
SELECT queue.enqueue('k', null);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM queue.fetch('default', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM queue.fetch('default', -1);
\echo :LAST_ERROR_SQLSTATE
SELECT queue.enqueue('k', priority => 40000);
\echo :LAST_ERROR_SQLSTATE
SELECT queue.enqueue('k', delay => interval '-1 s');
\echo :LAST_ERROR_SQLSTATE
SELECT queue.register_sql_handler('k', 'no_such_function');
\echo :LAST_ERROR_SQLSTATE
SELECT queue.enqueue('k', compensate_with => 'u');
\echo :LAST_ERROR_SQLSTATE
-- drivers' untyped and text-typed parameters find the one function of a name
PREPARE e AS SELECT queue.enqueue($1, $2, $3, $4, $5, $6, $7, $8) IS NOT NULL AS e;
EXECUTE e('k', '{"n": 1}', 'default', '3', null, '0', '4', '1 min');
DEALLOCATE e;
SELECT count(*) FROM queue.fetch('default', '5', '1 min');

-- names are data
SELECT queue.create_queue('x''); DROP TABLE queue.live_job; --');
SELECT queue.enqueue('"k"''; DROP TABLE queue.live_job; --', '{"n": 2}', 'x''); DROP TABLE queue.live_job; --') IS NOT NULL AS e;
SELECT kind, payload FROM queue.fetch('x''); DROP TABLE queue.live_job; --', worker => '''; --', kinds => ARRAY['"k"''; DROP TABLE queue.live_job; --']);
SELECT queue, worker FROM queue.job WHERE queue <> 'default';
SELECT queue.drop_queue('x''); DROP TABLE queue.live_job; --', force => true);
SELECT try($$SELECT queue.enqueue('k', '1', 'Ünï"cödé'' ☃')$$);

-- a read-only transaction: every writer, by its name
SELECT queue.create_queue('q', keep_completed => '1 day');
SELECT queue.enqueue('k', '1', 'q') AS w, queue.enqueue('run', '2', 'q', priority => -1) AS r \gset
SELECT kind, attempt FROM queue.fetch('q', kinds => '{run}');
CREATE FUNCTION regress_h(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
BEGIN READ ONLY;
SELECT call, try(format('SELECT queue.' || call, :w, :r)) FROM unnest(ARRAY[
	'enqueue(''k'')', 'enqueue_many(''k'', ''{1}'')', 'enqueue_json(''{"kind": "k"}'')', 'enqueue_json_many(''[{"kind": "k"}]'')',
	'fetch(''q'')', 'fetch_any(''{q}'')', 'complete(%2$s, 1)', 'complete_many(''{%2$s}'', ''{1}'')', 'fail(%2$s, 1)', 'snooze(%2$s, ''1 s'', 1)',
	'release(%2$s, 1)', 'release_many(''{%2$s}'')', 'heartbeat(%2$s)', 'heartbeat_many(''{%2$s}'')', 'progress(%2$s, ''1'')',
	'cancel(%1$s)', 'discard(%1$s)', 'retry(%1$s)', 'alter_job(%1$s, priority => 1)', 'purge(''q'')',
	'create_queue(''ro'')', 'alter_queue(''q'', lease => ''1 s'')', 'drop_queue(''q'', true)', 'pause(''q'')', 'resume(''q'')',
	'grant_queue(''q'', current_user)', 'revoke_queue(''q'', current_user)', 'register_sql_handler(''k'', ''regress_h'')', 'adopt()', 'tick()', 'maintain()', 'test_drain(''q'')']) call;
-- readers work there
SELECT kind, state, attempt FROM queue.job WHERE queue = 'q' ORDER BY id;
SELECT queue.wait_for(:w, '0'), queue.result(:w);
SELECT queue.explain_job(:r) IS NOT NULL AS explained, (SELECT count(*) > 0 FROM queue.doctor()) AS doctor;
ROLLBACK;
SELECT kind, state, attempt FROM queue.job WHERE queue = 'q' ORDER BY id;

-- under a parallel plan: refused, whatever a user's wrapper claims
CREATE FUNCTION wrap_enqueue() RETURNS bigint LANGUAGE sql PARALLEL SAFE AS $$ SELECT queue.enqueue('k', '1', 'q') $$;
CREATE FUNCTION wrap_fetch() RETURNS jsonb LANGUAGE sql PARALLEL SAFE AS $$ SELECT payload FROM queue.fetch('q') $$;
CREATE FUNCTION wrap_complete(id bigint) RETURNS bool LANGUAGE sql PARALLEL SAFE AS $$ SELECT queue.complete(id) $$;
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false) AS forced;
\set VERBOSITY sqlstate
SELECT wrap_enqueue();
SELECT wrap_fetch();
SELECT wrap_complete(:r);
\set VERBOSITY default
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'off', false) AS forced;
SELECT kind, state, attempt FROM queue.job WHERE queue = 'q' ORDER BY id;

-- an error in the middle leaves nothing of the statement
SELECT queue.enqueue('k', to_jsonb(n), 'q', priority => p) FROM (VALUES (1, 0), (2, 0), (3, 40000)) v(n, p);
SELECT 1 / (count(*) - 1) FROM queue.fetch('q');
SELECT kind, state, attempt FROM queue.job WHERE queue = 'q' ORDER BY id;

DROP FUNCTION wrap_enqueue(), wrap_fetch(), wrap_complete(bigint), regress_h(queue.job);
-- the clock of a job far away
SELECT queue.enqueue('k', '"old"', 'q', run_at => '1100-01-01 00:00:00+00') IS NOT NULL AS e, queue.enqueue('k', '"far"', 'q', run_at => '2900-01-01 00:00:00+00') IS NOT NULL AS f;
SELECT payload FROM queue.fetch('q', 2);
SELECT payload, state FROM queue.job WHERE payload IN ('"far"', '"old"') ORDER BY id;

-- settings: their names, and values that make no sense
SELECT name, boot_val AS setting, unit FROM pg_settings WHERE name LIKE 'queue.%' ORDER BY name;
SET queue.executors = -1;
-- 17 words this error differently
\set VERBOSITY sqlstate
SET queue.max_wait = '-1';
\set VERBOSITY default
SET queue.nonsense = 1;

-- tables of another version
BEGIN;
ALTER TABLE queue.queue RENAME COLUMN lease TO leases;
SELECT try($$SELECT queue.enqueue('k')$$);
ROLLBACK;
BEGIN;
ALTER TABLE queue.unique_key ALTER COLUMN ended TYPE text;
SELECT try($$SELECT queue.enqueue('k')$$);
ROLLBACK;
BEGIN;
ALTER TABLE queue.line RENAME TO lines;
SELECT try($$SELECT queue.enqueue('k')$$);
ROLLBACK;

DROP FUNCTION try(text);
DROP EXTENSION queue;
