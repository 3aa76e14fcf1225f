/*
 * webhook.c
 *		What an HTTP request for a job says.
 *
 * The body is the payload.  The headers are those of the job's handler, then the job's own (never in place of
 * the handler's), then ours, which nobody sets: Queue-Job-*, Idempotency-Key, User-Agent, and with a
 * secret the trio of Standard Webhooks.  Everything goes out in UTF-8; names of queues and
 * kinds, which may be any text, are percent-encoded.
 *
 * No locks.  Called by the http worker in a transaction.
 */
#include "http/webhook.h"

#include <curl/curl.h>

#include "config/http_handlers.h"
#include "lib/option.h"

#include "common/base64.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define SECRET_PREFIX "whsec_"
#define MAX_HEADER_VALUE 8000

/* The key that a secret stands for; palloc'd, NULL when it is none. */
static uint8 *
secret_key(const char *secret, int *length)
{
	size_t		prefix = strlen(SECRET_PREFIX);

	if (strncmp(secret, SECRET_PREFIX, prefix) == 0)
	{
		int			encoded = strlen(secret + prefix);
		int			size = pg_b64_dec_len(encoded);
		void	   *key = palloc(size + 1);

		*length = pg_b64_decode(secret + prefix, encoded, key, size);
		return *length > 0 ? key : NULL;
	}
	*length = strlen(secret);
	return *length > 0 ? (uint8 *) pstrdup(secret) : NULL;
}

bool
queue_webhook_secret_ok(const char *secret)
{
	int			length;

	return secret_key(secret, &length) != NULL;
}

static char *
webhook_sign(const char *secret, const char *id, int64 timestamp, const char *body, size_t length)
{
	int			key_length;
	uint8	   *key = secret_key(secret, &key_length);
	pg_hmac_ctx *hmac;
	char		head[160];
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	int			size = pg_b64_enc_len(sizeof(digest));
	char	   *signature = palloc(3 + size + 1);
	void	   *source = digest;
	int			encoded;

	if (key == NULL)
		elog(ERROR, "the secret of an HTTP handler is not valid");
	snprintf(head, sizeof(head), "%s." INT64_FORMAT ".", id, timestamp);
	hmac = pg_hmac_create(PG_SHA256);
	if (hmac == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errhint("The request is tried again.")));
	if (pg_hmac_init(hmac, key, key_length) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) head, strlen(head)) < 0 ||
		pg_hmac_update(hmac, (const uint8 *) body, length) < 0 ||
		pg_hmac_final(hmac, digest, sizeof(digest)) < 0)
	{
		pg_hmac_free(hmac);
		elog(ERROR, "could not compute an HMAC");
	}
	pg_hmac_free(hmac);
	memcpy(signature, "v1,", 3);
	encoded = pg_b64_encode(source, sizeof(digest), signature + 3, size);
	if (encoded < 0)
		elog(ERROR, "could not encode a signature");
	signature[3 + encoded] = '\0';
	return signature;
}

/* The signatures by each secret, as Standard Webhooks has them while secrets are rotated: any one that fits will do. */
static char *
signatures(const QueueHttpConf *conf, const char *id, int64 timestamp, const char *body, size_t length)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < conf->nsecrets; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : " ", webhook_sign(conf->secrets[i], id, timestamp, body, length));
	return list.data;
}

/* Text of the database in UTF-8; NULL: its encoding lets bytes pass that are no UTF-8. */
static char *
to_utf8(const char *text)
{
	int			length = (int) strlen(text);

	if (GetDatabaseEncoding() == PG_SQL_ASCII && !pg_verify_mbstr(PG_UTF8, text, length, true))
		return NULL;
	return pg_server_to_any(text, length, PG_UTF8);
}

char *
queue_webhook_body(const Jsonb *payload, size_t *length, char **error)
{
	char	   *text = JsonbToCString(NULL, unconstify(JsonbContainer *, &payload->root), VARSIZE(payload));
	char	   *utf8 = to_utf8(text);

	if (utf8 == NULL)
		*error = "the payload has bytes that are not UTF-8, so it cannot be sent as JSON";
	else
		*length = strlen(utf8);
	return utf8;
}

/* Appends "name: value"; false: no memory. */
static bool
append(struct curl_slist **list, const char *name, const char *value)
{
	char		buffer[512];
	size_t		needed = strlen(name) + strlen(value) + 3;
	char	   *line = needed <= sizeof(buffer) ? buffer : palloc(needed);
	struct curl_slist *longer;

	if (*value == '\0')
		snprintf(line, needed, "%s;", name);	/* libcurl's word for an empty header */
	else
		snprintf(line, needed, "%s: %s", name, value);
	longer = curl_slist_append(*list, line);
	if (line != buffer)
		pfree(line);
	if (longer == NULL)
		return false;
	*list = longer;
	return true;
}

/* A name that may be any text, as a header value. */
static char *
encoded(const char *name)
{
	static const char hex[] = "0123456789ABCDEF";
	const char *utf8 = to_utf8(name);
	char	   *result;
	char	   *to;

	if (utf8 == NULL)
		utf8 = name;
	to = result = palloc(3 * strlen(utf8) + 1);
	for (; *utf8 != '\0'; utf8++)
	{
		unsigned char c = (unsigned char) *utf8;

		if (c > 0x20 && c < 0x7f && c != '%')
			*to++ = (char) c;
		else
		{
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		}
	}
	*to = '\0';
	return result;
}

/* A time as ISO 8601 in UTC. */
static void
iso_time(TimestampTz time, char *buffer, size_t size)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		strlcpy(buffer, "-", size);
	else
		snprintf(buffer, size, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
				 tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}

/* A member's value as text; NULL: null, or not plain. */
static char *
value_text(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		default:
			return NULL;
	}
}

/* Is there a member of this name, in any case? */
static bool
has_member(Jsonb *json, const char *name)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		return false;
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY && value.val.string.len == (int) strlen(name) &&
			pg_strncasecmp(value.val.string.val, name, value.val.string.len) == 0)
			return true;
	}
	return false;
}

/*
 * Appends the members of a JSON object as headers.  Those of a job that its handler has set, or that are ours, are
 * left out; one that no request can carry is an error.  False: out of memory, or *error.
 */
static bool
append_members(struct curl_slist **list, Jsonb *json, Jsonb *handlers, bool of_job, char **error)
{
	JsonbIterator *it;
	JsonbValue	value;
	char	   *name;

	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		return true;
	it = JsonbIteratorInit(&json->root);
	while (queue_option_next(&it, &name, &value))
	{
		char	   *text;

		if ((text = value_text(&value)) == NULL)
			continue;
		if (of_job)
		{
			if (!queue_httpconf_name_ok(name) || !queue_httpconf_value_ok(text, strlen(text)) ||
				strlen(text) > MAX_HEADER_VALUE)
			{
				*error = psprintf("the job's header \"%s\" cannot be sent: a name has letters, digits and dashes,"
								  " a value is one line of at most %d bytes", name, MAX_HEADER_VALUE);
				return false;
			}
			if (pg_strcasecmp(name, "host") == 0 || has_member(handlers, name))
				continue;
		}
		if (queue_httpconf_reserved(name))
			continue;
		text = to_utf8(text);
		if (text == NULL)
		{
			*error = psprintf("header \"%s\" has bytes that are not UTF-8, so it cannot be sent", name);
			return false;
		}
		if (!append(list, name, text))
			return false;
	}
	return true;
}

/* Of a tick's job: which schedule, and which of its ticks.  False: no memory. */
static bool
append_schedule(struct curl_slist **list, const Jsonb *origin)
{
	char	   *name = queue_extra_text(origin, "schedule");
	char	   *tick = queue_extra_text(origin, "tick");

	return name == NULL || tick == NULL ||
		(append(list, "Queue-Schedule", encoded(name)) && append(list, "Queue-Scheduled-At", encoded(tick)));
}

struct curl_slist *
queue_webhook_headers(const QueueJob *job, const QueueExtra *extra, const QueueLine *line, const char *installation,
					  const char *body, size_t length, TimestampTz now, char **error)
{
	const QueueHttpConf *conf = line->handler->conf;
	static struct curl_slist *list = NULL;	/* static: after an error the next call frees it */
	struct curl_slist *made;
	char		key[96];
	char		number[32];
	char		time[48];
	bool		ok;

	*error = NULL;
	curl_slist_free_all(list);
	list = NULL;
	snprintf(key, sizeof(key), "%s-" INT64_FORMAT, installation, job->id);
	ok = append_members(&list, conf->headers, NULL, false, error) &&
		append_members(&list, extra->headers, conf->headers, true, error);
	if (ok && length > 0 && !has_member(conf->headers, "content-type") && !has_member(extra->headers, "content-type"))
		ok = append(&list, "Content-Type", "application/json");
	ok = ok && append(&list, "User-Agent", "queue/" QUEUE_VERSION) && append(&list, "Idempotency-Key", key);
	snprintf(number, sizeof(number), INT64_FORMAT, job->id);
	ok = ok && append(&list, "Queue-Job-Id", number) &&
		append(&list, "Queue-Job-Kind", encoded(line->kind)) &&
		append(&list, "Queue-Job-Queue", encoded(line->queue->name));
	snprintf(number, sizeof(number), "%d", job->attempt);
	ok = ok && append(&list, "Queue-Job-Attempt", number);
	snprintf(number, sizeof(number), "%d", job->failures);
	ok = ok && append(&list, "Queue-Job-Failures", number);
	iso_time(extra->enqueued_at != 0 ? extra->enqueued_at : job->run_at, time, sizeof(time));
	ok = ok && append(&list, "Queue-Job-Enqueued-At", time);
	iso_time(extra->first_at, time, sizeof(time));
	ok = ok && append(&list, "Queue-Job-First-Attempt-At", time);
	ok = ok && append_schedule(&list, extra->origin);
	if (ok && conf->nsecrets > 0)
	{
		int64		timestamp = now / USECS_PER_SEC +
			(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

		snprintf(number, sizeof(number), INT64_FORMAT, timestamp);
		ok = append(&list, "webhook-id", key) && append(&list, "webhook-timestamp", number) &&
			append(&list, "webhook-signature", signatures(conf, key, timestamp, body, length));
	}
	/* libcurl would wait for "100 Continue" before a large body */
	if (ok)
	{
		struct curl_slist *longer = curl_slist_append(list, "Expect:");

		ok = longer != NULL;
		list = ok ? longer : list;
	}
	if (!ok)
	{
		curl_slist_free_all(list);
		list = NULL;
		if (*error == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errhint("The request is tried again.")));
		return NULL;
	}
	made = list;
	list = NULL;
	return made;
}
