-- Extension queue_pgmq: pgmq's functions by name, arguments and results, its types, tables and what belongs in a dump.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
CREATE EXTENSION queue_pgmq;
SET LOCAL search_path = pg_catalog, public;
SELECT no_plan();

CREATE TEMP TABLE expected (signature text, result text);
INSERT INTO expected
-- read and read_grouped*, with and without poll, take an integer or a point in time; read (and set_vt) also what a driver leaves untyped
SELECT format('%s(queue_name text, vt %s, qty integer%s%s)', f.name || p.suffix, t.type, p.args,
              CASE WHEN f.name = 'read' THEN ', conditional jsonb' ELSE '' END), 'SETOF pgmq.message_record'
FROM unnest(ARRAY['read', 'read_grouped', 'read_grouped_rr', 'read_grouped_head']) f (name),
     unnest(ARRAY['integer', 'timestamp with time zone', 'text']) t (type),
     (VALUES ('', ''), ('_with_poll', ', max_poll_seconds integer, poll_interval_ms integer')) p (suffix, args)
WHERE t.type <> 'text' OR f.name = 'read'
UNION ALL
SELECT format('%s(%s text, %s%s)', f.name, f.queue, f.msg, a.args), f.result
FROM (VALUES ('send', 'queue_name', 'msg jsonb', 'SETOF bigint', 'jsonb'), ('send_batch', 'queue_name', 'msgs jsonb[]', 'SETOF bigint', 'jsonb[]'),
             ('send_batch_topic', 'routing_key', 'msgs jsonb[]', 'TABLE(queue_name text, msg_id bigint)', 'jsonb[]')) f (name, queue, msg, result, header),
     LATERAL (VALUES (''), (', headers ' || f.header), (', delay integer'), (', delay timestamp with time zone'),
                     (', headers ' || f.header || ', delay integer'), (', headers ' || f.header || ', delay timestamp with time zone')) a (args)
UNION ALL
SELECT format('set_vt(queue_name text, %s, vt %s)', i, t), 'SETOF pgmq.message_record'
FROM unnest(ARRAY['msg_id bigint', 'msg_ids bigint[]']) i, unnest(ARRAY['integer', 'timestamp with time zone']) t
UNION ALL
SELECT format('%s_notify_%s(queue_name text, throttle_interval_ms integer)', f, o), 'void'
FROM unnest(ARRAY['enable', 'update']) f, unnest(ARRAY['insert', 'delete']) o
UNION ALL
SELECT format('list_notify_%s_throttles()', o), 'TABLE(queue_name text, throttle_interval_ms integer, last_notified_at timestamp with time zone)'
FROM unnest(ARRAY['insert', 'delete']) o
UNION ALL
VALUES ('set_vt(queue_name text, msg_id text, vt text)', 'SETOF pgmq.message_record'),
    ('send_topic(routing_key text, msg jsonb)', 'integer'),
    ('send_topic(routing_key text, msg jsonb, headers jsonb)', 'integer'),
    ('send_topic(routing_key text, msg jsonb, delay integer)', 'integer'),
    ('send_topic(routing_key text, msg jsonb, headers jsonb, delay integer)', 'integer'),
    ('delete(queue_name text, msg_id bigint)', 'boolean'), ('delete(queue_name text, msg_ids bigint[])', 'SETOF bigint'),
    ('archive(queue_name text, msg_id bigint)', 'boolean'), ('archive(queue_name text, msg_ids bigint[])', 'SETOF bigint'),
    ('pop(queue_name text, qty integer)', 'SETOF pgmq.message_record'),
    ('create(queue_name text)', 'void'), ('create_non_partitioned(queue_name text)', 'void'), ('create_unlogged(queue_name text)', 'void'),
    ('create_partitioned(queue_name text, partition_interval text, retention_interval text, premake integer)', 'void'),
    ('convert_archive_partitioned(table_name text, partition_interval text, retention_interval text, leading_partition integer)', 'void'),
    ('create_fifo_index(queue_name text)', 'void'), ('create_fifo_indexes_all()', 'void'), ('detach_archive(queue_name text)', 'void'),
    ('drop_queue(queue_name text)', 'boolean'), ('drop_queue(queue_name text, partitioned boolean)', 'boolean'),
    ('purge_queue(queue_name text)', 'bigint'), ('list_queues()', 'SETOF pgmq.queue_record'),
    ('metrics(queue_name text)', 'pgmq.metrics_result'), ('metrics_all()', 'SETOF pgmq.metrics_result'),
    ('disable_notify_insert(queue_name text)', 'void'), ('disable_notify_delete(queue_name text)', 'void'),
    ('bind_topic(pattern text, queue_name text)', 'void'), ('unbind_topic(pattern text, queue_name text)', 'boolean'),
    ('list_topic_bindings()', 'TABLE(pattern text, queue_name text, bound_at timestamp with time zone, compiled_regex text)'),
    ('list_topic_bindings(queue_name text)', 'TABLE(pattern text, queue_name text, bound_at timestamp with time zone, compiled_regex text)'),
    ('test_routing(routing_key text)', 'TABLE(pattern text, queue_name text, compiled_regex text)'),
    ('validate_routing_key(routing_key text)', 'boolean'), ('validate_topic_pattern(pattern text)', 'boolean'),
    ('validate_queue_name(queue_name text)', 'void'), ('format_table_name(queue_name text, prefix text)', 'text'),
    ('acquire_queue_lock(queue_name text)', 'void');
SELECT set_eq(
    $$SELECT format('%s(%s)', proname, pg_get_function_identity_arguments(oid)), pg_get_function_result(oid)
      FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace AND proname NOT LIKE '\_%'$$,
    'SELECT * FROM expected', 'functions, arguments and results are pgmq''s');
SELECT is(
    (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
     WHERE attrelid = ('pgmq.' || t)::regclass AND attnum > 0), cols, t)
FROM (VALUES
    ('message_record', 'msg_id bigint, read_ct integer, enqueued_at timestamp with time zone, last_read_at timestamp with time zone, vt timestamp with time zone, message jsonb, headers jsonb'),
    ('queue_record', 'queue_name character varying, is_partitioned boolean, is_unlogged boolean, created_at timestamp with time zone'),
    ('metrics_result', 'queue_name text, queue_length bigint, newest_msg_age_sec integer, oldest_msg_age_sec integer, total_messages bigint, scrape_time timestamp with time zone, queue_visible_length bigint, default_partition_length bigint')
) v (t, cols);
SELECT tables_are('pgmq', ARRAY['meta', 'notify_insert_throttle', 'notify_delete_throttle', 'topic_bindings']);
SELECT set_eq($$SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'queue_pgmq'$$,
              $$SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relkind = 'r'$$,
              'every table is in the dump');
SELECT pgmq.create('Tap');
SELECT has_view('pgmq'::name, 'q_tap'::name);
SELECT has_table('pgmq'::name, 'a_tap'::name);
SELECT has_sequence('pgmq'::name, 'q_tap_msg_id_seq'::name);
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace AND prosecdef$$,
                'functions have no rights of their own');
SELECT throws_ok('SELECT pgmq.create_partitioned(''p'')', 'P0001', 'queue_pgmq has no partitioned queues', 'what cannot be had says so');
SELECT * FROM finish();
ROLLBACK;
