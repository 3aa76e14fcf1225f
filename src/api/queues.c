/*
 * queues.c
 *		SQL functions about queues: create, alter, drop, pause, purge.
 *
 * Plain data keeping: each checks the matrix for the current user and then runs SQL as
 * the extension's owner, with what the user gave as parameters.  Statement triggers on
 * the tables tell the other sessions and the scheduler.
 *
 * Locks: those of the statements; purge and drop_queue RowExclusiveLock on live_job.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/grants.h"
#include "api/workflow_end.h"
#include "config/drops.h"
#include "config/fence.h"
#include "config/owner.h"
#include "executor/run.h"
#include "job/claim.h"
#include "job/finish.h"
#include "job/held.h"
#include "job/job.h"
#include "shared/clock.h"
#include "shared/slot.h"
#include "shared/turn.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(queue_sql_create_queue);
PG_FUNCTION_INFO_V1(queue_sql_alter_queue);
PG_FUNCTION_INFO_V1(queue_sql_drop_queue);
PG_FUNCTION_INFO_V1(queue_sql_pause);
PG_FUNCTION_INFO_V1(queue_sql_resume);
PG_FUNCTION_INFO_V1(queue_sql_purge);
PG_FUNCTION_INFO_V1(queue_sql_clock);
PG_FUNCTION_INFO_V1(queue_sql_library_version);

/* Argument numbers that create_queue and alter_queue share. */
enum
{
	ARG_NAME, ARG_MAX_ATTEMPTS, ARG_LEASE, ARG_BACKOFF, ARG_MAX_RUNNING, ARG_MAX_RUNNING_PER_KEY, ARG_RATE_LIMIT,
	ARG_RATE_PERIOD, ARG_RESERVED, ARG_DEAD_LETTER, ARG_KEEP_COMPLETED, ARG_KEEP_DISCARDED, ARG_RATE_LIMIT_PER_KEY,
	ARG_FAIR, ARG_AGEING, ARG_ON_GROUP_DISCARD, ARG_ON_DISCARDED, ARG_DESCRIPTION, ARG_LAST
};

/* A group's discarded head lets go, or holds its group until somebody decides about it. */
static Datum
check_on_group_discard(Datum value, const char *what)
{
	char	   *word = TextDatumGetCString(value);

	if (strcmp(word, "continue") != 0 && strcmp(word, "hold") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown %s \"%s\"", what, word),
				 errhint("Use continue or hold.")));
	return value;
}

/* How many jobs make a turn. */
static Datum
check_fair(Datum value, const char *what)
{
	return Int32GetDatum((int32) queue_in_range(DatumGetInt32(value), what, 1, QUEUE_FAIR_MAX));
}

/* The options in the order of their arguments, with how each is checked and the type of the column that keeps it. */
static const struct
{
	int			arg;
	const char *name;
	QueueCheck	check;
	Oid			column;
}			queue_options[] = {
	{ARG_MAX_ATTEMPTS, "max_attempts", queue_check_attempts, INT4OID},
	{ARG_LEASE, "lease", queue_check_period, INTERVALOID},
	{ARG_BACKOFF, "backoff", queue_check_backoff, JSONBOID},
	{ARG_MAX_RUNNING, "max_running", queue_check_limit, INT4OID},
	{ARG_MAX_RUNNING_PER_KEY, "max_running_per_key", queue_check_limit, INT4OID},
	{ARG_RATE_LIMIT, "rate_limit", queue_check_limit, INT4OID},
	{ARG_RATE_PERIOD, "rate_period", queue_check_period, INTERVALOID},
	{ARG_RESERVED, "reserved", queue_check_reserved, JSONBOID},
	{ARG_DEAD_LETTER, "dead_letter", queue_check_text, TEXTOID},
	{ARG_KEEP_COMPLETED, "keep_completed", queue_check_length, INTERVALOID},
	{ARG_KEEP_DISCARDED, "keep_discarded", queue_check_length, INTERVALOID},
	{ARG_RATE_LIMIT_PER_KEY, "rate_limit_per_key", queue_check_limit, INT4OID},
	{ARG_FAIR, "fair", check_fair, INT4OID},
	{ARG_AGEING, "ageing", queue_check_period, INTERVALOID},
	{ARG_ON_GROUP_DISCARD, "on_group_discard", check_on_group_discard, TEXTOID},
	{ARG_ON_DISCARDED, "on_discarded", queue_check_kind, TEXTOID},
	{ARG_DESCRIPTION, "description", queue_check_text, TEXTOID},
};

/* Checks the values of create_queue's and alter_queue's options. */
static void
check_queue_options(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < lengthof(queue_options); i++)
	{
		if (!PG_ARGISNULL(queue_options[i].arg))
			(void) queue_options[i].check(PG_GETARG_DATUM(queue_options[i].arg), queue_options[i].name);
	}
}

/*
 * The name and the options that are given and kept, as the parameters of create's and alter's statements: number n is
 * options[n - 2], the first is the name.
 */
static void
queue_option_params(FunctionCallInfo fcinfo, const char *name, QueueParams *params, const char **options)
{
	params->n = 0;
	queue_param(params, TEXTOID, CStringGetTextDatum(name), false);
	for (int i = 0; i < lengthof(queue_options); i++)
	{
		if (PG_ARGISNULL(queue_options[i].arg))
			continue;
		options[params->n - 1] = queue_options[i].name;
		queue_param(params, queue_options[i].column, PG_GETARG_DATUM(queue_options[i].arg), false);
	}
}

/* Without its row, 'default' has the defaults; whoever changes it writes the row first.  Inside queue_spi_begin. */
static void
ensure_default_row(const char *name)
{
	if (strcmp(name, "default") == 0)
		queue_spi_run("INSERT INTO queue.queue (name) VALUES ('default') ON CONFLICT (name) DO NOTHING",
					  0, NULL, NULL, NULL);
}

/* Wherever a statement found no row of a queue that the cache had: it was dropped a moment ago. */
static void
raise_unknown_queue(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 errhint("Create it with queue.create_queue(name).")));
}

/*
 * Claims are counted anew when max_running or max_running_per_key is set or reset, but not when it only changes.
 * by_queue, by_key: whether they were set before.  Inside queue_spi_begin.
 */
static void
note_limited(const char *name, bool by_queue, bool by_key)
{
	QueueParams params = {0};

	queue_param(&params, TEXTOID, CStringGetTextDatum(name), false);
	queue_param(&params, BOOLOID, BoolGetDatum(by_queue), false);
	queue_param(&params, BOOLOID, BoolGetDatum(by_key), false);
	queue_spi_run("UPDATE queue.queue SET limited_at ="
				  " CASE WHEN coalesce(max_running, max_running_per_key) IS NOT NULL THEN clock_timestamp() END"
				  " WHERE name = $1"
				  " AND ((max_running IS NOT NULL) <> $2 OR (max_running_per_key IS NOT NULL) <> $3)",
				  params.n, params.types, params.values, params.nulls);
}

/* The part of dead_letter's check that needs no lock: the right first, as for an enqueue there. */
static void
check_dead_letter(FunctionCallInfo fcinfo, const char *name)
{
	char	   *letters;

	if (PG_ARGISNULL(ARG_DEAD_LETTER))
		return;
	letters = text_to_cstring(PG_GETARG_TEXT_PP(ARG_DEAD_LETTER));
	if (strcmp(letters, name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" cannot be its own dead-letter queue", name),
				 errhint("Create another queue for its dead letters.")));
	queue_require(letters, QUEUE_PRIV_ENQUEUE);
	(void) queue_config_queue(letters, false);
}

/*
 * The part that sees what other sessions do: nobody else changes queues until the end of this transaction.  Inside
 * queue_spi_begin, before the row is written.
 */
static void
lock_dead_letter(FunctionCallInfo fcinfo, const char *name)
{
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {(Datum) 0, CStringGetTextDatum(name)};
	char	   *letters;

	if (PG_ARGISNULL(ARG_DEAD_LETTER))
		return;
	values[0] = PG_GETARG_DATUM(ARG_DEAD_LETTER);
	letters = TextDatumGetCString(values[0]);
	queue_spi_run("LOCK TABLE queue.queue IN SHARE ROW EXCLUSIVE MODE", 0, NULL, NULL, NULL);
	if (strcmp(letters, "default") != 0 &&
		queue_spi_run_now("SELECT FROM queue.queue WHERE name = $1", 1, types, values, NULL) == 0)
		raise_unknown_queue(letters);
	if (queue_spi_run_now("WITH RECURSIVE chain AS (SELECT $1 COLLATE \"C\" AS name UNION"
					  " SELECT q.dead_letter FROM queue.queue q JOIN chain c ON q.name = c.name"
					  " WHERE q.dead_letter IS NOT NULL)"
					  " SELECT FROM chain WHERE name = $2", 2, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dead letters of queue \"%s\" would come back to it through queue \"%s\"", name, letters),
				 errhint("A chain of dead-letter queues must end.")));
}

/* queue.create_queue(..): a row; manage on '*'. */
Datum
queue_sql_create_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, ARG_NAME, "queue name", false);
	bool		if_not_exists = PG_ARGISNULL(ARG_LAST) ? false : PG_GETARG_BOOL(ARG_LAST);
	uint64		created = 0;

	queue_finish_writable("queue.create_queue()");
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	check_queue_options(fcinfo);
	check_dead_letter(fcinfo, name);

	if (strcmp(name, "default") != 0)
	{
		QueueSpi	spi;
		QueueParams params;
		const char *options[lengthof(queue_options)];
		StringInfoData columns;
		StringInfoData values;

		queue_option_params(fcinfo, name, &params, options);
		initStringInfo(&columns);
		initStringInfo(&values);
		for (int i = 1; i < params.n; i++)
		{
			appendStringInfo(&columns, ", %s", options[i - 1]);
			appendStringInfo(&values, ", $%d", i + 1);
		}
		queue_spi_begin(&spi);
		lock_dead_letter(fcinfo, name);
		created = queue_spi_run(psprintf("INSERT INTO queue.queue (name%s) VALUES ($1%s) ON CONFLICT (name) DO NOTHING",
										 columns.data, values.data),
								params.n, params.types, params.values, params.nulls);
		note_limited(name, false, false);
		if (created > 0)
			queue_workflow_queue_created(name);
		queue_spi_end(&spi);
	}
	if (created == 0 && !if_not_exists)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("queue \"%s\" already exists", name),
				 errhint("Change it with queue.alter_queue, or pass if_not_exists => true.")));
	if (created == 0)
		ereport(NOTICE,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("queue \"%s\" already exists, skipping", name)));
	PG_RETURN_VOID();
}

/* Puts the options named in reset back to their defaults.  Inside queue_spi_begin. */
static void
reset_options(FunctionCallInfo fcinfo, const char *name, Datum reset)
{
	int			nelems;
	char	  **options = queue_texts(reset, "reset", &nelems);
	int			i;
	size_t		j;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	for (i = 0; i < nelems; i++)
	{
		char	   *option = options[i];

		for (j = 0; j < lengthof(queue_options); j++)
		{
			if (strcmp(queue_options[j].name, option) == 0)
				break;
		}
		if (j == lengthof(queue_options))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("a queue has no option \"%s\"", option),
					 errhint("Its options are the parameters of queue.alter_queue.")));
		if (!PG_ARGISNULL(queue_options[j].arg))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option %s is both given and reset", option),
					 errhint("Do one of the two.")));
		queue_spi_run(psprintf("UPDATE queue.queue SET %s = DEFAULT WHERE name = $1", queue_options[j].name),
					  1, &type, &value, NULL);
	}
}

/* queue.alter_queue(..): manage on the queue. */
Datum
queue_sql_alter_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, ARG_NAME, "queue name", false);
	QueueSpi	spi;
	QueueParams params;
	const char *options[lengthof(queue_options)];
	StringInfoData changes;
	QueueConf  *conf;
	bool		by_queue;
	bool		by_key;

	queue_finish_writable("queue.alter_queue()");
	queue_require(name, QUEUE_PRIV_MANAGE);
	conf = queue_config_queue(name, false);
	by_queue = conf->limit.max_running >= 0;
	by_key = conf->key_limit.max_running >= 0;
	check_queue_options(fcinfo);
	check_dead_letter(fcinfo, name);

	queue_option_params(fcinfo, name, &params, options);
	initStringInfo(&changes);
	for (int i = 1; i < params.n; i++)
		appendStringInfo(&changes, ", %s = $%d", options[i - 1], i + 1);
	if (!PG_ARGISNULL(ARG_KEEP_COMPLETED) || !PG_ARGISNULL(ARG_KEEP_DISCARDED) || !PG_ARGISNULL(ARG_LAST))
		appendStringInfoString(&changes, ", rekept_at = queue_internal.clock()");
	queue_spi_begin(&spi);
	lock_dead_letter(fcinfo, name);
	ensure_default_row(name);
	if (!PG_ARGISNULL(ARG_LAST))
		reset_options(fcinfo, name, PG_GETARG_DATUM(ARG_LAST));
	if (queue_spi_run(psprintf("UPDATE queue.queue SET name = name%s WHERE name = $1", changes.data),
					  params.n, params.types, params.values, params.nulls) == 0)
		raise_unknown_queue(name);
	note_limited(name, by_queue, by_key);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/*
 * Sets or clears paused_at; what pause and resume share.  The row '*' is the switch of all queues: it is there while
 * they are paused, and beside each queue's own.
 */
static void
set_paused(FunctionCallInfo fcinfo, const char *function, const char *sql, const char *all_sql)
{
	char	   *name = queue_arg_name(fcinfo, 0, "queue", true);
	bool		all = strcmp(name, "*") == 0;
	QueueSpi	spi;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	queue_finish_writable(function);
	queue_require(all ? NULL : name, QUEUE_PRIV_MANAGE);
	if (!all)
		(void) queue_config_queue(name, false);

	queue_spi_begin(&spi);
	ensure_default_row(name);
	if (queue_spi_run(all ? all_sql : sql, 1, &type, &value, NULL) == 0 && !all)
		raise_unknown_queue(name);
	queue_spi_end(&spi);
}

/* queue.pause(queue): its lines are read no more; pausing again keeps the time of the first. */
Datum
queue_sql_pause(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, "queue.pause()",
			   "UPDATE queue.queue SET paused_at = coalesce(paused_at, queue_internal.clock()) WHERE name = $1",
			   "INSERT INTO queue.queue (name, paused_at) VALUES ($1, queue_internal.clock())"
			   " ON CONFLICT (name) DO NOTHING");
	PG_RETURN_VOID();
}

/* queue.resume(queue) */
Datum
queue_sql_resume(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, "queue.resume()", "UPDATE queue.queue SET paused_at = NULL WHERE name = $1",
			   "DELETE FROM queue.queue WHERE name = $1");
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- deleting jobs */

/* The ids of a queue's lines, copied: the configuration may be read again while we work. */
static int64 *
lines_of_queue(const char *queue, int *count)
{
	QueueLine **lines = queue_lines_of(queue_config_queue(queue, false), count);
	int64	   *ids = palloc((*count + 1) * sizeof(int64));

	for (int i = 0; i < *count; i++)
		ids[i] = lines[i]->id;
	return ids;
}

/*
 * Deletes one job as read, following its row when it was changed meanwhile.  Without `running` a claimed row stays, and
 * so does one that somebody has locked, but for a moment; with it, an executor that runs the job is told to let go, and
 * waited for.
 */
static bool
delete_job(QueueJobTable *table, QueueJob *job, bool running)
{
	int			tries;

	for (tries = 0; tries < 100; tries++)
	{
		Snapshot	snapshot;
		TM_Result	result;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		if (queue_claim_holder(job->id, job->leased_until, queue_now()) != QUEUE_HELD_BY_NOBODY)
		{
			if (!running)
				return false;
			(void) queue_slot_cancel(MyDatabaseId, job->id);
		}
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		PushActiveSnapshot(snapshot);
		result = queue_finish_end(table, job, job->attempt, QUEUE_STATE_NONE, &(QueueEnding) {0}, snapshot, running);
		if (running)
			queue_slot_cancel_done(MyDatabaseId, job->id);
		found = result == TM_Updated && queue_job_find(table, job->id, snapshot, job);
		PopActiveSnapshot();
		UnregisterSnapshot(snapshot);
		if (result == TM_Ok)
			return true;
		if (result == TM_BeingModified || result == TM_WouldBlock)
		{
			if (!queue_row_wait_moment(table->rel, &job->tid, table->slot, job->id))
				return false;	/* somebody is taking it */
			continue;
		}
		if (result == TM_Updated && !found)
		{
			/* the new version may be younger than that snapshot */
			snapshot = RegisterSnapshot(GetLatestSnapshot());
			found = queue_job_find(table, job->id, snapshot, job);
			UnregisterSnapshot(snapshot);
		}
		if (!found)
			return false;
	}
	return false;
}

/*
 * Walks a line through the ready index and deletes its waiting jobs (with `running` all), or with `only_look` just
 * says whether there is one.
 */
static int64
sweep_line(QueueJobTable *table, int64 line, bool running, bool only_look)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "queue purge", ALLOCSET_SMALL_SIZES);
	IndexScanDesc scan;
	ScanKeyData key;
	int64		count = 0;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line));
	scan = queue_index_beginscan(table->rel, queue_job_ready(table), snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old;
		QueueJob	job;

		CHECK_FOR_INTERRUPTS();
		if (only_look)
		{
			count = 1;
			break;
		}
		old = MemoryContextSwitchTo(cxt);
		queue_job_read(slot, &job, true);
		if (delete_job(table, &job, running))
			count++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(cxt);
	return count;
}

/* All lines of a queue; see sweep_line. */
static int64
sweep_queue(const char *queue, bool running, bool only_look)
{
	QueueJobTable *table = queue_job_open(only_look ? AccessShareLock : RowExclusiveLock);
	int			nlines;
	int64	   *lines = lines_of_queue(queue, &nlines);
	int64		count = 0;
	int			i;

	for (i = 0; i < nlines && !(only_look && count > 0); i++)
		count += sweep_line(table, lines[i], running, only_look);
	queue_job_close(table);
	return count;
}

/* queue.purge(queue): deletes what waits, skips what is claimed or locked; manage on the queue. */
Datum
queue_sql_purge(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, 0, "queue", false);

	queue_finish_writable("queue.purge()");
	queue_require(name, QUEUE_PRIV_MANAGE);
	(void) queue_config_queue(name, false);
	PG_RETURN_INT64(sweep_queue(name, false, false));
}

/*
 * A queue that others name as dead_letter is dropped only with force; their discarded jobs then stay where they are.
 * Inside queue_spi_begin; locks out who might name it now.
 */
static void
check_not_dead_letter(const char *name, bool force)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	queue_spi_run("LOCK TABLE queue.queue IN ROW EXCLUSIVE MODE", 0, NULL, NULL, NULL);
	if (!force && queue_spi_run_now("SELECT name FROM queue.queue WHERE dead_letter = $1 ORDER BY name LIMIT 1", 1,
									&type, &value, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" gets the dead letters of queue \"%s\"", name,
						SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errhint("Change that with queue.alter_queue, or pass force => true: then its discarded jobs stay.")));
}

/* Deletes all jobs of a queue; without force there must be none.  For drop_queue. */
static void
empty_queue(const char *name, bool force)
{
	if (force)
		(void) sweep_queue(name, true, false);
	else if (sweep_queue(name, false, true) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" has unfinished jobs", name),
				 errhint("Purge it and wait for what runs, or pass force => true to delete them.")));
}

/*
 * queue.drop_queue(name, force): manage on the queue.  Transactions that have enqueued and are still open are waited
 * for, because their jobs would come into a queue that is gone; who enqueues into this one from then on waits for us.
 */
Datum
queue_sql_drop_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, 0, "queue name", false);
	bool		force = PG_ARGISNULL(1) ? false : PG_GETARG_BOOL(1);
	QueueSpi	spi;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);
	QueueFence	fence;

	queue_finish_writable("queue.drop_queue()");
	queue_require(name, QUEUE_PRIV_MANAGE);
	(void) queue_config_queue(name, false);
	if (strcmp(name, "default") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"default\" cannot be dropped"),
				 errhint("Empty it with queue.purge, put its settings back with queue.alter_queue(.., reset => ..).")));
	if (queue_current != NULL && strcmp(queue_current->line->queue->name, name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a handler cannot drop the queue of its own job"),
				 errhint("Drop it in a job of another queue.")));
	if (!force)
		empty_queue(name, false);	/* or refuse before anybody waits */
	queue_lines_lock_drop(name);
	if (force)
		empty_queue(name, true);	/* the most of it before anybody waits */
	queue_lines_begin_drop(name, &fence);
	queue_fence_wait(&fence);
	queue_config_invalidate();	/* COMMIT PREPARED lets its locks go before it tells of the lines that it made */
	empty_queue(name, force);	/* what they enqueued meanwhile too; nobody can any more */

	queue_spi_begin(&spi);
	check_not_dead_letter(name, force);
	queue_workflow_queue_dropped(name, force);
	/* first what waits for another drop: who deletes lines is in the fences of others, as if it enqueued */
	queue_grants_drop_queue(name);
	queue_spi_run_now("DELETE FROM queue.line WHERE queue = $1", 1, &type, &value, NULL);
	queue_spi_run_now("DELETE FROM queue.unique_key WHERE queue = $1", 1, &type, &value, NULL);
	/* groups that are held */
	queue_spi_run_now("DELETE FROM queue.live_key WHERE queue = $1", 1, &type, &value, NULL);
	queue_spi_run_now("DELETE FROM queue.event WHERE queue = $1", 1, &type, &value, NULL);
	if (queue_spi_run_now("DELETE FROM queue.queue WHERE name = $1", 1, &type, &value, NULL) == 0)
		raise_unknown_queue(name);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- what the views ask, and the rest */

/* queue_internal.clock(): the extension's time, for its own statements. */
Datum
queue_sql_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(queue_now());
}

/* queue_internal.library_version() */
Datum
queue_sql_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(QUEUE_VERSION));
}
