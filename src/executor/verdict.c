/*
 * verdict.c
 *		What a run of a handler means for its job: the outcome, written to the job's row, and what a call about the
 *		job that was made inside its own handler asks for.
 *
 * Such a call changes no row: it leaves a verdict, which takes hold when the handler returns and dies with the
 * subtransaction in which it was given (run.c).
 *
 * Locks: the row lock of the job, which the caller holds already.
 */
#include "executor/verdict.h"

#include "executor/interrupt.h"
#include "job/finish.h"
#include "shared/clock.h"
#include "shared/slot.h"

#include "access/xact.h"

/*
 * How long a job waits that its own handler released in an executor, and at least if it snoozed: neither counts, so the
 * executor would run it again and again.
 */
#define RELEASED_US USECS_PER_SEC
#define SNOOZED_MIN_US INT64CONST(10000)

/*
 * What an interrupt means for the job: true if it is let go uncounted (its transaction
 * is to be rolled back); a timeout or a user's cancel is a failed attempt.
 */
bool
queue_verdict_lets_go(QueueRunResult *result)
{
	if (queue_interrupt_reason() == QUEUE_INTERRUPT_CANCEL)
		return true;			/* even if the handler swallowed it: the caller waits for the row */
	if (strcmp(result->sqlstate, "57014") != 0 && result->outcome != QUEUE_RUN_INTERRUPTED)
		return false;
	switch (queue_interrupt_reason())
	{
		case QUEUE_INTERRUPT_TIMEOUT:
			result->outcome = QUEUE_RUN_FAILED;
			result->timed_out = true;
			result->error = "the job ran longer than its timeout";
			return false;
		case QUEUE_INTERRUPT_INTERVAL:
		case QUEUE_INTERRUPT_CANCEL:
		case QUEUE_INTERRUPT_STOP:
			return true;
		default:
			return result->outcome == QUEUE_RUN_INTERRUPTED;
	}
}

QueueState
queue_verdict_write(QueueJobTable *table, const QueueJob *job, int attempt, const QueueRunResult *result,
					 TimestampTz started_at, const char *worker, QueueKindStat *stat)
{
	bool		in_executor = queue_my_slot != NULL;
	QueueFailure failure = {0};
	QueueState	state = QUEUE_STATE_COMPLETED;
	TM_Result	res = TM_Ok;
	Snapshot	snapshot = queue_finish_snapshot();
	QueueJob	marked;

	if (result->marks != NULL)
	{
		QueueExtra	marks;
		QueueExtra	extra;

		queue_extra_unpack(result->marks, &marks);
		queue_extra_unpack(job->extra, &extra);
		extra.steps_size = marks.steps_size;
		extra.awaits = marks.awaits;
		marked = *job;
		marked.extra = queue_extra_pack(&extra);
		job = &marked;
	}
	failure.error = result->error != NULL ? result->error : "failed without an error text";
	failure.sqlstate = result->sqlstate;
	failure.context = result->context;
	failure.worker = worker;
	failure.started_at = started_at;
	switch (result->outcome)
	{
		case QUEUE_RUN_FAILED:
		case QUEUE_RUN_DISCARD:
			res = queue_finish_fail(table, job, attempt, &failure, result->retry_in,
									result->outcome == QUEUE_RUN_DISCARD, snapshot, true, &state);
			break;
		case QUEUE_RUN_SNOOZE:
			state = QUEUE_STATE_SCHEDULED;
			res = queue_finish_return(table, job, attempt,
									  in_executor ? Max(result->delay, SNOOZED_MIN_US) : result->delay,
									  result->progress, snapshot, true);
			break;
		case QUEUE_RUN_RELEASE:
			state = in_executor ? QUEUE_STATE_SCHEDULED : QUEUE_STATE_AVAILABLE;
			res = queue_finish_return(table, job, attempt, in_executor ? RELEASED_US : -1,
									  result->progress, snapshot, true);
			break;
		case QUEUE_RUN_AWAIT:
			state = QUEUE_STATE_PENDING;
			res = queue_finish_await(table, job, attempt, result->progress, snapshot, true);
			break;
		case QUEUE_RUN_COMPLETED:
		case QUEUE_RUN_CANCEL:
		case QUEUE_RUN_INTERRUPTED:
			state = result->outcome == QUEUE_RUN_CANCEL ? QUEUE_STATE_CANCELLED : QUEUE_STATE_COMPLETED;
			res =
				queue_finish_end(table, job, attempt, state,
								   &(QueueEnding) {.started_at = started_at, .result = result->result,
								   .error = result->error, .worker = worker, .progress = result->progress},
								   snapshot, true);
			break;
	}
	PopActiveSnapshot();
	queue_finish_check(job, res);
	queue_job_log_write(job, attempt, queue_job_line(job->line), &result->log);
	if (stat != NULL)
	{
		if (result->outcome == QUEUE_RUN_COMPLETED)
			pg_atomic_fetch_add_u64(&stat->completed, 1);
		if (result->outcome == QUEUE_RUN_FAILED || result->outcome == QUEUE_RUN_DISCARD)
		{
			pg_atomic_fetch_add_u64(&stat->failed, 1);
			pg_atomic_write_u64(&stat->last_error_at, (uint64) queue_now());
			pg_atomic_write_u32(&stat->last_sqlstate, result->sqlstate[0] == '\0' ? 0 :
								MAKE_SQLSTATE(result->sqlstate[0], result->sqlstate[1], result->sqlstate[2],
											  result->sqlstate[3], result->sqlstate[4]));
		}
		if (state == QUEUE_STATE_DISCARDED)
			pg_atomic_fetch_add_u64(&stat->discarded, 1);
		if (result->timed_out)
			pg_atomic_fetch_add_u64(&stat->timeouts, 1);
	}
	return state;
}

void
queue_verdict_alone(int64 id)
{
	if (queue_current == NULL || queue_current->job->id != id || !queue_current->in_company)
		return;
	/* the row is already deleted; this is an error that no EXCEPTION block catches */
	queue_current->wants_alone = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("job " INT64_FORMAT " is run again alone, because its handler acts on it", id),
			 errhint("This is internal and counts as no attempt.")));
}

QueueVerdict *
queue_verdict_own(int64 id, QueueOutcome outcome)
{
	QueueVerdict *verdict;
	Jsonb	   *progress;

	if (queue_current == NULL || queue_current->job->id != id)
		return NULL;
	queue_verdict_alone(id);
	verdict = &queue_current->verdict;
	progress = verdict->progress;
	memset(verdict, 0, sizeof(*verdict));
	verdict->given = true;
	verdict->outcome = outcome;
	verdict->level = GetCurrentTransactionNestLevel();
	verdict->delay = verdict->retry_in = -1;
	verdict->progress = progress;
	return verdict;
}
