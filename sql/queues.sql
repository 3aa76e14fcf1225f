-- Queues: create, alter, drop, and the values that they refuse.
CREATE EXTENSION queue;
SET client_min_messages = notice;	-- whatever the caller has set
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

-- default exists without a row; altering it writes one
SELECT name FROM queue.queue;
SELECT queue.enqueue('k') IS NOT NULL AS e;
SELECT queue.alter_queue('default', max_attempts => 4);
SELECT name, max_attempts, lease, backoff, keep_completed, keep_discarded, paused_at FROM queue.queue;
SELECT max_attempts FROM queue.job;
SELECT count(*) FROM queue.fetch('default');

-- all defaults, and all that is built
SELECT queue.create_queue('plain');
SELECT queue.create_queue('full', max_attempts => 1, lease => '30 s', backoff => '{"type": "exponential", "base": "2 s", "factor": 3, "cap": "1 hour", "jitter": 0.5}',
       keep_completed => '7 days', keep_discarded => '1000 years');
SELECT name, max_attempts, lease, backoff, keep_completed, keep_discarded, paused_at FROM queue.queue WHERE name <> 'default' ORDER BY name;
-- a NULL option is its default
SELECT queue.create_queue('nulls', max_attempts => null, lease => null, backoff => null, max_running => null, max_running_per_key => null, rate_limit => null,
       rate_period => null, reserved => null, dead_letter => null, keep_completed => null, keep_discarded => null, if_not_exists => null);
SELECT max_attempts, lease, backoff, keep_completed, keep_discarded FROM queue.queue WHERE name = 'nulls';

-- twice
SELECT try($$SELECT queue.create_queue('plain')$$);
SELECT try($$SELECT queue.create_queue('plain', if_not_exists => true)$$);
SELECT try($$SELECT queue.create_queue('default')$$);
SELECT try($$SELECT queue.create_queue('default', if_not_exists => true)$$);

-- names
SELECT try($$SELECT queue.create_queue(null)$$);
SELECT try($$SELECT queue.create_queue('')$$);
SELECT try($$SELECT queue.create_queue('*')$$);
SELECT try($$SELECT queue.create_queue(repeat('q', 200))$$);
SELECT try($$SELECT queue.create_queue(repeat('q', 201))$$);
SELECT try($$SELECT queue.create_queue('Ünï "code" ''q''')$$);

-- bad values
SELECT try($$SELECT queue.create_queue('bad', max_attempts => 0)$$);
SELECT try($$SELECT queue.create_queue('bad', max_attempts => -5)$$);
SELECT try($$SELECT queue.create_queue('bad', lease => '0')$$);
SELECT try($$SELECT queue.create_queue('bad', lease => '-1 s')$$);
SELECT try($$SELECT queue.create_queue('bad', lease => '300000 years')$$);
SELECT try($$SELECT queue.create_queue('bad', keep_completed => '-1 s')$$);
SELECT try($$SELECT queue.create_queue('bad', keep_discarded => '-1 day')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '1')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '[]')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => 'null')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"type": "sometimes"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"type": 5}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"base": "soon"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"base": "-1 s"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"base": "1100 years"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"cap": "later"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"base": 15}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"factor": "2"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"factor": 0}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"factor": -1}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"jitter": 2}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"jitter": -0.1}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"cap": "0"}')$$);
SELECT try($$SELECT queue.create_queue('bad', backoff => '{"colour": 1}')$$);

SELECT name FROM queue.queue WHERE name LIKE 'bad%';

-- limits out of their range
SELECT try($$SELECT queue.create_queue('bad', max_running => -1)$$);
SELECT try($$SELECT queue.create_queue('bad', max_running_per_key => -1)$$);
SELECT try($$SELECT queue.create_queue('bad', rate_limit => -1)$$);
SELECT try($$SELECT queue.create_queue('bad', reserved => '{"-10": 0}')$$);
SELECT r, try(format('SELECT queue.create_queue(''bad'', reserved => %L)', r))
FROM unnest('{"{\"\": 1}","{\"-10a\": 1}","{\"32768\": 1}","{\"-32769\": 1}","{\"-10\": \"2\"}","{\"-10\": 10001}","{\"-10\": 1.5}"}'::text[]) r;
SELECT try($$SELECT queue.create_queue('bad', reserved => (SELECT jsonb_object_agg(n, 1) FROM generate_series(1, 5) n))$$);
SELECT queue.create_queue('reserved', reserved => '{"32767": 10000, "-32768": 1}'), queue.drop_queue('reserved');
SELECT try($$SELECT queue.alter_queue('plain', max_running => -1)$$);
SELECT try($$SELECT queue.alter_queue('plain', rate_limit => -1, rate_period => '0')$$);
SELECT try($$SELECT queue.alter_queue('plain', reserved => '[1]')$$);

-- alter: null leaves as is; reset brings the default back
SELECT queue.alter_queue('full', max_attempts => 9, keep_completed => '0');
SELECT max_attempts, lease, backoff, keep_completed, keep_discarded FROM queue.queue WHERE name = 'full';
SELECT queue.alter_queue('full');
SELECT queue.alter_queue('full', lease => '1 min', reset => '{max_attempts,backoff,keep_discarded}');
SELECT max_attempts, lease, backoff, keep_completed, keep_discarded FROM queue.queue WHERE name = 'full';
SELECT queue.alter_queue('full', reset => '{}');
SELECT try($$SELECT queue.alter_queue('nowhere', max_attempts => 1)$$);
SELECT try($$SELECT queue.alter_queue(null)$$);
SELECT try($$SELECT queue.alter_queue('full', max_attempts => 0)$$);
SELECT try($$SELECT queue.alter_queue('full', lease => '0')$$);
SELECT try($$SELECT queue.alter_queue('full', backoff => '{"type": "x"}')$$);
SELECT try($$SELECT queue.alter_queue('full', keep_completed => '-1 s')$$);
SELECT try($$SELECT queue.alter_queue('full', reset => '{colour}')$$);
SELECT try($$SELECT queue.alter_queue('full', reset => '{NULL}')$$);
SELECT try($$SELECT queue.alter_queue('full', reset => '{name}')$$);
SELECT try($$SELECT queue.alter_queue('full', max_attempts => 3, reset => '{max_attempts}')$$);
SELECT try($$SELECT queue.alter_queue('full', reset => '{max_running,max_running_per_key,rate_limit_per_key}')$$);

-- it takes hold for jobs that are there
SELECT queue.enqueue('k', '1', 'full') AS a \gset
SELECT max_attempts FROM queue.job WHERE id = :a;
SELECT queue.alter_queue('full', max_attempts => 2, keep_completed => '1 hour', lease => '3 min');
SELECT max_attempts FROM queue.job WHERE id = :a;
SELECT leased_until - started_at AS lease FROM queue.fetch('full');
SELECT queue.complete(:a, 1);
SELECT state FROM queue.job WHERE id = :a;
-- in a transaction that rolls back
BEGIN;
SELECT queue.alter_queue('full', lease => '4 min');
SELECT queue.create_queue('rolled back');
SELECT queue.enqueue('k', '2', 'full') AS b, queue.enqueue('k', '3', 'rolled back') IS NOT NULL AS c;
SELECT leased_until - started_at AS lease FROM queue.fetch('full');
ROLLBACK;
SELECT queue.enqueue('k', '2', 'full') AS b \gset
SELECT leased_until - started_at AS lease FROM queue.fetch('full');
SELECT try($$SELECT queue.enqueue('k', '3', 'rolled back')$$);

-- drop: not while jobs are there, unless forced
SELECT queue.drop_queue('plain');
SELECT try($$SELECT queue.drop_queue('plain')$$);
SELECT try($$SELECT queue.drop_queue('full')$$);
SELECT try($$SELECT queue.drop_queue('nowhere')$$);
SELECT try($$SELECT queue.drop_queue(null)$$);
SELECT try($$SELECT queue.drop_queue('default')$$);
SELECT try($$SELECT queue.drop_queue('default', force => true)$$);

SELECT queue.complete(:b, 1);
SELECT try($$SELECT queue.drop_queue('full')$$);
SELECT try($$SELECT queue.drop_queue('full', force => true)$$);

SELECT count(*) FROM queue.job WHERE queue = 'full';
SELECT try($$SELECT queue.enqueue('k', '1', 'full')$$);
SELECT try($$SELECT queue.fetch('full')$$);

SELECT queue.retry(:b);
SELECT state FROM queue.job WHERE id = :b;
-- and again, empty, under the same name
SELECT queue.create_queue('full', backoff => '{}');
SELECT count(*) FROM queue.fetch('full', 10);
SELECT queue.enqueue('k', '"new"', 'full') IS NOT NULL AS e;
SELECT payload, attempt FROM queue.fetch('full', 10);
BEGIN;
SELECT queue.drop_queue('full', force => true);
ROLLBACK;
SELECT payload, state FROM queue.job WHERE queue = 'full';

-- grants: idempotent, of roles that exist
CREATE ROLE regress_queue_g;
SELECT try($$SELECT queue.grant_queue('full', 'regress_queue_g')$$);
SELECT try($$SELECT queue.grant_queue('full', 'regress_queue_g', 'enqueue')$$);
SELECT try($$SELECT queue.grant_queue('full', 'regress_queue_g', 'work')$$);
SELECT try($$SELECT queue.grant_queue('*', 'regress_queue_g', 'read')$$);
SELECT try($$SELECT queue.grant_queue('full', 'regress_queue_nobody')$$);
SELECT try($$SELECT queue.grant_queue('nowhere', 'regress_queue_g')$$);
SELECT try($$SELECT queue.grant_queue('full', 'regress_queue_g', 'everything')$$);
SELECT try($$SELECT queue.grant_queue('full', 'regress_queue_g', '')$$);
SELECT try($$SELECT queue.grant_queue(null, 'regress_queue_g')$$);
SELECT try($$SELECT queue.grant_queue('full', null)$$);
SELECT try($$SELECT queue.grant_queue('default', 'regress_queue_g')$$);
SELECT try($$SELECT queue.grant_queue('full', 'public')$$);

SELECT queue, role, privilege FROM queue.privilege WHERE role = 'regress_queue_g'::regrole ORDER BY 1, 3;
SELECT try($$SELECT queue.revoke_queue('full', 'regress_queue_g', 'work')$$);
SELECT try($$SELECT queue.revoke_queue('full', 'regress_queue_g', 'work')$$);
SELECT try($$SELECT queue.revoke_queue('full', 'regress_queue_nobody')$$);
SELECT try($$SELECT queue.revoke_queue('nowhere', 'regress_queue_g')$$);
SELECT try($$SELECT queue.revoke_queue('full', 'regress_queue_g', 'everything')$$);

SELECT queue, privilege FROM queue.privilege WHERE role = 'regress_queue_g'::regrole ORDER BY 1, 2;
SELECT queue.revoke_queue('full', 'regress_queue_g'), queue.revoke_queue('default', 'regress_queue_g'), queue.revoke_queue('*', 'regress_queue_g');
SELECT count(*) FROM queue.privilege WHERE role = 'regress_queue_g'::regrole;
-- a dropped queue takes its grants along: nobody may work in its successor
SELECT queue.create_queue('again'), queue.grant_queue('again', 'regress_queue_g', 'manage'), queue.drop_queue('again'), queue.create_queue('again');
SELECT queue, privilege FROM queue.privilege WHERE role = 'regress_queue_g'::regrole;
-- and leaves nothing behind that would keep the role from being dropped, but what its other grants need
SELECT queue.create_queue('one'), queue.grant_queue('one', 'regress_queue_g', 'manage'), queue.grant_queue('again', 'regress_queue_g', 'enqueue'), queue.drop_queue('one');
SELECT string_agg(p.proname, ', ' ORDER BY p.proname) AS left_to_it FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'queue'::regnamespace AND a.grantee = 'regress_queue_g'::regrole;
SELECT queue.drop_queue('again');
DROP ROLE regress_queue_g;
-- a role that is dropped with all that it owns, and a new one of that name
CREATE ROLE regress_queue_g;
SELECT queue.grant_queue('default', 'regress_queue_g', 'manage');
DROP OWNED BY regress_queue_g;
DROP ROLE regress_queue_g;
CREATE ROLE regress_queue_g;
ALTER ROLE regress_queue_g RENAME TO regress_queue_h;
SELECT queue.grant_queue('default', 'regress_queue_h', 'read');
ALTER ROLE regress_queue_h RENAME TO regress_queue_g;
SELECT * FROM queue.privilege;
SELECT queue.revoke_queue('default', 'regress_queue_g');

DROP FUNCTION try(text);
DROP EXTENSION queue;
DROP ROLE regress_queue_g;
