/*
 * seek.c
 *		Live jobs by their ids under one snapshot, by who asks for many, mostly in the order of the ids.
 *
 * A reading of many lines with one job each (ready.c) gets them as exact keys.  Their ids mostly follow one another, so
 * the scan that found one goes on to the next, which costs a fifth of another descent in the index.  It looks but a
 * few ids ahead: behind a row may lie many dead ones.
 *
 * Locks: those of the table, which the caller has open.
 */
#include "job/seek.h"

#include "config/relations.h"

#include "access/stratnum.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"

#define AHEAD 64				/* ids */
#define STEPS 4					/* rows that are passed before a new descent is cheaper */

/* Goes on to the next row of the scan. */
static void
step(QueueSeek *seek)
{
	bool		isnull;

	seek->there = index_getnext_slot(seek->scan, ForwardScanDirection, seek->slot);
	seek->at = seek->there ? DatumGetInt64(slot_getattr(seek->slot, 1, &isnull)) : seek->end;
}

/* Begins a scan at this id, over `ahead` more. */
static void
descend(QueueSeek *seek, int64 id, int64 ahead)
{
	ScanKeyData keys[2];

	seek->end = id > PG_INT64_MAX - ahead ? PG_INT64_MAX : id + ahead;
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(id));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(seek->end));
	index_rescan(seek->scan, keys, 2, NULL, 0);
	seek->from = id;
	step(seek);
}

bool
queue_seek(QueueSeek *seek, QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job)
{
	bool		near = seek->scan != NULL && id > seek->asked && id - seek->asked <= AHEAD;

	if (seek->scan == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(seek->cxt);

		seek->slot = table_slot_create(table->rel, NULL);
		seek->scan = queue_index_beginscan(table->rel, queue_job_pkey(table), snapshot, 2);
		MemoryContextSwitchTo(old);
	}
	for (int i = 0; near && seek->there && id > seek->at && i < STEPS; i++)
	{
		int64		passed = seek->at;

		step(seek);
		seek->from = passed + 1;
	}
	if (!near || id < seek->from || id > seek->at)
		descend(seek, id, near ? AHEAD : 0);
	seek->asked = id;
	if (!seek->there || seek->at != id)
		return false;
	queue_job_read(seek->slot, job, false);
	return true;
}

void
queue_seek_end(QueueSeek *seek)
{
	if (seek->scan == NULL)
		return;
	index_endscan(seek->scan);
	ExecDropSingleTupleTableSlot(seek->slot);
	seek->scan = NULL;
}
