-- Lines: what makes two jobs share one, and that nobody can be made to share one.
CREATE EXTENSION queue;
CREATE ROLE regress_queue_attacker;
CREATE ROLE regress_queue_victim;
SELECT queue.create_queue('mine'), queue.create_queue('victim');
SELECT queue.grant_queue('mine', 'regress_queue_attacker', 'enqueue'), queue.grant_queue('mine', 'regress_queue_attacker', 'work'),
       queue.grant_queue('victim', 'regress_queue_victim', 'enqueue'), queue.grant_queue('victim', 'regress_queue_victim', 'work');

-- this kind was computed so that the hash of it and its queue is that of (victim, pay): a line must not be known by one
SET ROLE regress_queue_attacker;
SELECT count(queue.enqueue('attack-H8=Rqs]y^1]I', '"attack"', 'mine'));
SET ROLE regress_queue_victim;
SELECT count(queue.enqueue('pay', '"secret"', 'victim'));
SET ROLE regress_queue_attacker;
SELECT kind, payload FROM queue.fetch('mine', 10);
SET ROLE regress_queue_victim;
SELECT kind, payload FROM queue.fetch('victim', 10);
RESET ROLE;
SELECT count(DISTINCT id), max(id) <= (SELECT last_value FROM queue.line_id) AS from_the_sequence FROM queue.line;
-- kinds whose names have the same 64-bit hash are told apart too
SELECT count(queue.enqueue('attack-12345R3DOXnO;[Dyb', '"attack"', 'victim')), count(queue.enqueue('pay', '"again"', 'victim'));
SELECT kind, payload FROM queue.fetch('victim', 10, kinds => '{pay}');
SELECT kind, payload FROM queue.fetch('victim', 10, kinds => '{"attack-12345R3DOXnO;[Dyb"}');

-- one line a name, whatever the savepoints do
BEGIN;
SAVEPOINT s;
SELECT count(queue.enqueue('new', '1', 'mine'));
ROLLBACK TO s;
SELECT count(queue.enqueue('new', '2', 'mine'));
SAVEPOINT s;
SELECT count(queue.enqueue('new', '3', 'mine'));
ROLLBACK TO s;
SELECT count(queue.enqueue('new', '4', 'mine')), count(queue.enqueue('new', '5', 'mine', priority => -1));
COMMIT;
SELECT kind, priority, count(*) FROM queue.line WHERE kind = 'new' GROUP BY kind, priority ORDER BY 1, 2;
SELECT payload FROM queue.fetch('mine', 10);
BEGIN;
SELECT count(queue.enqueue('newer', '1', 'mine'));
ROLLBACK;
SELECT count(queue.enqueue('newer', '2', 'mine'));
SELECT payload FROM queue.fetch('mine', 10);

-- several rows of one name are one line in parts: all are read, in one order, and the lowest takes what comes
INSERT INTO queue.line (id, queue, kind, priority) SELECT nextval('queue.line_id'), 'mine', 'parts', 0 FROM generate_series(1, 3);
SELECT count(queue.enqueue('parts', to_jsonb(n), 'mine', run_at => now() - n * interval '1 s')) FROM generate_series(1, 6) n;
UPDATE queue.live_job j SET line = l.id + (payload::int % 3)
FROM queue.line l WHERE l.kind = 'parts' AND l.id = j.line;
SELECT count(queue.enqueue('parts', '0', 'mine'));
SELECT payload, line - (SELECT min(id) FROM queue.line WHERE kind = 'parts') AS part
FROM queue.live_job WHERE line IN (SELECT id FROM queue.line WHERE kind = 'parts') ORDER BY payload;
SELECT payload FROM queue.fetch('mine', 4);
SELECT payload FROM queue.fetch('mine', 4);
-- who enqueues into many lines reads names ahead: the lowest line that is not retired takes what comes
INSERT INTO queue.line (id, queue, kind, priority, retired_at)
SELECT nextval('queue.line_id'), 'mine', 'many' || k, 0, CASE WHEN part = 1 AND k % 3 = 0 THEN now() END
FROM (SELECT k, part FROM generate_series(101, 140) k, generate_series(1, 3) part ORDER BY k, part) parts;
SELECT count(queue.enqueue('many' || k, to_jsonb(k), 'mine')) FROM generate_series(101, 140) k;
SELECT part, part = 2 AND substr(kind, 5)::int % 3 = 0 AS behind_a_retired_one, count(*)
FROM (SELECT id, kind, row_number() OVER (PARTITION BY kind ORDER BY id) AS part FROM queue.line WHERE kind ~ '^many') l
JOIN queue.live_job j ON j.line = l.id GROUP BY 1, 2 ORDER BY 1, 2;
SELECT queue.purge('mine'), queue.drop_queue('mine', force => true), queue.drop_queue('victim', force => true);
-- sequences do not follow logical replication: doctor() tells, adopt() sets them
SELECT count(queue.enqueue('one'));
UPDATE queue.line SET id = id + 1000;
UPDATE queue.live_job SET line = line + 1000, id = id + 500;
INSERT INTO queue.event VALUES (1000, clock_timestamp(), 'default', 'e', '{}');
INSERT INTO queue.subscription VALUES (1000, 't', 'k', 'default');
INSERT INTO queue.workflow_end VALUES (1, 1, 1000, 0, 'completed');
SELECT ok, detail, hint FROM queue.doctor() WHERE check_name = 'sequences';
SELECT queue.adopt();
SELECT ok, detail, hint FROM queue.doctor() WHERE check_name = 'sequences';
SELECT count(queue.enqueue('two'));
SELECT kind, id - (SELECT min(id) FROM queue.job) AS id FROM queue.job ORDER BY id;
SELECT queue.emit('f'), queue.subscribe('u', 'k');
DROP EXTENSION queue;
DROP ROLE regress_queue_attacker, regress_queue_victim;
