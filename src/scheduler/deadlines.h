/*
 * deadlines.h
 *		The chore of deadlines: a job whose expires_at comes before anybody started it is
 *		cancelled.
 */
#ifndef QUEUE_DEADLINES_H
#define QUEUE_DEADLINES_H

#include "lib/queue.h"

/* Chore: handles what has come by `now`, in transactions of its own.  Returns when it wants to be called again. */
extern TimestampTz queue_deadlines_run(TimestampTz now);

#endif
