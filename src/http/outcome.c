/*
 * outcome.c
 *		What the http worker records of requests that ended.
 *
 * Outcomes that ended within QUEUE_SENDER_FLUSH_US are recorded in one transaction, so that one flush of the log
 * serves many; at once when nothing else is under way, when there are enough, or when a handler at its limit waits for
 * them: a claim is in force until its outcome is recorded.  Each is fenced by the attempt: a
 * job that was taken again, ended or given away meanwhile is left alone.  A row that somebody has locked is never
 * waited for, but tried again a little later.  If a transaction fails, its outcomes are recorded one by one; what then
 * fails is tried again, less and less often: while there is no room until its lease ends.  If the row has itself to
 * blame, a few times only, because it keeps a place of its handler's; then the outcome is a failed attempt, with the
 * reason; and if not even that can be recorded, the job is sent again when its lease has ended.
 *
 * Locks: RowExclusiveLock on live_job, row locks.
 */
#include "http/outcome.h"

#include "http/redact.h"
#include "http/router.h"
#include "http/sender.h"
#include "http/transfer.h"
#include "job/event.h"
#include "job/finish.h"
#include "job/pause.h"
#include "job/pending.h"
#include "job/record.h"
#include "lib/text.h"
#include "shared/clock.h"
#include "shared/pace.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define FLUSH_COUNT 48			/* outcomes that do not wait for more */
#define LOCKED_RETRY_US INT64CONST(20000)
#define MAX_RETRY_US (5 * USECS_PER_SEC)
#define FAIL_REFUSALS 6			/* takes 0.6 s, .. */
#define MAX_REFUSALS 12			/* .. and that again */
#define MAX_CONTEXT 1000		/* bytes of an answer kept with a failed attempt */

static int	record_limit = QUEUE_SENDER_BATCH;	/* 1 after an error, to find whose it was */
static QueuePause no_room = {0};

/* Takes the requests that ended. */
void
queue_outcome_collect(void)
{
	QueueRequest *request;
	TimestampTz now = queue_now();

	while ((request = queue_transfer_ended(now)) != NULL)
	{
		if (request->owner != NULL)
		{
			if (queue_router_probed(request, now))
				queue_sender.wake_scheduler = true;
			queue_request_release(request);
			continue;
		}
		queue_sender.nsending--;
		queue_request_drop_body(request);
		queue_sender_ended(request, now);
		queue_router_ended(request, now, false);
	}
}

/* {"status": .., "body": .., "duration_ms": ..} */
static Jsonb *
make_result(QueueRequest *request)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = {.type = jbvString};
	JsonbValue	value;

#define KEY(name) \
	(key.val.string.val = (name), key.val.string.len = strlen(name), pushJsonbValue(&state, WJB_KEY, &key))
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	KEY("status");
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(request->status);
	pushJsonbValue(&state, WJB_VALUE, &value);
	KEY("body");
	value.type = jbvString;
	value.val.string.val = queue_text_clean(request->answer, request->answer_length, request->answer_length, PG_UTF8);
	value.val.string.len = strlen(value.val.string.val);
	pushJsonbValue(&state, WJB_VALUE, &value);
	KEY("duration_ms");
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(request->duration / 1000);
	pushJsonbValue(&state, WJB_VALUE, &value);
	if (request->cut)
	{
		KEY("truncated");
		value.type = jbvBool;
		value.val.boolean = true;
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
#undef KEY
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Counts an outcome in the kind's statistics and tells the log of failures. */
static void
count_outcome(QueueRequest *request, QueueLine *line, QueueState state)
{
	QueueKindStat *stat = line->handler == NULL ? NULL : queue_line_stat(line);
	bool		failed = request->verdict == QUEUE_HTTP_FAIL || request->verdict == QUEUE_HTTP_DISCARD;

	pg_atomic_fetch_add_u64(&queue_my_slot->jobs, 1);
	if (failed)
		queue_log_job("job_failed", &(QueueLogJob) {request->id, line->kind, line->queue->name, request->attempt,
					  request->error},
					  "job " INT64_FORMAT " of kind \"%s\" failed (attempt %d, HTTP status %ld, now %s): %s",
					  request->id, line->kind, request->attempt, request->status, queue_state_names[state],
					  request->error);
	if (stat == NULL)
		return;
	if (request->verdict != QUEUE_HTTP_RELEASE)
		queue_kind_ran(&line->stat, request->duration);
	if (request->verdict == QUEUE_HTTP_COMPLETE)
		pg_atomic_fetch_add_u64(&stat->completed, 1);
	if (failed)
	{
		pg_atomic_fetch_add_u64(&stat->failed, 1);
		pg_atomic_write_u64(&stat->last_error_at, (uint64) queue_now());
		if (request->timed_out)
			pg_atomic_fetch_add_u64(&stat->timeouts, 1);
	}
	if (state == QUEUE_STATE_DISCARDED)
		pg_atomic_fetch_add_u64(&stat->discarded, 1);
}

/* The endpoint asked for an event: the job waits for it, or is sent again because it is known what became of that. */
static TM_Result
record_await(QueueRequest *request, const QueueJob *job, const QueueLine *line, Snapshot snapshot, QueueState *state)
{
	QueueJob	marked = *job;
	QueueAwait	await;
	char	   *name = queue_text_clean(request->await, strlen(request->await), QUEUE_NAME_MAX, PG_UTF8);
	bool		first = job->extra == NULL || queue_extra_text(job->extra, "awaits") == NULL;
	TM_Result	res = queue_job_lock(queue_sender.table, job, snapshot, false);

	if (res != TM_Ok)
		return res;
	queue_event_await(&marked, line->queue->name, name, request->delay, &await);
	*state = await.status == QUEUE_AWAITED_WAITING ? QUEUE_STATE_PENDING : QUEUE_STATE_SCHEDULED;
	if (await.status == QUEUE_AWAITED_WAITING)
		res = queue_finish_await(queue_sender.table, &marked, job->attempt, NULL, snapshot, false);
	else	/* one that was told before shall not ask again and again */
		res = queue_finish_return(queue_sender.table, &marked, job->attempt, await.known ? USECS_PER_SEC : 0, NULL,
								  snapshot, false);
	if (res != TM_Ok && first)
	{
		/* the row does not say that it awaits, so who ends it before the next try would leave this behind */
		CommandCounterIncrement();
		queue_event_ended(&marked);
	}
	return res;
}

/* Writes one outcome, if the claim is still ours.  TM_BeingModified: somebody has the row locked, later. */
static TM_Result
record(QueueRequest *request)
{
	Snapshot	snapshot = GetActiveSnapshot();
	QueueJob	job;
	QueueLine  *line;
	QueueState	state = QUEUE_STATE_AVAILABLE;
	QueueFailure failure = {0};
	TM_Result	res = TM_Ok;

	if (!queue_job_refind(queue_sender.table, &request->tid, request->id, snapshot, &job))
		return TM_Ok;			/* ended by somebody else */
	if (job.attempt != request->attempt || job.leased_until == DT_NOBEGIN)
	{
		/* given back while its request was under way, so its entries were passed by (delivery.c); or taken again */
		if (job.leased_until == DT_NOBEGIN && !queue_job_pending(&job))
			queue_job_give_back(job.line, queue_job_pos(&job));
		return TM_Ok;
	}
	line = queue_job_line(job.line);
	queue_redact(request, line->handler != NULL && line->handler->http ? line->handler->conf : NULL);
	switch (request->verdict)
	{
		case QUEUE_HTTP_COMPLETE:
			/* who depends on the job, and its workflow, needs the result, though the queue keeps nothing */
			state = QUEUE_STATE_COMPLETED;
			res = queue_finish_end(queue_sender.table, &job, job.attempt, QUEUE_STATE_COMPLETED,
								   &(QueueEnding) {.started_at = request->started_at,
								   .ended_at = request->started_at + request->duration,
								   .result = make_result(request)},
								   snapshot, false);
			break;
		case QUEUE_HTTP_FAIL:
		case QUEUE_HTTP_DISCARD:
			failure.error = request->error;
			failure.http_status = (int) request->status;
			failure.worker = queue_sender.worker_name;
			failure.started_at = request->started_at;
			failure.ended_at = request->started_at + request->duration;
			if (request->answer_length > 0)
				failure.context = queue_text_clean(request->answer, request->answer_length, MAX_CONTEXT, PG_UTF8);
			res = queue_finish_fail(queue_sender.table, &job, job.attempt, &failure, request->delay,
									request->verdict == QUEUE_HTTP_DISCARD, snapshot, false, &state);
			break;
		case QUEUE_HTTP_SNOOZE:
			state = QUEUE_STATE_SCHEDULED;
			res = queue_finish_return(queue_sender.table, &job, job.attempt, request->delay, NULL, snapshot, false);
			break;
		case QUEUE_HTTP_AWAIT:
			res = record_await(request, &job, line, snapshot, &state);
			break;
		case QUEUE_HTTP_RELEASE:
			res = queue_finish_return(queue_sender.table, &job, job.attempt, -1, NULL, snapshot, false);
			break;
	}
	if (res == TM_Ok)
		count_outcome(request, line, state);
	return res;
}

/*
 * The row refuses its outcome: it becomes a failed attempt, as of a job that fails at its commit; but for one that was
 * not sent and only goes back.
 */
static void
fail_instead(QueueRequest *request, const char *error)
{
	char		reason[sizeof(request->error)];

	if (request->verdict == QUEUE_HTTP_RELEASE)
		return;
	if (request->verdict == QUEUE_HTTP_FAIL || request->verdict == QUEUE_HTTP_DISCARD)
		snprintf(reason, sizeof(reason), "%s; that could not be recorded: %s", request->error, error);
	else
		snprintf(reason, sizeof(reason), "what became of the request could not be recorded: %s", error);
	queue_text_copy(request->error, sizeof(request->error), reason);
	queue_text_mend(request->error);
	request->verdict = QUEUE_HTTP_FAIL;
	request->delay = -1;
	request->tries = 0;
}

/* The outcome could not be recorded, alone. */
static void
put_off(QueueRequest *request, const char *error)
{
	bool		room = !queue_pause_is_for(queue_sender.code);
	TimestampTz now = queue_now();

	if (!room)
		queue_pause_failed(&no_room, request->id, now);
	else if (++request->refusals == FAIL_REFUSALS)
		fail_instead(request, error);
	if (now >= request->leased_until || request->refusals >= MAX_REFUSALS)
	{
		int64		id = request->id;

		queue_sender_forget(request);
		if (queue_sender_tells("http_lost"))
			queue_log("http_lost", "the outcome of job " INT64_FORMAT " cannot be recorded: it is sent again when its"
					  " lease ends", id);
		return;
	}
	request->retry_at = now + Min(LOCKED_RETRY_US << Min(request->tries, 8), MAX_RETRY_US);
	request->tries++;
	queue_sender_ended(request, now);
}

/* Records up to a batch of outcomes in one transaction; with all, those that were put off, too. */
static void
record_pass(bool all)
{
	QueueRequest *batch[QUEUE_SENDER_BATCH];
	bool		later[QUEUE_SENDER_BATCH] = {false};
	MemoryContext row_context;	/* a job's payload may be large */
	volatile int n = 0;
	int			todo = queue_sender.ndone;
	TimestampTz now = queue_now();
	TimestampTz retry = DT_NOEND;	/* the first of those that wait */
	char	   *volatile error = NULL;

	/* what could not be written a moment ago waits a little */
	for (int i = 0; i < todo && n < record_limit; i++)
	{
		QueueRequest *request = queue_sender.done_first;

		Assert(request != NULL);
		queue_sender.done_first = request->next;
		if (queue_sender.done_first == NULL)
			queue_sender.done_last = NULL;
		queue_sender.ndone--;
		if (!all && queue_put_off(request->retry_at, MAX_RETRY_US, now))
		{
			retry = Min(retry, request->retry_at);
			queue_sender_ended(request, now);
		}
		else
			batch[n++] = request;
	}
	if (n == 0)
	{
		queue_sender.oldest_done = retry - QUEUE_SENDER_FLUSH_US;
		return;
	}
	PG_TRY();
	{
		queue_sender_begin();
		row_context = AllocSetContextCreate(CurrentMemoryContext, "queue http row", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(row_context);
		for (int i = 0; i < n; i++)
		{
			later[i] = record(batch[i]) != TM_Ok;
			MemoryContextReset(row_context);
		}
		if (queue_sender_commit(false))
			no_room = (QueuePause) {0};
	}
	PG_CATCH();
	{
		error = queue_sender_rollback("outcomes of jobs could not be recorded");
	}
	PG_END_TRY();
	now = queue_now();
	for (int i = 0; i < n; i++)
	{
		QueueRequest *request = batch[i];

		if (error != NULL && n == 1)
			put_off(request, error);
		else if (error != NULL || later[i])
		{
			request->retry_at = error != NULL ? 0 : now + LOCKED_RETRY_US;
			queue_sender_ended(request, now);
		}
		else
			queue_sender_forget(request);
	}
	record_limit = error != NULL ? 1 : Min(record_limit * 2, QUEUE_SENDER_BATCH);
	queue_sender.oldest_done = now;
	if (error != NULL)
		pfree(error);
}

/* Records what is due to be; with all: everything that can be at once. */
void
queue_outcome_record(bool all)
{
	int			passes = queue_sender.ndone;

	if (!all && queue_pause_until(&no_room, queue_now()) != DT_NOEND)
		return;
	while (queue_sender.ndone > 0 && passes-- > 0 &&
		   (all || queue_sender.hurry || queue_sender.nsending == 0 || queue_sender.ndone >= FLUSH_COUNT ||
			queue_now() - queue_sender.oldest_done >= QUEUE_SENDER_FLUSH_US))
	{
		int			before = queue_sender.ndone;

		record_pass(all);
		if (queue_sender.ndone >= before && !all)
			break;
	}
	queue_sender.hurry = false;
}

TimestampTz
queue_outcome_next(void)
{
	TimestampTz paused = queue_pause_until(&no_room, queue_now());

	if (queue_sender.ndone == 0)
		return DT_NOEND;
	return paused != DT_NOEND ? paused : queue_sender.oldest_done + QUEUE_SENDER_FLUSH_US;
}
