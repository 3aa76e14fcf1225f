-- Durable steps: stored once, fenced, and kept with their job.
CREATE EXTENSION queue;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('dead');
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}', keep_completed => '1 day', dead_letter => 'dead');
CREATE FUNCTION stored() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM queue.step';
CREATE FUNCTION letter() RETURNS jsonb LANGUAGE sql AS $$SELECT origin -> 'steps' FROM queue.job WHERE queue = 'dead'$$;
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE sql INTO result;
	RETURN coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || regexp_replace(SQLERRM, '\d\d+', 'N', 'g');
END $$;

-- the first write wins; nothing of a job that is not claimed
SELECT queue.enqueue('k', queue => 'q') AS id \gset
SELECT queue.steps(:id), queue.save_step(:id, 'a', '1') AS not_claimed;
SELECT attempt FROM queue.fetch('q', lease => '1 min');
SELECT queue.save_step(:id, 'a', '{"n": [1, "two"]}', 1), queue.save_step(:id, 'a', '2', 1), queue.save_step(:id, 'b', attempt => 1), queue.save_step(:id, 'c', NULL, 1), queue.save_step(:id, 'd', '"text"');
SELECT queue.steps(:id);
-- it extends the lease, and shortens none
SELECT leased_until > clock_timestamp() + interval '4 min' AS extended FROM queue.job WHERE id = :id;
SELECT queue.heartbeat(:id, '1 hour', 1) IS NOT NULL AS heartbeat, queue.save_step(:id, 'e', 'true', 1);
SELECT leased_until > clock_timestamp() + interval '50 min' AS as_it_was FROM queue.job WHERE id = :id;
-- undone with its transaction
BEGIN;
SELECT queue.save_step(:id, 'undone', '1', 1);
ROLLBACK;
SELECT queue.steps(:id) ? 'undone' AS undone;
-- kept through retries and a claim that ended; fenced by the attempt
SELECT queue.fail(:id, 1, 'no', '0');
SELECT queue.save_step(:id, 'late', '1', 1) AS not_ours;
SELECT attempt FROM queue.fetch('q', lease => '1 min');
SELECT queue.save_step(:id, 'late', '1', 1) AS stale, queue.save_step(:id, 'a', '2', 2), queue.steps(:id);
SET queue.debug_clock_offset = 120;
SELECT queue.save_step(:id, 'expired', '1', 2) AS still_ours;
SELECT state, leased_until > clock_timestamp() + interval '6 min' AS extended FROM queue.job WHERE id = :id;
RESET queue.debug_clock_offset;
SELECT queue.release(:id, 2), queue.steps(:id) -> 'a';
-- .. as long as the job is kept, and a retry has them again
SELECT attempt FROM queue.fetch('q');
SELECT queue.complete(:id, 3), queue.steps(:id), stored();
SELECT queue.retry(:id), queue.steps(:id), stored();
SELECT attempt, queue.save_step(id, 'a', '3', 4), queue.save_step(id, 'new', '3', 4) FROM queue.fetch('q');
SELECT queue.complete(:id, 4), queue.steps(:id);
SELECT queue.delete_jobs(jsonb_build_object('ids', :id)), queue.steps(:id), stored();
-- in the dead letter, and back
SELECT queue.enqueue('k', queue => 'q') AS id \gset
SELECT attempt, queue.save_step(id, 'a', '1', 1) FROM queue.fetch('q');
SELECT queue.fail(:id, 1, discard => true), queue.steps(:id), letter();
SELECT queue.redrive('dead'), queue.steps(:id), stored();
SELECT attempt, queue.save_step(id, 'a', '2', 2) FROM queue.fetch('q');
SELECT queue.cancel(:id), queue.steps(:id), stored();
-- a job that is not kept leaves nothing; nor does a purge, nor the end of a queue; a move keeps them
SELECT queue.enqueue('k') AS id \gset
SELECT attempt, queue.save_step(id, 'a', '1', 1) FROM queue.fetch('default');
SELECT queue.release(:id, 1), queue.move_jobs(jsonb_build_object('ids', :id), 'q'), queue.steps(:id);
SELECT queue.purge('q');
SELECT queue.steps(:id), stored();
SELECT queue.enqueue('k') AS id \gset
SELECT attempt, queue.save_step(id, 'a', '1', 1) FROM queue.fetch('default');
SELECT queue.complete(:id, 1), queue.steps(:id), stored();
SELECT queue.create_queue('gone');
SELECT queue.enqueue('k', queue => 'gone') AS id \gset
SELECT attempt, queue.save_step(id, 'a', '1', 1) FROM queue.fetch('gone');
SELECT queue.drop_queue('gone', true), stored();
-- a claim that ended takes a place in the queue's limits again, or is not yours any more
SELECT queue.create_queue('limited', max_running => 1);
SELECT queue.enqueue('one', queue => 'limited') AS one, queue.enqueue('two', queue => 'limited') AS two \gset
SELECT attempt FROM queue.fetch('limited', lease => '1 min', kinds => '{one}');
SET queue.debug_clock_offset = 120;
SELECT attempt FROM queue.fetch('limited', kinds => '{two}');
SELECT queue.save_step(:one, 'a', '1', 1) AS no_room, queue.steps(:one);
SELECT queue.complete(:two, 1), queue.save_step(:one, 'a', '1', 1) AS room, queue.complete(:one, 1);
RESET queue.debug_clock_offset;
-- a session's claim
SELECT queue.enqueue('k', queue => 'q') AS id \gset
SELECT attempt AS token FROM queue.fetch('q', claim => 'session') \gset
SELECT queue.save_step(:id, 'a', '1', :token), queue.steps(:id), queue.complete(:id, :token), queue.steps(:id);

-- in an SQL handler: with its effects
CREATE FUNCTION h(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	before jsonb = queue.steps(j.id);
BEGIN
	PERFORM queue.save_step(j.id, 'step ' || j.attempt, to_jsonb(j.attempt));
	IF j.attempt = 1 THEN
		PERFORM queue.snooze(j.id, '0');
	ELSIF j.attempt = 2 THEN
		RAISE 'no';
	END IF;
	RETURN jsonb_build_object('before', before, 'after', queue.steps(j.id), 'first', queue.save_step(j.id, 'step 1', '"not this"'));
END $$;
SET client_min_messages = error;
SELECT queue.register_sql_handler('h', 'h');
RESET client_min_messages;
BEGIN;	-- nobody else runs it
SELECT queue.enqueue('h', queue => 'q') AS id \gset
SELECT queue.test_run(:id), queue.steps(:id);
SELECT queue.test_run(:id, false), queue.steps(:id);
SELECT queue.retry(:id), queue.test_run(:id);
COMMIT;
SELECT queue.result(:id), queue.steps(:id), stored();

-- what is refused
SELECT queue.enqueue('k', queue => 'q') AS id \gset
SELECT attempt FROM queue.fetch('q');
SELECT try(format('SELECT queue.save_step(%s, NULL)', :id)), try(format('SELECT queue.save_step(%s, '''')', :id)), try(format('SELECT queue.save_step(%s, repeat(''x'', 201))', :id)),
       try('SELECT queue.save_step(NULL, ''a'')'), try('SELECT queue.save_step(1, ''a'')'), try('SELECT queue.steps(NULL)'), try('SELECT queue.steps(1)');
SET queue.max_job_size = '10kB';
SELECT queue.save_step(:id, 'a', to_jsonb(repeat('x', 6000)), 1) IS NOT NULL AS stored;
SELECT try(format('SELECT queue.save_step(%s, ''b'', to_jsonb(repeat(''x'', 6000)), 1)', :id));
SELECT queue.save_step(:id, 'a', to_jsonb(repeat('x', 6000)), 1) IS NOT NULL AS again;
RESET queue.max_job_size;

DROP FUNCTION try, stored, letter;
SET client_min_messages = error;
DROP EXTENSION queue CASCADE;
