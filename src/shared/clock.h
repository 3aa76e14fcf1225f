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

/*
 * Is something put off until then, which was by at most `most` us?  If that time is further away, the clock was set
 * back since, and it would be put off for as long as that step.  A second more is allowed: whoever put it off may have
 * read the clock after who asks.
 */
static inline bool
queue_put_off(TimestampTz until, int64 most, TimestampTz now)
{
	return until > now && until - now <= most + USECS_PER_SEC;
}

/* The longest interval that anybody may give, and how far a time may be from now: a little more than 1000 years. */
#define QUEUE_MAX_SPAN_US ((int64) 1000 * 366 * USECS_PER_DAY)

/* A sum that never overflows: it ends at the first or last time that a timestamp can hold. */
extern TimestampTz queue_time_add(TimestampTz time, int64 us);
/* Is this an interval (us) from min to 1000 years? */
extern bool queue_span_valid(int64 us, int64 min);
/*
 * Arguments: an interval in us, from min (0 or 1) to 1000 years; a time that is finite and within 1000 years of now.
 * 22023.
 */
extern int64 queue_check_span(const char *name, const Interval *interval, int64 min);
extern int64 queue_check_us(const char *name, int64 us, int64 min);	/* likewise */
extern TimestampTz queue_check_time(const char *name, TimestampTz time);

#endif
