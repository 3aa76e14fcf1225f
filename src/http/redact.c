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
 * A value that the end of a cut answer cuts in two is masked too.  Values under MIN_SECRET bytes, and under MIN_TOKEN
 * of one parameter of a query, are left: they are no secrets, and would mask half of the text.
 *
 * No locks.  Called by the http worker in a transaction.
 */
#include "http/redact.h"

#include <string.h>
#include <strings.h>

#define MIN_SECRET 3			/* bytes; not less than those of the mask, so that the text only shrinks */
#define MIN_TOKEN 16
#define MASK "***"

/* Masks one text everywhere. */
static void
mask(QueueRequest *request, const char *secret, size_t length)
{
	char	   *text = request->answer;
	char	   *end = text + request->answer_length;
	bool		is_cut = request->cut || request->code != CURLE_OK;
	char	   *found;

	if (length < MIN_SECRET)
		return;
	while ((found = memmem(text, end - text, secret, length)) != NULL)
	{
		memcpy(found, MASK, strlen(MASK));
		text = found + strlen(MASK);
		memmove(text, found + length, end - found - length);
		end -= length - strlen(MASK);
	}
	/* its beginning, where the answer was cut */
	for (size_t part = Min(length - 1, (size_t) (end - text)); is_cut && part >= MIN_SECRET; part--)
	{
		if (memcmp(end - part, secret, part) == 0)
		{
			memcpy(end - part, MASK, strlen(MASK));
			end -= part - strlen(MASK);
			break;
		}
	}
	request->answer_length = end - request->answer;
}

/* Masks a value as it is and as a JSON string has it, with and without an escaped slash. */
static void
mask_value(QueueRequest *request, const char *value, size_t length)
{
	char	   *json = palloc(2 * length + 1);

	mask(request, value, length);
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
			mask(request, json, n);
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
mask_header(QueueRequest *request, const char *header)
{
	const char *value = strchr(header, ':');
	const char *token;

	if (value == NULL || is_open(header))
		return;
	value += strspn(value, ": \t");
	mask_value(request, value, strlen(value));
	token = strchr(value, ' ');
	if (token != NULL)
		mask_value(request, token + 1, strlen(token + 1));
}

/* "a=1&b=2" as a whole and its longer values, as they stand and decoded. */
static void
mask_query(QueueRequest *request, const char *query)
{
	mask_value(request, query, strcspn(query, "#"));
	while (*query != '\0')
	{
		size_t		length = strcspn(query, "&#");
		const char *equals = memchr(query, '=', length);
		const char *value = equals != NULL ? equals + 1 : query;
		int			value_length = (int) (query + length - value);
		int			plain_length;
		char	   *plain;

		if (value_length >= MIN_TOKEN)
			mask_value(request, value, value_length);
		plain = curl_easy_unescape(request->easy, value, value_length, &plain_length);
		if (plain != NULL)
		{
			if (plain_length != value_length && plain_length >= MIN_TOKEN)
				mask_value(request, plain, plain_length);
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
	char	   *url = NULL;
	char	   *query;

	if (request->answer_length == 0)
		return;
	for (struct curl_slist *header = request->headers; header != NULL; header = header->next)
		mask_header(request, header->data);
	for (int i = 0; conf != NULL && i < conf->nsecrets; i++)
		mask_value(request, conf->secrets[i], strlen(conf->secrets[i]));
	if (curl_easy_getinfo(request->easy, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != NULL &&
		(query = strchr(url, '?')) != NULL)
		mask_query(request, query + 1);
}
