/*
 * enqueue.c
 *		Jobs in: enqueue, enqueue_many, enqueue_json_many, enqueue_unique, and what enqueue_json is made of.
 *
 * All four fill a request, check it in one place and insert the row through job.c: no
 * parser, no planner, no SPI.  The line's row is made at its first use (config.c), in
 * the same transaction; a commit wakes who waits (note.c).
 */
#include "api/enqueue.h"

#include "api/arguments.h"
#include "api/json_option.h"
#include "config/lines.h"
#include "config/owner.h"
#include "executor/run.h"
#include "job/depend.h"
#include "job/finish.h"
#include "job/key.h"
#include "job/unique.h"
#include "job/workflow.h"
#include "lib/option.h"
#include "shared/clock.h"
#include "shared/mark.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/varlena.h"

/* ---- the options ---- */

static void
set_kind(QueueNewJob *request, const char *name, Datum value)
{
	request->kind = TextDatumGetCString(value);
}

static void
set_payload(QueueNewJob *request, const char *name, Datum value)
{
	request->payload = DatumGetJsonbP(value);
}

static void
set_queue(QueueNewJob *request, const char *name, Datum value)
{
	request->queue = TextDatumGetCString(value);
}

static void
set_priority(QueueNewJob *request, const char *name, Datum value)
{
	request->priority = DatumGetInt64(value);
}

static void
set_run_at(QueueNewJob *request, const char *name, Datum value)
{
	request->has_run_at = true;
	request->run_at = DatumGetTimestampTz(value);
}

static void
set_delay(QueueNewJob *request, const char *name, Datum value)
{
	request->has_delay = true;
	request->delay = queue_check_span(name, DatumGetIntervalP(value), 0);
}

static void
set_max_attempts(QueueNewJob *request, const char *name, Datum value)
{
	request->max_attempts = queue_max_attempts(DatumGetInt64(value));
}

static void
set_timeout(QueueNewJob *request, const char *name, Datum value)
{
	request->timeout = queue_check_span(name, DatumGetIntervalP(value), 0);
}

static void
set_group_key(QueueNewJob *request, const char *name, Datum value)
{
	request->group_key = TextDatumGetCString(value);
	if (request->group_key[0] == '\0' || strlen(request->group_key) > QUEUE_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("group_key must have 1 to %d bytes, not %zu", QUEUE_KEY_MAX, strlen(request->group_key)),
				 errhint("It names what must be done one after the other, such as 'order 42'. Leave it out for a job "
						 "that may run beside all others.")));
}

static void
set_on_conflict(QueueNewJob *request, const char *name, Datum value)
{
	static const char *const words[] = {
		[QUEUE_CONFLICT_IGNORE] = "ignore", [QUEUE_CONFLICT_REPLACE] = "replace",
		[QUEUE_CONFLICT_REPLACE_PAYLOAD] = "replace_payload", [QUEUE_CONFLICT_MERGE] = "merge",
		[QUEUE_CONFLICT_ERROR] = "error"
	};
	char	   *word = TextDatumGetCString(value);

	for (int i = 0; i < lengthof(words); i++)
	{
		if (strcmp(word, words[i]) == 0)
		{
			request->on_conflict = i;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown on_conflict \"%s\"", word),
			 errhint("Use ignore, replace, replace_payload, merge or error.")));
}

static void
set_concurrency_key(QueueNewJob *request, const char *name, Datum value)
{
	char	   *key = TextDatumGetCString(value);

	if (key[0] == '\0' || strlen(key) > QUEUE_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(key[0] == '\0' ? "%s must not be empty" : "%s is too long", name),
				 errhint("It has 1 to %d bytes, such as the name of a tenant.", QUEUE_NAME_MAX)));
	request->concurrency_key = key;
}

static void
set_unique_key(QueueNewJob *request, const char *name, Datum value)
{
	char	   *key = TextDatumGetCString(value);

	if (key[0] == '\0' || strlen(key) > QUEUE_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(key[0] == '\0' ? "%s must not be empty" : "%s is too long", name),
				 errhint("It has 1 to %d bytes; queue.key_of makes one of a payload.", QUEUE_NAME_MAX)));
	request->unique_key = key;
}

static void
set_unique_for(QueueNewJob *request, const char *name, Datum value)
{
	request->unique_for = queue_check_span(name, DatumGetIntervalP(value), 1);
}

static void
set_depends_on(QueueNewJob *request, const char *name, Datum value)
{
	Datum	   *ids;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, &nulls,
					  &n);
	request->depends_on = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(int64));
	request->ndepends = n;
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("element %d of %s is null", i + 1, name),
					 errhint("Give the ids of jobs.")));
		request->depends_on[i] = DatumGetInt64(ids[i]);
	}
}

static void
set_compensate_with(QueueNewJob *request, const char *name, Datum value)
{
	request->compensate_with = TextDatumGetCString(queue_check_kind(value, name));
}

static void
set_workflow(QueueNewJob *request, const char *name, Datum value)
{
	request->workflow = DatumGetInt64(value);
	if (request->workflow == 0)
		queue_workflow_missing(0);	/* a 0 would mean none */
	request->within = queue_current != NULL &&
		queue_extra_int(queue_current->job->extra, "workflow") == request->workflow;
}

static void
set_depends_mode(QueueNewJob *request, const char *name, Datum value)
{
	char	   *word = TextDatumGetCString(value);

	if (strcmp(word, "completed") != 0 && strcmp(word, "finished") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown depends_mode \"%s\"", word),
				 errhint("Use completed or finished.")));
	request->depends_finished = strcmp(word, "finished") == 0;
}

/* Infinity is the same as never. */
static void
set_expires_at(QueueNewJob *request, const char *name, Datum value)
{
	request->expires_at = queue_check_time(name, DatumGetTimestampTz(value));
}

/* Only objects make sense as headers. */
static void
set_headers(QueueNewJob *request, const char *name, Datum value)
{
	request->headers = DatumGetJsonbP(value);
	if (!JB_ROOT_IS_OBJECT(request->headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("Write them like {\"X-Tenant\": \"42\"}.")));
}

static void
set_tags(QueueNewJob *request, const char *name, Datum value)
{
	JsonbParseState *state = NULL;
	int			n;
	char	  **tags = queue_texts(value, name, &n);

	if (n == 0)
		return;
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	tag = {.type = jbvString};

		tag.val.string.val = tags[i];
		tag.val.string.len = strlen(tags[i]);
		pushJsonbValue(&state, WJB_ELEM, &tag);
	}
	request->tags = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static void
set_backoff(QueueNewJob *request, const char *name, Datum value)
{
	QueueBackoff backoff = queue_backoff_parse(DatumGetJsonbP(value));

	request->backoff = queue_backoff_text(&backoff);
}

/*
 * Every option of enqueue, in the order of its parameters; enqueue_json takes them by name.  A setter gets a value
 * that is not null, of the type that `type` stands for.
 */
typedef struct Option
{
	const char *name;
	enum
	{
		OPTION_TEXT, OPTION_JSON, OPTION_INT, OPTION_BIGINT, OPTION_TIME, OPTION_INTERVAL, OPTION_TEXTS, OPTION_IDS
	}			type;			/* both INTs are given to the setter as int8 */
	void		(*set) (QueueNewJob *request, const char *name, Datum value);
	const char *unset;			/* a value that says the same as null; NULL: there is none */
} Option;

#define ENQUEUE_NEEDS	3		/* kind, payload and queue: null is an error there */

static const Option options[] = {
	{"kind", OPTION_TEXT, set_kind},
	{"payload", OPTION_JSON, set_payload},
	{"queue", OPTION_TEXT, set_queue},
	{"priority", OPTION_INT, set_priority, "0"},
	{"run_at", OPTION_TIME, set_run_at},
	{"delay", OPTION_INTERVAL, set_delay},
	{"max_attempts", OPTION_INT, set_max_attempts},
	{"timeout", OPTION_INTERVAL, set_timeout},
	{"unique_key", OPTION_TEXT, set_unique_key},
	{"on_conflict", OPTION_TEXT, set_on_conflict, "ignore"},
	{"unique_for", OPTION_INTERVAL, set_unique_for},
	{"group_key", OPTION_TEXT, set_group_key},
	{"concurrency_key", OPTION_TEXT, set_concurrency_key},
	{"depends_on", OPTION_IDS, set_depends_on},
	{"depends_mode", OPTION_TEXT, set_depends_mode, "completed"},
	{"compensate_with", OPTION_TEXT, set_compensate_with},
	{"expires_at", OPTION_TIME, set_expires_at},
	{"headers", OPTION_JSON, set_headers},
	{"tags", OPTION_TEXTS, set_tags},
	{"workflow", OPTION_BIGINT, set_workflow},
	{"backoff", OPTION_JSON, set_backoff},
};

void
queue_request_set(QueueNewJob *request, const char *name, Datum value)
{
	for (int i = 0; i < lengthof(options); i++)
	{
		if (strcmp(options[i].name, name) == 0)
			options[i].set(request, name, value);
	}
}

bool
queue_enqueue_unset(int i, Node *value)
{
	const Const *constant = (const Const *) value;
	const Option *option = &options[i];

	if (i < ENQUEUE_NEEDS || i >= lengthof(options) || value == NULL || !IsA(value, Const))
		return false;
	if (constant->constisnull)
		return true;
	if (option->unset == NULL || constant->consttype != (option->type == OPTION_INT ? INT4OID : TEXTOID))
		return false;
	return option->type == OPTION_INT ? DatumGetInt32(constant->constvalue) == pg_strtoint32(option->unset) :
		strcmp(TextDatumGetCString(constant->constvalue), option->unset) == 0;
}

/* Checks a request of the calling role and fills the job, all but its id. */
static void
prepare(const QueueNewJob *request, QueueJob *job)
{
	(void) queue_priority(request->priority);
	queue_job_prepare(request, GetUserId(), job);
}

/* Makes one job as prepared, or what stands for it; its id. */
static int64
make(const QueueNewJob *request, QueueJob *job, QueueEnqueued *outcome)
{
	int64		id = queue_unique_create(request, job, outcome);

	if (request->ndepends > 0)
		queue_depend_end_doomed();
	return id;
}

void
queue_rethrow_for_element(int index, MemoryContext context)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(context);
	edata = CopyErrorData();
	FlushErrorState();
	edata->message = psprintf("element %d: %s", index, edata->message);
	ReThrowError(edata);
}

/* A job of many that has a unique key. */
typedef struct Keyed
{
	const QueueNewJob *request;
	QueueJob   *job;
	int			place;			/* among all */
	QueueKeyName name;
} Keyed;

static int
by_key(const void *a, const void *b)
{
	const Keyed *left = a;
	const Keyed *right = b;
	int			cmp = queue_key_compare(&left->name, &right->name);

	return cmp != 0 ? cmp : left->place - right->place;
}

/*
 * Makes those of n prepared jobs that have a unique key, in the order of the keys, so that two calls with the same ones
 * never wait for each other.  ids: what stands for each afterwards; the others are moved together.  How many those are.
 */
static int
insert_keyed(QueueJob *jobs, const QueueNewJob *requests, int n, int64 *ids)
{
	Keyed	   *keyed = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(Keyed));
	int			nkeyed = 0;
	int			rest = 0;

	for (int i = 0; i < n; i++)
	{
		const QueueNewJob *request = &requests[i];

		if (request->unique_key != NULL)
			keyed[nkeyed++] = (Keyed) {request, memcpy(palloc(sizeof(QueueJob)), &jobs[i], sizeof(QueueJob)), i,
			{request->queue, request->kind, request->unique_key}};
		else
			jobs[rest++] = jobs[i];
	}
	qsort(keyed, nkeyed, sizeof(Keyed), by_key);
	for (int i = 0; i < nkeyed; i++)
	{
		MemoryContext context = CurrentMemoryContext;
		QueueEnqueued outcome;

		PG_TRY();
		{
			ids[keyed[i].place] = queue_unique_create(keyed[i].request, keyed[i].job, &outcome);
		}
		PG_CATCH();
		{
			queue_rethrow_for_element(keyed[i].place + 1, context);
		}
		PG_END_TRY();
	}
	return rest;
}

/* Inserts prepared jobs with rising ids.  requests: what each was prepared from; NULL: none has a unique key. */
static void
insert_all(QueueJob *jobs, const QueueNewJob *requests, int n, int64 *ids)
{
	QueueJobTable *table;
	Oid			sequence = queue_config()->job_id_seq;
	int			rest = n;

	for (int i = 0; i < n; i++)
		ids[i] = jobs[i].id = nextval_internal(sequence, false);
	if (requests != NULL)
		rest = insert_keyed(jobs, requests, n, ids);
	if (rest > 0)
	{
		table = queue_job_open(RowExclusiveLock);
		queue_job_add(table, jobs, rest);
		queue_job_close(table);
	}
	queue_depend_end_doomed();
}

/* The same, and returns the ids as the rows of the calling function. */
static void
insert_many(FunctionCallInfo fcinfo, QueueJob *jobs, const QueueNewJob *requests, int n)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64	   *ids;

	if (n == 0)
		return;
	ids = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(int64));
	insert_all(jobs, requests, n, ids);
	for (int i = 0; i < n; i++)
	{
		Datum		id = Int64GetDatum(ids[i]);
		bool		null = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id, &null);
	}
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue);
/* queue.enqueue(kind, payload, queue, ...) -> bigint; what is unset may be missing at the end (server/defaults.c) */
Datum
queue_sql_enqueue(PG_FUNCTION_ARGS)
{
	QueueNewJob request = QUEUE_NEW_JOB_NONE;
	QueueJob	job;
	QueueEnqueued outcome;

	queue_finish_writable("queue.enqueue()");
	Assert(PG_NARGS() <= lengthof(options));
	for (int i = 0; i < PG_NARGS(); i++)
	{
		const Option *option = &options[i];

		if (!PG_ARGISNULL(i))
			option->set(&request, option->name, option->type == OPTION_INT ? Int64GetDatum(PG_GETARG_INT32(i)) :
						PG_GETARG_DATUM(i));
	}
	prepare(&request, &job);
	PG_RETURN_INT64(make(&request, &job, &outcome));
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue_many);
/* queue.enqueue_many(kind, payloads, queue, priority, run_at) -> setof bigint */
Datum
queue_sql_enqueue_many(PG_FUNCTION_ARGS)
{
	QueueNewJob request = QUEUE_NEW_JOB_NONE;
	QueueJob   *jobs;
	Datum	   *payloads;
	bool	   *nulls;
	Size		largest = 0;	/* of the payloads that were checked */
	int			n;

	queue_finish_writable("queue.enqueue_many()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (!PG_ARGISNULL(0))
		request.kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (PG_ARGISNULL(1))
		queue_null_value("payloads");
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
	/* one check serves all: they differ only in the payload, which is detoasted once */
	jobs = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(QueueJob));
	for (int i = 0; i < n; i++)
	{
		jobs[i].payload = DatumGetJsonbP(payloads[i]);
		if (VARSIZE(jobs[i].payload) > largest)
			queue_check_size(psprintf("element %d: job", i + 1), queue_job_size(jobs[i].payload, NULL, NULL));
		largest = Max(largest, VARSIZE(jobs[i].payload));
	}
	request.payload =
		n > 0 ? jobs[0].payload : (Jsonb *) PG_DETOAST_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	prepare(&request, &jobs[0]);
	for (int i = 1; i < n; i++)
	{
		Jsonb	   *payload = jobs[i].payload;

		jobs[i] = jobs[0];
		jobs[i].payload = payload;
	}
	insert_many(fcinfo, jobs, NULL, n);
	return (Datum) 0;
}

/* ---- JSON ---- */

/* A member's value as its option's setter wants it. */
static Datum
json_datum(const Option *option, JsonbValue *value)
{
	switch (option->type)
	{
		case OPTION_TEXT:
			return CStringGetTextDatum(queue_json_text(option->name, value, "\"text\""));
		case OPTION_JSON:
			return JsonbPGetDatum(JsonbValueToJsonb(value));
		case OPTION_INT:
		case OPTION_BIGINT:
			return Int64GetDatum(queue_json_int(option->name, value));
		case OPTION_TIME:
			return queue_json_parsed(option->name, value, timestamptz_in, "\"2030-01-31 08:00+00\"");
		case OPTION_INTERVAL:
			return queue_json_parsed(option->name, value, interval_in, "\"30 s\"");
		case OPTION_TEXTS:
			return queue_json_array(option->name, value, TEXTOID);
		case OPTION_IDS:
			return queue_json_array(option->name, value, INT8OID);
	}
	return (Datum) 0;
}

/* The option that a misspelt one may have meant, as a sentence; "": none is near. */
static const char *
nearest_option(const char *name)
{
	const char *nearest = NULL;
	int			best = 3;
	int			len = (int) strlen(name);

	for (int i = 0; i < lengthof(options) && len < 64; i++)
	{
		int			distance = varstr_levenshtein_less_equal(name, len, options[i].name, (int) strlen(options[i].name),
															 1, 1, 1, best - 1, true);

		if (distance < best && distance < len)
		{
			best = distance;
			nearest = options[i].name;
		}
	}
	return nearest == NULL ? "" : psprintf("Perhaps you meant \"%s\". ", nearest);
}

void
queue_request_of_json(JsonbContainer *container, QueueNewJob *request)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue	value;
	char	   *name;

	*request = QUEUE_NEW_JOB_NONE;
	request->queue = "default";
	request->payload = (Jsonb *) PG_DETOAST_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	if (!JsonContainerIsObject(container))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a job must be a JSON object"),
				 errhint("Write it like {\"kind\": \"mail\", \"payload\": {}}.")));
	while (queue_option_next(&it, &name, &value))
	{
		const Option *option = options;

		while (option < options + lengthof(options) && strcmp(name, option->name) != 0)
			option++;
		if (option == options + lengthof(options))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("unknown job option \"%s\"", name),
					 errhint("%sThe options are the parameters of queue.enqueue.", nearest_option(name))));
		if (value.type != jbvNull)
			option->set(request, option->name, json_datum(option, &value));
		else if (option->set == set_payload)
			request->payload = NULL;	/* null where one is required: refused as enqueue does */
		else if (option->set == set_queue)
			request->queue = NULL;
	}
}

int64
queue_enqueue_one(Jsonb *json)
{
	QueueNewJob request;
	QueueJob	job;
	QueueEnqueued outcome;

	queue_request_of_json(&json->root, &request);
	prepare(&request, &job);
	return make(&request, &job, &outcome);
}

void
queue_enqueue_requests(const QueueNewJob *requests, const int *numbers, int n, int64 *ids)
{
	QueueJob   *jobs = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(QueueJob));

	for (int i = 0; i < n; i++)
	{
		MemoryContext context = CurrentMemoryContext;

		PG_TRY();
		{
			prepare(&requests[i], &jobs[i]);
		}
		PG_CATCH();
		{
			queue_rethrow_for_element(numbers[i] + 1, context);
		}
		PG_END_TRY();
		CHECK_FOR_INTERRUPTS();
	}
	insert_all(jobs, requests, n, ids);
	pfree(jobs);
}

/* Options that a caller gives as arguments must not be among the others too. */
static void
refuse_option(Jsonb *options, const char *name)
{
	if (getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must not be among the options", name),
				 errhint("It is an argument of its own.")));
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue_unique);
/* queue.enqueue_unique(kind, unique_key, payload, options) -> table(job_id, outcome) */
Datum
queue_sql_enqueue_unique(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueNewJob request = QUEUE_NEW_JOB_NONE;
	QueueJob	job;
	QueueEnqueued outcome;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	queue_finish_writable("queue.enqueue_unique()");
	InitMaterializedSRF(fcinfo, 0);
	request.queue = "default";
	if (!PG_ARGISNULL(3))
	{
		Jsonb	   *options = PG_GETARG_JSONB_P(3);

		if (!JB_ROOT_IS_OBJECT(options))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("options must be a JSON object"),
					 errhint("Write them like {\"priority\": -10, \"on_conflict\": \"replace\"}.")));
		queue_request_of_json(&options->root, &request);
		refuse_option(options, "kind");
		refuse_option(options, "unique_key");
		refuse_option(options, "payload");
	}
	if (!PG_ARGISNULL(0))
		set_kind(&request, "kind", PG_GETARG_DATUM(0));
	if (PG_ARGISNULL(1))
		queue_null_value("unique_key");
	set_unique_key(&request, "unique_key", PG_GETARG_DATUM(1));
	request.payload = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	prepare(&request, &job);
	values[0] = Int64GetDatum(make(&request, &job, &outcome));
	values[1] = CStringGetTextDatum(queue_enqueued_names[outcome]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_enqueue_json_many);
/* queue.enqueue_json_many(jobs text) -> setof bigint */
Datum
queue_sql_enqueue_json_many(PG_FUNCTION_ARGS)
{
	Jsonb	   *json;
	int			n;
	QueueJob   *jobs;
	QueueNewJob *requests;
	MemoryContext context = CurrentMemoryContext;

	queue_finish_writable("queue.enqueue_json_many()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		queue_null_value("jobs");
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("jobs must be a JSON array of jobs"),
				 errhint("Write it like [{\"kind\": \"mail\"}, {\"kind\": \"sms\"}].")));
	n = JB_ROOT_COUNT(json);
	jobs = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(QueueJob));
	requests = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(QueueNewJob));
	for (int i = 0; i < n; i++)
	{
		PG_TRY();
		{
			JsonbValue *element = getIthJsonbValueFromContainer(&json->root, i);
			Jsonb	   *one = JsonbValueToJsonb(element);

			queue_request_of_json(&one->root, &requests[i]);
			prepare(&requests[i], &jobs[i]);
		}
		PG_CATCH();
		{
			queue_rethrow_for_element(i + 1, context);
		}
		PG_END_TRY();
		CHECK_FOR_INTERRUPTS();
	}
	insert_many(fcinfo, jobs, requests, n);
	return (Datum) 0;
}
