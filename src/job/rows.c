/*
 * rows.c
 *		Scans of small tables beside the jobs, through the table and index AM.
 *
 * Why not SPI: these are looked at when a job ends or is let in, by whoever does that, in the middle of his work.
 *
 * Locks: as asked for, kept by writers to the end of the transaction.
 */
#include "job/rows.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

void
queue_rows_where_int8(QueueRows *rows, StrategyNumber strategy, int64 value)
{
	Assert(strategy == BTEqualStrategyNumber || strategy == BTGreaterEqualStrategyNumber);
	Assert(rows->nkeys < QUEUE_ROWS_KEYS);
	ScanKeyInit(&rows->keys[rows->nkeys], rows->nkeys + 1, strategy,
				strategy == BTEqualStrategyNumber ? F_INT8EQ : F_INT8GE, Int64GetDatum(value));
	rows->nkeys++;
}

void
queue_rows_where_text(QueueRows *rows, const char *value)
{
	Assert(rows->nkeys < QUEUE_ROWS_KEYS);
	ScanKeyEntryInitialize(&rows->keys[rows->nkeys], 0, rows->nkeys + 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(value));
	rows->nkeys++;
}

void
queue_rows_begin(QueueRows *rows, Oid relid, Oid index, LOCKMODE lockmode)
{
	rows->lockmode = lockmode;
	rows->context = CurrentMemoryContext;
	rows->rel = table_open(relid, lockmode);
	rows->index = index_open(index, lockmode);
	rows->slot = table_slot_create(rows->rel, NULL);
	rows->snapshot = RegisterSnapshot(GetLatestSnapshot());
	rows->scan = queue_index_beginscan(rows->rel, rows->index, rows->snapshot, rows->nkeys);
	index_rescan(rows->scan, rows->keys, rows->nkeys, NULL, 0);
}

bool
queue_rows_next(QueueRows *rows)
{
	MemoryContext old;
	bool		found;

	CHECK_FOR_INTERRUPTS();
	/* the scan keeps what it allocates on the way, and the caller may reset his context per row */
	old = MemoryContextSwitchTo(rows->context);
	found = index_getnext_slot(rows->scan, ForwardScanDirection, rows->slot);
	MemoryContextSwitchTo(old);
	return found;
}

Datum
queue_rows_datum(QueueRows *rows, int column, bool *isnull)
{
	return slot_getattr(rows->slot, column, isnull);
}

bool
queue_rows_delete(QueueRows *rows)
{
	TM_FailureData tmfd;

	return table_tuple_delete(rows->rel, &rows->slot->tts_tid, GetCurrentCommandId(true), rows->snapshot,
							  InvalidSnapshot, false, &tmfd, false) == TM_Ok;
}

void
queue_rows_end(QueueRows *rows)
{
	LOCKMODE	kept = rows->lockmode == AccessShareLock ? AccessShareLock : NoLock;

	index_endscan(rows->scan);
	ExecDropSingleTupleTableSlot(rows->slot);
	UnregisterSnapshot(rows->snapshot);
	index_close(rows->index, kept);
	table_close(rows->rel, kept);
	rows->nkeys = 0;
}

bool
queue_rows_eat(Oid relid, QueueRowEater eat, void *arg, int max)
{
	Relation	rel = table_open(relid, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "queue rows", ALLOCSET_SMALL_SIZES);
	MemoryContext old = CurrentMemoryContext;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		all = true;
	int			n = 0;

	MemoryContextSwitchTo(per_row);
	while (n < max && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		TM_FailureData tmfd;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		if (!eat(slot, arg) || table_tuple_delete(rel, &slot->tts_tid, GetCurrentCommandId(true), snapshot,
												  InvalidSnapshot, false, &tmfd, false) != TM_Ok)
			all = false;
		n++;
		MemoryContextReset(per_row);
	}
	MemoryContextSwitchTo(old);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(per_row);
	ExecDropSingleTupleTableSlot(slot);
	/* who only looks, perhaps again and again while it waits, keeps off no DDL */
	table_close(rel, n > 0 ? NoLock : RowExclusiveLock);
	if (n > 0)
		CommandCounterIncrement();
	return all && n < max;
}
