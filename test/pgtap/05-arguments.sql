-- Bad input to the functions about queues and handlers: SQLSTATE and a hint each, nothing half done.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL search_path = pg_catalog, public;
SET LOCAL client_min_messages = error;
SELECT no_plan();

-- Runs a statement and undoes it: 'ok', or SQLSTATE; '!' when an error of ours has no hint.
CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE sql;
    RAISE EXCEPTION USING ERRCODE = 'TAP00';
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN CASE WHEN SQLSTATE = 'TAP00' THEN 'ok' ELSE SQLSTATE || CASE WHEN hint = '' THEN '!' ELSE '' END END;
END $$;

CREATE FUNCTION public.queue_tap_f(j jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION public.queue_tap_job(j queue.job) RETURNS jsonb LANGUAGE sql AS 'SELECT j.payload';
CREATE FUNCTION public.queue_tap_int(j jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.queue_tap_set(j jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT j';
CREATE FUNCTION public.queue_tap_two(j jsonb, k int) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE PROCEDURE public.queue_tap_proc(j jsonb) LANGUAGE sql AS 'SELECT';
CREATE ROLE queue_tap_worker LOGIN;
CREATE ROLE queue_tap_nologin NOLOGIN;
SELECT queue.create_queue('tap_q');
SELECT queue.grant_queue('tap_q', 'queue_tap_worker', 'work');
SELECT queue.grant_queue('tap_q', 'queue_tap_nologin', 'work');

SELECT is(pg_temp.try(sql), expected, sql) FROM (VALUES
    ($$SELECT queue.create_queue('a')$$, 'ok'),
    ($$SELECT queue.create_queue(NULL)$$, '22004'),
    ($$SELECT queue.create_queue('')$$, '22023'),
    ($$SELECT queue.create_queue('*')$$, '22023'),
    ($$SELECT queue.next_ticks('4294967301 * * * *')$$, '22023'),
    ($$SELECT queue.grant_queue('tap_none', 'queue_tap_worker')$$, '42704'),
    ($$SELECT queue.grant_queue('tap_q', 'queue_tap_none')$$, '42704'),
    ($$SELECT queue.grant_queue('tap_q', 'queue_tap_worker', 'own')$$, '22023'),
    ($$SELECT queue.grant_queue('tap_q', NULL)$$, '22004'),
    ($$SELECT queue.revoke_queue('tap_none', 'queue_tap_worker')$$, '42704'),
    ($$SELECT queue.revoke_queue('tap_q', 'queue_tap_worker', 'own')$$, '22023'),
    ($$SELECT queue.create_queue(repeat('x', 200))$$, 'ok'),
    ($$SELECT queue.create_queue(repeat('x', 201))$$, '22023'),
    ($$SELECT queue.create_queue(repeat('ü', 101))$$, '22023'),
    ($$SELECT queue.create_queue('tap_q')$$, '23505'),
    ($$SELECT queue.create_queue('tap_q', if_not_exists => true)$$, 'ok'),
    ($$SELECT queue.create_queue('default')$$, '23505'),
    ($$SELECT queue.create_queue('default', if_not_exists => true)$$, 'ok'),
    ($$SELECT queue.create_queue('a', max_attempts => NULL, lease => NULL, keep_completed => NULL, keep_discarded => NULL, if_not_exists => NULL)$$, 'ok'),
    ($$SELECT queue.create_queue('a', max_attempts => 0)$$, '22023'),
    ($$SELECT queue.create_queue('a', max_attempts => -1)$$, '22023'),
    ($$SELECT queue.create_queue('a', lease => '0')$$, '22023'),
    ($$SELECT queue.create_queue('a', lease => '-1 s')$$, '22023'),
    ($$SELECT queue.create_queue('a', lease => '1 mon -31 days')$$, '22023'),
    ($$SELECT queue.create_queue('a', keep_completed => '-1 s')$$, '22023'),
    ($$SELECT queue.create_queue('a', keep_discarded => '-1 day')$$, '22023'),
    ($$SELECT queue.create_queue('a', keep_discarded => '1000 years')$$, 'ok'),
    ($$SELECT queue.create_queue('a', backoff => '{"type": "fixed", "base": "1 s"}')$$, 'ok'),
    ($$SELECT queue.create_queue('a', backoff => '{"type": "wrong"}')$$, '22023'),
    ($$SELECT queue.create_queue('a', backoff => '{"tipe": "fixed"}')$$, '42704'),
    ($$SELECT queue.create_queue('a', backoff => '[]')$$, '22023'),
    ($$SELECT queue.create_queue('a', backoff => '{"type": "fixed", "base": "-1 s"}')$$, '22023'),
    ($$SELECT queue.create_queue('a', description => 'for tests', on_group_discard => 'continue')$$, 'ok'),
    ($$SELECT queue.create_queue('a', on_group_discard => 'wrong')$$, '22023'),
    ($$SELECT queue.alter_queue('tap_none')$$, '42704'),
    ($$SELECT queue.alter_queue(NULL)$$, '22004'),
    ($$SELECT queue.alter_queue('tap_q', max_attempts => 0)$$, '22023'),
    ($$SELECT queue.alter_queue('tap_q', reset => '{max_attempts,lease,backoff,keep_completed,keep_discarded,description}')$$, 'ok'),
    ($$SELECT queue.alter_queue('tap_q', reset => '{wrong}')$$, '42704'),
    ($$SELECT queue.alter_queue('tap_q', fair => 0)$$, '22023'),
    ($$SELECT queue.alter_queue('tap_q', fair => 16, ageing => '1 h')$$, 'ok'),
    ($$SELECT queue.alter_queue('tap_q', ageing => '-1 h')$$, '22023'),
    ($$SELECT queue.alter_queue('tap_q', reset => '{fair,ageing}')$$, 'ok'),
    ($$SELECT queue.alter_queue('tap_q', reset => '{NULL}')$$, '22004'),
    ($$SELECT queue.alter_queue('tap_q', lease => '1 s', reset => '{lease}')$$, '22023'),
    ($$SELECT queue.drop_queue('tap_q')$$, 'ok'),
    ($$SELECT queue.drop_queue('tap_none')$$, '42704'),
    ($$SELECT queue.drop_queue('default')$$, '55000'),
    ($$DO 'BEGIN PERFORM queue.enqueue(''k'', queue => ''tap_q''); PERFORM queue.drop_queue(''tap_q''); END'$$, '55000'),
    ($$DO 'BEGIN PERFORM queue.enqueue(''k'', queue => ''tap_q''); PERFORM queue.drop_queue(''tap_q'', true); END'$$, 'ok'),
    ($$DO 'BEGIN PERFORM queue.drop_queue(''tap_q''); PERFORM queue.enqueue(''k'', queue => ''tap_q''); END'$$, '42704'),
    ($$SELECT queue.pause('tap_none')$$, '42704'),
    ($$SELECT queue.resume('tap_none')$$, '42704'),
    ($$SELECT queue.purge('tap_none')$$, '42704'),
    ($$SELECT queue.pause(NULL)$$, '22004'),
    ($$SELECT queue.pause('default'), queue.resume('default')$$, 'ok'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f')$$, 'ok'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_job')$$, 'ok'),
    ($$SELECT queue.register_sql_handler('*', 'public.queue_tap_job')$$, 'ok'),
    ($$SELECT queue.register_sql_handler(NULL, 'public.queue_tap_f')$$, '22004'),
    ($$SELECT queue.register_sql_handler('', 'public.queue_tap_f')$$, '22023'),
    ($$SELECT queue.register_sql_handler(repeat('x', 201), 'public.queue_tap_f')$$, '22023'),
    ($$SELECT queue.register_sql_handler('k', NULL)$$, '22004'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_none')$$, '42883'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_two')$$, '42883'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_int')$$, '42P13'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_set')$$, '42P13'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_proc')$$, '42809'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', '{tap_none}')$$, '42704'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', '{}')$$, '22023'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', '{NULL}')$$, '22004'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', timeout => '-1 s')$$, '22023'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', timeout => '0')$$, 'ok'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', max_attempts => 0)$$, '22023'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', backoff => '1')$$, '22023'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', run_as => 'queue_tap_none')$$, '42704'),
    ($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', '{tap_q}', run_as => 'queue_tap_worker')$$, 'ok'),
    ($$SELECT queue.unregister_handler('tap_none')$$, '42704'),
    ($$SELECT queue.pause_handler('tap_none')$$, '42704'),
    ($$SELECT queue.resume_handler(NULL)$$, '22004'),
    ($$SELECT queue.explain_job(NULL)$$, '22004')
) AS t (sql, expected);
SELECT is(pg_temp.try($$SELECT queue.register_sql_handler('k', 'public.queue_tap_f', '{tap_q}', run_as => 'queue_tap_nologin')$$),
          CASE WHEN current_setting('server_version_num')::int < 170000 THEN '55000' ELSE 'ok' END, 'a role that cannot log in');

-- alter_queue, pause and their effects
SELECT lives_ok($$SELECT queue.alter_queue('default', max_attempts => 7)$$, 'default is altered');
SELECT is((SELECT max_attempts FROM queue.queue WHERE name = 'default'), 7, 'which writes its row');
SELECT queue.enqueue('tap_kind') AS id \gset
SELECT is((SELECT max_attempts FROM queue.job WHERE id = :id), 7, 'its jobs follow');
SELECT lives_ok($$SELECT queue.alter_queue('default', reset => '{max_attempts}')$$, 'and it is put back');
SELECT is((SELECT max_attempts FROM queue.queue WHERE name = 'default'), 25, 'to 25');
SELECT queue.pause('tap_q');
SELECT isnt((SELECT paused_at FROM queue.stat_queue WHERE queue = 'tap_q'), NULL, 'stat_queue shows the pause');
SELECT queue.enqueue('tap_kind', queue => 'tap_q') AS id \gset
SELECT matches(queue.explain_job(:id), '^available; waits: queue tap_q is paused since ', 'so does explain_job');
SELECT ok(EXISTS (SELECT FROM queue.doctor() WHERE check_name = 'queue paused' AND NOT ok AND detail LIKE '%tap_q%'), 'so does doctor');
SELECT queue.resume('tap_q');
SELECT is((SELECT paused_at FROM queue.stat_queue WHERE queue = 'tap_q'), NULL, 'resumed');
SELECT ok(EXISTS (SELECT FROM queue.doctor() WHERE check_name = 'kind without handler' AND NOT ok AND detail LIKE '%"tap_kind"%"tap_q"%'), 'doctor names a kind without handler');
SELECT matches(queue.explain_job(4611686018427387904), '^unknown', 'explain_job of a job that never was');

-- purge leaves what is claimed
SELECT queue.enqueue_many('tap_purge', ARRAY['{}', '{}', '{}']::jsonb[], 'tap_q');
SELECT is((SELECT count(*)::int FROM queue.fetch('tap_q', 1, kinds => '{tap_purge}')), 1, 'one is claimed');
SELECT is(queue.purge('tap_q'), 3::bigint, 'the others and the one before are purged');
SELECT is((SELECT string_agg(kind || ' ' || state, ',') FROM queue.job WHERE queue = 'tap_q'), 'tap_purge running', 'the claimed one stays');

-- handlers
SELECT queue.register_sql_handler('tap_h', 'public.queue_tap_f', '{tap_q}', run_as => 'queue_tap_worker');
SELECT is((SELECT concat_ws(' ', kind, type, target, run_as, state) FROM queue.stat_handler WHERE kind = 'tap_h'),
          'tap_h sql public.queue_tap_f(jsonb) queue_tap_worker ready', 'stat_handler shows it');
SELECT queue.pause_handler('tap_h');
SELECT is((SELECT state FROM queue.stat_handler WHERE kind = 'tap_h'), 'paused', 'paused');
SELECT queue.register_sql_handler('tap_h', 'public.queue_tap_job', '{tap_q}', run_as => 'queue_tap_worker');
SELECT is((SELECT state || ' ' || target FROM queue.stat_handler WHERE kind = 'tap_h'), 'paused public.queue_tap_job(queue.job)', 'a replaced handler stays paused');
SELECT queue.resume_handler('tap_h');
DROP FUNCTION public.queue_tap_job(queue.job);
SELECT is((SELECT state FROM queue.stat_handler WHERE kind = 'tap_h'), 'parked', 'parked when its function is gone');
SELECT ok(EXISTS (SELECT FROM queue.doctor() WHERE check_name = 'handler' AND NOT ok AND detail LIKE 'kind "tap_h":%does not exist' AND hint <> ''), 'doctor says why');
CREATE FUNCTION public.queue_tap_job(j queue.job) RETURNS jsonb LANGUAGE sql AS 'SELECT j.payload';
SELECT is((SELECT state FROM queue.stat_handler WHERE kind = 'tap_h'), 'ready', 'ready when it is back');
ALTER FUNCTION public.queue_tap_job(queue.job) OWNER TO queue_tap_worker;
SELECT is((SELECT state FROM queue.stat_handler WHERE kind = 'tap_h'), 'parked', 'parked when it belongs to another owner');
UPDATE queue.handler SET system_identifier = 1 WHERE kind = 'tap_h';
SELECT ok(EXISTS (SELECT FROM queue.doctor() WHERE check_name = 'handler' AND NOT ok AND hint LIKE '%queue.adopt()%'), 'doctor names a copy that is not adopted');
SELECT queue.adopt();
SELECT ok(NOT EXISTS (SELECT FROM queue.doctor() WHERE hint LIKE '%queue.adopt()%'), 'adopt adopts it');

SELECT * FROM finish();
ROLLBACK;
