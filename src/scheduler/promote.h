/*
 * promote.h
 *		The scheduler's work on groups: letting the next job of each in.
 */
#ifndef QUEUE_PROMOTE_H
#define QUEUE_PROMOTE_H

#include "lib/queue.h"

/* The scheduler's: whenever it is awake, before it looks for due jobs, and outside of a transaction. */
extern TimestampTz queue_promote_run(TimestampTz now);
/* For maintain(), where no scheduler runs. */
extern TimestampTz queue_promote_unattended(TimestampTz now);

#endif
