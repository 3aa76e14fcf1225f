/*
 * minutes.c
 *		The chore that records queue.history: each queue, when a minute is over.
 *
 * A slice ends with the first queue whose oldest job had to be looked for.
 *
 * Locks: those of shared/history.c; AccessShareLock on live_job.
 */
#include "scheduler/minutes.h"

#include "api/oldest.h"
#include "api/stats.h"
#include "shared/clock.h"
#include "shared/history.h"

static uint32 recorded = 0;		/* the minute up to which all is recorded; 0: none yet */
static int	next_queue = 0;		/* of the next minute */
static QueueConfig *swept;

/* Does the configuration know the queue?  For queue_history_sweep. */
static bool
known(const char *queue)
{
	return queue_config_find(swept, queue) != NULL;
}

/* Records one queue.  True: jobs wait there, so the table was looked at. */
static bool
record(QueueConf *conf, uint32 minute, TimestampTz now)
{
	QueueCounter *counter = queue_counter(conf->counter, true);
	Datum		gauges[QUEUE_NGAUGES];
	int64		waiting;
	TimestampTz oldest = DT_NOEND;

	if (counter == NULL)
		return false;
	queue_stats_gauges(counter, queue_stats_running(conf->name, NULL), gauges);
	waiting = DatumGetInt64(gauges[QUEUE_STAT_AVAILABLE]);
	if (waiting > 0)
	{
		QueueJobTable *table = queue_job_open(AccessShareLock);

		oldest = queue_oldest_of(table, conf);
		queue_job_close(table);
	}
	queue_history_record(conf->name, counter, minute, Min(waiting, PG_UINT32_MAX),
						 oldest < now ? Min((now - oldest) / USECS_PER_SEC, PG_UINT32_MAX) : 0);
	return waiting > 0;
}

TimestampTz
queue_minutes_run(TimestampTz now)
{
	QueueConfig *config = queue_config();
	uint32		minute = (uint32) (now / USECS_PER_MINUTE);

	if (recorded == 0 || recorded > minute)
	{
		recorded = minute;		/* the first one is recorded when it is over, like all */
		next_queue = 0;
	}
	while (recorded < minute && next_queue < config->nqueues)
	{
		if (record(config->queues[next_queue++], minute - 1, now))
			return now;
	}
	if (recorded < minute)
	{
		swept = config;
		queue_history_sweep(known);
		recorded = minute;
		next_queue = 0;
	}
	return (TimestampTz) (recorded + 1) * USECS_PER_MINUTE;
}
