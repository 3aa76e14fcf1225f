/*
 * workflows.c
 *		What SQL does with a workflow: create_workflow, close_workflow, cancel_workflow, retry_workflow,
 *		dependency_results.
 *
 * The workflow's queue decides about rights, and covers its jobs.
 *
 * Locks: the row lock of the workflow; those of cancel and retry.
 */
#include "api/workflows.h"

#include "api/arguments.h"
#include "api/control.h"
#include "api/workflow_end.h"
#include "config/owner.h"
#include "executor/verdict.h"
#include "job/create.h"
#include "job/finish.h"
#include "job/finished.h"
#include "job/remind.h"
#include "job/workflow.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(queue_sql_create_workflow);
PG_FUNCTION_INFO_V1(queue_sql_close_workflow);
PG_FUNCTION_INFO_V1(queue_sql_cancel_workflow);
PG_FUNCTION_INFO_V1(queue_sql_retry_workflow);
PG_FUNCTION_INFO_V1(queue_sql_dependency_results);

int64
queue_workflow_create(const QueueNewWorkflow *new, bool closed)
{
	Oid			types[8] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID};
	Datum		values[8];
	char		nulls[8];
	const char *texts[5] = {new->queue, new->name, new->callbacks[0], new->callbacks[1], new->callbacks[2]};
	QueueSpi	spi;
	int64		id;

	if (new->queue == NULL)
		queue_null_value("queue");
	if (new->payload == NULL)
		queue_null_value("payload");
	if (new->name != NULL)
		(void) queue_check_kind(CStringGetTextDatum(new->name), "name");
	queue_require(new->queue, QUEUE_PRIV_ENQUEUE);
	(void) queue_config_queue(new->queue, false);
	for (int i = 0; i < 3; i++)
	{
		if (new->callbacks[i] != NULL)
			(void) queue_check_kind(CStringGetTextDatum(new->callbacks[i]), "a callback's kind");
	}
	id = nextval_internal(queue_config()->workflow_id_seq, false);
	values[0] = Int64GetDatum(id);
	for (int i = 0; i < 5; i++)
		values[1 + i] = texts[i] != NULL ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	values[6] = JsonbPGetDatum(new->payload);
	values[7] = TimestampTzGetDatum(queue_now());
	for (int i = 0; i < 8; i++)
		nulls[i] = i >= 1 && i <= 5 && texts[i - 1] == NULL ? 'n' : ' ';
	queue_spi_begin(&spi);
	(void) queue_spi_run(psprintf("INSERT INTO queue.workflow_base (id, queue, name, on_finished, on_completed,"
								  " on_discarded, payload, created_at, closed_at)"
								  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, %s)",
								  closed ? "$8" : "NULL"), 8, types, values, nulls);
	queue_spi_end(&spi);
	if (closed)
		queue_job_remind(QUEUE_REMIND_WORKFLOW_NOW, id);
	return id;
}

/* queue.create_workflow(name, queue, on_finished, on_completed, on_discarded, payload) -> bigint */
Datum
queue_sql_create_workflow(PG_FUNCTION_ARGS)
{
	QueueNewWorkflow new = {0};

	queue_finish_writable("queue.create_workflow()");
	queue_workflow_arguments(fcinfo, 0, &new);
	PG_RETURN_INT64(queue_workflow_create(&new, false));
}

void
queue_workflow_arguments(FunctionCallInfo fcinfo, int first, QueueNewWorkflow *new)
{
	char	  **texts[5] = {&new->name, &new->queue, &new->callbacks[0], &new->callbacks[1], &new->callbacks[2]};

	for (int i = 0; i < 5; i++)
		*texts[i] = PG_ARGISNULL(first + i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(first + i));
	new->payload = PG_ARGISNULL(first + 5) ? NULL : PG_GETARG_JSONB_P(first + 5);
}

/*
 * Checks the caller's right on a workflow and gives its queue and state, in SPI's memory; inside queue_spi_begin.
 * 42704: there is none, or the caller may not see it.
 */
static void
require(const QueueSpi *spi, int64 id, int privilege, char **queue, char **state)
{
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(id);
	bool		found = queue_spi_run("SELECT queue, state FROM queue.workflow_base WHERE id = $1", 1, &type, &value,
									  NULL) > 0;

	if (found)
	{
		*queue = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		*state = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
		found = queue_may(spi->owner.userid, *queue, privilege);
		if (!found && queue_may(spi->owner.userid, *queue, QUEUE_PRIV_READ))
			queue_require_of(spi->owner.userid, *queue, privilege);
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("workflow " INT64_FORMAT " does not exist", id),
				 errhint("It may be in a queue on which you lack the privilege %s, or not be kept any more.",
						 privilege == QUEUE_PRIV_MANAGE ? "manage" : "enqueue")));
}

static uint64
run(int64 id, const char *sql)
{
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(id);

	return queue_spi_run(sql, 1, &type, &value, NULL);
}

/* queue.close_workflow(workflow_id) -> void */
Datum
queue_sql_close_workflow(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "workflow_id");
	QueueSpi	spi;
	char	   *queue;
	char	   *state;

	queue_finish_writable("queue.close_workflow()");
	queue_spi_begin(&spi);
	require(&spi, id, QUEUE_PRIV_ENQUEUE, &queue, &state);
	(void) run(id, "UPDATE queue.workflow_base SET closed_at = queue_internal.clock()"
			   " WHERE id = $1 AND closed_at IS NULL");
	queue_workflow_shut(id);
	queue_spi_end(&spi);
	queue_job_remind(QUEUE_REMIND_WORKFLOW_NOW, id);
	PG_RETURN_VOID();
}

/* Ends all jobs of a workflow that have not ended; how many. */
static int64
cancel_all(int64 id, const char *reason)
{
	MemoryContext per_job = AllocSetContextCreate(CurrentMemoryContext, "queue job", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(per_job);
	int64		at = PG_INT64_MIN;
	int64		n = 0;

	while ((at = queue_workflow_unfinished(id, at)) != 0)
	{
		n += queue_control_end(at, QUEUE_STATE_CANCELLED, QUEUE_RUN_CANCEL, reason);
		MemoryContextReset(per_job);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(per_job);
	return n;
}

/* queue.cancel_workflow(workflow_id, reason) -> bigint */
Datum
queue_sql_cancel_workflow(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "workflow_id");
	char	   *reason = PG_ARGISNULL(1) ? "its workflow was cancelled" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	QueueSpi	spi;
	char	   *queue;
	char	   *state;
	bool		compensates;
	int64		n = 0;

	queue_finish_writable("queue.cancel_workflow()");
	queue_spi_begin(&spi);
	require(&spi, id, QUEUE_PRIV_MANAGE, &queue, &state);
	if (strcmp(state, "running") != 0)
	{
		queue_spi_end(&spi);
		PG_RETURN_INT64(0);
	}
	compensates = run(id, "SELECT FROM queue.workflow_job WHERE workflow = $1 AND compensate_with <> '' LIMIT 1") > 0;
	/* first those that are there: one that runs may just hold the workflow, because it enqueues into it */
	if (!compensates)
		n += cancel_all(id, reason);
	(void) run(id, "SELECT FROM queue.workflow_base WHERE id = $1 FOR UPDATE");
	(void) run(id, "UPDATE queue.workflow_base SET closed_at = coalesce(closed_at, queue_internal.clock()),"
			   " cancelled_at = queue_internal.clock() WHERE id = $1 AND state = 'running'");
	/* from now on nobody joins */
	queue_workflow_shut(id);
	if (compensates)
	{
		QueueJobTable *jobs = queue_job_open(RowExclusiveLock);

		(void) queue_workflow_cancel_waiting(jobs, id, reason, &n);
		queue_job_close(jobs);
	}
	else
		n += cancel_all(id, reason);
	queue_spi_end(&spi);
	queue_job_remind(QUEUE_REMIND_WORKFLOW_NOW, id);
	PG_RETURN_INT64(n);
}

/* queue.retry_workflow(workflow_id) -> bigint */
Datum
queue_sql_retry_workflow(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "workflow_id");
	MemoryContext context = CurrentMemoryContext;
	QueueSpi	spi;
	char	   *queue;
	char	   *state;
	int64	   *ids;
	uint64		found;
	int64		n = 0;

	queue_finish_writable("queue.retry_workflow()");
	queue_spi_begin(&spi);
	require(&spi, id, QUEUE_PRIV_MANAGE, &queue, &state);
	if (strncmp(state, "compensat", strlen("compensat")) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow " INT64_FORMAT " is %s", id, state),
				 errhint("What its jobs did is undone; enqueue a workflow anew.")));
	found = run(id, "WITH RECURSIVE bad AS ("
				" SELECT job_id FROM queue.workflow_end WHERE workflow = $1 AND state = 'discarded' AND compensates = 0"
				" UNION SELECT f.id FROM bad JOIN queue.workflow_end e ON e.workflow = $1 AND e.state = 'cancelled'"
				" JOIN queue.finished_job f ON f.id = e.job_id AND (f.extra ->> 'cause')::bigint = bad.job_id)"
				" SELECT b.job_id FROM bad b JOIN queue.finished_job f ON f.id = b.job_id ORDER BY 1");
	ids = MemoryContextAllocHuge(context, Max(found, 1) * sizeof(int64));
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	for (uint64 i = 0; i < found; i++)
	{
		bool		missing;

		CHECK_FOR_INTERRUPTS();
		n += queue_control_revive(ids[i], queue_now(), &missing);
	}
	queue_spi_end(&spi);
	PG_RETURN_INT64(n);
}

/* queue.dependency_results(job_id) -> jsonb */
Datum
queue_sql_dependency_results(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	QueueJobTable *jobs = queue_job_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueFinished finished;
	QueueJob	job;
	const char *queue = NULL;
	int64		workflow = 0;

	if (queue_current != NULL && queue_current->job->id == id)
	{
		/* in company its row is already deleted */
		queue = queue_current->line->queue->name;
		workflow = queue_extra_int(queue_current->job->extra, "workflow");
	}
	else if (queue_job_find_lean(jobs, id, snapshot, &job))
	{
		queue = queue_job_line(job.line)->queue->name;
		workflow = queue_extra_int(job.extra, "workflow");
	}
	else if (queue_finished_find(id, snapshot, &finished))
	{
		queue = finished.queue;
		workflow = queue_extra_int(finished.job.extra, "workflow");
	}
	UnregisterSnapshot(snapshot);
	queue_job_close(jobs);
	if (queue == NULL ||
		(!queue_may(GetUserId(), queue, QUEUE_PRIV_WORK) && !queue_may(GetUserId(), queue, QUEUE_PRIV_READ)))
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(queue_workflow_results(id, workflow));
}
