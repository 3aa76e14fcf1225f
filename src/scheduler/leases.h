/*
 * leases.h
 *		The chores of leases: expired claims, and the far look.
 */
#ifndef QUEUE_LEASES_H
#define QUEUE_LEASES_H

#include "lib/queue.h"

/* Expired leases, in the caller's transaction.  Returns when it wants to be called again. */
extern TimestampTz queue_leases_run(TimestampTz now);
/* One slice of the far look, in a transaction of its own.  Likewise. */
extern TimestampTz queue_leases_far_look(TimestampTz now);

#endif
