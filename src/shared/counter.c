/*
 * counter.c
 *		Totals and gauges per queue, run statistics per kind.
 *
 * Owns two fixed hash tables (open addressing, by database and hash of the name).
 * Looking up takes no lock: an entry's key is written before its db, and an entry that is
 * given up keeps its place as a tombstone, so no chain ever breaks.  When a table is full,
 * what does not fit is not counted.  All of it is an estimate: a crash loses it, and the
 * scheduler recounts the gauges.
 *
 * Locks: shared->lock (LWLock) to make entries and to give them up.  Numbers are atomics.
 */
#include "shared/counter.h"

#include "shared/clock.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

#define TOMBSTONE	((Oid) 0xFFFFFFFF)

typedef struct QueueCounterShared
{
	LWLock		lock;
	int			tranche;
	QueueCounter counters[QUEUE_MAX_COUNTERS];
	QueueKindStat kinds[QUEUE_MAX_COUNTERS];
} QueueCounterShared;

static QueueCounterShared *shared = NULL;

const char *const queue_state_names[QUEUE_NSTATES] = {
	"none", "scheduled", "available", "pending", "running",
	"retryable", "completed", "cancelled", "discarded"
};

/* How much shared memory the tables need.  Called by the request hook. */
Size
queue_counter_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueCounterShared));
}

/* Zeroes a queue's numbers; with init, for the first time. */
static void
counter_zero(QueueCounter *c)
{
	for (int i = 0; i < QUEUE_NSTATES; i++)
	{
		pg_atomic_init_u64(&c->gauge[i], 0);
		pg_atomic_init_u64(&c->ended[i], 0);
	}
	pg_atomic_init_u64(&c->due_scheduled, 0);
	pg_atomic_init_u64(&c->due_retryable, 0);
	pg_atomic_init_u64(&c->enqueued, 0);
	pg_atomic_init_u64(&c->failed, 0);
	pg_atomic_init_u64(&c->reset_at, (uint64) queue_now());
}

/* Zeroes a kind's numbers. */
static void
kind_zero(QueueKindStat *k)
{
	pg_atomic_init_u64(&k->completed, 0);
	pg_atomic_init_u64(&k->failed, 0);
	pg_atomic_init_u64(&k->discarded, 0);
	pg_atomic_init_u64(&k->timeouts, 0);
	pg_atomic_init_u64(&k->runs, 0);
	pg_atomic_init_u64(&k->total_us, 0);
	pg_atomic_init_u64(&k->max_us, 0);
	pg_atomic_init_u64(&k->mean_us, 0);
	pg_atomic_init_u64(&k->recent_runs, 0);
	pg_atomic_init_u64(&k->slow_until, 0);
	pg_atomic_init_u64(&k->last_error_at, 0);
	pg_atomic_init_u64(&k->running, 0);
}

/* Makes or finds the tables.  Called by the startup hook. */
void
queue_counter_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue counters", queue_counter_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(QueueCounterShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
		{
			counter_zero(&shared->counters[i]);
			kind_zero(&shared->kinds[i]);
		}
	}
	LWLockRegisterTranche(shared->tranche, "QueueCounter");
}

/* The key under which a queue's or kind's name is known in shared memory; never 0. */
uint64
queue_name_hash(const char *name)
{
	uint64		h = hash_bytes_extended((const unsigned char *) name, strlen(name), 0x71756575);

	return h == 0 ? 1 : h;
}

/* Where a key's chain begins. */
static inline uint32
chain_start(Oid db, uint64 key)
{
	return (uint32) (murmurhash32((uint32) (key ^ (key >> 32)) ^ murmurhash32(db)) % QUEUE_MAX_COUNTERS);
}

/* A queue's numbers; NULL without preload, when the table is full, or when there are none and create is false. */
QueueCounter *
queue_counter_of(Oid db, uint64 key, bool create)
{
	uint32		start = chain_start(db, key);
	QueueCounter *free_entry = NULL;

	if (shared == NULL || !OidIsValid(db))
		return NULL;
	for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
	{
		QueueCounter *c = &shared->counters[(start + i) % QUEUE_MAX_COUNTERS];
		Oid			owner = c->db;

		if (owner == InvalidOid)
			break;
		pg_read_barrier();
		if (owner == db && c->key == key)
			return c;
	}
	if (!create)
		return NULL;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
	{
		QueueCounter *c = &shared->counters[(start + i) % QUEUE_MAX_COUNTERS];

		if (c->db == db && c->key == key)
		{
			LWLockRelease(&shared->lock);
			return c;
		}
		if (free_entry == NULL && (c->db == InvalidOid || c->db == TOMBSTONE))
			free_entry = c;
		if (c->db == InvalidOid)
			break;
	}
	if (free_entry != NULL)
	{
		counter_zero(free_entry);
		free_entry->key = key;
		pg_write_barrier();
		free_entry->db = db;
	}
	LWLockRelease(&shared->lock);
	return free_entry;
}

/* The numbers of a kind with a handler; like queue_counter_of. */
QueueKindStat *
queue_kind_stat_of(Oid db, int64 handler, uint64 key, bool create)
{
	uint32		start = chain_start(db, key + (uint64) handler);
	QueueKindStat *free_entry = NULL;

	if (shared == NULL || !OidIsValid(db))
		return NULL;
	for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
	{
		QueueKindStat *k = &shared->kinds[(start + i) % QUEUE_MAX_COUNTERS];
		Oid			owner = k->db;

		if (owner == InvalidOid)
			break;
		pg_read_barrier();
		if (owner == db && k->key == key && k->handler == handler)
			return k;
	}
	if (!create)
		return NULL;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
	{
		QueueKindStat *k = &shared->kinds[(start + i) % QUEUE_MAX_COUNTERS];

		if (k->db == db && k->key == key && k->handler == handler)
		{
			LWLockRelease(&shared->lock);
			return k;
		}
		if (free_entry == NULL && (k->db == InvalidOid || k->db == TOMBSTONE))
			free_entry = k;
		if (k->db == InvalidOid)
			break;
	}
	if (free_entry != NULL)
	{
		kind_zero(free_entry);
		free_entry->key = key;
		free_entry->handler = handler;
		pg_write_barrier();
		free_entry->db = db;
	}
	LWLockRelease(&shared->lock);
	return free_entry;
}

/* See counter.h.  Called by the view of handlers. */
QueueKindStat *
queue_kind_stat_next(Oid db, int64 handler, int *position)
{
	while (shared != NULL && *position < QUEUE_MAX_COUNTERS)
	{
		QueueKindStat *k = &shared->kinds[(*position)++];

		if (k->db == db && k->handler == handler)
			return k;
	}
	return NULL;
}

/* See counter.h.  Called by the scheduler. */
void
queue_kind_stat_keep(Oid db, const int64 *handlers, int n)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
	{
		QueueKindStat *k = &shared->kinds[i];
		bool		keep = k->db != db;

		for (int j = 0; j < n && !keep; j++)
			keep = k->handler == handlers[j];
		if (!keep)
			k->db = TOMBSTONE;
	}
	LWLockRelease(&shared->lock);
}

/* Gives all entries of a database up.  Called when its extension or the database itself is dropped. */
void
queue_counter_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_COUNTERS; i++)
	{
		if (shared->counters[i].db == db)
			shared->counters[i].db = TOMBSTONE;
		if (shared->kinds[i].db == db)
			shared->kinds[i].db = TOMBSTONE;
	}
	LWLockRelease(&shared->lock);
}

/* Takes n off a gauge, but never below 0: gauges start at 0 in a crash while the rows are still there.  Commit-safe. */
static void
gauge_sub(pg_atomic_uint64 *gauge, int64 n)
{
	uint64		old = pg_atomic_read_u64(gauge);

	while (!pg_atomic_compare_exchange_u64(gauge, &old, old > (uint64) n ? old - (uint64) n : 0))
		;
}

/* Is this how a job ends? */
static inline bool
is_final(QueueState state)
{
	return state >= QUEUE_STATE_COMPLETED;
}

/*
 * n rows changed the state under which they are filed.  A claimed or ended row that
 * was filed as waiting was (nearly always) due, so it leaves the due count too; the next
 * recount sets that right.  Commit-safe.  Called by note.c after commit.
 */
void
queue_counter_move(Oid db, uint64 key, QueueState from, QueueState to, int64 n)
{
	QueueCounter *c = queue_counter_of(db, key, true);

	if (c == NULL || n <= 0 || from == to)
		return;
	if (from != QUEUE_STATE_NONE && !is_final(from))
	{
		gauge_sub(&c->gauge[from], n);
		if (from == QUEUE_STATE_SCHEDULED && pg_atomic_read_u64(&c->due_scheduled) > 0)
			gauge_sub(&c->due_scheduled, n);
		else if (from == QUEUE_STATE_RETRYABLE && pg_atomic_read_u64(&c->due_retryable) > 0)
			gauge_sub(&c->due_retryable, n);
	}
	if (is_final(to))
		pg_atomic_fetch_add_u64(&c->ended[to], n);
	else if (to != QUEUE_STATE_NONE)
		pg_atomic_fetch_add_u64(&c->gauge[to], n);
	if (from == QUEUE_STATE_NONE && to != QUEUE_STATE_NONE && !is_final(to))
		pg_atomic_fetch_add_u64(&c->enqueued, n);
}

/* n attempts failed.  Commit-safe. */
void
queue_counter_failed(Oid db, uint64 key, int64 n)
{
	QueueCounter *c = queue_counter_of(db, key, true);

	if (c != NULL && n > 0)
		pg_atomic_fetch_add_u64(&c->failed, n);
}

/*
 * One run of a kind took us microseconds.  The moving mean weighs the last 16 or so
 * runs; concurrent executors may lose one of two updates, which an estimate bears.
 * A run longer than commit_interval makes the kind run alone for the next second.
 */
void
queue_kind_ran(QueueKindStat *stat, int64 us)
{
	uint64		seen;
	uint64		mean;
	uint64		max;
	int64		interval_us = (int64) queue_commit_interval * 1000;

	if (stat == NULL)
		return;
	us = Max(us, 0);
	pg_atomic_fetch_add_u64(&stat->runs, 1);
	pg_atomic_fetch_add_u64(&stat->total_us, (uint64) us);
	max = pg_atomic_read_u64(&stat->max_us);
	while ((uint64) us > max && !pg_atomic_compare_exchange_u64(&stat->max_us, &max, (uint64) us))
		;
	seen = pg_atomic_read_u64(&stat->recent_runs);
	mean = pg_atomic_read_u64(&stat->mean_us);
	if (seen < 16)
	{
		mean = (mean * seen + (uint64) us) / (seen + 1);
		pg_atomic_write_u64(&stat->recent_runs, seen + 1);
	}
	else
		mean = (mean * 15 + (uint64) us) / 16;
	pg_atomic_write_u64(&stat->mean_us, mean);
	if (us > interval_us)
		pg_atomic_write_u64(&stat->slow_until, (uint64) (queue_now() + USECS_PER_SEC));
}

/* Is its mean worth anything?  Called by the scheduler and by executors. */
bool
queue_kind_is_known(QueueKindStat *stat, TimestampTz now)
{
	return pg_atomic_read_u64(&stat->recent_runs) >= 4 && now >= (TimestampTz) pg_atomic_read_u64(&stat->slow_until);
}

/* May this kind's jobs share a commit?  Called by executors before each job. */
bool
queue_kind_is_short(QueueKindStat *stat, TimestampTz now)
{
	uint64		limit_us = (uint64) queue_commit_interval * 1000 / 10;

	return stat != NULL && pg_atomic_read_u64(&stat->mean_us) < limit_us && queue_kind_is_known(stat, now);
}
