/*
 * keys.c
 *		The chore of unique keys: rows of queue.unique_key that nobody needs any more are deleted.
 *
 * A key that is in its window when its job ends stays behind, and the next enqueue of the same key overwrites it; one
 * that is never used again is deleted here, when its window is over.  So is the key of a job that is not there, which
 * only a row deleted by hand, or a restore of some tables, can leave.  The table is walked by block, some of them a
 * slice.
 *
 * Locks: RowExclusiveLock on unique_key; row locks, never waited for.
 */
#include "scheduler/keys.h"

#include "job/key.h"
#include "shared/clock.h"

#define SLICE_BLOCKS 64
#define AGAIN_US (10 * USECS_PER_MINUTE)

static BlockNumber next_block = 0;	/* where the next slice goes on */

TimestampTz
queue_keys_run(TimestampTz now)
{
	if (queue_key_sweep(&next_block, SLICE_BLOCKS, now))
	{
		next_block = 0;
		return now + AGAIN_US;
	}
	return now;
}
