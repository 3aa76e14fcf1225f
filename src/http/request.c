/*
 * request.c
 *		One HTTP request through libcurl.
 *
 * Owns a free list of requests, each with its easy handle, which is used again where that is safe (is_spent()).  Memory
 * is libcurl's kind (malloc), since it is filled in callbacks that may throw nothing.
 *
 * Safety: http and https only, no redirects, no proxy, no credentials from files, TLS verified,
 * the address of each connection looked at by the guard when its socket is made and again
 * before a kept connection is used, headers and body bounded (the body after decompression), the whole
 * of it by a timeout.
 *
 * Locks: none.
 */
#include "http/request.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "config/http_handlers.h"
#include "lib/text.h"

#include "utils/timestamp.h"

#define MAX_HEADERS (64 * 1024) /* bytes of an answer's headers, all together */
#define MAX_RETRY_AFTER (USECS_PER_DAY)
#define MIN_SNOOZE USECS_PER_SEC
#ifdef CURLU_PUNYCODE
#define HOST_FLAGS CURLU_PUNYCODE
#else
#define HOST_FLAGS 0			/* a name that is not ASCII is left to libcurl */
#endif
#define MAX_IDLE_S 4L			/* a connection idle for longer is not used again: many servers end theirs after 5 s */
#define KEEP_ANSWER 4096		/* a buffer above this is not kept */

QueueNetguard queue_request_guard;

static QueueRequest *free_requests = NULL;
static size_t memory = 0;		/* bytes of bodies and answers */

/* ---- callbacks: nothing is thrown, nothing palloc'd ---- */

/* CURLOPT_OPENSOCKETFUNCTION: may a connection go there? */
static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	QueueRequest *request = arg;

	if (!queue_netguard_allows(&queue_request_guard, &address->addr))
	{
		request->refused = true;
		if (address->family == AF_INET)
			(void) inet_ntop(AF_INET, &((struct sockaddr_in *) &address->addr)->sin_addr,
							 request->refused_address, sizeof(request->refused_address));
		else if (address->family == AF_INET6)
			(void) inet_ntop(AF_INET6, &((struct sockaddr_in6 *) &address->addr)->sin6_addr,
							 request->refused_address, sizeof(request->refused_address));
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * CURLOPT_PREREQFUNCTION: called before each time that the request is sent.  A kept connection may be to where it is
 * not allowed any more.  libcurl sends again, on another connection, when a kept one breaks before the answer begins;
 * the endpoint may have acted on the request by then, so a second time is another attempt, not libcurl's to make.
 */
static int
on_request(void *arg, char *primary_ip, char *local_ip, int primary_port, int local_port)
{
	QueueRequest *request = arg;

	if (request->sent)
	{
		request->broken_off = true;
		return CURL_PREREQFUNC_ABORT;
	}
	request->sent = true;
	if (primary_ip == NULL || queue_netguard_allows_text(&queue_request_guard, primary_ip))
		return CURL_PREREQFUNC_OK;
	request->refused = true;
	strlcpy(request->refused_address, primary_ip, sizeof(request->refused_address));
	return CURL_PREREQFUNC_ABORT;
}

/* Copies the value of a header, if the line is of it; one that is too long is left out, or cut. */
static void
take_header(const char *line, size_t length, const char *name, char *into, size_t size, bool cut)
{
	const char *value = line + strlen(name);
	size_t		left = length - strlen(name);

	if (length <= strlen(name) || strncasecmp(line, name, strlen(name)) != 0)
		return;
	while (left > 0 && (*value == ' ' || *value == '\t'))
		value++, left--;
	while (left > 0 && (value[left - 1] == '\r' || value[left - 1] == '\n' || value[left - 1] == ' '))
		left--;
	if (left >= size && !cut)
		return;
	left = Min(left, size - 1);
	memcpy(into, value, left);
	into[left] = '\0';
}

/* CURLOPT_HEADERFUNCTION: one line.  Counts, and takes what is for us. */
static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
	QueueRequest *request = arg;
	size_t		length = size * n;

	request->header_bytes += length;
	if (request->header_bytes > MAX_HEADERS)
	{
		request->headers_too_big = true;
		return 0;
	}
	if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
		/* a new answer: the one before was a 1xx */
		request->retry_after[0] = request->await[0] = request->await_timeout[0] = '\0';
	else
	{
		take_header(line, length, "retry-after:", request->retry_after, sizeof(request->retry_after), false);
		take_header(line, length, "queue-await:", request->await, sizeof(request->await), true);
		take_header(line, length, "queue-await-timeout:", request->await_timeout, sizeof(request->await_timeout), true);
	}
	return length;
}

/* CURLOPT_WRITEFUNCTION: a piece of the body, decompressed. */
static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	QueueRequest *request = arg;
	size_t		length = size * n;
	size_t		limit = (size_t) queue_http_max_response * 1024;
	size_t		take = length;

	if (request->answer_length + take > limit)
	{
		take = limit - Min(request->answer_length, limit);
		request->cut = true;
	}
	if (take > 0)
	{
		if (request->answer_length + take > request->answer_size)
		{
			size_t		bigger = Max(1024, Max(request->answer_size * 2, request->answer_length + take));
			char	   *grown = realloc(request->answer, Min(bigger, Max(limit, 1024)));

			if (grown == NULL)
			{
				request->no_memory = true;
				return 0;
			}
			request->answer = grown;
			memory -= request->answer_size;
			request->answer_size = Min(bigger, Max(limit, 1024));
			memory += request->answer_size;
		}
		memcpy(request->answer + request->answer_length, data, take);
		request->answer_length += take;
	}
	return request->cut ? 0 : length;
}

/* ---- handles ---- */

/* What all requests have in common. */
static bool
set_up(QueueRequest *request)
{
	CURL	   *easy = request->easy;
	CURLcode	code = CURLE_OK;

#define SET(option, value) (code = code != CURLE_OK ? code : curl_easy_setopt(easy, option, value))
	SET(CURLOPT_PRIVATE, request);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_MAXAGE_CONN, MAX_IDLE_S);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_ACCEPT_ENCODING, "");
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_BUFFERSIZE, 4096L);
	SET(CURLOPT_ERRORBUFFER, request->curl_error);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);	/* should it resolve a name itself after all, it shall not wait for its thread */
#endif
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, request);
	SET(CURLOPT_PREREQFUNCTION, on_request);
	SET(CURLOPT_PREREQDATA, request);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, request);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, request);
#undef SET
	return code == CURLE_OK;
}

/* Gives the request a handle, which knows no url yet.  False: no memory; the request is freed. */
static bool
make_handle(QueueRequest *request)
{
	free(request->url);
	request->url = NULL;
	request->easy = curl_easy_init();
	if (request->easy != NULL && set_up(request))
		return true;
	curl_easy_cleanup(request->easy);
	free(request->answer);
	free(request);
	return false;
}

/*
 * Has the handle something of this request that the next must not meet?  A CA file cannot be set back to the default.
 * And libcurl 7.83.0 to 8.1.0 remembers where the last header of an answer was after it has freed it: the next answer,
 * if its headers begin with a space, is written there, and the process, with it the server, dies.
 */
static bool
is_spent(const QueueRequest *request)
{
	unsigned int version = curl_version_info(CURLVERSION_NOW)->version_num;

	return request->own_ca || (version >= 0x075300 && version <= 0x080100);
}

QueueRequest *
queue_request_take(void)
{
	QueueRequest *request = free_requests;

	if (request != NULL)
	{
		free_requests = request->next;
		request->next = NULL;
		memory += request->answer_size;
		return request;
	}
	request = calloc(1, sizeof(QueueRequest));
	return request != NULL && make_handle(request) ? request : NULL;
}

void
queue_request_release(QueueRequest *request)
{
	bool		spent = is_spent(request);

	curl_slist_free_all(request->headers);
	curl_slist_free_all(request->resolve);
	queue_request_drop_body(request);
	memory -= request->answer_size;
	if (request->answer_size > KEEP_ANSWER)
	{
		free(request->answer);
		request->answer = NULL;
		request->answer_size = 0;
	}
	memset(&request->next, 0, sizeof(*request) - offsetof(QueueRequest, next));
	if (spent)
	{
		curl_easy_cleanup(request->easy);
		if (!make_handle(request))
			return;
	}
	request->next = free_requests;
	free_requests = request;
}

bool
queue_request_set_body(QueueRequest *request, const char *body, size_t length)
{
	request->body = malloc(length + 1);
	if (request->body == NULL)
		return false;
	memcpy(request->body, body, length);
	request->body[length] = '\0';
	request->body_length = length;
	memory += length;
	return true;
}

void
queue_request_drop_body(QueueRequest *request)
{
	memory -= request->body_length;
	free(request->body);
	request->body = NULL;
	request->body_length = 0;
}

size_t
queue_request_memory(void)
{
	return memory;
}

/*
 * Sets host and port of a url whose host is a name; libcurl takes addresses, in any spelling, as they are.  A name that
 * cannot be found out here is left to libcurl.
 */
static void
find_host(QueueRequest *request, const char *url)
{
	CURLU	   *parsed = curl_url();
	unsigned char address[16];
	char	   *host = NULL;
	char	   *port = NULL;
	size_t		length;

	request->host[0] = '\0';
	if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_HOST, &host, HOST_FLAGS) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		host[0] != '[' && inet_pton(AF_INET, host, address) != 1)
	{
		length = strlen(host);
		/* libcurl 7.81 takes the dot away before it looks for the address, a later one looks for the name as it is */
		if (length > 1 && host[length - 1] == '.' && curl_version_info(CURLVERSION_NOW)->version_num < 0x075200)
			host[--length] = '\0';
		if (length < sizeof(request->host))
			strcpy(request->host, host);
		request->port = atoi(port);
	}
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parsed);
}

/* Gives libcurl the url, unless it has it: an endpoint's requests are mostly made with the same handles. */
static bool
set_url(QueueRequest *request, const char *url)
{
	if (request->url != NULL && strcmp(request->url, url) == 0)
		return true;
	free(request->url);
	request->url = NULL;
	if (curl_easy_setopt(request->easy, CURLOPT_URL, url) != CURLE_OK)
		return false;
	find_host(request, url);
	request->url = strdup(url);
	return request->url != NULL;
}

bool
queue_request_resolve(QueueRequest *request, const char *addresses)
{
	char		entry[2048];

	if (snprintf(entry, sizeof(entry), "%s:%d:%s", request->host, request->port, addresses) >= (int) sizeof(entry))
		return false;
	request->resolve = curl_slist_append(NULL, entry);
	return request->resolve != NULL &&
		curl_easy_setopt(request->easy, CURLOPT_RESOLVE, request->resolve) == CURLE_OK;
}

bool
queue_request_shorten(QueueRequest *request)
{
	int64		timeout = request->timeout - request->waited;
	int64		connect_timeout = request->connect_timeout - request->waited;

	return curl_easy_setopt(request->easy, CURLOPT_TIMEOUT_MS, (long) Max(timeout / 1000, 1)) == CURLE_OK &&
		curl_easy_setopt(request->easy, CURLOPT_CONNECTTIMEOUT_MS, (long) Max(connect_timeout / 1000, 1)) == CURLE_OK;
}

bool
queue_request_prepare(QueueRequest *request, const char *url, const char *method, int64 timeout, int64 connect_timeout,
					  const char *ca_file)
{
	CURL	   *easy = request->easy;
	CURLcode	code = CURLE_OK;

#define SET(option, value) (code = code != CURLE_OK ? code : curl_easy_setopt(easy, option, value))
	request->timeout = timeout;
	request->connect_timeout = connect_timeout;
	SET(CURLOPT_RESOLVE, NULL);
	SET(CURLOPT_TIMEOUT_MS, (long) Max(timeout / 1000, 1));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) Max(connect_timeout / 1000, 1));
	SET(CURLOPT_HTTPHEADER, request->headers);
	if (strcmp(method, "GET") == 0)
	{
		SET(CURLOPT_CUSTOMREQUEST, NULL);
		SET(CURLOPT_HTTPGET, 1L);
	}
	else
	{
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_length);
		SET(CURLOPT_POSTFIELDS, request->body);
		SET(CURLOPT_CUSTOMREQUEST, strcmp(method, "POST") == 0 ? NULL : method);
	}
	if (ca_file != NULL)
	{
		request->own_ca = true;
		SET(CURLOPT_CAINFO, ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
#undef SET
	request->curl_error[0] = '\0';
	return code == CURLE_OK && set_url(request, url);
}

/* ---- the judgement ---- */

/* Retry-After, seconds or a date, in us; -1: there is none that can be read. */
static int64
retry_after(const char *text, TimestampTz now)
{
	char	   *end;
	int64		us;

	if (*text == '\0')
		return -1;
	if (*text >= '0' && *text <= '9' && strspn(text, "0123456789") == strlen(text))
	{
		long long	seconds = strtoll(text, &end, 10);

		us = seconds > SECS_PER_DAY ? MAX_RETRY_AFTER : seconds * USECS_PER_SEC;
	}
	else
	{
		time_t		when = curl_getdate(text, NULL);

		if (when == (time_t) -1)
			return -1;
		us = when > PG_INT64_MAX / 2 / USECS_PER_SEC ? MAX_RETRY_AFTER : time_t_to_timestamptz(when) - now;
	}
	return Max(0, Min(us, MAX_RETRY_AFTER));
}

/* What went wrong before there was a whole answer, in words that the database can hold. */
static void
explain_failure(QueueRequest *request)
{
	char		began[64] = "";

	if (request->refused)
		snprintf(request->error, sizeof(request->error),
				 "address %s is refused by queue.http_allowed_networks: nothing was sent", request->refused_address);
	else if (request->broken_off)
		snprintf(request->error, sizeof(request->error),
				 "the connection broke off before an answer came; the endpoint may have got the request");
	else if (request->headers_too_big)
		snprintf(request->error, sizeof(request->error), "the headers of the answer are larger than %d kB",
				 MAX_HEADERS / 1024);
	else if (request->no_memory)
		snprintf(request->error, sizeof(request->error), "out of memory while the answer was read");
	else
	{
		if (request->status > 0)
			snprintf(began, sizeof(began), " (the answer began with HTTP status %ld)", request->status);
		snprintf(request->error, sizeof(request->error), "%s%s%s", request->timed_out ? "timeout: " : "",
				 request->curl_error[0] != '\0' ? request->curl_error : curl_easy_strerror(request->code), began);
	}
	queue_text_mend(request->error);
}

/* The endpoint asks for an event; what it asks must make sense. */
static void
judge_await(QueueRequest *request)
{
	char	   *end = request->await_timeout;
	double		seconds = strtod(request->await_timeout, &end);
	bool		forever = request->await_timeout[0] == '\0';

	request->endpoint_ok = true;
	request->verdict = QUEUE_HTTP_AWAIT;
	request->delay = forever ? -1 : (int64) (Max(0.0, Min(seconds, 1e10)) * USECS_PER_SEC);
	if (strlen(request->await) <= QUEUE_NAME_MAX &&
		(forever || (*end == '\0' && end != request->await_timeout && seconds >= 0)))
		return;
	request->verdict = QUEUE_HTTP_FAIL;
	request->delay = -1;
	snprintf(request->error, sizeof(request->error), strlen(request->await) > QUEUE_NAME_MAX ?
			 "the endpoint's Queue-Await is longer than %d bytes" :
			 "the endpoint's Queue-Await-Timeout is no number of seconds", QUEUE_NAME_MAX);
}

void
queue_request_judge(QueueRequest *request, CURLcode code, TimestampTz now)
{
	curl_off_t	us = 0;
	bool		answered = code == CURLE_OK || (code == CURLE_WRITE_ERROR && request->cut);

	request->code = code;
	request->status = 0;
	if (request->state == QUEUE_TRANSFER_SENDING)
	{
		(void) curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->status);
		(void) curl_easy_getinfo(request->easy, CURLINFO_TOTAL_TIME_T, &us);
	}
	request->duration = us + request->waited;
	request->delay = -1;
	request->error[0] = '\0';
	request->timed_out |= code == CURLE_OPERATION_TIMEDOUT;
	if (answered && request->status > 0)
	{
		request->delay = retry_after(request->retry_after, now);
		request->endpoint_ok = request->status < 500 && request->status != 429;
		if (request->status == 202 && request->await[0] != '\0')
		{
			judge_await(request);
			return;
		}
		if (request->status == 202 && request->delay >= 0)
		{
			request->verdict = QUEUE_HTTP_SNOOZE;
			request->delay = Max(request->delay, MIN_SNOOZE);
			return;
		}
		if (queue_httpconf_has(request->complete_on, request->status))
		{
			request->verdict = QUEUE_HTTP_COMPLETE;
			request->endpoint_ok = true;
			return;
		}
		request->verdict =
			queue_httpconf_has(request->discard_on, request->status) ? QUEUE_HTTP_DISCARD : QUEUE_HTTP_FAIL;
		snprintf(request->error, sizeof(request->error), "the endpoint answered HTTP status %ld%s", request->status,
				 request->status >= 300 && request->status < 400 ? ": redirects are not followed" : "");
		return;
	}
	request->verdict = QUEUE_HTTP_FAIL;
	request->endpoint_ok = false;
	request->unreachable = !request->refused &&
		(code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST);
	explain_failure(request);
}
