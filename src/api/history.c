/*
 * history.c
 *		The function behind queue.history.
 *
 * Locks: none beyond that of shared/history.c.
 */
#include "lib/queue.h"

#include "config/config.h"
#include "shared/clock.h"
#include "shared/history.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_sql_history_rows);

/* queue_internal.history_rows(): what VIEW queue.history shows. */
Datum
queue_sql_history_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueHistory *history = palloc(sizeof(QueueHistory));
	uint32		minute = (uint32) (queue_now() / USECS_PER_MINUTE);
	int			place = 0;

	InitMaterializedSRF(fcinfo, 0);
	while (queue_history_next(&place, history))
	{
		Datum		queue;

		if (queue_config_queue(history->queue, true) == NULL ||
			!queue_may(GetUserId(), history->queue, QUEUE_PRIV_MONITOR))
			continue;
		queue = CStringGetTextDatum(history->queue);
		for (int i = 0; i < QUEUE_HISTORY_MINUTES; i++)
		{
			QueueMinute *m = &history->minutes[i];
			Datum		values[] = {
				queue, TimestampTzGetDatum((TimestampTz) m->minute * USECS_PER_MINUTE), Int64GetDatum(m->enqueued),
				Int64GetDatum(m->completed), Int64GetDatum(m->failed), Int64GetDatum(m->discarded),
				Int64GetDatum(m->waiting), Int64GetDatum(m->oldest_s)
			};
			bool		nulls[lengthof(values)] = {false};

			if (m->minute != 0 && m->minute <= minute && minute - m->minute <= QUEUE_HISTORY_MINUTES)
				tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	PG_RETURN_NULL();
}
