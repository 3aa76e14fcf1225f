/*
 * recent.h
 *		How the last jobs of each database ended, in shared memory: what wait_for and explain_job know of a
 *		job whose queue keeps nothing.
 */
#ifndef QUEUE_RECENT_H
#define QUEUE_RECENT_H

#include "shared/counter.h"

/* One job that ended, or whose row was deleted without an end (state QUEUE_STATE_NONE: purged, queue dropped). */
typedef struct QueueRecent
{
	int64		id;
	int64		line;
	TimestampTz ended_at;
	QueueState	state;
} QueueRecent;

extern Size queue_recent_shmem_size(void);
extern void queue_recent_shmem_init(void);
extern void queue_recent_add(Oid db, const QueueRecent *recent);	/* commit-safe */
/* The newest word on this job of the current database; false: none, or nothing is remembered (no preload, crash). */
extern bool queue_recent_find(int64 id, QueueRecent *recent);
extern void queue_recent_reset(Oid db); /* the database, or its extension, is gone */

#endif
