/*
 * kinds.c
 *		The function behind queue.stat_kind, and stat_reset.
 *
 * Shown are the kinds that are counted, and those that have a line; the numbers are read from shared memory, and only
 * oldest_run_at looks at the few index entries behind each line's cursor.
 *
 * Locks: none beyond those of the structures read; AccessShareLock on live_job.
 */
#include "lib/queue.h"

#include "api/arguments.h"
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
	QueueCounterRef *ref;		/* the key; has the names */
	TimestampTz oldest;
	QueueKindCounter *numbers;	/* NULL: none were copied */
} Kind;

/* The entry of a kind, made if need be. */
static Kind *
kind_of(HTAB *table, QueueCounterRef *ref)
{
	bool		found;
	Kind	   *kind = hash_search(table, &ref, HASH_ENTER, &found);

	if (!found)
	{
		kind->oldest = DT_NOEND;
		kind->numbers = NULL;
	}
	return kind;
}

/* Collects what the caller may see: what is counted, then what has lines. */
static HTAB *
collect(QueueJobTable *table)
{
	HASHCTL ctl = {.keysize = sizeof(QueueCounterRef *), .entrysize = sizeof(Kind), .hcxt = CurrentMemoryContext};
	HTAB	   *kinds = hash_create("queue kinds", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int			ncopies;
	QueueKindCounter *copies = queue_counter_copies(&ncopies);
	int			npulled;
	QueueEntry *pulled = queue_stats_pulled(table, &npulled);
	QueueConfig *config = queue_config();
	TimestampTz now = queue_now();

	for (int i = 0; i < ncopies; i++)
	{
		QueueCounterKey *key = &copies[i].counter.key;
		QueueConf  *conf = queue_config_find(config, key->name);

		if (conf != NULL && queue_may(GetUserId(), conf->name, QUEUE_PRIV_MONITOR))
			kind_of(kinds, queue_counter_kind_ref(conf->counter, key->kind))->numbers = &copies[i];
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
			Kind	   *kind = kind_of(kinds, queue_line_counter(lines[j]));

			CHECK_FOR_INTERRUPTS();
			kind->oldest = queue_earlier(kind->oldest, queue_stats_oldest(table, lines[j], now));
		}
	}
	for (int i = 0; i < npulled; i++)
	{
		QueueLine  *line = queue_config_line(pulled[i].line);
		QueueCounterRef *ref = line == NULL ? NULL : queue_line_counter(line);
		Kind	   *kind = ref == NULL ? NULL : hash_search(kinds, &ref, HASH_FIND, NULL);

		if (kind != NULL)
			kind->oldest = Min(kind->oldest, pulled[i].run_at);
	}
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
		QueueCounter *counter = kind->numbers != NULL ? &kind->numbers->counter : queue_counter_shown(kind->ref);
		Datum		values[NKIND];
		bool		nulls[NKIND];

		memset(nulls, true, sizeof(nulls));
		values[QUEUE] = CStringGetTextDatum(kind->ref->queue->name);
		values[KIND] = CStringGetTextDatum(kind->ref->name);
		nulls[QUEUE] = nulls[KIND] = false;
		values[OLDEST_RUN_AT] = TimestampTzGetDatum(kind->oldest);
		nulls[OLDEST_RUN_AT] = kind->oldest == DT_NOEND;
		if (counter != NULL)
		{
			memset(&nulls[GAUGES], false, QUEUE_NGAUGES * sizeof(bool));
			queue_stats_gauges(counter, queue_stats_running(kind->ref->queue->name, kind->ref->name), &values[GAUGES]);
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
