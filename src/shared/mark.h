/*
 * mark.h
 *		Marks: groups in which something happened that may let a job in, for the one who promotes.
 *
 * See mark.c.
 */
#ifndef QUEUE_MARK_H
#define QUEUE_MARK_H

#include "shared/mark_table.h"

/*
 * This transaction tells of it when it commits, once for all its marks of one group (the lowest position).  job_id: who
 * came.  False: it has noted so many that this one is told only as one of a range of ids, or as lost.
 */
extern bool queue_mark_note(const QueueMark *mark, int64 job_id);
/* What this transaction has noted, palloc'd; *overflow: more than are kept. */
extern QueueMark *queue_mark_noted(int *n, bool *overflow);
extern bool queue_mark_any_noted(void);
extern void queue_mark_forget_noted(void);
/* This transaction's commit tells of all groups. */
extern void queue_mark_all(void);
/* This transaction has itself let the next one in: what it noted of the group says no more that nobody is. */
extern void queue_mark_settled(const QueueMark *mark);

/*
 * Takes up to max marks of this database out, the oldest first; they go back if this transaction (or subtransaction)
 * aborts.
 */
extern int	queue_mark_take(QueueMark *marks, int max);
extern void queue_mark_take_parked(const QueueMark *mark);	/* the same of this group's, if it is parked */
/*
 * Merges what else was told of the mark's group by now.  For who has the group's lock: who promoted there before, and
 * let go of it, told of that first.
 */
extern void queue_mark_refresh(QueueMark *mark);
extern bool queue_mark_any(void);	/* is there one to take, or a range?  Without a lock */
/*
 * Takes a range of ids out, all of whose jobs may be the first of their groups; false: there is none.  Then how far it
 * was looked through: up to its end, as this goes on.
 */
extern bool queue_mark_take_range(int64 *low, int64 *high);
extern void queue_mark_range_looked(int64 next);
/* Does any mark tell of a place before this one, or may one be missing?  For who follows on in a group. */
extern bool queue_mark_before(const char *queue, const char *key, int64 position);
/*
 * Leaves a mark that nobody takes until another one of its group comes.  position: of a job that was enqueued before
 * the one that is in, and waits for the end of that, or of a mark that is looked at later; PG_INT64_MAX: others wait,
 * as is usual.
 */
extern void queue_mark_park(const char *queue, const char *key, int64 position);

/*
 * For who goes on in a group by himself.  keep: if this transaction commits, and tells of this group only that its head
 * ended, the mark is kept, and nobody else looks at the group, unless he must look already.  kept: it is.  unkeep: it
 * is told after all; so it is by an abort, and at the process's end.
 */
extern void queue_mark_keep(const char *queue, const char *key);
extern bool queue_mark_kept(void);
extern void queue_mark_unkeep(void);	/* commit-safe */

/* Marks were lost, or rows came in without any: all groups are to be looked at.  Commit-safe. */
extern void queue_mark_lose(Oid db);
/* Are all groups to be looked at?  queue_mark_found: they were.  In between, queue_mark_before is true of all. */
extern bool queue_mark_lost(void);
extern void queue_mark_found(void);
/* Is every end told because once too many groups had jobs that wait, and are they few by now? */
extern bool queue_mark_crowd_gone(void);

/* There may be rows in queue.group_mark (job/group.c).  Commit-safe. */
extern void queue_mark_rows(Oid db);
extern bool queue_mark_any_rows(void);	/* without a lock */
extern bool queue_mark_take_rows(void);

#endif
