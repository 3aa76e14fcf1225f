/*
 * recent.c
 *		The last queue.recent_jobs ended jobs of each database.
 *
 * Owns a ring of entries per database.  It is a memory, not a record: a restart loses it, and an old entry makes room
 * for a new one.  A ring is made of chunks.  The first chunk is its own, so that every database remembers some; further
 * ones come from a pool that is enough for QUEUE_RECENT_FULL full rings.  A ring grows while it is filled for the first
 * time; when the pool is empty it stays as it is.
 *
 * A writer draws its place by an atomic increment.  An entry has a sequence number, odd while it is written; a writer
 * that meets an odd one, because a whole turn passed meanwhile, gives its entry up, and a reader that finds another
 * number afterwards has read of two jobs and drops what it read.  Entries name their database, because a chunk may go
 * from one to another.
 *
 * Lock: shared->lock (LWLock) to take a ring, to let it grow and to give it up.
 */
#include "shared/recent.h"

#include "lib/text.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define QUEUE_RECENT_FULL 8
#define CHUNK_ENTRIES 64
#define MAX_WORKER 64			/* bytes of a worker's name */

typedef struct Entry
{
	pg_atomic_uint32 seq;		/* odd: being written */
	Oid			db;
	QueueRecent recent;
} Entry;

typedef struct Chunk
{
	pg_atomic_uint64 id[CHUNK_ENTRIES]; /* of the entries, so that a search reads little; a hint */
	Entry		entry[CHUNK_ENTRIES];
} Chunk;

typedef struct Ring
{
	pg_atomic_uint32 db;		/* InvalidOid: free */
	pg_atomic_uint32 chunks;	/* at least 1; grows only */
	pg_atomic_uint32 full;		/* it grows no more */
	pg_atomic_uint64 next;		/* entries ever written */
} Ring;

typedef struct RecentShared
{
	LWLock		lock;
	int			tranche;
	int			nfree;			/* of the pool; under the lock */
	Ring		ring[QUEUE_MAX_DATABASES];
	/* then: the free chunks, the chunks of each ring (a row each, of ring_chunks()), the chunks */
} RecentShared;

static RecentShared *shared = NULL;
static uint32 *pool = NULL;
static uint32 *chunks_of = NULL;
static Chunk *chunks = NULL;

/* How many chunks a full ring has. */
static int
ring_chunks(void)
{
	return Max(1, (queue_recent_jobs + CHUNK_ENTRIES - 1) / CHUNK_ENTRIES);
}

static int
pool_chunks(void)
{
	return QUEUE_RECENT_FULL * (ring_chunks() - 1);
}

/* How much shared memory the rings need.  Called by the request hook. */
Size
queue_recent_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(RecentShared));

	if (queue_recent_jobs == 0)
		return size;
	size = add_size(size, MAXALIGN(mul_size(sizeof(uint32), pool_chunks())));
	size = add_size(size, MAXALIGN(mul_size(sizeof(uint32) * QUEUE_MAX_DATABASES, ring_chunks())));
	return add_size(size, mul_size(sizeof(Chunk), QUEUE_MAX_DATABASES + pool_chunks()));
}

/* Forgets what a ring has, and gives its chunks back but for the first.  Lock: held, or nobody else is there yet. */
static void
clear_ring(int i, bool new)
{
	Ring	   *ring = &shared->ring[i];
	uint32	   *mine = &chunks_of[i * ring_chunks()];

	for (uint32 c = 1; !new && c < pg_atomic_read_u32(&ring->chunks); c++)
		pool[shared->nfree++] = mine[c];
	mine[0] = (uint32) i;
	pg_atomic_write_u64(&ring->next, 0);
	pg_atomic_write_u32(&ring->full, 0);
	pg_atomic_write_u32(&ring->chunks, 1);
}

/* Makes or finds the rings.  Called by the startup hook. */
void
queue_recent_shmem_init(void)
{
	bool		found;
	char	   *at;

	shared = ShmemInitStruct("queue recent jobs", queue_recent_shmem_size(), &found);
	at = (char *) shared + MAXALIGN(sizeof(RecentShared));
	pool = (uint32 *) at;
	at += MAXALIGN(sizeof(uint32) * pool_chunks());
	chunks_of = (uint32 *) at;
	at += MAXALIGN(sizeof(uint32) * QUEUE_MAX_DATABASES * ring_chunks());
	chunks = (Chunk *) at;
	if (!found)
	{
		/* new shared memory is zeros, so the chunks are left alone: what is never used takes no memory */
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		shared->nfree = 0;
		for (int i = 0; queue_recent_jobs > 0 && i < QUEUE_MAX_DATABASES; i++)
		{
			pg_atomic_init_u32(&shared->ring[i].db, InvalidOid);
			pg_atomic_init_u32(&shared->ring[i].chunks, 1);
			pg_atomic_init_u32(&shared->ring[i].full, 0);
			pg_atomic_init_u64(&shared->ring[i].next, 0);
			clear_ring(i, true);
		}
		for (int i = pool_chunks(); queue_recent_jobs > 0 && i > 0; i--)
			pool[shared->nfree++] = (uint32) (QUEUE_MAX_DATABASES + i - 1);
	}
	LWLockRegisterTranche(shared->tranche, "QueueRecent");
}

/* The ring of a database, taken now if need be; NULL: none. */
static Ring *
ring_of(Oid db, bool create)
{
	static int	last = 0;		/* where this process found it before */
	Ring	   *ring = NULL;

	if (shared == NULL || queue_recent_jobs == 0)
		return NULL;
	if (likely(pg_atomic_read_u32(&shared->ring[last].db) == db))
		return &shared->ring[last];
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		if (pg_atomic_read_u32(&shared->ring[i].db) == db)
			return &shared->ring[last = i];
	}
	if (!create)
		return NULL;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		Oid			owner = pg_atomic_read_u32(&shared->ring[i].db);

		if (owner == db || (owner == InvalidOid && ring == NULL))
			ring = &shared->ring[last = i];
		if (owner == db)
			break;
	}
	if (ring != NULL)
		pg_atomic_write_u32(&ring->db, db);
	LWLockRelease(&shared->lock);
	return ring;
}

/* How many entries the ring has room for. */
static uint64
size_of(Ring *ring)
{
	return Min((uint64) pg_atomic_read_u32(&ring->chunks) * CHUNK_ENTRIES, (uint64) queue_recent_jobs);
}

/* Lets the ring grow until it has room for one more than `number`, if it may; how many it then has room for. */
static uint64
grow(Ring *ring, uint64 number)
{
	uint32	   *mine = &chunks_of[(ring - shared->ring) * ring_chunks()];

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	while (size_of(ring) <= number && pg_atomic_read_u32(&ring->full) == 0)
	{
		uint32		n = pg_atomic_read_u32(&ring->chunks);

		if (n >= (uint32) ring_chunks() || shared->nfree == 0)
		{
			pg_atomic_write_u32(&ring->full, 1);
			break;
		}
		mine[n] = pool[--shared->nfree];
		pg_write_barrier();
		pg_atomic_write_u32(&ring->chunks, n + 1);
	}
	LWLockRelease(&shared->lock);
	return size_of(ring);
}

/* The chunk of a place in the ring. */
static Chunk *
chunk_at(Ring *ring, uint64 place)
{
	return &chunks[chunks_of[(ring - shared->ring) * ring_chunks() + place / CHUNK_ENTRIES]];
}

void
queue_recent_describe(QueueRecent *recent, const char *queue, const char *kind, const char *worker,
					  size_t worker_length, const char *error)
{
	size_t		queue_length = strlen(queue);
	size_t		kind_length = strlen(kind);
	size_t		error_length = error == NULL ? 0 : strcspn(error, "\r\n");
	char	   *to = recent->text;

	if (queue_length + kind_length > QUEUE_RECENT_TEXT)
		queue_length = kind_length = 0;
	worker_length = queue_text_fitting(worker, worker_length,
									   Min(MAX_WORKER, QUEUE_RECENT_TEXT - queue_length - kind_length));
	error_length = queue_text_fitting(error, error_length,
									  QUEUE_RECENT_TEXT - queue_length - kind_length - worker_length);
	memcpy(to, queue, queue_length);
	memcpy(to += queue_length, kind, kind_length);
	if (worker_length > 0)
		memcpy(to + kind_length, worker, worker_length);
	Assert(error != NULL || error_length == 0);
	if (error_length > 0)
		memcpy(to + kind_length + worker_length, error, error_length);
	recent->queue_length = (uint8) queue_length;
	recent->kind_length = (uint8) kind_length;
	recent->worker_length = (uint8) worker_length;
	recent->error_length = (uint8) error_length;
}

/* Called by ended.c when the commit that ended the job took effect. */
void
queue_recent_add(Oid db, const QueueRecent *recent)
{
	Ring	   *ring = ring_of(db, true);
	uint64		number;
	uint64		size;
	uint64		place;
	Chunk	   *chunk;
	Entry	   *entry;
	uint32		seq;

	if (ring == NULL)
		return;
	number = pg_atomic_fetch_add_u64(&ring->next, 1);
	size = size_of(ring);
	if (unlikely(number >= size && pg_atomic_read_u32(&ring->full) == 0))
		size = grow(ring, number);
	Assert(size > 0);
	place = number % size;
	chunk = chunk_at(ring, place);
	entry = &chunk->entry[place % CHUNK_ENTRIES];
	seq = pg_atomic_read_u32(&entry->seq);
	if ((seq & 1) != 0 || !pg_atomic_compare_exchange_u32(&entry->seq, &seq, seq + 1))
		return;
	pg_atomic_write_u64(&chunk->id[place % CHUNK_ENTRIES], (uint64) recent->id);
	entry->db = db;
	memcpy(&entry->recent, recent, offsetof(QueueRecent, text) + recent->queue_length + recent->kind_length +
		   recent->worker_length + recent->error_length);
	pg_write_barrier();
	pg_atomic_write_u32(&entry->seq, seq + 2);
}

/* Copies an entry of the current database; false: it is another's, or changed meanwhile. */
static bool
copy(Entry *entry, QueueRecent *recent)
{
	uint32		seq = pg_atomic_read_u32(&entry->seq);
	bool		ours;

	if (seq == 0 || (seq & 1) != 0)
		return false;
	pg_read_barrier();
	ours = entry->db == MyDatabaseId;
	*recent = entry->recent;
	pg_read_barrier();
	return ours && pg_atomic_read_u32(&entry->seq) == seq;
}

/* Called by api/wait.c and api/explain.c. */
bool
queue_recent_find(int64 id, QueueRecent *recent)
{
	Ring	   *ring = ring_of(MyDatabaseId, false);
	uint64		next;
	uint64		size;

	if (ring == NULL || id <= 0)
		return false;
	next = pg_atomic_read_u64(&ring->next);
	size = size_of(ring);
	for (uint64 n = 1; n <= Min(next, size); n++)
	{
		uint64		place = (next - n) % size;
		Chunk	   *chunk = chunk_at(ring, place);

		if (pg_atomic_read_u64(&chunk->id[place % CHUNK_ENTRIES]) == (uint64) id &&
			copy(&chunk->entry[place % CHUNK_ENTRIES], recent) && recent->id == id)
			return true;
	}
	return false;
}

/* Called by the view of recent jobs. */
bool
queue_recent_next(QueueRecentScan *scan, QueueRecent *recent)
{
	Ring	   *ring = ring_of(MyDatabaseId, false);
	uint64		size;

	if (ring == NULL)
		return false;
	if (scan->done == 0)
		scan->next = pg_atomic_read_u64(&ring->next);
	size = size_of(ring);
	while (scan->done < Min(scan->next, size))
	{
		uint64		place = (scan->next - ++scan->done) % size;

		if (copy(&chunk_at(ring, place)->entry[place % CHUNK_ENTRIES], recent))
			return true;
	}
	return false;
}

/* Called by doctor(). */
int
queue_recent_room(void)
{
	Ring	   *ring = ring_of(MyDatabaseId, false);

	return ring != NULL && pg_atomic_read_u32(&ring->full) != 0 ? (int) size_of(ring) : queue_recent_jobs;
}

/* Called when the workers of the database are gone: by the launcher and by ddl_hook.c, also inside a commit. */
void
queue_recent_reset(Oid db)
{
	Ring	   *ring = ring_of(db, false);

	if (ring == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&ring->db) == db)
	{
		clear_ring((int) (ring - shared->ring), false);
		pg_write_barrier();
		pg_atomic_write_u32(&ring->db, InvalidOid);
	}
	LWLockRelease(&shared->lock);
}
