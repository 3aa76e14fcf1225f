/*
 * chores.h
 *		What the scheduler does beside finding work, as a table: a name, when it is due next, and a function that does
 *		one slice of it.
 */
#ifndef QUEUE_CHORES_H
#define QUEUE_CHORES_H

#include "lib/queue.h"

#define QUEUE_CHORE_EACH_WAKE	0x01	/* due whenever the scheduler is awake */
#define QUEUE_CHORE_BARE		0x02	/* runs outside of a transaction */
#define QUEUE_CHORE_MEMORY		0x04	/* keeps shared memory right: nothing to do for maintain() */
#define QUEUE_CHORE_UNLOADED	0x10	/* instead of one of those, for maintain() where the library is not preloaded */
#define QUEUE_CHORE_SESSION		0x20	/* maintain()'s way of one of the scheduler's */
#define QUEUE_CHORE_URGENT		0x08	/* jobs wait for it: a scheduler that rests comes back for it */

typedef struct QueueChore
{
	const char *name;			/* as the log and doctor() call it */
	/* One short slice, in a transaction of its own.  Returns when it wants to be called again; <= now: at once. */
	TimestampTz (*run) (TimestampTz now);
	TimestampTz (*due) (void);	/* NULL, or when others made it due: any process, at any time */
	int			flags;
	int64		first;			/* us after the start of the scheduler */
	/* the runner's */
	TimestampTz next;			/* while it fails: not before this, whatever makes it due */
	TimestampTz ran_at;
	int			failures;		/* in a row */
} QueueChore;

/*
 * Runs those that are due, each behind an error boundary: one that fails is logged, backs off, and stops no other.
 * Returns when the next is due; DT_NOBEGIN: one failed because there is no extension to work with any more.
 */
extern TimestampTz queue_chores_run(QueueChore *chores, int n, TimestampTz now);

/* The scheduler's housekeeping: all chores but those that find work. */
extern TimestampTz queue_chores_housekeeping(TimestampTz now);
/* When the next of its urgent ones is due. */
extern TimestampTz queue_chores_urgent(void);

#endif
