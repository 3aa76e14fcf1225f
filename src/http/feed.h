/*
 * feed.h
 *		The scheduler's part of HTTP: which handlers' jobs go into the http worker's channel, how
 *		many, and whether that worker runs.
 */
#ifndef QUEUE_FEED_H
#define QUEUE_FEED_H

#include "job/limit.h"
#include "shared/channel.h"

/* May this line's jobs be sent by the http worker, as far as the configuration tells? */
extern bool queue_feed_takes(const QueueLine *line);

/* The configuration was read again: its HTTP handlers have no lines yet.  Memory: of the current context. */
extern void queue_feed_sort(QueueConfig *config);
/* The agenda of a line that its handler takes. */
extern QueueAgenda *queue_feed_agenda(const QueueLine *line);
/* A line is in its handler's agenda, or (not placed) is not: then it is read in each round.  Memory: of `context`. */
extern void queue_feed_add(QueueLine *line, bool placed, MemoryContext context);
/* One round: due jobs into the channel.  When it wants to be called again. */
extern TimestampTz queue_feed_pull(QueueJobTable *table, QueueTally *tally, TimestampTz now);
extern void queue_feed_unshun(void);	/* lines were placed anew: what the worker left alone may be tried again */
/* Starts, restarts or retires the worker.  When it wants to be called again. */
extern TimestampTz queue_feed_scale(TimestampTz now);
/* Tells the worker to end; false: there is none. */
extern bool queue_feed_signal(bool abort);
extern void queue_feed_end(void);
extern bool queue_feed_any(void);	/* is there a worker? */
extern void queue_feed_retire(void);	/* it ends when what it sends has ended */

#endif
