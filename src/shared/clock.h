/*
 * clock.h
 *		The one source of time, which tests can move.
 *
 * queue.debug_clock_offset moves it for every process that has the setting (ALTER SYSTEM reaches all), so that tests
 * of leases, backoff, retention and schedules need not sleep.  Everything that is compared with a time in a table or
 * in shared memory comes from here; timers of the operating system get real times (queue_clock_real).
 */
#ifndef QUEUE_CLOCK_H
#define QUEUE_CLOCK_H

#include "lib/queue.h"

#include "access/xact.h"
#include "utils/timestamp.h"

static inline TimestampTz
queue_clock_offset(void)
{
	return (TimestampTz) queue_debug_clock_offset * USECS_PER_SEC;
}

/* The time. */
static inline TimestampTz
queue_now(void)
{
	return GetCurrentTimestamp() + queue_clock_offset();
}

/* When this transaction began, by this clock. */
static inline TimestampTz
queue_transaction_start(void)
{
	return GetCurrentTransactionStartTimestamp() + queue_clock_offset();
}

/* What the operating system's clock shows at that time. */
static inline TimestampTz
queue_clock_real(TimestampTz time)
{
	return time - queue_clock_offset();
}

#endif
