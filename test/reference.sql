-- Prints doc/reference.md from the catalog.  Run by test/docs.sh.
\set ON_ERROR_STOP 1
SELECT $$# Reference

This page is made from the catalog's comments by `test/docs.sh --write`; `\df+ queue.*` in psql shows the same. Parameters
have names, so any of them can be given by name: `queue.enqueue('mail', '{}', delay => '10 min')`.

## Functions
$$;
SELECT format(E'### %s\n\n```\n%s\n```\n\n%s\n', p.proname,
              'queue.' || p.proname || '('
              || CASE WHEN length(pg_get_function_arguments(p.oid)) > 90
                      THEN E'\n    ' || regexp_replace(a.text, ', (?=(\w+|INOUT) )', E',\n    ', 'g')
                      ELSE a.text END || ')'
              || coalesce(' -> ' || replace(pg_get_function_result(p.oid), 'timestamp with time zone', 'timestamptz'), ''),
              d.description)
FROM pg_proc p
JOIN pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass,
LATERAL (SELECT regexp_replace(replace(pg_get_function_arguments(p.oid), 'timestamp with time zone', 'timestamptz'),
                               '::(text|jsonb|interval|timestamptz|name|bigint|integer|boolean|jsonpath)(\[\])?', '', 'g') AS text) a
WHERE p.pronamespace = 'queue'::regnamespace
ORDER BY p.proname COLLATE "C";
SELECT E'## Views\n';
SELECT format(E'### queue.%s\n\n%s\n\n| column | type | |\n|---|---|---|\n%s\n', c.relname, obj_description(c.oid, 'pg_class'),
              (SELECT string_agg(format('| `%s` | %s | %s |', t.attname,
                                        replace(format_type(t.atttypid, t.atttypmod), 'timestamp with time zone', 'timestamptz'),
                                        replace(coalesce(col_description(c.oid, t.attnum), ''), '|', '\|')), E'\n' ORDER BY t.attnum)
               FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped))
FROM pg_class c
WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind = 'v'
ORDER BY c.relname COLLATE "C";
SELECT E'## Settings\n\n| setting | default | who | |\n|---|---|---|---|';
SELECT queue_internal.library_version() \g /dev/null
SELECT format('| `%s` | `%s` | %s | %s |', name, coalesce(nullif(current_setting(name), ''), ' '),
              CASE context WHEN 'postmaster' THEN 'restart' WHEN 'sighup' THEN 'reload' WHEN 'superuser' THEN 'superuser'
                           ELSE 'anybody' END,
              short_desc || coalesce(' ' || extra_desc, ''))
FROM pg_settings
WHERE name LIKE 'queue.%' AND name NOT LIKE 'queue.debug%'
ORDER BY name;
