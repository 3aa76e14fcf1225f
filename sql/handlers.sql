-- Handlers: registering and its errors, test_run and test_drain. No worker is needed: whatever registers
-- and enqueues does so in a transaction that rolls back.
CREATE EXTENSION queue;
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text; m text; d text; h text;
BEGIN
	EXECUTE sql INTO r;
	RETURN coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN s || ': ' || regexp_replace(m, 'job \d+', 'job N') || CASE WHEN d <> '' THEN E'\n  DETAIL: ' || d ELSE '' END
		|| CASE WHEN h <> '' THEN E'\n  HINT: ' || h ELSE '' END;
END $$;
\pset format unaligned
\pset null NULL
CREATE TABLE seen (what text);
CREATE FUNCTION h_job(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES ('h_job ' || j.payload::text); END $$;
CREATE FUNCTION h_json(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO seen VALUES ('h_json ' || p::text) RETURNING to_jsonb(what) $$;
CREATE FUNCTION h_both(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES ('h_both of job ' || j.payload::text); END $$;
CREATE FUNCTION h_both(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES ('h_both of jsonb ' || p::text); END $$;
CREATE FUNCTION h_text(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION h_int(j queue.job) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;
CREATE FUNCTION h_set(j queue.job) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION h_two(j queue.job, more int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION h_default(j queue.job, more int DEFAULT 1) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION h_out(j queue.job, OUT r jsonb) LANGUAGE plpgsql AS $$ BEGIN r := '1'; END $$;
CREATE PROCEDURE h_proc(j queue.job) LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE AGGREGATE h_agg(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
CREATE SCHEMA "Odd schema";
CREATE FUNCTION "Odd schema"."Odd ""name"" ☃"(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES ('odd'); END $$;

-- registering (what it warns of: warnings.sql)
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('a', 'h_job');
SELECT queue.register_sql_handler('b', 'public.h_json', queues => '{default}', timeout => '10 s', max_attempts => 3, backoff => '{"type": "fixed"}');
SELECT queue.register_sql_handler('c', '"Odd schema"."Odd ""name"" ☃"');
SELECT queue.register_sql_handler('d', 'h_both');
SELECT queue.register_sql_handler('*', 'h_out');
SELECT kind, type, target, run_as = current_user AS me, state, coalesce(running + completed + failed + discarded + timeouts, 0) AS counts FROM queue.stat_handler ORDER BY kind COLLATE "C";
SELECT kind, function_schema, function_name, function_argument, queues, timeout, max_attempts, backoff FROM queue.handler ORDER BY kind;
-- again: replaced, also what was set before
SELECT queue.register_sql_handler('b', 'h_job', queues => '{default}');
SELECT kind, function_name, function_argument, queues, timeout, max_attempts, backoff FROM queue.handler WHERE kind = 'b';
-- pause, resume, unregister
SELECT queue.pause_handler('a'), queue.pause_handler('a');
-- (replaced, it is the same one, and paused)
SELECT id, paused_at FROM queue.handler WHERE kind = 'a' \gset
SELECT queue.register_sql_handler('a', 'h_json');
SELECT function_name, id = :id AS same, paused_at = :'paused_at' AS paused FROM queue.handler WHERE kind = 'a';
SELECT kind, state FROM queue.stat_handler WHERE kind IN ('a', 'b') ORDER BY kind;
SELECT queue.resume_handler('a'), queue.resume_handler('a');
SELECT kind, state FROM queue.stat_handler WHERE kind IN ('a', 'b') ORDER BY kind;
SELECT queue.unregister_handler('a');
SELECT try($$SELECT queue.unregister_handler('a')$$);
SELECT try($$SELECT queue.pause_handler('a')$$);
SELECT try($$SELECT queue.resume_handler('never')$$);
SELECT try($$SELECT queue.unregister_handler(null)$$);
SELECT try($$SELECT queue.pause_handler(null)$$);
SELECT kind FROM queue.stat_handler ORDER BY kind COLLATE "C";
ROLLBACK;
SELECT count(*) FROM queue.stat_handler;

-- what it refuses
SET client_min_messages = error;
SELECT try($$SELECT queue.register_sql_handler(null, 'h_job')$$);
SELECT try($$SELECT queue.register_sql_handler('', 'h_job')$$);
SELECT try(format('SELECT queue.register_sql_handler(%L, ''h_job'')', repeat('k', 201)));
SELECT try($$SELECT queue.register_sql_handler('k', null)$$);
SELECT try($$SELECT queue.register_sql_handler('k', '')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'missing')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'missing.h_job')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'a.b.c.d')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job(jsonb)')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job(text)')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job; DROP TABLE seen')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_text')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_two')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_default')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_int')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_set')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_proc')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job(queue.job) x')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job(queue.job]')$$);
SELECT queue.register_sql_handler('k', ' h_both ( jsonb ) ');
SELECT function_name, function_argument FROM queue.handler WHERE kind = 'k';
SELECT queue.unregister_handler('k');
SELECT try($$SELECT queue.register_sql_handler('k', 'h_agg')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'H_JOB') IS NOT NULL$$);
SELECT try($$SELECT queue.register_sql_handler('k', '"H_JOB"')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', queues => '{}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', queues => '{nowhere}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', queues => '{default,NULL}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', timeout => '-1 s')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', max_attempts => 0)$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', backoff => '{"type": "x"}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', run_as => 'regress_queue_nobody')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', max_running => -1)$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_job', rate_limit => -1)$$);
SELECT kind FROM queue.stat_handler;
SELECT queue.unregister_handler('k');
RESET client_min_messages;

-- current_job: only inside a handler
SELECT (queue.current_job()).id;

-- test_run: now, in my transaction
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('job', 'h_job'), queue.register_sql_handler('json', 'h_json'), queue.register_sql_handler('both', 'h_both'), queue.register_sql_handler('odd', '"Odd schema"."Odd ""name"" ☃"');
SELECT queue.alter_queue('default', keep_completed => '1 day');
SELECT queue.enqueue('job', '1') AS a, queue.enqueue('json', '{"x": 2}') AS b, queue.enqueue('both', '3') AS c, queue.enqueue('odd') AS d, queue.enqueue('unserved') AS e, queue.enqueue('job', '"later"', delay => '1 day') AS f \gset
SELECT queue.test_run(:a), queue.test_run(:b), queue.test_run(:c), queue.test_run(:d);
SELECT what FROM seen;
SELECT kind, state, attempt, failures, result FROM queue.job WHERE id IN (:a, :b, :c, :d) ORDER BY id;
SELECT try(format('SELECT queue.test_run(%s)', :a));
SELECT try(format('SELECT queue.test_run(%s)', :e));
SELECT regexp_replace(try(format('SELECT queue.test_run(%s)', :f)), 'due at .*\n', E'due at <time>\n');
SELECT queue.alter_job(:f, run_at => now()), queue.test_run(:f);
SELECT queue.enqueue('job', '"claimed"') AS g \gset
SELECT payload FROM queue.fetch('default', kinds => '{job}');
SELECT replace(try(format('SELECT queue.test_run(%s)', :g)), :'g', '<id>');
SELECT try($$SELECT queue.test_run(1000000)$$);
SELECT try($$SELECT queue.test_run(null)$$);
ROLLBACK;
SELECT count(*) FROM seen;

-- how a handler ends
CREATE FUNCTION h_end(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE c queue.job := queue.current_job();
BEGIN
	INSERT INTO seen VALUES ('run ' || (j.payload->>'how'));
	CASE j.payload->>'how'
		WHEN 'return' THEN RETURN '{"ok": true}';
		WHEN 'null' THEN RETURN NULL;
		WHEN 'raise' THEN RAISE EXCEPTION 'it broke' USING DETAIL = 'badly', HINT = 'mend it';
		WHEN 'zero' THEN RETURN 1 / 0;
		WHEN 'discard' THEN RAISE EXCEPTION 'hopeless' USING ERRCODE = 'QU001';
		WHEN 'snooze' THEN RAISE EXCEPTION 'not now' USING ERRCODE = 'QU002', DETAIL = '1 hour';
		WHEN 'snooze badly' THEN RAISE EXCEPTION 'not now' USING ERRCODE = 'QU002', DETAIL = 'soon';
		WHEN 'snooze without' THEN RAISE EXCEPTION 'not now' USING ERRCODE = 'QU002';
		WHEN 'snooze call' THEN RETURN to_jsonb(queue.snooze(j.id, '2 hours'));
		WHEN 'snooze call attempt' THEN RETURN to_jsonb(queue.snooze(j.id, '2 hours', j.attempt));
		WHEN 'snooze call stale' THEN RETURN to_jsonb(queue.snooze(j.id, '2 hours', j.attempt - 1));
		WHEN 'cancel call' THEN RETURN to_jsonb(queue.cancel(j.id, 'by itself'));
		WHEN 'discard call' THEN RETURN to_jsonb(queue.discard(j.id, 'by itself'));
		WHEN 'release call' THEN RETURN to_jsonb(queue.release(j.id));
		WHEN 'fail call' THEN RETURN to_jsonb(queue.fail(j.id, j.attempt, 'by itself', retry_in => '3 hours'));
		WHEN 'complete call' THEN PERFORM queue.complete(j.id, j.attempt, '"its own"'); RETURN '"returned"';
		WHEN 'progress call' THEN RETURN to_jsonb(queue.progress(j.id, '{"half": true}', j.attempt));
		WHEN 'progress, snooze' THEN PERFORM queue.progress(j.id, '"half"'); PERFORM queue.snooze(j.id, '2 hours'); RETURN NULL;
		WHEN 'progress, release' THEN PERFORM queue.progress(j.id, '"half"'); PERFORM queue.release(j.id); RETURN NULL;
		WHEN 'progress, complete' THEN PERFORM queue.progress(j.id, '"half"'); PERFORM queue.complete(j.id, j.attempt); RETURN NULL;
		WHEN 'heartbeat call' THEN RETURN to_jsonb(queue.heartbeat(j.id, attempt => j.attempt) IS NOT NULL);
		WHEN 'undone call' THEN
			BEGIN
				PERFORM queue.cancel(j.id);
				RAISE EXCEPTION 'inner';
			EXCEPTION WHEN raise_exception THEN
				RETURN '"caught"';
			END;
		WHEN 'kept call' THEN
			PERFORM queue.cancel(j.id, 'all the same');
			BEGIN
				RAISE EXCEPTION 'inner';
			EXCEPTION WHEN raise_exception THEN
				RETURN '"caught"';
			END;
		WHEN 'inner call' THEN
			BEGIN
				PERFORM queue.cancel(j.id, 'in a block');
			EXCEPTION WHEN raise_exception THEN
				RETURN NULL;
			END;
			BEGIN
				RAISE EXCEPTION 'inner';
			EXCEPTION WHEN raise_exception THEN
				RETURN '"caught"';
			END;
		WHEN 'enqueue' THEN RETURN to_jsonb(queue.enqueue('child', j.payload) > j.id);
		WHEN 'current' THEN RETURN jsonb_build_object('same', c.id = j.id AND c.payload = j.payload, 'kind', c.kind, 'state', c.state, 'attempt', c.attempt, 'leased', c.leased_until IS NOT NULL, 'started', c.started_at IS NOT NULL, 'worker', c.worker IS NOT NULL);
		WHEN 'set' THEN PERFORM set_config('queue_regress.left_over', 'yes', false); RETURN NULL;
	END CASE;
END $$;
CREATE FUNCTION ending(how text, raise_error bool) RETURNS TABLE (says text, state text, failures int, attempt int, due text, last_error text, result jsonb, effects bigint) LANGUAGE plpgsql AS $$
DECLARE job_id bigint; r timestamptz;
BEGIN
	TRUNCATE seen;
	job_id := queue.enqueue('end', jsonb_build_object('how', how));
	says := try(format('SELECT queue.test_run(%s, %L)', job_id, raise_error));
	SELECT j.state, j.failures, j.attempt, j.last_error, j.result, j.run_at INTO ending.state, ending.failures, ending.attempt, ending.last_error, ending.result, r FROM queue.job j WHERE j.id = job_id;
	due := CASE WHEN r <= clock_timestamp() THEN 'now' ELSE round(extract(epoch FROM r - clock_timestamp()) / 3600) || ' h' END;
	effects := (SELECT count(*) FROM seen);
	RETURN NEXT;
END $$;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('end', 'h_end', backoff => '{"type": "fixed", "base": "5 hours", "jitter": 0}', max_attempts => 3);
SELECT queue.alter_queue('default', keep_completed => '1 day');
SELECT how, e.* FROM unnest('{return,"null",raise,zero,discard,snooze,snooze badly,snooze without,snooze call,snooze call attempt,snooze call stale,cancel call,discard call,release call,fail call,complete call,progress call,heartbeat call,undone call,kept call,inner call,enqueue,current,set}'::text[]) how, ending(how, true) e;
SELECT how, e.* FROM unnest('{return,raise,zero,discard,snooze,snooze badly,snooze call,cancel call,discard call,release call,fail call}'::text[]) how, ending(how, false) e;
-- what it told of its progress outlives what it then decided
SELECT how, e.state FROM unnest('{"progress, snooze","progress, release","progress, complete"}'::text[]) how, ending(how, false) e;
SELECT payload->>'how' AS how, progress FROM queue.job WHERE kind = 'end' AND payload->>'how' ~ 'progress,' ORDER BY id;
SELECT current_setting('queue_regress.left_over', true) AS nothing_leaks;
SELECT kind, error, sqlstate, context IS NOT NULL AS context, error ~ 'payload|how' AS tells_payload FROM queue.job_error ORDER BY sqlstate, error;
-- failing until it is discarded
SELECT queue.enqueue('end', '{"how": "raise"}') AS a \gset
SELECT queue.test_run(:a, false);
SELECT regexp_replace(try(format('SELECT queue.test_run(%s, false)', :a)), '^(55000: ).*', '\1<it waits>');
SELECT queue.alter_job(:a, run_at => now()), queue.test_run(:a, false), queue.alter_job(:a, run_at => now()), queue.test_run(:a, false);
SELECT state, failures, attempt, max_attempts, last_error FROM queue.job WHERE id = :a;
ROLLBACK;

-- one that was cancelled did not fail
CREATE FUNCTION h_cancelled(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE query_canceled USING MESSAGE = 'stopped'; END $$;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('cancelled', 'h_cancelled');
SELECT queue.enqueue('cancelled') AS a \gset
SAVEPOINT before;
SELECT queue.test_run(:a, false);
ROLLBACK TO before;
SELECT state, attempt, failures FROM queue.job WHERE id = :a;
ROLLBACK;
DROP FUNCTION h_cancelled(jsonb);

-- test_drain: a queue's jobs, also those that they enqueue; with_retries runs the failed again at once
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.create_queue('d', keep_completed => '1 day'), queue.create_queue('other');
SELECT queue.register_sql_handler('end', 'h_end', max_attempts => 3), queue.register_sql_handler('child', 'h_json');
SELECT queue.enqueue('end', '{"how": "return"}', 'd') AS a, queue.enqueue('end', '{"how": "raise"}', 'd') AS b, queue.enqueue('end', '{"how": "enqueue"}', 'd', priority => -1) AS c,
       queue.enqueue('end', '{"how": "discard"}', 'd') AS d, queue.enqueue('end', '{"how": "return"}', 'other') AS e, queue.enqueue('nobody', '1', 'd') AS f,
       queue.enqueue('end', '{"how": "return"}', 'd', delay => '1 hour') AS g, queue.enqueue('end', '{"how": "snooze"}', 'd') AS h \gset
SELECT j.payload->>'how' AS how, d.state, d.error FROM queue.test_drain('d') WITH ORDINALITY d LEFT JOIN queue.job j ON j.id = d.job_id ORDER BY ordinality;
SELECT kind, payload, queue, state, attempt, failures FROM queue.job ORDER BY id;
SELECT queue.retry(:b), queue.enqueue('end', '{"how": "release call"}', 'd') AS i \gset
SELECT j.payload->>'how' AS how, d.state, d.error FROM queue.test_drain('d', with_retries => true) WITH ORDINALITY d LEFT JOIN queue.job j ON j.id = d.job_id ORDER BY ordinality;
SELECT kind, payload, queue, state, attempt, failures FROM queue.job WHERE id IN (:b, :g, :h, :i) ORDER BY id;
SELECT count(*) FROM queue.test_drain();
SELECT what FROM seen WHERE what LIKE 'h_json%';
SELECT try($$SELECT queue.test_drain('nowhere')$$);
SELECT try($$SELECT queue.test_drain(null)$$);
SELECT queue.pause_handler('child'), queue.enqueue('child', '1', 'd') AS k \gset
SELECT count(*) FROM queue.test_drain('d') WHERE job_id = :k;
SELECT split_part(try(format('SELECT queue.test_run(%s)', :k)), ' since', 1);
SELECT queue.resume_handler('child'), queue.test_run(:k, NULL);
-- before their time, the first one first
SELECT queue.create_queue('e', keep_completed => '1 day');
SELECT queue.register_http_handler('web', 'http://127.0.0.1:1/', queues => '{e}');
SELECT queue.enqueue('child', '"in 2 days"', 'e', delay => '2 days'), queue.enqueue('child', '"in 1 day"', 'e', delay => '1 day'), queue.enqueue('child', '"in 3 days"', 'e', delay => '3 days'), queue.enqueue('web', '"sent"', 'e', delay => '1 hour'), queue.enqueue('web', '"sent"', 'e'), queue.enqueue('end', '{"how": "raise"}', 'e') AS m \gset
SELECT d.state FROM queue.test_drain('e') d;
SELECT j.payload, d.state FROM queue.test_drain('e', with_scheduled => true) WITH ORDINALITY d LEFT JOIN queue.job j ON j.id = d.job_id ORDER BY ordinality;
SELECT d.job_id = :m, d.state FROM queue.test_drain('e', with_retries => true) d;
-- what a pause or a limit holds back is left
SELECT queue.create_queue('held', max_running => 0), queue.create_queue('paused'), queue.pause('paused');
SELECT queue.enqueue('child', '1', q, delay => d) FROM unnest('{held,paused}'::text[]) q, unnest('{0,1 day}'::interval[]) d \g /dev/null
SELECT count(*) FROM unnest('{held,paused}'::text[]) q, queue.test_drain(q, true, true);
-- until it may run
SELECT queue.alter_queue('held', reset => '{max_running}'), queue.resume('paused');
SELECT q, count(*), min(d.state), max(d.state) FROM unnest('{held,paused}'::text[]) q, queue.test_drain(q, true, true) d GROUP BY q ORDER BY q;
-- one that its handler released is there for the next drain
SELECT queue.enqueue('end', '{"how": "release call"}', 'paused') \g /dev/null
SELECT d.state FROM queue.test_drain('paused') d;
SELECT d.state FROM queue.test_drain('paused') d;
ROLLBACK;

-- a handler that ends another job ends that one, and its own as it returns
BEGIN;
SET LOCAL client_min_messages = error;
CREATE FUNCTION h_ends(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM queue.discard((j.payload->>'other')::bigint, 'by another'); END $$;
SELECT queue.register_sql_handler('ends', 'h_ends');
SELECT queue.enqueue('other') AS a \gset
SELECT queue.enqueue('ends', jsonb_build_object('other', :a)) AS b \gset
SELECT queue.test_run(:b);
SELECT id = :a AS other, state, last_error FROM queue.job WHERE id IN (:a, :b) ORDER BY id;
-- so when it is one that the session has fetched
CREATE OR REPLACE FUNCTION h_ends(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM queue.snooze((j.payload->>'other')::bigint, '1 hour'); END $$;
SELECT queue.enqueue('other') AS a \gset
SELECT count(*) FROM queue.fetch('default', kinds => '{other}');
SELECT queue.enqueue('ends', jsonb_build_object('other', :a)) AS b \gset
SELECT queue.test_run(:b);
SELECT id = :a AS other, state FROM queue.job WHERE id IN (:a, :b) ORDER BY id;
ROLLBACK;

-- handlers that come and go
BEGIN;
SET LOCAL client_min_messages = error;
CREATE FUNCTION h_changing(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"one"'::jsonb $$;
SELECT queue.alter_queue('default', keep_completed => '1 day');
SELECT queue.register_sql_handler('ch', 'h_changing');
SELECT queue.enqueue('ch') AS a, queue.enqueue('ch') AS b, queue.enqueue('ch') AS c, queue.enqueue('ch') AS d \gset
SELECT queue.test_run(:a);
CREATE OR REPLACE FUNCTION h_changing(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"two"'::jsonb $$;
SELECT queue.test_run(:b);
DROP FUNCTION h_changing(queue.job);
SELECT try(format('SELECT queue.test_run(%s)', :c));
SELECT state, attempt, failures FROM queue.job WHERE id = :c;
SELECT kind, state FROM queue.stat_handler;
CREATE FUNCTION h_changing(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"three"'::jsonb $$;
SELECT queue.test_run(:c);
CREATE FUNCTION h_changing(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"of jsonb"'::jsonb $$;
SELECT queue.test_run(:d);
SELECT result FROM queue.job ORDER BY id;
ROLLBACK;

-- another role's: only its run_as may test it, and a function that changed its owner is parked
CREATE ROLE regress_queue_run;
CREATE ROLE regress_queue_other;
GRANT ALL ON seen TO PUBLIC;
BEGIN;
SET LOCAL client_min_messages = error;
GRANT CREATE ON SCHEMA public TO regress_queue_run, regress_queue_other;
SELECT queue.create_queue('r', keep_completed => '1 day');
SELECT queue.grant_queue('r', 'regress_queue_run', 'manage'), queue.grant_queue('r', 'regress_queue_other', 'manage');
SET LOCAL ROLE regress_queue_run;
CREATE FUNCTION h_user(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(current_user) $$;
-- workers can connect as a role without LOGIN from 17 on only
SELECT (try($$SELECT queue.register_sql_handler('run', 'h_user', queues => '{r}')$$) LIKE '55000: role "regress_queue_run" cannot log in%HINT%')
       = (current_setting('server_version_num')::int < 170000) AS refused_up_to_16;
SET LOCAL ROLE NONE;
ROLLBACK;
ALTER ROLE regress_queue_run LOGIN;
ALTER ROLE regress_queue_other LOGIN;
BEGIN;
SET LOCAL client_min_messages = error;
GRANT CREATE ON SCHEMA public TO regress_queue_run, regress_queue_other;
SELECT queue.create_queue('r', keep_completed => '1 day'), queue.create_queue('r2');
SELECT queue.grant_queue('r', 'regress_queue_run', 'manage'), queue.grant_queue('r', 'regress_queue_other', 'manage');
SET LOCAL ROLE regress_queue_run;
CREATE FUNCTION h_user(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(current_user) $$;
SELECT try($$SELECT queue.register_sql_handler('run', 'h_user', queues => '{r}')$$);
SELECT try($$SELECT queue.register_sql_handler('all', 'h_user')$$);
SELECT try($$SELECT queue.register_sql_handler('*', 'h_user', queues => '{r}')$$);
SELECT try($$SELECT queue.register_sql_handler('r2', 'h_user', queues => '{r,r2}')$$);
SELECT try($$SELECT queue.register_sql_handler('as', 'h_user', queues => '{r}', run_as => 'regress_queue_other')$$);
SELECT queue.enqueue('run', '1', 'r') AS a, queue.enqueue('run', '2', 'r') AS b, queue.enqueue('run', '3', 'r') AS c \gset
SELECT queue.test_run(:a);
SELECT result FROM queue.job WHERE id = :a;
SET LOCAL ROLE regress_queue_other;
SELECT try(format('SELECT queue.test_run(%s)', :b));
SELECT try($$SELECT count(*) FROM queue.test_drain('r')$$);
SELECT try($$SELECT queue.register_sql_handler('run', 'h_user', queues => '{r}')$$);
SELECT try($$SELECT queue.unregister_handler('run')$$);
SELECT try($$SELECT queue.pause_handler('run')$$);
SET LOCAL ROLE NONE;
SELECT try(format('SELECT queue.test_run(%s)', :b));
REVOKE EXECUTE ON FUNCTION h_user(queue.job) FROM PUBLIC, regress_queue_run;
SET LOCAL ROLE regress_queue_run;
SELECT try(format('SELECT queue.test_run(%s)', :b));
SET LOCAL ROLE NONE;
GRANT EXECUTE ON FUNCTION h_user(queue.job) TO PUBLIC;
ALTER FUNCTION h_user(queue.job) OWNER TO regress_queue_other;
SET LOCAL ROLE regress_queue_run;
SELECT try(format('SELECT queue.test_run(%s)', :b));
SET LOCAL ROLE NONE;
SELECT kind, state FROM queue.stat_handler;
SELECT split_part(queue.explain_job(:b), ';', 2);
-- a superuser is trusted
CREATE ROLE regress_queue_boss SUPERUSER;
ALTER FUNCTION h_user(queue.job) OWNER TO regress_queue_boss;
SELECT kind, state FROM queue.stat_handler;
ALTER FUNCTION h_user(queue.job) OWNER TO regress_queue_run;
SET LOCAL ROLE regress_queue_run;
SELECT try(format('SELECT queue.test_run(%s)', :b));
SET LOCAL ROLE NONE;
SELECT try($$SELECT queue.register_sql_handler('r2', 'h_user', queues => '{r,r2}', run_as => 'regress_queue_run')$$);
SELECT count(*) FROM queue.fetch('r', 10);
SELECT queue.revoke_queue('r', 'regress_queue_run', 'manage');
SELECT split_part(queue.explain_job(:c), ';', 2);
-- what nobody serves any more is for workers
SAVEPOINT s;
SELECT kind, payload FROM queue.fetch('r', 10);
ROLLBACK TO s;
UPDATE queue.handler SET paused_at = now() WHERE kind = (SELECT kind FROM queue.job WHERE id = :c);
SELECT queue.explain_job(:c) ~ 'the handler of kind .* is paused since .*, so a worker has to fetch it' AS paused;
-- nulls among its queues, which only a row written by hand has, are none
UPDATE queue.handler SET queues = '{NULL,r}';
SELECT DISTINCT queues FROM queue.stat_handler;
ROLLBACK;

-- what is needed to register, and parks the handler when it is lost: the function, its schema, the role to become
CREATE ROLE regress_queue_reg LOGIN;
BEGIN;
SET LOCAL client_min_messages = error;
CREATE SCHEMA h_schema;
CREATE FUNCTION h_schema.f(jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
REVOKE EXECUTE ON FUNCTION h_schema.f(jsonb) FROM PUBLIC;
GRANT USAGE ON SCHEMA h_schema TO regress_queue_run, regress_queue_reg;
SELECT queue.create_queue('r'), queue.grant_queue('r', 'regress_queue_reg', 'manage'), queue.grant_queue('r', 'regress_queue_run', 'work');
GRANT regress_queue_run TO regress_queue_reg;
CREATE FUNCTION registered() RETURNS text LANGUAGE sql AS
	$$ SELECT try($r$SELECT queue.register_sql_handler('f', 'h_schema.f', queues => '{r}', run_as => 'regress_queue_run')$r$) $$;
SET LOCAL ROLE regress_queue_reg;
SELECT registered();
SET LOCAL ROLE NONE;
GRANT EXECUTE ON FUNCTION h_schema.f(jsonb) TO regress_queue_reg;
SET LOCAL ROLE regress_queue_reg;
SELECT registered();
SET LOCAL ROLE NONE;
GRANT EXECUTE ON FUNCTION h_schema.f(jsonb) TO regress_queue_run;
SET LOCAL ROLE regress_queue_reg;
SELECT registered();
SELECT queue.enqueue('f', queue => 'r') AS a, queue.enqueue('f', queue => 'r') AS b \gset
SET LOCAL ROLE NONE;
REVOKE regress_queue_run FROM regress_queue_reg;
SET LOCAL ROLE regress_queue_run;
SELECT try(format('SELECT queue.test_run(%s)', :a));
SET LOCAL ROLE NONE;
GRANT regress_queue_run TO regress_queue_reg;
SELECT state FROM queue.stat_handler WHERE kind = 'f';
REVOKE USAGE ON SCHEMA h_schema FROM regress_queue_run;
SET LOCAL ROLE regress_queue_run;
SELECT try(format('SELECT queue.test_run(%s)', :a));
SET LOCAL ROLE NONE;
GRANT USAGE ON SCHEMA h_schema TO regress_queue_run;
SET LOCAL ROLE regress_queue_run;
SELECT queue.test_run(:a);
SET LOCAL ROLE NONE;
DROP FUNCTION h_schema.f(jsonb);
CREATE FUNCTION h_schema.f(jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
SET LOCAL ROLE regress_queue_run;
SELECT try(format('SELECT queue.test_run(%s)', :b));
ROLLBACK;
DROP ROLE regress_queue_reg;

-- a handler is of a kind in the queues that it names, and in all that no other handler of the kind names
CREATE FUNCTION h_named(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"kind, queue"'::jsonb $$;
CREATE FUNCTION h_kind(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"kind"'::jsonb $$;
CREATE FUNCTION h_queue(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"*, queue"'::jsonb $$;
CREATE FUNCTION h_any(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"*"'::jsonb $$;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.create_queue(q, keep_completed => '1 day') FROM unnest('{q1,q2,q3}'::text[]) q;
SELECT queue.register_sql_handler('*', 'h_any'), queue.register_sql_handler('*', 'h_queue', queues => '{q2,q1,q2}', max_attempts => 2),
       queue.register_sql_handler('k', 'h_kind', max_attempts => 3), queue.register_sql_handler('k', 'h_named', queues => '{q1}', max_attempts => 4);
SELECT kind, target, queues FROM queue.stat_handler ORDER BY kind COLLATE "C", queues;
CREATE TEMP TABLE e ON COMMIT DROP AS SELECT queue.enqueue(k, queue => q) AS id FROM unnest('{k,other}'::text[]) k, unnest('{q1,q2,q3}'::text[]) q;
SELECT j.kind, j.queue, j.max_attempts, try(format('SELECT queue.test_run(%s)', id)) FROM e JOIN queue.job j USING (id) ORDER BY j.kind, j.queue;
SELECT kind, queue, result FROM queue.job WHERE state = 'completed' ORDER BY kind, queue;
-- unregistered in one queue: the next by precedence; paused: external workers may have it there
SELECT queue.unregister_handler('k', 'q1'), queue.pause_handler('*', 'q2'), queue.pause_handler('k', '*');
SELECT kind, queues, state FROM queue.stat_handler ORDER BY kind COLLATE "C", queues;
SELECT queue.enqueue('k', queue => q) FROM unnest('{q1,q2,q3}'::text[]) q;
SELECT queue.enqueue('other', queue => q) FROM unnest('{q1,q2,q3}'::text[]) q;
SELECT queue, kind FROM queue.fetch_any('{q1,q2,q3}', 10) ORDER BY queue, kind COLLATE "C";
SELECT regexp_replace(detail, 'since .*', 'since'), hint FROM queue.doctor() WHERE check_name = 'handler' ORDER BY 1;
ROLLBACK;

-- registering replaces one's own that share a queue; another role's is refused, one's own queue is free
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.create_queue(q) FROM unnest('{q1,q2,q3}'::text[]) q;
SELECT queue.grant_queue(q, 'regress_queue_run', 'manage') FROM unnest('{q1,q2}'::text[]) q;
SELECT queue.grant_queue('q2', 'regress_queue_other', 'manage'), queue.grant_queue('q3', 'regress_queue_other', 'manage');
SELECT queue.register_sql_handler('k', 'h_kind');
SET LOCAL ROLE regress_queue_run;
SELECT try($$SELECT queue.register_sql_handler('k', 'h_named', queues => '{q1}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_named', queues => '{q2}')$$);
SELECT try($$SELECT queue.pause_handler('k')$$);
SELECT try($$SELECT queue.pause_handler('k', 'q1')$$);
SELECT try($$SELECT queue.pause_handler('k', 'q3')$$);
SELECT try($$SELECT queue.pause_handler('k', '*')$$);
SET LOCAL ROLE regress_queue_other;
SELECT try($$SELECT queue.register_sql_handler('k', 'h_queue', queues => '{q3}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_queue', queues => '{q2,q3}')$$);
SELECT try($$SELECT queue.register_sql_handler('k', 'h_queue', queues => '{q1}')$$);
SELECT try($$SELECT queue.unregister_handler('k', 'q2')$$);
SELECT kind, target, queues, run_as = current_user AS mine FROM queue.stat_handler ORDER BY queues;
SET LOCAL ROLE regress_queue_run;
SELECT try($$SELECT queue.register_sql_handler('k', 'h_any', queues => '{q1,q2}')$$);
SELECT kind, target, queues FROM queue.stat_handler ORDER BY queues;
SELECT try($$SELECT queue.register_sql_handler('k', 'h_named', queues => '{q2}')$$);
SET LOCAL ROLE NONE;
SELECT kind, target, queues, run_as FROM queue.stat_handler WHERE queues IS NOT NULL ORDER BY queues;
SELECT try($$SELECT queue.unregister_handler('k')$$);
SELECT try($$SELECT queue.unregister_handler('k', '*')$$);
-- who runs everything replaces everybody's
SELECT try($$SELECT queue.register_sql_handler('k', 'h_any', queues => '{q2,q3}', run_as => 'regress_queue_other')$$);
SELECT kind, target, queues, run_as FROM queue.stat_handler ORDER BY queues;
SELECT try(format($$SELECT queue.register_sql_handler('k', 'h_any', queues => %L)$$, array_fill('q1'::text, '{1001}')));
ROLLBACK;

-- who owns the function decides what runs as run_as: he must have its privileges, or be a superuser
BEGIN;
SET LOCAL client_min_messages = error;
GRANT CREATE ON SCHEMA public TO regress_queue_run, regress_queue_other;
SELECT queue.create_queue('r');
SELECT queue.grant_queue('r', 'regress_queue_run', 'work'), queue.grant_queue('r', 'regress_queue_other', 'manage');
SET LOCAL ROLE regress_queue_other;
CREATE FUNCTION h_owned(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(current_user) $$;
SET LOCAL ROLE NONE;
SELECT try($$SELECT queue.register_sql_handler('own', 'h_owned')$$);
SELECT try($$SELECT queue.register_sql_handler('own', 'h_owned', queues => '{r}', run_as => 'regress_queue_run')$$);
SELECT try($$SELECT queue.register_sql_handler('own', 'h_owned', queues => '{r}', run_as => 'regress_queue_other')$$);
SELECT try($$SELECT queue.register_sql_handler('supers', 'h_job', queues => '{r}', run_as => 'regress_queue_run')$$);
GRANT regress_queue_run TO regress_queue_other;
SELECT try($$SELECT queue.register_sql_handler('own', 'h_owned', queues => '{r}', run_as => 'regress_queue_run')$$);
SELECT kind, state FROM queue.stat_handler ORDER BY kind;
REVOKE regress_queue_run FROM regress_queue_other;
SELECT kind, state FROM queue.stat_handler ORDER BY kind;
SELECT detail, hint FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'own';
ROLLBACK;

-- a role that is dropped runs nothing, nor does anybody in its place
CREATE ROLE regress_queue_gone LOGIN;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.create_queue('g'), queue.grant_queue('g', 'regress_queue_gone', 'work');
SELECT queue.register_sql_handler('gone', 'h_job', queues => '{g}', run_as => 'regress_queue_gone');
SELECT queue.enqueue('gone', '1', 'g') AS g \gset
DROP OWNED BY regress_queue_gone;
DROP ROLE regress_queue_gone;
SELECT kind, state FROM queue.stat_handler;
SELECT detail, hint FROM queue.doctor() WHERE check_name = 'handler';
SELECT try(format('SELECT queue.test_run(%s)', :g));
ROLLBACK;
DROP ROLE regress_queue_gone;

-- both overloads are looked for in one schema of the search_path
BEGIN;
SET LOCAL client_min_messages = error;
CREATE FUNCTION "Odd schema".h_mine(p jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION h_mine(j queue.job) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION "Odd schema".h_other(p jsonb) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE "Odd schema".h_other(j queue.job) LANGUAGE sql AS '';
SET LOCAL search_path = "Odd schema", public;
SELECT queue.register_sql_handler('one', 'h_mine'), queue.register_sql_handler('two', 'public.h_mine'), queue.register_sql_handler('three', 'h_both'),
       queue.register_sql_handler('four', 'h_both(jsonb)'), queue.register_sql_handler('five', 'public.h_both(queue.job)'), queue.register_sql_handler('six', '"Odd schema".h_mine(jsonb)'), queue.register_sql_handler('seven', 'h_other');
SELECT kind, target FROM queue.stat_handler ORDER BY kind;
ROLLBACK;

-- what is kept of handlers that are gone does not grow
SET client_min_messages = error;
DO $$ BEGIN
	FOR i IN 1 .. 1000 LOOP
		PERFORM queue.register_sql_handler('comes and goes', 'h_both(jsonb)');
		PERFORM count(state) FROM queue.stat_handler;
		PERFORM queue.unregister_handler('comes and goes');
	END LOOP;
END $$;
SELECT sum(total_bytes) < 100000 AS flat FROM pg_backend_memory_contexts WHERE name = 'queue handlers';

SET client_min_messages = warning;
DROP EXTENSION queue CASCADE;
DROP SCHEMA "Odd schema";
DROP TABLE seen;
DROP FUNCTION try(text), ending(text, bool), h_json(jsonb), h_both(jsonb), h_text(text);
DROP AGGREGATE h_agg(jsonb);
DROP ROLE regress_queue_run, regress_queue_other;
