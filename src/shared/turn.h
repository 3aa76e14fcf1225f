/*
 * turn.h
 *		Whose turn it is where concurrency keys take turns, and in which order jobs of all sorts come.
 */
#ifndef QUEUE_TURN_H
#define QUEUE_TURN_H

#include "shared/database.h"

/*
 * Where a job comes: by urgency (its priority, less what it gained by waiting), then by place; jobs of one group, whose
 * keys take turns, share their places, and come by turn among themselves.
 */
typedef struct QueueOrder
{
	int32		urgency;
	QueuePos	place;			/* its position; of a group the oldest one */
	uint64		group;			/* 0: none */
	uint64		turn;
} QueueOrder;

/*
 * A turn is a round, and how many jobs the key had in it.  Within a round those come first whose key had none, so that
 * a key which is new, or was idle, does not wait for the rest of another's turn.
 */
#define QUEUE_TURN_BITS 20
#define QUEUE_FAIR_MAX ((1 << QUEUE_TURN_BITS) - 1)

static inline uint64
queue_turn_of_round(uint64 round)
{
	return round << QUEUE_TURN_BITS;
}

static inline uint64
queue_turn_round(uint64 turn)
{
	return turn >> QUEUE_TURN_BITS;
}

extern Size queue_turn_shmem_size(void);
extern void queue_turn_shmem_init(void);

/* Which round a group is in: that of the job that was started last. */
extern uint64 queue_turn_group_round(uint64 group);
/* The key's turn in a group that is in this round, with all that it had in it. */
extern uint64 queue_turn_of_key(uint64 key, uint64 round);
/* Its turn when it has got one more job, of at most `fair` in a round. */
extern uint64 queue_turn_after(uint64 turn, int fair);
extern uint64 queue_turn_before(uint64 turn, int fair);	/* with one less */
extern void queue_turn_set(uint64 key, uint64 turn);
/* A job of this order was started. */
extern void queue_turn_started(const QueueOrder *order);

/* Are both jobs of one group? */
static inline bool
queue_order_shared(const QueueOrder *a, const QueueOrder *b)
{
	return a->group != 0 && a->group == b->group;
}

static inline bool
queue_order_before(const QueueOrder *a, const QueueOrder *b)
{
	int			cmp;

	if (queue_order_shared(a, b))
		return a->turn < b->turn;
	if (a->urgency != b->urgency)
		return a->urgency < b->urgency;
	cmp = queue_pos_cmp(a->place, b->place);
	return cmp < 0 || (cmp == 0 && a->group < b->group);
}

/* Does it not come before the limit?  What belongs to a group may take another's place there, so it always might. */
static inline bool
queue_order_beyond(const QueueOrder *order, const QueueOrder *limit)
{
	return order->group == 0 && !queue_order_before(order, limit);
}

#endif
