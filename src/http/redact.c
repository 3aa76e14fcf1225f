/*
 * redact.c
 *		Taking what a request carried in secret out of the answer that is kept of it.
 *
 * Headers, secret and the query of a url are for the handler's owner only; an answer's body is kept where all who may
 * read the queue see it, in queue.job.result and queue.job_error.context.  Endpoints echo: debuggers, error pages,
 * gateways.  So before a body is kept, every value of a header that is not ours, what follows the scheme of an
 * Authorization, and the query are replaced by "***", as they were sent, as JSON writes them and, of a query, decoded.
 * What an endpoint makes of a secret otherwise (a digest, reversed) is not found.
 *
 * All of them are looked for before any is replaced: a short one may stand in a long one.  A value that the end of a
 * cut answer cuts in two is masked too.  Values under MIN_SECRET bytes, and under MIN_TOKEN of one parameter of a
 * query, are left: they are no secrets, and would mask half of the text.
 *
 * No locks.  Called by the http worker in a transaction.
 */
#include "http/redact.h"

#include <string.h>
#include <strings.h>

#define MIN_SECRET 3			/* bytes; not less than those of the mask, so that the text only shrinks */
#define MIN_TOKEN 16
#define MASK "***"

/* An answer, and which of its bytes are to be masked. */
typedef struct Redaction
{
	QueueRequest *request;
	bool	   *secret;
} Redaction;

/* One text, everywhere. */
static void
mark(Redaction *redaction, const char *secret, size_t length)
{
	QueueRequest *request = redaction->request;
	const char *at = request->answer;
	const char *end = at + request->answer_length;
	const char *found;

	if (length < MIN_SECRET)
		return;
	while ((found = memmem(at, end - at, secret, length)) != NULL)
	{
		memset(redaction->secret + (found - request->answer), true, length);
		at = found + length;
	}
	if (!request->cut && request->code == CURLE_OK)
		return;
	/* its beginning, where the answer was cut */
	for (size_t part = Min(length - 1, (size_t) (end - at)); part >= MIN_SECRET; part--)
	{
		if (memcmp(end - part, secret, part) == 0)
		{
			memset(redaction->secret + request->answer_length - part, true, part);
			break;
		}
	}
}

/* What is marked gives way to the mask. */
static void
mask(Redaction *redaction)
{
	QueueRequest *request = redaction->request;
	const bool *secret = redaction->secret;
	size_t		n = 0;

	for (size_t i = 0; i < request->answer_length; i++)
	{
		if (!secret[i])
			request->answer[n++] = request->answer[i];
		else if (i == 0 || !secret[i - 1])
		{
			memcpy(request->answer + n, MASK, strlen(MASK));
			n += strlen(MASK);
		}
	}
	request->answer_length = n;
}

/* A value as it is and as a JSON string has it, with and without an escaped slash. */
static void
mark_value(Redaction *redaction, const char *value, size_t length)
{
	char	   *json = palloc(2 * length + 1);

	mark(redaction, value, length);
	for (int slash = 0; slash < 2; slash++)
	{
		size_t		n = 0;

		for (size_t i = 0; i < length; i++)
		{
			if (value[i] == '"' || value[i] == '\\' || (value[i] == '/' && slash == 1))
				json[n++] = '\\';
			json[n++] = value[i];
		}
		if (n > length)
			mark(redaction, json, n);
	}
	pfree(json);
}

/* Is it a header that tells nothing but what readers see anyway? */
static bool
is_open(const char *header)
{
	static const char *const names[] = {
		"Content-Type:", "User-Agent:", "Expect:", "Idempotency-Key:", "webhook-id:", "webhook-timestamp:", "Queue-"
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strncasecmp(header, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}

/* "name: value" as it was sent. */
static void
mark_header(Redaction *redaction, const char *header)
{
	const char *value = strchr(header, ':');
	const char *token;

	if (value == NULL || is_open(header))
		return;
	value += strspn(value, ": \t");
	mark_value(redaction, value, strlen(value));
	token = strchr(value, ' ');
	if (token != NULL)
		mark_value(redaction, token + 1, strlen(token + 1));
}

/* "a=1&b=2" as a whole and its longer values, as they stand and decoded. */
static void
mark_query(Redaction *redaction, const char *query)
{
	mark_value(redaction, query, strcspn(query, "#"));
	while (*query != '\0')
	{
		size_t		length = strcspn(query, "&#");
		const char *equals = memchr(query, '=', length);
		const char *value = equals != NULL ? equals + 1 : query;
		int			value_length = (int) (query + length - value);
		int			plain_length;
		char	   *plain;

		if (value_length >= MIN_TOKEN)
			mark_value(redaction, value, value_length);
		plain = curl_easy_unescape(redaction->request->easy, value, value_length, &plain_length);
		if (plain != NULL)
		{
			if (plain_length != value_length && plain_length >= MIN_TOKEN)
				mark_value(redaction, plain, plain_length);
			curl_free(plain);
		}
		query += length;
		if (*query == '#')
			break;
		query += *query == '&';
	}
}

void
queue_redact(QueueRequest *request, const QueueHttpConf *conf)
{
	Redaction	redaction = {request};
	char	   *url = NULL;
	char	   *query;

	if (request->answer_length == 0)
		return;
	redaction.secret = palloc0(request->answer_length * sizeof(bool));
	for (struct curl_slist *header = request->headers; header != NULL; header = header->next)
		mark_header(&redaction, header->data);
	for (int i = 0; conf != NULL && i < conf->nsecrets; i++)
		mark_value(&redaction, conf->secrets[i], strlen(conf->secrets[i]));
	if (curl_easy_getinfo(request->easy, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != NULL &&
		(query = strchr(url, '?')) != NULL)
		mark_query(&redaction, query + 1);
	mask(&redaction);
	pfree(redaction.secret);
}
