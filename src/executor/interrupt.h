/*
 * interrupt.h
 *		What may break into the job that an executor runs: its timeout, the group's commit
 *		interval, queue.cancel, pg_cancel_backend, the end of the process.
 */
#ifndef QUEUE_INTERRUPT_H
#define QUEUE_INTERRUPT_H

#include "shared/slot.h"

typedef enum QueueInterrupt
{
	QUEUE_INTERRUPT_NONE,		/* in rising order: a handler may swallow one, and a later one counts more */
	QUEUE_INTERRUPT_USER,		/* pg_cancel_backend or lock_timeout: a failed attempt */
	QUEUE_INTERRUPT_TIMEOUT,	/* of the job: a failed attempt */
	QUEUE_INTERRUPT_INTERVAL,	/* it held up its group: runs again alone */
	QUEUE_INTERRUPT_CANCEL,		/* queue.cancel or discard: let go, the caller ends it */
	QUEUE_INTERRUPT_STOP		/* shutdown deadline, DDL: let go */
} QueueInterrupt;

extern void queue_interrupt_begin(void);	/* before signals are unblocked */
extern void queue_interrupt_timeouts(void); /* registers the timeouts; after the connection is made */

/*
 * The job in my slot may be interrupted from here on; `company`: others wait for its group's commit. timeout_us 0:
 * none.
 */
extern void queue_interrupt_arm(bool company, int64 timeout_us);
extern void queue_interrupt_disarm(void);
extern void queue_interrupt_clear(void);
extern QueueInterrupt queue_interrupt_reason(void); /* why the job armed last was interrupted */

extern void queue_interrupt_group_begin(TimestampTz start);
extern void queue_interrupt_group_end(void);

/* Did the job armed last only wait for a CPU? Then *used_us is what it used of one. */
extern bool queue_interrupt_preempted(int64 *used_us);

#endif
