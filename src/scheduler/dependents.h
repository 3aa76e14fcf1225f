/*
 * dependents.h
 *		The chores of jobs that depend on others.
 */
#ifndef QUEUE_DEPENDENTS_H
#define QUEUE_DEPENDENTS_H

#include "lib/queue.h"

/* Lets in what may go, and cancels what must not; when it wants to be called again. */
extern TimestampTz queue_dependents_run(TimestampTz now);
/* The same in maintain(), where no scheduler does it. */
extern TimestampTz queue_dependents_unattended(TimestampTz now);
/* Deletes rows that nobody needs, and learns which jobs are awaited (shared/awaited.h); a slice. */
extern TimestampTz queue_dependents_sweep(TimestampTz now);
extern TimestampTz queue_dependents_sweep_due(void);

#endif
