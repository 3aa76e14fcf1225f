/*
 * wake.c
 *		Waking a process.
 *
 * A latch alone does not keep a wake.  The server resets it wherever it waits by itself: for a lock, or for a page that
 * another process just reads.  So a process that looked, found nothing to do, does something else that waits for a
 * page, and then sleeps, would miss who woke it in between.  Therefore who wakes a process also sets its flag here, and
 * that one does not sleep while its flag is set.
 *
 * One flag for each process, by its number.  Atomics only; the exchange that takes a flag is a full barrier, so what
 * was done before the wake is seen after it.
 */
#include "shared/wake.h"

#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/shmem.h"

static pg_atomic_uint32 *flags = NULL;

static inline uint32
flag_count(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

Size
queue_wake_shmem_size(void)
{
	return mul_size(flag_count(), sizeof(pg_atomic_uint32));
}

void
queue_wake_shmem_init(void)
{
	bool		found;

	flags = ShmemInitStruct("queue wakes", queue_wake_shmem_size(), &found);
	for (uint32 i = 0; i < flag_count() && !found; i++)
		pg_atomic_init_u32(&flags[i], 0);
}

/* This process's; NULL: it has none. */
static pg_atomic_uint32 *
mine(void)
{
	uint32		number = MyProc != NULL ? queue_procno_of(MyProc) : PG_UINT32_MAX;

	return flags != NULL && number < flag_count() ? &flags[number] : NULL;
}

void
queue_set_latch(uint32 procno)
{
	if (procno >= ProcGlobal->allProcCount)
		return;
	if (flags != NULL && procno < flag_count())
		pg_atomic_write_u32(&flags[procno], 1);
	SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

void
queue_wake_self(void)
{
	pg_atomic_uint32 *flag = mine();

	if (flag != NULL)
		pg_atomic_write_u32(flag, 1);
	SetLatch(MyLatch);
}

bool
queue_woken(void)
{
	pg_atomic_uint32 *flag = mine();

	return flag != NULL && pg_atomic_exchange_u32(flag, 0) != 0;
}

bool
queue_is_woken(void)
{
	pg_atomic_uint32 *flag = mine();

	return flag != NULL && pg_atomic_read_u32(flag) != 0;
}
