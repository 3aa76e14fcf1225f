-- Control: cancel, discard, retry, alter_job, result, wait_for, purge, pause, resume.
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
SELECT queue.create_queue('q', max_attempts => 2, keep_completed => '1 day', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT queue.create_queue('brief');

-- one job in each state
SELECT queue.enqueue('running', '{"n": 1}', 'q') AS running, queue.enqueue('retryable', '{"n": 1}', 'q') AS retryable, queue.enqueue('completed', '{"n": 1}', 'q') AS completed,
       queue.enqueue('cancelled', '{"n": 1}', 'q') AS cancelled, queue.enqueue('discarded', '{"n": 1}', 'q', priority => -1) AS discarded \gset
SELECT kind FROM queue.fetch('q', 10, kinds => '{running,retryable,completed,discarded}');
SELECT queue.fail(:retryable, 1, 'e'), queue.complete(:completed, 1, '"r"'), queue.cancel(:cancelled, 'why'), queue.fail(:discarded, 1, 'e', discard => true);
SELECT queue.enqueue('available', '{"n": 1}', 'q') AS available, queue.enqueue('scheduled', '{"n": 1}', 'q', delay => '1 day') AS scheduled \gset
SELECT kind, state, attempt, failures, last_error, result, finished_at IS NOT NULL AS finished FROM queue.job WHERE queue = 'q' ORDER BY kind;

-- each call on each state (undone each time): what it says and what the job is then
CREATE FUNCTION on_each(call text) RETURNS TABLE (was text, says text, "is now" text, attempt int, failures int, due text, last_error text) LANGUAGE plpgsql AS $$
DECLARE j queue.job;
BEGIN
	FOR j IN SELECT * FROM queue.job o WHERE o.queue = 'q' ORDER BY o.state LOOP
		BEGIN
			was := j.state;
			says := try(format('SELECT queue.' || call, j.id));
			SELECT o.state, o.attempt, o.failures, o.last_error,
				CASE WHEN o.run_at = j.run_at THEN 'as before' WHEN o.run_at > clock_timestamp() THEN 'later' WHEN o.run_at = '2001-01-01 00:00+00' THEN 'as asked' ELSE 'now' END
			  INTO "is now", on_each.attempt, on_each.failures, on_each.last_error, due FROM queue.job o WHERE o.id = j.id;
			RAISE EXCEPTION USING ERRCODE = 'QU999';
		EXCEPTION WHEN SQLSTATE 'QU999' THEN
			RETURN NEXT;
		END;
	END LOOP;
END $$;
SELECT * FROM on_each('cancel(%s)');
SELECT * FROM on_each('cancel(%s, ''changed my mind'')');
SELECT * FROM on_each('discard(%s, ''hopeless'')');
SELECT * FROM on_each('retry(%s)');
SELECT * FROM on_each('retry(%s, ''2001-01-01 00:00+00'')');
SELECT * FROM on_each('retry(%s, ''2100-01-01 00:00+00'')');
SELECT * FROM on_each('alter_job(%s, run_at => ''2001-01-01 00:00+00'')');
SELECT * FROM on_each('alter_job(%s, priority => -5)');
SELECT * FROM on_each('alter_job(%s, max_attempts => 1)');
SELECT * FROM on_each('result(%s)');
SELECT * FROM on_each('wait_for(%s, ''0'')');

-- cancel and discard: told once, kept, and the worker learns of it
SELECT queue.cancel(:running, 'stop it'), queue.cancel(:running), queue.complete(:running, 1), queue.heartbeat(:running, null, 1), queue.fail(:running, 1);
SELECT state, attempt, failures, last_error FROM queue.job WHERE id = :running;
SELECT queue.discard(:available), queue.discard(:available), queue.cancel(:available);
SELECT state, attempt, failures, last_error FROM queue.job WHERE id = :available;
SELECT queue.cancel(:scheduled, '');
SELECT state, last_error FROM queue.job WHERE id = :scheduled;
SELECT count(*) FROM queue.fetch('q', 10);
SELECT queue.cancel(1000000), queue.discard(1000000), queue.retry(1000000), queue.alter_job(1000000, priority => 1), queue.cancel(-1);

-- retry: the same id, failures from 0, the attempt goes on rising
SELECT queue.retry(:discarded), queue.retry(:completed), queue.retry(:running);
SELECT kind, state, attempt, failures, last_error, result, finished_at, priority, payload FROM queue.job WHERE id IN (:discarded, :completed, :running) ORDER BY kind;
SELECT kind, attempt, failures, max_attempts FROM queue.fetch('q', 10);
SELECT queue.complete(:completed, 1), queue.complete(:completed, 2, '"second"'), queue.result(:completed);
SELECT queue.fail(:discarded, 2, 'again'), queue.fail(:running, 2, 'x');
SELECT kind, state, attempt, failures FROM queue.job WHERE id IN (:discarded, :running) ORDER BY kind;
SELECT queue.retry(:discarded), queue.retry(:discarded);
SELECT state, attempt, failures, run_at <= clock_timestamp() AS due FROM queue.job WHERE id = :discarded;
SELECT count(*) FROM queue.job WHERE id = :completed;
-- nor is it the job's fault any more that executors died with it
SELECT queue.enqueue('deadly', '{"n": 1}', 'q') AS d \gset
UPDATE queue.live_job SET extra = coalesce(extra, '{}') || '{"deaths": 1}' WHERE id = :d;
SELECT queue.retry(:d);
SELECT coalesce(extra ? 'deaths', false) AS deaths, queue.cancel(id) FROM queue.live_job WHERE id = :d;
-- an ended lease counts as no failure any more
SELECT queue.enqueue('ended', '{"n": 1}', 'q') AS e \gset
SELECT attempt FROM queue.fetch('q', kinds => '{ended}', lease => '1 us');
SELECT queue.retry(:e);
SELECT attempt, failures FROM queue.fetch('q', kinds => '{ended}');
-- when a job was enqueued is told as it was, wherever its time is moved
SELECT queue.complete(:e, 2), queue.enqueue('fresh', '{"n": 1}', 'q') AS f, queue.enqueue('moved', '{"n": 1}', 'q') AS m \gset
SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{fresh}');
SELECT queue.alter_job(:m, run_at => '2100-01-01 00:00+00'), queue.retry(:f, '2100-01-01 00:00+00');
SELECT kind, run_at > '2099-01-01' AS moved, enqueued_at < clock_timestamp() AS before FROM queue.job WHERE id IN (:f, :m) ORDER BY kind;
SELECT queue.cancel(:f), queue.cancel(:m);
-- one that is retried after it expired does not expire at once
SELECT queue.enqueue('late', '{"n": 1}', 'q', expires_at => clock_timestamp() + interval '1 year') AS l \gset
SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{late}');
UPDATE queue.finished_job SET extra = jsonb_set(extra, '{expires_at}', '1000') WHERE id = :l;
SELECT queue.retry(:l);
SELECT attempt, expires_at FROM queue.fetch('q', kinds => '{late}');
SELECT queue.complete(:l, 2);
-- a retry that is rolled back
BEGIN;
SELECT queue.retry(:completed);
SELECT state FROM queue.job WHERE id = :completed;
ROLLBACK;
SELECT state, result FROM queue.job WHERE id = :completed;

-- alter_job
SELECT queue.enqueue('alter', '{"n": 1}', 'q', tags => '{t}') AS a \gset
SELECT queue.alter_job(:a, run_at => '2001-01-01 00:00+00', priority => 9, max_attempts => 8, payload => '{"n": 2}');
SELECT state, run_at = '2001-01-01 00:00+00' AS run_at, priority, max_attempts, payload, tags, attempt FROM queue.job WHERE id = :a;
SELECT queue.alter_job(:a);
SELECT queue.alter_job(:a, run_at => '2100-01-01 00:00+00');
SELECT state, priority FROM queue.job WHERE id = :a;
SELECT queue.alter_job(:a, run_at => '2001-01-01 00:00+00', priority => -9);
SELECT kind, priority, payload FROM queue.fetch('q');
SELECT queue.alter_job(:a, priority => 1);
SELECT queue.enqueue('alter', '{"n": 3}', 'q', priority => 4, tags => '{t}', timeout => '9 s', headers => '{"h": 1}', max_attempts => 7) AS a2 \gset
SELECT queue.alter_job(:a2, timeout => '5 s', tags => '{x,y}', headers => '{"h": 2}', expires_at => '2100-01-01 00:00+00');
SELECT priority, max_attempts, tags, headers, expires_at = '2100-01-01 00:00+00' AS expires, (SELECT extra ->> 'timeout' FROM queue.live_job WHERE id = :a2) AS timeout FROM queue.job WHERE id = :a2;
SELECT queue.alter_job(:a2, run_at => '2100-01-01 00:00+00', reset => '{timeout,tags,headers,expires_at,priority,max_attempts,payload}');
SELECT priority, max_attempts, tags, headers, expires_at, payload, state, (SELECT extra ->> 'timeout' FROM queue.live_job WHERE id = :a2) AS timeout FROM queue.job WHERE id = :a2;
SELECT queue.alter_job(:a2, reset => '{run_at}');
SELECT state FROM queue.job WHERE id = :a2;
SELECT try(format('SELECT queue.alter_job(%s, reset => ''{colour}'')', :a2));
SELECT try(format('SELECT queue.alter_job(%s, priority => 3, reset => ''{priority}'')', :a2));
SELECT try(format('SELECT queue.alter_job(%s, headers => ''[]'')', :a2));
SELECT queue.cancel(:a2);
SELECT try(format('SELECT queue.alter_job(%s, priority => 40000)', :a));
SELECT try(format('SELECT queue.alter_job(%s, run_at => ''infinity'')', :a));
SELECT try(format('SELECT queue.alter_job(%s, max_attempts => 0)', :a));
SELECT try(format('SELECT queue.retry(%s, ''infinity'')', :a));
SELECT try($$SELECT queue.alter_job(null)$$);
SELECT try($$SELECT queue.cancel(null)$$);
SELECT try($$SELECT queue.discard(null)$$);
SELECT try($$SELECT queue.retry(null)$$);

-- result
SELECT queue.enqueue('k', '1', 'brief') AS b, queue.enqueue('k', '1', 'q') AS c \gset
SELECT try(format('SELECT queue.result(%s)', :b));
SELECT try(format('SELECT queue.result(%s)', :c));
SELECT try(format('SELECT queue.result(%s, ''20 ms'')', :c));
SELECT attempt FROM queue.fetch('q', kinds => '{k}');
SELECT queue.complete(:c, 1), queue.result(:c);
SELECT queue.result(:c, '1 hour');
SELECT try($$SELECT queue.result(1000000)$$);
SELECT try($$SELECT queue.result(null)$$);
SELECT try(format('SELECT queue.result(%s, ''-1 s'')', :c));

-- wait_for: at the deadline the state of that moment
SELECT queue.wait_for(:b, '0'), queue.wait_for(:b, '20 ms'), queue.wait_for(:c, '1 hour');
SELECT queue.wait_for(:b, null);
SELECT try(format('SELECT queue.wait_for(%s, ''-1 s'')', :b));
SELECT try($$SELECT queue.wait_for(1000000, '0')$$);
SELECT try($$SELECT queue.wait_for(null, '0')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try(format('SELECT queue.wait_for(%s, ''1 ms'')', :b));
ROLLBACK;
-- one that ended and left nothing
SELECT attempt FROM queue.fetch('brief');
SELECT queue.complete(:b, 1);
SELECT kind FROM queue.job WHERE id = :b;

-- purge: what waits goes, what runs or has ended stays
SELECT queue.create_queue('p', keep_completed => '1 day');
SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3,4,5,6}', 'p');
SELECT queue.enqueue('later', '7', 'p', delay => '1 day', priority => 3) IS NOT NULL AS e;
SELECT count(*) FROM (SELECT queue.complete(id, attempt) FROM queue.fetch('p')) c;
SELECT count(*) FROM (SELECT queue.fail(id, attempt) FROM queue.fetch('p')) c;
SELECT count(*) FROM queue.fetch('p');
BEGIN;
SELECT queue.purge('p');
SELECT state, count(*) FROM queue.job WHERE queue = 'p' GROUP BY state ORDER BY state;
ROLLBACK;
SELECT queue.purge('p');
SELECT queue.purge('p');
SELECT state, count(*) FROM queue.job WHERE queue = 'p' GROUP BY state ORDER BY state;
SELECT count(*) FROM queue.fetch('p', 10);
SELECT queue.enqueue('k', '8', 'p') IS NOT NULL AS e;
SELECT payload FROM queue.fetch('p', 10);
SELECT try($$SELECT queue.purge('nowhere')$$);
SELECT try($$SELECT queue.purge(null)$$);

-- pause and resume, also of the queue that needs no row
SELECT queue.pause('default'), queue.pause('default');
SELECT queue.enqueue('k', '1') AS d \gset
SELECT count(*) FROM queue.fetch('default');
SELECT regexp_replace(queue.explain_job(:d), 'since .*$', 'since ..');
SELECT queue.resume('default'), queue.resume('default');
SELECT count(*) FROM queue.fetch('default');
BEGIN;
SELECT queue.pause('p');
ROLLBACK;
SELECT queue.enqueue('k', '9', 'p') IS NOT NULL AS e;
SELECT payload FROM queue.fetch('p');
SELECT try($$SELECT queue.pause('nowhere')$$);
SELECT try($$SELECT queue.pause(null)$$);
SELECT try($$SELECT queue.resume('nowhere')$$);
-- who pauses again changes nothing
SELECT queue.pause('p'), queue.pause('*');
SELECT array_agg(paused_at ORDER BY name) AS since FROM queue.queue \gset
SELECT queue.pause('p'), queue.pause('*');
SELECT array_agg(paused_at ORDER BY name) = :'since' AS same FROM queue.queue;
SELECT queue.resume('p');
SELECT count(*) > 1 AS more, bool_and(all_paused_at IS NOT NULL) AS all_paused FROM queue.stat_queue;
SELECT queue.resume('*');
SELECT queue.resume('*');
SELECT count(*) AS paused FROM queue.stat_queue WHERE all_paused_at IS NOT NULL;

DROP FUNCTION on_each(text);
DROP FUNCTION try(text);
DROP EXTENSION queue;
