/*
 * http_handlers.c
 *		What is registered about HTTP handlers, as the configuration cache holds it.
 *
 * Read by plain scans like all of the configuration (config.c calls it while it builds).  What is in the tables was
 * checked when it was registered; a row with a value that cannot be read all the same (restored, or changed by hand)
 * is told to be broken, and used by nobody.
 * No locks but AccessShareLock on the two tables.
 */
#include "config/http_handlers.h"

#include "shared/endpoint.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

bool
queue_httpconf_statuses(ArrayType *array, uint32 *bits, char **bad)
{
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;

	memset(bits, 0, 20 * sizeof(uint32));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	for (int i = 0; i < nelems; i++)
	{
		int			low;
		int			high;
		int			used = 0;

		*bad = nulls[i] ? pstrdup("null") : TextDatumGetCString(elems[i]);
		if (sscanf(*bad, "%3d%n", &low, &used) != 1 || used != 3)
			return false;
		high = low;
		if ((*bad)[3] == '-')
		{
			if (sscanf(*bad + 4, "%3d%n", &high, &used) != 1 || used != 3 || (*bad)[7] != '\0')
				return false;
		}
		else if ((*bad)[3] != '\0')
			return false;
		if (low < 100 || high > 599 || low > high)
			return false;
		for (int status = low; status <= high; status++)
			bits[status / 32] |= (uint32) 1 << (status % 32);
	}
	return true;
}

/* A text[] column of statuses; no bits when it is null. */
static void
read_statuses(QueueReader *reader, const char *column, uint32 *bits, char **broken)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, column, &isnull);
	char	   *bad;

	memset(bits, 0, 20 * sizeof(uint32));
	if (!isnull && !queue_httpconf_statuses(DatumGetArrayTypeP(d), bits, &bad) && *broken == NULL)
		*broken = psprintf("its %s cannot be read: %s", column, bad);
}

/* See httpconf.h.  Called by build_handlers. */
void
queue_httpconf_handler(QueueReader *reader, QueueHandler *handler)
{
	QueueHttpConf *conf = palloc0(sizeof(QueueHttpConf));
	char	   *body = queue_reader_text(reader, "body");
	bool		isnull;
	Datum		d;

	handler->conf = conf;
	conf->sends_job = body != NULL && strcmp(body, "job") == 0;
	conf->method = queue_reader_text(reader, "method");
	if (conf->method == NULL)
		conf->method = pstrdup("POST");
	d = queue_reader_datum(reader, "headers", &isnull);
	conf->headers = isnull ? NULL : DatumGetJsonbPCopy(d);
	conf->connect_timeout = queue_reader_interval(reader, "connect_timeout", 5 * USECS_PER_SEC);
	conf->secrets = queue_reader_texts(reader, "secrets", &conf->nsecrets);
	read_statuses(reader, "complete_on", conf->complete_on, &handler->broken);
	read_statuses(reader, "discard_on", conf->discard_on, &handler->broken);
	conf->health_timeout = queue_reader_interval(reader, "health_timeout", USECS_PER_MINUTE);
	conf->ca_file = queue_reader_text(reader, "ca_file");
	conf->breaker = queue_breaker_default;
	(void) queue_reader_breaker(reader, "breaker", &conf->breaker, &handler->broken);
}

/* See httpconf.h.  Called by config.c. */
void
queue_httpconf_endpoints(QueueConfig *config)
{
	QueueReader reader;

	queue_reader_begin(&reader, config->endpoint_table);
	while (queue_reader_next(&reader))
	{
		bool		isnull;
		int64		id = DatumGetInt64(queue_reader_datum(&reader, "handler", &isnull));
		QueueHandler *handler = NULL;
		QueueEndpoint *endpoint;

		for (int i = 0; i < config->nhandlers && handler == NULL; i++)
		{
			if (config->handlers[i]->http && config->handlers[i]->id == id)
				handler = config->handlers[i];
		}
		if (handler == NULL)
			continue;
		endpoint = palloc0(sizeof(QueueEndpoint));
		endpoint->url = queue_reader_text(&reader, "url");
		endpoint->key = (uint64) DatumGetInt64(queue_reader_datum(&reader, "id", &isnull));
		endpoint->weight = (int) queue_reader_int(&reader, "weight", 1);
		endpoint->max_running = (int) queue_reader_int(&reader, "max_running", 0);
		endpoint->health_url = queue_reader_text(&reader, "health_url");
		endpoint->breaker = handler->conf->breaker;
		(void) queue_reader_breaker(&reader, "breaker", &endpoint->breaker, &endpoint->broken);
		endpoint->adopted =
			DatumGetInt64(queue_reader_datum(&reader, "system_identifier", &isnull)) == (int64) GetSystemIdentifier() &&
			DatumGetObjectId(queue_reader_datum(&reader, "database_oid", &isnull)) == MyDatabaseId &&
			endpoint->broken == NULL;

		if (handler->conf->endpoints == NULL)
			handler->conf->endpoints = palloc(sizeof(QueueEndpoint *));
		else
			handler->conf->endpoints = repalloc(handler->conf->endpoints,
												(handler->conf->nendpoints + 1) * sizeof(QueueEndpoint *));
		handler->conf->endpoints[handler->conf->nendpoints++] = endpoint;
	}
	queue_reader_end(&reader);

	queue_reader_begin(&reader, config->installation_table);
	if (queue_reader_next(&reader))
	{
		bool		isnull;
		Datum		d = queue_reader_datum(&reader, "id", &isnull);

		if (!isnull)
			config->installation = DatumGetCString(DirectFunctionCall1(uuid_out, d));
	}
	queue_reader_end(&reader);
}

bool
queue_httpconf_name_ok(const char *name)
{
	if (*name == '\0' || strlen(name) > 200)
		return false;
	for (; *name != '\0'; name++)
	{
		if (!(*name >= 'a' && *name <= 'z') && !(*name >= 'A' && *name <= 'Z') && !(*name >= '0' && *name <= '9') &&
			strchr("!#$%&'*+-.^_`|~", *name) == NULL)
			return false;
	}
	return true;
}

bool
queue_httpconf_value_ok(const char *value, int length)
{
	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

bool
queue_httpconf_reserved(const char *name)
{
	static const char *const names[] = {
		"content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
		"idempotency-key", "user-agent", "accept-encoding"
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (pg_strcasecmp(name, names[i]) == 0)
			return true;
	}
	return pg_strncasecmp(name, "queue-", 6) == 0 || pg_strncasecmp(name, "webhook-", 8) == 0 ||
		pg_strncasecmp(name, "proxy-", 6) == 0;
}

char *
queue_httpconf_shown(const char *url)
{
	return pnstrdup(url, strcspn(url, "?#"));
}
