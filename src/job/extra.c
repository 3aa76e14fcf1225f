/*
 * extra.c
 *		live_job.extra: the rare properties of a job, by name, so that the common row
 *		stays narrow (a ninth column would cost every row 8 bytes).
 *
 * Owns the names of the members.  Times are int64 microseconds since 2000-01-01 UTC,
 * PostgreSQL's own; the view queue.job reads the same names.
 */
#include "job/extra.h"

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

static void
push_int(JsonbParseState **state, const char *key, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	push_key(state, key);
	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_text(JsonbParseState **state, const char *key, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	push_key(state, key);
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_json(JsonbParseState **state, const char *key, Jsonb *json)
{
	JsonbValue	value;

	push_key(state, key);
	JsonbToJsonbValue(json, &value);
	pushJsonbValue(state, WJB_VALUE, &value);
}

Jsonb *
queue_extra_pack(const QueueExtra *extra)
{
	JsonbParseState *state = NULL;
	JsonbValue *object;

	if (extra->enqueued_at == 0 && extra->max_attempts == 0 && extra->timeout < 0 &&
		extra->backoff == NULL && extra->headers == NULL && extra->tags == NULL && extra->progress == NULL &&
		extra->last_error == NULL && extra->worker == NULL && extra->started_at == 0 &&
		extra->expires_at == DT_NOEND && extra->deaths == 0 && extra->first_at == 0 && extra->run_at == 0 &&
		extra->blocks == 0 && extra->unique_key == NULL && extra->group_key == NULL && extra->origin == NULL &&
		extra->dead_letter == 0 && extra->concurrency_key == NULL && extra->depends_mode == 0 &&
		extra->retried_at == 0 && extra->cause == 0 && extra->steps_size == 0 && extra->awaits == NULL &&
		extra->workflow == 0)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (extra->enqueued_at != 0)
		push_int(&state, "enqueued_at", extra->enqueued_at);
	if (extra->max_attempts != 0)
		push_int(&state, "max_attempts", extra->max_attempts);
	if (extra->timeout >= 0)
		push_int(&state, "timeout", extra->timeout);
	if (extra->backoff != NULL)
		push_text(&state, "backoff", extra->backoff);
	if (extra->headers != NULL)
		push_json(&state, "headers", extra->headers);
	if (extra->tags != NULL)
		push_json(&state, "tags", extra->tags);
	if (extra->progress != NULL)
		push_json(&state, "progress", extra->progress);
	if (extra->last_error != NULL)
		push_text(&state, "last_error", extra->last_error);
	if (extra->worker != NULL)
		push_text(&state, "worker", extra->worker);
	if (extra->started_at != 0)
		push_int(&state, "started_at", extra->started_at);
	if (extra->expires_at != DT_NOEND)
		push_int(&state, "expires_at", extra->expires_at);
	if (extra->deaths != 0)
		push_int(&state, "deaths", extra->deaths);
	if (extra->unique_key != NULL)
		push_text(&state, "unique_key", extra->unique_key);
	if (extra->origin != NULL)
		push_json(&state, "origin", extra->origin);
	if (extra->dead_letter != 0)
		push_int(&state, "dead_letter", extra->dead_letter);
	if (extra->concurrency_key != NULL)
		push_text(&state, "concurrency_key", extra->concurrency_key);
	if (extra->first_at != 0)
		push_int(&state, "first_at", extra->first_at);
	if (extra->run_at != 0)
		push_int(&state, "run_at", extra->run_at);
	if (extra->blocks != 0)
		push_int(&state, "blocks", extra->blocks);
	if (extra->group_key != NULL)
		push_text(&state, "group_key", extra->group_key);
	if (extra->position != 0)
		push_int(&state, "position", extra->position);
	if (extra->holds_group)
		push_int(&state, "holds_group", 1);
	if (extra->steps_size != 0)
		push_int(&state, "steps_size", extra->steps_size);
	if (extra->steps != NULL)
		push_json(&state, "steps", extra->steps);
	if (extra->depends_mode != 0)
		push_int(&state, "depends_mode", extra->depends_mode);
	if (extra->retried_at != 0)
		push_int(&state, "retried_at", extra->retried_at);
	if (extra->cause != 0)
		push_int(&state, "cause", extra->cause);
	if (extra->workflow != 0)
		push_int(&state, "workflow", extra->workflow);
	if (extra->ref != NULL)
		push_text(&state, "ref", extra->ref);
	if (extra->compensate_with != NULL)
		push_text(&state, "compensate_with", extra->compensate_with);
	if (extra->compensates != 0)
		push_int(&state, "compensates", extra->compensates);
	if (extra->awaits != NULL)
		push_text(&state, "awaits", extra->awaits);
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(object);
}

/* A number of ours, cut to int64's range: whatever somebody wrote there by hand must not make the row unreadable. */
static int64
value_int(const JsonbValue *value)
{
	static Numeric most = NULL; /* made once a process */
	static Numeric least = NULL;
	Numeric		number;

	if (unlikely(least == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		most = int64_to_numeric(PG_INT64_MAX);
		least = int64_to_numeric(PG_INT64_MIN);
		MemoryContextSwitchTo(old);
	}
	if (value->type != jbvNumeric || numeric_is_nan(value->val.numeric))
		return 0;
	number = value->val.numeric;
	if (DatumGetBool(DirectFunctionCall2(numeric_ge, NumericGetDatum(number), NumericGetDatum(most))))
		return PG_INT64_MAX;
	if (DatumGetBool(DirectFunctionCall2(numeric_le, NumericGetDatum(number), NumericGetDatum(least))))
		return PG_INT64_MIN;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number)));
}

/* Likewise as an int. */
static int
value_int32(const JsonbValue *value)
{
	int64		number = value_int(value);

	return (int) Max(PG_INT32_MIN, Min(PG_INT32_MAX, number));
}

/* Likewise as a time that can be shown and compared. */
static TimestampTz
value_time(const JsonbValue *value)
{
	int64		number = value_int(value);

	return Max(MIN_TIMESTAMP, Min(END_TIMESTAMP - 1, number));
}

static char *
value_text(JsonbValue *value)
{
	return value->type == jbvString ? pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

/* Unpacks into the current memory context.  NULL: everything at its default. */
void
queue_extra_unpack(const Jsonb *json, QueueExtra *out)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	char		name[32] = "";

	*out = QUEUE_EXTRA_NONE;
	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		return;
	it = JsonbIteratorInit(unconstify(JsonbContainer *, &json->root));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			int			len = Min(value.val.string.len, (int) sizeof(name) - 1);

			memcpy(name, value.val.string.val, len);
			name[len] = '\0';
		}
		if (token != WJB_VALUE)
			continue;
		if (strcmp(name, "enqueued_at") == 0)
			out->enqueued_at = value_time(&value);
		else if (strcmp(name, "max_attempts") == 0)
			out->max_attempts = value_int32(&value);
		else if (strcmp(name, "timeout") == 0)
			out->timeout = value_int(&value);
		else if (strcmp(name, "backoff") == 0)
			out->backoff = value_text(&value);
		else if (strcmp(name, "headers") == 0)
			out->headers = JsonbValueToJsonb(&value);
		else if (strcmp(name, "tags") == 0)
			out->tags = JsonbValueToJsonb(&value);
		else if (strcmp(name, "progress") == 0)
			out->progress = JsonbValueToJsonb(&value);
		else if (strcmp(name, "last_error") == 0)
			out->last_error = value_text(&value);
		else if (strcmp(name, "worker") == 0)
			out->worker = value_text(&value);
		else if (strcmp(name, "started_at") == 0)
			out->started_at = value_time(&value);
		else if (strcmp(name, "expires_at") == 0)
			out->expires_at = value_time(&value);
		else if (strcmp(name, "deaths") == 0)
			out->deaths = value_int32(&value);
		else if (strcmp(name, "unique_key") == 0)
			out->unique_key = value_text(&value);
		else if (strcmp(name, "origin") == 0)
			out->origin = JsonbValueToJsonb(&value);
		else if (strcmp(name, "dead_letter") == 0)
			out->dead_letter = value_int(&value);
		else if (strcmp(name, "concurrency_key") == 0)
			out->concurrency_key = value_text(&value);
		else if (strcmp(name, "first_at") == 0)
			out->first_at = value_time(&value);
		else if (strcmp(name, "run_at") == 0)
			out->run_at = value_time(&value);
		else if (strcmp(name, "blocks") == 0)
			out->blocks = value_int32(&value);
		else if (strcmp(name, "group_key") == 0)
			out->group_key = value_text(&value);
		else if (strcmp(name, "position") == 0)
			out->position = value_int(&value);
		else if (strcmp(name, "holds_group") == 0)
			out->holds_group = value_int(&value) != 0;
		else if (strcmp(name, "steps_size") == 0)
			out->steps_size = value_int(&value);
		else if (strcmp(name, "steps") == 0)
			out->steps = JsonbValueToJsonb(&value);
		else if (strcmp(name, "depends_mode") == 0)
			out->depends_mode = value_int32(&value);
		else if (strcmp(name, "retried_at") == 0)
			out->retried_at = value_time(&value);
		else if (strcmp(name, "cause") == 0)
			out->cause = value_int(&value);
		else if (strcmp(name, "workflow") == 0)
			out->workflow = value_int(&value);
		else if (strcmp(name, "ref") == 0)
			out->ref = value_text(&value);
		else if (strcmp(name, "compensate_with") == 0)
			out->compensate_with = value_text(&value);
		else if (strcmp(name, "compensates") == 0)
			out->compensates = value_int(&value);
		else if (strcmp(name, "awaits") == 0)
			out->awaits = value_text(&value);
	}
}

/* One number of it, without unpacking the rest; false: not there. */
static bool
find_value(const Jsonb *extra, const char *key, JsonbValue *value)
{
	return extra != NULL && JB_ROOT_IS_OBJECT(extra) &&
		getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &extra->root), key, strlen(key), value) != NULL;
}

TimestampTz
queue_extra_time(const Jsonb *extra, const char *key)
{
	JsonbValue	value;

	return find_value(extra, key, &value) ? value_time(&value) : 0;
}

TimestampTz
queue_extra_expires_at(const Jsonb *extra)
{
	JsonbValue	value;

	return find_value(extra, "expires_at", &value) ? value_time(&value) : DT_NOEND;
}

const char *
queue_extra_worker(const Jsonb *extra, size_t *length)
{
	JsonbValue	value;

	if (!find_value(extra, "worker", &value) || value.type != jbvString)
		return NULL;
	*length = value.val.string.len;
	return value.val.string.val;
}

char *
queue_extra_text(const Jsonb *extra, const char *key)
{
	JsonbValue	value;

	return find_value(extra, key, &value) ? value_text(&value) : NULL;
}

int
queue_extra_max_attempts(const Jsonb *extra)
{
	JsonbValue	value;

	return find_value(extra, "max_attempts", &value) ? value_int32(&value) : 0;
}

int
queue_extra_blocks(const Jsonb *extra)
{
	JsonbValue	value;

	return find_value(extra, "blocks", &value) ? value_int32(&value) : 0;
}

int64
queue_extra_int(const Jsonb *extra, const char *key)
{
	JsonbValue	value;

	return find_value(extra, key, &value) ? value_int(&value) : 0;
}

bool
queue_extra_has_group(const Jsonb *extra)
{
	JsonbValue	value;

	return find_value(extra, "group_key", &value) && value.type == jbvString;
}

char *
queue_extra_group(const Jsonb *extra, int64 id, int64 *position)
{
	JsonbValue	value;
	char	   *key = find_value(extra, "group_key", &value) ? value_text(&value) : NULL;

	*position = find_value(extra, "position", &value) ? value_int(&value) : id;
	return key;
}

int64
queue_job_size(const Jsonb *payload, const Jsonb *headers, const Jsonb *tags)
{
	const Jsonb *parts[] = {payload, headers, tags};
	int64		size = 0;

	for (int i = 0; i < lengthof(parts); i++)
		size += parts[i] != NULL ? VARSIZE(parts[i]) - VARHDRSZ : 0;
	return size;
}

void
queue_check_size(const char *what, int64 size)
{
	if (size > (int64) queue_max_job_size * 1024)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("%s of " INT64_FORMAT " bytes is larger than queue.max_job_size (%s)", what, size,
							   GetConfigOptionByName("queue.max_job_size", NULL, false)),
						errdetail("The payload, headers and tags of a job count together, in the size that jsonb has."),
						errhint("Keep large data elsewhere and enqueue a reference to it; a superuser can raise "
								"queue.max_job_size.")));
}
