-- Topics: which subscriptions a message reaches, and what it makes.
CREATE EXTENSION queue;
CREATE ROLE regress_queue_topics;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('mail'), queue.create_queue('audit');
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE sql INTO result;
	RETURN coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
-- the kinds that a message reaches, in the order of the subscriptions
CREATE FUNCTION reached(topic text, payload jsonb = '{}') RETURNS text LANGUAGE sql AS $$
	WITH p AS MATERIALIZED (SELECT * FROM queue.publish(topic, payload) WITH ORDINALITY p (id, n))
	SELECT string_agg(p.id::text, ',' ORDER BY n) FROM p
$$;
CREATE FUNCTION kinds(ids text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(j.kind, ' ' ORDER BY n) FROM unnest(string_to_array(ids, ',')::bigint[]) WITH ORDINALITY i (id, n) JOIN queue.job j USING (id)
$$;
CREATE FUNCTION reaches(topic text, payload jsonb = '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN kinds(reached(topic, payload));
END $$;

-- nobody listens
SELECT queue.publish('orders.created');

-- words, * and #
SELECT queue.subscribe('orders.created', 'exact') AS exact, queue.subscribe('orders.*', 'one') AS one, queue.subscribe('orders.#', 'any') AS anything,
       queue.subscribe('#', 'all') AS everything, queue.subscribe('*.created', 'last') AS last, queue.subscribe('#.created', 'ends') AS ends,
       queue.subscribe('orders.#.created', 'between') AS between, queue.subscribe('*', 'word') AS word, queue.subscribe('#.#', 'twice') AS twice,
       queue.subscribe('orders.*.#', 'longer') AS longer, queue.subscribe('*.*.*', 'three') AS three \gset
SELECT t, reaches(t) FROM unnest(ARRAY['orders.created', 'orders', 'orders.eu.created', 'orders.eu.de.created', 'created', 'orders.eu', 'ordersx.created', 'Orders.created', 'a.b.c.d', 'orders.created.x']) t;
-- many # in one pattern cost no more than it has words
SELECT queue.subscribe(repeat('#.a.', 40) || '#', 'hashes') > 0 AS subscribed;
SELECT reaches(repeat('a.', 90) || 'a'), reaches(repeat('a.', 38) || 'a');

-- what a job has
SELECT id FROM queue.publish('orders.created', '{"n": 1}', '{"traceparent": "00-1-2-01"}') id LIMIT 1 \gset
SELECT kind, queue, state, payload, priority, headers, origin - 'subscription' AS origin, (origin ->> 'subscription')::bigint = :exact AS of_it FROM queue.job WHERE id = :id;

-- subscribing again changes nothing; another filter is another one
SELECT queue.subscribe('orders.created', 'exact') = :exact AS same, queue.subscribe('orders.created', 'exact', 'mail') <> :exact AS another_queue;
SELECT queue.subscribe('orders.created', 'exact', filter => '$.a > 1') AS f1, queue.subscribe('orders.created', 'exact', filter => '$.a>1') AS f2, queue.subscribe('orders.created', 'exact', filter => '$.a > 2') AS f3 \gset
SELECT :f1 = :f2 AS same, :f1 <> :f3 AS another;
SELECT queue.unsubscribe(:f1), queue.unsubscribe(:f1), queue.unsubscribe(:f3);
DELETE FROM queue.subscription;

-- filters, silently
SELECT queue.subscribe('f', 'predicate', filter => '$.total > 100') > 0 AS s, queue.subscribe('f', 'path', filter => '$ ? (@.total > 100)') > 0 AS s,
       queue.subscribe('f', 'missing', filter => '$.total > $limit') > 0 AS s, queue.subscribe('f', 'strict', filter => 'strict $.none') > 0 AS s,
       queue.subscribe('f', 'time', filter => '$.at.datetime() < "2000-01-01".datetime()') > 0 AS s, queue.subscribe('f', 'flag', filter => '$.flag') > 0 AS s,
       queue.subscribe('f', 'zero', filter => '1 / $.total > 0') > 0 AS s, queue.subscribe('f', 'items', filter => '$.items[*].sku ? (@ == "x")') > 0 AS s,
       queue.subscribe('f', 'none') > 0 AS s;
SELECT p, reaches('f', p::jsonb) FROM unnest(ARRAY['{"total": 101}', '{"total": 100}', '{"total": 0}', '{"total": "text"}', '{}', '[]', '"text"', 'null', '{"flag": true}', '{"flag": false}', '{"flag": null}', '{"flag": "yes"}',
	'{"at": "1999-01-01T00:00:00+00:00"}', '{"at": "no time"}', '{"items": [{"sku": "a"}, {"sku": "x"}]}']) p;
-- the transaction goes on after one that failed
BEGIN;
SELECT reaches('f', '{"total": 200}');
SELECT count(*) FROM queue.job WHERE payload = '{"total": 200}';
ROLLBACK;
SELECT count(*) FROM queue.job WHERE payload = '{"total": 200}';
DELETE FROM queue.subscription;

-- what is refused
SELECT t, try(format('SELECT queue.publish(%L)', t)), try(format('SELECT queue.subscribe(%L, ''k'') > 0', t))
FROM unnest(ARRAY['', '.', 'a.', '.a', 'a..b', 'a.*', '#', 'a*', 'a.b#', repeat('x', 201), NULL]) t;
SELECT try($$SELECT queue.publish('a', NULL)$$), try($$SELECT queue.publish('a', '{}', '[]')$$), try($$SELECT queue.subscribe('a', NULL)$$), try($$SELECT queue.subscribe('a', '*')$$),
       try($$SELECT queue.subscribe('a', 'k', NULL)$$), try($$SELECT queue.subscribe('a', 'k', 'none')$$), try($$SELECT queue.unsubscribe(NULL)$$), try($$SELECT queue.unsubscribe(4711)$$);
DELETE FROM queue.subscription;

-- in the caller's transaction: what it subscribed itself counts, what it rolled back does not
BEGIN;
SELECT queue.subscribe('t', 'mine') > 0 AS subscribed;
SELECT reaches('t');
SAVEPOINT s;
SELECT queue.subscribe('t', 'undone') > 0 AS subscribed;
SELECT reaches('t');
ROLLBACK TO s;
SELECT reaches('t');
COMMIT;
SELECT reaches('t');

-- a handler that is paused or gone: the job waits for it
CREATE FUNCTION topics_h(j jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SET client_min_messages = error;
SELECT queue.register_sql_handler('mine', 'topics_h');
RESET client_min_messages;
SELECT queue.pause_handler('mine');
SELECT reaches('t');
SELECT queue.unregister_handler('mine');
SELECT reaches('t');
-- a dropped queue gets nothing, until there is one of its name again
SELECT queue.subscribe('t', 'gone', 'audit') > 0 AS subscribed;
SELECT reaches('t');
SELECT queue.drop_queue('audit', true);
SELECT reaches('t');
SELECT ok, detail, regexp_replace(hint, '\d+', 'N') AS hint FROM queue.doctor() WHERE check_name = 'subscriptions';
CREATE ROLE regress_topics;
SELECT queue.grant_queue('default', 'regress_topics', 'read');
SET ROLE regress_topics;
SELECT ok, detail FROM queue.doctor() WHERE check_name = 'subscriptions';
RESET ROLE;
DROP OWNED BY regress_topics;
DROP ROLE regress_topics;
SELECT queue.create_queue('audit');
SELECT reaches('t');
SELECT ok, detail FROM queue.doctor() WHERE check_name = 'subscriptions';
-- a paused queue gets its jobs
SELECT queue.pause('audit');
SELECT reaches('t');
SELECT queue.resume('audit');

-- who may publish: with the right in each queue that a message reaches, else to none
SELECT queue.grant_queue('default', 'regress_queue_topics');
SELECT queue.subscribe('own', 'own') > 0 AS subscribed, queue.subscribe('own', 'big', 'audit', '$.big') > 0 AS subscribed;
SELECT count(*) AS before FROM queue.job \gset
SET ROLE regress_queue_topics;
SELECT count(*) FROM queue.publish('own');
SELECT count(*) FROM queue.publish('own', '{"big": true}');
SELECT queue.subscribe('x', 'y');
SELECT queue.unsubscribe(1);
RESET ROLE;
SELECT count(*) - :before AS made FROM queue.job;

-- 1,000 subscriptions of which 3 match
DELETE FROM queue.subscription;
SELECT count(queue.subscribe(format('a%s.*.b%s.#', n, n), 'k' || n)) FROM generate_series(1, 997) n;
SELECT count(queue.subscribe(t, 'm')) FROM unnest(ARRAY['x.y', 'x.*', '#.y']) t;
SELECT reaches('x.y'), reaches('a7.b.b7'), reaches('a7.b.b7.c.d'), reaches('a7.b.b8');

-- many that match
SELECT count(queue.subscribe('all', 'n' || n)) FROM generate_series(1, 100) n;
SELECT count(*) FROM queue.publish('all');
SELECT count(DISTINCT kind) FROM queue.job WHERE kind ~ '^n\d';

DROP FUNCTION topics_h, try, reaches, kinds, reached;
DROP OWNED BY regress_queue_topics;
DROP ROLE regress_queue_topics;
SET client_min_messages = error;
DROP EXTENSION queue CASCADE;
