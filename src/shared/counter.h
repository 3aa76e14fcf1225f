/*
 * counter.h
 *		Totals and gauges per queue and per kind in a queue, and run statistics per handler and kind, in shared memory:
 *		what the stat views show.  Estimates: lost in a crash, recounted by the scheduler.
 *
 * A place is a queue's by its database and its whole name, a kind's by those and its whole name, a handler's kind's by
 * the handler's id.  Places are bounded, of each database and of all; whatever finds none works on: a queue, or a kind
 * in it, is not counted, a kind shares the numbers of all such kinds of its handler.  doctor() says so.
 */
#ifndef QUEUE_COUNTER_H
#define QUEUE_COUNTER_H

#include "shared/database.h"
#include "shared/times.h"

typedef enum QueueState
{
	QUEUE_STATE_NONE,			/* no row: before enqueue, after deletion */
	QUEUE_STATE_SCHEDULED, QUEUE_STATE_AVAILABLE, QUEUE_STATE_PENDING, QUEUE_STATE_RUNNING,
	QUEUE_STATE_RETRYABLE, QUEUE_STATE_COMPLETED, QUEUE_STATE_CANCELLED, QUEUE_STATE_DISCARDED,
	QUEUE_NSTATES
} QueueState;

extern const char *const queue_state_names[QUEUE_NSTATES];

typedef struct QueueCounterKey
{
	Oid			db;
	char		name[QUEUE_NAME_MAX + 1];	/* zeros behind it */
	char		kind[QUEUE_NAME_MAX + 1];	/* "": the queue as a whole */
} QueueCounterKey;

#define QUEUE_SAMPLES 6			/* minutes */

typedef struct QueueCounter		/* of one queue, or of one kind in it */
{
	QueueCounterKey key;
	uint64		incarnation;	/* of the place: never the same again; 0: given up */
	/*
	 * rows by the state under which they are filed (job.h: queue_job_filed); signed: after a crash it begins at 0 with
	 * the rows there, and two transactions may tell in either order
	 */
	pg_atomic_uint64 gauge[QUEUE_NSTATES];
	/*
	 * how many of the filed-as-waiting are due; never below 0, because a row that falls due is counted here by the next
	 * recount only, and who takes it before that takes nothing off
	 */
	pg_atomic_uint64 due_scheduled;
	pg_atomic_uint64 due_retryable;
	pg_atomic_uint64 enqueued;
	pg_atomic_uint64 failed;	/* failed attempts */
	pg_atomic_uint64 ended[QUEUE_NSTATES];	/* completed, cancelled, discarded */
	pg_atomic_uint64 reset_at;	/* stats_reset */
	/* how many were due before the first enqueue of a minute, of the last minutes: (minute << 32) + count */
	pg_atomic_uint64 sample[QUEUE_SAMPLES];
} QueueCounter;

typedef struct QueueKindCounter
{
	QueueCounter counter;		/* first, so that a place of either sort is known by this */
	QueueTimes	wait;			/* of attempts that completed or failed: from when the job was due to the start .. */
	QueueTimes	run;			/* .. and from there to the end */
} QueueKindCounter;

/* What a handler's kinds without a place share: no kind has this name. */
#define QUEUE_KIND_OTHERS "*"

typedef struct QueueKindKey
{
	Oid			db;
	int64		handler;		/* the id of its row */
	char		kind[QUEUE_NAME_MAX + 1];	/* zeros behind it */
} QueueKindKey;

typedef struct QueueKindStat	/* of one kind with one handler */
{
	QueueKindKey key;
	uint64		incarnation;
	pg_atomic_uint64 completed, failed, discarded, timeouts;
	pg_atomic_uint64 runs, total_us, max_us;
	pg_atomic_uint64 mean_us;	/* moving mean of recent runs; what the executors and channel depths go by */
	pg_atomic_uint64 recent_runs;	/* runs that the moving mean has seen */
	pg_atomic_uint64 slow_until;	/* a run took longer than commit_interval: alone until then */
	pg_atomic_uint64 last_error_at;
	pg_atomic_uint32 last_sqlstate; /* of that error; 0: it had none */
} QueueKindStat;

/* The name of a queue, or of a kind in it, in this backend, and where its numbers were last; never freed. */
typedef struct QueueCounterRef
{
	struct QueueCounterRef *queue;	/* of a kind: its queue's */
	const char *name;			/* of the queue or the kind; NULL: only the place that was found then */
	QueueCounter *entry;
	uint64		incarnation;
	uint64		missed;			/* there was no place, and none was given up since that number; 0: there was */
	struct QueueCounterRef *next;	/* counter.c's */
	uint64		key;			/* queue_name_hash(name) */
	struct QueueCounterRef *placeless;	/* of a queue: stands for kinds without a place; NULL: not made yet */
} QueueCounterRef;

/* Over the kinds of a handler. */
typedef struct QueueKindSums
{
	int64		completed, failed, discarded, timeouts, runs, total_us, max_us;
	TimestampTz last_error_at;
	int			last_sqlstate;
} QueueKindSums;

/* Where a kind's numbers were last; zeroed at first. */
typedef struct QueueKindRef
{
	QueueKindStat *entry;
	uint64		incarnation;
	uint64		missed;			/* it had no place, and none was given up since that number; 0: it has its own */
	bool		slow;			/* its last run here was longer than commit_interval; of kinds that share numbers */
} QueueKindRef;

extern Size queue_counter_shmem_size(void);
extern void queue_counter_shmem_init(void);
extern uint64 queue_name_hash(const char *name);

/* This backend's reference to a queue of its database, or to a kind in it; the same pointer for the same name. */
extern QueueCounterRef *queue_counter_ref(const char *queue);
extern QueueCounterRef *queue_counter_kind_ref(QueueCounterRef *queue, const char *kind);
/*
 * What stands for a kind of this queue that is not counted, because all places are taken; NULL: it may have a place, or
 * get one.  kind_key: queue_name_hash(kind); as_of: as queue_placed_never says.
 */
extern QueueCounterRef *queue_counter_placeless(QueueCounterRef *queue, uint64 kind_key, uint64 *as_of);
/*
 * A queue's or a kind's numbers; with create a place is taken, which is for after COMMIT only: what a transaction that
 * rolls back names takes none.  Commit-safe.  NULL: no place.
 */
extern QueueCounter *queue_counter(QueueCounterRef *ref, bool create);
/*
 * A kind's numbers; with create they may be those that the handler's kinds without a place share.  NULL: none.
 * kind_key: queue_name_hash(kind).
 */
extern QueueKindStat *queue_kind_stat(QueueKindRef *ref, int64 handler, const char *kind, uint64 kind_key, bool create);
/* What the kinds of a handler share that have no place of their own; NULL: nothing yet. */
extern QueueKindStat *queue_kind_others(int64 handler);
extern QueueKindSums queue_kind_sums(int64 handler);
/* Handlers of this database other than these are no more: their places are free. */
extern void queue_kind_stat_keep(const int64 *handlers, int n);
/* How many queues, kinds in queues, and kinds of handlers of this database have places, of QUEUE_MAX_PLACES each. */
typedef struct QueuePlaces
{
	int			queues, kinds, handled;
} QueuePlaces;
extern QueuePlaces queue_counter_places(void);
/* The places of all kinds in queues of this database, palloc'd; what they say, copied. */
extern QueueKindCounter **queue_counter_kinds(int *n);
extern QueueKindCounter *queue_counter_copies(int *n);
/* What to show of a queue or a kind: zeros while nothing was committed in it; NULL: it is not counted. */
extern QueueCounter *queue_counter_shown(QueueCounterRef *ref);
/* Gives up the places of this database's queues and kinds that are not known any more.  known must not throw. */
extern void queue_counter_sweep(bool (*queue_known) (const char *queue), bool (*kind_known) (const char *kind));
/* Gives up all places of a database.  Commit-safe. */
extern void queue_counter_reset(Oid db);
/*
 * Of a queue, or a kind: n rows went from one filed state to another (from NONE: enqueued; to a final one: total + 1).
 * due: how many more of them are filed as waiting for a time, and are due.
 */
extern void queue_counter_move(QueueCounterRef *ref, QueueState from, QueueState to, int64 n, int64 due);
extern void queue_counter_failed(QueueCounterRef *kind, int64 n);
/* An attempt of a kind waited and ran so long; -1: unknown. */
extern void queue_counter_times(QueueCounterRef *kind, int64 wait_us, int64 run_us);
/* The totals and times of a queue of this database and its kinds begin anew; NULL: of all, and those of handlers. */
extern void queue_counter_restart(const char *queue);
/* Jobs that are due, running ones included. */
extern int64 queue_counter_due(QueueCounter *counter);
/* Jobs of a queue are about to be counted as enqueued.  Commit-safe. */
extern void queue_counter_sample(QueueCounterRef *queue, TimestampTz now);
/* How many were due a few minutes ago, and how many minutes; 0: not known. */
extern int	queue_counter_due_before(QueueCounter *counter, TimestampTz now, int64 *due);

#endif
