-- How long a failed job waits: every curve, its cap, its jitter, and whose setting wins.
CREATE EXTENSION queue;
\pset format unaligned
-- Fails a job `times` times; after each, the delay in seconds from the error to the new run_at.
CREATE FUNCTION delays(backoff jsonb, times int) RETURNS TABLE (failures int, seconds numeric) LANGUAGE plpgsql AS $$
DECLARE j queue.job; the_job bigint; before timestamptz;
BEGIN
	PERFORM queue.create_queue('b', max_attempts => 100000, backoff => delays.backoff);
	the_job := queue.enqueue('k', '{}', 'b');
	FOR i IN 1..times LOOP
		SELECT * INTO STRICT j FROM queue.fetch('b');
		before := clock_timestamp();
		PERFORM queue.fail(j.id, j.attempt, 'e');
		SELECT o.* INTO STRICT j FROM queue.job o WHERE o.id = j.id;
		failures := j.failures;
		-- whole seconds: the clock moves on between the reading here and the one in there
		seconds := floor(extract(epoch FROM j.run_at - before));
		RETURN NEXT;
		PERFORM queue.alter_job(the_job, run_at => '2001-01-01 00:00+00');
	END LOOP;
	PERFORM queue.drop_queue('b', force => true);
END $$;

SELECT * FROM delays('{"jitter": 0}', 25);
SELECT sum(seconds) / 86400 BETWEEN 20 AND 21 AS about_20_days FROM delays('{"jitter": 0}', 24);
SELECT * FROM delays('{"type": "polynomial", "base": "1 s", "cap": "5 min", "jitter": 0}', 5);
SELECT * FROM delays('{"type": "fixed", "base": "3 s", "jitter": 0}', 3);
SELECT * FROM delays('{"type": "fixed", "jitter": 0}', 2);
SELECT * FROM delays('{"type": "linear", "base": "3 s", "jitter": 0}', 4);
SELECT * FROM delays('{"type": "linear", "base": "20 hours", "jitter": 0}', 2);
SELECT * FROM delays('{"type": "exponential", "base": "1 s", "jitter": 0}', 6);
SELECT * FROM delays('{"type": "exponential", "base": "1 s", "factor": 10, "jitter": 0}', 6);
SELECT * FROM delays('{"type": "exponential", "base": "1 s", "factor": 10, "cap": "1000 days", "jitter": 0}', 7);
SELECT * FROM delays('{"type": "exponential", "base": "10 s", "factor": 1, "jitter": 0}', 2);
SELECT * FROM delays('{"type": "fixed", "base": "0", "jitter": 0}', 2);
-- an interval means the same whatever the session's IntervalStyle
SET IntervalStyle = 'sql_standard';
SELECT * FROM delays('{"type": "fixed", "base": "-1 day 24:00:05", "jitter": 0}', 1);
RESET IntervalStyle;

-- jitter: within its bounds, and not always the same
SELECT min(seconds) >= 90 AS low, max(seconds) <= 110 AS high, count(DISTINCT seconds) > 5 AS varies FROM delays('{"type": "fixed", "base": "100 s"}', 40);
SELECT min(seconds) >= 50 AND min(seconds) < 90 AS low, max(seconds) <= 150 AND max(seconds) > 110 AS high FROM delays('{"type": "fixed", "base": "100 s", "jitter": 0.5}', 60);
SELECT min(seconds) >= 14 AS low, max(seconds) <= 18 AS high FROM (SELECT (delays(null, 1)).seconds FROM generate_series(1, 20)) d;

-- far beyond: no overflow, and never more than a thousand years
SELECT queue.create_queue('far', max_attempts => 2147483647, backoff => '{"jitter": 0.1}');
SELECT queue.create_queue('exp', max_attempts => 2147483647, backoff => '{"type": "exponential", "factor": 1000, "cap": "1000 years", "jitter": 0.1}');
SELECT queue.create_queue('lin', max_attempts => 2147483647, backoff => '{"type": "linear", "base": "900 years", "cap": "1000 years"}');
SELECT queue.enqueue('k', '1', 'far') AS far, queue.enqueue('k', '1', 'exp') AS exp, queue.enqueue('k', '1', 'lin') AS lin \gset
SELECT count(*) FROM queue.fetch_any('{far,exp,lin}', 3);
UPDATE queue.live_job SET failures = 2000000000 WHERE id IN (:far, :exp, :lin);
SELECT queue.fail(:far, 1), queue.fail(:exp, 1), queue.fail(:lin, 1);
SELECT queue, failures, run_at > clock_timestamp() + interval '800 years' AS far, run_at < clock_timestamp() + interval '1201 years' AS not_too_far FROM queue.job WHERE queue IN ('far', 'exp', 'lin') ORDER BY id;
UPDATE queue.live_job SET failures = 2147483647 WHERE id = :far;
SELECT queue.alter_job(:far, run_at => '2001-01-01 00:00+00');
SELECT queue.fail(id, attempt) FROM queue.fetch('far');
SELECT queue.drop_queue('far', force => true), queue.drop_queue('exp', force => true), queue.drop_queue('lin', force => true);

-- nothing, however often it is multiplied
SELECT queue.create_queue('nothing', max_attempts => 2147483647, backoff => '{"type": "exponential", "base": "0 s", "jitter": 0.1}');
SELECT queue.enqueue('k', '1', 'nothing') AS nothing \gset
SELECT count(*) FROM queue.fetch('nothing', 1);
UPDATE queue.live_job SET failures = 1025 WHERE id = :nothing;
SELECT queue.fail(:nothing, 1);
SELECT failures, run_at <= clock_timestamp() AS at_once FROM queue.job WHERE id = :nothing;
SELECT queue.drop_queue('nothing', force => true);

-- retry_in wins over all of it
SELECT queue.create_queue('b', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT queue.enqueue('k', '1', 'b') AS a \gset
SELECT count(*) FROM queue.fetch('b');
SELECT queue.fail(:a, 1, 'e', retry_in => '7 s');
-- counted from when it failed, to the microsecond
CREATE VIEW regress_pause AS
  SELECT id, kind, payload, max_attempts, run_at - (SELECT max(failed_at) FROM queue.job_error e WHERE e.job_id = j.id) AS pause
  FROM queue.job j;
SELECT pause FROM regress_pause WHERE id = :a;

-- the job's own wins over the queue's, whatever the settings were when it was enqueued; a spoilt one counts as none
SELECT queue.enqueue('k', '1', 'b', backoff => '{"type": "linear", "base": "20 s", "jitter": 0}') AS a,
       queue.enqueue_json('{"kind": "k", "queue": "b", "backoff": {"type": "fixed", "base": "30 s", "jitter": 0}, "max_attempts": 9}') AS b,
       queue.enqueue('k', '2', 'b', backoff => '{"type": "fixed", "base": "30 s"}') AS c \gset
UPDATE queue.live_job SET extra = jsonb_set(extra, '{backoff}', '"rubbish"') WHERE id = :c;
SELECT count(*) FROM queue.fetch('b', 3);
SELECT queue.fail(:a, 1, 'e'), queue.fail(:b, 1, 'e'), queue.fail(:c, 1, 'e');
SELECT pause, max_attempts FROM regress_pause WHERE id IN (:a, :b, :c) ORDER BY id;
SELECT queue.alter_job(:a, run_at => '2001-01-01 00:00+00');
SELECT queue.fail(id, attempt, 'e') FROM queue.fetch('b');
SELECT pause FROM regress_pause WHERE id = :a;
SELECT spoilt, queue.enqueue('spoilt', to_jsonb(spoilt), 'b', backoff => '{"type": "fixed"}') > 0 AS enqueued
  FROM unnest('{9 1000000 2 0 0,-1 1000000 2 0 0,3 -1000000 2 0 0,3 1000000 0 0 0,3 1000000 2 -1 0,3 1000000 2 0 9}'::text[]) spoilt;
UPDATE queue.live_job SET extra = jsonb_set(extra, '{backoff}', payload) WHERE extra ? 'backoff' AND payload #>> '{}' ~ ' ';
SELECT queue.fail(id, attempt, 'e') FROM queue.fetch('b', 10, kinds => '{spoilt}');
SELECT payload, pause FROM regress_pause WHERE kind = 'spoilt' ORDER BY id;
SELECT queue.enqueue('k', backoff => '{"type": "never"}');
SELECT queue.enqueue('k', backoff => '[]');
SELECT queue.purge('b');

-- the handler's wins over the queue's, also for an external worker; so does its max_attempts
CREATE FUNCTION regress_h(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_sql_handler('h', 'regress_h', max_attempts => 2, backoff => '{"type": "fixed", "base": "10 s", "jitter": 0}');
SELECT queue.enqueue('h', '1', 'b') AS h \gset
SELECT max_attempts FROM queue.fetch('b', kinds => '{h}');
SELECT queue.fail(:h, 1, 'e');
SELECT pause FROM regress_pause WHERE id = :h;
SELECT queue.alter_job(:h, run_at => '2001-01-01 00:00+00');
SELECT attempt FROM queue.fetch('b', kinds => '{h}');
SELECT queue.fail(:h, 2, 'e');
ROLLBACK;

DROP FUNCTION regress_h(queue.job);
DROP FUNCTION delays(jsonb, int);
DROP VIEW regress_pause;
DROP EXTENSION queue;
