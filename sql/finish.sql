-- How a claim ends: complete, fail, snooze, release, heartbeat, progress, each fenced by the attempt.
CREATE EXTENSION queue;
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text; m text; d text; h text;
BEGIN
	EXECUTE sql INTO r;
	RETURN coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN s || ': ' || m || CASE WHEN d <> '' THEN E'\n  DETAIL: ' || d ELSE '' END
		|| CASE WHEN h <> '' THEN E'\n  HINT: ' || h ELSE '' END;
END $$;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', max_attempts => 3, backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT queue.create_queue('kept', max_attempts => 3, keep_completed => '1 day');

-- complete: gone unless kept
SELECT queue.enqueue('k', '1', 'q') AS a \gset
SELECT attempt FROM queue.fetch('q');
SELECT queue.complete(:a, 1);
SELECT queue.complete(:a, 1);
SELECT queue.complete(:a);
SELECT count(*) FROM queue.job WHERE id = :a;
-- kept, with its result
SELECT queue.enqueue('k', '1', 'kept', headers => '{"h": 1}', tags => '{t}') AS a, queue.enqueue('k', '2', 'kept') AS b \gset
SELECT attempt FROM queue.fetch('kept', 2, worker => 'w');
SELECT queue.complete(:a, 1, '{"sum": 3}'), queue.complete(:b, attempt => null);
\x on
SELECT queue, kind, state, payload, attempt, failures, max_attempts, worker, headers, tags, result, last_error, leased_until,
       enqueued_at <= started_at AS started, started_at <= finished_at AS finished FROM queue.job WHERE id = :a;
\x off
SELECT state, result FROM queue.job WHERE id = :b;
SELECT queue.complete(:a, 1), queue.fail(:a, 1), queue.snooze(:a, '1 s', 1), queue.release(:a, 1), queue.heartbeat(:a, null, 1), queue.progress(:a, '1', 1);
SELECT queue.complete(:a), queue.fail(:a), queue.snooze(:a, '1 s'), queue.release(:a), queue.heartbeat(:a), queue.progress(:a, '1');

-- never issued, nobody's and not yet anybody's
SELECT queue.complete(1000000, 1), queue.fail(1000000, 1), queue.snooze(1000000, '1 s', 1), queue.release(1000000, 1), queue.heartbeat(1000000, null, 1), queue.progress(1000000, '1', 1);
SELECT queue.complete(-1, 1), queue.complete(0), queue.fail(-1);
SELECT queue.enqueue('k', '3', 'q') AS a \gset
SELECT queue.complete(:a, 0), queue.complete(:a, 1), queue.fail(:a, 0), queue.snooze(:a, '1 s', 0), queue.release(:a, 0), queue.heartbeat(:a, null, 0), queue.progress(:a, '1', 0);
SELECT queue.complete(:a), queue.fail(:a), queue.snooze(:a, '1 s'), queue.release(:a), queue.heartbeat(:a), queue.progress(:a, '1');
SELECT state, attempt, failures, progress FROM queue.job WHERE id = :a;

-- the fence: the holder of an ended claim can change nothing
SELECT attempt FROM queue.fetch('q');
SELECT queue.release(:a, 1);
SELECT queue.complete(:a, 1), queue.fail(:a, 1), queue.snooze(:a, '1 s', 1), queue.release(:a, 1), queue.heartbeat(:a, null, 1), queue.progress(:a, '1', 1);
SELECT attempt FROM queue.fetch('q');
SELECT queue.complete(:a, 1), queue.fail(:a, 1), queue.snooze(:a, '1 s', 1), queue.release(:a, 1), queue.heartbeat(:a, null, 1), queue.progress(:a, '1', 1);
SELECT queue.complete(:a, 3), queue.fail(:a, 3), queue.snooze(:a, '1 s', 3), queue.release(:a, 3), queue.heartbeat(:a, null, 3), queue.progress(:a, '1', 3);
SELECT state, attempt, failures, progress FROM queue.job WHERE id = :a;
SELECT queue.complete(:a, 2);

-- complete_many: the ids that were yours
SELECT array_agg(i ORDER BY i) AS ids FROM queue.enqueue_many('k', '{1,2,3,4}', 'q') i \gset
SELECT count(*) FROM queue.fetch('q', 3);
SELECT i - (:'ids'::bigint[])[1] AS nth FROM queue.complete_many(:'ids'::bigint[] || 999999::bigint, '{1,7,1,1,1}') i ORDER BY 1;
SELECT i - (:'ids'::bigint[])[1] AS nth FROM queue.complete_many(:'ids') i ORDER BY 1;
SELECT i - (:'ids'::bigint[])[1] AS nth FROM queue.complete_many(:'ids') i ORDER BY 1;
SELECT payload, attempt FROM queue.fetch('q', 10);
SELECT count(*) FROM queue.complete_many(array_fill((:'ids'::bigint[])[4], '{3}'), '{1,1,1}');
SELECT count(*) FROM queue.complete_many('{}'), queue.release_many('{}'), queue.heartbeat_many('{}');
SELECT try($$SELECT queue.complete_many(null)$$);
SELECT try($$SELECT queue.complete_many('{1,NULL}')$$);
SELECT try($$SELECT queue.complete_many('{1,2}', '{1}')$$);
SELECT try($$SELECT queue.complete_many('{1}', '{1,2}')$$);
SELECT try($$SELECT count(*) FROM queue.complete_many('{1,2}', '{1,NULL}')$$);

-- fail: counted, told, due again after the backoff; the last one discards
SELECT queue.enqueue('k', '{"secret": "payload"}', 'q') AS a \gset
SELECT attempt, failures FROM queue.fetch('q', worker => 'w1');
SELECT queue.fail(:a, 1, 'it broke');
\x on
SELECT state, attempt, failures, last_error, worker, leased_until, started_at, run_at - clock_timestamp() BETWEEN '59 min' AND '1 hour' AS backoff FROM queue.job WHERE id = :a;
SELECT queue, kind, attempt, started_at <= failed_at AS started, failed_at <= clock_timestamp() AS failed, worker, error, sqlstate, http_status, context FROM queue.job_error WHERE job_id = :a;
\x off
SELECT queue.fail(:a, 1, 'again');
SELECT payload FROM queue.fetch('q');
SELECT queue.retry(:a, null);
SELECT attempt, failures, last_error FROM queue.fetch('q');
SELECT queue.fail(:a, 2, retry_in => '0');
SELECT state, failures, last_error, run_at <= clock_timestamp() AS due FROM queue.job WHERE id = :a;
SELECT attempt, failures FROM queue.fetch('q');
SELECT queue.fail(:a, 3, 'third', retry_in => '2 days');
SELECT state, failures, run_at - clock_timestamp() BETWEEN '47 hours' AND '48 hours' AS due FROM queue.job WHERE id = :a;
SELECT queue.alter_job(:a, run_at => clock_timestamp());
SELECT attempt, failures FROM queue.fetch('q');
SELECT queue.fail(:a, 4, 'last', retry_in => '0');
SELECT state, attempt, failures, max_attempts, last_error, finished_at <= clock_timestamp() AS finished, leased_until FROM queue.job WHERE id = :a;
SELECT attempt, error FROM queue.job_error WHERE job_id = :a ORDER BY attempt;
SELECT payload FROM queue.fetch('q');
-- told to discard at once
SELECT queue.enqueue('k', '1', 'q') AS a \gset
SELECT attempt FROM queue.fetch('q');
SELECT queue.fail(:a, 1, 'hopeless', discard => true);
SELECT state, failures, last_error FROM queue.job WHERE id = :a;
-- the job's own max_attempts wins over the queue's
SELECT queue.enqueue('k', '1', 'q', max_attempts => 1) AS a \gset
SELECT attempt, max_attempts FROM queue.fetch('q');
SELECT queue.fail(:a, 1, 'once is enough');
SELECT state, max_attempts FROM queue.job WHERE id = :a;
-- discarded ones of a queue that keeps none vanish, their error stays
SELECT queue.create_queue('brief', keep_discarded => '0', max_attempts => 1);
SELECT queue.enqueue('k', '1', 'brief') AS a \gset
SELECT attempt FROM queue.fetch('brief');
SELECT queue.fail(:a, 1, 'gone');
SELECT count(*) FROM queue.job WHERE id = :a;
SELECT kind, error FROM queue.job_error WHERE job_id = :a;
SELECT try($$SELECT queue.fail(null)$$);
SELECT try(format('SELECT queue.fail(%s, retry_in => ''-1 s'')', :a));
SELECT try(format('SELECT queue.fail(%s, retry_in => ''1 s'', discard => true)', :a));

-- snooze: later, uncounted
SELECT queue.enqueue('k', '"zzz"', 'q') AS a \gset
SELECT attempt FROM queue.fetch('q');
SELECT queue.snooze(:a, '1 hour', 1);
SELECT state, attempt, failures, leased_until, worker, run_at - clock_timestamp() BETWEEN '59 min' AND '1 hour' AS later FROM queue.job WHERE id = :a;
SELECT payload FROM queue.fetch('q');
SELECT queue.alter_job(:a, run_at => '2001-01-01 00:00+00');
SELECT attempt, failures FROM queue.fetch('q');
SELECT queue.snooze(:a, '0', 2);
SELECT attempt, failures FROM queue.fetch('q');
SELECT try(format('SELECT queue.snooze(%s, null, 3)', :a));
SELECT try(format('SELECT queue.snooze(%s, ''-1 s'', 3)', :a));
SELECT try(format('SELECT queue.snooze(%s, ''290000 years'', 3)', :a));
SELECT try($$SELECT queue.snooze(null, '1 s')$$);

-- release: at once, uncounted, its place in the line kept
SELECT queue.enqueue('k', '"behind"', 'q') AS b \gset
SELECT queue.release(:a, 3);
SELECT state, attempt, failures, leased_until, worker, started_at FROM queue.job WHERE id = :a;
SELECT payload, attempt FROM queue.fetch('q', 2);
SELECT count(*) FROM queue.release_many(ARRAY[:a, :b, 999999], '{4,1,1}');
SELECT count(*) FROM queue.release_many(ARRAY[:a, :b, 999999], '{4,1,1}');
SELECT payload, attempt FROM queue.fetch('q', 2);
SELECT count(*) FROM queue.release_many(ARRAY[:a, :b]);
SELECT payload, attempt, failures FROM queue.fetch('q', 2);

-- heartbeat: the lease from now on
SELECT queue.heartbeat(:a, '2 hours', 6) = leased_until AS told_before, leased_until - clock_timestamp() < '10 min' AS short FROM queue.job WHERE id = :a;
SELECT leased_until - clock_timestamp() BETWEEN '119 min' AND '2 hours' AS two_hours, attempt, state FROM queue.job WHERE id = :a;
SELECT queue.heartbeat(:a, attempt => 6) - clock_timestamp() BETWEEN '4 min' AND '5 min' AS default_lease;
SELECT queue.heartbeat(:a, '1 min', 5);
SELECT count(*) FROM queue.heartbeat_many(ARRAY[:a, :b, 999999], '3 hours', '{6,3,1}');
SELECT count(*) FROM queue.heartbeat_many(ARRAY[:a, :b], '3 hours', '{6,2}');
SELECT leased_until - clock_timestamp() > '2 hours' AS three_hours FROM queue.job WHERE id IN (:a, :b) ORDER BY id;
SELECT count(*) FROM queue.heartbeat_many(ARRAY[:a, :b], '3 hours', '{6,3}');
SELECT count(DISTINCT leased_until) AS "end together" FROM queue.job WHERE id IN (:a, :b);
-- an id that comes twice is one call, and answered once
SELECT count(*) FROM queue.heartbeat_many(ARRAY[:a, :b, :a], '3 hours', '{6,3,6}');
BEGIN;
SELECT queue.heartbeat(:a, '0', 6) <= clock_timestamp() AS ended;
ROLLBACK;
SELECT try(format('SELECT queue.heartbeat(%s, ''-1 s'')', :a));
SELECT try($$SELECT queue.heartbeat(null)$$);

-- progress: shown, kept with the claim and after
SELECT queue.progress(:a, '{"done": 50}', 6), queue.progress(:a, '{"done": 99}', 5);
SELECT progress, state FROM queue.job WHERE id = :a;
SELECT queue.progress(:a, '"half"');
SELECT progress FROM queue.job WHERE id = :a;
SELECT try(format('SELECT queue.progress(%s, null)', :a));
SELECT queue.complete(:a, 6), queue.complete(:b, 3);

-- all of it in transactions that roll back
SELECT queue.enqueue('k', '"tx"', 'q') AS a \gset
BEGIN;
SELECT attempt FROM queue.fetch('q');
SELECT queue.complete(:a, 1);
ROLLBACK;
SELECT attempt FROM queue.fetch('q');
BEGIN;
SELECT queue.fail(:a, 1, 'undone');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT queue.snooze(:a, '1 hour', 1);
ROLLBACK TO s;
SELECT queue.release(:a, 1);
SELECT attempt FROM queue.fetch('q');
SAVEPOINT s2;
SELECT queue.complete(:a, 2);
ROLLBACK TO s2;
SELECT queue.complete(:a, 1);
COMMIT;
SELECT state, attempt, failures, last_error FROM queue.job WHERE id = :a;
SELECT count(*) FROM queue.job_error WHERE job_id = :a;
SELECT queue.complete(:a, 2);
SELECT count(*) FROM queue.job WHERE id = :a;

-- one line's jobs that came back in between are taken in their order
SELECT array_agg(i ORDER BY i) AS ids FROM queue.enqueue_many('k', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 200) i), 'kept') i \gset
SELECT count(*) FROM queue.fetch('kept', 200);
SELECT count(*) FROM queue.release_many((SELECT array_agg(i) FROM unnest(:'ids'::bigint[]) WITH ORDINALITY AS u(i, o) WHERE o % 2 = 0));
SELECT queue.enqueue('k', '201', 'kept') IS NOT NULL AS e;
SELECT count(*), bool_and(payload::int = 2 * o OR o = 101) AS in_order FROM
	(SELECT payload, row_number() OVER () AS o FROM queue.fetch('kept', 200)) f;
-- a handler's call about its own job is fenced as anybody's
SET client_min_messages = error;	-- without preload, registering warns
CREATE FUNCTION regress_own(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(queue.complete(j.id, j.attempt + 1)) $$;
BEGIN;
SELECT queue.register_sql_handler('own', 'regress_own', queues => '{kept}');
SELECT queue.enqueue('own', '1', 'kept') AS o \gset
SELECT queue.test_run(:o);
SELECT queue.result(:o);
ROLLBACK;
RESET client_min_messages;
DROP FUNCTION regress_own(queue.job);

-- triggers of a user on the tables of finished jobs fire when one is kept and when it comes back
CREATE TABLE fired (n serial, what text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO fired (what) VALUES (TG_OP); RETURN NULL; END $$;
BEGIN;
DO $$ DECLARE r regclass; BEGIN
	FOR r IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'queue.finished_job'::regclass LOOP
		EXECUTE format('CREATE TRIGGER fire AFTER INSERT OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION fire()', r);
	END LOOP;
END $$;
SELECT queue.create_queue('fires', keep_completed => '1 day'), queue.enqueue('k', '1', 'fires') AS f \gset
SELECT queue.complete(id, attempt) FROM queue.fetch('fires');
SELECT queue.retry(:f);
SELECT what FROM fired ORDER BY n;
ROLLBACK;
DROP TABLE fired;
DROP FUNCTION fire();
-- a user's BEFORE triggers on live jobs see those that this very transaction, or statement, has written
BEGIN;
CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER stand BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION stand();
SELECT queue.create_queue('stands'), queue.enqueue('k', '1', 'stands') AS s \gset
SELECT queue.alter_job(:s, priority => 3);
SELECT queue.complete(id, attempt) FROM queue.fetch('stands');
ROLLBACK;
-- one whose queue is gone is explained by what was said of it then
BEGIN;
SELECT queue.create_queue('gone', keep_completed => '1 day'), queue.enqueue('k', '1', 'gone') AS g \gset
SELECT queue.complete(id, attempt) FROM queue.fetch('gone');
SELECT queue.drop_queue('gone');
SELECT left(queue.explain_job(:g), 12);
ROLLBACK;

DROP FUNCTION try(text);
DROP EXTENSION queue;
