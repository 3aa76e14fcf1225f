/*
 * deadline.c
 *		queue.deadline: one row (at, id) for each time at which a job is to be looked at
 *		although nobody asks for it.
 *
 * That is expires_at, and the end of an await.  The row is inserted with the job (with the await) and is not deleted
 * when the job ends, so an end costs nothing; when it falls due, the scheduler looks the job up
 * (scheduler/deadlines.c) and deletes the row.  So a deadline survives crash, restart,
 * dump and promotion, and no job without one pays for it.
 *
 * Locks: RowExclusiveLock on the table for inserts and deletes.
 */
#include "job/deadline.h"

#include "config/config.h"
#include "job/write.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"

enum
{
	COL_AT = 1, COL_ID, NCOLS = COL_ID
};

/* Inserts a row for each.  Called by job.c with the jobs' own rows. */
void
queue_deadline_insert(const QueuePos *deadlines, int n)
{
	Relation	rel = table_open(queue_config()->deadline, RowExclusiveLock);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);

	InitResultRelInfo(rri, rel, 0, NULL, 0);	/* in no range table */
	ExecOpenIndices(rri, false);
	(void) GetCurrentCommandId(true);

	for (int i = 0; i < n; i++)
	{
		ExecClearTuple(slot);
		slot->tts_values[COL_AT - 1] = TimestampTzGetDatum(deadlines[i].run_at);
		slot->tts_values[COL_ID - 1] = Int64GetDatum(deadlines[i].id);
		memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
		slot->tts_isnull[COL_AT - 1] = slot->tts_isnull[COL_ID - 1] = false;
		ExecStoreVirtualTuple(slot);
		queue_write_insert(rri, estate, slot, true);
		ResetPerTupleExprContext(estate);
	}
	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	queue_write_end(estate);
	table_close(rel, NoLock);
}

/* Opens the table for the scheduler, which reads it in order. */
QueueDeadlineTable *
queue_deadline_open(LOCKMODE lockmode)
{
	QueueDeadlineTable *table = palloc(sizeof(QueueDeadlineTable));

	table->rel = table_open(queue_config()->deadline, lockmode);
	table->index = index_open(queue_config()->deadline_at, lockmode);
	table->slot = table_slot_create(table->rel, NULL);
	return table;
}

/* Closes it; the lock stays until the end of the transaction. */
void
queue_deadline_close(QueueDeadlineTable *table)
{
	ExecDropSingleTupleTableSlot(table->slot);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
	pfree(table);
}

/*
 * Reads up to max deadlines at or after `from` that have come by `now`, in order, and returns how many.  *next is when
 * the first one that has not come falls due (DT_NOEND: there is none), or `now` if there may be more that have.
 */
int
queue_deadline_read(QueueDeadlineTable *table, QueuePos from, TimestampTz now, Snapshot snapshot,
					QueueDeadline *out, int max, TimestampTz *next)
{
	ScanKeyData key;
	ScanKeyData members[2];
	IndexScanDesc scan;
	int			n = 0;

	/* (at, id) >= (from) */
	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, COL_AT, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_CMP, TimestampTzGetDatum(from.run_at));
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, COL_ID, BTGreaterEqualStrategyNumber, InvalidOid,
						   InvalidOid, F_BTINT8CMP, Int64GetDatum(from.id));
	memset(&key, 0, sizeof(key));
	key.sk_flags = SK_ROW_HEADER;
	key.sk_attno = COL_AT;
	key.sk_strategy = BTGreaterEqualStrategyNumber;
	key.sk_argument = PointerGetDatum(members);

	*next = DT_NOEND;
	scan = queue_index_beginscan(table->rel, table->index, snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, table->slot))
	{
		bool		isnull;
		QueuePos	pos = {
			DatumGetTimestampTz(slot_getattr(table->slot, COL_AT, &isnull)),
			DatumGetInt64(slot_getattr(table->slot, COL_ID, &isnull))
		};

		CHECK_FOR_INTERRUPTS();
		if (pos.run_at > now || n == max)
		{
			*next = Max(pos.run_at, now);
			break;
		}
		out[n].pos = pos;
		out[n++].tid = table->slot->tts_tid;
	}
	ExecClearTuple(table->slot);
	index_endscan(scan);
	return n;
}

/* Deletes one row.  One that somebody else deletes or locks is left to them. */
void
queue_deadline_delete(QueueDeadlineTable *table, const QueueDeadline *deadline, Snapshot snapshot)
{
	TM_FailureData tmfd;

	(void) table_tuple_delete(table->rel, unconstify(ItemPointerData *, &deadline->tid), GetCurrentCommandId(true),
							  snapshot, InvalidSnapshot, false, &tmfd, false);
}
