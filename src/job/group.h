/*
 * group.h
 *		FIFO groups: at most one job of a (queue, group_key) is let in, the one with the lowest place.
 *
 * See group.c.
 */
#ifndef QUEUE_GROUP_H
#define QUEUE_GROUP_H

#include "job/job.h"
#include "shared/mark.h"

/* Called when the library is loaded: a trigger notes groups where nothing else of ours runs. */
extern void queue_group_register_callback(void);

/* A job of a group waits for its turn; the caller packs extra and inserts the row.  key as enqueue was given it. */
extern void queue_group_join(QueueJob *job, QueueExtra *extra, const char *key);
/* The same for a finished job that is retried: in its place if it holds its group, else in a new one. */
extern void queue_group_rejoin(QueueJob *job, QueueExtra *extra);
/* What goes with the rows of new jobs: the places of those that have a group. */
extern void queue_group_insert(const QueueJob *jobs, int n);
/*
 * A job's row was deleted: its place is free.  True: it was discarded and goes on holding its group; job->extra then
 * says so, and the finished row must be kept.
 */
extern bool queue_group_ended(QueueJobTable *jobs, QueueJob *job, const QueueLine *line, QueueState to);
/* A kept row of a discarded job is deleted, which may have held its group. */
extern void queue_group_let_go(const char *queue, const QueueJob *job);
/* A waiting job goes to another queue, to the end of its group there. */
extern void queue_group_move(QueueJob *job, QueueExtra *extra, const char *from, const char *to);

/*
 * The job behind the one that this very transaction ended last in this group, under the active snapshot, read whole;
 * whatever blocks it.  False: there is none, or it is not sure that none goes before it.
 */
extern bool queue_group_next(QueueJobTable *jobs, const char *queue, const char *key, QueueJob *job);
extern bool queue_group_has_next(QueueJobTable *jobs);	/* is there one, as far as was read? */
/*
 * The first job behind the mark's position, likewise, for who has ended that one in an earlier transaction, kept the
 * mark, and holds the group's lock since before the active snapshot.
 */
extern bool queue_group_resume(QueueJobTable *jobs, const QueueMark *mark, QueueJob *job);
/*
 * Who is in, or will be the next, of a group, under the snapshot; 0: nobody.  *held: a discarded job holds it.  For
 * people: it does not look at all places.
 */
extern int64 queue_group_head(QueueJobTable *jobs, const char *queue, const char *key, Snapshot snapshot, bool *held);

/* ---- promotion ---- */

typedef enum QueueSettled
{
	QUEUE_GROUP_BUSY,			/* somebody has what is needed: to be tried again */
	QUEUE_GROUP_SETTLED,		/* nothing to do: one is in, or holds it, or it is empty */
	QUEUE_GROUP_PROMOTED		/* one was let in */
} QueueSettled;

/*
 * Lets the first job of the mark's group in, unless one is in or holds it.  READ COMMITTED only.  The same for many
 * groups: all their locks (false: somebody else has it), then a snapshot, made active, then each.
 */
extern QueueSettled queue_group_settle(QueueJobTable *jobs, const QueueMark *mark);
/* Would there be anything to do?  Without a lock, and only as far as the first place tells. */
extern bool queue_group_waits(QueueJobTable *jobs, const QueueMark *mark);
extern bool queue_group_lock(const QueueMark *mark);
extern void queue_group_unlock(const QueueMark *mark);	/* before the transaction's end, if it did nothing there */
/* read: a job of the group as it was read lately; NULL: none. */
extern QueueSettled queue_group_settle_locked(QueueJobTable *jobs, const QueueMark *mark, const QueueJob *read);
/*
 * Lets this very job in for the present transaction, if its group is all that blocks it and it is the first; it is read
 * again then.
 */
extern bool queue_group_let_in(QueueJobTable *jobs, const QueueJob *job);
extern bool queue_group_is_in(QueueJobTable *jobs, int64 id);
/* Marks of up to max groups after that of `after` (empty strings: of the first ones), as they are now; how many. */
extern int	queue_group_all(const QueueMark *after, QueueMark *marks, int max);
/*
 * Of the jobs with ids from *low to high that wait for their turn: marks of up to max groups but those that are known,
 * each with a job of it as read.  How many; *low: where to go on.
 */
extern int	queue_group_range(QueueJobTable *jobs, int64 *low, int64 high,
							  bool (*known) (const char *queue, const char *key), QueueMark *marks, QueueJob *read,
							  int max);
/* Eats up to max rows of queue.group_mark; false: there may be more, or some could not be settled. */
extern bool queue_group_eat_rows(QueueJobTable *jobs, int max);
/* The same for marks in memory too: for who promotes where no scheduler does. */
extern void queue_group_promote(QueueJobTable *jobs);
/*
 * In the groups in which this very transaction enqueued or ended a job: so it can go on with the next one of a group.
 */
extern void queue_group_promote_own(QueueJobTable *jobs);
/* Does nobody promote but who needs it? */
extern bool queue_group_unattended(void);

/* The scheduler remembers who is in.  all: from now on it knows every group in which somebody is. */
extern void queue_group_remember(bool all);

#endif
