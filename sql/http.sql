-- register_http_handler, add_endpoint, remove_endpoint: what they take and what they refuse.  Nothing is sent here.
\set VERBOSITY terse
SET client_min_messages = error;	-- without preload, registering warns
DROP EXTENSION IF EXISTS queue CASCADE;
CREATE EXTENSION queue;
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text; h text;
BEGIN
	EXECUTE sql;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
	RETURN format('%s: %s%s', SQLSTATE, m, CASE WHEN h = '' THEN ' (no hint)' END);
END $$;
SELECT queue.create_queue('regress_http');
SELECT queue.pause('regress_http');

-- what is in the tables
SELECT count(*) FROM queue.installation;
SELECT queue.register_http_handler('regress_k', 'https://example.com/hook?token=t', queues => '{regress_http}', secret => 's');
SELECT count(*) FROM queue.installation;
SELECT kind, type, method, timeout, connect_timeout, max_running, secrets, complete_on, discard_on, health_timeout, run_as = current_user AS mine
FROM queue.handler;
SELECT h.kind, e.url, e.weight, e.max_running, e.health_url, e.breaker FROM queue.endpoint e JOIN queue.handler h ON h.id = e.handler;
SELECT kind, type, target, state FROM queue.stat_handler;
SELECT kind, url, weight FROM queue.stat_endpoint;

-- registering again replaces, with all endpoints
SELECT queue.add_endpoint('regress_k', 'https://b.example.com/', 5, 10, 'https://b.example.com/health', '{"cap": "10 s"}');
SELECT queue.add_endpoint('regress_k', 'https://b.example.com/', 2);
SELECT url, weight, max_running, health_url, breaker FROM queue.endpoint ORDER BY url;
SELECT target FROM queue.stat_handler;
SELECT queue.register_http_handler('regress_k', 'http://c.example.com/', queues => '{regress_http}', method => 'put', complete_on => '{200,204}', timeout => '5 s');
SELECT url FROM queue.endpoint;
SELECT method, secrets, complete_on, timeout FROM queue.handler;
SELECT queue.add_endpoint('regress_k', 'http://d.example.com/');
SELECT queue.remove_endpoint('regress_k', 'http://c.example.com/');
SELECT try($$SELECT queue.remove_endpoint('regress_k', 'http://d.example.com/')$$);
SELECT try($$SELECT queue.remove_endpoint('regress_k', 'http://e.example.com/')$$);
SELECT url FROM queue.endpoint;

-- an SQL handler in its place, and back; unregister takes the endpoints along
CREATE FUNCTION regress_f(jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE ROLE regress_http_role LOGIN;
SELECT queue.grant_queue('regress_http', 'regress_http_role', 'work');
SELECT queue.register_sql_handler('regress_k', 'regress_f', queues => '{regress_http}', run_as => 'regress_http_role');
SELECT type, method, secrets, timeout, ca_file FROM queue.handler;
SELECT count(*) FROM queue.endpoint;
SELECT queue.register_http_handler('regress_k', 'http://c.example.com/', queues => '{regress_http}');
SELECT type, function_name FROM queue.handler;
SELECT queue.unregister_handler('regress_k');
SELECT count(*) FROM queue.handler;
SELECT count(*) FROM queue.endpoint;
SELECT try($$SELECT queue.add_endpoint('regress_k', 'http://c.example.com/')$$);
SELECT try($$SELECT queue.remove_endpoint('regress_k', 'http://c.example.com/')$$);

-- test_run and test_drain are for SQL handlers
SELECT queue.register_http_handler('regress_k', 'http://c.example.com/', queues => '{regress_http}');
SELECT queue.enqueue('regress_k', queue => 'regress_http') AS job \gset
SELECT replace(try(format('SELECT queue.test_run(%s)', :job)), :'job', '<id>');
SELECT count(*) FROM queue.test_drain('regress_http');
SELECT queue.unregister_handler('regress_k');
SELECT queue.purge('regress_http');

-- refused
SELECT arguments, try(format('SELECT queue.register_http_handler(''regress_k'', %s, queues => ''{regress_http}'')', arguments))
FROM (VALUES
	($$NULL$$), ($$''$$), ($$'example.com'$$), ($$'ftp://example.com/'$$), ($$'file:///etc/passwd'$$), ($$'gopher://x/'$$),
	($$'http://'$$), ($$'http://user:secret@example.com/'$$), ($$'http://example.com/a b'$$), ($$E'http://example.com/\r\nX: y'$$),
	($$'http://example.com/' || repeat('x', 2000)$$), ($$'http://[::1/'$$),
	($$'http://x/', method => 'TRACE'$$), ($$'http://x/', method => E'GET / HTTP/1.1\r\n'$$),
	($$'http://x/', headers => '[]'$$), ($$'http://x/', headers => '{"a b": "c"}'$$), ($$'http://x/', headers => '{"": "c"}'$$),
	($$'http://x/', headers => '{"a": "b\r\nc"}'$$), ($$'http://x/', headers => '{"a": "b\u007fc"}'$$), ($$'http://x/', headers => '{"Proxy-X": "1"}'$$), ($$'http://x/', headers => '{"a": {}}'$$),
	($$'http://x/', headers => '{"Idempotency-Key": "1"}'$$), ($$'http://x/', headers => '{"queue-job-id": "1"}'$$),
	($$'http://x/', headers => '{"Content-Length": "1"}'$$), ($$'http://x/', headers => '{"webhook-id": "1"}'$$),
	($$'http://x/', timeout => '0'$$), ($$'http://x/', timeout => '2 days'$$), ($$'http://x/', timeout => '-1 s'$$),
	($$'http://x/', connect_timeout => '0'$$), ($$'http://x/', health_timeout => '0'$$),
	($$'http://x/', max_attempts => 0$$), ($$'http://x/', max_running => 0$$), ($$'http://x/', max_running => 100001$$), ($$E'http://x/\x7f'$$), ($$'http://x/', backoff => '{"type": "x"}'$$),
	($$'http://x/', rate_limit => -1$$), ($$'http://x/', secret => ''$$), ($$'http://x/', secret => 'whsec_'$$), ($$'http://x/', secret => 'whsec_*'$$),
	($$'http://x/', complete_on => '{2xx}'$$), ($$'http://x/', complete_on => '{99}'$$), ($$'http://x/', complete_on => '{299-200}'$$), ($$'http://x/', complete_on => '{200-20}'$$), ($$'http://x/', complete_on => '{200-2xx}'$$), ($$'http://x/', complete_on => '{200-2999}'$$),
	($$'http://x/', complete_on => '{2000}'$$), ($$'http://x/', complete_on => '{099}'$$), ($$'http://x/', complete_on => '{500-600}'$$),
	($$'http://x/', discard_on => '{NULL}'$$), ($$'http://x/', health_url => 'ftp://x/'$$), ($$'http://x/', ca_file => 'relative'$$),
	($$'http://x/', breaker => '[]'$$), ($$'http://x/', breaker => '{"x": 1}'$$), ($$'http://x/', breaker => '{"failure_rate": 2}'$$),
	($$'http://x/', breaker => '{"pause": 1}'$$), ($$'http://x/', breaker => '{"pause": "0 s"}'$$), ($$'http://x/', breaker => '{"pause": "400 days"}'$$), ($$'http://x/', breaker => '{"min_requests": "x"}'$$)
) AS t (arguments);
SELECT try($$SELECT queue.register_http_handler('regress_k', 'http://x/', queues => '{}')$$);
SELECT try($$SELECT queue.register_http_handler('regress_k', 'http://x/', queues => '{nowhere}')$$);
SELECT try($$SELECT queue.register_http_handler('regress_k', 'http://x/', queues => '{NULL}')$$);
SELECT try($$SELECT queue.register_http_handler(NULL, 'http://x/')$$);
SELECT try($$SELECT queue.register_http_handler('', 'http://x/')$$);
SELECT queue.register_http_handler('regress_k', 'http://x/', queues => '{regress_http}');
SELECT try($$SELECT queue.add_endpoint('regress_k', 'http://y/', -1)$$);
SELECT try($$SELECT queue.add_endpoint('regress_k', 'http://y/', max_running => 0)$$);
SELECT try($$SELECT queue.add_endpoint('regress_k', 'ftp://y/')$$);
SELECT try($$SELECT queue.add_endpoint('regress_k', 'http://y/', health_url => 'ftp://y/')$$);
SELECT try($$SELECT queue.add_endpoint('regress_k', NULL)$$);
SELECT try($$SELECT queue.add_endpoint('regress_k', 'http://y/', breaker => '{"y": 1}')$$);
SELECT count(*) FROM queue.endpoint;

-- altered: what is given changes, what reset names goes back, the endpoint stays (url: another endpoint)
SELECT queue.create_queue('regress_http2');
CREATE TEMP TABLE before AS SELECT e.id AS endpoint, h.id AS handler FROM queue.endpoint e, queue.handler h;
SELECT queue.alter_http_handler('regress_k', method => 'patch', headers => '{"A": "1"}', timeout => '3 s', connect_timeout => '2 s', max_attempts => 7, backoff => '{"type": "fixed"}', max_running => 5,
	complete_on => '{201}', discard_on => '{404}', health_url => 'http://x/health', health_timeout => '2 min', ca_file => '/ca.pem', breaker => '{"probes": 1}', secrets => '{new,old}', queues => '{regress_http2,regress_http}', body => 'payload');
SELECT h.id = b.handler AND e.id = b.endpoint AS same, queues, method, headers, timeout, connect_timeout, h.max_attempts, h.backoff, h.max_running, complete_on, discard_on, health_url, health_timeout, ca_file, h.breaker, secrets
FROM queue.handler h JOIN queue.endpoint e ON e.handler = h.id, before b;
SELECT queue.alter_http_handler('regress_k', 'regress_http2', reset => '{method,headers,timeout,connect_timeout,max_attempts,backoff,max_running,complete_on,discard_on,health_url,health_timeout,ca_file,breaker,secrets,queues}');
SELECT h.id = b.handler AND e.id = b.endpoint AS same, queues, method, headers, timeout, connect_timeout, h.max_attempts, h.backoff, h.max_running, complete_on, discard_on, health_url, health_timeout, ca_file, h.breaker, secrets
FROM queue.handler h JOIN queue.endpoint e ON e.handler = h.id, before b;
SELECT queue.alter_http_handler('regress_k', url => 'http://other/', queues => '{regress_http}');
SELECT h.id = b.handler AND e.id <> b.endpoint AS other, queues, url FROM queue.handler h JOIN queue.endpoint e ON e.handler = h.id, before b;
SELECT queue.register_http_handler('regress_k', 'http://y/', queues => '{regress_http2}');
SELECT a AS arguments, try(format('SELECT queue.alter_http_handler(''regress_k'', %s)', a)) FROM (VALUES
	($$timeout => '1 s'$$), ($$'regress_http', queues => '{regress_http,regress_http2}'$$), ($$'regress_http', queues => '{nowhere}'$$), ($$'nowhere', timeout => '1 s'$$), ($$'*', timeout => '1 s'$$),
	($$'regress_http', timeout => '0'$$), ($$'regress_http', rate_limit => -1$$), ($$'regress_http', secrets => '{}'$$), ($$'regress_http', secrets => '{a,""}'$$), ($$'regress_http', secrets => '{NULL}'$$),
	($$'regress_http', reset => '{secret}'$$), ($$'regress_http', reset => '{url}'$$), ($$'regress_http', reset => '{timeout}', timeout => '1 s'$$), ($$'regress_http', reset => '{NULL}'$$), ($$'regress_http', body => 'job'$$), ($$'regress_http', body => 'x'$$)) t (a);
SELECT try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', complete_on => array_fill('200'::text, ARRAY[501]))$$);
SELECT try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', headers => jsonb_build_object('A', repeat('a', 70000)))$$);
SELECT replace(try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', headers => jsonb_build_object(repeat('h', 201), 1))$$), repeat('h', 201), '<201 h>'),
	try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', headers => jsonb_build_object(repeat('h', 200), E'a tab\t', 'X-9', 9))$$);
SELECT try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', secrets => array_fill('s'::text, '{10}'))$$),
	try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', secrets => array_fill('s'::text, '{11}'))$$);
SELECT queue.alter_http_handler('regress_k', 'regress_http', health_url => 'http://x/health'), queue.alter_http_handler('regress_k', 'regress_http', reset => '{health_url}');
SELECT count(health_url) FROM queue.endpoint;
SELECT queue.add_endpoint('regress_k', 'http://z/', queue => 'regress_http');
SELECT try($$SELECT queue.alter_http_handler('regress_k', 'regress_http', url => 'http://w/')$$);
SELECT try($$SELECT queue.remove_endpoint('regress_k', 'http://z/')$$), try($$SELECT queue.remove_endpoint('regress_k', 'http://z/', 'regress_http')$$);
SELECT url, queues FROM queue.stat_endpoint ORDER BY url;
SELECT queue.unregister_handler('regress_k', 'regress_http2'), queue.drop_queue('regress_http2');
SELECT try($$SELECT queue.alter_http_handler('regress_none', timeout => '1 s')$$);

-- an SQL handler has no endpoints
CREATE FUNCTION regress_s(jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT queue.register_sql_handler('regress_s', 'regress_s');
SELECT try($$SELECT queue.add_endpoint('regress_s', 'http://x/')$$), try($$SELECT queue.remove_endpoint('regress_s', 'http://x/')$$), try($$SELECT queue.alter_http_handler('regress_s', timeout => '1 s')$$);
SELECT queue.unregister_handler('regress_s');
DROP FUNCTION regress_s(jsonb);
-- the endpoint of a url that is registered again is the same one, with its breaker
SELECT queue.register_http_handler('regress_s', 'http://s/');
SELECT id AS endpoint FROM queue.endpoint WHERE url = 'http://s/' \gset
SELECT queue.register_http_handler('regress_s', 'http://s/');
SELECT id = :endpoint AS same FROM queue.endpoint WHERE url = 'http://s/';
SELECT queue.unregister_handler('regress_s');
-- in a copy adopt() has endpoints used, too
UPDATE queue.endpoint SET system_identifier = 1;
SELECT detail FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'regress_k';
SELECT queue.adopt();
SELECT detail FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'regress_k';
UPDATE queue.endpoint SET database_oid = 1;
SELECT queue.adopt();
SELECT count(*) FROM queue.endpoint WHERE system_identifier = 1 OR database_oid = 1;

-- who may: manage on each queue; on '*' for all queues, kind '*' and ca_file; only one's own
SET ROLE regress_http_role;
SELECT queue.register_http_handler('regress_l', 'http://x/', queues => '{regress_http}');
RESET ROLE;
SELECT queue.grant_queue('regress_http', 'regress_http_role', 'manage');
SET ROLE regress_http_role;
SELECT queue.register_http_handler('regress_l', 'http://x/?q', queues => '{regress_http}');
SELECT queue.add_endpoint('regress_l', 'http://y/');
SELECT queue.register_http_handler('regress_l', 'http://x/', queues => '{default}');
SELECT queue.register_http_handler('regress_l', 'http://x/');
SELECT queue.register_http_handler('*', 'http://x/', queues => '{regress_http}');
SELECT queue.register_http_handler('regress_l', 'http://x/', queues => '{regress_http}', ca_file => '/etc/ssl/cert.pem');
SELECT queue.register_http_handler('regress_k', 'http://x/', queues => '{regress_http}');
SELECT queue.add_endpoint('regress_k', 'http://y/');
SELECT queue.remove_endpoint('regress_k', 'http://x/');
SELECT queue.alter_http_handler('regress_k', timeout => '1 s');
SELECT kind, url FROM queue.stat_endpoint ORDER BY kind, url;
SELECT url FROM queue.endpoint;
SELECT secrets FROM queue.handler;
SELECT id FROM queue.installation;
RESET ROLE;

-- a role that lost manage serves nothing
SELECT queue.enqueue('regress_l', queue => 'regress_http') > 0 AS enqueued;
SELECT count(*) FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'regress_l' AND ok;
SELECT queue.revoke_queue('regress_http', 'regress_http_role', 'manage');
SELECT detail FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'regress_l' AND NOT ok;
-- nor a handler without an endpoint that can be read and has a weight, or without what makes idempotency keys
BEGIN;
SELECT queue.grant_queue('regress_http', 'regress_http_role', 'manage');
CREATE VIEW regress_ailing AS SELECT check_name, detail, hint FROM queue.doctor() WHERE check_name IN ('handler', 'endpoint') AND detail ~ 'regress_l' AND NOT ok;
UPDATE queue.endpoint SET breaker = CASE WHEN url ~ '//x/' THEN '{"cap": "x"}'::jsonb END, weight = CASE WHEN url ~ '//x/' THEN 1 ELSE 0 END;
SELECT * FROM regress_ailing;
UPDATE queue.endpoint SET breaker = NULL, weight = 0;
SELECT * FROM regress_ailing;
UPDATE queue.endpoint SET weight = 1;
SELECT * FROM regress_ailing;
DELETE FROM queue.installation;
SELECT * FROM regress_ailing;
ROLLBACK;
-- nor one that is gone
BEGIN;
DROP OWNED BY regress_http_role;
DROP ROLE regress_http_role;
SELECT detail, hint FROM queue.doctor() WHERE check_name = 'handler' AND detail ~ 'regress_l' AND NOT ok;
SELECT state FROM queue.stat_handler WHERE kind = 'regress_l';
ROLLBACK;

-- a handler that takes the place of two leaves no endpoint of the second behind
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_http_handler('both', 'http://x/', queues => '{regress_http}'), queue.register_http_handler('both', 'http://y/', queues => '{default}');
SELECT queue.register_http_handler('both', 'http://z/', queues => '{regress_http,default}');
SELECT count(*) FROM queue.endpoint WHERE handler NOT IN (SELECT id FROM queue.handler);
ROLLBACK;

-- what follows a # is for the owner only, too
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.register_http_handler('fragment', 'http://x/#secret', queues => '{regress_http}');
SELECT url FROM queue.stat_endpoint WHERE kind = 'fragment';
ROLLBACK;

DROP EXTENSION queue CASCADE;
DROP FUNCTION try(text), regress_f(jsonb);
DROP ROLE regress_http_role;
