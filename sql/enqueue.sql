-- Jobs in: enqueue, enqueue_many, enqueue_json, enqueue_json_many.
CREATE EXTENSION queue;
SELECT queue.create_queue('q');
-- Runs a statement; its result, or its error as one reads it.
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

-- all defaults
SELECT clock_timestamp() AS before \gset
SELECT queue.enqueue('mail') AS id \gset
\x on
SELECT queue, kind, state, payload, priority, attempt, failures, max_attempts,
       run_at BETWEEN :'before' AND clock_timestamp() AS due_now, enqueued_at = run_at AS enqueued_then,
       started_at, finished_at, leased_until, worker, headers, tags, unique_key, group_key, concurrency_key,
       expires_at, progress, result, last_error, origin
  FROM queue.job WHERE id = :id;
\x off

-- every option that is built
SELECT queue.enqueue('report', '{"n": 1, "deep": {"list": [1, null, "x"]}}', queue => 'q', priority => -7,
       run_at => '2001-02-03 04:05:06+00', max_attempts => 3, timeout => '90 s',
       headers => '{"trace": "abc"}', tags => '{red,"dark blue"}') AS id \gset
\x on
SELECT queue, kind, state, payload, priority, max_attempts, run_at = '2001-02-03 04:05:06+00' AS run_at,
       enqueued_at > '2020-01-01' AS enqueued_at, headers, tags,
       started_at, worker, expires_at, progress, last_error, origin FROM queue.job WHERE id = :id;
\x off

-- the future, by time and by delay
SELECT queue.enqueue('later', '{"n": 2}', 'q', delay => '1 hour') AS a,
       queue.enqueue('later', '{"n": 3}', 'q', run_at => '2100-01-01 00:00:00+00') AS b,
       queue.enqueue('later', '{"n": 4}', 'q', delay => '0') AS c \gset
SELECT payload->'n' AS n, state, run_at - enqueued_at BETWEEN '59 min' AND '61 min' AS in_an_hour, run_at = '2100-01-01 00:00:00+00' AS in_2100
  FROM queue.job WHERE kind = 'later' ORDER BY 1;

-- a NULL option is its default
SELECT queue.enqueue('nulls', '{}', 'q', priority => null, run_at => null, delay => null, max_attempts => null, timeout => null,
       unique_key => null, on_conflict => null, unique_for => null, group_key => null, concurrency_key => null,
       depends_on => null, depends_mode => null, compensate_with => null, expires_at => null, headers => null, tags => null) AS id \gset
SELECT priority, max_attempts, state, headers, tags FROM queue.job WHERE id = :id;

-- payloads of every sort, also large
SELECT queue.enqueue('p', 'null', 'q') AS a, queue.enqueue('p', '"x"', 'q') AS b, queue.enqueue('p', '[1, 2]', 'q') AS c,
       queue.enqueue('p', '1.50', 'q') AS d, queue.enqueue('p', jsonb_build_object('big', repeat('é', 1000000)), 'q') AS e \gset
SELECT payload FROM queue.job WHERE id IN (:a, :b, :c, :d) ORDER BY id;
SELECT length(payload->>'big') FROM queue.job WHERE id = :e;
SELECT length(payload->>'big') FROM queue.fetch('q', 10, kinds => '{p}') WHERE payload ? 'big';

-- names: anything but nothing
SELECT try($$SELECT queue.create_queue('Bob''s "queue" ☃; DROP TABLE x')$$);
SELECT queue.enqueue(E'k\\ind "with" ''quotes'' \n ☃', '{"n": 1}', 'Bob''s "queue" ☃; DROP TABLE x') AS id \gset
SELECT queue, kind FROM queue.job WHERE id = :id;
SELECT kind FROM queue.fetch('Bob''s "queue" ☃; DROP TABLE x', kinds => ARRAY[E'k\\ind "with" ''quotes'' \n ☃']);
SELECT try(format('SELECT queue.enqueue(%L) IS NOT NULL', repeat('k', 200)));
SELECT try(format('SELECT queue.enqueue(%L)', repeat('k', 201)));
SELECT try(format('SELECT queue.enqueue(%L)', repeat('☃', 67)));

-- bad values
SELECT try($$SELECT queue.enqueue(null)$$);
SELECT try($$SELECT queue.enqueue('')$$);
SELECT try($$SELECT queue.enqueue('*')$$);
SELECT try($$SELECT queue.enqueue('k', null)$$);
SELECT try($$SELECT queue.enqueue('k', queue => null)$$);
SELECT try($$SELECT queue.enqueue('k', queue => '')$$);
SELECT try($$SELECT queue.enqueue('k', queue => 'nowhere')$$);
SELECT try($$SELECT queue.enqueue('k', queue => '*')$$);
SELECT try($$SELECT queue.enqueue('k', priority => 32768)$$);
SELECT try($$SELECT queue.enqueue('k', priority => 40000)$$);
SELECT try($$SELECT queue.enqueue('k', priority => -32769)$$);
SELECT try($$SELECT queue.enqueue('k', priority => -32768) IS NOT NULL AND queue.enqueue('k', priority => 32767) IS NOT NULL$$);
SELECT try($$SELECT queue.enqueue('k', run_at => 'infinity')$$);
SELECT try($$SELECT queue.enqueue('k', run_at => '-infinity')$$);
SELECT try($$SELECT queue.enqueue('k', run_at => now(), delay => '1 s')$$);
SELECT try($$SELECT queue.enqueue('k', delay => '-1 s')$$);
SELECT try($$SELECT queue.enqueue('k', delay => '290000 years')$$);
SELECT try($$SELECT queue.enqueue('k', max_attempts => 0)$$);
SELECT try($$SELECT queue.enqueue('k', max_attempts => -1)$$);
SELECT try($$SELECT queue.enqueue('k', timeout => '-1 s')$$);
SELECT try($$SELECT queue.enqueue('k', timeout => '0') IS NOT NULL$$);
SELECT try($$SELECT queue.enqueue('k', headers => '[1]')$$);
SELECT try($$SELECT queue.enqueue('k', headers => '"x"')$$);
SELECT try($$SELECT queue.enqueue('k', tags => '{a,NULL}')$$);
SELECT try($$SELECT queue.enqueue('k', tags => '{}') IS NOT NULL$$), try($$SELECT count(*) FROM queue.job WHERE tags = '{}'$$);
SELECT try($$SELECT queue.enqueue('k', tags => '{{a,b},{c,d}}') IS NOT NULL$$);
SELECT try($$SELECT queue.enqueue('k', on_conflict => 'sometimes')$$);
SELECT try($$SELECT queue.enqueue('k', depends_mode => 'sometimes')$$);

-- options that lack what they refer to
SELECT try($$SELECT queue.enqueue('k', on_conflict => 'replace') IS NOT NULL$$);
SELECT try($$SELECT queue.enqueue('k', depends_on => '{99999999}')$$);
SELECT try($$SELECT queue.enqueue('k', compensate_with => 'undo')$$);

-- none of the failures left a job
SELECT queue, kind, count(*) FROM queue.job GROUP BY queue, kind ORDER BY queue, kind COLLATE "C";

-- enqueue_many: ids in the payloads' order
SELECT queue.create_queue('many');
SELECT array_agg(id ORDER BY o) AS ids, bool_and(id > coalesce(prev, 0)) AS rising FROM (
	SELECT id, o, lag(id) OVER (ORDER BY o) AS prev
	  FROM queue.enqueue_many('m', ARRAY['{"n": 3}', '{"n": 1}', '{"n": 2}']::jsonb[], 'many', 5, '2001-01-01 00:00+00') WITH ORDINALITY AS t(id, o)) s \gset
SELECT :'rising' AS rising;
SELECT payload, priority, state, run_at = '2001-01-01 00:00+00' AS run_at FROM queue.job WHERE id = ANY (:'ids') ORDER BY array_position(:'ids', id);
SELECT payload FROM queue.fetch('many', 10);
SELECT count(*), min(id) IS NOT NULL AS ids FROM queue.enqueue_many('m', '{}', 'many') AS id;
SELECT count(*), count(DISTINCT id), min(id) = (array_agg(id))[1] AS first_first, max(id) - min(id) AS span
  FROM queue.enqueue_many('m', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 5000) i), 'many') AS id;
SELECT payload FROM queue.fetch('many', 5);
SELECT queue.purge('many');
SELECT try($$SELECT queue.enqueue_many('m', ARRAY['{"n": 1}', null, '{"n": 3}']::jsonb[], 'many')$$);
SELECT try($$SELECT queue.enqueue_many('m', null, 'many')$$);
SELECT try($$SELECT queue.enqueue_many(null, '{1}', 'many')$$);
SELECT try($$SELECT queue.enqueue_many('', '{1}', 'many')$$);
SELECT try($$SELECT queue.enqueue_many('m', '{1}', 'nowhere')$$);
SELECT try($$SELECT queue.enqueue_many('m', '{1}', null)$$);
SELECT try($$SELECT queue.enqueue_many('m', '{1}', 'many', 40000)$$);
SELECT try($$SELECT queue.enqueue_many('m', '{1}', 'many', 0, 'infinity')$$);
SELECT try($$SELECT queue.enqueue_many('m', '{}', 'nowhere')$$);
SELECT try($$SELECT count(*) FROM queue.enqueue_many('m', '{{1,2},{3,4}}', 'many')$$);
SELECT try($$SELECT count(*) FROM queue.enqueue_many('m', '[7:8]={1,2}', 'many', null, null)$$);
SELECT queue.purge('many') AS waiting_of_many;

-- enqueue_json: for typed drivers
SELECT queue.enqueue_json('{"kind": "j", "payload": {"n": 1}, "queue": "many", "priority": -3, "run_at": "2001-01-01T00:00:00Z",
	"max_attempts": 4, "timeout": "1 min", "headers": {"h": 1}, "tags": ["a", "b"]}') AS id \gset
SELECT queue, kind, state, payload, priority, max_attempts, headers, tags, run_at = '2001-01-01 00:00+00' AS run_at FROM queue.job WHERE id = :id;
SELECT queue.enqueue_json('{"kind": "j"}') AS id \gset
SELECT queue, kind, state, payload, priority, max_attempts FROM queue.job WHERE id = :id;
SELECT queue.enqueue_json('{"kind": "j", "queue": "many", "delay": "1 hour", "priority": null, "headers": null}') AS id \gset
SELECT queue, kind, state, payload, priority FROM queue.job WHERE id = :id;
SELECT try($$SELECT queue.enqueue_json(null)$$);
SELECT try($$SELECT queue.enqueue_json('')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": ')$$);
SELECT try($$SELECT queue.enqueue_json('[]')$$);
SELECT try($$SELECT queue.enqueue_json('"k"')$$);
SELECT try($$SELECT queue.enqueue_json('{}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": null}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "payload": null}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": ""}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": 5}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "prio": 1}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "Priority": 1}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "priority": "high"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "priority": 1.5}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "priority": 40000}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "priority": 4e30}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "priority": -4e30}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "priority": true}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "max_attempts": 3000000000}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "queue": null}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "tags": {"a": 1}}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "run_at": "soon"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "run_at": "infinity"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "delay": "-1 s"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "tags": "a"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "tags": [1]}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "headers": []}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "queue": "nowhere"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "compensate_with": "u"}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "depends_on": [99999999]}')$$);
SELECT try($$SELECT queue.enqueue_json('{"kind": "j", "payload": "\u0000"}')$$);

-- enqueue_json_many: all or nothing, and the error names the index
SELECT queue.purge('many') > 0 AS emptied;
SELECT array_agg(id ORDER BY o) AS ids FROM queue.enqueue_json_many('[{"kind": "b", "queue": "many", "payload": 1},
	{"kind": "a", "queue": "many", "payload": 2, "priority": 9}, {"kind": "b", "payload": 3, "delay": "1 day"}]') WITH ORDINALITY AS t(id, o) \gset
SELECT queue, kind, payload, priority, state FROM queue.job WHERE id = ANY (:'ids') ORDER BY array_position(:'ids', id);
SELECT count(*) FROM queue.enqueue_json_many('[]');
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "z"}, {"kind": "z", "priority": 40000}]')$$);
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "z"}, {"kind": "z"}, {"kind": "z", "colour": "red"}]')$$);
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "z"}, {"kind": "z", "queue": "nowhere"}]')$$);
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "z"}, 5]')$$);
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "z"}, {}]')$$);
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "z"}, {"kind": "z", "compensate_with": "u"}]')$$);
SELECT try($$SELECT queue.enqueue_json_many('{"kind": "z"}')$$);
SELECT try($$SELECT queue.enqueue_json_many('5')$$);
SELECT try($$SELECT queue.enqueue_json_many(null)$$);
SELECT count(*) AS half_done FROM queue.job WHERE kind = 'z';

-- it exists if and only if its transaction commits
SELECT queue.create_queue('tx');
BEGIN;
SELECT queue.enqueue('t', '"rolled back"', 'tx') IS NOT NULL AS e;
ROLLBACK;
BEGIN;
SELECT queue.enqueue('t', '"committed"', 'tx') IS NOT NULL AS e;
SAVEPOINT s;
SELECT queue.enqueue('t', '"rolled back to savepoint"', 'tx') IS NOT NULL AS e;
SELECT count(*) FROM queue.enqueue_many('t', ARRAY['"also"', '"rolled back"']::jsonb[], 'tx');
ROLLBACK TO s;
SELECT queue.enqueue('new kind in a savepoint', '"released"', 'tx') IS NOT NULL AS e;
RELEASE s;
COMMIT;
SELECT payload FROM queue.job WHERE queue = 'tx' ORDER BY id;
SELECT payload FROM queue.fetch('tx', 10);

-- the first enqueue of a kind rolled back, then again
BEGIN;
SELECT queue.enqueue('first', '1', 'tx') IS NOT NULL AS e;
ROLLBACK;
SELECT queue.enqueue('first', '2', 'tx') IS NOT NULL AS e;
SELECT kind, payload FROM queue.fetch('tx', 10);

-- a queue made, used and fetched from in one transaction; and one whose making rolls back
BEGIN;
SELECT queue.create_queue('young');
SELECT queue.enqueue('t', '1', 'young') IS NOT NULL AS e;
SELECT payload FROM queue.fetch('young');
ROLLBACK;
SELECT try($$SELECT queue.enqueue('t', '1', 'young')$$);

-- a user's index and a user's trigger on the table are served
CREATE INDEX regress_payload ON queue.live_job ((payload->>'who')) WHERE payload ? 'who';
CREATE TABLE log (what text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO log VALUES (TG_OP || ' ' || coalesce(new.payload, old.payload)::text); RETURN NULL; END $$;
CREATE TRIGGER regress_log AFTER INSERT OR UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION log();
SELECT queue.enqueue('i', '{"who": "eve"}', 'tx') AS a, (SELECT array_agg(e) FROM queue.enqueue_many('i', '{"{\"who\": \"eve\"}","{\"who\": \"ada\"}"}', 'tx') e) AS b \gset
SET enable_seqscan = off;
SELECT payload FROM queue.live_job WHERE payload->>'who' = 'eve' AND payload ? 'who';
SELECT payload FROM queue.fetch('tx', 3);
SELECT count(*) FROM queue.live_job WHERE payload->>'who' = 'ada' AND payload ? 'who';
SELECT queue.complete(:a, 1), queue.fail((:'b'::bigint[])[1], 1, 'oops'), queue.release((:'b'::bigint[])[2], 1);
SELECT count(*) FROM queue.live_job WHERE payload->>'who' = 'eve' AND payload ? 'who';
RESET enable_seqscan;
SELECT what FROM log ORDER BY what COLLATE "C";
DROP TRIGGER regress_log ON queue.live_job;
DROP INDEX queue.regress_payload;

-- one that skips a change is an error, because the job's key and all else would be changed without it
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT queue.enqueue('i', '1', 'tx', unique_key => 'u') AS id \gset
SELECT attempt FROM queue.fetch('tx', kinds => '{i}', qty => 10);
SET statement_timeout = '1 min';	-- without the error the change would be tried for ever
CREATE TRIGGER regress_skip BEFORE INSERT OR UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION skip();
SELECT queue.complete(:id, 1);
SELECT queue.snooze(:id, '1 s', 1);
SELECT queue.enqueue('i', '2', 'tx', unique_key => 'v');
SELECT queue.enqueue_many('i', '{3,4,5}', 'tx');
RESET statement_timeout;
DROP TRIGGER regress_skip ON queue.live_job;
SELECT queue.enqueue('i', '1', 'tx', unique_key => 'u') = :id AS same, queue.complete(:id, 1);
SELECT count(*) FROM queue.unique_key WHERE queue = 'tx';
DROP FUNCTION skip();

DROP TABLE log;
DROP FUNCTION log();
DROP FUNCTION try(text);
DROP EXTENSION queue;
