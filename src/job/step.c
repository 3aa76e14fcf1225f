/*
 * step.c
 *		The rows of queue.step: durable steps.
 *
 * A live job's steps are rows, written once, under the lock of the job's row.  The row's extra says how many bytes they
 * take, so that a job without steps pays nothing, and nobody stores without end.  When the job ends they become a
 * member of extra, and so live and die with the row that is kept, in retention, a dead letter and a dump; a retry makes
 * rows of them again.
 *
 * Locks: RowExclusiveLock on step; the caller has the job's row.
 */
#include "job/step.h"

#include "job/place.h"
#include "job/rows.h"
#include "lib/option.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "utils/builtins.h"

/* The columns of step.  Later versions only append. */
enum
{
	COL_JOB_ID = 1, COL_NAME, COL_VALUE, NCOLS = COL_VALUE
};

static void
begin(QueueRows *rows, int64 job_id, const char *name, LOCKMODE lockmode)
{
	rows->nkeys = 0;
	queue_rows_where_int8(rows, BTEqualStrategyNumber, job_id);
	if (name != NULL)
		queue_rows_where_text(rows, name);
	queue_rows_begin(rows, queue_config()->step, queue_config()->step_pkey, lockmode);
}

Jsonb *
queue_step_find(int64 job_id, const char *name)
{
	QueueRows	rows;
	Jsonb	   *value = NULL;
	bool		isnull;

	begin(&rows, job_id, name, AccessShareLock);
	if (queue_rows_next(&rows))
		value = DatumGetJsonbPCopy(queue_rows_datum(&rows, COL_VALUE, &isnull));
	queue_rows_end(&rows);
	return value;
}

static void
insert(int64 job_id, const char *name, Jsonb *value)
{
	Datum values[NCOLS] = {[COL_JOB_ID - 1] = Int64GetDatum(job_id), [COL_NAME - 1] = CStringGetTextDatum(name),
						   [COL_VALUE - 1] = JsonbPGetDatum(value)};
	QueueInserter inserter;

	queue_inserter_open(&inserter, queue_config()->step);
	queue_inserter_put(&inserter, values, NCOLS);
	queue_inserter_close(&inserter);
}

void
queue_step_store(QueueJob *job, const char *name, Jsonb *value)
{
	QueueExtra	extra;

	queue_extra_unpack(job->extra, &extra);
	extra.steps_size += VARSIZE(value) + strlen(name);
	queue_check_size("what a job's steps store", extra.steps_size);
	insert(job->id, name, value);
	job->extra = queue_extra_pack(&extra);
	CommandCounterIncrement();
}

/* Reads all, and with `take` deletes them; NULL: there are none. */
static Jsonb *
read_all(int64 job_id, bool take)
{
	JsonbParseState *state = NULL;
	QueueRows	rows;
	bool		any = false;

	begin(&rows, job_id, NULL, take ? RowExclusiveLock : AccessShareLock);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while (queue_rows_next(&rows))
	{
		bool		isnull;
		JsonbValue	name = {.type = jbvString};
		JsonbValue	value;

		name.val.string.val = TextDatumGetCString(queue_rows_datum(&rows, COL_NAME, &isnull));
		name.val.string.len = strlen(name.val.string.val);
		(void) pushJsonbValue(&state, WJB_KEY, &name);
		JsonbToJsonbValue(DatumGetJsonbPCopy(queue_rows_datum(&rows, COL_VALUE, &isnull)), &value);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
		any = true;
		if (take)
			(void) queue_rows_delete(&rows);
	}
	queue_rows_end(&rows);
	return any ? JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)) : NULL;
}

Jsonb *
queue_steps_of(int64 job_id)
{
	Jsonb	   *steps = read_all(job_id, false);

	return steps != NULL ? steps : DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

void
queue_steps_end(QueueJob *job)
{
	QueueExtra	extra;

	/* of one that cannot be read nobody knows whether it has any */
	if (job->extra == NULL && job->stored_extra != NULL)
		(void) read_all(job->id, true);
	if (queue_extra_int(job->extra, "steps_size") == 0)
		return;
	queue_extra_unpack(job->extra, &extra);
	extra.steps = read_all(job->id, true);
	job->extra = queue_extra_pack(&extra);
}

void
queue_steps_revive(int64 job_id, QueueExtra *extra)
{
	JsonbIterator *it;
	JsonbValue	value;
	char	   *name;

	if (extra->steps == NULL)
		return;
	it = JsonbIteratorInit(&extra->steps->root);
	while (queue_option_next(&it, &name, &value))
		insert(job_id, name, JsonbValueToJsonb(&value));
	extra->steps = NULL;
}
