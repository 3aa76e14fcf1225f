/*
 * ended.h
 *		How jobs ended in the transaction under way: told after its commit to the memory of recent jobs.
 */
#ifndef QUEUE_ENDED_H
#define QUEUE_ENDED_H

#include "shared/recent.h"

#define QUEUE_ENDED_MAX 10000	/* of a transaction; what ends beyond that is not told */

typedef struct QueueEnded
{
	int			level;			/* transaction nest level; set by ended.c */
	QueueRecent recent;
} QueueEnded;

/* A place for one more, to be filled at once; NULL: none is left, or there is nobody to tell (no preload). */
extern QueueEnded *queue_ended_new(void);

/* For note.c, whose callbacks these belong to; all commit-safe. */
extern void queue_ended_pay(Oid db, QueueEnded *ended, int n, TimestampTz now);
extern void queue_ended_subxact(bool commit, int level);	/* handed to the parent, or dropped */
extern int	queue_ended_all(QueueEnded **ended);	/* those of this transaction */
extern void queue_ended_forget(void);

#endif
