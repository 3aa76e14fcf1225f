/*
 * ticks.h
 *		The ticks of schedules: the scheduler's chore, and what queue.tick() and queue.maintain() do.
 */
#ifndef QUEUE_TICKS_H
#define QUEUE_TICKS_H

#include "lib/queue.h"

extern TimestampTz queue_ticks_run(TimestampTz now);
extern TimestampTz queue_ticks_due(void);
/* maintain()'s turn: all that is due. */
extern TimestampTz queue_ticks_maintain(TimestampTz now);

#endif
