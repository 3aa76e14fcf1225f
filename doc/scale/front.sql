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
\echo 'CREATE FUNCTION queue.shard_of_key(key text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT hashtext(key) $$;'
-- a shard that did not answer is left alone for some seconds
\echo 'CREATE UNLOGGED TABLE queue.shard_down (shard integer PRIMARY KEY, until timestamptz NOT NULL);'
\echo 'CREATE FUNCTION queue.shards() RETURNS integer LANGUAGE sql STABLE AS $$'
\echo '    SELECT count(*)::integer FROM pg_foreign_server s, unnest(s.srvoptions) o WHERE s.srvname = ''shards'' AND o ~ ''^p[0-9]+='' $$;'

-- views, first, because their rows are what functions return
SELECT format(E'CREATE FUNCTION queue.all_%1$s() RETURNS TABLE (%2$s) LANGUAGE plproxy AS '
              '$f$ CLUSTER ''shards''; RUN ON ALL; SELECT * FROM queue.%1$s; $f$;\nCREATE VIEW queue.%1$s AS SELECT * FROM queue.all_%1$s();',
              c.relname, string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind = 'v'
GROUP BY c.relname ORDER BY c.relname;

-- by the id of a job; to all shards, whose rows are put together or whose numbers are added up; to the shard of a key
SELECT CASE
    WHEN p.proname = ANY ('{complete,fail,snooze,release,heartbeat,progress,cancel,discard,retry,alter_job,result,wait_for,explain_job,save_step,steps,await_event,dependency_results}')
        THEN format('CREATE FUNCTION queue.%I(%s) RETURNS %s LANGUAGE plproxy AS $f$ CLUSTER ''shards''; RUN ON queue.shard_of(job_id); $f$;',
                    p.proname, args, result)
    WHEN p.proname = ANY ('{fetch,fetch_any,find_jobs,complete_many,release_many,heartbeat_many,doctor}')
        THEN format('CREATE FUNCTION queue.%I(%s) RETURNS %s LANGUAGE plproxy AS $f$ CLUSTER ''shards''; RUN ON ALL; $f$;', p.proname, args, result)
    WHEN p.proname = ANY ('{cancel_jobs,discard_jobs,retry_jobs,move_jobs,delete_jobs,purge,redrive}')
        THEN format(E'CREATE FUNCTION queue.each_%1$s(%2$s) RETURNS SETOF bigint LANGUAGE plproxy AS '
                    '$f$ CLUSTER ''shards''; RUN ON ALL; TARGET queue.%1$s; $f$;\n'
                    'CREATE FUNCTION queue.%1$s(%2$s) RETURNS bigint LANGUAGE sql AS $f$ SELECT sum(n)::bigint FROM queue.each_%1$s(%3$s) n $f$;',
                    p.proname, args, names)
    WHEN p.proname = ANY ('{create_queue,alter_queue,drop_queue,pause,resume,grant_queue,revoke_queue,register_sql_handler,register_http_handler,unregister_handler}')
        THEN format('CREATE FUNCTION queue.%I(%s) RETURNS SETOF %s LANGUAGE plproxy AS $f$ CLUSTER ''shards''; RUN ON ALL; $f$;', p.proname, args, result)
    WHEN p.proname = 'enqueue_unique'
        THEN format('CREATE FUNCTION queue.%I(%s) RETURNS %s LANGUAGE plproxy AS $f$ CLUSTER ''shards''; RUN ON queue.shard_of_key(unique_key); $f$;',
                    p.proname, args, result)
    -- a job with a key goes to its shard or fails; one without goes to any, and elsewhere if that does not answer
    WHEN p.proname = ANY ('{enqueue,enqueue_many}')
        THEN format(E'CREATE FUNCTION queue.%1$s_on(shard integer, %2$s) RETURNS %4$s LANGUAGE plproxy AS '
                    '$f$ CLUSTER ''shards''; RUN ON shard; SELECT * FROM queue.%1$s(%3$s) j; $f$;\n'
                    'CREATE FUNCTION queue.%1$s(%2$s) RETURNS %4$s LANGUAGE plpgsql AS $f$\n'
                    'DECLARE\n    key text := %5$s;\n    s integer;\nBEGIN\n'
                    '    IF key IS NOT NULL THEN\n        RETURN %6$squeue.%1$s_on(queue.shard_of_key(key), %3$s);\n%7$s    END IF;\n'
                    '    FOR s IN SELECT i FROM generate_series(0, queue.shards() - 1) i LEFT JOIN queue.shard_down d ON d.shard = i\n'
                    '             ORDER BY coalesce(d.until > clock_timestamp(), false), random() LOOP\n'
                    '        BEGIN\n            RETURN %6$squeue.%1$s_on(s, %3$s);\n%8$s'
                    '        EXCEPTION WHEN connection_exception OR sqlclient_unable_to_establish_sqlconnection OR admin_shutdown\n'
                    '            OR cannot_connect_now OR internal_error OR fdw_error THEN\n'
                    '            INSERT INTO queue.shard_down VALUES (s, clock_timestamp() + interval ''10 s'')\n'
                    '            ON CONFLICT (shard) DO UPDATE SET until = excluded.until;\n        END;\n    END LOOP;\n'
                    '    RAISE EXCEPTION ''no shard answers'' USING ERRCODE = ''connection_failure'';\nEND $f$;',
                    p.proname, args, names, result,
                    CASE p.proname WHEN 'enqueue' THEN 'coalesce(group_key, unique_key, concurrency_key)' ELSE 'NULL' END,
                    CASE WHEN p.proretset THEN 'QUERY SELECT ' ELSE '' END, CASE WHEN p.proretset THEN E'        RETURN;\n' ELSE '' END,
                    CASE WHEN p.proretset THEN E'            RETURN;\n' ELSE '' END)
    END
FROM (SELECT p.*, pg_get_function_arguments(p.oid) AS args, pg_get_function_result(p.oid) AS result,
             (SELECT string_agg(quote_ident(a), ', ' ORDER BY i) FROM unnest(p.proargnames) WITH ORDINALITY x (a, i)
              WHERE i <= p.pronargs) AS names
      FROM pg_proc p WHERE p.pronamespace = 'queue'::regnamespace AND p.prokind = 'f') p
WHERE p.proname = ANY ('{complete,fail,snooze,release,heartbeat,progress,cancel,discard,retry,alter_job,result,wait_for,explain_job,save_step,steps,await_event,dependency_results,
    fetch,fetch_any,find_jobs,complete_many,release_many,heartbeat_many,doctor,cancel_jobs,discard_jobs,retry_jobs,move_jobs,delete_jobs,purge,redrive,
    create_queue,alter_queue,drop_queue,pause,resume,grant_queue,revoke_queue,register_sql_handler,register_http_handler,unregister_handler,enqueue_unique,enqueue,enqueue_many}'::text[])
ORDER BY p.proname;
\echo 'COMMIT;'
