/*
 * job.c
 *		The live job's row as a struct, and every write to queue.live_job.
 *
 * Why not SPI: claiming, completing and enqueuing one row is all that a queue does.
 * Straight through the table and index AM an insert costs what an INSERT's executor
 * node alone would, and a claim is one heap_update with wait = false: SKIP LOCKED's
 * semantics in one heap operation.  It bypasses what the executor would do, so this
 * file minds what the executor minds: indexes, NOT NULL, triggers (through the
 * executor's own helpers), command ids, the TM results.
 *
 * Each write makes its note first (note.h): after the transaction's end, the positions
 * that became claimable are appended to their lines' cursors.
 *
 * Locks: RowExclusiveLock on live_job and its indexes for writers, AccessShareLock for
 * readers, until the end of the transaction; then one row lock a job.  A caller that
 * writes several rows and waits takes them in id order.
 */
#include "job/job.h"

#include "config/lines.h"
#include "config/relations.h"
#include "job/deadline.h"
#include "job/held.h"
#include "job/write.h"
#include "lib/attempt.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

/*
 * The columns of live_job.  The payload stands last: the WAL of an update leaves out what the old and the new row have
 * in common at their ends, so a claim, which writes what stands before it, logs no payload.
 */
enum
{
	COL_ID = 1, COL_RUN_AT, COL_LINE, COL_LEASED_UNTIL, COL_ATTEMPT, COL_FAILURES, COL_EXTRA, COL_PAYLOAD,
	NCOLS = COL_PAYLOAD
};

QueueJobTable *
queue_job_open(LOCKMODE lockmode)
{
	QueueConfig *config = queue_config();
	QueueJobTable *table = palloc0(sizeof(QueueJobTable));

	table->lockmode = lockmode;
	table->owner = CurrentResourceOwner;
	table->pkey_oid = config->live_job_pkey;
	table->ready_oid = config->live_job_ready;
	table->rel = queue_relation_open(config->live_job, lockmode);
	table->slot = table_slot_create(table->rel, NULL);
	return table;
}

/* Opens one of its indexes, for as long as the table is open.  The lock on the table already excludes DDL on them. */
static Relation
open_index(QueueJobTable *table, Oid index)
{
	ResourceOwner owner = CurrentResourceOwner;
	Relation	rel;

	CurrentResourceOwner = table->owner;
	rel = index_open(index, table->lockmode);
	CurrentResourceOwner = owner;
	return rel;
}

Relation
queue_job_pkey(QueueJobTable *table)
{
	if (table->pkey == NULL)
		table->pkey = open_index(table, table->pkey_oid);
	return table->pkey;
}

Relation
queue_job_ready(QueueJobTable *table)
{
	if (table->ready == NULL)
		table->ready = open_index(table, table->ready_oid);
	return table->ready;
}

void
queue_job_close(QueueJobTable *table)
{
	if (table->places != NULL)
		table->close_places(table);
	if (table->dependencies != NULL)
		table->close_dependencies(table);
	if (table->kept != NULL)
		table->close_kept(table);
	if (table->rri != NULL)
		queue_write_close_indexes(table->rri);
	if (table->wslot != NULL)
		ExecDropSingleTupleTableSlot(table->wslot);
	ExecDropSingleTupleTableSlot(table->slot);
	if (table->estate != NULL)
		queue_write_end(table->estate);
	if (table->ready != NULL)
		index_close(table->ready, NoLock);
	if (table->pkey != NULL)
		index_close(table->pkey, NoLock);
	table_close(table->rel, NoLock);
	pfree(table);
}

/*
 * Closes and unlocks, for a session that goes to sleep: DDL need not wait for it.  Keeps
 * the locks after all when this transaction wrote anything.
 */
void
queue_job_release(QueueJobTable *table)
{
	LOCKMODE	lockmode = table->lockmode;
	Oid			rel = RelationGetRelid(table->rel);
	Oid			pkey = table->pkey != NULL ? table->pkey_oid : InvalidOid;
	Oid			ready = table->ready != NULL ? table->ready_oid : InvalidOid;

	queue_job_close(table);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (OidIsValid(ready))
		UnlockRelationOid(ready, lockmode);
	if (OidIsValid(pkey))
		UnlockRelationOid(pkey, lockmode);
	UnlockRelationOid(rel, lockmode);
}

/* What a write needs beyond the table: the executor's index and trigger state.  Made once a table. */
static void
prepare_write(QueueJobTable *table)
{
	MemoryContext old;

	if (table->estate != NULL)
		return;
	/* callers work in a context that they reset per row; this must live as long as the table is open */
	old = MemoryContextSwitchTo(GetMemoryChunkContext(table));
	table->estate = CreateExecutorState();
	table->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(table->rri, table->rel, 0, NULL, 0);	/* in no range table */
	ExecOpenIndices(table->rri, false);
	table->wslot = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsVirtual);
	MemoryContextSwitchTo(old);
}

#define MAX_EXTRA (192 * 1024 * 1024) /* above what queue.max_job_size can allow, below what jsonb can hold */

/* The table AM takes a pointer that is not const. */
static inline ItemPointer
tid_of(const QueueJob *job)
{
	return unconstify(ItemPointerData *, &job->tid);
}

/* Fills a slot with the row as it shall be; old: the version that it follows, NULL for a new row. */
static void
fill_slot(TupleTableSlot *slot, const QueueJob *job, const QueueJob *old)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;
	struct varlena *payload = (struct varlena *) job->payload;
	struct varlena *extra = (struct varlena *) job->extra;

	if (old != NULL && old->stored_payload != NULL && job->payload == old->payload)
		payload = old->stored_payload;
	if (old != NULL && old->stored_extra != NULL && job->extra == old->extra)
		extra = old->stored_extra;
	ExecClearTuple(slot);
	memset(nulls, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	values[COL_ID - 1] = Int64GetDatum(job->id);
	values[COL_RUN_AT - 1] = TimestampTzGetDatum(job->run_at);
	values[COL_LINE - 1] = Int64GetDatum(job->line);
	values[COL_LEASED_UNTIL - 1] = TimestampTzGetDatum(job->leased_until);
	values[COL_ATTEMPT - 1] = Int32GetDatum(job->attempt);
	values[COL_FAILURES - 1] = Int32GetDatum(job->failures);
	values[COL_PAYLOAD - 1] = PointerGetDatum(payload);
	values[COL_EXTRA - 1] = PointerGetDatum(extra);
	nulls[COL_ID - 1] = nulls[COL_RUN_AT - 1] = nulls[COL_LINE - 1] = nulls[COL_PAYLOAD - 1] = false;
	nulls[COL_LEASED_UNTIL - 1] = job->leased_until == DT_NOBEGIN;
	nulls[COL_ATTEMPT - 1] = job->attempt == 0;
	nulls[COL_FAILURES - 1] = job->failures == 0;
	nulls[COL_EXTRA - 1] = extra == NULL;
	ExecStoreVirtualTuple(slot);
}

/* A copy of a column as the row has it; NULL: it is neither compressed nor out of line, and not asked for. */
static struct varlena *
stored_copy(Datum datum, bool always)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(datum);
	struct varlena *copy;

	if (!always && !VARATT_IS_EXTERNAL(value) && !VARATT_IS_COMPRESSED(value))
		return NULL;
	copy = palloc(VARSIZE_ANY(value));
	memcpy(copy, value, VARSIZE_ANY(value));
	return copy;
}

/*
 * Reads a jsonb.  One that is out of line may be damaged; an error about that is the row's own and goes to *problem,
 * with NULL as the value.  Such a value is read in a subtransaction, which costs little beside fetching it.
 */
static Jsonb *
read_jsonb(Datum datum, const char **problem)
{
	QueueAttempt attempt;
	Jsonb	   *volatile result = NULL;

	if (!VARATT_IS_EXTERNAL(DatumGetPointer(datum)))
		return DatumGetJsonbPCopy(datum);
	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		result = DatumGetJsonbPCopy(datum);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error = queue_attempt_failed(&attempt);

		/* anything else, such as no memory, says nothing about the row */
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_INDEX_CORRUPTED &&
			error->sqlerrcode != ERRCODE_INTERNAL_ERROR)
			ReThrowError(error);
		*problem = pstrdup(error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
	return result;
}

/* The columns that may be toasted. */
static void
read_wide(TupleTableSlot *slot, QueueJob *job, bool lean)
{
	Datum		payload;
	Datum		extra;
	bool		isnull;

	payload = slot_getattr(slot, COL_PAYLOAD, &isnull);
	job->stored_payload = stored_copy(payload, lean);
	if (!lean)
		job->payload = read_jsonb(payload, &job->problem);
	extra = slot_getattr(slot, COL_EXTRA, &isnull);
	if (isnull)
		return;
	job->stored_extra = stored_copy(extra, false);
	job->extra = read_jsonb(extra, &job->problem);
	/* restored or written by hand: with what a claim adds it would be no jsonb any more */
	if (job->extra != NULL && job->stored_extra != NULL && VARSIZE(job->extra) > MAX_EXTRA)
	{
		pfree(job->extra);
		job->extra = NULL;
		job->problem = "its headers, tags and progress are too large";
	}
}

Datum
queue_job_kept_payload(const QueueJob *job)
{
	const char *problem = job->problem;

	if (job->payload != NULL)
		return JsonbPGetDatum(job->payload);
	/* stored as it is: the new row gets a copy, if there is one to be had */
	if (!VARATT_IS_EXTERNAL(job->stored_payload) || read_jsonb(PointerGetDatum(job->stored_payload), &problem) != NULL)
		return PointerGetDatum(job->stored_payload);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("null"));
}

void
queue_job_read(TupleTableSlot *slot, QueueJob *job, bool deep)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;

	slot_getsomeattrs(slot, deep ? NCOLS : COL_FAILURES);
	job->tid = slot->tts_tid;
	job->id = DatumGetInt64(values[COL_ID - 1]);
	job->run_at = DatumGetTimestampTz(values[COL_RUN_AT - 1]);
	job->line = DatumGetInt64(values[COL_LINE - 1]);
	job->leased_until = nulls[COL_LEASED_UNTIL - 1] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[COL_LEASED_UNTIL - 1]);
	job->attempt = nulls[COL_ATTEMPT - 1] ? 0 : DatumGetInt32(values[COL_ATTEMPT - 1]);
	job->failures = nulls[COL_FAILURES - 1] ? 0 : DatumGetInt32(values[COL_FAILURES - 1]);
	job->payload = NULL;
	job->extra = NULL;
	job->stored_payload = job->stored_extra = NULL;
	job->problem = NULL;
	job->depends_on = NULL;
	job->ndepends = 0;
	job->joins = false;
	if (deep)
		read_wide(slot, job, false);
}

void
queue_job_read_lean(TupleTableSlot *slot, QueueJob *job)
{
	queue_job_read(slot, job, false);
	read_wide(slot, job, true);
}

/* How much of a row is read. */
typedef enum Width
{
	FIXED,						/* the columns before the payload */
	LEAN,						/* and extra, and the payload as it is stored */
	DEEP						/* all */
} Width;

static bool
find(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job, Width width)
{
	IndexScanDesc scan;
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = queue_index_beginscan(table->rel, queue_job_pkey(table), snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, table->slot);
	if (found && width == LEAN)
		queue_job_read_lean(table->slot, job);
	else if (found)
		queue_job_read(table->slot, job, width == DEEP);
	ExecClearTuple(table->slot);
	index_endscan(scan);
	return found;
}

bool
queue_job_find(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job)
{
	return find(table, id, snapshot, job, DEEP);
}

bool
queue_job_find_lean(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job)
{
	return find(table, id, snapshot, job, LEAN);
}

bool
queue_job_peek(QueueJobTable *table, int64 id, Snapshot snapshot, QueueJob *job)
{
	return find(table, id, snapshot, job, FIXED);
}

/*
 * By the tid that the scheduler read a moment ago.  By now the row may be pruned, its
 * line pointer reused or the table rewritten: the block is checked against the
 * table's size, and the row under it against the id, before the primary key is asked.
 */
bool
queue_job_refind(QueueJobTable *table, ItemPointer tid, int64 id, Snapshot snapshot, QueueJob *job)
{
	bool		found = false;

	if (table->nblocks == 0)
		table->nblocks = RelationGetNumberOfBlocks(table->rel);
	if (ItemPointerIsValid(tid) && ItemPointerGetBlockNumber(tid) < table->nblocks &&
		table_tuple_fetch_row_version(table->rel, tid, snapshot, table->slot))
	{
		slot_getallattrs(table->slot);
		found = DatumGetInt64(table->slot->tts_values[COL_ID - 1]) == id;
		if (found)
			queue_job_read(table->slot, job, true);
		ExecClearTuple(table->slot);
	}
	return found || queue_job_find(table, id, snapshot, job);
}

/* Called under the job's advisory lock (session.c), which the locker tests after it has the row. */
bool
queue_job_row_locked(QueueJobTable *table, const QueueJob *job)
{
	TransactionId holder;

	return queue_row_held(table->rel, &job->tid, table->slot, &holder);
}

bool
queue_job_row_own(QueueJobTable *table, const QueueJob *job)
{
	bool		own = false;
	bool		isnull;

	if (table_tuple_fetch_row_version(table->rel, tid_of(job), SnapshotAny, table->slot))
		own = TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slot_getsysattr(table->slot,
																					  MinTransactionIdAttributeNumber,
																					  &isnull)));
	ExecClearTuple(table->slot);
	return own;
}

QueueState
queue_job_filed(const QueueJob *job)
{
	if (job->leased_until != DT_NOBEGIN)
		return QUEUE_STATE_RUNNING;
	if (job->run_at == DT_NOEND)
		return QUEUE_STATE_PENDING;
	if (job->failures > 0)
		return QUEUE_STATE_RETRYABLE;
	if (queue_extra_time(job->extra, "enqueued_at") != 0)
		return QUEUE_STATE_SCHEDULED;
	return QUEUE_STATE_AVAILABLE;
}

QueueState
queue_job_state(const QueueJob *job, TimestampTz now)
{
	if (job->leased_until > now)
		return QUEUE_STATE_RUNNING;
	if (job->run_at == DT_NOEND)
		return QUEUE_STATE_PENDING;
	if (job->run_at > now)
		return job->failures > 0 ? QUEUE_STATE_RETRYABLE : QUEUE_STATE_SCHEDULED;
	return QUEUE_STATE_AVAILABLE;
}

int
queue_job_max_attempts(const QueueJob *job, const QueueExtra *extra, const QueueConf *conf, const QueueHandler *handler)
{
	if (extra->max_attempts > 0)
		return extra->max_attempts;
	if (handler != NULL && handler->max_attempts > 0)
		return handler->max_attempts;
	return conf->max_attempts;
}

QueueLine *
queue_job_line(int64 line)
{
	QueueLine  *found = queue_config_line(line);

	if (unlikely(found == NULL))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("line " INT64_FORMAT " is not in queue.line", line),
						errhint("The row was deleted by hand; a row with this id, the queue, the kind and the priority "
								"brings its jobs back.")));
	return found;
}

QueueLineKeys
queue_line_keys(const QueueLine *line)
{
	return (QueueLineKeys){line->queue->key, line->kind_key, line->priority, line->served,
						   queue_config_generation(), queue_line_counted(line)};
}

void
queue_line_claimable(const QueueLine *line, QueuePos pos)
{
	QueueLineKeys keys = queue_line_keys(line);

	queue_note_claimable(MyDatabaseId, line->id, &keys, pos, 1);
}

void
queue_job_give_back(int64 line, QueuePos pos)
{
	/* a process that exits may be in the midst of anything */
	QueueLine  *known = IsTransactionState() && !proc_exit_inprogress ? queue_config_line(line) : NULL;

	if (known != NULL)
		queue_line_claimable(known, pos);
	else
		queue_note_claimable(MyDatabaseId, line, NULL, pos, 1);
}

static int
note_insert(const QueueJob *job)
{
	QueueNote	note = {0};
	TimestampTz expires_at;

	if (!queue_preloaded())
		return -1;
	note.line = job->line;
	note.on_commit = true;
	note.commit_pos = queue_job_pos(job);
	expires_at = queue_extra_expires_at(job->extra);
	if (expires_at != DT_NOEND)
		note.deadline = expires_at != 0 ? expires_at : -1;
	note.keys = queue_line_keys(queue_job_line(job->line));
	note.to = queue_job_filed(job);
	return queue_note_begin(&note);
}

/* Inserts the deadlines of those jobs that have one, with the jobs' own rows. */
static void
insert_deadlines(const QueueJob *jobs, int n)
{
	QueuePos   *deadlines = NULL;
	int			ndeadlines = 0;

	for (int i = 0; i < n; i++)
	{
		TimestampTz at = queue_extra_expires_at(jobs[i].extra);

		if (at == DT_NOEND)
			continue;
		if (deadlines == NULL)
			deadlines = MemoryContextAllocHuge(CurrentMemoryContext, (n - i) * sizeof(QueuePos));
		deadlines[ndeadlines++] = (QueuePos) {at, jobs[i].id};
	}
	if (ndeadlines > 0)
		queue_deadline_insert(deadlines, ndeadlines);
}

void
queue_job_note_deadline(const QueueJob *job, TimestampTz at)
{
	QueueNote	note = {.line = job->line, .deadline = at != 0 ? at : -1};

	if (at == DT_NOEND)
		return;
	queue_deadline_insert(&(QueuePos) {at, job->id}, 1);
	if (!queue_preloaded())
		return;
	note.keys = queue_line_keys(queue_job_line(job->line));
	queue_note_end(queue_note_begin(&note), true);
}

void
queue_job_insert(QueueJobTable *table, QueueJob *job)
{
	int			note;

	prepare_write(table);
	note = note_insert(job);
	fill_slot(table->wslot, job, NULL);
	(void) GetCurrentCommandId(true);
	queue_write_insert(table->rri, table->estate, table->wslot, true);
	ResetPerTupleExprContext(table->estate);
	job->tid = table->wslot->tts_tid;
	insert_deadlines(job, 1);
	queue_note_end(note, true);
}

#define MULTI_INSERT 500		/* rows a table_multi_insert */

void
queue_job_insert_many(QueueJobTable *table, QueueJob *jobs, int n)
{
	TupleTableSlot *slots[MULTI_INSERT];
	BulkInsertState bistate;
	int			nslots = 0;

	prepare_write(table);
	for (int i = 0; i < n; i++)
		queue_note_end(note_insert(&jobs[i]), true);
	if (table->rel->trigdesc != NULL || n < 3)
	{
		for (int i = 0; i < n; i++)
		{
			fill_slot(table->wslot, &jobs[i], NULL);
			(void) GetCurrentCommandId(true);
			queue_write_insert(table->rri, table->estate, table->wslot, true);
			ResetPerTupleExprContext(table->estate);
		}
		insert_deadlines(jobs, n);
		return;
	}
	bistate = GetBulkInsertState();
	for (int done = 0; done < n; done += MULTI_INSERT)
	{
		int			batch = Min(MULTI_INSERT, n - done);

		for (; nslots < batch; nslots++)
			slots[nslots] = table_slot_create(table->rel, NULL);
		for (int i = 0; i < batch; i++)
			fill_slot(slots[i], &jobs[done + i], NULL);
		table_multi_insert(table->rel, slots, batch, GetCurrentCommandId(true), 0, bistate);
		for (int i = 0; i < batch; i++)
		{
			jobs[done + i].tid = slots[i]->tts_tid;
			(void) queue_insert_index_tuples(table->rri, slots[i], table->estate, false, false);
			ResetPerTupleExprContext(table->estate);
		}
		CHECK_FOR_INTERRUPTS();
	}
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	FreeBulkInsertState(bistate);
	insert_deadlines(jobs, n);
}

/*
 * With row triggers the row is locked first, as we would have updated it, and then goes
 * through the executor's own update or delete, which then has nothing to wait for.
 */
static TM_Result
with_triggers(QueueJobTable *table, const QueueJob *old, TupleTableSlot *new, Snapshot snapshot, bool wait)
{
	TM_FailureData tmfd;
	TM_Result	result;

	result = table_tuple_lock(table->rel, tid_of(old), snapshot, table->slot,
							  GetCurrentCommandId(true), LockTupleExclusive,
							  wait ? LockWaitBlock : LockWaitSkip, 0, &tmfd);
	if (result == TM_Ok)
		queue_write_locked(table->rri, table->estate, table->slot, new);
	ExecClearTuple(table->slot);
	return result;
}

TM_Result
queue_job_update(QueueJobTable *table, const QueueJob *old, QueueJob *new, Snapshot snapshot, bool wait)
{
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	QueueUpdateIndexes update_indexes = 0;
	TM_Result	result;
	int			noted = -1;

	prepare_write(table);
	if (queue_preloaded())
	{
		QueueLine  *from = queue_job_line(old->line);
		QueueLine  *to = queue_job_line(new->line);
		bool		moves = queue_line_counted(from) != queue_line_counted(to);
		QueueNote	note = {.line = old->line, .keys = queue_line_keys(from), .on_abort = true};

		note.abort_pos = note.commit_pos = queue_job_pos(old);
		note.kind_only = moves && from->queue == to->queue;
		if (new->line != old->line)
		{
			/* it leaves its line: a note for each; another queue or kind counts it as enqueued there */
			note.from = moves ? queue_job_filed(old) : QUEUE_STATE_NONE;
			queue_note_end(queue_note_begin(&note), true);
			note.line = new->line;
			note.keys = queue_line_keys(to);
			note.on_abort = false;
		}
		note.job_id = old->id;
		note.commit_pos = queue_job_pos(new);
		/* a lease that is over by now, as one of a microsecond is, is none */
		note.on_commit = new->leased_until == DT_NOBEGIN || new->leased_until <= queue_now() + 1;
		note.lease_was = old->leased_until != DT_NOBEGIN ? old->leased_until : 0;
		if (new->leased_until != DT_NOBEGIN)
			note.leased_until = new->leased_until;
		else if (old->leased_until != DT_NOBEGIN)
			note.leased_until = DT_NOBEGIN;
		note.failed = new->failures > old->failures;
		note.from = moves ? QUEUE_STATE_NONE : queue_job_filed(old);
		note.to = queue_job_filed(new);
		noted = queue_note_begin(&note);
	}
	fill_slot(table->wslot, new, old);
	/* what old stored is new's only as far as it was kept */
	if (new->payload != old->payload)
		new->stored_payload = NULL;
	if (new->extra != old->extra)
		new->stored_extra = NULL;
	if (unlikely(table->rel->trigdesc != NULL))
	{
		result = with_triggers(table, old, table->wslot, snapshot, wait);
		if (result == TM_Ok)
			new->tid = table->wslot->tts_tid;
		queue_note_end(noted, result == TM_Ok);
		return result;
	}
	if (queue_write_may_update(table->rel, tid_of(old), snapshot, &wait, &result))
		result = table_tuple_update(table->rel, tid_of(old), table->wslot,
									GetCurrentCommandId(true), snapshot, InvalidSnapshot, wait,
									&tmfd, &lockmode, &update_indexes);
	if (result == TM_BeingModified && !wait && !queue_job_row_locked(table, old))
		result = table_tuple_update(table->rel, tid_of(old), table->wslot,
									GetCurrentCommandId(true), snapshot, InvalidSnapshot, true,
									&tmfd, &lockmode, &update_indexes);
	if (result == TM_Ok)
	{
		new->tid = table->wslot->tts_tid;
		if (queue_update_needs_indexes(update_indexes))
			(void) queue_insert_index_tuples(table->rri, table->wslot, table->estate, true,
											 queue_update_only_summarizing(update_indexes));
		ResetPerTupleExprContext(table->estate);
	}
	queue_note_end(noted, result == TM_Ok);
	return result;
}

TM_Result
queue_job_delete(QueueJobTable *table, const QueueJob *old, QueueState to, Snapshot snapshot, bool wait)
{
	TM_FailureData tmfd;
	TM_Result	result;
	int			noted = -1;

	if (queue_preloaded())
	{
		QueueNote	note = {0};

		note.line = old->line;
		note.job_id = old->id;
		note.on_abort = true;
		note.abort_pos = queue_job_pos(old);
		note.ends = true;
		note.leased_until = old->leased_until != DT_NOBEGIN ? DT_NOBEGIN : 0;
		note.lease_was = old->leased_until != DT_NOBEGIN ? old->leased_until : 0;
		note.commit_pos = queue_job_pos(old);
		note.keys = queue_line_keys(queue_job_line(old->line));
		note.from = queue_job_filed(old);
		note.to = to;
		noted = queue_note_begin(&note);
	}
	if (unlikely(table->rel->trigdesc != NULL))
	{
		prepare_write(table);
		result = with_triggers(table, old, NULL, snapshot, wait);
	}
	else
	{
		result = table_tuple_delete(table->rel, tid_of(old), GetCurrentCommandId(true),
									snapshot, InvalidSnapshot, wait, &tmfd, false);
		if (result == TM_BeingModified && !wait && !queue_job_row_locked(table, old))
			result = table_tuple_delete(table->rel, tid_of(old), GetCurrentCommandId(true),
										snapshot, InvalidSnapshot, true, &tmfd, false);
	}
	queue_note_end(noted, result == TM_Ok);
	return result;
}

/*
 * Locks the row for an executor that will end it in this transaction: the write that
 * follows makes the note of the commit, this one only that of the abort.
 */
TM_Result
queue_job_lock(QueueJobTable *table, const QueueJob *old, Snapshot snapshot, bool wait)
{
	TM_FailureData tmfd;
	TM_Result	result;
	QueueNote	note = {.line = old->line, .keys = queue_line_keys(queue_job_line(old->line)), .on_abort = true};
	int			noted;

	note.abort_pos = queue_job_pos(old);
	noted = queue_note_begin(&note);
	result = table_tuple_lock(table->rel, tid_of(old), snapshot, table->slot,
							  GetCurrentCommandId(true), LockTupleExclusive,
							  wait ? LockWaitBlock : LockWaitSkip, 0, &tmfd);
	ExecClearTuple(table->slot);
	queue_note_end(noted, result == TM_Ok);
	return result;
}
