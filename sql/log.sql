-- What jobs log: queue.log of a worker's own claim, and of handlers (here by test_run).
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text; m text; h text;
BEGIN
	EXECUTE sql INTO r;
	RETURN coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
	RETURN s || ': ' || m || CASE WHEN h <> '' THEN E'\n  HINT: ' || h ELSE '' END;
END $$;
CREATE VIEW lines AS SELECT queue, kind, attempt, level, message FROM queue.job_log ORDER BY job_id, attempt, logged_at;

-- ---- a worker and its claim
SELECT queue.create_queue('q');
SELECT queue.enqueue('k', queue => 'q') AS a \gset
SELECT queue.log('nobody has it', job_id => :a);
SELECT attempt FROM queue.fetch('q');
SELECT queue.log('begins', job_id => :a, attempt => 1), queue.log('unfenced', 'debug', :a);
SELECT queue.log('of another claim', 'info', :a, 2), queue.log('of no job', 'info', 1000000, 1);
SELECT queue.log(NULL, 'warning', :a, 1), queue.log('ends', 'error', :a, 1);
SELECT * FROM lines;
BEGIN;
SELECT queue.log('rolled back', 'info', :a, 1);
ROLLBACK;
SELECT count(*) FROM lines;
SELECT try(format('SELECT queue.log(''x'', ''loud'', %s)', :a));
BEGIN READ ONLY;
SELECT try(format('SELECT queue.log(''x'', ''info'', %s)', :a));
ROLLBACK;
-- a line has 8 kB, cut between characters
SELECT queue.log(repeat('é', 5000), 'info', :a, 1);
SELECT octet_length(message), right(message, 1) FROM queue.job_log WHERE length(message) > 1000;
SELECT queue.release(:a, 1);
-- the log goes on after the claim has, and with another
SELECT queue.log('gone', 'info', :a, 1);
SELECT attempt FROM queue.fetch('q');
SELECT queue.log('again', 'info', :a, 2);
SELECT attempt, count(*) FROM lines GROUP BY 1 ORDER BY 1;
-- an attempt has 1,000 lines and one that counts the rest
SELECT count(queue.log('line ' || i, 'info', :a, 2)) FROM generate_series(2, 1000) i;
SELECT count(*), max(message) FILTER (WHERE message !~ '^line|again') FROM queue.job_log WHERE attempt = 2;
SELECT count(queue.log('line ' || i, 'info', :a, 2)) FROM generate_series(1001, 1005) i;
SELECT count(*), max(message) FILTER (WHERE message !~ '^line|again') FROM queue.job_log WHERE attempt = 2;
-- it is there when the job is gone; a session's claim logs for the attempt that it makes
SELECT queue.complete(:a, 2);
SELECT count(*) FROM queue.job_log WHERE job_id = :a;
SELECT queue.enqueue('s', queue => 'q') AS s \gset
SELECT attempt AS token FROM queue.fetch('q', claim => 'session') \gset
SELECT queue.log('by a session', 'info', :s, :token);
SELECT queue.complete(:s, :token);
SELECT kind, attempt, message FROM queue.job_log WHERE job_id = :s;
-- kept for queue.keep_errors
SELECT keep_until - logged_at BETWEEN '7 days' AND '7 days 1 min' AS a_week FROM queue.log_line WHERE job_id = :s;
-- outside a handler it is a notice
SET client_min_messages = notice;	-- whatever the caller has set
SELECT queue.log('hello');
SELECT queue.log('hello', 'error', NULL, 5);

-- ---- handlers
CREATE FUNCTION h(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.log('of ' || j.kind);
	PERFORM queue.log('own id', 'debug', j.id, j.attempt);
	PERFORM queue.log('of another attempt', 'debug', j.id, j.attempt + 1);
	RAISE NOTICE 'a notice' USING DETAIL = 'its detail';
	RAISE WARNING 'a warning';
	RAISE INFO 'an info';
	RAISE DEBUG 'no debug';
	BEGIN
		PERFORM queue.log('in a block', 'warning');
		PERFORM 1 / 0;
	EXCEPTION WHEN OTHERS THEN
		PERFORM queue.log(SQLERRM, 'error');
	END;
	IF j.payload ? 'fail' THEN
		RAISE EXCEPTION 'failed';
	ELSIF j.payload ? 'other' THEN
		PERFORM queue.log('to another', 'info', (j.payload->>'other')::bigint, 1);
	ELSIF j.payload ? 'snooze' THEN
		PERFORM queue.snooze(j.id, '1 h');
	END IF;
END $$;
SET client_min_messages = error;
SELECT queue.create_queue('h');
BEGIN;
SELECT queue.register_sql_handler('h', 'h', '{h}');
SHOW log_min_messages;
SELECT queue.test_run(queue.enqueue('h', queue => 'h'));
SHOW log_min_messages;
SELECT * FROM lines WHERE queue = 'h';
ROLLBACK;
-- a failed attempt undoes its effects and keeps its log; a snoozed one has a number, so its log as well
BEGIN;
SELECT queue.register_sql_handler('h', 'h', '{h}');
SELECT queue.test_run(queue.enqueue('h', '{"fail": 1}', 'h'), raise_error => false);
SHOW log_min_messages;
SELECT * FROM lines WHERE queue = 'h';
SELECT queue.test_run(queue.enqueue('h', '{"snooze": 1}', 'h'));
SELECT count(*), count(DISTINCT job_id) FROM queue.job_log WHERE queue = 'h';
ROLLBACK;
-- a line for another job that somebody claimed is that job's
BEGIN;
SELECT queue.register_sql_handler('h', 'h', '{h}');
SELECT queue.enqueue('claimed', queue => 'h') AS other \gset
SELECT attempt FROM queue.fetch('h', kinds => '{claimed}');
SELECT queue.test_run(queue.enqueue('h', jsonb_build_object('other', :other), 'h'));
SELECT kind, message FROM queue.job_log WHERE queue = 'h' AND message = 'to another';
ROLLBACK;
-- too many lines
CREATE FUNCTION much(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		RAISE NOTICE 'line %', i;
	END LOOP;
END $$;
BEGIN;
SELECT queue.register_sql_handler('m', 'much', '{h}');
SELECT queue.test_run(queue.enqueue('m', queue => 'h'));
SELECT count(*), min(message) FILTER (WHERE level = 'warning') FROM queue.job_log WHERE kind = 'm';
ROLLBACK;
DROP VIEW lines;
DROP FUNCTION h, much, try;
DROP EXTENSION queue;
