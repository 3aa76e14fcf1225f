/*
 * minutes.h
 *		The scheduler's recording of queue.history.
 */
#ifndef QUEUE_MINUTES_H
#define QUEUE_MINUTES_H

#include "lib/queue.h"

extern TimestampTz queue_minutes_run(TimestampTz now);	/* a chore (chores.h) */

#endif
