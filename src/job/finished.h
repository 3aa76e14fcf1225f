/*
 * finished.h
 *		Rows of queue.finished_job: inserted, found by id over all tables of the ring, and deleted.
 */
#ifndef QUEUE_FINISHED_H
#define QUEUE_FINISHED_H

#include "job/record.h"

typedef struct QueueFinished
{
	int			slot;			/* its table */
	QueueJob	job;			/* its line may be gone */
	int64		what;			/* rows of one line and state have the same, and no others */
	char	   *queue;
	char	   *kind;
	int16		priority;
	QueueState	state;
	TimestampTz started_at;		/* 0: it never ran */
	TimestampTz finished_at;
	TimestampTz keep_until;
	char	   *worker;			/* NULL: unknown */
	Jsonb	   *result;			/* NULL: none */
} QueueFinished;

/* Keeps a job that ended for so many us, <= 0: not at all; awaited: only for its dependents.  See queue_kept_insert. */
extern void queue_finished_insert(QueueJobTable *jobs, const QueueJob *job, const QueueConf *conf, const char *kind,
								  int16 priority, QueueState state, const QueueEnding *ending, int64 keep,
								  bool awaited);
/* Copies a row, read whole, to the table of another slot, where it is kept until then.  The same locks. */
extern void queue_finished_copy(QueueJobTable *jobs, int slot, TupleTableSlot *row, TimestampTz until);

/* Opens the table of a slot of the ring, in which all rows are that this transaction has kept, to read it. */
extern Relation queue_finished_open(int slot, LOCKMODE lockmode);
/*
 * Copies a row out of a slot of partition `slot` into palloc'd memory; deep = false leaves worker, payload, extra and
 * result out.
 */
extern void queue_finished_read(TupleTableSlot *row, int slot, bool deep, QueueFinished *finished);
/*
 * By id under the snapshot; keeps AccessShareLock on the partition until the end of the transaction.  False: none is
 * kept.
 */
extern bool queue_finished_find(int64 id, Snapshot snapshot, QueueFinished *finished);
/* The same without worker, payload, extra and result. */
extern bool queue_finished_peek(int64 id, Snapshot snapshot, QueueFinished *finished);
/*
 * Did the job of one of these ids, sorted downwards, end otherwise than completed, after this time, as far as anything
 * is kept of it?  *finished says which and how.  If not, those of which nothing is kept are left in ids.
 */
extern bool queue_finished_bad(int64 *ids, int *n, TimestampTz after, Snapshot snapshot, QueueFinished *finished);
/*
 * Deletes a row that was read whole under `snapshot`, and lets the group go that its job holds: TM_Ok, TM_Updated,
 * TM_Deleted, TM_SelfModified; with wait = false TM_BeingModified or TM_WouldBlock instead of waiting for who has it
 * locked.
 */
extern TM_Result queue_finished_delete(const QueueFinished *finished, Snapshot snapshot, bool wait);
/* The row was held by another transaction; see queue_row_wait_moment. */
extern bool queue_finished_wait_moment(const QueueFinished *finished);
/* Makes finished->job the live row of a retry at run_at, for a row that was deleted; the caller inserts it. */
extern void queue_finished_revive(QueueFinished *finished, TimestampTz run_at);

#endif
