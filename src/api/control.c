/*
 * control.c
 *		What an operator does with one job: cancel, discard, retry, alter_job; and current_job.
 *
 * Cancelling a job that an executor runs: the executor is told through its slot and
 * rolls the job back uncounted; the caller waits for the row and ends it in its own
 * transaction, so that a cancel is never lost in a crash.
 *
 * Locks: the row lock of the job.
 */
#include "api/control.h"

#include "api/arguments.h"
#include "api/enqueue.h"
#include "executor/verdict.h"
#include "job/claim.h"
#include "job/create.h"
#include "job/dead_letter.h"
#include "job/depend.h"
#include "job/finish.h"
#include "job/finished.h"
#include "job/held.h"
#include "job/key.h"
#include "job/pending.h"
#include "job/record.h"
#include "shared/clock.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* Cancels a discarded job that holds its group, so that the group goes on; false: this job holds none. */
static bool
cancel_holder(QueueJobTable *table, int64 id, const char *reason)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueFinished finished;
		QueueExtra	extra = QUEUE_EXTRA_NONE;
		TM_Result	res;

		if (queue_finished_find(id, snapshot, &finished) && queue_may(GetUserId(), finished.queue, QUEUE_PRIV_MANAGE))
			queue_extra_unpack(finished.job.extra, &extra);
		if (!extra.holds_group)
		{
			PopActiveSnapshot();
			return false;
		}
		res = queue_finished_delete(&finished, snapshot, true);
		PopActiveSnapshot();
		if (res == TM_Ok)
		{
			QueueConf  *conf = queue_config_queue(finished.queue, true);

			extra.holds_group = false;
			finished.job.extra = queue_extra_pack(&extra);
			if (conf != NULL)
				queue_finished_insert(table, &finished.job, conf, finished.kind, finished.priority,
									  QUEUE_STATE_CANCELLED,
									  &(QueueEnding) {.error = reason, .started_at = finished.started_at,
									  .worker = finished.worker},
									  conf->keep_discarded, false);
			CommandCounterIncrement();
			return true;
		}
		queue_finish_retry(res);
	}
}

bool
queue_control_end(int64 id, QueueState to, QueueOutcome outcome, const char *reason)
{
	QueueVerdict *own = queue_verdict_own(id, outcome);
	QueueJobTable *table;
	bool		wait = false;

	if (own != NULL)
	{
		own->text = reason != NULL ? MemoryContextStrdup(queue_current->context, reason) : NULL;
		return true;
	}
	if (reason == NULL)
		reason = to == QUEUE_STATE_CANCELLED ? "cancelled" : "discarded by hand";
	table = queue_job_open(RowExclusiveLock);
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;
		QueueLine  *line;
		TM_Result	res;
		bool		found = queue_finish_find(table, id, QUEUE_PRIV_MANAGE, snapshot, &job, &line);

		if (!found)
		{
			PopActiveSnapshot();
			found = to == QUEUE_STATE_CANCELLED && cancel_holder(table, id, reason);
			queue_job_close(table);
			return found;
		}
		res = queue_finish_end(table, &job, job.attempt, to, &(QueueEnding) {.error = reason}, snapshot, wait);
		PopActiveSnapshot();
		if (wait)
			queue_slot_cancel_done(MyDatabaseId, id);
		if (res == TM_Ok)
			break;
		if (res == TM_BeingModified || res == TM_WouldBlock)
		{
			/* whoever runs it lets go; whoever else has it is waited for */
			(void) queue_slot_cancel(MyDatabaseId, id);
			wait = true;
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		queue_finish_retry(res);
		wait = false;
	}
	queue_job_close(table);
	CommandCounterIncrement();
	return true;
}

/* cancel and discard: ends a waiting or running job as told. */
static bool
end_job(FunctionCallInfo fcinfo, const char *function, QueueState to, QueueOutcome outcome)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	char	   *reason = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	queue_finish_writable(function);
	return queue_control_end(id, to, outcome, reason);
}

PG_FUNCTION_INFO_V1(queue_sql_cancel);
/* queue.cancel(job_id, reason) -> boolean */
Datum
queue_sql_cancel(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(end_job(fcinfo, "queue.cancel()", QUEUE_STATE_CANCELLED, QUEUE_RUN_CANCEL));
}

PG_FUNCTION_INFO_V1(queue_sql_discard);
/* queue.discard(job_id, reason) -> boolean */
Datum
queue_sql_discard(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(end_job(fcinfo, "queue.discard()", QUEUE_STATE_DISCARDED, QUEUE_RUN_DISCARD));
}

/* A job that comes back needs its unique key again: 23505 if another has it. */
static void
take_key(const QueueFinished *finished)
{
	QueueKeyName key = {finished->queue, finished->kind, queue_extra_text(finished->job.extra, "unique_key")};
	int64		holder;

	if (key.key != NULL && !queue_key_take(&key, finished->job.id, true, &holder))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("unique key \"%s\" of job " INT64_FORMAT " is taken by job " INT64_FORMAT, key.key,
						finished->job.id, holder),
				 errhint("Retry it when that job has ended and, if it has unique_for, that is over.")));
}

void
queue_control_drop_letter(QueueJobTable *table, const QueueFinished *finished)
{
	QueueExtra	extra;
	int64		id;

	queue_extra_unpack(finished->job.extra, &extra);
	id = extra.dead_letter;
	while (id != 0)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueClaim	claim = {.table = table, .snapshot = snapshot};
		QueueOrigin origin;
		bool		done = true;

		if (queue_job_find_lean(table, id, snapshot, &claim.job))
		{
			queue_extra_unpack(claim.job.extra, &extra);
			/* left behind, it could be redriven later, and its job would run once more */
			if (queue_dead_letter_origin(extra.origin, &origin) && origin.id == finished->job.id)
				done = queue_claim_holder(id, claim.job.leased_until, queue_now()) == QUEUE_HELD_BY_NOBODY &&
					queue_claim_lock(&claim, false) == QUEUE_CLAIM_OURS &&
					queue_finish_end(table, &claim.job, claim.job.attempt, QUEUE_STATE_NONE, &(QueueEnding) {0},
									 snapshot, false) == TM_Ok;
		}
		PopActiveSnapshot();
		if (done)
			return;
		if (claim.met != TM_Ok && claim.met != TM_WouldBlock)
			queue_finish_retry(claim.met);
		else if (claim.met == TM_Ok || !queue_row_wait_moment(table->rel, &claim.job.tid, table->slot, id))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the dead letter " INT64_FORMAT " of job " INT64_FORMAT " is in somebody's hands", id,
							finished->job.id),
					 errhint("Cancel the letter first, or retry the job when the letter waits again.")));
	}
}

bool
queue_control_revive(int64 id, TimestampTz run_at, bool *missing)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueFinished finished;
		QueueJobTable *table;
		TM_Result	res;

		/* the right first: a row that the caller may not see is not touched */
		*missing = !queue_finished_find(id, snapshot, &finished) ||
			(!queue_may(GetUserId(), finished.queue, QUEUE_PRIV_MANAGE) &&
			 !queue_may(GetUserId(), finished.queue, QUEUE_PRIV_READ));
		if (*missing)
		{
			PopActiveSnapshot();
			return false;
		}
		queue_require(finished.queue, QUEUE_PRIV_MANAGE);
		res = queue_finished_delete(&finished, snapshot, true);
		PopActiveSnapshot();
		if (res != TM_Ok)
		{
			queue_finish_retry(res);
			continue;
		}
		take_key(&finished);
		table = queue_job_open(RowExclusiveLock);
		queue_control_drop_letter(table, &finished);
		queue_finished_revive(&finished, run_at);
		queue_job_add(table, &finished.job, 1);
		queue_depend_hold(table, id);
		queue_job_close(table);
		CommandCounterIncrement();
		return true;
	}
}

/* Somebody changed or took the row: what it is now shows in the next look. */
static void
look_again(void)
{
	CommandCounterIncrement();
	CHECK_FOR_INTERRUPTS();
}

TM_Result
queue_control_change(QueueJobTable *table, const QueueJob *job, QueueLine *line, QueueChange change, void *arg,
					 Snapshot snapshot, bool wait)
{
	QueueClaim	claim = {.table = table, .snapshot = snapshot, .job = *job};
	QueueExtra	extra;
	QueueJob	new = *job;

	if (queue_claim_lock(&claim, wait) != QUEUE_CLAIM_OURS)
		return claim.met != TM_Ok ? claim.met : TM_Invisible;
	queue_extra_unpack(job->extra, &extra);
	if (!change(&new, &extra, line, arg))
		return TM_Invisible;
	new.extra = queue_extra_pack(&extra);
	return queue_job_update(table, job, &new, snapshot, true);
}

/*
 * retry and alter_job: changes a waiting row.  Returns false if there is none that the
 * caller may change, or it is running; *missing tells that there is no live row at all.
 */
static bool
change_waiting(int64 id, QueueChange change, void *arg, bool *missing)
{
	QueueJobTable *table = queue_job_open(RowExclusiveLock);

	*missing = false;
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;
		QueueLine  *line;
		TM_Result	res;
		bool		found = queue_finish_find(table, id, QUEUE_PRIV_MANAGE, snapshot, &job, &line);

		if (!found || queue_claim_holder(id, job.leased_until, queue_now()) != QUEUE_HELD_BY_NOBODY)
		{
			*missing = !found;
			PopActiveSnapshot();
			queue_job_close(table);
			return false;
		}
		res = queue_control_change(table, &job, line, change, arg, snapshot, true);
		PopActiveSnapshot();
		if (res == TM_Ok)
			break;
		if (res == TM_Invisible)
			look_again();
		else
			queue_finish_retry(res);
	}
	queue_job_close(table);
	CommandCounterIncrement();
	return true;
}

bool
queue_control_retry(QueueJob *job, QueueExtra *extra, QueueLine *line, void *run_at)
{
	queue_job_set_run_at(job, extra, *(TimestampTz *) run_at);
	job->failures = 0;
	job->leased_until = DT_NOBEGIN;
	extra->deaths = 0;
	return true;
}

PG_FUNCTION_INFO_V1(queue_sql_retry);
/* queue.retry(job_id, run_at) -> boolean */
Datum
queue_sql_retry(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	TimestampTz run_at = PG_ARGISNULL(1) ? queue_now() : queue_check_time("run_at", PG_GETARG_TIMESTAMPTZ(1));
	bool		missing;
	bool		done;

	queue_finish_writable("queue.retry()");
	done = change_waiting(id, queue_control_retry, &run_at, &missing);
	if (!done && missing)
		done = queue_control_revive(id, run_at, &missing);
	/* another may have retried it between the two looks */
	if (!done && missing)
		done = change_waiting(id, queue_control_retry, &run_at, &missing);
	PG_RETURN_BOOL(done);
}

/* What alter_job may change, in the order of its parameters. */
enum
{
	ALTER_RUN_AT, ALTER_PRIORITY, ALTER_MAX_ATTEMPTS, ALTER_PAYLOAD, ALTER_TIMEOUT, ALTER_TAGS, ALTER_HEADERS,
	ALTER_EXPIRES_AT, NALTER
};
static const char *const alterable[NALTER] = {
	"run_at", "priority", "max_attempts", "payload", "timeout", "tags", "headers", "expires_at"
};

/*
 * What alter_job was asked to change: the members of request that are marked, which is their default if it is to be
 * reset.
 */
typedef struct Alteration
{
	QueueNewJob request;
	bool		change[NALTER];
} Alteration;

static bool
change_for_alter(QueueJob *job, QueueExtra *extra, QueueLine *line, void *arg)
{
	Alteration *alteration = arg;
	QueueNewJob *request = &alteration->request;
	bool	   *change = alteration->change;

	if (change[ALTER_RUN_AT])
		queue_job_set_run_at(job, extra, request->has_run_at ? request->run_at : queue_now());
	if (change[ALTER_PRIORITY] && request->priority != line->priority)
		job->line = queue_line_ensure(line->queue->name, line->kind, (int16) request->priority,
									  extra->concurrency_key);
	if (change[ALTER_MAX_ATTEMPTS])
		extra->max_attempts = request->max_attempts;
	if (change[ALTER_PAYLOAD])
		job->payload = request->payload;
	if (change[ALTER_TIMEOUT])
		extra->timeout = request->timeout;
	if (change[ALTER_TAGS])
		extra->tags = request->tags;
	if (change[ALTER_HEADERS])
		extra->headers = request->headers;
	if (change[ALTER_PAYLOAD] || change[ALTER_TAGS] || change[ALTER_HEADERS])
		queue_check_size("job", queue_job_size(job->payload, extra->headers, extra->tags));
	if (change[ALTER_EXPIRES_AT])
	{
		extra->expires_at = request->expires_at;
		queue_job_note_deadline(job, extra->expires_at);
	}
	return true;
}

/* Marks what is to be reset. */
static void
read_reset(Alteration *alteration, Datum reset)
{
	int			n;
	char	  **names = queue_texts(reset, "reset", &n);

	for (int i = 0; i < n; i++)
	{
		int			j = 0;

		while (j < NALTER && strcmp(names[i], alterable[j]) != 0)
			j++;
		if (j == NALTER)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("a job has no option \"%s\" to reset", names[i]),
							errhint("Options are run_at, priority, max_attempts, payload, timeout, tags, headers and "
									"expires_at.")));
		if (alteration->change[j])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option %s is both given and reset", names[i]),
					 errhint("Do one of the two.")));
	}
	for (int i = 0; i < n; i++)
	{
		for (int j = 0; j < NALTER; j++)
			alteration->change[j] |= strcmp(names[i], alterable[j]) == 0;
	}
}

PG_FUNCTION_INFO_V1(queue_sql_alter_job);
/* queue.alter_job(job_id, run_at, priority, .., reset) -> boolean */
Datum
queue_sql_alter_job(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	Alteration	alteration = {.request = QUEUE_NEW_JOB_NONE};
	bool		missing;

	queue_finish_writable("queue.alter_job()");
	alteration.request.payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	for (int i = 0; i < NALTER; i++)
	{
		int			arg = i + 1;

		alteration.change[i] = !PG_ARGISNULL(arg);
		if (alteration.change[i])
			queue_request_set(&alteration.request, alterable[i],
							  i == ALTER_PRIORITY || i == ALTER_MAX_ATTEMPTS ? Int64GetDatum(PG_GETARG_INT32(arg)) :
							  PG_GETARG_DATUM(arg));
	}
	if (alteration.request.has_run_at)
		(void) queue_check_time("run_at", alteration.request.run_at);
	(void) queue_priority(alteration.request.priority);
	if (!PG_ARGISNULL(NALTER + 1))
		read_reset(&alteration, PG_GETARG_DATUM(NALTER + 1));
	PG_RETURN_BOOL(change_waiting(id, change_for_alter, &alteration, &missing));
}

PG_FUNCTION_INFO_V1(queue_sql_current_job);
/* queue.current_job() -> queue.job: null outside a handler */
Datum
queue_sql_current_job(PG_FUNCTION_ARGS)
{
	if (queue_current == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(HeapTupleGetDatum(queue_job_tuple(queue_current->job, NULL, queue_current->line->queue,
													  queue_current->line->kind, queue_current->line->priority,
													  queue_current->line->handler, QUEUE_STATE_RUNNING,
													  queue_current->started_at, NULL)));
}
