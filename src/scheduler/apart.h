/*
 * apart.h
 *		What may fail in a chore for a row's sake, and who is told.
 *
 * See apart.c.
 */
#ifndef QUEUE_APART_H
#define QUEUE_APART_H

#include "lib/queue.h"

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

/* For doctor(): chores of whatever table whose last slice failed, and those in which something did. */
extern int	queue_apart_failing;
extern void queue_apart_trouble(const char *chore, const ErrorData *error); /* what failed last */
extern void queue_apart_recovered(void);	/* one of those that failed does so no more */

#endif
