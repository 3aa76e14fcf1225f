-- What registering a handler warns of: a superuser's handler, and (warnings_1.out) a server without the library preloaded.
CREATE EXTENSION queue;
SET client_min_messages = notice;	-- whatever the caller has set
CREATE FUNCTION regress_h(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE ROLE regress_queue_super LOGIN SUPERUSER;
CREATE ROLE regress_queue_plain LOGIN;
SET ROLE regress_queue_super;
SELECT queue.pause('default');
SELECT queue.register_sql_handler('k', 'regress_h');
SELECT queue.grant_queue('*', 'regress_queue_plain', 'manage');
SELECT queue.register_sql_handler('k', 'regress_h', run_as => 'regress_queue_plain');
SELECT queue.create_queue('default', if_not_exists => true);
RESET ROLE;
DROP EXTENSION queue CASCADE;
DROP ROLE regress_queue_super, regress_queue_plain;
