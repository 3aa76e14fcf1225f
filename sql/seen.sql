-- Who sees whose handlers, queues and jobs, what a member of the extension's owner may, and that no role's rights are
-- remembered for another.
SET client_min_messages = error;	-- without preload, registering warns
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
CREATE ROLE regress_seen_owner LOGIN;
CREATE ROLE regress_seen_reader;
CREATE ROLE regress_seen_runs LOGIN;
CREATE ROLE regress_seen_other;
DO $$ BEGIN EXECUTE format('GRANT %I, regress_seen_runs TO regress_seen_owner', current_user); END $$;
CREATE FUNCTION regress_seen(jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT queue.create_queue(q) FROM unnest('{a,b,c}'::text[]) q;
SELECT queue.grant_queue('a', 'regress_seen_reader', 'read'), queue.grant_queue('c', 'regress_seen_other', 'read'),
       queue.grant_queue('a', 'regress_seen_runs', 'work'), queue.grant_queue('b', 'regress_seen_runs', 'work'), queue.grant_queue('c', 'regress_seen_runs', 'read');
SELECT queue.register_sql_handler('s', 'regress_seen', queues => '{a,b}', run_as => 'regress_seen_runs');
SELECT queue.revoke_queue('b', 'regress_seen_runs');
SELECT queue.register_http_handler('h', 'http://x/', queues => '{a,b}'), queue.register_http_handler('e', 'http://y/');
SELECT queue.enqueue('k', queue => 'a') AS a, queue.enqueue('k', queue => 'b') AS b \gset
SELECT queue.enqueue('k', queue => 'b', priority => p) > 0 FROM generate_series(1, 2) p;
SELECT queue.pause(q) FROM unnest('{a,b}'::text[]) q;

CREATE FUNCTION seen() RETURNS TABLE (what text, seen text) LANGUAGE sql AS $$
	SELECT 'handlers', string_agg(kind || coalesce(' ' || queues::text, ''), ', ' ORDER BY kind) FROM queue.stat_handler
	UNION ALL SELECT 'endpoints', string_agg(kind || coalesce(' ' || queues::text, ''), ', ' ORDER BY kind) FROM queue.stat_endpoint
	UNION ALL SELECT 'queues', string_agg(queue, ', ' ORDER BY queue) FROM queue.stat_queue
	UNION ALL SELECT 'jobs', string_agg(queue || ' ' || kind, ', ' ORDER BY id) FROM queue.job
	UNION ALL SELECT 'doctor', string_agg(substring(detail FROM '^.*"(.*?)"'), ', ' ORDER BY detail) FROM queue.doctor()
		WHERE check_name = 'queue paused'
	UNION ALL SELECT 'doctor: kinds', string_agg(substring(detail FROM 'kind "." wait in queue "."'), ', ' ORDER BY detail) FROM queue.doctor() WHERE check_name = 'kind without handler' AND NOT ok
	UNION ALL SELECT 'doctor: handlers', string_agg(substring(detail FROM '^kind "(.)"'), ', ' ORDER BY detail) FROM queue.doctor() WHERE check_name = 'handler'
$$;
SELECT * FROM seen();
SET ROLE regress_seen_reader;
SELECT * FROM seen();
SET ROLE regress_seen_other;
SELECT * FROM seen();
SET ROLE regress_seen_runs;
SELECT * FROM seen() WHERE what ~ 'handlers|endpoints';
-- test_run is for who runs it and may work there
RESET ROLE;
BEGIN;
SELECT queue.resume('a'), queue.enqueue('s', queue => 'a') AS a, queue.enqueue('s', queue => 'b') AS b \gset s
SET ROLE regress_seen_runs;
SELECT queue.test_run(:sa);
SELECT queue.test_run(:sb);
ROLLBACK;
-- the same session as another role, and as the first one again: nothing is remembered of the other
SET ROLE regress_seen_other;
SELECT count(*) FROM queue.job WHERE queue = 'a';
SELECT queue.explain_job(:a);
SET ROLE regress_seen_reader;
SELECT count(*) FROM queue.job WHERE queue = 'a';
SET ROLE regress_seen_other;
SELECT count(*) FROM queue.job WHERE queue = 'a';

-- a member of the extension's owner may all that the owner may, also replace others' handlers
SET ROLE regress_seen_owner;
SELECT queue.create_queue('d'), queue.pause('d'), queue.drop_queue('d');
SELECT queue.register_sql_handler('s', 'regress_seen', queues => '{a,c}');
SELECT queue.unregister_handler('h'), queue.unregister_handler('s');
RESET ROLE;
-- .. of a role that it is no member of
BEGIN;
SELECT queue.grant_queue('c', 'regress_seen_other', 'manage');
SET LOCAL ROLE regress_seen_other;
SELECT queue.register_http_handler('theirs', 'http://z/', queues => '{c}');
SET LOCAL ROLE regress_seen_owner;
SELECT queue.register_http_handler('theirs', 'http://owner/', queues => '{c}');
SELECT queue.unregister_handler('theirs');
ROLLBACK;

-- more rows than the first place for them; one of a later version gives nothing
SELECT count(*) FROM (SELECT queue.create_queue('q' || i) FROM generate_series(1, 12) i) x;
SELECT count(*) FROM (SELECT queue.grant_queue('q' || i, 'regress_seen_reader', p) FROM generate_series(1, 12) i, unnest('{enqueue,work,read}'::text[]) p) x;
SET ROLE regress_seen_reader;
SELECT string_agg(queue, ', ' ORDER BY queue COLLATE "C") FROM queue.stat_queue;
RESET ROLE;
UPDATE queue.privilege SET privilege = 'later' WHERE queue = 'q12' AND privilege = 'read';
UPDATE queue.privilege SET privilege = 'later' WHERE queue = 'q11' AND privilege = 'work';
SET ROLE regress_seen_reader;
SELECT string_agg(queue, ', ' ORDER BY queue COLLATE "C") FROM queue.stat_queue WHERE queue ~ '^q1';
SELECT count(*) FROM queue.fetch('q10');
SELECT count(*) FROM queue.fetch('q11');
RESET ROLE;

-- what is kept, what holds a group and what doctor() says of a queue are for who may see that queue
SELECT queue.create_queue('held', max_attempts => 1, keep_completed => '1 day', on_group_discard => 'hold', dead_letter => 'a');
SELECT queue.enqueue('k', '"kept"', 'held') AS kept \gset
SELECT queue.complete(id) FROM queue.fetch('held');
SELECT queue.alter_queue('held', reset => '{dead_letter}');
SELECT queue.enqueue('k', '"holds"', 'held', group_key => 'g') AS holds, queue.enqueue('k', '"next"', 'held', group_key => 'g') AS next \gset
SELECT queue.fail(id, attempt, 'no') FROM queue.fetch('held', wait => '20 s');
UPDATE queue.queue SET dead_letter = 'nowhere', max_running = 0 WHERE name = 'held';
SELECT queue.schedule(n, '@yearly', 'k', queue => 'held') FROM unnest('{its,paused}'::text[]) n;
SELECT queue.pause_schedule('paused');
UPDATE queue.schedule SET timezone = 'Gone/Away';
SELECT queue.create_queue('gone'), queue.subscribe('t', 'k', 'gone') > 0 AS subscribed, queue.drop_queue('gone');
CREATE FUNCTION held(holds bigint) RETURNS TABLE (what text, seen text) LANGUAGE sql AS $$
	SELECT 'found', string_agg(payload #>> '{}', ', ' ORDER BY id) FROM queue.find_jobs('{"queue": "held"}')
	UNION ALL SELECT 'found in any', count(*)::text FROM queue.find_jobs('{"kind": "k"}', 100) WHERE queue = 'held'
	UNION ALL SELECT 'doctor', string_agg(DISTINCT check_name, ', ') FROM queue.doctor() WHERE NOT ok AND check_name IN ('dead letters', 'groups on hold', 'limits', 'schedule', 'subscriptions')
	UNION ALL SELECT 'cancelled', queue.cancel(holds)::text
$$;
SELECT queue.grant_queue('a', 'regress_seen_reader', 'manage');
SET ROLE regress_seen_reader;
SELECT * FROM held(:holds);
SELECT queue.explain_job(:kept);
RESET ROLE;
SELECT * FROM held(:holds);
SELECT detail FROM queue.doctor() WHERE check_name = 'schedule';
SELECT queue_internal.may_read(NULL), queue_internal.may_read(repeat('q', 1000)), queue_internal.may_read('held');
-- a role that would run without triggers, here or in another database
ALTER ROLE regress_seen_other IN DATABASE template1 SET session_replication_role = replica;
ALTER ROLE regress_seen_other SET work_mem = '1MB';
SELECT count(*) FROM queue.doctor() WHERE check_name = 'replica role' AND NOT ok;
ALTER ROLE regress_seen_other SET session_replication_role = replica;
SELECT detail FROM queue.doctor() WHERE check_name = 'replica role' AND NOT ok;

DROP FUNCTION regress_seen(jsonb), seen(), held(bigint);
DROP EXTENSION queue CASCADE;
DROP ROLE regress_seen_owner, regress_seen_reader, regress_seen_runs, regress_seen_other;
