-- Writes the SQL of a front database, whose functions and views have queue's names and work on N shards through PL/Proxy:
--
--   psql -X -A -t -q -d shard0 -f front.sql | psql -X -v ON_ERROR_STOP=1 -d front
--
-- It reads the signatures of a shard, so the front is made anew in the same way when queue is updated.  The front has extension
-- plproxy and a server "shards" with options p0, p1 ..; shard n counts its jobs from n * 2^40, so that an id names its shard.
\echo 'BEGIN;'
\echo 'DROP SCHEMA IF EXISTS queue CASCADE;'
\echo 'CREATE SCHEMA queue;'
\echo 'GRANT USAGE ON SCHEMA queue TO PUBLIC;'
\echo 'CREATE FUNCTION queue.shard_of(job_id bigint) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT (job_id >> 40)::integer $$;'
\echo 'CREATE FUNCTION queue.shards() RETURNS integer LANGUAGE sql STABLE AS $$'
\echo '    SELECT count(*)::integer FROM pg_foreign_server s, unnest(s.srvoptions) o WHERE s.srvname = ''shards'' AND o ~ ''^p[0-9]+='' $$;'
\echo 'CREATE FUNCTION queue.shard_of_key(key text) RETURNS integer LANGUAGE sql STABLE AS $$ SELECT hashtext(key) & (queue.shards() - 1) $$;'
-- A shard that did not answer is left alone for some seconds, by all.
\echo 'CREATE UNLOGGED TABLE queue.shard_down (shard integer PRIMARY KEY, until timestamptz NOT NULL);'
\echo 'GRANT SELECT ON queue.shard_down TO PUBLIC;'
\echo 'CREATE FUNCTION queue.is_down(s integer) RETURNS boolean LANGUAGE sql AS $$'
\echo '    SELECT EXISTS (SELECT FROM queue.shard_down d WHERE d.shard = s AND d.until > clock_timestamp()) $$;'
\echo 'CREATE FUNCTION queue.leave_alone(s integer, why text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$'
\echo 'BEGIN'
\echo '    RAISE WARNING ''shard % does not answer: %'', s, why;'
\echo '    IF NOT current_setting(''transaction_read_only'')::boolean THEN'
\echo '        INSERT INTO queue.shard_down VALUES (s, clock_timestamp() + interval ''10 s'')'
\echo '        ON CONFLICT (shard) DO UPDATE SET until = excluded.until;'
\echo '    END IF;'
\echo 'END $$;'

-- How functions are made: %1 the name, %2 the parameters with types, %3 their names, %4 the result, %5 what else.
SELECT $$CREATE FUNCTION queue.%1$I(%2$s) RETURNS %4$s LANGUAGE plproxy AS $f$ CLUSTER 'shards'; RUN ON %5$s; $f$;$$ AS on_one,
-- all at once; while one is down the others, one by one
$$CREATE FUNCTION queue.%1$s_everywhere(%2$s) RETURNS %4$s LANGUAGE plproxy AS $f$
    CLUSTER 'shards'; RUN ON ALL; SELECT * FROM %5$s j; $f$;
CREATE FUNCTION queue.%1$s_on(shard integer, %2$s) RETURNS %4$s LANGUAGE plproxy AS $f$
    CLUSTER 'shards'; RUN ON shard; SELECT * FROM %5$s j; $f$;
CREATE FUNCTION queue.%1$s(%2$s) RETURNS %4$s LANGUAGE plpgsql AS $f$
#variable_conflict use_column
DECLARE
    s integer;
    answered boolean := false;
BEGIN
    IF NOT EXISTS (SELECT FROM generate_series(0, queue.shards() - 1) i WHERE queue.is_down(i)) THEN
        BEGIN
            RETURN QUERY SELECT * FROM queue.%1$s_everywhere(%3$s);
            RETURN;
        EXCEPTION WHEN /* no answer */ THEN
            NULL;
        END;
    END IF;
    FOR s IN 0 .. queue.shards() - 1 LOOP
        CONTINUE WHEN queue.is_down(s);
        BEGIN
            RETURN QUERY SELECT * FROM queue.%1$s_on(s, %3$s);
            answered := true;
        EXCEPTION WHEN /* no answer */ THEN
            PERFORM queue.leave_alone(s, SQLERRM);
        END;
    END LOOP;
    IF NOT answered THEN
        RAISE EXCEPTION 'no shard answers' USING ERRCODE = 'connection_failure';
    END IF;
END $f$;$$ AS reads_all,
-- a job with a key goes to its shard, or elsewhere if that is chosen; one without goes to any, and elsewhere if that does not answer
$$CREATE FUNCTION queue.%1$s_on(shard integer, %2$s) RETURNS %4$s LANGUAGE plproxy AS $f$
    CLUSTER 'shards'; RUN ON shard; SELECT * FROM queue.%1$s(%3$s) j; $f$;
CREATE FUNCTION queue.%1$s(%2$s) RETURNS %4$s LANGUAGE plpgsql AS $f$
DECLARE
    own integer := queue.shard_of_key(%5$s);
    s integer;
BEGIN
    IF own IS NOT NULL AND current_setting('front.keys_go_elsewhere', true) IS DISTINCT FROM 'on' THEN
        RETURN /* set? */queue.%1$s_on(own, %3$s);/* end? */
    END IF;
    FOR s IN SELECT i FROM generate_series(0, queue.shards() - 1) i ORDER BY queue.is_down(i), i IS DISTINCT FROM own, random() LOOP
        BEGIN
            RETURN /* set? */queue.%1$s_on(s, %3$s);/* end? */
        EXCEPTION WHEN /* no answer */ THEN
            PERFORM queue.leave_alone(s, SQLERRM);
        END;
    END LOOP;
    RAISE EXCEPTION 'no shard answers' USING ERRCODE = 'connection_failure';
END $f$;$$ AS enqueues,
-- numbers, added up
$$CREATE FUNCTION queue.each_%1$s(%2$s) RETURNS SETOF bigint LANGUAGE plproxy AS $f$
    CLUSTER 'shards'; RUN ON ALL; TARGET queue.%1$s; $f$;
CREATE FUNCTION queue.%1$s(%2$s) RETURNS bigint LANGUAGE sql AS $f$ SELECT sum(n)::bigint FROM queue.each_%1$s(%3$s) n $f$;$$ AS adds_up,
$$connection_exception OR sqlclient_unable_to_establish_sqlconnection OR admin_shutdown OR crash_shutdown OR cannot_connect_now
            OR internal_error OR fdw_error$$ AS no_answer \gset

-- views, first, because their rows are what functions return
SELECT replace(replace(format(:'reads_all', 'all_' || c.relname, '', '', format('TABLE (%s)', string_agg(format('%I %s', a.attname,
                       format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)), 'queue.' || c.relname),
               ', )', ')'), '/* no answer */', :'no_answer')
       || format(E'\nCREATE VIEW queue.%1$s AS SELECT * FROM queue.all_%1$s();\nGRANT SELECT ON queue.%1$s TO PUBLIC;', c.relname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind = 'v'
GROUP BY c.relname ORDER BY c.relname;

WITH way (template, functions) AS (VALUES
    (:'on_one', '{complete,fail,snooze,release,heartbeat,progress,cancel,discard,retry,alter_job,result,wait_for,explain_job,save_step,
        steps,await_event,dependency_results,enqueue_unique}'::text[]),
    (:'reads_all', '{fetch,fetch_any,find_jobs,complete_many,release_many,heartbeat_many,doctor}'),
    (:'adds_up', '{cancel_jobs,discard_jobs,retry_jobs,move_jobs,delete_jobs,purge,redrive}'),
    -- a row for each, or none
    (replace(:'on_one', 'RETURNS %4$s', 'RETURNS SETOF %4$s'), '{create_queue,alter_queue,drop_queue,pause,resume,grant_queue,revoke_queue,
        register_sql_handler,register_http_handler,unregister_handler}'),
    (:'enqueues', '{enqueue,enqueue_many,enqueue_json}')
)
SELECT replace(replace(replace(replace(format(way.template, p.proname, pg_get_function_arguments(p.oid), n.names, pg_get_function_result(p.oid),
           CASE WHEN p.proname = 'enqueue_unique' THEN 'queue.shard_of_key(unique_key)'
                WHEN p.proname = 'enqueue' THEN 'coalesce(group_key, unique_key, concurrency_key)'
                WHEN p.proname = 'enqueue_json' THEN
                    $$coalesce(job::jsonb ->> 'group_key', job::jsonb ->> 'unique_key', job::jsonb ->> 'concurrency_key')$$
                WHEN p.proname = 'enqueue_many' THEN 'NULL'
                WHEN way.template = :'reads_all' THEN format('queue.%s(%s)', p.proname, n.names)
                WHEN way.template = :'on_one' THEN 'queue.shard_of(job_id)'
                ELSE 'ALL' END),
           ', )', ')'), '/* no answer */', :'no_answer'), '/* set? */', CASE WHEN p.proretset THEN 'QUERY SELECT ' ELSE '' END),
       '/* end? */', CASE WHEN p.proretset THEN ' RETURN;' ELSE '' END)
FROM way, unnest(way.functions) f (name), pg_proc p,
     LATERAL (SELECT coalesce(string_agg(quote_ident(a), ', ' ORDER BY i), '') AS names
              FROM unnest(p.proargnames) WITH ORDINALITY x (a, i) WHERE i <= p.pronargs) n
WHERE p.pronamespace = 'queue'::regnamespace AND p.prokind = 'f' AND p.proname = f.name
ORDER BY p.proname;
\echo 'COMMIT;'
