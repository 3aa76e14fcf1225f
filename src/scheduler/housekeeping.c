/*
 * housekeeping.c
 *		The scheduler's housekeeping in the tables of its database.
 *
 * Owns two chores (chores.c runs them; each call is one slice, in the runner's transaction):
 *
 * - Retention: finished_job and failure are rings of tables (record.c); a table at rest is
 *   truncated under a conditional lock, so that nobody ever waits for it.  One that is in use is tried again each
 *   minute; one that was in use all the time that it was at rest goes a turn later.  Where a queue keeps its jobs for
 *   another time than when they ended, a table may go before its time, or leave rows to others (rekeep.c).
 * - Recount: the gauges of counter.c are set right by a scan of live_job, in slices.
 *
 * Locks: AccessExclusiveLock on one ring table, conditional; else what a scan takes.
 */
#include "scheduler/housekeeping.h"

#include "job/dependency.h"
#include "job/finish.h"
#include "job/job.h"
#include "job/missing.h"
#include "job/ready.h"
#include "job/record.h"
#include "job/rekeep.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/lease.h"
#include "shared/session.h"

#include "access/relation.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define RETENTION_US (10 * USECS_PER_MINUTE)
#define IN_USE_US USECS_PER_MINUTE	/* until a table that is in use is tried again */
#define RECOUNT_US (60 * USECS_PER_SEC)
#define FAR_US (30 * USECS_PER_SEC)
#define SOON_US USECS_PER_SEC	/* between two recounts because the time of a job has passed */
#define QUIET_US USECS_PER_SEC	/* without a change, after a recount that met some */
#define SOON_SHARE 200			/* and at least so many times what the last one took */
#define RECOUNT_BLOCKS 256
#define HASTY_RECOUNTS 5		/* after a start: those before may have met changes, and all numbers come from them */

static TimestampTz recount_at = 0;

/* For tables of finished jobs whose queues' keep_* changed: when the row that was seen last may go. */
static TimestampTz rekeep_at[QUEUE_KEPT_SLOTS];
static uint64 rekeep_serial = 0;	/* of the configuration that these are for */

/* Shall a table of finished jobs be looked into because a queue keeps its jobs for another time now? */
static bool
rekept(int slot, TimestampTz now, bool at_rest)
{
	QueueConfig *config = queue_config();

	/* in the last one also lie, whatever their queues keep, jobs about which somebody has to decide */
	if (slot == QUEUE_RING_SLOTS - 1 || !queue_rekeep_changed(slot, now))
		return false;
	if (rekeep_serial != config->serial)
	{
		rekeep_serial = config->serial;
		memset(rekeep_at, 0, sizeof(rekeep_at));
	}
	return at_rest || rekeep_at[slot] <= now;
}

/*
 * Truncates one ring table if it has rows and is at rest.  With `look` what its rows' queues say now decides: it goes
 * if they keep none of them, and if it is at rest what they keep longer, or live jobs depend on, is copied before.
 * False: it was to be emptied, or may have been, but somebody uses it.
 */
static bool
truncate_ring_table(QueueJobTable *jobs, Oid relid, int slot, bool look)
{
	Relation	rel;
	TimestampTz expired_at;
	TimestampTz reused_at;
	bool		truncate;
	int64		moved = 0;
	char	   *command;

	/* look first: an exclusive lock is written to the WAL, and standbys wait with it */
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	truncate = rel != NULL && RelationGetNumberOfBlocks(rel) > 0;
	if (truncate && look && !queue_ring_window(slot, queue_now(), &expired_at, &reused_at))
	{
		rekeep_at[slot] = queue_rekeep_needed(jobs, rel, queue_now());
		truncate = rekeep_at[slot] == DT_NOBEGIN;
	}
	if (rel != NULL)
		relation_close(rel, NoLock);
	UnlockRelationOid(relid, AccessShareLock);
	if (!truncate)
		return true;
	/* what hangs on the table (its toast table, indexes) is waited for, but not for long */
	(void) set_config_option("lock_timeout", "1s", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		return true;
	/* the clock is read again under the lock: no row of the next turn can be there, none can come in */
	truncate = queue_ring_window(slot, queue_now(), &expired_at, &reused_at);
	if (look && truncate)
		moved = queue_rekeep_move(jobs, rel, slot, queue_now());
	else if (look)
		truncate = queue_rekeep_needed(jobs, rel, queue_now()) == DT_NOBEGIN;
	truncate = truncate && moved >= 0 && RelationGetNumberOfBlocks(rel) > 0;
	command = psprintf("TRUNCATE ONLY %s",
					   quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel)));
	relation_close(rel, NoLock);
	if (!truncate)
		return true;
	SPI_connect();
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not truncate a ring table");
	SPI_finish();
	if (moved > 0)
		queue_log("retention", "%s; " INT64_FORMAT " jobs that are kept longer now were moved", command, moved);
	else
		queue_log("retention", "%s", command);
	return true;
}

/* Chore: the tables of the rings that are due, one a slice.  One that cannot be emptied stops no other. */
TimestampTz
queue_housekeeping_retention(TimestampTz now)
{
	static int	next_table = 0;
	static TimestampTz begun_at;	/* this turn */
	static uint64 failed = 0;	/* tables of this turn */
	static uint64 in_use = 0;	/* tables, when they were last looked at */

	/* tables that a turn has passed wait from its beginning on: should the clock be set ahead meanwhile, not at all */
	begun_at = next_table == 0 ? now : Min(begun_at, now);
	while (next_table < QUEUE_KEPT_SLOTS + 2 * QUEUE_RING_SLOTS)
	{
		TimestampTz expired_at;
		TimestampTz reused_at;
		bool		finished = next_table < QUEUE_KEPT_SLOTS;
		int			slot = finished ? next_table : (next_table - QUEUE_KEPT_SLOTS) % QUEUE_RING_SLOTS;
		Oid			table = finished ? queue_config()->finished_job[slot] :
			next_table < QUEUE_KEPT_SLOTS + QUEUE_RING_SLOTS ? queue_config()->failure[slot] :
			queue_config()->log_line[slot];
		bool		at_rest = queue_ring_window(slot, queue_now(), &expired_at, &reused_at);
		bool		look = finished && (rekept(slot, queue_now(), at_rest) || (at_rest && !queue_dependency_none()));
		uint64		bit = (uint64) 1 << next_table++;
		QueueJobTable *jobs;

		/* who needs them, and for how long their queues keep them, may still be to come */
		if ((!at_rest && !look) || (finished && queue_missing_restoring()))
		{
			in_use &= ~bit;
			continue;
		}
		failed |= bit;			/* unless we come back */
		jobs = look ? queue_job_open(AccessShareLock) : NULL;
		PushActiveSnapshot(GetTransactionSnapshot());
		if (truncate_ring_table(jobs, table, slot, look))
			in_use &= ~bit;
		else
		{
			if ((in_use & bit) == 0)
				queue_log("retention", "%s is in use, and is emptied when it no longer is", get_rel_name(table));
			in_use |= bit;
		}
		PopActiveSnapshot();
		if (jobs != NULL)
			queue_job_close(jobs);
		failed &= ~bit;
		return now;
	}
	next_table = 0;
	if (failed != 0)
	{
		failed = 0;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a table of finished jobs, errors or log lines whose time is over could not be emptied"),
				 errhint("The error before this one tells why.")));
	}
	return begun_at + (in_use != 0 ? IN_USE_US : RETENTION_US);
}

/* Chore: events whose time is over and that no unfinished job has awaited, a batch a slice. */
TimestampTz
queue_housekeeping_events(TimestampTz now)
{
	Oid			type = TIMESTAMPTZOID;
	/* an await may just have seen one that was not too old: its row is there before this comes */
	Datum		before = TimestampTzGetDatum(now - (int64) queue_keep_events * USECS_PER_SEC - USECS_PER_MINUTE);
	uint64		n;

	if (queue_database_lately_loaded(USECS_PER_DAY) != 0)
		return now + RETENTION_US;	/* who awaits them may still be to come */
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (SPI_execute_with_args("DELETE FROM queue.event WHERE id = ANY (ARRAY("
							  "SELECT e.id FROM queue.event e WHERE e.emitted_at < $1 AND NOT EXISTS"
							  " (SELECT FROM queue.event_wait w WHERE w.queue = e.queue AND w.event = e.name)"
							  " ORDER BY e.emitted_at LIMIT 1000))",
							  1, &type, &before, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete old events");
	n = SPI_processed;
	SPI_finish();
	PopActiveSnapshot();
	return n >= 1000 ? now : now + RETENTION_US;
}

/* ---- recount ---- */

/* What was found of a queue, or of a kind in one. */
typedef struct Count
{
	QueueCounter *place;		/* the key */
	uint64		incarnation;
	int64		before[QUEUE_NSTATES];
	int64		rows[QUEUE_NSTATES];
	int64		due[QUEUE_NSTATES];
} Count;

static HTAB *counts = NULL;		/* of the recount that is under way; NULL: none is */
static bool recount_cut = false;	/* an error cut a slice of it short, so rows would be counted twice */
static BlockNumber recount_block;
static TimestampTz recount_began;
static int64 recount_spent;
static TimestampTz recount_due;	/* when a row that was not due falls due */
static uint64 recount_seen = 0; /* activity when the last recount began */
static int	recounts = 0;		/* since the start */
static bool recount_met = false;	/* the last one met changes, and may have counted them twice */
static uint64 recount_left;		/* activity when it ended */
static TimestampTz recount_trust = 0;	/* who tells until then of what it did may have been met, too; 0: looked */
static uint64 quiet_seen = 0;	/* activity when it was looked at last, */
static TimestampTz quiet_since = 0; /* and since when it has been so */

/*
 * A number that changes whenever a queue of this database has done anything, or a job of it has gone from one state to
 * another; *waiting: rows filed as not due at once.
 */
static uint64
activity(uint64 *waiting)
{
	QueueConfig *config = queue_config();
	uint64		sum = 0;

	*waiting = 0;
	for (int i = 0; i < config->nqueues; i++)
	{
		QueueCounter *c = queue_counter(config->queues[i]->counter, false);

		if (c == NULL)
			continue;
		sum += pg_atomic_read_u64(&c->enqueued) + pg_atomic_read_u64(&c->failed);
		for (int s = 0; s < QUEUE_NSTATES; s++)
			sum += pg_atomic_read_u64(&c->ended[s]) + ((uint64) s << 32) * pg_atomic_read_u64(&c->gauge[s]);
		*waiting += pg_atomic_read_u64(&c->gauge[QUEUE_STATE_SCHEDULED]) +
			pg_atomic_read_u64(&c->gauge[QUEUE_STATE_RETRYABLE]);
	}
	return sum;
}

/* The count of a place in the recount under way, which begins with its gauges as they are; NULL for none. */
static Count *
count_of(QueueCounter *place)
{
	Count	   *count;
	bool		found;

	if (place == NULL)
		return NULL;
	count = hash_search(counts, &place, HASH_ENTER, &found);
	if (found && count->incarnation == place->incarnation)
		return count;
	memset(count, 0, sizeof(Count));
	count->place = place;
	count->incarnation = place->incarnation;
	for (int s = 0; s < QUEUE_NSTATES; s++)
		count->before[s] = (int64) pg_atomic_read_u64(&place->gauge[s]);
	return count;
}

/* Counts a row for a queue or kind. */
static void
count_row(Count *count, QueueState state, bool due)
{
	if (count == NULL)
		return;
	count->rows[state]++;
	if (due)
		count->due[state]++;
}

/* Gives the statistics of handlers that are gone up. */
static void
forget_handlers(QueueConfig *config)
{
	int64	   *ids = palloc((config->nhandlers + 1) * sizeof(int64));

	for (int i = 0; i < config->nhandlers; i++)
		ids[i] = config->handlers[i]->id;
	queue_kind_stat_keep(ids, config->nhandlers);
	pfree(ids);
}

/* Remembers the gauges as they are, so that what changes during the scan is kept. */
static void
recount_begin(TimestampTz now)
{
	QueueConfig *config = queue_config();
	HASHCTL ctl = {.keysize = sizeof(QueueCounter *), .entrysize = sizeof(Count), .hcxt = TopMemoryContext};
	QueueKindCounter **kinds;
	int			nkinds;

	if (counts != NULL)
		hash_destroy(counts);
	counts = NULL;
	recount_cut = false;
	if (queue_database() != NULL)
		queue_database_forget_waiting(queue_database());	/* before the first snapshot */
	forget_handlers(config);
	recount_block = 0;
	recount_began = now;
	recount_spent = 0;
	counts = hash_create("queue recount", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < config->nqueues; i++)
		(void) count_of(queue_counter(config->queues[i]->counter, true));
	kinds = queue_counter_kinds(&nkinds);
	for (int i = 0; i < nkinds; i++)
		(void) count_of(&kinds[i]->counter);
	pfree(kinds);
	recount_due = DT_NOEND;
}

/* The scan is through: puts the numbers in place. */
static void
recount_end(void)
{
	HASH_SEQ_STATUS seq;
	Count	   *count;
	uint64		waiting;
	bool		hasty;

	recount_met = activity(&waiting) != recount_seen;
	hasty = recounts++ < HASTY_RECOUNTS && recount_met;
	hash_seq_init(&seq, counts);
	while ((count = hash_seq_search(&seq)) != NULL)
	{
		QueueCounter *c = count->place;

		if (c->incarnation != count->incarnation)
			continue;			/* given up meanwhile */
		for (int s = QUEUE_STATE_SCHEDULED; s <= QUEUE_STATE_RETRYABLE; s++)
			pg_atomic_fetch_add_u64(&c->gauge[s], count->rows[s] - count->before[s]);
		pg_atomic_write_u64(&c->due_scheduled, (uint64) count->due[QUEUE_STATE_SCHEDULED]);
		pg_atomic_write_u64(&c->due_retryable, (uint64) count->due[QUEUE_STATE_RETRYABLE]);
	}
	hash_destroy(counts);
	counts = NULL;
	recount_left = activity(&waiting);
	recount_trust = queue_now() + QUIET_US;
	recount_at = recount_began + (hasty ? Max(SOON_US, 10 * recount_spent) : Max(RECOUNT_US, 100 * recount_spent));
}

/* One slice of the scan: RECOUNT_BLOCKS blocks under a snapshot of their own. */
static void
recount_slice(void)
{
	TimestampTz began = queue_now();
	QueueJobTable *table = queue_job_open(AccessShareLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(table->rel);

	if (recount_block < nblocks)
	{
		ItemPointerData low;
		ItemPointerData high;
		TableScanDesc scan;
		MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "queue recount", ALLOCSET_SMALL_SIZES);
		MemoryContext old = CurrentMemoryContext;

		ItemPointerSet(&low, recount_block, FirstOffsetNumber);
		ItemPointerSet(&high, Min(nblocks, recount_block + RECOUNT_BLOCKS) - 1, MaxOffsetNumber);
		PushActiveSnapshot(GetLatestSnapshot());
		scan = table_beginscan_tidrange(table->rel, GetActiveSnapshot(), &low, &high);
		MemoryContextSwitchTo(per_row);
		while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, table->slot))
		{
			QueueJob	job;
			QueueLine  *line;
			QueueState	state;

			MemoryContextReset(per_row);
			queue_job_read_lean(table->slot, &job);
			line = queue_config_line(job.line);
			if (line == NULL || line->gone)
				continue;
			state = queue_job_filed(&job);
			count_row(count_of(queue_counter(line->queue->counter, true)), state, job.run_at <= began);
			count_row(count_of(queue_counter(queue_line_counter(line), true)), state, job.run_at <= began);
			if (job.run_at > began)
				recount_due = Min(recount_due, job.run_at);
		}
		MemoryContextSwitchTo(old);
		table_endscan(scan);
		PopActiveSnapshot();
		MemoryContextDelete(per_row);
		recount_block += RECOUNT_BLOCKS;
	}
	recount_spent += queue_now() - began;
	if (recount_block >= nblocks)
		recount_end();
	queue_job_close(table);
}

/*
 * When a recount that met changes is to be done again: as soon as there are none for a while.  A change that is told
 * soon after its end is one that it met, for all we know: between a COMMIT, which the scan sees, and what is told of it
 * a process may lose the CPU.
 */
static TimestampTz
recount_quiet(TimestampTz now, uint64 seen)
{
	if (!recount_met && now < recount_trust)
		return recount_trust;
	recount_met |= recount_trust != 0 && seen != recount_left;
	recount_trust = 0;
	if (!recount_met)
		return DT_NOEND;
	if (seen != quiet_seen || quiet_since == 0)
	{
		quiet_seen = seen;
		quiet_since = now;
	}
	return Max(quiet_since + QUIET_US, recount_began + 10 * recount_spent);
}

/*
 * When a job that waits falls due, those that the last recount saw and those that are new; but not soon after the last
 * recount, the later the longer that took.
 */
TimestampTz
queue_housekeeping_recount_due(void)
{
	TimestampTz soon = recount_began + Max(SOON_US, SOON_SHARE * recount_spent);
	TimestampTz due;

	if (counts != NULL || queue_database() == NULL)
		return DT_NOEND;		/* the one under way sees them */
	due = Min(recount_due, (TimestampTz) pg_atomic_read_u64(&queue_database()->waiting_low));
	return due == DT_NOEND ? DT_NOEND : Max(due, Min(soon, recount_at));
}

/* Chore: sets the gauges right when something has happened since they were; one slice of the scan. */
TimestampTz
queue_housekeeping_recount(TimestampTz now)
{
	if (counts == NULL && now < recount_began)
	{
		/* the clock was set back, and what waits for a time of the former one would do so for as long */
		recount_at = 0;
		quiet_since = 0;
	}
	if (counts == NULL)
	{
		uint64		waiting;
		uint64		seen = activity(&waiting);
		bool		due = queue_housekeeping_recount_due() <= now;
		TimestampTz quiet;

		if (due && waiting == 0)
		{
			/* all of them were claimed */
			queue_database_forget_waiting(queue_database());
			recount_due = DT_NOEND;
			due = false;
		}
		if (!due && now < recount_at && now < (quiet = recount_quiet(now, seen)))
			return Min(recount_at, quiet);
		/* what changes while it is counted may be counted twice: so again, until nothing has happened meanwhile */
		if (!due && recount_at != 0 && seen == recount_seen)
			return now + FAR_US;
		recount_seen = seen;
		recount_begin(now);
	}
	else if (recount_cut)
		recount_begin(now);
	recount_cut = true;
	recount_slice();
	recount_cut = false;
	return counts != NULL ? now : Min(recount_at, now + QUIET_US);
}
