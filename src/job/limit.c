/*
 * limit.c
 *		The limits of a claim: whether it may be made now, counting for new ones, and how much may be read ahead.
 *
 * claim.c asks here before it writes a claim.  What is in force is known by units in shared memory (shared/unit.h),
 * which are counted when a limit is new, and after a start: nothing is granted before.  Counting goes so:
 *
 *	1. The configuration's generation is bumped, so everybody who claims from now on knows the limit.
 *	2. Transactions that read it before and claim in this queue, or have claimed such kinds there, are waited for
 *	   (shared/census.h); nobody blocks.
 *	3. What is in force gets its units: jobs that executors run (their slots tell), sessions' claims (the lock table),
 *	   and leases (rows).  Each is looked at again after its unit was added: if it ended in between, the unit goes; if
 *	   somebody is about to end it, there is another count later.
 *
 * Executors do not wait to be counted: one says in its slot what it runs, and then looks whether the configuration is
 * still the one that it read.  So either it learns of the limit, or who counts finds it.
 *
 * Locks: AccessShareLock on live_job.
 */
#include "job/limit.h"

#include "config/lines.h"
#include "job/limit_rows.h"
#include "job/walk.h"
#include "shared/census.h"
#include "shared/channel.h"
#include "shared/clock.h"
#include "shared/room.h"
#include "shared/session.h"
#include "shared/slot.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define RETRY_US INT64CONST(20000)	/* who must wait for a count looks again after this */
#define PATIENCE_US INT64CONST(500000)	/* for which a fetch waits for it */

static const char *const limit_names[] = {"queue", "handler", "concurrency key"};

/* ---- counting ---- */

/*
 * The limits of a job.  One in a line for any key counts for its key, too: the queue had no limit by key when it was
 * enqueued, or has none now and may get one.
 */
static const QueueLimits *
limits_of(const QueueLine *line, const char *key, QueueLimits *own)
{
	if (key == NULL || line->key != NULL)
		return line->limits;
	*own = *line->limits;
	own->of[QUEUE_LIMIT_KEY].id = queue_unit_id(line->queue->name, key);
	return own;
}

/* The same of a job that somebody has; to be used before the next call. */
static const QueueLimits *
limits_of_job(QueueJobTable *table, const QueueLine *line, int64 id)
{
	static QueueLimits own;
	QueueJob	job;
	QueueExtra	extra = QUEUE_EXTRA_NONE;

	if (line->key != NULL)
		return line->limits;
	PushActiveSnapshot(GetLatestSnapshot());
	if (queue_job_find_lean(table, id, GetActiveSnapshot(), &job))
		queue_extra_unpack(job.extra, &extra);
	PopActiveSnapshot();
	return limits_of(line, extra.concurrency_key, &own);
}

/* Is this line under the limit that is counted? */
static bool
in_scope(const QueueLine *line, const QueueLimits *limits, QueueLimitOf of)
{
	return line != NULL && line->limits != NULL && line->limits->of[of].id == limits->of[of].id;
}

/* What a walk counts. */
typedef struct Census
{
	const QueueLimits *limits;
	QueueLimitOf of;
	TimestampTz now;
	bool		doubt;			/* somebody is about to end a lease, as if it had no unit */
} Census;

/* Is the job leased, as the latest snapshot sees it? */
static bool
still_leased(QueueJobTable *table, int64 id, TimestampTz now)
{
	QueueJob	job;
	bool		leased;

	PushActiveSnapshot(GetLatestSnapshot());
	leased = queue_job_peek(table, id, GetActiveSnapshot(), &job) && job.leased_until > now;
	PopActiveSnapshot();
	return leased;
}

/* Is a change of the job's row not committed yet?  Whoever made it may have found no unit to give back. */
static bool
is_changing(QueueJobTable *table, int64 id)
{
	SnapshotData dirty;
	QueueJob	job;

	InitDirtySnapshot(dirty);
	return queue_job_peek(table, id, &dirty, &job) &&
		((TransactionIdIsValid(dirty.xmin) && !TransactionIdIsCurrentTransactionId(dirty.xmin)) ||
		 (TransactionIdIsValid(dirty.xmax) && !TransactionIdIsCurrentTransactionId(dirty.xmax)));
}

/* A lease gets its unit, if it lacks that and is in force.  False: that cannot be told now. */
static bool
add_lease(QueueJobTable *table, const QueueLine *line, const QueueJob *job, TimestampTz now)
{
	bool		changing;

	if (!queue_unit_add(limits_of_job(table, line, job->id), QUEUE_UNIT_LEASE, 0, job->id, job->leased_until))
		return true;
	changing = is_changing(table, job->id);
	if (changing || !still_leased(table, job->id, now))
		queue_unit_remove(QUEUE_UNIT_LEASE, 0, job->id);
	return !changing;
}

/* A row: a lease in force gets its unit. */
static void
count_row(QueueJobTable *table, const QueueJob *job, void *arg)
{
	Census	   *census = arg;
	QueueLine  *line;

	if (job->leased_until <= census->now)
		return;
	line = queue_config_line(job->line);
	if (in_scope(line, census->limits, census->of) && !add_lease(table, line, job, census->now))
		census->doubt = true;
}

static void
count_executors(QueueJobTable *table, const Census *census)
{
	pg_memory_barrier();
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		int64		id = (int64) pg_atomic_read_u64(&slot->job_id);
		QueueLine  *line;
		pid_t		pid = slot->pid;

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId || id == 0 || pid == 0)
			continue;
		line = queue_config_line((int64) pg_atomic_read_u64(&slot->line));
		if (!in_scope(line, census->limits, census->of) ||
			!queue_unit_add(limits_of_job(table, line, id), QUEUE_UNIT_RUN, pid, id, DT_NOEND))
			continue;
		queue_census_give(pg_atomic_read_u32(&slot->procno));
		/* it takes notice at its transaction's end, unless that was before */
		if ((int64) pg_atomic_read_u64(&slot->job_id) != id || slot->pid != pid)
			queue_unit_remove(QUEUE_UNIT_RUN, pid, id);
	}
}

static void
count_sessions(QueueJobTable *table, const Census *census)
{
	int64	   *ids;
	pid_t	   *pids;
	int			n = queue_session_any() ? queue_session_list(&ids, &pids) : 0;

	for (int i = 0; i < n; i++)
	{
		QueueJob	job;
		QueueLine  *line = NULL;

		PushActiveSnapshot(GetLatestSnapshot());
		if (queue_job_peek(table, ids[i], GetActiveSnapshot(), &job))
			line = queue_config_line(job.line);
		PopActiveSnapshot();
		if (in_scope(line, census->limits, census->of) &&
			queue_unit_add(limits_of_job(table, line, ids[i]), QUEUE_UNIT_SESSION, pids[i], ids[i], DT_NOEND) &&
			!queue_session_taken(ids[i]))
			queue_unit_remove(QUEUE_UNIT_SESSION, pids[i], ids[i]);
	}
}

static void
count_leases(QueueJobTable *table, Census *census)
{
	QueueLine **lines;
	int			n;
	int64	   *ids;

	lines = queue_lines_all(&n);
	ids = palloc((n + 1) * sizeof(int64));	/* the configuration may be read again */
	for (int i = 0; i < n; i++)
		ids[i] = in_scope(lines[i], census->limits, census->of) ? lines[i]->id : 0;
	for (int i = 0; i < n; i++)
	{
		QueuePlace	from = {ids[i], QUEUE_POS_FIRST};

		if (ids[i] != 0)
			(void) queue_walk(table, &from, (QueuePlace) {ids[i], {DT_NOEND, PG_INT64_MAX}}, census->now, PG_INT64_MAX,
							  count_row, census);
	}
	pfree(ids);
}

/*
 * Everybody reads the configuration again before he claims.  That is said for all limits at once, so that a start with
 * many of them costs one reading.
 */
static void
announce(QueueConfig *config)
{
	uint64		announced;

	queue_database_bump(queue_database());
	announced = queue_census_announce();
	for (int i = 0; i < config->nqueues; i++)
	{
		QueueLimit	limit = config->queues[i]->limit;

		limit.id = queue_unit_id(config->queues[i]->name, NULL);
		if (limit.since != 0)
			queue_unit_announced(&limit, QUEUE_LIMIT_QUEUE, announced);
	}
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueLimit	limit = config->handlers[i]->limit;

		limit.id = (uint64) config->handlers[i]->id;
		if (limit.since != 0)
			queue_unit_announced(&limit, QUEUE_LIMIT_HANDLER, announced);
	}
}

/* Is this limit in force, or one that was taken back or set anew since its line was read? */
static bool
is_current(const QueueConfig *config, const QueueLimit *limit, QueueLimitOf of)
{
	for (int i = 0; i < config->nqueues && of == QUEUE_LIMIT_QUEUE; i++)
	{
		if (queue_unit_id(config->queues[i]->name, NULL) == limit->id)
			return config->queues[i]->limit.since == limit->since;
	}
	for (int i = 0; i < config->nhandlers && of == QUEUE_LIMIT_HANDLER; i++)
	{
		if ((uint64) config->handlers[i]->id == limit->id)
			return config->handlers[i]->limit.since == limit->since;
	}
	return false;
}

/* Does another transaction claim in a queue of the limit's as if there were no limit? */
static bool
somebody_looks(const Census *census, uint64 announced)
{
	QueueConf  *last = NULL;
	QueueLine **lines;
	uint64		kinds = 0;
	int			n;

	if (census->of == QUEUE_LIMIT_QUEUE)
		return queue_census_looks(census->limits->keys.queue_key, QUEUE_CENSUS_KINDS, announced);
	lines = queue_lines_all(&n);
	for (int i = 0; i < n; i++)
	{
		if (in_scope(lines[i], census->limits, census->of))
			kinds |= queue_census_kind(lines[i]->kind_key);
	}
	for (int i = 0; i < n; i++)
	{
		if (lines[i]->queue == last || !in_scope(lines[i], census->limits, census->of))
			continue;
		last = lines[i]->queue;
		if (queue_census_looks(last->key, kinds, announced))
			return true;
	}
	return false;
}

/* Counts for one limit of a line.  False: not yet. */
static bool
count_limit(const QueueLine *line, QueueLimitOf of)
{
	const QueueLimits *limits = line->limits;
	const QueueLimit *limit = &limits->of[of];
	uint64		announced;
	Census		census = {.limits = limits, .of = of, .now = queue_now()};
	QueueJobTable *table;
	QueueConfig *config;

	switch (queue_unit_count_state(limit, of, &announced))
	{
		case QUEUE_COUNT_DONE:
			return true;
		case QUEUE_COUNT_OTHERS:
			return false;
		case QUEUE_COUNT_FIRST:
			config = queue_config();
			if (!is_current(config, limit, of))
				return false;	/* nobody announces it any more: the line must be looked up again */
			announce(config);
			return count_limit(line, of);
		case QUEUE_COUNT_YOURS:
			break;
	}
	if (somebody_looks(&census, announced))
	{
		queue_unit_counted(limit, of, false);
		return false;
	}
	table = queue_job_open(AccessShareLock);
	count_executors(table, &census);
	count_sessions(table, &census);
	count_leases(table, &census);
	queue_job_close(table);
	queue_unit_counted(limit, of, !census.doubt);
	return !census.doubt;
}

/* Counts what is in force under the line's limits, if need be.  False: it cannot be done yet. */
static bool
count(const QueueLine *line)
{
	bool		counted = true;
	int			held;

	if (line->limits == NULL || !queue_preloaded())
		return true;
	held = queue_config_hold();	/* the line belongs to a reading that the bump ends */
	for (int i = 0; i < QUEUE_NLIMITS && counted; i++)
		counted = line->limits->of[i].since == 0 || count_limit(line, i);
	queue_config_release(held);
	return counted;
}

void
queue_limit_seen(QueueJobTable *table, const QueueLine *line, const QueueJob *job)
{
	if (line->limits == NULL || !queue_preloaded())
		return;
	(void) add_lease(table, line, job, queue_now());
}

/* ---- claims ---- */

/* Waits for a while until the line's limits are counted. */
static bool
wait_for_count(const QueueLine *line)
{
	TimestampTz until = queue_now() + PATIENCE_US;

	while (!count(line))
	{
		CHECK_FOR_INTERRUPTS();
		if (queue_now() > until)
			return false;
		pg_usleep(1000L);
	}
	return true;
}

bool
queue_limit_misplaced(const QueueLine *line, const char *key)
{
	const QueueLimit *limit = &line->queue->key_limit;

	return key != NULL && line->key == NULL && (limit->max_running >= 0 || limit->rate_limit >= 0);
}

/* The same limits but for their rates: a lease that goes on is no new claim, nor is a run that is made again. */
static const QueueLimits *
without_rates(const QueueLimits *limits, QueueLimits *own)
{
	*own = *limits;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
		own->of[i].rate_limit = -1;
	return own;
}

bool
queue_limit_admit(const QueueLine *line, const QueueJob *job, const char *key, QueueUnitKind kind, TimestampTz until,
				  bool paid, QueueLimitRefusal *refusal)
{
	QueueUnitRefusal why;
	QueueLimits own;
	QueueLimits unrated;
	const QueueLimits *limits;

	if (likely(line->limits == NULL))
	{
		if (kind == QUEUE_UNIT_RUN && queue_my_slot != NULL)
		{
			queue_census_attach();
			pg_memory_barrier();
			if (unlikely(queue_config_stale()))
			{
				*refusal = (QueueLimitRefusal) {.answer = QUEUE_UNIT_UNCOUNTED, .when = DT_NOEND};
				return false;	/* there may be a limit now */
			}
		}
		return true;
	}
	limits = limits_of(line, key, &own);
	if (!queue_preloaded())
		return queue_limit_rows_admit(line, limits, key, job->id, job->attempt + 1, kind, refusal);
	if (paid)
		limits = without_rates(limits, &unrated);
	for (;;)
	{
		QueueUnitAnswer answer = queue_unit_take(limits, kind, job->id, until, &why);

		if (answer == QUEUE_UNIT_TAKEN)
			return true;
		*refusal = (QueueLimitRefusal) {answer, why.of, limits->of[why.of].id, why.when};
		if (answer != QUEUE_UNIT_UNCOUNTED)
			return false;
		/* the scheduler counts before its workers get the jobs */
		if (queue_my_slot != NULL || !wait_for_count(line))
		{
			refusal->when = queue_now() + RETRY_US;
			return false;
		}
	}
}

/* By what its reader may have the line held back. */
static QueueRoomHold
hold_of(const QueueLine *line)
{
	return (QueueRoomHold) {line->id, queue_note_configured() ? 0 : queue_config_generation()};
}

bool
queue_limit_blocked(const QueueLine *line, QueueLimitRefusal *refusal)
{
	QueueUnitRefusal why;

	if (likely(line->limits == NULL) || !queue_preloaded() ||
		!queue_room_blocked(line->limits, hold_of(line), &why))
		return false;
	*refusal = (QueueLimitRefusal) {QUEUE_UNIT_FULL, why.of, line->limits->of[why.of].id, why.when};
	return true;
}

void
queue_limit_undo(const QueueLine *line, const QueueJob *job, QueueUnitKind kind)
{
	if (line->limits == NULL || !queue_preloaded())
		return;
	if (kind != QUEUE_UNIT_RUN)
		queue_unit_undo(job->id);
}

bool
queue_limit_extend(const QueueLine *line, const QueueJob *job, TimestampTz until)
{
	QueueExtra	extra;
	QueueLimits own;
	QueueLimits unrated;
	const QueueLimits *limits;
	QueueLimitRefusal refusal;

	if (likely(line->limits == NULL))
		return true;
	queue_extra_unpack(job->extra, &extra);
	limits = limits_of(line, extra.concurrency_key, &own);
	if (!queue_preloaded())
		return job->leased_until > queue_now() ||
			queue_limit_rows_admit(line, without_rates(limits, &unrated), extra.concurrency_key, job->id, job->attempt,
								   QUEUE_UNIT_LEASE, &refusal);
	return !wait_for_count(line) || queue_unit_extend(limits, job->id, until);
}

char *
queue_limit_explain(const QueueLine *line)
{
	if (line->limits == NULL || !queue_preloaded())
		return NULL;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		const QueueLimit *limit = &line->limits->of[i];
		const char *name = i == QUEUE_LIMIT_QUEUE ? line->queue->name :
			i == QUEUE_LIMIT_HANDLER ? (line->handler != NULL ? line->handler->kind : "") : line->key;
		TimestampTz when;

		if (limit->id == 0)
			continue;
		if (i >= QUEUE_LIMIT_RESERVED)
		{
			if (line->served && queue_room_taken(limit, i) >= queue_limit_most(limit))
				return psprintf("%d of %d executors are reserved for more urgent jobs of queue %s, and %d run others",
								Min(limit->reserved, queue_executors - 1), queue_executors, line->queue->name,
								queue_room_taken(limit, i));
			continue;
		}
		if (limit->max_running >= 0)
		{
			int			taken = queue_room_taken(limit, i);

			if (taken >= limit->max_running)
				return psprintf("max_running of %s %s is %d, and %d run", limit_names[i], name, limit->max_running,
								taken);
		}
		if (limit->rate_limit == 0)
			return psprintf("rate_limit of %s %s is 0", limit_names[i], name);
		if (limit->rate_limit > 0 && queue_room_tokens(limit, i, queue_now(), &when) == 0)
			return psprintf("rate_limit of %s %s: the next may start at %s", limit_names[i], name,
							timestamptz_to_str(when));
	}
	return NULL;
}

/* ---- how much is read ahead ---- */

typedef struct TallyKey
{
	uint64		id;
	uint64		of;
} TallyKey;

typedef struct TallyEntry
{
	TallyKey	key;
	int			pending;		/* read, and not claimed yet */
	int			room;			/* as the meter said last */
	bool		asked;
	bool		full;			/* no more in this round */
} TallyEntry;

struct QueueTally
{
	HTAB	   *entries;
	bool		begun;			/* what waits in channels is counted: since the first line with limits */
	TimestampTz now;
	TimestampTz when;
};

static TallyEntry *
tally_entry(QueueTally *tally, const QueueLimits *limits, QueueLimitOf of)
{
	TallyKey	key = {limits->of[of].id, of};
	bool		found;
	TallyEntry *entry = hash_search(tally->entries, &key, HASH_ENTER, &found);

	if (!found)
		memset((char *) entry + sizeof(key), 0, sizeof(*entry) - sizeof(key));
	return entry;
}

/* One more job of this line was read. */
static void
use(QueueTally *tally, const QueueLine *line)
{
	if (tally == NULL || line->limits == NULL || !tally->begun)
		return;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (line->limits->of[i].id != 0)
			tally_entry(tally, line->limits, i)->pending++;
	}
}

/* Counts what waits in the channels of this database. */
static void
tally_channels(QueueTally *tally)
{
	QueueEntry *entries = palloc(QUEUE_CHANNEL_SIZE * sizeof(QueueEntry));

	tally->begun = true;
	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *channel = queue_channel_nth(i);
		int			n;

		if (channel == NULL || channel->db != MyDatabaseId)
			continue;
		n = queue_channel_copy(channel, entries);
		for (int j = 0; j < n; j++)
		{
			QueueLine  *line = queue_config_line(entries[j].line);

			if (line != NULL)
				use(tally, line);
		}
	}
	pfree(entries);
}

QueueTally *
queue_tally_begin(TimestampTz now)
{
	QueueTally *tally;
	HASHCTL		ctl = {.keysize = sizeof(TallyKey), .entrysize = sizeof(TallyEntry), .hcxt = CurrentMemoryContext};

	if (!queue_config()->limited)
		return NULL;
	tally = palloc0(sizeof(QueueTally));
	tally->entries = hash_create("queue tally", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	tally->now = now;
	tally->when = DT_NOEND;
	return tally;
}

/* Has one limit of a line room for one more?  If not, who gives back wakes the scheduler. */
static bool
limit_room(QueueTally *tally, const QueueLine *line, QueueLimitOf of)
{
	QueueLimit	limit = line->limits->of[of];
	TallyEntry *entry;
	TimestampTz when;

	if (limit.gated)
		limit.max_running = -1;
	if (limit.id == 0 || (queue_limit_most(&limit) < 0 && limit.rate_limit < 0))
		return true;
	entry = tally_entry(tally, line->limits, of);

	if (entry->full)
		return false;
	if (entry->asked && entry->pending < entry->room)
		return true;
	entry->asked = true;
	entry->room = queue_room(&limit, of, entry->pending + 1, hold_of(line), tally->now, &when);
	if (entry->pending < entry->room)
		return true;
	entry->full = true;
	tally->when = Min(tally->when, when);
	return false;
}

bool
queue_tally_room(QueueTally *tally, const QueueLine *line)
{
	if (tally == NULL || line->limits == NULL)
		return true;
	if (!tally->begun)
		tally_channels(tally);
	if (!count(line))
	{
		tally->when = Min(tally->when, tally->now + RETRY_US);
		return false;
	}
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (!limit_room(tally, line, i))
			return false;
	}
	return true;
}

bool
queue_tally_next(QueueTally *tally, QueueReady *ready, QueueJob *job, QueueLine **line)
{
	while (queue_ready_next(ready, job, line))
	{
		if (queue_tally_room(tally, *line))
		{
			use(tally, *line);
			return true;
		}
		queue_ready_skip(ready);
	}
	return false;
}

int
queue_tally_others(QueueTally *tally, const QueueHandler *handler, int own)
{
	QueueLimit	limit = handler->limit;
	TimestampTz when;
	int			others;

	if (limit.max_running < 0)
		return 0;
	limit.id = (uint64) handler->id;
	others = queue_room_others(&limit, QUEUE_LIMIT_HANDLER, own, &when);
	if (tally != NULL)
		tally->when = Min(tally->when, when);
	return others;
}

bool
queue_tally_shut(const QueueTally *tally, const QueueLine *line)
{
	TallyEntry *entry;
	TallyKey	key;

	if (tally == NULL || line->limits == NULL)
		return false;
	key = (TallyKey) {line->limits->of[QUEUE_LIMIT_QUEUE].id, QUEUE_LIMIT_QUEUE};
	entry = hash_search(tally->entries, &key, HASH_FIND, NULL);
	return entry != NULL && entry->full;
}

TimestampTz
queue_tally_when(const QueueTally *tally)
{
	return tally == NULL ? DT_NOEND : tally->when;
}
