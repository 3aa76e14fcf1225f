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
 * How a chore goes through what may fail for a row's sake: many in a transaction, and after an error each behind a
 * boundary of its own for a while, so that those that fail hold up no others.  {0} in the beginning.
 */
typedef struct QueueApart
{
	bool		under_way;		/* a slice; still so when the next one begins: it failed */
	bool		troubled;		/* doctor() tells of it */
	TimestampTz until;			/* each by itself */
	TimestampTz quiet_until;	/* before this the log is not told again */
} QueueApart;

extern bool queue_apart_begin(QueueApart *apart, TimestampTz now);	/* a slice; true: the last one failed */
extern void queue_apart_end(QueueApart *apart);
/* Each by itself?  In sessions, where maintain() is called, always. */
extern bool queue_apart_needed(const QueueApart *apart, TimestampTz now);
/*
 * Does one of a chore's things in a subtransaction.  False: it failed.  The log is told once a minute for each chore, a
 * session by a warning.
 */
extern bool queue_apart_try(QueueApart *apart, const char *chore, void (*work) (void *arg), void *arg);

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
