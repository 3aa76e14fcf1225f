/*
 * key.c
 *		Unique keys: the rows of queue.unique_key.
 *
 * A row says which job has a key, or had it last while the key is in its window (`until`), and which job waits to get
 * it. It is the one place where that is told: whoever takes a key, replaces what its job shall do, or hands it on,
 * changes this row in the transaction in which it changes the job.  So the rows need no repair after a crash, a
 * rollback or a restore.
 *
 * These are rows of ours and no snapshot of a user's: all looks are dirty, see the newest version and wait for who is
 * about to write it, as an INSERT .. ON CONFLICT does.  A new name is looked for once more under a lock on its hash,
 * which is held just for the insert; so an insert never meets another one, and needs no speculative insertion, which
 * would be a second record in the WAL.
 *
 * Locks: RowExclusiveLock on unique_key; the lock on a name's hash for a moment; the row lock to the end of the
 * transaction.  Whoever has a job's row locked may wait for its key; whoever has a key locked never waits for its job.
 */
#include "job/key.h"

#include "config/config.h"
#include "job/missing.h"
#include "job/pending.h"
#include "job/write.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

/* The columns of unique_key.  Later versions only append. */
enum
{
	COL_QUEUE = 1, COL_KIND, COL_KEY, COL_JOB_ID, COL_UNTIL, COL_SUCCESSOR, COL_ENDED,
	NCOLS = COL_ENDED
};

/* A release that waits for the end of its batch. */
typedef struct Release
{
	QueueKeyName name;
	int64		id;
} Release;

/* NULL: there is no batch. */
static List *batch = NIL;
static MemoryContext batch_context = NULL;

QueueKeyTable *
queue_key_open(void)
{
	QueueKeyTable *table = palloc0(sizeof(QueueKeyTable));

	table->rel = table_open(queue_config()->unique_key, RowExclusiveLock);
	table->index = index_open(queue_config()->unique_key_pkey, RowExclusiveLock);
	table->slot = table_slot_create(table->rel, NULL);
	return table;
}

void
queue_key_close(QueueKeyTable *table)
{
	queue_key_unlock_name(table);
	if (table->rri != NULL)
		queue_write_close_indexes(table->rri);
	if (table->estate != NULL)
		queue_write_end(table->estate);
	ExecDropSingleTupleTableSlot(table->slot);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
	pfree(table);
}

/* The scan key of one column of the name. */
static void
name_key(ScanKeyData *key, AttrNumber column, const char *text)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(text));
}

/* Copies what a slot has. */
static void
read_row(TupleTableSlot *slot, QueueKeyRow *row)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	slot_getsomeattrs(slot, NCOLS);
	row->tid = slot->tts_tid;
	row->job_id = DatumGetInt64(values[COL_JOB_ID - 1]);
	row->until = nulls[COL_UNTIL - 1] ? DT_NOBEGIN : DatumGetTimestampTz(values[COL_UNTIL - 1]);
	row->successor = nulls[COL_SUCCESSOR - 1] ? 0 : DatumGetInt64(values[COL_SUCCESSOR - 1]);
	row->ended = !nulls[COL_ENDED - 1] && DatumGetBool(values[COL_ENDED - 1]);
}

/* Looks once; of a dirty snapshot, who is about to write the row stands in that. */
static bool
look_once(QueueKeyTable *table, const QueueKeyName *name, Snapshot snapshot, QueueKeyRow *row)
{
	ScanKeyData keys[3];
	IndexScanDesc scan;
	bool		found;

	name_key(&keys[0], COL_QUEUE, name->queue);
	name_key(&keys[1], COL_KIND, name->kind);
	name_key(&keys[2], COL_KEY, name->key);
	scan = queue_index_beginscan(table->rel, table->index, snapshot, 3);
	index_rescan(scan, keys, 3, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, table->slot);
	if (found)
	{
		bool		isnull;

		read_row(table->slot, row);
		row->own = TransactionIdIsCurrentTransactionId(
			DatumGetTransactionId(slot_getsysattr(table->slot, MinTransactionIdAttributeNumber, &isnull)));
		row->unseen = !row->own && IsolationUsesXactSnapshot() &&
			!table_tuple_satisfies_snapshot(table->rel, table->slot, GetTransactionSnapshot());
	}
	ExecClearTuple(table->slot);
	index_endscan(scan);
	return found;
}

QueueKeyLook
queue_key_look(QueueKeyTable *table, const QueueKeyName *name, bool wait, QueueKeyRow *row)
{
	for (;;)
	{
		SnapshotData dirty;
		TransactionId xid;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(dirty);
		if (!look_once(table, name, &dirty, row))
			return QUEUE_KEY_FREE;
		xid = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		if (!TransactionIdIsValid(xid))
			return QUEUE_KEY_FOUND;
		if (!wait)
			return QUEUE_KEY_BUSY;
		queue_key_unlock_name(table);
		XactLockTableWait(xid, table->rel, &row->tid, XLTW_FetchUpdated);
	}
}

void
queue_key_lock_name(QueueKeyTable *table, const QueueKeyName *name)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) name->key, strlen(name->key), 0);

	hash = hash_bytes_extended((const unsigned char *) name->kind, strlen(name->kind), hash);
	hash = hash_bytes_extended((const unsigned char *) name->queue, strlen(name->queue), hash);
	SET_LOCKTAG_OBJECT(table->lock, MyDatabaseId, RelationGetRelid(table->rel), (uint32) hash, (uint16) (hash >> 32));
	(void) LockAcquire(&table->lock, ExclusiveLock, false, false);
	table->locked = true;
}

void
queue_key_unlock_name(QueueKeyTable *table)
{
	if (table->locked)
		(void) LockRelease(&table->lock, ExclusiveLock, false);
	table->locked = false;
}

/* What a write needs beyond the table. */
static void
prepare_write(QueueKeyTable *table)
{
	if (table->estate == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(table));

		table->estate = CreateExecutorState();
		table->rri = makeNode(ResultRelInfo);
		InitResultRelInfo(table->rri, table->rel, 0, NULL, 0);	/* in no range table */
		ExecOpenIndices(table->rri, false);
		MemoryContextSwitchTo(old);
	}
	(void) GetCurrentCommandId(true);
}

TM_Result
queue_key_lock(QueueKeyTable *table, const QueueKeyRow *row, bool wait)
{
	TM_FailureData tmfd;
	TM_Result	result;
	ItemPointerData tid = row->tid;

	if (row->own)
		CommandCounterIncrement();	/* this command may have written it */
	result = table_tuple_lock(table->rel, &tid, SnapshotAny, table->slot, GetCurrentCommandId(true),
							  LockTupleExclusive, wait ? LockWaitBlock : LockWaitSkip, 0, &tmfd);
	ExecClearTuple(table->slot);
	return result;
}

/* Fills a slot with a row as it shall be. */
static TupleTableSlot *
make_slot(QueueKeyTable *table, const QueueKeyName *name, const QueueKeyRow *row)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsVirtual);
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	ExecClearTuple(slot);
	memset(nulls, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	values[COL_QUEUE - 1] = CStringGetTextDatum(name->queue);
	values[COL_KIND - 1] = CStringGetTextDatum(name->kind);
	values[COL_KEY - 1] = CStringGetTextDatum(name->key);
	values[COL_JOB_ID - 1] = Int64GetDatum(row->job_id);
	values[COL_UNTIL - 1] = TimestampTzGetDatum(row->until);
	values[COL_SUCCESSOR - 1] = Int64GetDatum(row->successor);
	values[COL_ENDED - 1] = BoolGetDatum(true);
	nulls[COL_QUEUE - 1] = nulls[COL_KIND - 1] = nulls[COL_KEY - 1] = nulls[COL_JOB_ID - 1] = false;
	nulls[COL_UNTIL - 1] = row->until == DT_NOBEGIN;
	nulls[COL_SUCCESSOR - 1] = row->successor == 0;
	nulls[COL_ENDED - 1] = !row->ended;
	return ExecStoreVirtualTuple(slot);
}

void
queue_key_insert(QueueKeyTable *table, const QueueKeyName *name, const QueueKeyRow *row)
{
	TupleTableSlot *slot;

	prepare_write(table);
	slot = make_slot(table, name, row);
	queue_write_insert(table->rri, table->estate, slot, true);
	ExecDropSingleTupleTableSlot(slot);
}

/* Updates (slot not NULL) or deletes a row that this transaction has locked. */
static void
write_locked(QueueKeyTable *table, const QueueKeyRow *row, TupleTableSlot *slot)
{
	prepare_write(table);
	if (!table_tuple_fetch_row_version(table->rel, unconstify(ItemPointerData *, &row->tid), SnapshotAny, table->slot))
		elog(ERROR, "a locked row of queue.unique_key is gone");
	queue_write_locked(table->rri, table->estate, table->slot, slot);
}

void
queue_key_update(QueueKeyTable *table, const QueueKeyName *name, const QueueKeyRow *row)
{
	TupleTableSlot *slot = make_slot(table, name, row);

	write_locked(table, row, slot);
	ExecDropSingleTupleTableSlot(slot);
}

/* ---- what jobs do with their keys ---- */

bool
queue_key_name(const QueueJob *job, const QueueLine *line, QueueKeyName *name)
{
	if (job->extra == NULL)
		return false;
	*name = (QueueKeyName) {line->queue->name, line->kind, queue_extra_text(job->extra, "unique_key")};
	return name->key != NULL;
}

/* queue_key_take in an open table; until: of the key's window, if the job brings one. */
static bool
take(QueueKeyTable *table, const QueueKeyName *name, int64 id, TimestampTz until, bool wait, int64 *holder)
{
	for (;;)
	{
		QueueKeyRow row;
		QueueKeyLook look = queue_key_look(table, name, wait, &row);

		*holder = 0;
		if (look == QUEUE_KEY_BUSY)
			return false;
		if (look == QUEUE_KEY_FREE)
		{
			if (!table->locked)
			{
				queue_key_lock_name(table, name);
				continue;
			}
			queue_key_insert(table, name, &(QueueKeyRow) {.job_id = id, .until = until});
			return true;
		}
		queue_key_unlock_name(table);
		*holder = row.job_id;
		if (!row.ended || (row.job_id != id && row.until > queue_now()))
			return row.job_id == id;
		*holder = 0;
		if (queue_key_lock(table, &row, wait) == TM_Ok)
		{
			row.until = row.job_id == id ? Max(until, row.until) : until;
			row.job_id = id;
			row.ended = false;
			queue_key_update(table, name, &row);
			return true;
		}
		if (!wait)
			return false;
	}
}

bool
queue_key_take(const QueueKeyName *name, int64 id, bool wait, int64 *holder)
{
	QueueKeyTable *table = queue_key_open();
	bool		taken = take(table, name, id, DT_NOBEGIN, wait, holder);

	queue_key_close(table);
	return taken;
}

bool
queue_key_move(const QueueKeyName *from, const QueueKeyName *to, int64 id)
{
	QueueKeyTable *table = queue_key_open();
	QueueKeyRow row;
	int64		holder;
	bool		moved = false;

	/* one that waits for the key of another, or for whose key another waits, stays */
	if (queue_key_look(table, from, false, &row) == QUEUE_KEY_FOUND && row.successor == 0 &&
		queue_key_lock(table, &row, false) == TM_Ok)
	{
		moved = take(table, to, id, row.until, false, &holder);
		if (moved)
			write_locked(table, &row, NULL);
	}
	queue_key_close(table);
	return moved;
}

int
queue_key_jobs(const QueueKeyName *name, Snapshot snapshot, int64 ids[2])
{
	QueueKeyTable *table = queue_key_open();
	QueueKeyRow row;
	int			n = 0;

	if (look_once(table, name, snapshot, &row) && !row.ended)
	{
		ids[n++] = row.job_id;
		if (row.successor != 0)
			ids[n++] = row.successor;
	}
	queue_key_close(table);
	return n;
}

/* Tries the row lock of a successor, which the end of the other job is going to change. */
static bool
try_successor(QueueJobTable *jobs, int64 id)
{
	QueueJob	job;
	bool		ours;

	PushActiveSnapshot(GetLatestSnapshot());
	ours = !queue_job_peek(jobs, id, GetActiveSnapshot(), &job) ||
		queue_job_lock(jobs, &job, GetActiveSnapshot(), false) == TM_Ok;
	PopActiveSnapshot();
	return ours;
}

bool
queue_key_hold(QueueJobTable *jobs, const QueueKeyName *name, int64 id, bool wait, int64 *successor)
{
	QueueKeyTable *table = queue_key_open();
	bool		held = true;

	*successor = 0;
	for (;;)
	{
		QueueKeyRow row;
		QueueKeyLook look = queue_key_look(table, name, wait, &row);
		TM_Result	result;

		held = look != QUEUE_KEY_BUSY;
		if (look != QUEUE_KEY_FOUND || (row.job_id != id && row.successor != id))
			break;
		result = queue_key_lock(table, &row, wait);
		if (result == TM_Ok && row.job_id == id)
			*successor = row.successor;
		held = result == TM_Ok;
		if (held || !wait)
			break;
	}
	queue_key_close(table);
	if (held && !wait && *successor != 0)
		held = try_successor(jobs, *successor);
	return held;
}

/* The job that got the key is let into its line.  False: it is gone. */
static bool
promote(int64 id)
{
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	TM_Result	result = TM_Ok;
	bool		found;

	do
	{
		QueueJob	job;

		CHECK_FOR_INTERRUPTS();
		if (result != TM_Ok)
			CommandCounterIncrement();
		PushActiveSnapshot(GetLatestSnapshot());
		found = queue_job_find_lean(jobs, id, GetActiveSnapshot(), &job);
		result = found ? queue_job_promote(jobs, &job, QUEUE_BLOCK_KEY, GetActiveSnapshot(), true) : TM_Ok;
		PopActiveSnapshot();
	} while (result != TM_Ok);
	queue_job_close(jobs);
	return found;
}

/* Releases a key that the row found says is the job's; false: it changed meanwhile, look again. */
static bool
release_row(QueueKeyTable *table, const QueueKeyName *name, QueueKeyRow *row, int64 id)
{
	if ((row->job_id != id || row->ended) && row->successor != id)
		return true;
	if (queue_key_lock(table, row, true) != TM_Ok)
		return false;
	if (row->successor == id)
	{
		row->successor = 0;
		queue_key_update(table, name, row);
	}
	else if (row->successor != 0 && promote(row->successor))
	{
		row->job_id = row->successor;
		row->successor = 0;
		queue_key_update(table, name, row);
	}
	else if (row->until > queue_now())
	{
		row->ended = true;
		queue_key_update(table, name, row);
	}
	else
		write_locked(table, row, NULL);
	return true;
}

/* Does one release. */
static void
release(const QueueKeyName *name, int64 id)
{
	QueueKeyTable *table = queue_key_open();
	QueueKeyRow row;

	while (queue_key_look(table, name, true, &row) == QUEUE_KEY_FOUND && !release_row(table, name, &row, id))
		CHECK_FOR_INTERRUPTS();
	queue_key_close(table);
}

void
queue_key_release(const QueueKeyName *name, int64 id)
{
	MemoryContext old;
	Release    *noted;

	if (batch_context == NULL)
	{
		release(name, id);
		return;
	}
	old = MemoryContextSwitchTo(batch_context);
	noted = palloc(sizeof(Release));
	*noted = (Release) {{pstrdup(name->queue), pstrdup(name->kind), pstrdup(name->key)}, id};
	batch = lappend(batch, noted);
	MemoryContextSwitchTo(old);
}

void
queue_key_release_unread(int64 id)
{
	Relation	rel = table_open(queue_config()->unique_key, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		QueueKeyRow row;

		CHECK_FOR_INTERRUPTS();
		read_row(slot, &row);
		if (row.job_id == id || row.successor == id)
			queue_key_release(&(QueueKeyName) {TextDatumGetCString(slot->tts_values[COL_QUEUE - 1]),
							  TextDatumGetCString(slot->tts_values[COL_KIND - 1]),
							  TextDatumGetCString(slot->tts_values[COL_KEY - 1])}, id);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

int64
queue_key_successor(const QueueKeyName *name, int64 id, Snapshot snapshot)
{
	int64		ids[2];

	return queue_key_jobs(name, snapshot, ids) == 2 && ids[0] == id ? ids[1] : 0;
}

/* Is this row, which the snapshot sees, of no use any more? */
static bool
is_useless(const QueueKeyRow *row, QueueJobTable *jobs, Snapshot snapshot, TimestampTz now)
{
	QueueJob	job;

	return row->ended ? row->until <= now :
		!queue_job_peek(jobs, row->job_id, snapshot, &job) && queue_missing_gone(row->job_id);
}

bool
queue_key_sweep(BlockNumber *block, BlockNumber blocks, TimestampTz now)
{
	QueueKeyTable *table = queue_key_open();
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	BlockNumber end = RelationGetNumberOfBlocks(table->rel);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "queue keys", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	ItemPointerData first;
	ItemPointerData last;
	TableScanDesc scan;

	if (end - Min(*block, end) > blocks)
		end = *block + blocks;
	ItemPointerSet(&first, *block, FirstOffsetNumber);
	ItemPointerSet(&last, end > 0 ? end - 1 : 0, MaxOffsetNumber);
	scan = table_beginscan_tidrange(table->rel, snapshot, &first, &last);
	old = MemoryContextSwitchTo(context);
	while (*block < end && table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		QueueKeyRow row = {0};

		CHECK_FOR_INTERRUPTS();
		read_row(slot, &row);
		if (is_useless(&row, jobs, snapshot, now) && queue_key_lock(table, &row, false) == TM_Ok)
		{
			if (row.ended)
				write_locked(table, &row, NULL);
			else
				(void) release_row(table, &(QueueKeyName) {TextDatumGetCString(slot->tts_values[COL_QUEUE - 1]),
								   TextDatumGetCString(slot->tts_values[COL_KIND - 1]),
								   TextDatumGetCString(slot->tts_values[COL_KEY - 1])}, &row, row.job_id);
		}
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	*block = Max(*block, end);
	end = RelationGetNumberOfBlocks(table->rel);
	queue_job_close(jobs);
	queue_key_close(table);
	return *block >= end;
}

/* ---- many ---- */

/* The end of a batch's context ends the batch: also that of an error. */
static void
forget_batch(void *arg)
{
	if (batch_context != arg)
		return;					/* it has ended, and there may be another one */
	batch = NIL;
	batch_context = NULL;
}

bool
queue_key_batch_begin(void)
{
	MemoryContextCallback *callback;
	MemoryContext context;

	if (batch_context != NULL)
		return false;
	context = AllocSetContextCreate(CurrentMemoryContext, "queue key releases", ALLOCSET_SMALL_SIZES);
	callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
	callback->func = forget_batch;
	callback->arg = context;
	MemoryContextRegisterResetCallback(context, callback);
	batch_context = context;
	return true;
}

int
queue_key_compare(const QueueKeyName *left, const QueueKeyName *right)
{
	int			cmp = strcmp(left->queue, right->queue);

	if (cmp == 0)
		cmp = strcmp(left->kind, right->kind);
	return cmp != 0 ? cmp : strcmp(left->key, right->key);
}

static int
by_name(const ListCell *a, const ListCell *b)
{
	return queue_key_compare(&((Release *) lfirst(a))->name, &((Release *) lfirst(b))->name);
}

void
queue_key_batch_end(void)
{
	MemoryContext context = batch_context;
	List	   *releases = batch;
	ListCell   *cell;

	batch_context = NULL;		/* these are done, not noted */
	batch = NIL;
	list_sort(releases, by_name);
	foreach(cell, releases)
	{
		Release    *noted = lfirst(cell);

		release(&noted->name, noted->id);
	}
	MemoryContextDelete(context);
}
