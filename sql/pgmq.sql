-- Extension queue_pgmq: pgmq's functions on top of queue.
CREATE EXTENSION queue;
SET client_min_messages = notice;
CREATE EXTENSION queue_pgmq;
\set VERBOSITY terse

-- queues: names, twice, unlogged, what is not to be had
SELECT pgmq.create('orders');
SELECT pgmq.create('orders');
SELECT pgmq.create_unlogged('Fast-Lane');
SELECT pgmq.create_non_partitioned('plain');
SELECT queue_name, is_partitioned, is_unlogged, created_at <= clock_timestamp() AS made FROM pgmq.list_queues() ORDER BY 1;
SELECT pgmq.create(repeat('n', 47)), pgmq.drop_queue(repeat('n', 47));
SELECT pgmq.create(repeat('n', 48));
SELECT pgmq.create('bad;name');
SELECT pgmq.format_table_name('Two-Words', 'a');
SELECT pgmq.format_table_name($$quo'te$$, 'q');
SELECT pgmq.delete('orders where false; drop table pgmq.meta', 1);
SELECT pgmq.create_partitioned('parts');
SELECT pgmq.create_partitioned(repeat('n', 48));
SELECT pgmq.convert_archive_partitioned('orders');
SELECT pgmq.detach_archive('orders');
SELECT pgmq.send('nowhere', '1');
SELECT * FROM pgmq.read('nowhere', 1, 1);
SELECT pgmq.drop_queue('nowhere');
SELECT name, max_attempts, lease, keep_completed, keep_discarded FROM queue.queue WHERE name LIKE 'pgmq.%' ORDER BY 1;

-- sending: ids count from 1 in each queue
SELECT * FROM pgmq.send('orders', '{"n": 1}');
SELECT * FROM pgmq.send('plain', '{"n": 1}');
SELECT * FROM pgmq.send('orders', '{"n": 2}', '{"from": "test"}'::jsonb);
SELECT * FROM pgmq.send('orders', '{"n": 3}', 1000);
SELECT * FROM pgmq.send('orders', '{"n": 4}', clock_timestamp() + interval '1000 s');
SELECT * FROM pgmq.send('orders', '{"n": 5}', '{"from": "test"}'::jsonb, 1000);
SELECT * FROM pgmq.send('orders', '{"n": 6}', '{"from": "test"}'::jsonb, clock_timestamp() - interval '1 s');
SELECT * FROM pgmq.send(queue_name => 'orders', msg => '{"n": 7}', headers => NULL::jsonb, delay => 1000);
SELECT ARRAY(SELECT pgmq.send_batch('orders', ARRAY['{"n": 8}', '"text"', 'null', NULL]::jsonb[]));
SELECT ARRAY(SELECT pgmq.send_batch('orders', ARRAY['{"n": 12}', '{"n": 13}']::jsonb[], ARRAY['{"h": null}', NULL]::jsonb[]));
SELECT ARRAY(SELECT pgmq.send_batch('orders', ARRAY['{"n": 14}']::jsonb[], 1000));
SELECT ARRAY(SELECT pgmq.send_batch('orders', ARRAY['{"n": 15}']::jsonb[], clock_timestamp() + interval '1000 s'));
SELECT ARRAY(SELECT pgmq.send_batch('orders', ARRAY['{"n": 16}']::jsonb[], ARRAY['{"h": 1}']::jsonb[], 1000));
SELECT ARRAY(SELECT pgmq.send_batch('orders', ARRAY['{"n": 17}']::jsonb[], ARRAY['{"h": 1}']::jsonb[], clock_timestamp()));
SELECT pgmq.send_batch('orders', ARRAY['1', '2']::jsonb[], ARRAY['{}']::jsonb[]);
SELECT pgmq.send_batch('orders', '{}'::jsonb[]);
SELECT pgmq.send_batch('orders', NULL::jsonb[]);
SELECT pgmq.send('orders', '1', '[]'::jsonb);
BEGIN;
SELECT pgmq.send('orders', '"rolled back"');
ROLLBACK;
SELECT msg_id, read_ct, last_read_at, vt > clock_timestamp() AS hidden, message, message IS NULL AS is_null, headers
FROM pgmq.q_orders ORDER BY 1;

-- reading: the oldest visible ones, once, counted
SELECT msg_id, read_ct, enqueued_at <= last_read_at AS later, vt > last_read_at + interval '99 s' AS hidden, message, message IS NULL AS is_null, headers
FROM pgmq.read('orders', 100, 3);
SELECT msg_id, message, message IS NULL AS is_null, headers FROM pgmq.read('orders', 100, 100);
SELECT count(*) FROM pgmq.read('orders', 100, 100);
SELECT count(*) FROM pgmq.read('orders', 100, 0);
-- a time-out of nothing: visible again at once
SELECT msg_id, read_ct FROM pgmq.read('plain', 0, 5);
SELECT msg_id, read_ct FROM pgmq.read('plain', 0, 5);
SELECT clock_timestamp() + interval '100 s' AS later \gset
SELECT msg_id, read_ct, vt = :'later' AS until_then FROM pgmq.read('plain', :'later'::timestamptz, 5);
SELECT count(*) FROM pgmq.read('plain', 0, 5);
-- what a driver sends that leaves the types open
PREPARE untyped AS SELECT msg_id, read_ct FROM pgmq.read($1, $2, $3);
SELECT msg_id, vt <= clock_timestamp() AS visible FROM pgmq.set_vt('plain', 1, 0);
EXECUTE untyped('plain', '100', 1);
PREPARE untyped_vt AS SELECT msg_id, vt > clock_timestamp() + interval '150 s' AS hidden FROM pgmq.set_vt($1, $2, $3);
EXECUTE untyped_vt('plain', '1', '200');
EXECUTE untyped_vt('plain', '{1,99}', '2100-01-01');
EXECUTE untyped_vt('plain', '1', '100');
-- by what they say
SELECT pgmq.create('cond');
SELECT count(*) FROM pgmq.send_batch('cond', ARRAY['{"type": "a", "n": 1}', '{"type": "b", "n": 2}', '{"type": "a", "n": 3}']::jsonb[]);
SELECT msg_id, read_ct, message FROM pgmq.read('cond', 100, 5, '{"type": "a"}');
SELECT msg_id FROM pgmq.read('cond', 100, 5, '{"type": "a"}');
SELECT msg_id FROM pgmq.read_with_poll('cond', 100, 5, 60, 10, '{"type": "b"}');
SELECT count(*) FROM pgmq.read_with_poll('cond', 100, 5, 0);
-- by number, also if the first one's turn comes last
SELECT pgmq.create('order');
SELECT count(*) FROM pgmq.send_batch('order', array_fill('{"o": 1}'::jsonb, ARRAY[4]));
SELECT msg_id FROM pgmq.set_vt('order', 1, 1000);
SELECT msg_id FROM pgmq.set_vt('order', 1, 0);
SELECT ARRAY(SELECT msg_id FROM pgmq.read('order', 0, 2, '{"o": 1}'));
SELECT ARRAY(SELECT msg_id FROM pgmq.read('order', 0, 4, '{"o": 1}'));
SELECT ARRAY(SELECT msg_id FROM pgmq.read('order', 0, 4));
SELECT ARRAY(SELECT msg_id FROM pgmq.set_vt('order', ARRAY[4, 3, 2, 1], 0));
SELECT ARRAY(SELECT pgmq.archive('order', ARRAY[3, 2]));
SELECT ARRAY(SELECT msg_id FROM pgmq.pop('order', 5)), pgmq.drop_queue('order');
-- a paused queue gives nothing, whatever is asked for
SELECT queue.pause('pgmq.cond'), (pgmq.set_vt('cond', 1, 0)).msg_id;
SELECT msg_id FROM pgmq.read('cond', 0, 5);
SELECT msg_id FROM pgmq.read('cond', 0, 5, '{"type": "a"}');
SELECT queue.resume('pgmq.cond');
SELECT msg_id FROM pgmq.read('cond', 100, 5, '{"type": "a"}');
-- in one transaction with the sending
BEGIN;
SELECT pgmq.send('cond', '"same"');
SELECT msg_id, message FROM pgmq.read_with_poll('cond', 100, 5, 60);
SELECT pgmq.delete('cond', 4);
SELECT count(*) FROM pgmq.q_cond;
ROLLBACK;
SELECT count(*) FROM pgmq.q_cond;
-- one that becomes visible while a reader waits
SELECT msg_id FROM pgmq.set_vt('cond', 2, clock_timestamp() + interval '200 ms');
SELECT msg_id, read_ct FROM pgmq.read_with_poll('cond', 100, 1, 60);
SELECT msg_id, read_ct, extract(epoch FROM vt - last_read_at)::int FROM pgmq.read_with_poll('cond', 100, 1, 0, 10, '{"n": 2}');

-- set_vt: read or not, one or many, to the microsecond
SELECT pgmq.create('vt');
SELECT count(*) FROM pgmq.send_batch('vt', ARRAY['1', '2', '3']::jsonb[]);
SELECT msg_id FROM pgmq.read('vt', 50, 1);
SELECT msg_id, read_ct, last_read_at IS NULL AS never_read, vt = :'later' AS until_then, message FROM pgmq.set_vt('vt', ARRAY[1, 2, 99], :'later'::timestamptz);
SELECT msg_id, abs(extract(epoch FROM vt - :'later'))  < 0.5 AS until_then FROM pgmq.q_vt ORDER BY 1;
SELECT msg_id FROM pgmq.read('vt', 0, 5);
SELECT msg_id FROM pgmq.set_vt('vt', ARRAY[1, 2], 0);
SELECT msg_id, read_ct FROM pgmq.read('vt', 0, 5);
SELECT * FROM pgmq.set_vt('vt', 99, 0);
-- without a read it is no attempt; what was read and seen again is one more each time
SELECT kind, failures, max_attempts FROM queue.find_jobs('{"queue": "pgmq.vt"}', 1);

-- pop: as it was before
SELECT pgmq.create('pop');
SELECT * FROM pgmq.pop('pop');
SELECT count(*) FROM pgmq.send_batch('pop', ARRAY['1', '2', '3', '4']::jsonb[]);
SELECT msg_id, read_ct, last_read_at, message FROM pgmq.pop('pop');
SELECT msg_id FROM pgmq.read('pop', 0, 1);
SELECT msg_id, read_ct, last_read_at IS NULL AS never_read FROM pgmq.pop('pop', 2);
SELECT count(*) FROM pgmq.pop('pop', 0);
SELECT msg_id FROM pgmq.pop(queue_name => 'pop', qty => 10);
SELECT count(*) FROM pgmq.q_pop;

-- delete and archive: read or not
SELECT pgmq.create('ends');
SELECT count(*) FROM pgmq.send_batch('ends', ARRAY['1', '2', '3', '4', '5', '6']::jsonb[], ARRAY['{"h": 1}', NULL, '{"h": 3}', NULL, NULL, NULL]::jsonb[]);
SELECT msg_id FROM pgmq.read('ends', 100, 2);
SELECT pgmq.delete('ends', 1), pgmq.delete('ends', 1), pgmq.delete('ends', 99);
SELECT ARRAY(SELECT pgmq.delete('ends', ARRAY[5, 4, 99, -1]));
SELECT pgmq.archive('ends', 2), pgmq.archive('ends', 2);
SELECT ARRAY(SELECT * FROM pgmq.archive('ends', ARRAY[3, 1, 99]));
SELECT ARRAY(SELECT pgmq.archive('ends', '{}'::bigint[]));
SELECT msg_id, read_ct, last_read_at IS NULL AS never_read, archived_at IS NOT NULL AS archived, message, headers FROM pgmq.a_ends ORDER BY 1;
SELECT msg_id FROM pgmq.q_ends;
-- what queue keeps of them: nothing
SELECT count(*) FROM queue.job WHERE queue = 'pgmq.ends' AND finished_at IS NOT NULL;

-- metrics, purge
SELECT * FROM pgmq.send('ends', '7', 1000);
SELECT queue_name, queue_length, newest_msg_age_sec >= 0 AS newest, oldest_msg_age_sec >= newest_msg_age_sec AS oldest, total_messages,
       scrape_time = now() AS now, queue_visible_length, default_partition_length FROM pgmq.metrics('ends');
SELECT queue_name, queue_length, total_messages FROM pgmq.metrics_all() ORDER BY 1;
SELECT msg_id FROM pgmq.read('ends', 100, 1);
SELECT pgmq.purge_queue('ends');
SELECT queue_length, newest_msg_age_sec, total_messages, queue_visible_length FROM pgmq.metrics('ends');
SELECT pgmq.metrics('nowhere');
SELECT pgmq.purge_queue('nowhere');

-- groups
SELECT pgmq.create('fifo'), pgmq.create_fifo_index('fifo'), pgmq.create_fifo_indexes_all();
SELECT count(*) FROM pgmq.send_batch('fifo', ARRAY['1', '2', '3', '4', '5', '6', '7']::jsonb[],
    (SELECT array_agg(CASE WHEN g <> '' THEN jsonb_build_object('x-pgmq-group', g) END) FROM unnest('{a,a,b,a,b,"",c}'::text[]) g));
SELECT msg_id, headers FROM pgmq.read_grouped_head('fifo', 0, 3);
SELECT msg_id FROM pgmq.read_grouped_head('fifo', 0, 10);
SELECT msg_id FROM pgmq.read_grouped_rr('fifo', 0, 10);
SELECT msg_id FROM pgmq.read_grouped_rr('fifo', 0, 5);
SELECT msg_id FROM pgmq.read_grouped('fifo', 0, 4);
-- a group whose head is hidden is closed, whoever asks; others are not
SELECT msg_id FROM pgmq.read_grouped_head('fifo', 100, 1);
SELECT msg_id FROM pgmq.read_grouped('fifo', 0, 10);
SELECT msg_id FROM pgmq.read_grouped_rr('fifo', 0, 10);
SELECT pgmq.delete('fifo', 1);
SELECT msg_id FROM pgmq.read_grouped_with_poll('fifo', 100, 2, 60, 10);
SELECT msg_id FROM pgmq.read_grouped_rr_with_poll('fifo', 100, 2, 60, 10);
SELECT msg_id, vt = :'later' AS until_then FROM pgmq.read_grouped_head_with_poll('fifo', :'later'::timestamptz, 2, 60, 10);
SELECT count(*) FROM pgmq.read_grouped_head_with_poll('fifo', 100, 2, 0, 10);

-- what clients do to the table itself
UPDATE pgmq.q_fifo SET vt = clock_timestamp() - interval '1 second' WHERE msg_id <> 7;
SELECT msg_id FROM pgmq.read_grouped_rr('fifo', 0, 10);
UPDATE pgmq.q_fifo SET message = '0';
INSERT INTO pgmq.q_fifo (vt, message, headers) VALUES (clock_timestamp() + interval '1000 s', '"inserted"', '{"h": 1}') RETURNING msg_id, message;
INSERT INTO pgmq.q_fifo (msg_id, vt, message) VALUES (99, now(), '1');
DELETE FROM pgmq.q_fifo WHERE msg_id < 8;
SELECT msg_id, read_ct, message, headers FROM pgmq.q_fifo;

-- notifications
LISTEN "pgmq.q_vt.INSERT";
LISTEN "pgmq.q_vt.DELETE";
SELECT pgmq.enable_notify_insert('vt', 3600000), pgmq.enable_notify_delete('vt');
SELECT queue_name, throttle_interval_ms, last_notified_at = to_timestamp(0) AS never FROM pgmq.list_notify_insert_throttles();
SELECT queue_name, throttle_interval_ms, last_notified_at = to_timestamp(0) AS never FROM pgmq.list_notify_delete_throttles();
\o /dev/null
SELECT pgmq.send('vt', '4');
\o
SELECT last_notified_at > to_timestamp(0) AS notified FROM pgmq.list_notify_insert_throttles();
SELECT last_notified_at AS notified FROM pgmq.list_notify_insert_throttles() \gset
SELECT count(*) FROM pgmq.send_batch('vt', ARRAY['5', '6']::jsonb[]);
SELECT last_notified_at = :'notified' AS throttled FROM pgmq.list_notify_insert_throttles();
SELECT pgmq.update_notify_insert('vt', 0);
SELECT throttle_interval_ms, last_notified_at = to_timestamp(0) AS never FROM pgmq.list_notify_insert_throttles();
SELECT pgmq.enable_notify_insert('vt', -1);
SELECT pgmq.enable_notify_insert('nowhere');
SELECT pgmq.update_notify_insert('vt', -1);
SELECT pgmq.update_notify_delete('vt', -1);
SELECT pgmq.update_notify_insert('nowhere', 1);
SELECT pgmq.update_notify_insert('plain', 1);
SELECT pgmq.update_notify_delete('plain', 1);
SELECT pgmq.disable_notify_insert('vt');
SELECT count(*) FROM pgmq.list_notify_insert_throttles();
UNLISTEN *;

-- topics
SELECT pgmq.validate_routing_key('app.user-service.log_in');
SELECT pgmq.validate_routing_key(k) FROM unnest(ARRAY['logs.*']) k;
SELECT pgmq.validate_routing_key('');
SELECT pgmq.validate_routing_key(NULL);
SELECT pgmq.validate_routing_key('.a');
SELECT pgmq.validate_routing_key('a.');
SELECT pgmq.validate_routing_key('a..b');
SELECT pgmq.validate_routing_key(repeat('a', 256));
SELECT pgmq.validate_topic_pattern(p) FROM unnest(ARRAY['a.*', 'a.#', '*.b', '#', 'a.*.#']) p;
SELECT pgmq.validate_topic_pattern('a.**');
SELECT pgmq.validate_topic_pattern('a.##');
SELECT pgmq.validate_topic_pattern('a.*#');
SELECT pgmq.validate_topic_pattern('a.(b|c)');
SELECT pgmq.bind_topic('logs.*', 'plain'), pgmq.bind_topic('logs.*', 'plain'), pgmq.bind_topic('logs.#', 'pop'), pgmq.bind_topic('#.error', 'pop');
SELECT pgmq.bind_topic('logs.*', 'nowhere');
SELECT pgmq.bind_topic('logs.*', '');
SELECT pattern, queue_name, compiled_regex FROM pgmq.list_topic_bindings() ORDER BY 1, 2;
SELECT pattern FROM pgmq.list_topic_bindings('plain');
SELECT pattern, queue_name FROM pgmq.test_routing('logs.error');
SELECT pattern, queue_name FROM pgmq.test_routing('logs.db.error');
SELECT pgmq.send_topic('logs.error', '{"t": 1}'), pgmq.send_topic('logs.db.info', '{"t": 2}', '{"h": 1}'::jsonb, 0),
       pgmq.send_topic('nobody', '{}'), pgmq.send_topic('logs.a.b', '{"t": 3}', 1000), pgmq.send_topic('x.error', '{"t": 4}', '{"h": 2}'::jsonb);
SELECT pgmq.send_topic('logs.error', NULL);
SELECT pgmq.send_topic('logs.error', '{}', NULL, -1);
SELECT pgmq.send_topic('logs error', '{}');
SELECT * FROM pgmq.send_batch_topic('logs.error', ARRAY['5', '6']::jsonb[]);
SELECT count(*) FROM pgmq.send_batch_topic('logs.error', ARRAY['7']::jsonb[], ARRAY['{}']::jsonb[], 1000);
SELECT msg_id, message, headers FROM pgmq.read('pop', 100, 10);
SELECT pgmq.unbind_topic('logs.#', 'pop'), pgmq.unbind_topic('logs.#', 'pop');

-- jobs of queue are not in the way, nor messages in that of workers
SELECT queue.enqueue('other', '{}', 'pgmq.plain') > 0 AS enqueued;
SELECT message FROM pgmq.read('plain', 100, 10);
SELECT pgmq.drop_queue('plain'), pgmq.drop_queue('Fast-Lane', true);
SELECT queue_name FROM pgmq.list_queues() ORDER BY 1;
SELECT to_regclass('pgmq.q_plain'), to_regclass('pgmq.a_plain'), to_regclass('pgmq.q_plain_msg_id_seq');
SELECT name FROM queue.queue WHERE name LIKE 'pgmq.%' ORDER BY 1;
BEGIN;
SELECT pgmq.create('gone'), pgmq.send('gone', '1');
ROLLBACK;
SELECT to_regclass('pgmq.q_gone');

-- the rights are queue's
CREATE ROLE queue_pgmq_reader;
SELECT queue.grant_queue('pgmq.orders', 'queue_pgmq_reader', 'manage');
GRANT USAGE ON SCHEMA pgmq TO queue_pgmq_reader;
GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA pgmq TO queue_pgmq_reader;
GRANT USAGE ON SEQUENCE pgmq.q_orders_msg_id_seq, pgmq.q_ends_msg_id_seq TO queue_pgmq_reader;
SET ROLE queue_pgmq_reader;
SELECT pgmq.send('orders', '"mine"');
SELECT pgmq.send('ends', '"not mine"');
SELECT * FROM pgmq.read('ends', 1, 1);
SELECT count(*) > 0 AS mine FROM pgmq.q_orders;
SELECT count(*) AS not_mine FROM pgmq.q_fifo;
RESET ROLE;
SELECT queue.revoke_queue('pgmq.orders', 'queue_pgmq_reader');
REVOKE ALL ON SCHEMA pgmq FROM queue_pgmq_reader;
REVOKE ALL ON ALL TABLES IN SCHEMA pgmq FROM queue_pgmq_reader;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgmq FROM queue_pgmq_reader;
DROP ROLE queue_pgmq_reader;

-- what is read by ids is free and due, and has an attempt left
SELECT queue.create_queue('taken');
SELECT queue.enqueue('free', queue => 'taken') AS free, queue.enqueue('later', queue => 'taken', delay => '1 hour') AS later, queue.enqueue('leased', queue => 'taken') AS leased, queue.enqueue('worn', queue => 'taken') AS worn \gset
UPDATE queue.live_job SET attempt = 2147483647 WHERE id = :worn;
SELECT kind FROM queue.fetch('taken', kinds => '{leased}');
SELECT kind, attempt FROM pgmq._take(ARRAY[NULL, :worn, :later, :leased, :free, :free], '1 min', 9);
SELECT queue.drop_queue('taken', true);

-- without the extension the messages stay, and are found again
SET client_min_messages = warning;
DROP EXTENSION queue_pgmq CASCADE;
CREATE EXTENSION queue_pgmq;
SELECT pgmq.create('fifo');
SELECT msg_id, message FROM pgmq.q_fifo;
SELECT pgmq.send('fifo', '"after"');
SELECT pgmq.drop_queue('fifo');
DROP EXTENSION queue_pgmq;
DROP SCHEMA pgmq CASCADE;
DROP EXTENSION queue;
