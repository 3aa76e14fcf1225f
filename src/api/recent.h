/*
 * recent.h
 *		What the memory of recent jobs says, with the names.
 */
#ifndef QUEUE_API_RECENT_H
#define QUEUE_API_RECENT_H

#include "shared/recent.h"

/* What is known of a job that ended. */
typedef struct QueueRecentJob
{
	QueueRecent recent;
	char	   *queue;
	char	   *kind;
	char	   *worker;			/* NULL: none */
	char	   *error;			/* the first line of it, or the reason of its end; NULL: none */
} QueueRecentJob;

/* The newest word on a job that the caller may read; palloc'd.  False: there is none that he may know. */
extern bool queue_recent_job(int64 id, QueueRecentJob *job);

#endif
