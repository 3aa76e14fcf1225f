/*
 * http_handlers.c
 *		SQL functions about HTTP handlers: register_http_handler, add_endpoint,
 *		remove_endpoint, and the rows of queue.stat_endpoint.
 *
 * An HTTP handler belongs to the role that registered it, which must hold manage on each queue that
 * it names (looked at again when it runs).  All that is dangerous in what a user gives is
 * checked here: schemes, credentials in urls, headers that would break the request or pass for ours.
 * Where a connection may go is not: names are judged by the address that they resolve to, when it is made.
 *
 * Locks: those of the SQL statements.
 */
#include "lib/queue.h"

#include <curl/curl.h>

#include "api/arguments.h"
#include "api/handlers.h"
#include "config/http_handlers.h"
#include "config/owner.h"
#include "http/webhook.h"
#include "job/finish.h"
#include "shared/endpoint.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_sql_register_http_handler);
PG_FUNCTION_INFO_V1(queue_sql_add_endpoint);
PG_FUNCTION_INFO_V1(queue_sql_remove_endpoint);
PG_FUNCTION_INFO_V1(queue_sql_stat_endpoint_rows);

/* Arguments of register_http_handler. */
enum
{
	ARG_KIND, ARG_URL, ARG_QUEUES, ARG_METHOD, ARG_HEADERS, ARG_TIMEOUT, ARG_CONNECT_TIMEOUT, ARG_MAX_ATTEMPTS, ARG_BACKOFF,
	ARG_MAX_RUNNING, ARG_RATE_LIMIT, ARG_RATE_PERIOD, ARG_SECRET, ARG_COMPLETE_ON, ARG_DISCARD_ON, ARG_HEALTH_URL,
	ARG_HEALTH_TIMEOUT, ARG_CA_FILE, ARG_BREAKER, NARGS
};

#define MAX_URL 2000

/* A url of http or https, with a host and without credentials; 22023 otherwise. */
static void
check_url(const char *url, const char *what)
{
	CURLU	   *parsed;
	CURLUcode	code;
	char	   *scheme = NULL;
	char	   *user = NULL;
	bool		http;
	bool		credentials;

	if (strlen(url) > MAX_URL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long", what),
				 errhint("It has at most %d bytes.", MAX_URL)));
	for (const char *c = url; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= 0x20 || *c == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain spaces or control characters", what),
					 errhint("Percent-encode them: a space is %%20.")));
	}
	parsed = curl_url();
	if (parsed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errhint("Try again.")));
	code = curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
	http = code == CURLUE_OK && curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		(pg_strcasecmp(scheme, "http") == 0 || pg_strcasecmp(scheme, "https") == 0);
	credentials = code == CURLUE_OK && curl_url_get(parsed, CURLUPART_USER, &user, 0) == CURLUE_OK;
	curl_free(scheme);
	curl_free(user);
	curl_url_cleanup(parsed);
	if (code != CURLUE_OK || !http)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is not an http or https url", what),
				 errhint("Example: https://example.com/hook.")));
	if (credentials)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not contain a user or password", what),
				 errhint("Send them in headers => '{\"Authorization\": \"Basic ..\"}'.")));
}

/* The method of a request. */
static const char *
check_method(FunctionCallInfo fcinfo)
{
	static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE", "GET"};
	char	   *method;

	if (PG_ARGISNULL(ARG_METHOD))
		return "POST";
	method = text_to_cstring(PG_GETARG_TEXT_PP(ARG_METHOD));
	for (int i = 0; i < lengthof(methods); i++)
	{
		if (pg_strcasecmp(method, methods[i]) == 0)
			return methods[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("method \"%s\" is not supported", method),
			 errhint("It is POST, PUT, PATCH, DELETE or GET (without a body).")));
	return NULL;
}

/* Headers: an object of names and plain values, none of them ours. */
static void
check_headers(Jsonb *headers)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("Example: {\"Authorization\": \"Bearer ..\"}.")));
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(value.val.string.val, value.val.string.len);
			if (!queue_httpconf_name_ok(name))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("\"%s\" is not a header name", name),
						 errhint("It has letters, digits and dashes.")));
			if (queue_httpconf_reserved(name))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("header \"%s\" is set by the server", name),
						 errhint("Leave it out.")));
		}
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString && value.type != jbvNumeric && value.type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" must be a string", name),
					 errhint("Example: {\"Authorization\": \"Bearer ..\"}.")));
		if (value.type == jbvString && !queue_httpconf_value_ok(value.val.string.val, value.val.string.len))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" contains control characters", name),
					 errhint("A header is one line.")));
	}
}

static void
check_statuses(FunctionCallInfo fcinfo, int arg, const char *what)
{
	uint32		bits[20];
	char	   *bad = NULL;

	if (!PG_ARGISNULL(arg) && !queue_httpconf_statuses(PG_GETARG_ARRAYTYPE_P(arg), bits, &bad))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: \"%s\" is no HTTP status", what, bad),
				 errhint("Give statuses and ranges of them, such as '{200-299,404}'.")));
}

/* The queues of an HTTP handler: the caller manages each. */
static void
check_queues(FunctionCallInfo fcinfo, const char *kind)
{
	int			n;
	char	  **queues = queue_handler_queues(fcinfo, ARG_QUEUES, kind, &n);

	for (int i = 0; i < n; i++)
		queue_require(queues[i], QUEUE_PRIV_MANAGE);
}

/* An interval above 0 and at most a day; null: the default. */
static Interval *
duration(FunctionCallInfo fcinfo, int arg, const char *what, int64 missing)
{
	Interval   *interval;

	if (PG_ARGISNULL(arg))
	{
		interval = palloc0(sizeof(Interval));
		interval->time = missing;
		return interval;
	}
	interval = PG_GETARG_INTERVAL_P(arg);
	if (queue_interval_us(interval) < 1000 || queue_interval_us(interval) > USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", what),
				 errhint("It is an interval from 1 ms to 1 day.")));
	return interval;
}

/* max_running of a handler or endpoint; null: 0. */
static int
check_max_running(FunctionCallInfo fcinfo, int arg)
{
	int			n;

	if (PG_ARGISNULL(arg))
		return 0;
	n = PG_GETARG_INT32(arg);
	if (n < 1 || n > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_running is out of range: %d", n),
				 errhint("It is a number from 1 to 100000.")));
	return n;
}

/* Text, or null. */
static char *
optional_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* No place in shared memory for one more endpoint: better told now than later. */
static void
check_room(const char *kind, const char *url)
{
	if (queue_preloaded() &&
		queue_endpoint_state_of(MyDatabaseId, queue_endpoint_key(kind, url), true) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many HTTP endpoints"),
				 errhint("A server has room for %d, over all its databases.", QUEUE_MAX_ENDPOINTS)));
}

/* One parameter of a statement. */
static void
set(Oid *types, Datum *values, char *nulls, int n, Oid type, Datum value, bool isnull)
{
	types[n] = type;
	values[n] = isnull ? (Datum) 0 : value;
	nulls[n] = isnull ? 'n' : ' ';
}

/* Inserts or changes one endpoint; in an SPI section. */
static void
upsert_endpoint(const char *kind, const char *url, int weight, int max_running, const char *health_url, Jsonb *breaker)
{
	Oid			types[8];
	Datum		values[8];
	char		nulls[8];

	set(types, values, nulls, 0, TEXTOID, CStringGetTextDatum(kind), false);
	set(types, values, nulls, 1, TEXTOID, CStringGetTextDatum(url), false);
	set(types, values, nulls, 2, INT4OID, Int32GetDatum(weight), false);
	set(types, values, nulls, 3, INT4OID, Int32GetDatum(max_running), max_running == 0);
	set(types, values, nulls, 4, TEXTOID, health_url == NULL ? 0 : CStringGetTextDatum(health_url), health_url == NULL);
	set(types, values, nulls, 5, JSONBOID, JsonbPGetDatum(breaker), breaker == NULL);
	set(types, values, nulls, 6, INT8OID, Int64GetDatum((int64) GetSystemIdentifier()), false);
	set(types, values, nulls, 7, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	(void) queue_spi_run("INSERT INTO queue.endpoint (kind, url, weight, max_running, health_url, breaker,"
						 " system_identifier, database_oid) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
						 " ON CONFLICT (kind, url) DO UPDATE SET weight = excluded.weight,"
						 " max_running = excluded.max_running, health_url = excluded.health_url,"
						 " breaker = excluded.breaker, system_identifier = excluded.system_identifier,"
						 " database_oid = excluded.database_oid",
						 8, types, values, nulls);
}

/* queue.register_http_handler(..) */
Datum
queue_sql_register_http_handler(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, ARG_KIND, "kind", true);
	char	   *url = queue_arg_text(fcinfo, ARG_URL, "url");
	char	   *health_url = optional_text(fcinfo, ARG_HEALTH_URL);
	char	   *secret = optional_text(fcinfo, ARG_SECRET);
	char	   *ca_file = optional_text(fcinfo, ARG_CA_FILE);
	int			max_running;
	QueueHandler *existing;
	bool		may_replace;
	QueueSpi	spi;
	Oid			types[20];
	Datum		values[20];
	char		nulls[20];
	NameData	me;
	NameData	expected;

	queue_finish_writable("queue.register_http_handler()");
	queue_arg_not_built(fcinfo, ARG_RATE_LIMIT, "register_http_handler", "rate_limit");
	if (!PG_ARGISNULL(ARG_RATE_PERIOD))
		(void) queue_arg_interval(fcinfo, ARG_RATE_PERIOD, "rate_period", 1);
	check_url(url, "url");
	if (health_url != NULL)
		check_url(health_url, "health_url");
	if (!PG_ARGISNULL(ARG_HEADERS))
		check_headers(PG_GETARG_JSONB_P(ARG_HEADERS));
	if (!PG_ARGISNULL(ARG_MAX_ATTEMPTS) && PG_GETARG_INT32(ARG_MAX_ATTEMPTS) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_attempts is out of range: %d", PG_GETARG_INT32(ARG_MAX_ATTEMPTS)),
				 errhint("It is 1 or more.")));
	if (!PG_ARGISNULL(ARG_BACKOFF))
		(void) queue_backoff_parse(PG_GETARG_JSONB_P(ARG_BACKOFF));
	if (!PG_ARGISNULL(ARG_BREAKER))
		(void) queue_breaker_parse(PG_GETARG_JSONB_P(ARG_BREAKER));
	check_statuses(fcinfo, ARG_COMPLETE_ON, "complete_on");
	check_statuses(fcinfo, ARG_DISCARD_ON, "discard_on");
	max_running = check_max_running(fcinfo, ARG_MAX_RUNNING);
	if (max_running == 0)
		max_running = 100;
	if (secret != NULL && !queue_webhook_secret_ok(secret))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("secret is not valid"),
				 errhint("It is whsec_ and base64, or any text that is not empty.")));

	check_queues(fcinfo, kind);
	if (ca_file != NULL)
	{
		queue_require(NULL, QUEUE_PRIV_MANAGE);
		if (ca_file[0] != '/')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("ca_file must be an absolute path"),
					 errhint("It names a file on the database server with the accepted CA certificates (PEM).")));
	}
	may_replace = queue_handler_is_owner();
	existing = queue_config_handler(kind);
	if (existing != NULL && !may_replace && !queue_handler_is_registrar(existing->registered_by))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("kind \"%s\" has a handler that role \"%s\" registered", kind, existing->registered_by),
				 errhint("That role or a superuser can replace or unregister it.")));
	check_room(kind, url);
	if (!queue_preloaded())
		ereport(WARNING,
				(errmsg("no server process will run jobs of kind \"%s\": the library is not preloaded", kind),
				 errhint("Set shared_preload_libraries = 'queue' in postgresql.conf and restart the server.")));

	namestrcpy(&me, GetUserNameFromId(GetUserId(), false));
	namestrcpy(&expected, existing != NULL ? existing->registered_by : NameStr(me));
	set(types, values, nulls, 0, TEXTOID, CStringGetTextDatum(kind), false);
	set(types, values, nulls, 1, TEXTARRAYOID, PG_GETARG_DATUM(ARG_QUEUES), PG_ARGISNULL(ARG_QUEUES));
	set(types, values, nulls, 2, INTERVALOID,
		IntervalPGetDatum(duration(fcinfo, ARG_TIMEOUT, "timeout", 30 * USECS_PER_SEC)), false);
	set(types, values, nulls, 3, INT4OID, PG_GETARG_DATUM(ARG_MAX_ATTEMPTS), PG_ARGISNULL(ARG_MAX_ATTEMPTS));
	set(types, values, nulls, 4, JSONBOID, PG_GETARG_DATUM(ARG_BACKOFF), PG_ARGISNULL(ARG_BACKOFF));
	set(types, values, nulls, 5, NAMEOID, NameGetDatum(&me), false);
	set(types, values, nulls, 6, INT8OID, Int64GetDatum((int64) GetSystemIdentifier()), false);
	set(types, values, nulls, 7, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	set(types, values, nulls, 8, INT4OID, Int32GetDatum(max_running), false);
	set(types, values, nulls, 9, TEXTOID, CStringGetTextDatum(check_method(fcinfo)), false);
	set(types, values, nulls, 10, JSONBOID, PG_GETARG_DATUM(ARG_HEADERS), PG_ARGISNULL(ARG_HEADERS));
	set(types, values, nulls, 11, INTERVALOID,
		IntervalPGetDatum(duration(fcinfo, ARG_CONNECT_TIMEOUT, "connect_timeout", 5 * USECS_PER_SEC)), false);
	set(types, values, nulls, 12, TEXTOID, secret == NULL ? 0 : CStringGetTextDatum(secret), secret == NULL);
	set(types, values, nulls, 13, TEXTARRAYOID, PG_GETARG_DATUM(ARG_COMPLETE_ON), PG_ARGISNULL(ARG_COMPLETE_ON));
	set(types, values, nulls, 14, TEXTARRAYOID, PG_GETARG_DATUM(ARG_DISCARD_ON), PG_ARGISNULL(ARG_DISCARD_ON));
	set(types, values, nulls, 15, INTERVALOID,
		IntervalPGetDatum(duration(fcinfo, ARG_HEALTH_TIMEOUT, "health_timeout", USECS_PER_MINUTE)), false);
	set(types, values, nulls, 16, TEXTOID, ca_file == NULL ? 0 : CStringGetTextDatum(ca_file), ca_file == NULL);
	set(types, values, nulls, 17, JSONBOID, PG_GETARG_DATUM(ARG_BREAKER), PG_ARGISNULL(ARG_BREAKER));
	/* $19: whose row may be replaced; null: anyone's. The row checked above may have changed since. */
	set(types, values, nulls, 18, NAMEOID, NameGetDatum(&expected), may_replace);

	queue_spi_begin(&spi);
	(void) queue_spi_run("INSERT INTO queue.installation (id) VALUES (pg_catalog.gen_random_uuid())"
						 " ON CONFLICT (single) DO NOTHING", 0, NULL, NULL, NULL);
	if (queue_spi_run("INSERT INTO queue.handler AS h (kind, type, queues, timeout, max_attempts, backoff, run_as,"
					  " registered_by, system_identifier, database_oid, max_running, method, headers,"
					  " connect_timeout, secret, complete_on, discard_on, health_timeout, ca_file, breaker)"
					  " VALUES ($1, 'http', $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11, $12, $13,"
					  " coalesce($14, '{200-299}'), coalesce($15, '{410}'), $16, $17, $18)"
					  " ON CONFLICT (kind) DO UPDATE SET type = excluded.type,"
					  " function_schema = NULL, function_name = NULL, function_argument = NULL, function_owner = NULL,"
					  " queues = excluded.queues, timeout = excluded.timeout, max_attempts = excluded.max_attempts,"
					  " backoff = excluded.backoff, run_as = excluded.run_as, registered_by = excluded.registered_by,"
					  " system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,"
					  " max_running = excluded.max_running, method = excluded.method, headers = excluded.headers,"
					  " connect_timeout = excluded.connect_timeout, secret = excluded.secret,"
					  " complete_on = excluded.complete_on, discard_on = excluded.discard_on,"
					  " health_timeout = excluded.health_timeout, ca_file = excluded.ca_file, breaker = excluded.breaker"
					  " WHERE $19 IS NULL OR h.registered_by = $19",
					  19, types, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("kind \"%s\" has a handler that another role registered", kind),
				 errhint("That role or a superuser can replace or unregister it.")));
	(void) queue_spi_run("DELETE FROM queue.endpoint WHERE kind = $1", 1, types, values, NULL);
	upsert_endpoint(kind, url, 1, 0, health_url, NULL);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* The HTTP handler of a kind that the caller may change. */
static QueueHandler *
own_handler(const char *kind)
{
	QueueHandler *handler = queue_config_handler(kind);

	if (handler == NULL || !handler->http)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("kind \"%s\" has no HTTP handler", kind),
				 errhint("Register one with queue.register_http_handler.")));
	if (!queue_handler_is_owner() && !queue_handler_is_registrar(handler->registered_by))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("handler for kind \"%s\" was registered by role \"%s\"", kind, handler->registered_by),
				 errhint("That role or a superuser can change its endpoints.")));
	return handler;
}

/* queue.add_endpoint(kind, url, weight, max_running, health_url, breaker) */
Datum
queue_sql_add_endpoint(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, 0, "kind", true);
	char	   *url = queue_arg_text(fcinfo, 1, "url");
	int			weight = PG_ARGISNULL(2) ? 1 : PG_GETARG_INT32(2);
	int			max_running = check_max_running(fcinfo, 3);
	char	   *health_url = optional_text(fcinfo, 4);
	Jsonb	   *breaker = PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5);
	QueueSpi	spi;

	queue_finish_writable("queue.add_endpoint()");
	check_url(url, "url");
	if (health_url != NULL)
		check_url(health_url, "health_url");
	if (weight < 0 || weight > 1000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weight is out of range: %d", weight),
				 errhint("It is a number from 0 (nothing) to 1000.")));
	if (breaker != NULL)
		(void) queue_breaker_parse(breaker);
	(void) own_handler(kind);
	check_room(kind, url);
	queue_spi_begin(&spi);
	upsert_endpoint(kind, url, weight, max_running, health_url, breaker);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* queue.remove_endpoint(kind, url) */
Datum
queue_sql_remove_endpoint(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, 0, "kind", true);
	char	   *url = queue_arg_text(fcinfo, 1, "url");
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];
	QueueSpi	spi;
	QueueHandler *handler;
	int			nendpoints;
	uint64		removed;

	queue_finish_writable("queue.remove_endpoint()");
	handler = own_handler(kind);
	nendpoints = handler->conf->nendpoints;
	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(url);
	queue_spi_begin(&spi);
	removed = queue_spi_run("DELETE FROM queue.endpoint WHERE kind = $1 AND url = $2", 2, types, values, NULL);
	queue_spi_end(&spi);
	if (removed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("kind \"%s\" has no such endpoint", kind),
				 errhint("Give its url as it was registered, with the query.")));
	if (nendpoints <= 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("it is the last endpoint of kind \"%s\"", kind),
				 errhint("Add another one first, or call queue.unregister_handler.")));
	PG_RETURN_VOID();
}

/* queue.stat_endpoint_rows(): what VIEW queue.stat_endpoint shows. */
Datum
queue_sql_stat_endpoint_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueConfig *config;

	InitMaterializedSRF(fcinfo, 0);
	config = queue_config();
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		if (!handler->http || !queue_handler_visible(handler))
			continue;
		for (int j = 0; j < handler->conf->nendpoints; j++)
		{
			QueueEndpoint *endpoint = handler->conf->endpoints[j];
			QueueEndpointState *state = queue_endpoint_state_of(MyDatabaseId, endpoint->key, queue_preloaded());
			Datum		values[11];
			bool		nulls[11];

			memset(nulls, true, sizeof(nulls));
			values[0] = CStringGetTextDatum(handler->kind);
			values[1] = CStringGetTextDatum(queue_httpconf_shown(endpoint->url));
			values[2] = Int32GetDatum(endpoint->weight);
			nulls[0] = nulls[1] = nulls[2] = false;
			if (state != NULL)
			{
				uint64		answers = pg_atomic_read_u64(&state->answers);
				uint64		probe = pg_atomic_read_u64(&state->next_probe_at);
				QueueBreakerState breaker = state->breaker.state;
				TimestampTz open_until = state->breaker.open_until;

				values[3] = CStringGetTextDatum(queue_breaker_word(breaker));
				values[4] = BoolGetDatum(endpoint->health_url == NULL || pg_atomic_read_u32(&state->healthy) != 0);
				values[5] = Int32GetDatum((int32) pg_atomic_read_u32(&state->in_flight));
				values[6] = Int64GetDatum((int64) pg_atomic_read_u64(&state->succeeded));
				values[7] = Int64GetDatum((int64) pg_atomic_read_u64(&state->failed));
				values[8] = Int32GetDatum(state->breaker.consecutive);
				memset(&nulls[3], false, 6 * sizeof(bool));
				if (answers > 0)
				{
					values[9] = Float8GetDatum((double) pg_atomic_read_u64(&state->total_us) / (double) answers / 1000.0);
					nulls[9] = false;
				}
				/* when it is looked at next: by its health_url, else by the breaker's first probe */
				if (probe == 0 && breaker == QUEUE_BREAKER_OPEN)
					probe = (uint64) open_until;
				values[10] = TimestampTzGetDatum((TimestampTz) probe);
				nulls[10] = probe == 0;
			}
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	PG_RETURN_NULL();
}
