/*
 * finish.c
 *		How a claimed job ends or goes back to its line, as writes to its row.
 *
 * Each call changes a row that its caller has found, with one heap operation, and keeps what is to be kept of it
 * (record.c).  Who may do so, and whether the claim is still the caller's, is the caller's to check: api/finish.c for
 * external workers, executor/verdict.c for handlers that ran, http/outcome.c for requests.
 *
 * Locks: the row lock of each job; several at once in the order of their ids.
 */
#include "job/finish.h"

#include "config/owner.h"
#include "job/dead_letter.h"
#include "job/dependency.h"
#include "job/event.h"
#include "job/finished.h"
#include "job/group.h"
#include "job/key.h"
#include "job/pending.h"
#include "job/record.h"
#include "job/step.h"
#include "job/workflow.h"
#include "shared/clock.h"
#include "shared/ended.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"

void
queue_finish_writable(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("This server is a standby: connect to the primary.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s in a read-only transaction", function),
				 errhint("Begin the transaction READ WRITE; see also default_transaction_read_only.")));
	PreventCommandIfParallelMode(function);
}

Snapshot
queue_finish_snapshot(void)
{
	PushActiveSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
	return GetActiveSnapshot();
}

void
queue_finish_retry(TM_Result result)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent %s",
						result == TM_Deleted ? "delete" : "update"),
				 errhint("Retry the transaction, or use READ COMMITTED.")));
	if (result == TM_SelfModified)
		CommandCounterIncrement();	/* by this very command: see it the next time */
	CHECK_FOR_INTERRUPTS();
}

void
queue_finish_check(const QueueJob *job, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job " INT64_FORMAT " was changed under its lock", job->id),
				 errhint("Something writes to queue.live_job beside the extension.")));
}

bool
queue_finish_find(QueueJobTable *table, int64 id, int privilege, Snapshot snapshot,
				  QueueJob *job, QueueLine **line)
{
	if (!queue_job_find_lean(table, id, snapshot, job))
		return false;
	*line = queue_job_line(job->line);
	if (queue_may(GetUserId(), (*line)->queue->name, privilege))
		return true;
	if (queue_may(GetUserId(), (*line)->queue->name, QUEUE_PRIV_READ))
		queue_require((*line)->queue->name, privilege);
	return false;
}

/* The row as it goes back to the line: not leased, due at run_at, the enqueue time kept. */
static QueueJob
unclaimed(const QueueJob *job, int attempt, TimestampTz run_at, QueueExtra *extra)
{
	QueueJob	new = *job;

	new.attempt = attempt;
	new.leased_until = DT_NOBEGIN;
	queue_job_set_run_at(&new, extra, run_at);
	extra->started_at = 0;
	extra->worker = NULL;
	extra->deaths = 0;
	return new;
}

/* Did the claim's lease end before the job was completed or failed? */
static bool
is_lost(const QueueJob *job)
{
	return job->leased_until != DT_NOBEGIN && job->leased_until <= queue_now();
}

/*
 * Counts an attempt that completed or failed: how long it waited, from the time that it was asked for, and ran.
 * started_at 0: nobody knows, or it is not to be counted.  What is returned is to be filled further; NULL: nobody
 * wants to know.
 */
static QueueEnded *
count_attempt(const QueueJob *job, const QueueLine *line, TimestampTz started_at, TimestampTz ended_at)
{
	QueueEnded *ended = queue_ended_new();

	if (ended == NULL)
		return NULL;
	ended->recent.id = 0;
	ended->counter = queue_line_counted(line);
	ended->wait_us = ended->run_us = -1;
	if (started_at != 0)
	{
		/* a job that was held out of its line waited from before it was let in */
		TimestampTz asked = queue_extra_time(job->extra, "run_at");

		if (ended_at == 0)
			ended_at = queue_now();
		ended->wait_us = Max(started_at - (asked != 0 ? asked : job->run_at), 0);
		ended->run_us = Max(ended_at - started_at, 0);
	}
	return ended;
}

/* Tells those who ask later of a job that is gone.  What the run did not tell, the row does. */
static void
remember(const QueueJob *job, const QueueLine *line, QueueState to, const QueueEnding *ending)
{
	TimestampTz started_at = ending->started_at;
	const char *worker = ending->worker;
	size_t		worker_length = worker != NULL ? strlen(worker) : 0;
	QueueEnded *ended;
	QueueRecent *recent;
	bool		counts;

	if (!queue_preloaded())
		return;
	if (started_at == 0)
		started_at = queue_extra_time(job->extra, "started_at");
	/* what somebody ended by hand, or left when its lease ended, says nothing about its kind */
	counts = !is_lost(job) &&
		(to == QUEUE_STATE_COMPLETED || (to == QUEUE_STATE_DISCARDED && ending->started_at != 0));
	ended = count_attempt(job, line, counts ? started_at : 0, ending->ended_at);
	if (ended == NULL)
		return;
	recent = &ended->recent;
	recent->id = job->id;
	recent->line = job->line;
	recent->state = (uint8) to;
	recent->attempt = job->attempt;
	recent->enqueued_at = queue_extra_time(job->extra, "enqueued_at");
	if (recent->enqueued_at == 0)
		recent->enqueued_at = job->run_at;
	recent->started_at = started_at;
	if (worker == NULL)
		worker = queue_extra_worker(job->extra, &worker_length);
	queue_recent_describe(recent, line->queue->name, line->kind, worker, worker_length, ending->error);
}

void
queue_job_ended(QueueJobTable *table, const QueueJob *job, const QueueLine *line, QueueState to,
				const QueueEnding *ending)
{
	int64		keep = to == QUEUE_STATE_NONE ? 0 :
		to == QUEUE_STATE_COMPLETED ? line->queue->keep_completed : line->queue->keep_discarded;
	static const QueueEnding deleted = {.error = "purged, or its queue was dropped"};
	QueueJob	with_steps = *job;
	QueueJob	ended;
	QueueEnding with_letter;
	QueueKeyName key;
	bool		needed;
	bool		awaited = false;	/* kept only for its dependents */

	remember(job, line, to, ending);
	queue_event_ended(job);
	queue_steps_end(&with_steps);
	job = &with_steps;
	ended = *job;
	if (queue_group_ended(table, &ended, line, to))
		keep = QUEUE_FOR_EVER;	/* it is needed until somebody decides about it */
	if (to == QUEUE_STATE_DISCARDED && (line->queue->dead_letter != NULL || line->queue->on_discarded != NULL))
	{
		with_letter = *ending;
		if (queue_dead_letter_discarded(job, line, ending, &with_letter.dead_letter))
			keep = QUEUE_FOR_EVER;
		ending = &with_letter;
	}
	queue_workflow_ended(&ended, to, ending);
	needed = queue_dependency_ended(table, &ended, to, keep);
	if (needed)
	{
		awaited = keep <= 0;
		keep = Max(keep, QUEUE_DEPENDENCY_KEEP);
	}
	if (to != QUEUE_STATE_COMPLETED && queue_extra_int(ended.extra, "compensates") != 0)
	{
		needed = true;			/* its workflow waits until it is retried */
		keep = QUEUE_FOR_EVER;
	}
	if (needed)
	{
		if (to == QUEUE_STATE_NONE)
		{
			/* nobody can know later that it was deleted, and did not complete */
			to = QUEUE_STATE_CANCELLED;
			ending = &deleted;
		}
	}
	if (keep > 0)
		queue_finished_insert(table, &ended, line->queue, line->kind, line->priority, to, ending, keep,
							  awaited);
	if (queue_key_name(job, line, &key))
		queue_key_release(&key, job->id);
	else if (job->extra == NULL && job->stored_extra != NULL)
		queue_key_release_unread(job->id);
}

/*
 * Locks a job and its unique key, if it has one, before its end or return is written; *successor: the job that waits
 * for the key.  The key of a pending job comes first, because who ends the job before it locks them in that order.
 */
static TM_Result
hold_key(QueueJobTable *table, const QueueJob *job, const QueueLine *line, Snapshot snapshot, bool wait,
		 int64 *successor)
{
	QueueKeyName key;
	TM_Result	result = TM_Ok;

	*successor = 0;
	if (!queue_key_name(job, line, &key))
		return TM_Ok;
	if (!queue_job_pending(job))
		result = queue_job_lock(table, job, snapshot, wait);
	if (result == TM_Ok && !queue_key_hold(table, &key, job->id, wait, successor))
		return TM_WouldBlock;
	return result == TM_Ok && queue_job_pending(job) ? queue_job_lock(table, job, snapshot, wait) : result;
}

TM_Result
queue_finish_end(QueueJobTable *table, const QueueJob *job, int attempt, QueueState to,
				 const QueueEnding *ending, Snapshot snapshot, bool wait)
{
	QueueLine  *line = queue_job_line(job->line);
	TM_Result	res = TM_Ok;
	int64		successor;

	/* a key that may be waited for is so when the row is written, so that the ends of many take theirs in order */
	if (!wait || queue_job_pending(job))
		res = hold_key(table, job, line, snapshot, wait, &successor);
	if (res == TM_Ok)
		res = queue_job_delete(table, job, to, snapshot, wait);
	if (res == TM_Ok)
	{
		QueueJob	ended = *job;

		ended.attempt = attempt;
		queue_job_ended(table, &ended, line, to, ending);
	}
	return res;
}

TM_Result
queue_finish_fail(QueueJobTable *table, const QueueJob *job, int attempt, const QueueFailure *failure,
				  int64 retry_in, bool discard, Snapshot snapshot, bool wait, QueueState *state)
{
	QueueLine  *line = queue_job_line(job->line);
	QueueHandler *handler = line->handler;
	QueueExtra	extra;
	QueueJob	counted = *job;
	int64		successor;
	TM_Result	res = hold_key(table, job, line, snapshot, wait, &successor);
	TimestampTz now = queue_now();	/* when it failed, and what its retry is counted from */

	if (res != TM_Ok)
		return res;
	queue_extra_unpack(job->extra, &extra);
	counted.attempt = attempt;
	counted.failures = Min(job->failures, PG_INT32_MAX - 1) + 1;
	if (discard || counted.failures >= queue_job_max_attempts(job, &extra, line->queue, handler))
	{
		*state = QUEUE_STATE_DISCARDED;
		res = queue_job_delete(table, job, QUEUE_STATE_DISCARDED, snapshot, wait);
		if (res == TM_Ok)
			queue_job_ended(table, &counted, line, QUEUE_STATE_DISCARDED,
							&(QueueEnding) {.started_at = failure->started_at, .ended_at = failure->ended_at,
							.error = failure->error, .worker = failure->worker});
	}
	else if (successor != 0)
	{
		*state = QUEUE_STATE_CANCELLED;
		res = queue_job_delete(table, job, QUEUE_STATE_CANCELLED, snapshot, wait);
		if (res == TM_Ok)
			queue_job_ended(table, &counted, line, QUEUE_STATE_CANCELLED,
							&(QueueEnding) {.started_at = failure->started_at, .error = QUEUE_REPLACED,
							.worker = failure->worker});
	}
	else
	{
		QueueBackoff own;
		const QueueBackoff *backoff = extra.backoff != NULL && queue_backoff_of_text(extra.backoff, &own) ? &own :
			handler != NULL && handler->has_backoff ? &handler->backoff : &line->queue->backoff;
		int64		delay = retry_in >= 0 ? retry_in : queue_backoff_delay(backoff, counted.failures);
		QueueJob	new;

		*state = QUEUE_STATE_RETRYABLE;
		new = unclaimed(&counted, attempt, queue_time_add(now, delay), &extra);
		extra.last_error = queue_record_text(failure->error);
		/* an extra that could not be read stays as it is: the job never runs without its headers */
		if (job->problem == NULL || job->extra != NULL || job->stored_extra == NULL)
			new.extra = queue_extra_pack(&extra);
		res = queue_job_update(table, job, &new, snapshot, wait);
		if (res == TM_Ok)
			queue_workflow_waits(&extra);
		if (res == TM_Ok && !is_lost(job))
			(void) count_attempt(job, line, failure->started_at, failure->ended_at);
	}
	if (res == TM_Ok)
	{
		queue_failure_insert(&counted, line->queue->name, line->kind, failure, now);
		if (*state != QUEUE_STATE_RETRYABLE)
		{
			/* the update of a retryable row counts its failure; a deleted row has none */
			QueueNote	note = {.line = job->line, .keys = queue_line_keys(line), .failed = true};

			queue_note_end(queue_note_begin(&note), true);
		}
	}
	return res;
}

/* Not counted: due again after delay us (< 0: where it was), or held until an event. */
static TM_Result
give_back(QueueJobTable *table, const QueueJob *job, int attempt, int64 delay, bool awaits, Jsonb *progress,
		  Snapshot snapshot, bool wait)
{
	QueueExtra	extra;
	QueueJob	new;
	int64		successor;
	TM_Result	res = hold_key(table, job, queue_job_line(job->line), snapshot, wait, &successor);

	if (res != TM_Ok)
		return res;
	if (successor != 0)
		return queue_finish_end(table, job, attempt, QUEUE_STATE_CANCELLED,
								&(QueueEnding) {.error = QUEUE_REPLACED, .progress = progress}, snapshot, wait);
	queue_extra_unpack(job->extra, &extra);
	if (progress != NULL)
		extra.progress = progress;
	new = unclaimed(job, attempt, delay < 0 ? job->run_at : queue_time_add(queue_now(), delay), &extra);
	if (awaits)
		queue_job_hold(&new, &extra, QUEUE_BLOCK_EVENT);
	new.extra = queue_extra_pack(&extra);
	res = queue_job_update(table, job, &new, snapshot, wait);
	if (res == TM_Ok)
		queue_workflow_waits(&extra);
	return res;
}

TM_Result
queue_finish_return(QueueJobTable *table, const QueueJob *job, int attempt, int64 delay, Jsonb *progress,
					Snapshot snapshot, bool wait)
{
	return give_back(table, job, attempt, delay, false, progress, snapshot, wait);
}

TM_Result
queue_finish_await(QueueJobTable *table, const QueueJob *job, int attempt, Jsonb *progress, Snapshot snapshot,
				   bool wait)
{
	return give_back(table, job, attempt, -1, true, progress, snapshot, wait);
}
