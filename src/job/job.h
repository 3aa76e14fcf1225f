/*
 * job.h
 *		The row of a job as a struct, and every write to the job tables.
 *
 * Each write here also makes the note that its transaction owes to others (note.h), so
 * no caller can forget one.  Lock order and rules: job.c.
 */
#ifndef QUEUE_JOB_H
#define QUEUE_JOB_H

#include "config/lines.h"
#include "job/extra.h"
#include "shared/note.h"

#include "executor/tuptable.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

typedef struct QueueJob
{
	ItemPointerData tid;
	int64		id;
	TimestampTz run_at;
	int64		line;
	TimestampTz leased_until;	/* DT_NOBEGIN: not leased (NULL in the row) */
	int			attempt;
	int			failures;
	Jsonb	   *payload;
	Jsonb	   *extra;			/* rare things by name; NULL: none. See QueueExtra */

	/*
	 * The two as the row has them, where that is compressed or out of line (payload of a lean reading: always); else
	 * NULL.  An update that leaves the pointer above as it is writes this again: nothing is toasted anew.
	 */
	struct varlena *stored_payload;
	struct varlena *stored_extra;
	const char *problem;		/* why one of them could not be read and is NULL; NULL: there is none */
	int64	   *depends_on;		/* of a job to be enqueued: the ids that it depends on, sorted */
	int			ndepends;
	bool		joins;			/* likewise: it joins its workflow */
} QueueJob;

/* The open live_job table; in the current memory context, valid in the current transaction. */
typedef struct QueueJobTable
{
	Relation	rel;
	LOCKMODE	lockmode;
	struct ResourceOwnerData *owner;	/* who opened it: a subtransaction's end must not close its indexes */
	Oid			pkey_oid;
	Oid			ready_oid;
	Relation	pkey;			/* NULL until queue_job_pkey() */
	Relation	ready;			/* NULL until queue_job_ready() */
	TupleTableSlot *slot;		/* buffer-heap slot for reading */
	TupleTableSlot *wslot;		/* virtual slot for writing; made at the first write */
	BlockNumber nblocks;		/* of rel, read once: our lock keeps it from shrinking; 0: not read yet */
	struct EState *estate;		/* made at the first write that needs indexes or triggers */
	struct ResultRelInfo *rri;
	struct QueueGroupPlaces *places; /* live_key, which group.c opens when it is asked for; NULL: not yet */
	void		(*close_places) (struct QueueJobTable *table);
	struct QueueDependencies *dependencies; /* likewise dependency.c's */
	void		(*close_dependencies) (struct QueueJobTable *table);
	struct QueueKept *kept;		/* likewise finished.c's: where ends are inserted */
	void		(*close_kept) (struct QueueJobTable *table);
} QueueJobTable;

extern QueueJobTable *queue_job_open(LOCKMODE lockmode);
extern Relation queue_job_pkey(QueueJobTable *table);	/* opened when it is asked for: an insert reads no index.. */
extern Relation queue_job_ready(QueueJobTable *table);	/* ..and a completion only the primary key */
extern void queue_job_close(QueueJobTable *table);	/* keeps the lock until the end of the transaction */
extern void queue_job_release(QueueJobTable *table); /* gives it back: nothing was written */

/*
 * Copies the row out of a slot into palloc'd memory; deep = false leaves payload and extra NULL (fixed columns only).
 */
extern void queue_job_read(TupleTableSlot *slot, QueueJob *job, bool deep);
extern void queue_job_read_lean(TupleTableSlot *slot, QueueJob *job);	/* as queue_job_find_lean */
/*
 * By primary key under the snapshot; false: no visible row.  lean: without detoasting the payload (NULL), for who only
 * changes or ends the row.
 */
extern bool queue_job_find(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job);
/* What the job's finished row shall have as payload: also of a lean reading, and of a job that cannot be read. */
extern Datum queue_job_kept_payload(const QueueJob *job);
extern bool queue_job_find_lean(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job);
extern bool queue_job_peek(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job);	/* fixed columns only */
/* By a tid read earlier; falls back to the primary key when the row moved. */
extern bool queue_job_refind(QueueJobTable *table, ItemPointer tid, int64 id, Snapshot snapshot, QueueJob *job);

extern void queue_job_insert(QueueJobTable *table, QueueJob *job);	/* sets job->tid */
extern void queue_job_insert_many(QueueJobTable *table, QueueJob *jobs, int n);
/*
 * The row gets another deadline (DT_NOEND: none) in the caller's transaction; what is there for the old one finds
 * nothing to do.
 */
extern void queue_job_note_deadline(const QueueJob *job, TimestampTz at);
/*
 * TM_Ok, TM_BeingModified/TM_WouldBlock (only with wait = false), TM_Updated, TM_Deleted, TM_SelfModified.
 * `old` is the row as read under `snapshot`.  A lock of this transaction's own is in nobody's way.
 */
extern TM_Result queue_job_update(QueueJobTable *table, const QueueJob *old, QueueJob *new, Snapshot snapshot,
								  bool wait);
/* `to`: QUEUE_STATE_COMPLETED, .. for the counters, or NONE when the row is moved or purged without an end. */
extern TM_Result queue_job_delete(QueueJobTable *table, const QueueJob *old, QueueState to, Snapshot snapshot,
								  bool wait);
extern TM_Result queue_job_lock(QueueJobTable *table, const QueueJob *old, Snapshot snapshot, bool wait);

/* Queue, kind, priority and handler of a job's line; 55000 if there is no such line. */
extern QueueLine *queue_job_line(int64 line);

/* What notes and waiters know a line by. */
extern QueueLineKeys queue_line_keys(const QueueLine *line);

/* A job of this line is claimable from now on: tells the cursor, the scheduler and who waits. Not transactional. */
extern void queue_line_claimable(const QueueLine *line, QueuePos pos);
/*
 * A job that was taken out of the others' sight (a channel's entry, an exact key) was neither claimed nor found gone:
 * tells all who may want it.  Also outside of transactions and at exit; then all who wait for anything look.
 */
extern void queue_job_give_back(int64 line, QueuePos pos);

/*
 * Has another transaction, still open, locked this row or changed it?  An executor that runs a job alone only locks
 * it.
 */
extern bool queue_job_row_locked(QueueJobTable *table, const QueueJob *job);
/* Did this very transaction, still open, insert or change the row? */
extern bool queue_job_row_own(QueueJobTable *table, const QueueJob *job);

/* The state under which counters file this row (by its columns alone, not by the clock). */
extern QueueState queue_job_filed(const QueueJob *job);
/* The state that the view shows at `now`. */
extern QueueState queue_job_state(const QueueJob *job, TimestampTz now);
extern int	queue_job_max_attempts(const QueueJob *job, const QueueExtra *extra, const QueueConf *conf,
									const QueueHandler *handler);
static inline QueuePos
queue_job_pos(const QueueJob *job)
{
	return (QueuePos) {job->run_at, job->id};
}

#endif
