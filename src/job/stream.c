/*
 * stream.c
 *		The lines of agendas, as a reading (ready.c) takes them one after the other.
 *
 * An agenda is read from its front, a few lines at a time, and several are merged.  A queue that is fair, ages or is
 * under a limit has an agenda of its own for each sort of reader, which is left at once when the limit is full.  That
 * has a stream for each priority, because how urgent these are changes with time, and within a fair one lines
 * come by their keys' turns.
 *
 * Owns nothing but what lives as long as a reading.
 */
#include "job/stream.h"

#include "config/lines.h"
#include "shared/note.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define ITEMS_FIRST 4			/* lines taken from an agenda at first, */
#define ITEMS_MAX 64			/* and at most at once */

/* An agenda that is read, or one priority of it, and the lines taken from it that are next. */
typedef struct QueueStream
{
	QueueAgenda *agenda;
	QueueConf  *queue;			/* whose special agenda it is; then only lines of .. */
	int16		priority;
	QueueTurnGroup *group;		/* NULL: its keys take no turns */
	bool		first;			/* its lines come before all others */
	QueueAgendaItem item[ITEMS_MAX];
	int			n;
	int			next;
	QueueLine  *line;			/* of item[next]; NULL: not looked up yet */
	int			max;			/* to take at once */
	bool		begun;
	bool		done;			/* it has no more */
	uint64		changed;		/* the agenda's number when its front was read */
} QueueStream;

/* A line that was given. */
typedef struct QueueGiven
{
	QueueOrder	order;
	QueuePos	bound;
	QueueLine  *line;
} QueueGiven;

static QueueStream *
add_stream(QueueStreams *streams, QueueAgenda *agenda)
{
	QueueStream *stream = NULL;

	if (streams->n == streams->allocated)
	{
		streams->allocated = Max(4, streams->allocated * 2);
		streams->streams = streams->streams == NULL ?
			MemoryContextAllocZero(streams->turns->cxt, streams->allocated * sizeof(QueueStream *)) :
			repalloc_huge(streams->streams, streams->allocated * sizeof(QueueStream *));
	}
	stream = MemoryContextAlloc(streams->turns->cxt, sizeof(QueueStream));
	stream->agenda = agenda;
	stream->queue = NULL;
	stream->group = NULL;
	stream->line = NULL;
	stream->first = stream->begun = stream->done = false;
	stream->n = stream->next = 0;
	stream->max = ITEMS_FIRST;
	streams->streams[streams->n++] = stream;
	return stream;
}

/* Takes the next lines of an agenda. */
static void
fill(QueueStreams *streams, QueueStream *stream)
{
	const QueueAgendaItem before = {PG_INT64_MIN, {DT_NOBEGIN, PG_INT64_MIN}, stream->priority, 0};
	QueueAgendaItem last;
	const QueueAgendaItem *after = stream->queue != NULL ? &before : NULL;
	TimestampTz next_due;
	uint64		changed;

	if (stream->n > 0)
	{
		last = stream->item[stream->n - 1];
		after = &last;
	}
	stream->n = queue_agenda_read(stream->agenda, streams->turns->now, after, stream->item, stream->max, &next_due,
								  &changed);
	streams->next_due = Min(streams->next_due, next_due);
	if (!stream->begun)
		stream->changed = changed;
	stream->begun = true;
	stream->next = 0;
	stream->done = stream->n < stream->max;
	stream->max = Min(stream->max * 2, ITEMS_MAX);
	while (stream->queue != NULL && stream->n > 0 && stream->item[stream->n - 1].priority != stream->priority)
	{
		stream->n--;
		stream->done = true;
	}
}

/* Adds a stream for each priority of a special agenda. */
static void
add_priorities(QueueStreams *streams, QueueAgenda *agenda)
{
	uint64		changed = queue_agenda_changed(agenda);
	QueueAgendaItem item;
	QueueAgendaItem *after = NULL;
	TimestampTz next_due;

	while (queue_agenda_read(agenda, streams->turns->now, after, &item, 1, &next_due, NULL) > 0)
	{
		QueueLine  *line = queue_config_line(item.line);
		QueueStream *stream;

		CHECK_FOR_INTERRUPTS();
		after = &item;
		if (line == NULL)
			continue;
		stream = add_stream(streams, agenda);
		stream->queue = line->queue;
		stream->priority = item.priority;
		stream->changed = changed;
		stream->begun = true;
		stream->group = queue_turns_group(streams->turns, line->queue, item.priority);
		if (stream->group != NULL)
		{
			stream->max = ITEMS_MAX;
			fill(streams, stream);
			for (int i = 0; i < stream->n; i++)
				queue_turns_see(streams->turns, stream->group, stream->item[i].bound);
		}
		item = (QueueAgendaItem) {PG_INT64_MAX, {DT_NOEND, PG_INT64_MAX}, item.priority, PG_UINT64_MAX};
	}
	streams->next_due = Min(streams->next_due, next_due);
}

static void
open_streams(QueueStreams *streams)
{
	const QueueReadyLines *what = streams->what;

	for (int i = 0; i < streams->n; i++)
		pfree(streams->streams[i]);
	streams->n = 0;
	streams->best = NULL;
	for (int i = 0; i < what->nagendas; i++)
	{
		if (what->agendas[i]->special)
			add_priorities(streams, what->agendas[i]);
		else
		{
			QueueStream *stream = add_stream(streams, what->agendas[i]);

			/* a line may go from here to one of the others meanwhile */
			stream->first = what->new_first && i == 0;
			if (stream->first)
				fill(streams, stream);
		}
	}
}

void
queue_streams_begin(QueueStreams *streams, const QueueReadyLines *what, QueueTurns *turns, uint64 number)
{
	*streams = (QueueStreams) {.what = what, .turns = turns, .number = number, .next_due = DT_NOEND};
	open_streams(streams);
}

static inline bool
given_before(const QueueGiven *a, const QueueGiven *b)
{
	if (queue_order_shared(&a->order, &b->order) && a->order.turn == b->order.turn)
		return queue_pos_cmp(a->bound, b->bound) < 0;
	return queue_order_before(&a->order, &b->order);
}

/* The i'th of the given lines comes later than the heap says. */
static void
sift_down(QueueStreams *streams, int i)
{
	QueueGiven *heap = streams->given;
	QueueGiven	line = heap[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child + 1 < streams->ngiven && given_before(&heap[child + 1], &heap[child]))
			child++;
		if (child >= streams->ngiven || !given_before(&heap[child], &line))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = line;
}

/* Called after the sequence number of cursors was read. */
void
queue_streams_give(QueueStreams *streams)
{
	const QueueReadyLines *what = streams->what;
	QueueTurns *turns = streams->turns;

	streams->given = MemoryContextAllocHuge(turns->cxt, (what->nlines + 1) * sizeof(QueueGiven));
	for (int i = 0; i < what->nlines; i++)
	{
		QueueLine  *line = what->lines[i];
		QueuePos	bound;
		TimestampTz due = queue_cursor_glance(&line->cursor, &bound);
		QueueTurnGroup *group;
		QueuePos	own;

		/* what this transaction did is not told yet */
		if (queue_note_own(line->id, &own))
		{
			if (due == DT_NOEND || queue_pos_cmp(own, bound) < 0)
				bound = own;
			due = DT_NOBEGIN;
		}
		if (due > turns->now)
		{
			streams->next_due = Min(streams->next_due, due);
			continue;
		}
		group = queue_turns_group(turns, line->queue, line->priority);
		if (group != NULL)
			queue_turns_see(turns, group, bound);
		streams->given[streams->ngiven++] = (QueueGiven) {.line = line, .bound = bound};
	}
	for (int i = 0; i < streams->ngiven; i++)
	{
		QueueGiven *given = &streams->given[i];
		QueueLine  *line = given->line;
		QueueTurnGroup *group = queue_turns_group(turns, line->queue, line->priority);

		if (group != NULL)
		{
			given->order = group->order;
			given->order.turn = queue_turns_of(group, line);
		}
		else
		{
			given->order.urgency = queue_urgency(line->queue, line->priority, given->bound.run_at, turns->now);
			given->order.place = given->bound;
		}
	}
	for (int i = streams->ngiven / 2 - 1; i >= 0; i--)
		sift_down(streams, i);
}

static void
pass_given(QueueStreams *streams)
{
	streams->given[0] = streams->given[--streams->ngiven];
	sift_down(streams, 0);
}

/* The next line of a stream; NULL: it has no more. */
static QueueAgendaItem *
next_item(QueueStreams *streams, QueueStream *stream)
{
	if (stream->next == stream->n && !stream->done)
		fill(streams, stream);
	return stream->next < stream->n ? &stream->item[stream->next] : NULL;
}

static inline void
pass_item(QueueStream *stream)
{
	stream->next++;
	stream->line = NULL;
}

/* Nothing more of this agenda is wanted. */
static void
pass_agenda(QueueStreams *streams, const QueueAgenda *agenda)
{
	for (int i = 0; i < streams->n; i++)
	{
		QueueStream *stream = streams->streams[i];

		if (stream->agenda != agenda)
			continue;
		stream->next = stream->n;
		stream->line = NULL;
		stream->done = true;
	}
}

/* Where the next line of a stream comes at the earliest. */
static QueueOrder
order_of(const QueueStreams *streams, const QueueStream *stream)
{
	const QueueAgendaItem *item = &stream->item[stream->next];
	QueueOrder	order = {.urgency = item->priority, .place = item->bound};

	if (stream->first)
		order.urgency = PG_INT32_MIN;
	else if (stream->group != NULL)
	{
		order = stream->group->order;
		order.turn = Max(order.turn, item->turn);
	}
	else if (stream->queue != NULL)
		order.urgency = queue_urgency(stream->queue, item->priority, item->bound.run_at, streams->turns->now);
	return order;
}

/*
 * All were read to their end, but step by step: a line that went from one to another, or to an earlier place, may be in
 * none of what was read.  True: they are to be read from their fronts again.
 */
static bool
begin_again(QueueStreams *streams)
{
	bool		again = false;

	for (int i = 0; i < streams->n && !again; i++)
		again = queue_agenda_changed(streams->streams[i]->agenda) != streams->streams[i]->changed;
	if (again)
		open_streams(streams);
	return again;
}

bool
queue_streams_peek(QueueStreams *streams, QueueLine **line, QueueOrder *order, QueuePos *bound)
{
	for (;;)
	{
		QueueStream *best = NULL;
		bool		hidden = false;
		bool		any = false;

		while (streams->ngiven > 0 && streams->given[0].line->reading == streams->number)
			pass_given(streams);
		if (streams->ngiven > 0)
		{
			*order = streams->given[0].order;
			hidden = streams->limit != NULL && queue_order_beyond(order, streams->limit);
			any = !hidden;
		}
		for (int i = 0; i < streams->n; i++)
		{
			QueueStream *stream = streams->streams[i];
			QueueOrder	its;

			if (next_item(streams, stream) == NULL)
				continue;
			its = order_of(streams, stream);
			if (streams->limit != NULL && queue_order_beyond(&its, streams->limit))
			{
				hidden = true;
				continue;
			}
			if (!any || queue_order_before(&its, order))
			{
				any = true;
				best = stream;
				*order = its;
			}
		}
		streams->best = best;
		if (any && best == NULL)
		{
			*line = streams->given[0].line;
			*bound = streams->given[0].bound;
			return true;
		}
		if (best == NULL)
		{
			if (hidden || !begin_again(streams))
				return false;
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		if (best->line == NULL)
			best->line = queue_config_line(best->item[best->next].line);
		*line = best->line;
		*bound = best->item[best->next].bound;
		if (*line != NULL && (*line)->reading != streams->number &&
			streams->what->wants(*line, streams->what->arg))
			return true;
		if (best->queue != NULL && *line != NULL && streams->what->shut(*line, streams->what->arg))
			pass_agenda(streams, best->agenda);
		else
			pass_item(best);
	}
}

bool
queue_streams_pass(QueueStreams *streams, uint64 *turn)
{
	QueueStream *best = streams->best;

	if (best == NULL)
	{
		pass_given(streams);
		return false;
	}
	*turn = best->item[best->next].turn;
	pass_item(best);
	return best->group != NULL;
}
