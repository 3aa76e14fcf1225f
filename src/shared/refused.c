/*
 * refused.c
 *		Jobs whose claim by a session failed for their rows' sake, and that sessions pass by for a while.
 *
 * A job whose row cannot be written, because a trigger of a user's refuses it say, ends the fetch that claims it with
 * that error; and the next one, and that of every other worker of its queue, as long as it comes first.  So who met it
 * says so here: for a pause that doubles all pass it by and get the jobs behind it, and then it is tried in a
 * subtransaction, so its error is nobody's again (api/fetch.c).  What the workers of the server do with such jobs is in
 * channel.c.
 *
 * One table for all databases; without the library's shared memory each session has its own, so each meets each such
 * error once.  The loss of the table costs one more error for each job.  When it is full, the database with the most
 * loses the one that was met first.  But if that is the job's own, the job gets no place, and for a while each claim
 * there is tried in a subtransaction: of more jobs than places, met in order, each would have lost its own whenever it
 * is met again.
 *
 * Locks: shared->lock (LWLock), shared to look a job up where any was met within KEEP_US.
 */
#include "shared/refused.h"

#include "shared/channel.h"
#include "shared/clock.h"
#include "shared/database.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#define PLACES 4096
#define KEEP_US USECS_PER_HOUR	/* after it was met last: longer than a worker rests between two calls */
#define MAX_COUNTED 64			/* databases among which the one with the most is looked for */

typedef struct RefusedKey
{
	int64		job;
	int64		db;
} RefusedKey;

typedef struct Refused
{
	RefusedKey	key;
	TimestampTz met_at;			/* last */
	int64		pause;			/* us, since then; 0: just put in */
} Refused;

typedef struct RefusedShared
{
	LWLock		lock;
	int			tranche;
} RefusedShared;

static RefusedShared *shared = NULL;
static HTAB *jobs = NULL;		/* in shared memory, or this session's own, which has no lock and.. */
static TimestampTz own_refused_at = 0;	/* ..these in place of the database's */
static TimestampTz own_lost_at = 0;

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
	}
	LWLockRegisterTranche(shared->tranche, "QueueRefused");
	jobs = ShmemInitHash("queue refused jobs", PLACES, PLACES, &control, HASH_ELEM | HASH_BLOBS);
}

/* The session's own table, which lasts as long as the session. */
static void
make_own(void)
{
	HASHCTL		control = {.keysize = sizeof(RefusedKey), .entrysize = sizeof(Refused), .hcxt = TopMemoryContext};

	if (shared == NULL && jobs == NULL)
		jobs = hash_create("queue refused jobs", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
lock(LWLockMode mode)
{
	if (shared != NULL)
		LWLockAcquire(&shared->lock, mode);
}

static void
unlock(void)
{
	if (shared != NULL)
		LWLockRelease(&shared->lock);
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
sweep(TimestampTz now, Oid gone)
{
	HASH_SEQ_STATUS seq;
	Refused    *refused;

	hash_seq_init(&seq, jobs);
	while ((refused = hash_seq_search(&seq)) != NULL)
	{
		if (refused->key.db == (int64) gone || !queue_put_off(refused->met_at + KEEP_US, KEEP_US, now))
			hash_search(jobs, &refused->key, HASH_REMOVE, NULL);
	}
}

/* The database with the most loses the one that was met first; false: that is ours.  Lock: exclusive. */
static bool
make_room(void)
{
	struct
	{
		int64		db;
		int			n;
		Refused    *first;
	}			counted[MAX_COUNTED];
	int			ncounted = 0;
	int			most = 0;
	HASH_SEQ_STATUS seq;
	Refused    *refused;

	hash_seq_init(&seq, jobs);
	while ((refused = hash_seq_search(&seq)) != NULL)
	{
		int			i = 0;

		while (i < ncounted && counted[i].db != refused->key.db)
			i++;
		if (i == MAX_COUNTED)
			continue;
		if (i == ncounted)
		{
			counted[i].db = refused->key.db;
			counted[i].n = 0;
			counted[ncounted++].first = refused;
		}
		if (refused->met_at < counted[i].first->met_at)
			counted[i].first = refused;
		if (++counted[i].n > counted[most].n)
			most = i;
	}
	if (counted[most].db == (int64) MyDatabaseId)
		return false;
	hash_search(jobs, &counted[most].first->key, HASH_REMOVE, NULL);
	return true;
}

/* When a job of this database last got no place; 0: never. */
static TimestampTz
lost_at(QueueDatabase *base)
{
	return base == NULL ? own_lost_at : (TimestampTz) pg_atomic_read_u64(&base->refused_lost_at);
}

/* A place for one more, if need be another's; none is looked for where lately there was none.  Lock: exclusive. */
static bool
find_room(QueueDatabase *base, TimestampTz now)
{
	bool		lately = queue_put_off(lost_at(base) + QUEUE_SHUNNED_US, QUEUE_SHUNNED_US, now);

	if (lately && hash_get_num_entries(jobs) >= PLACES)
		return false;
	sweep(now, InvalidOid);
	if (hash_get_num_entries(jobs) < PLACES || make_room())
		return true;
	if (base != NULL)
		pg_atomic_write_u64(&base->refused_lost_at, (uint64) now);
	else
		own_lost_at = now;
	return false;
}

void
queue_refused_add(int64 job, TimestampTz now)
{
	QueueDatabase *base = queue_database();
	RefusedKey	key = {.job = job, .db = MyDatabaseId};
	Refused    *refused;
	bool		found;

	if (base == NULL && shared != NULL)
		return;
	make_own();
	lock(LW_EXCLUSIVE);
	refused = hash_search(jobs, &key, HASH_FIND, NULL);
	if (refused == NULL && find_room(base, now))
	{
		refused = hash_search(jobs, &key, shared != NULL ? HASH_ENTER_NULL : HASH_ENTER, &found);
		if (refused != NULL && !found)
			refused->pause = 0;
	}
	/* who was at it at the same time does not count */
	if (refused != NULL && (refused->pause == 0 || refused->met_at + refused->pause <= now))
	{
		refused->pause = Min(Max(refused->pause * 2, QUEUE_SHUNNED_US), QUEUE_SHUNNED_MAX_US);
		refused->met_at = now;
	}
	if (base != NULL)
		pg_atomic_write_u64(&base->refused_at, (uint64) now);
	else
		own_refused_at = now;
	unlock();
}

bool
queue_refused_known(int64 job, TimestampTz now, TimestampTz *until)
{
	QueueDatabase *base = queue_database();
	RefusedKey	key = {.job = job, .db = MyDatabaseId};
	Refused    *refused;
	TimestampTz last = base == NULL ? own_refused_at : (TimestampTz) pg_atomic_read_u64(&base->refused_at);
	bool		known;

	*until = 0;
	if (likely(last == 0 || !queue_put_off(last + KEEP_US, KEEP_US, now)))
		return false;
	lock(LW_SHARED);
	refused = hash_search(jobs, &key, HASH_FIND, NULL);
	known = refused != NULL || queue_put_off(lost_at(base) + KEEP_US, KEEP_US, now);
	if (refused != NULL && queue_put_off(refused->met_at + refused->pause, QUEUE_SHUNNED_MAX_US, now))
		*until = refused->met_at + refused->pause;
	unlock();
	return known;
}

int
queue_refused_count(TimestampTz now)
{
	HASH_SEQ_STATUS seq;
	Refused    *refused;
	int			n = 0;

	if (jobs == NULL)
		return 0;
	lock(LW_SHARED);
	hash_seq_init(&seq, jobs);
	while ((refused = hash_seq_search(&seq)) != NULL)
	{
		n += refused->key.db == (int64) MyDatabaseId &&
			queue_put_off(refused->met_at + 2 * QUEUE_SHUNNED_MAX_US, KEEP_US, now);
	}
	unlock();
	return n;
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
