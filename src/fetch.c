/*
 * fetch.c
 *		Jobs out, for external workers: fetch and fetch_any.
 *
 * A fetch reads the wanted lines in order (ready.c) and claims each row with one heap
 * update that writes only leased_until, attempt and extra: no index holds these, so it is
 * HOT, and with wait = false it is SKIP LOCKED in one heap operation.  Which lines are
 * wanted decides everything (queue, kinds, served or not, paused): no job ever stands
 * before another that this fetcher may take.
 *
 * A claim whose lease ended counts as a failure when the job is taken again.
 */
#include "finish.h"
#include "ready.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef struct FetchRequest
{
	int			qty;
	int64		lease;			/* us; -1: the queue's */
	const char *worker;
	char	  **kinds;			/* NULL: those that no server handler serves */
	int			nkinds;
} FetchRequest;

/* A text array without nulls, as C strings. */
static char **
strings_of_array(ArrayType *array, const char *name, int *n)
{
	Datum	   *elements;
	bool	   *nulls;
	char	  **strings;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
	strings = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("element %d of %s is null", i + 1, name),
					 errhint("Pass an array of names.")));
		strings[i] = TextDatumGetCString(elements[i]);
	}
	return strings;
}

static bool
contains(char **strings, int n, const char *string)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(strings[i], string) == 0)
			return true;
	}
	return false;
}

/* The lines that this fetch may take from. */
static QueueLine **
wanted_lines(char **queues, int nqueues, const FetchRequest *request, int *n)
{
	QueueConfig *config = queue_config();
	QueueLine **lines = palloc(Max(config->nlines, 1) * sizeof(QueueLine *));

	*n = 0;
	for (int i = 0; i < config->nlines; i++)
	{
		QueueLine  *line = config->lines[i];

		if (line->queue->paused_at == 0 && contains(queues, nqueues, line->queue->name) &&
			(request->kinds != NULL ? contains(request->kinds, request->nkinds, line->kind) : !line->served))
			lines[(*n)++] = line;
	}
	return lines;
}

/* Claims one row that was read as free; false: somebody else has it. */
static bool
claim(QueueJobTable *table, QueueReady *ready, QueueJob *job, QueueLine *line, const FetchRequest *request,
	  TimestampTz now, Tuplestorestate *store)
{
	QueueExtra	extra;
	QueueJob	claimed;
	QueueFailure failure = {0};
	bool		expired = job->leased_until != DT_NOBEGIN;
	TM_Result	result;

	queue_ready_read_deep(ready, job);
	queue_extra_unpack(job->extra, &extra);
	claimed = *job;
	if (expired && !queue_finish_expired(table, &claimed, &extra, line, queue_ready_snapshot(ready), &failure))
		return false;
	claimed.attempt++;
	claimed.leased_until = now + (request->lease >= 0 ? request->lease : line->queue->lease);
	extra.started_at = now;
	extra.worker = unconstify(char *, request->worker);
	if (expired)
		extra.last_error = unconstify(char *, failure.error);
	claimed.extra = queue_extra_pack(&extra);
	result = queue_job_update(table, job, &claimed, queue_ready_snapshot(ready), false);
	if (result == TM_Updated || result == TM_Deleted)
	{
		if (IsolationUsesXactSnapshot())
			queue_finish_retry(result);
		return false;
	}
	if (result != TM_Ok)
		return false;
	if (expired)
		queue_failure_insert(job, line->queue->name, line->kind, &failure);
	tuplestore_puttuple(store, queue_job_tuple(&claimed, line->queue, line->kind, line->priority, line->handler,
											   QUEUE_STATE_RUNNING, now, request->worker));
	return true;
}

/* What fetch and fetch_any share: arguments 1 to 8 are the same. */
static Datum
fetch(FunctionCallInfo fcinfo, char **queues, int nqueues)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FetchRequest request = {.qty = 1, .lease = -1};
	QueueJobTable *table;
	QueueReady *ready;
	QueueLine **lines;
	int			nlines;
	QueueJob	job;
	QueueLine  *line;
	TimestampTz now;
	int			got = 0;
	MemoryContext per_job;
	MemoryContext old;

	if (!PG_ARGISNULL(1))
		request.qty = PG_GETARG_INT32(1);
	if (request.qty < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("qty must be at least 1, not %d", request.qty),
				 errhint("It is how many jobs to claim at most.")));
	if (!PG_ARGISNULL(2))
	{
		request.lease = queue_interval_us(PG_GETARG_INTERVAL_P(2));
		if (request.lease <= 0 || request.lease > (int64) 1000 * 366 * USECS_PER_DAY)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("lease is out of range"),
					 errhint("It is an interval of more than 0 and at most 1000 years.")));
	}
	if (!PG_ARGISNULL(3))
	{
		int64		wait = queue_interval_us(PG_GETARG_INTERVAL_P(3));

		if (wait < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("wait must not be negative"),
					 errhint("It is an interval of 0 or more.")));
		if (wait > 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("fetch option \"wait\" is not built yet"),
					 errhint("Leave it out and fetch again after a pause.")));
	}
	if (!PG_ARGISNULL(4))
		request.worker = text_to_cstring(PG_GETARG_TEXT_PP(4));
	if (!PG_ARGISNULL(5))
		request.kinds = strings_of_array(PG_GETARG_ARRAYTYPE_P(5), "kinds", &request.nkinds);
	if (!PG_ARGISNULL(6))
	{
		char	   *mode = text_to_cstring(PG_GETARG_TEXT_PP(6));

		if (strcmp(mode, "session") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("fetch option \"claim\" => 'session' is not built yet"),
					 errhint("Use claim => 'lease'.")));
		if (strcmp(mode, "lease") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown claim \"%s\"", mode),
					 errhint("Use lease or session.")));
	}
	if (!PG_ARGISNULL(7) || !PG_ARGISNULL(8))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("fetch option \"%s\" is not built yet", PG_ARGISNULL(7) ? "complete_attempts" : "complete_ids"),
				 errhint("Use queue.complete_many.")));

	for (int i = 0; i < nqueues; i++)
	{
		(void) queue_config_queue(queues[i], false);
		queue_require(queues[i], QUEUE_PRIV_WORK);
	}

	/* the table first: opening it takes in what was committed, and the lines must stay valid below */
	table = queue_job_open(RowExclusiveLock);
	lines = wanted_lines(queues, nqueues, &request, &nlines);
	now = GetCurrentTimestamp();
	ready = queue_ready_begin(table, lines, nlines, now);
	per_job = AllocSetContextCreate(CurrentMemoryContext, "queue fetch", ALLOCSET_SMALL_SIZES);
	while (got < request.qty && queue_ready_next(ready, &job, &line))
	{
		CHECK_FOR_INTERRUPTS();
		old = MemoryContextSwitchTo(per_job);
		if (claim(table, ready, &job, line, &request, now, rsinfo->setResult))
			got++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_job);
	}
	queue_ready_end(ready);
	queue_job_close(table);
	if (got > 0)
		CommandCounterIncrement();
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_fetch);
/* queue.fetch(queue, qty, lease, wait, worker, kinds, claim, complete_ids, complete_attempts) -> setof queue.job */
Datum
queue_sql_fetch(PG_FUNCTION_ARGS)
{
	char	   *queue;

	queue_finish_writable("queue.fetch()");
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("queue must not be null"),
				 errhint("Name the queue to fetch from, such as 'default'.")));
	queue = text_to_cstring(PG_GETARG_TEXT_PP(0));
	return fetch(fcinfo, &queue, 1);
}

PG_FUNCTION_INFO_V1(queue_sql_fetch_any);
/* queue.fetch_any(queues, ...) -> setof queue.job */
Datum
queue_sql_fetch_any(PG_FUNCTION_ARGS)
{
	char	  **queues;
	int			n;

	queue_finish_writable("queue.fetch_any()");
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("queues must not be null"),
				 errhint("Name the queues to fetch from, such as '{default}'.")));
	queues = strings_of_array(PG_GETARG_ARRAYTYPE_P(0), "queues", &n);
	return fetch(fcinfo, queues, n);
}
