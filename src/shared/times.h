/*
 * times.h
 *		How long things took: a histogram of fixed size in shared memory, ten buckets per power of ten, from 0.1 ms to
 *		92 days.
 */
#ifndef QUEUE_TIMES_H
#define QUEUE_TIMES_H

#include "lib/queue.h"

#include "port/atomics.h"

#define QUEUE_TIMES_BUCKETS 111 /* the last one has no bound */

typedef struct QueueTimes
{
	pg_atomic_uint64 bucket[QUEUE_TIMES_BUCKETS];
	pg_atomic_uint64 sum_us;
	pg_atomic_uint64 max_us;
} QueueTimes;

extern void queue_times_zero(QueueTimes *times);
extern void queue_times_add(QueueTimes *times, int64 us);	/* commit-safe */
extern int64 queue_times_count(QueueTimes *times);
/* How many took at most so long; exact for the bounds of buckets (100 us, 250, 500, and these times powers of ten). */
extern int64 queue_times_until(QueueTimes *times, int64 us);
/* What the part `share` (0 to 1) of them did not exceed, in us, as near as a bucket tells; -1: there are none. */
extern double queue_times_percentile(QueueTimes *times, double share);

#endif
