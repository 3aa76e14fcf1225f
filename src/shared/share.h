/*
 * share.h
 *		Sharing the server's worker slots (max_worker_processes) among databases.
 */
#ifndef QUEUE_SHARE_H
#define QUEUE_SHARE_H

#include "shared/slot.h"

/* What a database lacks a worker slot for; in rising order of need. */
typedef enum QueueHunger
{
	QUEUE_HUNGER_NONE,
	QUEUE_HUNGER_MORE,			/* one more executor: it has some */
	QUEUE_HUNGER_FIRST,			/* its first executor or its http worker */
	QUEUE_HUNGER_SCHEDULER		/* its scheduler */
} QueueHunger;

/* What `retire` of a scheduler's slot says. */
#define QUEUE_RETIRE_IF_IDLE 1
#define QUEUE_RETIRE_SOON	2	/* when what its executors run now has ended */

/*
 * No slot was free for this database: says so, and asks somebody else's worker to end, if one can be spared.  Called
 * again every QUEUE_HUNGER_US, as long as it lasts; ended by queue_share_sated.
 */
extern void queue_share_hungry(QueueDatabase *base, QueueHunger hunger, TimestampTz now);
extern void queue_share_sated(QueueDatabase *base);
#define QUEUE_HUNGER_US INT64CONST(250000)

/* Does another database need a slot more than `base` needs one more executor (a launcher: NULL, one more scheduler)? */
extern bool queue_share_others_first(QueueDatabase *base, TimestampTz now);

/* A child of mine has ended, so a slot is free: wakes who needs one. */
extern void queue_share_freed(TimestampTz now);

#endif
