/*
 * worker.c
 *		The process that runs SQL handlers, connected as their role.
 *
 * It takes entries from its role's channel, which then stand in queue_held (entries.c), and claims the rows itself.
 * A job runs ALONE (row locked, handler in a subtransaction, row ended, commit) or, when its kind is known to be short,
 * in a GROUP that shares one commit: there the delete of the row is the claim and the completion, inside the job's own
 * subtransaction.  Sharing must never be felt:
 *	- alone: kinds not known to be short, retries, expired claims, suspects, jobs with a unique key (an enqueue of the
 *	  same key would wait for the group);
 *	- a job joins only if its entry is stamped not later than the group's start, so that all its enqueuer wrote is in
 *	  the past of the frozen now();
 *	- the group commits when half of commit_interval has passed, the channel is empty, the subtransaction ids near
 *	  what the proc array caches, or a job used temp objects or advisory locks;
 *	- a timer at commit_interval rolls back the current job if it has company; it runs again alone, uncounted;
 *	- a failure counts only for a job that was alone in its transaction; an error in company, or any error at COMMIT,
 *	  runs the jobs concerned again alone.
 * The first job of a group runs without a subtransaction: its error undoes nobody else's work.
 *
 * Locks: RowExclusiveLock on live_job, the row lock of each claimed job.
 */
#include "executor/worker.h"

#include "executor/entries.h"
#include "executor/follow.h"
#include "executor/interrupt.h"
#include "executor/log.h"
#include "executor/verdict.h"
#include "job/claim.h"
#include "job/finish.h"
#include "job/kept.h"
#include "job/record.h"
#include "shared/clock.h"
#include "shared/mark.h"
#include "shared/pace.h"
#include "shared/slot.h"
#include "shared/suspect.h"
#include "shared/worker.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#define MAX_DEATHS 2			/* processes that a job may take down before it is discarded */

static QueueDatabase *base;
static char my_name[QUEUE_WORKER_NAME];	/* as queue.job shows it */

static MemoryContext group_context;
static MemoryContext job_context;
/* of errors outside a handler's subtransaction, until their entries are dealt with */
static MemoryContext error_context;

/* The transaction under way. */
static TimestampTz group_start;
static QueueJobTable *table;
static bool group_must_end;		/* a job used temp objects or advisory locks */
static Snapshot group_snapshot; /* wide values of jobs that end in a group are read under it; NULL: none has ended */

/* What the lone job logged whose outcome is not committed yet: it is wanted again if that COMMIT fails. */
static struct
{
	int64		id;				/* 0: none */
	QueueJobLog log;			/* in job_context */
}			uncommitted;

/* The kinds of the jobs that ended well in this group. */
static QueueKindStat *member[QUEUE_SUSPECT_IDS];
static int	nmembers;

/* Is it to end after the current job? */
static bool
must_stop(void)
{
	return ShutdownRequestPending || pg_atomic_read_u32(&queue_my_slot->retire) != 0 ||
		pg_atomic_read_u32(&base->closed) != 0;
}

/* ---- transactions ---- */

/* Begins the transaction of a group or of a lone job: READ COMMITTED and writable whatever the role's settings. */
static void
begin(void)
{
	queue_follow_begin();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
	group_start = queue_transaction_start();
	group_must_end = false;
	group_snapshot = NULL;
	nmembers = 0;
	MemoryContextReset(group_context);
	MemoryContextSwitchTo(group_context);
	table = queue_job_open(RowExclusiveLock);
	queue_kept_gather(table);
}

/* Nothing of a transaction stays for the next one. */
static void
sweep(bool temp, bool advisory)
{
	if (temp)
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());	/* catalogs have wide values too */
		ResetTempTableNamespace();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	if (advisory)
		LockReleaseAll(USER_LOCKMETHOD, true);
	DropAllPreparedStatements();
	pgstat_report_stat(false);
}

static void
commit(void)
{
	bool		temp = (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0;
	bool		advisory = queue_holds_advisory_lock();
	bool		wrote = TransactionIdIsValid(GetTopTransactionIdIfAny());

	queue_job_close(table);
	table = NULL;
	if (group_snapshot != NULL)
		UnregisterSnapshotFromOwner(group_snapshot, TopTransactionResourceOwner);
	MemoryContextSwitchTo(group_context);	/* what a commit allocates ends with the next transaction's begin */
	PortalHashTableDeleteAll();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	if (wrote)
		queue_entries_wrote();
	queue_suspect_clear();
	sweep(temp, advisory);
}

static void
rollback(void)
{
	bool		temp = (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0;
	bool		advisory;

	table = NULL;
	AbortCurrentTransaction();
	MemoryContextSwitchTo(TopMemoryContext);
	advisory = queue_holds_advisory_lock();
	queue_suspect_clear();
	sweep(temp, advisory);
}

/* ---- one job ---- */

/* The job being claimed and run. */
typedef struct Work
{
	QueueEntry *entry;
	QueueClaim	claim;			/* the row and its line */
	QueueKindStat *stat;
	QueueRunResult result;
	bool		alone;
	bool		looked;			/* its row was looked for, so whoever has it or moved it tells the cursor */
	TimestampTz started_at;
	TimestampTz ended_at;		/* 0: it did not end well */
} Work;

/* May this executor run jobs of this line now?  The scheduler asked the same a moment ago. */
static bool
eligible(QueueLine *line)
{
	const char *hint;
	const char *parked;

	if (line == NULL || !line->served || line->queue->paused || line->handler->http ||
		line->handler->run_as_oid != queue_my_slot->role)
		return false;
	parked = queue_run_parked(line->handler, &hint);
	if (parked != NULL)
		queue_entries_refuse(line->id, parked);
	return parked == NULL;
}

/* Reads the entry's row under a snapshot that is pushed now and popped by the caller; see queue_claim_read. */
static QueueClaimed
read_row(Work *work)
{
	PushActiveSnapshot(GetLatestSnapshot());
	work->claim.table = table;
	work->claim.snapshot = GetActiveSnapshot();
	work->claim.locked = false;
	memset(&work->claim.lost, 0, sizeof(work->claim.lost));
	if ((work->entry->flags & QUEUE_ENTRY_FOLLOWS) != 0)
	{
		work->claim.job = *queue_follow_found();
		work->claim.follows = true;
		return queue_claim_look(&work->claim);
	}
	return queue_claim_read(&work->claim, work->entry);
}

/* Arms interrupts for a job; from here on cancel and timeouts hit it. */
static void
arm(Work *work)
{
	int64		timeout;

	pg_atomic_write_u64(&queue_my_slot->line, (uint64) work->entry->line);
	pg_atomic_write_u64(&queue_my_slot->job_started_at, (uint64) work->started_at);
	queue_slot_show_progress(0, NULL, 0);	/* what an earlier run of it showed */
	pg_atomic_write_u64(&queue_my_slot->job_id, (uint64) work->entry->id);
	timeout = work->claim.extra.timeout >= 0 ? work->claim.extra.timeout :
		work->claim.line->handler->timeout >= 0 ? work->claim.line->handler->timeout : work->claim.line->queue->lease;
	queue_interrupt_arm(!work->alone && nmembers > 0, timeout);
}

static void
disarm(void)
{
	queue_interrupt_disarm();
	pg_atomic_write_u64(&queue_my_slot->job_id, 0);
	pg_atomic_write_u64(&queue_my_slot->cancel_id, 0);
}

/* The claim of a job in a group: inside its subtransaction, the delete is claim and completion. */
static bool
claim_by_delete(void *arg)
{
	Work	   *work = arg;
	QueueJob   *job = &work->claim.job;
	QueueExtra *extra = &work->claim.extra;
	QueueClaimed claimed;

	work->looked = true;
	claimed = read_row(work);
	if (claimed == QUEUE_CLAIM_OURS &&
		(job->failures > 0 || job->leased_until != DT_NOBEGIN || extra->deaths > 0 || extra->expires_at != DT_NOEND ||
		 extra->unique_key != NULL || job->problem != NULL || queue_slot_cancelled(MyDatabaseId, job->id) ||
		 queue_limit_misplaced(work->claim.line, extra->concurrency_key)))
	{
		/* not for company after all; what was cancelled waits there until who did that has the row */
		work->alone = true;
		claimed = QUEUE_CLAIM_NONE;
	}
	if (claimed == QUEUE_CLAIM_OURS)
	{
		arm(work);				/* before the row is ours: who finds it locked finds us */
		work->claim.paid = (work->entry->flags & QUEUE_ENTRY_PAID) != 0;
		/* if it must run again, when there may be no other token, the one that it has now is good for that */
		work->entry->flags |= QUEUE_ENTRY_PAID;
		claimed = queue_claim_delete(&work->claim);
		if (work->claim.line->limits != NULL)
			work->started_at = queue_now(); /* with its unit */
	}
	PopActiveSnapshot();
	if (claimed == QUEUE_CLAIM_FULL)
		queue_entries_give_back(work->entry);
	if (claimed == QUEUE_CLAIM_LOST)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("job " INT64_FORMAT " was claimed by a session at the same moment", job->id),
				 errhint("This is internal and counts as no attempt.")));
	return claimed == QUEUE_CLAIM_OURS;
}

/* Counts a run in the kind's statistics. */
static void
count_run(Work *work)
{
	int64		us;
	int64		used;

	work->ended_at = queue_now();
	us = work->ended_at - work->started_at;
	/* a run that looks long only because it waited for a CPU says nothing about its kind */
	queue_kind_ran(&work->claim.line->stat,
				   us > (int64) queue_commit_interval * 100 && queue_interrupt_preempted(&used) ? used : us);
	pg_atomic_fetch_add_u64(&queue_my_slot->jobs, 1);
}

/* Writes how a job that was alone in this transaction ended. */
static void
end_alone(Work *work, int attempt)
{
	QueueState	state;

	state = queue_verdict_write(table, &work->claim.job, attempt, &work->result, work->started_at, my_name, work->stat);
	if (work->result.outcome == QUEUE_RUN_FAILED || work->result.outcome == QUEUE_RUN_DISCARD)
	{
		QueueLogJob about = {work->claim.job.id, work->claim.line->kind, work->claim.line->queue->name, attempt,
		work->result.error != NULL ? work->result.error : "failed without an error text"};

		queue_log_job("job_failed", &about,
					  "job " INT64_FORMAT " of kind \"%s\" failed (attempt %d, SQLSTATE %s, now %s): %s", about.id,
					  about.kind, attempt, work->result.sqlstate[0] ? work->result.sqlstate : "-",
					  queue_state_names[state], about.error);
	}
}

/*
 * A suspect's attempt is committed before it runs: if it takes its process down again,
 * that is known.  False: it has done so often enough, or is gone.
 */
static bool
commit_suspect_attempt(Work *work)
{
	bool		go_on = false;

	if (read_row(work) == QUEUE_CLAIM_OURS && queue_claim_lock(&work->claim, false) == QUEUE_CLAIM_OURS)
	{
		Snapshot	snapshot = work->claim.snapshot;

		if (work->claim.extra.deaths >= MAX_DEATHS)
		{
			QueueFailure failure = {0};
			QueueState	state;

			failure.error = "the backend died while it ran this job, twice with nothing else beside it";
			failure.sqlstate = "57P02";
			queue_finish_check(&work->claim.job, queue_finish_fail(table, &work->claim.job, work->claim.job.attempt,
																   &failure, -1, true, snapshot, true, &state));
			if (work->stat != NULL)
				pg_atomic_fetch_add_u64(&work->stat->discarded, 1);
		}
		else if (queue_limit_explain(work->claim.line) != NULL)
			queue_entries_give_back(work->entry);	/* the limit is full again: it would not run */
		else
		{
			QueueJob	new = work->claim.job;

			new.attempt++;
			work->claim.extra.deaths++;
			new.extra = queue_extra_pack(&work->claim.extra);
			queue_finish_check(&work->claim.job, queue_job_update(table, &work->claim.job, &new, snapshot, true));
			work->entry->tid = new.tid;
			go_on = true;
		}
	}
	PopActiveSnapshot();
	commit();
	begin();
	work->claim.line = queue_config_line(work->entry->line);
	return go_on && eligible(work->claim.line);
}

/* Runs one job alone in the transaction that begin() began, and commits or rolls back. */
static void
run_alone(QueueEntry *entry)
{
	Work		data = {0};
	Work	   *work = &data;	/* not in group_context, which a suspect's first commit resets */
	bool		suspect = (entry->flags & QUEUE_ENTRY_SUSPECT) != 0;
	QueueClaimed claimed;
	int			attempt;

	work->entry = entry;
	work->alone = true;
	work->claim.line = queue_config_line(entry->line);
	if (!eligible(work->claim.line))
	{
		queue_entries_give_back(entry);
		rollback();
		return;
	}
	work->stat = queue_line_stat(work->claim.line);
	queue_suspect_set(0, entry->id);
	if (suspect && !commit_suspect_attempt(work))
	{
		commit();
		return;
	}
	queue_suspect_set(0, entry->id);

	/* just cancelled: whoever did that waits for the row, and is to get it before us */
	while (unlikely(queue_slot_cancelled(MyDatabaseId, entry->id)))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
	work->started_at = queue_now();
	claimed = read_row(work);
	if (claimed == QUEUE_CLAIM_OURS)
		claimed = queue_claim_judge(&work->claim);
	if (claimed == QUEUE_CLAIM_OURS)
	{
		arm(work);
		work->claim.paid = (entry->flags & QUEUE_ENTRY_PAID) != 0;
		entry->flags |= QUEUE_ENTRY_PAID;
		claimed = queue_claim_run(&work->claim, false);
		if (work->claim.line->limits != NULL)
			work->started_at = queue_now();
		if (claimed == QUEUE_CLAIM_OURS)
			queue_claim_count_lost(&work->claim);
		else
			disarm();
	}
	PopActiveSnapshot();
	if (claimed == QUEUE_CLAIM_FULL)
		queue_entries_give_back(entry);
	if (claimed != QUEUE_CLAIM_OURS)
	{
		commit();
		return;
	}

	attempt = suspect ? work->claim.job.attempt : work->claim.job.attempt + 1;
	{
		QueueJob	run = work->claim.job;
		bool		ran;

		run.attempt = attempt;
		MemoryContextSwitchTo(job_context);
		ran = queue_run_job(work->claim.line->handler, work->claim.line, &run, work->started_at, false, true, NULL,
							NULL, &work->result);
		MemoryContextSwitchTo(group_context);
		disarm();
		if (!ran || queue_verdict_lets_go(&work->result))
		{
			/* rolled back, not counted; the abort gives the row back to its line */
			rollback();
			MemoryContextReset(job_context);
			return;
		}
	}
	uncommitted.id = entry->id;
	uncommitted.log = work->result.log;
	end_alone(work, attempt);
	count_run(work);
	commit();
	MemoryContextReset(job_context);
}

/*
 * Runs one short job in the open group.  True: it ended well and its row is deleted.
 * False: *again tells whether it must run again alone.
 */
static bool
run_in_group(Work *work, bool *again)
{
	bool		ran;

	*again = false;
	queue_suspect_set(nmembers, work->entry->id);
	MemoryContextSwitchTo(job_context);
	/* the first needs no subtransaction: with its error nothing is lost but itself (and a lone job saves WAL) */
	ran = queue_run_job(work->claim.line->handler, work->claim.line, &work->claim.job, work->started_at, true,
						nmembers > 0, claim_by_delete, work, &work->result);
	MemoryContextSwitchTo(group_context);
	disarm();
	/* what outlives the subtransaction and a neighbour could see */
	PortalHashTableDeleteAll();
	DropAllPreparedStatements();
	/* a session's advisory lock outlives its subtransaction too, so also when the job was rolled back */
	if ((MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0 || queue_holds_advisory_lock())
		group_must_end = true;
	if (!ran)
	{
		*again = work->alone;
		if (!work->looked)
			queue_entries_give_back(work->entry);	/* its handler was parked at this very moment */
		return false;
	}
	if (work->result.outcome != QUEUE_RUN_COMPLETED)
	{
		*again = true;
		return false;
	}
	count_run(work);
	if (group_snapshot == NULL)
		group_snapshot = RegisterSnapshotOnOwner(GetTransactionSnapshot(), TopTransactionResourceOwner);
	queue_job_ended(table, &work->claim.job, work->claim.line, QUEUE_STATE_COMPLETED,
					&(QueueEnding) {.started_at = work->started_at, .ended_at = work->ended_at,
					.result = work->result.result, .worker = my_name, .progress = work->result.progress});
	queue_job_log_write(&work->claim.job, work->claim.job.attempt, work->claim.line, &work->result.log);
	return true;
}

/* Must this job run alone, as far as its entry and its kind tell? */
static bool
must_be_alone(const Work *work)
{
	return (work->entry->flags & (QUEUE_ENTRY_ALONE | QUEUE_ENTRY_SUSPECT)) != 0 ||
		!queue_kind_is_short(&work->claim.line->stat, work->started_at);
}

/*
 * Runs a group that begins with queue_held[0], or with what follows the last job of the transaction before it, taking
 * further entries from the channel.  On return its transaction is over and queue_held has what must run alone.
 */
static void
run_group(void)
{
	QueueEntry	again[QUEUE_SUSPECT_IDS];
	int			nagain = 0;
	int			current = 0;
	int			subxids = 2;	/* that a job may need: more than any has */
	int			had;
	bool		keep;

	begin();
	if (queue_nheld == 0 && !queue_follow_resume(table, group_start) && !queue_entries_next())
	{
		commit();
		return;
	}
	queue_interrupt_group_begin(group_start);
	for (;;)
	{
		Work		data = {0};
		Work	   *work = &data;
		bool		rerun;

		CHECK_FOR_INTERRUPTS();
		work->entry = &queue_held[current];
		work->claim.line = queue_config_line(work->entry->line);
		if (!eligible(work->claim.line))
		{
			queue_entries_give_back(work->entry);
			if (nmembers == 0)
				break;
			goto next;
		}
		work->stat = queue_line_stat(work->claim.line);
		work->started_at = queue_now();
		if (must_be_alone(work) && (work->entry->flags & QUEUE_ENTRY_FOLLOWS) == 0)
		{
			again[nagain++] = *work->entry;
			break;
		}
		if (work->entry->stamp > group_start && nmembers > 0)
		{
			/* its enqueuer may have written what this group's now() is too old for */
			queue_entries_postpone(work->entry);
			break;
		}
		if (nmembers == 0)
			pg_atomic_write_u64(&queue_my_slot->sharing_since, (uint64) group_start);
		had = MyProc->subxidStatus.count;
		queue_interrupt_clear();
		if (run_in_group(work, &rerun))
		{
			member[nmembers++] = work->stat;
			queue_follow_ended(&work->claim);
		}
		else if (rerun)
		{
			if (queue_interrupt_reason() == QUEUE_INTERRUPT_INTERVAL)
				queue_kind_ran(&work->claim.line->stat, (int64) queue_commit_interval * 1000 + 1);
			/* one that follows stays pending: the end of the job before it lets it in */
			if (queue_interrupt_reason() != QUEUE_INTERRUPT_CANCEL && (work->entry->flags & QUEUE_ENTRY_FOLLOWS) == 0)
			{
				again[nagain] = *work->entry;
				again[nagain++].flags |= QUEUE_ENTRY_ALONE;
			}
		}
		subxids = Max(subxids, 2 * (MyProc->subxidStatus.count - had));
		MemoryContextReset(job_context);
next:
		if (group_must_end || nagain > 8 || queue_interrupt_reason() == QUEUE_INTERRUPT_INTERVAL ||
			ShutdownRequestPending || MyProc->subxidStatus.overflowed ||
			MyProc->subxidStatus.count + subxids >= PGPROC_MAX_CACHED_SUBXIDS ||
			(work->ended_at != 0 ? work->ended_at : queue_now()) - group_start >= (int64) queue_commit_interval * 500 ||
			(!queue_follow_next(table, group_start) && !queue_entries_next()))
			break;
		current = queue_nheld - 1;
	}
	queue_interrupt_group_end();
	keep = nagain == 0 && !group_must_end && !must_stop() && queue_follow_keep(table);
	commit();
	if (!keep)
		queue_mark_unkeep();
	for (int i = 0; i < nmembers; i++)
	{
		if (member[i] != NULL)
			pg_atomic_fetch_add_u64(&member[i]->completed, 1);
	}
	memcpy(queue_held, again, nagain * sizeof(QueueEntry));
	queue_nheld = nagain;
}

/* The lone job of a transaction that failed at COMMIT, or around the handler: a failed attempt. */
static void
fail_after_abort(QueueEntry *entry, ErrorData *edata)
{
	Work		data = {0};
	Work	   *work = &data;

	begin();
	work->entry = entry;
	work->claim.line = queue_config_line(entry->line);
	if (work->claim.line == NULL || work->claim.line->handler == NULL)
	{
		rollback();
		return;
	}
	work->stat = queue_line_stat(work->claim.line);
	if (read_row(work) == QUEUE_CLAIM_OURS && queue_claim_lock(&work->claim, false) == QUEUE_CLAIM_OURS)
	{
		work->result.outcome = QUEUE_RUN_FAILED;
		work->result.retry_in = -1;
		work->result.error = edata->detail != NULL ?
			psprintf("%s\nDETAIL:  %s", edata->message, edata->detail) : edata->message;
		strlcpy(work->result.sqlstate, unpack_sql_state(edata->sqlerrcode), sizeof(work->result.sqlstate));
		work->result.context = edata->context;
		if (uncommitted.id == entry->id)
			work->result.log = uncommitted.log;
		end_alone(work, work->claim.job.attempt + 1);
	}
	PopActiveSnapshot();
	commit();
}

/* After an error outside a handler's subtransaction: roll back, and say what was running. */
static ErrorData *
recover(void)
{
	ErrorData  *edata;

	HOLD_INTERRUPTS();
	queue_log_capture_mute();
	queue_current = NULL;
	queue_claim_running = NULL;
	disable_all_timeouts(false);
	disarm();
	MemoryContextSwitchTo(error_context);
	edata = CopyErrorData();
	FlushErrorState();
	rollback();
	queue_log_capture_end(NULL);
	RESUME_INTERRUPTS();
	return edata;
}

/* fail_after_abort, and if even that fails, the job goes back to its line. */
static void
fail_or_give_back(QueueEntry *entry, ErrorData *edata)
{
	PG_TRY();
	{
		fail_after_abort(entry, edata);
	}
	PG_CATCH();
	{
		queue_entries_shun(entry, edata->message, recover()->sqlerrcode);
	}
	PG_END_TRY();
}

/* Runs queue_held[i] alone in its own transaction; whatever goes wrong is its own failed attempt. */
static void
run_one(int i)
{
	QueueEntry	entry = queue_held[i];

	PG_TRY();
	{
		begin();
		run_alone(&entry);
	}
	PG_CATCH();
	{
		ErrorData  *edata = recover();

		fail_or_give_back(&entry, edata);
	}
	PG_END_TRY();
}

/*
 * Runs what was popped: a group, then one of those that must run alone.  The others go back into the channel, so that
 * nothing more urgent waits for them.
 */
static void
process(void)
{
	pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_RUNNING);
	MemoryContextReset(error_context);
	MemoryContextReset(job_context);
	uncommitted.id = 0;
	PG_TRY();
	{
		run_group();
	}
	PG_CATCH();
	{
		/* at COMMIT or in between: nobody knows whose fault it was, so each alone */
		(void) recover();
	}
	PG_END_TRY();
	pg_atomic_write_u64(&queue_my_slot->sharing_since, 0);
	if (!queue_worker_deadline_passed())
	{
		bool		ran = false;

		for (int i = 0; i < queue_nheld; i++)
		{
			if (queue_held[i].id == 0 || (queue_held[i].flags & QUEUE_ENTRY_FOLLOWS) != 0)
				continue;		/* postponed, or pending again */
			if (ran)
			{
				queue_entries_put_back_alone(&queue_held[i]);
				continue;
			}
			run_one(i);
			queue_held[i].id = 0;	/* done: nothing to give back */
			ran = true;
		}
	}
	queue_entries_give_back_all();
}

/* What ALTER ROLE or ALTER DATABASE may have set and must not reach the handlers, nor come back with RESET. */
static void
pin_settings(void)
{
	/* it would end the process uncounted (17 and later); jobs have a timeout of their own */
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	/* handlers run as run_as, whatever role it takes when it logs in */
	if (GetSessionUserId() != queue_my_slot->role)
	{
		StartTransactionCommand();
		SetConfigOption("session_authorization", GetUserNameFromId(queue_my_slot->role, false), PGC_SUSET,
						PGC_S_OVERRIDE);
		CommitTransactionCommand();
	}
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
connect_as_role(int number)
{
	queue_interrupt_begin();
	queue_worker_begin(number, 1000);
	base = queue_database_of(queue_my_slot->db, false);
	if (base == NULL || pg_atomic_read_u32(&base->closed) != 0)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(queue_my_slot->db, queue_my_slot->role, QUEUE_BGWORKER_CONNECT_FLAGS);
	queue_executor_name(my_name, MyProcPid);
	queue_suspect_attach(number);
	pin_settings();
	queue_interrupt_timeouts();
	group_context = AllocSetContextCreate(TopMemoryContext, "queue group", ALLOCSET_DEFAULT_SIZES);
	job_context = AllocSetContextCreate(TopMemoryContext, "queue job", ALLOCSET_DEFAULT_SIZES);
	error_context = AllocSetContextCreate(TopMemoryContext, "queue error", ALLOCSET_SMALL_SIZES);
}

void
queue_executor_main(Datum arg)
{
	connect_as_role(DatumGetInt32(arg));
	queue_worker_up();
	if (!queue_entries_open())
		proc_exit(0);
	while (!must_stop())
	{
		TimestampTz until = 0;
		int			woke;

		pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_IDLE);
		pg_memory_barrier();
		queue_nheld = 0;
		if (queue_entries_next())
		{
			pgstat_report_activity(STATE_RUNNING, "queue: running jobs");
			do
			{
				process();
			} while (!must_stop() && !ConfigReloadPending && (queue_mark_kept() || queue_entries_next()));
			queue_mark_unkeep();
			pgstat_report_activity(STATE_IDLE, NULL);
		}
		else
		{
			pgstat_report_stat(true);
			until = queue_now() + queue_executor_idle_timeout * INT64CONST(1000);
		}
		woke = queue_worker_sleep(NULL, queue_earlier(until, queue_entries_paused_until()),
								  queue_wait_event("QueueExecutorIdle"));
		if (until != 0 && (woke & QUEUE_WOKE_TIMEOUT) != 0 && until <= queue_now() && !queue_entries_any())
			break;
	}
	pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_STOPPING);
	queue_database_wake(base, 0);
	proc_exit(0);
}
