-- In a publication FOR ALL TABLES every table of ours can still be written.
CREATE EXTENSION queue;
SET client_min_messages = error;	-- wal_level may be replica
CREATE PUBLICATION regress_queue_all FOR ALL TABLES;
RESET client_min_messages;
SELECT queue.create_queue('q', keep_completed => '1 hour');
SELECT queue.enqueue('k', '1', 'q', expires_at => now() + interval '1 hour') AS a, queue.enqueue('k', '2', 'q', run_at => now() - interval '1 hour') AS b \gset
SELECT queue.cancel(:a);
SELECT queue.retry(:a);
SELECT queue.complete(id, attempt) FROM queue.fetch('q');
SELECT queue.retry(:b);
SELECT queue.fail(id, attempt, 'no') FROM queue.fetch('q');
SELECT queue.discard(:a);
SELECT queue.retry(:a);
SELECT queue.alter_job(:a, priority => 3);
SELECT queue.alter_queue('q', max_attempts => 3), queue.pause('q'), queue.resume('q');
SELECT queue.drop_queue('q', force => true);
-- what retention and a manual clean-up do
DELETE FROM queue.finished_job;
DELETE FROM queue.failure;
DELETE FROM queue.deadline;
UPDATE queue.line SET retired_at = now();
DELETE FROM queue.line;
DROP PUBLICATION regress_queue_all;
DROP EXTENSION queue;
