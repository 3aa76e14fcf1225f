/*
 * eligible.c
 *		Which handlers may run now, as the scheduler sees it.
 *
 * The part of the answer that needs the catalogs (run.c) is asked once a look; there is another look when the
 * configuration or the catalogs changed, and every RECHECK_US while something is parked.
 *
 * An executor may see what the scheduler cannot: it looks as another role, and may start after a library was removed
 * that the scheduler has still loaded.  Its refusal parks the handler for a pause that doubles from one to the next,
 * so that the two never pass the same entries to and fro.
 *
 * The scheduler's own memory.  Locks: the spinlock of a channel, for a copy of one refusal.
 */
#include "scheduler/eligible.h"

#include "executor/run.h"
#include "shared/clock.h"

#define RECHECK_US (30 * USECS_PER_SEC)
#define REFUSED_MIN_US USECS_PER_SEC
#define REFUSED_MAX_US USECS_PER_MINUTE
/* between two looks because of catalogs, where functions are made all the time */
#define LOOK_PAUSE_US INT64CONST(100000)
#define MAX_REFUSED 64			/* more handlers at a time are asked again sooner */

/* A handler that an executor could not run. */
typedef struct Refused
{
	int64		handler;
	TimestampTz until;
	int64		pause;
} Refused;

/*
 * A commit bumps the generation before its catalog invalidations arrive here, so what was asked of the
 * catalogs at once is asked again a little later.
 */
static const int64 recheck_after[] = {INT64CONST(20000), INT64CONST(200000), INT64CONST(2000000)};

static uint64 look = 0;			/* the number of this look */
static bool parked;				/* some handler is: what made it so may change without a word to us */
static int	looks = 0;			/* at the present configuration */
static const QueueConfig *seen_config = NULL;
static uint64 seen_serial = 0;
static uint64 seen_epoch = 0;
static TimestampTz looked_at = 0;
static Refused refused[MAX_REFUSED];
static int	nrefused = 0;

static Refused *
find_refused(int64 handler)
{
	for (int i = 0; i < nrefused; i++)
	{
		if (refused[i].handler == handler)
			return &refused[i];
	}
	return NULL;
}

static bool
is_refused(const Refused *r, TimestampTz now)
{
	return queue_put_off(r->until, REFUSED_MAX_US, now);
}

/* What executors said of handlers that may be tried again now is not shown any more. */
static void
forgive(TimestampTz now)
{
	for (int i = 0; i < queue_nroles; i++)
	{
		QueueChannel *channel = queue_roles[i]->channel;
		QueueLine  *line;
		Refused    *r;

		if (channel == NULL || channel->refused_line == 0)
			continue;
		line = queue_config_line(channel->refused_line);
		r = line == NULL || line->handler == NULL ? NULL : find_refused(line->handler->id);
		if (r == NULL || !is_refused(r, now))
			queue_channel_forgive(channel);
	}
}

void
queue_eligible_begin(const QueueConfig *config, TimestampTz now)
{
	uint64		epoch = queue_run_catalog_epoch();

	look++;
	parked = false;
	looked_at = now;
	if (config != seen_config || config->serial != seen_serial)
		looks = 0;
	if (looks == 0 || epoch != seen_epoch)
	{
		for (int i = 0; i < nrefused; i++)
			refused[i].until = Min(refused[i].until, now);	/* it may be what was changed */
	}
	seen_config = config;
	seen_serial = config->serial;
	seen_epoch = epoch;
	forgive(now);
}

bool
queue_eligible(QueueHandler *handler, TimestampTz now)
{
	const char *hint;
	Refused    *r = find_refused(handler->id);

	if (r != NULL && is_refused(r, now))
		return false;
	if (handler->looked != look)
	{
		handler->eligible = queue_run_parked(handler, &hint) == NULL;
		handler->looked = look;
		parked |= !handler->eligible;
	}
	return handler->eligible;
}

TimestampTz
queue_eligible_until(TimestampTz now)
{
	TimestampTz until = DT_NOEND;

	if (looks < lengthof(recheck_after))
		until = now + recheck_after[looks++];
	else if (parked)
		until = now + RECHECK_US;
	for (int i = 0; i < nrefused; i++)
	{
		if (is_refused(&refused[i], now))
			until = Min(until, refused[i].until);
	}
	return until;
}

bool
queue_eligible_refused(QueueRole *role, TimestampTz now)
{
	int64		line_id;
	QueueLine  *line;
	Refused    *r;

	if (role->channel == NULL || !queue_channel_refusal(role->channel, &role->refusals, &line_id))
		return false;
	line = queue_config_line(line_id);
	if (line == NULL || line->handler == NULL)
		return false;
	r = find_refused(line->handler->id);
	if (r == NULL)
	{
		r = &refused[nrefused < MAX_REFUSED ? nrefused++ : (int) (line->handler->id % MAX_REFUSED)];
		r->handler = line->handler->id;
		r->until = 0;
	}
	if (is_refused(r, now))
		return false;			/* told before it took hold */
	r->pause = r->until != 0 && r->until + 2 * r->pause > now ? Min(r->pause * 2, REFUSED_MAX_US) : REFUSED_MIN_US;
	r->until = now + r->pause;
	return true;
}

bool
queue_eligible_changed(TimestampTz *when)
{
	*when = looked_at + LOOK_PAUSE_US;
	return queue_run_catalog_epoch() != seen_epoch;
}
