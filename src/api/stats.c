/*
 * stats.c
 *		The functions behind queue.stat_queue, queue.stat_handler and queue.stat_worker.
 *
 * All of it is read from shared memory; no job table is scanned, but for the few rows that oldest.c looks at.  Each
 * function shows only what the current user may read (config.c), so the views can be granted freely.
 *
 * Locks: none beyond those of the structures read; AccessShareLock on live_job.
 */
#include "api/stats.h"

#include "api/handlers.h"
#include "api/oldest.h"
#include "config/http_handlers.h"
#include "shared/clock.h"
#include "shared/endpoint.h"
#include "shared/fetcher.h"
#include "shared/limit.h"
#include "shared/slot.h"

#include "commands/dbcommands.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(queue_sql_stat_queue_rows);
PG_FUNCTION_INFO_V1(queue_sql_stat_handler_rows);
PG_FUNCTION_INFO_V1(queue_sql_stat_worker_rows);

int64
queue_stats_number(pg_atomic_uint64 *counter)
{
	int64		value = (int64) pg_atomic_read_u64(counter);

	return value > 0 ? value : 0;
}

/* How many executors run a job of this queue, kind and handler (NULL: of any) now.  No lock. */
static int64
count_slots(const char *queue, const char *kind, const QueueHandler *handler)
{
	int64		running = 0;

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		QueueLine  *line;

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId ||
			pg_atomic_read_u64(&slot->job_id) == 0)
			continue;
		line = queue_config_line((int64) pg_atomic_read_u64(&slot->line));
		if (line != NULL && (queue == NULL || strcmp(line->queue->name, queue) == 0) &&
			(kind == NULL || strcmp(line->kind, kind) == 0) && (handler == NULL || line->handler == handler))
			running++;
	}
	return running;
}

int64
queue_stats_running(const char *queue, const char *kind)
{
	return count_slots(queue, kind, NULL);
}

/* How many jobs of this handler's kinds are run, or sent, now. */
static int64
running_of_handler(const QueueHandler *handler)
{
	QueueGate  *gate;

	if (!handler->http)
		return count_slots(NULL, NULL, handler);
	gate = queue_gate_of(MyDatabaseId, QUEUE_GATE_HTTP, handler->id, false);
	return gate == NULL ? 0 : (int64) pg_atomic_read_u32(&gate->taken);
}

void
queue_stats_gauges(QueueCounter *counter, int64 in_slots, Datum gauges[QUEUE_NGAUGES])
{
	int64		scheduled = queue_stats_number(&counter->gauge[QUEUE_STATE_SCHEDULED]);
	int64		retryable = queue_stats_number(&counter->gauge[QUEUE_STATE_RETRYABLE]);
	int64		due_scheduled = queue_stats_number(&counter->due_scheduled);
	int64		due_retryable = queue_stats_number(&counter->due_retryable);
	int64		available;

	due_scheduled = Min(due_scheduled, scheduled);
	due_retryable = Min(due_retryable, retryable);
	available = queue_stats_number(&counter->gauge[QUEUE_STATE_AVAILABLE]) + due_scheduled + due_retryable;
	gauges[QUEUE_STAT_AVAILABLE] = Int64GetDatum(Max(available - in_slots, 0));
	gauges[QUEUE_STAT_RUNNING] = Int64GetDatum(queue_stats_number(&counter->gauge[QUEUE_STATE_RUNNING]) + in_slots);
	gauges[QUEUE_STAT_RETRYABLE] = Int64GetDatum(retryable - due_retryable);
	gauges[QUEUE_STAT_SCHEDULED] = Int64GetDatum(scheduled - due_scheduled);
	gauges[QUEUE_STAT_PENDING] = Int64GetDatum(queue_stats_number(&counter->gauge[QUEUE_STATE_PENDING]));
}

/* queue_internal.stat_queue_rows(): what VIEW queue.stat_queue shows. */
Datum
queue_sql_stat_queue_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueJobTable *table;
	QueueConfig *config;
	HTAB	   *oldest = queue_oldest_table(sizeof(QueueOldest));
	int			held = queue_config_hold();

	InitMaterializedSRF(fcinfo, 0);
	table = queue_job_open(AccessShareLock);
	config = queue_config_keep();
	for (int i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];
		QueueCounter *counter = queue_counter_shown(conf->counter);
		Datum		gauges[QUEUE_NGAUGES];

		if (counter == NULL || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			continue;
		queue_stats_gauges(counter, queue_stats_running(conf->name, NULL), gauges);
		queue_oldest_want(oldest, conf->counter, DatumGetInt64(gauges[QUEUE_STAT_AVAILABLE]) > 0);
	}
	queue_oldest_find(table, oldest, false);
	for (int i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];
		QueueCounter *counter;
		Datum		values[15];
		bool		nulls[15];

		if (!queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			continue;
		memset(nulls, true, sizeof(nulls));
		values[0] = CStringGetTextDatum(conf->name);
		nulls[0] = false;
		if (conf->paused_at != 0)
		{
			values[1] = TimestampTzGetDatum(conf->paused_at);
			nulls[1] = false;
		}
		values[14] = TimestampTzGetDatum(config->all_paused_at);
		nulls[14] = config->all_paused_at == 0;
		counter = queue_counter_shown(conf->counter);
		if (counter != NULL)
		{
			TimestampTz since = queue_oldest_since(oldest, conf->counter);

			memset(&nulls[2], false, 10 * sizeof(bool));
			queue_stats_gauges(counter, queue_stats_running(conf->name, NULL), &values[2]);
			values[7] = Int64GetDatum(queue_stats_number(&counter->enqueued));
			values[8] = Int64GetDatum(queue_stats_number(&counter->ended[QUEUE_STATE_COMPLETED]));
			values[9] = Int64GetDatum(queue_stats_number(&counter->failed));
			values[10] = Int64GetDatum(queue_stats_number(&counter->ended[QUEUE_STATE_DISCARDED]));
			values[11] = Int64GetDatum(queue_stats_number(&counter->ended[QUEUE_STATE_CANCELLED]));
			values[12] = TimestampTzGetDatum(since);
			nulls[12] = since == DT_NOEND;
			values[13] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&counter->reset_at));
			nulls[13] = false;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	queue_job_close(table);
	queue_config_release(held);
	PG_RETURN_NULL();
}

/* queue_internal.stat_handler_rows(): what VIEW queue.stat_handler shows. */
Datum
queue_sql_stat_handler_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueConfig *config;
	int			held = queue_config_hold();
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	config = queue_config_keep();
	for (i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		const char *hint;
		const char *state;
		NameData	run_as;
		Datum		values[14];
		bool		nulls[14];

		if (!queue_handler_visible(handler))
			continue;
		memset(nulls, false, sizeof(nulls));
		if (handler->paused_at != 0)
			state = "paused";
		else
			state = queue_handler_problem(handler, &hint) != NULL ? "parked" : "ready";
		values[0] = CStringGetTextDatum(handler->kind);
		values[1] = CStringGetTextDatum(handler->http ? "http" : "sql");
		if (handler->function_name != NULL && handler->function_schema != NULL)
			values[2] = CStringGetTextDatum(
				psprintf("%s(%s)", quote_qualified_identifier(handler->function_schema, handler->function_name),
						 handler->takes_job ? "queue.job" : "jsonb"));
		else if (handler->http && handler->conf->nendpoints > 0)
		{
			char	   *url = queue_httpconf_shown(handler->conf->endpoints[0]->url);

			values[2] = CStringGetTextDatum(handler->conf->nendpoints == 1 ? url :
											psprintf("%s and %d more", url, handler->conf->nendpoints - 1));
		}
		else
			nulls[2] = true;
		namestrcpy(&run_as, handler->run_as);
		values[3] = NameGetDatum(&run_as);
		values[4] = CStringGetTextDatum(state);
		memset(&nulls[5], true, 8 * sizeof(bool));
		if (queue_preloaded())
		{
			QueueKindSums sums = queue_kind_sums(handler->id);

			memset(&nulls[5], false, 5 * sizeof(bool));
			values[5] = Int64GetDatum(running_of_handler(handler));
			values[6] = Int64GetDatum(sums.completed);
			values[7] = Int64GetDatum(sums.failed);
			values[8] = Int64GetDatum(sums.discarded);
			values[9] = Int64GetDatum(sums.timeouts);
			if (sums.runs > 0)
			{
				nulls[10] = nulls[11] = false;
				values[10] = Float8GetDatum((double) sums.total_us / (double) sums.runs / 1000.0);
				values[11] = Float8GetDatum((double) sums.max_us / 1000.0);
			}
			nulls[12] = sums.last_error_at == 0;
			values[12] = TimestampTzGetDatum(sums.last_error_at);
		}
		values[13] = queue_handler_queues(handler, &nulls[13]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	queue_config_release(held);
	PG_RETURN_NULL();
}

static const char *
slot_type_name(uint32 type)
{
	switch (type)
	{
		case QUEUE_SLOT_LAUNCHER:
			return "launcher";
		case QUEUE_SLOT_SCHEDULER:
			return "scheduler";
		case QUEUE_SLOT_HTTP:
			return "http";
		default:
			return "executor";
	}
}

static const char *
slot_state_name(uint32 state)
{
	switch (state)
	{
		case QUEUE_SLOT_STARTING:
			return "starting";
		case QUEUE_SLOT_IDLE:
			return "idle";
		case QUEUE_SLOT_RUNNING:
			return "running";
		default:
			return "stopping";
	}
}

/* The columns of stat_worker. */
enum
{
	PID, TYPE, DATABASE, ROLE, STATE, JOB_ID, KIND, STARTED_AT, JOBS, RESTARTS, JOB_STARTED_AT, WORKER, QUEUE,
	LAST_SEEN, NWORKER
};

/* Sets database and role, as far as they exist. */
static void
set_names(Datum *values, bool *nulls, Oid db, Oid role)
{
	char	   *database = OidIsValid(db) ? get_database_name(db) : NULL;
	char	   *user = OidIsValid(role) ? GetUserNameFromId(role, true) : NULL;

	if (database != NULL)
		values[DATABASE] = DirectFunctionCall1(namein, CStringGetDatum(database));
	nulls[DATABASE] = database == NULL;
	if (user != NULL)
		values[ROLE] = DirectFunctionCall1(namein, CStringGetDatum(user));
	nulls[ROLE] = user == NULL;
}

/* The sessions of this database that fetch from queues that the reader may read. */
static void
put_external(ReturnSetInfo *rsinfo)
{
	for (int i = 0; i < queue_fetcher_count(); i++)
	{
		QueueFetcher fetcher;
		Datum		values[NWORKER];
		bool		nulls[NWORKER];

		if (!queue_fetcher_read(i, &fetcher) || fetcher.db != MyDatabaseId ||
			!queue_may(GetUserId(), fetcher.queue, QUEUE_PRIV_MONITOR))
			continue;
		memset(nulls, true, sizeof(nulls));
		set_names(values, nulls, fetcher.db, fetcher.role);
#define SET(column, datum) (values[column] = (datum), nulls[column] = false)
		SET(PID, Int32GetDatum((int32) fetcher.pid));
		SET(TYPE, CStringGetTextDatum("external"));
		SET(STATE, CStringGetTextDatum(fetcher.working ? "working" : "waiting"));
		SET(STARTED_AT, TimestampTzGetDatum(fetcher.first_seen));
		SET(JOBS, Int64GetDatum(fetcher.claimed));
		if (fetcher.worker[0] != '\0')
			SET(WORKER, CStringGetTextDatum(fetcher.worker));
		SET(QUEUE, CStringGetTextDatum(fetcher.queue));
		SET(LAST_SEEN, TimestampTzGetDatum(fetcher.last_seen));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/*
 * queue_internal.stat_worker_rows(): what VIEW queue.stat_worker shows: workers of all databases, and what they run
 * where the reader may know it.  Slots are read without a lock; a row may mix two moments.
 */
Datum
queue_sql_stat_worker_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			count;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	(void) queue_config();
	count = queue_preloaded() ? queue_slot_count() : 0;
	for (i = 0; i < count; i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		uint32		type = pg_atomic_read_u32(&slot->type);
		int64		job_id = (int64) pg_atomic_read_u64(&slot->job_id);
		TimestampTz job_started_at = (TimestampTz) pg_atomic_read_u64(&slot->job_started_at);
		pid_t		pid = slot->pid;
		char		worker[QUEUE_WORKER_NAME];
		Datum		values[NWORKER];
		bool		nulls[NWORKER];

		if (type == QUEUE_SLOT_FREE)
			continue;
		memset(nulls, true, sizeof(nulls));
		if (pid != 0)
			SET(PID, Int32GetDatum((int32) pid));
		SET(TYPE, CStringGetTextDatum(slot_type_name(type)));
		set_names(values, nulls, slot->db, slot->role);
		SET(STATE, CStringGetTextDatum(slot_state_name(pg_atomic_read_u32(&slot->state))));
		if (slot->db == MyDatabaseId && job_id != 0)
		{
			QueueLine  *line = queue_config_line((int64) pg_atomic_read_u64(&slot->line));

			if (line != NULL && queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_MONITOR))
			{
				SET(JOB_ID, Int64GetDatum(job_id));
				SET(KIND, CStringGetTextDatum(line->kind));
				SET(JOB_STARTED_AT, TimestampTzGetDatum(job_started_at));
				SET(QUEUE, CStringGetTextDatum(line->queue->name));
			}
		}
		if (type == QUEUE_SLOT_EXECUTOR && pid != 0)
		{
			queue_executor_name(worker, pid);
			SET(WORKER, CStringGetTextDatum(worker));
		}
		if (slot->started_at != 0)
			SET(STARTED_AT, TimestampTzGetDatum(slot->started_at));
		SET(JOBS, Int64GetDatum((int64) pg_atomic_read_u64(&slot->jobs)));
		SET(RESTARTS, Int32GetDatum((int32) pg_atomic_read_u32(&slot->restarts)));
#undef SET
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	put_external(rsinfo);
	PG_RETURN_NULL();
}
