/*
 * stock.c
 *		The jobs that came through the channel and wait to be claimed, sorted by handler.
 *
 * queue.http_max_in_flight is one number for all handlers of a database, so it is shared fairly: the next request is
 * of the handler with the fewest under way, whoever came first.  2,000 slow jobs of one handler then take what others
 * leave, and when these have something it is next as soon as any request ends.  A handler with an endpoint whose
 * breaker is to be tried out goes before all.
 *
 * Within a handler the order is that of the channel, which later entries may enter in the midst.  Owns only memory of
 * the http worker; no locks.
 */
#include "http/stock.h"

#include "utils/memutils.h"

#define FIRST_SIZE 64

static QueueStock **stocks = NULL;	/* those with entries come first; the others keep their memory for the next */
static int	nused = 0;
static int	nstocks = 0;
static int	max_stocks = 0;
static int	nentries = 0;
static uint64 turn = 0;
static QueueEntry popped;		/* out of the channel .. */
static bool is_popped = false;	/* .. and in no stock yet: there may be no memory */

/* The stock of a gate, made if need be. */
static QueueStock *
stock_of(QueueGate *gate)
{
	QueueStock *stock;

	for (int i = 0; i < nused; i++)
	{
		if (stocks[i]->gate == gate)
			return stocks[i];
	}
	if (nused == nstocks)
	{
		if (nstocks == max_stocks)
		{
			int			size = Max(FIRST_SIZE, max_stocks * 2);

			stocks = stocks == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(QueueStock *)) :
				repalloc(stocks, size * sizeof(QueueStock *));
			max_stocks = size;
		}
		stock = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueStock));
		stock->entries = MemoryContextAlloc(TopMemoryContext, FIRST_SIZE * sizeof(QueueEntry));
		stock->size = FIRST_SIZE;
		stocks[nstocks++] = stock;
	}
	stock = stocks[nused++];
	stock->gate = gate;
	stock->first = stock->n = stock->tried = 0;
	stock->urgent = false;
	stock->served = 0;
	return stock;
}

bool
queue_stock_fill(QueueChannel *channel)
{
	bool		any = false;

	while (is_popped || (is_popped = queue_channel_pop(channel, &popped)))
	{
		QueueStock *stock = stock_of(queue_gate_nth(popped.gate));
		int			i;

		if (stock->first + stock->n == stock->size)
		{
			if (stock->first >= stock->size / 2)
			{
				memmove(stock->entries, stock->entries + stock->first, stock->n * sizeof(QueueEntry));
				stock->first = 0;
			}
			else
			{
				stock->entries = repalloc(stock->entries, stock->size * 2 * sizeof(QueueEntry));
				stock->size *= 2;
			}
		}
		for (i = stock->first + stock->n++;
			 i > stock->first && queue_order_before(&popped.order, &stock->entries[i - 1].order); i--)
			stock->entries[i] = stock->entries[i - 1];
		stock->entries[i] = popped;
		is_popped = false;
		nentries++;
		any = true;
	}
	return any;
}

int
queue_stock_count(void)
{
	return nentries;
}

/* Also moves stocks that have nothing behind the used ones. */
int
queue_stock_begin(void)
{
	for (int i = 0; i < nused;)
	{
		QueueStock *stock = stocks[i];

		stock->tried = 0;
		if (stock->n > 0)
		{
			i++;
			continue;
		}
		nused--;
		stocks[i] = stocks[nused];
		stocks[nused] = stock;
	}
	return nused;
}

QueueStock *
queue_stock_nth(int i)
{
	return stocks[i];
}

QueueStock *
queue_stock_next(void)
{
	QueueStock *best = NULL;
	uint32		fewest = 0;

	for (int i = 0; i < nused; i++)
	{
		QueueStock *stock = stocks[i];
		uint32		taken = stock->urgent ? 0 : pg_atomic_read_u32(&stock->gate->taken);

		if (stock->tried >= stock->n ||
			(best != NULL && (best->urgent && !stock->urgent)))
			continue;
		if (best == NULL || (stock->urgent && !best->urgent) || taken < fewest ||
			(taken == fewest && stock->served < best->served))
		{
			best = stock;
			fewest = taken;
		}
	}
	if (best != NULL)
		best->served = ++turn;
	return best;
}

QueueEntry *
queue_stock_entry(QueueStock *stock)
{
	return &stock->entries[stock->first + stock->tried];
}

void
queue_stock_remove(QueueStock *stock)
{
	Assert(stock->tried < stock->n);
	queue_turn_started(&queue_stock_entry(stock)->order);
	/* nearly always the first one */
	memmove(&stock->entries[stock->first + 1], &stock->entries[stock->first], stock->tried * sizeof(QueueEntry));
	stock->first++;
	stock->n--;
	nentries--;
	if (stock->n == 0)
		stock->first = 0;
}

bool
queue_stock_take_any(QueueEntry *entry)
{
	if (is_popped)
	{
		is_popped = false;
		*entry = popped;
		return true;
	}
	for (int i = 0; i < nused; i++)
	{
		if (stocks[i]->n == 0)
			continue;
		stocks[i]->tried = 0;
		*entry = *queue_stock_entry(stocks[i]);
		queue_stock_remove(stocks[i]);
		return true;
	}
	return false;
}
