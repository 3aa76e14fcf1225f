/*
 * views.c
 *		The functions inside the views: what a row of queue.job needs beyond its columns.
 *
 * Each runs once a row, so they avoid SQL: a subquery in the view's target list would make the planner think that a
 * row costs a hundred times as much.  job_state is STABLE although it reads the clock, because a condition on a
 * volatile column is not pushed into the view, and then every column is computed before the condition drops the row.
 *
 * No locks but those of a look at a session's claim.
 */
#include "lib/queue.h"

#include "job/extra.h"
#include "job/job.h"
#include "job/record.h"
#include "shared/clock.h"
#include "shared/session.h"
#include "shared/slot.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_sql_may_read);
/* queue_internal.may_read(queue): the row filter of the views; a cheap lookup per row. */
Datum
queue_sql_may_read(PG_FUNCTION_ARGS)
{
	char		buf[QUEUE_NAME_MAX + 1];
	text	   *name;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	name = PG_GETARG_TEXT_PP(0);
	if (VARSIZE_ANY_EXHDR(name) > QUEUE_NAME_MAX)
		PG_RETURN_BOOL(false);
	text_to_cstring_buffer(name, buf, sizeof(buf));
	PG_RETURN_BOOL(queue_may(GetUserId(), buf, QUEUE_PRIV_READ));
}

/* Ids that sessions have claimed, in order, as job_state knows them for one query. */
typedef struct Claimed
{
	int			calls;
	int			n;
	int64	   *ids;			/* NULL: not read yet */
} Claimed;

#define SINGLE_LOOKS 8			/* rows of a query whose locks are looked at one by one */

static int
by_id(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/*
 * Has a session claimed this job?  A look at one lock takes it for a moment, so a query over many rows reads all
 * session claims at once instead, as of its ninth row.
 */
static bool
session_claimed(FunctionCallInfo fcinfo, int64 id)
{
	Claimed    *claimed = fcinfo->flinfo->fn_extra;

	if (!queue_session_any())
		return false;
	if (claimed == NULL)
		claimed = fcinfo->flinfo->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Claimed));
	if (claimed->calls++ < SINGLE_LOOKS)
		return queue_session_taken(id);
	if (claimed->ids == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		claimed->n = queue_session_list(&claimed->ids, NULL);
		MemoryContextSwitchTo(old);
		qsort(claimed->ids, claimed->n, sizeof(int64), by_id);
	}
	return bsearch(&id, claimed->ids, claimed->n, sizeof(int64), by_id) != NULL;
}

/* May the caller read the queue of this job?  Asked of what runs only, so that nobody learns of it by a guessed id. */
static bool
may_read_job(int64 id)
{
	QueueJobTable *table = queue_job_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueLine  *line;
	QueueJob	job;
	bool		may = queue_job_peek(table, id, snapshot, &job) &&
		(line = queue_config_line(job.line)) != NULL && queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ);

	UnregisterSnapshot(snapshot);
	queue_job_close(table);
	return may;
}

PG_FUNCTION_INFO_V1(queue_sql_job_state);
/*
 * queue_internal.job_state(id, run_at, leased_until, failures): the state of a live job, with what its row does not
 * show: an executor runs it, or a session has claimed it.
 */
Datum
queue_sql_job_state(PG_FUNCTION_ARGS)
{
	QueueJob	job = {0};
	QueueState	state;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	job.id = PG_GETARG_INT64(0);
	job.run_at = PG_GETARG_TIMESTAMPTZ(1);
	job.leased_until = PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2);
	job.failures = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);
	state = queue_job_state(&job, queue_now());
	if (state != QUEUE_STATE_RUNNING &&
		(queue_slot_runs(MyDatabaseId, job.id) || session_claimed(fcinfo, job.id)) && may_read_job(job.id))
		state = QUEUE_STATE_RUNNING;
	PG_RETURN_TEXT_P(cstring_to_text(queue_state_names[state]));
}

/* Does an executor run this job, and may the caller know?  Then *run tells since when and where. */
static bool
may_see_run(FunctionCallInfo fcinfo, QueueSlotJob *run)
{
	return !PG_ARGISNULL(0) && queue_slot_job(MyDatabaseId, PG_GETARG_INT64(0), run) &&
		may_read_job(PG_GETARG_INT64(0));
}

PG_FUNCTION_INFO_V1(queue_sql_job_attempt);
/* queue_internal.job_attempt(id, attempt): with the claim of the executor that runs it, which has not committed yet. */
Datum
queue_sql_job_attempt(PG_FUNCTION_ARGS)
{
	int			attempt = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	QueueSlotJob run;

	PG_RETURN_INT32(may_see_run(fcinfo, &run) ? attempt + 1 : attempt);
}

PG_FUNCTION_INFO_V1(queue_sql_job_started_at);
/* queue_internal.job_started_at(id, extra): of the run in an executor, else of the claim; null: it does not run. */
Datum
queue_sql_job_started_at(PG_FUNCTION_ARGS)
{
	QueueSlotJob run;
	TimestampTz at = 0;

	if (may_see_run(fcinfo, &run))
		at = run.started_at;
	else if (!PG_ARGISNULL(1))
		at = queue_extra_time(PG_GETARG_JSONB_P(1), "started_at");
	if (at == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

PG_FUNCTION_INFO_V1(queue_sql_job_worker);
/* queue_internal.job_worker(id, extra): the executor that runs it, else who claimed it; null: nobody. */
Datum
queue_sql_job_worker(PG_FUNCTION_ARGS)
{
	QueueSlotJob run;
	char		name[QUEUE_WORKER_NAME];
	QueueExtra	extra;

	if (may_see_run(fcinfo, &run))
	{
		queue_executor_name(name, run.pid);
		PG_RETURN_TEXT_P(cstring_to_text(name));
	}
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	queue_extra_unpack(PG_GETARG_JSONB_P(1), &extra);
	if (extra.worker == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(extra.worker));
}

PG_FUNCTION_INFO_V1(queue_sql_job_progress);
/* queue_internal.job_progress(id, extra): what its running handler last told, else what the row has; null: nothing. */
Datum
queue_sql_job_progress(PG_FUNCTION_ARGS)
{
	char		shown[QUEUE_PROGRESS_MAX] pg_attribute_aligned(8);
	QueueExtra	extra;
	uint32		length;

	if (!PG_ARGISNULL(0) && (length = queue_slot_progress(MyDatabaseId, PG_GETARG_INT64(0), shown)) > 0 &&
		may_read_job(PG_GETARG_INT64(0)))
	{
		Jsonb	   *copy = palloc(length);

		memcpy(copy, shown, length);
		PG_RETURN_JSONB_P(copy);
	}
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	queue_extra_unpack(PG_GETARG_JSONB_P(1), &extra);
	if (extra.progress == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(extra.progress);
}

PG_FUNCTION_INFO_V1(queue_sql_job_time);
/* queue_internal.job_time(extra, name): a time in extra, which is a number of microseconds; null if it is not there. */
Datum
queue_sql_job_time(PG_FUNCTION_ARGS)
{
	char		name[32];
	TimestampTz at;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(1), name, sizeof(name));
	if (strcmp(name, "expires_at") == 0)
	{
		at = queue_extra_expires_at(PG_GETARG_JSONB_P(0));
		if (at == DT_NOEND)
			PG_RETURN_NULL();
	}
	else if ((at = queue_extra_time(PG_GETARG_JSONB_P(0), name)) == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

PG_FUNCTION_INFO_V1(queue_sql_job_max_attempts);
/* queue_internal.job_max_attempts(extra): the job's own; null if it has none.  A cast would fail on an odd value. */
Datum
queue_sql_job_max_attempts(PG_FUNCTION_ARGS)
{
	int			n;

	if (PG_ARGISNULL(0) || (n = queue_extra_max_attempts(PG_GETARG_JSONB_P(0))) <= 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(n);
}

PG_FUNCTION_INFO_V1(queue_sql_job_tags);
/* queue_internal.job_tags(extra): the tags as an array; null if there are none. */
Datum
queue_sql_job_tags(PG_FUNCTION_ARGS)
{
	QueueExtra	extra;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	queue_extra_unpack(PG_GETARG_JSONB_P(0), &extra);
	if (extra.tags == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(queue_tags_array(extra.tags));
}
