/*
 * clock.c
 *		Sums and bounds of times.
 *
 * Every time that a user gives is finite and within 1000 years of now, so that no sum of such times overflows; and
 * every sum is cut to what a timestamp can hold, for the times that came another way (a manual UPDATE, a restore).
 */
#include "shared/clock.h"

#include "lib/backoff.h"

#include "common/int.h"

TimestampTz
queue_time_add(TimestampTz time, int64 us)
{
	TimestampTz sum;

	if (TIMESTAMP_NOT_FINITE(time))
		return time;
	if (pg_add_s64_overflow(time, us, &sum))
		return us > 0 ? END_TIMESTAMP - 1 : MIN_TIMESTAMP;
	return Max(MIN_TIMESTAMP, Min(END_TIMESTAMP - 1, sum));
}

bool
queue_span_valid(int64 us, int64 min)
{
	return us >= min && us <= QUEUE_MAX_SPAN_US;
}

int64
queue_check_us(const char *name, int64 us, int64 min)
{
	if (!queue_span_valid(us, min))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", name),
				 min > 0 ? errhint("It is an interval of more than 0 and at most 1000 years.") :
				 errhint("It is an interval from 0 to 1000 years.")));
	return us;
}

int64
queue_check_span(const char *name, const Interval *interval, int64 min)
{
	return queue_check_us(name, queue_interval_us(interval), min);
}

TimestampTz
queue_check_time(const char *name, TimestampTz time)
{
	TimestampTz now = queue_now();

	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name),
				 errhint("Leave it out for its default.")));
	if (time > queue_time_add(now, QUEUE_MAX_SPAN_US) || time < queue_time_add(now, -QUEUE_MAX_SPAN_US))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", name),
				 errhint("It is a time within 1000 years of now.")));
	return time;
}
