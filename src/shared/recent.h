/*
 * recent.h
 *		The last jobs of each database that ended, in shared memory: what queue.recent_job shows, and what wait_for and
 *		explain_job know of a job whose queue keeps nothing.
 */
#ifndef QUEUE_RECENT_H
#define QUEUE_RECENT_H

#include "shared/counter.h"

#define QUEUE_RECENT_TEXT 199	/* bytes for the names and what else is told in words */

/* One job that ended, or whose row was deleted without an end (state QUEUE_STATE_NONE: purged, queue dropped). */
typedef struct QueueRecent
{
	int64		id;
	int64		line;
	TimestampTz enqueued_at;
	TimestampTz started_at;		/* of its last run; 0: it never ran, or nobody knows */
	TimestampTz ended_at;
	int32		attempt;
	uint8		state;			/* QueueState */
	/* How much of text each takes, in this order.  Names that do not fit take none: the line's row has them too. */
	uint8		queue_length;
	uint8		kind_length;
	uint8		worker_length;
	uint8		error_length;
	char		text[QUEUE_RECENT_TEXT];
} QueueRecent;

/* Where a reader of all of them is; zeroed at first. */
typedef struct QueueRecentScan
{
	uint64		next;			/* the entry written last, plus one, when the scan began */
	uint64		done;
} QueueRecentScan;

extern Size queue_recent_shmem_size(void);
extern void queue_recent_shmem_init(void);

/*
 * Sets the text: worker has worker_length bytes and is cut to 64, error (NULL: none) to its first line and to what is
 * left.  Throws nothing.
 */
extern void queue_recent_describe(QueueRecent *recent, const char *queue, const char *kind, const char *worker,
								  size_t worker_length, const char *error);
extern void queue_recent_add(Oid db, const QueueRecent *recent);	/* commit-safe */
/* The newest word on this job of the current database; false: none, or nothing is remembered (no preload, crash). */
extern bool queue_recent_find(int64 id, QueueRecent *recent);
/* The next one of the current database, the newest first; false: that was all. */
extern bool queue_recent_next(QueueRecentScan *scan, QueueRecent *recent);
/* How many of the current database are remembered at most: fewer than queue.recent_jobs if others have the rest. */
extern int	queue_recent_room(void);
extern void queue_recent_reset(Oid db); /* the database, or its extension, is gone */

#endif
