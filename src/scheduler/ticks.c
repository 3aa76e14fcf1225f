/*
 * ticks.c
 *		The ticks of schedules: the scheduler's chore, queue.tick(), and what queue.maintain() does of it.
 *
 * A tick is made by whoever comes first, the scheduler or a session, and once: he locks the schedule's row of
 * schedule_state, reads how far it has come, enqueues what is due, and moves `reached` on, all in one transaction.  A
 * row that another holds is left to him.  `reached` only rises, so a tick does not come again, whatever the clock does.
 *
 * Several schedules share a transaction (BATCH), in a subtransaction; if that fails they go one by one, each in its
 * own, so that one that cannot enqueue stops no other.  It is tried again after a pause that doubles, and is not done
 * with its ticks meanwhile: those that are then younger than catch_up come late.
 *
 * The scheduler keeps in memory when each schedule ticks next, and reads them again when the configuration changed; so
 * schedules that have nothing due cost nothing.  A session reads all of them.
 *
 * Locks: the row locks of schedule_state, never waited for; then those of an enqueue, waited for no longer than
 * LOCK_WAIT.  While a job that is to be replaced is in somebody's hands, its schedule waits for him, and no process
 * does.
 */
#include "scheduler/ticks.h"

#include "api/arguments.h"
#include "api/clocks.h"
#include "api/schedule.h"
#include "job/finish.h"
#include "lib/attempt.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define BATCH 32				/* schedules a transaction */
#define MAX_TICKS 100			/* that one schedule catches up at once */
#define PROMPT_US USECS_PER_MINUTE	/* a tick is not missed before, whatever catch_up says */
#define LOCK_RETRY_US INT64CONST(100000)
#define LOCKED_US USECS_PER_SEC	/* a row that another holds is looked at again */
#define BUSY_MIN_US INT64CONST(10000)	/* so is a job that is to be replaced, after a pause that doubles */
#define BUSY_MAX_US INT64CONST(250000)	/* within the time that executors leave a cancelled job alone */
#define RETRY_MIN_US USECS_PER_SEC	/* and a schedule that failed */
#define RETRY_MAX_US (5 * USECS_PER_MINUTE)
#define CONFLICT_MAX_US (10 * USECS_PER_SEC)	/* or one whose key, say, somebody holds in an open transaction */
#define LOCK_WAIT "50ms"

PG_FUNCTION_INFO_V1(queue_sql_tick);

/* A schedule, and when it is looked at next. */
typedef struct Entry
{
	char	   *name;
	TimestampTz next;
	int64		pause;			/* since when it fails or waits; 0: it does not */
} Entry;

typedef struct Entries
{
	MemoryContext context;
	Entry	   *entries;
	int			n;
	TimestampTz next;			/* of the first of them */
} Entries;

/* What came of a look at a schedule. */
typedef struct Look
{
	TimestampTz next;			/* look again then */
	bool		busy;			/* a job that is to be replaced has not ended */
	int64		jobs;			/* enqueued */
} Look;

/* The scheduler's. */
static Entries scheduled;
static uint64 seen_generation = 0;	/* of the configuration when they were read; 0: never */
static TimestampTz seen_now = DT_NOBEGIN;	/* when they were looked at last */

/* ---------------------------------------------------------------- one tick */

/* Is the job unfinished? */
static bool
is_live(int64 id)
{
	QueueJobTable *table;
	QueueJob	job;
	bool		live;

	if (id == 0)
		return false;
	table = queue_job_open(AccessShareLock);
	PushActiveSnapshot(GetLatestSnapshot());
	live = queue_job_peek(table, id, GetActiveSnapshot(), &job);
	PopActiveSnapshot();
	queue_job_close(table);
	return live;
}

/*
 * Cancels the job of a former tick; false: somebody has it in hand.  An executor that runs it is told to let go, and
 * leaves the row alone for a moment then, in which the next look finds it.
 */
static bool
cancel_job(const QueueSchedule *schedule)
{
	int64		id = schedule->last_job;
	char	   *reason = psprintf("replaced by the next tick of schedule \"%s\"", schedule->name);
	QueueJobTable *table = queue_job_open(RowExclusiveLock);
	TM_Result	result = TM_Updated;

	while (result == TM_Updated || result == TM_SelfModified)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;

		CHECK_FOR_INTERRUPTS();
		result = TM_Deleted;
		if (queue_job_find_lean(table, id, snapshot, &job))
			result = queue_finish_end(table, &job, job.attempt, QUEUE_STATE_CANCELLED,
									  &(QueueEnding) {.error = reason}, snapshot, false);
		PopActiveSnapshot();
		CommandCounterIncrement();
	}
	queue_job_close(table);
	if (result == TM_BeingModified || result == TM_WouldBlock)
	{
		(void) queue_slot_cancel(MyDatabaseId, id);
		return false;
	}
	queue_slot_cancel_done(MyDatabaseId, id);
	return true;
}

/* Enqueues the job of a tick, unless its unique key is taken. */
static void
enqueue(QueueSchedule *schedule, TimestampTz tick, TimestampTz now, int64 *jobs)
{
	QueueEnqueued outcome;
	int64		id = queue_schedule_enqueue(schedule, tick, now, &outcome);

	CommandCounterIncrement();	/* the next tick looks at this job */
	if (outcome == QUEUE_ENQUEUED_EXISTING)
		schedule->skipped++;
	else
	{
		schedule->last_job = id;
		(*jobs)++;
	}
}

/* Makes one tick; false: it cannot be made before the job of the last one has ended. */
static bool
make_tick(QueueSchedule *schedule, TimestampTz tick, TimestampTz now, int64 *jobs)
{
	if (schedule->expires_after > 0 && queue_time_add(tick, schedule->expires_after) <= now)
		schedule->missed++;
	else
	{
		if (schedule->overlap == QUEUE_OVERLAP_REPLACE && is_live(schedule->last_job) && !cancel_job(schedule))
			return false;
		if (schedule->overlap == QUEUE_OVERLAP_SKIP && is_live(schedule->last_job))
			schedule->skipped++;
		else
			enqueue(schedule, tick, now, jobs);
		schedule->last_tick = tick;
	}
	schedule->reached = Max(schedule->reached, tick);
	return true;
}

/* Makes the ticks that are due; false: one has to wait.  What is too old is counted. */
static bool
make_ticks(QueueSchedule *schedule, TimestampTz now, int64 *jobs)
{
	const QueueCron *cron = &schedule->cron;
	TimestampTz until = Min(now, schedule->ends_at);
	TimestampTz from = Max(schedule->reached, schedule->starts_at == DT_NOBEGIN ? DT_NOBEGIN : schedule->starts_at - 1);
	TimestampTz oldest = queue_time_add(now, -Max(schedule->catch_up, PROMPT_US)) - 1;
	bool		made = true;

	if (from < oldest)
	{
		oldest = Min(oldest, until);
		schedule->missed += queue_cron_count(cron, schedule->zone, from, oldest);
		schedule->reached = from = Max(from, oldest);
	}
	/* of those of a line in seconds, and of those of which each would replace the one before, only the newest comes */
	if (schedule->missed_last || cron->seconds > 0 || schedule->overlap == QUEUE_OVERLAP_REPLACE)
	{
		TimestampTz tick = queue_cron_last(cron, schedule->zone, from, until);

		if (tick == DT_NOBEGIN)
			return true;
		schedule->missed += queue_cron_count(cron, schedule->zone, from, tick) - 1;
		schedule->reached = tick - 1;
		return make_tick(schedule, tick, now, jobs);
	}
	for (int i = 0; i < MAX_TICKS && made; i++)
	{
		TimestampTz tick = queue_schedule_next(schedule);

		CHECK_FOR_INTERRUPTS();
		if (tick > until)
			break;
		made = make_tick(schedule, tick, now, jobs);
	}
	return made;
}

/* ---------------------------------------------------------------- one schedule */

/* A statement about schedules, whose plan is kept.  In an SPI section. */
static uint64
run_kept(SPIPlanPtr *plan, const char *sql, QueueParams *params)
{
	int			result;

	if (*plan == NULL)
	{
		*plan = SPI_prepare(sql, params->n, params->types);
		if (*plan == NULL || SPI_keepplan(*plan) != 0)
			elog(ERROR, "SPI_prepare failed: %s", sql);
	}
	result = SPI_execute_plan(*plan, params->values, params->nulls, false, 0);
	if (result < 0)
		elog(ERROR, "SPI failed (%s): %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}

/* Locks the row that says how far a schedule has come; false: somebody has it, or there is none. */
static bool
lock_state(const char *name)
{
	static SPIPlanPtr plan = NULL;
	QueueParams params = {0};

	queue_param(&params, TEXTOID, CStringGetTextDatum(name), false);
	return run_kept(&plan, "SELECT FROM queue.schedule_state WHERE name = $1 FOR UPDATE SKIP LOCKED", &params) > 0;
}

/* Reads a schedule as it is now; false: it is not there any more. */
static bool
read_schedule(const char *name, QueueSchedule *schedule)
{
	static SPIPlanPtr plan = NULL;
	QueueParams params = {0};

	queue_param(&params, TEXTOID, CStringGetTextDatum(name), false);
	if (run_kept(&plan, QUEUE_SCHEDULE_SELECT "WHERE s.name = $1", &params) == 0)
		return false;
	queue_schedule_read(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, schedule);
	return true;
}

static void
write_state(const QueueSchedule *schedule)
{
	static SPIPlanPtr plan = NULL;
	QueueParams params = {0};

	queue_param(&params, TEXTOID, CStringGetTextDatum(schedule->name), false);
	queue_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(schedule->reached), false);
	queue_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(schedule->last_tick), schedule->last_tick == 0);
	queue_param(&params, INT8OID, Int64GetDatum(schedule->last_job), schedule->last_job == 0);
	queue_param(&params, INT8OID, Int64GetDatum(schedule->missed), false);
	queue_param(&params, INT8OID, Int64GetDatum(schedule->skipped), false);
	(void) run_kept(&plan, "UPDATE queue.schedule_state SET reached = $2, last_tick = $3, last_job_id = $4,"
					" missed = $5, skipped = $6, reason = NULL WHERE name = $1", &params);
}

/* Looks at one schedule and makes what is due.  In an SPI section, in a subtransaction of its own or of its batch. */
static Look
look_at(const char *name, TimestampTz now)
{
	Look		look = {.next = DT_NOEND};
	QueueSchedule schedule;
	const char *problem;
	const char *hint;
	TimestampTz before;

	if (!lock_state(name))
		return (Look) {.next = now + LOCKED_US};
	/* locked: what changed it is committed by now, and seen */
	if (!read_schedule(name, &schedule) || schedule.paused_at != 0 || !schedule.adopted)
		return look;
	look.next = queue_schedule_next(&schedule);
	if (look.next > now && schedule.broken == NULL)
		return look;
	problem = queue_schedule_problem(&schedule, &hint);
	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", problem), errhint("%s", hint)));
	before = schedule.reached;
	look.busy = !make_ticks(&schedule, now, &look.jobs);
	if (schedule.reached != before || schedule.reason != NULL)
		write_state(&schedule);
	look.next = look.busy ? now : queue_schedule_next(&schedule);
	return look;
}

/* Notes why a schedule failed, unless that is known.  Behind no boundary: an error is the chore's. */
static void
note_reason(const char *name, const ErrorData *error)
{
	QueueSpi	spi;
	QueueParams params = {0};
	uint64		changed = 0;

	PushActiveSnapshot(GetTransactionSnapshot());	/* statements want one around them */
	queue_spi_begin(&spi);
	queue_param(&params, TEXTOID, CStringGetTextDatum(name), false);
	queue_param(&params, TEXTOID, CStringGetTextDatum(error->message), false);
	if (lock_state(name))
		changed = queue_spi_run("UPDATE queue.schedule_state SET reason = $2 WHERE name = $1"
								" AND reason IS DISTINCT FROM $2", params.n, params.types, params.values, params.nulls);
	queue_spi_end(&spi);
	PopActiveSnapshot();
	if (changed > 0)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("schedule \"%s\" is parked: %s", name, error->message),
				 error->hint != NULL ? errhint("%s", error->hint) :
				 errhint("It is tried again by itself; the other schedules go on.")));
}

/* ---------------------------------------------------------------- several */

/* Looks at n schedules in one subtransaction.  False: that failed, and *error says why. */
static bool
try_batch(Entry *const *batch, int n, TimestampTz now, Look *looks, ErrorData **error)
{
	QueueAttempt attempt;
	volatile bool done = true;

	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		QueueSpi	spi;

		PushActiveSnapshot(GetLatestSnapshot());	/* for what is stored out of line; statements take their own */
		queue_spi_begin(&spi);
		/* who holds what an enqueue needs, such as a unique key, does not hold up the others for long */
		(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
		for (int i = 0; i < n; i++)
			looks[i] = look_at(batch[i]->name, now);
		queue_spi_end(&spi);
		PopActiveSnapshot();
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		*error = queue_attempt_failed(&attempt);
		done = false;
	}
	PG_END_TRY();
	return done;
}

/* A longer pause than the last one. */
static int64
longer(int64 pause, int64 least, int64 most)
{
	return Min(Max(least, pause * 2), most);
}

/* Notes what came of a look. */
static void
take_look(Entry *entry, const Look *look, TimestampTz now, int64 *jobs)
{
	*jobs += look->jobs;
	entry->pause = look->busy ? longer(entry->pause, BUSY_MIN_US, BUSY_MAX_US) : 0;
	entry->next = look->busy ? now + entry->pause : look->next;
}

/* Was somebody in the way, which says nothing of the schedule? */
static bool
is_conflict(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* Looks at the schedules of a batch, and if one of them fails, one by one. */
static void
look_at_batch(Entry *const *batch, int n, TimestampTz now, int64 *jobs)
{
	Look		looks[BATCH];
	ErrorData  *error;

	if (try_batch(batch, n, now, looks, &error))
	{
		for (int i = 0; i < n; i++)
			take_look(batch[i], &looks[i], now, jobs);
		return;
	}
	if (n > 1)
	{
		for (int i = 0; i < n; i++)
			look_at_batch(&batch[i], 1, now, jobs);
		return;
	}
	batch[0]->pause = longer(batch[0]->pause, RETRY_MIN_US, is_conflict(error) ? CONFLICT_MAX_US : RETRY_MAX_US);
	batch[0]->next = now + batch[0]->pause;
	if (!is_conflict(error))
		note_reason(batch[0]->name, error);
	FreeErrorData(error);
}

/* Reads all schedules that may tick. */
static void
read_entries(Entries *all)
{
	QueueSpi	spi;
	MemoryContext row_context;

	all->n = 0;
	all->next = DT_NOEND;
	MemoryContextReset(all->context);
	row_context = AllocSetContextCreate(CurrentMemoryContext, "queue schedule", ALLOCSET_SMALL_SIZES);
	PushActiveSnapshot(GetLatestSnapshot());	/* for what is stored out of line */
	queue_spi_begin(&spi);
	queue_spi_run(QUEUE_SCHEDULE_SELECT "WHERE s.paused_at IS NULL", 0, NULL, NULL, NULL);
	all->entries = MemoryContextAllocHuge(all->context, Max(SPI_processed, 1) * sizeof(Entry));
	for (uint64 i = 0; i < SPI_tuptable->numvals; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		QueueSchedule schedule;

		CHECK_FOR_INTERRUPTS();
		queue_schedule_read(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &schedule);
		if (schedule.adopted && schedule.broken == NULL)
		{
			Entry	   *entry = &all->entries[all->n++];

			*entry = (Entry) {MemoryContextStrdup(all->context, schedule.name), queue_schedule_next(&schedule), 0};
			all->next = Min(all->next, entry->next);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	queue_spi_end(&spi);
	PopActiveSnapshot();
	MemoryContextDelete(row_context);
}

/* Looks at up to a batch of those that are due; how many jobs that made. */
static int64
look_at_due(Entries *all, TimestampTz now)
{
	Entry	   *batch[BATCH];
	int64		jobs = 0;
	int			n = 0;

	for (int i = 0; i < all->n && n < BATCH; i++)
	{
		if (all->entries[i].next <= now)
			batch[n++] = &all->entries[i];
	}
	if (n > 0)
		look_at_batch(batch, n, now, &jobs);
	all->next = DT_NOEND;
	for (int i = 0; i < all->n; i++)
		all->next = Min(all->next, all->entries[i].next);
	return jobs;
}

/* ---------------------------------------------------------------- the scheduler's chore */

/*
 * Reads the schedules if the configuration changed, which they are part of.  Who failed is then tried again at once,
 * because any right may have changed.  So too if the clock went back: the pause of one that failed or waits would end
 * by the clock that stood ahead, and its ticks be too old then.
 */
static void
refresh(TimestampTz now)
{
	uint64		generation = queue_database_generation();	/* before the snapshot: a change in between is seen next */
	bool		back = now < seen_now;

	seen_now = now;
	if (generation == seen_generation && !back)
		return;
	if (scheduled.context == NULL)
		scheduled.context = AllocSetContextCreate(TopMemoryContext, "queue schedules", ALLOCSET_DEFAULT_SIZES);
	seen_generation = 0;
	read_entries(&scheduled);
	seen_generation = generation;
}

TimestampTz
queue_ticks_run(TimestampTz now)
{
	refresh(now);
	if (scheduled.next > now)
		return scheduled.next;
	/* who has the table to himself keeps all from enqueueing */
	if (!ConditionalLockRelationOid(queue_config()->live_job, RowExclusiveLock))
		return now + LOCK_RETRY_US;
	/*
	 * The scheduler's other work may be lost in a crash, because it is done again; so are ticks, but what came of one
	 * may have left the database by then.
	 */
	if (look_at_due(&scheduled, now) > 0)
		ForceSyncCommit();
	return scheduled.next;
}

TimestampTz
queue_ticks_due(void)
{
	return queue_database_generation() != seen_generation || queue_now() < seen_now ? DT_NOBEGIN : DT_NOEND;
}

/* ---------------------------------------------------------------- sessions */

/* Makes all that is due, and notes that somebody did; how many jobs that were. */
static int64
tick_all(void)
{
	Entries		all = {.context = AllocSetContextCreate(CurrentMemoryContext, "queue schedules", ALLOCSET_SMALL_SIZES)};
	TimestampTz now = queue_now();
	int64		jobs = 0;

	if (queue_enabled)
	{
		read_entries(&all);
		while (all.next <= now)
		{
			CHECK_FOR_INTERRUPTS();
			jobs += look_at_due(&all, now);
		}
	}
	MemoryContextDelete(all.context);
	queue_clocks_note();
	return jobs;
}

/* queue.tick() -> bigint */
Datum
queue_sql_tick(PG_FUNCTION_ARGS)
{
	QueueOwnerContext saved;
	int64		jobs;

	queue_finish_writable("queue.tick()");
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	if (IsTransactionBlock())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("queue.tick() cannot run inside a transaction block"),
				 errhint("Nobody else could make a tick before that block ends. Run it by itself.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("queue.tick() runs in READ COMMITTED only"),
				 errhint("SET default_transaction_isolation = 'read committed'.")));
	queue_as_owner_begin(&saved);
	jobs = tick_all();
	queue_as_owner_end(&saved);
	PG_RETURN_INT64(jobs);
}

TimestampTz
queue_ticks_maintain(TimestampTz now)
{
	(void) tick_all();
	return DT_NOEND;
}
