/*
 * kinds.c
 *		The function behind queue.stat_kind, and stat_reset.
 *
 * Shown are the kinds that are counted, and those that have a line; the numbers are read from shared memory, and only
 * oldest_run_at looks at a few rows (oldest.c).
 *
 * Locks: none beyond those of the structures read; AccessShareLock on live_job.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/oldest.h"
#include "api/stats.h"
#include "config/owner.h"
#include "shared/clock.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

PG_FUNCTION_INFO_V1(queue_sql_stat_kind_rows);
PG_FUNCTION_INFO_V1(queue_sql_stat_reset);

/* The columns of stat_kind. */
enum
{
	QUEUE, KIND, GAUGES, OLDEST_RUN_AT = GAUGES + QUEUE_NGAUGES, WAIT_MS, RUN_MS = WAIT_MS + 3,
	COMPLETED = RUN_MS + 3, FAILED, DISCARDED, NKIND
};

/* A kind in a queue that the reader may know of. */
typedef struct Kind
{
	QueueOldest oldest;			/* and the key, which has the names */
	QueueKindCounter *numbers;	/* NULL: none were copied */
} Kind;

/* Collects what the caller may see: what is counted, then what has lines. */
static HTAB *
collect(QueueJobTable *table)
{
	HTAB	   *kinds = queue_oldest_table(sizeof(Kind));
	int			ncopies;
	QueueKindCounter *copies = queue_counter_copies(&ncopies);
	QueueConfig *config = queue_config_keep();
	Kind	   *kind;
	bool		found;

	for (int i = 0; i < ncopies; i++)
	{
		QueueCounterKey *key = &copies[i].counter.key;
		QueueConf  *conf = queue_config_find(config, key->name);
		Datum		gauges[QUEUE_NGAUGES];

		if (conf == NULL || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			continue;
		queue_stats_gauges(&copies[i].counter, queue_stats_running(key->name, key->kind), gauges);
		kind = (Kind *) queue_oldest_want(kinds, queue_counter_kind_ref(conf->counter, key->kind),
										  DatumGetInt64(gauges[QUEUE_STAT_AVAILABLE]) > 0);
		kind->numbers = &copies[i];
	}
	for (int i = 0; i < config->nqueues; i++)
	{
		QueueLine **lines;
		int			nlines;

		if (!queue_may(GetUserId(), config->queues[i]->name, QUEUE_PRIV_MONITOR))
			continue;
		lines = queue_lines_of(config->queues[i], &nlines);
		for (int j = 0; j < nlines; j++)
		{
			QueueCounterRef *ref = queue_line_counter(lines[j]);

			CHECK_FOR_INTERRUPTS();
			(void) hash_search(kinds, &ref, HASH_FIND, &found);
			if (!found)
				((Kind *) queue_oldest_want(kinds, ref, false))->numbers = NULL;
		}
	}
	queue_oldest_find(table, kinds, true);
	return kinds;
}

/* The 50th, 95th and 99th percentile in milliseconds; null if nothing was measured. */
static void
percentiles(QueueTimes *times, Datum *values, bool *nulls)
{
	static const double shares[] = {0.5, 0.95, 0.99};

	for (int i = 0; i < lengthof(shares); i++)
	{
		double		us = queue_times_percentile(times, shares[i]);

		nulls[i] = us < 0;
		values[i] = Float8GetDatum(us / 1000.0);
	}
}

/* queue_internal.stat_kind_rows(): what VIEW queue.stat_kind shows. */
Datum
queue_sql_stat_kind_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueJobTable *table;
	HASH_SEQ_STATUS seq;
	Kind	   *kind;
	int			held = queue_config_hold();

	InitMaterializedSRF(fcinfo, 0);
	table = queue_job_open(AccessShareLock);
	hash_seq_init(&seq, collect(table));
	while ((kind = hash_seq_search(&seq)) != NULL)
	{
		QueueCounter *counter = kind->numbers != NULL ? &kind->numbers->counter : queue_counter_shown(kind->oldest.ref);
		Datum		values[NKIND];
		bool		nulls[NKIND];

		memset(nulls, true, sizeof(nulls));
		values[QUEUE] = CStringGetTextDatum(kind->oldest.ref->queue->name);
		values[KIND] = CStringGetTextDatum(kind->oldest.ref->name);
		nulls[QUEUE] = nulls[KIND] = false;
		values[OLDEST_RUN_AT] = TimestampTzGetDatum(kind->oldest.since);
		nulls[OLDEST_RUN_AT] = kind->oldest.since == DT_NOEND;
		if (counter != NULL)
		{
			memset(&nulls[GAUGES], false, QUEUE_NGAUGES * sizeof(bool));
			queue_stats_gauges(counter, queue_stats_running(kind->oldest.ref->queue->name, kind->oldest.ref->name),
							   &values[GAUGES]);
			percentiles(&((QueueKindCounter *) counter)->wait, &values[WAIT_MS], &nulls[WAIT_MS]);
			percentiles(&((QueueKindCounter *) counter)->run, &values[RUN_MS], &nulls[RUN_MS]);
			values[COMPLETED] = Int64GetDatum(queue_stats_number(&counter->ended[QUEUE_STATE_COMPLETED]));
			values[FAILED] = Int64GetDatum(queue_stats_number(&counter->failed));
			values[DISCARDED] = Int64GetDatum(queue_stats_number(&counter->ended[QUEUE_STATE_DISCARDED]));
			nulls[COMPLETED] = nulls[FAILED] = nulls[DISCARDED] = false;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	queue_job_close(table);
	queue_config_release(held);
	PG_RETURN_NULL();
}

/* queue.stat_reset(queue): manage on the queue, or on '*' for all. */
Datum
queue_sql_stat_reset(PG_FUNCTION_ARGS)
{
	char	   *queue = PG_ARGISNULL(0) ? NULL : queue_arg_name(fcinfo, 0, "queue", true);

	if (queue != NULL && strcmp(queue, "*") == 0)
		queue = NULL;
	queue_require(queue, QUEUE_PRIV_MANAGE);
	if (queue != NULL)
		(void) queue_config_queue(queue, false);
	queue_counter_restart(queue);
	PG_RETURN_VOID();
}
