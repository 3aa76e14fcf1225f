-- The schema: tables, views with their columns in order, sequence, triggers, comments, and what belongs in a dump.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL search_path = pg_catalog, public;
SELECT no_plan();

SELECT has_schema('queue'::name);
SELECT has_extension('queue'::name);
SELECT is((SELECT extrelocatable FROM pg_extension WHERE extname = 'queue'), false, 'not relocatable');
SELECT is((SELECT extversion FROM pg_extension WHERE extname = 'queue'), queue_internal.library_version(), 'SQL and library versions agree');

SELECT tables_are('queue',
    ARRAY['queue', 'privilege', 'handler', 'endpoint', 'installation', 'line', 'live_job', 'deadline', 'live_key', 'group_mark', 'finished_job', 'failure',
          'log_line', 'unique_key', 'limit_slot', 'subscription', 'step', 'event', 'event_wait',
          'dependency', 'reminder', 'workflow_base', 'workflow_job', 'workflow_end']
    || ARRAY['schedule', 'schedule_state', 'maintained']
    || ARRAY(SELECT 'finished_job_' || i FROM generate_series(0, 18) i)
    || ARRAY(SELECT 'failure_' || i FROM generate_series(0, 15) i)
    || ARRAY(SELECT 'log_line_' || i FROM generate_series(0, 15) i));
SELECT views_are('queue', ARRAY['job', 'workflow', 'workflow_edge', 'job_error', 'job_log', 'recent_job', 'history', 'stat_queue', 'stat_kind', 'stat_handler', 'stat_endpoint', 'stat_worker', 'schedule_status']);
SELECT sequences_are('queue', ARRAY['job_id', 'workflow_id', 'workflow_number', 'line_id', 'handler_id', 'subscription_id', 'event_id']);

-- live_job stays narrow: a ninth column costs every row 8 bytes
SELECT cmp_ok((SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'queue.live_job'::regclass AND attnum > 0 AND NOT attisdropped),
              '<=', 8, 'live_job has at most 8 columns');
SELECT is((SELECT count(*)::int FROM pg_index WHERE indrelid = 'queue.live_job'::regclass), 2, 'live_job has two indexes');
SELECT is((SELECT count(*)::int FROM pg_trigger WHERE tgrelid = 'queue.live_job'::regclass), 0, 'live_job has no trigger');
SELECT is((SELECT count(*)::int FROM pg_constraint WHERE conrelid = 'queue.live_job'::regclass AND contype = 'c'), 0, 'live_job has no CHECK');
SELECT col_is_pk('queue', 'line', 'id', 'a line is its id');
SELECT is((SELECT indisunique FROM pg_index WHERE indexrelid = 'queue.line_name'::regclass), false, 'a name may have several lines');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'p', 'S') AND relpersistence <> 'p'$$,
                'every table is logged');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'p') AND relreplident <> 'f'
                    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)$$,
                'rows of every table can be deleted in a publication FOR ALL TABLES');
SELECT set_eq(
    $$SELECT tgrelid::regclass::text || ' ' || tgenabled::text FROM pg_trigger WHERE tgname = 'config_changed'$$,
    ARRAY['queue.dependency A', 'queue.endpoint A', 'queue.event A', 'queue.event_wait A', 'queue.handler A', 'queue.installation A', 'queue.line A', 'queue.live_key A', 'queue.privilege A', 'queue.queue A', 'queue.schedule A', 'queue.subscription A'],
    'changes of config tables are told, also with session_replication_role = replica');

-- the views, columns and types in their order: they are only ever appended
CREATE TEMP TABLE expected_column (view text, position int, name text, type text);
INSERT INTO expected_column
SELECT v.view, c.ordinality, split_part(trim(c.col), ' ', 1), substr(trim(c.col), strpos(trim(c.col), ' ') + 1)
FROM (VALUES
    ('job', 'id bigint, queue text, kind text, state text, payload jsonb, priority integer, attempt integer, failures integer, max_attempts integer, run_at timestamp with time zone, enqueued_at timestamp with time zone, started_at timestamp with time zone, finished_at timestamp with time zone, leased_until timestamp with time zone, worker text, headers jsonb, tags text[], unique_key text, group_key text, concurrency_key text, expires_at timestamp with time zone, progress jsonb, result jsonb, last_error text, origin jsonb, workflow bigint'),
    ('workflow', 'id bigint, name text, queue text, state text, jobs bigint, unfinished bigint, completed bigint, discarded bigint, cancelled bigint, created_at timestamp with time zone, finished_at timestamp with time zone'),
    ('workflow_edge', 'workflow_id bigint, job_id bigint, ref text, kind text, state text, depends_on bigint[]'),
    ('job_error', 'job_id bigint, queue text, kind text, attempt integer, started_at timestamp with time zone, failed_at timestamp with time zone, worker text, error text, sqlstate text, http_status integer, context text'),
    ('job_log', 'job_id bigint, queue text, kind text, attempt integer, logged_at timestamp with time zone, level text, message text'),
    ('stat_queue', 'queue text, paused_at timestamp with time zone, available bigint, running bigint, retryable bigint, scheduled bigint, pending bigint, enqueued bigint, completed bigint, failed bigint, discarded bigint, cancelled bigint, oldest_run_at timestamp with time zone, stats_reset timestamp with time zone, all_paused_at timestamp with time zone'),
    ('schedule_status', 'name text, cron text, timezone text, kind text, queue text, owner name, state text, reason text, next_tick timestamp with time zone, last_tick timestamp with time zone, last_job_id bigint, missed bigint, skipped bigint'),
    ('stat_kind', 'queue text, kind text, available bigint, running bigint, retryable bigint, scheduled bigint, pending bigint, oldest_run_at timestamp with time zone, wait_ms_p50 double precision, wait_ms_p95 double precision, wait_ms_p99 double precision, run_ms_p50 double precision, run_ms_p95 double precision, run_ms_p99 double precision, completed bigint, failed bigint, discarded bigint'),
    ('stat_handler', 'kind text, type text, target text, run_as name, state text, running bigint, completed bigint, failed bigint, discarded bigint, timeouts bigint, mean_ms double precision, max_ms double precision, last_error_at timestamp with time zone, queues text[]'),
    ('stat_endpoint', 'kind text, url text, weight integer, breaker text, healthy boolean, in_flight integer, succeeded bigint, failed bigint, consecutive_failures integer, mean_ms double precision, next_probe_at timestamp with time zone, queues text[]'),
    ('history', 'queue text, minute timestamp with time zone, enqueued bigint, completed bigint, failed bigint, discarded bigint, waiting bigint, oldest_s bigint'),
    ('recent_job', 'id bigint, queue text, kind text, state text, attempt integer, enqueued_at timestamp with time zone, started_at timestamp with time zone, finished_at timestamp with time zone, worker text, error text'),
    ('stat_worker', 'pid integer, type text, database name, role name, state text, job_id bigint, kind text, started_at timestamp with time zone, jobs bigint, restarts integer, job_started_at timestamp with time zone, worker text, queue text, last_seen timestamp with time zone')
) v (view, cols), LATERAL unnest(string_to_array(v.cols, ',')) WITH ORDINALITY c (col);
SELECT is(
    (SELECT string_agg(attnum || ' ' || attname || ' ' || format_type(atttypid, atttypmod), E'\n' ORDER BY attnum) FROM pg_attribute
     WHERE attrelid = ('queue.' || v)::regclass AND attnum > 0),
    (SELECT string_agg(position || ' ' || name || ' ' || type, E'\n' ORDER BY position) FROM expected_column WHERE view = v),
    'columns of queue.' || v)
FROM unnest(ARRAY['job', 'workflow', 'workflow_edge', 'job_error', 'job_log', 'recent_job', 'history', 'stat_queue', 'stat_kind', 'stat_handler', 'stat_endpoint', 'stat_worker', 'schedule_status']) v;
SELECT is((SELECT reloptions FROM pg_class WHERE oid = ('queue.' || v)::regclass), ARRAY['security_barrier=true'],
          'queue.' || v || ' is a security barrier')
FROM unnest(ARRAY['job', 'workflow', 'workflow_edge', 'job_error', 'job_log', 'recent_job', 'history', 'stat_queue', 'stat_kind', 'stat_handler', 'stat_endpoint', 'stat_worker', 'schedule_status']) v;

-- everything that holds data belongs in a dump, whole
SELECT set_eq(
    $$SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'queue'$$,
    $$SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'p', 'S')$$,
    'every table and sequence is in the dump');
SELECT is_empty($$SELECT c FROM pg_extension, unnest(extcondition) c WHERE extname = 'queue' AND c <> ''$$, 'without a filter');

-- everything has a comment
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND obj_description(oid, 'pg_proc') IS NULL$$,
                'every function has a comment');
SELECT is_empty($$SELECT oid::regclass FROM pg_class WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('v', 'p', 'S')
                  AND obj_description(oid, 'pg_class') IS NULL$$, 'every view has a comment');
SELECT is_empty($$SELECT oid::regclass FROM pg_class WHERE relnamespace = 'queue'::regnamespace AND relkind = 'r'
                  AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = pg_class.oid)
                  AND obj_description(oid, 'pg_class') IS NULL$$, 'every table has a comment');
SELECT is_empty($$SELECT attname FROM pg_attribute WHERE attrelid = 'queue.job'::regclass AND attnum > 0
                  AND col_description(attrelid, attnum) IS NULL$$, 'every column of queue.job has a comment');
SELECT matches(obj_description('queue.fetch'::regproc, 'pg_proc'), 'WHERE and LIMIT around a fetch apply after the claim',
               'the comment on fetch says what WHERE does');

-- nothing of the schema lies outside the extension
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc p WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND NOT EXISTS
                  (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')$$,
                'every function belongs to the extension');

SELECT * FROM finish();
ROLLBACK;
