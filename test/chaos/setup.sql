-- What the chaos program works with: queues of every sort, one handler that can do everything, and the effects.
CREATE TABLE ran (                      -- the effects; a job that ran twice has two rows
	n bigserial, id bigint, kind text, queue text, grp text, ckey text, attempt bigint, began timestamptz, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE odd (id bigint, what text);        -- what a handler saw and should not have
CREATE TABLE locked (n int PRIMARY KEY);        -- rows for which handlers and clients wait
INSERT INTO locked SELECT generate_series(1, 5);
CREATE SEQUENCE tries;                          -- runs, undone ones too
CREATE TABLE big AS SELECT generate_series(1, 20000) AS n;

CREATE FUNCTION work(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz = clock_timestamp();
	p jsonb = CASE WHEN jsonb_typeof(j.payload) = 'object' THEN j.payload ELSE '{}' END;
BEGIN
	PERFORM nextval('public.tries');
	-- (test_drain takes a job by its id, also one that somebody put off meanwhile)
	IF began < j.run_at AND current_setting('application_name') !~ 'operator' THEN
		INSERT INTO public.odd VALUES (j.id, format('began %s before %s', began, j.run_at));
	END IF;
	-- one that was started before may come late; a process may have been held up between its look and its start
	IF j.attempt = 1 AND began > j.expires_at + interval '5 s' THEN
		INSERT INTO public.odd VALUES (j.id, format('began %s, expired %s', began, j.expires_at));
	END IF;
	IF j.state IS DISTINCT FROM 'running' OR (queue.current_job()).id IS DISTINCT FROM j.id THEN
		INSERT INTO public.odd VALUES (j.id, format('state %s, current job %s', j.state, (queue.current_job()).id));
	END IF;
	IF current_setting('chaos.leak', true) <> '' THEN
		INSERT INTO public.odd VALUES (j.id, 'a setting of another job');
	END IF;
	IF p ? 'set' THEN
		SET chaos.leak = 'yes';
	END IF;
	IF p ? 'sleep' THEN
		PERFORM pg_sleep((p ->> 'sleep')::float8);
	END IF;
	IF p ? 'row' THEN
		PERFORM FROM public.locked WHERE n = (p ->> 'row')::int FOR UPDATE;
	END IF;
	IF p ? 'snooze' AND j.attempt = 1 THEN
		PERFORM queue.snooze(j.id, '50 ms');
		RETURN NULL;
	END IF;
	IF p ? 'await' THEN
		DECLARE
			said record;
		BEGIN
			SELECT * INTO said FROM queue.await_event(j.id, p ->> 'await', (p ->> 'until')::interval);
			IF said.status = 'waiting' THEN
				RETURN NULL;
			ELSIF said.status = 'event' AND said.payload <> to_jsonb(p ->> 'await') THEN
				INSERT INTO public.odd VALUES (j.id, 'the payload of another event: ' || said.payload);
			ELSIF said.status = 'timeout' AND began < j.enqueued_at + (p ->> 'until')::interval THEN
				INSERT INTO public.odd VALUES (j.id, 'timed out too early');
			ELSIF said.status NOT IN ('event', 'timeout') THEN
				INSERT INTO public.odd VALUES (j.id, 'await_event said ' || said.status);
			END IF;
		END;
	END IF;
	PERFORM queue.log('ran in attempt ' || j.attempt);
	INSERT INTO public.ran (id, kind, queue, grp, ckey, attempt, began) VALUES (j.id, j.kind, j.queue, j.group_key, j.concurrency_key, j.attempt, began);
	IF p ? 'children' THEN
		PERFORM queue.enqueue('child', jsonb_build_object('parent', j.id), 'sql') FROM generate_series(1, (p ->> 'children')::int);
		BEGIN
			PERFORM queue.enqueue('ghost', '{}', 'sql');
			RAISE EXCEPTION 'undone';
		EXCEPTION WHEN raise_exception THEN
		END;
	END IF;
	IF p ? 'discard' THEN
		RAISE EXCEPTION 'not today' USING ERRCODE = 'QU001';
	END IF;
	IF (hashint8(j.id + j.failures) & 7) = 0 AND j.failures < 3 THEN
		RAISE EXCEPTION 'now and then';
	END IF;
	RETURN to_jsonb(j.id);
END $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = TG_ARGV[0]; END $$;
CREATE FUNCTION plain(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT nextval('public.tries') $$;

SELECT queue.create_queue(q, keep_completed => '1 day', lease => '3 s', max_attempts => 1000000, backoff => '{"type": "fixed", "base": "20 ms", "jitter": 0.5}')
FROM unnest('{sql,other,grp,flow,lim,keyl,rate,web,ext,key,mort,dead,pu,ev,topic,cron,probe}'::text[]) q;
SELECT queue.alter_queue('lim', max_running => 2);
SELECT queue.alter_queue('keyl', max_running_per_key => 1);
SELECT queue.alter_queue('rate', rate_limit => 20, rate_period => '1 s');
SELECT queue.alter_queue('mort', dead_letter => 'dead', on_discarded => 'obituary');
SELECT queue.register_sql_handler(k, 'work')
FROM unnest('{job,later,soon,grouped,step,undo,fin,limited,keylimited,rated,keyed,mortal,obituary,purged,waiter,heard,ticked,child,probe}'::text[]) k;
SELECT queue.register_sql_handler('plain', 'plain');
SELECT queue.subscribe('news.*', 'heard', 'topic'), queue.subscribe('news.#', 'heard', 'topic'), queue.subscribe('other', 'heard', 'topic');
SELECT queue.schedule('each second', '1 seconds', 'ticked', queue => 'cron');
