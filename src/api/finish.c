/*
 * finish.c
 *		SQL functions with which a worker tells of its job: complete, fail, snooze, release, heartbeat, progress,
 *		log, save_step, await_event, and the _many forms.
 *
 * Every call finds the row by primary key, checks that the claim is still the caller's (leased, and of the given
 * attempt: the fencing token) and changes it (job/finish.c).  A call about the job whose handler is running in this
 * very backend only leaves a verdict (executor/verdict.c), which takes hold when the handler returns.
 *
 * Locks: the row lock of each job; several at once in the order of their ids.
 */
#include "api/finish.h"

#include "api/arguments.h"
#include "config/owner.h"
#include "executor/verdict.h"
#include "job/event.h"
#include "job/finish.h"
#include "job/finished.h"
#include "job/key.h"
#include "job/limit.h"
#include "job/log.h"
#include "job/record.h"
#include "job/step.h"
#include "shared/clock.h"
#include "shared/fetcher.h"
#include "shared/session.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* What one call does to one row; the parts of it that differ. */
typedef struct Call
{
	enum
	{
		CALL_COMPLETE, CALL_FAIL, CALL_SNOOZE, CALL_RELEASE,	/* these end the claim */
		CALL_HEARTBEAT, CALL_PROGRESS, CALL_LOG,
		CALL_STEP, CALL_AWAIT
	}			what;
	bool		fenced;
	int64		attempt;		/* one that no claim can have fits none */
	Jsonb	   *json;			/* result, progress or a step's value; of a step also out: what is stored */
	int64		us;				/* snooze delay, retry_in, lease or timeout; -1: default */
	bool		discard;
	const char *step;			/* its name, or an event's */
	QueueAwait	await;			/* out: await_event */
	const char *error;			/* or the message of a log line .. */
	QueueLogLevel level;		/* .. and its level */
	QueueState	state;			/* out: fail */
	TimestampTz until;			/* out: heartbeat, step */
	TimestampTz now;			/* of a call for many, so that their leases end together; 0: when it is written */
} Call;

/* Stores a step, or finds what is stored; the caller has the job, and writes what this changes of it. */
static void
store_step(QueueJob *job, Call *call)
{
	Jsonb	   *stored = queue_step_find(job->id, call->step);

	if (stored == NULL)
		queue_step_store(job, call->step, call->json);
	else
		call->json = stored;
}

/* A call about the job whose handler is running here: noted, to take hold when the handler returns. */
static bool
leave_verdict(int64 id, Call *call)
{
	static const QueueOutcome outcomes[] = {
		[CALL_COMPLETE] = QUEUE_RUN_COMPLETED,
		[CALL_FAIL] = QUEUE_RUN_FAILED,
		[CALL_SNOOZE] = QUEUE_RUN_SNOOZE,
		[CALL_RELEASE] = QUEUE_RUN_RELEASE
	};
	QueueVerdict *verdict;
	MemoryContext old;

	if (queue_current == NULL || queue_current->job->id != id)
		return false;
	if (call->fenced && call->attempt != queue_current->job->attempt)
		return false;
	if (call->what == CALL_HEARTBEAT)
	{
		call->until = DT_NOEND; /* the transaction is the claim: it ends with it */
		return true;
	}
	if (call->what == CALL_LOG)
	{
		queue_job_log_add(&queue_current->log, queue_current->context, call->level, call->error);
		return true;
	}
	old = MemoryContextSwitchTo(queue_current->context);
	if (call->what == CALL_STEP)
	{
		/* kept if the handler's effects are */
		store_step(queue_current->job, call);
		queue_current->marked = true;
	}
	else if (call->what == CALL_AWAIT)
	{
		queue_verdict_alone(id);
		queue_event_await(queue_current->job, queue_current->line->queue->name, call->step, call->us, &call->await);
		queue_current->marked = true;
		if (call->await.status == QUEUE_AWAITED_WAITING)
			(void) queue_verdict_own(id, QUEUE_RUN_AWAIT);
	}
	else if (call->what == CALL_PROGRESS)
	{
		QueueSlotJob run;
		Jsonb	   *value = call->json == NULL ? NULL : (Jsonb *) PG_DETOAST_DATUM_COPY(JsonbPGetDatum(call->json));
		uint32		length = value == NULL ? 0 : VARSIZE(value);

		queue_current->verdict.progress = value;
		/* not in a test_run inside a handler, whose job is not the one that this process is said to run */
		if (queue_slot_job(MyDatabaseId, id, &run) && run.pid == MyProcPid)
			queue_slot_show_progress(id, value, length <= QUEUE_PROGRESS_MAX ? length : 0);
	}
	else
	{
		verdict = queue_verdict_own(id, call->discard ? QUEUE_RUN_DISCARD : outcomes[call->what]);
		verdict->delay = verdict->retry_in = call->us;
		verdict->text = call->error != NULL ? pstrdup(call->error) : NULL;
		if (call->what == CALL_COMPLETE && call->json != NULL)
			verdict->result = (Jsonb *) PG_DETOAST_DATUM_COPY(JsonbPGetDatum(call->json));
		call->state = call->discard ? QUEUE_STATE_DISCARDED : QUEUE_STATE_RETRYABLE;
	}
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * Is the claim on the row the caller's?  *token: that of this session's claim, which is not written: it is the next
 * attempt of a row without a lease, and has a name of its own; 0: the claim is a lease.
 */
static bool
is_ours(QueueJobTable *table, const QueueJob *job, const Call *call, int *token)
{
	*token = job->leased_until == DT_NOBEGIN ? queue_session_token(RelationGetRelid(table->rel), job->id) : 0;
	if (job->leased_until == DT_NOBEGIN && *token == 0)
		return false;
	return !call->fenced || call->attempt == (*token != 0 ? *token : job->attempt);
}

/* Writes what the call does to a row whose claim is the caller's. */
static TM_Result
write_call(QueueJobTable *table, const QueueJob *job, int attempt, const QueueLine *line, Call *call, Snapshot snapshot)
{
	QueueFailure failure = {0};
	QueueExtra	extra;
	QueueJob	new = *job;
	TM_Result	result;

	switch (call->what)
	{
		case CALL_COMPLETE:
			return queue_finish_end(table, job, attempt, QUEUE_STATE_COMPLETED,
									&(QueueEnding) {.result = call->json}, snapshot, true);
		case CALL_FAIL:
			queue_extra_unpack(job->extra, &extra);
			failure.error = call->error != NULL ? call->error : "failed without an error text";
			failure.worker = extra.worker;
			failure.started_at = extra.started_at;
			return queue_finish_fail(table, job, attempt, &failure, call->us, call->discard, snapshot, true,
									 &call->state);
		case CALL_SNOOZE:
			return queue_finish_return(table, job, attempt, call->us, NULL, snapshot, true);
		case CALL_RELEASE:
			return queue_finish_return(table, job, attempt, -1, NULL, snapshot, true);
		case CALL_HEARTBEAT:
			new.leased_until = call->until;
			return queue_job_update(table, job, &new, snapshot, true);
		case CALL_PROGRESS:
			queue_extra_unpack(job->extra, &extra);
			extra.progress = call->json;
			new.extra = queue_extra_pack(&extra);
			return queue_job_update(table, job, &new, snapshot, true);
		case CALL_LOG:
			queue_job_log_append(job, attempt, line, call->level, call->error);
			return TM_Ok;
		case CALL_STEP:
			result = queue_job_lock(table, job, snapshot, true);
			if (result != TM_Ok)
				return result;
			store_step(&new, call);
			new.leased_until = call->until;
			return queue_job_update(table, job, &new, snapshot, true);
		case CALL_AWAIT:
			result = queue_job_lock(table, job, snapshot, true);
			if (result != TM_Ok)
				return result;
			queue_event_await(&new, line->queue->name, call->step, call->us, &call->await);
			if (call->await.status == QUEUE_AWAITED_WAITING)
				return queue_finish_await(table, &new, attempt, NULL, snapshot, true);
			/* that it asked is marked in the row, so that its end forgets it */
			return queue_job_update(table, job, &new, snapshot, true);
	}
	return TM_Invisible;		/* not reached */
}

static bool
extends_lease(const Call *call)
{
	return call->what == CALL_HEARTBEAT || call->what == CALL_STEP;
}

static bool
ends_claim(const Call *call)
{
	return call->what == CALL_AWAIT ? call->await.status == QUEUE_AWAITED_WAITING :
		call->what <= CALL_RELEASE;
}

/* Does the call on one row; false: the claim is not the caller's (any more). */
static bool
do_call(QueueJobTable *table, int64 id, Call *call)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;
		QueueLine  *line;
		int			token;
		TM_Result	result;

		if (!queue_finish_find(table, id, QUEUE_PRIV_WORK, snapshot, &job, &line) ||
			!is_ours(table, &job, call, &token))
		{
			PopActiveSnapshot();
			return false;
		}
		if (token != 0 && call->what == CALL_HEARTBEAT)
		{
			call->until = DT_NOEND; /* it lasts as long as the session */
			PopActiveSnapshot();
			return true;
		}
		call->until = job.leased_until;
		if (extends_lease(call) && token == 0)
		{
			call->until =
				queue_time_add(call->now != 0 ? call->now : queue_now(), call->us >= 0 ? call->us : line->queue->lease);
			if (call->what == CALL_STEP)
				call->until = Max(call->until, job.leased_until);
			if (!queue_limit_extend(line, &job, call->until))
			{
				PopActiveSnapshot();
				return false;	/* its lease ended, and there is no room for it any more */
			}
		}
		result = write_call(table, &job, job.attempt + (token != 0 ? 1 : 0), line, call, snapshot);
		PopActiveSnapshot();
		if (result != TM_Ok && extends_lease(call) && token == 0)
			queue_limit_undo(line, &job, QUEUE_UNIT_LEASE);
		if (result == TM_Ok)
		{
			if (token != 0 && ends_claim(call))
				queue_session_finish(id);
			return true;
		}
		queue_finish_retry(result); /* changed meanwhile: look again */
	}
}

/* One call from SQL: checks the id, runs it, makes its effect visible to the rest of the statement. */
static bool
call_one(FunctionCallInfo fcinfo, const char *function, int attempt_argument, Call *call)
{
	QueueJobTable *table;
	bool		ok;
	int64		id;

	id = queue_arg_id(fcinfo, 0, "job_id");
	call->fenced = !PG_ARGISNULL(attempt_argument);
	if (call->fenced)
		call->attempt = PG_GETARG_INT64(attempt_argument);
	queue_finish_writable(function);
	if (leave_verdict(id, call))
		return true;
	queue_fetcher_seen();
	table = queue_job_open(RowExclusiveLock);
	ok = do_call(table, id, call);
	queue_job_close(table);
	if (ok)
		CommandCounterIncrement();
	return ok;
}

/* An interval argument in microseconds, at least 0; -1 when it is null. */
static int64
interval_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	return PG_ARGISNULL(number) ? -1 : queue_check_span(name, PG_GETARG_INTERVAL_P(number), 0);
}

PG_FUNCTION_INFO_V1(queue_sql_complete);
/* queue.complete(job_id, attempt, result) -> boolean */
Datum
queue_sql_complete(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_COMPLETE};

	if (!PG_ARGISNULL(2))
		call.json = PG_GETARG_JSONB_P(2);
	PG_RETURN_BOOL(call_one(fcinfo, "queue.complete()", 1, &call));
}

PG_FUNCTION_INFO_V1(queue_sql_fail);
/* queue.fail(job_id, attempt, error, retry_in, discard) -> text */
Datum
queue_sql_fail(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_FAIL};

	if (!PG_ARGISNULL(2))
		call.error = text_to_cstring(PG_GETARG_TEXT_PP(2));
	call.us = interval_argument(fcinfo, 3, "retry_in");
	call.discard = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	if (!call_one(fcinfo, "queue.fail()", 1, &call))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(queue_state_names[call.state]));
}

PG_FUNCTION_INFO_V1(queue_sql_snooze);
/* queue.snooze(job_id, delay, attempt) -> boolean */
Datum
queue_sql_snooze(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_SNOOZE};

	call.us = interval_argument(fcinfo, 1, "delay");
	if (call.us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("delay must not be null"),
				 errhint("Pass an interval such as '5 min', or use queue.release.")));
	PG_RETURN_BOOL(call_one(fcinfo, "queue.snooze()", 2, &call));
}

PG_FUNCTION_INFO_V1(queue_sql_release);
/* queue.release(job_id, attempt) -> boolean */
Datum
queue_sql_release(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_RELEASE};

	PG_RETURN_BOOL(call_one(fcinfo, "queue.release()", 1, &call));
}

PG_FUNCTION_INFO_V1(queue_sql_heartbeat);
/* queue.heartbeat(job_id, lease, attempt) -> timestamptz */
Datum
queue_sql_heartbeat(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_HEARTBEAT};

	call.us = interval_argument(fcinfo, 1, "lease");
	if (!call_one(fcinfo, "queue.heartbeat()", 2, &call))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(call.until);
}

PG_FUNCTION_INFO_V1(queue_sql_progress);
/* queue.progress(job_id, value, attempt) -> boolean */
Datum
queue_sql_progress(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_PROGRESS};

	if (!PG_ARGISNULL(1))
	{
		call.json = PG_GETARG_JSONB_P(1);
		queue_check_size("progress", VARSIZE(call.json) - VARHDRSZ);
	}
	PG_RETURN_BOOL(call_one(fcinfo, "queue.progress()", 2, &call));
}

PG_FUNCTION_INFO_V1(queue_sql_save_step);
/* queue.save_step(job_id, name, value, attempt) -> jsonb */
Datum
queue_sql_save_step(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_STEP, .us = -1};

	call.step = queue_arg_name(fcinfo, 1, "name", true);
	call.json = PG_ARGISNULL(2) ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("null"))) :
		PG_GETARG_JSONB_P(2);
	if (!call_one(fcinfo, "queue.save_step()", 3, &call))
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(call.json);
}

PG_FUNCTION_INFO_V1(queue_sql_steps);
/* queue.steps(job_id) -> jsonb: of a live job, or of one that is kept */
Datum
queue_sql_steps(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	QueueJobTable *table;
	Snapshot	snapshot;
	QueueJob	job;
	QueueLine  *line;
	bool		found;

	if (queue_current != NULL && queue_current->job->id == id)
		PG_RETURN_JSONB_P(queue_steps_of(id));	/* in company its row is gone */
	table = queue_job_open(AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = queue_finish_find(table, id, QUEUE_PRIV_WORK, snapshot, &job, &line);
	queue_job_close(table);
	if (!found)
	{
		QueueFinished finished;
		QueueExtra	extra = QUEUE_EXTRA_NONE;

		found = queue_finished_find(id, snapshot, &finished);
		if (found && queue_may(GetUserId(), finished.queue, QUEUE_PRIV_READ))
			queue_require(finished.queue, QUEUE_PRIV_WORK);
		found = found && queue_may(GetUserId(), finished.queue, QUEUE_PRIV_WORK);
		if (found)
			queue_extra_unpack(finished.job.extra, &extra);
		if (extra.steps != NULL)
		{
			UnregisterSnapshot(snapshot);
			PG_RETURN_JSONB_P(extra.steps);
		}
	}
	UnregisterSnapshot(snapshot);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(queue_steps_of(id));
}

PG_FUNCTION_INFO_V1(queue_sql_await_event);
/* queue.await_event(job_id, event, timeout, attempt) -> table(status, payload) */
Datum
queue_sql_await_event(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Call		call = {.what = CALL_AWAIT};
	Datum		values[2];
	bool		nulls[2];
	bool		ours;

	InitMaterializedSRF(fcinfo, 0);
	call.step = queue_arg_name(fcinfo, 1, "event", true);
	call.us = interval_argument(fcinfo, 2, "timeout");
	ours = call_one(fcinfo, "queue.await_event()", 3, &call);
	values[0] = CStringGetTextDatum(ours ? queue_awaited_names[call.await.status] : "gone");
	nulls[0] = false;
	nulls[1] = !ours || call.await.payload == NULL;
	values[1] = nulls[1] ? (Datum) 0 : JsonbPGetDatum(call.await.payload);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_log);
/* queue.log(message, level, job_id, attempt) */
Datum
queue_sql_log(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_LOG, .level = QUEUE_LOG_INFO};
	QueueJobTable *table;
	int64		id;

	/* as RAISE shows a null; a job should not fail for what it says */
	call.error = PG_ARGISNULL(0) ? "<NULL>" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
	{
		char	   *level = text_to_cstring(PG_GETARG_TEXT_PP(1));

		for (call.level = 0; call.level < QUEUE_LOG_NLEVELS; call.level++)
		{
			if (strcmp(level, queue_log_levels[call.level]) == 0)
				break;
		}
		if (call.level == QUEUE_LOG_NLEVELS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown level \"%s\"", level),
					 errhint("It is debug, info, warning or error.")));
	}
	call.fenced = !PG_ARGISNULL(3);
	if (call.fenced)
		call.attempt = PG_GETARG_INT64(3);
	if (PG_ARGISNULL(2) && queue_current == NULL)
	{
		ereport(NOTICE, (errmsg("%s", call.error)));
		PG_RETURN_VOID();
	}
	id = PG_ARGISNULL(2) ? queue_current->job->id : queue_arg_id(fcinfo, 2, "job_id");
	if (queue_current != NULL && queue_current->job->id == id)
		(void) leave_verdict(id, &call);
	else
	{
		queue_finish_writable("queue.log()");
		table = queue_job_open(RowExclusiveLock);
		if (do_call(table, id, &call))
			CommandCounterIncrement();
		queue_job_close(table);
	}
	PG_RETURN_VOID();
}

typedef struct ManyItem
{
	int64		id;
	int			attempt;
	bool		fenced;
	int			place;			/* in the caller's array */
} ManyItem;

static int
by_id(const void *a, const void *b)
{
	const ManyItem *left = a;
	const ManyItem *right = b;

	return left->id < right->id ? -1 : left->id > right->id ? 1 : left->place - right->place;
}

/* The ids and attempts of a _many call, sorted by id, so that two of them never deadlock. */
static ManyItem *
items_of_arrays(ArrayType *id_array, ArrayType *attempt_array, int *n)
{
	Datum	   *ids;
	bool	   *id_nulls;
	Datum	   *attempts = NULL;
	bool	   *attempt_nulls = NULL;
	int			nattempts = 0;
	ManyItem   *items;

	deconstruct_array(id_array, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, &id_nulls, n);
	if (attempt_array != NULL)
	{
		deconstruct_array(attempt_array, INT4OID, 4, true, TYPALIGN_INT, &attempts, &attempt_nulls, &nattempts);
		if (nattempts != *n)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("there are %d job ids, but %d attempts", *n, nattempts),
					 errhint("Pass one attempt for each id.")));
	}
	items = palloc(Max(*n, 1) * sizeof(ManyItem));
	for (int i = 0; i < *n; i++)
	{
		if (id_nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("element %d of the job ids is null", i + 1),
					 errhint("Pass only ids of fetched jobs.")));
		items[i].id = DatumGetInt64(ids[i]);
		items[i].place = i;
		items[i].fenced = nattempts > 0 && !attempt_nulls[i];
		items[i].attempt = items[i].fenced ? DatumGetInt32(attempts[i]) : 0;
	}
	qsort(items, *n, sizeof(ManyItem), by_id);
	return items;
}

/* Does a call on each; yours (may be NULL) tells by place which were the caller's. */
static void
do_items(QueueJobTable *table, const ManyItem *items, int n, const Call *what, bool *yours)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "queue call", ALLOCSET_SMALL_SIZES);
	bool		batch = what->what == CALL_COMPLETE && queue_key_batch_begin();
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int i = 0; i < n; i++)
	{
		Call		call = *what;
		bool		ok;

		if (i > 0 && items[i].id == items[i - 1].id)
			continue;			/* twice in one call: once is enough */
		call.fenced = items[i].fenced;
		call.attempt = items[i].attempt;
		ok = leave_verdict(items[i].id, &call) || do_call(table, items[i].id, &call);
		if (yours != NULL)
			yours[items[i].place] = ok;
		MemoryContextReset(context);
	}
	if (batch)
		queue_key_batch_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	CommandCounterIncrement();
}

void
queue_complete_ids(QueueJobTable *table, ArrayType *ids, ArrayType *attempts)
{
	Call		call = {.what = CALL_COMPLETE};
	int			n;
	ManyItem   *items = items_of_arrays(ids, attempts, &n);

	do_items(table, items, n, &call, NULL);
}

/* The _many calls: the ids that were the caller's come back in the caller's order. */
static void
call_many(FunctionCallInfo fcinfo, const char *function, int attempts_argument, const Call *what)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ManyItem   *items;
	int64	   *ids;
	bool	   *yours;
	int			n;
	QueueJobTable *table;

	queue_finish_writable(function);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job_ids must not be null"),
				 errhint("Pass an array of the ids of fetched jobs.")));
	items = items_of_arrays(PG_GETARG_ARRAYTYPE_P(0),
							PG_ARGISNULL(attempts_argument) ? NULL : PG_GETARG_ARRAYTYPE_P(attempts_argument), &n);
	yours = palloc0(Max(n, 1) * sizeof(bool));
	ids = palloc(Max(n, 1) * sizeof(int64));
	for (int i = 0; i < n; i++)
		ids[items[i].place] = items[i].id;
	table = queue_job_open(RowExclusiveLock);
	do_items(table, items, n, what, yours);
	queue_job_close(table);
	for (int i = 0; i < n; i++)
	{
		Datum		id = Int64GetDatum(ids[i]);
		bool		null = false;

		if (yours[i])
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id, &null);
	}
}

PG_FUNCTION_INFO_V1(queue_sql_complete_many);
/* queue.complete_many(job_ids, attempts) -> setof bigint */
Datum
queue_sql_complete_many(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_COMPLETE};

	call_many(fcinfo, "queue.complete_many()", 1, &call);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_release_many);
/* queue.release_many(job_ids, attempts) -> setof bigint */
Datum
queue_sql_release_many(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_RELEASE};

	call_many(fcinfo, "queue.release_many()", 1, &call);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_heartbeat_many);
/* queue.heartbeat_many(job_ids, lease, attempts) -> setof bigint */
Datum
queue_sql_heartbeat_many(PG_FUNCTION_ARGS)
{
	Call		call = {.what = CALL_HEARTBEAT};

	call.us = interval_argument(fcinfo, 1, "lease");
	call.now = queue_now();
	call_many(fcinfo, "queue.heartbeat_many()", 2, &call);
	return (Datum) 0;
}
