/*
 * retirement.c
 *		What nobody uses any more is given up: places of counters.
 *
 * Queues that were dropped and kinds without a line lose their places in shared memory.
 *
 * Locks: AccessShareLock on queue.line for a moment.
 */
#include "scheduler/retirement.h"

#include "config/lines.h"

#include "utils/memutils.h"

#define SWEEP_US (10 * USECS_PER_MINUTE)

static QueueConfig *sweep_config;	/* of the sweep under way */
static const char **sweep_kinds;	/* sorted */
static int	sweep_nkinds;

static int
compare_kinds(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Does the configuration know the queue?  For queue_counter_sweep. */
static bool
queue_known(const char *queue)
{
	return queue_config_find(sweep_config, queue) != NULL;
}

/* Has the kind a line?  For queue_counter_sweep. */
static bool
kind_known(const char *kind)
{
	return bsearch(&kind, sweep_kinds, sweep_nkinds, sizeof(char *), compare_kinds) != NULL;
}

/* Gives up places of queues and kinds that are gone. */
static void
sweep(void)
{
	QueueLine **lines;

	lines = queue_lines_all(&sweep_nkinds, &sweep_config);
	sweep_kinds = MemoryContextAllocHuge(CurrentMemoryContext, (sweep_nkinds + 1) * sizeof(char *));
	for (int i = 0; i < sweep_nkinds; i++)
		sweep_kinds[i] = lines[i]->kind;
	qsort(sweep_kinds, sweep_nkinds, sizeof(char *), compare_kinds);
	queue_counter_sweep(queue_known, kind_known);
}

TimestampTz
queue_retirement_run(TimestampTz now)
{
	sweep();
	return now + SWEEP_US;
}
