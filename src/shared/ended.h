/*
 * ended.h
 *		How jobs, and attempts at them, ended in the transaction under way: told after its commit to the memory of
 *		recent jobs and to the numbers of their kind.
 */
#ifndef QUEUE_ENDED_H
#define QUEUE_ENDED_H

#include "shared/recent.h"

#define QUEUE_ENDED_MAX 10000	/* of a transaction; what ends beyond that is not told */

typedef struct QueueEnded
{
	int			level;			/* transaction nest level; set by ended.c */
	QueueCounterRef *counter;	/* of the kind in its queue */
	int64		wait_us;		/* how long the attempt waited and ran; -1: not to be counted */
	int64		run_us;
	QueueRecent recent;			/* id 0: the job goes on */
} QueueEnded;

/* A place for one more, to be filled at once; NULL: none is left, or there is nobody to tell (no preload). */
extern QueueEnded *queue_ended_new(void);

extern Size queue_ended_shmem_size(void);
extern void queue_ended_shmem_init(void);
/*
 * An end is in force for others a moment before it is told.  So who finds no job, and is not told how it ended, asks
 * which processes just commit ends, waits until these have told them, and looks again.  The answer: palloc'd.
 */
extern uint32 *queue_ended_committers(void);
extern bool queue_ended_told(const uint32 *committers);
/* Around a commit of ends, from before it takes effect until they are told; the second one also if there is none. */
extern void queue_ended_commit_begins(void);
extern void queue_ended_commit_over(void);

/* For note.c, whose callbacks these belong to; all commit-safe. */
extern void queue_ended_pay(Oid db, QueueEnded *ended, int n, TimestampTz now);
extern void queue_ended_subxact(bool commit, int level);	/* handed to the parent, or dropped */
extern int	queue_ended_all(QueueEnded **ended);	/* those of this transaction */
extern void queue_ended_forget(void);

#endif
