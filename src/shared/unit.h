/*
 * unit.h
 *		Units: the claims in force under limits; and the rates at which claims may be made.
 */
#ifndef QUEUE_UNIT_H
#define QUEUE_UNIT_H

#include "shared/meter.h"

typedef enum QueueUnitAnswer
{
	QUEUE_UNIT_TAKEN,
	QUEUE_UNIT_FULL,			/* max_running: who gives one back wakes; a lease ends at refusal->when */
	QUEUE_UNIT_RATE,			/* rate_limit: there is a token again at refusal->when */
	QUEUE_UNIT_UNCOUNTED,		/* somebody must count first (job/limit.c) */
	QUEUE_UNIT_HELD				/* the job has one: it is somebody's */
} QueueUnitAnswer;

typedef struct QueueUnitRefusal
{
	QueueLimitOf of;
	TimestampTz when;
} QueueUnitRefusal;

extern void queue_unit_register_callbacks(void);	/* _PG_init */

/*
 * Takes a unit for the job, and a token of each rate, or nothing.  A lease's unit (it ends at `until`) is let go if
 * the (sub)transaction aborts; a run's when its transaction ends, and until then it serves the transaction's next job
 * under the same limits.
 */
extern QueueUnitAnswer queue_unit_take(const QueueLimits *limits, QueueUnitKind kind, int64 job, TimestampTz until,
									   QueueUnitRefusal *refusal);
/*
 * In between, tokens are taken for a claim whose row is still to be written: if that fails they go back with what is
 * undone.  ok: it was written.
 */
extern void queue_unit_claim_begin(void);
extern void queue_unit_claim_end(bool ok);
/* The lease for which a unit was taken just now was not made. */
extern void queue_unit_undo(int64 job);
/* The lease of a job is to end at `until`: false if its unit had been let go and there is none to take. */
extern bool queue_unit_extend(const QueueLimits *limits, int64 job, TimestampTz until);
/* A row was written: the job's lease ends with this transaction (0), or already at `until`. */
extern void queue_unit_row(int64 job, TimestampTz until);
/* This session's claim is over.  Commit-safe. */
extern void queue_unit_drop_session(int64 job);
/* It ends with this transaction, of which PREPARE could not tell: that is refused. */
extern void queue_unit_finish_session(int64 job);

/* Has this transaction ended leases whose units serve its next claims? */
extern bool queue_unit_ended_any(void);

/* ---- counting (job/limit.c) ---- */

typedef enum QueueCount
{
	QUEUE_COUNT_DONE,			/* the limit's units are counted */
	QUEUE_COUNT_FIRST,			/* the caller bumps the generation, calls queue_unit_announced, and asks again */
	QUEUE_COUNT_YOURS,			/* the caller adds what is in force, then calls queue_unit_counted */
	QUEUE_COUNT_OTHERS			/* somebody else does */
} QueueCount;
extern QueueCount queue_unit_count_state(const QueueLimit *limit, QueueLimitOf of, uint64 *announced);
/* For a limit that has not counted and for which that was not done. */
extern void queue_unit_announced(const QueueLimit *limit, QueueLimitOf of, uint64 announced);
extern void queue_unit_counted(const QueueLimit *limit, QueueLimitOf of, bool all);	/* false: it was not possible yet */
/* A claim in force that may lack its unit gets it, whatever the limits are.  False: it has one. */
extern bool queue_unit_add(const QueueLimits *limits, QueueUnitKind kind, pid_t owner, int64 job, TimestampTz until);
/* What was added should not have been. */
extern void queue_unit_remove(QueueUnitKind kind, pid_t owner, int64 job);

#endif
