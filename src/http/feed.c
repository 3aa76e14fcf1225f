/*
 * feed.c
 *		The scheduler's part of HTTP handlers.
 *
 * One channel (role InvalidOid) leads to the database's http worker, which takes everything out at once; so what
 * bounds the flow is not the channel but, per handler, how many of its jobs are admitted: its limit (max_running, its
 * endpoints' max_running and health) plus a few to go on with.  A handler at its limit is not read, so
 * its jobs wait in their line and nobody else's behind them.  A handler all of whose endpoints are
 * down has limit 0: its jobs stay available.
 *
 * The worker enforces the limits exactly; here they only bound what is read.
 *
 * Locks: none of its own.  Called by the scheduler only.
 */
#include "http/feed.h"

#include <signal.h>

#include "job/pause.h"
#include "job/ready.h"
#include "shared/clock.h"
#include "shared/endpoint.h"
#include "shared/limit.h"
#include "shared/share.h"
#include "shared/slot.h"
#include "shared/worker.h"

#include "utils/memutils.h"

#define AHEAD 64				/* admitted beyond a handler's limit, at most */
#define RESTART_MIN_US (USECS_PER_SEC / 2)
#define RESTART_MAX_US (30 * USECS_PER_SEC)

/* One HTTP handler. */
typedef struct QueueFeed
{
	QueueHandler *handler;
	QueueAgendaSet agendas;		/* of its eligible lines */
	int			nlines;			/* how many these are */
	QueueLine **unplaced;		/* those that are in no agenda, for want of a place */
	int			nunplaced;
	QueueTally *tally;			/* of this round */
	int			others;			/* claims of its kinds that sessions had in the last round */
} QueueFeed;

static QueueFeed *feeds = NULL;
static int	nfeeds = 0;
static int	first_feed = 0;		/* who is read first in the next round */
static bool wanted = false;		/* there are HTTP handlers of this database's own */

static QueueChild worker = {0};
static bool hungry = false;		/* no worker slot was free for it */
static TimestampTz started_at = 0;
static TimestampTz not_before = 0;
static int64 restart_pause = RESTART_MIN_US;
static uint32 starts = 0;

bool
queue_feed_takes(const QueueLine *line)
{
	return line != NULL && line->served && line->handler->http && line->handler->adopted &&
		   line->handler->broken == NULL && !line->queue->paused;
}

/* How many requests of a handler may be under way, by its limits and its endpoints' limits and health; 0: none. */
static int
handler_limit(QueueHandler *handler)
{
	QueueHttpConf *conf = handler->conf;
	int			limit = handler->max_running > 0 ? handler->max_running : queue_http_max_in_flight;
	int			sum = 0;
	bool		any = false;
	bool		unlimited = false;

	for (int i = 0; i < conf->nendpoints; i++)
	{
		QueueEndpoint *endpoint = conf->endpoints[i];

		if (endpoint->state == NULL && !endpoint->unseen)
		{
			endpoint->state = queue_endpoint_state_of(MyDatabaseId, endpoint->key, true);
			endpoint->unseen = endpoint->state == NULL;
		}
		/* one without a place: only the worker knows its health */
		if (!endpoint->adopted || endpoint->weight == 0 ||
			(endpoint->health_url != NULL && endpoint->state != NULL &&
			 pg_atomic_read_u32(&endpoint->state->healthy) == 0))
			continue;
		any = true;
		if (endpoint->max_running == 0)
			unlimited = true;
		else
			sum += endpoint->max_running;
	}
	if (!any)
		return 0;
	return unlimited ? limit : Min(limit, sum);
}

void
queue_feed_sort(QueueConfig *config)
{
	int64	   *ids = palloc((config->nhandlers + 1) * sizeof(int64));
	int			nids = 0;

	feeds = palloc0((config->nhandlers + 1) * sizeof(QueueFeed));
	nfeeds = 0;
	wanted = false;
	for (int i = 0; i < config->nhandlers; i++)
	{
		if (config->handlers[i]->http)
			ids[nids++] = config->handlers[i]->id;
	}
	queue_gate_keep(MyDatabaseId, QUEUE_GATE_HTTP, ids, nids);
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		if (!handler->http)
			continue;
		handler->conf->feed = NULL;
		if (!handler->adopted || config->installation == NULL)
			continue;
		wanted = true;
		if (handler->conf->gate == NULL)
			handler->conf->gate = queue_gate_of(MyDatabaseId, QUEUE_GATE_HTTP, handler->id, true);
		if (handler->conf->gate == NULL)
			continue;
		handler->conf->feed = &feeds[nfeeds++];
		handler->conf->feed->handler = handler;
		queue_agenda_set_begin(&handler->conf->feed->agendas, QUEUE_AGENDA_HTTP, (uint64) handler->id,
							   CurrentMemoryContext);
	}
	/* it has the configuration too: endpoints to ask for their health, jobs that may run no more */
	queue_set_latch(queue_endpoint_procno(MyDatabaseId));
}

QueueAgenda *
queue_feed_agenda(const QueueLine *line)
{
	static QueueAgenda none;	/* of handlers without a gate */
	QueueHandler *handler = line->handler;

	none = (QueueAgenda) {.db = MyDatabaseId, .type = QUEUE_AGENDA_HTTP, .key = (uint64) handler->id};
	return handler->conf->feed == NULL ? &none :
		queue_agenda_set_of(&handler->conf->feed->agendas, line->queue->key, line->queue->agenda.special);
}

void
queue_feed_add(QueueLine *line, bool placed, MemoryContext context)
{
	QueueFeed  *feed = line->handler->conf->feed;

	if (feed == NULL)
		return;
	feed->nlines++;
	if (placed)
		return;
	if (feed->nunplaced % 64 == 0)
		feed->unplaced = feed->unplaced == NULL ? MemoryContextAlloc(context, 64 * sizeof(QueueLine *)) :
			repalloc_huge(feed->unplaced, (feed->nunplaced + 64) * sizeof(QueueLine *));
	feed->unplaced[feed->nunplaced++] = line;
}

/* Is this line, which the handler's agenda has, still sent by it? */
static bool
is_fed(QueueLine *line, void *arg)
{
	const QueueFeed *feed = arg;

	return queue_feed_takes(line) && line->handler->id == feed->handler->id && queue_tally_room(feed->tally, line);
}

/* Was this line not wanted because its queue's limit is full? */
static bool
is_shut(const QueueLine *line, void *arg)
{
	const QueueFeed *feed = arg;

	return queue_tally_shut(feed->tally, line);
}

/* These leave the channel unclaimed. */
static void
give_back(const QueueEntry *entries, int n)
{
	for (int i = 0; i < n; i++)
		(void) queue_gate_dismiss(queue_gate_nth(entries[i].gate));
	queue_turns_give_back(entries, n);
}

/*
 * Reads up to `room` due jobs of one handler into the channel, but none that the worker left alone for a while.  When
 * its lines have the next.
 */
static TimestampTz
pull_one(QueueFeed *feed, QueueChannel *channel, QueueJobTable *table, TimestampTz now, int room)
{
	QueueGate  *gate = feed->handler->conf->gate;
	QueueReadyLines lines = {
		.lines = feed->unplaced,
		.nlines = feed->nunplaced,
		.agendas = feed->agendas.agendas,
		.nagendas = feed->agendas.n,
		.wants = is_fed,
		.shut = is_shut,
		.arg = feed,
		.readers = (uint64) feed->handler->id << 32 | QUEUE_AGENDA_HTTP,
		.scheduler = true,
	};
	QueueReady *ready;
	QueueJob	job;
	QueueLine  *line;
	TimestampTz stamp;
	TimestampTz next;

	ready = queue_ready_begin(table, &lines, now);
	stamp = queue_now();
	for (int n = 0; n < room && queue_tally_next(feed->tally, ready, &job, &line);)
	{
		QueueEntry	entry = {0};
		QueueEntry	evicted[QUEUE_CHANNEL_SIZE];
		int			nevicted;

		entry.id = job.id;
		entry.line = job.line;
		entry.run_at = job.run_at;
		entry.stamp = stamp;
		entry.tid = job.tid;
		entry.order = queue_ready_order(ready);
		entry.gate = queue_gate_number(gate);
		if (queue_channel_shuns(channel, &entry))
			continue;
		queue_gate_admit(gate);
		if (!queue_channel_put(channel, &entry, QUEUE_CHANNEL_ANY_COST, evicted, &nevicted))
		{
			(void) queue_gate_dismiss(gate);
			queue_ready_put_back(ready);
			break;
		}
		give_back(evicted, nevicted);
		queue_ready_use(ready, false);
		n++;
	}
	next = queue_ready_next_due(ready);
	queue_ready_end(ready);
	if (next != DT_NOBEGIN)
		return next;
	/* there are more: the worker calls when it has taken these, and when one leaves */
	queue_gate_want_more(gate);
	return DT_NOEND;
}

void
queue_feed_unshun(void)
{
	QueueChannel *channel = queue_channel_of(MyDatabaseId, InvalidOid, false);

	if (channel != NULL)
		(void) queue_pause_unshun(channel, DT_NOEND);
}

TimestampTz
queue_feed_pull(QueueJobTable *table, QueueTally *tally, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	QueueChannel *channel;
	bool		pulled = false;
	bool		freed = false;
	int			all;
	int			total;
	int			nactive = 0;

	for (int i = 0; i < nfeeds; i++)
		nactive += feeds[i].nlines > 0;
	if (nactive == 0 || (channel = queue_channel_of(MyDatabaseId, InvalidOid, true)) == NULL)
		return DT_NOEND;
	next = queue_pause_unshun(channel, now);
	all = queue_http_max_in_flight + AHEAD;
	total = all - queue_gate_admitted(MyDatabaseId, QUEUE_GATE_HTTP);
	for (int i = 0; i < nfeeds; i++)
	{
		QueueFeed  *feed = &feeds[(first_feed + i) % nfeeds];
		QueueGate  *gate = feed->handler->conf->gate;
		int			limit;
		int			admitted;
		int			others;
		int			room;

		if (feed->nlines == 0)
			continue;
		admitted = (int) pg_atomic_read_u32(&gate->admitted);
		limit = handler_limit(feed->handler);
		others = queue_tally_others(tally, feed->handler, (int) pg_atomic_read_u32(&gate->taken));
		if (others > 0)
			limit = Max(Min(limit, feed->handler->max_running - others), 0);
		freed |= others < feed->others;
		feed->others = others;
		room = queue_gate_room(gate, limit + Min(limit, AHEAD));
		/* its share is a handler's own, whatever others have under way */
		room = Min(room, Max(total, Max(all / nactive, 1) - admitted));
		room = Min(room, QUEUE_CHANNEL_SIZE - queue_channel_count(channel));
		/* some for each when many have work; what is left over is read in the next round */
		if (nactive > 1)
			room = Min(room, Max(QUEUE_CHANNEL_SIZE / nactive, 8));
		if (room <= 0)
		{
			queue_gate_want_more(gate);
			continue;
		}
		feed->tally = tally;
		next = queue_earlier(next, pull_one(feed, channel, table, now, room));
		total -= (int) pg_atomic_read_u32(&gate->admitted) - admitted;
		pulled = true;
	}
	first_feed = (first_feed + 1) % nfeeds;
	/* or what the worker has in stock may go now */
	if ((pulled && queue_channel_count(channel) > 0) || freed)
		queue_set_latch(queue_endpoint_procno(MyDatabaseId));
	return next;
}

/* ---- the worker ---- */

/* The slot of this database's http worker, whoever started it; NULL: none. */
static QueueSlot *
worker_slot(void)
{
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_HTTP && slot->db == MyDatabaseId)
			return slot;
	}
	return NULL;
}

/* Registers it; false: no slot or no worker slot is free. */
static bool
start_worker(TimestampTz now)
{
	if (!queue_child_start(&worker, QUEUE_SLOT_HTTP, MyDatabaseId, InvalidOid))
		return false;
	pg_atomic_write_u32(&queue_slot_nth(worker.slot)->restarts, starts++);
	started_at = now;
	return true;
}

/* Notices that the worker that we started has ended. */
static void
reap(TimestampTz now)
{
	QueueDatabase *base = queue_database();

	if (queue_child_look(&worker) < QUEUE_CHILD_ENDED)
		return;
	if (now - started_at > QUEUE_STABLE_US)
	{
		restart_pause = RESTART_MIN_US;
		pg_atomic_write_u32(&base->http_ends, 0);
	}
	else
	{
		restart_pause = Min(restart_pause * 2, RESTART_MAX_US);
		if (wanted && pg_atomic_read_u32(&base->closed) == 0)
			pg_atomic_fetch_add_u32(&base->http_ends, 1);	/* for doctor() */
	}
	not_before = now + restart_pause;
	queue_share_freed(now);
}

/* No worker and no handler: what stands in the channel goes back to its lines. */
static void
empty_channel(void)
{
	QueueChannel *channel = queue_channel_of(MyDatabaseId, InvalidOid, false);
	QueueEntry	entry;

	if (channel == NULL)
		return;
	(void) queue_pause_unshun(channel, DT_NOEND);
	while (queue_channel_pop(channel, &entry))
		give_back(&entry, 1);
	queue_endpoint_clear(MyDatabaseId);
	queue_endpoint_keep(MyDatabaseId, NULL, 0);
	queue_gate_clear(MyDatabaseId, QUEUE_GATE_HTTP);
	queue_channel_release(channel);
}

TimestampTz
queue_feed_scale(TimestampTz now)
{
	QueueSlot  *slot;

	reap(now);
	slot = worker_slot();
	if (!wanted)
	{
		if (slot == NULL)
			empty_channel();
		else if (pg_atomic_exchange_u32(&slot->retire, 1) == 0)
			queue_set_latch(pg_atomic_read_u32(&slot->procno));
		return DT_NOEND;
	}
	if (slot != NULL || worker.handle != NULL)
		return DT_NOEND;
	if (queue_put_off(not_before, RESTART_MAX_US, now))
		return not_before;
	if (!start_worker(now))
	{
		if (!hungry)
			ereport(LOG,
					(errmsg("queue: no worker slot is free for the http worker"),
					 errhint("Raise max_worker_processes.")));
		hungry = true;
		queue_share_hungry(queue_database(), QUEUE_HUNGER_FIRST, now);
		not_before = now + QUEUE_HUNGER_US;
		return not_before;
	}
	if (hungry)
		queue_share_sated(queue_database());
	hungry = false;
	return DT_NOEND;
}

/* Tells the worker to end; is there one? */
bool
queue_feed_signal(bool abort)
{
	QueueSlot  *slot;

	reap(queue_now());
	queue_child_recall(&worker);
	slot = worker_slot();
	if (slot == NULL)
		return worker.handle != NULL;
	if (slot->pid != 0 && (abort ? pg_atomic_exchange_u32(&slot->abort, 1) == 0 :
						   pg_atomic_read_u32(&slot->state) != QUEUE_SLOT_STOPPING))
		(void) kill(slot->pid, SIGTERM);
	return true;
}

bool
queue_feed_any(void)
{
	return worker_slot() != NULL || worker.handle != NULL;
}

void
queue_feed_retire(void)
{
	QueueSlot  *slot = worker_slot();

	if (slot != NULL && pg_atomic_exchange_u32(&slot->retire, 1) == 0)
		queue_set_latch(pg_atomic_read_u32(&slot->procno));
}

/* The scheduler ends: what still stands in the channel is for others. */
void
queue_feed_end(void)
{
	if (worker_slot() == NULL)
		empty_channel();
}
