/*
 * drops.h
 *		Who enqueues while queues are being dropped.
 */
#ifndef QUEUE_DROPS_H
#define QUEUE_DROPS_H

#include "config/fence.h"

/*
 * Takes the enqueuer's locks, once a transaction, and waits for the end of a drop of this queue, if one did not find
 * them when it began.
 */
extern void queue_lock_to_enqueue(const char *queue);

/*
 * Waits for another's drop of this queue, and lets no other begin; before anything of the queue is written.  An error
 * if there is no such queue any more.  Enqueuers do not notice.
 */
extern void queue_lines_lock_drop(const char *queue);

/*
 * After that, from now on to the end of this transaction whoever enqueues into this queue waits, unless it is in the
 * fence: those enqueue already, and do not wait for us.
 */
extern void queue_lines_begin_drop(const char *queue, QueueFence *fence);

#endif
