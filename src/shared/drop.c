/*
 * drop.c
 *		Drops of queues by open transactions, and who enqueues beside them.
 *
 * See drop.h.  The numbers and the list are in the database's entry; here is who was found by which drops, a place for
 * each process, which means its transaction of that local id.
 */
#include "shared/drop.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"

typedef struct Found
{
	LocalTransactionId lxid;
	uint32		first, last;	/* by all drops from.. to */
} Found;

typedef struct DropShared
{
	LWLock		lock;
	int			tranche;
	Found		found[FLEXIBLE_ARRAY_MEMBER];
} DropShared;

static DropShared *shared = NULL;

Size
queue_drop_shmem_size(void)
{
	return add_size(offsetof(DropShared, found), mul_size(MaxBackends, sizeof(Found)));
}

void
queue_drop_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue drops", queue_drop_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, queue_drop_shmem_size());
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
	}
	LWLockRegisterTranche(shared->tranche, "QueueDrop");
}

uint32
queue_drops(QueueDatabase *base)
{
	pg_memory_barrier();
	return pg_atomic_read_u32(&base->drops);
}

uint32
queue_drop_begin(QueueDatabase *base, uint32 key, int *place)
{
	uint32		number;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	do
		number = pg_atomic_add_fetch_u32(&base->drops_begun, 1);
	while (number == 0);
	for (*place = 0; *place < QUEUE_DROPS_LISTED && pg_atomic_read_u64(&base->drop[*place]) != 0; (*place)++)
		;
	if (*place < QUEUE_DROPS_LISTED)
		pg_atomic_write_u64(&base->drop[*place], (uint64) key << 32 | number);
	else
	{
		*place = -1;
		(void) pg_atomic_fetch_add_u32(&base->drops_unlisted, 1);
	}
	(void) pg_atomic_fetch_add_u32(&base->drops, 1);	/* before it looks for enqueuers, who look for it after */
	return number;
}

void
queue_drop_begun(const VirtualTransactionId *enqueuers, int n, uint32 number)
{
	for (int i = 0; i < n; i++)
	{
		uint32		place = queue_vxid_place(enqueuers[i]);
		Found	   *found = &shared->found[place];

		if (place >= (uint32) MaxBackends)
			continue;			/* a prepared transaction, which enqueues no more */
		/* one that was not found in between, because a savepoint's end had taken locks of it, is found anew */
		if (found->lxid != enqueuers[i].localTransactionId || found->last != number - 1)
			found->first = number;
		found->lxid = enqueuers[i].localTransactionId;
		found->last = number;
	}
	LWLockRelease(&shared->lock);
}

void
queue_drop_end(QueueDatabase *base, int place)
{
	if (place >= 0)
		pg_atomic_write_u64(&base->drop[place], 0);
	else
		(void) pg_atomic_fetch_sub_u32(&base->drops_unlisted, 1);
	(void) pg_atomic_fetch_sub_u32(&base->drops, 1);
}

void
queue_drop_lock(void)
{
	LWLockAcquire(&shared->lock, LW_SHARED);
}

void
queue_drop_unlock(void)
{
	LWLockRelease(&shared->lock);
}

uint32
queue_drop_last(QueueDatabase *base, bool *found)
{
	uint32		begun = pg_atomic_read_u32(&base->drops_begun);
	VirtualTransactionId me;
	const Found *mine;

	GET_VXID_FROM_PGPROC(me, *MyProc);
	mine = &shared->found[queue_vxid_place(me)];
	*found = mine->lxid == me.localTransactionId && mine->last == begun;
	return *found ? mine->first - 1 : begun;
}

bool
queue_drop_until(QueueDatabase *base, uint32 key, uint32 last, uint32 *number)
{
	pg_memory_barrier();
	for (int place = 0; place < QUEUE_DROPS_LISTED; place++)
	{
		uint64		drop = pg_atomic_read_u64(&base->drop[place]);

		*number = (uint32) drop;
		if (drop != 0 && drop >> 32 == key && (int32) (*number - last) <= 0)
			return true;
	}
	*number = 0;
	if (pg_atomic_read_u32(&base->drops_unlisted) > 0)
		return true;
	pg_read_barrier();			/* who is told so reads what the drop did */
	return false;
}
