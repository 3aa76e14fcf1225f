/*
 * chores.c
 *		The scheduler's table of chores, and who runs them.
 *
 * A chore is run by the scheduler when it is due, a slice at a time, each slice in a transaction of its own: no
 * snapshot is held for long, no chore delays the start of a job by more than a slice.  An ERROR (or a
 * pg_cancel_backend, which is one) ends the slice, not the scheduler: it is logged with the chore's name, and the chore
 * is tried again after a pause that doubles from RETRY_MIN_US to RETRY_MAX_US.
 *
 * queue.maintain() runs the same table once in the caller's transaction, for servers where no scheduler can run: each
 * slice in a subtransaction, until the chore has nothing more to do just now.
 *
 * Locks: those of the chores.
 */
#include "scheduler/chores.h"

#include "config/catalog.h"
#include "config/owner.h"
#include "config/relations.h"
#include "lib/attempt.h"
#include "scheduler/apart.h"
#include "scheduler/deadlines.h"
#include "scheduler/dependents.h"
#include "scheduler/housekeeping.h"
#include "scheduler/keys.h"
#include "scheduler/leases.h"
#include "scheduler/minutes.h"
#include "scheduler/promote.h"
#include "scheduler/retirement.h"
#include "scheduler/survey.h"
#include "scheduler/ticks.h"
#include "shared/clock.h"
#include "shared/database.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "tcop/utility.h"
#include "utils/memutils.h"

#define AT_ONCE_US INT64CONST(100000)	/* due at once although it has just run: it could not do its work */
#define RETRY_MIN_US INT64CONST(100000)
#define RETRY_MAX_US (30 * USECS_PER_SEC)
#define MAINTAIN_SLICES 1000	/* of one chore in one call of maintain(); what is left is for the next */

PG_FUNCTION_INFO_V1(queue_sql_maintain);

static QueueChore chores[] = {
	{"lease ends", queue_leases_run, queue_leases_due, QUEUE_CHORE_MEMORY | QUEUE_CHORE_URGENT},
	{"deadlines", queue_deadlines_run, queue_deadlines_due, QUEUE_CHORE_URGENT},
	{"ticks", queue_ticks_run, queue_ticks_due, QUEUE_CHORE_MEMORY | QUEUE_CHORE_URGENT},
	{"ticks", queue_ticks_maintain, NULL, QUEUE_CHORE_SESSION},
	{"recount", queue_housekeeping_recount, queue_housekeeping_recount_due, QUEUE_CHORE_MEMORY},
	{"history", queue_minutes_run, NULL, QUEUE_CHORE_MEMORY},
	{"far look", queue_leases_far_look, queue_leases_far_due, QUEUE_CHORE_MEMORY},
	{"lease ends", queue_leases_walk, NULL, QUEUE_CHORE_UNLOADED},
	{"promotion", queue_promote_unattended, NULL, 0},
	{"jobs that depend on others", queue_dependents_unattended, NULL, 0},
	{"dependencies", queue_dependents_sweep, queue_dependents_sweep_due, 0},
	{"survey of lines", queue_survey_run, queue_survey_due, QUEUE_CHORE_MEMORY},
	{"lines", queue_retirement_run, NULL, QUEUE_CHORE_MEMORY, .first = USECS_PER_SEC},
	{"unique keys", queue_keys_run, .first = USECS_PER_MINUTE},
	{"retention", queue_housekeeping_retention, .first = USECS_PER_SEC},
	{"events", queue_housekeeping_events, .first = USECS_PER_SEC},
};

/* Is the extension still there, and one that the library works with?  In no transaction. */
static bool
extension_there(void)
{
	const char *hint;
	char	   *version;
	bool		there;

	StartTransactionCommand();
	version = queue_extension_version();
	there = version != NULL && queue_catalog_problem(version, &hint) == NULL;
	CommitTransactionCommand();
	return there;
}

/*
 * The slice failed: rolls back, logs, and puts the next try off.  False: only because the extension is gone, or not one
 * that the library works with.
 */
static bool
failed(QueueChore *chore, TimestampTz now)
{
	int64		pause = RETRY_MIN_US << Min(chore->failures, 10);
	ErrorData  *error;

	HOLD_INTERRUPTS();
	QueryCancelPending = false;
	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	LWLockReleaseAll();
	MemoryContextSwitchTo(TopMemoryContext);
	RESUME_INTERRUPTS();
	if (!extension_there())
		return false;

	pause = Min(pause, RETRY_MAX_US);
	if (chore->failures++ == 0)
		queue_apart_failing++;
	chore->next = now + pause;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("queue scheduler: %s failed: %s", chore->name, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) :
			 errhint("It is tried again in %d ms; the other chores go on.", (int) (pause / 1000)),
			 error->context ? errcontext("%s", error->context) : 0));
	queue_apart_trouble(chore->name, error);
	FreeErrorData(error);
	return true;
}

/* One slice behind the boundary.  False: there is no extension to work with any more. */
static bool
run_chore(QueueChore *chore, TimestampTz now)
{
	bool		bare = (chore->flags & QUEUE_CHORE_BARE) != 0;
	volatile bool ok = true;

	chore->ran_at = now;
	PG_TRY();
	{
		TimestampTz next;

		if (!bare)
		{
			SetCurrentStatementStartTimestamp();
			StartTransactionCommand();
		}
		next = chore->run(now);
		if (!bare)
			CommitTransactionCommand();
		chore->next = next;
		/* a slice that is not the last says nothing of one that failed */
		if (next > now && chore->failures > 0)
		{
			chore->failures = 0;
			queue_apart_recovered();
		}
	}
	PG_CATCH();
	{
		ok = failed(chore, now);
	}
	PG_END_TRY();
	return ok;
}

/*
 * When the chore is due, whoever made it so.  At once if it last ran later than now: the clock was set back, and what
 * was put off by the former one, here or in the chore, would be so for as long as that step.
 */
static TimestampTz
due_at(const QueueChore *chore, TimestampTz now)
{
	if (now < chore->ran_at)
		return now;
	return chore->due == NULL || chore->failures > 0 ? chore->next : Min(chore->next, chore->due());
}

/* Called by the scheduler each time that it is awake.  DT_NOBEGIN: there is no extension to work with. */
TimestampTz
queue_chores_run(QueueChore *list, int n, TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < n; i++)
	{
		QueueChore *chore = &list[i];
		bool		wake = (chore->flags & QUEUE_CHORE_EACH_WAKE) != 0 && chore->failures == 0;
		TimestampTz due;

		if ((chore->flags & (QUEUE_CHORE_UNLOADED | QUEUE_CHORE_SESSION)) != 0)
			continue;
		if (chore->first > 0)
		{
			chore->next = now + chore->first;
			chore->first = 0;
		}
		if ((wake || due_at(chore, now) <= now) && !run_chore(chore, now))
			return DT_NOBEGIN;
		due = due_at(chore, now);
		next = queue_earlier(next, due != DT_NOBEGIN ? due : now + AT_ONCE_US);
	}
	return next;
}

/* Called by the scheduler between rounds. */
TimestampTz
queue_chores_housekeeping(TimestampTz now)
{
	return queue_chores_run(chores, lengthof(chores), now);
}

/* Called by a scheduler that is about to rest. */
TimestampTz
queue_chores_urgent(void)
{
	TimestampTz now = queue_now();
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < lengthof(chores); i++)
	{
		if ((chores[i].flags & QUEUE_CHORE_URGENT) != 0)
			next = Min(next, due_at(&chores[i], now));
	}
	return next;
}

/* One chore until it has nothing more to do, for maintain(); an error ends it with a warning. */
static void
maintain_chore(QueueChore *chore)
{
	volatile bool more = true;

	for (int slice = 0; more && slice < MAINTAIN_SLICES; slice++)
	{
		QueueAttempt attempt;

		CHECK_FOR_INTERRUPTS();
		queue_attempt_begin(&attempt);
		PG_TRY();
		{
			TimestampTz now = queue_now();

			more = chore->run(now) <= now;
			queue_attempt_commit(&attempt);
		}
		PG_CATCH();
		{
			ErrorData  *error = queue_attempt_failed(&attempt);

			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("%s failed: %s", chore->name, error->message),
					 errhint("The other chores are done all the same.")));
			FreeErrorData(error);
			more = false;
		}
		PG_END_TRY();
	}
}

/* queue.maintain() -> void: what the scheduler does for the tables, once */
Datum
queue_sql_maintain(PG_FUNCTION_ARGS)
{
	QueueOwnerContext saved;
	/* in a transaction block, what is locked for ticks would stay so */
	int			others = IsTransactionBlock() || IsolationUsesXactSnapshot() ? QUEUE_CHORE_SESSION : 0;

	others |= QUEUE_CHORE_MEMORY | (queue_preloaded() ? QUEUE_CHORE_UNLOADED : 0);
	PreventCommandIfReadOnly("queue.maintain()");
	PreventCommandIfParallelMode("queue.maintain()");
	PreventCommandDuringRecovery("queue.maintain()");
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	queue_as_owner_begin(&saved);
	for (int i = 0; i < lengthof(chores); i++)
	{
		if ((chores[i].flags & others) == 0)
			maintain_chore(&chores[i]);
	}
	queue_as_owner_end(&saved);
	PG_RETURN_VOID();
}
