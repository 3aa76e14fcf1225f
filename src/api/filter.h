/*
 * filter.h
 *		Jobs by what they are: the filter of find_jobs, cancel_jobs and the other calls about many jobs, and the
 *		search for those that it names.
 */
#ifndef QUEUE_FILTER_H
#define QUEUE_FILTER_H

#include "job/finished.h"

#include "lib/binaryheap.h"
#include "utils/hsearch.h"

#define QUEUE_STATES_LIVE ((1 << QUEUE_STATE_SCHEDULED) | (1 << QUEUE_STATE_AVAILABLE) | (1 << QUEUE_STATE_PENDING) | \
						   (1 << QUEUE_STATE_RUNNING) | (1 << QUEUE_STATE_RETRYABLE))
#define QUEUE_STATES_WAITING (QUEUE_STATES_LIVE & ~(1 << QUEUE_STATE_RUNNING))
#define QUEUE_STATES_FINISHED \
	((1 << QUEUE_STATE_COMPLETED) | (1 << QUEUE_STATE_CANCELLED) | (1 << QUEUE_STATE_DISCARDED))

typedef struct QueueNames
{
	bool		given;
	int			n;
	char	  **names;
} QueueNames;

typedef struct QueueIds
{
	bool		given;
	int			n;
	int64	   *ids;			/* in order */
} QueueIds;

typedef struct QueueSearch
{
	/* the filter */
	QueueIds	ids;
	QueueNames	queues;
	QueueNames	kinds;
	QueueNames	workers;
	QueueNames	unique_keys;
	QueueNames	concurrency_keys;
	QueueNames	groups;
	QueueIds	priorities;
	QueueIds	workflows;
	int			states;			/* bits */
	Jsonb	   *tags;
	Jsonb	   *payload;
	char	   *error;
	TimestampTz enqueued_after, enqueued_before;
	TimestampTz finished_after, finished_before;
	bool		others;			/* has other keys than queue, kind, unique_key and state */
	bool		deep;			/* asks for something in payload or extra */

	/* the search */
	int			privilege;
	int			instead;		/* will do in its place; 0: none */
	TimestampTz now;
	HTAB	   *lines;			/* of LineMatch: lines seen */
	QueueIds	claimed;		/* by sessions; read when first needed */
	MemoryContext context;		/* of everything that lives as long as the search */
	MemoryContext row;			/* reset per row */
	int64		above, below;	/* bounds of ids, both excluded */
	bool		down;
	int64		limit;
	binaryheap *heap;			/* the best `limit` ids, the worst of them first; NULL: all are kept in found */
	int64	   *found;
	int64		nfound, maxfound;
} QueueSearch;

/*
 * Reads a filter: 22023 for unknown keys, bad values and, unless it may be empty, an empty one; 22004 for null.
 * Finds jobs of queues in which the caller holds the privilege and of states in `states`; without a state in the
 * filter, of those in `by_default`.
 */
extern QueueSearch *queue_search_begin(Jsonb *filter, bool may_be_empty, int privilege, int states, int by_default);

/* One for the jobs of a queue, without a filter. */
extern QueueSearch *queue_search_of_queue(char *queue, int privilege, int states);

/* Does it find this job, read whole?  Called again for each one under the snapshot that changes or shows it. */
extern bool queue_search_live(QueueSearch *search, const QueueJob *job, const QueueLine *line, QueueState *state);
extern bool queue_search_finished(QueueSearch *search, const QueueFinished *finished);

/* Does the filter name jobs by queue, kind and unique key alone? */
extern bool queue_search_names_keys(const QueueSearch *search);

/*
 * Parts of it: may the caller do it in this queue; the place where a job is, by names and by line; what lies in
 * payload and extra; a live row's state.
 */
extern bool queue_search_may(const QueueSearch *search, const char *queue);
extern bool queue_search_names(const QueueNames *names, const char *name);
extern bool queue_search_has(const QueueIds *ids, int64 id);
extern bool queue_search_line(QueueSearch *search, int64 line);
extern bool queue_search_deep(QueueSearch *search, const QueueJob *job, const QueueFinished *finished);
/* exact = false: as far as the states asked for tell it apart from running. */
extern QueueState queue_search_state(QueueSearch *search, const QueueJob *job, bool exact);

#endif
