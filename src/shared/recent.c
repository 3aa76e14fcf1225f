/*
 * recent.c
 *		The last queue.recent_jobs ended jobs of each database.
 *
 * Owns QUEUE_RECENT_DATABASES rings of equal size; a database takes one at its first commit that ends a job, and
 * gives it back when it, or the extension in it, is dropped.  A database that finds none remembers nothing.  It is a
 * memory, not a record: a restart loses it, and an old entry makes room for a new one.
 *
 * No locks: a writer draws its place by an atomic increment.  id is cleared before the rest of an entry is written
 * and set after it; a reader that finds another id afterwards has read of two jobs and drops it.
 */
#include "shared/recent.h"

#include "port/atomics.h"
#include "storage/shmem.h"

#define QUEUE_RECENT_DATABASES 16

typedef struct Entry
{
	pg_atomic_uint64 id;		/* 0: free, or being written */
	int64		line;
	TimestampTz ended_at;
	QueueState	state;
} Entry;

typedef struct Ring
{
	pg_atomic_uint32 db;		/* InvalidOid: free */
	pg_atomic_uint64 next;		/* entries ever written */
} Ring;

typedef struct RecentShared
{
	Ring		ring[QUEUE_RECENT_DATABASES];
	Entry		entry[FLEXIBLE_ARRAY_MEMBER];	/* those of ring i begin at i * queue_recent_jobs */
} RecentShared;

static RecentShared *shared = NULL;

/* How much shared memory the rings need.  Called by the request hook. */
Size
queue_recent_shmem_size(void)
{
	return add_size(offsetof(RecentShared, entry),
					mul_size(sizeof(Entry), (Size) QUEUE_RECENT_DATABASES * queue_recent_jobs));
}

/* Makes or finds the rings.  Called by the startup hook. */
void
queue_recent_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue recent jobs", queue_recent_shmem_size(), &found);
	if (found)
		return;
	for (int i = 0; i < QUEUE_RECENT_DATABASES; i++)
	{
		pg_atomic_init_u32(&shared->ring[i].db, InvalidOid);
		pg_atomic_init_u64(&shared->ring[i].next, 0);
	}
	for (int i = 0; i < QUEUE_RECENT_DATABASES * queue_recent_jobs; i++)
		pg_atomic_init_u64(&shared->entry[i].id, 0);
}

/* The ring of a database, taken now if need be; -1: none. */
static int
ring_of(Oid db, bool create)
{
	static int	last = 0;		/* where this process found it before */

	if (shared == NULL || queue_recent_jobs == 0)
		return -1;
	if (pg_atomic_read_u32(&shared->ring[last].db) == db)
		return last;
	for (int i = 0; i < QUEUE_RECENT_DATABASES; i++)
	{
		if (pg_atomic_read_u32(&shared->ring[i].db) == db)
			return last = i;
	}
	/* two at once may take one each for the same database, so readers look into all that are its own */
	for (int i = 0; create && i < QUEUE_RECENT_DATABASES; i++)
	{
		uint32		expected = InvalidOid;

		if (pg_atomic_compare_exchange_u32(&shared->ring[i].db, &expected, db))
			return last = i;
	}
	return -1;
}

/* Called by note.c when the commit that ended the job took effect. */
void
queue_recent_add(Oid db, const QueueRecent *recent)
{
	int			i = ring_of(db, true);
	Entry	   *entry;

	if (i < 0)
		return;
	entry = &shared->entry[(uint64) i * queue_recent_jobs +
						   pg_atomic_fetch_add_u64(&shared->ring[i].next, 1) % queue_recent_jobs];
	pg_atomic_write_u64(&entry->id, 0);
	pg_write_barrier();
	entry->line = recent->line;
	entry->ended_at = recent->ended_at;
	entry->state = recent->state;
	pg_write_barrier();
	pg_atomic_write_u64(&entry->id, (uint64) recent->id);
}

/* Reads one ring from the newest entry back. */
static bool
find_in(int i, int64 id, QueueRecent *recent)
{
	uint64		next = pg_atomic_read_u64(&shared->ring[i].next);

	for (uint64 n = 1; n <= Min(next, (uint64) queue_recent_jobs); n++)
	{
		Entry	   *entry = &shared->entry[(uint64) i * queue_recent_jobs + (next - n) % queue_recent_jobs];

		if (pg_atomic_read_u64(&entry->id) != (uint64) id)
			continue;
		pg_read_barrier();
		*recent = (QueueRecent) {id, entry->line, entry->ended_at, entry->state};
		pg_read_barrier();
		if (pg_atomic_read_u64(&entry->id) == (uint64) id)
			return true;
	}
	return false;
}

/* Called by api/wait.c and api/explain.c. */
bool
queue_recent_find(int64 id, QueueRecent *recent)
{
	bool		found = false;
	QueueRecent other;

	if (shared == NULL || queue_recent_jobs == 0 || id <= 0)
		return false;
	for (int i = 0; i < QUEUE_RECENT_DATABASES; i++)
	{
		if (pg_atomic_read_u32(&shared->ring[i].db) != MyDatabaseId || !find_in(i, id, &other) ||
			(found && other.ended_at <= recent->ended_at))
			continue;
		*recent = other;
		found = true;
	}
	return found;
}

/* Called when the workers of the database are gone: by the launcher and by ddl_hook.c, also inside a commit. */
void
queue_recent_reset(Oid db)
{
	int			i;

	while ((i = ring_of(db, false)) >= 0)
	{
		for (int n = 0; n < queue_recent_jobs; n++)
			pg_atomic_write_u64(&shared->entry[i * queue_recent_jobs + n].id, 0);
		pg_atomic_write_u64(&shared->ring[i].next, 0);
		pg_write_barrier();
		pg_atomic_write_u32(&shared->ring[i].db, InvalidOid);
	}
}
