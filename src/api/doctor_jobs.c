/*
 * doctor_jobs.c
 *		The rows of doctor() about queues, handlers and their jobs, as far as the current user may see them.
 *
 * Numbers are estimates from shared memory.  What makes a row fail must not happen in a healthy system under load: so a
 * backlog counts when it grows, and a run when it is long for its kind.
 *
 * Locks: AccessShareLock on live_job and the catalogs.
 */
#include "api/doctor_jobs.h"

#include "api/arguments.h"
#include "api/handlers.h"
#include "api/oldest.h"
#include "api/stats.h"
#include "api/workflow_end.h"
#include "config/http_handlers.h"
#include "config/lines.h"
#include "executor/run.h"
#include "job/walk.h"
#include "shared/channel.h"
#include "shared/clock.h"
#include "shared/endpoint.h"
#include "shared/fetcher.h"
#include "shared/limit.h"
#include "shared/pace.h"
#include "shared/refused.h"
#include "shared/slot.h"

#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#define BACKLOG_WAIT_US USECS_PER_MINUTE	/* a backlog whose oldest job waits for less is none */
#define BACKLOG_JOBS 10
#define LONG_FACTOR 10			/* a run that takes so many times its kind's mean is long .. */
#define LONG_MIN_US USECS_PER_MINUTE	/* .. but not below this */
#define MAX_KINDS 50			/* rows about kinds without handler */
#define FETCHED_US INT64CONST(3600000000)	/* who fetched a kind lately comes again */
#define ERROR_US INT64CONST(3600000000)

/* Does the chain of this queue's dead-letter queues come back to it?  Written by hand, or by two at once. */
static bool
letters_come_back(QueueConfig *config, const QueueConf *conf)
{
	const QueueConf *next = conf;

	for (int i = 0; i < config->nqueues && next != NULL && next->dead_letter != NULL; i++)
	{
		if (strcmp(next->dead_letter, conf->name) == 0)
			return true;
		next = queue_config_find(config, next->dead_letter);
	}
	return false;
}

/* One row per queue whose discarded jobs do not go where they should. */
static void
check_dead_letters(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();

	for (int i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];

		if (conf->dead_letter == NULL || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_READ))
			continue;
		if (queue_config_find(config, conf->dead_letter) == NULL)
			queue_finding(findings, "dead letters", false,
						  psprintf("queue \"%s\" names the dead-letter queue \"%s\", which does not exist: discarded"
								   " jobs are kept in \"%s\" for good", conf->name, conf->dead_letter, conf->name),
						  psprintf("Create it with queue.create_queue(%s), or SELECT queue.alter_queue(%s, reset => "
								   "'{dead_letter}').", quote_literal_cstr(conf->dead_letter),
								   quote_literal_cstr(conf->name)));
		else if (letters_come_back(config, conf))
			queue_finding(findings, "dead letters", false,
						  psprintf("dead letters of queue \"%s\" come back to it through queue \"%s\"", conf->name,
								   conf->dead_letter),
						  psprintf("SELECT queue.alter_queue(%s, reset => '{dead_letter}').",
								   quote_literal_cstr(conf->name)));
	}
}

/* A limit of 0 lets nothing run. */
static bool
finding_of_limit(QueueFindings *findings, const char *whose, const char *option, int value, const char *cure)
{
	if (value != 0)
		return false;
	queue_finding(findings, "limits", false, psprintf("%s of %s is 0, so nothing of it runs", option, whose), cure);
	return true;
}

/* Rows for limits of 0, and for more reserved executors than there are. */
static void
check_limits(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	bool		found = false;

	for (int i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];
		const char *whose = psprintf("queue \"%s\"", conf->name);
		const char *cure = psprintf("Raise or reset it with queue.alter_queue(%s, ..).",
									quote_literal_cstr(conf->name));

		if (!queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			continue;
		found |= finding_of_limit(findings, whose, "max_running", conf->limit.max_running, cure);
		found |= finding_of_limit(findings, whose, "rate_limit", conf->limit.rate_limit, cure);
		found |= finding_of_limit(findings, whose, "max_running_per_key", conf->key_limit.max_running, cure);
		found |= finding_of_limit(findings, whose, "rate_limit_per_key", conf->key_limit.rate_limit, cure);
		for (int j = 0; j < conf->nreserved; j++)
		{
			if (conf->reserved[j].executors < queue_executors)
				continue;
			found = true;
			queue_finding(findings, "limits", false,
						  psprintf("queue \"%s\" reserves %d executors for priority %d and below, of %d in all",
								   conf->name, conf->reserved[j].executors, conf->reserved[j].priority,
								   queue_executors),
						  "One executor is left to the others. Raise queue.executors, or reserve fewer.");
		}
	}
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		const char *whose = psprintf("the handler of kind \"%s\"", handler->kind);

		if (!queue_handler_visible(handler))
			continue;
		found |= finding_of_limit(findings, whose, "max_running", handler->limit.max_running,
								  "Register it with another.");
		found |= finding_of_limit(findings, whose, "rate_limit", handler->limit.rate_limit,
								  "Register it with another.");
	}
	if (!found)
		queue_finding(findings, "limits", true, "no limit is 0", NULL);
}

/* One row per queue that is paused, or whose row cannot be read as a whole. */
static void
check_queues(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	bool		found = false;
	int			i;

	for (i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];

		if ((conf->paused_at == 0 && conf->broken == NULL) || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			continue;
		if (conf->broken != NULL)
			queue_finding(findings, "queue settings", false,
				psprintf("queue \"%s\": %s; the default takes its place", conf->name, conf->broken),
				psprintf("Set it again with queue.alter_queue(%s, ..).", quote_literal_cstr(conf->name)));
		if (conf->paused_at == 0)
			continue;
		found = true;
		queue_finding(findings, "queue paused", false,
			psprintf("queue \"%s\" is paused since %s", conf->name, timestamptz_to_str(conf->paused_at)),
			psprintf("Run SELECT queue.resume(%s).", quote_literal_cstr(conf->name)));
	}
	if (config->all_paused_at != 0)
		queue_finding(findings, "queue paused", false,
			psprintf("all queues are paused since %s", timestamptz_to_str(config->all_paused_at)),
			"Run SELECT queue.resume('*'); queues that are paused by themselves stay so.");
	else if (!found)
		queue_finding(findings, "queue paused", true, "no queue is paused", NULL);
}

/* The first queue that a handler names and its role may not work in, or that does not exist; NULL: none. */
static const char *
handler_queue_problem(QueueHandler *handler, const char **hint)
{
	int			i;

	for (i = 0; i < handler->nqueues; i++)
	{
		const char *queue = handler->queues[i];

		if (queue_config_queue(queue, true) == NULL)
		{
			*hint = "Create the queue, or register the handler without it.";
			return psprintf("queue \"%s\" does not exist", queue);
		}
		if (!queue_may(handler->run_as_oid, queue, handler->http ? QUEUE_PRIV_MANAGE : QUEUE_PRIV_WORK))
		{
			const char *privilege = handler->http ? "manage" : "work";

			*hint = psprintf("Run SELECT queue.grant_queue(%s, %s, '%s').", quote_literal_cstr(queue),
							 quote_literal_cstr(handler->run_as), privilege);
			return psprintf("role \"%s\" lacks privilege %s on queue \"%s\"", handler->run_as, privilege, queue);
		}
	}
	return NULL;
}

/* Which handler: its kind, and a queue that it names if the kind has several. */
static char *
handler_label(const QueueHandler *handler)
{
	const QueueHandler *first = queue_config_handlers(handler->kind);	/* NULL: it was unregistered since */

	if (first == NULL || first->same_kind == NULL)
		return psprintf("kind \"%s\"", handler->kind);
	if (handler->queues == NULL)
		return psprintf("kind \"%s\" in all other queues", handler->kind);
	return psprintf(handler->nqueues > 1 ? "kind \"%s\" in queue \"%s\" and %d more" : "kind \"%s\" in queue \"%s\"",
					handler->kind, handler->queues[0], handler->nqueues - 1);
}

/* One row per handler that the caller may see. */
static void
check_handlers(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	int			i;

	for (i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		const char *hint = NULL;
		const char *problem;

		if (!queue_handler_visible(handler))
			continue;
		problem = queue_handler_problem(handler, &hint);
		if (problem == NULL && handler->run_as_oid != InvalidOid)
			problem = handler_queue_problem(handler, &hint);
		if (problem == NULL && handler->paused_at != 0)
		{
			problem = psprintf("paused since %s", timestamptz_to_str(handler->paused_at));
			hint = psprintf("Run SELECT queue.resume_handler(%s, %s).", quote_literal_cstr(handler->kind),
							quote_literal_cstr(handler->queues == NULL ? "*" : handler->queues[0]));
		}
		queue_finding(findings, "handler", problem == NULL,
			psprintf("%s: %s", handler_label(handler),
					 problem != NULL ? problem : psprintf("ready, runs as \"%s\"", handler->run_as)),
			hint);
	}
}

/* One row per endpoint that nothing is sent to because its row cannot be read; its handler may have others. */
static void
check_endpoints(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();

	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		if (!handler->http || !queue_handler_visible(handler))
			continue;
		for (int j = 0; j < handler->conf->nendpoints; j++)
		{
			QueueEndpoint *endpoint = handler->conf->endpoints[j];

			if (endpoint->broken != NULL)
				queue_finding(findings, "endpoint", false,
					psprintf("kind \"%s\": endpoint %s: %s", handler->kind, queue_httpconf_shown(endpoint->url),
							 endpoint->broken),
					"Remove that endpoint and add it again.");
		}
	}
}

/* The first line of an endpoint's row: which it is. */
static char *
endpoint_label(const QueueHandler *handler, const QueueEndpoint *endpoint)
{
	return psprintf("%s: endpoint %s", handler_label(handler), queue_httpconf_shown(endpoint->url));
}

/* One row per endpoint that gets no requests because too many failed, or because its health_url does not answer 200. */
static void
check_breakers(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	bool		found = false;

	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		if (!handler->http || handler->paused_at != 0 || !queue_handler_visible(handler))
			continue;
		for (int j = 0; j < handler->conf->nendpoints; j++)
		{
			QueueEndpoint *endpoint = handler->conf->endpoints[j];
			QueueEndpointState *state = queue_endpoint_state_of(MyDatabaseId, endpoint->key, false);

			if (state == NULL || endpoint->broken != NULL)
				continue;
			if (state->breaker.state != QUEUE_BREAKER_CLOSED)
			{
				found = true;
				queue_finding(findings, "circuit breaker", false,
							  psprintf("%s: its breaker is %s after %d failures in a row",
									   endpoint_label(handler, endpoint), queue_breaker_word(state->breaker.state),
									   state->breaker.consecutive),
							  psprintf("It is tried again by itself; jobs go to other endpoints or wait. Its answers: "
									   "SELECT failed_at, http_status, error FROM queue.job_error "
									   "WHERE kind = %s ORDER BY failed_at DESC LIMIT 5.",
									   strcmp(handler->kind, "*") == 0 ? "<kind>" : quote_literal_cstr(handler->kind)));
			}
			else if (endpoint->health_url != NULL && state->down_since != 0 && state->probes_failed > 0 &&
					 pg_atomic_read_u32(&state->healthy) == 0)
			{
				found = true;
				queue_finding(findings, "circuit breaker", false,
							  psprintf("%s: its health_url does not answer 200 since %s",
									   endpoint_label(handler, endpoint), timestamptz_to_str(state->down_since)),
							  "Nothing is sent there before it does. Look at the service behind it, or at the url.");
			}
		}
	}
	if (!found)
		queue_finding(findings, "circuit breaker", true, "no endpoint is kept from requests", NULL);
}

/* How many executors of this database run jobs of a role (InvalidOid: of any). */
static int
executors_of(Oid role)
{
	int			n = 0;

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_EXECUTOR && slot->db == MyDatabaseId &&
			(!OidIsValid(role) || slot->role == role))
			n++;
	}
	return n;
}

/* One row per role whose jobs wait because others' jobs have all executors. */
static void
check_shares(QueueFindings *findings)
{
	TimestampTz since = queue_now() - USECS_PER_SEC;
	bool		found = false;

	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *channel = queue_channel_nth(i);

		if (channel == NULL || channel->db != MyDatabaseId || !OidIsValid(channel->role) ||
			queue_executors == 0 || queue_channel_oldest(channel) > since || executors_of(channel->role) > 0 ||
			executors_of(InvalidOid) < queue_executors)
			continue;
		found = true;
		queue_finding(findings, "shares of executors", false,
			psprintf("jobs of role \"%s\" wait since %s: jobs of other roles have all %d executors",
					 GetUserNameFromId(channel->role, true), timestamptz_to_str(queue_channel_oldest(channel)),
					 queue_executors),
			"An executor is given to them when its job ends. Raise queue.executors, or register handlers whose jobs "
			"run long with a timeout.");
	}
	if (!found)
		queue_finding(findings, "shares of executors", true, "no role waits for executors of others", NULL);
}

/* HTTP handlers and endpoints that found no place in shared memory. */
static void
check_http_places(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	int			handlers = 0;
	int			endpoints = 0;

	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		QueueGate  *gate = handler->http ? queue_gate_of(MyDatabaseId, QUEUE_GATE_HTTP, handler->id, false) : NULL;

		handlers += gate != NULL && gate->shared;
		for (int j = 0; handler->http && j < handler->conf->nendpoints; j++)
			endpoints += queue_endpoint_state_of(MyDatabaseId, handler->conf->endpoints[j]->key, false) == NULL;
	}
	if (queue_endpoint_places(MyDatabaseId) > 0)
		endpoints = 0;			/* the worker has only not come by yet */
	if (handlers + endpoints == 0 || !queue_preloaded())
		queue_finding(findings, "http places", true, "HTTP handlers and endpoints have their places in shared memory",
					  NULL);
	else
		queue_finding(findings, "http places", false,
			psprintf("%d HTTP handlers and %d endpoints have no place in shared memory: the handlers wait for each "
					 "other, and the endpoints' state is in no view and ends with the http worker",
					 handlers, endpoints),
			psprintf("A database has room for %d handlers and %d endpoints: unregister some.",
					 QUEUE_MAX_GATES_OF_DATABASE, QUEUE_MAX_ENDPOINTS_OF_DATABASE));
}

/* By queue, then kind. */
static int
compare_lines(const void *a, const void *b)
{
	const QueueLine *left = *(QueueLine *const *) a;
	const QueueLine *right = *(QueueLine *const *) b;
	int			cmp = left->queue == right->queue ? 0 : strcmp(left->queue->name, right->queue->name);

	return cmp != 0 ? cmp : strcmp(left->kind, right->kind);
}

/* Has one of these lines a job?  And was none of its jobs fetched lately, where no handler serves them? */
static bool
nobody_takes(QueueJobTable *table, QueueLine **lines, int n, TimestampTz now)
{
	bool		waits = false;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (lines[i]->handler == NULL && queue_fetcher_last_claim(lines[i]->id) > now - FETCHED_US)
			return false;
	}
	for (int i = 0; i < n && !waits; i++)
		waits = queue_walk_any(table, lines[i]->id);
	return waits;
}

/* Of this kind in this queue jobs wait, and nobody takes them. */
static void
tell_kind(QueueFindings *findings, const QueueLine *line)
{
	if (line->handler != NULL)
		queue_finding(findings, "kind without handler", false,
			psprintf("jobs of kind \"%s\" wait in queue \"%s\": its handler's role \"%s\" may not work there",
					 line->kind, line->queue->name, line->handler->run_as),
			psprintf("Run SELECT queue.grant_queue(%s, %s, 'work').", quote_literal_cstr(line->queue->name),
					 quote_literal_cstr(line->handler->run_as)));
	else
		queue_finding(findings, "kind without handler", false,
					  psprintf("jobs of kind \"%s\" wait in queue \"%s\", no handler serves them, and nobody "
							   "fetched such jobs within the last hour",
							   line->kind, line->queue->name),
					  "Register a handler with queue.register_sql_handler or register_http_handler, or start a "
					  "worker that fetches them.");
}

/* Kinds with jobs that nobody takes: one row per queue and kind, up to MAX_KINDS. */
static void
check_kinds(QueueFindings *findings)
{
	QueueJobTable *table = queue_job_open(AccessShareLock);
	int			nlines;
	QueueLine **lines = queue_lines_all(&nlines);
	TimestampTz now = queue_now();
	int			n = 0;
	int			found = 0;
	int			same;

	(void) queue_config_hold();
	for (int i = 0; i < nlines; i++)
	{
		QueueLine  *line = lines[i];

		if (!line->gone && !line->served && (line->handler == NULL || line->handler->paused_at == 0) &&
			queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_MONITOR))
			lines[n++] = line;
	}
	if (n > 1)
		qsort(lines, n, sizeof(QueueLine *), compare_lines);
	for (int i = 0; i < n && found <= MAX_KINDS; i += same)
	{
		same = 1;
		while (i + same < n && compare_lines(&lines[i], &lines[i + same]) == 0)
			same++;
		if (nobody_takes(table, &lines[i], same, now) && ++found <= MAX_KINDS)
			tell_kind(findings, lines[i]);
	}
	if (found > MAX_KINDS)
		queue_finding(findings, "kind without handler", false, "jobs of more kinds wait that nobody takes",
					  "SELECT queue, kind, available FROM queue.stat_kind shows them all.");
	if (found == 0)
		queue_finding(findings, "kind without handler", true, "every kind that has jobs has a handler or is fetched",
					  NULL);
	queue_job_close(table);
}

/* One row per queue that has more to do than a few minutes ago, and whose oldest job waits. */
static void
check_backlog(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	QueueJobTable *table;
	TimestampTz now = queue_now();
	bool		found = false;

	if (!queue_preloaded())
		return;
	table = queue_job_open(AccessShareLock);
	for (int i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];
		QueueCounter *counter = queue_counter(conf->counter, false);
		TimestampTz oldest;
		int64		due;
		int64		before;
		int			minutes;

		if (counter == NULL || conf->paused || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			continue;
		due = queue_counter_due(counter);
		minutes = queue_counter_due_before(counter, now, &before);
		if (due < BACKLOG_JOBS || minutes == 0 || due <= before)
			continue;
		oldest = queue_oldest_of(table, conf);
		if (oldest > now - BACKLOG_WAIT_US)
			continue;
		found = true;
		queue_finding(findings, "backlog", false,
					  psprintf("queue \"%s\" falls behind: " INT64_FORMAT " jobs are due, " INT64_FORMAT
							   " were %d minute%s ago; the oldest waits since %s",
							   conf->name, due, before, minutes, minutes == 1 ? "" : "s", timestamptz_to_str(oldest)),
					  "More is enqueued than done. Look for other rows here first; then raise queue.executors, start "
					  "more workers, or make the kinds that take most of the time faster (queue.stat_handler).");
	}
	queue_job_close(table);
	if (!found)
		queue_finding(findings, "backlog", true, "no queue falls behind", NULL);
}

/* One row per job that an executor runs for much longer than its kind usually takes. */
static void
check_long_runs(QueueFindings *findings)
{
	TimestampTz now = queue_now();
	bool		found = false;

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		int64		id = (int64) pg_atomic_read_u64(&slot->job_id);
		TimestampTz started_at = (TimestampTz) pg_atomic_read_u64(&slot->job_started_at);
		int			pid = (int) slot->pid;
		QueueLine  *line;
		QueueKindStat *stat;
		int64		usual;
		int64		limit;

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId || id == 0 ||
			now - started_at < LONG_MIN_US)
			continue;
		line = queue_config_line((int64) pg_atomic_read_u64(&slot->line));
		if (line == NULL || line->handler == NULL || !queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_MONITOR))
			continue;
		stat = queue_kind_stat(&line->stat, line->handler->id, line->kind, line->kind_key, false);
		usual = stat != NULL && queue_kind_is_known(stat) ? (int64) pg_atomic_read_u64(&stat->mean_us) : 0;
		limit = usual > 0 ? Max(usual * LONG_FACTOR, LONG_MIN_US) : Max(line->queue->lease, LONG_MIN_US);
		if (now - started_at < limit)
			continue;
		found = true;
		queue_finding(findings, "long run", false,
					  usual > 0 ?
						  psprintf("job " INT64_FORMAT " of kind \"%s\" runs in executor %d since %s; its kind takes "
								   "%.3f s on average",
								   id, line->kind, pid, timestamptz_to_str(started_at), usual / 1e6) :
						  psprintf("job " INT64_FORMAT " of kind \"%s\" runs in executor %d since %s", id, line->kind,
								   pid, timestamptz_to_str(started_at)),
					  psprintf("What it waits for: SELECT wait_event_type, wait_event, pg_blocking_pids(pid) FROM "
							   "pg_stat_activity WHERE pid = %d. To end it: SELECT queue.cancel(" INT64_FORMAT
							   "). A timeout of its handler ends such runs.", pid, id));
	}
	if (!found && queue_preloaded())
		queue_finding(findings, "long run", true, "no job runs for longer than its kind usually does", NULL);
}

/* Jobs whose rows refused to be claimed by sessions. */
static void
check_refused(QueueFindings *findings)
{
	int			n = queue_refused_count(queue_now());

	queue_finding(findings, "refused claims", n == 0,
				  n == 0 ? "no job could lately not be claimed by a session" :
				  psprintf("%d job%s could not be claimed by sessions within a minute: writing the row raises an error",
						   n, n == 1 ? "" : "s"),
				  "Look for triggers on queue.live_job. Who met such a job first got the error, and the server log has"
				  " it; since then sessions pass it by, and try it again every half minute at most.");
}

/* Does the function set a search_path of its own? */
static bool
sets_search_path(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		found = false;
	bool		isnull;
	Datum		settings;

	if (!HeapTupleIsValid(tuple))
		return true;
	settings = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &isnull);
	if (!isnull)
	{
		Datum	   *elems;
		bool	   *nulls;
		int			nelems;

		deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
		for (int i = 0; i < nelems && !found; i++)
			found = !nulls[i] && pg_strncasecmp(TextDatumGetCString(elems[i]), "search_path=", 12) == 0;
	}
	ReleaseSysCache(tuple);
	return found;
}

/*
 * One row per handler whose jobs failed lately because a table, function or type was not found, and whose function has
 * no search_path of its own: it was found when somebody tried it in a session with another one.
 */
static void
check_search_paths(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	TimestampTz now = queue_now();
	bool		found = false;

	if (!queue_preloaded())
		return;
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		QueueKindSums sums;
		Oid			function;

		if (handler->http || !queue_handler_visible(handler))
			continue;
		sums = queue_kind_sums(handler->id);
		if (sums.last_error_at < now - ERROR_US ||
			(sums.last_sqlstate != ERRCODE_UNDEFINED_TABLE && sums.last_sqlstate != ERRCODE_UNDEFINED_FUNCTION &&
			 sums.last_sqlstate != ERRCODE_UNDEFINED_OBJECT))
			continue;
		function = queue_run_function(handler);
		if (!OidIsValid(function) || sets_search_path(function))
			continue;
		found = true;
		queue_finding(findings, "search_path", false,
					  psprintf("%s: its jobs fail because something is not found (SQLSTATE %s), and function %s.%s has "
							   "no search_path of its own", handler_label(handler),
							   unpack_sql_state(sums.last_sqlstate), handler->function_schema, handler->function_name),
					  psprintf("It runs with the search_path of role %s, not with yours. Run ALTER FUNCTION %s(%s) "
							   "SET search_path = <schemas of what it uses>, or write the schemas in it.",
							   quote_identifier(handler->run_as),
							   quote_qualified_identifier(handler->function_schema, handler->function_name),
							   handler->takes_job ? "queue.job" : "jsonb"));
	}
	if (!found)
		queue_finding(findings, "search_path", true, "no handler fails for what its search_path does not find", NULL);
}

/* One row for each queue with groups that a discarded job holds. */
static void
check_groups(QueueFindings *findings)
{
	QueueSpi	spi;
	uint64		found;
	bool		any = false;

	queue_spi_begin(&spi);
	found = queue_spi_run("SELECT queue, count(*), (array_agg(group_key ORDER BY position))[1], min(job_id)"
						  " FROM queue.live_key WHERE held GROUP BY queue ORDER BY queue", 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *queue = SPI_getvalue(tuple, desc, 1);

		if (!queue_may(spi.owner.userid, queue, QUEUE_PRIV_READ))
			continue;
		any = true;
		queue_finding(findings, "groups on hold", false,
					  psprintf("queue \"%s\": discarded jobs hold up %s groups, the first is \"%s\"", queue,
							   SPI_getvalue(tuple, desc, 2), SPI_getvalue(tuple, desc, 3)),
					  psprintf("Retry, cancel or delete these jobs, such as SELECT queue.retry(%s). The queue's "
							   "on_group_discard is hold, or was.", SPI_getvalue(tuple, desc, 4)));
	}
	queue_spi_end(&spi);
	if (!any)
		queue_finding(findings, "groups on hold", true, "no group waits for a discarded job", NULL);
}

/* One row for each queue that is not there and has subscriptions, which get nothing. */
static void
check_subscriptions(QueueFindings *findings)
{
	QueueSpi	spi;
	uint64		found;
	bool		any = false;

	queue_spi_begin(&spi);
	found = queue_spi_run("SELECT s.queue, count(*), min(s.topic), min(s.id) FROM queue.subscription s"
						  " WHERE s.queue <> 'default'"
						  " AND NOT EXISTS (SELECT FROM queue.queue q WHERE q.name = s.queue)"
						  " GROUP BY s.queue ORDER BY s.queue", 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *queue = SPI_getvalue(tuple, desc, 1);

		if (!queue_may(spi.owner.userid, queue, QUEUE_PRIV_READ))
			continue;
		any = true;
		queue_finding(findings, "subscriptions", false,
					  psprintf("queue \"%s\" does not exist, and %s subscriptions in it get nothing; the first topic "
							   "is \"%s\"", queue, SPI_getvalue(tuple, desc, 2), SPI_getvalue(tuple, desc, 3)),
					  psprintf("Create the queue, or end them, such as SELECT queue.unsubscribe(%s).",
							   SPI_getvalue(tuple, desc, 4)));
	}
	queue_spi_end(&spi);
	if (!any)
		queue_finding(findings, "subscriptions", true, "every subscription has its queue", NULL);
}

/* What workflows wait for whose undoing stands still, or whose callbacks could not be enqueued: whose, what, hint. */
static const char *const stuck_workflows =
	"SELECT w.queue, format('workflow %s is not undone: job %s, which compensates job %s, did not complete', w.id,"
	" m.compensation, m.job_id), format('Retry it when its cause is gone: SELECT queue.retry(%s), or redrive its dead"
	" letter.', m.compensation), w.id FROM queue.workflow_base w"
	" JOIN queue.workflow_job m ON m.workflow = w.id AND m.compensate_with <> ''"
	" JOIN queue.workflow_end e ON e.workflow = w.id AND e.job_id = m.compensation AND e.state <> 'completed'"
	" WHERE w.state = 'compensating'"
	" UNION ALL SELECT w.queue, format('workflow %s is not undone: job %s is compensated in queue \"%s\", which was"
	" dropped', w.id, m.job_id, m.queue), 'Create the queue: then its compensations go on.', w.id"
	" FROM queue.workflow_base w"
	" JOIN queue.workflow_job m ON m.workflow = w.id AND m.compensate_with <> '' AND m.compensation IS NULL"
	" JOIN queue.workflow_end e ON e.workflow = w.id AND e.job_id = m.job_id AND e.state = 'completed'"
	" WHERE w.state = 'compensating' AND m.queue <> 'default'"
	" AND NOT EXISTS (SELECT FROM queue.queue q WHERE q.name = m.queue)"
	" UNION ALL SELECT w.queue, format('workflow %s finished without its callbacks: its queue \"%s\" was dropped',"
	" w.id, w.queue), 'Create the queue: then they are enqueued.', w.id FROM queue.workflow_base w"
	" WHERE " QUEUE_WORKFLOW_UNFIRED " AND NOT EXISTS (SELECT FROM queue.queue q WHERE q.name = w.queue) ORDER BY 4";

static void
check_workflows(QueueFindings *findings)
{
	QueueSpi	spi;
	uint64		found;
	bool		any = false;

	queue_spi_begin(&spi);
	found = queue_spi_run(stuck_workflows, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		if (!queue_may(spi.owner.userid, SPI_getvalue(tuple, desc, 1), QUEUE_PRIV_READ))
			continue;
		any = true;
		queue_finding(findings, "workflows", false, SPI_getvalue(tuple, desc, 2), SPI_getvalue(tuple, desc, 3));
	}
	queue_spi_end(&spi);
	if (!any)
		queue_finding(findings, "workflows", true, "no workflow waits for a compensation that failed, or for a queue",
					  NULL);
}

void
queue_doctor_jobs(QueueFindings *findings)
{
	queue_finding_check(findings, "queue paused", check_queues);
	queue_finding_check(findings, "limits", check_limits);
	queue_finding_check(findings, "dead letters", check_dead_letters);
	queue_finding_check(findings, "handler", check_handlers);
	queue_finding_check(findings, "endpoint", check_endpoints);
	queue_finding_check(findings, "circuit breaker", check_breakers);
	queue_finding_check(findings, "http places", check_http_places);
	queue_finding_check(findings, "shares of executors", check_shares);
	queue_finding_check(findings, "kind without handler", check_kinds);
	queue_finding_check(findings, "groups on hold", check_groups);
	queue_finding_check(findings, "subscriptions", check_subscriptions);
	queue_finding_check(findings, "workflows", check_workflows);
	queue_finding_check(findings, "backlog", check_backlog);
	queue_finding_check(findings, "long run", check_long_runs);
	queue_finding_check(findings, "search_path", check_search_paths);
	queue_finding_check(findings, "refused claims", check_refused);
}
