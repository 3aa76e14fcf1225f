/*
 * views.c
 *		What the pages read: each view's query, parameters, and how long its answer serves.
 *
 * The database writes the JSON.  Every query has a limit and reads no job table but by find_jobs or by id.  Ids become
 * texts, because a script's numbers end at 2^53; payloads become texts too, because their numbers must be shown as they
 * are.  Headers are shown by name only.
 */
#include "views.h"

#include "util.h"

#include <string.h>

#define ANSWER(data) "SELECT json_build_object('at', clock_timestamp(), 'data', " data ")::text"
/* The rows of a query as a list, in its order */
#define ROWS(query) "(SELECT coalesce(json_agg(row_to_json(r)), '[]') FROM (" query ") r)"
/* Of the rows r (n counts them) the first `qty`, and whether there are more */
#define PAGE(name, qty, query) \
	"(SELECT json_build_object('" name "', " \
	"coalesce(json_agg(r.row ORDER BY r.n) FILTER (WHERE r.n <= " qty "), '[]'), " \
	"'more', count(*) > " qty ") FROM (" query ") r)"

/* What a job shows in lists and by itself; j is the row of queue.job */
#define JOB_COLUMNS \
	"j.id::text AS id, j.queue, j.kind, j.state, j.priority, j.attempt, j.failures, j.max_attempts, j.run_at, " \
	"j.enqueued_at, j.started_at, j.finished_at, j.leased_until, j.worker, " \
	"(SELECT array_agg(left(t, 200)) FROM (SELECT t FROM unnest(j.tags) t LIMIT 20) t) AS tags, " \
	"j.unique_key, j.group_key, j.concurrency_key, j.workflow::text AS workflow"
/* As much of a value as is shown in a list; what is very large is not even written out */
#define GIST(value) "CASE WHEN pg_column_size(" value ") > 1000000 THEN '(large)' ELSE left(" value "::text, 200) END"
#define WHOLE(value) "left(" value "::text, 65536)"

#define WORKFLOW_COLUMNS \
	"w.id::text AS id, w.name, w.queue, w.state, w.jobs, w.unfinished, w.completed, w.discarded, w.cancelled, " \
	"w.created_at, w.finished_at"
#define RECENT_COLUMNS \
	"r.id::text AS id, r.queue, r.kind, r.state, r.attempt, r.enqueued_at, r.started_at, r.finished_at, " \
	"r.worker, r.error"

/*
 * Must a filter be held against the content of jobs, one by one?  Then jobs are searched in windows of ids, from the
 * newest, for a limited time; the page goes on from there.
 */
#define IS_DEEP(filter) \
	"(" filter " ?| '{payload,error,tags,worker,unique_key,group_key,concurrency_key,workflow," \
	"enqueued_before,enqueued_after}' " \
	"AND NOT " filter " ? 'ids' AND NOT " filter " ?& '{queue,kind,unique_key}' " \
	"AND NOT " filter " ?& '{queue,group_key}' " \
	"AND " filter " -> 'state' IS DISTINCT FROM '\"running\"' " \
	"AND " filter " -> 'state' IS DISTINCT FROM '[\"running\"]')"

#define QTY(by_default, most) {"qty", PARAM_NUMBER, by_default, 1, most, false}
#define ID(name, required) {name, PARAM_NUMBER, NULL, 0, INT64_MAX, required}
#define TEXT(name) {name, PARAM_TEXT, NULL, 0, 0, false}

/* Of the last hour's minutes, each column as an array. */
#define MINUTES(column) "'" column "', json_agg(h." column " ORDER BY m.minute)"
#define LAST_MINUTES(n) \
	"generate_series(date_trunc('minute', clock_timestamp()) - " n " * interval '1 min', " \
	"date_trunc('minute', clock_timestamp()) - interval '1 min', '1 min') m(minute)"

static const Query views[] = {
	{
		.name = "overview",
		.sql = ANSWER("json_build_object("
					  "'queues', " ROWS("SELECT queue, paused_at, available, running, retryable, scheduled, pending, "
										"enqueued, completed, failed, discarded, cancelled, oldest_run_at, stats_reset "
										"FROM queue.stat_queue ORDER BY queue LIMIT 1000") ", "
					  "'paused_all_at', (SELECT max(all_paused_at) FROM queue.stat_queue))"),
		.fresh_ms = 1000,
	},
	{
		.name = "minutes",
		.sql = "WITH h AS MATERIALIZED "
		"(SELECT * FROM queue.history WHERE minute >= clock_timestamp() - interval '62 min') "
		ANSWER("json_build_object("
					  "'first', (SELECT min(minute) FROM " LAST_MINUTES("60") "), "
					  "'queues', (SELECT coalesce(json_object_agg(q.queue, q.minutes), '{}') FROM "
					  "(SELECT s.queue, json_build_object(" MINUTES("enqueued") ", " MINUTES("completed") ", "
					  MINUTES("failed") ", " MINUTES("discarded") ", " MINUTES("waiting") ", "
					  MINUTES("oldest_s") ") AS minutes "
					  "FROM (SELECT DISTINCT queue FROM h) s CROSS JOIN " LAST_MINUTES("60") " "
					  "LEFT JOIN h ON h.queue = s.queue AND h.minute = m.minute GROUP BY s.queue) q))"),
		.fresh_ms = 10000,
	},
	{
		.name = "history",
		.sql = ANSWER(ROWS("SELECT minute, enqueued, completed, failed, discarded, waiting, oldest_s FROM "
		"queue.history "
						   "WHERE queue = $1 AND minute >= clock_timestamp() - $2::int * interval '1 min' ORDER "
						"BY minute")),
		.params = {{"queue", PARAM_TEXT, NULL, 0, 0, true}, {"minutes", PARAM_NUMBER, "60", 1, 1440, false}},
		.fresh_ms = 10000,
	},
	{
		.name = "doctor",
		.sql = ANSWER(ROWS("SELECT check_name AS \"check\", ok, detail, hint FROM queue.doctor() "
						   "WITH ORDINALITY d(check_name, ok, detail, hint, n) ORDER BY ok, n LIMIT 200")),
		.fresh_ms = 5000,
	},
	{
		.name = "kinds",
		.sql = ANSWER(ROWS("SELECT queue, kind, available, running, retryable, scheduled, pending, oldest_run_at, "
						   "wait_ms_p50, wait_ms_p95, wait_ms_p99, run_ms_p50, run_ms_p95, run_ms_p99, "
						   "completed, failed, discarded FROM queue.stat_kind "
						   "WHERE $1 IS NULL OR queue = $1 ORDER BY queue, kind LIMIT 2000")),
		.params = {TEXT("queue")},
		.fresh_ms = 1000,
	},
	{
		.name = "jobs",
		.sql = "WITH RECURSIVE f AS MATERIALIZED (SELECT *, CASE WHEN coalesce($3, '0') <> '0' THEN $3::bigint "
		"WHEN deep THEN "
		"coalesce((SELECT id + 1 FROM queue.find_jobs('{}', 1, NULL, 0)), 0) ELSE 0 END AS top "
		"FROM (SELECT $1::jsonb AS filter, $2::bigint + 1 AS qty, $4 IS NULL AND " IS_DEEP("$1::jsonb") " AS deep) f), "
		"w AS (SELECT f.top AS low, 50000::bigint AS width, clock_timestamp() AS began, clock_timestamp() AS ended, "
		"0::bigint AS found, 0 AS step, '{}'::json[] AS rows FROM f "
		"UNION ALL "
		"SELECT n.low, CASE WHEN clock_timestamp() - w.ended < interval '40 ms' THEN 2 ELSE 1 END * w.width, w.began, "
		"clock_timestamp(), w.found + r.n, w.step + 1, r.rows FROM w CROSS JOIN f "
		"CROSS JOIN LATERAL (SELECT CASE WHEN f.deep AND w.low > w.width THEN w.low - w.width ELSE 0 END AS low) n "
		"CROSS JOIN LATERAL (SELECT count(*) AS n, array_agg(row_to_json((SELECT c FROM (SELECT " JOB_COLUMNS ", "
		"CASE WHEN pg_column_size(j.progress) < 1000 THEN j.progress::text END AS progress, "
		"left(j.last_error, 300) AS error, " GIST("j.payload") " AS payload) c)) ORDER BY j.ordinality) AS rows "
		"FROM queue.find_jobs(f.filter, f.qty - w.found, coalesce($4::bigint, CASE WHEN f.deep THEN n.low - 1 END), "
		"CASE WHEN $4 IS NULL THEN w.low END) WITH ORDINALITY j) r "
		"WHERE w.step = 0 OR w.found < f.qty AND w.low > 0 AND clock_timestamp() - w.began < interval '150 ms'), "
		"r AS (SELECT u.v, row_number() OVER (ORDER BY w.step, u.n) AS n FROM w, unnest(w.rows) WITH ORDINALITY "
		"u(v, n)), "
		"l AS (SELECT w.*, w.found < f.qty AND w.low > 0 AS unfinished, f.qty FROM w, f ORDER BY w.step DESC LIMIT 1) "
		ANSWER("json_build_object('jobs', (SELECT coalesce(json_agg(r.v ORDER BY r.n), '[]') FROM r "
			   "WHERE r.n < l.qty), "
			   "'more', l.found >= l.qty OR l.unfinished, 'searched', CASE WHEN l.unfinished THEN l.low::text END)")
		" FROM l",
		.params = {{"filter", PARAM_TEXT, "{}", 0, 0, false}, QTY("50", 200), ID("before", false), ID("after", false)},
		.fresh_ms = 1000,
	},
	{
		.name = "count",
		.sql = ANSWER("(SELECT json_build_object('count', least(count(*), $2::bigint), 'more', count(*) > $2::bigint) "
					  "FROM queue.find_jobs($1::jsonb, $2::bigint + 1))"),
		.params = {{"filter", PARAM_TEXT, "{}", 0, 0, false}, {"at_most", PARAM_NUMBER, "10000", 1, 100000, false}},
		.fresh_ms = 2000,
	},
	{
		.name = "job",
		.sql = "WITH j AS MATERIALIZED (SELECT row_to_json((SELECT c FROM (SELECT " JOB_COLUMNS ", j.expires_at, "
		"j.last_error AS error, " WHOLE("j.payload") " AS payload, " WHOLE("j.result") " AS result, "
		WHOLE("j.progress") " AS progress, " WHOLE("j.origin") " AS origin, "
		"octet_length(j.payload::text) AS payload_bytes, "
		"length(j.payload::text) > 65536 AS payload_clipped, length(j.result::text) > 65536 AS result_clipped, "
		"length(j.progress::text) > 65536 AS progress_clipped, length(j.origin::text) > 65536 AS origin_clipped, "
		"CASE WHEN jsonb_typeof(j.headers) = 'object' THEN "
		"(SELECT array_agg(left(k, 200) ORDER BY k) FROM (SELECT k FROM jsonb_object_keys(j.headers) k "
		"LIMIT 50) k) END AS headers) c)) AS row FROM queue.find_jobs(jsonb_build_object('ids', $1), 1) j), "
		"recent AS MATERIALIZED (SELECT row_to_json((SELECT c FROM (SELECT " RECENT_COLUMNS ") c)) AS row "
		"FROM queue.recent_job r WHERE r.id = $1::bigint ORDER BY r.finished_at DESC LIMIT 1), "
		"e AS MATERIALIZED "
		"(SELECT * FROM queue.job_error WHERE job_id = $1::bigint ORDER BY failed_at DESC LIMIT 100), "
		"l AS MATERIALIZED (SELECT * FROM queue.job_log WHERE job_id = $1::bigint ORDER BY logged_at DESC LIMIT 500) "
		ANSWER("json_build_object('job', (SELECT row FROM j), 'recent', (SELECT row FROM recent), "
			   "'errors', " ROWS("SELECT attempt, started_at, failed_at, worker, left(error, 4096) AS error, "
								 "sqlstate, http_status, "
								 "left(context, 4096) AS context FROM e ORDER BY failed_at, attempt") ", "
			   "'log', " ROWS("SELECT attempt, logged_at, level, left(message, 2048) AS message FROM l "
							 "ORDER BY logged_at") ", "
			   "'explain', CASE WHEN EXISTS (SELECT FROM j) OR EXISTS (SELECT FROM recent) "
			   "THEN queue.explain_job($1::bigint) END)")
		" WHERE EXISTS (SELECT FROM j) OR EXISTS (SELECT FROM recent) OR EXISTS (SELECT FROM e) "
		"OR EXISTS (SELECT FROM l)",
		.params = {ID("id", true)},
		.fresh_ms = 1000,
	},
	{
		.name = "payload",
		.sql = ANSWER("to_json(p.text)")
		" FROM (SELECT CASE $2 WHEN 'payload' THEN j.payload::text WHEN 'result' THEN j.result::text "
		"WHEN 'progress' THEN j.progress::text WHEN 'origin' THEN j.origin::text END AS text "
		"FROM queue.find_jobs(jsonb_build_object('ids', $1), 1) j) p WHERE octet_length(p.text) <= 2000000",
		.params = {ID("id", true), {"part", PARAM_TEXT, "payload", 0, 0, false}},
		.fresh_ms = 1000,
	},
	{
		.name = "recent",
		.sql = ANSWER(ROWS("SELECT " RECENT_COLUMNS " FROM queue.recent_job r WHERE ($1 IS NULL OR r.state = $1) "
						   "AND ($2 IS NULL OR r.queue = $2) AND ($3 IS NULL OR r.kind = $3) "
						   "ORDER BY r.finished_at DESC LIMIT $4::bigint")),
		.params = {TEXT("state"), TEXT("queue"), TEXT("kind"), QTY("100", 500)},
		.fresh_ms = 1000,
	},
	{
		.name = "handlers",
		.sql = "WITH e AS MATERIALIZED (SELECT * FROM queue.stat_endpoint LIMIT 5000) "
		ANSWER(ROWS("SELECT h.kind, h.queues, h.type, h.target, h.run_as, h.state, h.running, h.completed, "
						   "h.failed, h.discarded, h.timeouts, h.mean_ms, h.max_ms, h.last_error_at, "
						   ROWS("SELECT e.url, e.weight, e.breaker, e.healthy, e.in_flight, e.succeeded, e.failed, "
								"e.consecutive_failures, e.mean_ms, e.next_probe_at FROM e "
								"WHERE e.kind = h.kind AND e.queues IS NOT DISTINCT FROM h.queues ORDER BY e.url")
						   " AS endpoints FROM queue.stat_handler h ORDER BY h.kind, h.queues NULLS FIRST LIMIT 1000")),
		.fresh_ms = 1000,
	},
	{
		.name = "schedules",
		.sql = ANSWER(ROWS("SELECT s.name, s.cron, s.timezone, s.kind, s.queue, s.owner, s.state, s.reason, "
		"s.next_tick, "
						   "s.last_tick, s.last_job_id::text AS last_job_id, s.missed, s.skipped, "
						   "CASE WHEN s.state = 'ready' THEN (SELECT array_agg(t) FROM queue.next_ticks(s.cron, "
						"s.timezone, 3) t) END "
						   "AS next_ticks FROM (SELECT * FROM queue.schedule_status ORDER BY name LIMIT 500) s "
						"ORDER BY s.name")),
		.fresh_ms = 2000,
	},
	{
		.name = "workflows",
		.sql = ANSWER(PAGE("workflows", "$2::bigint",
						   "SELECT row_number() OVER () AS n, row_to_json(w) AS row FROM (SELECT " WORKFLOW_COLUMNS " "
						   "FROM queue.workflow w WHERE ($1 IS NULL OR w.state = $1) AND ($3 IS NULL OR w.id < "
						"$3::bigint) "
						   "ORDER BY w.id DESC LIMIT $2::bigint + 1) w")),
		.params = {TEXT("state"), QTY("50", 200), ID("before", false)},
		.fresh_ms = 1000,
	},
	{
		.name = "workflow",
		.sql = ANSWER("json_build_object('workflow', row_to_json(w), "
					  "'jobs', " ROWS("SELECT e.job_id::text AS job_id, e.ref, e.kind, e.state, "
					"e.depends_on[1:50]::text[] AS depends_on "
									  "FROM queue.workflow_edge e WHERE e.workflow_id = $1::bigint ORDER BY "
									"e.job_id LIMIT 1000") ", "
					  "'more', w.jobs > 1000)")
		" FROM (SELECT " WORKFLOW_COLUMNS " FROM queue.workflow w WHERE w.id = $1::bigint) w",
		.params = {ID("id", true)},
		.fresh_ms = 1000,
	},
	{
		.name = "workers",
		.sql = ANSWER(ROWS("SELECT pid, type, database, role, state, job_id::text AS job_id, kind, queue, "
		"worker, started_at, "
						   "jobs, restarts, job_started_at, last_seen FROM queue.stat_worker "
						   "ORDER BY array_position('{launcher,scheduler,http,executor,external}', type), "
						"started_at, pid LIMIT 1000")),
		.fresh_ms = 1000,
	},
	{
		.name = "settings",
		.sql = ANSWER(ROWS("SELECT name, current_setting(name) AS value, unit, source NOT IN ('default', "
		"'override') AS changed, "
						   "short_desc AS about FROM pg_settings WHERE name LIKE 'queue.%' AND name NOT LIKE "
						"'queue.debug%' "
						   "ORDER BY name LIMIT 200")),
		.fresh_ms = 5000,
	},
};

const Query view_metrics = {
	.name = "metrics",
	.sql = "SELECT queue.metrics()",
	.fresh_ms = 1000,
	.plain = true,
};

const Query *
view_find(const char *name)
{
	for (size_t i = 0; i < lengthof(views); i++)
	{
		if (strcmp(views[i].name, name) == 0)
			return &views[i];
	}
	return NULL;
}
