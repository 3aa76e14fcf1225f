/*
 * enqueue.c
 *		Jobs in: enqueue, enqueue_many, enqueue_json, enqueue_json_many.
 *
 * All four fill a Request, check it in one place and insert the row through job.c: no
 * parser, no planner, no SPI.  The line's row is made at its first use (config.c), in
 * the same transaction; a commit wakes who waits (note.c).
 */
#include "lib/queue.h"

#include <math.h>

#include "config/lines.h"
#include "config/owner.h"
#include "job/finish.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* One job to be, as asked for. */
typedef struct Request
{
	const char *kind;
	Jsonb	   *payload;
	const char *queue;
	int64		priority;
	bool		has_run_at;
	TimestampTz run_at;
	bool		has_delay;
	int64		delay;
	int			max_attempts;	/* 0: not given */
	int64		timeout;		/* -1: not given */
	TimestampTz expires_at;		/* DT_NOEND: never */
	Jsonb	   *headers;
	Jsonb	   *tags;
} Request;

#define REQUEST_NONE ((Request) {.timeout = -1, .expires_at = DT_NOEND})

/* An option that the contract has and this release does not build. */
static void
not_built(const char *option)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("enqueue option \"%s\" is not built yet", option),
			 errhint("Leave it out; a later release of queue brings it.")));
}

static void
null_value(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", name),
			 errhint("kind, queue and payload are required; every other option may be null for its default.")));
}

static void
check_on_conflict(const char *value)
{
	if (strcmp(value, "ignore") != 0 && strcmp(value, "replace") != 0 && strcmp(value, "error") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown on_conflict \"%s\"", value),
				 errhint("Use ignore, replace or error.")));
}

static void
check_depends_mode(const char *value)
{
	if (strcmp(value, "completed") != 0 && strcmp(value, "finished") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown depends_mode \"%s\"", value),
				 errhint("Use completed or finished.")));
}

/* Only objects make sense as headers. */
static Jsonb *
check_headers(Jsonb *headers)
{
	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("Write them like {\"X-Tenant\": \"42\"}.")));
	return headers;
}

/* An interval in microseconds, at least 0 and at most 1000 years. */
static int64
check_interval(const char *name, const Interval *interval)
{
	int64		us = queue_interval_us(interval);

	if (us < 0 || us > (int64) 1000 * 366 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", name),
				 errhint("It is an interval from 0 to 1000 years.")));
	return us;
}

/* Infinity is the same as never. */
static TimestampTz
check_expires_at(TimestampTz expires_at)
{
	if (expires_at == DT_NOBEGIN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at must not be -infinity"),
				 errhint("Leave it out for a job that never expires.")));
	return expires_at;
}

static int
check_max_attempts(int64 n)
{
	if (n < 1 || n > 1000000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_attempts is out of range: " INT64_FORMAT, n),
				 errhint("It is a number from 1 to 1000000.")));
	return (int) n;
}

/*
 * Checks a request and fills the row that it asks for, making its line if need be.
 * Everything that can be wrong with one element is found here.
 */
static void
prepare(const Request *request, QueueJob *job)
{
	QueueExtra	extra = QUEUE_EXTRA_NONE;
	TimestampTz now = queue_now();

	if (request->kind == NULL)
		null_value("kind");
	if (request->queue == NULL)
		null_value("queue");
	if (request->payload == NULL)
		null_value("payload");
	if (request->kind[0] == '\0' || strlen(request->kind) > QUEUE_NAME_MAX || strcmp(request->kind, "*") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid kind \"%s\"", request->kind),
				 errhint("A kind is a name of 1 to %d bytes other than *.", QUEUE_NAME_MAX)));
	if (request->priority < PG_INT16_MIN || request->priority > PG_INT16_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("priority is out of range: " INT64_FORMAT, request->priority),
				 errhint("It is a number from -32768 to 32767; lower goes first.")));
	if (request->has_run_at && request->has_delay)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("run_at and delay cannot be given together"),
				 errhint("Give the time or the delay from now.")));
	if (request->has_run_at && (TIMESTAMP_NOT_FINITE(request->run_at) || !IS_VALID_TIMESTAMP(request->run_at)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("run_at must be finite"),
				 errhint("Leave it out for now.")));

	/* the queue must exist, and the caller may enqueue into it */
	(void) queue_config_queue(request->queue, false);
	queue_require(request->queue, QUEUE_PRIV_ENQUEUE);

	memset(job, 0, sizeof(*job));
	job->leased_until = DT_NOBEGIN;
	job->payload = request->payload;
	job->run_at = request->has_run_at ? request->run_at : now + request->delay;
	if (job->run_at != now)
		extra.enqueued_at = now;
	extra.max_attempts = request->max_attempts;
	extra.timeout = request->timeout;
	extra.expires_at = request->expires_at;
	extra.headers = request->headers;
	extra.tags = request->tags;
	job->extra = queue_extra_pack(&extra);
	job->line = queue_line_ensure(request->queue, request->kind, (int16) request->priority);
}

/* Inserts one prepared job and gives its id. */
static int64
insert_one(QueueJob *job)
{
	QueueJobTable *table = queue_job_open(RowExclusiveLock);

	job->id = nextval_internal(queue_config()->job_id_seq, false);
	queue_job_insert(table, job);
	queue_job_close(table);
	return job->id;
}

/* Inserts prepared jobs with rising ids and returns these as the rows of the calling function. */
static void
insert_many(FunctionCallInfo fcinfo, QueueJob *jobs, int n)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueJobTable *table;
	Oid			sequence;

	if (n == 0)
		return;
	table = queue_job_open(RowExclusiveLock);
	sequence = queue_config()->job_id_seq;
	for (int i = 0; i < n; i++)
		jobs[i].id = nextval_internal(sequence, false);
	queue_job_insert_many(table, jobs, n);
	queue_job_close(table);
	for (int i = 0; i < n; i++)
	{
		Datum		id = Int64GetDatum(jobs[i].id);
		bool		null = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id, &null);
	}
}

/* Throws the error being caught again, with the element that it is about named in front. */
static void
rethrow_for_element(int index, MemoryContext context)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(context);
	edata = CopyErrorData();
	FlushErrorState();
	edata->message = psprintf("element %d: %s", index, edata->message);
	ReThrowError(edata);
}

static Jsonb *
tags_of_array(ArrayType *array)
{
	JsonbParseState *state = NULL;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	if (n == 0)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	value = {.type = jbvString};

		if (nulls[i])
			null_value("a tag");
		value.val.string.val = TextDatumGetCString(elements[i]);
		value.val.string.len = strlen(value.val.string.val);
		pushJsonbValue(&state, WJB_ELEM, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue);
/* queue.enqueue(kind, payload, queue, ...) -> bigint */
Datum
queue_sql_enqueue(PG_FUNCTION_ARGS)
{
	Request		request = REQUEST_NONE;
	QueueJob	job;

	queue_finish_writable("queue.enqueue()");
	if (!PG_ARGISNULL(0))
		request.kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
		request.payload = PG_GETARG_JSONB_P(1);
	if (!PG_ARGISNULL(2))
		request.queue = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
		request.priority = PG_GETARG_INT32(3);
	request.has_run_at = !PG_ARGISNULL(4);
	if (request.has_run_at)
		request.run_at = PG_GETARG_TIMESTAMPTZ(4);
	request.has_delay = !PG_ARGISNULL(5);
	if (request.has_delay)
		request.delay = check_interval("delay", PG_GETARG_INTERVAL_P(5));
	if (!PG_ARGISNULL(6))
		request.max_attempts = check_max_attempts(PG_GETARG_INT32(6));
	if (!PG_ARGISNULL(7))
		request.timeout = check_interval("timeout", PG_GETARG_INTERVAL_P(7));
	if (!PG_ARGISNULL(8))
		not_built("unique_key");
	if (!PG_ARGISNULL(9))
		check_on_conflict(text_to_cstring(PG_GETARG_TEXT_PP(9)));
	if (!PG_ARGISNULL(10))
		not_built("unique_for");
	if (!PG_ARGISNULL(11))
		not_built("group_key");
	if (!PG_ARGISNULL(12))
		not_built("concurrency_key");
	if (!PG_ARGISNULL(13))
		not_built("depends_on");
	if (!PG_ARGISNULL(14))
		check_depends_mode(text_to_cstring(PG_GETARG_TEXT_PP(14)));
	if (!PG_ARGISNULL(15))
		not_built("compensate_with");
	if (!PG_ARGISNULL(16))
		request.expires_at = check_expires_at(PG_GETARG_TIMESTAMPTZ(16));
	if (!PG_ARGISNULL(17))
		request.headers = check_headers(PG_GETARG_JSONB_P(17));
	if (!PG_ARGISNULL(18))
		request.tags = tags_of_array(PG_GETARG_ARRAYTYPE_P(18));
	prepare(&request, &job);
	PG_RETURN_INT64(insert_one(&job));
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue_many);
/* queue.enqueue_many(kind, payloads, queue, priority, run_at) -> setof bigint */
Datum
queue_sql_enqueue_many(PG_FUNCTION_ARGS)
{
	Request		request = REQUEST_NONE;
	QueueJob   *jobs;
	Datum	   *payloads;
	bool	   *nulls;
	int			n;

	queue_finish_writable("queue.enqueue_many()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (!PG_ARGISNULL(0))
		request.kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (PG_ARGISNULL(1))
		null_value("payloads");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false, TYPALIGN_INT, &payloads, &nulls, &n);
	if (!PG_ARGISNULL(2))
		request.queue = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
		request.priority = PG_GETARG_INT32(3);
	request.has_run_at = !PG_ARGISNULL(4);
	if (request.has_run_at)
		request.run_at = PG_GETARG_TIMESTAMPTZ(4);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("element %d of payloads is null", i + 1),
					 errhint("Use 'null'::jsonb or '{}' for a job without a payload.")));
	}
	/* one check serves all: they differ only in the payload */
	jobs = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(QueueJob));
	request.payload = n > 0 ? DatumGetJsonbP(payloads[0]) : (Jsonb *) PG_DETOAST_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	prepare(&request, &jobs[0]);
	for (int i = 1; i < n; i++)
	{
		jobs[i] = jobs[0];
		jobs[i].payload = DatumGetJsonbP(payloads[i]);
	}
	insert_many(fcinfo, jobs, n);
	return (Datum) 0;
}

/* ---- JSON ---- */

static char *
json_text(const char *name, JsonbValue *value)
{
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job option \"%s\" must be a string", name),
				 errhint("See COMMENT ON FUNCTION queue.enqueue_json for the options.")));
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static int64
json_int(const char *name, JsonbValue *value)
{
	double		number;

	/* drivers that know only strings send "3" */
	if (value->type == jbvString)
		return pg_strtoint32(pnstrdup(value->val.string.val, value->val.string.len));
	if (value->type != jbvNumeric)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job option \"%s\" must be a number", name),
				 errhint("See COMMENT ON FUNCTION queue.enqueue_json for the options.")));
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
	if (number != floor(number))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job option \"%s\" must be a whole number", name),
				 errhint("See COMMENT ON FUNCTION queue.enqueue_json for the options.")));
	/* far beyond any option's range: its own check refuses it */
	if (number > PG_INT32_MAX || number < PG_INT32_MIN)
		return number > 0 ? PG_INT64_MAX : PG_INT64_MIN;
	return (int64) number;
}

static int64
json_interval(const char *name, JsonbValue *value)
{
	char	   *text = json_text(name, value);

	return check_interval(name, DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
																	  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

static Jsonb *
json_tags(JsonbValue *value)
{
	Jsonb	   *tags = JsonbValueToJsonb(value);
	JsonbIterator *it = JsonbIteratorInit(&tags->root);
	JsonbIteratorToken token;
	JsonbValue	element;
	bool		ok = JB_ROOT_IS_ARRAY(tags) && !JB_ROOT_IS_SCALAR(tags);

	while (ok && (token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		ok = token != WJB_ELEM || element.type == jbvString;
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job option \"tags\" must be an array of strings"),
				 errhint("Write them like [\"nightly\", \"eu\"].")));
	return JB_ROOT_COUNT(tags) == 0 ? NULL : tags;
}

/* Reads one job of enqueue_json's form into a request; unknown options are errors. */
static void
request_of_json(JsonbContainer *container, Request *request)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	static const char *const unbuilt[] = {
		"unique_key", "unique_for", "group_key", "concurrency_key", "depends_on", "compensate_with"
	};

	*request = REQUEST_NONE;
	request->queue = "default";
	request->payload = (Jsonb *) PG_DETOAST_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	if (!JsonContainerIsObject(container))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a job must be a JSON object"),
				 errhint("Write it like {\"kind\": \"mail\", \"payload\": {}}.")));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		bool		is_null;

		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		is_null = value.type == jbvNull;
		if (strcmp(name, "kind") == 0)
			request->kind = is_null ? NULL : json_text(name, &value);
		else if (strcmp(name, "queue") == 0)
			request->queue = is_null ? NULL : json_text(name, &value);
		else if (strcmp(name, "payload") == 0)
			request->payload = is_null ? NULL : JsonbValueToJsonb(&value);
		else if (strcmp(name, "priority") == 0)
			request->priority = is_null ? 0 : json_int(name, &value);
		else if (strcmp(name, "run_at") == 0)
		{
			request->has_run_at = !is_null;
			if (!is_null)
				request->run_at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(json_text(name, &value)),
																		  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		}
		else if (strcmp(name, "expires_at") == 0)
			request->expires_at = is_null ? DT_NOEND :
				check_expires_at(DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(json_text(name, &value)),
																		 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
		else if (strcmp(name, "delay") == 0)
		{
			request->has_delay = !is_null;
			request->delay = is_null ? 0 : json_interval(name, &value);
		}
		else if (strcmp(name, "max_attempts") == 0)
			request->max_attempts = is_null ? 0 : check_max_attempts(json_int(name, &value));
		else if (strcmp(name, "timeout") == 0)
			request->timeout = is_null ? -1 : json_interval(name, &value);
		else if (strcmp(name, "headers") == 0)
			request->headers = is_null ? NULL : check_headers(JsonbValueToJsonb(&value));
		else if (strcmp(name, "tags") == 0)
			request->tags = is_null ? NULL : json_tags(&value);
		else if (strcmp(name, "on_conflict") == 0)
		{
			if (!is_null)
				check_on_conflict(json_text(name, &value));
		}
		else if (strcmp(name, "depends_mode") == 0)
		{
			if (!is_null)
				check_depends_mode(json_text(name, &value));
		}
		else
		{
			bool		known = false;

			for (int i = 0; i < lengthof(unbuilt); i++)
				known |= strcmp(name, unbuilt[i]) == 0;
			if (!known)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_OBJECT),
						 errmsg("unknown job option \"%s\"", name),
						 errhint("The options are the parameters of queue.enqueue.")));
			if (!is_null)
				not_built(name);
		}
	}
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue_json);
/* queue.enqueue_json(job text) -> bigint */
Datum
queue_sql_enqueue_json(PG_FUNCTION_ARGS)
{
	Request		request;
	QueueJob	job;
	Jsonb	   *json;

	queue_finish_writable("queue.enqueue_json()");
	if (PG_ARGISNULL(0))
		null_value("job");
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	request_of_json(&json->root, &request);
	prepare(&request, &job);
	PG_RETURN_INT64(insert_one(&job));
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue_json_many);
/* queue.enqueue_json_many(jobs text) -> setof bigint */
Datum
queue_sql_enqueue_json_many(PG_FUNCTION_ARGS)
{
	Jsonb	   *json;
	int			n;
	QueueJob   *jobs;
	MemoryContext context = CurrentMemoryContext;

	queue_finish_writable("queue.enqueue_json_many()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		null_value("jobs");
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("jobs must be a JSON array of jobs"),
				 errhint("Write it like [{\"kind\": \"mail\"}, {\"kind\": \"sms\"}].")));
	n = JB_ROOT_COUNT(json);
	jobs = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(QueueJob));
	for (int i = 0; i < n; i++)
	{
		PG_TRY();
		{
			Request		request;
			JsonbValue *element = getIthJsonbValueFromContainer(&json->root, i);
			Jsonb	   *one = JsonbValueToJsonb(element);

			request_of_json(&one->root, &request);
			prepare(&request, &jobs[i]);
		}
		PG_CATCH();
		{
			rethrow_for_element(i + 1, context);
		}
		PG_END_TRY();
		CHECK_FOR_INTERRUPTS();
	}
	insert_many(fcinfo, jobs, n);
	return (Datum) 0;
}
