-- The extension comes, goes and comes back; facts of the catalog that everything else leans on.
CREATE EXTENSION queue;

SELECT e.extname, e.extversion, e.extrelocatable, n.nspname
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'queue';

-- no two public functions share a name: drivers send untyped parameters
SELECT proname, count(*) FROM pg_proc
 WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
 GROUP BY proname HAVING count(*) > 1;

-- nothing is SECURITY DEFINER, nothing is parallel safe that writes, everything is told of
SELECT proname FROM pg_proc
 WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND prosecdef;
SELECT proname FROM pg_proc
 WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND proparallel <> 'u' ORDER BY 1;
SELECT proname FROM pg_proc
 WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND obj_description(oid, 'pg_proc') IS NULL ORDER BY 1;

-- PUBLIC: no USAGE on the schema, no table, and only functions that answer about oneself
SELECT has_schema_privilege('public', 'queue', 'USAGE') AS usage,
       has_schema_privilege('public', 'queue', 'CREATE') AS create;
SELECT relname FROM pg_class
 WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'v', 'p', 'S')
   AND CASE relkind WHEN 'S' THEN has_sequence_privilege('public', oid, 'USAGE, SELECT, UPDATE')
       ELSE has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') END;
SELECT proname FROM pg_proc
 WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND has_function_privilege('public', oid, 'EXECUTE') ORDER BY 1;

-- the job tables are logged; the narrow row; its indexes
SELECT relname FROM pg_class
 WHERE relnamespace = 'queue'::regnamespace AND relkind IN ('r', 'i', 'S') AND relpersistence <> 'p';
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
 WHERE attrelid = 'queue.live_job'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT indexrelid::regclass, indisunique FROM pg_index
 WHERE indrelid = 'queue.live_job'::regclass ORDER BY indexrelid::regclass::text;

-- what the views are: a reader's own functions must not see other readers' rows
SELECT relname, 'security_barrier=true' = ANY (reloptions) AS security_barrier FROM pg_class
 WHERE relnamespace = 'queue'::regnamespace AND relkind = 'v'
   AND relname IN ('job', 'job_error') ORDER BY 1;

-- jobs and configuration belong in a dump, empty at first
SELECT c.relname FROM pg_extension e, unnest(e.extconfig) o JOIN pg_class c ON c.oid = o
 WHERE e.extname = 'queue' AND c.relname !~ '_\d+$' ORDER BY 1;
SELECT (SELECT count(*) FROM queue.live_job) AS jobs, (SELECT count(*) FROM queue.queue) AS queues,
       (SELECT count(*) FROM queue.handler) AS handlers, (SELECT count(*) FROM queue.line) AS lines;

-- a user's function of a job goes with the extension
CREATE FUNCTION regress_of_job(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.enqueue('k', '{"n": 1}') IS NOT NULL AS enqueued;
DROP EXTENSION queue;
SELECT payload FROM queue.fetch('default');
SET client_min_messages = warning;
DROP EXTENSION queue CASCADE;
RESET client_min_messages;
SELECT count(*) FROM pg_proc WHERE proname = 'regress_of_job';
SELECT count(*) FROM pg_namespace WHERE nspname = 'queue';
SELECT queue.enqueue('k');

-- created, and dropped, in transactions that roll back
BEGIN;
CREATE EXTENSION queue;
SELECT queue.enqueue('k', '{"n": 2}') IS NOT NULL AS enqueued;
SELECT payload FROM queue.fetch('default');
ROLLBACK;
SELECT count(*) FROM pg_extension WHERE extname = 'queue';

CREATE EXTENSION queue;
SELECT queue.create_queue('kept');
SELECT queue.enqueue('k', '{"n": 3}', 'kept') IS NOT NULL AS enqueued;
BEGIN;
DROP EXTENSION queue CASCADE;
SELECT queue.enqueue('k');
ROLLBACK;
SELECT payload, attempt FROM queue.fetch('kept');

-- and both in one
BEGIN;
DROP EXTENSION queue;
CREATE EXTENSION queue;
SELECT queue.enqueue('k', '{"n": 4}', 'kept');
ROLLBACK;
BEGIN;
DROP EXTENSION queue;
CREATE EXTENSION queue;
SELECT queue.enqueue('k', '{"n": 5}') IS NOT NULL AS enqueued;
COMMIT;
SELECT payload, attempt FROM queue.fetch('default', 10);
SELECT queue, payload FROM queue.job;

-- it lives in its own schema and nowhere else
DROP EXTENSION queue;
CREATE SCHEMA elsewhere;
\set VERBOSITY sqlstate
CREATE EXTENSION queue SCHEMA elsewhere;
\set VERBOSITY default
DROP SCHEMA elsewhere;

-- what the installer's ALTER DEFAULT PRIVILEGES gives is taken back, and doctor() tells who reaches the tables
-- each kind of object to a role of its own, which has nothing else
CREATE ROLE regress_queue_open;
CREATE ROLE regress_queue_calls;
CREATE ROLE regress_queue_types;
CREATE ROLE regress_queue_enters;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_queue_open, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_queue_open, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_queue_calls;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_queue_types;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_queue_enters, PUBLIC;
CREATE EXTENSION queue;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_queue_open, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_queue_open, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_queue_calls;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM regress_queue_types;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM regress_queue_enters, PUBLIC;
SELECT o.what, a.grantee::regrole, a.privilege_type
  FROM (SELECT relname, relacl, relowner FROM pg_class WHERE relnamespace = 'queue'::regnamespace
        UNION ALL SELECT proname, proacl, proowner FROM pg_proc WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
        UNION ALL SELECT typname, typacl, typowner FROM pg_type WHERE typnamespace = 'queue'::regnamespace
        UNION ALL SELECT nspname, nspacl, nspowner FROM pg_namespace WHERE nspname IN ('queue', 'queue_internal')) o (what, acl, owner), aclexplode(o.acl) a
 WHERE a.grantee <> o.owner ORDER BY 1;
SELECT ok, detail FROM queue.doctor() WHERE check_name = 'table privileges';
GRANT SELECT (secrets) ON queue.handler TO regress_queue_open;
GRANT USAGE ON SEQUENCE queue.job_id TO PUBLIC;
SELECT ok, detail, hint FROM queue.doctor() WHERE check_name = 'table privileges';
DROP EXTENSION queue;
DROP ROLE regress_queue_open, regress_queue_calls, regress_queue_types, regress_queue_enters;
