/*
 * workflow_end.c
 *		What becomes of a workflow: it finishes when it is closed and all its jobs have ended, and its callbacks are
 *		enqueued; or, if one of them says how it is to be undone and one failed, it is compensated.
 *
 * Called by one process at a time that has taken reminders (shared/reminder.h): the scheduler, or where none is, who
 * fetches.  It locks the workflow's row FOR UPDATE, or skips it if a job is just joining, and only then looks
 * (job/workflow.c).  The state, the counts, the callbacks and the next compensation are written in one transaction, so
 * each comes once.
 *
 *		running        all completed -> completed; one discarded -> failed; else -> cancelled
 *		               compensation and one discarded, or cancelled by hand -> compensating
 *		compensating   waiting jobs are cancelled, running ones let end; then the compensations, one after the other, in
 *		               the reverse order of the ends; one that is discarded: it stays there
 *		               none left -> compensated
 *		completed, failed, cancelled   a retry of one of its jobs -> running
 *
 * In a copy that is being restored a workflow's row may be there before those of its jobs: without any it does not
 * finish, unless that row came by our functions (job/missing.h).
 *
 * A compensation whose queue was dropped leaves the workflow compensating, a callback whose queue was dropped is not
 * marked as fired; doctor() names both, and they come when there is a queue of that name again.
 *
 * One unfinished job of each workflow is remembered by the scheduler, and the search goes on from there: so the ends
 * of a batch cost linear time.  All of it is looked at before it finishes.
 *
 * Locks: the row lock of the workflow, never waited for; those of an enqueue; row locks of jobs, never waited for.
 */
#include "api/workflow_end.h"

#include "api/arguments.h"
#include "config/lines.h"
#include "job/claim.h"
#include "job/create.h"
#include "job/dependency.h"
#include "job/finish.h"
#include "job/missing.h"
#include "job/remind.h"
#include "job/workflow.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define FIRED_FINISHED 1
#define FIRED_COMPLETED 2
#define FIRED_DISCARDED 4
#define RETENTION_BATCH 100

/* A workflow's row, and what its jobs came to. */
typedef struct Flow
{
	int64		id;
	char	   *queue;
	char	   *state;
	bool		closed;
	bool		cancelled;
	int			fired;
	TimestampTz created_at;
	char	   *callbacks[3];	/* on_finished, on_completed, on_discarded; NULL: none */
	Jsonb	   *payload;
	int64		jobs, completed, discarded, ncancelled;
} Flow;

typedef struct Memory
{
	int64		id;
	int64		unfinished;		/* no job before it is */
} Memory;

static HTAB *memory = NULL;

void
queue_workflow_remember(void)
{
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Memory), .hcxt = TopMemoryContext};

	if (memory != NULL)
		hash_destroy(memory);
	memory = NULL;				/* until there is another one */
	memory = hash_create("queue workflows", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Memory *
recall(int64 id)
{
	return memory == NULL ? NULL : hash_search(memory, &id, HASH_FIND, NULL);
}

static void
remember(int64 id, int64 unfinished)
{
	Memory	   *entry;

	if (memory == NULL)
		return;
	if (unfinished == 0)
	{
		(void) hash_search(memory, &id, HASH_REMOVE, NULL);
		return;
	}
	entry = hash_search(memory, &id, HASH_ENTER, NULL);
	entry->unfinished = unfinished;
}

/* ---------------------------------------------------------------- statements about one workflow, $1 */

static uint64
run(const Flow *flow, const char *sql)
{
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(flow->id);

	return queue_spi_run(sql, 1, &type, &value, NULL);
}

static char *
text_of(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

static int64
int_of(int column)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
}

/* Locks and reads the row; false: there is none, or (*busy) somebody has it. */
static bool
read_flow(Flow *flow, bool *busy)
{
	bool		isnull;
	Datum		payload;

	*busy = false;
	if (run(flow, "SELECT queue, state, closed_at IS NOT NULL, cancelled_at IS NOT NULL, fired::bigint, on_finished,"
			" on_completed, on_discarded, payload, created_at FROM queue.workflow_base WHERE id = $1"
			" FOR UPDATE SKIP LOCKED") == 0)
	{
		*busy = run(flow, "SELECT FROM queue.workflow_base WHERE id = $1") > 0;
		return false;
	}
	flow->queue = text_of(1);
	flow->state = text_of(2);
	flow->closed = text_of(3)[0] == 't';
	flow->cancelled = text_of(4)[0] == 't';
	flow->fired = (int) int_of(5);
	for (int i = 0; i < 3; i++)
		flow->callbacks[i] = text_of(6 + i);
	payload = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 9, &isnull);
	flow->payload = (Jsonb *) PG_DETOAST_DATUM_COPY(payload);
	flow->created_at =
		DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 10, &isnull));
	return true;
}

/* Sums up what its jobs came to, all of which have ended. */
static void
count(Flow *flow)
{
	(void) run(flow, "SELECT count(*), count(*) FILTER (WHERE state = 'completed'),"
			   " count(*) FILTER (WHERE state = 'discarded') FROM queue.workflow_end"
			   " WHERE workflow = $1 AND compensates = 0");
	flow->jobs = int_of(1);
	flow->completed = int_of(2);
	flow->discarded = int_of(3);
	flow->ncancelled = flow->jobs - flow->completed - flow->discarded;
}

/* ---------------------------------------------------------------- jobs of the server's own */

/* Enqueues a job that nobody asked for just now; 0: its queue is gone. */
static int64
create(const char *queue, const char *kind, Jsonb *payload, QueueExtra *extra)
{
	QueueJob	job = {.leased_until = DT_NOBEGIN, .payload = payload, .run_at = queue_now()};

	/* the reminder of a queue that was created just now may be quicker than the news of its configuration */
	if (queue_config_queue(queue, true) == NULL)
		queue_config_invalidate();
	if (queue_config_queue(queue, true) == NULL)
		return 0;
	job.extra = queue_extra_pack(extra);
	job.line = queue_line_ensure(queue, kind, 0, NULL);
	return queue_job_create(&job);
}

/* A cancelled workflow without jobs did not complete, although all of its jobs did. */
static bool
all_completed(const Flow *flow)
{
	return flow->completed == flow->jobs && (flow->jobs > 0 || !flow->cancelled);
}

/* Enqueues the callbacks that apply and were not yet. */
static void
fire(Flow *flow)
{
	const bool	applies[3] = {true, all_completed(flow), flow->discarded > 0};

	for (int i = 0; i < 3; i++)
	{
		QueueExtra	extra = QUEUE_EXTRA_NONE;
		char	   *origin;

		if (!applies[i] || (flow->fired & (1 << i)) != 0)
			continue;
		if (flow->callbacks[i] == NULL)
		{
			flow->fired |= 1 << i;
			continue;
		}
		origin = psprintf("{\"workflow\": " INT64_FORMAT ", \"counts\": {\"jobs\": " INT64_FORMAT ", \"completed\": "
						  INT64_FORMAT ", \"discarded\": " INT64_FORMAT ", \"cancelled\": " INT64_FORMAT "}}", flow->id,
						  flow->jobs, flow->completed, flow->discarded, flow->ncancelled);
		extra.origin = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(origin)));
		if (create(flow->queue, flow->callbacks[i], flow->payload, &extra) != 0)
			flow->fired |= 1 << i;
	}
}

/* Of a workflow that has finished: the callbacks whose queue was not there. */
static void
fire_late(Flow *flow)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(flow->id)};
	int			fired = flow->fired;

	count(flow);
	fire(flow);
	values[1] = Int64GetDatum(flow->fired);
	if (flow->fired != fired)
		(void) queue_spi_run("UPDATE queue.workflow_base SET fired = $2 WHERE id = $1", 2, types, values, NULL);
}

/*
 * All has ended: writes what it came to, which is the state unless its jobs tell it (NULL).  False: a restore brought
 * its row, and those of its jobs are still to come.
 */
static bool
finish(Flow *flow, const char *state)
{
	Oid			types[7] = {INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		values[7];

	if (queue_missing_members(flow->id, flow->created_at) &&
		run(flow, "SELECT FROM queue.workflow_job WHERE workflow = $1 LIMIT 1") == 0)
		return false;
	count(flow);
	if (state == NULL)
		state = all_completed(flow) ? "completed" : flow->discarded > 0 ? "failed" : "cancelled";
	fire(flow);
	values[0] = Int64GetDatum(flow->id);
	values[1] = CStringGetTextDatum(state);
	values[2] = Int64GetDatum(flow->jobs);
	values[3] = Int64GetDatum(flow->completed);
	values[4] = Int64GetDatum(flow->discarded);
	values[5] = Int64GetDatum(flow->ncancelled);
	values[6] = Int64GetDatum(flow->fired);
	(void) queue_spi_run("UPDATE queue.workflow_base SET state = $2, finished_at = queue_internal.clock(), jobs = $3,"
						 " completed = $4, discarded = $5, cancelled = $6, fired = $7 WHERE id = $1", 7, types, values,
						 NULL);
	remember(flow->id, 0);
	return true;
}

/* ---------------------------------------------------------------- undoing */

/* Cancels one job that waits; false: somebody has it, and it is not running. */
static bool
cancel_waiting(QueueJobTable *jobs, int64 id, const char *reason, int64 *ended)
{
	Snapshot	snapshot = queue_finish_snapshot();
	QueueClaim	claim = {.table = jobs, .snapshot = snapshot};
	bool		done = true;

	if (queue_job_find_lean(jobs, id, snapshot, &claim.job) &&
		queue_claim_holder(id, claim.job.leased_until, queue_now()) == QUEUE_HELD_BY_NOBODY)
	{
		done = queue_claim_lock(&claim, false) == QUEUE_CLAIM_OURS &&
			queue_finish_end(jobs, &claim.job, claim.job.attempt, QUEUE_STATE_CANCELLED,
							 &(QueueEnding) {.error = reason}, snapshot, false) == TM_Ok;
		*ended += done;
	}
	PopActiveSnapshot();
	if (done)
		CommandCounterIncrement();
	return done;
}

bool
queue_workflow_cancel_waiting(QueueJobTable *jobs, int64 id, const char *reason, int64 *ended)
{
	MemoryContext per_job = AllocSetContextCreate(CurrentMemoryContext, "queue job", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(per_job);
	bool		all = true;
	int64		at = PG_INT64_MIN;

	while ((at = queue_workflow_unfinished(id, at)) != 0)
	{
		CHECK_FOR_INTERRUPTS();
		all = cancel_waiting(jobs, at, reason, ended) && all;
		MemoryContextReset(per_job);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(per_job);
	return all;
}

/*
 * Enqueues the compensation of the job that completed last and has none yet, unless its queue is gone.  False: none is
 * left.
 */
static bool
compensate_next(Flow *flow)
{
	Oid			types[3] = {INT8OID, INT8OID, INT8OID};
	Datum		values[3];
	QueueExtra	extra = QUEUE_EXTRA_NONE;
	bool		isnull;
	char	   *queue;
	char	   *kind;
	Jsonb	   *payload;
	int64		job;
	int64		id;

	if (run(flow, "SELECT m.job_id, m.queue, m.compensate_with, jsonb_build_object('job', m.job_id, 'kind', m.kind,"
			" 'payload', m.payload, 'result', e.result) FROM queue.workflow_end e JOIN queue.workflow_job m"
			" USING (workflow, job_id) WHERE e.workflow = $1 AND e.state = 'completed' AND m.compensate_with <> ''"
			" AND m.compensation IS NULL ORDER BY e.number DESC LIMIT 1") == 0)
		return false;
	job = int_of(1);
	queue = text_of(2);
	kind = text_of(3);
	payload = (Jsonb *)
		PG_DETOAST_DATUM_COPY(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, &isnull));
	extra.workflow = flow->id;
	extra.compensates = job;
	extra.origin = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(
		psprintf("{\"workflow\": " INT64_FORMAT ", \"compensates\": " INT64_FORMAT "}", flow->id, job))));
	id = create(queue, kind, payload, &extra);
	if (id == 0)
		return true;
	values[0] = Int64GetDatum(flow->id);
	values[1] = Int64GetDatum(job);
	values[2] = Int64GetDatum(id);
	(void) queue_spi_run("UPDATE queue.workflow_job SET compensation = $3 WHERE workflow = $1 AND job_id = $2", 3,
						 types, values, NULL);
	return true;
}

/* Begins to undo the workflow, whose jobs still wait or run. */
static void
begin_compensation(Flow *flow)
{
	(void) run(flow, "UPDATE queue.workflow_base SET state = 'compensating',"
			   " closed_at = coalesce(closed_at, queue_internal.clock()) WHERE id = $1");
	flow->state = "compensating";
}

/* Goes on with undoing.  False: to be tried again. */
static bool
compensate(QueueJobTable *jobs, Flow *flow)
{
	int64		ended = 0;

	if (!queue_workflow_cancel_waiting(jobs, flow->id, flow->cancelled ? "its workflow was cancelled" :
									   "its workflow failed", &ended))
		return false;
	if (queue_workflow_unfinished(flow->id, PG_INT64_MIN) != 0)
		return true;			/* its end reminds of it */
	/* one that runs, or ended otherwise than completed: it may be retried */
	if (run(flow, "SELECT FROM queue.workflow_job m WHERE workflow = $1 AND compensation > 0 AND NOT EXISTS"
			" (SELECT FROM queue.workflow_end e WHERE e.workflow = m.workflow AND e.job_id = m.compensation"
			" AND e.state = 'completed') LIMIT 1") > 0 ||
		compensate_next(flow))
		return true;
	return finish(flow, "compensated");
}

/* ---------------------------------------------------------------- one workflow */

/*
 * One of its jobs completed: is another one unfinished?  The end of that one reminds of the workflow, so neither its
 * row nor a statement is needed.
 */
static bool
must_wait(QueueJobTable *jobs, int64 id)
{
	Memory	   *known = recall(id);
	TransactionId changer;
	QueueDependencyState state = known == NULL ? QUEUE_DEPENDENCY_ENDED :
		queue_dependency_look(jobs, known->unfinished, &changer);
	int64		unfinished;

	/* a retry that is still open holds the workflow's row, so whoever looks at that waits for it */
	if (state == QUEUE_DEPENDENCY_LIVE || state == QUEUE_DEPENDENCY_CHANGING)
		return true;
	unfinished = queue_workflow_unfinished(id, known != NULL ? known->unfinished - 1 : PG_INT64_MIN);
	if (unfinished != 0)
		remember(id, unfinished);
	return unfinished != 0;
}

/* What queue_workflow_check does, inside SPI, as the owner. */
static bool
check(QueueJobTable *jobs, int64 id)
{
	Memory	   *known = recall(id);
	Flow		flow = {.id = id};
	int64		unfinished;
	bool		busy;

	if (!read_flow(&flow, &busy))
	{
		if (!busy)
			remember(id, 0);
		return !busy;
	}
	if (strcmp(flow.state, "running") == 0 &&
		run(&flow, "SELECT FROM queue.workflow_job WHERE workflow = $1 AND compensate_with <> '' LIMIT 1") > 0 &&
		(flow.cancelled ||
		 run(&flow, "SELECT FROM queue.workflow_end WHERE workflow = $1 AND state = 'discarded' LIMIT 1") > 0))
		begin_compensation(&flow);
	if (strcmp(flow.state, "compensating") == 0)
		return compensate(jobs, &flow);
	if (strcmp(flow.state, "running") != 0)
		fire_late(&flow);
	if (strcmp(flow.state, "running") != 0 || !flow.closed)
		return true;
	unfinished = queue_workflow_unfinished(id, known != NULL ? known->unfinished - 1 : PG_INT64_MIN);
	/* one with a lower id may have joined since */
	if (unfinished == 0 && known != NULL)
		unfinished = queue_workflow_unfinished(id, PG_INT64_MIN);
	remember(id, unfinished);
	if (unfinished != 0)
		return true;
	return finish(&flow, NULL);
}

bool
queue_workflow_check(QueueJobTable *jobs, int64 id, bool now)
{
	QueueSpi	spi;
	bool		done;

	if (!now && must_wait(jobs, id))
		return true;
	PushActiveSnapshot(GetTransactionSnapshot());	/* statements want one around them */
	queue_spi_begin(&spi);
	done = check(jobs, id);
	queue_spi_end(&spi);
	PopActiveSnapshot();
	return done;
}

int
queue_workflow_open(int64 after, int64 *ids, int max)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(after), Int64GetDatum(max)};
	QueueSpi	spi;
	int			n;

	PushActiveSnapshot(GetTransactionSnapshot());
	queue_spi_begin(&spi);
	n = (int) queue_spi_run("SELECT id FROM queue.workflow_base WHERE finished_at IS NULL AND id > $1 ORDER BY id"
							" LIMIT $2", 2, types, values, NULL);
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	queue_spi_end(&spi);
	PopActiveSnapshot();
	return n;
}

/* Reminds of the workflows whose ids a statement gave. */
static void
remind_of(uint64 n)
{
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		queue_job_remind(QUEUE_REMIND_WORKFLOW_NOW, DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
																				SPI_tuptable->tupdesc, 1, &isnull)));
	}
}

void
queue_workflow_queue_created(const char *queue)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(queue);

	remind_of(queue_spi_run_now("SELECT w.id FROM queue.workflow_base w WHERE w.queue = $1 AND "
								  QUEUE_WORKFLOW_UNFIRED " OR w.state = 'compensating' AND EXISTS"
								  " (SELECT FROM queue.workflow_job m WHERE m.workflow = w.id AND m.queue = $1"
								  " AND m.compensate_with <> '' AND m.compensation IS NULL)", 1, &type, &value, NULL));
}

void
queue_workflow_queue_dropped(const char *queue, bool force)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(queue);

	if (!force && queue_spi_run_now("SELECT w.id FROM queue.workflow_base w WHERE w.finished_at IS NULL"
									" AND (w.queue = $1 OR EXISTS (SELECT FROM queue.workflow_job m"
									" WHERE m.workflow = w.id AND m.queue = $1"
									" AND m.compensate_with <> '' AND m.compensation IS NULL)) ORDER BY w.id LIMIT 1",
									1, &type, &value, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is needed by workflow " INT64_FORMAT ", which has not finished", queue,
						int_of(1)),
				 errhint("End it with queue.cancel_workflow and wait for that, or pass force => true: then its "
						 "callbacks and compensations in this queue do not come.")));
	remind_of(queue_spi_run_now("UPDATE queue.workflow_base SET closed_at = queue_internal.clock() WHERE queue = $1"
								" AND finished_at IS NULL AND closed_at IS NULL RETURNING id", 1, &type, &value, NULL));
}

bool
queue_workflow_retention(TimestampTz now)
{
	Oid			types[2] = {TIMESTAMPTZOID, INT8OID};
	Datum		values[2] = {TimestampTzGetDatum(now - (int64) queue_keep_workflows * USECS_PER_SEC),
							 Int64GetDatum(RETENTION_BATCH)};
	QueueSpi	spi;
	uint64		n;

	PushActiveSnapshot(GetTransactionSnapshot());
	queue_spi_begin(&spi);
	n = queue_spi_run("WITH gone AS (DELETE FROM queue.workflow_base WHERE id IN (SELECT id FROM queue.workflow_base"
					  " WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id),"
					  " jobs AS (DELETE FROM queue.workflow_job j USING gone WHERE j.workflow = gone.id),"
					  " ends AS (DELETE FROM queue.workflow_end e USING gone WHERE e.workflow = gone.id)"
					  " SELECT FROM gone", 2, types, values, NULL);
	queue_spi_end(&spi);
	PopActiveSnapshot();
	return n == RETENTION_BATCH;
}
