/*
 * pause.h
 *		How a worker waits where nothing can be written.
 *
 * See pause.c.
 */
#ifndef QUEUE_PAUSE_H
#define QUEUE_PAUSE_H

#include "lib/queue.h"

#include "shared/channel.h"

/* A process's; {0} in the beginning and again when something could be written. */
typedef struct QueuePause
{
	int			njobs;			/* in a row of which nothing could be written */
	int64		last;			/* the last of them */
	TimestampTz until;
} QueuePause;

/*
 * After an error with this sqlerrcode: is there no room, rather than that the row has itself to blame?  In no
 * transaction: may begin one.
 */
extern bool queue_pause_is_for(int code);
/* For want of room nothing could be written of this job: neither an attempt nor that it failed. */
extern void queue_pause_failed(QueuePause *pause, int64 job_id, TimestampTz now);
/* When to go on; DT_NOEND: there is no pause. */
extern TimestampTz queue_pause_until(const QueuePause *pause, TimestampTz now);

/*
 * The scheduler: jobs that the channel's workers left alone for a while may be tried again.  When to look again;
 * DT_NOEND: there are none.
 */
extern TimestampTz queue_pause_unshun(QueueChannel *channel, TimestampTz now);

#endif
