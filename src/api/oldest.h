/*
 * oldest.h
 *		Since when the oldest job of a queue, or of a kind in it, waits.
 */
#ifndef QUEUE_OLDEST_H
#define QUEUE_OLDEST_H

#include "job/job.h"

#include "utils/hsearch.h"

/* What is asked for; the first field of an entry of the table. */
typedef struct QueueOldest
{
	QueueCounterRef *ref;		/* the key: of a queue, or of a kind in it */
	TimestampTz since;			/* DT_NOEND: nothing due waits, as far as was seen */
	bool		awaited;		/* its numbers say that something does */
	int			looks;			/* at lines */
} QueueOldest;

extern HTAB *queue_oldest_table(Size entry_size);
extern QueueOldest *queue_oldest_want(HTAB *table, QueueCounterRef *ref, bool awaited);
/*
 * Fills in since when they wait, of queues or of kinds.  What is not awaited is only found by the way.  With live_job
 * open.
 */
extern void queue_oldest_find(QueueJobTable *table, HTAB *wanted, bool by_kind);
extern TimestampTz queue_oldest_since(HTAB *table, QueueCounterRef *ref);
/* The same of one queue. */
extern TimestampTz queue_oldest_of(QueueJobTable *table, const QueueConf *conf);

#endif
