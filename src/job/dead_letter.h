/*
 * dead_letter.h
 *		What a queue does with its discarded jobs beside keeping them: a copy in its dead-letter queue, a job that is
 *		told.
 */
#ifndef QUEUE_DEAD_LETTER_H
#define QUEUE_DEAD_LETTER_H

#include "job/record.h"

/* What a dead letter's origin says. */
typedef struct QueueOrigin
{
	int64		id;				/* of the discarded job */
	char	   *queue;			/* where it was */
	int16		priority;
	int			attempt;		/* the last one */
	int64	   *depends_on;		/* the jobs on which it depends */
	int			ndepends;
	QueueExtra	extra;			/* what else it had, but headers and tags, which its copy has */
} QueueOrigin;

/*
 * A job of this line was discarded.  True: it must stay, whatever its queue keeps, because it should have been copied
 * and could not be.  *copy: the id of its copy; 0: there is none.
 */
extern bool queue_dead_letter_discarded(const QueueJob *job, const QueueLine *line, const QueueEnding *ending,
										int64 *copy);
/* Reads a job's origin; false: it is no dead letter. */
extern bool queue_dead_letter_origin(const Jsonb *origin, QueueOrigin *out);

#endif
