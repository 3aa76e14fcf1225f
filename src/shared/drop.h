/*
 * drop.h
 *		Drops of queues by open transactions, and who enqueues beside them.
 *
 * Drops are numbered in the order in which they look for the enqueuers of their moment.  Who is found waits for none of
 * those drops, which wait for him; he waits for those before, to which he was not there.  Both hold only if a drop
 * takes its number and looks in one step, queue_drop_begin to queue_drop_begun, of which an enqueuer with his locks
 * sees all or nothing: queue_drop_last.
 *
 * Lock: shared->lock (LWLock); the server's lock manager may be asked while it is held, but not waited in.
 */
#ifndef QUEUE_DROP_H
#define QUEUE_DROP_H

#include "shared/database.h"

#include "storage/lock.h"

extern Size queue_drop_shmem_size(void);
extern void queue_drop_shmem_init(void);

/* How many are under way; a full barrier. */
extern uint32 queue_drops(QueueDatabase *base);

/* Takes the lock and a number; *place is -1 if all are taken.  queue_drop_end, commit-safe, gives the place back. */
extern uint32 queue_drop_begin(QueueDatabase *base, uint32 key, int *place);
/* These have the enqueuer's locks now, and are waited for; releases the lock. */
extern void queue_drop_begun(const VirtualTransactionId *enqueuers, int n, uint32 number);
extern void queue_drop_end(QueueDatabase *base, int place);

/*
 * For who has the enqueuer's locks, between queue_drop_lock and _unlock: the last drop that did not find him, and
 * whether a later one did.
 */
extern void queue_drop_lock(void);
extern uint32 queue_drop_last(QueueDatabase *base, bool *found);
extern void queue_drop_unlock(void);

/* May one of this key with a number up to `last` be under way?  Which; 0: that is not known. */
extern bool queue_drop_until(QueueDatabase *base, uint32 key, uint32 last, uint32 *number);

#endif
