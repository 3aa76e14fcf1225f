/*
 * fetcher.c
 *		The sessions that fetch jobs, for queue.stat_worker.
 *
 * Owns one place for each backend that the server can have, so nobody finds it full.  A session takes its place at its
 * first fetch and leaves it when it ends.  It tells of sessions, not of claims: behind a pooler several workers share
 * one, and then the last one's name stands there.
 *
 * It also remembers when a job of a line was last claimed, for doctor(): a kind that somebody fetches needs no handler.
 * That is a table of fixed size, in which the oldest of a few lines gives way to a new one.
 *
 * Locks: a spinlock for each few lines.  Places have none: only its session writes a place, under a seqlock (odd
 * while it writes).  A dropped database, and an extension that is dropped, clears the db of its places, and nobody
 * shows them.
 */
#include "shared/fetcher.h"

#include "shared/clock.h"

#include "common/hashfn.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"

typedef struct Place
{
	pg_atomic_uint32 seq;
	pg_atomic_uint32 db;		/* InvalidOid: free */
	QueueFetcher fetcher;
} Place;

#define FEW 8
#define NFEWS 512
#define FRESH_US USECS_PER_SEC	/* a claim this young needs not be told again */

/* Lines that share a place by their hash, and when a job of each was claimed. */
typedef struct Few
{
	slock_t		lock;
	struct
	{
		Oid			db;			/* InvalidOid: free */
		int64		line;
		TimestampTz at;
	}			claim[FEW];
} Few;

static Few *fews = NULL;
static Place *places = NULL;
static Place *mine = NULL;

Size
queue_fetcher_shmem_size(void)
{
	return add_size(mul_size(sizeof(Place), MaxBackends), sizeof(Few) * NFEWS + MAXIMUM_ALIGNOF);
}

void
queue_fetcher_shmem_init(void)
{
	bool		found;

	places = ShmemInitStruct("queue fetchers", queue_fetcher_shmem_size(), &found);
	fews = (Few *) MAXALIGN((char *) places + sizeof(Place) * MaxBackends);
	if (found)
		return;
	memset(places, 0, queue_fetcher_shmem_size());
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&places[i].seq, 0);
		pg_atomic_init_u32(&places[i].db, InvalidOid);
	}
	for (int i = 0; i < NFEWS; i++)
		SpinLockInit(&fews[i].lock);
}

void
queue_fetcher_reset(Oid db)
{
	for (int i = 0; i < queue_fetcher_count(); i++)
	{
		uint32		expected = db;

		(void) pg_atomic_compare_exchange_u32(&places[i].db, &expected, InvalidOid);
	}
	for (int i = 0; fews != NULL && i < NFEWS; i++)
	{
		SpinLockAcquire(&fews[i].lock);
		for (int j = 0; j < FEW; j++)
		{
			if (fews[i].claim[j].db == db)
				fews[i].claim[j].db = InvalidOid;
		}
		SpinLockRelease(&fews[i].lock);
	}
}

/* on_shmem_exit: the session ends. */
static void
fetcher_exit(int code, Datum arg)
{
	if (mine != NULL)
		pg_atomic_write_u32(&mine->db, InvalidOid);
	mine = NULL;
}

static void
begin_write(void)
{
	pg_atomic_write_u32(&mine->seq, pg_atomic_read_u32(&mine->seq) + 1);
	pg_write_barrier();
}

static void
end_write(void)
{
	pg_write_barrier();
	pg_atomic_write_u32(&mine->seq, pg_atomic_read_u32(&mine->seq) + 1);
}

void
queue_fetcher_waits(const char *worker, const char *queue)
{
	QueueFetcher *fetcher;
	uint32		procno;

	if (places == NULL || MyProc == NULL || (procno = queue_procno_of(MyProc)) >= (uint32) MaxBackends)
		return;
	if (mine == NULL)
	{
		mine = &places[procno];
		on_shmem_exit(fetcher_exit, (Datum) 0);
	}
	fetcher = &mine->fetcher;
	begin_write();
	if (pg_atomic_read_u32(&mine->db) != MyDatabaseId)
	{
		fetcher->pid = MyProcPid;
		fetcher->db = MyDatabaseId;
		fetcher->first_seen = queue_now();
		fetcher->claimed = 0;
	}
	fetcher->role = GetUserId();
	fetcher->working = false;
	fetcher->last_seen = queue_now();
	strlcpy(fetcher->worker, worker != NULL ? worker : "", sizeof(fetcher->worker));
	strlcpy(fetcher->queue, queue, sizeof(fetcher->queue));
	end_write();
	pg_atomic_write_u32(&mine->db, MyDatabaseId);
}

void
queue_fetcher_got(int jobs)
{
	if (mine == NULL)
		return;
	begin_write();
	mine->fetcher.working = jobs > 0;
	mine->fetcher.claimed += jobs;
	mine->fetcher.last_seen = queue_now();
	end_write();
}

/* The lines that a line shares its place with. */
static Few *
few_of(int64 line)
{
	return &fews[murmurhash32((uint32) line ^ (uint32) (line >> 32) ^ MyDatabaseId) % NFEWS];
}

void
queue_fetcher_claimed(int64 line)
{
	static int64 last_line = 0;
	static TimestampTz last_at = 0;
	TimestampTz now = queue_now();
	Few		   *few;
	int			place = 0;

	if (fews == NULL || (line == last_line && now >= last_at && now < last_at + FRESH_US))
		return;
	last_line = line;
	last_at = now;
	few = few_of(line);
	SpinLockAcquire(&few->lock);
	for (int i = 0; i < FEW; i++)
	{
		if (few->claim[i].db == MyDatabaseId && few->claim[i].line == line)
		{
			place = i;
			break;
		}
		if (few->claim[place].db != InvalidOid &&
			(few->claim[i].db == InvalidOid || few->claim[i].at < few->claim[place].at))
			place = i;
	}
	few->claim[place].db = MyDatabaseId;
	few->claim[place].line = line;
	few->claim[place].at = now;
	SpinLockRelease(&few->lock);
}

TimestampTz
queue_fetcher_last_claim(int64 line)
{
	TimestampTz at = 0;
	Few		   *few;

	if (fews == NULL)
		return 0;
	few = few_of(line);
	SpinLockAcquire(&few->lock);
	for (int i = 0; i < FEW; i++)
	{
		if (few->claim[i].db == MyDatabaseId && few->claim[i].line == line)
			at = few->claim[i].at;
	}
	SpinLockRelease(&few->lock);
	return at;
}

void
queue_fetcher_seen(void)
{
	if (mine == NULL)
		return;
	begin_write();
	mine->fetcher.last_seen = queue_now();
	end_write();
}

int
queue_fetcher_count(void)
{
	return places != NULL ? MaxBackends : 0;
}

bool
queue_fetcher_read(int i, QueueFetcher *fetcher)
{
	Place	   *place = &places[i];

	/* a writer is done in a microsecond, unless it lost its CPU: then the row is left out once */
	for (int tries = 0; tries < 100; tries++)
	{
		uint32		seq = pg_atomic_read_u32(&place->seq);

		if (pg_atomic_read_u32(&place->db) == InvalidOid)
			return false;
		pg_read_barrier();
		*fetcher = place->fetcher;
		pg_read_barrier();
		if ((seq & 1) == 0 && pg_atomic_read_u32(&place->seq) == seq)
			return true;
	}
	return false;
}
