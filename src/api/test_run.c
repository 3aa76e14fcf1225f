/*
 * test_run.c
 *		Running jobs in the caller's own transaction, for tests: test_run, test_drain.
 *
 * Limits, pauses, keys and times hold here too; rates do not.
 *
 * Locks: the row lock of the job.
 */
#include "api/arguments.h"
#include "api/explain.h"
#include "api/filter.h"
#include "api/search.h"
#include "config/lines.h"
#include "executor/verdict.h"
#include "job/claim.h"
#include "job/depend.h"
#include "job/event.h"
#include "job/finish.h"
#include "job/group.h"
#include "job/pending.h"
#include "job/ready.h"
#include "shared/census.h"
#include "shared/clock.h"
#include "shared/note.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

/* 55000: a limit keeps the job from running now. */
static void
raise_limit(const QueueClaim *claim)
{
	const char *why = queue_limit_explain(claim->line);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("job " INT64_FORMAT " cannot run now: %s", claim->job.id, why != NULL ? why : "a limit is reached"),
			 errhint("Limits hold for tests too: raise it with queue.alter_queue or at the handler, or try later.")));
}

/* Can what blocks the job be taken away in this very transaction?  It is read again then. */
static bool
let_in(QueueJobTable *table, const QueueJob *job)
{
	if ((queue_extra_blocks(job->extra) & QUEUE_BLOCK_EVENT) != 0)
		(void) queue_event_look(table, job->id, queue_now());
	return queue_group_let_in(table, job) || queue_group_is_in(table, job->id);
}

/* Is something other than a limit in the job's way? */
static bool
waits(const QueueJob *job, const QueueLine *line, bool early)
{
	return queue_job_pending(job) || line->queue->paused || line->handler->paused_at != 0 ||
		(!early && job->run_at > queue_now());
}

/*
 * Runs one job's SQL handler here and now; *state is what it then has.  early: its time may be still to come.  skip:
 * what cannot run now is left, false; else that is an error.
 */
static bool
run_here(QueueJobTable *table, int64 id, bool early, bool skip, QueueRunResult *result, QueueState *state)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueJob	job;
		QueueJob	run;
		QueueLine  *line;
		const char *parked;
		const char *hint;
		TimestampTz started_at;
		QueueClaim	claim;
		QueueClaimed claimed;
		bool		held;

		if (skip && !queue_job_find_lean(table, id, snapshot, &job))
		{
			PopActiveSnapshot();
			return false;
		}
		if (!queue_job_find(table, id, snapshot, &job) ||
			!queue_may(GetUserId(), (line = queue_job_line(job.line))->queue->name, QUEUE_PRIV_WORK))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("job " INT64_FORMAT " does not exist", id),
					 errhint("It may have ended, or be in a queue on which you lack the privilege work.")));
		if (line->handler == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("kind \"%s\" has no handler in queue \"%s\"", line->kind, line->queue->name),
					 errhint("Register one with queue.register_sql_handler.")));
		if (line->handler->http)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("kind \"%s\" has an HTTP handler", line->kind),
					 errhint("Only SQL handlers run in a transaction of yours; the server sends its jobs.")));
		if (line->handler->run_as_oid != GetUserId())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("the handler of kind \"%s\" runs as \"%s\"", line->kind, line->handler->run_as),
					 errhint("SET ROLE to it, or register the handler with run_as => your role.")));
		queue_census_claimed(line->kind_key);
		parked = queue_run_parked(line->handler, &hint);
		if (parked != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the handler of kind \"%s\" cannot run: %s", line->kind, parked),
					 errhint("%s", hint)));
		if (queue_job_pending(&job) && let_in(table, &job))
		{
			PopActiveSnapshot();
			continue;
		}
		held = queue_claim_holder(id, job.leased_until, queue_now()) != QUEUE_HELD_BY_NOBODY;
		if (skip && (held || waits(&job, line, early)))
		{
			PopActiveSnapshot();
			return false;
		}
		if (held)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("job " INT64_FORMAT " is running", id),
					 errhint("Enqueue it in the transaction that tests it: then nobody else can take it.")));
		if (waits(&job, line, early))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("job " INT64_FORMAT " cannot run: %s", id,
							queue_explain_live(table, &job, line, snapshot)),
					 errhint("End what it waits for first.")));
		if (job.problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("job " INT64_FORMAT " could not be read: %s", id, job.problem),
					 errhint("Its row is damaged: queue.cancel ends it without reading it.")));
		claim = (QueueClaim) {.table = table, .snapshot = snapshot, .job = job, .line = line};
		claimed = queue_claim_run(&claim, true);
		PopActiveSnapshot();
		if (claimed == QUEUE_CLAIM_FULL && skip)
			return false;
		if (claimed == QUEUE_CLAIM_FULL)
			raise_limit(&claim);
		if (claimed != QUEUE_CLAIM_OURS)
		{
			/* somebody changed or took the row: what it is now shows in the next look */
			CommandCounterIncrement();
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		run = job;
		run.attempt++;
		started_at = queue_now();
		(void) queue_run_job(line->handler, line, &run, started_at, false, true, NULL, NULL, result);
		if (result->outcome == QUEUE_RUN_FAILED && strcmp(result->sqlstate, "57014") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("%s", result->error),
					 errhint("The job is as it was.")));
		*state = queue_verdict_write(table, &job, run.attempt, result, started_at, "test", NULL);
		CommandCounterIncrement();
		return true;
	}
}

PG_FUNCTION_INFO_V1(queue_sql_test_run);
/* queue.test_run(job_id, raise_error) -> text */
Datum
queue_sql_test_run(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	bool		raise_error = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	QueueRunResult result;
	QueueJobTable *table;
	QueueState	state;

	queue_finish_writable("queue.test_run()");
	CommandCounterIncrement();	/* test_run(enqueue(..)) in one statement */
	queue_census_look(0);
	table = queue_job_open(RowExclusiveLock);
	queue_depend_own(table);
	(void) run_here(table, id, false, false, &result, &state);
	queue_job_close(table);
	if (raise_error && result.outcome == QUEUE_RUN_FAILED)
		ereport(ERROR,
				(errcode(result.sqlstate[0] == '\0' ? ERRCODE_RAISE_EXCEPTION :
						 MAKE_SQLSTATE(result.sqlstate[0], result.sqlstate[1], result.sqlstate[2],
									   result.sqlstate[3], result.sqlstate[4])),
				 errmsg("%s", result.error ? result.error : "the handler failed its job"),
				 result.context ? errcontext("%s", result.context) : 0,
				 errhint("Call test_run with raise_error => false to record the failure instead.")));
	PG_RETURN_TEXT_P(cstring_to_text(queue_state_names[state]));
}

/*
 * The next due job that is not in `done`; 0: there is none.  One at a time: a handler may enqueue what comes before the
 * rest.
 */
static int64
next_due(QueueJobTable *table, const char *queue, HTAB *done)
{
	int			nlines;
	QueueLine **of_queue = queue_lines_of(queue_config_queue(queue, false), &nlines);
	QueueLine **lines = palloc((nlines + 1) * sizeof(QueueLine *));
	int			n = 0;
	QueueReady *ready;
	QueueJob	job;
	QueueLine  *line;
	bool		found;

	for (int i = 0; i < nlines; i++)
	{
		if (of_queue[i]->handler != NULL && !of_queue[i]->handler->http && !of_queue[i]->queue->paused &&
			of_queue[i]->handler->paused_at == 0)
			lines[n++] = of_queue[i];
	}
	queue_depend_own(table);
	queue_group_promote_own(table);
	ready = queue_ready_begin(table, &(QueueReadyLines) {
							  .lines = lines, .nlines = n, .readers = (uint64) MyProcPid << 32}, queue_now());
	do
		found = queue_ready_next(ready, &job, &line);
	while (found && hash_search(done, &job.id, HASH_FIND, NULL) != NULL);
	if (found)
		queue_ready_use(ready, true);
	queue_ready_end(ready);
	return found ? job.id : 0;
}

/* The next job in one of these states, whose time is still to come, that is not in `done`; 0: there is none. */
static int64
next_early(QueueJobTable *table, char *queue, int states, HTAB *done)
{
	Snapshot	snapshot = queue_finish_snapshot();
	int64		n;
	int64	   *ids = queue_search_ids(queue_search_of_queue(queue, QUEUE_PRIV_WORK, states), table, snapshot,
									   PG_INT64_MIN, PG_INT64_MAX, false, -1, &n);
	QueuePos	first = {DT_NOEND, 0};

	for (int64 i = 0; i < n; i++)
	{
		QueueJob	job;
		QueueLine  *line;

		if (hash_search(done, &ids[i], HASH_FIND, NULL) != NULL ||
			!queue_job_find_lean(table, ids[i], snapshot, &job) || queue_pos_cmp(queue_job_pos(&job), first) >= 0)
			continue;
		line = queue_job_line(job.line);
		if (line->handler != NULL && !line->handler->http)
			first = queue_job_pos(&job);
	}
	PopActiveSnapshot();
	return first.id;
}

PG_FUNCTION_INFO_V1(queue_sql_test_drain);
/*
 * queue.test_drain(queue, with_retries, with_scheduled) -> table(job_id, state, error).  Each job once (but for
 * with_retries), so that one which releases itself for ever does not hold its test for ever.
 */
Datum
queue_sql_test_drain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		with_retries = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	bool		with_scheduled = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	int			early = (with_retries ? 1 << QUEUE_STATE_RETRYABLE : 0) |
		(with_scheduled ? 1 << QUEUE_STATE_SCHEDULED : 0);	/* states of jobs that run before their time */
	char	   *queue;
	QueueJobTable *table;
	HTAB	   *done;
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(int64), .hcxt = CurrentMemoryContext};

	queue_finish_writable("queue.test_drain()");
	InitMaterializedSRF(fcinfo, 0);
	queue = queue_arg_text(fcinfo, 0, "queue");
	queue_require(queue, QUEUE_PRIV_WORK);
	(void) queue_config_queue(queue, false);
	queue_census_look(0);
	queue_note_own_anew();
	done = hash_create("queue test_drain", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	table = queue_job_open(RowExclusiveLock);
	for (;;)
	{
		int64		id = next_due(table, queue, done);
		bool		due = id != 0;
		bool		ran;
		QueueRunResult result;
		QueueState	state;
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		if (!due && early != 0)
			id = next_early(table, queue, early, done);
		if (id == 0)
			break;
		(void) hash_search(done, &id, HASH_ENTER, NULL);
		ran = run_here(table, id, !due, true, &result, &state);
		if (!ran)
			continue;
		while (with_retries && state == QUEUE_STATE_RETRYABLE && ran)
		{
			CHECK_FOR_INTERRUPTS();
			ran = run_here(table, id, true, true, &result, &state);
		}
		values[0] = Int64GetDatum(id);
		values[1] = CStringGetTextDatum(queue_state_names[state]);
		nulls[2] = result.error == NULL;
		values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(result.error);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	queue_job_close(table);
	return (Datum) 0;
}
