/*
 * workflow.c
 *		What a workflow knows of its jobs: rows of queue.workflow_job, one per job, and of queue.workflow_end, one per
 *		job that has ended.
 *
 * Who enqueues a job into a workflow locks the workflow's row FOR KEY SHARE and reads it in its newest version; who
 * finishes a workflow locks the row FOR UPDATE before the look that decides.  So nobody joins a workflow that is
 * finished, and none is finished while a job joins.  Such a lock keeps nobody from joining or ending at the same time.
 *
 * Every end of a job inserts a row and reminds of the workflow (shared/reminder.h); whether all have ended is looked up
 * by who takes the reminder (api/workflow_end.c).  The row keeps the result, whatever the job's queue keeps.  A retry
 * deletes the row again, under the workflow's row lock, and a workflow that was finished runs again.
 *
 * Locks: RowExclusiveLock on the tables; the row lock of the workflow, which is waited for.
 */
#include "job/workflow.h"

#include "config/lines.h"
#include "config/owner.h"
#include "job/place.h"
#include "job/remind.h"
#include "job/rows.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* The columns that are read or written here.  Later versions only append. */
enum
{
	BASE_ID = 1, BASE_QUEUE, BASE_STATE, BASE_CLOSED_AT
};
enum
{
	JOB_WORKFLOW = 1, JOB_ID, JOB_QUEUE, JOB_KIND, JOB_COMPENSATE_WITH, JOB_REF, JOB_PAYLOAD, NJOB = JOB_PAYLOAD
};
enum
{
	END_WORKFLOW = 1, END_JOB_ID, END_NUMBER, END_COMPENSATES, END_STATE, END_RESULT
};

/*
 * The one that a statement joined last, outside of any savepoint, and for whom: the next job needs no look.  The next
 * statement looks again, because another transaction may have closed the workflow.
 */
static struct
{
	int64		id;
	Oid			creator;
	FullTransactionId by;
	TimestampTz at;
}			joined;

/* 55000: the workflow takes no more jobs. */
static void
refuse(int64 id, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("workflow " INT64_FORMAT " %s", id, why),
			 errhint("Jobs join while it is open, or from inside one of its own unfinished jobs.")));
}

void
queue_workflow_missing(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("workflow " INT64_FORMAT " does not exist", id),
			 errhint("queue.create_workflow gives an id.")));
}

/* Locks a workflow's row FOR KEY SHARE and leaves its newest version in the slot; false: there is none. */
static bool
lock_row(Relation rel, int64 id, TupleTableSlot *slot)
{
	Relation	index = index_open(queue_config()->workflow_base_pkey, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = queue_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
	{
		ItemPointerData tid = slot->tts_tid;
		TM_FailureData tmfd;

		found = table_tuple_lock(rel, &tid, snapshot, slot, GetCurrentCommandId(true), LockTupleKeyShare, LockWaitBlock,
								 TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS | TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
								 &tmfd) == TM_Ok;
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	return found;
}

void
queue_workflow_join(int64 id, bool within, Oid creator)
{
	Relation	rel;
	TupleTableSlot *slot;
	char	   *queue = NULL;
	char	   *state = NULL;
	bool		open = false;
	bool		isnull;

	if (joined.id == id && joined.creator == creator && FullTransactionIdIsValid(joined.by) &&
		FullTransactionIdEquals(joined.by, GetTopFullTransactionIdIfAny()) &&
		joined.at == GetCurrentStatementStartTimestamp())
		return;
	rel = table_open(queue_config()->workflow_base, RowExclusiveLock);
	slot = table_slot_create(rel, NULL);
	if (lock_row(rel, id, slot))
	{
		queue = TextDatumGetCString(slot_getattr(slot, BASE_QUEUE, &isnull));
		state = TextDatumGetCString(slot_getattr(slot, BASE_STATE, &isnull));
		(void) slot_getattr(slot, BASE_CLOSED_AT, &open);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	if (queue == NULL)
		queue_workflow_missing(id);
	queue_require_of(creator, queue, QUEUE_PRIV_ENQUEUE);
	if (strcmp(state, "running") != 0)
		refuse(id, psprintf("is %s", state));
	if (!open && !within)
		refuse(id, "is closed");
	if (GetCurrentTransactionNestLevel() == 1 && !within)
	{
		joined.id = id;
		joined.creator = creator;
		joined.by = GetTopFullTransactionId();
		joined.at = GetCurrentStatementStartTimestamp();
	}
}

void
queue_workflow_shut(int64 id)
{
	if (joined.id == id)
		joined.id = 0;
}

/* Runs a statement about a workflow ($1) and one of its jobs ($2) as the extension's owner; how many rows. */
static uint64
run(const char *sql, int64 id, int64 job)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(id), Int64GetDatum(job)};
	int			result = SPI_execute_with_args(sql, 2, types, values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "SPI failed (%s): %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}

/* A job of a workflow is retried or redriven. */
static void
come_back(int64 id, const QueueJob *job)
{
	QueueOwnerContext saved;

	queue_as_owner_begin(&saved);
	SPI_connect();
	if (run("SELECT state FROM queue.workflow_base WHERE id = $1 AND $2 IS NOT NULL FOR UPDATE", id, job->id) > 0 &&
		queue_extra_int(job->extra, "compensates") == 0)
	{
		char	   *state = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		if (strncmp(state, "compensat", strlen("compensat")) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("workflow " INT64_FORMAT " of job " INT64_FORMAT " is %s", id, job->id, state),
					 errhint("What its jobs did is undone; enqueue a workflow anew.")));
	}
	(void) run("DELETE FROM queue.workflow_end WHERE workflow = $1 AND job_id = $2", id, job->id);
	(void) run("UPDATE queue.workflow_base SET state = 'running', finished_at = NULL, cancelled_at = NULL,"
			   " jobs = NULL, completed = NULL, discarded = NULL, cancelled = NULL"
			   " WHERE id = $1 AND $2 IS NOT NULL AND state IN ('completed', 'failed', 'cancelled')", id, job->id);
	SPI_finish();
	queue_as_owner_end(&saved);
	queue_job_remind(QUEUE_REMIND_WORKFLOW_NOW, id);
}

void
queue_workflow_insert(const QueueJob *jobs, int n)
{
	QueueInserter inserter;
	bool		open = false;

	for (int i = 0; i < n; i++)
	{
		const QueueJob *job = &jobs[i];
		int64		id = queue_extra_int(job->extra, "workflow");
		QueueLine  *line;
		Datum		values[NJOB];
		QueueExtra	extra;

		if (id == 0)
			continue;
		if (!job->joins)
		{
			come_back(id, job);
			continue;
		}
		if (!open)
			queue_inserter_open(&inserter, queue_config()->workflow_job);
		open = true;
		queue_extra_unpack(job->extra, &extra);
		line = queue_job_line(job->line);
		values[JOB_WORKFLOW - 1] = Int64GetDatum(id);
		values[JOB_ID - 1] = Int64GetDatum(job->id);
		values[JOB_QUEUE - 1] = CStringGetTextDatum(line->queue->name);
		values[JOB_KIND - 1] = CStringGetTextDatum(line->kind);
		values[JOB_COMPENSATE_WITH - 1] =
			CStringGetTextDatum(extra.compensate_with != NULL ? extra.compensate_with : "");
		values[JOB_REF - 1] = CStringGetTextDatum(extra.ref != NULL ? extra.ref : "");
		values[JOB_PAYLOAD - 1] = JsonbPGetDatum(job->payload);
		/* the payload is for the compensation alone */
		queue_inserter_put(&inserter, values, extra.compensate_with != NULL ? NJOB : NJOB - 1);
	}
	if (open)
		queue_inserter_close(&inserter);
}

void
queue_workflow_ended(const QueueJob *job, QueueState to, const QueueEnding *ending)
{
	int64		id = queue_extra_int(job->extra, "workflow");
	QueueInserter inserter;
	Datum		values[END_RESULT];

	if (id == 0)
		return;
	if (to == QUEUE_STATE_NONE)
		to = QUEUE_STATE_CANCELLED;
	values[END_WORKFLOW - 1] = Int64GetDatum(id);
	values[END_JOB_ID - 1] = Int64GetDatum(job->id);
	values[END_NUMBER - 1] = Int64GetDatum(nextval_internal(queue_config()->workflow_number_seq, false));
	values[END_COMPENSATES - 1] = Int64GetDatum(queue_extra_int(job->extra, "compensates"));
	values[END_STATE - 1] = CStringGetTextDatum(queue_state_names[to]);
	if (ending->result != NULL)
		values[END_RESULT - 1] = JsonbPGetDatum(ending->result);
	queue_inserter_open(&inserter, queue_config()->workflow_end);
	queue_inserter_put(&inserter, values, ending->result != NULL ? END_RESULT : END_RESULT - 1);
	queue_inserter_close(&inserter);
	queue_job_remind(to == QUEUE_STATE_COMPLETED ? QUEUE_REMIND_WORKFLOW : QUEUE_REMIND_WORKFLOW_NOW, id);
}

void
queue_workflow_waits(const QueueExtra *extra)
{
	if (extra->workflow != 0)
		queue_job_remind(QUEUE_REMIND_WORKFLOW_NOW, extra->workflow);
}

bool
queue_workflow_known(int64 id)
{
	QueueRows	rows = {0};
	bool		known;

	queue_rows_where_int8(&rows, BTEqualStrategyNumber, id);
	queue_rows_begin(&rows, queue_config()->workflow_base, queue_config()->workflow_base_pkey, AccessShareLock);
	known = queue_rows_next(&rows);
	queue_rows_end(&rows);
	return known;
}

Jsonb *
queue_workflow_results(int64 job, int64 workflow)
{
	MemoryContext context = CurrentMemoryContext;
	QueueOwnerContext saved;
	Jsonb	   *results;
	bool		isnull;

	PushActiveSnapshot(GetTransactionSnapshot());
	queue_as_owner_begin(&saved);
	SPI_connect();
	(void) run("SELECT coalesce(jsonb_object_agg(coalesce(nullif(m.ref, ''), d.depends_on::text),"
			   " coalesce(f.result, e.result, 'null')), '{}') FROM queue.dependency d"
			   " LEFT JOIN queue.workflow_job m ON m.workflow = $1 AND m.job_id = d.depends_on"
			   " LEFT JOIN queue.workflow_end e ON e.workflow = $1 AND e.job_id = d.depends_on"
			   " LEFT JOIN queue.finished_job f ON f.id = d.depends_on WHERE d.job_id = $2", workflow, job);
	results = DatumGetJsonbP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	results = memcpy(MemoryContextAlloc(context, VARSIZE(results)), results, VARSIZE(results));
	SPI_finish();
	queue_as_owner_end(&saved);
	PopActiveSnapshot();
	return results;
}

int64
queue_workflow_unfinished(int64 id, int64 after)
{
	QueueConfig *config = queue_config();
	QueueRows	members = {0};
	QueueRows	ends = {0};
	int64		ended = PG_INT64_MIN;
	int64		found = 0;

	queue_rows_where_int8(&members, BTEqualStrategyNumber, id);
	queue_rows_where_int8(&members, BTGreaterEqualStrategyNumber, after + 1);
	queue_rows_where_int8(&ends, BTEqualStrategyNumber, id);
	queue_rows_where_int8(&ends, BTGreaterEqualStrategyNumber, after + 1);
	queue_rows_begin(&members, config->workflow_job, config->workflow_job_pkey, AccessShareLock);
	queue_rows_begin(&ends, config->workflow_end, config->workflow_end_pkey, AccessShareLock);
	while (found == 0 && queue_rows_next(&members))
	{
		bool		isnull;
		int64		member = DatumGetInt64(queue_rows_datum(&members, JOB_ID, &isnull));

		CHECK_FOR_INTERRUPTS();
		while (ended < member)
			ended = queue_rows_next(&ends) ? DatumGetInt64(queue_rows_datum(&ends, END_JOB_ID, &isnull)) : PG_INT64_MAX;
		if (ended != member)
			found = member;
	}
	queue_rows_end(&ends);
	queue_rows_end(&members);
	return found;
}
