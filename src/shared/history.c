/*
 * history.c
 *		What each queue did in each minute of the last 24 hours.
 *
 * Owns an array of places.  The scheduler records each queue of its database when a minute is over, as the difference
 * of the totals that counter.c has; what happens while it does not run falls into the first minute that it records
 * again.
 *
 * Lock: shared->lock (LWLock), exclusive to write, shared to copy.
 */
#include "shared/history.h"

#include "shared/clock.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

typedef struct HistoryShared
{
	LWLock		lock;
	int			tranche;
	QueueHistory place[QUEUE_HISTORY_PLACES];
} HistoryShared;

static HistoryShared *shared = NULL;

/* How much shared memory the places need.  Called by the request hook. */
Size
queue_history_shmem_size(void)
{
	return sizeof(HistoryShared);
}

/* Makes or finds the places.  Called by the startup hook. */
void
queue_history_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue history", queue_history_shmem_size(), &found);
	if (!found)
	{
		/* new shared memory is zeros, and what is never used takes no memory */
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
	}
	LWLockRegisterTranche(shared->tranche, "QueueHistory");
}

/* The place of a queue of this database, taken now (*new) if need be; NULL: none is left.  Lock: held exclusively. */
static QueueHistory *
place_of(const char *queue, bool *new)
{
	QueueHistory *free = NULL;
	int			mine = 0;

	*new = false;
	for (int i = 0; i < QUEUE_HISTORY_PLACES; i++)
	{
		QueueHistory *place = &shared->place[i];

		if (place->db == MyDatabaseId && strcmp(place->queue, queue) == 0)
			return place;
		mine += place->db == MyDatabaseId;
		if (place->db == InvalidOid && free == NULL)
			free = place;
	}
	if (free == NULL || mine >= QUEUE_HISTORY_OF_DATABASE)
		return NULL;
	memset(free, 0, sizeof(QueueHistory));
	free->db = MyDatabaseId;
	strlcpy(free->queue, queue, sizeof(free->queue));
	*new = true;
	return free;
}

/* How much a total grew since it was `before`, which it now is. */
static uint32
grown(pg_atomic_uint64 *total, uint64 *before)
{
	uint64		now = pg_atomic_read_u64(total);
	uint64		by = now > *before ? now - *before : 0;

	*before = now;
	return (uint32) Min(by, PG_UINT32_MAX);
}

/* Called by the scheduler. */
void
queue_history_record(const char *queue, QueueCounter *counter, uint32 minute, int64 waiting, int64 oldest_s)
{
	QueueHistory *place;
	QueueMinute now = {.minute = minute, .waiting = (uint32) waiting, .oldest_s = (uint32) oldest_s};
	uint64		reset_at;
	bool		new;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	place = place_of(queue, &new);
	if (place != NULL)
	{
		reset_at = pg_atomic_read_u64(&counter->reset_at);
		if (place->reset_at != reset_at)
			place->enqueued = place->completed = place->failed = place->discarded = 0;
		place->reset_at = reset_at;
		now.enqueued = grown(&counter->enqueued, &place->enqueued);
		now.completed = grown(&counter->ended[QUEUE_STATE_COMPLETED], &place->completed);
		now.failed = grown(&counter->failed, &place->failed);
		now.discarded = grown(&counter->ended[QUEUE_STATE_DISCARDED], &place->discarded);
		/* a queue that had no place knows what it did since it was reset, but not when */
		if (new && reset_at / USECS_PER_MINUTE + 1 < minute)
			now.enqueued = now.completed = now.failed = now.discarded = 0;
		place->minutes[minute % QUEUE_HISTORY_MINUTES] = now;
	}
	LWLockRelease(&shared->lock);
}

/* Called by the scheduler. */
void
queue_history_sweep(bool (*known) (const char *queue))
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_HISTORY_PLACES; i++)
	{
		if (shared->place[i].db == MyDatabaseId && !known(shared->place[i].queue))
			shared->place[i].db = InvalidOid;
	}
	LWLockRelease(&shared->lock);
}

/* Called by the view. */
bool
queue_history_next(int *i, QueueHistory *history)
{
	bool		found = false;

	if (shared == NULL)
		return false;
	LWLockAcquire(&shared->lock, LW_SHARED);
	for (; *i < QUEUE_HISTORY_PLACES && !found; (*i)++)
	{
		found = shared->place[*i].db == MyDatabaseId;
		if (found)
			memcpy(history, &shared->place[*i], sizeof(QueueHistory));
	}
	LWLockRelease(&shared->lock);
	return found;
}

/* Called by doctor(). */
int
queue_history_count(void)
{
	int			n = 0;

	if (shared == NULL)
		return 0;
	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < QUEUE_HISTORY_PLACES; i++)
		n += shared->place[i].db == MyDatabaseId;
	LWLockRelease(&shared->lock);
	return n;
}

/* Called when a database's extension or the database itself is dropped. */
void
queue_history_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_HISTORY_PLACES; i++)
	{
		if (shared->place[i].db == db)
			shared->place[i].db = InvalidOid;
	}
	LWLockRelease(&shared->lock);
}
