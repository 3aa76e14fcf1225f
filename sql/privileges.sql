-- Who may do what: api.md's matrix, one call in each cell, undone each time.
CREATE EXTENSION queue;
SET client_min_messages = notice;	-- whatever the caller has set
CREATE ROLE regress_queue_none;
CREATE ROLE regress_queue_enqueue;
CREATE ROLE regress_queue_work;
CREATE ROLE regress_queue_read;
CREATE ROLE regress_queue_manage;
CREATE ROLE regress_queue_star;
CREATE ROLE regress_queue_member;
GRANT regress_queue_work TO regress_queue_member;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', keep_completed => '1 day'), queue.create_queue('other');
SELECT queue.grant_queue('q', 'regress_queue_enqueue', 'enqueue'), queue.grant_queue('q', 'regress_queue_work', 'work'), queue.grant_queue('q', 'regress_queue_read', 'read'),
       queue.grant_queue('q', 'regress_queue_manage', 'manage'), queue.grant_queue('*', 'regress_queue_star', 'manage');
SELECT queue.enqueue('run', '"r"', 'q') AS r, queue.enqueue('wait', '"w"', 'q') AS w, queue.enqueue('done', '"d"', 'q') AS d, queue.enqueue('else', '"o"', 'other') AS o \gset
SELECT kind, queue.complete(id, 1) FROM queue.fetch('q', kinds => '{done}');
SELECT kind FROM queue.fetch('q', kinds => '{run}');
-- a call as a role; what it says in a word, nothing of it stays
CREATE FUNCTION cell(role name, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text;
BEGIN
	BEGIN
		EXECUTE format('SET LOCAL ROLE %I', role);
		EXECUTE call INTO r;
		RAISE EXCEPTION USING ERRCODE = 'QU999', MESSAGE = coalesce(nullif(r, ''), 'ok');
	EXCEPTION WHEN SQLSTATE 'QU999' THEN
		RETURN SQLERRM;
	WHEN insufficient_privilege THEN
		RETURN '-';
	WHEN OTHERS THEN
		RETURN SQLSTATE;
	END;
END $$;
CREATE TABLE calls (n serial, call text);
INSERT INTO calls (call) SELECT format(c, :r, :w, :d, :o) FROM unnest(ARRAY[
	'SELECT queue.enqueue(''k'', ''1'', ''q'') IS NOT NULL', 'SELECT count(*) FROM queue.enqueue_many(''k'', ''{1,2}'', ''q'')', 'SELECT queue.enqueue_json(''{"kind": "k", "queue": "q"}'') IS NOT NULL',
	'SELECT count(*) FROM queue.enqueue_json_many(''[{"kind": "k", "queue": "q"}]'')', 'SELECT queue.enqueue(''k'', ''1'', ''other'') IS NOT NULL', 'SELECT queue.enqueue(''k'') IS NOT NULL',
	'SELECT kind FROM queue.fetch(''q'')', 'SELECT kind FROM queue.fetch_any(''{q}'')', 'SELECT kind FROM queue.fetch_any(''{q,other}'')', 'SELECT kind FROM queue.fetch(''other'')',
	'SELECT queue.complete(%1$s, 1)', 'SELECT count(*) FROM queue.complete_many(''{%1$s}'')', 'SELECT queue.fail(%1$s, 1)', 'SELECT queue.snooze(%1$s, ''1 s'')', 'SELECT queue.release(%1$s)',
	'SELECT count(*) FROM queue.release_many(''{%1$s}'')', 'SELECT queue.heartbeat(%1$s) IS NOT NULL', 'SELECT count(*) FROM queue.heartbeat_many(''{%1$s}'')', 'SELECT queue.progress(%1$s, ''1'')',
	'SELECT count(*) FROM queue.job', 'SELECT count(*) FROM queue.job_error', 'SELECT queue.result(%3$s)', 'SELECT queue.wait_for(%2$s, ''0'')', 'SELECT left(queue.explain_job(%2$s), 9)', 'SELECT left(queue.explain_job(%4$s), 9)', 'SELECT queue.wait_for(%4$s, ''0'')',
	'SELECT queue.cancel(%2$s)', 'SELECT queue.cancel(%4$s)', 'SELECT queue.discard(%2$s)', 'SELECT queue.retry(%3$s)', 'SELECT queue.alter_job(%2$s, priority => 3)', 'SELECT queue.purge(''q'')',
	'SELECT queue.pause(''q'')', 'SELECT queue.resume(''q'')', 'SELECT queue.pause(''other'')', 'SELECT queue.alter_queue(''q'', max_attempts => 3)', 'SELECT queue.drop_queue(''q'', true)',
	'SELECT queue.grant_queue(''q'', ''regress_queue_none'')', 'SELECT queue.revoke_queue(''q'', ''regress_queue_read'')', 'SELECT queue.grant_queue(''other'', current_user)', 'SELECT queue.grant_queue(''*'', current_user, ''manage'')',
	'SELECT queue.create_queue(''new'')', 'SELECT queue.adopt()', 'SELECT count(*) > 0 FROM queue.stat_queue', 'SELECT count(*) FROM queue.stat_handler', 'SELECT count(*) >= 0 FROM queue.stat_worker', 'SELECT count(*) > 0 FROM queue.doctor()',
	'SELECT queue.current_job()', 'SELECT queue.dependency_results(%2$s)', 'SELECT queue.dependency_results(%3$s)', 'SELECT queue.dependency_results(%4$s)',
	'SELECT count(*) FROM queue.live_job', 'SELECT count(*) FROM queue.finished_job', 'SELECT count(*) FROM queue.queue', 'SELECT count(*) FROM queue.handler', 'SELECT count(*) FROM queue.privilege', 'INSERT INTO queue.queue (name) VALUES (''x'')',
	'UPDATE queue.live_job SET attempt = 9', 'DELETE FROM queue.privilege', 'SELECT nextval(''queue.job_id'')', 'SELECT setval(''queue.job_id'', 1)']) c;
\t on
\pset format aligned
SELECT 'call' AS call, 'none', 'enqueue', 'work', 'read', 'manage', 'star', 'member'
UNION ALL (SELECT call, cell('regress_queue_none', call), cell('regress_queue_enqueue', call), cell('regress_queue_work', call), cell('regress_queue_read', call), cell('regress_queue_manage', call), cell('regress_queue_star', call), cell('regress_queue_member', call)
  FROM calls ORDER BY n);
\t off
\pset format unaligned
-- nothing of it stayed
SELECT kind, state, attempt FROM queue.job ORDER BY id;

-- what needs manage on '*' is not even executable for who has it on a queue
SELECT f, has_function_privilege('regress_queue_manage', f, 'EXECUTE') AS manage, has_function_privilege('regress_queue_star', f, 'EXECUTE') AS star
  FROM unnest('{queue.adopt(),queue.pause(text)}'::text[]) f;

-- the words of a refusal
SET ROLE regress_queue_enqueue;
SELECT queue.fetch('q');
SELECT queue.enqueue('k', '1', 'other');
SELECT queue.enqueue('k', '1', 'nowhere');
SELECT queue.cancel(:w);
RESET ROLE;
-- who may read a job, and may cancel others, is told that he may not cancel this one
SELECT queue.grant_queue('other', 'regress_queue_read', 'manage');
SET ROLE regress_queue_read;
SELECT queue.cancel(:w);
RESET ROLE;
SELECT queue.revoke_queue('other', 'regress_queue_read');
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'q');
RESET ROLE;

-- revoked: from the next call on
SET ROLE regress_queue_work;
SELECT kind FROM queue.fetch('q');
RESET ROLE;
SELECT queue.revoke_queue('q', 'regress_queue_work', 'work');
SET ROLE regress_queue_work;
SELECT kind FROM queue.fetch('q');
RESET ROLE;
SELECT queue.grant_queue('*', 'regress_queue_none', 'enqueue');
SELECT queue.create_queue('future');
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'future') IS NOT NULL AS e;
SELECT queue.enqueue('k', '1', 'q') IS NOT NULL AS e;
SELECT kind FROM queue.fetch('q');
RESET ROLE;
SELECT queue.revoke_queue('*', 'regress_queue_none');
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'future') IS NOT NULL AS e;
RESET ROLE;

-- a reader's own function in WHERE sees nothing that the reader may not see
GRANT CREATE ON SCHEMA public TO regress_queue_read;
SET ROLE regress_queue_read;
CREATE FUNCTION spy(q text, p jsonb) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'spy: % %', q, p; RETURN true; END $$;
SELECT count(*) FROM queue.job WHERE spy(queue, payload) AND queue = 'other';
DROP FUNCTION spy(text, jsonb);
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM regress_queue_read;

-- a SECURITY DEFINER function lends its owner's rights and no more; its caller's do not count
GRANT CREATE ON SCHEMA public TO regress_queue_enqueue;
SET ROLE regress_queue_enqueue;
CREATE FUNCTION lend() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	PERFORM queue.enqueue('lent', '1', 'q');
	PERFORM queue.fetch('q');
	RETURN 'fetched';
EXCEPTION WHEN insufficient_privilege THEN
	PERFORM queue.enqueue('lent', '2', 'q');
	RETURN 'not more than its owner may';
END $$;
RESET ROLE;
SELECT lend();
SET ROLE regress_queue_none;
SELECT lend();
RESET ROLE;
DROP FUNCTION lend();
REVOKE CREATE ON SCHEMA public FROM regress_queue_enqueue;
SELECT count(*) FROM queue.job WHERE kind = 'lent';

-- a membership counts from the next call on, and no longer
SELECT queue.grant_queue('other', 'regress_queue_none', 'enqueue');
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'q') IS NOT NULL AS e;
RESET ROLE;
GRANT regress_queue_enqueue TO regress_queue_none;
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'q') IS NOT NULL AS e;
RESET ROLE;
REVOKE regress_queue_enqueue FROM regress_queue_none;
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'q') IS NOT NULL AS e;
RESET ROLE;
-- so does what the role itself is
ALTER ROLE regress_queue_none SUPERUSER;
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'q') IS NOT NULL AS e;
RESET ROLE;
ALTER ROLE regress_queue_none NOSUPERUSER;
SET ROLE regress_queue_none;
SELECT queue.enqueue('k', '1', 'q') IS NOT NULL AS e;
RESET ROLE;
-- who reads one queue does not learn whether another one is idle
SELECT queue.grant_queue('other', 'regress_queue_none', 'read');
SET ROLE regress_queue_none;
CALL queue.await_idle('other', '0');
CALL queue.await_idle('q', '0');
RESET ROLE;
SELECT queue.revoke_queue('other', 'regress_queue_none');

-- a name in the caller's way is not taken for ours
CREATE SCHEMA trap;
CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE TABLE trap.queue (name text);
CREATE TABLE trap.live_job (id bigint);
CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
SET search_path = trap, queue, pg_catalog;
SELECT queue.enqueue('k', '"trap"', 'other') AS t \gset
SELECT queue.alter_queue('other', max_attempts => 5), queue.pause('other'), queue.resume('other'), queue.cancel(:t), queue.retry(:t), queue.purge('other') > 0 AS purged, queue.create_queue('trapped'), queue.drop_queue('trapped');
RESET search_path;
DROP SCHEMA trap CASCADE;

-- a dump has the empty name for a role that was dropped: nothing is said of it, but of one that is missing
SELECT ''::queue.role_name, 'regress_queue_nobody'::queue.role_name;

DROP TABLE calls;
DROP FUNCTION cell(name, text);
DROP EXTENSION queue;
DROP ROLE regress_queue_none, regress_queue_enqueue, regress_queue_work, regress_queue_read, regress_queue_manage, regress_queue_star, regress_queue_member;
