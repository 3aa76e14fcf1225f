/*
 * stats.h
 *		How long a queue's jobs wait, for the views and doctor().
 */
#ifndef QUEUE_STATS_H
#define QUEUE_STATS_H

#include "config/config.h"
#include "job/job.h"

/* Since when its oldest due and unclaimed job waits, as near as a few looks tell; DT_NOEND: none does. */
extern TimestampTz queue_stats_oldest_run_at(QueueJobTable *table, const QueueConf *conf);

#endif
