-- FIFO groups: one job of a group at a time, in the order of places.
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
\pset tuples_only on
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT queue.create_queue('other');
-- who promotes is another process, or (not preloaded) the next fetch or maintain(): until nothing is left to be let in
SET my.looks = 1500;
CREATE FUNCTION settle() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..current_setting('my.looks')::int LOOP
		PERFORM queue.maintain();
		IF NOT EXISTS (SELECT FROM queue.job j WHERE j.state = 'pending' AND queue.explain_job(j.id) ~ 'let in') THEN
			-- what the scheduler lets in is seen a moment before it tells fetches of it, which it does before it sleeps
			FOR j IN 1..500 LOOP
				EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'queue scheduler'
					AND wait_event_type IS DISTINCT FROM 'Extension');
				PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
			END LOOP;
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	SET my.looks = 20;
END $$;
CREATE FUNCTION add(text, text DEFAULT 'g', text DEFAULT 'q', delay interval DEFAULT NULL) RETURNS bigint LANGUAGE sql AS
	$$SELECT queue.enqueue($1, '{}', $3, group_key => $2, delay => $4)$$;
CREATE VIEW jobs AS SELECT queue, group_key, kind, state FROM queue.job ORDER BY queue, group_key, id;
CREATE FUNCTION id(text) RETURNS bigint LANGUAGE sql AS $$SELECT id FROM queue.job WHERE kind = $1$$;

-- bad keys
SELECT queue.enqueue('k', '{}', 'q', group_key => '');
SELECT queue.enqueue('k', '{}', 'q', group_key => repeat('x', 201));
SELECT queue.enqueue_json('{"kind": "k", "group_key": 7}');
SELECT queue.enqueue('k', '{}', 'q', group_key => repeat('x', 200)) > 0, queue.cancel(id('k'));

-- two groups and a job without one; each group's first is let in
SELECT add('a1'), add('a2'), add('a3'), add('b1', 'h'), queue.enqueue('free', '{}', 'q') \g /dev/null
SELECT settle();
SELECT * FROM jobs;
SELECT queue.explain_job(id('a2'));
SELECT kind, group_key FROM queue.fetch('q', 10);
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.complete(id('a1'), 1), queue.complete(id('b1'), 1), queue.cancel(id('free'));
-- the next one has not got its turn yet, or has: the queue is not idle
CALL queue.await_idle('q', '0');
SELECT settle();
SELECT kind FROM queue.fetch('q', 10);

-- a head that waits for its retry, is snoozed or delayed holds its own group only
SELECT queue.fail(id('a2'), 1, 'oh'), add('b2', 'h'), add('c1', 'i', delay => '1 hour'), add('c2', 'i') \g /dev/null
SELECT settle();
SELECT * FROM jobs WHERE state <> 'cancelled';
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.snooze(id('b2'), '1 hour', 1), add('b3', 'h') \g /dev/null
SELECT settle();
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.explain_job(id('b3')) = format('pending; waits: job %s of its group goes first', id('b2'));

-- a head that is cancelled, purged, or moved away lets the next one in; a retry in its place
SELECT queue.cancel(id('a2')), queue.alter_job(id('c1'), run_at => clock_timestamp()) \g /dev/null
SELECT settle();
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.retry(id('b2')) \g /dev/null
SELECT kind FROM queue.fetch('q', 10);
-- one that was in is retried after its end: it takes a new place
SELECT add('a4'), queue.complete(id('a3'), 1), queue.retry(id('a2')), add('a5') \g /dev/null
SELECT settle();
SELECT * FROM jobs WHERE group_key = 'g';
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.complete(id('a4'), 1);
SELECT settle();
SELECT * FROM jobs WHERE group_key = 'g';
SELECT queue.purge('q'), count(*) FILTER (WHERE state <> 'running') FROM queue.job WHERE queue = 'q';
SELECT queue.cancel_jobs('{"queue": "q", "group_key": ["h", "i"]}');
SELECT queue.drop_queue('q', force => true);
SELECT * FROM queue.live_key;

-- moved: to the end of the group there
SELECT queue.create_queue('q');
SELECT add('m1'), add('m2'), add('n1', 'g', 'other') \g /dev/null
SELECT settle();
SELECT queue.move_jobs('{"queue": "q", "kind": "m1"}', queue => 'other'), queue.move_jobs('{"kind": "m2"}', priority => 3);
SELECT settle();
SELECT * FROM jobs WHERE state <> 'cancelled';
SELECT kind FROM queue.fetch('other', 10), queue.complete(id, attempt);
SELECT settle();
SELECT kind FROM queue.fetch('other', 10), queue.complete(id, attempt);
SELECT kind, count(*) FROM queue.find_jobs('{"group_key": "g", "state": ["available", "pending"]}') GROUP BY kind;

-- in one transaction: each fetch that completes takes the next one
SELECT queue.purge('q');
SELECT add('s' || n) FROM generate_series(1, 3) n \g /dev/null
SELECT settle();
BEGIN;
SELECT kind AS first FROM queue.fetch('q', 10);
SELECT kind AS second FROM queue.fetch('q', 10, complete_ids => ARRAY[id('s1')], complete_attempts => '{1}');
SELECT kind AS third FROM queue.fetch('q', 10, complete_ids => ARRAY[id('s2')], complete_attempts => '{1}');
ROLLBACK;
SELECT settle();
SELECT kind, attempt FROM queue.fetch('q', 10);

-- hold: a discarded head is waited for
SELECT queue.alter_queue('other', on_group_discard => 'hold', keep_discarded => '0');
SELECT add('h1', 'x', 'other'), add('h2', 'x', 'other') \g /dev/null
SELECT settle();
SELECT queue.discard(id('h1'));
SELECT settle();
SELECT * FROM jobs WHERE group_key = 'x';
CALL queue.await_idle('other', '0');
SELECT replace(queue.explain_job(id('h2')), id('h1')::text, 'N');
SELECT ok, detail, hint <> '' FROM queue.doctor() WHERE check_name = 'groups on hold';
SELECT kind FROM queue.fetch('other', 10);
SELECT queue.discard(id('h1')) AS "discarded already", queue.explain_job(id('h2')) ~ 'holds it' AS holds;
-- retried, it comes back into its place
SELECT queue.retry(id('h1'));
SELECT settle();
SELECT kind, queue.fail(id, attempt, 'again', discard => true) FROM queue.fetch('other', 10);
SELECT settle();
SELECT kind FROM queue.fetch('other', 10);
SELECT id('h1') AS h1 \gset
-- who manages only other queues cancels it not
CREATE ROLE regress_queue_groups;
SELECT queue.grant_queue('q', 'regress_queue_groups', 'manage') \g /dev/null
SET ROLE regress_queue_groups;
SELECT queue.cancel(:h1);
RESET ROLE;
SELECT queue.cancel(:h1), queue.cancel(:h1) AS again;
SELECT settle();
SELECT kind, queue.fail(id, attempt, 'again', discard => true) FROM queue.fetch('other', 10);
SELECT add('h3', 'x', 'other') \g /dev/null
SELECT queue.delete_jobs('{"queue": "other", "state": "discarded"}');
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('other', 10);
SELECT ok, detail FROM queue.doctor() WHERE check_name = 'groups on hold';
-- held also where it was never let in, and until the queue is dropped
SELECT add('i1', 'x', 'other'), add('i2', 'x', 'other'), queue.discard(id('i1')) \g /dev/null
SELECT settle();
SELECT * FROM jobs WHERE group_key = 'x';
SELECT queue.drop_queue('other', force => true);
SELECT queue, group_key, held FROM queue.live_key WHERE queue = 'other';

-- brought back from its dead letter, it comes into its place too
SELECT queue.create_queue('letters'), queue.create_queue('lettered', on_group_discard => 'hold', dead_letter => 'letters', keep_discarded => '0');
SELECT add('l1', 'y', 'lettered'), add('l2', 'y', 'lettered') \g /dev/null
SELECT settle();
SELECT queue.discard(id('l1')), queue.redrive('letters');
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('lettered', 10);
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('lettered', 10);

-- test_run and test_drain let in what their own transaction enqueued
CREATE TABLE ran (n serial, kind text);
CREATE FUNCTION h(j queue.job) RETURNS void LANGUAGE plpgsql AS $$BEGIN INSERT INTO ran (kind) VALUES (j.kind || ' ' || j.group_key || ' ' || (j.run_at < 'infinity')); END$$;
SET client_min_messages = error;
SELECT queue.purge('q'), queue.register_sql_handler('*', 'h', '{q}');
RESET client_min_messages;
BEGIN;
SELECT add('t1', 't'), add('t2', 't'), add('u1', 'u') \g /dev/null
SELECT queue.test_run(id('t2'));
ROLLBACK;
BEGIN;
SELECT add('t1', 't'), add('t2', 't'), add('u1', 'u') \g /dev/null
SELECT queue.test_run(id('t1'));
SELECT queue.test_run(id('t2'));
ROLLBACK;
BEGIN;
SELECT add('t1', 't'), add('t2', 't'), add('u1', 'u'), add('t3', 't') \g /dev/null
SELECT state FROM queue.test_drain('q');
SELECT kind FROM ran ORDER BY n;
ROLLBACK;
-- not under a snapshot that is kept, which may be too old to tell whose turn it is
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT add('t1', 't') \g /dev/null
\set VERBOSITY sqlstate
SELECT queue.test_run(id('t1'));
\set VERBOSITY default
ROLLBACK;
-- find_jobs reads the places of groups that are named with their queue, and finds the same as without
SELECT queue.create_queue('hold', on_group_discard => 'hold', keep_completed => '1 day'), queue.create_queue('elsewhere') \g /dev/null
BEGIN;
SELECT add('f' || i, 'f' || i % 2, 'hold') FROM generate_series(1, 8) i \g /dev/null
SELECT add('e' || i, 'f' || i % 2, 'elsewhere') FROM generate_series(1, 3) i \g /dev/null
SELECT queue.complete(id('f8')), queue.discard(id('f1')), queue.cancel(id('f3')), queue.retry(id('f3')) \g /dev/null
CREATE TEMP TABLE filters AS SELECT * FROM unnest(ARRAY[
	'{"queue": "hold", "group_key": "f1"}', '{"queue": "hold", "group_key": ["f0", "f1", "f0", "nothing"]}',
	'{"queue": ["hold", "elsewhere"], "group_key": "f1"}', '{"queue": "hold", "group_key": "f1", "kind": ["f5", "f3"]}',
	'{"queue": "hold", "group_key": "f1", "state": "pending"}', '{"queue": "hold", "group_key": "f1", "state": "discarded"}']::jsonb[]) filter;
SELECT filter, string_agg(kind || ' ' || state, ', ') AS found,
	string_agg(kind, ' ') = (SELECT string_agg(kind, ' ') FROM queue.find_jobs(filter - 'queue', 1000) o WHERE filter -> 'queue' ? o.queue) AS same,
	(SELECT string_agg(kind, ' ') FROM queue.find_jobs(filter, 2, after_id => id('f2'))) AS after,
	(SELECT string_agg(kind, ' ') FROM queue.find_jobs(filter, 2, before_id => 0)) AS before
FROM filters, queue.find_jobs(filter) GROUP BY filter ORDER BY filter::text;
SELECT queue.cancel_jobs('{"queue": "hold", "group_key": "f0"}');
SELECT kind FROM queue.find_jobs('{"group_key": "f0", "state": ["pending", "available"]}');
ROLLBACK;

-- groups that wait for their time hide no other one from await_idle, however many there are
SELECT queue.create_queue('many');
SELECT count(queue.enqueue('k', queue => 'many', group_key => 'g' || i, delay => '1 hour')) FROM generate_series(100, 170) i;
SELECT count(queue.enqueue('k', queue => 'many', group_key => 'z')) FROM generate_series(1, 2);
SELECT settle();
SELECT queue.complete(id, attempt) FROM queue.fetch('many');
CALL queue.await_idle('many', '0');
-- moved there and back, a job leaves no place behind in which others would wait for it
SELECT queue.create_queue('aside');
SELECT add('m1', 'm', 'many') \g /dev/null
-- the scheduler may just look at it
CREATE FUNCTION move(queue_name text, job_kind text DEFAULT 'm1') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE queue.move_jobs(jsonb_build_object('kind', job_kind), queue_name) = 0 LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT move('aside');
SELECT settle();
SELECT move('many');
SELECT settle();
SELECT add('m2', 'm', 'aside') \g /dev/null
SELECT queue, count(*) FROM queue.live_key WHERE group_key = 'm' GROUP BY queue ORDER BY queue;
SELECT settle();
SELECT kind FROM queue.fetch('aside');
-- one that came from another queue holds its group in the place that it got here
SELECT queue.create_queue('holds', on_group_discard => 'hold', keep_discarded => '0');
SELECT add('p1', 'p', 'aside'), add('p2', 'p', 'holds') \g /dev/null
SELECT move('holds', 'p1');
SELECT queue.discard(id('p1')), add('p3', 'p', 'holds') > 0;
SELECT queue.delete_jobs('{"queue": "holds", "state": "discarded"}');
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('holds', 10);
SELECT settle();
SELECT * FROM jobs WHERE group_key = 'p';
-- one that comes back from its dead letter, too
SELECT add('r1', 'r', 'aside'), add('r2', 'r', 'lettered'), add('r3', 'r', 'lettered') \g /dev/null
SELECT move('lettered', 'r1');
SELECT queue.discard(id('r1')), queue.redrive('letters');
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('lettered', 10);
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('lettered', 10);
SELECT settle();
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('lettered', 10);
DROP VIEW jobs;
SET client_min_messages = error;
DROP EXTENSION queue CASCADE;
DROP ROLE regress_queue_groups;
