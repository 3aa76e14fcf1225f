/*
 * explain.c
 *		queue.explain_job(): why one job does not run, in words.
 *
 * It only reads, and scans no job table.
 *
 * Locks: AccessShareLock on live_job and the catalogs.
 */
#include "api/explain.h"

#include "api/arguments.h"
#include "api/doctor_server.h"
#include "api/handlers.h"
#include "api/recent.h"
#include "config/lines.h"
#include "job/claim.h"
#include "job/depend.h"
#include "job/event.h"
#include "job/finished.h"
#include "job/group.h"
#include "job/key.h"
#include "job/pending.h"
#include "job/rekeep.h"
#include "shared/clock.h"
#include "shared/counter.h"
#include "shared/share.h"
#include "shared/slot.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

PG_FUNCTION_INFO_V1(queue_sql_explain_job);

/* Appends "; waits: a; b" piece by piece. */
static void
wait_for_reason(StringInfo out, int *count, const char *reason)
{
	appendStringInfo(out, "; %s%s", (*count)++ == 0 ? "waits: " : "", reason);
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

#define MAX_KINDS 5				/* kinds of running jobs that are named */
#define MAX_BEHIND 10000		/* jobs after this one that are looked at */

/* What the executors of this database do. */
typedef struct Busy
{
	int			executors;		/* that run a job */
	int			in_queue;		/* of them, jobs of the queue that is asked about */
	int			nkinds;
	int			others;			/* jobs of kinds that are not named or not the reader's to know */
	struct
	{
		const char *kind;
		int			n;
	}			kinds[MAX_KINDS];
	TimestampTz longest;		/* start of the oldest run */
} Busy;

/* Reads the slots; no lock. */
static void
look_at_executors(const QueueConf *conf, Busy *busy)
{
	memset(busy, 0, sizeof(*busy));
	busy->longest = DT_NOEND;
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		QueueLine  *line;
		int			k = MAX_KINDS;

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId ||
			pg_atomic_read_u64(&slot->job_id) == 0)
			continue;
		busy->executors++;
		busy->longest = queue_earlier(busy->longest, (TimestampTz) pg_atomic_read_u64(&slot->job_started_at));
		line = queue_config_line((int64) pg_atomic_read_u64(&slot->line));
		if (line != NULL && line->queue == conf)
			busy->in_queue++;
		if (line != NULL && queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ))
		{
			for (k = 0; k < busy->nkinds && strcmp(busy->kinds[k].kind, line->kind) != 0; k++)
				;
			if (k == busy->nkinds && k < MAX_KINDS)
				busy->kinds[busy->nkinds++].kind = line->kind;
		}
		if (k < MAX_KINDS)
			busy->kinds[k].n++;
		else
			busy->others++;
	}
}

/* How many due jobs of its queue come after this one, at most MAX_BEHIND; not those of lines that go before it. */
static int
count_after(QueueJobTable *table, const QueueLine *mine, const QueueJob *job, Snapshot snapshot, TimestampTz now)
{
	int			nlines;
	QueueLine **lines = queue_lines_of(mine->queue, &nlines);
	int			n = 0;

	for (int i = 0; i < nlines && n < MAX_BEHIND; i++)
	{
		ScanKeyData keys[2];
		IndexScanDesc scan;

		if (lines[i]->priority < mine->priority)
			continue;
		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(lines[i]->id));
		ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMP_GE,
					TimestampTzGetDatum(lines[i]->priority == mine->priority ? job->run_at : DT_NOBEGIN));
		scan = queue_index_beginscan(table->rel, queue_job_ready(table), snapshot, 2);
		index_rescan(scan, keys, 2, NULL, 0);
		while (n < MAX_BEHIND && index_getnext_slot(scan, ForwardScanDirection, table->slot))
		{
			QueueJob	other;

			CHECK_FOR_INTERRUPTS();
			queue_job_read(table->slot, &other, false);
			if (other.run_at > now)
				break;
			if (other.leased_until <= now && !queue_slot_runs(MyDatabaseId, other.id) &&
				(lines[i]->priority > mine->priority ||
				 queue_pos_cmp(queue_job_pos(&other), queue_job_pos(job)) > 0))
				n++;
		}
		ExecClearTuple(table->slot);
		index_endscan(scan);
	}
	return n;
}

/*
 * What an available job waits for that has all it needs: "behind 37 jobs; 4 of 4 executors busy (nap 4, the longest
 * 31 s)".
 */
static void
explain_turn(StringInfo out, int *count, QueueJobTable *table, const QueueLine *line, const QueueJob *job,
			 Snapshot snapshot, TimestampTz now)
{
	QueueCounter *counter = queue_counter_shown(line->queue->counter);
	StringInfoData text;
	Busy		busy;
	int64		ahead = 0;

	look_at_executors(line->queue, &busy);
	if (counter != NULL)
	{
		/* all that are due, less those that run, those after this one, and itself; estimates, as in stat_queue */
		ahead = (int64) pg_atomic_read_u64(&counter->gauge[QUEUE_STATE_AVAILABLE]) +
			(int64) pg_atomic_read_u64(&counter->due_scheduled) + (int64) pg_atomic_read_u64(&counter->due_retryable) -
			busy.in_queue - count_after(table, line, job, snapshot, now) - 1;
	}
	if (ahead > 0)
		wait_for_reason(out, count, psprintf("behind " INT64_FORMAT " job%s", ahead, ahead == 1 ? "" : "s"));
	if (ahead > 0 && line->queue->fair > 0)
		wait_for_reason(out, count, psprintf("concurrency keys take turns of %d job%s", line->queue->fair,
											 line->queue->fair == 1 ? "" : "s"));
	if (line->handler->http || busy.executors == 0)
		return;
	initStringInfo(&text);
	appendStringInfo(&text, "%d of %d executors busy (", busy.executors, Max(queue_executors, busy.executors));
	for (int k = 0; k < busy.nkinds; k++)
		appendStringInfo(&text, "%s%s %d", k > 0 ? ", " : "", busy.kinds[k].kind, busy.kinds[k].n);
	if (busy.others > 0)
		appendStringInfo(&text, "%sothers %d", busy.nkinds > 0 ? ", " : "", busy.others);
	appendStringInfo(&text, ", the longest %s)", how_long(busy.longest, now));
	wait_for_reason(out, count, text.data);
}

/* What an available job waits for. */
static void
explain_available(StringInfo out, int *count, const QueueConf *conf, const char *kind, QueueHandler *handler)
{
	const char *hint;
	const char *problem;

	if (conf->paused_at != 0)
		wait_for_reason(out, count,
						psprintf("queue %s is paused since %s", conf->name, timestamptz_to_str(conf->paused_at)));
	if (queue_config()->all_paused_at != 0)
		wait_for_reason(out, count,
						psprintf("all queues are paused since %s",
								 timestamptz_to_str(queue_config()->all_paused_at)));
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
	else if (queue_preloaded() && pg_atomic_read_u32(&queue_database()->hunger) >= QUEUE_HUNGER_FIRST)
		wait_for_reason(out, count, psprintf("no worker slot is free (max_worker_processes %d)", max_worker_processes));
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
	QueueRecentJob ended;

	if (queue_finished_find(id, snapshot, &finished))
	{
		if (queue_may(GetUserId(), finished.queue, QUEUE_PRIV_READ))
		{
			TimestampTz until = queue_rekeep_until(&finished);
			QueueExtra	extra;

			queue_extra_unpack(finished.job.extra, &extra);
			return psprintf("%s at %s%s%s; %s", queue_state_names[finished.state],
							time_text(finished.finished_at), extra.last_error != NULL ? ": " : "",
							extra.last_error != NULL ? extra.last_error : "",
							until == DT_NOEND ? "kept for ever" :
							until <= queue_now() ? "its time to be kept is over" :
							psprintf("kept at least until %s", time_text(until)));
		}
	}
	else if (queue_recent_job(id, &ended))
	{
		const char *ago = how_long(ended.recent.ended_at, queue_now());

		if (ended.recent.state == QUEUE_STATE_NONE)
			return psprintf("deleted %s ago: queue %s was purged or dropped", ago, ended.queue);
		return psprintf("%s %s ago, not kept%s%s; to keep such jobs: %s", queue_state_names[ended.recent.state], ago,
						ended.error != NULL ? "; reason: " : "", ended.error != NULL ? ended.error : "",
						keep_statement(ended.queue, (QueueState) ended.recent.state));
	}
	return psprintf("unknown: no job in a queue that you may read has this id; it was never committed, or it ended, or "
					"was purged, and is not kept. To keep jobs that complete: %s",
					keep_statement(NULL, QUEUE_STATE_COMPLETED));
}

/* What blocks a pending job. */
static void
explain_pending(StringInfo out, int *count, QueueJobTable *table, const QueueJob *job, const QueueLine *line,
				const QueueExtra *extra, Snapshot snapshot, TimestampTz now)
{
	if ((extra->blocks & QUEUE_BLOCK_GROUP) != 0 && extra->group_key != NULL)
	{
		bool		held;
		int64		head = queue_group_head(table, line->queue->name, extra->group_key, snapshot, &held);

		if (held)
			wait_for_reason(out, count,
							psprintf("job " INT64_FORMAT " of its group was discarded and holds it until it is "
									 "retried, cancelled or deleted", head));
		else if (head != 0 && head != job->id)
			wait_for_reason(out, count, psprintf("job " INT64_FORMAT " of its group goes first", head));
		else
			wait_for_reason(out, count, queue_group_unattended() ?
							"it is let in by the next fetch, or by queue.maintain(), because no scheduler runs" :
							"it is about to be let in as the first of its group");
	}
	if ((extra->blocks & QUEUE_BLOCK_KEY) != 0)
	{
		QueueKeyName name;
		int64		ids[2];

		wait_for_reason(out, count, !queue_key_name(job, line, &name) || queue_key_jobs(&name, snapshot, ids) == 0 ?
						"the job before it with its unique key has not ended" :
						psprintf("job " INT64_FORMAT ", which has unique key \"%s\", has not ended", ids[0], name.key));
	}
	if ((extra->blocks & QUEUE_BLOCK_EVENT) != 0)
	{
		QueueAwait	await;

		if (extra->awaits != NULL && queue_event_awaited(job->id, extra->awaits, &await))
			wait_for_reason(out, count, await.until == DT_NOEND ?
							psprintf("it awaits event \"%s\" of queue %s", await.event, await.queue) :
							psprintf("it awaits event \"%s\" of queue %s until %s", await.event, await.queue,
									 timestamptz_to_str(await.until)));
		else
			wait_for_reason(out, count, "it awaits an event");
	}
	if ((extra->blocks & QUEUE_BLOCK_DEPENDENCY) != 0)
	{
		int64		other = queue_depend_waits_for(table, job->id);

		wait_for_reason(out, count, other == 0 ? "a job that it depends on has not ended" :
						psprintf("job " INT64_FORMAT ", which it depends on, has not ended", other));
	}
	if (extra->run_at > now)
		wait_for_reason(out, count, psprintf("it is due at %s", timestamptz_to_str(extra->run_at)));
	if (*count == 0)
		wait_for_reason(out, count, "nothing lets it in: its run_at was set to infinity by hand");
}

static char *
explain_live(QueueJobTable *table, const QueueJob *job, const QueueLine *line, Snapshot snapshot)
{
	TimestampTz now = queue_now();
	QueueState	state = queue_job_state(job, now);
	QueueHolder holder = queue_claim_holder(job->id, DT_NOBEGIN, now);
	StringInfoData out;
	QueueExtra	extra;
	int			count = 0;
	char	   *limit;

	initStringInfo(&out);
	queue_extra_unpack(job->extra, &extra);
	if (holder == QUEUE_HELD_BY_EXECUTOR)
	{
		QueueSlotJob run;

		if (queue_slot_job(MyDatabaseId, job->id, &run))
			appendStringInfo(&out, "running for %s in executor %d", how_long(run.started_at, now), (int) run.pid);
		else
			appendStringInfoString(&out, "running: its executor is just done with it");
		return out.data;
	}
	if (holder == QUEUE_HELD_BY_SESSION)
	{
		appendStringInfoString(&out, "running: a session has claimed it with fetch(claim => 'session')");
		return out.data;
	}
	appendStringInfoString(&out, queue_state_names[state]);
	if (state == QUEUE_STATE_RUNNING)
		appendStringInfo(&out, ": claimed by %s until %s", extra.worker != NULL ? extra.worker : "a worker",
						 timestamptz_to_str(job->leased_until));
	else if (state == QUEUE_STATE_RETRYABLE)
	{
		appendStringInfo(&out, ": failed %d of %d times", job->failures,
						 queue_job_max_attempts(job, &extra, line->queue, line->handler));
		if (extra.last_error != NULL)
			appendStringInfo(&out, ", last: %s", extra.last_error);
	}
	if (state == QUEUE_STATE_SCHEDULED || state == QUEUE_STATE_RETRYABLE)
		wait_for_reason(&out, &count, psprintf("it is due at %s", timestamptz_to_str(job->run_at)));
	if (state == QUEUE_STATE_PENDING)
		explain_pending(&out, &count, table, job, line, &extra, snapshot, now);
	if (state == QUEUE_STATE_AVAILABLE)
	{
		explain_available(&out, &count, line->queue, line->kind, line->handler);
		limit = queue_limit_explain(line);
		if (limit != NULL)
			wait_for_reason(&out, &count, limit);
		if (count == 0)
			explain_turn(&out, &count, table, line, job, snapshot, now);
		if (count == 0)
			wait_for_reason(&out, &count, "its turn");
	}
	return out.data;
}

char *
queue_explain_live(QueueJobTable *table, const QueueJob *job, const QueueLine *line, Snapshot snapshot)
{
	int			held = queue_config_hold(); /* the line's reading, and those of the lines that are met */
	char	   *text = explain_live(table, job, line, snapshot);

	queue_config_release(held);
	return text;
}

/* queue.explain_job(id): read on its queue; a job that one may not see answers like a missing one. */
Datum
queue_sql_explain_job(PG_FUNCTION_ARGS)
{
	int64		id = queue_arg_id(fcinfo, 0, "job_id");
	QueueJobTable *table = queue_job_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	char	   *text = NULL;
	QueueJob	job;

	if (queue_job_find_lean(table, id, snapshot, &job))
	{
		QueueLine  *line = queue_job_line(job.line);

		if (queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ))
			text = queue_explain_live(table, &job, line, snapshot);
	}
	queue_job_close(table);
	if (text == NULL)
		text = explain_ended(id, snapshot);
	UnregisterSnapshot(snapshot);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
