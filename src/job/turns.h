/*
 * turns.h
 *		The groups of a reading whose concurrency keys take turns (shared/turn.h).
 */
#ifndef QUEUE_JOB_TURNS_H
#define QUEUE_JOB_TURNS_H

#include "config/config.h"
#include "shared/channel.h"

/* The jobs of one fair queue and priority. */
typedef struct QueueTurnGroup
{
	QueueConf  *queue;
	int16		priority;
	QueueOrder	order;			/* of its jobs; the turn: where the round begins */
	struct QueueTurnGroup *next;
} QueueTurnGroup;

typedef struct QueueTurns
{
	uint64		readers;		/* which sort of reader: each sort has rounds of its own */
	TimestampTz now;
	QueueTurnGroup *groups;
	MemoryContext cxt;
} QueueTurns;

/* The group of a queue's jobs of this priority; NULL: its keys take no turns. */
extern QueueTurnGroup *queue_turns_group(QueueTurns *turns, QueueConf *queue, int16 priority);
/* A job of the group may be here; the oldest tells where the group comes among others. */
extern void queue_turns_see(QueueTurns *turns, QueueTurnGroup *group, QueuePos pos);
static inline bool
queue_turns_seen(const QueueTurnGroup *group)
{
	return group->order.place.run_at != DT_NOEND;
}
/* The turn of a line's key now. */
extern uint64 queue_turns_of(const QueueTurnGroup *group, const QueueLine *line);
/* The key got a job; its turn now. */
extern uint64 queue_turns_use(const QueueTurnGroup *group, const QueueLine *line);
/*
 * These entries left a channel unclaimed: others may have the jobs, and their keys the turns.  Called by the scheduler.
 * Outside of a transaction, as when that ends, no line can be looked up, and the keys lose a turn.  If an error comes
 * in between, the jobs are told of all the same.
 */
extern void queue_turns_give_back(const QueueEntry *entries, int n);
/* The last of that for one: tells of its job, and throws nothing. */
extern void queue_turns_tell(const QueueEntry *entry);

#endif
