-- fair: concurrency keys take turns; ageing: who waits becomes more urgent
CREATE EXTENSION queue;
SET client_min_messages = warning;
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
\pset format unaligned
\pset tuples_only on
-- n jobs of a tenant (NULL: without a key), numbered from the first
CREATE FUNCTION add(tenant text, n int, kind text = 'f_k', queue text = 'f_q', priority int = 0, first int = 1) RETURNS void
LANGUAGE sql AS $$
    SELECT count(queue.enqueue(kind, to_jsonb(coalesce(tenant, '-') || i), queue, priority, concurrency_key => tenant))
    FROM generate_series(first, first + n - 1) i $$;
-- so many jobs, fetched one by one or at once, in their order; each is completed
CREATE FUNCTION take(n int, batch int = 1, queues text[] = '{f_q}', kinds text[] = NULL, claim text = 'lease') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    got text[] = '{}';
    j queue.job;
BEGIN
    FOR i IN 1..n / batch LOOP
        FOR j IN SELECT * FROM queue.fetch_any(queues, batch, kinds => kinds, claim => claim) LOOP
            got = got || (j.payload #>> '{}');
            PERFORM queue.complete(j.id, j.attempt);
        END LOOP;
    END LOOP;
    RETURN array_to_string(got, ' ');
END $$;

-- what may be asked for
SELECT try($$SELECT queue.create_queue('f_w', fair => 0)$$), try($$SELECT queue.create_queue('f_w', fair => 1048576)$$);
SELECT try($$SELECT queue.create_queue('f_w', ageing => '0')$$), try($$SELECT queue.create_queue('f_w', ageing => '-1 s')$$);
SELECT queue.create_queue('f_q', fair => 3, ageing => '1 min');
SELECT fair, ageing FROM queue.queue WHERE name = 'f_q';
SELECT queue.alter_queue('f_q', fair => 2, reset => '{ageing}');
SELECT fair, ageing FROM queue.queue WHERE name = 'f_q';

-- turns of two; one who comes later need not wait for the rest of another's turn
SELECT add('a', 10);
SELECT take(3);
SELECT add('b', 3), add(NULL, 3);
SELECT take(20);
-- the same in one call
SELECT add('a', 6), add('b', 3), add(NULL, 3);
SELECT take(12, 12);
-- who was idle saved nothing up
SELECT add('a', 6);
SELECT take(6);
SELECT add('b', 6), add('a', 6);
SELECT take(12);
-- within a priority, and over kinds
SELECT add('a', 4), add('a', 4, 'f_l', first => 5), add('b', 4, 'f_l'), add('a', 2, priority => -1, first => 9);
SELECT take(14);
-- with kinds
SELECT add('a', 6), add('b', 2), add('a', 4, 'f_l', first => 11), add('b', 2, 'f_l', first => 11);
SELECT take(12, kinds => '{f_k}');
SELECT take(12, kinds => '{f_l}');
-- claims of a session; a snapshot of the transaction
SELECT add('a', 6), add('b', 2);
SELECT take(4, claim => 'session');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT take(4, 4);
COMMIT;
-- another quantum, none, and turns again, while jobs wait: those that were enqueued without turns are a key of their own
SELECT add('a', 6), add('b', 6);
SELECT queue.alter_queue('f_q', fair => 4);
SELECT take(6, 6);
SELECT queue.alter_queue('f_q', reset => '{fair}');
SELECT add('a', 2, first => 7), add('b', 2, first => 7);
SELECT take(10, 10);
SELECT add('a', 4), add('b', 2);
SELECT queue.alter_queue('f_q', fair => 1);
SELECT add('a', 2, first => 5), add('b', 2, first => 5);
SELECT take(10);
-- many keys, looked at directly
SELECT count(*) FROM generate_series(10, 29) t, add('t' || t, 3, 'f_m');
SELECT take(4, kinds => '{f_m}');
SELECT take(20, 20, kinds => '{f_m}');
SELECT array_length(string_to_array(take(36, 12, kinds => '{f_m}'), ' '), 1);
BEGIN;
SELECT count(*) FROM generate_series(10, 29) t, add('u' || t, 1, 'f_m');
SELECT take(20, 20, kinds => '{f_m}');
SELECT take(1, kinds => '{f_m}');
COMMIT;
-- beside a queue without turns the oldest job of the queue tells
SELECT queue.create_queue('f_p');
SELECT add('a', 2), add('p', 2, queue => 'f_p'), add('a', 2, first => 3), add('b', 2);
SELECT take(8, 1, '{f_q,f_p}');
-- beside a limit of each key
SELECT queue.alter_queue('f_q', max_running_per_key => 1);
SELECT add('a', 3), add('b', 2);
SELECT string_agg(payload #>> '{}', ' ' ORDER BY id) FROM queue.fetch('f_q', 5);
SELECT count(queue.cancel(id)) FROM queue.job WHERE queue = 'f_q' AND finished_at IS NULL;
SELECT queue.alter_queue('f_q', reset => '{max_running_per_key}');

-- ageing: a step of priority for each minute
SELECT queue.alter_queue('f_q', ageing => '1 min', reset => '{fair}');
CREATE FUNCTION waits(name text, priority int, since interval, queue text = 'f_q', tenant text = NULL) RETURNS bigint LANGUAGE sql AS $$
    SELECT queue.enqueue('f_k', to_jsonb(name), queue, priority, run_at => clock_timestamp() - since, concurrency_key => tenant) $$;
SELECT count(waits(name, priority, since)) FROM (VALUES
    ('now0', 0, '0 s'::interval), ('10s0', 0, '10 s'), ('90s1', 1, '90 s'), ('50s1', 1, '50 s'), ('10m5', 5, '10 min 1 s'),
    ('4m5', 5, '4 min 1 s'), ('now-2', -2, '0 s'), ('now-6', -6, '0 s')) v (name, priority, since);
SELECT take(8);
-- one that does not age beside it
SELECT count(*) FROM (SELECT waits('90s1', 1, '90 s'), waits('3m0', 0, '3 min', 'f_p'), waits('3m1', 1, '3 min', 'f_p'), waits('3m2', 2, '3 min 1 s')) w;
SELECT take(4, 4, '{f_q,f_p}');
-- with turns: the oldest job of a priority tells how urgent it is
SELECT queue.alter_queue('f_q', fair => 1);
SELECT count(*) FROM (SELECT waits('a1', 5, '6 min', tenant => 'a'), waits('a2', 5, '6 min', tenant => 'a'),
                             waits('b1', 5, '0', tenant => 'b'), waits('c1', 0, '0', tenant => 'c')) w;
SELECT take(4);
-- test_drain
CREATE FUNCTION f_run(j queue.job) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SET client_min_messages = error;
SELECT queue.pause_handler('f_k') FROM queue.register_sql_handler('f_k', 'f_run', '{f_q}');
SELECT add('a', 3), add('b', 2);
BEGIN;
SELECT queue.resume_handler('f_k');
SELECT string_agg(d.job_id - m.id || ' ' || d.state, ', ') FROM queue.test_drain('f_q') d, (SELECT min(id) AS id FROM queue.job WHERE queue = 'f_q') m;
COMMIT;
SELECT queue.drop_queue(q, force => true) FROM unnest('{f_q,f_p}'::text[]) q;
DROP EXTENSION queue CASCADE;
DROP FUNCTION try, add, take, waits;
RESET client_min_messages;
