/*
 * refused.c
 *		Jobs whose claim by a session failed for their rows' sake, and that sessions pass by for a while.
 *
 * A job whose row cannot be written, because a trigger of a user's refuses it say, ends the fetch that claims it with
 * that error; and the next one, and that of every other worker of its queue, as long as it comes first.  So who met it
 * says so here, and for a pause that doubles others pass it by: they get the jobs behind it, and the error comes now
 * and then.  What the workers of the server do with such jobs is in channel.c.
 *
 * One table for all databases.  Its loss, with the server or for want of a place, costs one more error.
 *
 * Locks: one spinlock, for a walk over the table.
 */
#include "shared/refused.h"

#include "shared/channel.h"
#include "shared/clock.h"

#include "storage/shmem.h"
#include "storage/spin.h"

#define PLACES 1024			/* each costs its workers one error before they get what is behind all */
#define SWEEP_US USECS_PER_SEC

typedef struct Refused
{
	Oid			db;
	int64		job;
	TimestampTz until;
	int64		pause;			/* us, the last one */
} Refused;

typedef struct RefusedTable
{
	slock_t		mutex;
	pg_atomic_uint32 n;			/* of the places that are used; written under the lock */
	TimestampTz swept;
	Refused		place[PLACES];
} RefusedTable;

static RefusedTable *table = NULL;

Size
queue_refused_shmem_size(void)
{
	return sizeof(RefusedTable);
}

void
queue_refused_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("queue refused jobs", queue_refused_shmem_size(), &found);
	if (found)
		return;
	SpinLockInit(&table->mutex);
	pg_atomic_init_u32(&table->n, 0);
	table->swept = 0;
}

bool
queue_refused_is(int code)
{
	switch (ERRCODE_TO_CATEGORY(code))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_PLPGSQL_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return true;
		default:
			return false;		/* rights, locks, cancels: it may be otherwise for another session */
	}
}

/* Takes out what nobody has met again for long, or what is of this database.  Lock: the table's. */
static void
sweep(TimestampTz now, Oid db)
{
	uint32		n = pg_atomic_read_u32(&table->n);

	for (uint32 i = n; i-- > 0;)
	{
		TimestampTz until = table->place[i].until;

		if (table->place[i].db == db || now - until > QUEUE_SHUNNED_MAX_US || until - now > QUEUE_SHUNNED_MAX_US)
			table->place[i] = table->place[--n];
	}
	pg_atomic_write_u32(&table->n, n);
	table->swept = now;
}

/* Lock: the table's. */
static Refused *
find(Oid db, int64 job)
{
	for (uint32 i = 0; i < pg_atomic_read_u32(&table->n); i++)
	{
		if (table->place[i].job == job && table->place[i].db == db)
			return &table->place[i];
	}
	return NULL;
}

void
queue_refused_add(Oid db, int64 job, TimestampTz now)
{
	uint32		n;
	Refused    *place;

	if (table == NULL)
		return;
	SpinLockAcquire(&table->mutex);
	sweep(now, InvalidOid);
	place = find(db, job);
	n = pg_atomic_read_u32(&table->n);
	if (place == NULL && n < PLACES)
	{
		place = &table->place[n];
		*place = (Refused) {.db = db, .job = job};
		pg_atomic_write_u32(&table->n, n + 1);
	}
	if (place != NULL && place->until <= now)
	{
		place->pause = Min(Max(place->pause * 2, QUEUE_SHUNNED_US), QUEUE_SHUNNED_MAX_US);
		place->until = now + place->pause;
	}
	SpinLockRelease(&table->mutex);
}

TimestampTz
queue_refused_until(Oid db, int64 job, TimestampTz now)
{
	Refused    *place;
	TimestampTz until = 0;

	if (table == NULL || likely(pg_atomic_read_u32(&table->n) == 0))
		return 0;
	SpinLockAcquire(&table->mutex);
	if (!queue_put_off(table->swept + SWEEP_US, SWEEP_US, now))
		sweep(now, InvalidOid);
	place = find(db, job);
	if (place != NULL && place->until > now)
		until = place->until;
	SpinLockRelease(&table->mutex);
	return until;
}

void
queue_refused_reset(Oid db)
{
	if (table == NULL)
		return;
	SpinLockAcquire(&table->mutex);
	sweep(queue_now(), db);
	SpinLockRelease(&table->mutex);
}
