/*
 * counter.h
 *		Totals and gauges per queue, and run statistics per kind, in shared memory:
 *		what the stat views show.  Estimates: lost in a crash, recounted by the
 *		scheduler.  All commit-safe: atomics in a fixed hash table, nothing is removed
 *		but by queue_counter_reset.
 */
#ifndef QUEUE_COUNTER_H
#define QUEUE_COUNTER_H

#include "shared/database.h"

typedef enum QueueState
{
	QUEUE_STATE_NONE,			/* no row: before enqueue, after deletion */
	QUEUE_STATE_SCHEDULED, QUEUE_STATE_AVAILABLE, QUEUE_STATE_PENDING, QUEUE_STATE_RUNNING,
	QUEUE_STATE_RETRYABLE, QUEUE_STATE_COMPLETED, QUEUE_STATE_CANCELLED, QUEUE_STATE_DISCARDED,
	QUEUE_NSTATES
} QueueState;

extern const char *const queue_state_names[QUEUE_NSTATES];

typedef struct QueueCounter		/* of one queue; keyed by the hash of its name */
{
	Oid			db;
	uint64		key;
	/*
	 * rows by the state under which they are filed (job.h: queue_job_filed), and how many of the filed-as-waiting are
	 * due
	 */
	pg_atomic_uint64 gauge[QUEUE_NSTATES];
	pg_atomic_uint64 due_scheduled;
	pg_atomic_uint64 due_retryable;
	pg_atomic_uint64 enqueued;
	pg_atomic_uint64 failed;	/* failed attempts */
	pg_atomic_uint64 ended[QUEUE_NSTATES];	/* completed, cancelled, discarded */
	pg_atomic_uint64 reset_at;	/* stats_reset */
} QueueCounter;

typedef struct QueueKindStat	/* of one kind with one handler; keyed by the hash of its name and the id of his row */
{
	Oid			db;
	uint64		key;
	int64		handler;
	pg_atomic_uint64 completed, failed, discarded, timeouts;
	pg_atomic_uint64 runs, total_us, max_us;
	pg_atomic_uint64 mean_us;	/* moving mean of recent runs; what the executors and channel depths go by */
	pg_atomic_uint64 recent_runs;	/* runs that the moving mean has seen */
	pg_atomic_uint64 slow_until;	/* a run took longer than commit_interval: alone until then */
	pg_atomic_uint64 last_error_at;
	pg_atomic_uint64 running;
} QueueKindStat;

extern Size queue_counter_shmem_size(void);
extern void queue_counter_shmem_init(void);
extern uint64 queue_name_hash(const char *name);
/* NULL without preload or when the table is full: callers just skip. */
extern QueueCounter *queue_counter_of(Oid db, uint64 key, bool create);
extern QueueKindStat *queue_kind_stat_of(Oid db, int64 handler, uint64 key, bool create);
/* One kind of a handler after another, from *position 0 on; NULL: no more. */
extern QueueKindStat *queue_kind_stat_next(Oid db, int64 handler, int *position);
/* Handlers of this database other than these are no more: their places are free. */
extern void queue_kind_stat_keep(Oid db, const int64 *handlers, int n);
extern void queue_counter_reset(Oid db);
/* n rows went from one filed state to another (from NONE: enqueued; to a final state: total + 1). */
extern void queue_counter_move(Oid db, uint64 key, QueueState from, QueueState to, int64 n);
extern void queue_counter_failed(Oid db, uint64 key, int64 n);
/* One run of a kind ended after `us` microseconds. */
extern void queue_kind_ran(QueueKindStat *stat, int64 us);
/* Do its recent runs tell how long the next one takes? (at least 4, none longer than commit_interval lately) */
extern bool queue_kind_is_known(QueueKindStat *stat, TimestampTz now);
/* May jobs of this kind share a commit? (mean under commit_interval / 10 over >= 4 runs, no long one lately) */
extern bool queue_kind_is_short(QueueKindStat *stat, TimestampTz now);

#endif
