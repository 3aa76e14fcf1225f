/*
 * fetcher.c
 *		The sessions that fetch jobs, for queue.stat_worker.
 *
 * Owns one place for each backend that the server can have, so nobody finds it full.  A session takes its place at its
 * first fetch and leaves it when it ends.  It tells of sessions, not of claims: behind a pooler several workers share
 * one, and then the last one's name stands there.
 *
 * No locks: only its session writes a place, under a seqlock (odd while it writes).  A dropped database, and an
 * extension that is dropped, clears the db of its places, and nobody shows them.
 */
#include "shared/fetcher.h"

#include "shared/clock.h"

#include "storage/ipc.h"
#include "storage/shmem.h"

typedef struct Place
{
	pg_atomic_uint32 seq;
	pg_atomic_uint32 db;		/* InvalidOid: free */
	QueueFetcher fetcher;
} Place;

static Place *places = NULL;
static Place *mine = NULL;

Size
queue_fetcher_shmem_size(void)
{
	return mul_size(sizeof(Place), MaxBackends);
}

void
queue_fetcher_shmem_init(void)
{
	bool		found;

	places = ShmemInitStruct("queue fetchers", queue_fetcher_shmem_size(), &found);
	if (found)
		return;
	memset(places, 0, queue_fetcher_shmem_size());
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&places[i].seq, 0);
		pg_atomic_init_u32(&places[i].db, InvalidOid);
	}
}

void
queue_fetcher_reset(Oid db)
{
	for (int i = 0; i < queue_fetcher_count(); i++)
	{
		uint32		expected = db;

		(void) pg_atomic_compare_exchange_u32(&places[i].db, &expected, InvalidOid);
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
