/*
 * history.h
 *		What each queue did in each minute of the last 24 hours, in shared memory.
 *
 * Places are bounded, of each database and of all; a queue that finds none has no history.  doctor() says so.
 */
#ifndef QUEUE_HISTORY_H
#define QUEUE_HISTORY_H

#include "shared/counter.h"

#define QUEUE_HISTORY_MINUTES 1440
#define QUEUE_HISTORY_PLACES 256
#define QUEUE_HISTORY_OF_DATABASE 64

typedef struct QueueMinute
{
	uint32		minute;			/* since 2000; 0: nothing is known */
	uint32		enqueued, completed, failed, discarded; /* in it */
	uint32		waiting;		/* due and not running, at its end .. */
	uint32		oldest_s;		/* .. and how long the oldest of them waited, seconds */
} QueueMinute;

typedef struct QueueHistory		/* of one queue */
{
	Oid			db;				/* InvalidOid: free */
	char		queue[QUEUE_NAME_MAX + 1];
	/* the totals when it was recorded last, and since when they counted */
	uint64		enqueued, completed, failed, discarded, reset_at;
	QueueMinute minutes[QUEUE_HISTORY_MINUTES];
} QueueHistory;

extern Size queue_history_shmem_size(void);
extern void queue_history_shmem_init(void);
/* Records a minute of a queue of this database, now that it is over; what it did is told by its counter's totals. */
extern void queue_history_record(const char *queue, QueueCounter *counter, uint32 minute, int64 waiting,
								 int64 oldest_s);
/* Gives up the places of this database's queues that are not known any more.  known must not throw. */
extern void queue_history_sweep(bool (*known) (const char *queue));
/* Copies the next place of this database from *i on, which is 0 at first; false: that was all. */
extern bool queue_history_next(int *i, QueueHistory *history);
/* How many queues of this database have a history. */
extern int	queue_history_count(void);
extern void queue_history_reset(Oid db);	/* the database, or its extension, is gone.  Commit-safe. */

#endif
