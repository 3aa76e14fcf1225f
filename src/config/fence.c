/*
 * fence.c
 *		Waiting for every transaction that may use a line as it was.
 *
 * Owns nothing.  Blocks nobody: it takes no lock on queue.line, only those by which one waits for a transaction's end.
 */
#include "config/fence.h"

#include "miscadmin.h"
#include "storage/lmgr.h"

void
queue_fence_begin(QueueFence *fence, Oid line_table)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, line_table);
	holders = GetLockConflicts(&tag, ShareLock, &fence->n);
	fence->xids = palloc((fence->n + 1) * sizeof(VirtualTransactionId));
	memcpy(fence->xids, holders, fence->n * sizeof(VirtualTransactionId));
}

bool
queue_fence_passed(QueueFence *fence)
{
	while (fence->n > 0 && VirtualXactLock(fence->xids[fence->n - 1], false))
		fence->n--;
	return fence->n == 0;
}

void
queue_fence_wait(QueueFence *fence)
{
	while (fence->n > 0)
		(void) VirtualXactLock(fence->xids[--fence->n], true);
}
