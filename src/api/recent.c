/*
 * recent.c
 *		The function behind queue.recent_job, and how explain_job and wait_for read the same memory.
 *
 * An entry has the names of its queue and kind, so that it outlives their line; a pair of names that is too long for
 * that is read from the line's row.
 *
 * Locks: none beyond those of a look at queue.line.
 */
#include "api/recent.h"

#include "config/lines.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_sql_recent_job_rows);

/* Takes the next piece of an entry's text; NULL: it is empty. */
static char *
take(const char **text, int length)
{
	char	   *piece = length > 0 ? pnstrdup(*text, length) : NULL;

	*text += length;
	return piece;
}

/* Reads job->recent; false: the caller may not read its queue, or nobody knows any more which one it was. */
static bool
read_entry(QueueRecentJob *job)
{
	QueueRecent *recent = &job->recent;
	const char *text = recent->text;

	job->queue = take(&text, recent->queue_length);
	job->kind = take(&text, recent->kind_length);
	job->worker = take(&text, recent->worker_length);
	job->error = take(&text, recent->error_length);
	if (job->queue == NULL)
	{
		QueueLine  *line = queue_config_line(recent->line);

		if (line == NULL)
			return false;
		job->queue = pstrdup(line->queue->name);
		job->kind = pstrdup(line->kind);
	}
	return queue_may(GetUserId(), job->queue, QUEUE_PRIV_READ);
}

bool
queue_recent_job(int64 id, QueueRecentJob *job)
{
	return queue_recent_find(id, &job->recent) && read_entry(job);
}

/* queue_internal.recent_job_rows(): what VIEW queue.recent_job shows. */
Datum
queue_sql_recent_job_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "queue recent job", ALLOCSET_SMALL_SIZES);
	QueueRecentScan scan = {0};
	QueueRecentJob job;

	InitMaterializedSRF(fcinfo, 0);
	(void) queue_config();
	while (queue_recent_next(&scan, &job.recent))
	{
		QueueRecent *recent = &job.recent;
		MemoryContext old = MemoryContextSwitchTo(row);

		CHECK_FOR_INTERRUPTS();
		if (read_entry(&job))
		{
			Datum		values[10];
			bool		nulls[10] = {false};

			values[0] = Int64GetDatum(recent->id);
			values[1] = CStringGetTextDatum(job.queue);
			values[2] = CStringGetTextDatum(job.kind);
			values[3] = CStringGetTextDatum(recent->state == QUEUE_STATE_NONE ? "deleted" :
											queue_state_names[recent->state]);
			values[4] = Int32GetDatum(recent->attempt);
			values[5] = TimestampTzGetDatum(recent->enqueued_at);
			values[6] = TimestampTzGetDatum(recent->started_at);
			nulls[6] = recent->started_at == 0;
			values[7] = TimestampTzGetDatum(recent->ended_at);
			nulls[8] = job.worker == NULL;
			values[8] = nulls[8] ? (Datum) 0 : CStringGetTextDatum(job.worker);
			nulls[9] = job.error == NULL;
			values[9] = nulls[9] ? (Datum) 0 : CStringGetTextDatum(job.error);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	MemoryContextDelete(row);
	PG_RETURN_NULL();
}
