/*
 * room.h
 *		How much room there is under a limit, for who reads jobs before he claims them.
 */
#ifndef QUEUE_ROOM_H
#define QUEUE_ROOM_H

#include "shared/unit.h"

/* A line that its key's limit may hold back, by a configuration of this generation; 0: by none that counts. */
typedef struct QueueRoomHold
{
	int64		line;
	uint64		generation;
} QueueRoomHold;

/*
 * How many more claims are possible under this limit now.  Fewer than wanted: who gives one back wakes the scheduler,
 * and *when is when to look again though nobody does (DT_NOEND: never).  If there is none under a key's, the line is
 * held back.
 */
extern int	queue_room(const QueueLimit *limit, QueueLimitOf of, int wanted, QueueRoomHold hold, TimestampTz now,
					   TimestampTz *when);
/*
 * Is there certainly no room for a claim by this session, without a look at the line's jobs?  Then *refusal tells why,
 * who gives one back wakes the session, and the line is held back.
 */
extern bool queue_room_blocked(const QueueLimits *limits, QueueRoomHold hold, QueueUnitRefusal *refusal);
/*
 * How many claims are in force under this limit beside `own`.  If any: who gives one back wakes the scheduler, and
 * *when is when to look again.
 */
extern int	queue_room_others(const QueueLimit *limit, QueueLimitOf of, int own, TimestampTz *when);
/* The configuration has changed: no line of this database is held back by what limits were. */
extern void queue_room_open_all(void);
/* How many are in force; for who shows it. */
extern int	queue_room_taken(const QueueLimit *limit, QueueLimitOf of);
extern int	queue_room_tokens(const QueueLimit *limit, QueueLimitOf of, TimestampTz now, TimestampTz *when);

#endif
