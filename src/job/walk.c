/*
 * walk.c
 *		Reading the ready index from a position on, over lines, without cursors.
 *
 * For the scheduler's chores, which look for what nobody told of.  Fetches and rounds
 * read through ready.c.
 *
 * Locks: the caller's on live_job.
 */
#include "job/walk.h"

#include "shared/clock.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "utils/fmgroids.h"

#define CLOCK_ENTRIES 64		/* of the index, between two looks at the clock */

/* Where the index entry stands that the scan gave last. */
static QueuePlace
place_of_entry(IndexScanDesc scan)
{
	bool		isnull;

	return (QueuePlace) {DatumGetInt64(index_getattr(scan->xs_itup, 1, scan->xs_itupdesc, &isnull)),
		{DatumGetTimestampTz(index_getattr(scan->xs_itup, 2, scan->xs_itupdesc, &isnull)),
		 DatumGetInt64(index_getattr(scan->xs_itup, 3, scan->xs_itupdesc, &isnull))}};
}

/* Places the scan at `from`: (line, run_at, id) >= (from). */
static void
rescan(IndexScanDesc scan, const QueuePlace *from, ScanKeyData members[3])
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, 1, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_BTINT8CMP, Int64GetDatum(from->line));
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER, 2, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_CMP, TimestampTzGetDatum(from->pos.run_at));
	ScanKeyEntryInitialize(&members[2], SK_ROW_MEMBER | SK_ROW_END, 3, BTGreaterEqualStrategyNumber, InvalidOid,
						   InvalidOid, F_BTINT8CMP, Int64GetDatum(from->pos.id));
	memset(&key, 0, sizeof(key));
	key.sk_flags = SK_ROW_HEADER;
	key.sk_attno = 1;
	key.sk_strategy = BTGreaterEqualStrategyNumber;
	key.sk_argument = PointerGetDatum(members);
	index_rescan(scan, &key, 1, NULL, 0);
}

/*
 * Visits the due rows from *from to `to`, line by line, for at most budget_us, and moves *from behind what it saw.
 * True: it is through.  Where a queue was just drained, or a snapshot is held, any number of dead entries lies between
 * two rows, and costs time, too: so it goes from entry to entry.
 */
bool
queue_walk(QueueJobTable *table, QueuePlace *from, QueuePlace to, TimestampTz now, int64 budget_us,
		   QueueWalkVisit visit, void *arg)
{
	TimestampTz began = queue_now();
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	ScanKeyData members[3];
	IndexScanDesc scan;
	bool		late = false;
	bool		through = true;

	PushActiveSnapshot(GetLatestSnapshot());
	scan = queue_index_beginscan(table->rel, queue_job_ready(table), GetActiveSnapshot(), 1);
	scan->xs_want_itup = true;
	rescan(scan, from, members);
	for (int64 n = 1; index_getnext_tid(scan, ForwardScanDirection) != NULL; n++)
	{
		QueuePlace	place = place_of_entry(scan);

		CHECK_FOR_INTERRUPTS();
		if (n % CLOCK_ENTRIES == 0)
			late = queue_now() - began > budget_us;
		/* not between the entries of two versions of one row: the first may be the dead one */
		if (late && (place.line != from->line || queue_pos_cmp(place.pos, from->pos) >= 0))
		{
			through = false;
			break;
		}
		if (place.line > to.line || (place.line == to.line && queue_pos_cmp(place.pos, to.pos) > 0))
			break;
		if (place.pos.run_at > now)
		{
			/* the rest of this line is not due either */
			*from = (QueuePlace) {place.line, {DT_NOEND, PG_INT64_MAX}};
			rescan(scan, from, members);
			continue;
		}
		if (index_fetch_heap(scan, slot))
		{
			QueueJob	job;

			queue_job_read(slot, &job, false);
			visit(table, &job, arg);
		}
		*from = (QueuePlace) {place.line, {place.pos.run_at, place.pos.id + 1}};
	}
	index_endscan(scan);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	return through;
}

/* Called by doctor() and by who retires lines. */
bool
queue_walk_any(QueueJobTable *table, int64 line)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	IndexScanDesc scan;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line));
	scan = queue_index_beginscan(table->rel, queue_job_ready(table), snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, table->slot);
	ExecClearTuple(table->slot);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}
