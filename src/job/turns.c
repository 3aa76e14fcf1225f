/*
 * turns.c
 *		The groups of a reading whose concurrency keys take turns.
 *
 * A reading takes a group's lines by their keys' turns; where the group comes among other lines of its priority, its
 * oldest job tells, as far as is known when the reading begins.
 *
 * Owns nothing but what lives as long as a reading.
 */
#include "job/turns.h"

#include "config/lines.h"
#include "job/job.h"
#include "shared/note.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"

QueueTurnGroup *
queue_turns_group(QueueTurns *turns, QueueConf *queue, int16 priority)
{
	QueueTurnGroup *group;
	uint64		id;

	if (likely(queue->fair == 0))
		return NULL;
	for (group = turns->groups; group != NULL; group = group->next)
	{
		if (group->queue == queue && group->priority == priority)
			return group;
	}
	id = hash_combine64(queue_unit_id(queue->name, NULL), turns->readers);
	id = Max(hash_combine64(id, (uint64) (uint16) priority | (uint64) MyDatabaseId << 32), 1);
	group = MemoryContextAllocZero(turns->cxt, sizeof(QueueTurnGroup));
	group->queue = queue;
	group->priority = priority;
	group->order = (QueueOrder) {
		.urgency = priority,
		.place = {DT_NOEND, PG_INT64_MAX},
		.group = id,
		.turn = queue_turn_of_round(queue_turn_group_round(id)),
	};
	group->next = turns->groups;
	turns->groups = group;
	return group;
}

void
queue_turns_see(QueueTurns *turns, QueueTurnGroup *group, QueuePos pos)
{
	if (queue_pos_cmp(pos, group->order.place) >= 0)
		return;
	group->order.place = pos;
	group->order.urgency = queue_urgency(group->queue, group->priority, pos.run_at, turns->now);
}

/* A key's number in a group. */
static inline uint64
number(const QueueOrder *order, const QueueLine *line)
{
	return Max(hash_combine64(order->group, line->turn_id), 1);
}

uint64
queue_turns_of(const QueueTurnGroup *group, const QueueLine *line)
{
	uint64		turn = queue_turn_of_key(number(&group->order, line), queue_turn_round(group->order.turn));
	uint64		begin = queue_turn_of_round(queue_turn_round(turn));

	return Min(turn, begin + 1);
}

uint64
queue_turns_use(const QueueTurnGroup *group, const QueueLine *line)
{
	uint64		key = number(&group->order, line);
	uint64		turn = queue_turn_of_key(key, queue_turn_round(group->order.turn));

	turn = queue_turn_after(turn, group->queue->fair);
	queue_turn_set(key, turn);
	return Min(turn, queue_turn_of_round(queue_turn_round(turn)) + 1);
}

/* A job of this order, of the line with that id, was not started after all. */
static void
undo(int64 id, const QueueOrder *order)
{
	const QueueLine *line;
	uint64		key;
	uint64		turn;

	if (likely(order->group == 0) || !IsTransactionState())
		return;
	line = queue_config_line(id);
	if (line == NULL || line->queue->fair == 0)
		return;
	key = number(order, line);
	turn = queue_turn_of_key(key, queue_turn_round(order->turn));
	if (turn > order->turn)
		queue_turn_set(key, queue_turn_before(turn, line->queue->fair));
}

void
queue_turns_tell(const QueueEntry *entry)
{
	queue_note_claimable(MyDatabaseId, entry->line, NULL, (QueuePos) {entry->run_at, entry->id}, 1);
}

void
queue_turns_give_back(const QueueEntry *entries, int n)
{
	volatile int given = 0;

	PG_TRY();
	{
		for (; given < n; given++)
		{
			const QueueEntry *entry = &entries[given];

			undo(entry->line, &entry->order);
			queue_job_give_back(entry->line, (QueuePos) {entry->run_at, entry->id});
		}
	}
	PG_CATCH();
	{
		for (; given < n; given++)
			queue_turns_tell(&entries[given]);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
