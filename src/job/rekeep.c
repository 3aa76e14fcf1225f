/*
 * rekeep.c
 *		Finished jobs whose queue keeps them for another time than when they ended.
 *
 * A row lies in the table of its expiry as the queue had it then.  When keep_completed or keep_discarded was changed
 * since, the scheduler's retention asks here: a table in which no row is kept any more can go before its time, and one
 * whose time has come must not take rows along that are now kept longer.  No row is deleted: a queue that keeps less
 * lets its rows go with the table that they share with other queues' rows.  What live jobs depend on is kept as well.
 *
 * Locks: the caller's on the table (AccessExclusiveLock to move); RowExclusiveLock on the tables that rows move to.
 */
#include "job/rekeep.h"

#include "job/dependency.h"
#include "job/record.h"
#include "job/write.h"
#include "shared/clock.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Columns of finished_job, as finished.c has them. */
#define COL_ID 4
#define COL_FINISHED_AT 7
#define COL_KEEP_UNTIL 8
#define COL_STATE 11
#define COL_QUEUE 12
#define NCOLS COL_QUEUE			/* that are looked at */
#define LAST_BLOCKS 64			/* where the youngest rows are: looked at first */

bool
queue_rekeep_changed(int slot, TimestampTz now)
{
	QueueConfig *config = queue_config();
	TimestampTz since = now - (QUEUE_RING_TURNS + 1) * queue_ring_width(slot);

	for (int i = 0; i < config->nqueues; i++)
	{
		if (config->queues[i]->rekept_at > since)
			return true;
	}
	return false;
}

static bool
completed(TupleTableSlot *row)
{
	text	   *state = DatumGetTextPP(row->tts_values[COL_STATE - 1]);

	return VARSIZE_ANY_EXHDR(state) == 9 && memcmp(VARDATA_ANY(state), "completed", 9) == 0;
}

/* For how long its queue keeps a row, in us; of a queue that is gone: as before. */
static int64
keep_of(TupleTableSlot *row)
{
	static QueueConf *last = NULL;
	static uint64 last_serial = 0;
	text	   *name = DatumGetTextPP(row->tts_values[COL_QUEUE - 1]);

	if (last == NULL || last_serial != queue_config()->serial || strlen(last->name) != VARSIZE_ANY_EXHDR(name) ||
		memcmp(last->name, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) != 0)
	{
		last = queue_config_queue(text_to_cstring(name), true);
		last_serial = queue_config()->serial;
	}
	if (last == NULL)
		return DatumGetTimestampTz(row->tts_values[COL_KEEP_UNTIL - 1]) -
			DatumGetTimestampTz(row->tts_values[COL_FINISHED_AT - 1]);
	return completed(row) ? last->keep_completed : last->keep_discarded;
}

static TimestampTz
until_of(TimestampTz finished_at, int64 keep)
{
	return keep >= QUEUE_FOR_EVER ? DT_NOEND : queue_time_add(finished_at, keep);
}

/* Until when a row is kept, which belongs into *slot of the ring for that. */
static TimestampTz
kept_until(QueueJobTable *jobs, TupleTableSlot *row, TimestampTz now, int *slot)
{
	TimestampTz finished_at = DatumGetTimestampTz(row->tts_values[COL_FINISHED_AT - 1]);
	int64		keep = keep_of(row);
	TimestampTz until = until_of(finished_at, keep);

	*slot = queue_ring_slot(finished_at, keep);
	if (until <= now && queue_dependency_needed(jobs, DatumGetInt64(row->tts_values[COL_ID - 1])))
	{
		*slot = completed(row) ? queue_ring_awaited_slot(now, QUEUE_DEPENDENCY_KEEP) :
			queue_ring_slot(now, QUEUE_DEPENDENCY_KEEP);
		until = queue_time_add(now, QUEUE_DEPENDENCY_KEEP);
	}
	return until;
}

/* See rekeep.h.  No locks.  Called by explain_job. */
TimestampTz
queue_rekeep_until(const QueueFinished *finished)
{
	QueueConf  *conf = queue_config_queue(finished->queue, true);

	if (conf == NULL)
		return finished->keep_until;
	return until_of(finished->finished_at,
					finished->state == QUEUE_STATE_COMPLETED ? conf->keep_completed : conf->keep_discarded);
}

/* Among the rows from this block on: until when the first one that is kept is; DT_NOBEGIN: none is. */
static TimestampTz
needed_from(QueueJobTable *jobs, Relation rel, BlockNumber from, TimestampTz now, Snapshot snapshot,
			TupleTableSlot *row)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "queue rekeep", ALLOCSET_SMALL_SIZES);
	TimestampTz until = DT_NOBEGIN;
	ItemPointerData low;
	ItemPointerData high;
	TableScanDesc scan;

	if (nblocks > from)
	{
		ItemPointerSet(&low, from, FirstOffsetNumber);
		ItemPointerSet(&high, nblocks - 1, MaxOffsetNumber);
		scan = table_beginscan_tidrange(rel, snapshot, &low, &high);
		while (until == DT_NOBEGIN && table_scan_getnextslot_tidrange(scan, ForwardScanDirection, row))
		{
			MemoryContext old = MemoryContextSwitchTo(context);
			TimestampTz kept;
			int			slot;

			CHECK_FOR_INTERRUPTS();
			slot_getsomeattrs(row, NCOLS);
			kept = kept_until(jobs, row, now, &slot);
			if (kept > now)
				until = kept;
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);	/* not the scan's */
		}
		table_endscan(scan);
	}
	MemoryContextDelete(context);
	return until;
}

TimestampTz
queue_rekeep_needed(QueueJobTable *jobs, Relation rel, TimestampTz now)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *row = table_slot_create(rel, NULL);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	TimestampTz until;

	PushActiveSnapshot(snapshot);
	until = needed_from(jobs, rel, nblocks > LAST_BLOCKS ? nblocks - LAST_BLOCKS : 0, now, snapshot, row);
	if (until == DT_NOBEGIN && nblocks > LAST_BLOCKS)
		until = needed_from(jobs, rel, 0, now, snapshot, row);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(row);
	UnregisterSnapshot(snapshot);
	return until;
}

int64
queue_rekeep_move(QueueJobTable *jobs, Relation rel, int here, TimestampTz now)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *row = table_slot_create(rel, NULL);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "queue rekeep", ALLOCSET_SMALL_SIZES);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int64		moved = 0;

	PushActiveSnapshot(snapshot);
	/* first only a look, for what has been copied cannot be taken back; what ended by now does not belong here */
	for (int pass = 0; pass < 2 && moved >= 0; pass++)
	{
		if (pass > 0)
			table_rescan(scan, NULL);
		while (moved >= 0 && table_scan_getnextslot(scan, ForwardScanDirection, row))
		{
			MemoryContext old = MemoryContextSwitchTo(context);
			TimestampTz until;
			int			slot;

			CHECK_FOR_INTERRUPTS();
			slot_getallattrs(row);
			until = pass > 0 || DatumGetTimestampTz(row->tts_values[COL_FINISHED_AT - 1]) > now ?
				kept_until(jobs, row, now, &slot) : now;
			MemoryContextSwitchTo(old);
			if (until > now && slot == here)
				moved = -1;
			else if (until > now && pass == 1)
			{
				queue_finished_copy(jobs, slot, row, until);
				moved++;
			}
			MemoryContextReset(context);
		}
	}
	table_endscan(scan);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(row);
	MemoryContextDelete(context);
	UnregisterSnapshot(snapshot);
	return moved;
}
