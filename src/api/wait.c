/*
 * wait.c
 *		Waiting for a job's end: wait_for and result.
 *
 * A final state is told only if it is known: the row is kept in finished_job, or shared memory remembers how the job
 * ended (api/recent.h).  A job of which neither says anything is gone or never was, and the answer is null.
 *
 * Locks: AccessShareLock on live_job and on partitions of finished_job.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/recent.h"
#include "job/claim.h"
#include "job/finish.h"
#include "job/finished.h"
#include "shared/clock.h"
#include "shared/end_waiter.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define GRACE_MS 1000			/* for the word of a commit whose effect is seen already */

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
		bool		woken = wait > 0 && queue_end_waiter_register(id);
		bool		seen = false;	/* it was there, so its end is told or about to be */

		for (;;)
		{
			MemoryContext old;
			long		left;

			ResetLatch(MyLatch);
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
			{
				seen = true;
				left = (long) Min((deadline - now) / 1000 + 1, 3600000);
			}
			else if (look->state == QUEUE_STATE_NONE && !look->purged && seen && woken)
			{
				/* the commit took effect, and the committer is about to say how the job ended */
				seen = false;
				left = GRACE_MS;
			}
			else
				break;
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
