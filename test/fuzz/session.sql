-- What a session's calls read: jobs, filters, backoffs, breakers, cron lines, schedules' options, graphs, topics; run by
-- session.sh.  Inputs are made of words that make sense, words that do not, and changed letters.  A call may succeed or refuse
-- with an error of its kind; an internal error, a crash, or an answer that contradicts another is a finding.
CREATE SCHEMA fuzz;

-- what may stand at a key; '' stands for any key
CREATE TABLE fuzz.word (key text, value text);
INSERT INTO fuzz.word SELECT '', unnest(ARRAY['0', '1', '-1', '2', '0.5', '1.0', '1e3', '32767', '32768', '-32769', '2147483648',
	'9223372036854775807', '9223372036854775808', '-9223372036854775809', '1e400', '1e-400', 'true', 'false', 'null', '{}', '[]',
	'[1, "a"]', '[[1]]', '{"a": {"b": [1, 2]}}', '""', '"a"', '"A"', '"3"', '"-0"', '" "', '"\u00e9\ud83d\ude00"', '"\u0000"', '"\"''\\"',
	'"infinity"', '"-infinity"', '"now"', '"epoch"', '"1 day"', '"-1 day"', '"1000 years"', '"178000000 years"', '"1 mon -30 days"',
	'"2026-01-31 08:00+00"', '"4713-01-01 BC"', '"294276-12-31"', '"' || repeat('x', 201) || '"', '"' || repeat('é', 200) || '"']);
INSERT INTO fuzz.word SELECT split_part(keys.key, ' ', n), value FROM (VALUES
	('kind ref compensate_with on_finished on_completed on_discarded', '{"\"a\"","\"b\"","\"c\""}'::text[]),
	('queue', '{"\"default\"","\"fuzz\"","\"gone\"","[\"default\", \"fuzz\"]"}'),
	('priority', '{0,1,-5,"[0, 1]"}'),
	('payload headers', '{"{\"a\": 1}","{\"traceparent\": \"00-1\"}","[1]","{\"a\": {\"b\": 2}}"}'),
	('run_at expires_at starts_at ends_at enqueued_before enqueued_after finished_before finished_after',
		'{"\"2030-01-01\"","\"2020-01-01 00:00+00\"","\"tomorrow\"","\"1 h\""}'),
	('delay timeout unique_for jitter base cap interval pause', '{"\"1 s\"","\"2 h\"","\"0\"","0.1"}'),
	('max_attempts min_requests consecutive_failures probes successes', '{1,3,25}'),
	('factor failure_rate', '{1,1.5,2,0.7}'),
	('type', '{"\"fixed\"","\"linear\"","\"exponential\"","\"polynomial\""}'),
	('on_conflict', '{"\"ignore\"","\"replace\"","\"replace_payload\"","\"merge\"","\"error\""}'),
	('unique_key group_key concurrency_key worker', '{"\"u\"","\"v\"","[\"u\", \"v\"]"}'),
	('depends_on', '{"[1]","[\"a\"]","[\"a\", \"b\"]"}'),
	('depends_mode', '{"\"completed\"","\"finished\""}'),
	('tags', '{"[\"t\"]","[\"t\", \"t2\"]"}'),
	('workflow ids', '{1,2,"[1, 2, 3]"}'),
	('backoff', '{"{\"type\": \"fixed\", \"base\": \"1 s\"}"}'),
	('state', '{"\"available\"","\"scheduled\"","[\"retryable\", \"completed\"]","\"pending\""}'),
	('error', '{"\"x\""}'), ('missed', '{"\"last\"","\"all\""}')) keys(key, words), generate_series(1, 8) n, unnest(words) value
	WHERE split_part(keys.key, ' ', n) <> '';
CREATE INDEX ON fuzz.word (key);

-- an error that is no refusal; an undone success is FZ000, a contradiction FZ001
CREATE FUNCTION fuzz.is_finding(state text) RETURNS boolean IMMUTABLE LANGUAGE sql AS
	$$ SELECT state <> 'FZ000' AND left(state, 2) <> '22' AND state NOT IN ('23505', '42704', '54000', '54001', '55000', '0A000') $$;
CREATE FUNCTION fuzz.contradiction(what text) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION '%', what USING ERRCODE = 'FZ001'; END $$;
CREATE FUNCTION fuzz.pick(VARIADIC words text[]) RETURNS text LANGUAGE sql AS
	$$ SELECT words[1 + floor(random() * cardinality(words))::int] $$;

CREATE FUNCTION fuzz.value(at_key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text;
BEGIN
	IF random() < 0.93 THEN
		SELECT value INTO found FROM fuzz.word WHERE key = at_key ORDER BY random() LIMIT 1;
	END IF;
	IF found IS NULL THEN
		SELECT value INTO found FROM fuzz.word WHERE key = '' ORDER BY random() LIMIT 1;
	END IF;
	RETURN found;
END $$;

CREATE FUNCTION fuzz.object(VARIADIC keys text[]) RETURNS text LANGUAGE sql AS $$
	SELECT '{' || coalesce(string_agg(to_json(key)::text || ': ' || fuzz.value(key), ', ' ORDER BY random()), '') || '}'
	FROM unnest(keys) key WHERE random() < 0.2 $$;

-- a letter less, twice, another, or something in between, now and then
CREATE FUNCTION fuzz.changed(text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	at int := 1 + floor(random() * length($1));
BEGIN
	RETURN CASE WHEN random() < 0.85 THEN $1 WHEN random() < 0.3 THEN overlay($1 PLACING '' FROM at FOR 1)
		WHEN random() < 0.5 THEN overlay($1 PLACING substr($1, at, 3) FROM at FOR 0)
		ELSE overlay($1 PLACING fuzz.pick('"', '{', '}', '[', ']', ',', ':', '\', '-', 'e', '9', ' ', E'\t', E'\u20ac', '*', '/') FROM at
			FOR floor(random() * 3)::int) END;
END $$;

CREATE FUNCTION fuzz.job() RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN random() < 0.9 THEN '{"kind": ' || fuzz.value('kind') || ', ' || substr(o, 2) ELSE o END FROM
	replace(fuzz.object('kind', 'payload', 'queue', 'priority', 'run_at', 'delay', 'max_attempts', 'timeout', 'unique_key', 'on_conflict',
		'unique_for', 'group_key', 'concurrency_key', 'depends_on', 'depends_mode', 'compensate_with', 'expires_at', 'headers', 'tags',
		'workflow', 'backoff'), '{}', '{"tags": []}') o $$;
CREATE FUNCTION fuzz.cron() RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN random() < 0.1 THEN fuzz.pick('@daily', '@hourly', '@yearly', '30 seconds', '59 seconds', '1 second', '0 0 29 2 *', '0 0 30 2 *')
		ELSE (SELECT string_agg(fuzz.pick('*', '0', '1', '5', '*/2', '*/15', '1-5', '1,3', '$', 'mon', 'jan-mar', '59', '31', '7', '1-5/2'), ' ')
		FROM generate_series(1, CASE WHEN random() < 0.95 THEN 5 ELSE 4 END)) END $$;

-- ---- one call each; what it did is undone by who calls it ----

CREATE FUNCTION fuzz.call_enqueue(input text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	made bigint := queue.enqueue_json(input);
BEGIN
	-- (the key of a job that was purged may stand for it until its window ends)
	IF NOT EXISTS (SELECT FROM queue.find_jobs(jsonb_build_object('ids', made))) AND NOT input::jsonb ?| '{workflow,unique_key}' THEN
		PERFORM fuzz.contradiction('enqueue_json gave ' || made || ', which is not there');
	END IF;
END $$;

CREATE FUNCTION fuzz.call_filter(input text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	all_ids bigint[] := ARRAY(SELECT id FROM queue.find_jobs(input::jsonb, 1000));
	paged bigint[] := '{}';
	page bigint[];
	unfinished bigint;
BEGIN
	LOOP
		page := ARRAY(SELECT id FROM queue.find_jobs(input::jsonb, 7, after_id => paged[cardinality(paged)]));
		EXIT WHEN page = '{}';
		paged := paged || page;
	END LOOP;
	IF paged <> all_ids THEN PERFORM fuzz.contradiction('pages: ' || paged::text || ' but at once ' || all_ids::text); END IF;
	-- (a state may change meanwhile: the scheduler lets jobs of groups in, times pass)
	IF input::jsonb = '{}' OR input::jsonb ? 'state' THEN RETURN; END IF;
	SELECT count(*) INTO unfinished FROM queue.job WHERE id = ANY (all_ids) AND state NOT IN ('completed', 'cancelled', 'discarded');
	IF unfinished <> queue.cancel_jobs(input::jsonb) THEN PERFORM fuzz.contradiction('cancel_jobs ended others than find_jobs found'); END IF;
END $$;

CREATE FUNCTION fuzz.call_backoff(input text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	made bigint;
	j queue.job;
BEGIN
	PERFORM queue.alter_queue('fuzz', backoff => input::jsonb);
	PERFORM queue.alter_queue('fuzz', backoff => (SELECT backoff FROM queue.queue WHERE name = 'fuzz'));
	made := queue.enqueue('b', queue => 'fuzz', priority => -100, max_attempts => 100, backoff => input::jsonb);
	FOR n IN 1 .. 3 LOOP
		SELECT * INTO j FROM queue.fetch('fuzz');
		IF j.id IS DISTINCT FROM made THEN PERFORM fuzz.contradiction('fetched ' || coalesce(j.id::text, 'nothing')); END IF;
		IF queue.fail(j.id, j.attempt, 'x') <> 'retryable' THEN PERFORM fuzz.contradiction('not retryable'); END IF;
		SELECT * INTO j FROM queue.job WHERE id = made;
		IF NOT j.run_at BETWEEN now() AND now() + interval '1101 years' THEN PERFORM fuzz.contradiction('retry at ' || j.run_at); END IF;
		PERFORM queue.alter_job(made, run_at => now());
	END LOOP;
END $$;

CREATE FUNCTION fuzz.call_breaker(input text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.register_http_handler('h', 'http://127.0.0.1:1/a?b=c', queues => '{fuzz}', breaker => input::jsonb);
	PERFORM queue.alter_http_handler('h', breaker => input::jsonb, queue => 'fuzz');
	IF (SELECT count(*) FROM queue.stat_endpoint WHERE kind = 'h') <> 1 THEN PERFORM fuzz.contradiction('no endpoint'); END IF;
END $$;

CREATE FUNCTION fuzz.call_statuses(input text) RETURNS void LANGUAGE sql AS $$
	SELECT queue.register_http_handler('h', 'http://127.0.0.1:1/', queues => '{fuzz}', complete_on => string_to_array(input, ','),
		headers => fuzz.object('headers', 'a', 'X-A')::jsonb) $$;

CREATE FUNCTION fuzz.call_cron(input text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	zone text := fuzz.pick('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'Pacific/Apia');
	since timestamptz := now() + (random() - 0.5) * interval '60 years';
	ticks timestamptz[] := ARRAY(SELECT queue.next_ticks(input, zone, 8, since));
BEGIN
	FOR n IN 1 .. cardinality(ticks) LOOP
		IF ticks[n] <= coalesce(ticks[n - 1], since) THEN PERFORM fuzz.contradiction('ticks do not rise: ' || ticks::text); END IF;
		IF n > 1 AND ticks[n] <> (SELECT queue.next_ticks(input, zone, 1, ticks[n - 1])) THEN
			PERFORM fuzz.contradiction('another tick after ' || ticks[n - 1] || ' in ' || zone);
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION fuzz.call_schedule(input text) RETURNS void LANGUAGE sql AS $$
	SELECT queue.schedule('s', fuzz.cron(), 'a', options => input::jsonb, queue => 'fuzz', overlap => fuzz.pick('allow', 'skip', 'replace'));
	SELECT queue.run_schedule('s') $$;

CREATE FUNCTION fuzz.call_graph(input text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	made bigint;
	n bigint;
BEGIN
	SELECT max(workflow_id), count(*) INTO made, n FROM queue.enqueue_workflow(input::jsonb, on_finished => 'c');
	IF n <> jsonb_array_length(input::jsonb) THEN PERFORM fuzz.contradiction(n || ' jobs'); END IF;
	IF made IS NOT NULL THEN PERFORM * FROM queue.workflow_edge WHERE workflow_id = made; PERFORM queue.cancel_workflow(made); END IF;
END $$;

CREATE FUNCTION fuzz.call_topic(input text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.subscribe(input, 'a', 'fuzz', filter => fuzz.pick(NULL, '$.a', '$.a ? (@ > 1)', '$[*].b', 'strict $.x.y', '$.a == 1')::jsonpath);
	PERFORM queue.publish(replace(replace(input, '*', 'a'), '#', 'b.c'), fuzz.value('payload')::jsonb);
END $$;

CREATE FUNCTION fuzz.call_key(input text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF queue.key_of(input::jsonb) <> queue.key_of(input::jsonb::text::jsonb) THEN PERFORM fuzz.contradiction('two keys'); END IF;
	PERFORM queue.key_of(input::jsonb, ARRAY[fuzz.pick('a', 'kind', NULL)], (fuzz.value('delay')::jsonb #>> '{}')::interval);
END $$;

CREATE FUNCTION fuzz.input(shape text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN fuzz.changed(CASE shape
		WHEN 'enqueue' THEN fuzz.job()
		WHEN 'filter' THEN fuzz.object('ids', 'queue', 'kind', 'state', 'priority', 'worker', 'workflow', 'group_key', 'concurrency_key',
			'unique_key', 'tags', 'payload', 'error', 'enqueued_before', 'enqueued_after', 'finished_before', 'finished_after')
		WHEN 'backoff' THEN fuzz.object('type', 'base', 'factor', 'cap', 'jitter')
		WHEN 'breaker' THEN fuzz.object('failure_rate', 'min_requests', 'consecutive_failures', 'interval', 'pause', 'factor', 'jitter',
			'cap', 'probes', 'successes')
		WHEN 'statuses' THEN fuzz.pick('200', '200-299', '200-299,404', '100-599', '599-500', '0', '1000', '', ' 200', '2xx', '200-')
		WHEN 'cron' THEN fuzz.cron()
		WHEN 'schedule' THEN fuzz.object('missed', 'starts_at', 'ends_at', 'jitter', 'expires_at', 'max_attempts', 'timeout', 'unique_key',
			'on_conflict', 'group_key', 'headers', 'tags', 'backoff', 'unique_for', 'run_at')
		WHEN 'graph' THEN (SELECT '[' || string_agg('{"ref": ' || CASE WHEN random() < 0.9 THEN to_json(chr(96 + n))::text ELSE fuzz.value('ref') END || ', ' ||
			substr(fuzz.job(), 2), ', ') || ']' FROM generate_series(1, 3) n)
		WHEN 'topic' THEN (SELECT string_agg(fuzz.pick('a', 'b', '*', '#', 'é', '', 'a b'), '.') FROM generate_series(1, 3))
		ELSE fuzz.object('a', 'kind', 'payload', 'tags') END);
END $$;

-- Until a time: each shape in turn.  A finding ends it, with the input in the error.
CREATE PROCEDURE fuzz.run(seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + seconds * interval '1 s';
	shapes text[] := '{enqueue,filter,backoff,breaker,statuses,cron,schedule,graph,topic,key}';
	shape text;
	input text;
	state text;
	message text;
	tried jsonb := '{}';
	done jsonb := '{}';
BEGIN
	WHILE clock_timestamp() < until LOOP
		FOR n IN 1 .. 200 LOOP
			shape := shapes[1 + n % cardinality(shapes)];
			input := fuzz.input(shape);
			tried := tried || jsonb_build_object(shape, coalesce((tried -> shape)::int, 0) + 1);
			BEGIN
				EXECUTE format('SELECT fuzz.call_%s($1)', shape) USING input;
				done := done || jsonb_build_object(shape, coalesce((done -> shape)::int, 0) + 1);
				IF shape <> 'enqueue' OR random() < 0.7 THEN RAISE EXCEPTION USING ERRCODE = 'FZ000'; END IF;
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
				IF fuzz.is_finding(state) THEN RAISE EXCEPTION '% of % % (%)', state, shape, input, message; END IF;
			END;
		END LOOP;
		COMMIT;
		PERFORM queue.purge(name) FROM (VALUES ('default')) q(name) WHERE random() < 0.1;
		COMMIT;
	END LOOP;
	RAISE NOTICE 'tried %', tried;
	RAISE NOTICE 'not refused %', done;
END $$;

SELECT queue.create_queue('fuzz', keep_completed => '1 day');
SELECT queue.enqueue(k, p::jsonb, queue => q, priority => n % 3, run_at => t::timestamptz, tags => ARRAY['t', 't' || n],
	group_key => CASE n % 4 WHEN 1 THEN 'u' END, concurrency_key => CASE n % 4 WHEN 2 THEN 'v' END)
FROM generate_series(1, 5) n, unnest('{a,b}'::text[]) k, unnest('{default,fuzz}'::text[]) q, unnest('{2020-01-01,2030-06-01}'::text[]) t,
	unnest(ARRAY['{"a": 1}', '{"a": {"b": 2}}', '[1]']) p \g /dev/null
