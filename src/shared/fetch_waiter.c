/*
 * fetch_waiter.c
 *		Who waits for something to fetch.
 *
 * Owns an array of QUEUE_MAX_WAITERS places, one a waiting session, with the hashes of the
 * queues and kinds that it waits for.  A place is WAITING from before its session's look
 * until somebody wakes it; a waker turns exactly one WAITING place a job into WOKEN, so a
 * hundred sleepers cost one wake-up a job.  A session that leaves with a wake which came after its
 * last look began (its time is up, it is cancelled, it dies, or it has a job already: a wake in the
 * midst of a look may tell of another job) passes it on.
 *
 * No locks: a place is taken by compare-and-swap of its state; its keys are written before
 * it becomes WAITING.  Everything a waker does is commit-safe.
 */
#include "shared/fetch_waiter.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

enum
{
	PLACE_FREE, PLACE_TAKEN, PLACE_WAITING, PLACE_WOKEN
};

typedef struct Place
{
	pg_atomic_uint32 state;
	uint32		procno;
	Oid			db;
	pg_atomic_uint64 due;		/* when its session looks again by itself; others may lower it */
	QueueFetchWait awaited;
} Place;

typedef struct Await
{
	pg_atomic_uint32 waiting;	/* places that are not free */
	pg_atomic_uint32 used;		/* places ever taken */
	pg_atomic_uint32 turn;		/* where the next waker begins to look: nobody starves */
	Place		place[QUEUE_MAX_WAITERS];
} Await;

static Await *shared = NULL;
static Place *mine = NULL;
static int	mine_level;			/* the nest level of the transaction that waits */
static TimestampTz known = DT_NOEND;	/* the due time of before the look that is under way */

Size
queue_fetch_waiter_shmem_size(void)
{
	return MAXALIGN(sizeof(Await));
}

void
queue_fetch_waiter_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue await", sizeof(Await), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(Await));
	pg_atomic_init_u32(&shared->waiting, 0);
	pg_atomic_init_u32(&shared->used, 0);
	pg_atomic_init_u32(&shared->turn, 0);
	for (int i = 0; i < QUEUE_MAX_WAITERS; i++)
	{
		pg_atomic_init_u32(&shared->place[i].state, PLACE_FREE);
		pg_atomic_init_u64(&shared->place[i].due, (uint64) DT_NOEND);
	}
}

/* A session that ends, or whose transaction aborts, while it waits. */
static void
await_exit(int code, Datum arg)
{
	queue_fetch_waiter_end();
}

static void
await_xact(XactEvent event, void *arg)
{
	if (mine != NULL && (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT))
		queue_fetch_waiter_end();
}

static void
await_subxact(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	/* one inside of the fetch, for a job that cannot be taken, ends no wait */
	if (mine != NULL && event == SUBXACT_EVENT_ABORT_SUB && GetCurrentTransactionNestLevel() <= mine_level)
		queue_fetch_waiter_end();
}

bool
queue_fetch_waiter_begin(const QueueFetchWait *awaited)
{
	static bool registered = false;

	if (shared == NULL || MyProc == NULL)
		return false;
	if (!registered)
	{
		on_shmem_exit(await_exit, (Datum) 0);
		RegisterXactCallback(await_xact, NULL);
		RegisterSubXactCallback(await_subxact, NULL);
		registered = true;
	}
	queue_fetch_waiter_end();
	for (uint32 i = 0; i < QUEUE_MAX_WAITERS; i++)
	{
		Place	   *place = &shared->place[i];
		uint32		state = PLACE_FREE;
		uint32		used = pg_atomic_read_u32(&shared->used);

		if (!pg_atomic_compare_exchange_u32(&place->state, &state, PLACE_TAKEN))
			continue;
		place->procno = queue_procno_of(MyProc);
		place->db = MyDatabaseId;
		place->awaited = *awaited;
		pg_atomic_write_u64(&place->due, (uint64) DT_NOEND);
		known = DT_NOEND;
		while (used < i + 1 && !pg_atomic_compare_exchange_u32(&shared->used, &used, i + 1))
			;
		pg_atomic_fetch_add_u32(&shared->waiting, 1);
		mine = place;
		mine_level = GetCurrentTransactionNestLevel();
		return true;
	}
	return false;
}

void
queue_fetch_waiter_arm(void)
{
	if (mine == NULL)
		return;
	/* what others hand over from now on is kept beside what the look finds */
	known = queue_earlier(known, (TimestampTz) pg_atomic_exchange_u64(&mine->due, (uint64) DT_NOEND));
	(void) pg_atomic_exchange_u32(&mine->state, PLACE_WAITING);	/* a full barrier: before the look */
}

/* Lowers a place's due time; true: it was later. */
static bool
lower(Place *place, TimestampTz due)
{
	uint64		old = pg_atomic_read_u64(&place->due);

	while ((TimestampTz) old > due)
	{
		if (pg_atomic_compare_exchange_u64(&place->due, &old, (uint64) due))
			return true;
	}
	return false;
}

void
queue_fetch_waiter_learn(TimestampTz next_due)
{
	known = DT_NOEND;
	if (mine != NULL)
		(void) lower(mine, next_due);
}

TimestampTz
queue_fetch_waiter_due(void)
{
	return mine != NULL ? (TimestampTz) pg_atomic_read_u64(&mine->due) : DT_NOEND;
}

bool
queue_fetch_waiter_woken(void)
{
	return mine == NULL || pg_atomic_read_u32(&mine->state) == PLACE_WOKEN;
}

static bool
has(const uint64 *keys, int n, uint64 key)
{
	for (int i = 0; i < n; i++)
	{
		if (keys[i] == key)
			return true;
	}
	return false;
}

/* Does the session of this place wait for jobs of such a line? */
static bool
wants(const Place *place, Oid db, const QueueLineKeys *keys, bool served)
{
	const QueueFetchWait *awaited = &place->awaited;

	return place->db == db &&
		(awaited->any_queue || has(awaited->queue_key, awaited->nqueues, keys->queue_key)) &&
		(awaited->unserved ? !served :
		 awaited->any_kind || has(awaited->kind_key, awaited->nkinds, keys->kind_key));
}

int
queue_fetch_waiter_wake(Oid db, const QueueLineKeys *keys, int n)
{
	uint32		used;
	uint32		start;
	int			woken = 0;
	QueueDatabase *base;
	bool		served;

	if (shared == NULL)
		return 0;
	pg_memory_barrier();		/* what the caller made claimable comes before this look */
	if (pg_atomic_read_u32(&shared->waiting) == 0)
		return 0;

	/*
	 * A handler may have gone since the keys were made, as between an enqueue and its commit.  If that is not to be
	 * seen here yet, whoever tells of it wakes all of them after this.
	 */
	base = queue_database_of(db, false);
	served = keys->served && (base == NULL || pg_atomic_read_u64(&base->generation) == keys->generation);
	used = pg_atomic_read_u32(&shared->used);
	start = pg_atomic_fetch_add_u32(&shared->turn, 1);
	for (uint32 i = 0; i < used && woken < n; i++)
	{
		Place	   *place = &shared->place[(start + i) % used];
		uint32		state = PLACE_WAITING;

		if (pg_atomic_read_u32(&place->state) != PLACE_WAITING || !wants(place, db, keys, served) ||
			!pg_atomic_compare_exchange_u32(&place->state, &state, PLACE_WOKEN))
			continue;
		queue_set_latch(place->procno);
		if (wants(place, db, keys, served)) /* else its owner changed under us: it looks in vain */
			woken++;
	}
	return woken;
}

void
queue_fetch_waiter_wake_all(Oid db)
{
	uint32		used;

	if (shared == NULL)
		return;
	pg_memory_barrier();
	if (pg_atomic_read_u32(&shared->waiting) == 0)
		return;
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i < used; i++)
	{
		Place	   *place = &shared->place[i];
		uint32		state = PLACE_WAITING;

		if (place->db == db && pg_atomic_compare_exchange_u32(&place->state, &state, PLACE_WOKEN))
			queue_set_latch(place->procno);
	}
}

/*
 * Somebody leaves with a wake that it did not use: one that waits for just the same takes it; is there none, whoever
 * waits for a queue of its looks.  Or with the time when a job falls due (due < DT_NOEND), which nobody else may know:
 * then that one sleeps no longer than until then.
 */
static void
pass_on(const QueueFetchWait *awaited, TimestampTz due)
{
	uint32		used = pg_atomic_read_u32(&shared->used);

	for (int same = 1; same >= 0; same--)
	{
		for (uint32 i = 0; i < used; i++)
		{
			Place	   *place = &shared->place[i];
			uint32		state = PLACE_WAITING;
			bool		fits = same ? memcmp(&place->awaited, awaited, sizeof(QueueFetchWait)) == 0 :
				awaited->any_queue || place->awaited.any_queue;

			for (int q = 0; q < awaited->nqueues && !same && !fits; q++)
				fits = has(place->awaited.queue_key, place->awaited.nqueues, awaited->queue_key[q]);
			if (!fits || place->db != MyDatabaseId || pg_atomic_read_u32(&place->state) != PLACE_WAITING)
				continue;
			if (due < DT_NOEND)
			{
				bool		later = lower(place, due);

				if (pg_atomic_read_u32(&place->state) != PLACE_WAITING)
					continue;	/* it leaves, perhaps without having seen this */
				if (later)
					queue_set_latch(place->procno);
			}
			else if (pg_atomic_compare_exchange_u32(&place->state, &state, PLACE_WOKEN))
				queue_set_latch(place->procno);
			else
				continue;
			if (same)
				return;
		}
	}
}

void
queue_fetch_waiter_end(void)
{
	Place	   *place = mine;
	QueueFetchWait awaited;
	TimestampTz due;
	bool		woken;

	if (place == NULL)
		return;
	mine = NULL;
	awaited = place->awaited;
	/* a waker that sees it WAITING afterwards sees the next owner's keys */
	woken = pg_atomic_exchange_u32(&place->state, PLACE_TAKEN) == PLACE_WOKEN;
	due = Min(known, (TimestampTz) pg_atomic_read_u64(&place->due));
	known = DT_NOEND;
	pg_atomic_write_u32(&place->state, PLACE_FREE);
	pg_atomic_fetch_sub_u32(&shared->waiting, 1);

	/*
	 * A wake since the last look began: it may tell of a job that this look did not see, so also who leaves with
	 * another one passes it on.  (Who takes it finds the due times too.)
	 */
	if (woken || due == DT_NOBEGIN)
		pass_on(&awaited, DT_NOEND);
	else if (due < DT_NOEND)
		pass_on(&awaited, due);
}
