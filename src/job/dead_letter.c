/*
 * dead_letter.c
 *		The copy of a discarded job in its queue's dead-letter queue, and the job that its queue's on_discarded names.
 *
 * Both are made in the transaction that discards the job, by the server: nobody's privilege is asked then, and no limit
 * of sizes.  The copy keeps kind, priority, payload, headers and tags.  All else that the job had stands in the copy's
 * origin under the names that live_job.extra has for it, so that whatever a job may have comes back by a redrive.
 *
 * If there is no such queue, or no line is left for it, the job ends all the same, and its own row is kept for good:
 * it is never lost, and no worker fails because of a setting.
 *
 * Locks: those of an enqueue.
 */
#include "job/dead_letter.h"

#include "config/lines.h"
#include "job/create.h"
#include "job/dependency.h"
#include "lib/attempt.h"
#include "lib/option.h"
#include "lib/text.h"
#include "shared/clock.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

#define ERRORS_MAX 10			/* failed attempts that an origin tells, the last ones */
#define ERROR_BYTES 1000
#define DEPENDS_MAX 10000		/* ids that it tells */

/* Members of extra that are of its last run, or stand elsewhere in a copy or its origin. */
static const char *const left_out[] = {
	"enqueued_at", "expires_at", "progress", "last_error", "worker", "started_at", "first_at", "deaths", "run_at",
	"blocks", "headers", "tags", "dead_letter", "position", "holds_group", "retried_at", "cause",
	"awaits"
};

/* ---- building the origin ---- */

static void
push(JsonbParseState **state, const char *key, JsonbValue *value)
{
	JsonbValue	name = {.type = jbvString};

	name.val.string.val = unconstify(char *, key);
	name.val.string.len = strlen(key);
	(void) pushJsonbValue(state, WJB_KEY, &name);
	(void) pushJsonbValue(state, WJB_VALUE, value);
}

static void
push_text(JsonbParseState **state, const char *key, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	push(state, key, &value);
}

static void
push_int(JsonbParseState **state, const char *key, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	push(state, key, &value);
}

static void
push_time(JsonbParseState **state, const char *key, TimestampTz at)
{
	push_text(state, key, JsonEncodeDateTime(palloc(MAXDATELEN + 1), TimestampTzGetDatum(at), TIMESTAMPTZOID, NULL));
}

/* One element of the errors. */
static void
push_error(JsonbParseState **state, int attempt, TimestampTz at, const char *error)
{
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_int(state, "attempt", attempt);
	push_time(state, "at", at);
	push_text(state, "error", queue_text_clean(error, strlen(error), ERROR_BYTES, GetDatabaseEncoding()));
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* "errors": the failed attempts that are kept, and how it ended now. */
static void
push_errors(JsonbParseState **state, const QueueJob *job, const QueueEnding *ending)
{
	JsonbValue	key = {.type = jbvString};
	QueueFailed failed[ERRORS_MAX - 1];
	int			n = queue_failure_last(job->id, failed, lengthof(failed));

	key.val.string.val = "errors";
	key.val.string.len = strlen("errors");
	(void) pushJsonbValue(state, WJB_KEY, &key);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
		push_error(state, failed[i].attempt, failed[i].failed_at, failed[i].error);
	if (ending->error != NULL)
		push_error(state, job->attempt, queue_now(), ending->error);
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

/* What else the job has, by the names that extra has for it. */
static void
push_extra(JsonbParseState **state, const Jsonb *extra)
{
	JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, &extra->root));
	JsonbValue	value;
	char	   *key;

	while (queue_option_next(&it, &key, &value))
	{
		bool		pushed = true;

		for (int i = 0; i < lengthof(left_out) && pushed; i++)
			pushed = strcmp(key, left_out[i]) != 0;
		if (pushed)
			push(state, key, &value);
	}
}

/* "depends_on": the ids of the jobs on which it depends. */
static void
push_depends_on(JsonbParseState **state, int64 id)
{
	JsonbValue	key = {.type = jbvString};
	JsonbValue	element = {.type = jbvNumeric};
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		other;

	key.val.string.val = "depends_on";
	key.val.string.len = strlen("depends_on");
	(void) pushJsonbValue(state, WJB_KEY, &key);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	queue_dependency_scan(jobs, id, true, PG_INT64_MIN, snapshot);
	for (int i = 0; i < DEPENDS_MAX && queue_dependency_next(jobs, &other); i++)
	{
		element.val.numeric = int64_to_numeric(other);
		(void) pushJsonbValue(state, WJB_ELEM, &element);
	}
	queue_dependency_end_scan(jobs);
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
	UnregisterSnapshot(snapshot);
	queue_job_close(jobs);
}

static Jsonb *
make_origin(const QueueJob *job, const QueueExtra *extra, const QueueLine *line, const QueueEnding *ending)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_int(&state, "id", job->id);
	push_text(&state, "queue", line->queue->name);
	push_int(&state, "priority", line->priority);
	push_int(&state, "attempt", job->attempt);
	push_time(&state, "enqueued_at", extra->enqueued_at != 0 ? extra->enqueued_at : job->run_at);
	if (extra->expires_at != DT_NOEND)
		push_time(&state, "expires_at", extra->expires_at);
	push_errors(&state, job, ending);
	if (extra->depends_mode != 0)
		push_depends_on(&state, job->id);
	if (job->extra != NULL)
		push_extra(&state, job->extra);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* ---- reading it ---- */

static bool
member(const Jsonb *object, const char *key, enum jbvType type, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &object->root), key, strlen(key), value) != NULL &&
		value->type == type;
}

static int64
number_of(const JsonbValue *value)
{
	Datum		number = NumericGetDatum(value->val.numeric);

	/* whatever somebody wrote there by hand */
	if (numeric_is_nan(value->val.numeric) || numeric_is_inf(value->val.numeric) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, DirectFunctionCall1(numeric_abs, number),
										 NumericGetDatum(int64_to_numeric(PG_INT64_MAX)))))
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
}

/* A time that push_time wrote; 0: there is none. */
static TimestampTz
time_of(const Jsonb *object, const char *key)
{
	JsonbValue	value;
	char	   *text;

	if (!member(object, key, jbvString, &value))
		return 0;
	text = pnstrdup(value.val.string.val, value.val.string.len);
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/* What push_depends_on wrote. */
static void
read_depends_on(const Jsonb *origin, QueueOrigin *out)
{
	JsonbValue	value;
	JsonbIterator *it;
	JsonbIteratorToken token;

	out->depends_on = NULL;
	out->ndepends = 0;
	if (!member(origin, "depends_on", jbvBinary, &value) || !JsonContainerIsArray(value.val.binary.data))
		return;
	out->depends_on = palloc(Max(JsonContainerSize(value.val.binary.data), 1) * sizeof(int64));
	it = JsonbIteratorInit(value.val.binary.data);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && value.type == jbvNumeric)
			out->depends_on[out->ndepends++] = number_of(&value);
	}
}

bool
queue_dead_letter_origin(const Jsonb *origin, QueueOrigin *out)
{
	JsonbValue	value;

	if (origin == NULL || !JB_ROOT_IS_OBJECT(origin) || !member(origin, "queue", jbvString, &value))
		return false;
	out->queue = pnstrdup(value.val.string.val, value.val.string.len);
	if (!member(origin, "id", jbvNumeric, &value) || (out->id = number_of(&value)) == 0)
		return false;
	out->priority = member(origin, "priority", jbvNumeric, &value) ?
		(int16) Max(PG_INT16_MIN, Min(PG_INT16_MAX, number_of(&value))) : 0;
	out->attempt = member(origin, "attempt", jbvNumeric, &value) ? (int) Min(PG_INT32_MAX, number_of(&value)) : 0;
	read_depends_on(origin, out);
	queue_extra_unpack(origin, &out->extra);
	out->extra.enqueued_at = time_of(origin, "enqueued_at");
	out->extra.expires_at = time_of(origin, "expires_at");
	if (out->extra.expires_at == 0)
		out->extra.expires_at = DT_NOEND;
	return true;
}

/* ---- making the jobs ---- */

/* A job of the server's own, due now. */
static int64
create(const char *queue, const char *kind, int16 priority, Jsonb *payload, QueueExtra *extra)
{
	QueueJob	job = {
		.leased_until = DT_NOBEGIN, .payload = payload, .run_at = queue_now(), .extra = queue_extra_pack(extra),
		.line = queue_line_ensure(queue, kind, priority, extra->concurrency_key)
	};

	return queue_job_create(&job);
}

/* The job as JSON, as queue.job shows it now that it is discarded. */
static Jsonb *
job_as_json(const QueueJob *job, const QueueLine *line, const QueueEnding *ending)
{
	QueueExtra	extra;
	HeapTuple	tuple;
	TupleDesc	desc;
	int			finished_at;
	Datum		now = TimestampTzGetDatum(queue_now());
	bool		isnull = false;

	queue_extra_unpack(job->extra, &extra);
	if (ending->error != NULL)
		extra.last_error = queue_record_text(ending->error);
	tuple = queue_job_tuple(job, &extra, line->queue, line->kind, line->priority, line->handler, QUEUE_STATE_DISCARDED,
							ending->started_at != 0 ? ending->started_at : extra.started_at,
							ending->worker != NULL ? ending->worker : extra.worker);
	desc = lookup_rowtype_tupdesc_copy(queue_config()->job_type, -1);
	finished_at = SPI_fnumber(desc, "finished_at");
	return queue_job_json(heap_modify_tuple_by_cols(tuple, desc, 1, &finished_at, &now, &isnull));
}

/* Makes what the queue asks for; the id of the copy. */
static int64
make_jobs(const QueueJob *job, const QueueLine *line, const QueueEnding *ending, bool copied)
{
	QueueConf  *conf = line->queue;
	QueueJob	read = *job;
	int64		copy = 0;

	read.payload = DatumGetJsonbP(queue_job_kept_payload(job));
	read.leased_until = DT_NOBEGIN;
	if (copied)
	{
		QueueExtra	extra;
		QueueExtra	copy_extra = QUEUE_EXTRA_NONE;

		queue_extra_unpack(job->extra, &extra);
		copy_extra.headers = extra.headers;
		copy_extra.tags = extra.tags;
		copy_extra.origin = make_origin(&read, &extra, line, ending);
		copy = create(conf->dead_letter, line->kind, line->priority, read.payload, &copy_extra);
	}
	/* a job of that kind tells of none, or its own end would be told for ever */
	if (conf->on_discarded != NULL && strcmp(conf->on_discarded, line->kind) != 0)
	{
		QueueExtra	extra = QUEUE_EXTRA_NONE;

		(void) create(conf->name, conf->on_discarded, 0, job_as_json(&read, line, ending), &extra);
	}
	return copy;
}

/*
 * make_jobs behind an error boundary.  False: no line is left, or the queue was dropped a moment ago.
 */
static bool
try_make_jobs(const QueueJob *job, const QueueLine *line, const QueueEnding *ending, bool copied, int64 *copy)
{
	QueueAttempt attempt;
	volatile bool made = true;

	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		*copy = make_jobs(job, line, ending, copied);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error = queue_attempt_failed(&attempt);

		if (error->sqlerrcode != ERRCODE_PROGRAM_LIMIT_EXCEEDED && error->sqlerrcode != ERRCODE_UNDEFINED_OBJECT)
			ReThrowError(error);
		ereport(LOG,
				(errmsg("job " INT64_FORMAT " is discarded without a dead letter: %s", job->id, error->message),
				 errhint("It is kept in queue \"%s\"; queue.retry_jobs brings it back.", line->queue->name)));
		FreeErrorData(error);
		*copy = 0;
		made = false;
	}
	PG_END_TRY();
	return made;
}

bool
queue_dead_letter_discarded(const QueueJob *job, const QueueLine *line, const QueueEnding *ending, int64 *copy)
{
	/* whose lines this transaction was able to make a moment ago, outside of any savepoint: they are there */
	static TimestampTz made_in = 0;
	static int64 made_for = 0;
	static uint64 made_by = 0;	/* the configuration of that moment */
	QueueConf  *conf = line->queue;
	bool		copied = conf->dead_letter != NULL && queue_config_queue(conf->dead_letter, true) != NULL;
	bool		made = true;
	int			hold;

	*copy = 0;
	if (!copied && conf->on_discarded == NULL)
		return conf->dead_letter != NULL;
	hold = queue_config_hold();
	if (made_for == line->id && made_by == queue_config()->serial && made_in == queue_transaction_start() &&
		GetCurrentTransactionNestLevel() == 1)
		*copy = make_jobs(job, line, ending, copied);	/* many in one call: no subtransaction for each */
	else
	{
		made = try_make_jobs(job, line, ending, copied, copy);
		made_for = made && GetCurrentTransactionNestLevel() == 1 ? line->id : 0;
		made_in = queue_transaction_start();
		made_by = queue_config()->serial;
	}
	queue_config_release(hold);
	return conf->dead_letter != NULL && !(made && copied);
}
