/*
 * drops.h
 *		Who enqueues while queues are being dropped.
 */
#ifndef QUEUE_DROPS_H
#define QUEUE_DROPS_H

/*
 * Takes the enqueuer's locks, once a transaction, and waits for the end of a drop of this queue, if one began before
 * this transaction had them.
 */
extern void queue_lock_to_enqueue(const char *queue);

/*
 * From now on to the end of this transaction whoever enqueues into this queue waits, unless it has enqueued before: for
 * those, queue_fence_begin and _wait.
 */
extern void queue_lines_begin_drop(const char *queue);

#endif
