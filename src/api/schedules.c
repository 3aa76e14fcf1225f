/*
 * schedules.c
 *		SQL functions about schedules: schedule, unschedule, pause_schedule, resume_schedule, run_schedule, next_ticks,
 *		and what queue.schedule_status shows.  Ticks are scheduler/ticks.c's.
 *
 * Locks: the row lock of schedule_state before any change of a schedule: a tick holds it while it enqueues, and reads
 * the schedule after it has it.  Who registers a name that another has just registered waits for him, and takes it over
 * only from the queue whose manager he was asked to be.
 */
#include "api/schedules.h"

#include "api/arguments.h"
#include "api/clocks.h"
#include "api/enqueue.h"
#include "job/finish.h"
#include "shared/clock.h"
#include "shared/note.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* A clock that stood ahead by more than this, and is right again, is forgiven when the schedule is registered again. */
#define AHEAD_US USECS_PER_DAY

PG_FUNCTION_INFO_V1(queue_sql_schedule);
PG_FUNCTION_INFO_V1(queue_sql_unschedule);
PG_FUNCTION_INFO_V1(queue_sql_pause_schedule);
PG_FUNCTION_INFO_V1(queue_sql_resume_schedule);
PG_FUNCTION_INFO_V1(queue_sql_run_schedule);
PG_FUNCTION_INFO_V1(queue_sql_next_ticks);
PG_FUNCTION_INFO_V1(queue_sql_schedule_status_rows);

/* ---------------------------------------------------------------- arguments */

/* Reads a line of cron; 22023 for what is wrong with it. */
static void
read_line(const char *line, QueueCron *cron)
{
	QueueCronError wrong;

	if (!queue_cron_parse(line, cron, &wrong))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid cron line \"%s\": %s", line, wrong.message),
				 errdetail_internal("%s", queue_cron_caret(line, wrong.at)),
				 errhint("%s", wrong.hint)));
}

/* A time zone by its name; 22023 if there is none. */
static pg_tz *
read_zone(const char *name)
{
	pg_tz	   *zone = queue_cron_zone(name);

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown time zone \"%s\"", name),
				 errhint("Use a name of pg_timezone_names, such as Europe/Berlin or UTC.")));
	return zone;
}

/* Which of the words it is; 22023 if it is none. */
static int
read_word(const char *what, const char *word, const char *const *words, const char *hint)
{
	for (int i = 0; words[i] != NULL; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown %s \"%s\"", what, word),
			 errhint("%s", hint)));
}

/* ---------------------------------------------------------------- options */

/* The options that are the schedule's own; the others are those of its jobs. */
typedef struct OwnOptions
{
	const char *missed;
	bool		has_starts_at;
	TimestampTz starts_at;
	bool		has_ends_at;
	TimestampTz ends_at;
	int64		jitter;			/* us; 0: none */
	int64		expires_after;	/* us; 0: none */
} OwnOptions;

static void
refuse_option(const char *name, const char *what, const char *example)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of a schedule must be %s", name, what),
			 errhint("Write it like %s.", example)));
}

static void
set_missed(OwnOptions *own, const char *name, JsonbValue *value)
{
	static const char *const words[] = {"all", "last", NULL};

	if (value->type != jbvString)
		refuse_option(name, "a string", "\"last\"");
	own->missed = words[read_word("option missed", pnstrdup(value->val.string.val, value->val.string.len), words,
								  "Use all or last.")];
}

static TimestampTz
time_option(const char *name, JsonbValue *value)
{
	char	   *text;

	if (value->type != jbvString)
		refuse_option(name, "a time in a string", "\"2030-01-31 08:00+00\"");
	text = pnstrdup(value->val.string.val, value->val.string.len);
	return queue_check_time(name, DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
																		  ObjectIdGetDatum(InvalidOid),
																		  Int32GetDatum(-1))));
}

static void
set_starts_at(OwnOptions *own, const char *name, JsonbValue *value)
{
	own->has_starts_at = true;
	own->starts_at = time_option(name, value);
}

static void
set_ends_at(OwnOptions *own, const char *name, JsonbValue *value)
{
	own->has_ends_at = true;
	own->ends_at = time_option(name, value);
}

static int64
span_option(const char *name, JsonbValue *value)
{
	int64		us;
	char	   *text;

	if (!queue_option_interval(value, &us, &text))
		refuse_option(name, "an interval in a string", "\"30 s\"");
	return queue_check_us(name, us, 1);
}

static void
set_jitter(OwnOptions *own, const char *name, JsonbValue *value)
{
	own->jitter = span_option(name, value);
}

static void
set_expires_at(OwnOptions *own, const char *name, JsonbValue *value)
{
	own->expires_after = span_option(name, value);
}

static const struct
{
	const char *name;
	void		(*set) (OwnOptions *own, const char *name, JsonbValue *value);
}			own_options[] = {
	{"missed", set_missed},
	{"starts_at", set_starts_at},
	{"ends_at", set_ends_at},
	{"jitter", set_jitter},
	{"expires_at", set_expires_at},
};

/* Options of enqueue that a schedule's jobs cannot have, and why. */
static const char *const refused[][2] = {
	{"kind", "It is an argument of its own."},
	{"payload", "It is an argument of its own."},
	{"queue", "It is an argument of its own."},
	{"priority", "It is an argument of its own."},
	{"timezone", "It is an argument of its own."},
	{"overlap", "It is an argument of its own."},
	{"catch_up", "It is an argument of its own."},
	{"run_at", "A job is due at its tick; jitter puts it off."},
	{"delay", "A job is due at its tick; jitter puts it off."},
	{"workflow", "A job of a schedule belongs to no workflow; its handler may make one."},
	{"depends_on", "A job of a schedule depends on no other; see overlap."},
};

/* Takes the schedule's own options out; what is left is its jobs' (NULL: nothing). */
static Jsonb *
split_options(Jsonb *options, OwnOptions *own)
{
	Datum		rest;

	*own = (OwnOptions) {.missed = "all"};
	if (options == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("Write them like {\"max_attempts\": 3}.")));
	for (int i = 0; i < lengthof(refused); i++)
	{
		if (getKeyJsonValueFromContainer(&options->root, refused[i][0], strlen(refused[i][0]), NULL) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" must not be among the options of a schedule", refused[i][0]),
					 errhint("%s", refused[i][1])));
	}
	rest = JsonbPGetDatum(options);
	for (int i = 0; i < lengthof(own_options); i++)
	{
		JsonbValue	value;
		const char *name = own_options[i].name;

		if (getKeyJsonValueFromContainer(&options->root, name, strlen(name), &value) == NULL)
			continue;
		if (value.type != jbvNull)
			own_options[i].set(own, name, &value);
		rest = DirectFunctionCall2(jsonb_delete, rest, CStringGetTextDatum(name));
	}
	if (own->has_starts_at && own->has_ends_at && own->ends_at < own->starts_at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ends_at is before starts_at"),
				 errhint("No tick would ever come.")));
	return JB_ROOT_COUNT(DatumGetJsonbP(rest)) == 0 ? NULL : DatumGetJsonbP(rest);
}

/* ---------------------------------------------------------------- schedule */

enum
{
	ARG_NAME, ARG_CRON, ARG_KIND, ARG_PAYLOAD, ARG_QUEUE, ARG_PRIORITY, ARG_TIMEZONE, ARG_OPTIONS, ARG_OVERLAP,
	ARG_CATCH_UP
};

/* The columns that a registration fills, in the order of the parameters that read_registration makes. */
#define COLUMNS "name, cron, timezone, kind, payload, queue, priority, options, missed, starts_at, ends_at, jitter," \
	" expires_after, overlap, catch_up, owner, system_identifier, database_oid"
#define VALUES "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18"

static void
span_param(QueueParams *params, int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	queue_param(params, INTERVALOID, IntervalPGetDatum(interval), us == 0);
}

/* Checks what is to be registered by the calling role, and fills in the columns. */
static void
read_registration(FunctionCallInfo fcinfo, const char *name, const char *queue, QueueParams *params)
{
	char	   *line = queue_arg_text(fcinfo, ARG_CRON, "cron");
	char	   *zone = PG_ARGISNULL(ARG_TIMEZONE) ? "UTC" : text_to_cstring(PG_GETARG_TEXT_PP(ARG_TIMEZONE));
	char	   *overlap = PG_ARGISNULL(ARG_OVERLAP) ? "allow" : text_to_cstring(PG_GETARG_TEXT_PP(ARG_OVERLAP));
	const Interval *catch_up = PG_ARGISNULL(ARG_CATCH_UP) ? NULL : PG_GETARG_INTERVAL_P(ARG_CATCH_UP);
	QueueNewJob request = QUEUE_NEW_JOB_NONE;
	QueueCron	cron;
	OwnOptions	own;
	Jsonb	   *options;

	read_line(line, &cron);
	/* as the time zone's own name is written, whatever its case here */
	zone = unconstify(char *, pg_get_timezone_name(read_zone(zone)));
	(void) read_word("overlap", overlap, queue_overlap_names, "Use allow, skip or replace.");
	options = split_options(PG_ARGISNULL(ARG_OPTIONS) ? NULL : PG_GETARG_JSONB_P(ARG_OPTIONS), &own);
	if (options != NULL)
		queue_request_of_json(&options->root, &request);
	request.kind = queue_arg_name(fcinfo, ARG_KIND, "kind", false);
	request.payload = PG_ARGISNULL(ARG_PAYLOAD) ? NULL : PG_GETARG_JSONB_P(ARG_PAYLOAD);
	request.queue = queue;
	request.priority = queue_priority(PG_ARGISNULL(ARG_PRIORITY) ? 0 : PG_GETARG_INT32(ARG_PRIORITY));
	queue_job_check(&request, GetUserId());

	queue_param(params, TEXTOID, CStringGetTextDatum(name), false);
	queue_param(params, TEXTOID, CStringGetTextDatum(line), false);
	queue_param(params, TEXTOID, CStringGetTextDatum(zone), false);
	queue_param(params, TEXTOID, CStringGetTextDatum(request.kind), false);
	queue_param(params, JSONBOID, JsonbPGetDatum(request.payload), false);
	queue_param(params, TEXTOID, CStringGetTextDatum(queue), false);
	queue_param(params, INT4OID, Int32GetDatum((int32) request.priority), false);
	queue_param(params, JSONBOID, JsonbPGetDatum(options), options == NULL);
	queue_param(params, TEXTOID, CStringGetTextDatum(own.missed), false);
	queue_param(params, TIMESTAMPTZOID, TimestampTzGetDatum(own.starts_at), !own.has_starts_at);
	queue_param(params, TIMESTAMPTZOID, TimestampTzGetDatum(own.ends_at), !own.has_ends_at);
	span_param(params, own.jitter);
	span_param(params, own.expires_after);
	queue_param(params, TEXTOID, CStringGetTextDatum(overlap), false);
	queue_param(params, INTERVALOID, catch_up != NULL ? IntervalPGetDatum(catch_up) : (Datum) 0, catch_up == NULL);
	if (catch_up != NULL)
		(void) queue_check_span("catch_up", catch_up, 0);
	else
	{
		Interval   *usual = palloc0(sizeof(Interval));

		usual->time = 10 * USECS_PER_MINUTE;
		params->values[params->n - 1] = IntervalPGetDatum(usual);
		params->nulls[params->n - 1] = ' ';
	}
	queue_param(params, NAMEOID, queue_name_datum(GetUserNameFromId(GetUserId(), false)), false);
	queue_param(params, INT8OID, Int64GetDatum((int64) GetSystemIdentifier()), false);
	queue_param(params, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
}

/* 42501 unless the role manages the queue of the schedule that is there. */
static void
require_manage(Oid role, const char *name, const char *queue)
{
	if (!queue_may(role, queue, QUEUE_PRIV_MANAGE))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("schedule \"%s\" belongs to queue \"%s\", which role \"%s\" does not manage", name, queue,
						GetUserNameFromId(role, false)),
				 errhint("A role that manages that queue can change it. Names of schedules are one for the whole"
						 " database: for a schedule of your own use another.")));
}

/*
 * Locks a schedule of this name for a change, and gives its queue; NULL: there is none.  In an SPI section, for the
 * role whose right is asked.
 */
static char *
lock_schedule(Oid role, const char *name)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);
	char	   *queue;

	/* first who is amidst a tick */
	queue_spi_run("SELECT FROM queue.schedule_state WHERE name = $1 FOR UPDATE", 1, &type, &value, NULL);
	if (queue_spi_run("SELECT queue FROM queue.schedule WHERE name = $1 FOR UPDATE", 1, &type, &value, NULL) == 0)
		return NULL;
	queue = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	require_manage(role, name, queue);
	return queue;
}

/* queue.schedule(..): manage on the queue. */
Datum
queue_sql_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, ARG_NAME, "name of a schedule", false);
	char	   *queue = queue_arg_name(fcinfo, ARG_QUEUE, "queue", false);
	Oid			me = GetUserId();
	char	   *seen;			/* the queue of the one that is there; NULL: none is */
	QueueParams params = {0};
	QueueSpi	spi;
	Oid			types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum		state[2];

	queue_finish_writable("queue.schedule()");
	queue_require(queue, QUEUE_PRIV_MANAGE);
	(void) queue_config_queue(queue, false);
	read_registration(fcinfo, name, queue, &params);

	queue_spi_begin(&spi);
	seen = lock_schedule(me, name);
	state[0] = CStringGetTextDatum(name);
	state[1] = TimestampTzGetDatum(queue_now());
	if (queue_spi_run("SELECT FROM queue.schedule WHERE name = $1 AND (" COLUMNS ") IS NOT DISTINCT FROM (" VALUES ")",
					  params.n, params.types, params.values, params.nulls) > 0)
	{
		/* nothing is new, but the clock may have stood ahead */
		state[1] = TimestampTzGetDatum(queue_now() + AHEAD_US);
		if (queue_spi_run("UPDATE queue.schedule_state SET reached = queue_internal.clock()"
						  " WHERE name = $1 AND reached > $2", 2, types, state, NULL) > 0)
			queue_note_config();	/* the scheduler remembers a next tick that is far off */
	}
	else
	{
		queue_param(&params, TEXTOID, CStringGetTextDatum(seen != NULL ? seen : queue), false);
		if (queue_spi_run("INSERT INTO queue.schedule (" COLUMNS ") VALUES (" VALUES ")"
						  " ON CONFLICT (name) DO UPDATE SET (" COLUMNS ") = ROW (" VALUES ")"
						  " WHERE schedule.queue IN ($6, $19)",
						  params.n, params.types, params.values, params.nulls) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to a concurrent change of schedule \"%s\"", name),
					 errhint("Run the transaction again.")));
		queue_spi_run("INSERT INTO queue.schedule_state (name, reached) VALUES ($1, $2)"
					  " ON CONFLICT (name) DO UPDATE SET reached = excluded.reached, reason = NULL",
					  2, types, state, NULL);
	}
	queue_spi_end(&spi);
	queue_clocks_wind();
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- unschedule, pause, resume, run */

static void
raise_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("schedule \"%s\" does not exist", name),
			 errhint("The view queue.schedule_status lists them.")));
}

/* queue.unschedule(name) -> boolean */
Datum
queue_sql_unschedule(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, 0, "name of a schedule", false);
	Oid			me = GetUserId();
	QueueSpi	spi;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);
	bool		found;

	queue_finish_writable("queue.unschedule()");
	queue_spi_begin(&spi);
	found = lock_schedule(me, name) != NULL;
	if (found)
	{
		queue_spi_run("DELETE FROM queue.schedule WHERE name = $1", 1, &type, &value, NULL);
		queue_spi_run("DELETE FROM queue.schedule_state WHERE name = $1", 1, &type, &value, NULL);
	}
	queue_spi_end(&spi);
	if (found)
		queue_clocks_unwind();
	PG_RETURN_BOOL(found);
}

/* What pause and resume share: two statements about the schedule $1, at the time $2; `state` NULL: only one. */
static void
change_schedule(FunctionCallInfo fcinfo, const char *function, const char *registration, const char *state)
{
	char	   *name = queue_arg_name(fcinfo, 0, "name of a schedule", false);
	Oid			me = GetUserId();
	QueueSpi	spi;
	Oid			types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[2];

	queue_finish_writable(function);
	values[0] = CStringGetTextDatum(name);
	queue_spi_begin(&spi);
	if (lock_schedule(me, name) == NULL)
		raise_unknown(name);
	values[1] = TimestampTzGetDatum(queue_now());
	if (queue_spi_run(registration, 2, types, values, NULL) > 0 && state != NULL)
		queue_spi_run(state, 2, types, values, NULL);
	queue_spi_end(&spi);
}

/* queue.pause_schedule(name) */
Datum
queue_sql_pause_schedule(PG_FUNCTION_ARGS)
{
	change_schedule(fcinfo, "queue.pause_schedule()",
					"UPDATE queue.schedule SET paused_at = $2 WHERE name = $1 AND paused_at IS NULL", NULL);
	PG_RETURN_VOID();
}

/* queue.resume_schedule(name): what was due meanwhile does not come. */
Datum
queue_sql_resume_schedule(PG_FUNCTION_ARGS)
{
	change_schedule(fcinfo, "queue.resume_schedule()",
					"UPDATE queue.schedule SET paused_at = NULL WHERE name = $1 AND paused_at IS NOT NULL",
					"UPDATE queue.schedule_state SET reached = greatest(reached, $2), reason = NULL WHERE name = $1");
	PG_RETURN_VOID();
}

/* queue.run_schedule(name) -> bigint */
Datum
queue_sql_run_schedule(PG_FUNCTION_ARGS)
{
	char	   *name = queue_arg_name(fcinfo, 0, "name of a schedule", false);
	Oid			me = GetUserId();
	QueueSpi	spi;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);
	QueueSchedule schedule;
	QueueEnqueued outcome;
	const char *hint;
	const char *problem;
	TimestampTz now = queue_now();
	int64		id;

	queue_finish_writable("queue.run_schedule()");
	queue_spi_begin(&spi);
	if (queue_spi_run(QUEUE_SCHEDULE_SELECT "WHERE s.name = $1", 1, &type, &value, NULL) == 0)
		raise_unknown(name);
	queue_schedule_read(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, &schedule);
	require_manage(me, name, schedule.queue);
	problem = queue_schedule_problem(&schedule, &hint);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schedule \"%s\" is parked: %s", name, problem),
				 errhint("%s", hint)));
	schedule.jitter = 0;		/* this one is wanted now */
	id = queue_schedule_enqueue(&schedule, now, now, &outcome);
	queue_spi_end(&spi);
	PG_RETURN_INT64(id);
}

/* ---------------------------------------------------------------- looking */

/* queue.next_ticks(cron, timezone, qty, after) -> setof timestamptz */
Datum
queue_sql_next_ticks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *line = queue_arg_text(fcinfo, 0, "cron");
	char	   *zone_name = PG_ARGISNULL(1) ? "UTC" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64		qty = PG_ARGISNULL(2) ? 5 : queue_in_range(PG_GETARG_INT64(2), "qty", 1, PG_INT32_MAX);
	TimestampTz at = PG_ARGISNULL(3) ? queue_now() : queue_check_time("after", PG_GETARG_TIMESTAMPTZ(3));
	QueueCron	cron;
	pg_tz	   *zone;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	(void) queue_config();
	read_line(line, &cron);
	zone = read_zone(zone_name);
	while (qty-- > 0 && (at = queue_cron_next(&cron, zone, at)) != DT_NOEND)
	{
		Datum		value = TimestampTzGetDatum(at);
		bool		null = false;

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &null);
	}
	return (Datum) 0;
}

static void
put_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	values[column] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_time(Datum *values, bool *nulls, int column, TimestampTz time)
{
	nulls[column] = time == 0 || TIMESTAMP_NOT_FINITE(time);
	values[column] = TimestampTzGetDatum(time);
}

/* One row of the view. */
static void
status_row(const QueueSchedule *schedule, Datum *values, bool *nulls)
{
	const char *hint;
	const char *problem = queue_schedule_problem(schedule, &hint);

	if (problem == NULL)
		problem = schedule->reason;
	memset(nulls, 0, 13 * sizeof(bool));
	put_text(values, nulls, 0, schedule->name);
	put_text(values, nulls, 1, schedule->line);
	put_text(values, nulls, 2, schedule->timezone);
	put_text(values, nulls, 3, schedule->kind);
	put_text(values, nulls, 4, schedule->queue);
	values[5] = queue_name_datum(schedule->owner);
	put_text(values, nulls, 6, schedule->paused_at != 0 ? "paused" : problem != NULL ? "parked" : "ready");
	put_text(values, nulls, 7, problem);
	put_time(values, nulls, 8, schedule->paused_at != 0 || problem != NULL ? 0 : queue_schedule_next(schedule));
	put_time(values, nulls, 9, schedule->last_tick);
	nulls[10] = schedule->last_job == 0;
	values[10] = Int64GetDatum(schedule->last_job);
	values[11] = Int64GetDatum(schedule->missed);
	values[12] = Int64GetDatum(schedule->skipped);
}

/* queue_internal.schedule_status_rows(): what VIEW queue.schedule_status shows. */
Datum
queue_sql_schedule_status_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			me = GetUserId();
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "queue schedule", ALLOCSET_SMALL_SIZES);
	QueueSpi	spi;
	SPITupleTable *found;

	InitMaterializedSRF(fcinfo, 0);
	queue_spi_begin(&spi);
	queue_spi_run(QUEUE_SCHEDULE_SELECT "ORDER BY s.name", 0, NULL, NULL, NULL);
	found = SPI_tuptable;
	for (uint64 i = 0; i < found->numvals; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		QueueSchedule schedule;
		Datum		values[13];
		bool		nulls[13];

		CHECK_FOR_INTERRUPTS();
		queue_schedule_read(found->vals[i], found->tupdesc, &schedule);
		if (queue_may(me, schedule.queue, QUEUE_PRIV_READ))
		{
			status_row(&schedule, values, nulls);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	queue_spi_end(&spi);
	MemoryContextDelete(row_context);
	return (Datum) 0;
}
