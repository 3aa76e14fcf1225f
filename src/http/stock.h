/*
 * stock.h
 *		The jobs that came through the channel and wait to be claimed, sorted by handler.
 */
#ifndef QUEUE_STOCK_H
#define QUEUE_STOCK_H

#include "shared/channel.h"
#include "shared/limit.h"

/* What waits at one gate: of one handler, or of all that share the spare gate. */
typedef struct QueueStock
{
	QueueGate  *gate;
	QueueEntry *entries;		/* from first on, the first to come first */
	int			first;
	int			n;
	int			size;			/* of entries */
	int			tried;			/* of them, in this pass, that must stay */
	bool		urgent;			/* an endpoint is to be tried out: before all others */
	uint64		served;			/* when it was served last, in passes' own time */
} QueueStock;

/* Takes what is in the channel; true: something. */
extern bool queue_stock_fill(QueueChannel *channel);
extern int	queue_stock_count(void);	/* entries, in all */

/* A pass begins: all stocks may be tried.  Their number; `urgent` is the caller's to set. */
extern int	queue_stock_begin(void);
extern QueueStock *queue_stock_nth(int i);
/* Whose turn it is: the urgent ones, then who has the fewest jobs in force.  NULL: all have been tried. */
extern QueueStock *queue_stock_next(void);
/* The entry to try, the `tried`th of the stock. */
extern QueueEntry *queue_stock_entry(QueueStock *stock);
/* The entry that was tried leaves the stock. */
extern void queue_stock_remove(QueueStock *stock);
/* Takes any entry out; false: there is none. */
extern bool queue_stock_take_any(QueueEntry *entry);

#endif
