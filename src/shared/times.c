/*
 * times.c
 *		A histogram of times.
 *
 * Ten buckets per power of ten: what is read between two bounds is off by a quarter at most, and the bounds are round
 * numbers, among them those that monitoring systems use.  Numbers are atomics without a lock, so a reader may see one
 * that is counted and not yet summed.
 */
#include "shared/times.h"

#define DECADE(x) INT64CONST(100) * x, INT64CONST(125) * x, INT64CONST(160) * x, INT64CONST(200) * x, \
	INT64CONST(250) * x, INT64CONST(315) * x, INT64CONST(400) * x, INT64CONST(500) * x, INT64CONST(630) * x, \
	INT64CONST(800) * x

/* The longest time of each bucket, us. */
static const int64 bounds[] = {
	DECADE(1), DECADE(10), DECADE(100), DECADE(1000), DECADE(10000), DECADE(100000), DECADE(1000000), DECADE(10000000),
	DECADE(100000000), DECADE(1000000000), DECADE(10000000000)
};

StaticAssertDecl(lengthof(bounds) == QUEUE_TIMES_BUCKETS - 1, "a bucket for each bound and one more");

/* For the first time too. */
void
queue_times_zero(QueueTimes *times)
{
	for (int i = 0; i < QUEUE_TIMES_BUCKETS; i++)
		pg_atomic_init_u64(&times->bucket[i], 0);
	pg_atomic_init_u64(&times->sum_us, 0);
	pg_atomic_init_u64(&times->max_us, 0);
}

/* The first bucket that a time fits in. */
static int
bucket_of(int64 us)
{
	int			low = 0;
	int			high = lengthof(bounds);

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (us <= bounds[middle])
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

void
queue_times_add(QueueTimes *times, int64 us)
{
	uint64		max = pg_atomic_read_u64(&times->max_us);

	us = Max(us, 0);
	pg_atomic_fetch_add_u64(&times->bucket[bucket_of(us)], 1);
	pg_atomic_fetch_add_u64(&times->sum_us, us);
	while ((uint64) us > max && !pg_atomic_compare_exchange_u64(&times->max_us, &max, (uint64) us))
		;
}

int64
queue_times_count(QueueTimes *times)
{
	int64		n = 0;

	for (int i = 0; i < QUEUE_TIMES_BUCKETS; i++)
		n += (int64) pg_atomic_read_u64(&times->bucket[i]);
	return n;
}

int64
queue_times_until(QueueTimes *times, int64 us)
{
	int64		n = 0;

	for (int i = 0; i < lengthof(bounds) && bounds[i] <= us; i++)
		n += (int64) pg_atomic_read_u64(&times->bucket[i]);
	return n;
}

double
queue_times_percentile(QueueTimes *times, double share)
{
	double		max = (double) pg_atomic_read_u64(&times->max_us);
	double		rank = share * (double) queue_times_count(times);
	double		below = 0;

	for (int i = 0; i < QUEUE_TIMES_BUCKETS; i++)
	{
		double		n = (double) pg_atomic_read_u64(&times->bucket[i]);
		double		low = i == 0 ? 0 : (double) bounds[i - 1];
		double		high = i == lengthof(bounds) ? max : Min(max, (double) bounds[i]);

		if (n > 0 && below + n >= rank)
			return low + Max(high - low, 0) * (rank - below) / n;
		below += n;
	}
	return below > 0 ? max : -1;
}
