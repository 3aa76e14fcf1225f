/*
 * write.c
 *		Writes of single rows through the executor, with the triggers that a user has put on our tables.
 *
 * A BEFORE trigger that returns null makes the executor skip the write without a word.  What our callers write along
 * with it (a key, a place, the kept row of a job that ended) would then tell of something that did not happen, so that
 * is an error here.  Only what is kept of a job need not be kept.
 *
 * AFTER triggers need a query that they belong to, and a background process is in none.
 *
 * Locks: the caller's on the table; the row's.
 */
#include "job/write.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Called when a write was made to no effect. */
static void
raise_skipped(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
			 errmsg("a trigger of table \"%s\" returned null to skip a change that the queue makes",
					RelationGetRelationName(rel)),
			 errhint("Let the trigger return the row, or raise an error; or drop it.")));
}

/* Before a write: triggers shall find this table and open no other, which nobody would close. */
static void
begin_triggers(ResultRelInfo *rri, EState *estate)
{
	if (!list_member_ptr(estate->es_opened_result_relations, rri))
	{
		MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

		estate->es_opened_result_relations = lappend(estate->es_opened_result_relations, rri);
		MemoryContextSwitchTo(old);
	}
	AfterTriggerBeginQuery();
}

bool
queue_write_snapshot(void)
{
	if (ActiveSnapshotSet())
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

void
queue_write_insert(ResultRelInfo *rri, EState *estate, TupleTableSlot *row, bool needed)
{
	Relation	rel = rri->ri_RelationDesc;

	if (rel->trigdesc != NULL)
		begin_triggers(rri, estate);
	ExecSimpleRelationInsert(rri, estate, row);
	if (rel->trigdesc != NULL)
		AfterTriggerEndQuery(estate);
	if (needed && unlikely(!ItemPointerIsValid(&row->tts_tid)))
		raise_skipped(rel);
}

void
queue_write_locked(ResultRelInfo *rri, EState *estate, TupleTableSlot *old, TupleTableSlot *new)
{
	Relation	rel = rri->ri_RelationDesc;
	ItemPointerData tid = old->tts_tid;
	EPQState	epq;

	queue_epq_init(&epq, estate);
	if (rel->trigdesc != NULL)
		begin_triggers(rri, estate);
	/* triggers lock the row as of this command, which may have come after one of this transaction that wrote it */
	estate->es_output_cid = GetCurrentCommandId(true);
	if (new != NULL)
		ExecSimpleRelationUpdate(rri, estate, &epq, old, new);
	else
		ExecSimpleRelationDelete(rri, estate, &epq, old);
	if (rel->trigdesc != NULL)
		AfterTriggerEndQuery(estate);
	EvalPlanQualEnd(&epq);
	/* this transaction does not see the version any more that it has written over */
	if (rel->trigdesc != NULL && table_tuple_fetch_row_version(rel, &tid, SnapshotSelf, old))
		raise_skipped(rel);
	ExecClearTuple(old);
}

void
queue_write_close_indexes(ResultRelInfo *rri)
{
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		queue_index_insert_cleanup(rri->ri_IndexRelationDescs[i], rri->ri_IndexRelationInfo[i]);
		index_close(rri->ri_IndexRelationDescs[i], NoLock);
	}
}

void
queue_write_end(EState *estate)
{
	ExecResetTupleTable(estate->es_tupleTable, false);	/* the slots that triggers used hold pins and row types */
	FreeExecutorState(estate);
}

bool
queue_write_may_update(Relation rel, ItemPointer tid, Snapshot snapshot, bool *wait, TM_Result *result)
{
#ifdef USE_ASSERT_CHECKING
	if (!*wait)
	{
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		TM_FailureData tmfd;

		*result = table_tuple_lock(rel, tid, snapshot, slot, GetCurrentCommandId(true), LockTupleNoKeyExclusive,
								   LockWaitSkip, 0, &tmfd);
		ExecDropSingleTupleTableSlot(slot);
		if (*result == TM_WouldBlock)
			*result = TM_BeingModified;
		*wait = true;
		return *result == TM_Ok;
	}
#endif
	return true;
}
