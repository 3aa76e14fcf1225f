/*
 * fetcher.h
 *		The sessions that fetch jobs, for queue.stat_worker: who, from where, since when, how many.
 */
#ifndef QUEUE_FETCHER_H
#define QUEUE_FETCHER_H

#include "shared/database.h"

/* A session as one look sees it. */
typedef struct QueueFetcher
{
	pid_t		pid;
	Oid			db;
	Oid			role;
	bool		working;		/* its last fetch gave it jobs; else it waits for some */
	TimestampTz first_seen;
	TimestampTz last_seen;
	int64		claimed;		/* jobs since first_seen */
	char		worker[QUEUE_NAME_MAX + 1]; /* what it called itself last; empty: nothing */
	char		queue[QUEUE_NAME_MAX + 1];	/* what it fetches from; of several the first */
} QueueFetcher;

extern Size queue_fetcher_shmem_size(void);
extern void queue_fetcher_shmem_init(void);
extern void queue_fetcher_reset(Oid db);	/* the database, or its extension, is gone */

/* This session looks for jobs. */
extern void queue_fetcher_waits(const char *worker, const char *queue);
/* It got so many. */
extern void queue_fetcher_got(int jobs);
/* It told of a job: nothing if it never fetched. */
extern void queue_fetcher_seen(void);

/* It claimed jobs of this line, whose last such time is remembered; 0: none is known (a few thousand are kept). */
extern void queue_fetcher_claimed(int64 line);
extern TimestampTz queue_fetcher_last_claim(int64 line);

/* Places of sessions, and a copy of one; false: that session does not fetch. */
extern int	queue_fetcher_count(void);
extern bool queue_fetcher_read(int i, QueueFetcher *fetcher);

#endif
