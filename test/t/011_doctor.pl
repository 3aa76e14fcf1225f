# doctor() names each cause of "nothing runs".
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

$ENV{MALLOC_PERTURB_} = 165;	# what was freed is not as it was
my $node = queue_node('doctor');
my $not_ok = "SELECT string_agg(concat_ws(' | ', check_name, detail, hint), E'\\n') FROM queue.doctor() WHERE NOT ok";

sub healthy
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll($node, 'SELECT bool_and(ok) FROM queue.doctor()');
	return one($node, $not_ok, '', $name);
}

sql($node, <<'EOS');
CREATE ROLE app LOGIN;
CREATE ROLE owner LOGIN;
SELECT queue.grant_queue('default', 'app', 'work');
SELECT queue.register_sql_handler('job', 'h');
CREATE FUNCTION h2(j queue.job) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.seen (job_id, note) VALUES (j.id, j.payload->>'note') $$;
SELECT queue.register_sql_handler('app', 'h2', ARRAY['default'], run_as => 'app');
SELECT queue.enqueue('job'), queue.enqueue('app');
EOS
wait_no_jobs($node, 'all is well');
healthy('and doctor() has no complaint');
one($node, "SELECT count(*) > 5, bool_and(check_name <> '' AND detail <> '') FROM queue.doctor()", 't|t', 'it tells what it checked');

# --- a configuration that is read anew at each look at it, as where others change it all the time
sql($node, <<'EOS');
SELECT queue.create_queue('c' || g, dead_letter => 'default'), queue.pause('c' || g),
	queue.register_sql_handler('c' || g, 'h', ARRAY['c' || g]), queue.register_sql_handler('c', 'h', ARRAY['c' || g]),
	queue.register_http_handler('w' || g, 'http://127.0.0.1:1/' || g, ARRAY['c' || g]),
	queue.enqueue('c', queue => 'c' || g)
	FROM generate_series(1, 30) g;
EOS
my $anew = 'SET queue.debug_reread = on; SELECT';
one($node, "$anew string_agg(concat_ws(' ', check_name, n), ', ' ORDER BY check_name) FROM (SELECT check_name,"
	. " count(*) AS n FROM queue.doctor() WHERE detail ~ '\"[cw]\\d*\"' GROUP BY 1) c", 'handler 90, queue paused 30',
	'what doctor() has read it goes through to the end, however often it is read anew');
one($node, "$anew count(*), count(*) FILTER (WHERE kind ~ '^[cw]\\d*\$'), sum(length(target)) > 0"
	. ' FROM queue.stat_handler', '92|90|t', 'so does stat_handler');
one($node, "$anew count(*), count(*) FILTER (WHERE kind ~ '^w\\d+\$' AND queues[1] ~ '^c\\d+\$')"
	. ' FROM queue.stat_endpoint', '30|30', 'stat_endpoint');
one($node, "$anew count(*) FILTER (WHERE queue ~ '^c\\d+\$' AND available = 1) FROM queue.stat_queue", '30',
	'stat_queue');
one($node, "$anew count(*) FILTER (WHERE queue ~ '^c\\d+\$' AND kind = 'c' AND available = 1) FROM queue.stat_kind",
	'30', 'stat_kind');
one($node, "$anew count(*) FILTER (WHERE e ~ 'available; waits: queue c\\d+ is paused')"
	. " FROM queue.find_jobs('{}') j, queue.explain_job(j.id) e", '30', 'explain_job');
sql($node, <<'EOS');
SELECT queue.unregister_handler('w' || g), queue.unregister_handler('c' || g), queue.unregister_handler('c', 'c' || g),
	queue.drop_queue('c' || g, force => true) FROM generate_series(1, 30) g;
EOS
healthy('without them');

# --- a paused queue
sql($node, "SELECT queue.pause('default'); SELECT queue.enqueue('job')");
doctor_like($node, qr/default.*pause.*resume/is, 'a paused queue');
sql($node, "SELECT queue.resume('default')");
wait_no_jobs($node, 'resumed');
healthy('resumed');

# --- a paused handler
sql($node, "SELECT queue.pause_handler('job'); SELECT queue.enqueue('job')");
doctor_like($node, qr/job.*pause.*resume_handler/is, 'a paused handler');
one($node, "SELECT bool_and(ok) FROM queue.doctor() WHERE check_name = 'kind without handler'", 't', 'which is all there is to say of its kind');
sql($node, "SELECT queue.resume_handler('job')");
wait_no_jobs($node, 'resumed');
healthy('resumed');

# --- a kind without a handler
my $id = sql($node, "SELECT queue.enqueue('orphan')");
doctor_like($node, qr/orphan.*register/is, 'a kind without a handler');
like(sql($node, "SELECT queue.explain_job($id)"), qr/handler/, 'explain_job says so');
sql($node, "SELECT queue.cancel($id)");
healthy('cancelled');

# --- a handler that names another queue
sql($node, "SELECT queue.create_queue('aside'); SELECT queue.register_sql_handler('narrow', 'h', ARRAY['default'])");
$id = sql($node, "SELECT queue.enqueue('narrow', '{}', 'aside')");
doctor_like($node, qr/narrow/, 'a handler that does not name the queue');
sql($node, "SELECT queue.cancel($id); SELECT queue.unregister_handler('narrow'); SELECT queue.drop_queue('aside')");

# --- a missing function
sql($node, "ALTER FUNCTION h(queue.job) RENAME TO h_away");
sql($node, "SELECT queue.enqueue('job')");
doctor_like($node, qr/\bh\b.*(does not exist|missing|not there)/is, 'a missing function');
sql($node, "ALTER FUNCTION h_away(queue.job) RENAME TO h");
wait_no_jobs($node, 'there again');
healthy('there again');

# --- a function of another owner
sql($node, "ALTER FUNCTION h(queue.job) OWNER TO owner; SELECT queue.enqueue('job')");
doctor_like($node, qr/\bh\b.*owner/is, 'a function of another owner');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'job' AND attempt = 0", '1', 'its job is not run');
sql($node, "ALTER FUNCTION h(queue.job) OWNER TO CURRENT_USER");
wait_no_jobs($node, 'the same owner again');
healthy('the same owner again');

# --- EXECUTE revoked, and the right to work in the queue
sql($node, "REVOKE EXECUTE ON FUNCTION h2(queue.job) FROM PUBLIC; SELECT queue.enqueue('app')");
doctor_like($node, qr/h2.*execute/is, 'a role that may not execute its handler');
sql($node, "GRANT EXECUTE ON FUNCTION h2(queue.job) TO PUBLIC");
wait_no_jobs($node, 'granted');
sql($node, "SELECT queue.revoke_queue('default', 'app', 'work'); SELECT queue.enqueue('app')");
doctor_like($node, qr/app.*work/is, 'a role that may not work in the queue');
sql($node, "SELECT queue.grant_queue('default', 'app', 'work')");
wait_no_jobs($node, 'granted');
healthy('granted');

# --- a registrar who may not become the handler's role any more, although a member of it
SKIP:
{
	skip 'memberships have a SET option from 16 on', 3 if sql($node, "SELECT current_setting('server_version_num')::int < 160000") eq 't';
	my $register = "SELECT queue.register_sql_handler('set_option', 'h2', ARRAY['default'], run_as => 'app')";
	sql($node, "CREATE ROLE registrar; GRANT app TO registrar; SELECT queue.grant_queue('default', 'registrar', 'manage'); SET ROLE registrar; $register");
	sql($node, "GRANT app TO registrar WITH SET FALSE");
	doctor_like($node, qr/set_option.*registrar.*member/is, 'a membership without its SET option');
	sqlstate_like($node, "SET ROLE registrar; $register", '42501', qr/SET ROLE/, 'registering needs it too');
	sql($node, "SELECT queue.unregister_handler('set_option'); DROP OWNED BY registrar; DROP ROLE registrar");
	healthy('unregistered');
}

# --- a role that cannot log in
sql($node, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue executor'; SELECT queue.enqueue('app')");
doctor_like($node, qr/app.*(connect|log in|login)/is, 'a role that may not connect');
sql($node, "GRANT CONNECT ON DATABASE postgres TO PUBLIC");
wait_no_jobs($node, 'granted');
healthy('granted');
SKIP:
{
	skip 'workers may run as NOLOGIN roles from 17 on', 4 if sql($node, "SELECT current_setting('server_version_num')::int >= 170000") eq 't';
	sql($node, "ALTER ROLE app NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue executor'; SELECT queue.enqueue('app')");
	doctor_like($node, qr/app.*(connect|log in|login)/is, 'a role that cannot log in');
	unlike(slurp_file($node->logfile), qr/FATAL: .*not permitted to log in/, 'nobody tries');
	sql($node, "ALTER ROLE app LOGIN");
	wait_no_jobs($node, 'LOGIN again');
	healthy('LOGIN again');
}

# --- a copy that was not adopted
sql($node, "UPDATE queue.handler SET database_oid = 1 WHERE kind = 'job'; SELECT queue.enqueue('job')");
doctor_like($node, qr/adopt/, 'a copy that was not adopted');
sql($node, "SELECT queue.adopt()");
wait_no_jobs($node, 'adopted');
healthy('adopted');

# --- library and extension of different versions
sql($node, "SELECT queue.pause('default'); SELECT queue.enqueue('job')");
sql($node, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'queue'");
doctor_like($node, qr/0\.9.*(update|restart)/is, 'library and extension of different versions');
my $scheduler;	# one that has seen it ends, and another one comes
poll($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler'")
	until (($scheduler) = workers($node, 'scheduler'));
sql($node, "SELECT pg_terminate_backend($scheduler)");
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler' AND pid <> $scheduler", 'another scheduler');
ok($node->wait_for_log(qr/no job of database \d+ is run: extension queue is of version 0\.9, but the loaded library is of version 1\.0/), 'which sees it, and waits');
sqlstate_like($node, "SELECT queue.enqueue('job')", '55000', qr/is of version 0\.9.*HINT:.*ALTER EXTENSION queue UPDATE/s, 'calls are refused');
sql($node, "UPDATE queue.queue SET paused_at = NULL");
doctor_like($node, qr/0\.9.*(update|restart)/is, 'it runs nothing');
one($node, "SELECT count(*) FROM queue.live_job WHERE attempt IS NULL", '1', 'not a job');
sql($node, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'queue'");
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue scheduler'");
wait_no_jobs($node, 'with the same version it does');
healthy('the same version');

# --- replica role
sql($node, 'CREATE DATABASE beside; ALTER DATABASE beside SET session_replication_role = replica');
healthy('a setting of another database');
sql($node, 'ALTER DATABASE postgres SET session_replication_role = replica');
doctor_like($node, qr/replica role \| /, 'one of this database', before => 'SET session_replication_role = origin; ');
sql($node, 'ALTER DATABASE postgres RESET session_replication_role');
doctor_like($node, qr/session_replication_role|replica/i, 'replica role', before => 'SET session_replication_role = replica; ');
healthy('back to origin');

# --- switched off
sql($node, "ALTER SYSTEM SET queue.enabled = off");
$node->restart;
doctor_like($node, qr/queue\.enabled/, 'queue.enabled = off');
$id = sql($node, "SELECT queue.enqueue('job')");
like(sql($node, "SELECT queue.explain_job($id)"), qr/waits: queue\.enabled is off/, 'explain_job says so');
sql($node, "SELECT queue.schedule('minutes', '* * * * *', 'minutes')");
one($node, "SET queue.debug_clock_offset = '2 min'; SELECT queue.tick()", 0, 'no tick is made');
sql($node, "SELECT queue.unschedule('minutes')");
sql($node, "ALTER SYSTEM RESET queue.enabled");
sql($node, "ALTER SYSTEM SET queue.databases = 'elsewhere'");
$node->restart;
doctor_like($node, qr/queue\.databases/, 'a database that queue.databases does not name');
sql($node, "ALTER SYSTEM SET queue.databases = 'elsewhere, postgres'");
$node->restart;
healthy('on again, by name');
sql($node, "ALTER SYSTEM RESET queue.databases");

# --- no executors
sql($node, "ALTER SYSTEM SET queue.executors = 0");
$node->restart;
doctor_like($node, qr/queue\.executors/, 'queue.executors = 0');
$id = sql($node, "SELECT queue.enqueue('job')");
like(sql($node, "SELECT queue.explain_job($id)"), qr/waits: queue\.executors is 0/, 'explain_job says so');
sql($node, "ALTER SYSTEM RESET queue.executors");

# --- worker slots used up: the launcher's, the scheduler's, the executors' (the server's own logical replication
# launcher takes the first)
for my $n (0 .. 3)
{
	$node->adjust_conf('postgresql.conf', 'max_worker_processes', $n);
	$node->restart;
	sql($node, "SELECT queue.enqueue('job', '{\"note\": \"slots\"}')");
	doctor_like($node, qr/(launcher|scheduler|executor).*max_worker_processes/is, "max_worker_processes = $n");
}
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 24);
$node->restart;
wait_no_jobs($node, 'all jobs run in the end');
healthy('with enough worker slots');

# --- no library
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
doctor_like($node, qr/the library is not in shared_preload_libraries/, 'not preloaded');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'auto_explain'");
doctor_like($node, qr/Put shared_preload_libraries = 'auto_explain, queue' into/, 'beside another library');
sql($node, 'CREATE ROLE reader; SELECT queue.grant_queue($$default$$, $$reader$$, $$read$$)');
one($node, "SET ROLE reader; SELECT hint LIKE 'Put shared_preload_libraries = ''queue'' into%' FROM queue.doctor() WHERE check_name = 'preload'",
	't', 'whose name is not for everybody');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'auto_explain, queue'");
doctor_like($node, qr/the library is set in shared_preload_libraries, and the server has not been restarted since.*Restart/, 'set, not restarted');
$node->reload;
doctor_like($node, qr/has not been restarted since/, 'a reload does not do');

log_clean($node);
$node->stop;
done_testing();
