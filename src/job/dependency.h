/*
 * dependency.h
 *		Jobs that wait for others to end: the rows of queue.dependency, and what they say.
 *
 * See dependency.c.  Who lets such jobs in: job/depend.h.
 */
#ifndef QUEUE_DEPENDENCY_H
#define QUEUE_DEPENDENCY_H

#include "job/finished.h"
#include "job/job.h"

/* What a job wants of those that it depends on; QueueExtra.depends_mode. */
typedef enum QueueDependsMode
{
	QUEUE_DEPENDS_NOT,
	QUEUE_DEPENDS_COMPLETED,	/* that they complete: else it is cancelled */
	QUEUE_DEPENDS_FINISHED		/* that they end */
} QueueDependsMode;

#define QUEUE_DEPENDENCY_KEEP USECS_PER_HOUR	/* for what others wait for, at least; and as long as they do */

/* What there is of a job that another one depends on. */
typedef enum QueueDependencyState
{
	QUEUE_DEPENDENCY_LIVE,		/* its end comes later than this look, and sees the rows that were there before it */
	QUEUE_DEPENDENCY_CHANGING,	/* an open transaction ended it: to be looked at again, or its end will remind */
	QUEUE_DEPENDENCY_COMING,	/* an open transaction enqueued or retried it; nothing tells of its rollback */
	QUEUE_DEPENDENCY_ENDED
} QueueDependencyState;

/* *changer: of a changing one, which transaction it is. */
extern QueueDependencyState queue_dependency_look(QueueJobTable *jobs, int64 id, TransactionId *changer);
/*
 * Did one of these, given from the highest downwards, end otherwise than completed after this time, as far as anything
 * is kept of it?  *finished says how.  If not, those of which nothing is kept are left in ids.
 */
extern bool queue_dependency_spoilt(int64 *ids, int *n, TimestampTz after, QueueFinished *finished);

/* Checks the ids that a job shall depend on, sorts them and drops doubles in place; how many are left. */
extern int	queue_dependency_check(int64 *ids, int n, Oid creator);
/*
 * What goes before the rows of new jobs: the rows of what they depend on, and whether they are blocked.  Of a job that
 * comes back its rows are there.
 */
extern void queue_dependency_insert(QueueJobTable *jobs, QueueJob *new, int n);
/*
 * Jobs that were inserted by this transaction although something they depend on has spoilt them: to be cancelled now.
 */
extern int	queue_dependency_doomed(int64 **ids);
/*
 * A job's row was deleted.  True: others depend on it, so its end must be kept.  kept: for how long it is kept anyway,
 * in us.
 */
extern bool queue_dependency_ended(QueueJobTable *jobs, const QueueJob *job, QueueState to, int64 kept);

/* Are there no rows at all, as far as can be told without looking? */
extern bool queue_dependency_none(void);

/* ---- reading the rows, open as long as the table of jobs is ---- */

/*
 * The jobs that depend on `id` or, with of_job, those on which it depends, after this id in order, under the snapshot.
 */
extern void queue_dependency_scan(QueueJobTable *jobs, int64 id, bool of_job, int64 after, Snapshot snapshot);
extern bool queue_dependency_next(QueueJobTable *jobs, int64 *other);
/* Those below this id on which a job depends, from the highest downwards. */
extern void queue_dependency_scan_below(QueueJobTable *jobs, int64 id, int64 below, Snapshot snapshot);
extern bool queue_dependency_previous(QueueJobTable *jobs, int64 *other);
extern void queue_dependency_end_scan(QueueJobTable *jobs);
/* The first job after this one that depends on others; 0: none. */
extern int64 queue_dependency_next_job(QueueJobTable *jobs, int64 after, Snapshot snapshot);
/* Does it depend on any, under the active snapshot? */
extern bool queue_dependency_has_rows(QueueJobTable *jobs, int64 id);
/* Does a live job depend on it, under the active snapshot? */
extern bool queue_dependency_needed(QueueJobTable *jobs, int64 id);
/*
 * One slice of a walk over all rows: those of jobs that nobody knows any more are deleted, of the others the filter of
 * what is awaited learns.  True: that was the last one.
 */
extern bool queue_dependency_sweep(BlockNumber *block, int nblocks);

#endif
