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
 * Locks: shared->lock (LWLock), shared to look a job up while any is passed by.
 */
#include "shared/refused.h"

#include "shared/channel.h"
#include "shared/clock.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"

#define PLACES 1024				/* each costs its workers one error before they get what is behind all */

typedef struct RefusedKey
{
	int64		job;
	int64		db;
} RefusedKey;

typedef struct Refused
{
	RefusedKey	key;
	TimestampTz until;
	int64		pause;			/* us, the last one */
} Refused;

typedef struct RefusedShared
{
	LWLock		lock;
	int			tranche;
	pg_atomic_uint64 over_at;	/* from then on none is passed by; written under the lock */
} RefusedShared;

static RefusedShared *shared = NULL;
static HTAB *jobs = NULL;		/* in shared memory */

Size
queue_refused_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(RefusedShared)), hash_estimate_size(PLACES, sizeof(Refused)));
}

void
queue_refused_shmem_init(void)
{
	HASHCTL		control = {.keysize = sizeof(RefusedKey), .entrysize = sizeof(Refused)};
	bool		found;

	shared = ShmemInitStruct("queue refused", sizeof(RefusedShared), &found);
	if (!found)
	{
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u64(&shared->over_at, 0);
	}
	LWLockRegisterTranche(shared->tranche, "QueueRefused");
	jobs = ShmemInitHash("queue refused jobs", PLACES, PLACES, &control, HASH_ELEM | HASH_BLOBS);
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

/* Takes out what nobody has met again for long, or what is of this database.  Lock: exclusive. */
static void
sweep(TimestampTz now, Oid db)
{
	HASH_SEQ_STATUS seq;
	Refused    *refused;

	hash_seq_init(&seq, jobs);
	while ((refused = hash_seq_search(&seq)) != NULL)
	{
		if (refused->key.db == (int64) db || now - refused->until > QUEUE_SHUNNED_MAX_US ||
			refused->until - now > QUEUE_SHUNNED_MAX_US)
			hash_search(jobs, &refused->key, HASH_REMOVE, NULL);
	}
}

void
queue_refused_add(Oid db, int64 job, TimestampTz now)
{
	RefusedKey	key = {.job = job, .db = db};
	Refused    *refused;
	bool		found;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	sweep(now, InvalidOid);
	found = hash_search(jobs, &key, HASH_FIND, NULL) != NULL;
	refused = found || hash_get_num_entries(jobs) < PLACES ? hash_search(jobs, &key, HASH_ENTER_NULL, NULL) : NULL;
	if (refused != NULL && !found)
		refused->until = refused->pause = 0;
	if (refused != NULL && refused->until <= now)
	{
		refused->pause = Min(Max(refused->pause * 2, QUEUE_SHUNNED_US), QUEUE_SHUNNED_MAX_US);
		refused->until = now + refused->pause;
		if ((TimestampTz) pg_atomic_read_u64(&shared->over_at) < refused->until)
			pg_atomic_write_u64(&shared->over_at, (uint64) refused->until);
	}
	LWLockRelease(&shared->lock);
}

TimestampTz
queue_refused_until(Oid db, int64 job, TimestampTz now)
{
	RefusedKey	key = {.job = job, .db = db};
	Refused    *refused;
	TimestampTz until = 0;

	if (shared == NULL || likely((TimestampTz) pg_atomic_read_u64(&shared->over_at) <= now))
		return 0;
	LWLockAcquire(&shared->lock, LW_SHARED);
	refused = hash_search(jobs, &key, HASH_FIND, NULL);
	if (refused != NULL && queue_put_off(refused->until, QUEUE_SHUNNED_MAX_US, now))
		until = refused->until;
	LWLockRelease(&shared->lock);
	return until;
}

void
queue_refused_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	sweep(queue_now(), db);
	LWLockRelease(&shared->lock);
}
