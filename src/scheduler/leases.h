/*
 * leases.h
 *		The chores of leases: expired claims, and the far look.
 */
#ifndef QUEUE_LEASES_H
#define QUEUE_LEASES_H

#include "lib/queue.h"

/* Chores (chores.h): in a transaction, one slice of each; when they want to be called again tell the two functions. */
extern TimestampTz queue_leases_run(TimestampTz now);
extern TimestampTz queue_leases_due(void);
extern TimestampTz queue_leases_far_look(TimestampTz now);
extern TimestampTz queue_leases_far_due(void);
/*
 * The far look from front to end, for maintain() without preload: there no memory knows of a lease that was the last.
 */
extern TimestampTz queue_leases_walk(TimestampTz now);

#endif
