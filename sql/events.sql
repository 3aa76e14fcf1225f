-- Events: emit, await_event, and what becomes of a job that waits.
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}', keep_completed => '1 day'), queue.create_queue('other');
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE sql INTO result;
	RETURN coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
CREATE VIEW waits AS SELECT event, queue, (ARRAY['waiting', 'event', 'timeout'])[status + 1] AS status, until = 'infinity' AS for_ever FROM queue.event_wait ORDER BY job_id, event;
-- what the scheduler or maintain() does, soon; the state that the job then has
CREATE PROCEDURE let_in(id bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		EXIT WHEN (SELECT state FROM queue.job j WHERE j.id = let_in.id) IS DISTINCT FROM 'pending';
		PERFORM queue.maintain();
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
	-- what the scheduler lets in is seen a moment before it tells fetches of it, which it does before it sleeps
	FOR j IN 1..500 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'queue scheduler'
			AND wait_event_type IS DISTINCT FROM 'Extension');
		PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
	END LOOP;
END $$;

-- the first of a name
SELECT queue.emit('e', '{"n": 1}'), queue.emit('e', '{"n": 2}'), queue.emit('e', '{"n": 3}', 'other'), queue.emit('e2');
SELECT queue, name, payload FROM queue.event ORDER BY id;

-- emitted before: the claim goes on
SELECT queue.enqueue('k') AS id \gset
SELECT attempt FROM queue.fetch('default');
SELECT * FROM queue.await_event(:id, 'e', attempt => 1);
SELECT * FROM queue.await_event(:id, 'e', '0', 1);
SELECT state, attempt, failures FROM queue.job WHERE id = :id;
-- in another queue it is another event
SELECT queue.enqueue('k', queue => 'other') AS other \gset
SELECT attempt FROM queue.fetch('other');
SELECT * FROM queue.await_event(:other, 'e', attempt => 1);
SELECT queue.complete(:id, 1), queue.complete(:other, 1);
SELECT * FROM waits;

-- waiting: uncounted, pending, until the event comes
SELECT queue.enqueue('k', '{"a": 1}', 'q') AS id \gset
SELECT attempt FROM queue.fetch('q');
SELECT * FROM queue.await_event(:id, 'approved', attempt => 1);
SELECT state, attempt, failures, run_at <= clock_timestamp() AS asked, leased_until, worker FROM queue.job WHERE id = :id;
SELECT queue.explain_job(:id);
SELECT * FROM waits;
SELECT * FROM queue.await_event(:id, 'approved', attempt => 1);
SELECT queue.complete(:id, 1), queue.heartbeat(:id, attempt => 1), queue.save_step(:id, 's', '1', 1);
SELECT count(*) FROM queue.fetch('q');
SELECT queue.emit('approved', '{"by": "ada"}', 'q');
CALL let_in(:id);
-- how long it awaited that is not how long it waits for a worker
SELECT extra ? 'run_at' AS since_asked FROM queue.live_job WHERE id = :id;
SELECT id = :id AS it, attempt, failures, payload FROM queue.fetch('q');
SELECT * FROM queue.await_event(:id, 'approved', attempt => 2);
-- a second one; the first says what it said
SELECT * FROM queue.await_event(:id, 'shipped', '1 hour', 2);
SELECT regexp_replace(queue.explain_job(:id), 'until .*', 'until ..');
SELECT * FROM waits;
-- retry, alter_job: it waits all the same
SELECT queue.alter_job(:id, payload => '{"a": 2}'), queue.retry(:id);
SELECT state, payload FROM queue.job WHERE id = :id;
-- its time passes
SET queue.debug_clock_offset = 3700;
SELECT count(*) FROM queue.fetch('q');
SELECT queue.maintain();
CALL let_in(:id);
RESET queue.debug_clock_offset;
SELECT queue.alter_job(:id, run_at => clock_timestamp());
SELECT attempt FROM queue.fetch('q');
SELECT queue.emit('shipped', '{"too": "late"}', 'q');
SELECT * FROM queue.await_event(:id, 'approved', attempt => 3);
SELECT * FROM queue.await_event(:id, 'shipped', '1 hour', 3);
SELECT queue.complete(:id, 3);
SELECT * FROM waits;
SELECT extra ? 'awaits' AS marked FROM queue.finished_job WHERE id = :id;
-- timeout 0, and an attempt that is not the present one
SELECT queue.enqueue('k', queue => 'q') AS id \gset
SELECT attempt FROM queue.fetch('q');
SELECT * FROM queue.await_event(:id, 'x', '0', 1);
SELECT * FROM queue.await_event(:id, 'x', attempt => 2);
SELECT * FROM queue.await_event(4711, 'x');
SELECT queue.complete(:id, 1);
-- every end of a job that waits
SELECT queue.enqueue('k', queue => 'q') AS a, queue.enqueue('k', queue => 'q') AS b, queue.enqueue('k', queue => 'q') AS c, queue.enqueue('k', queue => 'other') AS d \gset
SELECT attempt, (queue.await_event(id, 'never', '1 day', attempt)).status FROM queue.fetch_any('{q,other}', 4) ORDER BY id;
SELECT count(*) FROM waits;
SELECT queue.cancel(:a), queue.discard(:b);
SELECT queue.purge('q'), queue.drop_queue('other', true);
SELECT * FROM waits;
SELECT count(*) FROM queue.event WHERE queue = 'other';
-- a retried one begins anew
SELECT queue.retry(:a);
SELECT attempt, (queue.await_event(id, 'never', NULL, attempt)).status FROM queue.fetch('q');
SELECT * FROM waits;
-- moved to another queue it awaits the event of its own one
SELECT queue.move_jobs(jsonb_build_object('ids', :a), 'default');
SELECT queue.emit('never'), queue.emit('never', '"here"', 'q');
CALL let_in(:a);
SELECT (queue.await_event(id, 'never', NULL, attempt)).* FROM queue.fetch('default');
SELECT queue.complete(:a);

-- two await one event; a group's head holds its group
SELECT queue.enqueue('k', '"a"', 'q') AS a, queue.enqueue('k', '"b"', 'q', group_key => 'g') AS b, queue.enqueue('k', '"c"', 'q', group_key => 'g') AS c \gset
CALL let_in(:b);
-- (when one that was let in is given another time, it is not waited for since the first one)
BEGIN;
SELECT queue.alter_job(:b, run_at => '2001-01-01 00:00+00');
SELECT extra ? 'run_at' AS since_asked FROM queue.live_job WHERE id = :b;
ROLLBACK;
SELECT payload, (queue.await_event(id, 'both', NULL, attempt)).status FROM queue.fetch('q', 10) ORDER BY id;
SELECT payload FROM queue.fetch('q', 10);
BEGIN;
SELECT queue.emit('both', '0', 'q');
ROLLBACK;
SELECT queue.maintain();
SELECT payload, state FROM queue.job WHERE id IN (:a, :b, :c) ORDER BY id;
SELECT queue.emit('both', '1', 'q');
CALL let_in(:a);
CALL let_in(:b);
SELECT payload, (queue.await_event(id, 'both', NULL, attempt)).payload AS event, queue.complete(id, attempt) FROM queue.fetch('q', 10) ORDER BY id;
CALL let_in(:c);
SELECT payload, queue.complete(id, attempt) FROM queue.fetch('q', 10) ORDER BY id;

-- a session's claim ends when its job has to wait, as a lease does
SELECT queue.enqueue('k', '"s"', 'q') AS id \gset
SELECT attempt < 0 AS session, (queue.await_event(id, 'open', NULL, attempt)).status FROM queue.fetch('q', claim => 'session');
SELECT queue.emit('open', '1', 'q');
CALL let_in(:id);
SELECT payload, (queue.await_event(id, 'open', NULL, attempt)).status, queue.complete(id, attempt) FROM queue.fetch('q');

-- a unique key's successor ends one that would wait
SELECT queue.enqueue('k', '1', 'q', unique_key => 'u') AS a \gset
SELECT attempt FROM queue.fetch('q');
SELECT queue.enqueue('k', '2', 'q', unique_key => 'u', on_conflict => 'replace') > :a AS successor;
SELECT * FROM queue.await_event(:a, 'u', attempt => 1);
SELECT state, last_error FROM queue.job WHERE id = :a;
SELECT queue.purge('q');
SELECT count(*) FROM waits;

-- events that are too old count as never emitted, and go; but for those that a job has awaited
BEGIN;		-- before the scheduler may sweep them
UPDATE queue.event SET emitted_at = emitted_at - interval '8 days';
SELECT queue.emit('e', '{"n": 4}');
SELECT queue.enqueue('k', queue => 'q') AS id \gset
SELECT attempt, (queue.await_event(id, 'both', '1 hour', attempt)).status FROM queue.fetch('q');
COMMIT;
SELECT queue.maintain();
SELECT state FROM queue.job WHERE id = :id;
SELECT name FROM queue.event ORDER BY name;
SELECT queue.emit('both', '2', 'q');
CALL let_in(:id);
UPDATE queue.event SET emitted_at = emitted_at - interval '8 days';
SELECT queue.maintain();
SELECT (queue.await_event(id, 'both', NULL, attempt)).*, queue.complete(id, attempt) FROM queue.fetch('q');
SELECT queue.maintain();
SELECT count(*) FROM queue.event;
-- one whose time is just over stays for a minute: who asked for it while it was not may be about to wait
SELECT queue.emit('young');
UPDATE queue.event SET emitted_at = clock_timestamp() - interval '7 days 1 s';
SELECT queue.maintain();
SELECT name FROM queue.event;
DELETE FROM queue.event;

-- in an SQL handler: it takes hold on return, and the effects are kept
CREATE TABLE events_done (what text);
CREATE FUNCTION events_h(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	e record;
BEGIN
	SELECT * INTO e FROM queue.await_event(j.id, 'go', '1 hour');
	INSERT INTO events_done VALUES (j.attempt || ' ' || e.status);
	IF e.status = 'waiting' THEN
		RETURN NULL;
	END IF;
	RETURN e.payload;
END $$;
SET client_min_messages = error;
SELECT queue.register_sql_handler('h', 'events_h', '{q}');
RESET client_min_messages;
-- in one transaction too, as tests do
BEGIN;
SELECT queue.enqueue('h', queue => 'q') AS id \gset
SELECT queue.test_run(:id);
SELECT state, attempt FROM queue.job WHERE id = :id;
SELECT try(format('SELECT queue.test_run(%s)', :id)) ~ 'it awaits event "go" of queue q until' AS refused;
SELECT queue.emit('go', '{"by": "bob"}', 'q');
SELECT queue.test_run(:id);
SELECT * FROM events_done;
ROLLBACK;
-- the first call sets the deadline: who was let in by another event meets it, whatever timeout he names then
CREATE FUNCTION events_two(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO events_done VALUES ((queue.await_event(j.id, 'one')).status || ' ' || (queue.await_event(j.id, 'two', '1 hour')).status);
END $$;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('two', 'events_two', '{q}');
SELECT queue.enqueue('two', queue => 'q') AS id \gset
SELECT queue.test_run(:id);
SELECT queue.emit('one', queue => 'q');
SET LOCAL queue.debug_clock_offset = 3700;
SELECT queue.test_run(:id);
SELECT * FROM events_done;
ROLLBACK;
-- an event that came while the job waited counts, also if nothing tells of it and it is found when others would be too old
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('two', 'events_two', '{q}');
SELECT queue.enqueue('two', queue => 'q') AS id \gset
SELECT queue.test_run(:id);
INSERT INTO queue.event SELECT nextval('queue.event_id'), clock_timestamp(), 'q', 'one', '{}';
SET LOCAL queue.debug_clock_offset = '9 d';
SELECT queue.test_run(:id);
SELECT * FROM events_done;
ROLLBACK;
DROP FUNCTION events_two(queue.job);

-- what is refused
SELECT try('SELECT queue.emit(NULL)'), try('SELECT queue.emit('''')'), try('SELECT queue.emit(repeat(''x'', 201))'), try('SELECT queue.emit(''x'', NULL)'), try('SELECT queue.emit(''x'', queue => NULL)'),
       try('SELECT queue.emit(''x'', queue => ''none'')');
SELECT try('SELECT queue.await_event(NULL, ''x'')'), try('SELECT queue.await_event(1, NULL)'), try('SELECT queue.await_event(1, '''')'), try('SELECT queue.await_event(1, ''x'', ''-1 s'')');

DROP TABLE events_done;
SET client_min_messages = error;
DROP EXTENSION queue CASCADE;
DROP FUNCTION try;
DROP PROCEDURE let_in;
