/*
 * explain.c
 *		queue.explain_job(): why one job does not run, in words.
 *
 * It only reads, and scans no job table.
 *
 * Locks: AccessShareLock on live_job and the catalogs.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/doctor.h"
#include "api/handlers.h"
#include "config/lines.h"
#include "job/claim.h"
#include "job/finished.h"
#include "shared/clock.h"
#include "shared/recent.h"
#include "shared/share.h"
#include "shared/slot.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_sql_explain_job);

/* Appends "; waits: a; b" piece by piece. */
static void
wait_for_reason(StringInfo out, int *count, const char *reason)
{
	appendStringInfo(out, "; %s%s", (*count)++ == 0 ? "waits: " : "", reason);
}

/* What an available job waits for. */
static void
explain_available(StringInfo out, int *count, QueueConf *conf, const char *kind, QueueHandler *handler)
{
	const char *hint;
	const char *problem;

	if (conf->paused_at != 0)
		wait_for_reason(out, count,
						psprintf("queue %s is paused since %s", conf->name, timestamptz_to_str(conf->paused_at)));
	if (handler == NULL)
	{
		wait_for_reason(out, count, psprintf("no handler serves kind %s in queue %s, so a worker has to fetch it",
											 kind, conf->name));
		return;
	}
	if (handler->paused_at != 0)
		wait_for_reason(out, count, psprintf("the handler of kind %s is paused since %s, so a worker has to fetch it",
											 handler->kind, timestamptz_to_str(handler->paused_at)));
	problem = queue_handler_problem(handler, &hint);
	if (problem != NULL)
		wait_for_reason(out, count,
						hint != NULL ?
							psprintf("the handler of kind %s is parked: %s (%s)", handler->kind, problem, hint) :
							psprintf("the handler of kind %s is parked: %s", handler->kind, problem));
	else if (!queue_may(handler->run_as_oid, conf->name, QUEUE_PRIV_WORK))
		wait_for_reason(out, count, psprintf("role \"%s\" of the handler of kind %s may not work in queue %s",
											 handler->run_as, handler->kind, conf->name));
	problem = queue_doctor_scheduler_problem(&hint);
	if (problem != NULL)
		wait_for_reason(out, count, problem);
	else if (queue_executors == 0)
		wait_for_reason(out, count, "queue.executors is 0");
	else if (queue_preloaded() && pg_atomic_read_u32(&queue_base()->hunger) >= QUEUE_HUNGER_FIRST)
		wait_for_reason(out, count, psprintf("no worker slot is free (max_worker_processes %d)", max_worker_processes));
	if (*count == 0)
		wait_for_reason(out, count, "its turn");
}

/* "3 s", "5 min", "2 h" or "4 days" between two times. */
static char *
how_long(TimestampTz from, TimestampTz to)
{
	int64		s = Max(to - from, 0) / USECS_PER_SEC;

	return s < 120 ? psprintf(INT64_FORMAT " s", s) :
		s < 2 * SECS_PER_HOUR ? psprintf(INT64_FORMAT " min", s / SECS_PER_MINUTE) :
		s < 2 * SECS_PER_DAY ? psprintf(INT64_FORMAT " h", s / SECS_PER_HOUR) :
		psprintf(INT64_FORMAT " days", s / SECS_PER_DAY);
}

/* As the session's DateStyle has it. */
static char *
time_text(TimestampTz at)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(at)));
}

/* The statement that makes a queue keep jobs that end so. */
static char *
keep_statement(const char *queue, QueueState state)
{
	return psprintf("SELECT queue.alter_queue(%s, %s => '7 days')",
					queue == NULL ? "<queue>" : quote_literal_cstr(queue),
					state == QUEUE_STATE_COMPLETED ? "keep_completed" : "keep_discarded");
}

/*
 * A job without a live row, under the caller's snapshot: kept, remembered, or neither.  One that the caller may not
 * see reads like one that is gone.
 */
static char *
explain_ended(int64 id, Snapshot snapshot)
{
	QueueFinished finished;
	QueueRecent recent;

	if (queue_finished_find(id, snapshot, &finished))
	{
		if (queue_may(GetUserId(), finished.queue, QUEUE_PRIV_READ))
		{
			QueueExtra	extra;

			queue_extra_unpack(finished.job.extra, &extra);
			return psprintf("%s at %s%s%s; kept %s", queue_state_names[finished.state],
							time_text(finished.finished_at), extra.last_error != NULL ? ": " : "",
							extra.last_error != NULL ? extra.last_error : "",
							finished.keep_until == DT_NOEND ? "for ever" :
							psprintf("at least until %s", time_text(finished.keep_until)));
		}
	}
	else if (queue_recent_find(id, &recent))
	{
		QueueLine  *line = queue_config_line(recent.line);

		if (line != NULL && queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ))
		{
			const char *ago = how_long(recent.ended_at, queue_now());

			if (recent.state == QUEUE_STATE_NONE)
				return psprintf("deleted %s ago: queue %s was purged or dropped", ago, line->queue->name);
			return psprintf("%s %s ago, not kept; to keep such jobs: %s", queue_state_names[recent.state], ago,
							keep_statement(line->queue->name, recent.state));
		}
	}
	return psprintf("unknown: no job in a queue that you may read has this id; it was never committed, or it ended, or "
					"was purged, and is not kept. To keep jobs that complete: %s",
					keep_statement(NULL, QUEUE_STATE_COMPLETED));
}

/* queue.explain_job(id): read on its queue; a job that one may not see answers like a missing one. */
Datum
queue_sql_explain_job(PG_FUNCTION_ARGS)
{
	QueueJobTable *table;
	QueueJob	job;
	Snapshot	snapshot;
	bool		found;
	StringInfoData out;
	int			count = 0;
	TimestampTz now = queue_now();
	int64		id = queue_arg_id(fcinfo, 0, "job_id");

	initStringInfo(&out);

	table = queue_job_open(AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = queue_job_find_lean(table, id, snapshot, &job);
	if (found)
	{
		QueueLine  *line = queue_job_line(job.line);
		QueueConf  *conf = line->queue;
		QueueHandler *handler = line->handler;
		QueueState	state = queue_job_state(&job, now);
		QueueHolder holder;
		QueueExtra	extra;

		found = queue_may(GetUserId(), conf->name, QUEUE_PRIV_READ);
		if (found)
		{
			queue_extra_unpack(job.extra, &extra);
			holder = queue_claim_holder(id, DT_NOBEGIN, now);
			if (holder == QUEUE_HELD_BY_EXECUTOR)
				appendStringInfoString(&out, "running: an executor runs it now");
			else if (holder == QUEUE_HELD_BY_SESSION)
				appendStringInfoString(&out, "running: a session has claimed it with fetch(claim => 'session')");
			else
			{
				appendStringInfoString(&out, queue_state_names[state]);
				if (state == QUEUE_STATE_RUNNING)
					appendStringInfo(&out, ": claimed by %s until %s", extra.worker != NULL ? extra.worker : "a worker",
									 timestamptz_to_str(job.leased_until));
				else if (state == QUEUE_STATE_RETRYABLE)
				{
					appendStringInfo(&out, ": failed %d of %d times", job.failures,
									 queue_job_max_attempts(&job, &extra, conf, handler));
					if (extra.last_error != NULL)
						appendStringInfo(&out, ", last: %s", extra.last_error);
				}
				if (state == QUEUE_STATE_SCHEDULED || state == QUEUE_STATE_RETRYABLE)
					wait_for_reason(&out, &count, psprintf("it is due at %s", timestamptz_to_str(job.run_at)));
				if (state == QUEUE_STATE_PENDING)
					wait_for_reason(&out, &count, "its group or its dependencies");
				if (state == QUEUE_STATE_AVAILABLE)
					explain_available(&out, &count, conf, line->kind, handler);
			}
		}
	}
	queue_job_close(table);
	if (!found)
		appendStringInfoString(&out, explain_ended(id, snapshot));
	UnregisterSnapshot(snapshot);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
