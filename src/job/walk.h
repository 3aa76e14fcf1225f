/*
 * walk.h
 *		Reading the ready index from a position on, over lines, without cursors.
 */
#ifndef QUEUE_WALK_H
#define QUEUE_WALK_H

#include "job/job.h"

/* A place in the ready index. */
typedef struct QueuePlace
{
	int64		line;
	QueuePos	pos;
} QueuePlace;

#define QUEUE_PLACE_FIRST ((QueuePlace) {PG_INT64_MIN, QUEUE_POS_FIRST})
#define QUEUE_PLACE_LAST ((QueuePlace) {PG_INT64_MAX, {DT_NOEND, PG_INT64_MAX}})

/* Is called with each row (fixed columns only), under the walk's snapshot, which is active. */
typedef void (*QueueWalkVisit) (QueueJobTable *table, const QueueJob *job, void *arg);

extern bool queue_walk(QueueJobTable *table, QueuePlace *from, QueuePlace to, TimestampTz now, int64 budget_us,
					   QueueWalkVisit visit, void *arg);
/* Has the line any row that the latest snapshot sees, due or not, leased or not? */
extern bool queue_walk_any(QueueJobTable *table, int64 line);

#endif
