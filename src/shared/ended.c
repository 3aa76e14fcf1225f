/*
 * ended.c
 *		How jobs, and attempts at them, ended in the transaction under way.
 *
 * Who writes such an end fills an entry here (job/finish.c), complete with the names: when the commit pays, it only
 * copies into shared memory.  The entries are a stack by nest level, like the notes (note.c), whose callbacks hand them
 * on, drop them and pay them.
 *
 * No locks.
 */
#include "shared/ended.h"

#include "access/xact.h"
#include "utils/memutils.h"

static QueueEnded *stack = NULL;
static int	nstack = 0;
static int	maxstack = 0;

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
