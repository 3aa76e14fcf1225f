/*
 * pace.c
 *		How long runs of a handler's kind take: whether its jobs may share a commit.
 *
 * The numbers are counter.c's.  No locks: they are atomics.
 */
#include "shared/pace.h"

#include "shared/clock.h"

#define SHORT_PART 10			/* a kind is short whose runs take less than this part of commit_interval */

/*
 * The moving mean weighs the last 16 or so runs; concurrent executors may lose one of two updates, which an estimate
 * bears.  A run longer than commit_interval makes the kind run alone for the next second.  One that shares its numbers
 * runs alone in this process until it was fast again: among thousands of kinds there is always a slow one.
 */
void
queue_kind_ran(QueueKindRef *ref, int64 us)
{
	QueueKindStat *stat = ref->entry;
	uint64		seen, mean, max;
	int64		interval_us = (int64) queue_commit_interval * 1000;

	if (stat == NULL)
		return;
	us = Max(us, 0);
	pg_atomic_fetch_add_u64(&stat->runs, 1);
	pg_atomic_fetch_add_u64(&stat->total_us, (uint64) us);
	max = pg_atomic_read_u64(&stat->max_us);
	while ((uint64) us > max && !pg_atomic_compare_exchange_u64(&stat->max_us, &max, (uint64) us))
		;
	seen = pg_atomic_read_u64(&stat->recent_runs);
	mean = pg_atomic_read_u64(&stat->mean_us);
	if (seen < 16)
	{
		mean = (mean * seen + (uint64) us) / (seen + 1);
		pg_atomic_write_u64(&stat->recent_runs, seen + 1);
	}
	else
		mean = (mean * 15 + (uint64) us) / 16;
	pg_atomic_write_u64(&stat->mean_us, mean);
	ref->slow = us > interval_us && strcmp(stat->key.kind, QUEUE_KIND_OTHERS) == 0;
	if (us > interval_us && !ref->slow)
		pg_atomic_write_u64(&stat->slow_until, (uint64) (queue_now() + USECS_PER_SEC));
}

/* Is its mean worth anything?  Called by the scheduler and by executors. */
bool
queue_kind_is_known(QueueKindStat *stat)
{
	return pg_atomic_read_u64(&stat->recent_runs) >= 4;
}

/* A handler that runs so many kinds that not all are counted one by one does about the same for all of them. */
QueueKindStat *
queue_kind_guide(QueueKindStat *stat)
{
	QueueKindStat *others;

	if (queue_kind_is_known(stat) ||
		pg_atomic_read_u64(&stat->mean_us) >= (uint64) queue_commit_interval * 1000 / SHORT_PART)
		return stat;
	others = queue_kind_others(stat->key.handler);
	return others != NULL ? others : stat;
}

/* May this kind's jobs share a commit?  Called by executors before each job. */
bool
queue_kind_is_short(const QueueKindRef *ref, TimestampTz now)
{
	QueueKindStat *stat = ref->entry;
	uint64		limit_us = (uint64) queue_commit_interval * 1000 / SHORT_PART;
	QueueKindStat *guide;

	if (stat == NULL || ref->slow || now < (TimestampTz) pg_atomic_read_u64(&stat->slow_until))
		return false;
	guide = queue_kind_guide(stat);
	return queue_kind_is_known(guide) && pg_atomic_read_u64(&guide->mean_us) < limit_us;
}
