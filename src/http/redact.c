/*
 * redact.c
 *		Taking what a request carried in secret out of the answer that is kept of it.
 *
 * Headers, secret and the query of a url are for the handler's owner only; an answer's body is kept where all who may
 * read the queue see it, in queue.job.result and queue.job_error.context.  Endpoints echo: debuggers, error pages,
 * gateways.  So before a body is kept, every value of a header that is not ours, what follows the scheme of an
 * Authorization, longer parts of a value, and the query are replaced by "***", as they were sent, as JSON and HTML
 * write them (each writer escapes other characters, so the answer is read as its reader would) and, of a query,
 * decoded.
 * What an endpoint makes of a secret otherwise (a digest, reversed) is not found.
 *
 * All of them are looked for before any is replaced: a short one may stand in a long one, and one may begin in the end
 * of another, or of itself.  A value that the end of a cut answer cuts in two is masked too.  Values under MIN_SECRET
 * bytes, and under MIN_TOKEN of a part or of one parameter of a query, are left: they are no secrets, and would mask
 * half of the text.
 *
 * While an answer is looked through nothing else is sent.  A job's headers may be many, so beyond FEW_VALUES there is
 * an end to it: of an answer that would take more than MAX_WORK nothing is kept but the mask.
 *
 * No locks.  Called by the http worker in a transaction.
 */
#include "http/redact.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "mb/pg_wchar.h"

#define MIN_SECRET 3			/* bytes; not less than those of the mask, so that the text only shrinks */
#define MIN_TOKEN 16
#define PART_ENDS " ;,=\""		/* what ends a part of a header's value */
#define MASK "***"
#define FEW_VALUES 64
#define MAX_WORK (64 * 1024 * 1024)	/* bytes looked at: a part of a second */
#define MAX_ENTITY 10			/* bytes of "&#x10FFFF;" */

/* A text, and which of its bytes are to be masked. */
typedef struct Reading
{
	char	   *text;
	bool	   *secret;
	size_t		length;
} Reading;

/* An answer as it came and, if it seems to have escapes, without them: then plain.text is not NULL. */
typedef struct Redaction
{
	QueueRequest *request;
	bool		cut;			/* it ends too early */
	Reading		answer;
	Reading		plain;
	int			nvalues;		/* looked for.. */
	size_t		work;			/* ..in so many bytes, all together.. */
	bool		too_much;		/* ..and there were more */
} Redaction;

/* ---- readings ---- */

/* The number of a JSON \u at `text`, of one that ends before `end`; -1: there is none. */
static int
json_unit(const char *text, const char *end)
{
	int			unit = 0;

	if (end - text < 6 || text[0] != '\\' || text[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (!isxdigit(c))
			return -1;
		unit = unit * 16 + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
	}
	return unit;
}

/* The character that JSON escapes at `text`, and the bytes that this takes; 0 bytes: none. */
static pg_wchar
json_escape(const char *text, const char *end, size_t *length)
{
	static const char escapes[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	int			unit = json_unit(text, end);
	int			low;
	const char *escape;

	*length = 0;
	if (unit >= 0)
	{
		*length = 6;
		if (!is_utf16_surrogate_first((pg_wchar) unit))
			return (pg_wchar) unit;
		low = json_unit(text + 6, end);
		if (low < 0 || !is_utf16_surrogate_second((pg_wchar) low))
			return (pg_wchar) unit;
		*length = 12;
		return surrogate_pair_to_codepoint((pg_wchar) unit, (pg_wchar) low);
	}
	if (end - text < 2 || text[1] == '\0' || (escape = strchr(escapes, text[1])) == NULL)
		return 0;
	*length = 2;
	return (pg_wchar) meant[escape - escapes];
}

/* The same of HTML. */
static pg_wchar
html_escape(const char *text, const char *end, size_t *length)
{
	static const struct
	{
		const char *name;
		char		meant;
	}			names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
	char		digits[MAX_ENTITY + 1];
	char	   *stop;
	size_t		n = Min((size_t) (end - text), sizeof(digits) - 1);
	bool		hex;
	unsigned long number;

	*length = 0;
	for (int i = 0; i < lengthof(names); i++)
	{
		if (n >= strlen(names[i].name) && memcmp(text, names[i].name, strlen(names[i].name)) == 0)
		{
			*length = strlen(names[i].name);
			return (pg_wchar) names[i].meant;
		}
	}
	if (n < 4 || text[1] != '#')
		return 0;
	memcpy(digits, text, n);
	digits[n] = '\0';
	hex = digits[2] == 'x' || digits[2] == 'X';
	if (!isxdigit((unsigned char) digits[hex ? 3 : 2]))
		return 0;
	number = strtoul(digits + (hex ? 3 : 2), &stop, hex ? 16 : 10);
	if (*stop != ';' || number > 0x10FFFF)
		return 0;
	*length = (size_t) (stop + 1 - digits);
	return (pg_wchar) number;
}

/*
 * Reads what stands at `text`: up to 4 bytes into plain, how many into *n, and returns how many it is in the answer.
 * An escape that the end of a cut answer cuts in two is nothing.
 */
static size_t
read_one(const char *text, const char *end, bool cut, char *plain, int *n)
{
	size_t		length = 0;
	pg_wchar	c = *text == '\\' ? json_escape(text, end, &length) :
		*text == '&' ? html_escape(text, end, &length) : 0;

	if (cut && *text == '\\' && length == 6 && is_utf16_surrogate_first(c) && end - text < 12)
	{
		*n = 0;					/* the other half of the character is missing, or a part of it */
		return (size_t) (end - text);
	}
	if (length > 0)
	{
		(void) unicode_to_utf8(c, (unsigned char *) plain);
		*n = pg_utf_mblen((unsigned char *) plain);
		return length;
	}
	length = (size_t) (end - text);
	if (cut && ((*text == '\\' && (length == 1 || (text[1] == 'u' && length < 6))) ||
				(*text == '&' && length < MAX_ENTITY && memchr(text, ';', length) == NULL)))
	{
		*n = 0;
		return length;
	}
	*plain = *text;
	*n = 1;
	return 1;
}

/* Begins with the readings of an answer.  No escape is shorter than what it stands for. */
static void
read_answer(Redaction *redaction, QueueRequest *request)
{
	const char *end = request->answer + request->answer_length;
	Reading    *plain = &redaction->plain;

	*redaction = (Redaction) {.request = request, .cut = request->cut || request->code != CURLE_OK};
	redaction->answer.text = request->answer;
	redaction->answer.length = request->answer_length;
	redaction->answer.secret = palloc0(request->answer_length * sizeof(bool));
	if (memchr(request->answer, '\\', request->answer_length) == NULL &&
		memchr(request->answer, '&', request->answer_length) == NULL)
		return;
	plain->text = palloc(request->answer_length + 4);
	plain->secret = palloc0(request->answer_length * sizeof(bool));
	for (const char *from = request->answer; from < end;)
	{
		int			n;

		from += read_one(from, end, redaction->cut, plain->text + plain->length, &n);
		plain->length += n;
	}
}

/* What is secret in the plain reading is so in the answer. */
static void
mark_escaped(Redaction *redaction)
{
	QueueRequest *request = redaction->request;
	const char *end = request->answer + request->answer_length;
	const bool *secret = redaction->plain.secret;
	bool		was = false;

	for (const char *from = request->answer; from < end;)
	{
		char		bytes[4];
		int			n;
		size_t		length = read_one(from, end, redaction->cut, bytes, &n);

		if (n > 0)				/* else it goes with what is before it */
			was = memchr(secret, true, n) != NULL;
		if (was)
			memset(redaction->answer.secret + (from - request->answer), true, length);
		secret += n;
		from += length;
	}
}

/* ---- marks ---- */

/*
 * One text, everywhere in a reading.  After Knuth, Morris and Pratt: occurrences may overlap, and an endpoint may
 * answer what would else take long.
 */
static void
mark(Redaction *redaction, Reading *reading, const char *secret, size_t length)
{
	size_t	   *shorter = palloc(length * sizeof(size_t));	/* of the first bytes: how many begin and end them */
	size_t		have = 0;		/* of its first bytes stand before i */
	size_t		marked = 0;		/* up to here */

	shorter[0] = 0;
	for (size_t i = 1; i < length; i++)
	{
		while (have > 0 && secret[i] != secret[have])
			have = shorter[have - 1];
		have += secret[i] == secret[have];
		shorter[i] = have;
	}
	have = 0;
	for (size_t i = 0; i < reading->length; i++)
	{
		if (have == 0)
		{
			const char *next = memchr(reading->text + i, secret[0], reading->length - i);

			if (next == NULL)
				break;
			i = (size_t) (next - reading->text);
		}
		while (have > 0 && (have == length || reading->text[i] != secret[have]))
			have = shorter[have - 1];
		have += reading->text[i] == secret[have];
		if (have == length)
		{
			size_t		from = Max(marked, i + 1 - length);

			marked = i + 1;
			memset(reading->secret + from, true, marked - from);
		}
	}
	/* its beginning, where the answer was cut */
	if (redaction->cut && have >= MIN_SECRET)
		memset(reading->secret + reading->length - have, true, have);
	pfree(shorter);
}

/* What is marked gives way to the mask. */
static void
mask(Redaction *redaction)
{
	QueueRequest *request = redaction->request;
	const bool *secret = redaction->answer.secret;
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

/* A value, in both readings. */
static void
mark_value(Redaction *redaction, const char *value, size_t length)
{
	if (length < MIN_SECRET)
		return;
	redaction->work += redaction->answer.length + redaction->plain.length;
	if (redaction->nvalues++ >= FEW_VALUES && redaction->work > MAX_WORK)
	{
		redaction->too_much = true;
		return;
	}
	mark(redaction, &redaction->answer, value, length);
	if (redaction->plain.text != NULL)
		mark(redaction, &redaction->plain, value, length);
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
	/* the cookies of a Cookie, the parameters of a signature */
	for (const char *part = value; *part != '\0';)
	{
		size_t		length = strcspn(part, PART_ENDS);

		if (length >= MIN_TOKEN)
			mark_value(redaction, part, length);
		part += length + strspn(part + length, PART_ENDS);
	}
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
	Redaction	redaction;
	char	   *url = NULL;
	char	   *query;

	if (request->answer_length == 0)
		return;
	read_answer(&redaction, request);
	for (struct curl_slist *header = request->headers; header != NULL; header = header->next)
		mark_header(&redaction, header->data);
	for (int i = 0; conf != NULL && i < conf->nsecrets; i++)
		mark_value(&redaction, conf->secrets[i], strlen(conf->secrets[i]));
	if (curl_easy_getinfo(request->easy, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != NULL &&
		(query = strchr(url, '?')) != NULL)
		mark_query(&redaction, query + 1);
	if (redaction.plain.text != NULL)
	{
		mark_escaped(&redaction);
		pfree(redaction.plain.text);
		pfree(redaction.plain.secret);
	}
	if (redaction.too_much)
		memset(redaction.answer.secret, true, redaction.answer.length);
	mask(&redaction);
	pfree(redaction.answer.secret);
}
