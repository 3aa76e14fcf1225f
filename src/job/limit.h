/*
 * limit.h
 *		The limits of a claim: whether it may be made now, counting for new ones, and how much may be read ahead.
 */
#ifndef QUEUE_JOB_LIMIT_H
#define QUEUE_JOB_LIMIT_H

#include "job/limit_rows.h"
#include "job/ready.h"

/*
 * May a claim of this job, with this concurrency key, be made now?  Takes a unit and tokens, if it was not given those
 * before (paid); the caller calls queue_limit_undo if it then makes none.  For who is under no limit it costs nothing.
 */
extern bool queue_limit_admit(const QueueLine *line, const QueueJob *job, const char *key, QueueUnitKind kind,
							  TimestampTz until, bool paid, QueueLimitRefusal *refusal);
/*
 * Is one of the line's limits full for a session that fetches?  *refusal: which, and when to look again; a give-back
 * wakes.  False may be wrong; the claim tells.
 */
extern bool queue_limit_blocked(const QueueLine *line, QueueLimitRefusal *refusal);
extern void queue_limit_undo(const QueueLine *line, const QueueJob *job, QueueUnitKind kind);
/* May its lease be made to end at `until`?  False: it ended, and another has its place. */
extern bool queue_limit_extend(const QueueLine *line, const QueueJob *job, TimestampTz until);
/* Does the job stand in a line for jobs of any key, although each key has limits of its own? */
extern bool queue_limit_misplaced(const QueueLine *line, const char *key);

/* The far look meets a lease: it may have come without its unit, by a restore or from a prepared transaction. */
extern void queue_limit_seen(QueueJobTable *table, const QueueLine *line, const QueueJob *job);

/* Which limit is in the way of the line's jobs now, in words; NULL: none. */
extern char *queue_limit_explain(const QueueLine *line);

/* ---- how much is read ahead ---- */

/* What of each limit is used by jobs that were read and not claimed yet. */
typedef struct QueueTally QueueTally;

/* Of one round of the scheduler; NULL: no line has limits. */
extern QueueTally *queue_tally_begin(TimestampTz now);
/* As queue_ready_next, but of lines that have room; the row counts as read ahead. */
extern bool queue_tally_next(QueueTally *tally, QueueReady *ready, QueueJob *job, QueueLine **line);
/* Has the line room for one more job? */
extern bool queue_tally_room(QueueTally *tally, const QueueLine *line);
/*
 * How many jobs of an HTTP handler others than its worker have, which has `own`: a give-back wakes the scheduler.
 * tally NULL: for the worker.
 */
extern int	queue_tally_others(QueueTally *tally, const QueueHandler *handler, int own);
/* Was no room found for a line because its queue has none? */
extern bool queue_tally_shut(const QueueTally *tally, const QueueLine *line);
/* When to look again though nobody wakes; DT_NOEND: never. */
extern TimestampTz queue_tally_when(const QueueTally *tally);

#endif
