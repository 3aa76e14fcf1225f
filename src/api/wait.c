/*
 * wait.c
 *		Waiting for a job's end: wait_for and result; for a queue that has nothing to do: await_idle.
 *
 * A final state is told only if it is known: the row is kept in finished_job, or shared memory remembers how the job
 * ended (api/recent.h).  A job of which neither says anything is gone or never was, and the answer is null.
 *
 * A queue is idle when none of its rows is due: a job that runs keeps its row, and its run_at, until the end is
 * committed. The cursors do not serve here, because they pass what somebody has claimed.  So await_idle remembers where
 * it saw a due job and looks there first; only when that one is gone it looks at all lines.  Commits that end a job of
 * the queue, or put one off, wake it.
 *
 * Locks: AccessShareLock on live_job and on partitions of finished_job.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/recent.h"
#include "api/sleep.h"
#include "config/lines.h"
#include "job/claim.h"
#include "job/depend.h"
#include "job/finish.h"
#include "job/finished.h"
#include "job/group.h"
#include "job/pending.h"
#include "job/place.h"
#include "shared/clock.h"
#include "shared/end_waiter.h"
#include "shared/ended.h"
#include "shared/mark.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define IDLE_PAUSE_MIN_US INT64CONST(1000)	/* between two looks of await_idle */
#define IDLE_PAUSE_MAX_US INT64CONST(100000)
#define GROUPS_AT_ONCE 64
#define GRACE_US (10 * USECS_PER_SEC)	/* for the word of a commit whose effect is seen already */

/* What is known of a job by id. */
typedef struct Look
{
	bool		live;
	bool		own;			/* this transaction, still open, enqueued or changed it */
	bool		purged;			/* its row was deleted without an end */
	QueueState	state;			/* NONE: nothing is known, or the caller may not read it */
	bool		keeps_results;	/* its queue keeps completed jobs */
	Jsonb	   *result;
} Look;

/* Looks at a job with the caller's eyes, in one snapshot. */
static void
look_at(int64 id, Look *look)
{
	QueueJobTable *table = queue_job_open(AccessShareLock);
	Snapshot	snapshot = queue_finish_snapshot();
	QueueJob	job;
	QueueFinished finished;
	QueueRecentJob ended;

	memset(look, 0, sizeof(*look));
	if (queue_job_find_lean(table, id, snapshot, &job))
	{
		QueueLine  *line = queue_job_line(job.line);

		look->live = queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ);
		if (look->live)
		{
			look->own = queue_job_row_own(table, &job);
			look->keeps_results = line->queue->keep_completed > 0;
			look->state = queue_claim_holder(id, job.leased_until, queue_now()) != QUEUE_HELD_BY_NOBODY ?
				QUEUE_STATE_RUNNING : queue_job_state(&job, queue_now());
		}
	}
	else if (queue_finished_find(id, snapshot, &finished))
	{
		if (queue_may(GetUserId(), finished.queue, QUEUE_PRIV_READ))
		{
			look->keeps_results = true;
			look->state = finished.state;
			look->result = finished.result;
		}
	}
	else if (queue_recent_job(id, &ended))
	{
		look->state = ended.recent.state;
		look->purged = look->state == QUEUE_STATE_NONE;
	}
	PopActiveSnapshot();
	queue_job_close(table);
}

static void
unregister_waiter(int code, Datum arg)
{
	queue_end_waiter_unregister();
}

/*
 * Looks at the job until it has ended or `wait` microseconds have passed.  The commit
 * that ends it wakes us; without a place among the waiters we look every 100 ms.
 */
static void
wait_for_end(int64 id, int64 wait, Look *look)
{
	TimestampTz now = queue_now();
	TimestampTz deadline = now + wait;
	TimestampTz patience = DT_NOEND;
	uint32	   *committers = NULL;	/* who just committed ends when the job was found gone */
	MemoryContext context;

	if (wait > 0 && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("waiting for a job needs READ COMMITTED"),
				 errhint("This transaction's snapshot would never see the job's end.")));
	CommandCounterIncrement();	/* wait_for(enqueue(..)) in one statement */
	context = AllocSetContextCreate(CurrentMemoryContext, "queue wait", ALLOCSET_SMALL_SIZES);
	PG_ENSURE_ERROR_CLEANUP(unregister_waiter, (Datum) 0);
	{
		bool		woken = wait > 0 && queue_end_waiter_register(id, 0);

		for (;;)
		{
			bool		told = committers != NULL && queue_ended_told(committers);
			MemoryContext old;
			long		left;

			ResetLatch(MyLatch);
			(void) queue_woken();
			CHECK_FOR_INTERRUPTS();
			MemoryContextReset(context);
			old = MemoryContextSwitchTo(context);
			look_at(id, look);
			MemoryContextSwitchTo(old);
			if (look->live && look->own)
				ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
								errmsg("job " INT64_FORMAT
									   " was enqueued or changed by this transaction, which has not committed",
									   id),
								errhint("Commit first, then wait: nobody else can see the job before.")));
			now = queue_now();
			if (look->live && now < deadline)
				left = (long) Min((deadline - now) / 1000 + 1, 3600000);
			else if (look->state != QUEUE_STATE_NONE || look->purged || told || now >= patience)
				break;
			else if (committers != NULL)
				left = 1;
			else
			{
				/* a commit may have taken effect whose committer is about to say how the job ended */
				committers = queue_ended_committers();
				patience = now + GRACE_US;
				continue;
			}
			if (!queue_woken())
				(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 woken ? left : Min(left, 100), queue_wait_event("QueueJobEnd"));
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(unregister_waiter, (Datum) 0);
	queue_end_waiter_unregister();
	if (look->result != NULL)
		look->result = (Jsonb *) PG_DETOAST_DATUM_COPY(JsonbPGetDatum(look->result));
	MemoryContextDelete(context);
}

/* In microseconds, at most queue.max_wait. */
static int64
wait_argument(FunctionCallInfo fcinfo)
{
	return Min(queue_arg_wait(fcinfo, 1), (int64) queue_max_wait * 1000);
}

PG_FUNCTION_INFO_V1(queue_sql_wait_for);
/* queue.wait_for(job_id, wait) -> text */
Datum
queue_sql_wait_for(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	Look		look;

	wait_for_end(id, wait_argument(fcinfo), &look);
	if (look.state == QUEUE_STATE_NONE)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(queue_state_names[look.state]));
}

PG_FUNCTION_INFO_V1(queue_sql_result);
/* queue.result(job_id, wait) -> jsonb */
Datum
queue_sql_result(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	int64		wait = wait_argument(fcinfo);
	Look		look;

	wait_for_end(id, 0, &look);
	if (!look.keeps_results && look.state != QUEUE_STATE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the queue of job " INT64_FORMAT " keeps no results", id),
				 errhint("Set keep_completed with queue.alter_queue before the job runs.")));
	if (look.live && wait > 0)
		wait_for_end(id, wait, &look);
	if (look.result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(look.result);
}

/* ---- await_idle ---- */

/* Where a due job was seen last. */
typedef struct Due
{
	int64		line;			/* 0: nowhere yet */
	QueuePos	pos;
} Due;

/* Has the line a row that is due, at or behind pos?  The first one becomes *due. */
static bool
due_in_line(QueueJobTable *table, int64 line, QueuePos pos, TimestampTz now, Snapshot snapshot, Due *due)
{
	ScanKeyData keys[3];
	IndexScanDesc scan;
	bool		found = false;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMP_GE, TimestampTzGetDatum(pos.run_at));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_TIMESTAMP_LE, TimestampTzGetDatum(now));
	scan = queue_index_beginscan(table->rel, queue_job_ready(table), snapshot, 3);
	index_rescan(scan, keys, 3, NULL, 0);
	while (!found && index_getnext_slot(scan, ForwardScanDirection, table->slot))
	{
		QueueJob	job;

		CHECK_FOR_INTERRUPTS();
		queue_job_read(table->slot, &job, false);
		found = queue_pos_cmp(queue_job_pos(&job), pos) >= 0;
		if (found)
			*due = (Due) {line, queue_job_pos(&job)};
	}
	ExecClearTuple(table->slot);
	index_endscan(scan);
	return found;
}

/* Is there a job of the queue that waits for nothing any more, and is not let in yet? */
static bool
dependent_is_due(QueueJobTable *table, const char *name, Snapshot snapshot)
{
	int64		at = PG_INT64_MIN;
	bool		found = false;

	PushActiveSnapshot(snapshot);
	while (!found && (at = queue_dependency_next_job(table, at, snapshot)) != 0)
	{
		QueueJob	job;
		QueueExtra	extra;

		CHECK_FOR_INTERRUPTS();
		if (!queue_job_find_lean(table, at, snapshot, &job) || !queue_job_pending(&job) ||
			strcmp(queue_job_line(job.line)->queue->name, name) != 0)
			continue;
		queue_extra_unpack(job.extra, &extra);
		found = extra.blocks == QUEUE_BLOCK_DEPENDENCY && queue_job_asked(&job, &extra) <= queue_now() &&
			queue_depend_waits_for(table, at) == 0;
	}
	PopActiveSnapshot();
	return found;
}

/*
 * Is there a group of the queue whose head has ended, and the next job is not let in yet?  In a subtransaction that is
 * rolled back, which lets the locks go.
 */
static bool
promotion_is_due(QueueJobTable *table, const char *name, Snapshot snapshot)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	QueueGroupFront *fronts = palloc(GROUPS_AT_ONCE * sizeof(QueueGroupFront));
	char		key[QUEUE_KEY_MAX + 1] = "";
	bool		found = false;
	int			n;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	do
	{
		n = queue_places_groups(name, key, fronts, GROUPS_AT_ONCE, snapshot);
		for (int i = 0; i < n && !found; i++)
		{
			bool		held;
			int64		head;
			QueueJob	job;
			QueueExtra	extra;

			CHECK_FOR_INTERRUPTS();
			if (strcmp(fronts[i].queue, name) != 0)
			{
				n = 0;			/* and so are all behind it */
				break;
			}
			strlcpy(key, fronts[i].key, sizeof(key));
			head = queue_group_head(table, name, key, snapshot, &held);
			if (head == 0 || held || !queue_job_find_lean(table, head, snapshot, &job) || !queue_job_pending(&job) ||
				!queue_job_find(table, head, snapshot, &job))
				continue;
			queue_extra_unpack(job.extra, &extra);
			found = extra.blocks == QUEUE_BLOCK_GROUP && queue_job_asked(&job, &extra) <= queue_now();
		}
	} while (n == GROUPS_AT_ONCE && !found);
	found = found || dependent_is_due(table, name, snapshot);
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return found;
}

/* Has the queue a job that is due or runs, or will be due as soon as it is let in?  Leaves no relation lock behind. */
static bool
queue_has_due(const char *queue, Due *due)
{
	QueueJobTable *table = queue_job_open(AccessShareLock);
	Snapshot	snapshot;
	TimestampTz now = queue_now();
	QueueLine **lines;
	int			nlines;
	bool		found;

	queue_require(queue, QUEUE_PRIV_READ);
	lines = queue_lines_of(queue_config_queue(queue, false), &nlines);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = due->line != 0 && due_in_line(table, due->line, due->pos, now, snapshot, due);
	for (int i = 0; i < nlines && !found; i++)
		found = due_in_line(table, lines[i]->id, (QueuePos) {DT_NOBEGIN, 0}, now, snapshot, due);
	if (!found && nlines > 0)
		found = promotion_is_due(table, queue, snapshot);
	UnregisterSnapshot(snapshot);
	queue_job_release(table);
	return found;
}

PG_FUNCTION_INFO_V1(queue_sql_await_idle);
/* CALL queue.await_idle(queue, wait, INOUT idle) */
Datum
queue_sql_await_idle(PG_FUNCTION_ARGS)
{
	char	   *queue = queue_arg_text(fcinfo, 0, "queue");
	int64		wait = PG_ARGISNULL(1) ? USECS_PER_MINUTE : queue_arg_wait(fcinfo, 1);
	TimestampTz deadline = queue_time_add(queue_now(), wait);
	Due			due = {0};
	MemoryContext context;
	TupleDesc	desc;
	Datum		value;
	bool		null = false;
	bool		idle;

	queue_sleep_check_procedure(fcinfo, "queue.await_idle",
								"CALL it by itself with autocommit on, or look at queue.stat_queue.");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "queue.await_idle must return a row");
	context = AllocSetContextCreate(CurrentMemoryContext, "queue await_idle", ALLOCSET_SMALL_SIZES);
	PG_ENSURE_ERROR_CLEANUP(unregister_waiter, (Datum) 0);
	{
		bool		woken = queue_end_waiter_register(0, queue_name_hash(queue));

		for (;;)
		{
			TimestampTz began = queue_now();
			MemoryContext old = MemoryContextSwitchTo(context);
			TimestampTz next;

			EnsurePortalSnapshotExists();
			idle = !queue_has_due(queue, &due);
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);
			if (idle || queue_now() >= deadline)
				break;
			queue_sleep_no_snapshot();
			/* many commits wake us while there is much to do: so a pause, the longer the more a look costs */
			next = queue_now() + Min(Max(4 * (queue_now() - began), IDLE_PAUSE_MIN_US), IDLE_PAUSE_MAX_US);
			queue_sleep(deadline, woken, queue_wait_event("QueueIdle"));
			if (queue_now() < queue_earlier(next, deadline))
			{
				(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 TimestampDifferenceMilliseconds(queue_now(), queue_earlier(next, deadline)) + 1,
								 queue_wait_event("QueueIdle"));
				CHECK_FOR_INTERRUPTS();
			}
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(unregister_waiter, (Datum) 0);
	queue_end_waiter_unregister();
	MemoryContextDelete(context);
	value = BoolGetDatum(idle);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &null));
}
