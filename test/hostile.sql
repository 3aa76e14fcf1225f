-- What a stranger's cluster may bring along: run in template1 and postgres before the tests when QUEUE_HOSTILE=1, beside
-- wal_level = logical and a synchronous standby that never answers (test/lib.sh, test/t/QueueTest.pm).
CREATE PUBLICATION everything FOR ALL TABLES;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO PUBLIC;
ALTER ROLE ALL SET search_path = "$user", public, pg_catalog;
ALTER ROLE ALL SET DateStyle = 'SQL, DMY';
ALTER ROLE ALL SET IntervalStyle = 'sql_standard';
ALTER ROLE ALL SET TimeZone = 'Australia/Lord_Howe';
ALTER ROLE ALL SET extra_float_digits = -3;
ALTER ROLE ALL SET bytea_output = 'escape';
ALTER ROLE ALL SET default_transaction_deferrable = on;
ALTER ROLE ALL SET statement_timeout = '10min';
ALTER ROLE ALL SET lock_timeout = '5min';
ALTER ROLE ALL SET idle_in_transaction_session_timeout = '10min';
ALTER ROLE ALL SET check_function_bodies = off;
ALTER ROLE ALL SET transform_null_equals = on;
ALTER ROLE ALL SET plan_cache_mode = 'force_generic_plan';
ALTER ROLE ALL SET row_security = off;
