/*
 * event.c
 *		Events: rows of queue.event, and of queue.event_wait, who waits for which.
 *
 * An emit inserts an event, an await inserts who awaits it, and neither looks for the other: two that are open at a
 * time would miss each other.  Each leaves a reminder for the time after its commit (remind.h), and who takes
 * reminders, the scheduler or maintain(), takes them before his snapshot: so whoever commits second is seen together
 * with the first.  The await itself looks first whether the event is there already; what it does not see then brings a
 * reminder.
 *
 * A row of queue.event_wait stays until its job ends: it tells a job that asks again what it was told, for what became
 * of an await must not change from one attempt to the next.  The payload stays in the event's row, which retention
 * keeps as long as a live job has awaited it.  Both tables are only inserted into and deleted from; a wait that is
 * resolved is replaced.
 *
 * An event older than queue.keep_events counts as never emitted, unless it came while somebody waited for it.
 *
 * Locks: RowExclusiveLock on event_wait and event; the row of the job, never waited for by who lets in.
 */
#include "job/event.h"

#include "config/owner.h"
#include "job/pending.h"
#include "job/place.h"
#include "job/remind.h"
#include "job/rows.h"
#include "shared/clock.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* The columns of the two tables.  Later versions only append. */
enum
{
	EVENT_ID = 1, EVENT_EMITTED_AT, EVENT_QUEUE, EVENT_NAME, EVENT_PAYLOAD
};
enum
{
	WAIT_JOB_ID = 1, WAIT_STATUS, WAIT_AT, WAIT_UNTIL, WAIT_QUEUE, WAIT_EVENT,
	WAIT_WAITS,				/* the job's id, as long as it waits; else null */
	NWAIT = WAIT_WAITS
};

const char *const queue_awaited_names[] = {
	[QUEUE_AWAITED_WAITING] = "waiting",
	[QUEUE_AWAITED_EVENT] = "event",
	[QUEUE_AWAITED_TIMEOUT] = "timeout"
};

/* An event, as far as it is asked for. */
typedef struct Event
{
	int64		id;
	TimestampTz emitted_at;
	char	   *queue;
	char	   *name;
	Jsonb	   *payload;
} Event;

static void
read_event(QueueRows *rows, Event *event)
{
	bool		isnull;

	event->id = DatumGetInt64(queue_rows_datum(rows, EVENT_ID, &isnull));
	event->emitted_at = DatumGetTimestampTz(queue_rows_datum(rows, EVENT_EMITTED_AT, &isnull));
	event->queue = TextDatumGetCString(queue_rows_datum(rows, EVENT_QUEUE, &isnull));
	event->name = TextDatumGetCString(queue_rows_datum(rows, EVENT_NAME, &isnull));
	event->payload = DatumGetJsonbPCopy(queue_rows_datum(rows, EVENT_PAYLOAD, &isnull));
}

/* The event of this name; false: there is none, or with `waits` none that counts for who has not been told of it. */
static bool
find_event(const QueueAwait *await, bool waits, Event *event)
{
	QueueRows	rows = {0};
	bool		found;

	queue_rows_where_text(&rows, await->queue);
	queue_rows_where_text(&rows, await->event);
	queue_rows_begin(&rows, queue_config()->event, queue_config()->event_name, AccessShareLock);
	found = queue_rows_next(&rows);
	if (found)
		read_event(&rows, event);
	queue_rows_end(&rows);
	return found && (!waits || event->emitted_at > queue_now() - (int64) queue_keep_events * USECS_PER_SEC ||
					 event->emitted_at >= await->awaited_at);
}

static void
read_await(QueueRows *rows, QueueAwait *await)
{
	bool		isnull;

	memset(await, 0, sizeof(*await));
	await->job_id = DatumGetInt64(queue_rows_datum(rows, WAIT_JOB_ID, &isnull));
	await->status = Max(QUEUE_AWAITED_WAITING, Min(QUEUE_AWAITED_TIMEOUT,
												   DatumGetInt16(queue_rows_datum(rows, WAIT_STATUS, &isnull))));
	await->awaited_at = DatumGetTimestampTz(queue_rows_datum(rows, WAIT_AT, &isnull));
	await->until = DatumGetTimestampTz(queue_rows_datum(rows, WAIT_UNTIL, &isnull));
	await->queue = TextDatumGetCString(queue_rows_datum(rows, WAIT_QUEUE, &isnull));
	await->event = TextDatumGetCString(queue_rows_datum(rows, WAIT_EVENT, &isnull));
	await->known = true;
}

/* What a job awaits, one event or (NULL) all. */
static void
begin_of_job(QueueRows *rows, int64 job_id, const char *event, LOCKMODE lockmode)
{
	memset(rows, 0, sizeof(*rows));
	queue_rows_where_int8(rows, BTEqualStrategyNumber, job_id);
	if (event != NULL)
		queue_rows_where_text(rows, event);
	queue_rows_begin(rows, queue_config()->event_wait, queue_config()->event_wait_pkey, lockmode);
}

static void
insert_await(const QueueAwait *await)
{
	Datum values[NWAIT] = {
		[WAIT_JOB_ID - 1] = Int64GetDatum(await->job_id), [WAIT_STATUS - 1] = Int16GetDatum(await->status),
		[WAIT_AT - 1] = TimestampTzGetDatum(await->awaited_at), [WAIT_UNTIL - 1] = TimestampTzGetDatum(await->until),
		[WAIT_QUEUE - 1] = CStringGetTextDatum(await->queue), [WAIT_EVENT - 1] = CStringGetTextDatum(await->event),
		[WAIT_WAITS - 1] = Int64GetDatum(await->job_id)
	};
	QueueInserter inserter;

	queue_inserter_open(&inserter, queue_config()->event_wait);
	queue_inserter_put(&inserter, values, await->status == QUEUE_AWAITED_WAITING ? NWAIT : NWAIT - 1);
	queue_inserter_close(&inserter);
}

/* Replaces the row of an await that is resolved; false: somebody else has it. */
static bool
replace_await(const QueueAwait *await)
{
	QueueRows	rows;
	bool		done;

	begin_of_job(&rows, await->job_id, await->event, RowExclusiveLock);
	done = queue_rows_next(&rows) && queue_rows_delete(&rows);
	queue_rows_end(&rows);
	if (done)
		insert_await(await);
	return done;
}

/* ---- emit ---- */

bool
queue_event_emit(const char *queue, const char *event, Jsonb *payload)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	TimestampTz now = queue_now();
	Datum values[] = {
		CStringGetTextDatum(queue), CStringGetTextDatum(event), JsonbPGetDatum(payload), TimestampTzGetDatum(now),
		TimestampTzGetDatum(now - (int64) queue_keep_events * USECS_PER_SEC)
	};
	QueueOwnerContext saved;
	bool		first;
	int64		id = 0;

	queue_as_owner_begin(&saved);
	SPI_connect();
	if (plan == NULL)
	{
		/* one that is too old counts as never emitted, whether retention was there or not */
		plan = SPI_prepare("INSERT INTO queue.event AS e (id, emitted_at, queue, name, payload)"
						   " VALUES (pg_catalog.nextval('queue.event_id'), $4, $1, $2, $3)"
						   " ON CONFLICT (queue, name) DO UPDATE SET emitted_at = $4, payload = $3"
						   " WHERE e.emitted_at <= $5 RETURNING id", lengthof(types), types);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the insert of an event");
	}
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not insert an event");
	first = SPI_processed > 0;
	if (first)
	{
		bool		isnull;

		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	queue_as_owner_end(&saved);
	if (first)
		queue_job_remind(QUEUE_REMIND_EMITTED, id);
	return first;
}

/* ---- await ---- */

bool
queue_event_awaited(int64 job_id, const char *name, QueueAwait *await)
{
	QueueRows	rows;
	bool		found;
	Event		event;

	begin_of_job(&rows, job_id, name, AccessShareLock);
	found = queue_rows_next(&rows);
	if (found)
		read_await(&rows, await);
	queue_rows_end(&rows);
	if (found && await->status == QUEUE_AWAITED_EVENT && find_event(await, false, &event))
		await->payload = event.payload;
	return found;
}

void
queue_event_await(QueueJob *job, const char *queue, const char *name, int64 timeout, QueueAwait *await)
{
	TimestampTz now = queue_now();
	QueueExtra	extra;
	Event		event;

	if (!queue_event_awaited(job->id, name, await))
		*await = (QueueAwait) {
			.job_id = job->id, .event = pstrdup(name), .queue = pstrdup(queue), .awaited_at = now,
			.until = timeout < 0 ? DT_NOEND : queue_time_add(now, timeout)
		};
	if (await->status == QUEUE_AWAITED_WAITING)
	{
		bool		known = await->known;

		if (find_event(await, true, &event))
		{
			await->status = QUEUE_AWAITED_EVENT;
			await->payload = event.payload;
		}
		else if (await->until <= now)
			await->status = QUEUE_AWAITED_TIMEOUT;
		if (!known)
			insert_await(await);
		else if (await->status != QUEUE_AWAITED_WAITING)
			(void) replace_await(await);
		await->known = false;
	}
	if (await->status == QUEUE_AWAITED_WAITING)
	{
		queue_job_remind(QUEUE_REMIND_AWAITS, job->id);
		if (await->until != DT_NOEND)
			queue_job_note_deadline(job, await->until);
	}
	queue_extra_unpack(job->extra, &extra);
	extra.awaits = await->event;
	job->extra = queue_extra_pack(&extra);
	CommandCounterIncrement();
}

void
queue_event_ended(const QueueJob *job)
{
	QueueRows	rows;

	/* of one that cannot be read nobody knows whether it awaits anything */
	if (job->extra == NULL ? job->stored_extra == NULL : queue_extra_text(job->extra, "awaits") == NULL)
		return;
	begin_of_job(&rows, job->id, NULL, RowExclusiveLock);
	while (queue_rows_next(&rows))
		(void) queue_rows_delete(&rows);
	queue_rows_end(&rows);
}

/* ---- letting in ---- */

/* The await has come to an end: its job is let in. */
static bool
resolve(QueueJobTable *jobs, QueueAwait *await, QueueAwaited status)
{
	QueueJob	job;

	PushActiveSnapshot(GetLatestSnapshot());
	if (queue_job_find_lean(jobs, await->job_id, GetActiveSnapshot(), &job) && queue_job_pending(&job) &&
		(queue_extra_blocks(job.extra) & QUEUE_BLOCK_EVENT) != 0 &&
		queue_job_promote(jobs, &job, QUEUE_BLOCK_EVENT, GetActiveSnapshot(), false) != TM_Ok)
	{
		PopActiveSnapshot();
		return false;
	}
	PopActiveSnapshot();
	await->status = status;
	(void) replace_await(await);
	return true;
}

bool
queue_event_look(QueueJobTable *jobs, int64 job_id, TimestampTz now)
{
	QueueRows	rows;
	bool		done = true;
	bool		any = false;

	begin_of_job(&rows, job_id, NULL, RowExclusiveLock);
	while (queue_rows_next(&rows))
	{
		QueueAwait	await;
		Event		event;

		read_await(&rows, &await);
		if (await.status != QUEUE_AWAITED_WAITING)
			continue;
		if (find_event(&await, true, &event))
			done &= resolve(jobs, &await, QUEUE_AWAITED_EVENT);
		else if (await.until <= now)
			done &= resolve(jobs, &await, QUEUE_AWAITED_TIMEOUT);
		else
			continue;
		any = true;
	}
	queue_rows_end(&rows);
	if (any)
		CommandCounterIncrement();
	return done;
}

bool
queue_event_emitted(QueueJobTable *jobs, int64 event_id, int64 *after, int max, int64 *busy, int *nbusy)
{
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "queue waits", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	QueueRows	rows = {0};
	Event		event;
	bool		more;
	int			n = 0;

	*nbusy = 0;
	queue_rows_where_int8(&rows, BTEqualStrategyNumber, event_id);
	queue_rows_begin(&rows, queue_config()->event, queue_config()->event_pkey, AccessShareLock);
	more = queue_rows_next(&rows);
	if (more)
		read_event(&rows, &event);
	queue_rows_end(&rows);
	if (!more || *after == PG_INT64_MAX)
		return false;
	queue_rows_where_text(&rows, event.queue);
	queue_rows_where_text(&rows, event.name);
	queue_rows_where_int8(&rows, BTGreaterEqualStrategyNumber, *after + 1);
	queue_rows_begin(&rows, queue_config()->event_wait, queue_config()->event_wait_event, RowExclusiveLock);
	old = MemoryContextSwitchTo(each);
	while (n < max && (more = queue_rows_next(&rows)))
	{
		QueueAwait	await;

		read_await(&rows, &await);
		*after = await.job_id;
		if (!resolve(jobs, &await, QUEUE_AWAITED_EVENT))
			busy[(*nbusy)++] = await.job_id;
		n++;
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(old);
	queue_rows_end(&rows);
	if (n > 0)
		CommandCounterIncrement();
	MemoryContextDelete(each);
	return more;
}

int
queue_event_waiting(int64 after, int64 *ids, int max)
{
	QueueRows	rows = {0};
	int			n = 0;

	queue_rows_where_int8(&rows, BTGreaterEqualStrategyNumber, after + 1);
	queue_rows_begin(&rows, queue_config()->event_wait, queue_config()->event_wait_pkey, AccessShareLock);
	while (n < max && queue_rows_next(&rows))
	{
		bool		isnull;
		int64		id;

		(void) queue_rows_datum(&rows, WAIT_WAITS, &isnull);
		if (isnull)
			continue;
		id = DatumGetInt64(queue_rows_datum(&rows, WAIT_JOB_ID, &isnull));
		if (n == 0 || ids[n - 1] != id)
			ids[n++] = id;
	}
	queue_rows_end(&rows);
	return n;
}
