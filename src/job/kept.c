/*
 * kept.c
 *		Writes rows of queue.finished_job.
 *
 * A queue that keeps what completed writes such a row for each job, so the tables of the ring that a transaction writes
 * to stay open as long as its live_job, and what is the same for all rows is made once.
 *
 * An executor ends many jobs in one transaction.  Their rows wait in its memory and are written together, the table
 * first and then index by index, which costs less than half of what it costs to write them one by one.  No handler that
 * runs later in the transaction can tell the difference:
 *
 * - Whoever reads the tables has the rows written first: our own readers (queue_finished_open), and of SQL each
 *   statement that names one of the tables, however deep in views and functions, when its execution starts
 *   (start_query), and every utility statement (server/ddl_hook.c).
 * - The rows are written with the command id of the last job that ended, so also a snapshot that was taken before they
 *   were written shows them, if it was taken after that end.
 * - If they are written in a handler's subtransaction and that is rolled back, they wait again.
 *
 * Where a user has put a trigger, or an index that is more than a list of columns, on a table, nothing waits.
 *
 * Locks: RowExclusiveLock on the tables of the ring that rows are inserted into.
 */
#include "job/kept.h"

#include "job/write.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#define MAX_WAITING 64			/* more than an executor ends in one transaction */
#define MAX_WAITING_BYTES (256 * 1024)

/* The tables of the ring that are open to be written. */
typedef struct QueueKept
{
	EState	   *estate;
	struct
	{
		ResultRelInfo *rri;		/* NULL: not open */
		TupleTableSlot *row;
		bool		plain;		/* no trigger, no constraint but ours, which hold, and simple indexes */
	}			tables[QUEUE_KEPT_SLOTS];
} QueueKept;

/* A row that waits, or was written in a subtransaction that may yet be rolled back. */
typedef struct Waiting
{
	int			slot;			/* its table */
	SubTransactionId written_in;	/* InvalidSubTransactionId: it waits */
	TupleTableSlot *row;		/* stays for the next one; NULL: none yet in this transaction */
} Waiting;

static struct
{
	QueueJobTable *jobs;		/* whose rows wait; NULL: nobody's */
	CommandId	command;		/* that ended the last one's job */
	Size		bytes;
	int			nunwritten;
	int			n;
	Waiting		rows[MAX_WAITING];
}			waiting;

static ExecutorStart_hook_type previous_start;

/* ---------------------------------------------------------------- the tables */

/* Called by queue_job_close. */
static void
close_kept(QueueJobTable *jobs)
{
	QueueKept  *kept = jobs->kept;

	if (waiting.jobs == jobs)
	{
		queue_kept_write();
		for (int i = 0; i < MAX_WAITING && waiting.rows[i].row != NULL; i++)
			ExecDropSingleTupleTableSlot(waiting.rows[i].row);
		waiting.jobs = NULL;
	}
	for (int i = 0; i < QUEUE_KEPT_SLOTS; i++)
	{
		ResultRelInfo *rri = kept->tables[i].rri;

		if (rri == NULL)
			continue;
		queue_write_close_indexes(rri);
		ExecDropSingleTupleTableSlot(kept->tables[i].row);
		table_close(rri->ri_RelationDesc, NoLock);
	}
	queue_write_end(kept->estate);
	jobs->kept = NULL;
}

/* Is every index just a list of columns? */
static bool
has_simple_indexes(const ResultRelInfo *rri)
{
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		const IndexInfo *info = rri->ri_IndexRelationInfo[i];

		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL || info->ii_Unique ||
			info->ii_ExclusionOps != NULL || !info->ii_ReadyForInserts)
			return false;
	}
	return true;
}

/* Opens the table of a slot for as long as live_job is open; see queue_job_open on owners. */
static void
open_kept(QueueJobTable *jobs, int slot, int ncols)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(jobs));
	Relation	rel;
	TupleConstr *constr;
	ResultRelInfo *rri;

	CurrentResourceOwner = jobs->owner;
	if (jobs->kept == NULL)
	{
		jobs->kept = palloc0(sizeof(QueueKept));
		jobs->kept->estate = CreateExecutorState();
		jobs->close_kept = close_kept;
	}
	rel = table_open(queue_config()->finished_job[slot], RowExclusiveLock);
	rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rri, rel, 0, NULL, 0);	/* in no range table */
	ExecOpenIndices(rri, false);
	constr = RelationGetDescr(rel)->constr;
	jobs->kept->tables[slot].row = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	jobs->kept->tables[slot].plain = rel->trigdesc == NULL && RelationGetNumberOfAttributes(rel) == ncols &&
		(constr == NULL || (constr->num_check <= 1 && !constr->has_generated_stored)) && has_simple_indexes(rri);
	jobs->kept->tables[slot].rri = rri;
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------- writing */

/* Writes rows of a plain table: the table first, then index by index. */
static void
write_rows(ResultRelInfo *rri, EState *estate, TupleTableSlot **rows, int n, CommandId command)
{
	Relation	rel = rri->ri_RelationDesc;
	MemoryContext old = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));

	if (n == 1)
		table_tuple_insert(rel, rows[0], command, 0, NULL);
	else
		table_multi_insert(rel, rows, n, command, 0, NULL);
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		IndexInfo  *info = rri->ri_IndexRelationInfo[i];

		for (int j = 0; j < n; j++)
		{
			Datum		values[INDEX_MAX_KEYS];
			bool		nulls[INDEX_MAX_KEYS];

			FormIndexDatum(info, rows[j], estate, values, nulls);
			(void) index_insert(rri->ri_IndexRelationDescs[i], values, nulls, &rows[j]->tts_tid, rel,
								UNIQUE_CHECK_NO, false, info);
		}
	}
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(estate);
}

void
queue_kept_write(void)
{
	bool		pushed = waiting.nunwritten > 0 && queue_write_snapshot();

	for (int slot = 0; slot < QUEUE_KEPT_SLOTS && waiting.nunwritten > 0; slot++)
	{
		QueueKept  *kept = waiting.jobs->kept;
		TupleTableSlot *rows[MAX_WAITING];
		int			n = 0;

		for (int i = 0; i < waiting.n && kept->tables[slot].rri != NULL; i++)
		{
			if (waiting.rows[i].slot == slot && waiting.rows[i].written_in == InvalidSubTransactionId)
				rows[n++] = waiting.rows[i].row;
		}
		if (n > 0)
			write_rows(kept->tables[slot].rri, kept->estate, rows, n, waiting.command);
	}
	if (pushed)
		PopActiveSnapshot();
	for (int i = 0; i < waiting.n; i++)
	{
		if (waiting.rows[i].written_in == InvalidSubTransactionId)
			waiting.rows[i].written_in = GetCurrentSubTransactionId();
	}
	waiting.nunwritten = 0;
	waiting.bytes = 0;
	if (waiting.n > 0 && GetCurrentTransactionNestLevel() == 1)
		waiting.n = 0;			/* and those written before are not rolled back alone any more */
}

/* A row waits.  Its table is open and plain. */
static void
let_wait(QueueJobTable *jobs, int slot, const Datum *values, const bool *nulls, CommandId command)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(jobs));
	TupleDesc	columns = RelationGetDescr(jobs->kept->tables[slot].rri->ri_RelationDesc);
	HeapTuple	tuple = heap_form_tuple(columns, unconstify(Datum *, values), unconstify(bool *, nulls));
	Waiting    *row;

	if (waiting.n == MAX_WAITING || waiting.bytes + tuple->t_len > MAX_WAITING_BYTES)
		queue_kept_write();
	row = &waiting.rows[waiting.n++];
	if (row->row == NULL)
		row->row = MakeSingleTupleTableSlot(columns, &TTSOpsHeapTuple);
	ExecStoreHeapTuple(tuple, row->row, true);
	row->slot = slot;
	row->written_in = InvalidSubTransactionId;
	waiting.command = command;
	waiting.bytes += tuple->t_len;
	waiting.nunwritten++;
	MemoryContextSwitchTo(old);
}

void
queue_kept_insert(QueueJobTable *jobs, int slot, const Datum *values, const bool *nulls, int ncols)
{
	CommandId	command = GetCurrentCommandId(true);
	TupleTableSlot *row;
	ResultRelInfo *rri;

	if (jobs->kept == NULL || jobs->kept->tables[slot].rri == NULL)
		open_kept(jobs, slot, ncols);
	if (jobs == waiting.jobs && jobs->kept->tables[slot].plain && GetCurrentTransactionNestLevel() == 1)
	{
		let_wait(jobs, slot, values, nulls, command);
		return;
	}
	row = jobs->kept->tables[slot].row;
	rri = jobs->kept->tables[slot].rri;
	ExecClearTuple(row);
	memset(row->tts_isnull, true, row->tts_tupleDescriptor->natts * sizeof(bool));
	memcpy(row->tts_values, values, ncols * sizeof(Datum));
	memcpy(row->tts_isnull, nulls, ncols * sizeof(bool));
	ExecStoreVirtualTuple(row);
	if (jobs->kept->tables[slot].plain)
		write_rows(rri, jobs->kept->estate, &row, 1, command);
	else
		queue_write_insert(rri, jobs->kept->estate, row, false);
	ResetPerTupleExprContext(jobs->kept->estate);
}

/* ---------------------------------------------------------------- who must not see that they wait */

/* May this statement read a table in which rows are missing?  Parallel workers read, and nobody writes beside them. */
static bool
may_read(const PlannedStmt *statement)
{
	ListCell   *cell;

	if (statement->parallelModeNeeded)
		return true;
	foreach(cell, statement->relationOids)
	{
		for (int slot = 0; slot < QUEUE_KEPT_SLOTS; slot++)
		{
			ResultRelInfo *rri = waiting.jobs->kept->tables[slot].rri;

			if (rri != NULL && RelationGetRelid(rri->ri_RelationDesc) == lfirst_oid(cell))
				return true;
		}
	}
	return false;
}

/* Hook of ExecutorStart, in executors only. */
static void
start_query(QueryDesc *query, int eflags)
{
	if (waiting.nunwritten > 0 && may_read(query->plannedstmt))
		queue_kept_write();
	if (previous_start != NULL)
		previous_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
kept_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = 0; i < waiting.n; i++)
	{
		if (waiting.rows[i].written_in != mine)
			continue;
		waiting.rows[i].written_in = event == SUBXACT_EVENT_COMMIT_SUB ? parent : InvalidSubTransactionId;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			waiting.nunwritten++;
	}
}

static void
kept_xact(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
	{
		waiting.jobs = NULL;	/* also of a transaction that kept nothing */
		waiting.n = waiting.nunwritten = 0;
	}
}

void
queue_kept_gather(QueueJobTable *jobs)
{
	static bool hooked = false;

	if (!hooked)
	{
		RegisterXactCallback(kept_xact, NULL);
		RegisterSubXactCallback(kept_subxact, NULL);
		previous_start = ExecutorStart_hook;
		ExecutorStart_hook = start_query;
	}
	hooked = true;
	memset(&waiting, 0, sizeof(waiting));
	waiting.jobs = jobs;
}
