-- The privilege matrix: every cell, allowed and refused, by roles that hold exactly one privilege each.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL search_path = pg_catalog, public;
SET LOCAL client_min_messages = error;
SELECT no_plan();

-- Runs a statement as a role and undoes it: 'ok: <value>' or the SQLSTATE.
CREATE FUNCTION pg_temp.try(role text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    value text;
BEGIN
    PERFORM set_config('role', role, true);
    EXECUTE sql INTO value;
    RAISE EXCEPTION USING ERRCODE = 'TAP00', MESSAGE = coalesce(value, '<null>');
EXCEPTION WHEN others THEN
    IF SQLSTATE = 'TAP00' THEN
        RETURN 'ok: ' || SQLERRM;
    END IF;
    RETURN SQLSTATE;
END $$;

CREATE TEMP TABLE actor (role text PRIMARY KEY, privileges text[]);     -- what it may do in queue tap_q
INSERT INTO actor VALUES
    ('queue_tap_nobody', '{}'),
    ('queue_tap_other', '{}'),                                          -- holds everything, in another queue
    ('queue_tap_execute', '{}'),                                        -- may execute each function
    ('queue_tap_enqueue', '{enqueue}'),
    ('queue_tap_work', '{work}'),
    ('queue_tap_read', '{read}'),
    ('queue_tap_manage', '{enqueue,work,read,manage}'),
    ('queue_tap_star', '{enqueue,work,read,manage,star}'),
    ('queue_tap_super', '{enqueue,work,read,manage,star}'),
    ('queue_tap_member', '{work}');                                     -- by membership in queue_tap_work
CREATE ROLE queue_tap_nobody LOGIN;
CREATE ROLE queue_tap_other LOGIN;
CREATE ROLE queue_tap_execute LOGIN;
CREATE ROLE queue_tap_enqueue LOGIN;
CREATE ROLE queue_tap_work LOGIN;
CREATE ROLE queue_tap_read LOGIN;
CREATE ROLE queue_tap_manage LOGIN;
CREATE ROLE queue_tap_star LOGIN;
CREATE ROLE queue_tap_super LOGIN SUPERUSER;
CREATE ROLE queue_tap_member LOGIN IN ROLE queue_tap_work;
CREATE SCHEMA queue_tap;
GRANT USAGE ON SCHEMA queue_tap TO PUBLIC;
CREATE FUNCTION queue_tap.f(j jsonb) RETURNS void LANGUAGE sql AS 'SELECT';

SELECT queue.create_queue('tap_q', keep_completed => '1 day');
SELECT queue.create_queue('tap_o');
SELECT queue.grant_queue('tap_q', 'queue_tap_enqueue', 'enqueue');
SELECT queue.grant_queue('tap_q', 'queue_tap_work', 'work');
SELECT queue.grant_queue('tap_q', 'queue_tap_read', 'read');
SELECT queue.grant_queue('tap_q', 'queue_tap_manage', 'manage');
SELECT queue.grant_queue('*', 'queue_tap_star', 'manage');
GRANT USAGE ON SCHEMA queue TO queue_tap_execute;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA queue TO queue_tap_execute;
SELECT queue.grant_queue('tap_o', 'queue_tap_other', p) FROM unnest(ARRAY['enqueue', 'work', 'read', 'manage']) p;

-- one job that is gone, one that waits, one that is claimed, one that is completed and kept
CREATE TEMP TABLE gone AS SELECT queue.enqueue('tap_gone', queue => 'tap_q') AS id;
SELECT is(queue.purge('tap_q'), 1::bigint, 'one job is gone');
CREATE TEMP TABLE job AS
SELECT queue.enqueue('tap_wait', queue => 'tap_q') AS waiting, queue.enqueue('tap_claim', queue => 'tap_q') AS claimed,
       queue.enqueue('tap_done', queue => 'tap_q') AS done;
SELECT is((SELECT count(*)::int FROM queue.fetch('tap_q', 2, kinds => ARRAY['tap_claim', 'tap_done'])), 2, 'two jobs claimed');
SELECT ok(queue.complete(done, 1, '{"a": 1}'), 'one completed') FROM job;
SELECT queue.register_sql_handler('tap_super', 'queue_tap.f', ARRAY['tap_q'], run_as => 'queue_tap_work');
SELECT queue.schedule('tap_s', '@yearly', 'k', queue => 'tap_q');

SELECT ok(queue.subscribe('tap.*', 'tap_wait', 'tap_q') > 0, 'one subscription');

CREATE TEMP TABLE cell (privilege text, by_id boolean, built boolean, sql text);
INSERT INTO cell VALUES
    ('enqueue', false, true, $$SELECT queue.enqueue('tap_wait', queue => 'tap_q')$$),
    ('enqueue', false, true, $$SELECT string_agg(x::text, ',') FROM queue.enqueue_many('tap_wait', ARRAY['{}', '{}']::jsonb[], 'tap_q') x$$),
    ('enqueue', false, true, $$SELECT queue.enqueue_json('{"kind": "tap_wait", "queue": "tap_q"}')$$),
    ('enqueue', false, true, $$SELECT count(*) FROM queue.enqueue_json_many('[{"kind": "tap_wait", "queue": "tap_q"}]')$$),
    ('enqueue', false, true, $$SELECT outcome FROM queue.enqueue_unique('tap_wait', 'tap', '{}', '{"queue": "tap_q"}')$$),
    ('enqueue', false, true, $$SELECT count(*) FROM queue.publish('tap.topic')$$),
    ('work', false, true, $$SELECT count(*) FROM queue.fetch('tap_q', kinds => ARRAY['tap_wait'])$$),
    ('work', false, true, $$SELECT count(*) FROM queue.fetch_any(ARRAY['tap_q'])$$),
    ('work', false, false, $$CALL queue.await(ARRAY['tap_q'])$$),
    ('work', true, true, $$SELECT queue.complete(<claimed>, 1)$$),
    ('work', true, true, $$SELECT string_agg(x::text, ',') FROM queue.complete_many(ARRAY[<claimed>], ARRAY[1]) x$$),
    ('work', true, true, $$SELECT queue.fail(<claimed>, 1, 'no')$$),
    ('work', true, true, $$SELECT queue.snooze(<claimed>, '1 min', 1)$$),
    ('work', true, true, $$SELECT queue.release(<claimed>, 1)$$),
    ('work', true, true, $$SELECT string_agg(x::text, ',') FROM queue.release_many(ARRAY[<claimed>], ARRAY[1]) x$$),
    ('work', true, true, $$SELECT queue.heartbeat(<claimed>, '1 min', 1) IS NOT NULL$$),
    ('work', true, true, $$SELECT string_agg(x::text, ',') FROM queue.heartbeat_many(ARRAY[<claimed>], '1 min', ARRAY[1]) x$$),
    ('work', true, true, $$SELECT queue.progress(<claimed>, '1', 1)$$),
    ('enqueue', false, true, $$SELECT queue.emit('tap', queue => 'tap_q')$$),
    ('work', true, true, $$SELECT nullif(status, 'gone') FROM queue.await_event(<claimed>, 'tap', attempt => 1)$$),
    ('work', true, true, $$SELECT queue.save_step(<claimed>, 's', '1', 1)$$),
    ('work', true, true, $$SELECT queue.steps(<done>)$$),
    ('manage', false, true, $$SELECT queue.register_sql_handler('tap_own', 'queue_tap.f', ARRAY['tap_q'])$$),
    ('read', true, true, $$SELECT queue.result(<done>)$$),
    ('read', true, true, $$SELECT queue.wait_for(<done>, '0')$$),
    ('read', false, false, $$CALL queue.await_idle('tap_q')$$),
    ('read', true, true, $$SELECT queue.explain_job(<waiting>)$$),
    ('read', true, true, $$SELECT queue.explain_job(<done>)$$),
    ('read', true, true, $$SELECT nullif(count(*), 0) FROM queue.find_jobs('{"ids": [<waiting>]}')$$),
    ('read', true, true, $$SELECT nullif(count(*), 0) FROM queue.find_jobs('{"ids": [<done>]}')$$),
    ('manage', true, true, $$SELECT nullif(queue.cancel_jobs('{"ids": [<waiting>]}'), 0)$$),
    ('manage', true, true, $$SELECT nullif(queue.discard_jobs('{"ids": [<waiting>]}'), 0)$$),
    ('manage', true, true, $$SELECT nullif(queue.retry_jobs('{"ids": [<done>], "state": "completed"}'), 0)$$),
    ('manage', true, true, $$SELECT nullif(queue.move_jobs('{"ids": [<waiting>]}', priority => 7), 0)$$),
    ('manage', true, true, $$SELECT nullif(queue.delete_jobs('{"ids": [<done>]}'), 0)$$),
    ('manage', true, true, $$SELECT queue.cancel(<waiting>)$$),
    ('manage', true, true, $$SELECT queue.discard(<waiting>)$$),
    ('manage', true, true, $$SELECT queue.retry(<done>)$$),
    ('manage', true, true, $$SELECT queue.alter_job(<waiting>, priority => 5)$$),
    ('manage', false, true, $$SELECT queue.redrive('tap_q')$$),
    ('manage', false, true, $$SELECT queue.pause('tap_q')$$),
    ('manage', false, true, $$SELECT queue.resume('tap_q')$$),
    ('manage', false, true, $$SELECT queue.purge('tap_q')$$),
    ('manage', false, true, $$SELECT queue.stat_reset('tap_q')$$),
    ('star', false, true, $$SELECT queue.stat_reset()$$),
    ('manage', false, true, $$SELECT queue.alter_queue('tap_q', max_attempts => 3)$$),
    ('manage', false, true, $$SELECT queue.drop_queue('tap_q', true)$$),
    ('manage', false, true, $$SELECT queue.grant_queue('tap_q', 'queue_tap_nobody')$$),
    ('manage', false, true, $$SELECT queue.revoke_queue('tap_q', 'queue_tap_nobody')$$),
    ('manage', false, true, $$SELECT queue.schedule('n', '* * * * *', 'k', queue => 'tap_q')$$),
    ('manage', false, true, $$SELECT queue.unschedule('tap_s')$$),
    ('manage', false, true, $$SELECT queue.pause_schedule('tap_s')$$),
    ('manage', false, true, $$SELECT queue.resume_schedule('tap_s')$$),
    ('manage', false, true, $$SELECT queue.run_schedule('tap_s')$$),
    ('manage', false, true, $$SELECT queue.register_http_handler('k', 'http://localhost/', ARRAY['tap_q'])$$),
    ('star', false, true, $$SELECT queue.create_queue('tap_new')$$),
    ('star', false, true, $$SELECT queue.grant_queue('*', 'queue_tap_nobody')$$),
    ('star', false, true, $$SELECT queue.revoke_queue('*', 'queue_tap_nobody')$$),
    ('star', false, true, $$SELECT queue.register_sql_handler('tap_all', 'queue_tap.f')$$),
    ('star', false, true, $$SELECT queue.register_sql_handler('*', 'queue_tap.f', ARRAY['tap_q'])$$),
    ('star', false, true, $$SELECT queue.unregister_handler('tap_super')$$),
    ('star', false, true, $$SELECT queue.pause_handler('tap_super')$$),
    ('star', false, true, $$SELECT queue.resume_handler('tap_super')$$),
    ('star', false, true, $$SELECT queue.adopt()$$),
    ('star', false, true, $$SELECT queue.maintain()$$),
    ('star', false, false, $$SELECT queue.tick()$$),
    ('star', false, true, $$SELECT queue.subscribe('t', 'k', 'tap_q')$$),
    ('star', false, true, $$SELECT queue.unsubscribe(1)$$);
UPDATE cell SET sql = replace(replace(replace(sql, '<waiting>', waiting::text), '<claimed>', claimed::text), '<done>', done::text)
FROM job;
ALTER TABLE cell ADD missing text;     -- the same call for an id that is gone
UPDATE cell SET missing = regexp_replace(sql, (SELECT format('\y(%s|%s|%s)\y', waiting, claimed, done) FROM job), (SELECT id::text FROM gone))
WHERE by_id;

-- allowed: whoever holds the privilege
SELECT matches(pg_temp.try(a.role, c.sql), CASE WHEN c.built THEN '^ok: ' ELSE '^(0A000|25001)$' END, a.role || ' may: ' || c.sql)
FROM cell c, actor a WHERE c.privilege = ANY (a.privileges)
ORDER BY c.privilege, c.sql, a.role;
-- .. and it does something
SELECT doesnt_match(pg_temp.try(a.role, c.sql), '^ok: (f|<null>)$', a.role || ' does: ' || c.sql)
FROM cell c, actor a WHERE c.privilege = ANY (a.privileges) AND c.by_id
ORDER BY c.privilege, c.sql, a.role;

-- refused: everybody else, but for by-id calls of those who may call the function for another queue
SELECT is(pg_temp.try(a.role, c.sql), '42501', a.role || ' may not: ' || c.sql)
FROM cell c, actor a
WHERE c.privilege <> ALL (a.privileges) AND NOT (a.role = 'queue_tap_other' AND (c.by_id OR NOT c.built) AND c.privilege <> 'star')
  AND NOT (a.role = 'queue_tap_execute' AND (c.by_id OR NOT c.built))
ORDER BY c.privilege, c.sql, a.role;

SELECT is(pg_temp.try('queue_tap_execute', 'SELECT queue.tick()'), '42501', 'EXECUTE alone makes no ticks');

-- an id that one may not see answers like a missing one
SELECT is(pg_temp.try(r, c.sql), pg_temp.try(r, c.missing), r || ', like a missing one: ' || c.sql)
FROM cell c, unnest('{queue_tap_other,queue_tap_execute}'::text[]) r WHERE c.by_id ORDER BY c.sql, r;
SELECT doesnt_match(pg_temp.try(r, c.sql), '^ok: (t|[0-9,]+|available|retryable)$', r || ', and does nothing: ' || c.sql)
FROM cell c, unnest('{queue_tap_other,queue_tap_execute}'::text[]) r WHERE c.by_id ORDER BY c.sql, r;

-- the views: SELECT by read, rows only of queues that one may read
SELECT is(pg_temp.try(a.role, format('SELECT count(*) FROM queue.%I', v)), '42501', a.role || ' may not read queue.' || v)
FROM actor a, unnest(ARRAY['job', 'workflow', 'workflow_edge', 'job_error', 'job_log', 'recent_job', 'history', 'stat_queue', 'stat_kind', 'stat_handler', 'stat_endpoint', 'stat_worker', 'schedule_status']) v
WHERE a.privileges && '{read}' = false AND a.role <> 'queue_tap_other';
SELECT matches(pg_temp.try(a.role, format('SELECT count(*) FROM queue.%I', v)), '^ok: ', a.role || ' may read queue.' || v)
FROM actor a, unnest(ARRAY['job', 'workflow', 'workflow_edge', 'job_error', 'job_log', 'recent_job', 'history', 'stat_queue', 'stat_kind', 'stat_handler', 'stat_endpoint', 'stat_worker', 'schedule_status']) v
WHERE a.privileges && '{read}' OR a.role = 'queue_tap_other';
SELECT is(pg_temp.try(a.role, $$SELECT count(*) FROM queue.job WHERE queue = 'tap_q'$$), 'ok: 3', a.role || ' sees the queue''s jobs')
FROM actor a WHERE a.privileges && '{read}';
SELECT is(pg_temp.try('queue_tap_other', 'SELECT count(*) FROM queue.job'), 'ok: 0', 'queue_tap_other sees no job of another queue');
SAVEPOINT seen;
SELECT ok(queue.create_workflow('tap_flow', 'tap_q') > 0, 'a workflow');
SELECT ok(queue.enqueue('tap_wait', queue => 'tap_q', workflow => (SELECT id FROM queue.workflow WHERE name = 'tap_flow')) > 0, 'with a job');
SELECT is(queue.fail(claimed, 1, 'tap'), 'retryable', 'a failure') FROM job;
SELECT is(pg_temp.try(a.role, format('SELECT count(*) FROM queue.%I', v)), CASE WHEN a.role = 'queue_tap_other' THEN 'ok: 0' ELSE 'ok: 1' END,
          a.role || ' sees what it may of queue.' || v)
FROM actor a, unnest(ARRAY['workflow', 'workflow_edge', 'job_error']) v
WHERE a.privileges && '{read}' OR a.role = 'queue_tap_other';
ROLLBACK TO seen;
SELECT is(pg_temp.try('queue_tap_other', 'SELECT string_agg(queue, '','') FROM queue.stat_queue'), 'ok: tap_o', 'and only its queue''s statistics');
SELECT is(pg_temp.try('queue_tap_read', 'SELECT string_agg(queue, '','') FROM queue.stat_queue'), 'ok: tap_q', 'so does queue_tap_read');
SELECT is(pg_temp.try('queue_tap_other', 'SELECT string_agg(kind, '','') FROM queue.stat_handler'), 'ok: <null>', 'no handler of another queue');

-- a line of a job's log: only of a job that one may work on, and only shown to who may read
CREATE FUNCTION pg_temp.say(role text, job_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    PERFORM queue.log(role, job_id => job_id, attempt => 1);
    PERFORM set_config('role', 'none', true);
END $$;
SELECT pg_temp.say(role, claimed) FROM unnest(ARRAY['queue_tap_work', 'queue_tap_manage', 'queue_tap_other']) role, job;
SELECT is(pg_temp.try(role, $$SELECT queue.log('x')$$), '42501', role || ' may not call queue.log')
FROM unnest(ARRAY['queue_tap_nobody', 'queue_tap_enqueue', 'queue_tap_read']) role;
SELECT set_eq($$SELECT message FROM queue.job_log$$, ARRAY['queue_tap_work', 'queue_tap_manage'],
              'only who may work there writes to a job''s log');
SELECT is(pg_temp.try(a.role, 'SELECT count(*) FROM queue.job_log'), CASE WHEN a.role = 'queue_tap_other' THEN 'ok: 0' ELSE 'ok: 2' END,
          a.role || ' sees what it may of the log')
FROM actor a WHERE a.privileges && '{read}' OR a.role = 'queue_tap_other';

-- doctor: for readers
SELECT matches(pg_temp.try(a.role, 'SELECT (count(*) > 5)::int FROM queue.doctor()'), CASE WHEN a.privileges && '{read}' OR a.role IN ('queue_tap_other', 'queue_tap_execute') THEN '^ok: 1$' ELSE '^42501$' END,
               a.role || ' and doctor()')
FROM actor a;

SAVEPOINT all_queues;
SELECT queue.register_sql_handler('tap_all', 'queue_tap.f');
SELECT is(pg_temp.try(r, $$SELECT count(*) FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'tap_all'$$),
          CASE r WHEN 'queue_tap_execute' THEN 'ok: 0' ELSE 'ok: 1' END, r || ' and a handler of all queues in doctor()')
FROM unnest(ARRAY['queue_tap_execute', 'queue_tap_other', 'queue_tap_read']) r;
ROLLBACK TO all_queues;

-- and what doctor() tells of a queue, its handlers and endpoints it tells who may read there, or see its numbers
SAVEPOINT ill;
UPDATE queue.queue SET dead_letter = 'tap_none' WHERE name = 'tap_q';
SELECT queue.register_sql_handler('tap_zero', 'queue_tap.f', ARRAY['tap_q'], max_running => 0);
SELECT queue.register_http_handler('tap_ill', 'http://localhost/', ARRAY['tap_q']);
UPDATE queue.endpoint SET breaker = '{"tap": 1}' WHERE url = 'http://localhost/';
SELECT queue.pause('*');
ALTER TABLE queue.privilege ENABLE TRIGGER privilege_inserted;
SELECT is(pg_temp.try(r, format('SELECT (count(*) > 0)::text FROM queue.doctor() WHERE NOT ok AND check_name = %L AND detail ~ %L', check_name, detail)),
          CASE WHEN r = 'queue_tap_read' OR check_name IN ('queue paused', 'triggers') THEN 'ok: true' ELSE 'ok: false' END,
          r || ' and what doctor() tells: ' || check_name)
FROM unnest(ARRAY['queue_tap_read', 'queue_tap_other', 'queue_tap_execute']) r,
     (VALUES ('dead letters', 'tap_q'), ('limits', 'tap_zero'), ('handler', 'tap_ill'), ('endpoint', 'tap_ill'), ('queue paused', 'all queues'),
             ('triggers', 'queue.privilege')) c (check_name, detail);
ROLLBACK TO ill;

-- tables: nobody but superusers
SELECT is(pg_temp.try(a.role, format('SELECT count(*) FROM queue.%I', t)), '42501', a.role || ' may not read table ' || t)
FROM actor a, unnest(ARRAY['queue', 'privilege', 'handler', 'endpoint', 'installation', 'line', 'live_job', 'deadline', 'finished_job', 'failure', 'log_line', 'live_job', 'finished_job_0', 'subscription', 'step', 'event', 'event_wait']) t
WHERE a.role <> 'queue_tap_super';

-- handlers run as a role that may work in the queue, and that the registrar is a member of
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_sql_handler('k', 'queue_tap.f', ARRAY['tap_q'], run_as => 'queue_tap_work')$$), '42501', 'run_as another role');
GRANT queue_tap_work TO queue_tap_manage;
SELECT matches(pg_temp.try('queue_tap_manage', $$SELECT queue.register_sql_handler('k', 'queue_tap.f', ARRAY['tap_q'], run_as => 'queue_tap_work')$$), '^ok', 'run_as a role that one is a member of');
REVOKE queue_tap_work FROM queue_tap_manage;
SELECT is(pg_temp.try('queue_tap_super', $$SELECT queue.register_sql_handler('k', 'queue_tap.f', ARRAY['tap_q', 'tap_o'], run_as => 'queue_tap_work')$$), '42501', 'run_as may not work in one of the queues');
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_sql_handler('k', 'queue_tap.f', ARRAY['tap_q', 'tap_o'])$$), '42501', 'the registrar does not manage one of the queues');
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_sql_handler('tap_super', 'queue_tap.f', ARRAY['tap_q'])$$), '42501', 'another role''s kind');
SELECT is(pg_temp.try('queue_tap_star', $$SELECT queue.register_sql_handler('tap_super', 'queue_tap.f', ARRAY['tap_q'])$$), '42501', 'another role''s kind, also with manage on *');
SELECT is(pg_temp.try('queue_tap_super', $$SELECT queue.register_sql_handler('k', 'queue_tap.f', ARRAY['tap_q'], run_as => 'queue_tap_read')$$), '42501', 'run_as a role without work there');

-- HTTP handlers: manage on each queue; endpoints by who registered it, and superusers
SELECT queue.register_http_handler('tap_http', 'http://localhost/', ARRAY['tap_q']);
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_http_handler('k', 'http://localhost/', ARRAY['tap_q', 'tap_o'])$$), '42501', 'an HTTP handler needs manage on each queue');
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_http_handler('k', 'http://localhost/')$$), '42501', 'and on * for all queues');
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_http_handler('k', 'http://localhost/', ARRAY['tap_q'], ca_file => '/x')$$), '42501', 'and for a ca_file');
SELECT is(pg_temp.try('queue_tap_manage', $$SELECT queue.register_http_handler('tap_http', 'http://localhost/', ARRAY['tap_q'])$$), '42501', 'another role''s HTTP kind');
SELECT is(pg_temp.try(r, $$SELECT queue.add_endpoint('tap_http', 'http://localhost/b')$$), '42501', r || ' may not add an endpoint to it')
FROM unnest(ARRAY['queue_tap_work', 'queue_tap_manage', 'queue_tap_star']) r;
SELECT is(pg_temp.try(r, $$SELECT queue.remove_endpoint('tap_http', 'http://localhost/')$$), '42501', r || ' may not remove one')
FROM unnest(ARRAY['queue_tap_work', 'queue_tap_manage', 'queue_tap_star']) r;
SELECT matches(pg_temp.try('queue_tap_super', $$SELECT queue.add_endpoint('tap_http', 'http://localhost/b')$$), '^ok', 'a superuser may');

-- a test runs as the handler's role only
SELECT is(pg_temp.try('queue_tap_member', format('SELECT queue.test_run(%s)', queue.enqueue('tap_super', queue => 'tap_q'))), '42501', 'test_run by another role');

-- a privilege on a queue says nothing of a superuser's SECURITY DEFINER: functions act for the current user
CREATE FUNCTION queue_tap.definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$SELECT queue.enqueue('tap_wait', queue => 'tap_q')$$;
SELECT matches(pg_temp.try('queue_tap_nobody', 'SELECT queue_tap.definer()'), '^ok', 'inside SECURITY DEFINER the definer''s privileges count');
ALTER FUNCTION queue_tap.definer() OWNER TO queue_tap_nobody;
SELECT is(pg_temp.try('queue_tap_super', 'SELECT queue_tap.definer()'), '42501', 'also when a superuser calls it');

SELECT * FROM finish();
ROLLBACK;
