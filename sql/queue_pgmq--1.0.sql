-- queue_pgmq 1.0: pgmq's functions, types and tables by name, on top of queue.
--
-- A message queue x is the queue pgmq.x of queue; a message is a job of kind message there, its unique key is the
-- message's id, which pgmq counts from 1 in every queue.  Read is a lease, delete and archive complete the job, what was
-- never read is cancelled.  Functions run with the caller's rights, so queue.grant_queue decides who may do what.
\echo Use "CREATE EXTENSION queue_pgmq" to load this file. \quit

CREATE TABLE pgmq.meta (
    queue_name      varchar NOT NULL UNIQUE,
    is_partitioned  boolean NOT NULL,
    is_unlogged     boolean NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pgmq.notify_insert_throttle (
    queue_name            varchar NOT NULL CONSTRAINT notify_insert_throttle_queue_name_key UNIQUE
                          REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
    throttle_interval_ms  int NOT NULL DEFAULT 0,
    last_notified_at      timestamptz NOT NULL DEFAULT to_timestamp(0)
);
CREATE TABLE pgmq.notify_delete_throttle (
    queue_name            varchar NOT NULL CONSTRAINT notify_delete_throttle_queue_name_key UNIQUE
                          REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
    throttle_interval_ms  int NOT NULL DEFAULT 0,
    last_notified_at      timestamptz NOT NULL DEFAULT to_timestamp(0)
);
CREATE TABLE pgmq.topic_bindings (
    pattern         text NOT NULL,
    queue_name      text NOT NULL REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
    bound_at        timestamptz NOT NULL DEFAULT now(),
    -- * is one word, # any number of characters, all else is itself
    compiled_regex  text GENERATED ALWAYS AS ('^' || replace(replace(
                        regexp_replace(pattern, '([.+?{}()|\[\]\\^$])', '\\\1', 'g'), '*', '[^.]+'), '#', '.*') || '$') STORED,
    CONSTRAINT topic_bindings_unique_pattern_queue UNIQUE (pattern, queue_name)
);
SELECT pg_extension_config_dump('pgmq.meta', '');
SELECT pg_extension_config_dump('pgmq.notify_insert_throttle', '');
SELECT pg_extension_config_dump('pgmq.notify_delete_throttle', '');
SELECT pg_extension_config_dump('pgmq.topic_bindings', '');
GRANT USAGE ON SCHEMA pgmq TO pg_monitor;
GRANT SELECT ON pgmq.meta, pgmq.notify_insert_throttle, pgmq.notify_delete_throttle, pgmq.topic_bindings TO pg_monitor;

CREATE TYPE pgmq.message_record AS (
    msg_id        bigint,
    read_ct       integer,
    enqueued_at   timestamptz,
    last_read_at  timestamptz,
    vt            timestamptz,
    message       jsonb,
    headers       jsonb
);
CREATE TYPE pgmq.queue_record AS (
    queue_name      varchar,
    is_partitioned  boolean,
    is_unlogged     boolean,
    created_at      timestamptz
);
CREATE TYPE pgmq.metrics_result AS (
    queue_name                text,
    queue_length              bigint,
    newest_msg_age_sec        int,
    oldest_msg_age_sec        int,
    total_messages            bigint,
    scrape_time               timestamptz,
    queue_visible_length      bigint,
    default_partition_length  bigint
);
CREATE TYPE pgmq._job AS (job_id bigint, message pgmq.message_record);

-- ---------------------------------------------------------------------------
-- Names
-- ---------------------------------------------------------------------------
CREATE FUNCTION pgmq.format_table_name(queue_name text, prefix text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF queue_name ~ '[$;'']|--' THEN
        RAISE EXCEPTION 'queue name contains invalid characters: $, ;, --, or \''';
    END IF;
    RETURN lower(prefix || '_' || queue_name);
END $$;
CREATE FUNCTION pgmq.validate_queue_name(queue_name text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF length(queue_name) > 47 THEN
        RAISE EXCEPTION 'queue name is too long, maximum length is 47 characters';
    END IF;
END $$;
CREATE FUNCTION pgmq.acquire_queue_lock(queue_name text) RETURNS void
    LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(hashtext('pgmq.queue_' || queue_name)) $$;

-- The queue of queue; an error, pgmq's, where there is no such message queue.
CREATE FUNCTION pgmq._queue(queue_name text) RETURNS text
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    view_name text := pgmq.format_table_name(queue_name, 'q');
BEGIN
    IF view_name IS NULL OR to_regclass(format('pgmq.%I', view_name)) IS NULL THEN
        RAISE EXCEPTION 'relation "pgmq.%" does not exist', view_name
            USING ERRCODE = 'undefined_table', HINT = 'Create the queue first using pgmq.create().';
    END IF;
    RETURN 'pgmq.' || substr(view_name, 3);
END $$;

-- ---------------------------------------------------------------------------
-- Messages as jobs
-- ---------------------------------------------------------------------------
-- read_ct counts claims.  SQL NULL, which no payload can be, is told from JSON's null by a tag.
CREATE FUNCTION pgmq._message(j queue.job) RETURNS pgmq.message_record
    LANGUAGE sql STABLE AS $$
    SELECT ROW(j.unique_key::bigint, j.attempt, j.enqueued_at, j.started_at, coalesce(j.leased_until, j.run_at),
               CASE WHEN j.tags @> '{null}' THEN NULL ELSE j.payload END, j.headers)::pgmq.message_record
$$;
-- All of a queue, in no order.
CREATE FUNCTION pgmq._messages(queue text) RETURNS SETOF pgmq._job
    LANGUAGE sql STABLE AS $$
    SELECT j.id, pgmq._message(j) FROM queue.job j
    WHERE j.queue = $1 AND j.kind = 'message' AND j.state NOT IN ('completed', 'cancelled', 'discarded')
$$;
-- Some, by their ids; each once.
CREATE FUNCTION pgmq._find(queue text, msg_ids bigint[]) RETURNS SETOF pgmq._job
    LANGUAGE sql STABLE AS $$
    SELECT j.id, pgmq._message(j)
    FROM queue.find_jobs(jsonb_build_object('queue', $1, 'kind', 'message', 'unique_key', to_jsonb($2::text[])),
                         greatest(cardinality($2), 1)) j
    WHERE cardinality($2) > 0 ORDER BY j.unique_key::bigint
$$;
CREATE FUNCTION pgmq._take(job_ids bigint[], lease interval, qty bigint) RETURNS SETOF queue.job
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS '$libdir/queue', 'queue_sql_take';
-- A lease until then; at least a moment, because queue has no claims that last no time.
CREATE FUNCTION pgmq._lease(vt timestamptz) RETURNS interval
    LANGUAGE sql VOLATILE AS $$ SELECT greatest(vt - clock_timestamp(), interval '1 microsecond') $$;
-- Ends these jobs; gives those that were there.
CREATE FUNCTION pgmq._end(job_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE plpgsql AS $$
DECLARE
    done bigint[] := ARRAY(SELECT queue.complete_many(job_ids));
BEGIN
    -- what was never read is in nobody's hands; one that is read just now is looked at once more
    RETURN QUERY SELECT unnest(done) UNION ALL
        SELECT id FROM unnest(job_ids) id
        WHERE id <> ALL (done) AND CASE WHEN queue.cancel(id) THEN true ELSE queue.complete(id) END;
END $$;

-- ---------------------------------------------------------------------------
-- Notifications
-- ---------------------------------------------------------------------------
CREATE FUNCTION pgmq._notify(queue_name text, operation text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    IF operation = 'INSERT' THEN
        UPDATE pgmq.notify_insert_throttle t SET last_notified_at = clock_timestamp()
        WHERE lower(t.queue_name) = lower($1)
          AND clock_timestamp() - t.last_notified_at >= t.throttle_interval_ms * interval '1 ms'
        RETURNING t.queue_name INTO name;
    ELSE
        UPDATE pgmq.notify_delete_throttle t SET last_notified_at = clock_timestamp()
        WHERE lower(t.queue_name) = lower($1)
          AND clock_timestamp() - t.last_notified_at >= t.throttle_interval_ms * interval '1 ms'
        RETURNING t.queue_name INTO name;
    END IF;
    IF name IS NOT NULL THEN
        PERFORM pg_notify('pgmq.q_' || name || '.' || operation, NULL);
    END IF;
END $$;
CREATE FUNCTION pgmq._check_throttle(queue_name text, throttle_interval_ms integer) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    IF throttle_interval_ms < 0 THEN
        RAISE EXCEPTION 'throttle_interval_ms must be non-negative, got: %', throttle_interval_ms;
    END IF;
    IF NOT EXISTS (SELECT FROM pgmq.meta m WHERE m.queue_name = $1) THEN
        RAISE EXCEPTION 'Queue "%" does not exist. Create it first using pgmq.create()', queue_name;
    END IF;
END $$;
CREATE FUNCTION pgmq.enable_notify_insert(queue_name text, throttle_interval_ms integer DEFAULT 250) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq._check_throttle($1, $2);
    INSERT INTO pgmq.notify_insert_throttle VALUES ($1, $2, DEFAULT)
    ON CONFLICT ON CONSTRAINT notify_insert_throttle_queue_name_key DO UPDATE
    SET throttle_interval_ms = excluded.throttle_interval_ms, last_notified_at = DEFAULT;
END $$;
CREATE FUNCTION pgmq.enable_notify_delete(queue_name text, throttle_interval_ms integer DEFAULT 250) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq._check_throttle($1, $2);
    INSERT INTO pgmq.notify_delete_throttle VALUES ($1, $2, DEFAULT)
    ON CONFLICT ON CONSTRAINT notify_delete_throttle_queue_name_key DO UPDATE
    SET throttle_interval_ms = excluded.throttle_interval_ms, last_notified_at = DEFAULT;
END $$;
CREATE FUNCTION pgmq.disable_notify_insert(queue_name text) RETURNS void
    LANGUAGE sql AS $$ DELETE FROM pgmq.notify_insert_throttle t WHERE t.queue_name = $1 $$;
CREATE FUNCTION pgmq.disable_notify_delete(queue_name text) RETURNS void
    LANGUAGE sql AS $$ DELETE FROM pgmq.notify_delete_throttle t WHERE t.queue_name = $1 $$;
CREATE FUNCTION pgmq.update_notify_insert(queue_name text, throttle_interval_ms integer) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq._check_throttle($1, $2);
    UPDATE pgmq.notify_insert_throttle t SET throttle_interval_ms = $2, last_notified_at = DEFAULT WHERE t.queue_name = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Queue "%" does not have notify_insert enabled. Enable it first using pgmq.enable_notify_insert()', $1;
    END IF;
END $$;
CREATE FUNCTION pgmq.update_notify_delete(queue_name text, throttle_interval_ms integer) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq._check_throttle($1, $2);
    UPDATE pgmq.notify_delete_throttle t SET throttle_interval_ms = $2, last_notified_at = DEFAULT WHERE t.queue_name = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Queue "%" does not have notify_delete enabled. Enable it first using pgmq.enable_notify_delete()', $1;
    END IF;
END $$;
CREATE FUNCTION pgmq.list_notify_insert_throttles()
    RETURNS TABLE (queue_name text, throttle_interval_ms integer, last_notified_at timestamptz)
    LANGUAGE sql STABLE AS $$ SELECT * FROM pgmq.notify_insert_throttle ORDER BY 1 $$;
CREATE FUNCTION pgmq.list_notify_delete_throttles()
    RETURNS TABLE (queue_name text, throttle_interval_ms integer, last_notified_at timestamptz)
    LANGUAGE sql STABLE AS $$ SELECT * FROM pgmq.notify_delete_throttle ORDER BY 1 $$;

-- ---------------------------------------------------------------------------
-- Sending
-- ---------------------------------------------------------------------------
CREATE FUNCTION pgmq._validate_batch_params(msgs jsonb[], headers jsonb[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF coalesce(cardinality(msgs), 0) = 0 THEN
        RAISE EXCEPTION 'msgs cannot be NULL or empty';
    END IF;
    IF cardinality(headers) <> cardinality(msgs) THEN
        RAISE EXCEPTION 'headers array length (%) must match msgs array length (%)', cardinality(headers), cardinality(msgs);
    END IF;
END $$;
CREATE FUNCTION pgmq._enqueue(place text, id bigint, msg jsonb, headers jsonb, delay timestamptz) RETURNS bigint
    LANGUAGE sql AS $$
    SELECT queue.enqueue('message', coalesce(msg, 'null'), place, headers => headers, unique_key => id::text, on_conflict => 'error',
                         run_at => CASE WHEN delay > clock_timestamp() THEN delay END,
                         tags => CASE WHEN msg IS NULL THEN ARRAY['null'] END)
$$;
CREATE FUNCTION pgmq._send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz) RETURNS SETOF bigint
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
    ids bigint[] := ARRAY(SELECT nextval(format('pgmq.%I', 'q_' || substr(place, 6) || '_msg_id_seq')::regclass)
                          FROM generate_series(1, cardinality(msgs)));
BEGIN
    IF delay IS NULL THEN
        RAISE EXCEPTION 'delay must not be null' USING ERRCODE = 'not_null_violation';
    END IF;
    IF array_position(msgs, NULL) IS NULL AND array_position(msgs, 'null') IS NULL THEN
        PERFORM queue.enqueue_json_many((
            SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('kind', 'message', 'queue', place, 'unique_key', m.id::text,
                       'on_conflict', 'error', 'run_at', CASE WHEN delay > clock_timestamp() THEN delay END))
                   || jsonb_build_object('payload', m.msg)
                   || CASE WHEN m.header IS NULL THEN '{}' ELSE jsonb_build_object('headers', m.header) END ORDER BY m.id)
            FROM unnest(ids, msgs, headers) AS m (id, msg, header))::text);
    ELSE
        -- a null in JSON would be an option that is left out
        PERFORM pgmq._enqueue(place, m.id, m.msg, m.header, delay) FROM unnest(ids, msgs, headers) AS m (id, msg, header);
    END IF;
    PERFORM pgmq._notify(queue_name, 'INSERT');
    RETURN QUERY SELECT unnest(ids);
END $$;
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay timestamptz) RETURNS SETOF bigint
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
    id bigint := nextval(format('pgmq.%I', 'q_' || substr(place, 6) || '_msg_id_seq')::regclass);
BEGIN
    IF delay IS NULL THEN
        RAISE EXCEPTION 'delay must not be null' USING ERRCODE = 'not_null_violation';
    END IF;
    PERFORM pgmq._enqueue(place, id, msg, headers, delay);
    PERFORM pgmq._notify(queue_name, 'INSERT');
    RETURN NEXT id;
END $$;
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, NULL::jsonb, clock_timestamp()) $$;
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, $3, clock_timestamp()) $$;
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, NULL::jsonb, clock_timestamp() + make_interval(secs => $3)) $$;
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay timestamptz) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, NULL::jsonb, $3) $$;
CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay integer) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) $$;

CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz) RETURNS SETOF bigint
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq._validate_batch_params($2, $3);
    RETURN QUERY SELECT pgmq._send_batch($1, $2, $3, $4);
END $$;
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, NULL::jsonb[], clock_timestamp()) $$;
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[]) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, $3, clock_timestamp()) $$;
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay integer) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, NULL::jsonb[], clock_timestamp() + make_interval(secs => $3)) $$;
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay timestamptz) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, NULL::jsonb[], $3) $$;
CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay integer) RETURNS SETOF bigint
    LANGUAGE sql AS $$ SELECT pgmq.send_batch($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) $$;

-- ---------------------------------------------------------------------------
-- Reading
-- ---------------------------------------------------------------------------
-- The oldest visible messages; those that contain the condition.  vt null: the lease decides.
CREATE FUNCTION pgmq._read(queue_name text, lease interval, vt timestamptz, qty integer, conditional jsonb, wait interval)
    RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
BEGIN
    IF qty < 1 THEN
        RETURN;
    END IF;
    IF coalesce(conditional, '{}') = '{}' THEN
        RETURN QUERY SELECT m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, coalesce($3, m.vt), m.message, m.headers
            FROM queue.fetch(place, coalesce(qty, 2147483647), lease, wait, kinds => '{message}') j, pgmq._message(j) m
            ORDER BY 1;
    ELSE
        -- more than are wanted, because others may be faster with some
        RETURN QUERY SELECT m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, coalesce($3, m.vt), m.message, m.headers
            FROM pgmq._take(ARRAY(SELECT s.job_id FROM pgmq._messages(place) s
                                  WHERE (s.message).vt <= clock_timestamp() AND (s.message).message @> conditional
                                  ORDER BY (s.message).msg_id LIMIT qty::bigint + 1000), lease, coalesce(qty, 2147483647)) j,
                 pgmq._message(j) m
            ORDER BY 1;
    END IF;
END $$;
-- The same again and again, until there is something or the time is up.
CREATE FUNCTION pgmq._poll(queue_name text, lease interval, vt timestamptz, qty integer, conditional jsonb,
                           max_poll_seconds integer, poll_interval_ms integer) RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
    -- queue wakes who waits without a condition
    sleeps boolean := coalesce(conditional, '{}') <> '{}';
BEGIN
    LOOP
        RETURN QUERY SELECT * FROM pgmq._read($1, $2, $3, $4, $5,
            CASE WHEN sleeps THEN '0' ELSE greatest(deadline - clock_timestamp(), '0') END);
        EXIT WHEN FOUND OR clock_timestamp() >= deadline;
        PERFORM pg_sleep(least(poll_interval_ms / 1000.0, extract(epoch FROM deadline - clock_timestamp())));
    END LOOP;
END $$;
-- A time that a driver sends as text: seconds, or a point in time.
CREATE FUNCTION pgmq._vt(vt text) RETURNS timestamptz
    LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN vt ~ '^ *[-+]?\d+ *$' THEN clock_timestamp() + make_interval(secs => vt::int) ELSE vt::timestamptz END
$$;

CREATE FUNCTION pgmq.read(queue_name text, vt timestamptz, qty integer, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read($1, pgmq._lease($2), $2, $3, $4, '0') $$;
CREATE FUNCTION pgmq.read(queue_name text, vt integer, qty integer, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq.read($1, clock_timestamp() + make_interval(secs => $2), $3, $4) $$;
-- Drivers that leave the types open find this one.
CREATE FUNCTION pgmq.read(queue_name text, vt text, qty integer, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq.read($1, pgmq._vt($2), $3, $4) $$;
CREATE FUNCTION pgmq.read_with_poll(queue_name text, vt timestamptz, qty integer, max_poll_seconds integer DEFAULT 5,
                                    poll_interval_ms integer DEFAULT 100, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._poll($1, pgmq._lease($2), $2, $3, $6, $4, $5) $$;
CREATE FUNCTION pgmq.read_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
                                    poll_interval_ms integer DEFAULT 100, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$
    SELECT * FROM pgmq._poll($1, greatest(make_interval(secs => $2), '1 microsecond'), NULL, $3, $6, $4, $5)
$$;
CREATE FUNCTION pgmq.read_with_poll(queue_name text, vt text, qty integer, max_poll_seconds integer DEFAULT 5,
                                    poll_interval_ms integer DEFAULT 100, conditional jsonb DEFAULT '{}')
    RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq.read_with_poll($1, pgmq._vt($2), $3, $4, $5, $6) $$;

-- ---------------------------------------------------------------------------
-- Reading by groups: header x-pgmq-group; a group is open if its oldest message is visible
-- ---------------------------------------------------------------------------
-- way: head, one of each group; rr, the groups in turns; batch, one group after the other
CREATE FUNCTION pgmq._read_grouped(queue_name text, vt timestamptz, qty integer, way text) RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
    open_groups text[] := '{}';
    enough bigint := 0;
    g record;
BEGIN
    -- A group is one reader's at a time, to the end of its transaction: who comes second would else go on behind the head.
    FOR g IN
        SELECT x.name, count(*) FILTER (WHERE x.visible) AS messages
        FROM (SELECT coalesce((s.message).headers ->> 'x-pgmq-group', '_default_fifo_group') AS name, (s.message).msg_id,
                     (s.message).vt <= clock_timestamp() AS visible FROM pgmq._messages(place) s) x
        GROUP BY 1 HAVING (array_agg(x.visible ORDER BY x.msg_id))[1] ORDER BY min(x.msg_id)
    LOOP
        EXIT WHEN enough >= qty;
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtextextended('pgmq ' || place || ' ' || g.name, 0));
        open_groups := open_groups || g.name;
        enough := enough + CASE way WHEN 'batch' THEN g.messages ELSE 1 END;
    END LOOP;
    -- what is true of them under their locks
    RETURN QUERY WITH message AS (
        SELECT s.job_id, (s.message).msg_id, (s.message).vt <= clock_timestamp() AS visible,
               coalesce((s.message).headers ->> 'x-pgmq-group', '_default_fifo_group') AS name
        FROM pgmq._messages(place) s
    ), ranked AS (
        SELECT m.job_id, m.visible, first_value(m.visible) OVER w AS is_open, first_value(m.msg_id) OVER w AS head,
               row_number() OVER (PARTITION BY m.name, m.visible ORDER BY m.msg_id) AS rank
        FROM message m WHERE m.name = ANY (open_groups) WINDOW w AS (PARTITION BY m.name ORDER BY m.msg_id)
    )
    SELECT t.msg_id, t.read_ct, t.enqueued_at, t.last_read_at, $2, t.message, t.headers
    FROM pgmq._take(ARRAY(SELECT r.job_id FROM ranked r WHERE r.visible AND r.is_open AND (way <> 'head' OR r.rank = 1)
                          ORDER BY CASE way WHEN 'rr' THEN r.rank END, r.head, r.rank LIMIT qty),
                    pgmq._lease(vt), coalesce(qty, 2147483647)) j, pgmq._message(j) t;
END $$;
CREATE FUNCTION pgmq._poll_grouped(queue_name text, vt timestamptz, qty integer, way text, max_poll_seconds integer,
                                   poll_interval_ms integer) RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
BEGIN
    LOOP
        RETURN QUERY SELECT * FROM pgmq._read_grouped($1, $2, $3, $4);
        EXIT WHEN FOUND OR clock_timestamp() >= deadline;
        PERFORM pg_sleep(least(poll_interval_ms / 1000.0, extract(epoch FROM deadline - clock_timestamp())));
    END LOOP;
END $$;
CREATE FUNCTION pgmq.read_grouped(queue_name text, vt timestamptz, qty integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read_grouped($1, $2, $3, 'batch') $$;
CREATE FUNCTION pgmq.read_grouped(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read_grouped($1, clock_timestamp() + make_interval(secs => $2), $3, 'batch') $$;
CREATE FUNCTION pgmq.read_grouped_with_poll(queue_name text, vt timestamptz, qty integer, max_poll_seconds integer DEFAULT 5,
                                      poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._poll_grouped($1, $2, $3, 'batch', $4, $5) $$;
CREATE FUNCTION pgmq.read_grouped_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
                                      poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$
    SELECT * FROM pgmq._poll_grouped($1, clock_timestamp() + make_interval(secs => $2), $3, 'batch', $4, $5)
$$;
CREATE FUNCTION pgmq.read_grouped_rr(queue_name text, vt timestamptz, qty integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read_grouped($1, $2, $3, 'rr') $$;
CREATE FUNCTION pgmq.read_grouped_rr(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read_grouped($1, clock_timestamp() + make_interval(secs => $2), $3, 'rr') $$;
CREATE FUNCTION pgmq.read_grouped_rr_with_poll(queue_name text, vt timestamptz, qty integer, max_poll_seconds integer DEFAULT 5,
                                      poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._poll_grouped($1, $2, $3, 'rr', $4, $5) $$;
CREATE FUNCTION pgmq.read_grouped_rr_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
                                      poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$
    SELECT * FROM pgmq._poll_grouped($1, clock_timestamp() + make_interval(secs => $2), $3, 'rr', $4, $5)
$$;
CREATE FUNCTION pgmq.read_grouped_head(queue_name text, vt timestamptz, qty integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read_grouped($1, $2, $3, 'head') $$;
CREATE FUNCTION pgmq.read_grouped_head(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._read_grouped($1, clock_timestamp() + make_interval(secs => $2), $3, 'head') $$;
CREATE FUNCTION pgmq.read_grouped_head_with_poll(queue_name text, vt timestamptz, qty integer, max_poll_seconds integer DEFAULT 5,
                                      poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq._poll_grouped($1, $2, $3, 'head', $4, $5) $$;
CREATE FUNCTION pgmq.read_grouped_head_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
                                      poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$
    SELECT * FROM pgmq._poll_grouped($1, clock_timestamp() + make_interval(secs => $2), $3, 'head', $4, $5)
$$;
-- pgmq's index for these; here nothing is to be indexed: they look through the queue's messages.
CREATE FUNCTION pgmq.create_fifo_index(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgmq._queue($1); END $$;
CREATE FUNCTION pgmq.create_fifo_indexes_all() RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN END $$;

-- ---------------------------------------------------------------------------
-- Ending
-- ---------------------------------------------------------------------------
CREATE FUNCTION pgmq.pop(queue_name text, qty integer DEFAULT 1) RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
    popped queue.job[];
BEGIN
    IF qty < 1 THEN
        RETURN;
    END IF;
    popped := ARRAY(SELECT j FROM queue.fetch(place, coalesce(qty, 2147483647), kinds => '{message}') j);
    PERFORM queue.complete_many(ARRAY(SELECT j.id FROM unnest(popped) j), ARRAY(SELECT j.attempt FROM unnest(popped) j));
    IF cardinality(popped) > 0 THEN
        PERFORM pgmq._notify(queue_name, 'DELETE');
    END IF;
    -- as it was before: this is no read
    RETURN QUERY SELECT m.msg_id, m.read_ct - 1, m.enqueued_at, CASE WHEN m.read_ct > 1 THEN m.last_read_at END, j.run_at,
                        m.message, m.headers
        FROM unnest(popped) j, pgmq._message(j) m ORDER BY 1;
END $$;

CREATE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE plpgsql AS $$
DECLARE
    found_jobs pgmq._job[] := ARRAY(SELECT f FROM pgmq._find(pgmq._queue(queue_name), msg_ids) f);
    gone bigint[] := ARRAY(SELECT pgmq._end(ARRAY(SELECT f.job_id FROM unnest(found_jobs) f)));
BEGIN
    IF cardinality(gone) > 0 THEN
        PERFORM pgmq._notify(queue_name, 'DELETE');
    END IF;
    RETURN QUERY SELECT (f.message).msg_id FROM unnest(found_jobs) f WHERE f.job_id = ANY (gone);
END $$;
CREATE FUNCTION pgmq.delete(queue_name text, msg_id bigint) RETURNS boolean
    LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM pgmq.delete($1, ARRAY[$2])) $$;

CREATE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE plpgsql AS $$
DECLARE
    found_jobs pgmq._job[] := ARRAY(SELECT f FROM pgmq._find(pgmq._queue(queue_name), msg_ids) f);
    gone bigint[] := ARRAY(SELECT pgmq._end(ARRAY(SELECT f.job_id FROM unnest(found_jobs) f)));
BEGIN
    IF cardinality(gone) > 0 THEN
        PERFORM pgmq._notify(queue_name, 'DELETE');
    END IF;
    RETURN QUERY EXECUTE format($query$
        INSERT INTO pgmq.%I (msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers)
        SELECT (f.message).* FROM unnest($1) f WHERE f.job_id = ANY ($2) RETURNING msg_id
        $query$, pgmq.format_table_name(queue_name, 'a')) USING found_jobs, gone;
END $$;
CREATE FUNCTION pgmq.archive(queue_name text, msg_id bigint) RETURNS boolean
    LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM pgmq.archive($1, ARRAY[$2])) $$;

CREATE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt timestamptz) RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $$
DECLARE
    f pgmq._job;
    m pgmq.message_record;
BEGIN
    FOR f IN SELECT * FROM pgmq._find(pgmq._queue(queue_name), msg_ids) LOOP
        m := f.message;
        -- one that was read keeps its place and its claim; one that was not is put where its time is
        CONTINUE WHEN queue.heartbeat(f.job_id, greatest(vt - clock_timestamp(), '0')) IS NULL
            AND NOT (m.vt <= clock_timestamp() AND vt <= clock_timestamp())
            AND NOT queue.alter_job(f.job_id, run_at => vt)
            AND queue.heartbeat(f.job_id, greatest(vt - clock_timestamp(), '0')) IS NULL;
        m.vt := vt;
        RETURN NEXT m;
    END LOOP;
END $$;
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq.set_vt($1, $2, clock_timestamp() + make_interval(secs => $3)) $$;
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt timestamptz) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq.set_vt($1, ARRAY[$2], $3) $$;
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt integer) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$ SELECT * FROM pgmq.set_vt($1, ARRAY[$2], clock_timestamp() + make_interval(secs => $3)) $$;
-- Drivers that leave the types open find this one: one id or several, {1,2}.
CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id text, vt text) RETURNS SETOF pgmq.message_record
    LANGUAGE sql AS $$
    SELECT * FROM pgmq.set_vt($1, CASE WHEN $2 ~ '^ *{' THEN $2::bigint[] ELSE ARRAY[$2::bigint] END, pgmq._vt($3))
$$;

CREATE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
    gone bigint := queue.purge(place);
BEGIN
    -- those that are being read
    RETURN gone + (SELECT count(*) FROM pgmq._end(ARRAY(SELECT s.job_id FROM pgmq._messages(place) s)));
END $$;

-- ---------------------------------------------------------------------------
-- Queues
-- ---------------------------------------------------------------------------
-- What a client does to pgmq.q_x itself.
CREATE FUNCTION pgmq._q_changed() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    name text := substr(TG_TABLE_NAME, 3);
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pgmq.delete(name, OLD.msg_id);
        RETURN OLD;
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.msg_id IS NOT NULL OR NEW.read_ct <> 0 THEN
            RAISE EXCEPTION 'msg_id and read_ct of a new message cannot be chosen in pgmq.%', TG_TABLE_NAME
                USING ERRCODE = 'feature_not_supported', HINT = 'Insert vt, message and headers, or use pgmq.send().';
        END IF;
        NEW.msg_id := pgmq.send(name, NEW.message, NEW.headers, NEW.vt);
        RETURN NEW;
    END IF;
    IF (OLD.msg_id, OLD.read_ct, OLD.enqueued_at, OLD.last_read_at, OLD.message, OLD.headers) IS DISTINCT FROM
       (NEW.msg_id, NEW.read_ct, NEW.enqueued_at, NEW.last_read_at, NEW.message, NEW.headers) THEN
        RAISE EXCEPTION 'only vt of a message can be changed in pgmq.%', TG_TABLE_NAME
            USING ERRCODE = 'feature_not_supported', HINT = 'Delete the message and send another one.';
    END IF;
    PERFORM pgmq.set_vt(name, OLD.msg_id, NEW.vt);
    RETURN NEW;
END $$;
CREATE FUNCTION pgmq._create(queue_name text, is_unlogged boolean) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
    atable text := pgmq.format_table_name(queue_name, 'a');
    place text := 'pgmq.' || substr(qtable, 3);
    is_there boolean := to_regclass(format('pgmq.%I', qtable)) IS NOT NULL;
BEGIN
    PERFORM pgmq.validate_queue_name(queue_name);
    PERFORM pgmq.acquire_queue_lock(queue_name);
    IF is_there THEN
        RAISE NOTICE 'relation "%" already exists, skipping', qtable;
    ELSE
        -- a lease that ends makes a message visible again at once, however often
        PERFORM queue.create_queue(place, max_attempts => 2147483647, lease => '30 s', keep_completed => '0',
                                   keep_discarded => '0', description => 'message queue of pgmq', if_not_exists => true);
        EXECUTE format('CREATE SEQUENCE IF NOT EXISTS pgmq.%I AS bigint', qtable || '_msg_id_seq');
        EXECUTE format('CREATE VIEW pgmq.%I AS SELECT (s.message).* FROM pgmq._messages(%L) s', qtable, place);
        EXECUTE format('CREATE TRIGGER changed INSTEAD OF INSERT OR UPDATE OR DELETE ON pgmq.%I '
                       'FOR EACH ROW EXECUTE FUNCTION pgmq._q_changed()', qtable);
    END IF;
    EXECUTE format('CREATE TABLE IF NOT EXISTS pgmq.%I (msg_id bigint PRIMARY KEY, read_ct int DEFAULT 0 NOT NULL, '
                   'enqueued_at timestamptz DEFAULT now() NOT NULL, last_read_at timestamptz, '
                   'archived_at timestamptz DEFAULT now() NOT NULL, vt timestamptz NOT NULL, message jsonb, headers jsonb)',
                   atable);
    IF is_there THEN
        RAISE NOTICE 'relation "%" already exists, skipping', qtable || '_vt_idx';
    END IF;
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (archived_at)', 'archived_at_idx_' || queue_name, atable);
    INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged) VALUES ($1, false, $2) ON CONFLICT DO NOTHING;
END $$;
CREATE FUNCTION pgmq.create_non_partitioned(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgmq._create($1, false); END $$;
CREATE FUNCTION pgmq.create(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgmq._create($1, false); END $$;
-- It is logged all the same, which is what a crash does not empty.
CREATE FUNCTION pgmq.create_unlogged(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN PERFORM pgmq._create($1, true); END $$;
CREATE FUNCTION pgmq.create_partitioned(queue_name text, partition_interval text DEFAULT '10000',
                                        retention_interval text DEFAULT '100000', premake integer DEFAULT 4) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_queue_name(queue_name), pgmq.format_table_name(queue_name, 'q');
    RAISE EXCEPTION 'queue_pgmq has no partitioned queues'
        USING HINT = 'Use pgmq.create(): a queue needs no partitions here, and DELETE FROM pgmq.a_.. thins out an archive.';
END $$;
CREATE FUNCTION pgmq.convert_archive_partitioned(table_name text, partition_interval text DEFAULT '10000',
                                                 retention_interval text DEFAULT '100000', leading_partition int DEFAULT 10)
    RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'queue_pgmq has no partitioned archives'
        USING HINT = 'DELETE FROM pgmq.a_.. WHERE archived_at < .. thins out an archive.';
END $$;
CREATE FUNCTION pgmq.detach_archive(queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'detach_archive(queue_name) is deprecated and is a no-op. It will be removed in PGMQ v2.0. '
                  'Archive tables are no longer member objects.';
END $$;

CREATE FUNCTION pgmq.drop_queue(queue_name text) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
BEGIN
    PERFORM pgmq.acquire_queue_lock(queue_name);
    IF to_regclass(format('pgmq.%I', qtable)) IS NULL THEN
        RAISE NOTICE 'pgmq queue `%` does not exist', queue_name;
        RETURN false;
    END IF;
    PERFORM queue.drop_queue('pgmq.' || substr(qtable, 3), force => true);
    EXECUTE format('DROP VIEW pgmq.%I', qtable);
    EXECUTE format('DROP SEQUENCE IF EXISTS pgmq.%I', qtable || '_msg_id_seq');
    EXECUTE format('DROP TABLE IF EXISTS pgmq.%I', pgmq.format_table_name(queue_name, 'a'));
    DELETE FROM pgmq.meta m WHERE lower(m.queue_name) = lower($1);
    RETURN true;
END $$;
CREATE FUNCTION pgmq.drop_queue(queue_name text, partitioned boolean) RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'drop_queue(queue_name, partitioned) is deprecated and will be removed in PGMQ v2.0. '
                  'Use drop_queue(queue_name) instead';
    RETURN pgmq.drop_queue(queue_name);
END $$;
CREATE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record
    LANGUAGE sql STABLE AS $$ SELECT m.queue_name, m.is_partitioned, m.is_unlogged, m.created_at FROM pgmq.meta m $$;

CREATE FUNCTION pgmq.metrics(queue_name text) RETURNS pgmq.metrics_result
    LANGUAGE plpgsql AS $$
DECLARE
    place text := pgmq._queue(queue_name);
    m pgmq.metrics_result;
BEGIN
    SELECT $1, count(*), extract(epoch FROM now() - max((s.message).enqueued_at))::int,
           extract(epoch FROM now() - min((s.message).enqueued_at))::int,
           coalesce(pg_sequence_last_value(format('pgmq.%I', 'q_' || substr(place, 6) || '_msg_id_seq')::regclass), 0), now(),
           count(*) FILTER (WHERE (s.message).vt <= clock_timestamp()), NULL
    INTO m FROM pgmq._messages(place) s;
    RETURN m;
END $$;
CREATE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result
    LANGUAGE sql AS $$ SELECT r.* FROM pgmq.meta m, pgmq.metrics(m.queue_name) r $$;

-- ---------------------------------------------------------------------------
-- Topics
-- ---------------------------------------------------------------------------
CREATE FUNCTION pgmq._check_topic(topic text, what text, other text, listed text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF coalesce(topic, '') = '' THEN
        RAISE EXCEPTION '% cannot be NULL or empty', what;
    ELSIF length(topic) > 255 THEN
        RAISE EXCEPTION '% length cannot exceed 255 characters, got % characters', what, length(topic);
    ELSIF topic !~ ('^[a-zA-Z0-9._' || other || '-]+$') THEN
        RAISE EXCEPTION '% contains invalid characters. Only alphanumeric, dots, hyphens, % are allowed. Got: %',
            what, listed, topic;
    ELSIF topic ~ '^[.]' THEN
        RAISE EXCEPTION '% cannot start with a dot. Got: %', what, topic;
    ELSIF topic ~ '[.]$' THEN
        RAISE EXCEPTION '% cannot end with a dot. Got: %', what, topic;
    ELSIF topic ~ '[.][.]' THEN
        RAISE EXCEPTION '% cannot contain consecutive dots. Got: %', what, topic;
    END IF;
END $$;
CREATE FUNCTION pgmq.validate_routing_key(routing_key text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM pgmq._check_topic(routing_key, 'routing_key', '', 'and underscores');
    RETURN true;
END $$;
CREATE FUNCTION pgmq.validate_topic_pattern(pattern text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM pgmq._check_topic(pattern, 'pattern', '*#', 'underscores, *, and #');
    IF pattern ~ '[*][*]' THEN
        RAISE EXCEPTION 'pattern cannot contain consecutive stars (**). Use # for multi-segment matching. Got: %', pattern;
    ELSIF pattern ~ '##' THEN
        RAISE EXCEPTION 'pattern cannot contain consecutive hashes (##). A single # already matches zero or more segments. Got: %',
            pattern;
    ELSIF pattern ~ '[*]#|#[*]' THEN
        RAISE EXCEPTION 'pattern cannot contain adjacent wildcards (*# or #*). Separate wildcards with dots. Got: %', pattern;
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION pgmq.bind_topic(pattern text, queue_name text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_topic_pattern($1);
    IF coalesce($2, '') = '' THEN
        RAISE EXCEPTION 'queue_name cannot be NULL or empty';
    ELSIF NOT EXISTS (SELECT FROM pgmq.meta m WHERE m.queue_name = $2) THEN
        RAISE EXCEPTION 'Queue "%" does not exist. Create the queue first using pgmq.create()', $2;
    END IF;
    INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ($1, $2)
    ON CONFLICT ON CONSTRAINT topic_bindings_unique_pattern_queue DO NOTHING;
END $$;
CREATE FUNCTION pgmq.unbind_topic(pattern text, queue_name text) RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce($1, '') = '' THEN
        RAISE EXCEPTION 'pattern cannot be NULL or empty';
    ELSIF coalesce($2, '') = '' THEN
        RAISE EXCEPTION 'queue_name cannot be NULL or empty';
    END IF;
    DELETE FROM pgmq.topic_bindings b WHERE b.pattern = $1 AND b.queue_name = $2;
    RETURN FOUND;
END $$;
CREATE FUNCTION pgmq.list_topic_bindings()
    RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
    LANGUAGE sql STABLE AS $$ SELECT * FROM pgmq.topic_bindings b ORDER BY b.bound_at DESC, b.pattern, b.queue_name $$;
CREATE FUNCTION pgmq.list_topic_bindings(queue_name text)
    RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
    LANGUAGE sql STABLE AS $$
    SELECT * FROM pgmq.topic_bindings b WHERE b.queue_name = $1 ORDER BY b.bound_at DESC, b.pattern
$$;
CREATE FUNCTION pgmq.test_routing(routing_key text) RETURNS TABLE (pattern text, queue_name text, compiled_regex text)
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM pgmq.validate_routing_key($1);
    RETURN QUERY SELECT b.pattern, b.queue_name, b.compiled_regex FROM pgmq.topic_bindings b
                 WHERE routing_key ~ b.compiled_regex ORDER BY b.pattern;
END $$;
CREATE FUNCTION pgmq._routes(routing_key text) RETURNS SETOF text
    LANGUAGE sql STABLE AS $$ SELECT DISTINCT r.queue_name FROM pgmq.test_routing($1) r ORDER BY 1 $$;
CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, headers jsonb, delay integer) RETURNS integer
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_routing_key($1);
    IF msg IS NULL THEN
        RAISE EXCEPTION 'msg cannot be NULL';
    ELSIF delay < 0 THEN
        RAISE EXCEPTION 'delay cannot be negative, got: %', delay;
    END IF;
    RETURN (SELECT count(*) FROM pgmq._routes(routing_key) r, pgmq.send(r, msg, headers, delay));
END $$;
CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb) RETURNS integer
    LANGUAGE sql AS $$ SELECT pgmq.send_topic($1, $2, NULL, 0) $$;
CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, headers jsonb) RETURNS integer
    LANGUAGE sql AS $$ SELECT pgmq.send_topic($1, $2, $3, 0) $$;
CREATE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, delay integer) RETURNS integer
    LANGUAGE sql AS $$ SELECT pgmq.send_topic($1, $2, NULL, $3) $$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay timestamptz)
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgmq.validate_routing_key($1), pgmq._validate_batch_params($2, $3);
    RETURN QUERY SELECT r, id FROM pgmq._routes(routing_key) r, pgmq._send_batch(r, msgs, headers, delay) id;
END $$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[]) RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$ SELECT * FROM pgmq.send_batch_topic($1, $2, NULL::jsonb[], clock_timestamp()) $$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[])
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$ SELECT * FROM pgmq.send_batch_topic($1, $2, $3, clock_timestamp()) $$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay integer)
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$
    SELECT * FROM pgmq.send_batch_topic($1, $2, NULL::jsonb[], clock_timestamp() + make_interval(secs => $3))
$$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay timestamptz)
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$ SELECT * FROM pgmq.send_batch_topic($1, $2, NULL::jsonb[], $3) $$;
CREATE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay integer)
    RETURNS TABLE (queue_name text, msg_id bigint)
    LANGUAGE sql AS $$ SELECT * FROM pgmq.send_batch_topic($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) $$;
