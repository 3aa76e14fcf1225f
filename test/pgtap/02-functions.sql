-- Every public function of the contract: name, arguments with their defaults, result; none more, none twice.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL search_path = pg_catalog, public;
-- the defaults are printed in it
SET LOCAL IntervalStyle = postgres;
SELECT no_plan();

CREATE TEMP TABLE expected (name text, arguments text, result text);
INSERT INTO expected VALUES
    ('add_endpoint', 'kind text, url text, weight integer DEFAULT 1, max_running integer DEFAULT NULL::integer, health_url text DEFAULT NULL::text, breaker jsonb DEFAULT NULL::jsonb, queue text DEFAULT NULL::text', 'void'),
    ('adopt', '', 'void'),
    ('alter_job', 'job_id bigint, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer, payload jsonb DEFAULT NULL::jsonb, timeout interval DEFAULT NULL::interval, tags text[] DEFAULT NULL::text[], headers jsonb DEFAULT NULL::jsonb, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, reset text[] DEFAULT NULL::text[]', 'boolean'),
    ('alter_queue', 'name text, max_attempts integer DEFAULT NULL::integer, lease interval DEFAULT NULL::interval, backoff jsonb DEFAULT NULL::jsonb, max_running integer DEFAULT NULL::integer, max_running_per_key integer DEFAULT NULL::integer, rate_limit integer DEFAULT NULL::integer, rate_period interval DEFAULT NULL::interval, reserved jsonb DEFAULT NULL::jsonb, dead_letter text DEFAULT NULL::text, keep_completed interval DEFAULT NULL::interval, keep_discarded interval DEFAULT NULL::interval, rate_limit_per_key integer DEFAULT NULL::integer, fair integer DEFAULT NULL::integer, ageing interval DEFAULT NULL::interval, on_group_discard text DEFAULT NULL::text, on_discarded text DEFAULT NULL::text, description text DEFAULT NULL::text, reset text[] DEFAULT NULL::text[]', 'void'),
    ('await_idle', 'IN queue text, IN wait interval DEFAULT ''00:01:00''::interval, INOUT idle boolean DEFAULT NULL::boolean', ''),
    ('await', 'IN queues text[], IN wait interval DEFAULT ''00:01:00''::interval, IN kinds text[] DEFAULT NULL::text[], INOUT ready boolean DEFAULT NULL::boolean', ''),
    ('cancel', 'job_id bigint, reason text DEFAULT NULL::text', 'boolean'),
    ('cancel_jobs', 'filter jsonb, reason text DEFAULT NULL::text, qty bigint DEFAULT NULL::bigint', 'bigint'),
    ('delete_jobs', 'filter jsonb, qty bigint DEFAULT NULL::bigint', 'bigint'),
    ('discard_jobs', 'filter jsonb, reason text DEFAULT NULL::text, qty bigint DEFAULT NULL::bigint', 'bigint'),
    ('find_jobs', 'filter jsonb DEFAULT ''{}''::jsonb, qty bigint DEFAULT 100, after_id bigint DEFAULT NULL::bigint, before_id bigint DEFAULT NULL::bigint', 'SETOF queue.job'),
    ('move_jobs', 'filter jsonb, queue text DEFAULT NULL::text, kind text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, qty bigint DEFAULT NULL::bigint', 'bigint'),
    ('retry_jobs', 'filter jsonb, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, qty bigint DEFAULT NULL::bigint', 'bigint'),
    ('complete', 'job_id bigint, attempt bigint DEFAULT NULL::bigint, result jsonb DEFAULT NULL::jsonb', 'boolean'),
    ('complete_many', 'job_ids bigint[], attempts integer[] DEFAULT NULL::integer[]', 'SETOF bigint'),
    ('create_queue', 'name text, max_attempts integer DEFAULT 25, lease interval DEFAULT ''00:05:00''::interval, backoff jsonb DEFAULT NULL::jsonb, max_running integer DEFAULT NULL::integer, max_running_per_key integer DEFAULT NULL::integer, rate_limit integer DEFAULT NULL::integer, rate_period interval DEFAULT ''00:00:01''::interval, reserved jsonb DEFAULT NULL::jsonb, dead_letter text DEFAULT NULL::text, keep_completed interval DEFAULT ''00:00:00''::interval, keep_discarded interval DEFAULT ''30 days''::interval, rate_limit_per_key integer DEFAULT NULL::integer, fair integer DEFAULT NULL::integer, ageing interval DEFAULT NULL::interval, on_group_discard text DEFAULT ''continue''::text, on_discarded text DEFAULT NULL::text, description text DEFAULT NULL::text, if_not_exists boolean DEFAULT false', 'void'),
    ('current_job', '', 'queue.job'),
    ('discard', 'job_id bigint, reason text DEFAULT NULL::text', 'boolean'),
    ('doctor', '', 'TABLE(check_name text, ok boolean, detail text, hint text)'),
    ('drop_queue', 'name text, force boolean DEFAULT false', 'void'),
    ('enqueue', 'kind text, payload jsonb DEFAULT ''{}''::jsonb, queue text DEFAULT ''default''::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay interval DEFAULT NULL::interval, max_attempts integer DEFAULT NULL::integer, timeout interval DEFAULT NULL::interval, unique_key text DEFAULT NULL::text, on_conflict text DEFAULT ''ignore''::text, unique_for interval DEFAULT NULL::interval, group_key text DEFAULT NULL::text, concurrency_key text DEFAULT NULL::text, depends_on bigint[] DEFAULT NULL::bigint[], depends_mode text DEFAULT ''completed''::text, compensate_with text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, headers jsonb DEFAULT NULL::jsonb, tags text[] DEFAULT NULL::text[], workflow bigint DEFAULT NULL::bigint, backoff jsonb DEFAULT NULL::jsonb', 'bigint'),
    ('enqueue_unique', 'kind text, unique_key text, payload jsonb DEFAULT ''{}''::jsonb, options jsonb DEFAULT NULL::jsonb', 'TABLE(job_id bigint, outcome text)'),
    ('key_of', 'payload jsonb, fields text[] DEFAULT NULL::text[], period interval DEFAULT NULL::interval', 'text'),
    ('enqueue_json', 'job text', 'bigint'),
    ('enqueue_json_many', 'jobs text', 'SETOF bigint'),
    ('enqueue_many', 'kind text, payloads jsonb[], queue text DEFAULT ''default''::text, priority integer DEFAULT 0, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone', 'SETOF bigint'),
    ('explain_job', 'job_id bigint', 'text'),
    ('fail', 'job_id bigint, attempt bigint DEFAULT NULL::bigint, error text DEFAULT NULL::text, retry_in interval DEFAULT NULL::interval, discard boolean DEFAULT false', 'text'),
    ('fetch', 'queue text, qty bigint DEFAULT 1, lease interval DEFAULT NULL::interval, wait interval DEFAULT ''00:00:00''::interval, worker text DEFAULT NULL::text, kinds text[] DEFAULT NULL::text[], claim text DEFAULT ''lease''::text, complete_ids bigint[] DEFAULT NULL::bigint[], complete_attempts integer[] DEFAULT NULL::integer[]', 'SETOF queue.job'),
    ('fetch_any', 'queues text[], qty bigint DEFAULT 1, lease interval DEFAULT NULL::interval, wait interval DEFAULT ''00:00:00''::interval, worker text DEFAULT NULL::text, kinds text[] DEFAULT NULL::text[], claim text DEFAULT ''lease''::text, complete_ids bigint[] DEFAULT NULL::bigint[], complete_attempts integer[] DEFAULT NULL::integer[]', 'SETOF queue.job'),
    ('grant_queue', 'queue text, role name, privilege text DEFAULT ''enqueue''::text', 'void'),
    ('heartbeat', 'job_id bigint, lease interval DEFAULT NULL::interval, attempt bigint DEFAULT NULL::bigint', 'timestamp with time zone'),
    ('heartbeat_many', 'job_ids bigint[], lease interval DEFAULT NULL::interval, attempts integer[] DEFAULT NULL::integer[]', 'SETOF bigint'),
    ('log', 'message text, level text DEFAULT ''info''::text, job_id bigint DEFAULT NULL::bigint, attempt bigint DEFAULT NULL::bigint', 'void'),
    ('maintain', '', 'void'),
    ('pause', 'queue text', 'void'),
    ('pause_handler', 'kind text, queue text DEFAULT NULL::text', 'void'),
    ('pause_schedule', 'name text', 'void'),
    ('progress', 'job_id bigint, value jsonb, attempt bigint DEFAULT NULL::bigint', 'boolean'),
    ('publish', 'topic text, payload jsonb DEFAULT ''{}''::jsonb, headers jsonb DEFAULT NULL::jsonb', 'SETOF bigint'),
    ('purge', 'queue text', 'bigint'),
    ('redrive', 'queue text, qty bigint DEFAULT NULL::bigint', 'bigint'),
    ('register_http_handler', 'kind text, url text, queues text[] DEFAULT NULL::text[], method text DEFAULT ''POST''::text, headers jsonb DEFAULT NULL::jsonb, timeout interval DEFAULT ''00:00:30''::interval, connect_timeout interval DEFAULT ''00:00:05''::interval, max_attempts integer DEFAULT NULL::integer, backoff jsonb DEFAULT NULL::jsonb, max_running integer DEFAULT 100, rate_limit integer DEFAULT NULL::integer, rate_period interval DEFAULT ''00:00:01''::interval, secret text DEFAULT NULL::text, complete_on text[] DEFAULT ''{200-299}''::text[], discard_on text[] DEFAULT ''{410}''::text[], health_url text DEFAULT NULL::text, health_timeout interval DEFAULT ''00:01:00''::interval, ca_file text DEFAULT NULL::text, breaker jsonb DEFAULT NULL::jsonb, body text DEFAULT ''payload''::text', 'void'),
    ('alter_http_handler', 'kind text, queue text DEFAULT NULL::text, url text DEFAULT NULL::text, queues text[] DEFAULT NULL::text[], method text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb, timeout interval DEFAULT NULL::interval, connect_timeout interval DEFAULT NULL::interval, max_attempts integer DEFAULT NULL::integer, backoff jsonb DEFAULT NULL::jsonb, max_running integer DEFAULT NULL::integer, rate_limit integer DEFAULT NULL::integer, rate_period interval DEFAULT NULL::interval, complete_on text[] DEFAULT NULL::text[], discard_on text[] DEFAULT NULL::text[], health_url text DEFAULT NULL::text, health_timeout interval DEFAULT NULL::interval, ca_file text DEFAULT NULL::text, breaker jsonb DEFAULT NULL::jsonb, body text DEFAULT NULL::text, secrets text[] DEFAULT NULL::text[], reset text[] DEFAULT NULL::text[]', 'void'),
    ('register_sql_handler', 'kind text, function text, queues text[] DEFAULT NULL::text[], timeout interval DEFAULT NULL::interval, max_attempts integer DEFAULT NULL::integer, backoff jsonb DEFAULT NULL::jsonb, max_running integer DEFAULT NULL::integer, rate_limit integer DEFAULT NULL::integer, rate_period interval DEFAULT ''00:00:01''::interval, run_as name DEFAULT NULL::name', 'void'),
    ('release', 'job_id bigint, attempt bigint DEFAULT NULL::bigint', 'boolean'),
    ('release_many', 'job_ids bigint[], attempts integer[] DEFAULT NULL::integer[]', 'SETOF bigint'),
    ('remove_endpoint', 'kind text, url text, queue text DEFAULT NULL::text', 'void'),
    ('result', 'job_id bigint, wait interval DEFAULT ''00:00:00''::interval', 'jsonb'),
    ('resume', 'queue text', 'void'),
    ('resume_handler', 'kind text, queue text DEFAULT NULL::text', 'void'),
    ('resume_schedule', 'name text', 'void'),
    ('retry', 'job_id bigint, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone', 'boolean'),
    ('revoke_queue', 'queue text, role name, privilege text DEFAULT NULL::text', 'void'),
    ('emit', 'event text, payload jsonb DEFAULT ''{}''::jsonb, queue text DEFAULT ''default''::text', 'boolean'),
    ('await_event', 'job_id bigint, event text, timeout interval DEFAULT NULL::interval, attempt bigint DEFAULT NULL::bigint', 'TABLE(status text, payload jsonb)'),
    ('create_workflow', 'name text DEFAULT NULL::text, queue text DEFAULT ''default''::text, on_finished text DEFAULT NULL::text, on_completed text DEFAULT NULL::text, on_discarded text DEFAULT NULL::text, payload jsonb DEFAULT ''{}''::jsonb', 'bigint'),
    ('close_workflow', 'workflow_id bigint', 'void'),
    ('enqueue_workflow', 'jobs jsonb, name text DEFAULT NULL::text, queue text DEFAULT ''default''::text, on_finished text DEFAULT NULL::text, on_completed text DEFAULT NULL::text, on_discarded text DEFAULT NULL::text, payload jsonb DEFAULT ''{}''::jsonb', 'TABLE(workflow_id bigint, ref text, job_id bigint)'),
    ('cancel_workflow', 'workflow_id bigint, reason text DEFAULT NULL::text', 'bigint'),
    ('retry_workflow', 'workflow_id bigint', 'bigint'),
    ('dependency_results', 'job_id bigint', 'jsonb'),
    ('save_step', 'job_id bigint, name text, value jsonb DEFAULT ''null''::jsonb, attempt bigint DEFAULT NULL::bigint', 'jsonb'),
    ('steps', 'job_id bigint', 'jsonb'),
    ('schedule', 'name text, cron text, kind text, payload jsonb DEFAULT ''{}''::jsonb, queue text DEFAULT ''default''::text, priority integer DEFAULT 0, timezone text DEFAULT ''UTC''::text, options jsonb DEFAULT NULL::jsonb, overlap text DEFAULT ''allow''::text, catch_up interval DEFAULT ''00:10:00''::interval', 'void'),
    ('run_schedule', 'name text', 'bigint'),
    ('next_ticks', 'cron text, timezone text DEFAULT ''UTC''::text, qty bigint DEFAULT 5, after timestamp with time zone DEFAULT NULL::timestamp with time zone', 'SETOF timestamp with time zone'),
    ('tick', '', 'bigint'),
    ('snooze', 'job_id bigint, delay interval, attempt bigint DEFAULT NULL::bigint', 'boolean'),
    ('subscribe', 'topic text, kind text, queue text DEFAULT ''default''::text, filter jsonpath DEFAULT NULL::jsonpath', 'bigint'),
    ('test_drain', 'queue text DEFAULT ''default''::text, with_retries boolean DEFAULT false, with_scheduled boolean DEFAULT false', 'TABLE(job_id bigint, state text, error text)'),
    ('test_run', 'job_id bigint, raise_error boolean DEFAULT true', 'text'),
    ('unregister_handler', 'kind text, queue text DEFAULT NULL::text', 'void'),
    ('metrics', '', 'text'),
    ('stat_reset', 'queue text DEFAULT NULL::text', 'void'),
    ('unschedule', 'name text', 'boolean'),
    ('unsubscribe', 'subscription_id bigint', 'boolean'),
    ('wait_for', 'job_id bigint, wait interval DEFAULT ''00:00:30''::interval', 'text')
;
CREATE TEMP TABLE internal AS
SELECT unnest(ARRAY['config_changed', 'privilege_inserted', 'role_name_in', 'role_name_out', 'library_version', 'preload_notice', 'execute', 'may_read', 'clock', 'job_state', 'job_time', 'job_max_attempts', 'job_tags', 'job_attempt', 'job_started_at', 'job_worker', 'job_progress', 'stat_queue_rows', 'stat_handler_rows',
                    'stat_endpoint_rows', 'stat_worker_rows', 'stat_kind_rows', 'history_rows', 'recent_job_rows', 'schedule_status_rows']) AS name;

SELECT results_eq(
    format($$SELECT pg_get_function_arguments(oid), coalesce(pg_get_function_result(oid), '') FROM pg_proc
             WHERE pronamespace = 'queue'::regnamespace AND proname = %L$$, name),
    format($$SELECT arguments, result FROM expected WHERE name = %L$$, name),
    'signature of queue.' || name)
FROM expected ORDER BY name;

SELECT set_eq(
    $$SELECT proname::text FROM pg_proc WHERE pronamespace = 'queue'::regnamespace$$,
    $$SELECT name FROM expected$$,
    'no function but those of the contract');
SELECT set_eq(
    $$SELECT proname::text FROM pg_proc WHERE pronamespace = 'queue_internal'::regnamespace$$,
    $$SELECT name FROM internal$$,
    'internal ones in a schema of their own');
SELECT is_empty($$SELECT proname, a.name FROM pg_proc, unnest(proargnames, proargtypes::oid[]) a (name, type)
                  WHERE pronamespace = 'queue'::regnamespace AND a.name IN ('attempt', 'qty', 'job_id') AND a.type <> 'int8'::regtype$$,
                'a single attempt, qty or job_id is bigint, so that what drivers send as an integer fits');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace = 'queue'::regnamespace GROUP BY 1 HAVING count(*) > 1$$,
                'no two functions share a name');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND prosecdef$$,
                'none is SECURITY DEFINER');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
                  AND proname <> ALL ('{role_name_in,role_name_out,job_state,job_time,job_max_attempts,job_tags,job_attempt,job_started_at,job_worker,job_progress}') AND (proparallel <> 'u' OR provolatile <> 'v' OR proisstrict)$$,
                'all are VOLATILE, PARALLEL UNSAFE and check nulls themselves');
SELECT is((SELECT prokind::text FROM pg_proc WHERE oid = 'queue.await'::regproc), 'p', 'await is a procedure');

SELECT throws_ok($$CALL queue.await_idle('default')$$, '25001', NULL, 'nor can await_idle');
SELECT throws_ok($$CALL queue.await(ARRAY['default'])$$, '25001', NULL, 'await cannot run in a transaction block');
SELECT lives_ok(format('SELECT queue.fetch(''default'', kinds => ''{tap_none}'', %s)', option), 'fetch ' || option)
FROM unnest(ARRAY['wait => ''10 ms''', 'claim => ''session''', 'complete_ids => ''{1}''']) option;

-- each says so, too, where there is nothing to complain of
SELECT set_eq('SELECT check_name FROM queue.doctor()', string_to_array(
    'preload, version, recovery, enabled, database, executors, launcher, scheduler, chores, ' ||
    'http worker, worker slots, lines, statistics, history, recent jobs, replica role, table privileges, triggers, sequences, queue paused, limits, ' ||
    'circuit breaker, http places, shares of executors, kind without handler, groups on hold, subscriptions, workflows, backlog, long run, search_path, refused claims, clock, schedule', ', '), 'what doctor() looks at');

SELECT * FROM finish();
ROLLBACK;
