-- Schedules: lines and options that are refused, and what ticks do; the clock of this session is moved far ahead, so no
-- scheduler ticks for them, and queue.tick() does.
CREATE EXTENSION queue;
SET timezone = 'UTC';
SET client_min_messages = error;	-- it warns where the library is not preloaded
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; s text; m text; d text; h text;
BEGIN
	EXECUTE sql INTO r;
	RETURN coalesce(r, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN s || ': ' || m || CASE WHEN d <> '' THEN E'\n  DETAIL: ' || d ELSE '' END
		|| CASE WHEN h <> '' THEN E'\n  HINT: ' || h ELSE '' END;
END $$;
-- from now on it is that time
CREATE FUNCTION clock_at(at timestamptz) RETURNS void LANGUAGE sql AS
	$$SELECT set_config('queue.debug_clock_offset', ceil(extract(epoch FROM at - clock_timestamp()))::bigint || 's', false)$$;
\pset format unaligned
\pset null NULL

-- lines: the field is named, and the place in the line is shown
\set VERBOSITY default
SELECT queue.next_ticks('0 3 1,2,x * *');
SELECT line, try(format('SELECT queue.next_ticks(%L)', line)) AS says
FROM unnest(ARRAY['', ' ', '* * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 13 *', '* * * 0 *', '* * * * 8', '-1 * * * *', '*/0 * * * *', '*/x * * * *', '5/15 * * * *', '30-10 * * * *', '1- * * * *', '1,, * * * *', ',1 * * * *',
	'* * * foo *', '* * * janu *', '* * * * monday', 'jan * * * *', '$ * * * *', '* * $/2 * *', '* * 1-$ * *', '* * * * $', '* * * * * *', '0 0 30 2 *', '0 0 31 4,6,9,11 *', '0 0 31 2 */2', '*5 * * * *', '* * * * fri-mon', '* * ? * *', '99999999999999999999 * * * *',
	'0 seconds', '60 seconds', '99999999999 seconds', '5 minutes', '@reboot', '@every 5m', '@', E'0 0\n* * *', 'ü * * * *', E'\t0\t25 * * *']) line;
-- of a word that is too long a message has whole characters
SELECT left(try(format('SELECT queue.next_ticks(%L)', '@' || repeat('ä', 30))), 95) AS says;
SELECT try($$SELECT queue.next_ticks(NULL)$$);
SELECT zone, try(format('SELECT queue.next_ticks(%L, %L)', '@daily', zone)) AS says FROM unnest(ARRAY['Nowhere/Else', 'CET-1CEST', '', '+02', '../UTC', repeat('x', 300)]) zone;
SELECT try($$SELECT queue.next_ticks('@daily', qty => 0)$$);
SELECT try($$SELECT queue.next_ticks('@daily', after => 'infinity')$$);

-- what is read as what
SELECT line, string_agg(to_char(t, 'YYYY-MM-DD HH24:MI:SS'), ', ' ORDER BY t) AS ticks
FROM unnest(ARRAY['* * * * *', '  */20   *  * * *  ', '@Hourly', '@yearly ', '0 12 * FEB Mon', '0 0 * * sat-sun', '0 0 13 * 5', '0 0 */10 * 5', '0 0 $ 2 *', '0 0 29 2 *', '0 0 15,$ * *', '1 SECOND', '15seconds', '17 seconds']) line,
	LATERAL queue.next_ticks(line, 'utc', 4, '2027-02-27 23:59:59.5') t
GROUP BY line ORDER BY line COLLATE "C";
SELECT string_agg(t::text, ', ') FROM queue.next_ticks('30 2 * * *', 'europe/berlin', 3, '2023-03-25 12:00') t;
SELECT count(*) = 5 AND min(t) > clock_timestamp() AS from_now FROM queue.next_ticks('@daily') t;
-- the last one comes before timestamps end
SELECT max(t) FROM queue.next_ticks('@yearly', qty => 300000) t;

-- what is refused
SELECT try($$SELECT queue.schedule(NULL, '@daily', 'k')$$), try($$SELECT queue.schedule('', '@daily', 'k')$$), try($$SELECT queue.schedule('*', '@daily', 'k')$$);
SELECT try($$SELECT queue.schedule('s', NULL, 'k')$$), try($$SELECT queue.schedule('s', '@daily', NULL)$$), try($$SELECT queue.schedule('s', '@daily', 'k', NULL)$$);
SELECT try($$SELECT queue.schedule('s', '0 0 31 9 *', 'k')$$);
SELECT try($$SELECT queue.schedule('s', '@daily', '*')$$), try($$SELECT queue.schedule('s', '@daily', 'k', queue => 'nowhere')$$), try($$SELECT queue.schedule('s', '@daily', 'k', priority => 40000)$$);
SELECT try($$SELECT queue.schedule('s', '@daily', 'k', timezone => 'Mars')$$), try($$SELECT queue.schedule('s', '@daily', 'k', overlap => 'wait')$$), try($$SELECT queue.schedule('s', '@daily', 'k', catch_up => '-1 s')$$);
SELECT option, try(format('SELECT queue.schedule(%L, %L, %L, options => %L)', 's', '@daily', 'k', option)) AS says
FROM unnest(ARRAY['[]', '{"kind": "x"}', '{"payload": {}}', '{"queue": "x"}', '{"priority": 1}', '{"timezone": "UTC"}', '{"overlap": "skip"}', '{"catch_up": "1 h"}', '{"run_at": "2030-01-01"}', '{"delay": "1 s"}', '{"workflow": 1}', '{"depends_on": [1]}', '{"max_attemps": 1}', '{"max_attempts": 0}',
	'{"missed": "none"}', '{"missed": 1}', '{"jitter": 5}', '{"jitter": "x"}', '{"jitter": "0"}', '{"expires_at": "2030-01-01"}', '{"starts_at": "infinity"}', '{"starts_at": 1}', '{"starts_at": "2030-01-02", "ends_at": "2030-01-01"}', '{"unique_for": "1 h"}']) option;
SELECT try($$SELECT queue.unschedule('s')$$), try($$SELECT queue.pause_schedule('s')$$), try($$SELECT queue.resume_schedule('s')$$), try($$SELECT queue.run_schedule('s')$$);
SELECT count(*) FROM queue.schedule_status;
BEGIN;
SELECT queue.tick();
ROLLBACK;
SET default_transaction_isolation = 'repeatable read';
SELECT queue.tick();
RESET default_transaction_isolation;

-- what a tick makes
CREATE VIEW jobs AS SELECT payload->>'s' AS s, kind, queue, priority, state, origin->>'tick' AS tick, origin->'late' AS late FROM queue.job ORDER BY id;
CREATE VIEW status AS SELECT name, state, next_tick, last_tick, last_job_id IS NOT NULL AS job, missed, skipped FROM queue.schedule_status ORDER BY name;
SELECT clock_at('2040-06-15 12:00:30');
SELECT queue.create_queue('q');
SELECT queue.schedule('every minute', '* * * * *', 'k', '{"s": "m"}');
SELECT queue.schedule('noon', '0 12 * * *', 'k', '{"s": "n"}', 'q', 5, 'europe/berlin', '{"max_attempts": 3, "tags": ["t"], "headers": {"h": "1"}}', catch_up => '1 day');
SELECT name, cron, timezone, kind, queue, owner = current_user AS mine, state, reason, next_tick, last_tick, last_job_id, missed, skipped FROM queue.schedule_status ORDER BY name;
SELECT queue.tick();
SELECT clock_at('2040-06-15 12:01:00');
SELECT queue.tick(), queue.tick();
SELECT kind, queue, payload, origin, run_at = enqueued_at AS at_once, run_at >= queue_internal.clock() - interval '1 min' AS now FROM queue.job;
SELECT * FROM status;

-- what was missed comes, the oldest first; what is older than catch_up is counted
SELECT clock_at('2040-06-15 12:04:10');
SELECT queue.tick();
SELECT * FROM jobs;
SELECT clock_at('2040-06-16 13:00:00');
SELECT queue.tick();
SELECT * FROM status;
SELECT s, count(*), min(tick), max(tick), count(*) FILTER (WHERE late::boolean) AS late FROM jobs GROUP BY s ORDER BY s;
SELECT max_attempts, tags, headers, priority FROM queue.job WHERE queue = 'q';

-- a clock that goes back: nothing comes twice
SELECT clock_at('2040-06-16 12:00:00');
SELECT queue.tick();
SELECT clock_at('2040-06-16 13:00:30');
SELECT queue.tick();
SELECT clock_at('2040-06-16 13:01:30');
SELECT queue.tick();

-- paused, resumed, changed, registered again: nothing from before
SELECT queue.pause_schedule('every minute'), queue.pause_schedule('every minute');
SELECT clock_at('2040-06-16 13:03:30');
SELECT queue.pause_schedule('every minute'), queue.tick();
SELECT paused_at < '2040-06-16 13:03' AS since_the_first FROM queue.schedule WHERE name = 'every minute';
SELECT name, state, next_tick FROM status;
SELECT queue.resume_schedule('every minute'), queue.resume_schedule('every minute'), queue.tick();
SELECT clock_at('2040-06-16 13:04:30');
SELECT queue.resume_schedule('every minute'), queue.tick() AS "one that is not paused misses nothing";
SELECT clock_at('2040-06-16 13:05:30');
SELECT queue.schedule('every minute', '* * * * *', 'k', '{"s": "m"}');
SELECT queue.tick();
SELECT clock_at('2040-06-16 13:07:30');
SELECT queue.schedule('every minute', '* * * * *', 'k', '{"s": "m2"}'), queue.tick();
SELECT clock_at('2040-06-16 13:08:00');
SELECT queue.tick();
SELECT s, count(*), max(tick) FROM jobs GROUP BY s ORDER BY s;
SELECT * FROM status;
SELECT queue.run_schedule('noon') > 0 AS run;
SELECT s, state, tick > '2040-06-16T13:08' AS now, late FROM jobs WHERE queue = 'q' ORDER BY tick DESC LIMIT 1;
SELECT queue.unschedule('every minute'), queue.unschedule('every minute'), queue.unschedule('noon');
SELECT count(*) AS remembered FROM queue.schedule_state;
SELECT queue.purge('default') > 0 AS purged, queue.purge('q') AS q;

-- of a line in seconds, and with missed 'last', only the newest comes; bounds, jitter, a job's expiry, a key that is taken
SELECT clock_at('2040-06-17 00:00:01');
SELECT queue.schedule('seconds', '10 seconds', 'k', '{"s": "seconds"}');
SELECT queue.schedule('last', '* * * * *', 'k', '{"s": "last"}', options => '{"missed": "last", "starts_at": null}');
SELECT queue.schedule('last, rarely', '*/3 * * * *', 'k', '{"s": "last, rarely"}', options => '{"missed": "last"}');
SELECT queue.schedule('last, later', '30 0 * * *', 'k', '{"s": "last, later"}', options => '{"missed": "last"}');
SELECT queue.schedule('bounds', '* * * * *', 'k', '{"s": "bounds"}', options => '{"starts_at": "2040-06-17 00:02", "ends_at": "2040-06-17 00:04"}');
SELECT queue.schedule('bounds, last', '* * * * *', 'k', '{"s": "bounds, last"}', options => '{"missed": "last", "starts_at": "2040-06-17 00:02", "ends_at": "2040-06-17 00:04"}');
SELECT queue.schedule('jitter', '* * * * *', 'k', '{"s": "jitter"}', options => '{"jitter": "20 s"}');
SELECT queue.schedule('expires', '* * * * *', 'k', '{"s": "expires"}', options => '{"expires_at": "90 s"}');
SELECT queue.schedule('unique', '* * * * *', 'k', '{"s": "unique"}', options => '{"unique_key": "u", "on_conflict": "error"}');
SELECT name, next_tick FROM status;
SELECT clock_at('2040-06-17 00:05:05');
SELECT detail FROM queue.doctor() WHERE check_name = 'schedule' AND detail ~ 'last|bounds';
SELECT queue.tick();
SELECT s, count(*), min(tick), max(tick) FROM jobs GROUP BY s ORDER BY s;
SELECT * FROM status;
SELECT expires_at FROM queue.job WHERE payload->>'s' = 'expires';
SELECT clock_at('2040-06-17 00:06:00');
SELECT queue.tick();
SELECT count(DISTINCT run_at - (origin->>'tick')::timestamptz) AS put_off, bool_and(run_at >= (origin->>'tick')::timestamptz) AS not_before,
	min(run_at) >= '2040-06-17 00:05:05' AS not_in_the_past, max(run_at) < '2040-06-17 00:06:21' AS not_too_late FROM queue.job WHERE payload->>'s' = 'jitter';
SELECT queue.run_schedule('jitter') AS by_hand \gset
SELECT run_at - (origin->>'tick')::timestamptz < interval '1 s' AS by_hand_at_once FROM queue.job WHERE id = :by_hand;
SELECT queue.unschedule(name) FROM queue.schedule_status;
SELECT queue.purge('default') > 0 AS purged;

-- overlap, with the job of the last tick waiting, claimed, failed, completed, purged, cancelled
SELECT clock_at('2040-06-18 00:00:01');
SELECT queue.schedule('skip', '* * * * *', 'skip', overlap => 'skip');
SELECT queue.schedule('replace', '* * * * *', 'replace', overlap => 'replace');
CREATE VIEW overlap AS SELECT kind, state, right(origin->>'tick', 14) AS tick, last_error FROM queue.job ORDER BY kind, id;
SELECT clock_at('2040-06-18 00:01:00');
SELECT queue.tick();
SELECT clock_at('2040-06-18 00:02:00');
SELECT queue.tick();
SELECT * FROM overlap;
SELECT kind FROM queue.fetch('default', 2) ORDER BY 1;
SELECT clock_at('2040-06-18 00:03:00');
SELECT queue.tick();
SELECT * FROM overlap;
SELECT kind, queue.fail(id, attempt, 'e', '1 hour') FROM queue.job WHERE state = 'running';
SELECT kind FROM queue.fetch('default', 2);
SELECT clock_at('2040-06-18 00:04:00');
SELECT queue.tick();
SELECT * FROM overlap;
SELECT kind, queue.complete(id, attempt) FROM queue.fetch('default', 2);
SELECT clock_at('2040-06-18 00:05:00');
SELECT queue.tick();
SELECT * FROM overlap;
SELECT queue.purge('default');
SELECT clock_at('2040-06-18 00:06:00');
SELECT queue.tick();
SELECT kind, queue.cancel(id, 'by hand') FROM queue.job WHERE state = 'available' ORDER BY 1;
SELECT clock_at('2040-06-18 00:08:00');
SELECT queue.tick();
SELECT * FROM overlap;
SELECT * FROM status;
SELECT queue.unschedule(name) FROM queue.schedule_status;

-- one that cannot enqueue is parked with the reason, stops no other, and goes on when it can
CREATE ROLE regress_queue_owner;
CREATE ROLE regress_queue_other;
SELECT queue.grant_queue('q', 'regress_queue_owner', 'manage'), queue.grant_queue('default', 'regress_queue_other', 'manage');
SELECT clock_at('2040-06-19 00:00:01');
SELECT queue.schedule('fine', '* * * * *', 'fine', queue => 'default');
SET ROLE regress_queue_owner;
SELECT queue.schedule('mine', '* * * * *', 'mine', queue => 'q');
SELECT try($$SELECT queue.schedule('fine', '* * * * *', 'mine', queue => 'q')$$), try($$SELECT queue.schedule('new', '* * * * *', 'k')$$);
SELECT try($$SELECT queue.unschedule('fine')$$), try($$SELECT queue.pause_schedule('fine')$$), try($$SELECT queue.run_schedule('fine')$$);
SELECT name, owner FROM queue.schedule_status;
SET ROLE regress_queue_other;
SELECT name, owner FROM queue.schedule_status;
RESET ROLE;
CREATE VIEW parked AS SELECT name, state, reason, next_tick FROM queue.schedule_status ORDER BY name;
SELECT queue.revoke_queue('q', 'regress_queue_owner');
SELECT clock_at('2040-06-19 00:01:00');
SELECT queue.tick();
SELECT * FROM parked;
SELECT detail, hint FROM queue.doctor() WHERE check_name = 'schedule';
SELECT try($$SELECT queue.run_schedule('mine')$$);
SELECT queue.grant_queue('q', 'regress_queue_owner');
SELECT queue.tick();
SELECT * FROM parked;
ALTER ROLE regress_queue_owner RENAME TO regress_queue_renamed;
SELECT clock_at('2040-06-19 00:02:00');
SELECT queue.tick();
SELECT * FROM parked;
ALTER ROLE regress_queue_renamed RENAME TO regress_queue_owner;
SELECT queue.drop_queue('q', true);
SELECT queue.tick();
SELECT * FROM parked;
SELECT queue.create_queue('q'), queue.grant_queue('q', 'regress_queue_owner');
SELECT queue.tick();
UPDATE queue.schedule SET timezone = 'Gone/Away' WHERE name = 'fine';
SELECT queue.tick();
SELECT * FROM parked;
UPDATE queue.schedule SET timezone = 'UTC', options = '{"max_attempts": "many"}' WHERE name = 'fine';
SELECT clock_at('2040-06-19 00:03:00');
SELECT queue.tick();
SELECT * FROM parked;
-- who resumes it, or registers it anew, has done something about it
BEGIN;
SELECT queue.pause_schedule('fine'), queue.resume_schedule('fine');
SELECT state, reason FROM parked WHERE name = 'fine';
ROLLBACK;
BEGIN;
SELECT queue.schedule('fine', '* * * * *', 'fine');
SELECT state, reason FROM parked WHERE name = 'fine';
ROLLBACK;

-- a copy ticks nothing before adopt(), and goes on from then
UPDATE queue.schedule SET options = NULL, database_oid = 1 WHERE name = 'fine';
SELECT clock_at('2040-06-19 00:05:00');
SELECT queue.tick();
SELECT * FROM parked;
UPDATE queue.schedule SET system_identifier = 1 WHERE name = 'mine';
SELECT name, state FROM parked;
SELECT queue.adopt();
SELECT queue.tick();
SELECT * FROM parked;
SELECT clock_at('2040-06-19 00:06:00');
SELECT queue.tick();
SELECT kind, count(*), max(origin->>'tick') FROM queue.job WHERE kind IN ('fine', 'mine') GROUP BY 1 ORDER BY 1;

-- a clock that stood ahead for more than a day: said, and forgiven when the schedule is registered again
SELECT clock_at('2040-07-19 00:00:00');
SELECT queue.tick();
SELECT clock_at('2040-06-19 00:07:00');
SELECT queue.tick(), queue.pause_schedule('fine'), queue.resume_schedule('fine');
SELECT ok, detail, hint FROM queue.doctor() WHERE check_name = 'schedule';
SELECT queue.schedule('fine', '* * * * *', 'fine', queue => 'default');
SELECT clock_at('2040-06-19 00:08:00');
SELECT queue.tick();
SELECT name, next_tick FROM parked;

-- maintain() ticks too, but not in a transaction block
SELECT clock_at('2040-06-19 00:09:00');
BEGIN;
SELECT queue.maintain();
COMMIT;
SELECT name, next_tick FROM parked;
SELECT queue.maintain();
SELECT name, next_tick FROM parked;
SELECT at >= queue_internal.clock() - interval '1 min' AS noted FROM queue.maintained;
-- .. not again so soon, unless the clock had stood ahead; in REPEATABLE READ maintain() does not tick
SELECT at FROM queue.maintained \gset
SELECT queue.tick();
SELECT at = :'at' AS same FROM queue.maintained;
UPDATE queue.maintained SET at = at + interval '1 day';
SELECT queue.tick();
SELECT at <= queue_internal.clock() AS noted FROM queue.maintained;
UPDATE queue.maintained SET at = at - interval '1 hour';
SET default_transaction_isolation = 'repeatable read';
SELECT queue.maintain();
RESET default_transaction_isolation;
SELECT at <= queue_internal.clock() - interval '1 hour' AS same FROM queue.maintained;

-- where the clock leaves out one time of the day and comes to another, that is one tick
SELECT count(queue.unschedule(name)) FROM queue.schedule_status;
SELECT clock_at('2041-03-30 12:00:00');
SELECT queue.schedule('gap', '0 2,3 * * *', 'gap', timezone => 'Europe/Berlin', catch_up => '0');
SELECT next_tick FROM status;
SELECT clock_at('2041-03-31 12:00:00');
SELECT queue.tick();
SELECT missed, next_tick FROM status;

-- without catch_up a tick is made all the same within its minute; of a schedule that is over those until its end were missed
SELECT count(queue.unschedule(name)) FROM queue.schedule_status;
SELECT clock_at('2041-04-01 00:00:01');
SELECT queue.schedule('prompt', '* * * * *', 'k', catch_up => '0');
SELECT queue.schedule('over', '* * * * *', 'k', catch_up => '0', options => '{"ends_at": "2041-04-01 00:03:00"}');
SELECT clock_at('2041-04-01 00:01:10');
SELECT queue.tick();
SELECT clock_at('2041-04-01 05:00:30');
SELECT queue.tick();
SELECT name, last_tick, missed FROM status;

RESET queue.debug_clock_offset;
DROP VIEW jobs, status, overlap, parked;
DROP EXTENSION queue;
DROP FUNCTION try(text);
DROP FUNCTION clock_at(timestamptz);
DROP ROLE regress_queue_owner;
DROP ROLE regress_queue_other;
