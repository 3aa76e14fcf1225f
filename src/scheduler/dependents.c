/*
 * dependents.c
 *		The chores of jobs that depend on others: the scheduler takes reminders (shared/reminder.h) and has what they
 *		name looked at (job/depend.c), many a transaction; and it sweeps queue.dependency.
 *
 * All jobs that depend on others are looked at, in slices, when the scheduler starts, and when reminders were lost.
 *
 * What cannot be done now, because somebody has a row, and what raises an error (each then behind a boundary of its
 * own), is deferred in memory, with a pause that doubles.  What finds no room there is lost like a reminder.  A job on
 * which very many depend is done in slices, as a deferred one that is due at once.
 *
 * Locks: RowExclusiveLock on live_job and dependency, conditional; row locks, never waited for.
 */
#include "scheduler/dependents.h"

#include "api/workflow_end.h"
#include "config/config.h"
#include "job/depend.h"
#include "job/event.h"
#include "job/group.h"
#include "scheduler/apart.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#define BATCH 200				/* reminders a transaction, and jobs of one of them */
#define MAX_DEFERRED 1024
#define BUSY_US INT64CONST(10000)
#define MAX_BUSY_US USECS_PER_SEC
#define MAX_PAUSE_US (60 * USECS_PER_SEC)
#define LOCK_RETRY_US INT64CONST(100000)
#define SWEEP_BLOCKS 64
#define SWEEP_US (10 * USECS_PER_MINUTE)
#define MAINTAIN_BATCHES 100	/* of one maintain() */

typedef struct Deferred
{
	QueueReminder reminder;
	int64		after;			/* the last dependent of an ended job that was looked at */
	TimestampTz again_at;
	int64		pause;
} Deferred;

static Deferred deferred[MAX_DEFERRED];
static int	ndeferred = 0;
static bool started = false;
static QueueApart apart = {0};
static bool all_under_way = false;
static TimestampTz all_again_at = DT_NOEND; /* for what failed and was not deferred */
static enum
{
	ALL_DEPENDENTS, ALL_AWAITS, ALL_WORKFLOWS
}			all_of;				/* what that look has come to */
static int64 all_at;			/* the last one of them */
static bool sweep_soon = true;	/* the filter of what is awaited is not good yet */

/* To be looked at again after a pause, which is at least `pause` and doubles up to `most`; 0: at once. */
static void
defer(const Deferred *what, TimestampTz now, int64 pause, int64 most)
{
	if (ndeferred == MAX_DEFERRED)
	{
		queue_reminder_lose(MyDatabaseId);
		return;
	}
	deferred[ndeferred] = *what;
	deferred[ndeferred].pause = pause == 0 ? 0 : Min(Max(pause, what->pause * 2), most);
	deferred[ndeferred].again_at = now + deferred[ndeferred].pause;
	ndeferred++;
}

static TimestampTz
deferred_due(TimestampTz now)
{
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < ndeferred; i++)
		due = Min(due, queue_put_off(deferred[i].again_at, deferred[i].pause, now) ? deferred[i].again_at : now);
	return due;
}

/* Is it deferred, and its pause not over? */
static bool
waits(const QueueReminder *reminder, TimestampTz now)
{
	for (int i = 0; i < ndeferred; i++)
	{
		if (deferred[i].reminder.id == reminder->id && deferred[i].reminder.of == reminder->of &&
			queue_put_off(deferred[i].again_at, deferred[i].pause, now))
			return true;
	}
	return false;
}

/* Does what one reminder asks for, and defers what is left of it. */
static void
do_one(QueueJobTable *jobs, const Deferred *what, TimestampTz now)
{
	Deferred	rest = *what;
	int64	   *busy;
	int			nbusy;
	bool		more;

	if (what->reminder.of == QUEUE_REMIND_WORKFLOW || what->reminder.of == QUEUE_REMIND_WORKFLOW_NOW)
	{
		if (!queue_workflow_check(jobs, what->reminder.id, what->reminder.of == QUEUE_REMIND_WORKFLOW_NOW))
			defer(&(Deferred) {.reminder = {what->reminder.id, QUEUE_REMIND_WORKFLOW_NOW}, .pause = what->pause}, now,
				  BUSY_US, MAX_BUSY_US);
		return;
	}
	if (what->reminder.of == QUEUE_REMIND_AWAITS)
	{
		if (!queue_event_look(jobs, what->reminder.id, DT_NOBEGIN))
			defer(&rest, now, BUSY_US, MAX_BUSY_US);
	}
	else if (what->reminder.of == QUEUE_REMIND_DEPENDENT || what->reminder.of == QUEUE_REMIND_LESS)
	{
		rest.reminder.of = QUEUE_REMIND_DEPENDENT;
		if (!queue_depend_settle(jobs, what->reminder.id, what->reminder.of == QUEUE_REMIND_LESS))
			defer(&rest, now, BUSY_US, MAX_BUSY_US);
	}
	else
	{
		bool		emitted = what->reminder.of == QUEUE_REMIND_EMITTED;

		busy = palloc(BATCH * sizeof(int64));
		if (emitted)
			more = queue_event_emitted(jobs, what->reminder.id, &rest.after, BATCH, busy, &nbusy);
		else if (!queue_depend_ended(jobs, what->reminder.id, what->reminder.of == QUEUE_REMIND_COMPLETED,
									 &rest.after, BATCH, busy, &nbusy, &more))
		{
			defer(&rest, now, BUSY_US, MAX_BUSY_US);
			more = false;
			nbusy = 0;
		}
		for (int i = 0; i < nbusy; i++)
			defer(&(Deferred) {.reminder = {busy[i], emitted ? QUEUE_REMIND_AWAITS : QUEUE_REMIND_DEPENDENT}}, now,
				  BUSY_US, MAX_BUSY_US);
		if (more)
			defer(&rest, now, 0, 0);
	}
}

/* What do_one_apart() gets. */
typedef struct One
{
	const Deferred *what;
	TimestampTz now;
} One;

/* With a table of its own: the caller's may be at anything when an error ends this. */
static void
do_one_apart(void *arg)
{
	One		   *one = arg;
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);

	do_one(jobs, one->what, one->now);
	queue_job_close(jobs);
}

/* Does what one reminder asks for, unless it is deferred. */
static void
handle(QueueJobTable *jobs, const Deferred *what, TimestampTz now)
{
	CHECK_FOR_INTERRUPTS();
	if (waits(&what->reminder, now))
		return;
	if (!queue_apart_needed(&apart, now))
		do_one(jobs, what, now);
	else if (!queue_apart_try(&apart, "jobs that depend on others", do_one_apart, &(One) {what, now}))
	{
		/* one of many: which, a look at each of them tells */
		if (what->reminder.of == QUEUE_REMIND_EMITTED || what->reminder.of == QUEUE_REMIND_ENDED ||
			what->reminder.of == QUEUE_REMIND_COMPLETED)
			all_again_at = now;
		else if (ndeferred < MAX_DEFERRED)
			defer(what, now, USECS_PER_SEC, MAX_PAUSE_US);
		else
			all_again_at = Min(all_again_at, now + MAX_PAUSE_US);
	}
}

/* Takes the deferred ones out that are due. */
static int
take_deferred(Deferred *batch, int max, TimestampTz now)
{
	int			n = 0;

	for (int i = 0; i < ndeferred && n < max;)
	{
		if (queue_put_off(deferred[i].again_at, deferred[i].pause, now))
		{
			i++;
			continue;
		}
		batch[n++] = deferred[i];
		deferred[i] = deferred[--ndeferred];
	}
	return n;
}

/* Up to a batch of jobs that depend on others. */
static int
dependents_after(QueueJobTable *jobs, int64 after, int64 *ids)
{
	int			n = 0;

	PushActiveSnapshot(GetLatestSnapshot());
	while (n < BATCH && (after = queue_dependency_next_job(jobs, after, GetActiveSnapshot())) != 0)
		ids[n++] = after;
	PopActiveSnapshot();
	return n;
}

/* A slice of the look at all jobs that depend on others, at those that await an event, and at unfinished workflows. */
static void
look_at_all(QueueJobTable *jobs, TimestampTz now)
{
	static const QueueRemindOf of[] = {
		[ALL_DEPENDENTS] = QUEUE_REMIND_DEPENDENT,
		[ALL_AWAITS] = QUEUE_REMIND_AWAITS,
		[ALL_WORKFLOWS] = QUEUE_REMIND_WORKFLOW_NOW,
	};
	int64		ids[BATCH];
	int			n = all_of == ALL_DEPENDENTS ? dependents_after(jobs, all_at, ids) :
		all_of == ALL_AWAITS ? queue_event_waiting(all_at, ids, BATCH) : queue_workflow_open(all_at, ids, BATCH);

	for (int i = 0; i < n; i++)
		handle(jobs, &(Deferred) {.reminder = {ids[i], of[all_of]}}, now);
	if (n == BATCH)
		all_at = ids[n - 1];
	else if (all_of == ALL_WORKFLOWS)
		all_under_way = false;
	else
	{
		all_of++;
		all_at = PG_INT64_MIN;
	}
}

/* For queue_remind_eat_rows: rows become reminders that are due at once. */
static bool
defer_row(const QueueReminder *reminder, void *arg)
{
	if (ndeferred == MAX_DEFERRED)
		return false;
	defer(&(Deferred) {.reminder = *reminder, .after = PG_INT64_MIN}, 0, 0, 0);
	return true;
}

/* One batch, in a transaction.  True: there is more to do at once. */
static bool
run_batch(TimestampTz now)
{
	static QueueReminder taken[BATCH];
	static Deferred batch[BATCH];
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	MemoryContext per_job = AllocSetContextCreate(CurrentMemoryContext, "queue dependents", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	bool		more = false;
	int			n;
	int			ntaken;

	if (queue_reminder_take_rows() && !queue_remind_eat_rows(defer_row, NULL, BATCH))
	{
		queue_reminder_rows(MyDatabaseId);
		more = true;
	}
	n = take_deferred(batch, BATCH, now);
	ntaken = queue_reminder_take(taken, BATCH);
	old = MemoryContextSwitchTo(per_job);
	for (int i = 0; i < n; i++)
	{
		handle(jobs, &batch[i], now);
		MemoryContextReset(per_job);
	}
	for (int i = 0; i < ntaken; i++)
	{
		handle(jobs, &(Deferred) {.reminder = taken[i], .after = PG_INT64_MIN}, now);
		MemoryContextReset(per_job);
	}
	MemoryContextSwitchTo(old);
	if (all_under_way)
		look_at_all(jobs, now);
	MemoryContextDelete(per_job);
	queue_job_close(jobs);
	return more || all_under_way || queue_reminder_any();
}

/* Called by the scheduler whenever it is awake; returns when it wants to be called again. */
TimestampTz
queue_dependents_run(TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	bool		more = false;
	QueueConfig *config;

	if (!started)
	{
		/* nobody knows what a former scheduler, or a crash, left */
		started = true;
		(void) queue_reminder_lost();	/* makes this database's place */
		queue_reminder_lose(MyDatabaseId);
		queue_reminder_rows(MyDatabaseId);
	}
	/* what a batch that failed had taken out of the deferred ones nobody knows any more */
	if (queue_apart_begin(&apart, now) || (all_again_at != DT_NOEND && !queue_put_off(all_again_at, MAX_PAUSE_US, now)))
		queue_reminder_lose(MyDatabaseId);
	if (!all_under_way && queue_reminder_lost())
	{
		all_under_way = true;
		all_again_at = DT_NOEND;
		all_at = PG_INT64_MIN;
		all_of = ALL_DEPENDENTS;
		sweep_soon = true;
		queue_depend_remember();
		queue_workflow_remember();
	}
	if (!all_under_way && !queue_reminder_any() && !queue_reminder_any_rows() && deferred_due(now) > now)
	{
		queue_apart_end(&apart);
		return queue_earlier(deferred_due(now), all_again_at);
	}

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	config = queue_config();
	if (ConditionalLockRelationOid(config->live_job, RowExclusiveLock) &&
		ConditionalLockRelationOid(config->dependency, RowExclusiveLock))
		more = run_batch(now);
	else
		next = now + LOCK_RETRY_US;
	CommitTransactionCommand();
	queue_apart_end(&apart);
	return more ? now : queue_earlier(queue_earlier(next, all_again_at), deferred_due(now));
}

/* Called by maintain(), in its transaction. */
TimestampTz
queue_dependents_unattended(TimestampTz now)
{
	QueueJobTable *jobs;

	if (!queue_group_unattended())
		return DT_NOEND;
	(void) queue_apart_begin(&apart, now);
	jobs = queue_job_open(RowExclusiveLock);
	for (int i = 0; i < MAINTAIN_BATCHES && !queue_depend_unattended(jobs, queue_workflow_check); i++)
		CHECK_FOR_INTERRUPTS();
	/* what no reminder tells of: a crash, a restore */
	all_under_way = true;
	all_at = PG_INT64_MIN;
	all_of = ALL_DEPENDENTS;
	while (all_under_way)
		look_at_all(jobs, now);
	ndeferred = 0;				/* for the next call */
	queue_job_close(jobs);
	queue_apart_end(&apart);
	return DT_NOEND;
}

TimestampTz
queue_dependents_sweep_due(void)
{
	return sweep_soon ? DT_NOBEGIN : DT_NOEND;
}

TimestampTz
queue_dependents_sweep(TimestampTz now)
{
	static BlockNumber block = 0;

	if (sweep_soon)
		block = 0;				/* the filter begins anew */
	sweep_soon = false;
	if (!queue_dependency_sweep(&block, SWEEP_BLOCKS) || queue_workflow_retention(now))
		return now;
	block = 0;
	return now + SWEEP_US;
}
