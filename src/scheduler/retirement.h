/*
 * retirement.h
 *		The scheduler's chore about lines and places that nobody uses any more.
 */
#ifndef QUEUE_RETIREMENT_H
#define QUEUE_RETIREMENT_H

#include "lib/queue.h"

/* One slice, in a transaction; when it wants to be called again. */
extern TimestampTz queue_retirement_run(TimestampTz now);

#endif
