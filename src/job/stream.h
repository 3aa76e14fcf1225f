/*
 * stream.h
 *		The lines of agendas, as a reading (ready.c) takes them one after the other.
 */
#ifndef QUEUE_STREAM_H
#define QUEUE_STREAM_H

#include "job/turns.h"

/* Which lines to read: those given, and those of agendas (shared/agenda.h) that are wanted.  No line is read twice. */
typedef struct QueueReadyLines
{
	QueueLine **lines;
	int			nlines;
	QueueAgenda **agendas;
	int			nagendas;
	bool		new_first;		/* the first agenda is that of new lines, and others are special: they come first */
	bool		(*wants) (QueueLine *line, void *arg);	/* of the agendas' */
	/* this one was not wanted, because nothing of its queue is?  Asked where its queue has an agenda of its own */
	bool		(*shut) (const QueueLine *line, void *arg);
	void	   *arg;
	int			burst;			/* over many lines so many jobs of one may come together; 0: each in its order */
	uint64		readers;		/* who reads: each sort gives concurrency keys turns of its own */
	bool		scheduler;		/* it is the scheduler, which need not be told of what it leaves */
} QueueReadyLines;

typedef struct QueueStreams
{
	const QueueReadyLines *what;
	QueueTurns *turns;
	uint64		number;			/* of the reading: lines that have it are passed */
	struct QueueStream **streams;
	int			n;
	int			allocated;
	struct QueueGiven *given;	/* those of the given lines that may have something due, as a heap */
	int			ngiven;
	struct QueueStream *best;	/* whose line is next; NULL: it is the first of the given ones */
	const QueueOrder *limit;	/* only what comes before it is wanted, but of groups all; NULL: all */
	TimestampTz next_due;		/* when the next line falls due that the agendas know of */
} QueueStreams;

extern void queue_streams_begin(QueueStreams *streams, const QueueReadyLines *what, QueueTurns *turns, uint64 number);
/* The lines that are given are taken one after the other, too: of many, most are not worth opening. */
extern void queue_streams_give(QueueStreams *streams);
/* The next line that is wanted, the earliest place that it can have, and its bound; false: none. */
extern bool queue_streams_peek(QueueStreams *streams, QueueLine **line, QueueOrder *order, QueuePos *bound);
/* It is taken: from now on another is next.  *turn: what its agenda says of its turn; false: nothing. */
extern bool queue_streams_pass(QueueStreams *streams, uint64 *turn);

#endif
