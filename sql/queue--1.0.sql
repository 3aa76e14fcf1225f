/*
 * queue 1.0: schema, tables, views and functions.
 *
 * Run by CREATE EXTENSION only.  What the objects mean is told by their comments and by
 * README.md; how they are laid out and why, by src/README.md.
 *
 * Two rules of this file: it inserts nothing into a table that pg_dump copies (a restore
 * would collide), and PUBLIC gets nothing but what answers about oneself only.
 */
\echo Use "CREATE EXTENSION queue" to load this file. \quit

CREATE SCHEMA queue;
COMMENT ON SCHEMA queue IS 'job queue: functions to enqueue, fetch and manage jobs, views to look at them; queue.grant_queue gives access';

-- Functions behind triggers, views and the type of a column: users do not call them, so \df queue.* does not list them.
-- Who reads a view needs EXECUTE on what it calls, and no USAGE on the schema.
CREATE SCHEMA queue_internal;
COMMENT ON SCHEMA queue_internal IS 'functions behind the views and triggers of schema queue; not to be called';

CREATE FUNCTION queue_internal.execute(statement text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_execute';
COMMENT ON FUNCTION queue_internal.execute IS
    'internal: a statement that this script makes, because the database may be without PL/pgSQL';

-- ---------------------------------------------------------------------------
-- Tables: readable and writable by nobody but the extension's owner; users read the views.
-- ---------------------------------------------------------------------------
-- First, because DROP EXTENSION locks in the order of pg_depend's rows, which is this one unless there was room in pages
-- before: it then waits for who works with jobs before it holds anything that they may need.  Where the library is loaded
-- it locks with more care (server/ddl_hook.c).
CREATE TABLE queue.live_job (
    id            bigint NOT NULL,
    run_at        timestamptz NOT NULL,
    line          bigint NOT NULL,
    leased_until  timestamptz,
    attempt       int,          -- NULL: 0
    failures      int,          -- NULL: 0
    extra         jsonb,        -- rare things by name: job.h QueueExtra
    payload       jsonb NOT NULL    -- last, so that a claim's WAL leaves it out (job.c)
) WITH (fillfactor = 90, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_insert_threshold = 100000, autovacuum_analyze_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
        vacuum_truncate = off);
-- Both indexes grow at their right end: full pages there halve the WAL of a split.
ALTER TABLE queue.live_job ADD CONSTRAINT live_job_pkey PRIMARY KEY (id) WITH (fillfactor = 100);
CREATE INDEX live_job_ready ON queue.live_job (line, run_at, id) WITH (fillfactor = 100);
CREATE TABLE queue.queue (
    name            text COLLATE "C" NOT NULL PRIMARY KEY,
    max_attempts    int NOT NULL DEFAULT 25,
    lease           interval NOT NULL DEFAULT '5 min',
    backoff         jsonb,
    keep_completed  interval NOT NULL DEFAULT '0',
    keep_discarded  interval NOT NULL DEFAULT '30 days',
    rekept_at       timestamptz,          -- when one of these was changed while rows were kept
    on_group_discard text COLLATE "C" NOT NULL DEFAULT 'continue',
    paused_at       timestamptz,
    description     text,
    max_running     int,
    max_running_per_key int,
    rate_limit      int,
    rate_limit_per_key  int,
    reserved        jsonb,
    fair            int,                  -- jobs of a turn
    ageing          interval,
    rate_period     interval NOT NULL DEFAULT '1 s',
    limited_at      timestamptz,        -- since when it has a limit for which claims are counted
    dead_letter     text COLLATE "C",     -- gets copies of discarded jobs; may name a queue that is gone
    on_discarded    text COLLATE "C"      -- the kind of the job that each discarded one makes
);
CREATE INDEX queue_dead_letter ON queue.queue (dead_letter) WHERE dead_letter IS NOT NULL;  -- the view queue.job asks
-- A role, kept as its OID and written as its name: a dump carries names. One that does not exist reads as 0.
CREATE TYPE queue.role_name;
CREATE FUNCTION queue_internal.role_name_in(cstring) RETURNS queue.role_name
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_role_name_in';
CREATE FUNCTION queue_internal.role_name_out(queue.role_name) RETURNS cstring
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_role_name_out';
CREATE TYPE queue.role_name (INPUT = queue_internal.role_name_in, OUTPUT = queue_internal.role_name_out, LIKE = oid);
CREATE CAST (queue.role_name AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS queue.role_name) WITHOUT FUNCTION;
COMMENT ON TYPE queue.role_name IS 'internal: a role, kept as its OID and written as its name';
COMMENT ON FUNCTION queue_internal.role_name_in IS 'internal: input of queue.role_name';
COMMENT ON FUNCTION queue_internal.role_name_out IS 'internal: output of queue.role_name';

CREATE TABLE queue.privilege (          -- queue '*': all queues
    queue      text COLLATE "C" NOT NULL,
    role       queue.role_name NOT NULL,
    privilege  text COLLATE "C" NOT NULL,     -- enqueue | work | read | manage
    PRIMARY KEY (queue, role, privilege)
);
CREATE SEQUENCE queue.handler_id AS bigint;         -- of handlers and endpoints
CREATE TABLE queue.handler (
    id                 bigint NOT NULL PRIMARY KEY,
    kind               text COLLATE "C" NOT NULL,         -- '*': kinds that have none in the queue
    type               text COLLATE "C" NOT NULL,         -- sql | http
    function_schema    name,
    function_name      name,
    function_argument  text COLLATE "C",                  -- 'queue.job' | 'jsonb'
    function_owner     name,
    queues             text[] COLLATE "C",                -- NULL: where no other handler of the kind is named
    timeout            interval,
    max_attempts       int,
    backoff            jsonb,
    run_as             name NOT NULL,                     -- http: who registered it
    registered_by      name NOT NULL,
    paused_at          timestamptz,
    system_identifier  bigint NOT NULL,
    database_oid       oid NOT NULL,
    max_running        int,
    rate_limit         int,
    rate_period        interval NOT NULL DEFAULT '1 s',
    limited_at         timestamptz NOT NULL DEFAULT clock_timestamp(),    -- since when claims are counted for max_running
    method             text COLLATE "C",                  -- from here on: http only
    headers            jsonb,
    connect_timeout    interval,
    secrets            text[],
    complete_on        text[] COLLATE "C",
    discard_on         text[] COLLATE "C",
    health_timeout     interval,
    ca_file            text,
    breaker            jsonb,                             -- of endpoints that have none of their own
    body               text COLLATE "C"                   -- what is sent: payload | job
);
CREATE INDEX handler_kind ON queue.handler (kind);
CREATE TABLE queue.endpoint (
    id                 bigint NOT NULL,
    handler            bigint NOT NULL,
    url                text COLLATE "C" NOT NULL,
    weight             int NOT NULL DEFAULT 1,
    max_running        int,
    health_url         text COLLATE "C",
    breaker            jsonb,
    system_identifier  bigint NOT NULL,
    database_oid       oid NOT NULL,
    PRIMARY KEY (handler, url)
);
CREATE TABLE queue.installation (       -- one row, made by the first register_http_handler: a dump carries it
    single  boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (single),
    id      uuid NOT NULL
);
CREATE SEQUENCE queue.subscription_id AS bigint;
CREATE TABLE queue.subscription (       -- who gets a job for each message of a topic
    id      bigint NOT NULL PRIMARY KEY,
    topic   text COLLATE "C" NOT NULL,      -- words with dots; * is one word, # any number
    kind    text COLLATE "C" NOT NULL,
    queue   text COLLATE "C" NOT NULL,
    filter  jsonpath
);
CREATE TABLE queue.step (                   -- durable steps of unfinished jobs; of a kept one they are in its extra
    job_id  bigint NOT NULL,
    name    text COLLATE "C" NOT NULL,
    value   jsonb NOT NULL
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE queue.step ADD CONSTRAINT step_pkey PRIMARY KEY (job_id, name);
CREATE SEQUENCE queue.event_id AS bigint;
CREATE TABLE queue.event (
    id          bigint NOT NULL PRIMARY KEY,
    emitted_at  timestamptz NOT NULL,
    queue       text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    payload     jsonb NOT NULL
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX event_name ON queue.event (queue, name);
CREATE INDEX event_emitted_at ON queue.event (emitted_at);      -- retention
CREATE TABLE queue.event_wait (             -- who awaits which event, or has awaited it; only inserted and deleted
    job_id      bigint NOT NULL,
    status      smallint NOT NULL,          -- 0: waits, 1: event, 2: timeout
    awaited_at  timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    queue       text COLLATE "C" NOT NULL,
    event       text COLLATE "C" NOT NULL,
    waits       bigint                      -- job_id, while it waits
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE queue.event_wait ADD CONSTRAINT event_wait_pkey PRIMARY KEY (job_id, event);
CREATE INDEX event_wait_event ON queue.event_wait (queue, event, waits);
CREATE SEQUENCE queue.line_id AS bigint;
CREATE TABLE queue.line (               -- several rows of one queue, kind and priority are harmless: one line in parts
    id          bigint NOT NULL PRIMARY KEY,
    queue       text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    priority    smallint NOT NULL,
    retired_at  timestamptz,            -- takes no new jobs
    concurrency_key text COLLATE "C"    -- of its jobs, where the queue limits or shares by key; NULL: any
);
CREATE INDEX line_name ON queue.line (queue, kind, priority, concurrency_key, id);
CREATE SEQUENCE queue.job_id AS bigint;
CREATE TABLE queue.deadline (               -- times at which the scheduler looks at a job: today, its expires_at
    at  timestamptz NOT NULL,
    id  bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX deadline_at ON queue.deadline (at, id);    -- not unique: a second look does no harm
CREATE TABLE queue.unique_key (             -- what keys are taken: of unfinished jobs, and those in their window
    queue       text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    unique_key  text COLLATE "C" NOT NULL,
    job_id      bigint NOT NULL,
    until       timestamptz,                -- taken until then, although the job may have ended
    successor   bigint,                     -- gets the key when the job ends
    ended       boolean                     -- true: the job has ended; NULL: it has not
) WITH (fillfactor = 90, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_insert_threshold = 100000, autovacuum_analyze_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE queue.unique_key ADD CONSTRAINT unique_key_pkey PRIMARY KEY (queue, kind, unique_key);
CREATE TABLE queue.live_key (               -- the place of each job that has a group; only inserted and deleted
    job_id     bigint NOT NULL,
    position   bigint NOT NULL,             -- the lowest goes first; a number of queue.job_id
    held       boolean NOT NULL,            -- its job was discarded, and its group waits for what is decided about it
    queue      text COLLATE "C" NOT NULL,
    group_key  text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX live_key_place ON queue.live_key (queue, group_key, position);
CREATE TABLE queue.group_mark (             -- groups to be looked at, where no shared memory tells of them
    position   bigint NOT NULL,
    ended      boolean NOT NULL,
    doubted    boolean NOT NULL,
    queue      text COLLATE "C" NOT NULL,
    group_key  text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE queue.dependency (             -- what jobs depend on; only inserted and deleted
    job_id      bigint NOT NULL,
    depends_on  bigint NOT NULL,
    workflow    bigint                      -- of the job
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE queue.dependency ADD CONSTRAINT dependency_pkey PRIMARY KEY (job_id, depends_on);
CREATE INDEX dependency_other ON queue.dependency (depends_on, job_id);
CREATE SEQUENCE queue.workflow_id AS bigint;
CREATE TABLE queue.workflow_base (          -- workflows; look at them through the view queue.workflow
    id            bigint NOT NULL PRIMARY KEY,
    queue         text COLLATE "C" NOT NULL,
    state         text COLLATE "C" NOT NULL DEFAULT 'running',  -- completed | failed | cancelled | compensating | compensated
    closed_at     timestamptz,              -- no more jobs from outside
    cancelled_at  timestamptz,
    name          text,
    on_finished   text COLLATE "C",         -- kinds of the callbacks
    on_completed  text COLLATE "C",
    on_discarded  text COLLATE "C",
    payload       jsonb NOT NULL,           -- theirs
    fired         int NOT NULL DEFAULT 0,   -- which of them were enqueued, as bits
    created_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    jobs          bigint,                   -- when it finished
    completed     bigint,
    discarded     bigint,
    cancelled     bigint
);
CREATE INDEX workflow_base_finished ON queue.workflow_base (finished_at);
CREATE TABLE queue.workflow_job (           -- the jobs of workflows
    workflow         bigint NOT NULL,
    job_id           bigint NOT NULL,
    queue            text COLLATE "C" NOT NULL,
    kind             text COLLATE "C" NOT NULL,
    compensate_with  text COLLATE "C" NOT NULL, -- '': nothing
    ref              text COLLATE "C" NOT NULL, -- '': none
    payload          jsonb,                 -- of a job that is compensated
    compensation     bigint                 -- the job that does it
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE queue.workflow_job ADD CONSTRAINT workflow_job_pkey PRIMARY KEY (workflow, job_id);
CREATE INDEX workflow_job_undone ON queue.workflow_job (workflow) WHERE compensate_with <> '';
CREATE SEQUENCE queue.workflow_number AS bigint;
CREATE TABLE queue.workflow_end (           -- those of them that have ended, and their compensations
    workflow     bigint NOT NULL,
    job_id       bigint NOT NULL,
    number       bigint NOT NULL,           -- in the order of the ends
    compensates  bigint NOT NULL,           -- the job that it undoes; 0: none
    state        text COLLATE "C" NOT NULL,
    result       jsonb
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE queue.workflow_end ADD CONSTRAINT workflow_end_pkey PRIMARY KEY (workflow, job_id);
CREATE INDEX workflow_end_discarded ON queue.workflow_end (workflow) WHERE state = 'discarded';
CREATE TABLE queue.reminder (               -- jobs to be looked at, where no shared memory tells of them
    id        bigint NOT NULL,
    reminder  smallint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE queue.limit_slot (             -- claims under limits where the library is not preloaded; else in shared memory
    scope    text COLLATE "C" NOT NULL,     -- whose limit
    slot     int NOT NULL,                  -- 0: none; the limit's own
    job_id   bigint,
    attempt  int,
    arrival  float8,                        -- of the next claim under a rate
    counted  text COLLATE "C",              -- for which setting of the limit, and which start of the server
    PRIMARY KEY (scope, slot)
);
CREATE TABLE queue.finished_job (           -- rows are in finished_job_0 .. finished_job_18: slot = keep class * 3 + turn; 15: for ever
    slot         smallint NOT NULL,         -- in this order no column is padded
    priority     smallint NOT NULL,
    attempt      int NOT NULL,
    id           bigint NOT NULL,
    run_at       timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz NOT NULL,
    keep_until   timestamptz NOT NULL,
    what         bigint NOT NULL,           -- the line that it was in * 4 + 0 completed, 1 cancelled, 2 discarded
    failures     int NOT NULL,
    state        text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    worker       text,
    payload      jsonb NOT NULL,
    extra        jsonb,                     -- as in live_job; NULL if there is nothing rare
    result       jsonb
);
CREATE INDEX finished_job_id ON queue.finished_job (id);
CREATE INDEX finished_job_what ON queue.finished_job (what, id);   -- find_jobs and the like, by state, queue and kind
CREATE TABLE queue.failure (                -- rows are in failure_0 .. failure_15 likewise; what queue.job_error shows
    slot         smallint NOT NULL,
    job_id       bigint NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    attempt      int NOT NULL,
    started_at   timestamptz,
    failed_at    timestamptz NOT NULL,
    keep_until   timestamptz NOT NULL,
    worker       text,
    error        text NOT NULL,
    sqlstate     text,
    http_status  int,
    context      text
);
CREATE INDEX failure_job_id ON queue.failure (job_id);
CREATE TABLE queue.log_line (               -- rows are in log_line_0 .. log_line_15 likewise; what queue.job_log shows
    slot        smallint NOT NULL,
    job_id      bigint NOT NULL,
    queue       text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    attempt     int NOT NULL,
    line        int NOT NULL,               -- counts within the attempt
    logged_at   timestamptz NOT NULL,
    keep_until  timestamptz NOT NULL,
    level       text COLLATE "C" NOT NULL,  -- debug | info | warning | error
    message     text,
    dropped     bigint                      -- of an attempt's last line: how many more there were; message is NULL
);
CREATE INDEX log_line_attempt ON queue.log_line (job_id, attempt, line);

-- live_job.extra keys: enqueued_at, started_at (numbers: microseconds since 2000-01-01 UTC, PostgreSQL's own int64),
-- max_attempts, timeout (microseconds), headers (object), tags (array of strings), progress (any), last_error (string),
-- worker (string), deaths (number), unique_key (string), first_at (time of the first HTTP attempt), run_at (what was asked
-- for when the job was blocked; live_job.run_at is infinity until nothing blocks it), blocks (number: what does), group_key
-- (string), position (number: its place in the group; not there: its id), holds_group (number: discarded, but its group
-- waits), origin (object: where it came from), dead_letter (number: of a discarded job, the id of its copy), steps_size
-- (number: bytes that its steps take), steps (object: of an ended job), depends_mode (number: it depends on others, 1 on
-- their completion, 2 on any end), retried_at (time), cause (number: of a cancelled job, the one because of which),
-- awaits (string: the event that it awaits, or awaited last)

-- The rings: keep class (1 hour, 1 day, 7, 30, 400 days) * 3 + turn, and 15 for what is kept for ever.  They inherit and
-- are no partitions, because pg_dump -t of an extension's partition crashes (it looks for the root that it did not read).
CREATE TABLE queue.finished_job_0 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 0)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_1 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 1)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_2 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 2)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_3 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 3)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_4 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 4)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_5 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 5)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_6 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 6)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_7 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 7)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_8 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 8)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_9 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 9)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_10 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 10)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_11 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 11)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_12 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 12)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_13 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 13)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_14 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 14)) INHERITS (queue.finished_job);
CREATE TABLE queue.finished_job_15 (LIKE queue.finished_job INCLUDING INDEXES, CHECK (slot = 15)) INHERITS (queue.finished_job);
-- Completed jobs that only their dependents keep: searches by kind read them all, and so writing them costs less.
CREATE TABLE queue.finished_job_16 (LIKE queue.finished_job, CHECK (slot = 16)) INHERITS (queue.finished_job);
CREATE INDEX ON queue.finished_job_16 (id);
CREATE TABLE queue.finished_job_17 (LIKE queue.finished_job, CHECK (slot = 17)) INHERITS (queue.finished_job);
CREATE INDEX ON queue.finished_job_17 (id);
CREATE TABLE queue.finished_job_18 (LIKE queue.finished_job, CHECK (slot = 18)) INHERITS (queue.finished_job);
CREATE INDEX ON queue.finished_job_18 (id);
CREATE TABLE queue.failure_0 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 0)) INHERITS (queue.failure);
CREATE TABLE queue.failure_1 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 1)) INHERITS (queue.failure);
CREATE TABLE queue.failure_2 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 2)) INHERITS (queue.failure);
CREATE TABLE queue.failure_3 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 3)) INHERITS (queue.failure);
CREATE TABLE queue.failure_4 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 4)) INHERITS (queue.failure);
CREATE TABLE queue.failure_5 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 5)) INHERITS (queue.failure);
CREATE TABLE queue.failure_6 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 6)) INHERITS (queue.failure);
CREATE TABLE queue.failure_7 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 7)) INHERITS (queue.failure);
CREATE TABLE queue.failure_8 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 8)) INHERITS (queue.failure);
CREATE TABLE queue.failure_9 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 9)) INHERITS (queue.failure);
CREATE TABLE queue.failure_10 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 10)) INHERITS (queue.failure);
CREATE TABLE queue.failure_11 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 11)) INHERITS (queue.failure);
CREATE TABLE queue.failure_12 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 12)) INHERITS (queue.failure);
CREATE TABLE queue.failure_13 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 13)) INHERITS (queue.failure);
CREATE TABLE queue.failure_14 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 14)) INHERITS (queue.failure);
CREATE TABLE queue.failure_15 (LIKE queue.failure INCLUDING INDEXES, CHECK (slot = 15)) INHERITS (queue.failure);
CREATE TABLE queue.log_line_0 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 0)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_1 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 1)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_2 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 2)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_3 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 3)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_4 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 4)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_5 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 5)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_6 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 6)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_7 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 7)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_8 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 8)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_9 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 9)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_10 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 10)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_11 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 11)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_12 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 12)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_13 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 13)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_14 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 14)) INHERITS (queue.log_line);
CREATE TABLE queue.log_line_15 (LIKE queue.log_line INCLUDING INDEXES, CHECK (slot = 15)) INHERITS (queue.log_line);

-- In a publication FOR ALL TABLES a row can be deleted only from a table that can name it.  These are written once and
-- hardly ever deleted from, so an index that names their rows would cost more than the whole row in the WAL.
SELECT queue_internal.execute(format('ALTER TABLE %s REPLICA IDENTITY FULL', c.oid::regclass))
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary);

COMMENT ON TABLE queue.queue IS 'the queues and their settings; queue default exists without a row';
COMMENT ON TABLE queue.privilege IS 'who may do what in which queue; written by queue.grant_queue and queue.revoke_queue';
COMMENT ON TABLE queue.handler IS 'what the server runs for which kind of job; written by queue.register_sql_handler and queue.register_http_handler';
COMMENT ON TABLE queue.endpoint IS 'where the jobs of HTTP handlers are sent; written by queue.register_http_handler and queue.add_endpoint';
COMMENT ON TABLE queue.installation IS 'the uuid that idempotency keys begin with; copied by a dump, so that a restored database repeats its keys';
COMMENT ON TABLE queue.event IS 'events that were emitted, as long as queue.keep_events or an unfinished job that awaited them keeps them';
COMMENT ON TABLE queue.event_wait IS 'which unfinished jobs await which event, or have awaited it, and what became of that';
COMMENT ON SEQUENCE queue.event_id IS 'ids of events';
COMMENT ON TABLE queue.step IS 'what workers stored of unfinished jobs with queue.save_step';
COMMENT ON TABLE queue.subscription IS 'who gets a job for each message that is published to a topic; written by queue.subscribe and queue.unsubscribe';
COMMENT ON SEQUENCE queue.subscription_id IS 'ids of subscriptions';
COMMENT ON TABLE queue.line IS 'the lines of jobs: at least one per queue, kind and priority in use';
COMMENT ON TABLE queue.live_job IS 'jobs that have not ended, one narrow row each; look at them through the view queue.job';
COMMENT ON TABLE queue.limit_slot IS 'claims under limits where the library is not preloaded';
COMMENT ON TABLE queue.deadline IS 'when a job is to be looked at although nobody asks for it, such as at its expires_at; a row outlives its job and is deleted when its time has come';
COMMENT ON TABLE queue.unique_key IS 'unique keys of unfinished jobs, and of ended ones as long as their unique_for lasts';
COMMENT ON TABLE queue.live_key IS 'the places of jobs in their groups, and of discarded ones that hold their group';
COMMENT ON TABLE queue.group_mark IS 'groups in which jobs came or ended, written where no shared memory tells of it; the next one who promotes jobs deletes them';
COMMENT ON TABLE queue.dependency IS 'which job depends on which others; a row stays as long as the job is known';
COMMENT ON TABLE queue.workflow_base IS 'workflows and batches; look at them through the view queue.workflow';
COMMENT ON TABLE queue.workflow_job IS 'the jobs of workflows; look at them through the view queue.workflow_edge';
COMMENT ON TABLE queue.workflow_end IS 'how the jobs of workflows ended, and their results as long as the workflow is kept';
COMMENT ON SEQUENCE queue.workflow_id IS 'ids of workflows';
COMMENT ON SEQUENCE queue.workflow_number IS 'counts the ends of jobs of workflows';
COMMENT ON TABLE queue.reminder IS 'jobs of which others that depend on them are to be looked at, written where no shared memory tells of it; the next one who looks deletes them';
COMMENT ON TABLE queue.finished_job IS 'jobs that ended and are kept; look at them through the view queue.job';
COMMENT ON TABLE queue.failure IS 'failed attempts; look at them through the view queue.job_error';
COMMENT ON TABLE queue.log_line IS 'what jobs logged; look at it through the view queue.job_log';
COMMENT ON SEQUENCE queue.handler_id IS 'ids of handlers and their endpoints';
COMMENT ON SEQUENCE queue.line_id IS 'ids of lines';
COMMENT ON SEQUENCE queue.job_id IS 'ids of jobs; never reused, gaps are normal';

-- All of it belongs in a dump.
SELECT pg_catalog.pg_extension_config_dump('queue.queue', '');
SELECT pg_catalog.pg_extension_config_dump('queue.privilege', '');
SELECT pg_catalog.pg_extension_config_dump('queue.handler_id', '');
SELECT pg_catalog.pg_extension_config_dump('queue.handler', '');
SELECT pg_catalog.pg_extension_config_dump('queue.endpoint', '');
SELECT pg_catalog.pg_extension_config_dump('queue.installation', '');
SELECT pg_catalog.pg_extension_config_dump('queue.subscription_id', '');
SELECT pg_catalog.pg_extension_config_dump('queue.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('queue.step', '');
SELECT pg_catalog.pg_extension_config_dump('queue.event_id', '');
SELECT pg_catalog.pg_extension_config_dump('queue.event', '');
SELECT pg_catalog.pg_extension_config_dump('queue.event_wait', '');
SELECT pg_catalog.pg_extension_config_dump('queue.line_id', '');
SELECT pg_catalog.pg_extension_config_dump('queue.line', '');
SELECT pg_catalog.pg_extension_config_dump('queue.job_id', '');
SELECT pg_catalog.pg_extension_config_dump('queue.live_job', '');
SELECT pg_catalog.pg_extension_config_dump('queue.deadline', '');
SELECT pg_catalog.pg_extension_config_dump('queue.limit_slot', '');
SELECT pg_catalog.pg_extension_config_dump('queue.unique_key', '');
SELECT pg_catalog.pg_extension_config_dump('queue.live_key', '');
SELECT pg_catalog.pg_extension_config_dump('queue.group_mark', '');
SELECT pg_catalog.pg_extension_config_dump('queue.dependency', '');
SELECT pg_catalog.pg_extension_config_dump('queue.reminder', '');
SELECT pg_catalog.pg_extension_config_dump('queue.workflow_id', '');
SELECT pg_catalog.pg_extension_config_dump('queue.workflow_number', '');
SELECT pg_catalog.pg_extension_config_dump('queue.workflow_base', '');
SELECT pg_catalog.pg_extension_config_dump('queue.workflow_job', '');
SELECT pg_catalog.pg_extension_config_dump('queue.workflow_end', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_0', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_1', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_2', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_3', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_4', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_5', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_6', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_7', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_8', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_9', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_10', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_11', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_12', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_13', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_14', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_15', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_16', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_17', '');
SELECT pg_catalog.pg_extension_config_dump('queue.finished_job_18', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_0', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_1', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_2', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_3', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_4', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_5', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_6', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_7', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_8', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_9', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_10', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_11', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_12', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_13', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_14', '');
SELECT pg_catalog.pg_extension_config_dump('queue.failure_15', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_0', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_1', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_2', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_3', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_4', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_5', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_6', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_7', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_8', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_9', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_10', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_11', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_12', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_13', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_14', '');
SELECT pg_catalog.pg_extension_config_dump('queue.log_line_15', '');

-- ---------------------------------------------------------------------------
-- Inside: functions behind triggers and views.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue_internal.config_changed() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_config_changed';
COMMENT ON FUNCTION queue_internal.config_changed() IS 'internal: tells every session and worker that the configuration changed';

-- ALWAYS: also when session_replication_role is replica (logical replication, restore).
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.queue
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.queue ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.privilege
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.privilege ENABLE ALWAYS TRIGGER config_changed;
CREATE FUNCTION queue_internal.privilege_inserted() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_privilege_inserted';
COMMENT ON FUNCTION queue_internal.privilege_inserted() IS 'internal: skips rows of roles that do not exist, which a restore may bring';
CREATE TRIGGER privilege_inserted BEFORE INSERT ON queue.privilege
    FOR EACH ROW EXECUTE FUNCTION queue_internal.privilege_inserted();
ALTER TABLE queue.privilege ENABLE ALWAYS TRIGGER privilege_inserted;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.handler
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.handler ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.endpoint
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.endpoint ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.installation
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.installation ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.subscription
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.subscription ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.line
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.line ENABLE ALWAYS TRIGGER config_changed;

CREATE TRIGGER config_changed AFTER INSERT ON queue.live_key
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.live_key ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT ON queue.dependency
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.dependency ENABLE ALWAYS TRIGGER config_changed;

CREATE TRIGGER config_changed AFTER INSERT ON queue.event
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.event ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT ON queue.event_wait
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.event_wait ENABLE ALWAYS TRIGGER config_changed;

CREATE FUNCTION queue_internal.library_version() RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_library_version';
COMMENT ON FUNCTION queue_internal.library_version IS
    'internal: the version of the loaded library; update scripts compare it and ask for a restart of the server';

CREATE FUNCTION queue_internal.preload_notice() RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_preload_notice';
COMMENT ON FUNCTION queue_internal.preload_notice IS
    'internal: says that the server runs no jobs if the library is not preloaded, and what to do';

CREATE FUNCTION queue_internal.may_read(queue text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_may_read';
COMMENT ON FUNCTION queue_internal.may_read IS
    'internal: may the current user read this queue''s jobs? (privilege read or manage on it or on *)';

CREATE FUNCTION queue_internal.clock() RETURNS timestamptz
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_clock';
COMMENT ON FUNCTION queue_internal.clock IS
'Internal. The time as queue sees it: clock_timestamp(), moved by queue.debug_clock_offset in tests.';

CREATE FUNCTION queue_internal.job_state(id bigint, run_at timestamptz, leased_until timestamptz, failures int) RETURNS text
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_state';
COMMENT ON FUNCTION queue_internal.job_state IS
    'internal: the state of a row of live_job, and whether an executor or a session has it';

CREATE FUNCTION queue_internal.job_time(extra jsonb, name text) RETURNS timestamptz
    LANGUAGE C IMMUTABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_time';
COMMENT ON FUNCTION queue_internal.job_time IS
    'internal: a time in live_job.extra';

CREATE FUNCTION queue_internal.job_max_attempts(extra jsonb) RETURNS int
    LANGUAGE C IMMUTABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_max_attempts';
COMMENT ON FUNCTION queue_internal.job_max_attempts IS
    'internal: a job''s own max_attempts; null if it has none';

CREATE FUNCTION queue_internal.job_tags(extra jsonb) RETURNS text[]
    LANGUAGE C IMMUTABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_tags';
COMMENT ON FUNCTION queue_internal.job_tags IS
    'internal: the tags in live_job.extra';

CREATE FUNCTION queue_internal.job_attempt(id bigint, attempt int) RETURNS int
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_attempt';
COMMENT ON FUNCTION queue_internal.job_attempt IS
    'internal: how often a job was claimed, also by the executor that runs it';

CREATE FUNCTION queue_internal.job_started_at(id bigint, extra jsonb) RETURNS timestamptz
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_started_at';
COMMENT ON FUNCTION queue_internal.job_started_at IS
    'internal: since when a job runs, in an executor or as its claim says';

CREATE FUNCTION queue_internal.job_worker(id bigint, extra jsonb) RETURNS text
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_worker';
COMMENT ON FUNCTION queue_internal.job_worker IS
    'internal: who runs a job, the executor or who claimed it';

CREATE FUNCTION queue_internal.job_progress(id bigint, extra jsonb) RETURNS jsonb
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_job_progress';
COMMENT ON FUNCTION queue_internal.job_progress IS
    'internal: the progress of a job, also what an executor that runs it has not committed yet';

CREATE FUNCTION queue_internal.recent_job_rows() RETURNS TABLE (
    id bigint, queue text, kind text, state text, attempt int, enqueued_at timestamptz, started_at timestamptz,
    finished_at timestamptz, worker text, error text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_recent_job_rows';
COMMENT ON FUNCTION queue_internal.recent_job_rows IS
    'internal: what queue.recent_job shows';

CREATE FUNCTION queue_internal.history_rows() RETURNS TABLE (
    queue text, minute timestamptz, enqueued bigint, completed bigint, failed bigint, discarded bigint, waiting bigint,
    oldest_s bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_history_rows';
COMMENT ON FUNCTION queue_internal.history_rows IS
    'internal: what queue.history shows';

CREATE FUNCTION queue_internal.stat_queue_rows() RETURNS TABLE (
    queue text, paused_at timestamptz, available bigint, running bigint, retryable bigint, scheduled bigint,
    pending bigint, enqueued bigint, completed bigint, failed bigint, discarded bigint, cancelled bigint,
    oldest_run_at timestamptz, stats_reset timestamptz, all_paused_at timestamptz)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_stat_queue_rows';
COMMENT ON FUNCTION queue_internal.stat_queue_rows IS
    'internal: what queue.stat_queue shows';

CREATE FUNCTION queue_internal.stat_kind_rows() RETURNS TABLE (
    queue text, kind text, available bigint, running bigint, retryable bigint, scheduled bigint, pending bigint,
    oldest_run_at timestamptz, wait_ms_p50 double precision, wait_ms_p95 double precision,
    wait_ms_p99 double precision, run_ms_p50 double precision, run_ms_p95 double precision,
    run_ms_p99 double precision, completed bigint, failed bigint, discarded bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_stat_kind_rows';
COMMENT ON FUNCTION queue_internal.stat_kind_rows IS
    'internal: what queue.stat_kind shows';

CREATE FUNCTION queue_internal.stat_handler_rows() RETURNS TABLE (
    kind text, type text, target text, run_as name, state text, running bigint, completed bigint, failed bigint,
    discarded bigint, timeouts bigint, mean_ms double precision, max_ms double precision, last_error_at timestamptz,
    queues text[])
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_stat_handler_rows';
COMMENT ON FUNCTION queue_internal.stat_handler_rows IS
    'internal: what queue.stat_handler shows';

CREATE FUNCTION queue_internal.stat_endpoint_rows() RETURNS TABLE (
    kind text, url text, weight int, breaker text, healthy boolean, in_flight int, succeeded bigint, failed bigint,
    consecutive_failures int, mean_ms double precision, next_probe_at timestamptz, queues text[])
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_stat_endpoint_rows';
COMMENT ON FUNCTION queue_internal.stat_endpoint_rows IS
    'internal: what queue.stat_endpoint shows';

CREATE FUNCTION queue_internal.stat_worker_rows() RETURNS TABLE (
    pid int, type text, database name, role name, state text, job_id bigint, kind text, started_at timestamptz,
    jobs bigint, restarts int, job_started_at timestamptz, worker text, queue text, last_seen timestamptz)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_stat_worker_rows';
COMMENT ON FUNCTION queue_internal.stat_worker_rows IS
    'internal: what queue.stat_worker shows';

-- ---------------------------------------------------------------------------
-- Views.  Columns are only ever appended: queue.job is also the row type of handlers and fetch.
-- ---------------------------------------------------------------------------
CREATE VIEW queue.job WITH (security_barrier = true) AS
WITH line AS (
    -- own: no other queue's dead letters, which only handlers serve that name it
    SELECT l.id, l.queue, l.kind, l.priority, NOT EXISTS (SELECT FROM queue.queue o WHERE o.dead_letter = l.queue) AS own
    FROM queue.line l
    WHERE queue_internal.may_read(l.queue)
)
SELECT j.id,
       l.queue,
       l.kind,
       queue_internal.job_state(j.id, j.run_at, j.leased_until, j.failures) COLLATE "C" AS state,
       j.payload,
       l.priority::int AS priority,
       queue_internal.job_attempt(j.id, j.attempt) AS attempt,
       coalesce(j.failures, 0) AS failures,
       coalesce(queue_internal.job_max_attempts(j.extra), d.max_attempts) AS max_attempts,
       CASE WHEN j.run_at = 'infinity' THEN coalesce(queue_internal.job_time(j.extra, 'run_at'), j.run_at)
            ELSE j.run_at END AS run_at,
       coalesce(queue_internal.job_time(j.extra, 'enqueued_at'), j.run_at) AS enqueued_at,
       queue_internal.job_started_at(j.id, j.extra) AS started_at,
       NULL::timestamptz AS finished_at,
       j.leased_until,
       queue_internal.job_worker(j.id, j.extra) AS worker,
       j.extra -> 'headers' AS headers,
       queue_internal.job_tags(j.extra) AS tags,
       j.extra ->> 'unique_key' AS unique_key,
       j.extra ->> 'group_key' AS group_key,
       j.extra ->> 'concurrency_key' AS concurrency_key,
       queue_internal.job_time(j.extra, 'expires_at') AS expires_at,
       queue_internal.job_progress(j.id, j.extra) AS progress,
       NULL::jsonb AS result,
       j.extra ->> 'last_error' AS last_error,
       j.extra -> 'origin' AS origin,
       (j.extra ->> 'workflow')::bigint AS workflow
FROM queue.live_job j
JOIN line l ON l.id = j.line
LEFT JOIN LATERAL (
    SELECT coalesce((SELECT h.max_attempts FROM queue.handler h
                     WHERE h.kind IN (l.kind, '*') AND (l.queue = ANY (h.queues) OR (h.queues IS NULL AND l.own))
                     ORDER BY h.kind = '*', h.queues IS NULL LIMIT 1),
                    (SELECT q.max_attempts FROM queue.queue q WHERE q.name = l.queue), 25) AS max_attempts) d ON true
UNION ALL
SELECT f.id,
       f.queue,
       f.kind,
       f.state,
       f.payload,
       f.priority::int,
       f.attempt,
       f.failures,
       coalesce(queue_internal.job_max_attempts(f.extra), d.max_attempts),
       f.run_at,
       coalesce(queue_internal.job_time(f.extra, 'enqueued_at'), f.run_at),
       f.started_at,
       f.finished_at,
       NULL::timestamptz,
       f.worker,
       f.extra -> 'headers',
       queue_internal.job_tags(f.extra),
       f.extra ->> 'unique_key',
       f.extra ->> 'group_key',
       f.extra ->> 'concurrency_key',
       queue_internal.job_time(f.extra, 'expires_at'),
       f.extra -> 'progress',
       f.result,
       f.extra ->> 'last_error',
       f.extra -> 'origin',
       (f.extra ->> 'workflow')::bigint
FROM queue.finished_job f
LEFT JOIN LATERAL (
    SELECT coalesce((SELECT h.max_attempts FROM queue.handler h
                     WHERE h.kind IN (f.kind, '*')
                       AND (f.queue = ANY (h.queues) OR (h.queues IS NULL AND NOT EXISTS (SELECT FROM queue.queue o WHERE o.dead_letter = f.queue)))
                     ORDER BY h.kind = '*', h.queues IS NULL LIMIT 1),
                    (SELECT q.max_attempts FROM queue.queue q WHERE q.name = f.queue), 25) AS max_attempts) d ON true
WHERE queue_internal.may_read(f.queue);
COMMENT ON VIEW queue.job IS
    'jobs of the queues that you may read: waiting, running, and finished ones as long as their queue keeps them; the row type that handlers and queue.fetch get';
COMMENT ON COLUMN queue.job.id IS 'never reused, over all queues';
COMMENT ON COLUMN queue.job.queue IS 'name of the queue';
COMMENT ON COLUMN queue.job.kind IS 'what sort of job; picks the handler';
COMMENT ON COLUMN queue.job.state IS 'scheduled | available | pending | running | retryable | completed | cancelled | discarded';
COMMENT ON COLUMN queue.job.payload IS 'as enqueued';
COMMENT ON COLUMN queue.job.priority IS 'lower first';
COMMENT ON COLUMN queue.job.attempt IS 'how often it was claimed; only rises; pass it to complete, fail, heartbeat ..';
COMMENT ON COLUMN queue.job.failures IS 'failed attempts, counted against max_attempts';
COMMENT ON COLUMN queue.job.max_attempts IS 'of the job, else of its handler, else of its queue';
COMMENT ON COLUMN queue.job.run_at IS 'when it is due: its scheduled time or its retry time; a pending job runs no earlier';
COMMENT ON COLUMN queue.job.enqueued_at IS 'when it was enqueued';
COMMENT ON COLUMN queue.job.started_at IS 'start of the present or last claim';
COMMENT ON COLUMN queue.job.finished_at IS 'when it was completed, cancelled or discarded';
COMMENT ON COLUMN queue.job.leased_until IS 'until when a worker holds it';
COMMENT ON COLUMN queue.job.worker IS 'who holds or held it: what was told to fetch, or the server''s own worker, such as executor 4711';
COMMENT ON COLUMN queue.job.headers IS 'as enqueued';
COMMENT ON COLUMN queue.job.tags IS 'as enqueued';
COMMENT ON COLUMN queue.job.unique_key IS 'as enqueued';
COMMENT ON COLUMN queue.job.group_key IS 'as enqueued';
COMMENT ON COLUMN queue.job.concurrency_key IS 'as enqueued';
COMMENT ON COLUMN queue.job.expires_at IS 'cancelled if not started by then';
COMMENT ON COLUMN queue.job.progress IS 'last value given to queue.progress; what a running SQL handler gives is shown at once, up to 1 kB';
COMMENT ON COLUMN queue.job.result IS 'what the handler returned or complete() was given';
COMMENT ON COLUMN queue.job.last_error IS 'message of the last failure, or the reason of its end';
COMMENT ON COLUMN queue.job.origin IS 'where a dead letter, cron tick, compensation or publish came from';
COMMENT ON COLUMN queue.job.workflow IS 'the workflow that it is part of';

CREATE VIEW queue.workflow WITH (security_barrier = true) AS
SELECT w.id, w.name, w.queue, CASE WHEN w.state = 'running' AND w.closed_at IS NULL THEN 'open' ELSE w.state END AS state,
       coalesce(w.jobs, j.n) AS jobs, coalesce(w.jobs, j.n) - coalesce(w.jobs, e.n) AS unfinished,
       coalesce(w.completed, e.completed) AS completed, coalesce(w.discarded, e.discarded) AS discarded,
       coalesce(w.cancelled, e.cancelled) AS cancelled, w.created_at, w.finished_at
FROM queue.workflow_base w
LEFT JOIN LATERAL (SELECT count(*) AS n FROM queue.workflow_job j WHERE w.finished_at IS NULL AND j.workflow = w.id) j ON true
LEFT JOIN LATERAL (SELECT count(*) AS n, count(*) FILTER (WHERE state = 'completed') AS completed,
                          count(*) FILTER (WHERE state = 'discarded') AS discarded,
                          count(*) FILTER (WHERE state = 'cancelled') AS cancelled
                   FROM queue.workflow_end e WHERE w.finished_at IS NULL AND e.workflow = w.id AND e.compensates = 0) e ON true
WHERE queue_internal.may_read(w.queue);
COMMENT ON VIEW queue.workflow IS 'workflows and batches of the queues that you may read, kept for queue.keep_workflows after they finish; state open | running | completed | failed | cancelled | compensating | compensated; the counts are of its jobs, without compensations and callbacks';

CREATE VIEW queue.workflow_edge WITH (security_barrier = true) AS
SELECT j.workflow AS workflow_id, j.job_id, nullif(j.ref, '') AS ref, j.kind,
       coalesce(e.state, queue_internal.job_state(l.id, l.run_at, l.leased_until, l.failures) COLLATE "C") AS state,
       ARRAY(SELECT d.depends_on FROM queue.dependency d WHERE d.job_id = j.job_id ORDER BY 1) AS depends_on
FROM queue.workflow_job j
JOIN queue.workflow_base w ON w.id = j.workflow
LEFT JOIN queue.workflow_end e ON e.workflow = j.workflow AND e.job_id = j.job_id
LEFT JOIN queue.live_job l ON l.id = j.job_id AND e.job_id IS NULL
WHERE queue_internal.may_read(w.queue);
COMMENT ON VIEW queue.workflow_edge IS 'the jobs of workflows of the queues that you may read, each with what it depends on, as long as the workflow is kept: for drawing it';

CREATE VIEW queue.job_error WITH (security_barrier = true) AS
SELECT f.job_id, f.queue, f.kind, f.attempt, f.started_at, f.failed_at, f.worker, f.error, f.sqlstate, f.http_status, f.context
FROM queue.failure f
WHERE queue_internal.may_read(f.queue);
COMMENT ON VIEW queue.job_error IS 'failed attempts in the queues that you may read, also of jobs that are gone; kept for queue.keep_errors';

CREATE VIEW queue.job_log WITH (security_barrier = true) AS
SELECT l.job_id, l.queue, l.kind, l.attempt, l.logged_at, l.level,
       coalesce(l.message, l.dropped || ' more lines were not kept') AS message
FROM queue.log_line l
WHERE queue_internal.may_read(l.queue);
COMMENT ON VIEW queue.job_log IS 'what jobs of the queues that you may read logged: queue.log, and RAISE NOTICE and WARNING of SQL handlers; kept for queue.keep_errors, at most 1,000 lines of an attempt and 8 kB a line; ORDER BY logged_at';

CREATE VIEW queue.recent_job WITH (security_barrier = true) AS
SELECT r.id, r.queue, r.kind, r.state, r.attempt, r.enqueued_at, r.started_at, r.finished_at, r.worker, r.error
FROM queue_internal.recent_job_rows() r;
COMMENT ON VIEW queue.recent_job IS 'the last queue.recent_jobs jobs of this database that ended, of the queues that you may read, also of those that keep nothing: state completed | cancelled | discarded, or deleted (purged, or its queue dropped); error is the first line of the last one, or the reason of its end, as far as there is room; of a prepared transaction its last 32; from shared memory, so it scans no table and a restart empties it; ORDER BY finished_at DESC';

CREATE VIEW queue.history WITH (security_barrier = true) AS
SELECT h.queue, h.minute, h.enqueued, h.completed, h.failed, h.discarded, h.waiting, h.oldest_s
FROM queue_internal.history_rows() h;
COMMENT ON VIEW queue.history IS 'what each queue that you may read did in each minute of the last 24 hours: jobs enqueued, completed and discarded and attempts failed in it; jobs that were due and waited at its end, and since how many seconds the oldest; recorded by the scheduler in shared memory for up to 64 queues of a database (queue.doctor() says when there are more), emptied by a restart; ORDER BY queue, minute';

CREATE VIEW queue.stat_queue WITH (security_barrier = true) AS
SELECT s.queue, s.paused_at, s.available, s.running, s.retryable, s.scheduled, s.pending, s.enqueued, s.completed,
       s.failed, s.discarded, s.cancelled, s.oldest_run_at, s.stats_reset, s.all_paused_at
FROM queue_internal.stat_queue_rows() s;
COMMENT ON VIEW queue.stat_queue IS 'one row per queue that you may read: paused_at by queue.pause of the queue, all_paused_at by queue.pause(''*''), gauges estimated in shared memory, and totals since stats_reset; NULL without shared_preload_libraries';

CREATE VIEW queue.stat_kind WITH (security_barrier = true) AS
SELECT s.queue, s.kind, s.available, s.running, s.retryable, s.scheduled, s.pending, s.oldest_run_at, s.wait_ms_p50,
       s.wait_ms_p95, s.wait_ms_p99, s.run_ms_p50, s.run_ms_p95, s.run_ms_p99, s.completed, s.failed, s.discarded
FROM queue_internal.stat_kind_rows() s;
COMMENT ON VIEW queue.stat_kind IS 'one row per queue and kind that you may read, external kinds too: jobs by state, estimated in shared memory; percentiles of how long attempts that completed or failed waited (from the time that they were asked for) and ran, within a quarter; totals since stats_reset of the queue; NULL without shared_preload_libraries and for kinds that found no place (queue.doctor() says so)';

CREATE VIEW queue.stat_handler WITH (security_barrier = true) AS
SELECT s.kind, s.type, s.target, s.run_as, s.state, s.running, s.completed, s.failed, s.discarded, s.timeouts,
       s.mean_ms, s.max_ms, s.last_error_at, s.queues
FROM queue_internal.stat_handler_rows() s;
COMMENT ON VIEW queue.stat_handler IS 'one row per handler, with the queues that it names (NULL: where no other handler of the kind is named), its state (ready | paused | parked) and run times in milliseconds; queue.doctor() tells why one is parked';

CREATE VIEW queue.stat_endpoint WITH (security_barrier = true) AS
SELECT s.kind, s.url, s.weight, s.breaker, s.healthy, s.in_flight, s.succeeded, s.failed, s.consecutive_failures,
       s.mean_ms, s.next_probe_at, s.queues
FROM queue_internal.stat_endpoint_rows() s;
COMMENT ON VIEW queue.stat_endpoint IS 'one row per HTTP endpoint of the handlers that you may see; url without its query; breaker closed | open | half-open; healthy false: nothing is sent before its health_url answers 200; totals since the server started; NULL without shared_preload_libraries';

CREATE VIEW queue.stat_worker WITH (security_barrier = true) AS
SELECT s.pid, s.type, s.database, s.role, s.state, s.job_id, s.kind, s.started_at, s.jobs, s.restarts,
       s.job_started_at, s.worker, s.queue, s.last_seen
FROM queue_internal.stat_worker_rows() s;
COMMENT ON VIEW queue.stat_worker IS 'the background workers of the whole cluster (job_id, kind, queue and job_started_at only for jobs of this database that you may read), and, with type external, the sessions of this database that fetch from queues that you may read: state waiting or working, the worker that they called themselves, the queue (of several the first), jobs claimed since started_at, last_seen at a fetch or another call about a job';

-- ---------------------------------------------------------------------------
-- Jobs in.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue.enqueue(
    kind text,
    payload jsonb = '{}',
    queue text = 'default',
    priority int = 0,
    run_at timestamptz = NULL,
    delay interval = NULL,
    max_attempts int = NULL,
    timeout interval = NULL,
    unique_key text = NULL,
    on_conflict text = 'ignore',
    unique_for interval = NULL,
    group_key text = NULL,
    concurrency_key text = NULL,
    depends_on bigint[] = NULL,
    depends_mode text = 'completed',
    compensate_with text = NULL,
    expires_at timestamptz = NULL,
    headers jsonb = NULL,
    tags text[] = NULL,
    workflow bigint = NULL,
    backoff jsonb = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_enqueue';
COMMENT ON FUNCTION queue.enqueue IS
    'Puts a job into a queue and returns its id; the job exists if and only if the transaction commits. priority: lower first, -32768 to 32767 (else 22003). run_at or delay: not before then (default now; both, or a non-finite run_at: 22023). max_attempts: default the handler''s, else the queue''s. timeout: default the handler''s, else the queue''s lease; ''0'' is none. backoff: as in queue.create_queue, default the handler''s, else the queue''s. unique_key: unique among the unfinished jobs of a kind in a queue, and until unique_for has passed since the enqueue if that is later; on_conflict says what happens if it is taken: ''ignore'' gives the id of the job that has it; ''replace'' gives that job this payload, run_at and priority if it waits, and makes one successor, which runs after it, if it is running; ''replace_payload'' keeps the earlier run_at; ''merge'' does too and joins the payloads, two objects or two arrays (else 22023); ''error'' raises 23505. A key whose job has ended is replaced by a new job. group_key (1 to 200 bytes): at most one job of a queue''s group runs at a time, in the order of enqueueing; priority does not reorder a group, and a delayed, snoozed or retrying job holds up its own group only. concurrency_key: what max_running_per_key, rate_limit_per_key and fair of the queue go by, such as a tenant; 1 to 200 bytes. depends_on: ids of jobs that must end first; until then it is pending. depends_mode ''completed'': one of them that is cancelled or discarded cancels this job; ''finished'': any end will do. An id once issued of a job that is gone counts as completed, one never issued is 22023; one holds any privilege on their queues (42501). workflow: it becomes part of that workflow, which must be open (else 55000, but for jobs that one of its own jobs enqueues inside its handler). compensate_with: a kind; if another job of the workflow is discarded, or the workflow cancelled, after this one completed, a job of that kind undoes it. expires_at: cancelled if not started by then. Times and intervals: within 1000 years (22023). payload, headers and tags together: at most queue.max_job_size (54000). Unknown queue: 42704; kind, queue or payload null: 22004. Needs privilege enqueue.';

CREATE FUNCTION queue.enqueue_many(
    kind text,
    payloads jsonb[],
    queue text = 'default',
    priority int = 0,
    run_at timestamptz = NULL) RETURNS SETOF bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_enqueue_many';
COMMENT ON FUNCTION queue.enqueue_many IS
    'Puts one job per payload into a queue, in one go, and returns their ids in the payloads'' order. All or nothing: an error names the index of the bad element. Options as in queue.enqueue. Needs privilege enqueue.';

CREATE FUNCTION queue.enqueue_json(job text) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_enqueue_json';
COMMENT ON FUNCTION queue.enqueue_json IS
    'queue.enqueue for typed drivers and ORMs: {"kind": .., "payload": .., and any option of queue.enqueue by name}. Unknown keys: 42704. Needs privilege enqueue.';

CREATE FUNCTION queue.enqueue_json_many(jobs text) RETURNS SETOF bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_enqueue_json_many';
COMMENT ON FUNCTION queue.enqueue_json_many IS
    'queue.enqueue_json for a JSON array of jobs; ids in the array''s order. All or nothing: an error names the index of the bad element. Needs privilege enqueue.';

CREATE FUNCTION queue.enqueue_unique(
    kind text,
    unique_key text,
    payload jsonb = '{}',
    options jsonb = NULL) RETURNS TABLE (job_id bigint, outcome text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_enqueue_unique';
COMMENT ON FUNCTION queue.enqueue_unique IS
    'queue.enqueue with a unique key, and what became of it: inserted, existing (nothing was changed), replaced, merged or successor (a new job, which runs when the running one has ended). job_id: the job that now stands for it. options: any other of queue.enqueue, by name (unknown ones: 42704). Needs privilege enqueue.';

CREATE FUNCTION queue.key_of(payload jsonb, fields text[] = NULL, period interval = NULL) RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_key_of';
COMMENT ON FUNCTION queue.key_of IS
    'A unique_key made of a payload: the same for equal payloads, whatever the order of their members. fields: only these members of the object (22023 if it is none). period: another one in each such period, counted from 1970 on. Needs a privilege on some queue.';

CREATE FUNCTION queue.publish(topic text, payload jsonb = '{}', headers jsonb = NULL) RETURNS SETOF bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_publish';
COMMENT ON FUNCTION queue.publish IS
    'Enqueues a job, with this payload and these headers, for each subscription that the topic and the payload match, and returns their ids in the order of the subscriptions; the jobs exist if and only if the transaction commits. origin tells {"topic", "subscription"} of each. topic: words with dots, such as orders.eu.paid, at most 200 bytes (22023). A subscription whose queue is not there gets nothing; a job of a kind whose handler is paused or gone waits for it. Needs privilege enqueue on the queue of each subscription that matches; without it on one of them nothing is enqueued (42501), because a message that reaches only some of its subscribers would go unnoticed.';

CREATE FUNCTION queue.emit(event text, payload jsonb = '{}', queue text = 'default') RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_emit';
COMMENT ON FUNCTION queue.emit IS
    'Tells of an event in a queue: jobs that await it there (queue.await_event), now or later, go on when this transaction has committed. True: it is the first of that name; false: there is one already, and its payload stays. Kept for queue.keep_events, and as long as an unfinished job has awaited it; an older one counts as never emitted. Needs privilege enqueue.';

-- ---------------------------------------------------------------------------
-- Jobs out: external workers.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue.fetch(
    queue text,
    qty bigint = 1,
    lease interval = NULL,
    wait interval = '0',
    worker text = NULL,
    kinds text[] = NULL,
    claim text = 'lease',
    complete_ids bigint[] = NULL,
    complete_attempts int[] = NULL) RETURNS SETOF queue.job
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_fetch';
COMMENT ON FUNCTION queue.fetch IS
    'Claims up to qty due jobs, by priority, then run_at, then id, and returns them. WHERE and LIMIT around a fetch apply after the claim: a job that they hide is claimed all the same. lease: how long they are yours (default the queue''s); after that another worker may get them. Without kinds only kinds that no server handler serves here, with kinds exactly those. qty below 1: 22023. wait: how long to wait for a job, at most queue.max_wait, only in READ COMMITTED (25001); the waiting statement holds a snapshot. complete_ids, complete_attempts: completes these first, in the same commit, and then returns at once whatever wait says. claim ''session'': nothing is written, the claim is an advisory lock and ends with the session (not behind a transaction pooler); complete or fail it in the same session, with the attempt that it gives, a negative token of that claim alone; its crashes are not counted, but an earlier lease that ended is, when a session takes the job; too many at once: 54000. Unknown queue: 42704. Pass each job''s attempt to complete, fail, heartbeat. Needs privilege work.';

CREATE FUNCTION queue.fetch_any(
    queues text[],
    qty bigint = 1,
    lease interval = NULL,
    wait interval = '0',
    worker text = NULL,
    kinds text[] = NULL,
    claim text = 'lease',
    complete_ids bigint[] = NULL,
    complete_attempts int[] = NULL) RETURNS SETOF queue.job
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_fetch_any';
COMMENT ON FUNCTION queue.fetch_any IS
    'queue.fetch from several queues at once. WHERE and LIMIT around it apply after the claim. Options and errors as in queue.fetch. Needs privilege work on each.';

CREATE PROCEDURE queue.await(
    queues text[],
    wait interval = '1 min',
    kinds text[] = NULL,
    INOUT ready boolean = NULL)
    LANGUAGE C AS 'MODULE_PATHNAME', 'queue_sql_await';
COMMENT ON PROCEDURE queue.await IS
    'Waits, holding no snapshot, until one of the queues has something to fetch (ready is true; fetch then, another may be faster) or wait has passed (false). Outside of a transaction block only, and in READ COMMITTED: 25001. kinds as in queue.fetch. Needs privilege work on each queue.';

CREATE FUNCTION queue.complete(job_id bigint, attempt bigint = NULL, result jsonb = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_complete';
COMMENT ON FUNCTION queue.complete IS
    'Ends a claimed job as completed. A session claim can only be ended by the session that holds it. attempt: the fencing token that fetch returned; false when that claim is not the job''s present one. Without attempt it is unfenced. Needs privilege work.';

CREATE FUNCTION queue.complete_many(job_ids bigint[], attempts int[] = NULL) RETURNS SETOF bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_complete_many';
COMMENT ON FUNCTION queue.complete_many IS
    'queue.complete for many jobs; returns the ids that were yours. attempts: one per id (22023 if the lengths differ). Needs privilege work.';

CREATE FUNCTION queue.fail(
    job_id bigint,
    attempt bigint = NULL,
    error text = NULL,
    retry_in interval = NULL,
    discard boolean = false) RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_fail';
COMMENT ON FUNCTION queue.fail IS
    'Ends a claim as a failed attempt and returns the job''s new state, retryable or discarded; NULL if it was not yours any more. retry_in: default the backoff of job, handler or queue. discard: no further attempt. The error is kept in queue.job_error. Needs privilege work.';

CREATE FUNCTION queue.snooze(job_id bigint, delay interval, attempt bigint = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_snooze';
COMMENT ON FUNCTION queue.snooze IS
    'Gives a claimed job back, due again after delay, not counted as a failure; false if it was not yours any more. Inside its own SQL handler it takes hold on return and keeps the effects. Needs privilege work.';

CREATE FUNCTION queue.release(job_id bigint, attempt bigint = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_release';
COMMENT ON FUNCTION queue.release IS
    'Gives a claimed job back, due at once, not counted as a failure; false if it was not yours any more. Inside its own SQL handler it takes hold on return, and the job is due again after a second. Needs privilege work.';

CREATE FUNCTION queue.release_many(job_ids bigint[], attempts int[] = NULL) RETURNS SETOF bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_release_many';
COMMENT ON FUNCTION queue.release_many IS
    'queue.release for many jobs; returns the ids that were yours. Needs privilege work.';

CREATE FUNCTION queue.heartbeat(job_id bigint, lease interval = NULL, attempt bigint = NULL) RETURNS timestamptz
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_heartbeat';
COMMENT ON FUNCTION queue.heartbeat IS
    'Extends a claim to now + lease (default the queue''s) and returns until when; NULL: the job is not yours any more, stop working. A session claim needs none (infinity). Needs privilege work.';

CREATE FUNCTION queue.heartbeat_many(job_ids bigint[], lease interval = NULL, attempts int[] = NULL) RETURNS SETOF bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_heartbeat_many';
COMMENT ON FUNCTION queue.heartbeat_many IS
    'queue.heartbeat for many jobs; returns the ids that are still yours. Needs privilege work.';

CREATE FUNCTION queue.progress(job_id bigint, value jsonb, attempt bigint = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_progress';
COMMENT ON FUNCTION queue.progress IS
    'Notes a value that queue.job shows as progress; false if the job is not yours any more. Inside an SQL handler up to 1 kB of it is shown at once, more when the job''s transaction has committed. Needs privilege work.';

CREATE FUNCTION queue.save_step(job_id bigint, name text, value jsonb = 'null', attempt bigint = NULL) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_save_step';
COMMENT ON FUNCTION queue.save_step IS
    'Stores the result of a step of a claimed job, once: the first value of that name stays, and is what comes back. Extends the claim as queue.heartbeat does. SQL NULL: the job is not yours any more, stop working. Call it in a transaction of its own, when the step is done; the next attempt asks queue.steps what it need not do again. Inside an SQL handler the step is kept if the handler''s effects are. All of a job''s steps together: at most queue.max_job_size (54000). Needs privilege work.';

CREATE FUNCTION queue.steps(job_id bigint) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_steps';
COMMENT ON FUNCTION queue.steps IS
    'What queue.save_step stored for a job, {"name": value}; {}: nothing. They stay with the job until it is gone, through retries and as long as it is kept. NULL: there is no such job. Needs privilege work.';

CREATE FUNCTION queue.await_event(job_id bigint, event text, timeout interval = NULL, attempt bigint = NULL)
    RETURNS TABLE (status text, payload jsonb)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_await_event';
COMMENT ON FUNCTION queue.await_event IS
    'Asks for an event of the job''s queue from inside a claimed job. status event: it was emitted, with its payload. waiting: it was not; your claim ends, uncounted (in an SQL handler when it returns, and its effects are kept), the job is pending until the event or until timeout has passed since its first call, then runs again, and the same call says event or timeout; stop working now. What it once said of an event it says again in every later attempt. gone: the job is not yours any more. An event older than queue.keep_events counts as never emitted. An HTTP endpoint asks by answering 202 with the headers Queue-Await: name and, if you like, Queue-Await-Timeout: seconds. Needs privilege work.';

CREATE FUNCTION queue.log(message text, level text = 'info', job_id bigint = NULL, attempt bigint = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_log';
COMMENT ON FUNCTION queue.log IS
    'Writes a line to a job''s log, which queue.job_log shows. level: debug, info, warning or error. Inside a handler without job_id: of the job being run; the line is kept even if the attempt fails. Elsewhere of a job that you have claimed (nothing is written if it is not yours any more), in your transaction; without job_id a NOTICE. At most 1,000 lines of an attempt, 8 kB a line. Needs privilege work.';

-- ---------------------------------------------------------------------------
-- Control.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue.cancel(job_id bigint, reason text = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_cancel';
COMMENT ON FUNCTION queue.cancel IS
    'Ends a waiting or running job as cancelled; a running SQL handler is stopped and its effects are undone. False if there is no such job or it has ended. Needs privilege manage.';

CREATE FUNCTION queue.discard(job_id bigint, reason text = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_discard';
COMMENT ON FUNCTION queue.discard IS
    'Ends a waiting or running job as discarded; otherwise as queue.cancel. Needs privilege manage.';

CREATE FUNCTION queue.retry(job_id bigint, run_at timestamptz = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_retry';
COMMENT ON FUNCTION queue.retry IS
    'Makes a waiting, retryable or finished and kept job due again at run_at (default now), failures 0, with its id; attempt goes on rising. Its dead letter goes (55000 while somebody has that). 23505 if another job has its unique key now. False if there is no such job or it is running. Needs privilege manage.';

CREATE FUNCTION queue.alter_job(
    job_id bigint,
    run_at timestamptz = NULL,
    priority int = NULL,
    max_attempts int = NULL,
    payload jsonb = NULL,
    timeout interval = NULL,
    tags text[] = NULL,
    headers jsonb = NULL,
    expires_at timestamptz = NULL,
    reset text[] = NULL) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_alter_job';
COMMENT ON FUNCTION queue.alter_job IS
    'Changes a waiting job; options as in queue.enqueue, NULL leaves as is, reset puts the named ones back to their defaults (unknown name: 42704). False if there is no such job or it is not waiting. Needs privilege manage.';

CREATE FUNCTION queue.find_jobs(
    filter jsonb = '{}',
    qty bigint = 100,
    after_id bigint = NULL,
    before_id bigint = NULL) RETURNS SETOF queue.job
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_find_jobs';
COMMENT ON FUNCTION queue.find_jobs IS
    'The jobs that the filter names, by id upwards from after_id, or downwards from before_id (0: from the newest), at most qty. Filter keys, of which all must hold: ids, queue, kind, state, priority, worker (a value, or an array: any of), tags (has all), payload (contains), error (part of last_error), enqueued_before, enqueued_after, finished_before, finished_after, unique_key, group_key, concurrency_key, workflow. An unknown key: 22023. Needs privilege read; jobs of other queues are not found.';

CREATE FUNCTION queue.cancel_jobs(filter jsonb, reason text = NULL, qty bigint = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_cancel_jobs';
COMMENT ON FUNCTION queue.cancel_jobs IS
    'queue.cancel for the unfinished jobs that a filter names (see queue.find_jobs; an empty one: 22023), at most qty, lowest ids first; returns how many. Needs privilege manage; with enqueue alone one cancels waiting jobs by naming just queue, kind and unique_key. Jobs of other queues are neither touched nor counted.';

CREATE FUNCTION queue.discard_jobs(filter jsonb, reason text = NULL, qty bigint = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_discard_jobs';
COMMENT ON FUNCTION queue.discard_jobs IS
    'queue.discard for the unfinished jobs that a filter names; otherwise as queue.cancel_jobs. Needs privilege manage.';

CREATE FUNCTION queue.retry_jobs(filter jsonb, run_at timestamptz = NULL, qty bigint = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_retry_jobs';
COMMENT ON FUNCTION queue.retry_jobs IS
    'queue.retry for the jobs that a filter names (see queue.find_jobs; an empty one: 22023), at most qty, lowest ids first; returns how many. Without a state in the filter: discarded, cancelled and retryable ones. A job whose unique key is taken is left and not counted. Needs privilege manage; jobs of other queues are neither touched nor counted.';

CREATE FUNCTION queue.move_jobs(
    filter jsonb,
    queue text = NULL,
    kind text = NULL,
    priority int = NULL,
    qty bigint = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_move_jobs';
COMMENT ON FUNCTION queue.move_jobs IS
    'Gives the waiting jobs that a filter names another queue, kind or priority, at most qty, lowest ids first; returns how many. Id, attempts, failures, last error, run_at and timeout stay. One that somebody works on, or whose unique key is taken there, is left alone. Needs privilege manage where they are and enqueue on the queue they go to; jobs of other queues are neither touched nor counted.';

CREATE FUNCTION queue.delete_jobs(filter jsonb, qty bigint = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_delete_jobs';
COMMENT ON FUNCTION queue.delete_jobs IS
    'Deletes the finished, kept jobs that a filter names, at most qty, lowest ids first; returns how many. Their errors stay in queue.job_error as long as these are kept. Needs privilege manage; jobs of other queues are neither touched nor counted.';

CREATE FUNCTION queue.redrive(queue text, qty bigint = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_redrive';
COMMENT ON FUNCTION queue.redrive IS
    'Puts the dead letters that wait in this queue back where they came from, at most qty, lowest ids first, and returns how many. Each gets the id of the discarded job back, which goes, and all that it had; it waits there as after queue.retry. One that somebody works on, whose queue is gone, whose unique key is taken, or into whose queue you may not enqueue, stays and is not counted. Needs privilege manage here and enqueue there.';

CREATE FUNCTION queue.result(job_id bigint, wait interval = '0') RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_result';
COMMENT ON FUNCTION queue.result IS
    'The result of a completed job, waiting for its end at most so long (capped by queue.max_wait). 55000 if its queue keeps no completed jobs, or if it is a job of this open transaction. NULL if it has none or the job is gone. Needs privilege read.';

CREATE FUNCTION queue.wait_for(job_id bigint, wait interval = '30 s') RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_wait_for';
COMMENT ON FUNCTION queue.wait_for IS
    'Waits for the job''s end, at most so long (capped by queue.max_wait), and returns its final state, or the current one at the deadline. NULL: it is gone or never was, or you may not see it; the last queue.recent_jobs that ended are known although their queue keeps nothing. Only READ COMMITTED (else 25001); a job of this open transaction: 55000. Needs privilege read.';

CREATE FUNCTION queue.explain_job(job_id bigint) RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_explain_job';
COMMENT ON FUNCTION queue.explain_job IS
    'Says in words what a job waits for, or how it ended and what to set to keep such jobs. Needs privilege read.';

CREATE PROCEDURE queue.await_idle(queue text, wait interval = '1 min', INOUT idle boolean = NULL)
    LANGUAGE C AS 'MODULE_PATHNAME', 'queue_sql_await_idle';
COMMENT ON PROCEDURE queue.await_idle IS
    'Waits, holding no snapshot, until no job of the queue is due or running (idle is true) or wait has passed (false). Jobs that are due later, and pending ones, do not count, but for one that is about to be let in as the next of its group or because all that it depends on has ended; those of a paused queue do. Outside of a transaction block only, and in READ COMMITTED: 25001. Needs privilege read.';

CREATE FUNCTION queue.doctor() RETURNS TABLE (check_name text, ok boolean, detail text, hint text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_doctor';
COMMENT ON FUNCTION queue.doctor IS
    'Checks everything that a job needs to be run: one row each, with what is wrong and what to do. Rows about queues and handlers only where you may read. Needs privilege read or manage on some queue.';

CREATE FUNCTION queue.maintain() RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_maintain';
COMMENT ON FUNCTION queue.maintain IS
    'Does once what the scheduler does for the tables, such as emptying those of finished jobs whose time is over, and queue.tick() unless it is called in a transaction block: for servers without shared_preload_libraries = ''queue'', called by pg_cron or the like; harmless beside a scheduler. A part that fails is a warning. Needs privilege manage on *.';

CREATE FUNCTION queue.adopt() RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_adopt';
COMMENT ON FUNCTION queue.adopt IS
    'In a restored or cloned database: lets this copy run the handlers and schedules that were registered in the original; schedules go on from now. Sets sequences above the ids that are there, and has the scheduler look at all groups and dependencies. Needs privilege manage on *.';

CREATE FUNCTION queue.test_run(job_id bigint, raise_error boolean = true) RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_test_run';
COMMENT ON FUNCTION queue.test_run IS
    'For tests: runs one job''s SQL handler now, in this transaction, as the current user, who must be the handler''s run_as (else 42501); returns the job''s new state. raise_error: the handler''s error is raised. 55000, in the words of queue.explain_job, if a limit, a pause, a key, what it waits for, or a run_at to come is in the way (queue.alter_job changes that); rates do not count.';

CREATE FUNCTION queue.test_drain(queue text = 'default', with_retries boolean = false, with_scheduled boolean = false)
    RETURNS TABLE (job_id bigint, state text, error text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_test_drain';
COMMENT ON FUNCTION queue.test_drain IS
    'For tests: runs a queue''s due jobs as queue.test_run does, one by one, until none is left; what a limit, a pause or a key holds back is left. with_retries: also those that wait for a retry, at once. with_scheduled: also those whose run_at is to come, in that order, each once.';

-- ---------------------------------------------------------------------------
-- Queues.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue.create_queue(
    name text,
    max_attempts int = 25,
    lease interval = '5 min',
    backoff jsonb = NULL,
    max_running int = NULL,
    max_running_per_key int = NULL,
    rate_limit int = NULL,
    rate_period interval = '1 s',
    reserved jsonb = NULL,
    dead_letter text = NULL,
    keep_completed interval = '0',
    keep_discarded interval = '30 days',
    rate_limit_per_key int = NULL,
    fair int = NULL,
    ageing interval = NULL,
    on_group_discard text = 'continue',
    on_discarded text = NULL,
    description text = NULL,
    if_not_exists boolean = false) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_create_queue';
COMMENT ON FUNCTION queue.create_queue IS
    'Creates a queue. Name: 1 to 200 bytes, not * (22023); one that exists: 23505, unless if_not_exists. lease: how long a claim holds, and how long a SQL handler may run. backoff: {"type": "polynomial" | "exponential" | "linear" | "fixed", "base": "15 s", "factor": 2, "cap": "1 day", "jitter": 0.1}. keep_completed, keep_discarded: at least so long; 1000 years is for ever. Changed, they hold for jobs that are kept already too: with more these are kept longer; with less a table of kept jobs goes as soon as all that are in it may, those of other queues included, but what was to be kept for more than 400 days stays (queue.delete_jobs removes jobs at once). dead_letter: a queue that gets a copy of each discarded job, with a new id, the same kind, and an origin that tells where it was; only handlers that name that queue serve it; not this queue itself, nor one whose dead letters come back here (22023); needs enqueue there. on_discarded: a kind of which each discarded job of another kind makes one here, with that job as its payload. description: for people. on_group_discard: a discarded job lets its group go on (continue), or holds it and is kept until it is retried, cancelled or deleted (hold). max_running: at most so many claims are in force at once, of executors, HTTP and external workers together. rate_limit: at most so many claims in each rate_period, evenly. max_running_per_key, rate_limit_per_key: the same for the jobs of each concurrency_key. reserved, as in {"-10": 2}: so many of the database''s executors are kept for jobs of this priority and more urgent ones; at least one is not. fair (1 to 1048575): within a priority the concurrency keys take turns of so many jobs; jobs without a key are one more key. ageing: a job gains one step of priority for each such interval that it waits. Needs privilege manage on *.';

CREATE FUNCTION queue.alter_queue(
    name text,
    max_attempts int = NULL,
    lease interval = NULL,
    backoff jsonb = NULL,
    max_running int = NULL,
    max_running_per_key int = NULL,
    rate_limit int = NULL,
    rate_period interval = NULL,
    reserved jsonb = NULL,
    dead_letter text = NULL,
    keep_completed interval = NULL,
    keep_discarded interval = NULL,
    rate_limit_per_key int = NULL,
    fair int = NULL,
    ageing interval = NULL,
    on_group_discard text = NULL,
    on_discarded text = NULL,
    description text = NULL,
    reset text[] = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_alter_queue';
COMMENT ON FUNCTION queue.alter_queue IS
    'Changes a queue''s settings, which are those of queue.create_queue; NULL leaves as is, reset puts the options that it names back to their defaults. Unknown queue, or option in reset: 42704. Needs privilege manage; for dead_letter also enqueue there.';

CREATE FUNCTION queue.drop_queue(name text, force boolean = false) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_drop_queue';
COMMENT ON FUNCTION queue.drop_queue IS
    'Drops a queue. 55000 while it has unfinished jobs, or a workflow that has not finished would enqueue its callbacks or compensations in it, unless force, which deletes the jobs, running ones too, and closes workflows of the queue: what they would have enqueued comes when a queue of that name is created again, and doctor() names them. 55000 too from the handler of one of its jobs. Finished jobs and errors stay as long as they are kept. Privileges on it end; handlers that name it stay, for a queue of that name that is created again. With force, beside a transaction that has enqueued and then ends, claims or replaces a job of the queue, one of the two may get 40P01 (deadlock). Needs privilege manage.';

CREATE FUNCTION queue.pause(queue text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_pause';
COMMENT ON FUNCTION queue.pause IS
    'Nothing more of this queue is run or fetched until queue.resume; what runs goes on. ''*'': all queues, also new ones, by a switch of its own beside each queue''s (stat_queue shows both). Needs privilege manage; on * for ''*''.';

CREATE FUNCTION queue.resume(queue text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_resume';
COMMENT ON FUNCTION queue.resume IS
    'Undoes queue.pause. ''*'' undoes pause(''*''): a queue that was paused by its name stays paused. Needs privilege manage; on * for ''*''.';

CREATE FUNCTION queue.purge(queue text) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_purge';
COMMENT ON FUNCTION queue.purge IS
    'Deletes the waiting jobs of a queue and returns how many; running and finished ones stay. Needs privilege manage.';

CREATE FUNCTION queue.metrics() RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_metrics';
COMMENT ON FUNCTION queue.metrics IS
    'The stat views as OpenMetrics text, for Prometheus and others (application/openmetrics-text; version=1.0.0): of all that you may see there, with histograms of how long the kinds'' attempts waited and ran. It scans no job table. promtool check metrics parses it, and misses the help of counters, because it knows only the older format. Needs privilege read, or membership in pg_monitor.';

CREATE FUNCTION queue.stat_reset(queue text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_stat_reset';
COMMENT ON FUNCTION queue.stat_reset IS
    'Lets the totals and times of a queue in queue.stat_queue and queue.stat_kind begin anew, at once and for good; without a queue, or of *, those of all queues, and those of queue.stat_handler. How many jobs wait or run is not touched. Needs privilege manage there.';

CREATE FUNCTION queue.grant_queue(queue text, role name, privilege text = 'enqueue') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_grant_queue';
COMMENT ON FUNCTION queue.grant_queue IS
    'Gives a role a privilege on a queue: enqueue, work, read or manage (which includes the others); * is all queues, also future ones. Unknown queue or role: 42704; unknown privilege: 22023. Needs privilege manage.';

CREATE FUNCTION queue.revoke_queue(queue text, role name, privilege text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_revoke_queue';
COMMENT ON FUNCTION queue.revoke_queue IS
    'Takes a privilege on a queue from a role; NULL: all of them. Needs privilege manage.';

-- ---------------------------------------------------------------------------
-- Handlers.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue.register_sql_handler(
    kind text,
    function text,
    queues text[] = NULL,
    timeout interval = NULL,
    max_attempts int = NULL,
    backoff jsonb = NULL,
    max_running int = NULL,
    rate_limit int = NULL,
    rate_period interval = '1 s',
    run_as name = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_register_sql_handler';
COMMENT ON FUNCTION queue.register_sql_handler IS
    'Lets the server run this kind''s jobs with a function f(queue.job) or f(jsonb) that returns void or jsonb, as role run_as (default the current user, who must be a member of it). The owner of the function must have the privileges of run_as, or be a superuser. queues: only there; NULL: in every queue that no other handler of the kind names, which like kind * (kinds without a handler of their own in the queue) needs manage on *. Registering again replaces one''s own handlers of the kind that share a queue; another role''s: 42501. timeout: default the queue''s lease; ''0'' none. Needs privilege manage, and for run_as work, on each queue. max_running, rate_limit: of its jobs in all its queues together, as in queue.create_queue.';

CREATE FUNCTION queue.register_http_handler(
    kind text,
    url text,
    queues text[] = NULL,
    method text = 'POST',
    headers jsonb = NULL,
    timeout interval = '30 s',
    connect_timeout interval = '5 s',
    max_attempts int = NULL,
    backoff jsonb = NULL,
    max_running int = 100,
    rate_limit int = NULL,
    rate_period interval = '1 s',
    secret text = NULL,
    complete_on text[] = '{200-299}',
    discard_on text[] = '{410}',
    health_url text = NULL,
    health_timeout interval = '1 min',
    ca_file text = NULL,
    breaker jsonb = NULL,
    body text = 'payload') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_register_http_handler';
COMMENT ON FUNCTION queue.register_http_handler IS
    'Lets the server send this kind''s jobs to an HTTP endpoint: the payload as a JSON body, at least once, with an Idempotency-Key that is equal over all attempts. Registering again replaces one''s own handlers of the kind that share a queue, with all their endpoints; another role''s: 42501. Statuses in complete_on complete the job, those in discard_on discard it, 202 with Retry-After snoozes it, 202 with Queue-Await lets it wait for an event (queue.await_event), all else (also timeouts, broken connections, redirects) fails the attempt, honouring Retry-After. timeout: of the whole request, above 0, at most 1 day; a job''s own timeout goes before. max_running: at most so many claims of its kinds are in force at once, requests and those of external workers together. secret: signs as Standard Webhooks (whsec_.. is base64, else as it is). health_url: nothing is sent before it answers 200. breaker: {"failure_rate": 0.7, "min_requests": 10, "consecutive_failures": 10, "interval": "1 min", "pause": "0.5 s", "factor": 1.5, "jitter": 0.5, "cap": "1 min", "probes": 4, "successes": 4}. rate_limit: at most so many requests begin in each rate_period, evenly. body: ''payload'', or ''job'': {"job": as queue.job shows it, "dependencies": as of queue.dependency_results, "steps": what queue.save_step stored, "event": {"name", "status", "payload"} of what it awaited last}. queues: as in queue.register_sql_handler. Needs privilege manage on each queue; on * for queues null, kind * and ca_file.';

CREATE FUNCTION queue.alter_http_handler(
    kind text,
    queue text = NULL,
    url text = NULL,
    queues text[] = NULL,
    method text = NULL,
    headers jsonb = NULL,
    timeout interval = NULL,
    connect_timeout interval = NULL,
    max_attempts int = NULL,
    backoff jsonb = NULL,
    max_running int = NULL,
    rate_limit int = NULL,
    rate_period interval = NULL,
    complete_on text[] = NULL,
    discard_on text[] = NULL,
    health_url text = NULL,
    health_timeout interval = NULL,
    ca_file text = NULL,
    breaker jsonb = NULL,
    body text = NULL,
    secrets text[] = NULL,
    reset text[] = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_alter_http_handler';
COMMENT ON FUNCTION queue.alter_http_handler IS
    'Changes an HTTP handler and keeps its endpoints; NULL leaves as is, reset puts the named options back to their defaults (unknown name: 42704). Options as in queue.register_http_handler. secrets: requests are signed with each, so that a secret can be rotated: both, then the new one. url, health_url: of the only endpoint (55000 if there are several). queue: which of the kind''s handlers, by a queue that it names (* the one of all queues); NULL: one''s only one, else 22023. rate_limit: at most so many requests begin in each rate_period, evenly. For who registered it, or superusers.';

CREATE FUNCTION queue.add_endpoint(
    kind text,
    url text,
    weight int = 1,
    max_running int = NULL,
    health_url text = NULL,
    breaker jsonb = NULL,
    queue text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_add_endpoint';
COMMENT ON FUNCTION queue.add_endpoint IS
    'Adds an endpoint to an HTTP handler, or changes it. All endpoints share the load by weight (0: nothing), as far as their breakers and health allow; when no breaker allows any, one is taken at random. breaker: default the handler''s. 42704 if the kind has no HTTP handler. queue: which of the kind''s handlers, by a queue that it names (* the one of all queues); NULL: one''s only one, else 22023. For who registered it, or superusers.';

CREATE FUNCTION queue.remove_endpoint(kind text, url text, queue text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_remove_endpoint';
COMMENT ON FUNCTION queue.remove_endpoint IS
    'Removes an endpoint from an HTTP handler; requests under way go on. 42704 if there is none, 55000 if it is the last one. queue: which of the kind''s handlers, by a queue that it names (* the one of all queues); NULL: one''s only one, else 22023. For who registered it, or superusers.';

CREATE FUNCTION queue.unregister_handler(kind text, queue text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_unregister_handler';
COMMENT ON FUNCTION queue.unregister_handler IS
    'Removes a handler of a kind; its jobs then wait for another or for fetch. 42704 if there is none. queue: which of the kind''s handlers, by a queue that it names (* the one of all queues); NULL: one''s only one, else 22023. For who registered it, or manage on *.';

CREATE FUNCTION queue.pause_handler(kind text, queue text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_pause_handler';
COMMENT ON FUNCTION queue.pause_handler IS
    'The server runs no more jobs by this handler until queue.resume_handler; fetch may take them. 42704 if there is none. queue: which of the kind''s handlers, by a queue that it names (* the one of all queues); NULL: one''s only one, else 22023. For who registered it, or manage on *.';

CREATE FUNCTION queue.resume_handler(kind text, queue text = NULL) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_resume_handler';
COMMENT ON FUNCTION queue.resume_handler IS
    'Undoes queue.pause_handler. 42704 if there is none. queue: which of the kind''s handlers, by a queue that it names (* the one of all queues); NULL: one''s only one, else 22023. For who registered it, or manage on *.';

CREATE FUNCTION queue.current_job() RETURNS queue.job
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_current_job';
COMMENT ON FUNCTION queue.current_job IS
    'Inside a handler: the job being run; else NULL.';

-- ---------------------------------------------------------------------------
-- Schedules.  What is registered changes rarely; what each tick changes is a narrow row of its own.
-- ---------------------------------------------------------------------------
CREATE TABLE queue.schedule (
    name               text COLLATE "C" NOT NULL PRIMARY KEY,
    cron               text NOT NULL,
    timezone           text COLLATE "C" NOT NULL,
    kind               text COLLATE "C" NOT NULL,
    payload            jsonb NOT NULL,
    queue              text COLLATE "C" NOT NULL,
    priority           int NOT NULL,
    options            jsonb,           -- of each job, as enqueue_json has them
    missed             text COLLATE "C" NOT NULL,       -- which of the missed ticks come: all | last
    starts_at          timestamptz,
    ends_at            timestamptz,
    jitter             interval,
    expires_after      interval,        -- of each job, from its tick on
    overlap            text COLLATE "C" NOT NULL,       -- allow | skip | replace
    catch_up           interval NOT NULL,
    owner              name NOT NULL,   -- who registered it, and for whom its jobs are enqueued
    paused_at          timestamptz,
    system_identifier  bigint NOT NULL,
    database_oid       oid NOT NULL
);
CREATE TABLE queue.schedule_state (
    name         text COLLATE "C" NOT NULL PRIMARY KEY,
    reached      timestamptz NOT NULL,          -- ticks up to then are done with; only rises
    last_tick    timestamptz,                   -- the last one that came
    last_job_id  bigint,
    missed       bigint NOT NULL DEFAULT 0,     -- ticks that came too late to be made up for
    skipped      bigint NOT NULL DEFAULT 0,     -- because of overlap, or because the unique key was taken
    reason       text                           -- why the last try of a tick failed
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE queue.maintained (         -- one row, made by the first queue.tick() or queue.maintain(); a restore may bring another
    at  timestamptz NOT NULL
);
ALTER TABLE queue.maintained REPLICA IDENTITY FULL;
COMMENT ON TABLE queue.schedule IS 'what queue.schedule registered; look at it through the view queue.schedule_status';
COMMENT ON TABLE queue.schedule_state IS 'how far each schedule has come';
COMMENT ON TABLE queue.maintained IS 'when queue.tick() or queue.maintain() was called last, within half a minute: whether there is a clock beside the scheduler';
SELECT pg_catalog.pg_extension_config_dump('queue.schedule', '');
SELECT pg_catalog.pg_extension_config_dump('queue.schedule_state', '');
SELECT pg_catalog.pg_extension_config_dump('queue.maintained', '');
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON queue.schedule
    FOR EACH STATEMENT EXECUTE FUNCTION queue_internal.config_changed();
ALTER TABLE queue.schedule ENABLE ALWAYS TRIGGER config_changed;

CREATE FUNCTION queue.schedule(
    name text,
    cron text,
    kind text,
    payload jsonb = '{}',
    queue text = 'default',
    priority int = 0,
    timezone text = 'UTC',
    options jsonb = NULL,
    overlap text = 'allow',
    catch_up interval = '10 min') RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_schedule';
COMMENT ON FUNCTION queue.schedule IS
    'Enqueues a job at each tick of a cron line, once per tick whatever crashes. cron: five fields (minute, hour, day of month, month, day of week) with lists, ranges, steps and names, $ for the last day of the month; @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually; or ''N seconds'', 1 to 59. A day matches as in cron: by the month or the week, unless one of the two begins with *. What is wrong in a line, and dates that never come: 22023, which names the field. timezone: a name of pg_timezone_names; a time of the day that the clock leaves out ticks right after the gap, one that comes twice the first time only; lines with * in minute or hour follow the clock. options: of queue.enqueue but for kind, payload, queue, priority, run_at, delay, workflow and depends_on (22023), expires_at as an interval after the tick, and starts_at, ends_at (no tick before or after), jitter (an interval within which each job is put off), missed (''last'': of several missed ticks only the newest comes). overlap, while the last tick''s job has not ended: ''allow'', ''skip'' (the tick is counted), ''replace'' (that job is cancelled, and the tick''s comes when it has ended). catch_up: ticks missed by no more than this are made up for, oldest first; older ones are counted. A taken unique_key counts as skipped. Registering the same again changes nothing; a change forgets ticks that were due before it. Another queue''s schedule of the name, which one may not manage: 42501. Needs privilege manage on the queue; the jobs need that its owner may enqueue there at each tick.';

CREATE FUNCTION queue.unschedule(name text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_unschedule';
COMMENT ON FUNCTION queue.unschedule IS
    'Removes a schedule; false: there is none of the name. Its jobs stay. Needs privilege manage on its queue.';

CREATE FUNCTION queue.pause_schedule(name text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_pause_schedule';
COMMENT ON FUNCTION queue.pause_schedule IS
    'Leaves out the ticks of a schedule until queue.resume_schedule. Unknown: 42704. Needs privilege manage on its queue.';

CREATE FUNCTION queue.resume_schedule(name text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_resume_schedule';
COMMENT ON FUNCTION queue.resume_schedule IS
    'Undoes queue.pause_schedule: the next tick is the next one from now on. Unknown: 42704. Needs privilege manage on its queue.';

CREATE FUNCTION queue.run_schedule(name text) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_run_schedule';
COMMENT ON FUNCTION queue.run_schedule IS
    'Enqueues the job of a schedule now, beside its ticks, whatever overlap says and also while it is paused; gives the job''s id. Unknown: 42704. Needs privilege manage on its queue.';

CREATE FUNCTION queue.next_ticks(cron text, timezone text = 'UTC', qty bigint = 5, after timestamptz = NULL) RETURNS SETOF timestamptz
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_next_ticks';
COMMENT ON FUNCTION queue.next_ticks IS
    'The next ticks of a cron line, of now or of after; see queue.schedule. Needs a privilege on some queue.';

CREATE FUNCTION queue.tick() RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_tick';
COMMENT ON FUNCTION queue.tick IS
    'Enqueues what schedules have due, and says how many jobs that were: for servers without shared_preload_libraries = ''queue'', where queue.maintain() does it too; any number of callers at once, beside a scheduler as well. Only outside of a transaction block and in READ COMMITTED: 25001. Needs privilege manage on *.';

CREATE FUNCTION queue_internal.schedule_status_rows() RETURNS TABLE (
    name text, cron text, timezone text, kind text, queue text, owner name, state text, reason text,
    next_tick timestamptz, last_tick timestamptz, last_job_id bigint, missed bigint, skipped bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_schedule_status_rows';
COMMENT ON FUNCTION queue_internal.schedule_status_rows IS
    'internal: what queue.schedule_status shows';

CREATE VIEW queue.schedule_status WITH (security_barrier = true) AS
SELECT s.name, s.cron, s.timezone, s.kind, s.queue, s.owner, s.state, s.reason, s.next_tick, s.last_tick, s.last_job_id, s.missed, s.skipped
FROM queue_internal.schedule_status_rows() s;
COMMENT ON VIEW queue.schedule_status IS 'one row per schedule of the queues that you may read: state ready | paused | parked (it cannot enqueue, and reason says why; it is tried again by itself); next_tick NULL: none comes; missed: ticks that came too late to be made up for; skipped: ticks left out because of overlap or a taken unique_key';

-- ---------------------------------------------------------------------------
-- Topics.
-- ---------------------------------------------------------------------------
CREATE FUNCTION queue.create_workflow(
    name text = NULL,
    queue text = 'default',
    on_finished text = NULL,
    on_completed text = NULL,
    on_discarded text = NULL,
    payload jsonb = '{}') RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_create_workflow';
COMMENT ON FUNCTION queue.create_workflow IS
    'Makes a workflow, or batch, that jobs join by enqueue(.., workflow => id), and returns its id. It finishes when it is closed and all its jobs have ended: completed if all did, failed if one was discarded, else cancelled. Then a job of each kind that applies is enqueued once in queue, with this payload and origin {"workflow", "counts"}: on_finished, on_completed (all completed), on_discarded (one was discarded). Needs privilege enqueue.';

CREATE FUNCTION queue.close_workflow(workflow_id bigint) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_close_workflow';
COMMENT ON FUNCTION queue.close_workflow IS
    'From now on no more jobs join the workflow but from inside its own, nor in a later statement of a transaction that joined before; it finishes when all have ended. Needs privilege enqueue on its queue.';

CREATE FUNCTION queue.enqueue_workflow(
    jobs jsonb,
    name text = NULL,
    queue text = 'default',
    on_finished text = NULL,
    on_completed text = NULL,
    on_discarded text = NULL,
    payload jsonb = '{}') RETURNS TABLE (workflow_id bigint, ref text, job_id bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_enqueue_workflow';
COMMENT ON FUNCTION queue.enqueue_workflow IS
    'A workflow in one call, closed at once: jobs as for queue.enqueue_json, each with a ref (not all digits) by which others name it: [{"ref": "a", "kind": "reserve"}, {"kind": "ship", "depends_on": ["a", 17]}]. A circle of refs is 22023 and tells its path. The other parameters as in queue.create_workflow. Also queue.enqueue_json(''{"workflow": {"jobs": [..], "name": ..}}''), which returns the workflow''s id. Needs privilege enqueue on all the queues.';

CREATE FUNCTION queue.cancel_workflow(workflow_id bigint, reason text = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_cancel_workflow';
COMMENT ON FUNCTION queue.cancel_workflow IS
    'Closes a workflow and cancels its jobs as queue.cancel does, running ones too; returns how many. If one of its jobs has compensate_with: waiting ones are cancelled, running ones are let end, and then those that completed are compensated. Needs privilege manage on its queue, which covers its jobs.';

CREATE FUNCTION queue.retry_workflow(workflow_id bigint) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_retry_workflow';
COMMENT ON FUNCTION queue.retry_workflow IS
    'Retries the discarded jobs of a workflow that are kept, and those that were cancelled because of them; returns how many. The workflow runs again; on_finished and on_discarded are not enqueued twice. 55000 if it is compensating or compensated. Needs privilege manage on its queue.';

CREATE FUNCTION queue.dependency_results(job_id bigint) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_dependency_results';
COMMENT ON FUNCTION queue.dependency_results IS
    '{"ref or id": result} of the jobs that a job depends on; null for one that gave none. A result is there for certain if the dependent was committed before its dependency ended, if both are of one workflow, or if the dependency''s queue keeps results. NULL: there is no such job. Needs privilege work or read.';

CREATE FUNCTION queue.subscribe(topic text, kind text, queue text = 'default', filter jsonpath = NULL) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_subscribe';
COMMENT ON FUNCTION queue.subscribe IS
    'From its commit on, each queue.publish to a topic that matches enqueues a job of this kind in this queue. Returns the id of the subscription; of one that is there with the same arguments, its id. topic: words with dots; * stands for one word, # for any number of words, none too (orders.# matches orders and orders.eu.paid). filter: a jsonpath over the payload, which passes if it gives true, or anything that is neither false nor null, such as ''$.total > 100'' or ''$ ? (@.total > 100)''; one that fails, or is wrong, lets nothing pass. A dropped queue''s subscriptions stay, for a queue of that name that is created again. Needs privilege manage on *.';

CREATE FUNCTION queue.unsubscribe(subscription_id bigint) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_sql_unsubscribe';
COMMENT ON FUNCTION queue.unsubscribe IS
    'Removes a subscription; false if there is none of this id. Jobs that it got stay. Needs privilege manage on *.';

-- ---------------------------------------------------------------------------
-- PUBLIC has nothing but what answers about oneself; queue.grant_queue gives the rest. What the installer's ALTER
-- DEFAULT PRIVILEGES gave to anybody is revoked.
-- ---------------------------------------------------------------------------
SELECT queue_internal.execute(format(statement, grantee))
FROM (SELECT 'PUBLIC'
      UNION
      SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
      FROM (SELECT c.relacl, c.relowner FROM pg_catalog.pg_class c WHERE c.relnamespace = 'queue'::regnamespace
            UNION ALL
            SELECT p.proacl, p.proowner FROM pg_catalog.pg_proc p
            WHERE p.pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
            UNION ALL
            SELECT t.typacl, t.typowner FROM pg_catalog.pg_type t WHERE t.typnamespace = 'queue'::regnamespace
            UNION ALL
            SELECT n.nspacl, n.nspowner FROM pg_catalog.pg_namespace n
            WHERE n.nspname IN ('queue', 'queue_internal')) o (acl, owner),
           LATERAL pg_catalog.aclexplode(o.acl) a
      WHERE a.grantee NOT IN (0, o.owner)) g (grantee),
     (VALUES ('REVOKE ALL ON SCHEMA queue, queue_internal FROM %s'),
             ('REVOKE ALL ON ALL TABLES IN SCHEMA queue FROM %s'),
             ('REVOKE ALL ON ALL SEQUENCES IN SCHEMA queue FROM %s'),
             ('REVOKE ALL ON ALL ROUTINES IN SCHEMA queue, queue_internal FROM %s'),
             ('REVOKE ALL ON TYPE queue.role_name FROM %s')) v (statement);
GRANT EXECUTE ON FUNCTION queue_internal.may_read(text), queue.current_job() TO PUBLIC;

-- Monitoring sees the numbers of all queues, and no payloads.
GRANT USAGE ON SCHEMA queue TO pg_monitor;
GRANT SELECT ON queue.history, queue.stat_queue, queue.stat_kind, queue.stat_handler, queue.stat_endpoint, queue.stat_worker TO pg_monitor;
GRANT EXECUTE ON FUNCTION queue.doctor(), queue.metrics(), queue_internal.history_rows(), queue_internal.stat_queue_rows(), queue_internal.stat_kind_rows(),
    queue_internal.stat_handler_rows(), queue_internal.stat_endpoint_rows(), queue_internal.stat_worker_rows() TO pg_monitor;

-- A server that will run no jobs says so at once.
SELECT queue_internal.preload_notice();
