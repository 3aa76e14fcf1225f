/*
 * ready_line.h
 *		A line in a reading, and where it comes in it.  For ready.c only.
 */
#ifndef QUEUE_READY_LINE_H
#define QUEUE_READY_LINE_H

#include "job/job.h"
#include "job/turns.h"

#include "access/genam.h"
#include "access/skey.h"

#define NKEYS 3

typedef struct ReadyLine
{
	QueueLine  *line;
	QueueCursorView view;
	QueuePos	bound;			/* no unread row of this line is before it */
	QueueOrder	order;			/* where that comes */
	QueueTurnGroup *group;		/* whose keys take turns; NULL: none */
	QueuePos	turn_from;		/* keys with the same turn come by their oldest jobs, .. */
	bool		in_turn;		/* .. and have it in one go */
	bool		tells_turn;		/* its agenda is told of its turn .. */
	uint64		told_turn;		/* .. and knows this one */
	bool		loaded;			/* bound is the position of `head` */
	bool		from_key;		/* head came from an exact key */
	bool		keys_done;		/* no key is left for us */
	bool		at_end;			/* the index had no further visible row */
	bool		scanned;		/* the scan was opened: there is something to tell the cursor */
	int			burst;			/* jobs that were returned one after the other, .. */
	QueueOrder	burst_order;	/* .. of which this was the first one's place */
	bool		own;			/* reads also what only this transaction sees, and tells its notes */
	QueueJob	head;
	QueuePos	passed;			/* everything before it was passed by the scan */
	TimestampTz until;			/* the scan ends before this; DT_NOEND: before rows that nobody may read yet */
	TimestampTz returned;		/* run_at of the row that was returned last; 0: none */
	int64		distance;		/* from there to the next row; 0: unknown */
	TimestampTz next_due;		/* read to its end or to a row not due: when that falls due */
	struct ReadyScan *scan;		/* NULL: not opened, or lent to another line */
	ScanKeyData keys[NKEYS];
	ScanKeyData members[2];
} ReadyLine;

/* An index scan, used for one line after the other. */
typedef struct ReadyScan
{
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* where head lies */
	ReadyLine  *user;			/* NULL: none */
} ReadyScan;

/* Does line a come before line b, as far as is known? */
static inline bool
comes_before(const ReadyLine *a, const ReadyLine *b)
{
	if (queue_order_shared(&a->order, &b->order) && a->order.turn == b->order.turn)
		return queue_pos_cmp(a->turn_from, b->turn_from) < 0;
	return queue_order_before(&a->order, &b->order);
}

/* The bound or the turn of a line is another: where does it come now? */
static inline void
order_line(ReadyLine *line, TimestampTz now)
{
	if (likely(line->group == NULL))
	{
		line->order.urgency = queue_urgency(line->line->queue, line->line->priority, line->bound.run_at, now);
		line->order.place = line->bound;
		return;
	}
	line->order.urgency = line->group->order.urgency;
	line->order.place = line->group->order.place;
	if (!line->in_turn)
		line->turn_from = line->bound;
}

/* Does a line come before all of an agenda's next one, of which this is the earliest place? */
static inline bool
may_go_before(const ReadyLine *line, const QueueOrder *order, QueuePos bound)
{
	if (queue_order_shared(&line->order, order) && line->order.turn == order->turn)
		return line->in_turn || queue_pos_cmp(line->turn_from, bound) <= 0;
	return queue_order_before(&line->order, order);
}

#endif
