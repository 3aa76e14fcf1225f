/*
 * many.c
 *		Many jobs at once, by what they are: find_jobs, cancel_jobs, discard_jobs, retry_jobs, move_jobs, delete_jobs.
 *
 * Each searches the ids that its filter names (filter.c), then takes them one by one in that order under a snapshot of
 * its own, so that what changed meanwhile is left alone.  Jobs that the caller may not touch are neither changed nor
 * counted, and nothing tells of them.
 *
 * Locks: the row lock of each job that is changed, in the order of ids.  What one of our processes has for a moment is
 * waited for (job/held.c).  cancel_jobs and discard_jobs wait for whoever has a row, and for executors that run a job
 * after they have done all others; the other calls leave such a job alone.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/control.h"
#include "api/search.h"
#include "config/lines.h"
#include "config/owner.h"
#include "executor/verdict.h"
#include "job/claim.h"
#include "job/create.h"
#include "job/depend.h"
#include "job/finish.h"
#include "job/group.h"
#include "job/held.h"
#include "job/key.h"
#include "shared/clock.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define INSERT_BATCH 500		/* revived jobs an insert */
#define BATCH_BYTES ((Size) 8 * 1024 * 1024)	/* fewer, if they or what was read of others take more memory */

/* One call under way. */
typedef struct Many
{
	QueueSearch *search;
	QueueJobTable *table;
	int64	   *ids;
	int64		n;
} Many;

/* How many at most: -1 for null. */
static int64
qty_argument(FunctionCallInfo fcinfo, int number)
{
	int64		qty = PG_ARGISNULL(number) ? -1 : PG_GETARG_INT64(number);

	if (!PG_ARGISNULL(number) && qty < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("qty must be at least 1"),
				 errhint("It is how many jobs at most; null means all (in find_jobs 100).")));
	return qty;
}

static Jsonb *
filter_argument(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
}

/* For a function that others may call too. */
static void
require_manage_somewhere(void)
{
	if (queue_may_where(GetUserId(), QUEUE_PRIV_MANAGE) != NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" holds privilege manage on no queue", GetUserNameFromId(GetUserId(), false)),
			 errhint("With enqueue alone one cancels waiting jobs by naming just queue, kind and unique_key.")));
}

/* Searches the ids that a call is about.  by_key: whoever names jobs by their unique keys needs only enqueue. */
static void
begin(Many *many, FunctionCallInfo fcinfo, const char *function, int states, int by_default, int qty_number,
	  bool by_key)
{
	int64		qty = qty_argument(fcinfo, qty_number);

	queue_finish_writable(function);
	many->search = queue_search_begin(filter_argument(fcinfo), false, QUEUE_PRIV_MANAGE, states, by_default);
	if (by_key && queue_search_names_keys(many->search))
		many->search->instead = QUEUE_PRIV_ENQUEUE;
	else if (by_key)
		require_manage_somewhere();
	many->table = queue_job_open(RowExclusiveLock);
	many->ids = queue_search_ids(many->search, many->table, queue_finish_snapshot(), PG_INT64_MIN, PG_INT64_MAX, false,
								 qty, &many->n);
	PopActiveSnapshot();
}

static void
end(Many *many)
{
	queue_job_close(many->table);
	CommandCounterIncrement();
}

/* Reads a live job that the search still finds, under the active snapshot. */
static bool
find_live(Many *many, int64 id, Snapshot snapshot, QueueJob *job, QueueLine **line)
{
	QueueState	state;

	if (!queue_job_find(many->table, id, snapshot, job))
		return false;
	*line = queue_config_line(job->line);
	return *line != NULL && queue_search_live(many->search, job, *line, &state);
}

/* ---- find_jobs ---- */

/* A kept job as a row of queue.job. */
static HeapTuple
finished_tuple(const QueueFinished *finished, TupleDesc desc)
{
	QueueConfig *config = queue_config();
	QueueConf  *conf = queue_config_find(config, finished->queue);
	QueueLine line = {.kind = finished->kind,
					  .kind_key = queue_name_hash(finished->kind),
					  .priority = finished->priority};
	int			columns[3];
	Datum		values[3];
	bool		nulls[3] = {finished->started_at == 0, false, finished->result == NULL};
	QueueExtra	extra;

	if (conf != NULL)
	{
		line.queue = conf;
		queue_config_resolve(config, &line);
	}
	else
		line.queue = queue_conf_make(finished->queue);
	queue_extra_unpack(finished->job.extra, &extra);
	columns[0] = SPI_fnumber(desc, "started_at");
	columns[1] = SPI_fnumber(desc, "finished_at");
	columns[2] = SPI_fnumber(desc, "result");
	values[0] = TimestampTzGetDatum(finished->started_at);
	values[1] = TimestampTzGetDatum(finished->finished_at);
	values[2] = JsonbPGetDatum(finished->result);
	return heap_modify_tuple_by_cols(queue_job_tuple(&finished->job, &extra, line.queue, line.kind, line.priority,
													 line.handler, finished->state, 0, finished->worker),
									 desc, lengthof(columns), columns, values, nulls);
}

/*
 * Reads a job that the search gave.  Jobs that came one after the other mostly stand so too: looks there first, with
 * `down` before the last one.
 */
static bool
find_next(Many *many, int64 id, bool down, Snapshot snapshot, QueueJob *job, ItemPointer last)
{
	if (ItemPointerIsValid(last))
		ItemPointerSetOffsetNumber(last, ItemPointerGetOffsetNumber(last) + (down ? -1 : 1));
	if (!queue_job_refind(many->table, last, id, snapshot, job))
		return false;
	*last = job->tid;
	return true;
}

PG_FUNCTION_INFO_V1(queue_sql_find_jobs);
/* queue.find_jobs(filter, qty, after_id, before_id) -> setof queue.job */
Datum
queue_sql_find_jobs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		qty = qty_argument(fcinfo, 1);
	int64		above = PG_ARGISNULL(2) ? PG_INT64_MIN : PG_GETARG_INT64(2);
	bool		down = !PG_ARGISNULL(3);
	int64		below = down && PG_GETARG_INT64(3) != 0 ? PG_GETARG_INT64(3) : PG_INT64_MAX;
	int			all = QUEUE_STATES_LIVE | QUEUE_STATES_FINISHED;
	Many		many;
	Snapshot	snapshot;
	MemoryContext row;
	MemoryContext old;
	ItemPointerData last;

	InitMaterializedSRF(fcinfo, 0);
	many.search = queue_search_begin(PG_ARGISNULL(0) ?
									 DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))) :
									 PG_GETARG_JSONB_P(0), true, QUEUE_PRIV_READ, all, all);
	many.table = queue_job_open(AccessShareLock);
	snapshot = queue_finish_snapshot();
	many.ids = queue_search_ids(many.search, many.table, snapshot, above, below, down, qty < 0 ? 100 : qty, &many.n);
	row = AllocSetContextCreate(CurrentMemoryContext, "queue find_jobs row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(row);
	ItemPointerSetInvalid(&last);
	for (int64 i = 0; i < many.n; i++)
	{
		QueueJob	job;
		QueueFinished finished;
		QueueState	state;
		QueueLine  *line;

		CHECK_FOR_INTERRUPTS();
		if (find_next(&many, many.ids[i], down, snapshot, &job, &last))
		{
			line = queue_config_line(job.line);
			if (line != NULL && queue_search_live(many.search, &job, line, &state))
			{
				QueueExtra	extra;
				QueueSlotJob slot_job;
				char		worker[QUEUE_WORKER_NAME];
				bool		in_slot = queue_slot_job(MyDatabaseId, job.id, &slot_job);

				queue_extra_unpack(job.extra, &extra);
				if (in_slot)
				{
					queue_executor_name(worker, slot_job.pid);
					job.attempt++;	/* by a claim that has not committed yet */
				}
				tuplestore_puttuple(rsinfo->setResult,
									queue_job_tuple(&job, &extra, line->queue, line->kind, line->priority,
													line->handler, state,
													in_slot ? slot_job.started_at : extra.started_at,
													in_slot ? worker : extra.worker));
			}
		}
		else if (queue_finished_find(many.ids[i], snapshot, &finished) && queue_search_finished(many.search, &finished))
			tuplestore_puttuple(rsinfo->setResult, finished_tuple(&finished, rsinfo->setDesc));
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	queue_job_close(many.table);
	return (Datum) 0;
}

/* ---- cancel_jobs and discard_jobs ---- */

typedef struct Ending
{
	QueueState	to;
	QueueOutcome outcome;
	const char *reason;
} Ending;

/*
 * Ends one job.  1: done; 0: the search does not find it any more; -1 (not with wait): an executor runs it, and was
 * told.  Who else has it is waited for here, in the order of ids, or two such calls would wait for each other.
 */
static int
end_one(Many *many, int64 id, const Ending *ending, bool wait)
{
	bool		waited = false;

	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;
		QueueLine  *line;
		TM_Result	res;
		QueueVerdict *own;
		bool		manage;

		if (!find_live(many, id, snapshot, &job, &line))
		{
			PopActiveSnapshot();
			return 0;
		}
		/* with the privilege enqueue alone one ends what nobody works on, and waits for nobody */
		manage = queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_MANAGE);
		if (!manage && queue_claim_holder(id, job.leased_until, queue_now()) != QUEUE_HELD_BY_NOBODY)
		{
			PopActiveSnapshot();
			return 0;
		}
		own = queue_verdict_own(id, ending->outcome);
		if (own != NULL)
		{
			own->text = MemoryContextStrdup(queue_current->context, ending->reason);
			PopActiveSnapshot();
			return 1;
		}
		if (!wait && manage && queue_slot_cancelled(MyDatabaseId, id))
		{
			PopActiveSnapshot();	/* its executor let it go for another such call */
			return -1;
		}
		/* told now too: since the first pass another executor may have taken it */
		if (wait)
			(void) queue_slot_cancel(MyDatabaseId, id);
		res = queue_finish_end(many->table, &job, job.attempt, ending->to,
							   &(QueueEnding) {.error = ending->reason}, snapshot, wait);
		PopActiveSnapshot();
		if (wait)
			queue_slot_cancel_done(MyDatabaseId, id);
		if (res == TM_Ok)
			return 1;
		CHECK_FOR_INTERRUPTS();
		if (res != TM_BeingModified && res != TM_WouldBlock)
		{
			queue_finish_retry(res);
			continue;
		}
		if (!manage)
		{
			/* once: it may be an enqueue that has its unique key */
			if (waited || !queue_row_wait_moment(many->table->rel, &job.tid, many->table->slot, id))
				return 0;
			waited = true;
			continue;
		}
		if (queue_slot_cancel(MyDatabaseId, id))
			return -1;
		wait = true;
	}
}

static int64
end_jobs(FunctionCallInfo fcinfo, const char *function, QueueState to, QueueOutcome outcome)
{
	Ending ending = {to, outcome,
					 PG_ARGISNULL(1) ? to == QUEUE_STATE_CANCELLED ? "cancelled" : "discarded by hand" :
									   text_to_cstring(PG_GETARG_TEXT_PP(1))};
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "queue job", ALLOCSET_DEFAULT_SIZES);
	Many		many;
	int64		done = 0;
	int64		busy = 0;
	MemoryContext old;

	begin(&many, fcinfo, function, QUEUE_STATES_LIVE, QUEUE_STATES_LIVE, 2, to == QUEUE_STATE_CANCELLED);
	old = MemoryContextSwitchTo(row);
	for (int pass = 0; pass < 2; pass++)
	{
		for (int64 i = 0; i < many.n; i++)
		{
			int			ended = end_one(&many, many.ids[i], &ending, pass > 0);

			if (ended < 0)
				many.ids[busy++] = many.ids[i];
			else
				done += ended;
			MemoryContextReset(row);
		}
		many.n = busy;			/* those that executors run are waited for last */
	}
	MemoryContextSwitchTo(old);
	end(&many);
	return done;
}

PG_FUNCTION_INFO_V1(queue_sql_cancel_jobs);
/* queue.cancel_jobs(filter, reason, qty) -> bigint */
Datum
queue_sql_cancel_jobs(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(end_jobs(fcinfo, "queue.cancel_jobs()", QUEUE_STATE_CANCELLED, QUEUE_RUN_CANCEL));
}

PG_FUNCTION_INFO_V1(queue_sql_discard_jobs);
/* queue.discard_jobs(filter, reason, qty) -> bigint */
Datum
queue_sql_discard_jobs(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(end_jobs(fcinfo, "queue.discard_jobs()", QUEUE_STATE_DISCARDED, QUEUE_RUN_DISCARD));
}

/* ---- retry_jobs, move_jobs, delete_jobs ---- */

/* Changes one waiting job; false: the search does not find it any more, or somebody has it. */
static bool
change_one(Many *many, int64 id, QueueChange change, void *arg, bool *live)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;
		QueueLine  *line;
		TM_Result	res = TM_Invisible;

		*live = queue_job_find(many->table, id, snapshot, &job);
		if (*live && find_live(many, id, snapshot, &job, &line))
			res = queue_control_change(many->table, &job, line, change, arg, snapshot, false);
		PopActiveSnapshot();
		if (res == TM_Ok)
			return true;
		if (res == TM_Invisible)
			return false;
		if (res != TM_WouldBlock)
			queue_finish_retry(res);
		else if (!queue_row_wait_moment(many->table->rel, &job.tid, many->table->slot, id))
			return false;
	}
}

/*
 * Deletes the kept row of one job that the search still finds.  With take_key the job comes back: it needs its unique
 * key, which is not waited for.
 */
static bool
delete_one(Many *many, int64 id, QueueFinished *finished, bool take_key)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		TM_Result	res = TM_Invisible;
		QueueKeyName key = {0};
		int64		holder = 0;

		if (queue_finished_find(id, snapshot, finished) && queue_search_finished(many->search, finished) &&
			(take_key || !queue_dependency_needed(many->table, id)))
		{
			if (take_key)
				key = (QueueKeyName) {finished->queue, finished->kind,
									  queue_extra_text(finished->job.extra, "unique_key")};
			if (key.key == NULL || queue_key_take(&key, id, false, &holder))
			{
				res = queue_finished_delete(finished, snapshot, false);
				if (res != TM_Ok && key.key != NULL && holder != id)
					queue_key_release(&key, id);
			}
		}
		PopActiveSnapshot();
		if (res == TM_Ok)
			return true;
		if (res == TM_Invisible)
			return false;
		if (res != TM_WouldBlock && res != TM_BeingModified)
			queue_finish_retry(res);
		else if (!queue_finished_wait_moment(finished))
			return false;
	}
}

PG_FUNCTION_INFO_V1(queue_sql_retry_jobs);
/* queue.retry_jobs(filter, run_at, qty) -> bigint */
Datum
queue_sql_retry_jobs(PG_FUNCTION_ARGS)
{
	TimestampTz run_at = PG_ARGISNULL(1) ? queue_now() : queue_check_time("run_at", PG_GETARG_TIMESTAMPTZ(1));
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "queue retried jobs", ALLOCSET_DEFAULT_SIZES);
	QueueJob	revived[INSERT_BATCH];
	int			nrevived = 0;
	int64		done = 0;
	Many		many;
	MemoryContext old;

	begin(&many, fcinfo, "queue.retry_jobs()", QUEUE_STATES_WAITING | QUEUE_STATES_FINISHED,
		  (1 << QUEUE_STATE_DISCARDED) | (1 << QUEUE_STATE_CANCELLED) | (1 << QUEUE_STATE_RETRYABLE), 2, false);
	old = MemoryContextSwitchTo(batch);
	for (int64 i = 0; i < many.n; i++)
	{
		QueueFinished finished;
		bool		live;

		CHECK_FOR_INTERRUPTS();
		if (change_one(&many, many.ids[i], queue_control_retry, &run_at, &live))
			done++;
		else if (!live && delete_one(&many, many.ids[i], &finished, true))
		{
			queue_control_drop_letter(many.table, &finished);
			queue_finished_revive(&finished, run_at);
			revived[nrevived++] = finished.job;
			done++;
		}
		if (nrevived == INSERT_BATCH || i == many.n - 1 || MemoryContextMemAllocated(batch, true) > BATCH_BYTES)
		{
			queue_job_add(many.table, revived, nrevived);
			for (int j = 0; j < nrevived; j++)
				queue_depend_hold(many.table, revived[j].id);
			nrevived = 0;
			MemoryContextReset(batch);
		}
	}
	MemoryContextSwitchTo(old);
	end(&many);
	PG_RETURN_INT64(done);
}

/* Where move_jobs puts jobs; what is NULL stays. */
typedef struct Target
{
	const char *queue;
	const char *kind;
	bool		has_priority;
	int16		priority;
} Target;

static bool
change_for_move(QueueJob *job, QueueExtra *extra, QueueLine *line, void *arg)
{
	Target	   *target = arg;
	const char *queue = target->queue != NULL ? target->queue : line->queue->name;
	const char *kind = target->kind != NULL ? target->kind : line->kind;

	if (extra->unique_key != NULL && (strcmp(queue, line->queue->name) != 0 || strcmp(kind, line->kind) != 0) &&
		!queue_key_move(&(QueueKeyName) {line->queue->name, line->kind, extra->unique_key},
						&(QueueKeyName) {queue, kind, extra->unique_key}, job->id))
		return false;
	queue_group_move(job, extra, line->queue->name, queue);
	job->line = queue_line_ensure(queue, kind, target->has_priority ? target->priority : line->priority,
								  extra->concurrency_key);
	return true;
}

PG_FUNCTION_INFO_V1(queue_sql_move_jobs);
/* queue.move_jobs(filter, queue, kind, priority, qty) -> bigint */
Datum
queue_sql_move_jobs(PG_FUNCTION_ARGS)
{
	Target		target = {0};
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "queue job", ALLOCSET_DEFAULT_SIZES);
	int64		done = 0;
	Many		many;
	MemoryContext old;

	if (!PG_ARGISNULL(1))
	{
		target.queue = text_to_cstring(PG_GETARG_TEXT_PP(1));
		queue_require(target.queue, QUEUE_PRIV_ENQUEUE);
		(void) queue_config_queue(target.queue, false);
	}
	if (!PG_ARGISNULL(2))
		target.kind = queue_arg_name(fcinfo, 2, "kind", false);
	if (!PG_ARGISNULL(3))
	{
		target.has_priority = true;
		target.priority = queue_priority(PG_GETARG_INT32(3));
	}
	if (target.queue == NULL && target.kind == NULL && !target.has_priority)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("move_jobs needs a queue, a kind or a priority"),
				 errhint("Say where the jobs shall go.")));
	begin(&many, fcinfo, "queue.move_jobs()", QUEUE_STATES_WAITING, QUEUE_STATES_WAITING, 4, false);
	old = MemoryContextSwitchTo(row);
	for (int64 i = 0; i < many.n; i++)
	{
		bool		live;

		CHECK_FOR_INTERRUPTS();
		done += change_one(&many, many.ids[i], change_for_move, &target, &live);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(old);
	end(&many);
	PG_RETURN_INT64(done);
}

PG_FUNCTION_INFO_V1(queue_sql_delete_jobs);
/* queue.delete_jobs(filter, qty) -> bigint */
Datum
queue_sql_delete_jobs(PG_FUNCTION_ARGS)
{
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "queue job", ALLOCSET_DEFAULT_SIZES);
	int64		done = 0;
	Many		many;
	MemoryContext old;

	begin(&many, fcinfo, "queue.delete_jobs()", QUEUE_STATES_FINISHED, QUEUE_STATES_FINISHED, 1, false);
	old = MemoryContextSwitchTo(row);
	for (int64 i = 0; i < many.n; i++)
	{
		QueueFinished finished;

		CHECK_FOR_INTERRUPTS();
		done += delete_one(&many, many.ids[i], &finished, false);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(old);
	end(&many);
	PG_RETURN_INT64(done);
}
