/*
 * awaited.c
 *		A filter of the jobs that others depend on.
 *
 * A bit per id, modulo the size: a bit that is not set says that no row of queue.dependency names the id.  A database
 * has two such maps.  Who inserts rows sets their bits in both, after the insert and before he looks at the jobs; who
 * ends a job deletes it first and then reads the bit.  So one of the two sees the other.  Bits are never taken away
 * from a map in use: the other one is cleared and filled from the table, rows of open transactions too, and then takes
 * its place.  A row whose bit the clearing took was inserted before, so the look at the table finds it.
 *
 * A count of what was told lets who ends many jobs read the rows of the next ones ahead: as long as it stays the same,
 * nobody has looked at these jobs whose rows that reading did not see.
 *
 * A database without a map, and one whose first map is not filled yet, answers that everything may be awaited.
 *
 * Lock: QueueAwaited (LWLock) to give places to databases.  The maps are atomics.
 */
#include "shared/awaited.h"

#include "storage/ipc.h"
#include "storage/shmem.h"

#define MAP_BITS 65536
#define MAP_WORDS (MAP_BITS / 32)

typedef struct Place
{
	Oid			db;				/* InvalidOid: free */
	pg_atomic_uint32 current;	/* the map that is read; NO_MAP: none is good yet */
	pg_atomic_uint64 added;		/* counts the rows that were told of */
	pg_atomic_uint32 map[2][MAP_WORDS];
} Place;

#define NO_MAP 2

typedef struct AwaitedTable
{
	LWLock		lock;
	int			tranche;
	Place		place[QUEUE_MAX_DATABASES];
} AwaitedTable;

static AwaitedTable *table = NULL;

Size
queue_awaited_shmem_size(void)
{
	return MAXALIGN(sizeof(AwaitedTable));
}

void
queue_awaited_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("queue awaited", sizeof(AwaitedTable), &found);
	if (!found)
	{
		memset(table, 0, sizeof(AwaitedTable));
		table->tranche = LWLockNewTrancheId();
		LWLockInitialize(&table->lock, table->tranche);
		for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
		{
			pg_atomic_init_u32(&table->place[i].current, NO_MAP);
			pg_atomic_init_u64(&table->place[i].added, 0);
		}
	}
	LWLockRegisterTranche(table->tranche, "QueueAwaited");
}

/* This database's place; NULL: there is no shared memory, or none is left. */
static Place *
my_place(void)
{
	static Place *mine = NULL;
	Place	   *unused = NULL;

	if (table == NULL || (mine != NULL && mine->db == MyDatabaseId))
		return mine;
	mine = NULL;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_DATABASES && mine == NULL; i++)
	{
		Place	   *place = &table->place[i];

		if (place->db == MyDatabaseId)
			mine = place;
		else if (place->db == InvalidOid && unused == NULL)
			unused = place;
	}
	if (mine == NULL && unused != NULL)
	{
		mine = unused;
		pg_atomic_write_u32(&mine->current, NO_MAP);
		mine->db = MyDatabaseId;
	}
	LWLockRelease(&table->lock);
	return mine;
}

void
queue_awaited_reset(Oid db)
{
	if (table == NULL)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		if (table->place[i].db != db)
			continue;
		pg_atomic_write_u32(&table->place[i].current, NO_MAP);
		table->place[i].db = InvalidOid;
	}
	LWLockRelease(&table->lock);
}

static inline void
set_bit(Place *place, int map, int64 id)
{
	uint32		bit = (uint64) id % MAP_BITS;

	(void) pg_atomic_fetch_or_u32(&place->map[map][bit / 32], (uint32) 1 << (bit % 32));
}

void
queue_awaited_add(int64 id)
{
	Place	   *place = my_place();

	if (place == NULL)
		return;
	set_bit(place, 0, id);
	set_bit(place, 1, id);
	pg_atomic_fetch_add_u64(&place->added, 1);
}

uint64
queue_awaited_added(void)
{
	Place	   *place = my_place();

	if (place == NULL)
		return PG_UINT64_MAX;
	pg_memory_barrier();
	return pg_atomic_read_u64(&place->added);
}

bool
queue_awaited_maybe(int64 id)
{
	Place	   *place = my_place();
	uint32		bit = (uint64) id % MAP_BITS;
	uint32		current;

	if (place == NULL)
		return true;
	pg_memory_barrier();
	current = pg_atomic_read_u32(&place->current);
	return current == NO_MAP || (pg_atomic_read_u32(&place->map[current][bit / 32]) & ((uint32) 1 << (bit % 32))) != 0;
}

/* The map that is not read. */
static inline int
other_map(Place *place)
{
	return pg_atomic_read_u32(&place->current) == 0 ? 1 : 0;
}

void
queue_awaited_begin(void)
{
	Place	   *place = my_place();

	if (place == NULL)
		return;
	for (int i = 0; i < MAP_WORDS; i++)
		pg_atomic_write_u32(&place->map[other_map(place)][i], 0);
	pg_memory_barrier();
}

void
queue_awaited_put(int64 id)
{
	Place	   *place = my_place();

	if (place != NULL)
		set_bit(place, other_map(place), id);
}

void
queue_awaited_end(void)
{
	Place	   *place = my_place();

	pg_memory_barrier();
	if (place != NULL)
		pg_atomic_write_u32(&place->current, other_map(place));
}
