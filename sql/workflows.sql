-- Workflows, batches, callbacks, compensation.
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}'), queue.create_queue('other'), queue.create_queue('back');
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN regexp_replace(SQLSTATE || ' ' || SQLERRM || ' | ' || hint, 'job \d+', 'job N', 'g');
END $$;
-- who finishes workflows is another process, or where none is, maintain(); after one vain wait the others are short
SET my.looks = 1500;
CREATE FUNCTION until(condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	met boolean := false;
BEGIN
	FOR i IN 1..current_setting('my.looks')::int LOOP
		PERFORM queue.maintain();
		EXECUTE 'SELECT ' || condition INTO met;
		IF met THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	SET my.looks = 20;
	RETURN met;
END $$;
CREATE FUNCTION is(w bigint, state text) RETURNS boolean LANGUAGE sql AS $$
	SELECT until(format('EXISTS (SELECT FROM queue.workflow WHERE id = %s AND state = %L)', w, state)) $$;
-- takes the job of this kind, as soon as it is let in
CREATE FUNCTION take(k text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	j queue.job;
BEGIN
	FOR i IN 1..current_setting('my.looks')::int LOOP
		PERFORM queue.maintain();
		SELECT * INTO j FROM queue.fetch_any('{q,other,back}', 1, kinds => ARRAY[k]);
		IF j.id IS NOT NULL THEN
			RETURN j.id;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	SET my.looks = 20;
	RETURN NULL;
END $$;
CREATE FUNCTION done(k text) RETURNS boolean LANGUAGE sql AS $$ SELECT queue.complete(take(k), result => to_jsonb('by ' || k)) $$;
CREATE FUNCTION bad(k text) RETURNS text LANGUAGE sql AS $$ SELECT queue.fail(take(k), error => 'bad', discard => true) $$;
CREATE VIEW flows AS SELECT name, state, jobs, unfinished, completed, discarded, cancelled, finished_at IS NOT NULL AS finished FROM queue.workflow ORDER BY id;
CREATE VIEW callbacks AS SELECT kind, payload, origin - 'workflow' AS origin FROM queue.job WHERE queue = 'back' AND state = 'available' ORDER BY id;

-- in one call
SELECT ref, job_id > 0 AS job FROM queue.enqueue_workflow('[{"ref": "ship", "kind": "ship", "queue": "other", "depends_on": ["charge"]},
	{"ref": "charge", "kind": "charge", "queue": "q", "depends_on": ["reserve"]}, {"ref": "reserve", "kind": "reserve", "queue": "q"}, {"kind": "note", "queue": "q"}]',
	'order 1', 'back', on_finished => 'fin', on_completed => 'comp', on_discarded => 'disc', payload => '{"order": 1}');
SELECT max(id) AS w FROM queue.workflow \gset
SELECT * FROM flows;
SELECT ref, kind, state, cardinality(depends_on) AS after FROM queue.workflow_edge WHERE workflow_id = :w ORDER BY job_id;
SELECT kind, workflow = :w AS of_it FROM queue.find_jobs(jsonb_build_object('workflow', :w, 'state', 'pending'));
SELECT done('reserve');
SELECT queue.dependency_results(id) AS results FROM queue.job WHERE kind = 'charge';
SELECT done('charge'), done('ship');
SELECT * FROM flows;
SELECT try(format('SELECT queue.enqueue(%L, workflow => %s)', 'late', :w));
SELECT done('note');
SELECT is(:w, 'completed');
SELECT * FROM flows;
SELECT * FROM callbacks;
SELECT ref, kind, state FROM queue.workflow_edge WHERE workflow_id = :w ORDER BY job_id;
SELECT queue.purge('back');

-- one is discarded: what depends on it is cancelled, other branches go on
SELECT queue.enqueue_json('{"workflow": {"name": "order 2", "queue": "back", "on_finished": "fin", "on_discarded": "disc", "on_completed": "comp", "payload": {"order": 2}, "jobs": [
	{"ref": "a", "kind": "a", "queue": "q"}, {"ref": "b", "kind": "b", "queue": "q", "depends_on": ["a"]}, {"ref": "c", "kind": "c", "queue": "q", "depends_on": ["b"]}, {"kind": "d", "queue": "q"}]}}') AS w \gset
SELECT bad('a'), done('d');
SELECT is(:w, 'failed');
SELECT * FROM flows WHERE name = 'order 2';
SELECT kind, origin FROM callbacks;
-- again: those that were discarded, and those cancelled because of them
SELECT queue.retry_workflow(:w);
SELECT * FROM flows WHERE name = 'order 2';
SELECT done('a'), done('b'), done('c');
SELECT is(:w, 'completed');
SELECT kind, origin FROM callbacks;
SELECT queue.purge('back');

-- but not one that somebody cancelled
SELECT queue.create_workflow('order 3') AS w \gset
SELECT queue.enqueue('a', queue => 'q', workflow => :w) > 0 AS a, queue.enqueue('b', queue => 'q', workflow => :w) AS b \gset
SELECT queue.cancel(:b, 'not wanted'), bad('a'), queue.close_workflow(:w);
SELECT is(:w, 'failed');
SELECT queue.retry_workflow(:w);
SELECT done('a');
SELECT is(:w, 'cancelled');
SELECT kind, state FROM queue.workflow_edge WHERE workflow_id = :w ORDER BY kind;

-- a batch: joins while it is open, from a savepoint that is rolled back too
SELECT queue.create_workflow('batch', 'back', on_completed => 'comp') AS w \gset
BEGIN;
SELECT count(queue.enqueue('item', queue => 'q', workflow => :w)) FROM generate_series(1, 3);
SAVEPOINT s;
SELECT count(queue.enqueue('item', queue => 'q', workflow => :w)) FROM generate_series(1, 3);
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM queue.enqueue_json_many(format('[{"kind": "item", "queue": "q", "workflow": %s}, {"kind": "item", "queue": "q", "workflow": %1$s}]', :w));
SELECT name, state, jobs, unfinished FROM flows WHERE name = 'batch';
SELECT count(queue.complete(id)) FROM queue.fetch('q', 10);
SELECT name, state, jobs, unfinished FROM flows WHERE name = 'batch';
SELECT queue.close_workflow(:w);
SELECT is(:w, 'completed');
SELECT try(format('SELECT queue.enqueue(%L, workflow => %s)', 'item', :w)), try('SELECT queue.enqueue(''item'', workflow => 999)'),
	try('SELECT queue.enqueue(''item'', compensate_with => ''undo'')');
SELECT kind, origin FROM callbacks;
SELECT queue.purge('back');
-- purged jobs count as cancelled; an empty one completes
SELECT queue.create_workflow('purged') AS w \gset
SELECT queue.enqueue('item', queue => 'q', workflow => :w) > 0 AS added, queue.close_workflow(:w);
SELECT try(format('SELECT queue.enqueue(%L, workflow => %s)', 'item', :w));
SELECT queue.purge('q');
SELECT is(:w, 'cancelled');
SELECT jobs, unfinished, completed, discarded, cancelled FROM queue.workflow WHERE id = :w;
SELECT queue.create_workflow('empty') AS w \gset
SELECT queue.close_workflow(:w);
SELECT is(:w, 'completed');
-- cancelled with no job: nothing completed
SELECT queue.create_workflow('nothing', 'back', on_completed => 'comp', on_finished => 'fin') AS w \gset
SELECT queue.cancel_workflow(:w);
SELECT is(:w, 'cancelled');
SELECT kind, origin FROM callbacks;
SELECT queue.purge('back');

-- cancel, with one that somebody works on
SELECT queue.create_workflow('cancelled', 'back', on_finished => 'fin') AS w \gset
SELECT count(queue.enqueue(k, queue => 'q', workflow => :w)) FROM unnest('{x,y}'::text[]) k;
SELECT take('x') AS x \gset
SELECT queue.cancel_workflow(:w, 'no more');
SELECT queue.complete(:x);
SELECT is(:w, 'cancelled');
SELECT kind, state, last_error FROM queue.job WHERE workflow = :w ORDER BY 1;
SELECT queue.cancel_workflow(:w);
SELECT kind, origin FROM callbacks;
SELECT queue.purge('back');

-- compensation: in the reverse order of the ends, one after the other
SELECT count(*) FROM queue.enqueue_workflow('[{"ref": "a", "kind": "a", "queue": "q", "compensate_with": "undo_a", "payload": {"n": 1}}, {"ref": "b", "kind": "b", "queue": "q", "compensate_with": "undo_b"},
	{"ref": "c", "kind": "c", "queue": "q", "depends_on": ["a", "b"]}, {"ref": "d", "kind": "d", "queue": "q", "depends_on": ["a"], "compensate_with": "undo_d"}, {"kind": "e", "queue": "q", "depends_on": ["c"]}]',
	'saga', 'back', on_finished => 'fin', on_completed => 'comp', on_discarded => 'disc');
SELECT max(id) AS w FROM queue.workflow \gset
SELECT done('b'), done('a');
SELECT take('d') AS d \gset
SELECT bad('c');
SELECT is(:w, 'compensating');
SELECT until('NOT EXISTS (SELECT FROM queue.job WHERE kind = ''e'' AND state = ''pending'')');
-- what runs is let end, and undone too
SELECT count(*) FROM queue.job WHERE kind ~ 'undo';
SELECT try(format('SELECT queue.retry_workflow(%s)', :w)), try(format('SELECT queue.enqueue(%L, workflow => %s)', 'x', :w));
SELECT try(format('SELECT queue.retry(%s)', id)) FROM queue.job WHERE workflow = :w AND kind = 'c';
SELECT queue.complete(:d, result => '"late"');
SELECT until('EXISTS (SELECT FROM queue.job WHERE kind = ''undo_d'')');
SELECT kind, payload - 'job' AS payload FROM queue.job WHERE kind ~ 'undo';
SELECT done('undo_d');
SELECT until('EXISTS (SELECT FROM queue.job WHERE kind = ''undo_a'')');
SELECT kind, payload - 'job' AS payload FROM queue.job WHERE kind ~ 'undo' AND state = 'available';
-- one that fails keeps the workflow there, until it is retried
SELECT bad('undo_a');
SELECT until('EXISTS (SELECT FROM queue.doctor() WHERE check_name = ''workflows'' AND NOT ok)');
SELECT regexp_replace(detail, 'job \d+', 'job N', 'g') FROM queue.doctor() WHERE check_name = 'workflows';
SELECT * FROM flows WHERE name = 'saga';
SELECT queue.retry(id) FROM queue.job WHERE kind = 'undo_a';
SELECT done('undo_a');
SELECT done('undo_b');
SELECT is(:w, 'compensated');
SELECT * FROM flows WHERE name = 'saga';
SELECT kind, origin FROM callbacks;
SELECT try(format('SELECT queue.retry(%s)', id)) FROM queue.job WHERE workflow = :w AND kind = 'c';
-- by cancel_workflow
SELECT queue.create_workflow('saga by hand') AS w \gset
SELECT queue.enqueue('a', queue => 'q', workflow => :w, compensate_with => 'undo_a') > 0 AND queue.enqueue('b', queue => 'q', workflow => :w) > 0 AS added;
SELECT done('a');
SELECT queue.cancel_workflow(:w);
SELECT done('undo_a');
SELECT is(:w, 'compensated');
-- what ran when that began, and goes back to its line, is not run again: nothing is undone before it has ended
CREATE PROCEDURE saga(call text, INOUT became text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	w bigint := queue.create_workflow('saga of ' || substring(call FROM 'queue\.(\w+)'));
	d bigint;
BEGIN
	PERFORM queue.enqueue(k, queue => 'q', workflow => w, compensate_with => 'undo_' || k) FROM unnest('{a,b,d}'::text[]) k;
	COMMIT;
	PERFORM done('a');
	COMMIT;
	d := take('d');
	PERFORM bad('b');
	COMMIT;
	PERFORM is(w, 'compensating');
	EXECUTE format(call, d);
	COMMIT;
	PERFORM done('undo_a');
	COMMIT;
	PERFORM is(w, 'compensated');
	SELECT state || ': ' || last_error INTO became FROM queue.job WHERE id = d;
END $$;
CALL saga('SELECT queue.fail(%s, retry_in => ''1 day'')');
CALL saga('SELECT queue.snooze(%s, ''1 day'')');
CALL saga('SELECT queue.release(%s)');
CALL saga('SELECT queue.await_event(%s, ''never'')');
CALL saga('SELECT queue.heartbeat(%s, ''1 s'')');
SELECT name, state FROM flows WHERE name ~ 'saga of';

-- queues that are dropped: not while a workflow needs them, unless by force; then what would come waits for a new one
SELECT queue.create_queue('undo'), queue.create_queue('calls');
SELECT queue.create_workflow('left', 'calls', on_finished => 'fin', on_completed => 'comp') AS w \gset
SELECT queue.enqueue('a', queue => 'undo', workflow => :w, compensate_with => 'undo_a') > 0 AND queue.enqueue('b', queue => 'q', workflow => :w) > 0 AS added;
SELECT queue.complete(id) FROM queue.fetch('undo', kinds => '{a}');
SELECT regexp_replace(try(format('SELECT queue.drop_queue(%L)', q)), 'workflow \d+', 'workflow N') FROM unnest('{undo,calls}'::text[]) q;
SELECT queue.drop_queue('undo', force => true), queue.drop_queue('calls', force => true);
SELECT name, state, jobs, unfinished FROM flows WHERE name = 'left';
SELECT bad('b');
SELECT is(:w, 'compensating');
CREATE VIEW ailing AS SELECT regexp_replace(regexp_replace(detail, 'job \d+', 'job N', 'g'), 'workflow \d+', 'workflow N', 'g') AS detail, regexp_replace(hint, '\d+', 'N', 'g') AS hint FROM queue.doctor() WHERE check_name = 'workflows';
SELECT * FROM ailing;
SELECT queue.create_queue('undo');
SELECT until('EXISTS (SELECT FROM queue.job WHERE kind = ''undo_a'')');
-- one that is purged, or dropped with its queue, did not complete; it can be retried
SELECT queue.purge('undo');
SELECT until('EXISTS (SELECT FROM queue.doctor() WHERE check_name = ''workflows'' AND NOT ok)');
SELECT * FROM ailing;
CREATE ROLE queue_flow_other;
SELECT queue.grant_queue('default', 'queue_flow_other', 'read');
GRANT SELECT ON ailing TO queue_flow_other;
SET ROLE queue_flow_other;
SELECT * FROM ailing;
RESET ROLE;
DROP OWNED BY queue_flow_other;
DROP ROLE queue_flow_other;
SELECT queue.retry(id) FROM queue.job WHERE kind = 'undo_a' AND workflow = :w;
-- so can one that failed for good where its queue keeps nothing
SELECT queue.alter_queue('undo', keep_discarded => '0');
SELECT queue.fail(id, error => 'bad', discard => true) FROM queue.fetch('undo', kinds => '{undo_a}');
SELECT queue.retry(id) FROM queue.job WHERE kind = 'undo_a' AND workflow = :w;
SELECT queue.complete(id) FROM queue.fetch('undo', kinds => '{undo_a}');
SELECT is(:w, 'compensated');
SELECT * FROM ailing;
SELECT queue.create_queue('calls');
SELECT until('(SELECT count(*) = 1 FROM queue.job WHERE queue = ''calls'')');
SELECT kind, origin - 'workflow' AS origin FROM queue.job WHERE queue = 'calls';
SELECT * FROM ailing;
-- a job that is purged counts as cancelled
SELECT queue.create_workflow('swept', 'undo') AS w \gset
SELECT queue.enqueue('a', queue => 'undo', workflow => :w) AS id \gset
SELECT queue.close_workflow(:w), queue.purge('undo');
SELECT is(:w, 'cancelled');
SELECT jobs, completed, discarded, cancelled FROM queue.workflow WHERE id = :w;
SELECT state FROM queue.workflow_edge WHERE workflow_id = :w;

-- what is refused
SELECT try($$SELECT queue.enqueue_workflow('[{"ref": "a", "kind": "x", "depends_on": ["c"]}, {"ref": "b", "kind": "x", "depends_on": ["a"]}, {"ref": "c", "kind": "x", "depends_on": ["b"]}]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"ref": "a", "kind": "x", "depends_on": ["a"]}]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"ref": "out", "kind": "x", "depends_on": ["a"]}, {"ref": "a", "kind": "x", "depends_on": ["b"]}, {"ref": "b", "kind": "x", "depends_on": ["a"]}]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"ref": "a", "kind": "x", "depends_on": ["b"]}]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"ref": "a", "kind": "x"}, {"ref": "a", "kind": "x"}]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"ref": "17", "kind": "x"}]')$$), try($$SELECT queue.enqueue_workflow('{}')$$), try($$SELECT queue.enqueue_workflow('[1]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"kind": "x"}, {"kind": "x", "dely": 1}]')$$), try($$SELECT queue.enqueue_workflow('[{"kind": "x", "workflow": 1}]')$$);
SELECT try($$SELECT queue.enqueue_json('{"workflow": {"jobs": [], "nam": 1}}')$$), try($$SELECT queue.create_workflow(on_finished => '*')$$), try($$SELECT queue.create_workflow(queue => 'none')$$);
SELECT try('SELECT queue.close_workflow(999)'), try('SELECT queue.cancel_workflow(999)'), try('SELECT queue.retry_workflow(999)'), queue.dependency_results(999);
SELECT try($$SELECT queue.enqueue_workflow((SELECT jsonb_agg(jsonb_build_object('ref', 'r' || i, 'kind', 'x', 'depends_on', jsonb_build_array('r' || i % 10000 + 1))) FROM generate_series(1, 10000) i))$$);
SELECT try('SELECT queue.close_workflow(NULL)'), try('SELECT queue.enqueue_workflow(NULL)'), try($$SELECT queue.enqueue_json('{"workflow": {"name": "x"}}')$$);
SELECT try($$SELECT queue.enqueue_json('{"workflow": {"jobs": []}, "kind": "x"}')$$), try($$SELECT queue.enqueue_json('{"workflow": [1], "kind": "x"}')$$);
SELECT try($$SELECT queue.enqueue_workflow(jsonb_build_array(jsonb_build_object('ref', repeat('x', 201), 'kind', 'x')))$$), try($$SELECT queue.enqueue_workflow('[{"ref": 1, "kind": "x"}]')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"kind": "x", "depends_on": [true]}]')$$), try($$SELECT queue.enqueue_json('{"kind": "x", "depends_on": [-1e30]}')$$), try($$SELECT queue.enqueue_json('{"workflow": {"jobs": [], "name": 1}}')$$);
SELECT try($$SELECT queue.enqueue_workflow('[{"kind": "x", "depends_on": [1e30]}]')$$), try($$SELECT queue.enqueue_workflow('[{"kind": "x", "depends_on": ["99999999999999999999"]}]')$$), try($$SELECT queue.enqueue_json('{"kind": "x", "depends_on": [1e30]}')$$);
SELECT try($$SELECT queue.create_workflow(repeat('x', 201))$$), try($$SELECT queue.enqueue('x', workflow => 0)$$);
CREATE ROLE queue_flow_alice;
SELECT queue.grant_queue('q', 'queue_flow_alice');
SET ROLE queue_flow_alice;
SELECT queue.create_workflow('hers', 'q') AS w \gset
SELECT queue.enqueue('x', queue => 'q', workflow => :w) > 0 AS joined;
SELECT try(format('SELECT queue.cancel_workflow(%s)', :w)), try(format('SELECT queue.enqueue(%L, queue => %L, workflow => %s)', 'x', 'other', :w));
SELECT queue.close_workflow(:w);
RESET ROLE;
SELECT queue.create_workflow('not hers', 'other') AS w \gset
SELECT queue.grant_queue('q', 'queue_flow_alice', 'manage');
SET ROLE queue_flow_alice;
SELECT replace(try(format('SELECT queue.cancel_workflow(%s)', :w)), :w::text, 'N');
RESET ROLE;
SELECT queue.grant_queue('other', 'queue_flow_alice', 'read');
SET ROLE queue_flow_alice;
SELECT try(format('SELECT queue.cancel_workflow(%s)', :w)), try(format('SELECT queue.retry_workflow(%s)', :w));
RESET ROLE;
SELECT queue.revoke_queue('q', 'queue_flow_alice', 'manage'), queue.revoke_queue('other', 'queue_flow_alice');
SET ROLE queue_flow_alice;
SELECT try(format('SELECT queue.enqueue(%L, queue => %L, workflow => %s)', 'x', 'q', :w)), try(format('SELECT queue.close_workflow(%s)', :w));
RESET ROLE;
-- one that is closed takes jobs from inside its own, and from no other's
CREATE FUNCTION joins(j queue.job) RETURNS void LANGUAGE sql AS $$ SELECT queue.enqueue('x', queue => 'q', workflow => coalesce((j.payload ->> 'w')::bigint, j.workflow)) $$;
SET client_min_messages = error;
SELECT queue.register_sql_handler('joins', 'joins');
RESET client_min_messages;
BEGIN;
SELECT workflow_id AS own, job_id AS id FROM queue.enqueue_workflow('[{"kind": "joins", "queue": "q"}]') \gset
SELECT queue.test_run(:id);
SELECT jobs FROM queue.workflow WHERE id = :own;
SELECT job_id AS id FROM queue.enqueue_workflow(jsonb_build_array(jsonb_build_object('kind', 'joins', 'queue', 'q', 'payload', jsonb_build_object('w', :own)))) \gset
SELECT replace(try(format('SELECT queue.test_run(%s)', :id)), :own::text, 'N');
ROLLBACK;
SELECT queue.unregister_handler('joins');
-- who joined may not go on after its own transaction has closed or cancelled it, or in another's name
BEGIN;
SELECT queue.enqueue('x', queue => 'q', workflow => :w) > 0 AS joined;
SET LOCAL ROLE queue_flow_alice;
SELECT try(format('SELECT queue.enqueue(%L, queue => %L, workflow => %s)', 'x', 'q', :w));
RESET ROLE;
SELECT queue.close_workflow(:w);
SELECT try(format('SELECT queue.enqueue(%L, queue => %L, workflow => %s)', 'x', 'q', :w));
ROLLBACK;
BEGIN;
SELECT queue.enqueue('x', queue => 'q', workflow => :w) > 0 AS joined;
SELECT queue.cancel_workflow(:w);
SELECT try(format('SELECT queue.enqueue(%L, queue => %L, workflow => %s)', 'x', 'q', :w));
ROLLBACK;
-- so in one statement
CREATE FUNCTION hers(w bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT queue.enqueue('x', queue => 'q', workflow => w) $$;
ALTER FUNCTION hers OWNER TO queue_flow_alice;
BEGIN;
SELECT queue.enqueue('x', queue => 'q', workflow => :w) > 0 AS joined, try(format('SELECT hers(%s)', :w));
SELECT queue.enqueue('x', queue => 'q', workflow => :w) > 0 AS joined, queue.close_workflow(:w), try(format('SELECT queue.enqueue(%L, queue => %L, workflow => %s)', 'x', 'q', :w));
ROLLBACK;
SET client_min_messages = notice;	-- whatever the caller has set
DO $$
DECLARE w bigint := queue.create_workflow('rolled back');
BEGIN
	PERFORM queue.enqueue('x', queue => 'q', workflow => w);
	ROLLBACK;
	RAISE NOTICE '%', replace(try(format('SELECT queue.enqueue(''x'', queue => ''q'', workflow => %s)', w)), w::text, 'N');
END $$;
RESET client_min_messages;
DROP FUNCTION hers;
-- a job of a cancelled one may be retried; what a job without a ref returned is told by its id
SELECT queue.create_workflow('again') AS again \gset
SELECT queue.enqueue('again', queue => 'q', workflow => :again) AS a \gset
SELECT queue.enqueue('behind', queue => 'q', workflow => :again, depends_on => ARRAY[:a]) AS b \gset
SELECT queue.cancel_workflow(:again);
SELECT is(:again, 'cancelled');
SELECT queue.retry(:b), queue.retry(:a);
SELECT done('again');
SELECT queue.dependency_results(:b) = jsonb_build_object(:a, 'by again') AS by_id, done('behind');
SELECT is(:again, 'completed');
DROP OWNED BY queue_flow_alice;
DROP ROLE queue_flow_alice;
DROP VIEW flows, callbacks, ailing;
DROP FUNCTION try, until, is, take, done, bad, joins;
DROP EXTENSION queue CASCADE;
