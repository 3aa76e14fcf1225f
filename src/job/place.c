/*
 * place.c
 *		The rows of queue.live_key, read and written through the table and index AM.
 *
 * A place is only ever inserted and deleted, by who inserts and ends its job: nobody else changes it.  What places mean
 * is told by group.c.
 *
 * Locks: RowExclusiveLock on the table for writers, to the end of the transaction.
 */
#include "job/place.h"

#include "config/config.h"
#include "job/write.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/resowner.h"

#define LONG_GROUP 8			/* places of a group to pass by before the next group is searched for */

/* The columns of live_key.  Later versions only append. */
enum
{
	COL_JOB_ID = 1, COL_POSITION, COL_HELD, COL_QUEUE, COL_GROUP_KEY, NCOLS = COL_GROUP_KEY
};

void
queue_places_open(QueueGroupPlaces *places, LOCKMODE lockmode)
{
	places->rel = table_open(queue_config()->live_key, lockmode);
	places->index = index_open(queue_config()->live_key_place, lockmode);
	places->slot = table_slot_create(places->rel, NULL);
	places->scan = NULL;
	places->nahead = places->next = places->qty = 0;
}

void
queue_places_end(QueueGroupPlaces *places)
{
	ExecClearTuple(places->slot);
	if (places->scan != NULL)
		index_endscan(places->scan);
	places->scan = NULL;
}

void
queue_places_close(QueueGroupPlaces *places)
{
	queue_places_end(places);
	ExecDropSingleTupleTableSlot(places->slot);
	index_close(places->index, NoLock);
	table_close(places->rel, NoLock);
}

/* Called by queue_job_close. */
static void
close_of(QueueJobTable *jobs)
{
	queue_places_close(jobs->places);
	jobs->places = NULL;
}

QueueGroupPlaces *
queue_places_of(QueueJobTable *jobs)
{
	if (jobs->places == NULL)
	{
		ResourceOwner owner = CurrentResourceOwner;
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(jobs));
		QueueGroupPlaces *places = palloc(sizeof(QueueGroupPlaces));

		CurrentResourceOwner = jobs->owner;
		queue_places_open(places, RowExclusiveLock);
		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(old);
		jobs->places = places;
		jobs->close_places = close_of;
	}
	return jobs->places;
}

void
queue_places_scan(QueueGroupPlaces *places, const char *queue, const char *key, int64 from, Snapshot snapshot)
{
	ScanKeyData keys[3];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(queue));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(key));
	ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	places->scan = queue_index_beginscan(places->rel, places->index, snapshot, 3);
	index_rescan(places->scan, keys, 3, NULL, 0);
}

bool
queue_places_next(QueueGroupPlaces *places, QueuePlace *place)
{
	Datum	   *values = places->slot->tts_values;

	if (!index_getnext_slot(places->scan, ForwardScanDirection, places->slot))
		return false;
	slot_getsomeattrs(places->slot, COL_HELD);
	place->job_id = DatumGetInt64(values[COL_JOB_ID - 1]);
	place->position = DatumGetInt64(values[COL_POSITION - 1]);
	place->held = DatumGetBool(values[COL_HELD - 1]);
	place->tid = places->slot->tts_tid;
	return true;
}

/* Deletes a row that was read under the snapshot; one that somebody else has is left. */
static void
drop(QueueGroupPlaces *places, const QueuePlace *place, Snapshot snapshot)
{
	TM_FailureData tmfd;

	(void) table_tuple_delete(places->rel, unconstify(ItemPointerData *, &place->tid), GetCurrentCommandId(true),
							  snapshot, InvalidSnapshot, false, &tmfd, false);
}

bool
queue_place_find(QueueGroupPlaces *places, int64 job_id, QueuePlace *place, char **queue, char **key)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData only;
	TableScanDesc scan;
	bool		found;

	ScanKeyInit(&only, COL_JOB_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(job_id));
	scan = table_beginscan(places->rel, snapshot, 1, &only);
	found = table_scan_getnextslot(scan, ForwardScanDirection, places->slot);
	if (found)
	{
		Datum	   *values = places->slot->tts_values;

		slot_getsomeattrs(places->slot, NCOLS);
		*place = (QueuePlace) {job_id, DatumGetInt64(values[COL_POSITION - 1])};
		*queue = TextDatumGetCString(values[COL_QUEUE - 1]);
		*key = TextDatumGetCString(values[COL_GROUP_KEY - 1]);
	}
	ExecClearTuple(places->slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/* Reads on from here, under the active snapshot. */
static void
read_ahead(QueueGroupPlaces *places)
{
	places->nahead = places->next = 0;
	while (places->nahead < places->qty && queue_places_next(places, &places->ahead[places->nahead]))
		places->nahead++;
	queue_places_end(places);
}

/*
 * Who goes through a group ends one job after the other.  A scan reads a whole page of the index whatever it returns,
 * so the places behind are read with it, ever more, and the next of them need no scan.
 */
void
queue_place_delete(QueueGroupPlaces *places, const char *queue, const char *key, int64 job_id, int64 position)
{
	bool		known = places->next < places->nahead && places->ahead[places->next].job_id == job_id;
	QueuePlace	place;

	PushActiveSnapshot(GetLatestSnapshot());
	if (known)
		drop(places, &places->ahead[places->next++], GetActiveSnapshot());
	if (!known || places->next == places->nahead)
	{
		places->qty = known ? Min(Max(8 * places->qty, 1), QUEUE_PLACES_AHEAD) : 1;
		queue_places_scan(places, queue, key, known ? position + 1 : position, GetActiveSnapshot());
		if (!known && queue_places_next(places, &place) && place.job_id == job_id)
			drop(places, &place, GetActiveSnapshot());
		read_ahead(places);
	}
	PopActiveSnapshot();
}

void
queue_places_resume(QueueGroupPlaces *places, const char *queue, const char *key, int64 position)
{
	places->qty = QUEUE_PLACES_AHEAD;
	queue_places_scan(places, queue, key, position + 1, GetActiveSnapshot());
	read_ahead(places);
}

const QueuePlace *
queue_place_follower(const QueueGroupPlaces *places)
{
	return places->next < places->nahead ? &places->ahead[places->next] : NULL;
}

void
queue_inserter_open(QueueInserter *inserter, Oid relid)
{
	inserter->rel = table_open(relid, RowExclusiveLock);
	inserter->estate = CreateExecutorState();
	inserter->rri = makeNode(ResultRelInfo);
	inserter->slot = MakeSingleTupleTableSlot(RelationGetDescr(inserter->rel), &TTSOpsVirtual);
	InitResultRelInfo(inserter->rri, inserter->rel, 0, NULL, 0);	/* in no range table */
	ExecOpenIndices(inserter->rri, false);
	(void) GetCurrentCommandId(true);
}

void
queue_inserter_put(QueueInserter *inserter, const Datum *values, int n)
{
	TupleTableSlot *slot = inserter->slot;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	memset(slot->tts_isnull, false, n * sizeof(bool));
	memcpy(slot->tts_values, values, n * sizeof(Datum));
	ExecStoreVirtualTuple(slot);
	queue_write_insert(inserter->rri, inserter->estate, slot, true);
	ResetPerTupleExprContext(inserter->estate);
}

void
queue_inserter_close(QueueInserter *inserter)
{
	ExecCloseIndices(inserter->rri);
	ExecDropSingleTupleTableSlot(inserter->slot);
	queue_write_end(inserter->estate);
	table_close(inserter->rel, NoLock);
}

void
queue_place_insert(QueueInserter *inserter, const QueuePlace *place, const char *queue, const char *key)
{
	Datum values[NCOLS] = {[COL_JOB_ID - 1] = Int64GetDatum(place->job_id),
						   [COL_POSITION - 1] = Int64GetDatum(place->position),
						   [COL_HELD - 1] = BoolGetDatum(place->held),
						   [COL_QUEUE - 1] = CStringGetTextDatum(queue),
						   [COL_GROUP_KEY - 1] = CStringGetTextDatum(key)};

	queue_inserter_put(inserter, values, NCOLS);
}

/* Begins to read at the first place of the group after this one.  members: lives as long as the scan. */
static void
scan_after(QueueGroupPlaces *places, const char *queue, const char *key, ScanKeyData members[2], Snapshot snapshot)
{
	ScanKeyData scankey;

	/* (queue, group_key) > (these) */
	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, 1, BTGreaterStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_BTTEXTCMP, CStringGetTextDatum(queue));
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, 2, BTGreaterStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_BTTEXTCMP, CStringGetTextDatum(key));
	memset(&scankey, 0, sizeof(scankey));
	scankey.sk_flags = SK_ROW_HEADER;
	scankey.sk_attno = 1;
	scankey.sk_strategy = BTGreaterStrategyNumber;
	scankey.sk_argument = PointerGetDatum(members);
	queue_places_end(places);
	places->scan = queue_index_beginscan(places->rel, places->index, snapshot, 1);
	index_rescan(places->scan, &scankey, 1, NULL, 0);
}

int
queue_places_groups(const char *queue, const char *key, QueueGroupFront *fronts, int max, Snapshot snapshot)
{
	QueueGroupPlaces places;
	ScanKeyData members[2];
	int			passed = 0;		/* places of the last group, read in vain */
	int			n = 0;

	queue_places_open(&places, AccessShareLock);
	scan_after(&places, queue, key, members, snapshot);
	while (n < max && index_getnext_slot(places.scan, ForwardScanDirection, places.slot))
	{
		QueueGroupFront *front = &fronts[n];

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(places.slot);
		text_to_cstring_buffer(DatumGetTextPP(places.slot->tts_values[COL_QUEUE - 1]), front->queue,
							   sizeof(front->queue));
		text_to_cstring_buffer(DatumGetTextPP(places.slot->tts_values[COL_GROUP_KEY - 1]), front->key,
							   sizeof(front->key));
		front->position = DatumGetInt64(places.slot->tts_values[COL_POSITION - 1]);
		if (n == 0 || strcmp(front[-1].key, front->key) != 0 || strcmp(front[-1].queue, front->queue) != 0)
		{
			n++;
			passed = 0;
		}
		else if (++passed == LONG_GROUP)
		{
			scan_after(&places, front->queue, front->key, members, snapshot);
			passed = 0;
		}
	}
	queue_places_close(&places);
	return n;
}
