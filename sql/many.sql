-- Many jobs at once: find_jobs, cancel_jobs, discard_jobs, retry_jobs, move_jobs, delete_jobs.
CREATE EXTENSION queue;
CREATE ROLE regress_queue_many;
CREATE ROLE regress_queue_look;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', keep_completed => '1 day', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}'),
       queue.create_queue('other', keep_completed => '1 day'), queue.create_queue('hidden');
SELECT queue.grant_queue('q', 'regress_queue_many', 'manage'), queue.grant_queue('other', 'regress_queue_many', 'enqueue'),
       queue.grant_queue('q', 'regress_queue_look', 'read');
CREATE FUNCTION kinds(filter jsonb) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(kind || ' ' || state, ', ') FROM queue.find_jobs(filter) $$;
GRANT EXECUTE ON FUNCTION kinds(jsonb) TO PUBLIC;

-- one job in each state, and some that differ in what a filter asks for
SELECT queue.enqueue('running', '{"n": 1, "who": "eve"}', 'q') AS running, queue.enqueue('retryable', '{"n": 2}', 'q', tags => '{a,b}') AS retryable,
       queue.enqueue('completed', '{"n": 3}', 'q', tags => '{b}') AS completed, queue.enqueue('cancelled', '[4, 5]', 'q') AS cancelled,
       queue.enqueue('discarded', '6', 'q', priority => -1) AS discarded, queue.enqueue('hidden', '7', 'hidden') AS hidden \gset
SELECT kind FROM queue.fetch('q', 10, kinds => '{running,retryable,completed,discarded}', worker => 'w1', lease => '1 hour');
SELECT queue.fail(:retryable, 1, 'connection refused'), queue.complete(:completed, 1, '"r"'), queue.cancel(:cancelled, 'not needed'),
       queue.fail(:discarded, 1, 'disk full', discard => true);
SELECT queue.enqueue('available', '{"n": 1}', 'q', priority => 5) AS available, queue.enqueue('scheduled', '{"n": 1}', 'q', delay => '1 day', timeout => '7 s') AS scheduled \gset

-- what is found is what the view shows
SELECT count(*), bool_and(f = j) AS same FROM queue.find_jobs() f JOIN queue.job j USING (id) WHERE j.state <> 'running' OR f.state = 'running';
SELECT kinds('{}');
SELECT f, kinds(f) FROM unnest(ARRAY['{"queue": "q"}', '{"queue": ["other", "hidden"]}', '{"kind": "available"}', '{"kind": ["running", "completed"]}', '{"state": "discarded"}', '{"state": "running"}', '{"state": "available"}', '{"state": "available", "kind": "available"}', '{"state": ["scheduled", "retryable"], "queue": "q"}',
	'{"state": ["running", "retryable"]}', '{"state": []}', '{"priority": -1}', '{"priority": [5, "-1"]}', '{"worker": "w1"}', '{"tags": "b"}', '{"tags": ["a", "b"]}',
	'{"payload": {"n": 1}}', '{"payload": {"n": 1}, "kind": "running"}', '{"payload": [5]}', '{"payload": 6}', '{"error": "refused"}', '{"error": "%"}', '{"error": "e"}', '{"ids": []}',
	'{"enqueued_before": "2001-01-01"}', '{"enqueued_after": "2001-01-01", "state": "scheduled"}', '{"finished_after": "2001-01-01"}',
	'{"finished_before": "2001-01-01"}', '{"queue": "nowhere"}']::jsonb[]) f;
SELECT f, kinds(f) FROM unnest(ARRAY['{"enqueued_before": "2999-01-01", "state": "available"}', '{"enqueued_after": "2999-01-01"}', '{"finished_before": "2999-01-01"}', '{"finished_after": "2999-01-01"}']::jsonb[]) f;
SELECT kinds(jsonb_build_object('ids', ARRAY[:running, :running, :cancelled, :cancelled]));
SELECT kinds(jsonb_build_object('ids', ARRAY[:running, :cancelled, 1000000])), kinds(jsonb_build_object('ids', :'completed')), kinds(jsonb_build_object('ids', :completed, 'kind', 'x'));
-- pages
SELECT string_agg(kind, ', ') FROM queue.find_jobs('{}', 3);
SELECT string_agg(kind, ', ') FROM queue.find_jobs('{}', 3, after_id => :completed);
SELECT string_agg(kind, ', ') FROM queue.find_jobs('{}', 3, before_id => 0);
SELECT string_agg(kind, ', ') FROM queue.find_jobs('{"queue": "q"}', 3, before_id => :discarded);
SELECT string_agg(kind, ', ') FROM queue.find_jobs('{}', after_id => :running, before_id => :discarded);
SELECT string_agg(kind, ', ') FROM queue.find_jobs(jsonb_build_object('ids', ARRAY[:running, :retryable, :completed, :cancelled]), after_id => :running, before_id => :cancelled);
SELECT string_agg(kind, ', ') FROM queue.find_jobs('{"state": "running"}', after_id => :running);
SELECT count(*) FROM queue.find_jobs(null, null, null, null);
-- what is refused
SELECT queue.find_jobs('{"colour": "red"}');
SELECT queue.find_jobs('{"queue": null}');
SELECT queue.find_jobs('{"queue": 5}');
SELECT queue.find_jobs('{"queue": {"q": "q"}}');
SELECT queue.find_jobs('{"state": "done"}');
SELECT queue.find_jobs('{"ids": "x"}');
SELECT queue.find_jobs('{"ids": [1.5, true]}');
SELECT queue.find_jobs('{"ids": [1e30]}');
SELECT queue.find_jobs('{"ids": 1.5}');
SELECT queue.find_jobs('{"priority": "99999999999999999999"}');
SELECT kinds('{"ids": [" 1 ", 1e0, 1.0], "kind": "running"}') = kinds('{"ids": 1, "kind": "running"}') AS same;
SELECT queue.find_jobs('{"enqueued_before": 5}');
SELECT queue.find_jobs('{"enqueued_before": "soon"}');
SELECT queue.find_jobs('{"finished_after": "2026-13-01"}');
SELECT queue.find_jobs('{"workflow": 1}');
SELECT queue.find_jobs('[]');
SELECT queue.find_jobs('{}', 0);
SELECT queue.cancel_jobs('{}');
SELECT queue.cancel_jobs(null);
SELECT queue.discard_jobs('{}');
SELECT queue.retry_jobs('{}');
SELECT queue.retry_jobs('{"queue": "q"}', 'infinity');
SELECT queue.delete_jobs('{}');
SELECT queue.move_jobs('{}', 'other');
SELECT queue.move_jobs('{"queue": "q"}');
SELECT queue.move_jobs('{"queue": "q"}', 'nowhere');
SELECT queue.move_jobs('{"queue": "q"}', kind => '*');
SELECT queue.move_jobs('{"queue": "q"}', priority => 40000);
SELECT queue.cancel_jobs('{"queue": "q"}', qty => 0);

-- as others: what one may not see is neither found nor touched nor counted
SET ROLE regress_queue_look;
SELECT kinds('{}');
SELECT queue.cancel_jobs('{"queue": "q"}');
SET ROLE regress_queue_many;
SELECT kinds('{"queue": ["q", "hidden"], "state": "available"}');
BEGIN;
SELECT queue.cancel_jobs('{"queue": ["q", "hidden"], "state": "available"}'), queue.retry_jobs('{"queue": ["q", "hidden"]}');
SELECT queue.move_jobs('{"state": ["available", "scheduled"]}', 'other');
ROLLBACK;
SELECT queue.move_jobs('{"state": "available"}', 'hidden');
SELECT queue.move_jobs('{"state": "available"}', 'nowhere');
RESET ROLE;

-- cancel and discard: waiting and running ones
BEGIN;
SELECT queue.cancel_jobs('{"queue": "q"}', 'all of them');
SELECT kind, state, last_error FROM queue.job WHERE queue = 'q' ORDER BY id;
SELECT queue.cancel_jobs('{"queue": "q"}');
ROLLBACK;
BEGIN;
SELECT queue.discard_jobs('{"queue": "q"}', qty => 2);
SELECT kinds('{"queue": "q", "state": "discarded"}');
ROLLBACK;

-- retry: failed ones, unless a state is named
BEGIN;
SELECT queue.retry_jobs('{"queue": "q"}');
SELECT kind, state, attempt, failures, last_error FROM queue.job WHERE queue = 'q' ORDER BY id;
SELECT queue.retry_jobs('{"queue": "q"}');
ROLLBACK;
BEGIN;
SELECT queue.retry_jobs('{"queue": "q", "state": ["completed", "discarded"]}', '2100-01-01 00:00+00', 1);
SELECT kind, state, attempt, run_at = '2100-01-01 00:00+00' AS later FROM queue.job WHERE id IN (:completed, :discarded) ORDER BY id;
SELECT queue.retry_jobs('{"queue": "q", "state": "running"}');
ROLLBACK;

-- move: everything but the place stays
BEGIN;
SELECT queue.move_jobs('{"queue": "q"}', 'other');
SELECT kind, queue, state, attempt, failures, last_error, priority, tags, run_at > clock_timestamp() AS later FROM queue.job WHERE queue = 'other' ORDER BY id;
SELECT extra ->> 'timeout' FROM queue.live_job WHERE id = :scheduled;
SELECT kind, attempt FROM queue.fetch('other', 10);
ROLLBACK;
BEGIN;
SELECT queue.move_jobs('{"kind": ["available", "scheduled"]}', kind => 'renamed', priority => -7);
SELECT kind, queue, priority, state FROM queue.job WHERE kind = 'renamed' ORDER BY id;
SELECT kind, priority FROM queue.fetch('q', kinds => '{renamed}');
ROLLBACK;
SELECT queue.move_jobs('{"kind": "available"}', 'other', priority => 1);
SELECT kind, queue, priority FROM queue.fetch('other', 10);

-- delete: finished ones only
SELECT queue.delete_jobs('{"queue": "q", "state": "completed"}'), queue.delete_jobs('{"queue": "q"}'), queue.delete_jobs('{"queue": "q"}');
SELECT kinds('{"queue": "q"}');
SELECT kind, error FROM queue.job_error ORDER BY job_id;

-- what a session has claimed is running, for its own session too
BEGIN;
SELECT queue.create_queue('claimed');
SELECT queue.enqueue('mine', '1', 'claimed') AS mine, queue.enqueue('free', '1', 'claimed') \gset
SELECT kind FROM queue.fetch('claimed', kinds => '{mine}', claim => 'session');
SELECT kinds('{"queue": "claimed", "state": "running"}'), kinds('{"queue": "claimed", "state": "available"}'), kinds('{"queue": "claimed"}'), kinds('{"state": "running", "kind": "mine"}');
ROLLBACK;

-- more than one page, over several lines, groups and partitions, with rare ones among them
SELECT queue.create_queue('big', keep_discarded => '2 hours'), queue.create_queue('long', keep_discarded => '20 days');
SELECT count(*) FROM queue.enqueue_many('often', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 6000) i), 'big');
SELECT count(*) FROM queue.enqueue_many('rare', '{1,2,3}', 'big', 3);
SELECT count(*) FROM queue.enqueue_many('often', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 3000) i), 'long');
SELECT count(*) FROM queue.enqueue_many('rare', '{4,5,6}', 'long');
SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{"kind": "rare"}');
SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{"kind": "rare"}', 2, before_id => 0);
SELECT min(id) AS first, max(id) AS last FROM queue.job WHERE kind = 'rare' \gset
SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{"kind": "rare"}', after_id => :first, before_id => :last);
SELECT queue.cancel_jobs('{"kind": ["often", "rare"]}');
SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{"kind": "rare"}');
SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{"kind": "rare", "state": "cancelled"}', 4, before_id => 0);
SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{"kind": "rare"}', 3, after_id => (SELECT min(id) FROM queue.job WHERE kind = 'rare'));
SELECT count(*), count(DISTINCT id), bool_and(id > prev) AS in_order FROM (SELECT id, lag(id, 1, 0::bigint) OVER () AS prev FROM queue.find_jobs('{"state": "cancelled"}', 1000000)) f;
SELECT queue.retry_jobs('{"kind": "often"}', qty => 7000), queue.retry_jobs('{"queue": "long"}'), queue.delete_jobs('{"kind": "rare"}');
SELECT queue, state, count(*) FROM queue.job WHERE queue IN ('big', 'long') GROUP BY 1, 2 ORDER BY 1, 2;

-- what is kept of a queue that is gone is found, and says whose it was; it cannot come back
SELECT queue.create_queue('away', keep_completed => '1 day');
SELECT queue.enqueue('left', '"over"', 'away') > 0;
SELECT queue.complete(id, attempt, '"result"') FROM queue.fetch('away');
SELECT queue.drop_queue('away');
SELECT queue, kind, state, payload, result FROM queue.find_jobs('{"kind": "left"}');
SELECT queue.retry_jobs('{"kind": "left", "state": "completed"}');
SELECT queue.delete_jobs('{"kind": "left"}');

DROP FUNCTION kinds(jsonb);
SELECT queue.revoke_queue('q', 'regress_queue_many'), queue.revoke_queue('other', 'regress_queue_many'), queue.revoke_queue('q', 'regress_queue_look');
DROP EXTENSION queue;
DROP ROLE regress_queue_many, regress_queue_look;
