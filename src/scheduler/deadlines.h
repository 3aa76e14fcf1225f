/*
 * deadlines.h
 *		The chore of deadlines: a job whose expires_at comes before anybody started it is
 *		cancelled.
 */
#ifndef QUEUE_DEADLINES_H
#define QUEUE_DEADLINES_H

#include "lib/queue.h"

/* A chore (chores.h): in a transaction, a batch of what has come by `now`. */
extern TimestampTz queue_deadlines_run(TimestampTz now);
extern TimestampTz queue_deadlines_due(void);

#endif
