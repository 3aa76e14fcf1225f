/*
 * pending.h
 *		Jobs that something blocks: held out of their line, and let in again.
 */
#ifndef QUEUE_PENDING_H
#define QUEUE_PENDING_H

#include "job/job.h"

/* What blocks a job, as bits of QueueExtra.blocks; it is pending until the last of them is gone. */
#define QUEUE_BLOCK_GROUP		0x01	/* another job of its group goes first */
#define QUEUE_BLOCK_KEY			0x02	/* the job before it with its unique key has not ended */
#define QUEUE_BLOCK_DEPENDENCY	0x04	/* a job that it depends on has not ended */
#define QUEUE_BLOCK_EVENT		0x08	/* it awaits an event */

static inline bool
queue_job_pending(const QueueJob *job)
{
	return job->run_at == DT_NOEND;
}

/* When the job shall run as far as its user knows: of a pending one, the time that it is let in at the earliest. */
static inline TimestampTz
queue_job_asked(const QueueJob *job, const QueueExtra *extra)
{
	return queue_job_pending(job) && extra->run_at != 0 ? extra->run_at : job->run_at;
}

/*
 * The one way to give a job another time: of a pending one it is kept until the job is let in.  Keeps the time of the
 * enqueue.  The caller packs extra and writes the row.
 */
extern void queue_job_set_run_at(QueueJob *job, QueueExtra *extra, TimestampTz run_at);
/* Blocks a job, also one that waits in its line; the caller packs extra and writes the row. */
extern void queue_job_hold(QueueJob *job, QueueExtra *extra, int block);
/*
 * Takes one block away, in the row as read (lean or deep) under `snapshot`.  Without any other the job enters its line:
 * at the time that was asked for, or now, behind those that are due.  Results as of queue_job_update.
 */
extern TM_Result queue_job_promote(QueueJobTable *table, const QueueJob *job, int block, Snapshot snapshot, bool wait);

#endif
