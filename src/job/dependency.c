/*
 * dependency.c
 *		Jobs that depend on others: the rows of queue.dependency, written and read through the table and index AM.
 *
 * A row says that a job depends on another one.  It is inserted with the job and stays as long as anything is known of
 * that job; nobody changes it.  Whether what it names has ended is always looked up and never counted.  A job of which
 * something that it depends on has not ended is pending (pending.h).
 *
 * Nobody who enqueues or ends a job can tell for sure whether another one may go now, because others enqueue and end
 * at the same time.  So each leaves a reminder (shared/reminder.h), and one process looks: the scheduler, or where
 * none is, whoever fetches (job/depend.c).  Two looks, both dirty, make sure that none is missing:
 *
 * - who enqueues inserts the rows first, tells shared/awaited.h, and looks at the jobs that they name then;
 * - who ends a job deletes it first, and looks for rows that name it then.
 *
 * So one of the two sees the other.  Who enqueues waits for nobody: a job that an open transaction is just ending
 * counts as live for the moment, and the reminder of the enqueue has it looked at again until that is decided.
 *
 * What others depend on is kept when it ends, whatever its queue keeps, because they need its result and how it ended:
 * for an hour at least, and retention passes on what is still needed then.
 *
 * Locks: RowExclusiveLock on dependency, to the end of the transaction.
 */
#include "job/dependency.h"

#include "config/lines.h"
#include "config/owner.h"
#include "job/missing.h"
#include "job/pending.h"
#include "job/place.h"
#include "job/remind.h"
#include "job/workflow.h"
#include "shared/awaited.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define TOLD_EACH 4				/* dependents of a job that completes: of more, the job itself is told */
#define READ_AHEAD 256			/* rows of jobs that may end next, here or in other executors */
#define DELETED_AT_ONCE 64		/* rows of a job that ends; of more, the sweep takes care */

/* The columns of dependency.  Later versions only append. */
enum
{
	COL_JOB_ID = 1, COL_DEPENDS_ON, COL_WORKFLOW, NCOLS = COL_WORKFLOW
};

/* The table, open, and a scan of it. */
typedef struct QueueDependencies
{
	Relation	rel;
	Relation	by_job;			/* index (job_id, depends_on) */
	Relation	by_other;		/* index (depends_on, job_id) */
	TupleTableSlot *slot;
	IndexScanDesc scan;			/* NULL: none */
	bool		of_job;			/* the scan is one of by_job */
	int64		seen;			/* a job of which the scan has seen a row; 0: none */

	/* rows that name the jobs from `from` to `to`, all that there were when so many had been told of (awaited.h) */
	int64		from, to;
	uint64		added;
	int			room;			/* for how many was asked; 0: only for those of one job */
	int			used;			/* jobs that needed no look of their own */
	int			nahead;
	struct
	{
		int64		depends_on, job_id;
	}			ahead[READ_AHEAD];
} QueueDependencies;

static struct
{
	int64	   *ids;
	int			n;
	int			size;
}			doomed;

/* Called by queue_job_close. */
static void
close_of(QueueJobTable *jobs)
{
	QueueDependencies *rows = jobs->dependencies;

	queue_dependency_end_scan(jobs);
	ExecDropSingleTupleTableSlot(rows->slot);
	index_close(rows->by_other, NoLock);
	index_close(rows->by_job, NoLock);
	table_close(rows->rel, NoLock);
	jobs->dependencies = NULL;
}

static QueueDependencies *
rows_of(QueueJobTable *jobs)
{
	if (jobs->dependencies == NULL)
	{
		LOCKMODE	lockmode = jobs->lockmode;
		ResourceOwner owner = CurrentResourceOwner;
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(jobs));
		QueueDependencies *rows = palloc0(sizeof(QueueDependencies));

		CurrentResourceOwner = jobs->owner;
		rows->rel = table_open(queue_config()->dependency, lockmode);
		rows->by_job = index_open(queue_config()->dependency_job, lockmode);
		rows->by_other = index_open(queue_config()->dependency_other, lockmode);
		rows->slot = table_slot_create(rows->rel, NULL);
		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(old);
		jobs->dependencies = rows;
		jobs->close_dependencies = close_of;
	}
	return jobs->dependencies;
}

/* ---------------------------------------------------------------- reading */

static void
begin_scan(QueueJobTable *jobs, bool of_job, ScanKeyData *keys, int nkeys, Snapshot snapshot)
{
	QueueDependencies *rows = rows_of(jobs);

	queue_dependency_end_scan(jobs);
	rows->scan = queue_index_beginscan(rows->rel, of_job ? rows->by_job : rows->by_other, snapshot, nkeys);
	rows->scan->xs_want_itup = true;
	rows->of_job = of_job;
	rows->seen = 0;
	index_rescan(rows->scan, keys, nkeys, NULL, 0);
}

/* Begins a scan for an id; the other column is less or greater than a bound. */
static void
scan(QueueJobTable *jobs, int64 id, bool of_job, StrategyNumber strategy, int64 bound, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	ScanKeyInit(&keys[1], 2, strategy, strategy == BTLessStrategyNumber ? F_INT8LT : F_INT8GT, Int64GetDatum(bound));
	begin_scan(jobs, of_job, keys, 2, snapshot);
}

void
queue_dependency_scan(QueueJobTable *jobs, int64 id, bool of_job, int64 after, Snapshot snapshot)
{
	scan(jobs, id, of_job, BTGreaterStrategyNumber, after, snapshot);
}

void
queue_dependency_scan_below(QueueJobTable *jobs, int64 id, int64 below, Snapshot snapshot)
{
	scan(jobs, id, true, BTLessStrategyNumber, below, snapshot);
}

/*
 * The next row of the scan: job_id depends on depends_on.  The index has both, and the table is asked whether the first
 * row of a job is visible: then all are, because they are inserted together and deleted only when the job is over.
 */
static bool
step(QueueJobTable *jobs, ScanDirection direction, int64 *job_id, int64 *depends_on)
{
	QueueDependencies *rows = jobs->dependencies;

	while (index_getnext_tid(rows->scan, direction) != NULL)
	{
		bool		isnull;
		int64		first = DatumGetInt64(index_getattr(rows->scan->xs_itup, 1, rows->scan->xs_itupdesc, &isnull));
		int64		second = DatumGetInt64(index_getattr(rows->scan->xs_itup, 2, rows->scan->xs_itupdesc, &isnull));

		*job_id = rows->of_job ? first : second;
		*depends_on = rows->of_job ? second : first;
		if (rows->seen == *job_id)
			return true;
		CHECK_FOR_INTERRUPTS();
		if (index_fetch_heap(rows->scan, rows->slot))
		{
			rows->seen = *job_id;
			return true;
		}
	}
	return false;
}

bool
queue_dependency_next(QueueJobTable *jobs, int64 *other)
{
	int64		job_id;
	int64		depends_on;
	bool		found = step(jobs, ForwardScanDirection, &job_id, &depends_on);

	if (found)
		*other = jobs->dependencies->of_job ? depends_on : job_id;
	return found;
}

bool
queue_dependency_previous(QueueJobTable *jobs, int64 *other)
{
	int64		job_id;

	return step(jobs, BackwardScanDirection, &job_id, other);
}

void
queue_dependency_end_scan(QueueJobTable *jobs)
{
	QueueDependencies *rows = jobs->dependencies;

	if (rows == NULL)
		return;
	ExecClearTuple(rows->slot);
	if (rows->scan != NULL)
		index_endscan(rows->scan);
	rows->scan = NULL;
}

int64
queue_dependency_next_job(QueueJobTable *jobs, int64 after, Snapshot snapshot)
{
	ScanKeyData key;
	int64		job;
	int64		depends_on;

	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	begin_scan(jobs, true, &key, 1, snapshot);
	if (!step(jobs, ForwardScanDirection, &job, &depends_on))
		job = 0;
	queue_dependency_end_scan(jobs);
	return job;
}

bool
queue_dependency_has_rows(QueueJobTable *jobs, int64 id)
{
	int64		other;
	bool		has;

	queue_dependency_scan(jobs, id, true, PG_INT64_MIN, GetActiveSnapshot());
	has = queue_dependency_next(jobs, &other);
	queue_dependency_end_scan(jobs);
	return has;
}

bool
queue_dependency_none(void)
{
	Relation	rel = table_open(queue_config()->dependency, AccessShareLock);
	bool		none = RelationGetNumberOfBlocks(rel) == 0;

	table_close(rel, AccessShareLock);
	return none;
}

bool
queue_dependency_needed(QueueJobTable *jobs, int64 id)
{
	bool		needed = false;
	int64		dependent;

	if (!queue_awaited_maybe(id))
		return false;
	queue_dependency_scan(jobs, id, false, PG_INT64_MIN, GetActiveSnapshot());
	while (!needed && queue_dependency_next(jobs, &dependent))
	{
		QueueJob	job;

		CHECK_FOR_INTERRUPTS();
		needed = queue_job_peek(jobs, dependent, GetActiveSnapshot(), &job);
	}
	queue_dependency_end_scan(jobs);
	return needed;
}

/* What a version of a job's row that a dirty snapshot showed says about it; *decided: the others do not matter. */
static QueueDependencyState
judge_version(TupleTableSlot *slot, const SnapshotData *dirty, bool *decided)
{
	bool		shouldFree;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldFree);
	HeapTupleHeader header = tuple->t_data;
	QueueDependencyState state = QUEUE_DEPENDENCY_CHANGING;

	*decided = false;
	if (TransactionIdIsValid(dirty->xmin))
	{
		/* a new version that its transaction has not deleted: what follows comes later than this look */
		*decided = (header->t_infomask & HEAP_UPDATED) != 0 &&
			((header->t_infomask & HEAP_XMAX_INVALID) != 0 || HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
		if ((header->t_infomask & HEAP_UPDATED) == 0)
			state = QUEUE_DEPENDENCY_COMING;
	}
	else if (!TransactionIdIsValid(dirty->xmax))
		*decided = true;
	if (*decided)
		state = QUEUE_DEPENDENCY_LIVE;
	if (shouldFree)
		heap_freetuple(tuple);
	return state;
}

QueueDependencyState
queue_dependency_look(QueueJobTable *jobs, int64 id, TransactionId *changer)
{
	QueueDependencyState state = QUEUE_DEPENDENCY_ENDED;
	bool		decided = false;
	bool		coming = false;
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData key;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = queue_index_beginscan(jobs->rel, queue_job_pkey(jobs), &dirty, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	*changer = InvalidTransactionId;
	while (!decided && index_getnext_slot(scan, ForwardScanDirection, jobs->slot))
	{
		state = judge_version(jobs->slot, &dirty, &decided);
		coming |= state == QUEUE_DEPENDENCY_COMING;
		*changer = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
	}
	ExecClearTuple(jobs->slot);
	index_endscan(scan);
	return coming ? QUEUE_DEPENDENCY_COMING : state;	/* whatever else that transaction did to it */
}

bool
queue_dependency_spoilt(int64 *ids, int *n, TimestampTz after, QueueFinished *finished)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());	/* they ended before this */
	bool		bad = queue_finished_bad(ids, n, after, snapshot, finished);

	UnregisterSnapshot(snapshot);
	return bad;
}

/* ---------------------------------------------------------------- jobs come and go */

static int
by_id(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* 42501 unless the role holds any privilege on the queue. */
static void
check_right(Oid role, const char *queue, int64 id)
{
	static const int privileges[] = {QUEUE_PRIV_ENQUEUE, QUEUE_PRIV_READ, QUEUE_PRIV_WORK, QUEUE_PRIV_MANAGE};

	for (int i = 0; i < lengthof(privileges); i++)
	{
		if (queue_may(role, queue, privileges[i]))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" holds no privilege on the queue of job " INT64_FORMAT, GetUserNameFromId(role, false),
					id),
			 errhint("A job may depend on jobs of queues on which its creator holds any privilege.")));
}

int
queue_dependency_check(int64 *ids, int n, Oid creator)
{
	QueueJobTable *jobs;
	int64		last;
	int			left;

	if (n == 0)
		return 0;
	qsort(ids, n, sizeof(int64), by_id);
	left = qunique(ids, n, sizeof(int64), by_id);
	last = queue_missing_last_id();
	if (ids[0] <= 0 || ids[left - 1] > last)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("depends_on names job " INT64_FORMAT ", which was never enqueued", ids[0] <= 0 ? ids[0] :
						ids[left - 1]),
				 errhint("Give ids that queue.enqueue returned.")));
	jobs = queue_job_open(RowExclusiveLock);
	for (int i = 0; i < left; i++)
	{
		SnapshotData dirty;
		QueueJob	job;
		QueueFinished finished;
		Snapshot	snapshot;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(dirty);
		if (queue_job_peek(jobs, ids[i], &dirty, &job))
		{
			check_right(creator, queue_job_line(job.line)->queue->name, ids[i]);
			continue;
		}
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		if (queue_finished_peek(ids[i], snapshot, &finished))
			check_right(creator, finished.queue, ids[i]);
		UnregisterSnapshot(snapshot);
	}
	queue_job_close(jobs);
	return left;
}

static void
doom(int64 id)
{
	if (doomed.n == doomed.size)
	{
		int			size = Max(16, doomed.size * 2);

		doomed.ids = doomed.ids == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(int64)) :
			repalloc_huge(doomed.ids, size * sizeof(int64));
		doomed.size = size;
	}
	doomed.ids[doomed.n++] = id;
}

int
queue_dependency_doomed(int64 **ids)
{
	int			n = doomed.n;

	*ids = doomed.ids;
	doomed.n = 0;
	return n;
}

/* Is a job blocked by what it depends on?  *spoilt: one of those ended so that it must not run. */
static bool
is_blocked(QueueJobTable *jobs, const QueueJob *job, QueueDependsMode mode, bool *spoilt)
{
	bool		blocked = false;
	TimestampTz forgiven = queue_extra_time(job->extra, "retried_at");
	TransactionId changer;
	int64		other;
	SnapshotData dirty;

	*spoilt = false;
	InitDirtySnapshot(dirty);	/* this very command inserted rows */
	queue_dependency_scan(jobs, job->id, true, PG_INT64_MIN, &dirty);
	while (queue_dependency_next(jobs, &other))
	{
		QueueFinished finished;
		int			one = 1;

		CHECK_FOR_INTERRUPTS();
		if (queue_dependency_look(jobs, other, &changer) != QUEUE_DEPENDENCY_ENDED)
			blocked = true;
		else if (mode == QUEUE_DEPENDS_COMPLETED)
			*spoilt |= queue_dependency_spoilt(&other, &one, forgiven, &finished);
	}
	queue_dependency_end_scan(jobs);
	return blocked;
}

/* Inserts the rows of one job. */
static void
insert_rows(const QueueJob *job)
{
	QueueInserter inserter;
	int64		workflow = queue_extra_int(job->extra, "workflow");

	queue_inserter_open(&inserter, queue_config()->dependency);
	for (int i = 0; i < job->ndepends; i++)
	{
		Datum		values[NCOLS] = {[COL_JOB_ID - 1] = Int64GetDatum(job->id),
									 [COL_DEPENDS_ON - 1] = Int64GetDatum(job->depends_on[i]),
									 [COL_WORKFLOW - 1] = Int64GetDatum(workflow)};

		queue_inserter_put(&inserter, values, workflow != 0 ? NCOLS : NCOLS - 1);
	}
	queue_inserter_close(&inserter);
	for (int i = 0; i < job->ndepends; i++)
		queue_awaited_add(job->depends_on[i]);
}

void
queue_dependency_insert(QueueJobTable *jobs, QueueJob *new, int n)
{
	for (int i = 0; i < n; i++)
	{
		QueueJob   *job = &new[i];
		QueueDependsMode mode = queue_extra_int(job->extra, "depends_mode");
		QueueExtra	extra;
		bool		spoilt;

		if (mode == QUEUE_DEPENDS_NOT)
			continue;
		if (job->ndepends > 0)
			insert_rows(job);
		if (!is_blocked(jobs, job, mode, &spoilt) && !spoilt)
			continue;
		if (spoilt)
			doom(job->id);
		queue_job_remind(QUEUE_REMIND_DEPENDENT, job->id);
		queue_extra_unpack(job->extra, &extra);
		queue_job_hold(job, &extra, QUEUE_BLOCK_DEPENDENCY);
		job->extra = queue_extra_pack(&extra);
	}
}

/* Deletes the rows of a job that ended and is not kept; a few. */
static void
delete_rows(QueueJobTable *jobs, int64 id)
{
	QueueDependencies *rows;
	int64		other;
	int			n = 0;

	PushActiveSnapshot(GetLatestSnapshot());
	queue_dependency_scan(jobs, id, true, PG_INT64_MIN, GetActiveSnapshot());
	rows = jobs->dependencies;
	while (n++ < DELETED_AT_ONCE && queue_dependency_next(jobs, &other))
	{
		TM_FailureData tmfd;

		(void) table_tuple_delete(rows->rel, &rows->scan->xs_heaptid, GetCurrentCommandId(true), GetActiveSnapshot(),
								  InvalidSnapshot, false, &tmfd, false);
	}
	queue_dependency_end_scan(jobs);
	PopActiveSnapshot();
}

/*
 * Reads the rows that name this job, of open transactions too, at most TOLD_EACH + 1.  Who ends a second job in this
 * transaction is likely to go on upwards: then the rows of the next jobs are read with it, the more the better it went.
 */
static void
read_ahead(QueueJobTable *jobs, int64 id)
{
	QueueDependencies *rows = rows_of(jobs);
	SnapshotData dirty;
	ScanKeyData key;

	if (rows->used > 0)
		rows->room = Min(rows->room * 4, READ_AHEAD);
	else
		rows->room = rows->room == 0 && rows->from != 0 && id > rows->from ? READ_AHEAD / 8 : 0;
	rows->used = 0;
	rows->added = queue_awaited_added();
	rows->from = id;
	rows->to = rows->room == 0 ? id : PG_INT64_MAX;
	rows->nahead = 0;
	InitDirtySnapshot(dirty);
	if (rows->room == 0)
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	else
		ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(id));
	begin_scan(jobs, false, &key, 1, &dirty);
	while (rows->nahead < Max(rows->room, TOLD_EACH + 1) &&
		   step(jobs, ForwardScanDirection, &rows->ahead[rows->nahead].job_id, &rows->ahead[rows->nahead].depends_on))
		rows->nahead++;
	queue_dependency_end_scan(jobs);
	/* of the last one there may be more, but of this one as many as anybody asks for are there */
	if (rows->room > 0 && rows->nahead == rows->room)
		rows->to = Max(id, rows->ahead[rows->nahead - 1].depends_on - 1);
}

/*
 * The jobs that depend on one that this transaction has deleted, at most TOLD_EACH + 1: how many.  Rows that were read
 * before the delete are as good as a look now, if nobody has inserted any in between: who inserts some later finds the
 * job just being ended.
 */
static int
dependents_of(QueueJobTable *jobs, int64 id, int64 *dependents)
{
	QueueDependencies *rows = jobs->dependencies;
	int			low = 0;
	int			high;
	int			n = 0;

	if (rows == NULL || id < rows->from || id > rows->to || rows->added == PG_UINT64_MAX ||
		rows->added != queue_awaited_added())
		read_ahead(jobs, id);
	else
		rows->used++;
	rows = jobs->dependencies;
	high = rows->nahead;
	while (low < high)			/* the first row that names it, or a later job */
	{
		int			middle = (low + high) / 2;

		if (rows->ahead[middle].depends_on < id)
			low = middle + 1;
		else
			high = middle;
	}
	for (int i = low; i < rows->nahead && rows->ahead[i].depends_on == id && n <= TOLD_EACH; i++)
		dependents[n++] = rows->ahead[i].job_id;
	return n;
}

bool
queue_dependency_ended(QueueJobTable *jobs, const QueueJob *job, QueueState to, int64 kept)
{
	int64		dependents[TOLD_EACH + 1];
	int			n = 0;

	/* that there are no rows needs no look, unless the table is open already */
	if (queue_awaited_maybe(job->id) && (jobs->dependencies != NULL || !queue_dependency_none()))
		n = dependents_of(jobs, job->id, dependents);
	if (n > 0 && to != QUEUE_STATE_COMPLETED)
		queue_job_remind(QUEUE_REMIND_ENDED, job->id);
	else if (n > TOLD_EACH)
		queue_job_remind(QUEUE_REMIND_COMPLETED, job->id);
	else
	{
		/* one that waits for many is told once a transaction */
		for (int i = 0; i < n; i++)
			queue_job_remind_less(dependents[i], job->id);
	}
	if (n == 0 && kept == 0 && queue_extra_int(job->extra, "depends_mode") != QUEUE_DEPENDS_NOT &&
		queue_extra_int(job->extra, "workflow") == 0)
		delete_rows(jobs, job->id);
	return n > 0;
}

/* ---------------------------------------------------------------- the sweep */

/* Is anything known of this job or its workflow (0: none), under the active snapshot? */
static bool
is_known(QueueJobTable *jobs, int64 id, int64 workflow)
{
	QueueJob	job;
	QueueFinished finished;

	return queue_job_peek(jobs, id, GetActiveSnapshot(), &job) ||
		queue_finished_peek(id, GetActiveSnapshot(), &finished) ||
		(workflow != 0 && queue_workflow_known(workflow));
}

bool
queue_dependency_sweep(BlockNumber *block, int nblocks)
{
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	Relation	rel = rows_of(jobs)->rel;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "queue dependencies", ALLOCSET_SMALL_SIZES);
	BlockNumber all = RelationGetNumberOfBlocks(rel);
	BlockNumber last = Min(all, *block + nblocks);
	int64		known = 0;		/* the job of the row before: rows of one lie together */

	if (*block == 0)
		queue_awaited_begin();
	PushActiveSnapshot(GetLatestSnapshot());
	if (*block < last)
	{
		ItemPointerData low;
		ItemPointerData high;
		SnapshotData dirty;
		TableScanDesc scan;
		MemoryContext old;

		InitDirtySnapshot(dirty);
		ItemPointerSet(&low, *block, FirstOffsetNumber);
		ItemPointerSet(&high, last - 1, MaxOffsetNumber);
		scan = table_beginscan_tidrange(rel, &dirty, &low, &high);
		old = MemoryContextSwitchTo(per_row);
		while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
		{
			bool		isnull;
			int64		job = DatumGetInt64(slot_getattr(slot, COL_JOB_ID, &isnull));
			Datum		of_workflow = slot_getattr(slot, COL_WORKFLOW, &isnull);
			int64		workflow = isnull ? 0 : DatumGetInt64(of_workflow);
			bool		open = TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);
			TM_FailureData tmfd;

			CHECK_FOR_INTERRUPTS();
			if (!open && job != known && table_tuple_satisfies_snapshot(rel, slot, GetActiveSnapshot()) &&
				!is_known(jobs, job, workflow) && queue_missing_gone(job))
				(void) table_tuple_delete(rel, &slot->tts_tid, GetCurrentCommandId(true), GetActiveSnapshot(),
										  InvalidSnapshot, false, &tmfd, false);
			else
			{
				if (!open)
					known = job;
				queue_awaited_put(DatumGetInt64(slot_getattr(slot, COL_DEPENDS_ON, &isnull)));
			}
			MemoryContextReset(per_row);
		}
		MemoryContextSwitchTo(old);
		table_endscan(scan);
	}
	PopActiveSnapshot();
	MemoryContextDelete(per_row);
	ExecDropSingleTupleTableSlot(slot);
	queue_job_close(jobs);
	*block = last;
	if (last < all)
		return false;
	queue_awaited_end();
	return true;
}
