-- PUBLIC has nothing, and tables are writable by nobody but the owner, whatever was granted.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL search_path = pg_catalog, public;
SELECT no_plan();

CREATE ROLE queue_tap_nobody LOGIN;
CREATE ROLE queue_tap_everything LOGIN;
SELECT queue.grant_queue('*', 'queue_tap_everything', 'manage');

SELECT ok(NOT has_schema_privilege('queue_tap_nobody', 'queue', 'USAGE'), 'no USAGE on the schema');
SELECT ok(NOT has_schema_privilege('queue_tap_everything', 'queue_internal', 'USAGE, CREATE'), 'nor on the internal one, ever');
SELECT ok(NOT has_schema_privilege('queue_tap_everything', 'queue', 'CREATE'), 'nobody may create in the schema');
SELECT set_eq(
    $$SELECT proname::text FROM pg_proc p WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
      AND has_function_privilege('queue_tap_nobody', p.oid, 'EXECUTE')$$,
    ARRAY['current_job', 'may_read'],
    'PUBLIC may execute only what answers about oneself');
SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'p', 'v')
      AND has_table_privilege('queue_tap_nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')$$,
    'PUBLIC may not touch a table or view');
SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'p')
      AND has_table_privilege('queue_tap_everything', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')$$,
    'manage on * gives no right on a table');
SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'queue'::regnamespace AND relkind = 'v'
      AND has_table_privilege('queue_tap_everything', c.oid, 'INSERT, UPDATE, DELETE')$$,
    'views are not writable');
SELECT ok(NOT has_sequence_privilege('queue_tap_everything', 'queue.job_id', 'SELECT, UPDATE, USAGE'), 'nor is the sequence usable');

-- after the last privilege is revoked nothing is left
SELECT queue.create_queue('queue_tap_a');
SELECT queue.grant_queue('queue_tap_a', 'queue_tap_nobody', p) FROM unnest(ARRAY['enqueue', 'work', 'read', 'manage']) p;
SELECT ok(has_schema_privilege('queue_tap_nobody', 'queue', 'USAGE'), 'grant_queue gives USAGE');
SELECT queue.revoke_queue('queue_tap_a', 'queue_tap_nobody');
SELECT ok(NOT has_schema_privilege('queue_tap_nobody', 'queue', 'USAGE'), 'revoke_queue takes USAGE');
SELECT set_eq(
    $$SELECT proname::text FROM pg_proc p WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
      AND has_function_privilege('queue_tap_nobody', p.oid, 'EXECUTE')$$,
    ARRAY['current_job', 'may_read'],
    'and every function');
SELECT is_empty(
    $$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'queue'::regnamespace
      AND relkind = 'v' AND has_table_privilege('queue_tap_nobody', c.oid, 'SELECT')$$, 'and every view');

-- one of two is revoked: what the other needs stays
SELECT queue.create_queue('queue_tap_b');
SELECT queue.grant_queue('queue_tap_a', 'queue_tap_nobody', 'read');
SELECT queue.grant_queue('queue_tap_b', 'queue_tap_nobody', 'manage');
SELECT queue.revoke_queue('queue_tap_b', 'queue_tap_nobody', 'manage');
SELECT ok(has_function_privilege('queue_tap_nobody', 'queue.explain_job(bigint)', 'EXECUTE'), 'read elsewhere keeps explain_job');
SELECT ok(has_table_privilege('queue_tap_nobody', 'queue.job', 'SELECT'), 'and the view');
SELECT ok(NOT has_function_privilege('queue_tap_nobody', 'queue.cancel(bigint, text)', 'EXECUTE'), 'but not cancel');

-- bad arguments
SELECT throws_ok($$SELECT queue.grant_queue('queue_tap_none', 'queue_tap_nobody')$$, '42704', NULL, 'grant on an unknown queue');
SELECT throws_ok($$SELECT queue.grant_queue('default', 'queue_tap_norole')$$, '42704', NULL, 'grant to an unknown role');
SELECT throws_ok($$SELECT queue.grant_queue('default', 'public')$$, '42704', NULL, 'grant to public');
SELECT throws_ok($$SELECT queue.grant_queue('default', 'queue_tap_nobody', 'everything')$$, '22023', NULL, 'unknown privilege');
SELECT throws_ok($$SELECT queue.revoke_queue('default', 'queue_tap_nobody', 'everything')$$, '22023', NULL, 'revoke an unknown privilege');
SELECT throws_ok($$SELECT queue.grant_queue(NULL, 'queue_tap_nobody')$$, '22004', NULL, 'null queue');
SELECT throws_ok($$SELECT queue.grant_queue('default', NULL)$$, '22004', NULL, 'null role');

-- names that need quoting
CREATE ROLE "queue_tap ""odd""; DROP" LOGIN;
SELECT lives_ok($$SELECT queue.grant_queue('default', 'queue_tap "odd"; DROP', 'read')$$, 'a role name with quotes');
SELECT ok(has_function_privilege('queue_tap "odd"; DROP', 'queue.explain_job(bigint)', 'EXECUTE'), 'has its grant');
SELECT lives_ok($$SELECT queue.create_queue('qu"eue ''ü'' %s')$$, 'a queue name with quotes');
SELECT lives_ok($$SELECT queue.grant_queue('qu"eue ''ü'' %s', 'queue_tap_nobody', 'enqueue')$$, 'and a grant on it');

SELECT * FROM finish();
ROLLBACK;
