-- Workflows of random graphs, and a ledger of what ran: for test/t/062_workflows.pl and test/bench/dags.sh.  What must become of
-- each job is known when it is enqueued; the view `wrong` compares.
CREATE TABLE job (id bigint PRIMARY KEY, flow bigint, fate text, runs boolean, ended text, undo boolean);
CREATE TABLE ledger (n bigserial, id bigint, kind text, flow bigint, undoes bigint, at timestamptz DEFAULT clock_timestamp());
CREATE INDEX ON job (flow);
CREATE INDEX ON ledger (id);
CREATE INDEX ON ledger (undoes);
CREATE INDEX ON ledger (flow, kind);
CREATE FUNCTION step(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ->> 'fate' = 'bad' THEN
		RAISE EXCEPTION 'for good' USING ERRCODE = 'QU001';
	ELSIF j.payload ->> 'fate' = 'flaky' AND j.failures = 0 THEN
		RAISE EXCEPTION 'once';
	ELSIF j.payload ? 'sleep' THEN
		PERFORM pg_sleep((j.payload ->> 'sleep')::float8);
	END IF;
	INSERT INTO ledger (id, kind, flow, undoes) VALUES (j.id, j.kind, coalesce(j.workflow, (j.origin ->> 'workflow')::bigint), (j.payload ->> 'job')::bigint);
	RETURN to_jsonb(j.id);
END $$;
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 ms", "jitter": 0}');
SELECT queue.register_sql_handler('*', 'step');
-- a workflow of a random graph; with undo some of its jobs can be undone
CREATE FUNCTION graph(jobs int, undo boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	specs jsonb := '[]';
	deps text[];
	fate text;
	mode text;
	good text[] := '{}';
	runs boolean;
	w bigint;
BEGIN
	CREATE TEMP TABLE spec (ref text, fate text, runs boolean, ended text, undo boolean) ON COMMIT DROP;
	FOR number IN 1..jobs LOOP
		SELECT array_agg('r' || d) INTO deps FROM (SELECT d FROM generate_series(1, number - 1) d ORDER BY random() LIMIT floor(random() * 4)) x;
		mode := CASE WHEN random() < 0.3 AND NOT undo THEN 'finished' ELSE 'completed' END;
		fate := CASE WHEN random() < 0.1 THEN 'bad' WHEN random() < 0.1 THEN 'flaky' ELSE 'good' END;
		runs := mode = 'finished' OR coalesce(deps <@ good, true);
		INSERT INTO spec VALUES ('r' || number, fate, runs, CASE WHEN NOT runs THEN 'cancelled' WHEN fate = 'bad' THEN 'discarded' ELSE 'completed' END, undo AND number % 2 = 0);
		IF runs AND fate <> 'bad' THEN
			good := good || ('r' || number);
		END IF;
		specs := specs || (jsonb_build_object('ref', 'r' || number, 'kind', 'step', 'queue', 'q', 'payload', jsonb_build_object('fate', fate),
			'depends_on', coalesce(to_jsonb(deps), '[]'), 'depends_mode', mode) || CASE WHEN undo AND number % 2 = 0 THEN '{"compensate_with": "undo"}' ELSE '{}'::jsonb END);
	END LOOP;
	FOR w IN SELECT DISTINCT e.workflow_id FROM (SELECT (e).* FROM (SELECT queue.enqueue_workflow(specs, CASE WHEN undo THEN 'saga' ELSE 'dag' END, 'q', 'fin', 'comp', 'disc') AS e) x) e LOOP
		INSERT INTO job SELECT m.job_id, w, s.fate, s.runs, s.ended, s.undo FROM spec s JOIN queue.workflow_job m ON m.workflow = w AND m.ref = s.ref;
	END LOOP;
	DROP TABLE spec;
	RETURN w;
END $$;
-- what went wrong: of graphs that are not undone all is known before, of the others only what holds in any order
CREATE VIEW wrong AS
SELECT 'not finished' AS what, id FROM queue.workflow WHERE state NOT IN ('completed', 'failed', 'cancelled', 'compensated')
UNION ALL SELECT 'counts', w.id FROM queue.workflow w WHERE w.name = 'dag' AND (w.jobs, w.completed, w.discarded, w.cancelled) IS DISTINCT FROM
	(SELECT (count(*), count(*) FILTER (WHERE ended = 'completed'), count(*) FILTER (WHERE ended = 'discarded'), count(*) FILTER (WHERE ended = 'cancelled')) FROM job WHERE flow = w.id)
UNION ALL SELECT 'completed', w.id FROM queue.workflow w WHERE w.name IN ('dag', 'saga') AND
	(w.completed, w.jobs) IS DISTINCT FROM (SELECT (count(l.id), count(*)) FROM job j LEFT JOIN ledger l ON l.id = j.id WHERE j.flow = w.id)
UNION ALL SELECT 'ran not once', job.id FROM job JOIN queue.workflow w ON w.id = flow AND w.name = 'dag' WHERE runs AND fate <> 'bad' AND (SELECT count(*) FROM ledger l WHERE l.id = job.id) <> 1
UNION ALL SELECT 'ran and must not', id FROM job JOIN ledger USING (id) WHERE NOT runs
UNION ALL SELECT 'ran twice', id FROM ledger WHERE id IS NOT NULL GROUP BY 2 HAVING count(*) > 1
UNION ALL SELECT 'before what it depends on', l.id FROM queue.workflow_edge e JOIN ledger l ON l.id = e.job_id JOIN ledger d ON d.id = ANY (e.depends_on) WHERE d.n > l.n
UNION ALL SELECT 'callback', w.id FROM queue.workflow w CROSS JOIN LATERAL (VALUES ('fin', true), ('comp', w.completed = w.jobs), ('disc', w.discarded > 0)) c (kind, applies)
	WHERE (SELECT count(*) FROM ledger l WHERE l.flow = w.id AND l.kind = c.kind) <> applies::int
UNION ALL SELECT 'undone not once', j.id FROM job j JOIN queue.workflow w ON w.id = j.flow WHERE
	(SELECT count(*) FROM ledger u WHERE u.undoes = j.id) <> (j.undo AND w.state = 'compensated' AND EXISTS (SELECT FROM ledger l WHERE l.id = j.id))::int
UNION ALL SELECT 'undone in another order', a.undoes FROM ledger a JOIN ledger b ON a.flow = b.flow AND a.undoes IS NOT NULL AND b.undoes IS NOT NULL AND a.n < b.n
	JOIN queue.workflow_end ea ON ea.workflow = a.flow AND ea.job_id = a.undoes JOIN queue.workflow_end eb ON eb.workflow = b.flow AND eb.job_id = b.undoes WHERE ea.number < eb.number;
