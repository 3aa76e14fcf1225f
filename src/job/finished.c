/*
 * finished.c
 *		Rows of queue.finished_job: what they say of a job; read and deleted through the table and index AM.
 *
 * Why not SQL: a statement by id is planned over every partition of the ring, which costs more than all else that a
 * retry does.  One look into the index of each partition costs a few microseconds, and the partition that had the
 * last one is looked into first.
 *
 * Rows are written by kept.c.
 *
 * Locks: AccessShareLock on a partition while it is looked into, kept on the one that has the row; RowExclusiveLock and
 * the row lock to delete.
 */
#include "job/finished.h"

#include "config/lines.h"
#include "job/group.h"
#include "job/held.h"
#include "job/kept.h"
#include "job/pending.h"
#include "job/step.h"
#include "job/write.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* The columns of finished_job.  Later versions only append. */
enum
{
	COL_SLOT = 1, COL_PRIORITY, COL_ATTEMPT, COL_ID, COL_RUN_AT, COL_STARTED_AT, COL_FINISHED_AT, COL_KEEP_UNTIL,
	COL_WHAT, COL_FAILURES, COL_STATE, COL_QUEUE, COL_KIND, COL_WORKER, COL_PAYLOAD, COL_EXTRA, COL_RESULT,
	NCOLS = COL_RESULT
};

/* ---------------------------------------------------------------- inserting */

void
queue_finished_insert(QueueJobTable *jobs, const QueueJob *job, const QueueConf *conf, const char *kind, int16 priority,
					  QueueState state, const QueueEnding *ending, int64 keep, bool awaited)
{
	Datum		values[NCOLS];
	bool		nulls[NCOLS] = {false};
	TimestampTz now = queue_now();
	Jsonb	   *extra = NULL;
	TimestampTz run_at = job->run_at;
	TimestampTz started_at = ending->started_at;
	const char *worker = ending->worker;
	int			slot;

	if (keep <= 0)
		return;
	slot = awaited && state == QUEUE_STATE_COMPLETED ? queue_ring_awaited_slot(now, keep) :
		queue_ring_slot(now, keep);
	if (job->extra != NULL || ending->error != NULL || ending->dead_letter != 0 || ending->cause != 0 ||
		ending->progress != NULL)
	{
		QueueExtra	unpacked;

		queue_extra_unpack(job->extra, &unpacked);
		if (ending->error != NULL)
			unpacked.last_error = queue_record_text(ending->error);
		if (ending->progress != NULL)
			unpacked.progress = ending->progress;
		unpacked.dead_letter = ending->dead_letter;
		unpacked.cause = ending->cause;
		if (started_at == 0)
			started_at = unpacked.started_at;
		if (worker == NULL)
			worker = unpacked.worker;
		run_at = queue_job_asked(job, &unpacked);
		/* these have columns, or are over */
		unpacked.worker = NULL;
		unpacked.started_at = unpacked.run_at = 0;
		unpacked.blocks = 0;
		unpacked.awaits = NULL;
		extra = queue_extra_pack(&unpacked);
	}
	values[COL_SLOT - 1] = Int16GetDatum(slot);
	values[COL_PRIORITY - 1] = Int16GetDatum(priority);
	values[COL_ATTEMPT - 1] = Int32GetDatum(job->attempt);
	values[COL_ID - 1] = Int64GetDatum(job->id);
	values[COL_RUN_AT - 1] = TimestampTzGetDatum(run_at);
	values[COL_STARTED_AT - 1] = TimestampTzGetDatum(started_at);
	values[COL_FINISHED_AT - 1] = TimestampTzGetDatum(now);
	values[COL_KEEP_UNTIL - 1] = TimestampTzGetDatum(keep >= QUEUE_FOR_EVER ? DT_NOEND : queue_time_add(now, keep));
	values[COL_WHAT - 1] = Int64GetDatum(job->line * 4 + (state - QUEUE_STATE_COMPLETED));
	values[COL_FAILURES - 1] = Int32GetDatum(job->failures);
	values[COL_STATE - 1] = CStringGetTextDatum(queue_state_names[state]);
	values[COL_QUEUE - 1] = CStringGetTextDatum(conf->name);
	values[COL_KIND - 1] = CStringGetTextDatum(kind);
	values[COL_WORKER - 1] = worker != NULL ? CStringGetTextDatum(worker) : (Datum) 0;
	values[COL_PAYLOAD - 1] = queue_job_kept_payload(job);
	values[COL_EXTRA - 1] = JsonbPGetDatum(extra);
	values[COL_RESULT - 1] = JsonbPGetDatum(ending->result);
	nulls[COL_STARTED_AT - 1] = started_at == 0;
	nulls[COL_WORKER - 1] = worker == NULL;
	nulls[COL_EXTRA - 1] = extra == NULL;
	nulls[COL_RESULT - 1] = ending->result == NULL;
	queue_kept_insert(jobs, slot, values, nulls, NCOLS);
}

void
queue_finished_copy(QueueJobTable *jobs, int slot, TupleTableSlot *row, TimestampTz until)
{
	Datum		values[NCOLS];

	memcpy(values, row->tts_values, sizeof(values));
	values[COL_SLOT - 1] = Int16GetDatum(slot);
	values[COL_KEEP_UNTIL - 1] = TimestampTzGetDatum(until);
	queue_kept_insert(jobs, slot, values, row->tts_isnull, NCOLS);
}

/* ---------------------------------------------------------------- reading */

static QueueState
state_of(const char *name)
{
	int			state = QUEUE_STATE_DISCARDED;

	while (state > QUEUE_STATE_NONE && strcmp(queue_state_names[state], name) != 0)
		state--;
	return state;
}

void
queue_finished_read(TupleTableSlot *row, int slot, bool deep, QueueFinished *finished)
{
	Datum	   *values = row->tts_values;
	bool	   *nulls = row->tts_isnull;

	slot_getsomeattrs(row, NCOLS);
	memset(finished, 0, sizeof(*finished));
	finished->slot = slot;
	finished->job.tid = row->tts_tid;
	finished->job.id = DatumGetInt64(values[COL_ID - 1]);
	finished->job.run_at = DatumGetTimestampTz(values[COL_RUN_AT - 1]);
	finished->what = DatumGetInt64(values[COL_WHAT - 1]);
	finished->job.line = finished->what / 4;
	finished->job.leased_until = DT_NOBEGIN;
	finished->job.attempt = DatumGetInt32(values[COL_ATTEMPT - 1]);
	finished->job.failures = DatumGetInt32(values[COL_FAILURES - 1]);
	finished->queue = TextDatumGetCString(values[COL_QUEUE - 1]);
	finished->kind = TextDatumGetCString(values[COL_KIND - 1]);
	finished->priority = DatumGetInt16(values[COL_PRIORITY - 1]);
	finished->state = state_of(TextDatumGetCString(values[COL_STATE - 1]));
	finished->started_at = nulls[COL_STARTED_AT - 1] ? 0 : DatumGetTimestampTz(values[COL_STARTED_AT - 1]);
	finished->finished_at = DatumGetTimestampTz(values[COL_FINISHED_AT - 1]);
	finished->keep_until = DatumGetTimestampTz(values[COL_KEEP_UNTIL - 1]);
	if (!deep)
		return;
	finished->worker = nulls[COL_WORKER - 1] ? NULL : TextDatumGetCString(values[COL_WORKER - 1]);
	finished->job.payload = DatumGetJsonbPCopy(values[COL_PAYLOAD - 1]);
	finished->job.extra = nulls[COL_EXTRA - 1] ? NULL : DatumGetJsonbPCopy(values[COL_EXTRA - 1]);
	finished->result = nulls[COL_RESULT - 1] ? NULL : DatumGetJsonbPCopy(values[COL_RESULT - 1]);
}

Relation
queue_finished_open(int slot, LOCKMODE lockmode)
{
	queue_kept_write();
	return table_open(queue_config()->finished_job[slot], lockmode);
}

static bool
find_in(int slot, int64 id, Snapshot snapshot, bool deep, QueueFinished *finished)
{
	QueueConfig *config = queue_config();
	Relation	rel = queue_finished_open(slot, AccessShareLock);
	Relation	index;
	TupleTableSlot *row;
	IndexScanDesc scan;
	ScanKeyData key;
	bool		found;

	if (RelationGetNumberOfBlocks(rel) == 0)
	{
		table_close(rel, AccessShareLock);
		return false;
	}
	index = index_open(config->finished_job_id[slot], AccessShareLock);
	row = table_slot_create(rel, NULL);

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = queue_index_beginscan(rel, index, snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, row);
	if (found)
		queue_finished_read(row, slot, deep, finished);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	/* retention truncates only what nobody has locked: keep off all others */
	index_close(index, found ? NoLock : AccessShareLock);
	table_close(rel, found ? NoLock : AccessShareLock);
	return found;
}

static bool
find(int64 id, Snapshot snapshot, bool deep, QueueFinished *finished)
{
	static int	last = 0;		/* the partition that had the last one */

	for (int i = 0; i < QUEUE_KEPT_SLOTS; i++)
	{
		int			slot = (last + i) % QUEUE_KEPT_SLOTS;

		if (find_in(slot, id, snapshot, deep, finished))
		{
			last = slot;
			return true;
		}
	}
	return false;
}

bool
queue_finished_find(int64 id, Snapshot snapshot, QueueFinished *finished)
{
	return find(id, snapshot, true, finished);
}

bool
queue_finished_peek(int64 id, Snapshot snapshot, QueueFinished *finished)
{
	return find(id, snapshot, false, finished);
}

static bool
completed(TupleTableSlot *row)
{
	static const char name[] = "completed";
	bool		isnull;
	text	   *state = DatumGetTextPP(slot_getattr(row, COL_STATE, &isnull));

	return VARSIZE_ANY_EXHDR(state) == strlen(name) && memcmp(VARDATA_ANY(state), name, strlen(name)) == 0;
}

/* Did the job of this row end otherwise than completed, after this time?  *finished says how. */
static bool
is_bad(TupleTableSlot *row, int slot, TimestampTz after, QueueFinished *finished)
{
	bool		isnull;

	if (completed(row) || DatumGetTimestampTz(slot_getattr(row, COL_FINISHED_AT, &isnull)) <= after)
		return false;
	queue_finished_read(row, slot, false, finished);
	return true;
}

/* What queue_finished_bad does in one partition.  Ids that lie close together are read in one go. */
static bool
find_bad_in(int slot, int64 *ids, int *n, TimestampTz after, Snapshot snapshot, QueueFinished *finished)
{
	QueueConfig *config = queue_config();
	Relation	rel = queue_finished_open(slot, AccessShareLock);
	bool		close = ids[0] - ids[*n - 1] < 4 * *n;
	Relation	index;
	TupleTableSlot *row;
	IndexScanDesc scan;
	bool		bad = false;
	int			left = 0;

	if (RelationGetNumberOfBlocks(rel) == 0)
	{
		table_close(rel, AccessShareLock);
		return false;
	}
	index = index_open(config->finished_job_id[slot], AccessShareLock);
	row = table_slot_create(rel, NULL);
	scan = queue_index_beginscan(rel, index, snapshot, 2);
	for (int i = 0; i < *n && !bad;)
	{
		int			last = close ? *n - 1 : i;
		ScanKeyData keys[2];
		bool		isnull;

		ScanKeyInit(&keys[0], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(ids[i]));
		ScanKeyInit(&keys[1], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(ids[last]));
		index_rescan(scan, keys, 2, NULL, 0);
		while (!bad && index_getnext_slot(scan, BackwardScanDirection, row))
		{
			int64		id = DatumGetInt64(slot_getattr(row, COL_ID, &isnull));

			while (i <= last && ids[i] > id)
				ids[left++] = ids[i++];
			if (i <= last && ids[i] == id)
			{
				bad = slot < QUEUE_RING_SLOTS && is_bad(row, slot, after, finished);
				i++;
			}
		}
		while (i <= last)
			ids[left++] = ids[i++];
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	*n = left;
	return bad;
}

bool
queue_finished_bad(int64 *ids, int *n, TimestampTz after, Snapshot snapshot, QueueFinished *finished)
{
	static int	last = 0;		/* the partition that had some the last time */
	int			first = last;
	bool		bad = false;

	for (int i = 0; i < QUEUE_KEPT_SLOTS && *n > 0 && !bad; i++)
	{
		int			slot = (first + i) % QUEUE_KEPT_SLOTS;
		int			before = *n;

		bad = find_bad_in(slot, ids, n, after, snapshot, finished);
		if (*n < before)
			last = slot;
	}
	return bad;
}

/* ---------------------------------------------------------------- deleting */

/* With row triggers: locks the row, and has the executor delete it. */
static TM_Result
delete_with_triggers(Relation rel, ItemPointer tid, Snapshot snapshot, bool wait)
{
	TupleTableSlot *row = table_slot_create(rel, NULL);
	TM_FailureData tmfd;
	TM_Result	result = table_tuple_lock(rel, tid, snapshot, row, GetCurrentCommandId(true), LockTupleExclusive,
										  wait ? LockWaitBlock : LockWaitSkip, 0, &tmfd);

	if (result == TM_Ok)
	{
		EState	   *estate = CreateExecutorState();
		ResultRelInfo *rri = makeNode(ResultRelInfo);

		InitResultRelInfo(rri, rel, 0, NULL, 0);
		queue_write_locked(rri, estate, row, NULL);
		queue_write_end(estate);
	}
	ExecDropSingleTupleTableSlot(row);
	return result;
}

TM_Result
queue_finished_delete(const QueueFinished *finished, Snapshot snapshot, bool wait)
{
	Relation	rel = queue_finished_open(finished->slot, RowExclusiveLock);
	ItemPointer tid = unconstify(ItemPointerData *, &finished->job.tid);
	TM_FailureData tmfd;
	TM_Result	result;

	if (rel->trigdesc != NULL)
		result = delete_with_triggers(rel, tid, snapshot, wait);
	else
		result = table_tuple_delete(rel, tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot, wait, &tmfd, false);
	table_close(rel, NoLock);
	if (result == TM_Ok)
		queue_group_let_go(finished->queue, &finished->job);
	return result;
}

bool
queue_finished_wait_moment(const QueueFinished *finished)
{
	Relation	rel = queue_finished_open(finished->slot, RowExclusiveLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	bool		again = queue_row_wait_moment(rel, &finished->job.tid, row, finished->job.id);

	ExecDropSingleTupleTableSlot(row);
	table_close(rel, NoLock);
	return again;
}

/*
 * Turns a row that the caller deleted into the live row of a retry: it waits at run_at, and what told of its last
 * run is forgotten.  Makes its line if need be.
 */
void
queue_finished_revive(QueueFinished *finished, TimestampTz run_at)
{
	QueueJob   *job = &finished->job;
	QueueExtra	extra;

	queue_extra_unpack(job->extra, &extra);
	if (extra.enqueued_at == 0)
		extra.enqueued_at = job->run_at;
	if (extra.expires_at <= queue_now())
		extra.expires_at = DT_NOEND;	/* or it would be cancelled at once */
	extra.deaths = 0;
	extra.dead_letter = extra.cause = 0;
	queue_steps_revive(job->id, &extra);
	if (extra.depends_mode != 0)
		extra.retried_at = queue_now();
	job->run_at = run_at;
	queue_group_rejoin(job, &extra);
	job->extra = queue_extra_pack(&extra);
	job->failures = 0;
	job->line = queue_line_ensure(finished->queue, finished->kind, finished->priority, extra.concurrency_key);
}
