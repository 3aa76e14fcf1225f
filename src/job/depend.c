/*
 * depend.c
 *		Jobs that depend on others are let in when the last of those has ended, or cancelled when one ended badly.
 *
 * Called by one process at a time that has taken reminders (shared/reminder.h): the scheduler, or where none is, who
 * fetches.  It looks at the rows of queue.dependency (dependency.c) and at what they name.
 *
 * What a job waits for is looked up from the highest id downwards, up to the first one that has not ended.  That one is
 * remembered: the end of any other one then needs no look, and the look at its own end goes on from there.  So a job
 * behind 10,000 others costs 10,000 looks and not their square; and because jobs mostly end in the order of their ids,
 * these looks come together, when the last one has ended.  This memory is only a hint of the scheduler's; a job
 * that it does not know is looked at whole, which also finds what ended badly meanwhile.  From then on each end brings
 * a reminder, of itself or of the job that waits for it, but perhaps later than the look that passes it by: so how one
 * ended is asked whenever one is passed.  No reminder comes of a transaction which may have ended a job before the rows
 * of this one were there, and is still open: then the whole is looked at again, until all transactions of that time are
 * over.
 *
 * A job that comes back by a retry holds those again that depend on it and have not started.  Who retries it does that
 * himself, after he has inserted its row: he locks each of those jobs.  So whoever is about to let it in has done so
 * before, or finds it locked and then the job that came back.
 *
 * Locks: those of reading; row locks, which only queue_depend_hold waits for.
 */
#include "job/depend.h"

#include "config/lines.h"
#include "job/claim.h"
#include "job/event.h"
#include "job/finish.h"
#include "job/pending.h"
#include "shared/awaited.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define MAX_REMEMBERED 1000000
#define SOMETHING PG_INT64_MIN	/* no job's id */
#define PASSED 256				/* of so many it is asked together how they ended */
#define BATCH 100				/* reminders that a fetch looks at, and jobs of one of them */

/* What a job waits for. */
typedef struct Memory
{
	int64		job;
	int64		waits_for;		/* nothing above this is unfinished; 0: that is not known yet */
	TransactionId since;		/* .. because a transaction before this one may have ended something; it is deferred */
	bool		ends;			/* it asks how they ended .. */
	TimestampTz forgiven;		/* .. if that was after this */
} Memory;

static HTAB *memory = NULL;

void
queue_depend_remember(void)
{
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Memory), .hcxt = TopMemoryContext};

	if (memory != NULL)
		hash_destroy(memory);
	memory = NULL;				/* until there is another one */
	memory = hash_create("queue dependents", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Memory *
remembered(int64 job)
{
	return memory == NULL ? NULL : hash_search(memory, &job, HASH_FIND, NULL);
}

static void
forget(int64 job)
{
	queue_reminder_waits(job, 0);
	if (memory != NULL)
		(void) hash_search(memory, &job, HASH_REMOVE, NULL);
}

static void
remember(int64 job, int64 waits_for, TransactionId since, bool ends, TimestampTz forgiven)
{
	Memory	   *entry;

	if (memory == NULL)
		return;
	if (hash_get_num_entries(memory) >= MAX_REMEMBERED)
		queue_depend_remember();
	entry = hash_search(memory, &job, HASH_ENTER, NULL);
	entry->waits_for = waits_for;
	entry->since = since;
	entry->ends = ends;
	entry->forgiven = forgiven;
}

/* ---------------------------------------------------------------- one job */

/* What was found of all that a job depends on. */
typedef struct Found
{
	int64		waits_for;		/* the highest that has not ended; 0: none */
	bool		changing;		/* one is just being enqueued or ended */
	bool		coming;			/* .. enqueued, or retried: if that is rolled back, nothing tells */
	int64		spoilt;			/* one that ended so that the job must not run; 0: none */
	QueueState	how;			/* .. and how it did */
} Found;

/*
 * The one that was last seen to be unfinished, while one reminder is dealt with: many jobs may wait for it.  Its end,
 * if it comes now, is reminded of later.
 */
static int64 seen_live = 0;

/* Looks at one that a job depends on.  before: see look. */
static QueueDependencyState
look_at(QueueJobTable *jobs, int64 id, TransactionId before, Found *found)
{
	TransactionId changer;
	QueueDependencyState state = id == seen_live ? QUEUE_DEPENDENCY_LIVE : queue_dependency_look(jobs, id, &changer);

	CHECK_FOR_INTERRUPTS();
	if (state != QUEUE_DEPENDENCY_ENDED)
		found->waits_for = Max(found->waits_for, id);
	if (state == QUEUE_DEPENDENCY_LIVE)
		seen_live = id;
	found->changing |= (state == QUEUE_DEPENDENCY_CHANGING || state == QUEUE_DEPENDENCY_COMING) &&
		(!TransactionIdIsValid(before) || TransactionIdPrecedes(changer, before));
	found->coming |= state == QUEUE_DEPENDENCY_COMING;
	return state;
}

/*
 * Says that a job waits for another one, so that the ends of those below that one are not told.  False: that one has
 * ended, perhaps before this was said, and so without a reminder.
 */
static bool
say(QueueJobTable *jobs, int64 job, int64 waits_for)
{
	TransactionId changer;

	seen_live = 0;
	queue_reminder_waits(job, waits_for);
	return queue_dependency_look(jobs, waits_for, &changer) != QUEUE_DEPENDENCY_ENDED;
}

/*
 * Looks at what a job depends on, those below an id, downwards, under the active snapshot, and if `ends` at how they
 * ended, if that was after `forgiven`.  whole: at all of it; else only as far as the first that has not ended.
 * before: of transactions that change something only those before this one matter.
 *
 * Below one that has ended others mostly have as well.  How they did is asked of many together, and that tells of those
 * that are kept, as nearly all are, that they ended.
 */
static Found
look(QueueJobTable *jobs, int64 job, int64 below, bool whole, bool ends, TimestampTz forgiven, TransactionId before)
{
	Found		found = {0};
	int64		ids[PASSED];
	bool		last = false;	/* the scan is at its end, and would begin anew */

	queue_dependency_scan_below(jobs, job, below, GetActiveSnapshot());
	while (!last && found.spoilt == 0 && (whole || found.waits_for == 0) && queue_dependency_previous(jobs, &ids[0]))
	{
		QueueFinished finished;
		int			n;

		if (look_at(jobs, ids[0], before, &found) != QUEUE_DEPENDENCY_ENDED || !ends)
			continue;
		for (n = 1; n < PASSED && queue_dependency_previous(jobs, &ids[n]); n++)
			;
		last = n < PASSED;
		if (queue_dependency_spoilt(ids, &n, forgiven, &finished))
		{
			found.spoilt = finished.job.id;
			found.how = finished.state;
		}
		for (int i = 0; i < n && found.spoilt == 0; i++)
			(void) look_at(jobs, ids[i], before, &found);
	}
	queue_dependency_end_scan(jobs);
	return found;
}

/* Cancels a job because of how another one ended. */
static bool
cancel(QueueJobTable *jobs, const QueueJob *job, int64 cause, QueueState how)
{
	QueueEnding ending = {
		.error = psprintf("job " INT64_FORMAT ", which it depends on, was %s", cause, queue_state_names[how]),
		.cause = cause
	};

	if (queue_finish_end(jobs, job, job->attempt, QUEUE_STATE_CANCELLED, &ending, GetActiveSnapshot(), false) != TM_Ok)
		return false;
	forget(job->id);
	CommandCounterIncrement();
	return true;
}

/* Finds a job that something it depends on blocks; false: this is none. */
static bool
find_blocked(QueueJobTable *jobs, int64 id, QueueJob *job)
{
	return queue_job_find_lean(jobs, id, GetActiveSnapshot(), job) && queue_job_pending(job) && job->extra != NULL &&
		(queue_extra_blocks(job->extra) & QUEUE_BLOCK_DEPENDENCY) != 0;
}

/*
 * What queue_depend_settle does, under the active snapshot.  why: because this one ended (0: none in particular;
 * SOMETHING: one that completed), and how, if badly.
 */
static bool
settle(QueueJobTable *jobs, int64 id, int64 why, const QueueFinished *badly)
{
	Memory	   *known = remembered(id);
	bool		waits = known != NULL && known->waits_for != 0;
	QueueExtra	extra;
	QueueJob	job;
	Found		found;
	bool		ends;
	TransactionId since;

	/* the end of what it waits for brings a reminder of its own; or it is deferred */
	if (known != NULL && why != 0 && badly == NULL && why != known->waits_for && (why != SOMETHING || !waits))
		return true;
	if (waits && why != 0 && badly == NULL)
	{
		/* what it waited for completed; that is asked again if nothing else blocks the job */
		found = look(jobs, id, known->waits_for + (why == known->waits_for ? 0 : 1), false, known->ends,
					 known->forgiven, InvalidTransactionId);
		if (found.waits_for != 0 && found.spoilt == 0)
		{
			known->waits_for = found.waits_for;
			return !found.coming && (say(jobs, id, found.waits_for) || settle(jobs, id, SOMETHING, NULL));
		}
	}
	else if (!waits)
		queue_reminder_waits(id, 0);	/* until it is known what it waits for each end is to be told */
	if (!find_blocked(jobs, id, &job))
	{
		forget(id);
		return true;
	}
	queue_extra_unpack(job.extra, &extra);
	ends = extra.depends_mode != QUEUE_DEPENDS_FINISHED;
	if (badly != NULL && ends && badly->finished_at > extra.retried_at)
		return cancel(jobs, &job, why, badly->state);
	since = known != NULL && !waits ? known->since : ReadNextTransactionId();
	if (waits && why != 0)
	{
		found = look(jobs, id, known->waits_for + 1, false, ends, extra.retried_at, InvalidTransactionId);
		found.changing = found.coming;	/* it was not when the job was looked at whole, so its end brings a reminder */
	}
	else
		found = look(jobs, id, PG_INT64_MAX, why == 0 || memory != NULL, ends, extra.retried_at,
					 known != NULL && !waits ? since : InvalidTransactionId);
	if (found.spoilt != 0)
		return cancel(jobs, &job, found.spoilt, found.how);
	if (found.waits_for != 0)
	{
		remember(id, found.changing ? 0 : found.waits_for, since, ends, extra.retried_at);
		return !found.changing &&
			(memory == NULL || say(jobs, id, found.waits_for) || settle(jobs, id, SOMETHING, NULL));
	}
	if (queue_job_promote(jobs, &job, QUEUE_BLOCK_DEPENDENCY, GetActiveSnapshot(), false) != TM_Ok)
		return false;
	forget(id);
	CommandCounterIncrement();
	return true;
}

bool
queue_depend_settle(QueueJobTable *jobs, int64 id, bool less)
{
	bool		done;

	seen_live = 0;
	PushActiveSnapshot(GetLatestSnapshot());
	done = settle(jobs, id, less ? SOMETHING : 0, NULL);
	PopActiveSnapshot();
	return done;
}

bool
queue_depend_ended(QueueJobTable *jobs, int64 id, bool completed, int64 *after, int max, int64 *busy, int *nbusy,
				   bool *more)
{
	TransactionId changer;
	/* how it completed needs no look; if it came back since, that brings a reminder of its own */
	QueueDependencyState state = completed ? QUEUE_DEPENDENCY_ENDED : queue_dependency_look(jobs, id, &changer);
	int64	   *dependents = palloc(max * sizeof(int64));
	QueueFinished finished;
	bool		bad;
	int			one = 1;
	int			n = 0;

	*nbusy = 0;
	*more = false;
	seen_live = 0;
	if (state == QUEUE_DEPENDENCY_CHANGING || state == QUEUE_DEPENDENCY_COMING)
		return false;
	bad = !completed && state == QUEUE_DEPENDENCY_ENDED && queue_dependency_spoilt(&(int64) {id}, &one, 0, &finished);
	PushActiveSnapshot(GetLatestSnapshot());
	queue_dependency_scan(jobs, id, false, *after, GetActiveSnapshot());
	while (n < max && queue_dependency_next(jobs, &dependents[n]))
		n++;
	queue_dependency_end_scan(jobs);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (state == QUEUE_DEPENDENCY_LIVE)
			forget(dependents[i]);	/* it came back: look at the whole when the next one ends */
		else if (!settle(jobs, dependents[i], id, bad ? &finished : NULL))
			busy[(*nbusy)++] = dependents[i];
	}
	PopActiveSnapshot();
	*more = n == max;
	if (n > 0)
		*after = dependents[n - 1];
	pfree(dependents);
	return true;
}

/* ---------------------------------------------------------------- in the transaction that did it */

void
queue_depend_own(QueueJobTable *jobs)
{
	const QueueReminder *noted;
	QueueReminder *mine;
	bool		overflow;
	int			n;

	noted = queue_reminders_noted(&n, &overflow);
	if (n == 0 || IsolationUsesXactSnapshot())
		return;
	n = Min(n, BATCH);
	mine = palloc(n * sizeof(QueueReminder));	/* what is let in may be noted too */
	memcpy(mine, noted, n * sizeof(QueueReminder));
	for (int i = 0; i < n; i++)
	{
		int64		busy[BATCH];
		int64		after = PG_INT64_MIN;
		int			nbusy;
		bool		more;

		if (mine[i].of == QUEUE_REMIND_AWAITS)
			(void) queue_event_look(jobs, mine[i].id, DT_NOBEGIN);
		else if (mine[i].of == QUEUE_REMIND_LESS)
			(void) queue_depend_settle(jobs, mine[i].id, true);
		else if (mine[i].of == QUEUE_REMIND_EMITTED)
			(void) queue_event_emitted(jobs, mine[i].id, &after, BATCH, busy, &nbusy);
		else if (mine[i].of == QUEUE_REMIND_ENDED || mine[i].of == QUEUE_REMIND_COMPLETED)
			(void) queue_depend_ended(jobs, mine[i].id, false, &after, BATCH, busy, &nbusy, &more);
	}
	pfree(mine);
}

void
queue_depend_end_doomed(void)
{
	QueueJobTable *jobs;
	int64	   *noted;
	int64	   *ids;
	int			n = queue_dependency_doomed(&noted);

	if (n == 0 || IsolationUsesXactSnapshot())
		return;
	ids = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(int64));
	memcpy(ids, noted, n * sizeof(int64));
	jobs = queue_job_open(RowExclusiveLock);
	CommandCounterIncrement();	/* see what was inserted just now */
	for (int i = 0; i < n; i++)
		(void) queue_depend_settle(jobs, ids[i], false);
	queue_job_close(jobs);
}

/* ---------------------------------------------------------------- held again */

/* Holds one job, unless it has started. */
static void
hold_one(QueueJobTable *jobs, int64 id)
{
	bool		wait = false;

	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueClaim	claim = {.table = jobs, .snapshot = snapshot};
		QueueJob   *job = &claim.job;
		QueueJob	held;
		QueueExtra	extra;
		bool		found = queue_job_find_lean(jobs, id, snapshot, job);
		TM_Result	result = TM_Ok;

		if (!found || job->attempt > 0 || (job->extra == NULL && job->stored_extra != NULL) ||
			queue_claim_holder(id, job->leased_until, queue_now()) != QUEUE_HELD_BY_NOBODY)
		{
			PopActiveSnapshot();
			return;				/* gone, or it has started */
		}
		if (queue_claim_lock(&claim, wait) != QUEUE_CLAIM_OURS)
			result = TM_WouldBlock;
		else
		{
			held = *job;
			queue_extra_unpack(job->extra, &extra);
			if ((extra.blocks & QUEUE_BLOCK_DEPENDENCY) == 0)
			{
				queue_job_hold(&held, &extra, QUEUE_BLOCK_DEPENDENCY);
				held.extra = queue_extra_pack(&extra);
				result = queue_job_update(jobs, job, &held, snapshot, true);
			}
		}
		PopActiveSnapshot();
		if (result == TM_Ok)
			return;
		if (result == TM_WouldBlock)
		{
			CommandCounterIncrement();
			CHECK_FOR_INTERRUPTS();
			wait = true;
		}
		else
			queue_finish_retry(result);
	}
}

void
queue_depend_hold(QueueJobTable *jobs, int64 id)
{
	int64	   *dependents = NULL;
	SnapshotData dirty;
	int64		dependent;
	int			size = 0;
	int			n = 0;

	if (!queue_awaited_maybe(id) || queue_dependency_none())
		return;
	InitDirtySnapshot(dirty);
	queue_dependency_scan(jobs, id, false, PG_INT64_MIN, &dirty);
	while (queue_dependency_next(jobs, &dependent))
	{
		if (n == size)
		{
			size = Max(64, size * 2);
			dependents = dependents == NULL ? MemoryContextAllocHuge(CurrentMemoryContext, size * sizeof(int64)) :
				repalloc_huge(dependents, size * sizeof(int64));
		}
		dependents[n++] = dependent;
	}
	queue_dependency_end_scan(jobs);
	if (n == 0)
		return;
	queue_job_remind(QUEUE_REMIND_ENDED, id);
	CommandCounterIncrement();
	for (int i = 0; i < n; i++)
		hold_one(jobs, dependents[i]);
	pfree(dependents);
}

/* ---------------------------------------------------------------- where no scheduler is */

typedef struct Unattended
{
	QueueJobTable *jobs;
	QueueWorkflowCheck check;
} Unattended;

/* One reminder, whole; false: something of it is to be tried again. */
static bool
handle(const QueueReminder *reminder, void *arg)
{
	Unattended *unattended = arg;
	QueueJobTable *jobs = unattended->jobs;
	int64		busy[BATCH];
	int64		after = PG_INT64_MIN;
	bool		more = true;
	bool		all = true;
	int			nbusy;

	if (reminder->of == QUEUE_REMIND_WORKFLOW || reminder->of == QUEUE_REMIND_WORKFLOW_NOW)
		return unattended->check(jobs, reminder->id, true);
	if (reminder->of == QUEUE_REMIND_DEPENDENT || reminder->of == QUEUE_REMIND_LESS)
		return queue_depend_settle(jobs, reminder->id, reminder->of == QUEUE_REMIND_LESS);
	if (reminder->of == QUEUE_REMIND_AWAITS)
		return queue_event_look(jobs, reminder->id, DT_NOBEGIN);
	while (more)
	{
		CHECK_FOR_INTERRUPTS();
		if (reminder->of == QUEUE_REMIND_EMITTED)
			more = queue_event_emitted(jobs, reminder->id, &after, BATCH, busy, &nbusy);
		else if (!queue_depend_ended(jobs, reminder->id, reminder->of == QUEUE_REMIND_COMPLETED, &after, BATCH, busy,
									 &nbusy, &more))
			return false;
		all = all && nbusy == 0;
	}
	return all;
}

bool
queue_depend_unattended(QueueJobTable *jobs, QueueWorkflowCheck check)
{
	Unattended	arg = {jobs, check};
	QueueReminder taken[BATCH];
	bool		all;
	int			n;

	if (IsolationUsesXactSnapshot())
		return false;
	all = queue_remind_eat_rows(handle, &arg, BATCH);
	n = queue_reminder_take(taken, BATCH);
	for (int i = 0; i < n; i++)
	{
		if (!handle(&taken[i], &arg))
		{
			queue_job_remind(taken[i].of, taken[i].id); /* for who comes after this transaction */
			all = false;
		}
	}
	return all && n < BATCH;
}

int64
queue_depend_waits_for(QueueJobTable *jobs, int64 id)
{
	TransactionId changer;
	int64		other;
	int64		found = 0;

	queue_dependency_scan(jobs, id, true, PG_INT64_MIN, GetActiveSnapshot());
	while (found == 0 && queue_dependency_next(jobs, &other))
	{
		CHECK_FOR_INTERRUPTS();
		if (queue_dependency_look(jobs, other, &changer) != QUEUE_DEPENDENCY_ENDED)
			found = other;
	}
	queue_dependency_end_scan(jobs);
	return found;
}
