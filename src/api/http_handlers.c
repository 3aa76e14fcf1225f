/*
 * http_handlers.c
 *		SQL functions about HTTP handlers: register_http_handler, alter_http_handler, add_endpoint,
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
#include "api/registration.h"
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
PG_FUNCTION_INFO_V1(queue_sql_alter_http_handler);
PG_FUNCTION_INFO_V1(queue_sql_add_endpoint);
PG_FUNCTION_INFO_V1(queue_sql_remove_endpoint);
PG_FUNCTION_INFO_V1(queue_sql_stat_endpoint_rows);

/* Arguments of register_http_handler. */
enum
{
	ARG_KIND, ARG_URL, ARG_QUEUES, ARG_METHOD, ARG_HEADERS, ARG_TIMEOUT, ARG_CONNECT_TIMEOUT, ARG_MAX_ATTEMPTS,
	ARG_BACKOFF,
	ARG_MAX_RUNNING, ARG_RATE_LIMIT, ARG_RATE_PERIOD, ARG_SECRET, ARG_COMPLETE_ON, ARG_DISCARD_ON, ARG_HEALTH_URL,
	ARG_HEALTH_TIMEOUT, ARG_CA_FILE, ARG_BREAKER, ARG_BODY
};

/* Arguments of alter_http_handler. */
enum
{
	ALTER_KIND, ALTER_QUEUE, ALTER_URL, ALTER_QUEUES, ALTER_METHOD, ALTER_HEADERS, ALTER_TIMEOUT, ALTER_CONNECT_TIMEOUT,
	ALTER_MAX_ATTEMPTS, ALTER_BACKOFF, ALTER_MAX_RUNNING, ALTER_RATE_LIMIT, ALTER_RATE_PERIOD, ALTER_COMPLETE_ON,
	ALTER_DISCARD_ON, ALTER_HEALTH_URL, ALTER_HEALTH_TIMEOUT, ALTER_CA_FILE, ALTER_BREAKER, ALTER_BODY, ALTER_SECRETS,
	ALTER_RESET
};

#define MAX_SECRETS 10			/* of a handler, while they are rotated */
#define MAX_HEADERS 65536		/* bytes: every session that reads the configuration reads them */
#define MAX_STATUSES 500		/* there are no more */
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

/* The method of a request, in upper case. */
static Datum
check_method(Datum value, const char *what)
{
	static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE", "GET"};
	char	   *method = text_to_cstring(DatumGetTextPP(value));

	for (int i = 0; i < lengthof(methods); i++)
	{
		if (pg_strcasecmp(method, methods[i]) == 0)
			return CStringGetTextDatum(methods[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s \"%s\" is not supported", what, method),
			 errhint("It is POST, PUT, PATCH, DELETE or GET (without a body).")));
	return (Datum) 0;
}

/* Headers: an object of names and plain values, none of them ours. */
static Datum
check_headers(Datum value, const char *what)
{
	Jsonb	   *headers = DatumGetJsonbP(value);
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("Example: {\"Authorization\": \"Bearer ..\"}.")));
	if (VARSIZE(headers) > MAX_HEADERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("headers take %d bytes", (int) VARSIZE(headers)),
				 errhint("They take at most %d.", MAX_HEADERS)));
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(item.val.string.val, item.val.string.len);
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
		if (item.type != jbvString && item.type != jbvNumeric && item.type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" must be a string", name),
					 errhint("Example: {\"Authorization\": \"Bearer ..\"}.")));
		if (item.type == jbvString && !queue_httpconf_value_ok(item.val.string.val, item.val.string.len))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" contains control characters", name),
					 errhint("A header is one line.")));
	}
	return value;
}

static Datum
check_statuses(Datum value, const char *what)
{
	uint32		bits[20];
	char	   *bad = NULL;
	ArrayType  *statuses = DatumGetArrayTypeP(value);
	int			n = ArrayGetNItems(ARR_NDIM(statuses), ARR_DIMS(statuses));

	if (n > MAX_STATUSES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s has %d elements", what, n),
				 errhint("It has at most %d.", MAX_STATUSES)));
	if (!queue_httpconf_statuses(statuses, bits, &bad))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: \"%s\" is no HTTP status", what, bad),
				 errhint("Give statuses and ranges of them, such as '{200-299,404}'.")));
	return value;
}

/* An interval from 1 ms to a day. */
static Datum
check_duration(Datum value, const char *what)
{
	int64		us = queue_interval_us(DatumGetIntervalP(value));

	if (us < 1000 || us > USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", what),
				 errhint("It is an interval from 1 ms to 1 day.")));
	return value;
}

/* max_running of a handler or endpoint. */
static Datum
check_max_running(Datum value, const char *what)
{
	(void) queue_in_range(DatumGetInt32(value), what, 1, 100000);
	return value;
}

static Datum
check_weight(Datum value, const char *what)
{
	(void) queue_in_range(DatumGetInt32(value), what, 0, 1000);
	return value;
}

/* Secrets as a text[]. */
static Datum
secrets_datum(char **secrets, int n, const char *what)
{
	for (int i = 0; i < n; i++)
	{
		if (!queue_webhook_secret_ok(secrets[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s is not valid", what),
					 errhint("It is whsec_ and base64, or any text that is not empty.")));
	}
	return queue_registration_queues(secrets, n);
}

static Datum
check_secret(Datum value, const char *what)
{
	char	   *secret = text_to_cstring(DatumGetTextPP(value));

	return secrets_datum(&secret, 1, what);
}

static Datum
check_secrets(Datum value, const char *what)
{
	int			count;
	char	  **secrets = queue_texts(value, what, &count);

	if (count < 1 || count > MAX_SECRETS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements", what, count),
				 errhint("It has 1 to %d; reset => '{secrets}' ends signing.", MAX_SECRETS)));
	return secrets_datum(secrets, count, what);
}

/* What is sent. */
static Datum
check_body(Datum value, const char *what)
{
	char	   *body = text_to_cstring(DatumGetTextPP(value));

	if (strcmp(body, "payload") != 0 && strcmp(body, "job") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown %s \"%s\"", what, body),
				 errhint("It is payload or job.")));
	return value;
}

/* A file of the server: for who holds manage on '*'. */
static Datum
check_ca_file(Datum value, const char *what)
{
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	if (text_to_cstring(DatumGetTextPP(value))[0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be an absolute path", what),
				 errhint("It names a file on the database server with the accepted CA certificates (PEM).")));
	return value;
}

static Datum
check_breaker(Datum value, const char *what)
{
	(void) queue_breaker_parse(DatumGetJsonbP(value));
	return value;
}

static Datum
check_url_argument(Datum value, const char *what)
{
	check_url(text_to_cstring(DatumGetTextPP(value)), what);
	return value;
}

static const QueueHandlerOption http_options[] = {
	{"url", ARG_URL, ALTER_URL, check_url_argument},
	{"method", ARG_METHOD, ALTER_METHOD, check_method, TEXTOID, "'POST'"},
	{"headers", ARG_HEADERS, ALTER_HEADERS, check_headers, JSONBOID},
	{"timeout", ARG_TIMEOUT, ALTER_TIMEOUT, check_duration, INTERVALOID, "'30 s'"},
	{"connect_timeout", ARG_CONNECT_TIMEOUT, ALTER_CONNECT_TIMEOUT, check_duration, INTERVALOID, "'5 s'"},
	{"max_attempts", ARG_MAX_ATTEMPTS, ALTER_MAX_ATTEMPTS, queue_check_attempts, INT4OID},
	{"backoff", ARG_BACKOFF, ALTER_BACKOFF, queue_check_backoff, JSONBOID},
	{"max_running", ARG_MAX_RUNNING, ALTER_MAX_RUNNING, check_max_running, INT4OID, "100"},
	{"rate_limit", ARG_RATE_LIMIT, ALTER_RATE_LIMIT, queue_check_limit, INT4OID},
	{"rate_period", ARG_RATE_PERIOD, ALTER_RATE_PERIOD, queue_check_period, INTERVALOID, "'1 s'"},
	{"secret", ARG_SECRET, QUEUE_NO_ARGUMENT, check_secret, TEXTARRAYOID, NULL, "secrets"},
	{"secrets", QUEUE_NO_ARGUMENT, ALTER_SECRETS, check_secrets, TEXTARRAYOID},
	{"complete_on", ARG_COMPLETE_ON, ALTER_COMPLETE_ON, check_statuses, TEXTARRAYOID, "'{200-299}'"},
	{"discard_on", ARG_DISCARD_ON, ALTER_DISCARD_ON, check_statuses, TEXTARRAYOID, "'{410}'"},
	{"health_url", ARG_HEALTH_URL, ALTER_HEALTH_URL, check_url_argument},
	{"health_timeout", ARG_HEALTH_TIMEOUT, ALTER_HEALTH_TIMEOUT, check_duration, INTERVALOID, "'1 min'"},
	{"ca_file", ARG_CA_FILE, ALTER_CA_FILE, check_ca_file, TEXTOID},
	{"breaker", ARG_BREAKER, ALTER_BREAKER, check_breaker, JSONBOID},
	{"body", ARG_BODY, ALTER_BODY, check_body, TEXTOID, "'payload'"},
};

/* One of an endpoint's columns: its argument as `check` gives it, or null. */
static void
endpoint_param(QueueParams *params, FunctionCallInfo fcinfo, int n, const char *what, Oid type, QueueCheck check)
{
	queue_param(params, type, PG_ARGISNULL(n) ? 0 : check(PG_GETARG_DATUM(n), what), PG_ARGISNULL(n));
}

/*
 * Inserts or changes an endpoint: $1 handler, $2 url, $3 weight, $4 max_running, $5 health_url, $6 breaker.  Its place
 * in shared memory is taken by who reads it once it is committed.  In an SPI section.
 */
static void
write_endpoint(QueueParams *params)
{
	queue_param(params, INT8OID, Int64GetDatum((int64) GetSystemIdentifier()), false);
	queue_param(params, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	queue_spi_run("INSERT INTO queue.endpoint AS e (id, handler, url, weight, max_running, health_url, breaker,"
				  " system_identifier, database_oid)"
				  " VALUES (nextval('queue.handler_id'), $1, $2, coalesce($3, 1), $4, $5, $6, $7, $8)"
				  " ON CONFLICT (handler, url) DO UPDATE SET weight = excluded.weight,"
				  " max_running = excluded.max_running, health_url = excluded.health_url,"
				  " breaker = excluded.breaker, system_identifier = excluded.system_identifier,"
				  " database_oid = excluded.database_oid",
				  params->n, params->types, params->values, params->nulls);
}

/* queue.register_http_handler(..): manage on each queue. */
Datum
queue_sql_register_http_handler(PG_FUNCTION_ARGS)
{
	QueueRegistration registration = {
		.type = "http",
		.kind = queue_arg_name(fcinfo, ARG_KIND, "kind", true),
		.run_as = GetUserNameFromId(GetUserId(), false),
		.options = http_options,
		.noptions = lengthof(http_options)
	};
	char	   *url = queue_arg_text(fcinfo, ARG_URL, "url");
	QueueParams endpoint = {0};
	QueueSpi	spi;

	queue_finish_writable("queue.register_http_handler()");
	queue_registration_check(&registration, fcinfo, ARG_QUEUES);
	queue_handler_warn_preload(registration.kind);
	queue_param(&endpoint, INT8OID, Int64GetDatum(queue_registration_write(&registration, fcinfo, url, &spi)), false);
	queue_spi_run("INSERT INTO queue.installation (id) VALUES (pg_catalog.gen_random_uuid())"
				  " ON CONFLICT (single) DO NOTHING", 0, NULL, NULL, NULL);
	queue_param(&endpoint, TEXTOID, PG_GETARG_DATUM(ARG_URL), false);
	queue_param(&endpoint, INT4OID, 0, true);
	queue_param(&endpoint, INT4OID, 0, true);
	endpoint_param(&endpoint, fcinfo, ARG_HEALTH_URL, "health_url", TEXTOID, check_url_argument);
	queue_param(&endpoint, JSONBOID, 0, true);
	write_endpoint(&endpoint);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- alter_http_handler */

/* Is the option to be put back to its default?  22023 if it is given too. */
static bool
is_reset(char **reset, int nreset, const char *name, bool given)
{
	for (int i = 0; i < nreset; i++)
	{
		if (strcmp(reset[i], name) != 0)
			continue;
		if (given)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option %s is both given and reset", name),
					 errhint("Do one of the two.")));
		return true;
	}
	return false;
}

/* 42704 unless each name is that of an option that has a default. */
static void
check_reset(char **reset, int nreset)
{
	for (int i = 0; i < nreset; i++)
	{
		bool		known = strcmp(reset[i], "queues") == 0 || strcmp(reset[i], "health_url") == 0;

		for (int j = 0; j < lengthof(http_options) && !known; j++)
			known = http_options[j].alter != QUEUE_NO_ARGUMENT && OidIsValid(http_options[j].type) &&
				strcmp(reset[i], http_options[j].name) == 0;
		if (!known)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("an HTTP handler has no option \"%s\" to reset", reset[i]),
					 errhint("Its options are the parameters of queue.alter_http_handler.")));
	}
}

/* ", column = value" for each option that is given or reset. */
static void
alter_options(FunctionCallInfo fcinfo, StringInfo set, QueueParams *params, char **reset, int nreset)
{
	for (int i = 0; i < lengthof(http_options); i++)
	{
		const QueueHandlerOption *option = &http_options[i];
		bool		given;

		if (option->alter == QUEUE_NO_ARGUMENT)
			continue;
		given = !PG_ARGISNULL(option->alter);
		if (is_reset(reset, nreset, option->name, given) && OidIsValid(option->type))
			appendStringInfo(set, ", %s = %s", option->name, option->missing != NULL ? option->missing : "NULL");
		if (given)
		{
			Datum		value = option->check(PG_GETARG_DATUM(option->alter), option->name);

			if (!OidIsValid(option->type))
				continue;
			queue_param(params, option->type, value, false);
			appendStringInfo(set, ", %s = $%d", option->name, params->n);
		}
	}
}

/* ", queues = value" if they change: to none of another handler of the kind. */
static void
alter_queues(FunctionCallInfo fcinfo, const QueueHandler *handler, StringInfo set, QueueParams *params, bool to_all)
{
	int			nqueues;
	char	  **queues;

	if (PG_ARGISNULL(ALTER_QUEUES) && !to_all)
		return;
	queues = queue_registration_check_queues(handler->kind, fcinfo, ALTER_QUEUES, &nqueues);
	queue_registration_no_other(handler, queues, nqueues);
	queue_param(params, TEXTARRAYOID, queue_registration_queues(queues, nqueues), queues == NULL);
	appendStringInfo(set, ", queues = $%d", params->n);
}

/* url and health_url are an endpoint's: they can be changed here while there is only one.  In an SPI section. */
static void
alter_endpoint(FunctionCallInfo fcinfo, int64 id, int nendpoints, bool reset_health)
{
	QueueParams params = {0};

	if (PG_ARGISNULL(ALTER_URL) && PG_ARGISNULL(ALTER_HEALTH_URL) && !reset_health)
		return;
	if (nendpoints != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the handler has %d endpoints", nendpoints),
				 errhint("Change one of them with queue.add_endpoint and queue.remove_endpoint.")));
	queue_param(&params, INT8OID, Int64GetDatum(id), false);
	queue_param(&params, TEXTOID, PG_GETARG_DATUM(ALTER_URL), PG_ARGISNULL(ALTER_URL));
	queue_param(&params, TEXTOID, PG_GETARG_DATUM(ALTER_HEALTH_URL), PG_ARGISNULL(ALTER_HEALTH_URL));
	queue_param(&params, BOOLOID, BoolGetDatum(reset_health), false);
	/* another url is another endpoint, with another breaker */
	queue_spi_run("UPDATE queue.endpoint SET id = CASE WHEN $2 <> url THEN nextval('queue.handler_id') ELSE id END,"
				  " url = coalesce($2, url), health_url = CASE WHEN NOT $4 THEN coalesce($3, health_url) END"
				  " WHERE handler = $1",
				  params.n, params.types, params.values, params.nulls);
}

/* queue.alter_http_handler(kind, queue, ..): changes what is given, puts back what reset names; endpoints stay. */
Datum
queue_sql_alter_http_handler(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, ALTER_KIND, "kind", true);
	char	   *queue = PG_ARGISNULL(ALTER_QUEUE) ? NULL : queue_arg_name(fcinfo, ALTER_QUEUE, "queue", true);
	char	  **reset = NULL;
	int			nreset = 0;
	bool		reset_health;
	QueueHandler *handler;
	int64		id;
	int			nendpoints;
	StringInfoData set;
	QueueParams params = {0};
	QueueSpi	spi;
	int			held = queue_config_hold();

	queue_finish_writable("queue.alter_http_handler()");
	if (!PG_ARGISNULL(ALTER_RESET))
		reset = queue_texts(PG_GETARG_DATUM(ALTER_RESET), "reset", &nreset);
	check_reset(reset, nreset);
	reset_health = is_reset(reset, nreset, "health_url", !PG_ARGISNULL(ALTER_HEALTH_URL));
	handler = queue_registration_pick(kind, queue, true, false);
	(void) queue_config_hold();
	id = handler->id;
	nendpoints = handler->conf->nendpoints;
	initStringInfo(&set);
	queue_param(&params, INT8OID, Int64GetDatum(id), false);
	alter_options(fcinfo, &set, &params, reset, nreset);
	alter_queues(fcinfo, handler, &set, &params, is_reset(reset, nreset, "queues", !PG_ARGISNULL(ALTER_QUEUES)));
	queue_spi_begin(&spi);
	if (queue_spi_run(psprintf("UPDATE queue.handler SET id = id%s WHERE id = $1", set.data),
					  params.n, params.types, params.values, params.nulls) == 0)
		queue_registration_changed(kind);
	alter_endpoint(fcinfo, id, nendpoints, reset_health);
	queue_spi_end(&spi);
	queue_config_release(held);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- endpoints */

/* queue.add_endpoint(kind, url, weight, max_running, health_url, breaker, queue) */
Datum
queue_sql_add_endpoint(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, 0, "kind", true);
	char	   *url = queue_arg_text(fcinfo, 1, "url");
	char	   *queue = PG_ARGISNULL(6) ? NULL : queue_arg_name(fcinfo, 6, "queue", true);
	QueueParams endpoint = {0};
	QueueSpi	spi;

	queue_finish_writable("queue.add_endpoint()");
	check_url(url, "url");
	queue_param(&endpoint, INT8OID, 0, true);
	queue_param(&endpoint, TEXTOID, PG_GETARG_DATUM(1), false);
	endpoint_param(&endpoint, fcinfo, 2, "weight", INT4OID, check_weight);
	endpoint_param(&endpoint, fcinfo, 3, "max_running", INT4OID, check_max_running);
	endpoint_param(&endpoint, fcinfo, 4, "health_url", TEXTOID, check_url_argument);
	endpoint_param(&endpoint, fcinfo, 5, "breaker", JSONBOID, check_breaker);
	endpoint.values[0] = Int64GetDatum(queue_registration_pick(kind, queue, true, false)->id);
	endpoint.nulls[0] = ' ';
	queue_spi_begin(&spi);
	write_endpoint(&endpoint);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* queue.remove_endpoint(kind, url, queue) */
Datum
queue_sql_remove_endpoint(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, 0, "kind", true);
	char	   *url = queue_arg_text(fcinfo, 1, "url");
	char	   *queue = PG_ARGISNULL(2) ? NULL : queue_arg_name(fcinfo, 2, "queue", true);
	Oid			types[2] = {INT8OID, TEXTOID};
	Datum		values[2];
	QueueSpi	spi;
	QueueHandler *handler;
	int			nendpoints;
	uint64		removed;

	queue_finish_writable("queue.remove_endpoint()");
	handler = queue_registration_pick(kind, queue, true, false);
	nendpoints = handler->conf->nendpoints;
	values[0] = Int64GetDatum(handler->id);
	values[1] = CStringGetTextDatum(url);
	queue_spi_begin(&spi);
	removed = queue_spi_run("DELETE FROM queue.endpoint WHERE handler = $1 AND url = $2", 2, types, values, NULL);
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

/* queue_internal.stat_endpoint_rows(): what VIEW queue.stat_endpoint shows. */
Datum
queue_sql_stat_endpoint_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueConfig *config;
	int			places = queue_endpoint_places(MyDatabaseId);
	int			held = queue_config_hold();

	InitMaterializedSRF(fcinfo, 0);
	config = queue_config_keep();
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		if (!handler->http || !queue_handler_visible(handler))
			continue;
		for (int j = 0; j < handler->conf->nendpoints; j++)
		{
			QueueEndpoint *endpoint = handler->conf->endpoints[j];
			QueueEndpointState *state = queue_endpoint_state_of(MyDatabaseId, endpoint->key, false);
			QueueEndpointState unused;
			Datum		values[12];
			bool		nulls[12];

			memset(nulls, true, sizeof(nulls));
			values[0] = CStringGetTextDatum(handler->kind);
			values[1] = CStringGetTextDatum(queue_httpconf_shown(endpoint->url));
			values[2] = Int32GetDatum(endpoint->weight);
			nulls[0] = nulls[1] = nulls[2] = false;
			values[11] = queue_handler_queues(handler, &nulls[11]);
			if (state == NULL && queue_preloaded() && places > 0)
			{
				/* the http worker has not come by yet */
				queue_endpoint_state_init(&unused, MyDatabaseId, endpoint->key);
				state = &unused;
			}
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
					values[9] =
						Float8GetDatum((double) pg_atomic_read_u64(&state->total_us) / (double) answers / 1000.0);
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
	queue_config_release(held);
	PG_RETURN_NULL();
}
