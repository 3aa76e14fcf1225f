/*
 * deadline.h
 *		The rows of queue.deadline: what a job has of its own that falls due.
 */
#ifndef QUEUE_DEADLINE_H
#define QUEUE_DEADLINE_H

#include "lib/queue.h"

#include "executor/tuptable.h"
#include "utils/rel.h"

/* One deadline: where it stands in the order in which they are read, and its row. */
typedef struct QueueDeadline
{
	QueuePos	pos;			/* when it falls due, and of which job */
	ItemPointerData tid;
} QueueDeadline;

/* The open table; in the current memory context, valid in the current transaction. */
typedef struct QueueDeadlineTable
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
} QueueDeadlineTable;

extern void queue_deadline_insert(const QueuePos *deadlines, int n);
extern QueueDeadlineTable *queue_deadline_open(LOCKMODE lockmode);
extern void queue_deadline_close(QueueDeadlineTable *table);
extern int	queue_deadline_read(QueueDeadlineTable *table, QueuePos from, TimestampTz now, Snapshot snapshot,
								QueueDeadline *out, int max, TimestampTz *next);
extern void queue_deadline_delete(QueueDeadlineTable *table, const QueueDeadline *deadline, Snapshot snapshot);

#endif
