/*
 * census.c
 *		Who claims jobs as if there were no limit, so that a new limit can count them.
 *
 * Owns a place for each process.  A claim costs nothing where no limit is set, so when one is set, those who read the
 * configuration before must be found.  Whoever claims says in its place that it looks, and only then reads the
 * configuration.  Whoever counts for a new limit first bumps the generation, so that everybody reads again, and then
 * looks at the places: of the two, one sees the other.  A look ends with its transaction; its leases are in the table
 * then, its session claims in the lock table.  One that claimed nothing ends at once: a session may wait for long
 * between two looks, and who counts waits for all of them.  A transaction that looked and stays open concerns only who
 * counts kinds that it claimed.  Executors need not look: their slots say what they run.
 *
 * No locks: a place is written by its process, but for `given`.
 */
#include "shared/census.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#define ANY_QUEUE PG_UINT64_MAX

typedef struct Place
{
	pg_atomic_uint64 queue;		/* the key of the queue that is looked at; 0: none */
	pg_atomic_uint64 since;		/* the time that it was when the look began */
	pg_atomic_uint64 kinds;		/* queue_census_kind() of what it claimed, .. */
	pg_atomic_uint32 looking;	/* .. and it may be about to claim something else */
	Oid			db;
	pg_atomic_uint32 given;
} Place;

typedef struct CensusShared
{
	pg_atomic_uint64 time;		/* counts the limits that were announced */
	Place		place[FLEXIBLE_ARRAY_MEMBER];
} CensusShared;

static CensusShared *shared = NULL;
static Place *mine = NULL;
static uint64 my_queue = 0;

/* How much shared memory it needs.  Called by the request hook. */
Size
queue_census_shmem_size(void)
{
	return add_size(offsetof(CensusShared, place), mul_size(sizeof(Place), MaxBackends));
}

/* Makes or finds it.  Called by the startup hook. */
void
queue_census_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue census", queue_census_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u64(&shared->time, 1);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u64(&shared->place[i].queue, 0);
		pg_atomic_init_u64(&shared->place[i].since, 0);
		pg_atomic_init_u64(&shared->place[i].kinds, 0);
		pg_atomic_init_u32(&shared->place[i].looking, 0);
		pg_atomic_init_u32(&shared->place[i].given, 0);
		shared->place[i].db = InvalidOid;
	}
}

void
queue_census_attach(void)
{
	if (shared == NULL || mine != NULL)
		return;
	mine = &shared->place[queue_procno_of(MyProc)];
	pg_atomic_write_u64(&mine->queue, 0);
	pg_atomic_write_u32(&mine->given, 0);
	mine->db = MyDatabaseId;
	pg_memory_barrier();
}

bool
queue_census_look(uint64 queue_key)
{
	bool		first = my_queue == 0;
	uint64		queue = queue_key != 0 && (my_queue == 0 || my_queue == queue_key) ? queue_key : ANY_QUEUE;

	if (shared == NULL)
		return false;
	queue_census_attach();
	/* a look that goes on is as old as it was: claims may have been made in it */
	if (first)
	{
		pg_atomic_write_u64(&mine->since, pg_atomic_read_u64(&shared->time));
		pg_atomic_write_u64(&mine->kinds, 0);
	}
	pg_atomic_write_u32(&mine->looking, 1);
	my_queue = queue;
	pg_write_barrier();
	pg_atomic_write_u64(&mine->queue, queue);
	pg_memory_barrier();
	return first;
}

void
queue_census_claimed(uint64 kind_key)
{
	uint64		kinds = mine != NULL ? pg_atomic_read_u64(&mine->kinds) : 0;

	if (mine != NULL)
		pg_atomic_write_u64(&mine->kinds, kinds | queue_census_kind(kind_key));
}

void
queue_census_looked(void)
{
	if (mine == NULL)
		return;
	pg_write_barrier();
	pg_atomic_write_u32(&mine->looking, 0);
}

void
queue_census_leave(void)
{
	if (my_queue == 0)
		return;
	my_queue = 0;
	pg_atomic_write_u64(&mine->queue, 0);
}

/* The end of a transaction ends its look. */
static void
census_xact(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		queue_census_leave();
}

void
queue_census_register_callbacks(void)
{
	RegisterXactCallback(census_xact, NULL);
}

uint64
queue_census_announce(void)
{
	return pg_atomic_add_fetch_u64(&shared->time, 1);
}

bool
queue_census_looks(uint64 queue_key, uint64 kinds, uint64 announced)
{
	pg_memory_barrier();
	for (int i = 0; i < MaxBackends; i++)
	{
		Place	   *place = &shared->place[i];
		uint64		queue = pg_atomic_read_u64(&place->queue);

		if (queue == 0 || place == mine || place->db != MyDatabaseId)
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u64(&place->since) >= announced ||
			(queue_key != 0 && queue != queue_key && queue != ANY_QUEUE))
			continue;
		if (pg_atomic_read_u32(&place->looking) != 0)
			return true;
		pg_read_barrier();
		if ((pg_atomic_read_u64(&place->kinds) & kinds) != 0)
			return true;
	}
	return false;
}

void
queue_census_give(uint32 procno)
{
	pg_atomic_write_u32(&shared->place[procno].given, 1);
	pg_memory_barrier();
}

bool
queue_census_given(void)
{
	return unlikely(mine != NULL && pg_atomic_read_u32(&mine->given) != 0) &&
		pg_atomic_exchange_u32(&mine->given, 0) != 0;
}
