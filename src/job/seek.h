/*
 * seek.h
 *		Live jobs by their ids under one snapshot, by who asks for many, mostly in the order of the ids.
 */
#ifndef QUEUE_SEEK_H
#define QUEUE_SEEK_H

#include "job/job.h"

#include "access/genam.h"

typedef struct QueueSeek
{
	MemoryContext cxt;
	IndexScanDesc scan;			/* NULL: not opened yet */
	TupleTableSlot *slot;		/* the row that the scan is at */
	int64		asked;			/* last */
	int64		from;			/* no visible row is between this .. */
	int64		at;				/* .. and this one, which is in slot if .. */
	bool		there;			/* .. there is one: else none up to here, which is .. */
	int64		end;			/* .. where the scan ends */
} QueueSeek;

/* As queue_job_peek, with the same snapshot each time.  Zeroed at first, but for cxt, in which it keeps what it has. */
extern bool queue_seek(QueueSeek *seek, QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job);
extern void queue_seek_end(QueueSeek *seek);

#endif
