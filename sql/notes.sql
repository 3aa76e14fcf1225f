-- What a transaction owes to others when it ends, through savepoints; and what is left of it in the statistics.
SET client_min_messages = warning;
CREATE EXTENSION queue;
SELECT queue.create_queue('n', lease => '1 hour');
-- a line that was read to its end: from now on only what is told is found
SELECT queue.enqueue('k', '"first"', 'n') AS id \gset
SELECT payload FROM queue.fetch('n');
SELECT queue.complete(:id, 1), (SELECT count(*) FROM queue.fetch('n')) AS none;

-- ---- one that is due before what the line waits for
SELECT queue.enqueue('k', '"later"', 'n', delay => '1 hour') IS NOT NULL AS e;
SELECT count(*) FROM queue.fetch('n');
SELECT queue.enqueue('k', '"now"', 'n') IS NOT NULL AS e;
SELECT payload FROM queue.fetch('n', 5);

-- ---- enqueued: released, then another savepoint rolled back
BEGIN;
SAVEPOINT a;
SELECT queue.enqueue('k', '1', 'n') IS NOT NULL AS e;
RELEASE a;
SAVEPOINT c;
ROLLBACK TO c;
COMMIT;
SELECT payload FROM queue.fetch('n');
-- the other one had something of its own
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT queue.enqueue('k', '2', 'n') IS NOT NULL AS e;
RELEASE b;
RELEASE a;
SAVEPOINT c;
SELECT queue.enqueue('k', '3', 'n') IS NOT NULL AS e;
ROLLBACK TO c;
SELECT queue.enqueue('k', '4', 'n') IS NOT NULL AS e;
COMMIT;
SELECT payload FROM queue.fetch('n', 5);
-- all rolled back; then all of it again
BEGIN;
SAVEPOINT a;
SELECT queue.enqueue('k', '5', 'n') IS NOT NULL AS e;
RELEASE a;
ROLLBACK;
SELECT payload FROM queue.fetch('n', 5);
SELECT queue.drop_queue('n', force => true), queue.create_queue('n', lease => '1 hour');

-- ---- more than are told one by one: from the lowest of all on, in the transaction itself and after it
SELECT count(*) FROM queue.enqueue_many('k', '{6,6}', 'n');
SELECT count(queue.complete(id, attempt)) FROM queue.fetch('n', 5);
SELECT count(*) FROM queue.fetch('n', 5);
BEGIN;
SELECT count(queue.enqueue('k', '7', 'n', run_at => clock_timestamp() - i * interval '1 s')) FROM generate_series(1, 100) i;
COMMIT;
SELECT count(*), count(queue.complete(id, attempt)) FROM queue.fetch('n', 200);
BEGIN;
SELECT count(queue.enqueue('k', '8', 'n', run_at => clock_timestamp() - i * interval '1 s')) FROM generate_series(1, 100) i;
SELECT count(*), count(queue.complete(id, attempt)) FROM queue.fetch('n', 200);
COMMIT;
SELECT queue.drop_queue('n', force => true), queue.create_queue('n', lease => '1 hour');

-- ---- claimed: released and then rolled back further out, or kept
SELECT i AS id FROM queue.enqueue_many('k', '{11,12,13}', 'n') i ORDER BY 1 LIMIT 1 \gset
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT payload FROM queue.fetch('n');
RELEASE b;
ROLLBACK TO a;
SELECT payload FROM queue.fetch('n', 2);
SAVEPOINT c;
SELECT payload FROM queue.fetch('n');
RELEASE c;
ROLLBACK;
SELECT payload FROM queue.fetch('n', 2);
-- given back in a savepoint that is rolled back: still claimed; released: free
BEGIN;
SAVEPOINT a;
SELECT queue.release(:id, 1);
ROLLBACK TO a;
SAVEPOINT b;
SELECT queue.release(:id + 1, 1);
RELEASE b;
COMMIT;
SELECT payload FROM queue.fetch('n', 5);
-- moved to another line and back again
SELECT queue.release(:id, 1);
BEGIN;
SAVEPOINT a;
SELECT queue.alter_job(:id, priority => 5);
SELECT payload, priority FROM queue.fetch('n', 5);
ROLLBACK TO a;
COMMIT;
SELECT payload, priority FROM queue.fetch('n', 5);
SELECT queue.drop_queue('n', force => true), queue.create_queue('n', lease => '1 hour');

-- ---- the oldest that waits, of a queue where nothing does: given back and cancelled, rolled back and purged,
-- claimed by a session or a lease
CREATE VIEW oldest AS SELECT oldest_run_at IS NULL AS none FROM queue.stat_queue WHERE queue = 'n';
SELECT i AS id FROM queue.enqueue_many('k', '{21,22,23,24}', 'n') i ORDER BY 1 LIMIT 1 \gset
SELECT count(*) FROM queue.fetch('n', 4);
SELECT * FROM oldest;
SELECT queue.release(:id, 1);
SELECT queue.cancel(:id);
SELECT * FROM oldest;
SELECT queue.release(:id + 1, 1);
BEGIN;
SELECT payload FROM queue.fetch('n');
ROLLBACK;
SELECT queue.purge('n');
SELECT * FROM oldest;
SELECT queue.release(:id + 2, 1);
SELECT payload FROM queue.fetch('n', claim => 'session');
SELECT * FROM oldest;
SELECT queue.release(:id + 2);
SELECT payload FROM queue.fetch('n', lease => '1 hour');
SELECT * FROM oldest;
DROP VIEW oldest;
DROP EXTENSION queue CASCADE;
