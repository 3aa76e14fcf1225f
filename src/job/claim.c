/*
 * claim.c
 *		May this row be claimed now, by whom; then the claim.
 *
 * Every claimer takes the same steps: look (is the row where it was read, and nobody's), judge (did it come too late,
 * was the attempt before this one lost, and was it the last), then one of the claims: the row's lock, a lease, the
 * delete that completes it, or a session's advisory lock.
 *
 * A session's claim is in no row.  So whoever writes another claim looks for the session's lock before it writes, which
 * is only polite, and again after, which decides: the session rechecks the row after it took its lock, so one of the
 * two sees the other (session.c).  Often both do, and both let go; then the one that had written tells the others that
 * the job is claimable: a rollback does by its notes, and where there is none this file makes a note of its own.
 *
 * Whoever ends a job that nobody runs does it under the row's lock, taken by the same rule.
 *
 * Locks: the row lock; the test of a session's lock, never waited for.
 */
#include "job/claim.h"

#include "job/finish.h"
#include "job/key.h"
#include "job/pending.h"
#include "shared/clock.h"
#include "shared/session.h"
#include "shared/slot.h"

#include "access/xact.h"

QueueRunning *queue_claim_running = NULL;

bool
queue_claim_runs_here(int64 id)
{
	for (QueueRunning *running = queue_claim_running; running != NULL; running = running->outer)
	{
		if (running->id == id)
			return true;
	}
	return false;
}

QueueHolder
queue_claim_holder(int64 id, TimestampTz leased_until, TimestampTz now)
{
	if (leased_until > now)
		return QUEUE_HELD_BY_LEASE;
	if (queue_slot_runs(MyDatabaseId, id))
		return QUEUE_HELD_BY_EXECUTOR;
	if (queue_session_taken(id))
		return QUEUE_HELD_BY_SESSION;
	return QUEUE_HELD_BY_NOBODY;
}

QueueClaimed
queue_claim_look(QueueClaim *claim)
{
	QueueJob   *job = &claim->job;

	if (queue_job_pending(job) && !claim->follows)
		return QUEUE_CLAIM_NONE;	/* promotion moves it */
	if (job->leased_until != DT_NOBEGIN && job->leased_until > queue_now())
	{
		queue_lease_note(MyDatabaseId, job->id, job->line, queue_job_pos(job), job->leased_until);
		return QUEUE_CLAIM_NONE;
	}
	if (queue_session_taken(job->id))
		return QUEUE_CLAIM_NONE;
	queue_extra_unpack(job->extra, &claim->extra);
	if (claim->follows && claim->extra.blocks != QUEUE_BLOCK_GROUP)
		return QUEUE_CLAIM_NONE;
	return QUEUE_CLAIM_OURS;
}

QueueClaimed
queue_claim_read(QueueClaim *claim, const QueueEntry *entry)
{
	QueueJob   *job = &claim->job;
	ItemPointerData tid = entry->tid;

	if (!queue_job_refind(claim->table, &tid, entry->id, claim->snapshot, job) ||
		job->line != entry->line || job->run_at != entry->run_at)
		return QUEUE_CLAIM_NONE;
	claim->follows = false;
	return queue_claim_look(claim);
}

/* A write that found the row changed or locked.  The transaction's own snapshot cannot go on from there. */
static QueueClaimed
refused(TM_Result result)
{
	if ((result == TM_Updated || result == TM_Deleted) && IsolationUsesXactSnapshot())
		queue_finish_retry(result);
	return QUEUE_CLAIM_NONE;
}

/*
 * We had the row for a moment, and a session may have seen that and let go without a word.  So our commit tells, like
 * our abort; and the session's claim is tested again, because what we wrote may have displaced its probe.
 */
static void
note_let_go(const QueueJob *job)
{
	QueueNote	note = {
		.line = job->line, .job_id = job->id, .keys = queue_line_keys(queue_job_line(job->line)),
		.on_commit = true, .on_abort = true,
		.commit_pos = queue_job_pos(job), .abort_pos = queue_job_pos(job),
		.leased_until = queue_now() + QUEUE_SESSION_PROBE_US
	};

	queue_note_end(queue_note_begin(&note), true);
}

QueueClaimed
queue_claim_lock(QueueClaim *claim, bool wait)
{
	TM_Result	result;

	if (claim->locked)
		return QUEUE_CLAIM_OURS;
	claim->met = result = queue_job_lock(claim->table, &claim->job, claim->snapshot, wait);
	if (result != TM_Ok)
		return refused(result);
	if (queue_session_taken(claim->job.id))
	{
		note_let_go(&claim->job);
		return QUEUE_CLAIM_NONE;
	}
	claim->locked = true;
	return QUEUE_CLAIM_OURS;
}

/* Do the limits let this claim be made? */
static bool
admit(QueueClaim *claim, QueueUnitKind kind, TimestampTz until)
{
	return queue_limit_admit(claim->line, &claim->job, claim->extra.concurrency_key, kind, until, claim->paid,
							 &claim->refusal);
}

QueueClaimed
queue_claim_run(QueueClaim *claim, bool wait)
{
	if (!admit(claim, QUEUE_UNIT_RUN, DT_NOEND))
		return QUEUE_CLAIM_FULL;
	return queue_claim_lock(claim, wait);
}

/* A job that cannot be read fails like one whose handler fails: counted, with the reason, later again. */
static QueueClaimed
fail_unreadable(QueueClaim *claim)
{
	QueueJob   *job = &claim->job;
	QueueFailure failure = {.error = psprintf("the job could not be read: %s", job->problem)};
	QueueState	state;
	QueueClaimed claimed = queue_claim_lock(claim, false);

	if (claimed != QUEUE_CLAIM_OURS)
		return claimed;
	queue_finish_check(job, queue_finish_fail(claim->table, job, job->attempt, &failure, -1, false,
											  claim->snapshot, true, &state));
	return state == QUEUE_STATE_DISCARDED ? QUEUE_CLAIM_ENDED : QUEUE_CLAIM_NONE;
}

/* The job was enqueued before its queue went by keys: it goes to the line of its key, and is found there. */
static QueueClaimed
move_to_key(QueueClaim *claim)
{
	const QueueLine *line = claim->line;
	QueueJob	moved = claim->job;
	TM_Result	result;

	moved.line = queue_line_ensure(line->queue->name, line->kind, line->priority, claim->extra.concurrency_key);
	result = queue_job_update(claim->table, &claim->job, &moved, claim->snapshot, false);
	return result == TM_Ok ? QUEUE_CLAIM_NONE : refused(result);
}

QueueClaimed
queue_claim_judge(QueueClaim *claim)
{
	QueueJob   *job = &claim->job;
	bool late = job->attempt == 0 && claim->extra.expires_at != DT_NOEND && claim->extra.expires_at <= queue_now();
	bool		used_up = job->attempt == PG_INT32_MAX; /* the next claim would have no number */
	bool		replaced;
	QueueClaimed claimed;
	QueueState	state;
	TM_Result	result;
	QueueKeyName key;

	if (job->problem != NULL)
		return fail_unreadable(claim);
	if (unlikely(queue_limit_misplaced(claim->line, claim->extra.concurrency_key)))
		return move_to_key(claim);
	if (job->leased_until != DT_NOBEGIN)
	{
		claim->lost.error = "the lease ended before the job was completed";
		claim->lost.worker = claim->extra.worker;
		claim->lost.started_at = claim->extra.started_at;
	}
	if (used_up)
		claim->lost.error = "there is no number left for another attempt";
	/* a claim that was rolled back brought it here, and meanwhile another took its place */
	replaced = claim->extra.unique_key != NULL && queue_key_name(job, claim->line, &key) &&
		queue_key_successor(&key, job->id, claim->snapshot) != 0;
	if (!late && !used_up && !replaced &&
		(claim->lost.error == NULL ||
		 job->failures < -1 + queue_job_max_attempts(job, &claim->extra, claim->line->queue, claim->line->handler)))
		return QUEUE_CLAIM_OURS;
	claimed = queue_claim_lock(claim, false);
	if (claimed != QUEUE_CLAIM_OURS)
		return claimed;
	if (late || (replaced && claim->lost.error == NULL))
		result = queue_finish_end(claim->table, job, job->attempt, QUEUE_STATE_CANCELLED,
								  &(QueueEnding) {.error = late ? "the job was not started before expires_at" :
								  QUEUE_REPLACED}, claim->snapshot, false);
	else
		result = queue_finish_fail(claim->table, job, job->attempt, &claim->lost, -1, !replaced, claim->snapshot,
								   false, &state);
	if (result == TM_WouldBlock)
	{
		note_let_go(job);		/* an enqueue has its unique key in hand: later */
		return QUEUE_CLAIM_NONE;
	}
	queue_finish_check(job, result);
	return QUEUE_CLAIM_ENDED;
}

QueueClaimed
queue_claim_delete(QueueClaim *claim)
{
	TM_Result	result;

	if (!admit(claim, QUEUE_UNIT_RUN, DT_NOEND))
		return QUEUE_CLAIM_FULL;
	result = queue_job_delete(claim->table, &claim->job, QUEUE_STATE_COMPLETED, claim->snapshot, false);
	if (result != TM_Ok)
		return refused(result);
	if (queue_session_taken(claim->job.id))
		return QUEUE_CLAIM_LOST;
	claim->job.attempt = Min(claim->job.attempt, PG_INT32_MAX - 1) + 1;
	return QUEUE_CLAIM_OURS;
}

QueueClaimed
queue_claim_lease(QueueClaim *claim, TimestampTz until, const char *worker, TimestampTz now)
{
	QueueJob	leased = claim->job;
	TM_Result	result;

	if (!admit(claim, QUEUE_UNIT_LEASE, until))
		return QUEUE_CLAIM_FULL;
	leased.attempt++;
	leased.leased_until = until;
	/* under a limit the claim begins with its unit: what shows how many run at once is then right */
	claim->extra.started_at = claim->line->limits == NULL ? now : queue_now();
	claim->extra.worker = unconstify(char *, worker);
	if (claim->lost.error != NULL)
	{
		leased.failures++;
		claim->extra.last_error = unconstify(char *, claim->lost.error);
	}
	leased.extra = queue_extra_pack(&claim->extra);
	result = queue_job_update(claim->table, &claim->job, &leased, claim->snapshot, false);
	if (result != TM_Ok)
	{
		queue_limit_undo(claim->line, &claim->job, QUEUE_UNIT_LEASE);
		return refused(result);
	}
	if (queue_session_taken(leased.id))
	{
		/* the row as it was, in a version of its own: other claims of this transaction stand */
		CommandCounterIncrement();
		PushActiveSnapshot(GetLatestSnapshot());
		queue_finish_check(&leased, queue_job_update(claim->table, &leased, &claim->job, GetActiveSnapshot(), true));
		PopActiveSnapshot();
		CommandCounterIncrement();
		note_let_go(&claim->job);
		return QUEUE_CLAIM_NONE;
	}
	if (claim->lost.error != NULL)
		queue_failure_insert(&claim->job, claim->line->queue->name, claim->line->kind, &claim->lost, queue_now());
	claim->job = leased;
	return QUEUE_CLAIM_OURS;
}

void
queue_claim_count_lost(QueueClaim *claim)
{
	QueueNote	note = {.line = claim->job.line, .keys = queue_line_keys(claim->line), .failed = true};

	if (claim->lost.error == NULL)
		return;
	queue_failure_insert(&claim->job, claim->line->queue->name, claim->line->kind, &claim->lost, queue_now());
	queue_note_end(queue_note_begin(&note), true);
	claim->job.failures++;
}

/* The row is nobody's after it.  Called before queue_claim_session, which does not write it. */
QueueClaimed
queue_claim_free_lost(QueueClaim *claim)
{
	QueueJob	freed = claim->job;
	TM_Result	result;

	if (claim->lost.error == NULL)
		return QUEUE_CLAIM_OURS;
	freed.leased_until = DT_NOBEGIN;
	freed.failures++;
	claim->extra.last_error = unconstify(char *, claim->lost.error);
	claim->extra.worker = NULL;
	claim->extra.started_at = 0;
	freed.extra = queue_extra_pack(&claim->extra);
	result = queue_job_update(claim->table, &claim->job, &freed, claim->snapshot, false);
	if (result != TM_Ok)
		return refused(result);
	queue_failure_insert(&claim->job, claim->line->queue->name, claim->line->kind, &claim->lost, queue_now());
	claim->job = freed;
	CommandCounterIncrement();
	return QUEUE_CLAIM_OURS;
}

QueueClaimed
queue_claim_session(QueueClaim *claim)
{
	QueueJob   *job = &claim->job;
	QueueLineKeys keys = queue_line_keys(claim->line);
	SnapshotData dirty;
	QueueJob	again;
	int			token;

	queue_session_drop(job->id);	/* a claim whose lock was taken away from it, by pg_advisory_unlock_all() say */
	if (!admit(claim, QUEUE_UNIT_SESSION, DT_NOEND))
		return QUEUE_CLAIM_FULL;
	token = queue_session_claim(RelationGetRelid(claim->table->rel), job->id, job->line, &keys, queue_job_pos(job));
	if (token == 0)
	{
		queue_limit_undo(claim->line, job, QUEUE_UNIT_SESSION);
		return QUEUE_CLAIM_NONE;
	}
	InitDirtySnapshot(dirty);
	if (!queue_job_find(claim->table, job->id, &dirty, &again) ||
		(TransactionIdIsValid(dirty.xmin) && !TransactionIdIsCurrentTransactionId(dirty.xmin)) ||
		(TransactionIdIsValid(dirty.xmax) && !TransactionIdIsCurrentTransactionId(dirty.xmax)) ||
		again.line != job->line || again.run_at != job->run_at || again.leased_until != DT_NOBEGIN ||
		queue_job_row_locked(claim->table, &again))
	{
		queue_session_drop(job->id);
		return QUEUE_CLAIM_NONE;
	}
	*job = again;
	job->attempt = token;
	queue_extra_unpack(job->extra, &claim->extra);	/* alter_job may have changed it since the look */
	return QUEUE_CLAIM_OURS;
}
