-- Sizes and times that a job may have; what somebody wrote into a row by hand does not make the views fail.
\set VERBOSITY terse
CREATE EXTENSION queue;
SET queue.max_job_size = '1kB';
SELECT queue.enqueue('k', to_jsonb(repeat('x', 2000)));
SELECT queue.enqueue('k', headers => jsonb_build_object('a', repeat('x', 2000)));
SELECT queue.enqueue('k', tags => ARRAY[repeat('x', 2000)]);
SELECT queue.enqueue('k', to_jsonb(repeat('x', 600)), tags => ARRAY[repeat('x', 600)]);
SELECT queue.enqueue_many('k', ARRAY['{}', to_jsonb(repeat('x', 2000))]);
SELECT queue.enqueue_json_many('[{"kind": "a"}, {"kind": "b", "payload": "' || repeat('x', 2000) || '"}]');
SELECT queue.enqueue('k', to_jsonb(repeat('x', 1000))) AS id \gset
SELECT queue.alter_job(:id, payload => to_jsonb(repeat('x', 2000)));
SELECT queue.alter_job(:id, tags => ARRAY[repeat('x', 600)]);
SELECT queue.alter_job(:id, headers => jsonb_build_object('a', repeat('x', 600)));
SELECT count(*) FROM queue.fetch('default');
SELECT queue.progress(:id, to_jsonb(repeat('x', 2000)));
SELECT queue.fetch('default', worker => repeat('x', 300));
\set VERBOSITY default
SELECT queue.enqueue('k', to_jsonb(repeat('x', 2000)));
\set VERBOSITY terse
RESET queue.max_job_size;
\set VERBOSITY sqlstate
SET queue.max_job_size = '1GB';
\set VERBOSITY terse

-- times are finite and within 1000 years
SELECT queue.enqueue('k', run_at => 'infinity');
SELECT queue.enqueue('k', run_at => '9999-01-01');
SELECT queue.enqueue('k', run_at => '0001-01-01 BC');
SELECT queue.enqueue('k', expires_at => '294276-12-31');
SELECT queue.enqueue('k', expires_at => 'infinity');
SELECT queue.enqueue('k', delay => '5000 years');
SELECT queue.enqueue('k', delay => '-1 s');
SELECT queue.enqueue('k', delay => '-2000000000 days');
SELECT queue.enqueue('k', timeout => '5000 years');
SELECT queue.enqueue_many('k', '{1}', run_at => '-infinity');
SELECT queue.enqueue_json('{"kind": "k", "expires_at": "9999-01-01"}');
SELECT queue.enqueue_json('{"kind": "k", "delay": "296532 years"}');
SELECT queue.retry(:id, '9999-01-01');
SELECT queue.alter_job(:id, run_at => '9999-01-01');
SELECT queue.snooze(:id, '296532 years');
SELECT queue.heartbeat(:id, '296532 years');
SELECT queue.fail(:id, retry_in => '296532 years');
SELECT queue.fetch('default', lease => '296532 years');
SELECT queue.create_queue('q', lease => '296532 years');
SELECT queue.create_queue('q', keep_discarded => '296532 years');
SET queue.max_wait = '1ms';
SELECT queue.fetch('default', wait => '-2000000000 days');
SELECT count(*) FROM queue.fetch('default', wait => '296532 years');
RESET queue.max_wait;
SELECT queue.snooze(:id, '999 years');
SELECT run_at > now() + interval '900 years' AS later FROM queue.job WHERE id = :id;

-- QU002 with an interval that is too long is a failed attempt, not a loop
CREATE FUNCTION long_snooze(jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE 'not yet' USING ERRCODE = 'QU002', DETAIL = '296532 years';
END $$;
SET client_min_messages = error;	-- it warns where the library is not preloaded
SELECT queue.register_sql_handler('long', 'long_snooze', queues => '{default}');
BEGIN;	-- no executor is to run it before test_run
SELECT queue.enqueue('long') AS id \gset
SELECT queue.test_run(:id, raise_error => false);
COMMIT;
SELECT failures, last_error FROM queue.job WHERE id = :id;

-- rows that somebody wrote
SELECT queue.enqueue('odd') AS id \gset
UPDATE queue.live_job SET extra = '{"max_attempts": 1e400, "expires_at": 1e300, "timeout": -1e30, "started_at": "x",
	"enqueued_at": -1e300, "deaths": 1e20, "tags": 5, "worker": {}}' WHERE id = :id;
SELECT state, expires_at, enqueued_at IS NOT NULL AS enqueued, started_at, max_attempts FROM queue.job WHERE id = :id;
SELECT id = :id AS same, attempt FROM queue.fetch('default', kinds => '{odd}');
UPDATE queue.live_job SET extra = '{"worker": 5, "last_error": []}' WHERE id = :id;
SELECT queue.explain_job(:id) ~ '^running: claimed by a worker until' AS nobody;
-- the last number of an attempt
UPDATE queue.live_job SET attempt = 2147483647, leased_until = NULL, failures = NULL, extra = NULL WHERE id = :id;
SELECT queue.alter_job(:id, run_at => now() - interval '1 hour');
SELECT count(*) FROM queue.fetch('default', kinds => '{odd}');
SELECT state, attempt, last_error FROM queue.job WHERE id = :id;
DROP EXTENSION queue CASCADE;
