/*
 * ended.c
 *		How jobs, and attempts at them, ended in the transaction under way.
 *
 * Who writes such an end fills an entry here (job/finish.c), complete with the names: when the commit pays, it only
 * copies into shared memory.  The entries are a stack by nest level, like the notes (note.c), whose callbacks hand them
 * on, drop them and pay them.
 *
 * Owns in shared memory one number per process, odd while it commits ends that it has not told yet.
 *
 * No locks.
 */
#include "shared/ended.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

static pg_atomic_uint32 *commits = NULL;
static pg_atomic_uint32 *mine = NULL;	/* while it is odd */

static QueueEnded *stack = NULL;
static int	nstack = 0;
static int	maxstack = 0;

/* How much shared memory the numbers need.  Called by the request hook. */
Size
queue_ended_shmem_size(void)
{
	return MAXALIGN(mul_size(sizeof(pg_atomic_uint32), MaxBackends));
}

/* Makes or finds them.  Called by the startup hook. */
void
queue_ended_shmem_init(void)
{
	bool		found;

	commits = ShmemInitStruct("queue ends", queue_ended_shmem_size(), &found);
	for (int i = 0; !found && i < MaxBackends; i++)
		pg_atomic_init_u32(&commits[i], 0);
}

/* Called by note.c before a commit, and by ddl_hook.c before COMMIT PREPARED.  Throws nothing. */
void
queue_ended_commit_begins(void)
{
	uint32		procno = commits == NULL || MyProc == NULL ? PG_UINT32_MAX : queue_procno_of(MyProc);

	if (mine != NULL || procno >= (uint32) MaxBackends)
		return;
	mine = &commits[procno];
	pg_atomic_fetch_add_u32(mine, 1);
}

/* Called by note.c at the end of every transaction. */
void
queue_ended_commit_over(void)
{
	if (mine != NULL)
		pg_atomic_fetch_add_u32(mine, 1);
	mine = NULL;
}

/*
 * Called by wait.c after a look that found nothing.  Who still has its transaction id, and waits for the flush or for a
 * synchronous standby, has no end in force that the look can have missed.
 */
uint32 *
queue_ended_committers(void)
{
	uint32	   *committers = palloc0(sizeof(uint32) * MaxBackends);

	pg_memory_barrier();		/* behind that look */
	for (int i = 0; commits != NULL && i < MaxBackends; i++)
	{
		uint32		commit = pg_atomic_read_u32(&commits[i]);

		pg_read_barrier();
		if (!TransactionIdIsValid(((volatile PGPROC *) &ProcGlobal->allProcs[i])->xid))
			committers[i] = commit;
	}
	return committers;
}

/* Called by wait.c before its next look. */
bool
queue_ended_told(const uint32 *committers)
{
	for (int i = 0; commits != NULL && i < MaxBackends; i++)
	{
		if ((committers[i] & 1) != 0 && pg_atomic_read_u32(&commits[i]) == committers[i])
			return false;
	}
	pg_memory_barrier();		/* before that look */
	return true;
}

QueueEnded *
queue_ended_new(void)
{
	if (!queue_preloaded() || nstack == QUEUE_ENDED_MAX)
		return NULL;
	if (nstack == maxstack)
	{
		int			size = Max(64, maxstack * 2);

		stack = stack == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(QueueEnded)) :
			repalloc_huge(stack, size * sizeof(QueueEnded));
		maxstack = size;
	}
	stack[nstack].level = GetCurrentTransactionNestLevel();
	return &stack[nstack++];
}

/* Called by note.c after the commit took effect. */
void
queue_ended_pay(Oid db, QueueEnded *ended, int n, TimestampTz now)
{
	for (int i = 0; i < n; i++)
	{
		queue_counter_times(ended[i].counter, ended[i].wait_us, ended[i].run_us);
		if (ended[i].recent.id == 0)
			continue;
		ended[i].recent.ended_at = now;
		queue_recent_add(db, &ended[i].recent);
	}
}

/* Called by note.c at the end of a subtransaction of this level. */
void
queue_ended_subxact(bool commit, int level)
{
	for (int i = nstack - 1; i >= 0 && stack[i].level >= level; i--)
	{
		if (commit)
			stack[i].level = level - 1;
		else
			nstack = i;
	}
}

int
queue_ended_all(QueueEnded **ended)
{
	*ended = stack;
	return nstack;
}

/* Called by note.c when the transaction is over; keeps no memory of a huge one. */
void
queue_ended_forget(void)
{
	nstack = 0;
	if (maxstack > 1024)
	{
		pfree(stack);
		stack = NULL;
		maxstack = 0;
	}
}
