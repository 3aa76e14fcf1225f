/*
 * end_waiter.c
 *		Sessions that wait for the end of a job, or of all jobs of a queue that are due.
 *
 * Owns an array of QUEUE_MAX_WAITERS places, one per waiting session.  A commit that ends
 * a job reads one counter when nobody waits.  A session that finds no place looks again by
 * itself every 100 ms.
 *
 * No locks: a place is taken by compare-and-swap of its procno; job_id and queue_key are what a waker
 * compares, are written last and cleared first.  A woken session that was not meant just looks once more.
 */
#include "shared/end_waiter.h"

#include "storage/ipc.h"
#include "storage/shmem.h"

typedef struct QueueWaiter
{
	pg_atomic_uint32 procno;	/* PG_UINT32_MAX: free */
	Oid			db;
	pg_atomic_uint64 job_id;	/* 0: none */
	pg_atomic_uint64 queue_key; /* 0: none */
} QueueWaiter;

typedef struct QueueWaiterShared
{
	pg_atomic_uint32 waiting;	/* sessions that wait now */
	pg_atomic_uint32 for_queues;	/* of these, for a queue */
	pg_atomic_uint32 used;		/* places ever taken */
	QueueWaiter waiters[QUEUE_MAX_WAITERS];
} QueueWaiterShared;

static QueueWaiterShared *shared = NULL;
static QueueWaiter *mine = NULL;

/* How much shared memory the places need.  Called by the request hook. */
Size
queue_end_waiter_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueWaiterShared));
}

/* Makes or finds the places.  Called by the startup hook. */
void
queue_end_waiter_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue waiters", queue_end_waiter_shmem_size(), &found);
	if (!found)
	{
		pg_atomic_init_u32(&shared->waiting, 0);
		pg_atomic_init_u32(&shared->for_queues, 0);
		pg_atomic_init_u32(&shared->used, 0);
		for (int i = 0; i < QUEUE_MAX_WAITERS; i++)
		{
			pg_atomic_init_u32(&shared->waiters[i].procno, PG_UINT32_MAX);
			pg_atomic_init_u64(&shared->waiters[i].job_id, 0);
			pg_atomic_init_u64(&shared->waiters[i].queue_key, 0);
			shared->waiters[i].db = InvalidOid;
		}
	}
}

/* on_shmem_exit: a session that ends while it waits. */
static void
waiter_exit(int code, Datum arg)
{
	queue_end_waiter_unregister();
}

/* See end_waiter.h.  Register BEFORE the look that may be the last.  Called by wait.c. */
bool
queue_end_waiter_register(int64 job_id, uint64 queue_key)
{
	static bool exit_registered = false;
	uint32		me;

	if (shared == NULL || MyProc == NULL)
		return false;
	queue_end_waiter_unregister();
	if (!exit_registered)
	{
		on_shmem_exit(waiter_exit, (Datum) 0);
		exit_registered = true;
	}
	me = queue_procno_of(MyProc);
	for (uint32 i = 0; i < QUEUE_MAX_WAITERS; i++)
	{
		QueueWaiter *w = &shared->waiters[i];
		uint32		expected = PG_UINT32_MAX;
		uint32		used;

		if (!pg_atomic_compare_exchange_u32(&w->procno, &expected, me))
			continue;
		mine = w;
		w->db = MyDatabaseId;
		pg_write_barrier();
		pg_atomic_write_u64(&w->job_id, (uint64) job_id);
		pg_atomic_write_u64(&w->queue_key, queue_key);
		used = pg_atomic_read_u32(&shared->used);
		while (used < i + 1 && !pg_atomic_compare_exchange_u32(&shared->used, &used, i + 1))
			;
		if (queue_key != 0)
			pg_atomic_fetch_add_u32(&shared->for_queues, 1);
		pg_atomic_fetch_add_u32(&shared->waiting, 1);	/* a full barrier: before the caller's last look */
		return true;
	}
	return false;
}

/* I wait no longer. */
void
queue_end_waiter_unregister(void)
{
	QueueWaiter *w = mine;

	if (w == NULL)
		return;
	mine = NULL;
	if (pg_atomic_read_u64(&w->queue_key) != 0)
		pg_atomic_fetch_sub_u32(&shared->for_queues, 1);
	pg_atomic_write_u64(&w->job_id, 0);
	pg_atomic_write_u64(&w->queue_key, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&w->procno, PG_UINT32_MAX);
	pg_atomic_fetch_sub_u32(&shared->waiting, 1);
}

/* Wakes those who wait for this job (0: for any), or with a key for that queue; `waiting` counts all of their sort. */
static void
wake(pg_atomic_uint32 *waiting, Oid db, int64 job_id, uint64 queue_key)
{
	uint32		used;

	pg_memory_barrier();		/* what the caller tells of comes before this look */
	if (pg_atomic_read_u32(waiting) == 0)
		return;
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i < used; i++)
	{
		QueueWaiter *w = &shared->waiters[i];
		uint64		waited_for = pg_atomic_read_u64(queue_key != 0 ? &w->queue_key : &w->job_id);

		if (waited_for != 0 && w->db == db &&
			(queue_key != 0 ? waited_for == queue_key : job_id == 0 || waited_for == (uint64) job_id))
			queue_set_latch(pg_atomic_read_u32(&w->procno));
	}
}

/* The job ended and that is committed.  Commit-safe.  Called by note.c. */
void
queue_end_waiter_wake(Oid db, int64 job_id)
{
	if (shared != NULL)
		wake(&shared->waiting, db, job_id, 0);
}

/* See end_waiter.h.  Called by note.c. */
void
queue_end_waiter_wake_queue(Oid db, uint64 queue_key)
{
	if (shared != NULL)
		wake(&shared->for_queues, db, 0, queue_key);
}
