/*
 * schedule.c
 *		A schedule as its rows have it: reading it, what is wrong with it, and its jobs.
 *
 * A schedule belongs to the role that registered it, which is kept by name, as a handler's is, so that a dump carries
 * it: a role that was dropped or renamed parks the schedule.  Its jobs are enqueued for that role, with the right that
 * it has at the tick.
 *
 * No locks but those of an enqueue.
 */
#include "api/schedule.h"

#include "api/enqueue.h"
#include "config/config.h"
#include "shared/clock.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"

#define LATE_US USECS_PER_MINUTE	/* a tick whose job comes so long after it was made up for */

const char *const queue_overlap_names[] = {
	[QUEUE_OVERLAP_ALLOW] = "allow", [QUEUE_OVERLAP_SKIP] = "skip", [QUEUE_OVERLAP_REPLACE] = "replace",
	[QUEUE_OVERLAP_REPLACE + 1] = NULL
};

/* The columns of QUEUE_SCHEDULE_SELECT. */
enum
{
	COL_NAME = 1, COL_CRON, COL_TIMEZONE, COL_KIND, COL_PAYLOAD, COL_QUEUE, COL_PRIORITY, COL_OPTIONS, COL_MISSED_TICKS,
	COL_STARTS_AT, COL_ENDS_AT, COL_JITTER, COL_EXPIRES_AFTER, COL_OVERLAP, COL_CATCH_UP, COL_OWNER, COL_PAUSED_AT,
	COL_SYSTEM_IDENTIFIER, COL_DATABASE_OID, COL_REACHED, COL_LAST_TICK, COL_LAST_JOB_ID, COL_MISSED, COL_SKIPPED,
	COL_REASON, NCOLS = COL_REASON
};

/* ---------------------------------------------------------------- reading */

typedef struct Row
{
	Datum		values[NCOLS];
	bool		nulls[NCOLS];
} Row;

static char *
text_of(const Row *row, int column)
{
	return row->nulls[column - 1] ? NULL : TextDatumGetCString(row->values[column - 1]);
}

static TimestampTz
time_of(const Row *row, int column, TimestampTz missing)
{
	return row->nulls[column - 1] ? missing : DatumGetTimestampTz(row->values[column - 1]);
}

/* In microseconds, so small that a sum of such does not overflow; 0: null, or below 0. */
static int64
span_of(const Row *row, int column)
{
	int64		us = row->nulls[column - 1] ? 0 : queue_interval_us(DatumGetIntervalP(row->values[column - 1]));

	return Max(0, Min(us, QUEUE_MAX_SPAN_US));
}

static Jsonb *
json_of(const Row *row, int column)
{
	return row->nulls[column - 1] ? NULL : DatumGetJsonbPCopy(row->values[column - 1]);
}

void
queue_schedule_read(HeapTuple tuple, TupleDesc desc, QueueSchedule *schedule)
{
	Row			row;
	QueueCronError wrong;
	char	   *overlap;

	heap_deform_tuple(tuple, desc, row.values, row.nulls);
	memset(schedule, 0, sizeof(*schedule));
	schedule->name = text_of(&row, COL_NAME);
	schedule->line = text_of(&row, COL_CRON);
	schedule->timezone = text_of(&row, COL_TIMEZONE);
	schedule->kind = text_of(&row, COL_KIND);
	schedule->payload = json_of(&row, COL_PAYLOAD);
	schedule->queue = text_of(&row, COL_QUEUE);
	schedule->priority = DatumGetInt32(row.values[COL_PRIORITY - 1]);
	schedule->options = json_of(&row, COL_OPTIONS);
	schedule->missed_last = strcmp(text_of(&row, COL_MISSED_TICKS), "last") == 0;
	schedule->starts_at = time_of(&row, COL_STARTS_AT, DT_NOBEGIN);
	schedule->ends_at = time_of(&row, COL_ENDS_AT, DT_NOEND);
	schedule->jitter = span_of(&row, COL_JITTER);
	schedule->expires_after = span_of(&row, COL_EXPIRES_AFTER);
	schedule->catch_up = span_of(&row, COL_CATCH_UP);
	schedule->owner = pstrdup(NameStr(*DatumGetName(row.values[COL_OWNER - 1])));
	schedule->owner_oid = get_role_oid(schedule->owner, true);
	schedule->paused_at = time_of(&row, COL_PAUSED_AT, 0);
	schedule->adopted = (uint64) DatumGetInt64(row.values[COL_SYSTEM_IDENTIFIER - 1]) == GetSystemIdentifier() &&
		DatumGetObjectId(row.values[COL_DATABASE_OID - 1]) == MyDatabaseId;
	schedule->reached = time_of(&row, COL_REACHED, 0);
	schedule->last_tick = time_of(&row, COL_LAST_TICK, 0);
	schedule->last_job = row.nulls[COL_LAST_JOB_ID - 1] ? 0 : DatumGetInt64(row.values[COL_LAST_JOB_ID - 1]);
	schedule->missed = DatumGetInt64(row.values[COL_MISSED - 1]);
	schedule->skipped = DatumGetInt64(row.values[COL_SKIPPED - 1]);
	schedule->reason = text_of(&row, COL_REASON);

	overlap = text_of(&row, COL_OVERLAP);
	while (queue_overlap_names[schedule->overlap] != NULL &&
		   strcmp(overlap, queue_overlap_names[schedule->overlap]) != 0)
		schedule->overlap++;
	if (queue_overlap_names[schedule->overlap] == NULL)
		schedule->broken = psprintf("its overlap \"%s\" is none", overlap);
	schedule->zone = queue_cron_zone(schedule->timezone);
	if (schedule->zone == NULL)
		schedule->broken = psprintf("there is no time zone \"%s\"", schedule->timezone);
	if (!queue_cron_parse(schedule->line, &schedule->cron, &wrong))
		schedule->broken = psprintf("its line cannot be read: %s", wrong.message);
}

const char *
queue_schedule_problem(const QueueSchedule *schedule, const char **hint)
{
	if (!schedule->adopted)
	{
		*hint = "If this database was restored or cloned on purpose, run SELECT queue.adopt().";
		return "it was registered in another database, of which this one is a copy";
	}
	if (schedule->broken != NULL)
	{
		*hint = "Register it again with queue.schedule.";
		return schedule->broken;
	}
	if (!OidIsValid(schedule->owner_oid))
	{
		*hint = "Register it again with queue.schedule as a role that exists.";
		return psprintf("role \"%s\", which registered it, does not exist", schedule->owner);
	}
	if (queue_config_queue(schedule->queue, true) == NULL)
	{
		*hint = psprintf("Create it with queue.create_queue(%s), or run SELECT queue.unschedule(%s).",
						 quote_literal_cstr(schedule->queue), quote_literal_cstr(schedule->name));
		return psprintf("queue \"%s\" does not exist", schedule->queue);
	}
	if (!queue_may(schedule->owner_oid, schedule->queue, QUEUE_PRIV_ENQUEUE))
	{
		*hint = psprintf("Run SELECT queue.grant_queue(%s, %s, 'enqueue').", quote_literal_cstr(schedule->queue),
						 quote_literal_cstr(schedule->owner));
		return psprintf("role \"%s\", which registered it, lacks privilege enqueue on queue \"%s\"", schedule->owner,
						schedule->queue);
	}
	return NULL;
}

TimestampTz
queue_schedule_next(const QueueSchedule *schedule)
{
	TimestampTz after = schedule->reached;
	TimestampTz next;

	if (schedule->broken != NULL)
		return DT_NOEND;
	if (schedule->starts_at > after)
		after = schedule->starts_at - 1;	/* a tick at starts_at itself counts */
	next = queue_cron_next(&schedule->cron, schedule->zone, after);
	return next <= schedule->ends_at ? next : DT_NOEND;
}

/* ---------------------------------------------------------------- its jobs */

static void
push(JsonbParseState **state, const char *key, JsonbValue value)
{
	JsonbValue	name = {.type = jbvString};

	name.val.string.val = unconstify(char *, key);
	name.val.string.len = strlen(key);
	(void) pushJsonbValue(state, WJB_KEY, &name);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static JsonbValue
json_text(char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = text;
	value.val.string.len = strlen(text);
	return value;
}

/* Where its job comes from: {"schedule": name, "tick": time, "late": was it made up for?} */
static Jsonb *
make_origin(const QueueSchedule *schedule, TimestampTz tick, bool late)
{
	JsonbParseState *state = NULL;
	JsonbValue	flag = {.type = jbvBool};
	char		text[MAXDATELEN + 1];
	int			utc = 0;

	flag.val.boolean = late;
	(void) JsonEncodeDateTime(text, TimestampTzGetDatum(tick), TIMESTAMPTZOID, &utc);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push(&state, "schedule", json_text(schedule->name));
	push(&state, "tick", json_text(text));
	push(&state, "late", flag);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* By how much a tick's job is put off: the same, whoever does it. */
static int64
jitter_of(const QueueSchedule *schedule, TimestampTz tick)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) schedule->name, strlen(schedule->name),
										   (uint64) tick);

	return (int64) (hash % (uint64) schedule->jitter);
}

int64
queue_schedule_enqueue(const QueueSchedule *schedule, TimestampTz tick, TimestampTz now, QueueEnqueued *outcome)
{
	QueueNewJob request = QUEUE_NEW_JOB_NONE;
	QueueJob	job;

	if (schedule->options != NULL)
		queue_request_of_json(&schedule->options->root, &request);
	request.kind = schedule->kind;
	request.payload = schedule->payload;
	request.queue = schedule->queue;
	request.priority = schedule->priority;
	if (schedule->jitter > 0)
	{
		request.has_run_at = true;
		request.run_at = queue_time_add(tick, jitter_of(schedule, tick));
		request.run_at = Max(now, request.run_at);
	}
	if (schedule->expires_after > 0)
		request.expires_at = queue_time_add(tick, schedule->expires_after);
	if (request.on_conflict == QUEUE_CONFLICT_ERROR)
		request.on_conflict = QUEUE_CONFLICT_IGNORE;	/* it counts as skipped, and is nobody's error */
	request.origin = make_origin(schedule, tick, now - tick >= LATE_US);
	queue_job_prepare(&request, schedule->owner_oid, &job);
	return queue_unique_create(&request, &job, outcome);
}
