/*
 * fence.h
 *		Waiting for every transaction that may use a line as it was: those that enqueue.
 *
 * An enqueuer locks queue.line (RowExclusiveLock, to the end of its transaction) before it believes its cache, so
 * whoever changed a line or a queue, and has that committed or published otherwise, knows: each transaction that may
 * not have seen it holds the lock now.  "Older transactions have ended" would not do: a younger one may have cached
 * what it read before the change.
 */
#ifndef QUEUE_FENCE_H
#define QUEUE_FENCE_H

#include "lib/queue.h"

/* The enqueuers of one moment; in the memory context that queue_fence_begin was called in. */
typedef struct QueueFence
{
	VirtualTransactionId *xids;
	int			n;
} QueueFence;

/* From now on: who enqueues just now, prepared transactions too, but not this one.  In a transaction. */
extern void queue_fence_begin(QueueFence *fence, Oid line_table);
/* Have they all ended?  Waits for none.  In a transaction. */
extern bool queue_fence_passed(QueueFence *fence);
/* Waits until they have. */
extern void queue_fence_wait(QueueFence *fence);

#endif
