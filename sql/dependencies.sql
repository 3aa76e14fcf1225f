-- Jobs that depend on others.
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT queue.create_queue('kept', keep_completed => '1 day');
-- an error with its state
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(SQLSTATE || ' ' || SQLERRM || ' | ' || hint, 'job \d+', 'job N', 'g');
END $$;
CREATE FUNCTION add(kind text, after text[] = NULL, mode text = NULL, queue text = 'q') RETURNS bigint LANGUAGE sql AS $$
	SELECT queue.enqueue(kind, queue => queue, depends_mode => mode,
		depends_on => (SELECT array_agg(j.id) FROM unnest(after) a JOIN queue.job j ON j.kind = a))
$$;
CREATE FUNCTION done(k text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE j queue.job;
BEGIN
	SELECT * INTO j FROM queue.fetch_any('{q,kept}', 1, kinds => ARRAY[k]);
	RETURN queue.complete(j.id, j.attempt, to_jsonb('by ' || k));
END $$;
-- who lets jobs in is another process, or where none is, maintain(): until nothing is left to be let in or cancelled
SET my.looks = 1500;
CREATE FUNCTION settle() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..current_setting('my.looks')::int LOOP
		PERFORM queue.maintain();
		IF NOT EXISTS (
			SELECT FROM queue.live_job l WHERE l.run_at = 'infinity' AND (l.extra ->> 'blocks')::int & 4 <> 0 AND
				(NOT EXISTS (SELECT FROM queue.dependency d JOIN queue.live_job o ON o.id = d.depends_on WHERE d.job_id = l.id) OR
				 l.extra ->> 'depends_mode' = '1' AND EXISTS (SELECT FROM queue.dependency d JOIN queue.finished_job f ON f.id = d.depends_on
					WHERE d.job_id = l.id AND f.state <> 'completed' AND f.finished_at > coalesce(queue_internal.job_time(l.extra, 'retried_at'), '-infinity')))) THEN
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
CREATE VIEW jobs AS SELECT kind, state, last_error FROM (SELECT kind, state, regexp_replace(last_error, 'job \d+', 'job N') AS last_error
	FROM queue.job) j ORDER BY kind;

-- a diamond
SELECT add('a') > 0 AND add('b', '{a}') > 0 AND add('c', '{a}') > 0 AND add('d', '{b,c}') > 0 AS added;
SELECT * FROM jobs;
SELECT kind FROM queue.fetch('q', 10);
SELECT regexp_replace(queue.explain_job(id), '\d+', 'N') FROM queue.job WHERE kind = 'd';
SELECT count(*) FROM queue.dependency;
SELECT queue.complete(id, attempt, '{"r": 1}') FROM queue.job WHERE kind = 'a';
-- what others wait for is kept, with its result
SELECT kind, state, result FROM queue.job WHERE kind = 'a';
SELECT settle();
SELECT * FROM jobs;
SELECT done('c'), done('b');
SELECT settle();
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.complete(id, attempt) FROM queue.job WHERE kind = 'd';
SELECT * FROM jobs;
-- the last one was kept for nobody
SELECT count(*) FROM queue.dependency d JOIN queue.finished_job f ON f.id = d.job_id;
SELECT count(*) FROM queue.reminder;

-- one that ended badly
SELECT queue.delete_jobs('{"queue": "q"}');
SELECT add('a') > 0 AND add('b', '{a}') > 0 AND add('c', '{b}') > 0 AND add('f', '{a}', 'finished') > 0 AND add('g', '{c}', 'finished') > 0 AS added;
SELECT queue.discard(id) FROM queue.job WHERE kind = 'a';
SELECT queue.delete_jobs('{"kind": "a"}') AS deleted_while_awaited;
SELECT settle();
SELECT settle();
SELECT * FROM jobs;
SELECT extra ? 'cause' AS caused FROM queue.finished_job WHERE kind = 'b';
SELECT queue.delete_jobs('{"kind": "a"}') AS deleted_while_awaited;
SELECT queue.complete(id) FROM queue.fetch('q', 10);
SELECT queue.delete_jobs('{"kind": ["a", "b", "c", "f", "g"]}') AS deleted;
-- of jobs that ended before
SELECT add('a') > 0 AND add('k', queue => 'kept') > 0 AND add('bad') > 0 AS added;
SELECT id AS gone FROM queue.job WHERE kind = 'a' \gset
SELECT queue.complete(id) FROM queue.fetch_any('{q,kept}', 2, kinds => '{a,k}');
SELECT queue.cancel(id, 'no') FROM queue.job WHERE kind = 'bad';
SELECT queue.enqueue('x1', queue => 'q', depends_on => ARRAY[:gone]) > 0 AS of_one_gone;
SELECT add('x2', '{k}') > 0 AND add('x3', '{k,bad}', 'finished') > 0 AND add('x4', '{k,bad}') > 0 AS added;
SELECT * FROM jobs WHERE kind ~ 'x';
-- one of many ends with the call, too, and not when the scheduler comes by
BEGIN;
SELECT count(*) FROM queue.enqueue_json_many((SELECT format('[{"kind": "many", "queue": "q", "depends_on": [%s]}]', id) FROM queue.job WHERE kind = 'bad'));
SELECT state FROM queue.job WHERE kind = 'many';
COMMIT;
SELECT id AS last FROM queue.job ORDER BY id DESC LIMIT 1 \gset
SELECT try(format('SELECT queue.enqueue(%L, depends_on => ARRAY[%s, %s])', 'y', :gone, :last + 1));
SELECT try($$SELECT queue.enqueue('y', depends_on => '{-1}')$$), try($$SELECT queue.enqueue('y', depends_on => '{NULL}')$$),
	try($$SELECT queue.enqueue('y', depends_on => '{1}', depends_mode => 'never')$$), try($$SELECT queue.enqueue_json('{"kind": "y", "depends_on": ["a"]}')$$);
SELECT queue.enqueue('empty', queue => 'q', depends_on => '{}') > 0 AS without_any;
SELECT state FROM queue.job WHERE kind = 'empty';
SELECT queue.purge('q');
SELECT queue.delete_jobs('{"queue": ["q", "kept"]}') > 0 AS deleted;

-- many ways in: JSON, many at once, twice the same id; a unique key
SELECT add('a') AS a \gset
SELECT count(*) FROM queue.enqueue_json_many(format('[{"kind": "b", "queue": "q", "depends_on": [%s, %1$s]}, {"kind": "c", "queue": "q"}, {"kind": "d", "queue": "q", "depends_on": [%1$s], "depends_mode": "finished"}]', :a));
SELECT outcome FROM queue.enqueue_unique('u', 'key', options => jsonb_build_object('queue', 'q', 'depends_on', ARRAY[:a]));
SELECT outcome FROM queue.enqueue_unique('u', 'key', options => jsonb_build_object('queue', 'q'));
SELECT * FROM jobs;
SELECT kind, count(*) FROM queue.dependency d JOIN queue.job j ON j.id = d.job_id GROUP BY 1 ORDER BY 1;
-- purged: as if it had been cancelled
SELECT queue.cancel_jobs('{"kind": "c"}');
SELECT queue.enqueue('late', '{}', 'q', depends_on => ARRAY[:a], run_at => '2100-01-01', priority => 3) AS late \gset
SELECT queue.alter_job(:late, run_at => '2101-01-01'), queue.move_jobs('{"kind": "late"}', queue => 'kept');
SELECT count(*) FROM queue.fetch('q', 1, kinds => '{a}');
SELECT queue.drop_queue('q', force => true);
SELECT settle();
SELECT kind, state, last_error FROM jobs;
SELECT queue.delete_jobs('{"queue": ["q", "kept"]}') > 0 AS deleted;
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}');
SELECT add('a') > 0 AND add('b', '{a}') > 0 AS added;
SELECT queue.purge('kept') AS purged;
SELECT queue.move_jobs('{"kind": "b"}', queue => 'kept'), queue.purge('q');
SELECT settle();
SELECT * FROM jobs;
SELECT queue.delete_jobs('{"queue": ["q", "kept"]}') > 0 AS deleted;

-- a retried dependency holds those again that have not started
SELECT add('a', queue => 'kept') > 0 AND add('b', '{a}') > 0 AND add('c', '{a}') > 0 AND add('d', '{a}', 'finished') > 0 AS added;
SELECT done('a');
SELECT settle();
SELECT kind FROM queue.fetch('q', 1, kinds => '{b}');
SELECT * FROM jobs;
SELECT queue.retry(id) FROM queue.job WHERE kind = 'a';
SELECT * FROM jobs;
SELECT settle();
SELECT kind FROM queue.fetch('q', 10);
SELECT queue.discard(id, 'bad') FROM queue.job WHERE kind = 'a';
SELECT settle();
SELECT * FROM jobs;
-- who was cancelled because of it waits for it, if both are retried
SELECT queue.retry_jobs('{"kind": ["a", "c"]}');
SELECT * FROM jobs;
SELECT queue.discard(id, 'bad again') FROM queue.job WHERE kind = 'a';
SELECT settle();
SELECT state FROM jobs WHERE kind = 'c';
-- retried alone, it runs whatever became of the other
SELECT queue.retry(id) FROM queue.job WHERE kind = 'c';
SELECT settle();
SELECT * FROM jobs WHERE kind = 'c';
SELECT queue.complete(id) FROM queue.job WHERE state = 'running';
SELECT queue.purge('q');
SELECT queue.delete_jobs('{"queue": ["q", "kept"]}') > 0 AS deleted;
-- one that waits for one of two waits for the other as well, when that is retried: here for the first, or (d) the second
SELECT add('a', queue => 'kept') > 0 AND add('b', queue => 'kept') > 0 AND add('c', '{a,b}') > 0 AND add('b2', queue => 'kept') > 0 AND add('d', '{b,b2}') > 0 AND
	add('after a', '{a}') > 0 AND add('after b', '{b}') > 0 AND add('after b2', '{b2}') > 0 AS added;
SELECT done('a'), done('b2');
SELECT settle();
SELECT queue.retry(id) FROM queue.job WHERE kind IN ('a', 'b2') ORDER BY kind;
SELECT done('b');
SELECT settle();
SELECT * FROM jobs;
SELECT done('a'), done('b2');
SELECT settle();
SELECT * FROM jobs;
SELECT queue.purge('q');
SELECT queue.delete_jobs('{"queue": ["q", "kept"]}') > 0 AS deleted;
-- one that has started and came back is not held again
SELECT add('a', queue => 'kept') > 0 AND add('b', '{a}') > 0 AS added;
SELECT done('a');
SELECT settle();
SELECT queue.release(id, attempt) FROM queue.fetch('q', 1, kinds => '{b}');
SELECT queue.retry(id) FROM queue.job WHERE kind = 'a';
SELECT * FROM jobs;
SELECT done('a'), done('b');
SELECT queue.delete_jobs('{"queue": ["q", "kept"]}') > 0 AS deleted;

-- a dead letter takes them along
SELECT queue.create_queue('dead'), queue.alter_queue('q', dead_letter => 'dead', keep_discarded => '0');
SELECT add('a', queue => 'kept') AS a \gset
SELECT queue.enqueue('b', '{}', 'q', depends_on => ARRAY[:a], depends_mode => 'finished') AS b \gset
SELECT queue.discard(:b);
SELECT origin ->> 'depends_on' = format('[%s]', :a) AS depends_on FROM queue.job WHERE queue = 'dead';
SELECT count(*) FROM queue.dependency WHERE job_id = :b;
SELECT queue.redrive('dead');
SELECT state FROM queue.job WHERE id = :b;
SELECT done('a');
SELECT settle();
SELECT kind FROM queue.fetch('q');

-- its dependency is retried: one that a session works on has started, and is left alone
SELECT add('a', queue => 'kept') > 0 AND add('b', '{a}', queue => 'kept') > 0 AS added;
SELECT done('a');
SELECT settle();
SELECT kind, state, attempt < 0 AS token FROM queue.fetch('kept', claim => 'session');
SET statement_timeout = '20 s';
SELECT queue.retry(max(id)) FROM queue.job WHERE kind = 'a' AND queue = 'kept';
RESET statement_timeout;
SELECT kind, state FROM queue.job WHERE queue = 'kept' AND kind IN ('a', 'b') AND state <> 'completed' ORDER BY kind;
SELECT pg_advisory_unlock_all();
SELECT queue.purge('kept');
-- one that waits for another beyond its expires_at is cancelled at that time
SELECT add('a', queue => 'kept') > 0 AS added;
SELECT queue.enqueue('b', queue => 'kept', depends_on => ARRAY[id], expires_at => clock_timestamp() + interval '1 hour') AS b FROM queue.job WHERE kind = 'a' AND state = 'available' \gset
SELECT state FROM queue.job WHERE id = :b;
SET queue.debug_clock_offset = '2 h';
SELECT queue.maintain();
RESET queue.debug_clock_offset;
SELECT state, last_error FROM queue.job WHERE id = :b;
SELECT queue.purge('kept');

-- in one transaction: what ends here is over here
SELECT queue.complete(id) FROM queue.job WHERE state = 'running';
SELECT queue.delete_jobs('{"queue": ["q", "kept", "dead"]}') > 0 AS deleted;
CREATE TABLE ran (n serial, kind text);
CREATE FUNCTION h(j queue.job) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran (kind) VALUES (j.kind) $$;
SET client_min_messages = error;
SELECT queue.register_sql_handler(k, 'h', '{kept}') FROM unnest('{a,b,c}'::text[]) k;
RESET client_min_messages;
BEGIN;
SELECT add('a', queue => 'kept') > 0 AND add('b', '{a}', queue => 'kept') > 0 AND add('c', '{b}', queue => 'kept') > 0 AS added;
SELECT queue.test_run(id) FROM queue.job WHERE kind = 'a';
SELECT queue.test_run(id) FROM queue.job WHERE kind = 'b';
SELECT state FROM queue.test_drain('kept');
SELECT kind FROM ran ORDER BY n;
ROLLBACK;
SELECT queue.pause('kept');
SELECT add('a', queue => 'kept') > 0 AND add('b', '{a}', queue => 'kept') > 0 AS added;
SELECT try(format('SELECT queue.test_run(%s)', id)) FROM queue.job WHERE kind = 'b';

-- others' queues
CREATE ROLE queue_dep_alice;
SELECT queue.grant_queue('q', 'queue_dep_alice');
SELECT id AS a FROM queue.job WHERE kind = 'a' AND state = 'available' \gset
SELECT queue.enqueue('ended', '{}', 'kept') AS ended \gset
SELECT queue.cancel(:ended);
SET ROLE queue_dep_alice;
SELECT try(format('SELECT queue.enqueue(%L, %L, %L, depends_on => ARRAY[%s])', 'z', '{}', 'q', :a)) AS of_another;
SELECT try(format('SELECT queue.enqueue(%L, %L, %L, depends_on => ARRAY[%s])', 'z', '{}', 'q', :ended)) AS of_one_that_ended;
RESET ROLE;
SELECT queue.grant_queue('kept', 'queue_dep_alice', 'work');
SET ROLE queue_dep_alice;
SELECT try(format('SELECT queue.enqueue(%L, %L, %L, depends_on => ARRAY[%s])', 'z', '{}', 'q', :a));
RESET ROLE;
DROP OWNED BY queue_dep_alice;
DROP ROLE queue_dep_alice;
DROP VIEW jobs;
DROP TABLE ran;
DROP FUNCTION h, add, done, try, settle;
DROP EXTENSION queue CASCADE;
