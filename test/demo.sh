#!/bin/bash
# make demo: installs what is needed, builds, starts a private cluster (fsync on) in a temporary folder and shows the
# extension at work, each SQL statement before its result.  Nothing but packages and the installed extension stays
# behind.  KEEP=1 ends in psql on that cluster; WEB=1 leaves queue-web open on it, at WEB_PORT (8432), until Ctrl-C.
. "$(dirname "$0")/lib.sh"

echo "Building..."
lib_build ${WEB:+web}
[ -z "${WEB:-}" ] || make -s -C "$ROOT" web
lib_start
cluster_init
cluster_start
"$BIN/postgres" --version

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold= plain=; fi
title() { printf '\n%s== %s ==%s\n\n' "$bold" "$*" "$plain"; }

# Each statement as it is read, then its result.
show() { pg "$BIN/psql" -X -q -a -U "${ROLE:-app}" -d "${DB:-demo}" -v ON_ERROR_STOP=1 -P footer=off -P null='(null)' "$@" 2>&1; }
# Errors are part of the story here.
show_errors() { pg "$BIN/psql" -X -q -a -d demo -P footer=off -P null='(null)' -v VERBOSITY=verbose -v SHOW_CONTEXT=never "$@" 2>&1 | grep -v '^LOCATION:'; }

title "0. An administrator sets it up"
ROLE=postgres DB=postgres show <<'SQL'
CREATE ROLE app LOGIN;
CREATE DATABASE demo OWNER app;
SQL
ROLE=postgres show <<'SQL'
CREATE EXTENSION queue;

SELECT queue.grant_queue('*', 'app', 'manage');
SQL
export DB=demo

title "1. A handler is a function; enqueue calls it, in the server, after your commit"
show <<'SQL'
-- From here on as role app: its handlers run as app.
CREATE TABLE greeting (name text, said_at timestamptz);

CREATE FUNCTION greet(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO greeting VALUES (j.payload->>'name', clock_timestamp());
END $$;

SELECT queue.register_sql_handler('greet', 'greet');

SELECT queue.enqueue('greet', '{"name": "Ada"}') AS job \gset
SELECT :job AS job, queue.wait_for(:job, '20 s');

SELECT name FROM greeting;
SQL

title "2. A job exists if and only if your transaction commits"
show <<'SQL'
BEGIN;
SELECT queue.enqueue('greet', '{"name": "Nobody"}') > 0 AS enqueued;
ROLLBACK;

SELECT queue.enqueue('greet', '{"name": "Grace"}') AS job \gset
SELECT queue.wait_for(:job, '20 s');

-- Nobody was never greeted, Grace was.
SELECT name FROM greeting ORDER BY said_at;
SQL

title "3. A failing job: retried with a fixed backoff of 1 s, then discarded, its errors kept"
show <<'SQL'
CREATE FUNCTION pay(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO greeting VALUES ('never seen', clock_timestamp());
    RAISE EXCEPTION 'card declined (attempt %)', j.attempt;
END $$;

SELECT queue.register_sql_handler('pay', 'pay', max_attempts => 3,
                                  backoff => '{"type": "fixed", "base": "1 s", "jitter": 0}');

SELECT queue.enqueue('pay', '{"amount": 20}') AS job \gset
SELECT queue.wait_for(:job, '20 s');

SELECT state, attempt, failures, last_error FROM queue.job WHERE id = :job;

SELECT attempt, failed_at - lag(failed_at) OVER (ORDER BY attempt) AS after, sqlstate, error
FROM queue.job_error WHERE job_id = :job ORDER BY attempt;

-- What the failed attempts wrote was rolled back.
SELECT count(*) FROM greeting WHERE name = 'never seen';
SQL

title "4. kill -9 of an executor in the middle of a job: it runs again, its effect is there once"
show <<'SQL'
CREATE FUNCTION slow_greet(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO greeting VALUES ('Edsger', clock_timestamp());
    PERFORM pg_sleep(6);
END $$;

SELECT queue.register_sql_handler('slow_greet', 'slow_greet');

SELECT queue.enqueue('slow_greet') AS job;
SQL
wait_sql 20 "EXISTS (SELECT FROM queue.stat_worker WHERE type = 'executor' AND kind = 'slow_greet')"
show <<'SQL'
SELECT type, state, kind FROM queue.stat_worker WHERE kind = 'slow_greet';
SQL
job=$(sql "SELECT job_id FROM queue.stat_worker WHERE type = 'executor' AND kind = 'slow_greet'")
pid=$(sql "SELECT pid FROM queue.stat_worker WHERE type = 'executor' AND kind = 'slow_greet'")
echo "\$ kill -9 <that executor>        (PostgreSQL restarts itself: crash recovery)"
echo
pg kill -9 "$pid"
wait_sql 60 "true"
show -v job="$job" <<'SQL'
SELECT queue.wait_for(:job, '30 s');

SELECT name, count(*) FROM greeting WHERE name = 'Edsger' GROUP BY name;
SQL

title "5. Nobody may do anything until granted"
show_errors <<'SQL'
CREATE ROLE clerk;
SET ROLE clerk;
SELECT queue.enqueue('greet', '{"name": "Barbara"}');
RESET ROLE;

SELECT queue.grant_queue('default', 'clerk', 'enqueue');

SET ROLE clerk;
SELECT queue.enqueue('greet', '{"name": "Barbara"}') AS job \gset
RESET ROLE;
SELECT queue.wait_for(:job, '20 s');
SELECT name FROM greeting WHERE name = 'Barbara';
SQL

title "6. HTTP: the server delivers jobs, tries again, and signs them"
mkdir "$LIB_DIR/http"
chmod 777 "$LIB_DIR/http"
pg perl -I"$ROOT/test/t" -MHttpServer -e '
	my $s = HttpServer->new(dir => $ARGV[0]);
	open(my $f, ">", "$ARGV[0]/port.new"); print $f $s->{port}; close $f;
	rename "$ARGV[0]/port.new", "$ARGV[0]/port";
	$SIG{TERM} = sub { $s->stop if $s; POSIX::_exit(0) };
	sleep 1 while 1;' "$LIB_DIR/http" &
LIB_PIDS+=($!)
until [ -s "$LIB_DIR/http/port" ]; do sleep 0.05; done
server=http://127.0.0.1:$(cat "$LIB_DIR/http/port")
echo "A small local server listens at $server"
echo
show -v good="$server/status/200?body=thanks" -v flaky="$server/flaky/50" <<'SQL'
SELECT queue.alter_queue('default', keep_completed => '1 hour');

SELECT queue.register_http_handler('order', :'good', secret => 'whsec_ZGVtbyBzZWNyZXQ=');
SELECT queue.enqueue('order', '{"order": 17}') AS job \gset
SELECT queue.wait_for(:job, '20 s');
SELECT result FROM queue.job WHERE id = :job;

-- An endpoint that fails half of the time: each failure is told, each job arrives.
SELECT queue.register_http_handler('flaky', :'flaky', backoff => '{"type": "fixed", "base": "50 ms"}');
SELECT count(*) FROM queue.enqueue_many('flaky', array_fill('{}'::jsonb, '{20}'));
DO $$ BEGIN
    WHILE EXISTS (SELECT FROM queue.job WHERE kind = 'flaky' AND finished_at IS NULL) LOOP COMMIT; PERFORM pg_sleep(0.05); END LOOP;
END $$;
SELECT state, count(*), sum(failures) AS failures FROM queue.job WHERE kind = 'flaky' GROUP BY state;
SELECT http_status, error, count(*) FROM queue.job_error WHERE kind = 'flaky' GROUP BY 1, 2;

-- The cloud's metadata address, spelled as a number, is not reached.
SELECT queue.register_http_handler('evil', 'http://2852039166/latest/meta-data', max_attempts => 1);
SELECT queue.enqueue('evil') AS job \gset
SELECT queue.wait_for(:job, '20 s');
SELECT error FROM queue.job_error WHERE job_id = :job;

SELECT kind, url, breaker, healthy, succeeded, failed FROM queue.stat_endpoint ORDER BY kind;
SELECT queue.unregister_handler('evil');
SQL
echo "What the server saw of the first one:"
grep -a 'queue-job-kind=order' "$LIB_DIR/http/http.log" | tr '\t|' '\n\n' | grep -aE '^(body|idempotency-key|queue-job-|user-agent|webhook-)' |
	sed -e 's/%/\\x/g' | while IFS= read -r line; do printf '    %b\n' "$line"; done

title "7. What is going on, and is all well?"
show <<'SQL'
-- Totals count from the last start of the server; the kill above was one.
SELECT queue, available, running, enqueued, completed, failed, discarded FROM queue.stat_queue;

SELECT kind, type, target, run_as, state, completed, failed FROM queue.stat_handler ORDER BY kind;

SELECT * FROM queue.doctor();
SQL

title "8. How fast"
show <<'SQL'
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('noop', 'noop');
SELECT queue.pause('default');
SELECT count(*) AS enqueued FROM queue.enqueue_many('noop', array_fill('{}'::jsonb, '{200000}'));
SELECT completed AS before FROM queue.stat_queue WHERE queue = 'default' \gset
SELECT clock_timestamp() AS start \gset
SELECT queue.resume('default');
DO $$
BEGIN
    WHILE EXISTS (SELECT FROM queue.stat_queue WHERE queue = 'default' AND available + running > 0) LOOP
        COMMIT;
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
SELECT completed - :before AS jobs, to_char((completed - :before) / extract(epoch FROM clock_timestamp() - :'start'),
       '999,999') AS "jobs a second, each in a committed transaction"
FROM queue.stat_queue WHERE queue = 'default';
SQL

if [ -n "${KEEP:-}" ]; then
	title "KEEP=1: psql on the demo's cluster; it is removed when you leave"
	pg "$BIN/psql" -X -d demo || true
fi
if [ -n "${WEB:-}" ]; then
	title "WEB=1: queue-web on the demo's data, http://127.0.0.1:${WEB_PORT:-8432}/ until Ctrl-C; the cluster is removed then"
	show <<'SQL'
-- A day's life: what fails and is given up, what waits and for what, a workflow, schedules.
SELECT count(*) AS "will be discarded" FROM queue.enqueue_many('pay', (SELECT array_agg(jsonb_build_object('amount', n)) FROM generate_series(1, 100) n));
SELECT queue.create_queue('mail', description => 'what customers get', keep_completed => '1 day');
SELECT count(queue.enqueue('greet', jsonb_build_object('name', 'customer ' || n), 'mail',
    tags => ARRAY['welcome', 'lang-' || (ARRAY['de', 'en', 'fr'])[1 + n % 3]])) AS enqueued FROM generate_series(1, 200) n;
SELECT queue.enqueue('newsletter', '{"issue": 42}', 'mail', delay => '2 hours') AS "for later";
SELECT queue.enqueue('nobody_serves_me', '{"why": "no handler, no worker"}') AS "waits for a worker";
SELECT queue.schedule('hello', '10 seconds', 'greet', '{"name": "the clock"}');
SELECT queue.schedule('month end', '0 6 $ * *', 'greet', '{"name": "the books"}', timezone => 'Europe/Berlin');
SELECT ref, job_id FROM queue.enqueue_workflow('[{"ref": "fetch", "kind": "greet"}, {"ref": "resize", "kind": "slow_greet", "depends_on": ["fetch"]},
    {"ref": "mail", "kind": "greet", "depends_on": ["fetch"]}, {"ref": "publish", "kind": "flaky", "depends_on": ["resize", "mail"]}]', name => 'an image');
SQL
	install "$ROOT/web/queue-web" "$LIB_DIR"
	pg "$LIB_DIR/queue-web" --write --listen "127.0.0.1:${WEB_PORT:-8432}" "host=$LIB_DIR port=$PGPORT dbname=demo user=app" &
	LIB_PIDS+=($!)
	wait $! || true
fi
cluster_stop fast
echo
echo "Done; the cluster is stopped and removed."
