/*
 * job.h
 *		The row of a job as a struct, and every write to the job tables.
 *
 * Each write here also makes the note that its transaction owes to others (note.h), so
 * no caller can forget one.  Lock order and rules: job.c.
 */
#ifndef QUEUE_JOB_H
#define QUEUE_JOB_H

#include "config/config.h"
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
} QueueJob;

/* live_job.extra, unpacked. Anything at its default is left out of the row. */
typedef struct QueueExtra
{
	TimestampTz enqueued_at;	/* 0: equal to run_at */
	int			max_attempts;	/* 0: handler's, else queue's */
	int64		timeout;		/* us; -1: handler's, else the queue's lease; 0: none */
	Jsonb	   *headers;
	Jsonb	   *tags;			/* array of strings */
	Jsonb	   *progress;
	char	   *last_error;
	char	   *worker;
	TimestampTz started_at;		/* of the present claim; 0 */
	TimestampTz first_at;		/* of the first HTTP attempt; 0 */
	TimestampTz expires_at;		/* cancelled if it was not started by then; 0: never */
	int			deaths;			/* processes that died while they ran it alone */
} QueueExtra;

/* The open live_job table; in the current memory context, valid in the current transaction. */
typedef struct QueueJobTable
{
	Relation	rel;
	Relation	pkey;
	Relation	ready;
	TupleTableSlot *slot;		/* buffer-heap slot for reading */
	TupleTableSlot *wslot;		/* virtual slot for writing; made at the first write */
	BlockNumber nblocks;		/* of rel, read once: our lock keeps it from shrinking; 0: not read yet */
	struct EState *estate;		/* made at the first write that needs indexes or triggers */
	struct ResultRelInfo *rri;
} QueueJobTable;

extern QueueJobTable *queue_job_open(LOCKMODE lockmode);
extern void queue_job_close(QueueJobTable *table);	/* keeps the lock until the end of the transaction */
extern void queue_job_release(QueueJobTable *table, LOCKMODE lockmode); /* gives it back: nothing was written */

/* extra.c */
extern void queue_extra_unpack(const Jsonb *extra, QueueExtra *out);
extern Jsonb *queue_extra_pack(const QueueExtra *extra);	/* NULL when all is at its default */
extern TimestampTz queue_extra_time(const Jsonb *extra, const char *key);	/* one number of it; 0: not there */

/* Copies the row out of a slot into palloc'd memory; deep = false leaves payload and extra NULL (fixed columns only). */
extern void queue_job_read(TupleTableSlot *slot, QueueJob *job, bool deep);
/* By primary key under the snapshot; false: no visible row. */
extern bool queue_job_find(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job);
extern bool queue_job_peek(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job);	/* fixed columns only */
/* By a tid read earlier; falls back to the primary key when the row moved. */
extern bool queue_job_refind(QueueJobTable *table, ItemPointer tid, int64 id, Snapshot snapshot, QueueJob *job);

extern void queue_job_insert(QueueJobTable *table, QueueJob *job);	/* sets job->tid */
extern void queue_job_insert_many(QueueJobTable *table, QueueJob *jobs, int n);
/*
 * TM_Ok, TM_BeingModified/TM_WouldBlock (only with wait = false), TM_Updated, TM_Deleted, TM_SelfModified.
 * `old` is the row as read under `snapshot`.
 */
extern TM_Result queue_job_update(QueueJobTable *table, const QueueJob *old, QueueJob *new, Snapshot snapshot, bool wait);
/* `to`: QUEUE_STATE_COMPLETED, .. for the counters, or NONE when the row is moved or purged without an end. */
extern TM_Result queue_job_delete(QueueJobTable *table, const QueueJob *old, QueueState to, Snapshot snapshot, bool wait);
extern TM_Result queue_job_lock(QueueJobTable *table, const QueueJob *old, Snapshot snapshot, bool wait);

/* Queue, kind, priority and handler of a job's line; a line not in the cache yet is looked up (palloc'd). */
extern QueueLine *queue_job_line(int64 line);

/* What notes and waiters know a line by. */
extern QueueLineKeys queue_line_keys(const QueueLine *line);

/* A job of this line is claimable from now on: tells the cursor, the scheduler and who waits. Not transactional. */
extern void queue_line_claimable(const QueueLine *line, QueuePos pos);

/* The state under which counters file this row (by its columns alone, not by the clock). */
/* Has another transaction, still open, locked this row or changed it?  An executor that runs a job alone only locks it. */
extern bool queue_job_row_locked(QueueJobTable *table, const QueueJob *job);

extern QueueState queue_job_filed(const QueueJob *job);
/* The state that the view shows at `now`. */
extern QueueState queue_job_state(const QueueJob *job, TimestampTz now);
extern int	queue_job_max_attempts(const QueueJob *job, const QueueExtra *extra, const QueueConf *conf, const QueueHandler *handler);
static inline QueuePos
queue_job_pos(const QueueJob *job)
{
	return (QueuePos) {job->run_at, job->id};
}

/* record.c */

/* A finished job's row goes to the ring slot that its keep time asks for. keep in us. */
extern void queue_finished_insert(const QueueJob *job, const QueueConf *conf, const char *kind, int16 priority,
								  QueueState state, TimestampTz started_at, Jsonb *result, const char *error, int64 keep);
extern int	queue_ring_slot(TimestampTz now, int64 keep);	/* 0..15 */
/* The slot rests between *expired_at (its last row expired) and *reused_at (its next turn may begin); false: it does not rest now. */
extern bool queue_ring_window(int slot, TimestampTz now, TimestampTz *expired_at, TimestampTz *reused_at);

/* One failed attempt, told in queue.job_error. */
typedef struct QueueFailure
{
	const char *error;			/* never NULL */
	const char *sqlstate;		/* 5 characters or NULL */
	int			http_status;	/* 0: none */
	const char *context;
	const char *worker;
	TimestampTz started_at;		/* 0: unknown */
} QueueFailure;
extern void queue_failure_insert(const QueueJob *job, const char *queue, const char *kind, const QueueFailure *failure);

/* The job as a datum of type queue.job. The state is as given; line gives queue, kind and priority. */
extern HeapTuple queue_job_tuple(const QueueJob *job, const QueueConf *conf, const char *kind, int16 priority,
								 const QueueHandler *handler, QueueState state, TimestampTz started_at, const char *worker);
extern TupleDesc queue_job_tupdesc(void);

#endif
