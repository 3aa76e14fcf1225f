-- A blocked job: run_at = infinity in its row, the time that was asked for beside it.
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT queue.create_queue('other');

-- a stand-in for what blocks jobs: bit 4 is a dependency
CREATE FUNCTION block(id bigint) RETURNS void BEGIN ATOMIC
	UPDATE queue.live_job j SET run_at = 'infinity', extra = coalesce(extra, '{}') || jsonb_build_object('blocks', 4,
		'run_at', ((extract(epoch FROM j.run_at) - extract(epoch FROM timestamptz '2000-01-01 00:00Z')) * 1000000)::bigint,
		'enqueued_at', ((extract(epoch FROM clock_timestamp()) - extract(epoch FROM timestamptz '2000-01-01 00:00Z')) * 1000000)::bigint)
	WHERE j.id = block.id;
END;
CREATE VIEW jobs AS SELECT kind, state, run_at = '2001-02-03 04:05+00' AS as_enqueued, run_at = '2002-01-01 00:00+00' AS as_asked,
	run_at, failures, last_error FROM queue.job WHERE queue IN ('q', 'other') ORDER BY kind;
SELECT queue.enqueue('k' || n, '{}', 'q', run_at => '2001-02-03 04:05+00') FROM generate_series(1, 6) n \g /dev/null
SELECT block(id) FROM queue.job WHERE queue = 'q' AND kind < 'k6' ORDER BY id \g /dev/null
SELECT kind, state, as_enqueued FROM jobs;

-- no claimer takes it, in either mode; nor does it hide another
SELECT kind FROM queue.fetch('q', 10);
SELECT kind FROM queue.fetch('q', 10, claim => 'session');
SELECT id AS k1 FROM queue.job WHERE kind = 'k1' \gset
SELECT id AS k2 FROM queue.job WHERE kind = 'k2' \gset
SELECT id AS k3 FROM queue.job WHERE kind = 'k3' \gset
SELECT id AS k4 FROM queue.job WHERE kind = 'k4' \gset
SELECT id AS k5 FROM queue.job WHERE kind = 'k5' \gset
SELECT queue.complete(:k1), queue.fail(:k1), queue.heartbeat(:k1), queue.snooze(:k1, '1 s'), queue.release(:k1);
SELECT queue.explain_job(:k1);
CREATE FUNCTION h(jsonb) RETURNS void LANGUAGE sql AS '';
-- it warns where the library is not preloaded
SET client_min_messages = error;
SELECT queue.pause('q'), queue.register_sql_handler('k1', 'h', '{q}');
SELECT queue.test_run(:k1);
SELECT * FROM queue.test_drain('q');
SELECT queue.resume('q'), queue.unregister_handler('k1', 'q');

-- another time is for when it is let in
SELECT queue.alter_job(:k1, run_at => '2002-01-01 00:00+00'), queue.retry(:k2, '2002-01-01 00:00+00'), queue.alter_job(:k3, priority => 7);
SELECT queue.retry_jobs('{"queue": "q", "state": "pending", "kind": "k3"}', '2002-01-01 00:00+00');
SELECT kind, state, as_enqueued, as_asked, (SELECT run_at FROM queue.live_job l WHERE l.id IN (:k1, :k2, :k3) AND l.run_at <> 'infinity') AS in_line FROM jobs;
SELECT queue.alter_job(:k4, run_at => '2100-01-01 00:00+00');
SELECT regexp_replace(queue.explain_job(:k4), 'due at .*', 'due at N');
-- infinity by hand
BEGIN;
SELECT queue.enqueue('by_hand', '1', 'other') AS hand \gset
UPDATE queue.live_job SET run_at = 'infinity' WHERE id = :hand;
SELECT queue.explain_job(:hand);
ROLLBACK;

-- the calls about many
SELECT kind, state, run_at = '2001-02-03 04:05+00' AS as_enqueued FROM queue.find_jobs('{"queue": "q", "state": "pending", "kind": ["k5"]}');
SELECT count(*) FROM queue.find_jobs('{"queue": "q", "state": ["scheduled", "retryable", "available", "running"]}');
SELECT queue.move_jobs('{"queue": "q", "state": "pending", "kind": "k5"}', queue => 'other');
SELECT state, queue FROM queue.job WHERE id = :k5;
SELECT kind FROM queue.fetch('other', 10);

-- ends
SELECT queue.cancel(:k1, 'no more'), queue.discard(:k2);
SELECT kind, state, as_asked, last_error FROM jobs WHERE kind IN ('k1', 'k2');
SELECT extra FROM queue.finished_job WHERE id = :k1 AND extra ?| '{run_at,blocks}';
SELECT queue.retry(:k1, '2002-01-01 00:00+00');
SELECT kind, state, as_asked FROM jobs WHERE kind = 'k1';
SELECT queue.purge('q'), queue.purge('other');
SELECT queue.enqueue('late', '{}', 'q', expires_at => clock_timestamp() + '1 hour') AS late \gset
SELECT block(:late) \g /dev/null
SELECT state, expires_at > clock_timestamp() AS expires FROM queue.job WHERE id = :late;
SELECT queue.drop_queue('q');
SELECT queue.drop_queue('q', force => true), queue.drop_queue('other');
DROP VIEW jobs;
DROP EXTENSION queue CASCADE;
