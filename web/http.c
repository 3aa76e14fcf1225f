/*
 * http.c
 *		The HTTP server: which address leads where.
 *
 * One thread (libmicrohttpd's, with epoll) serves all connections and never waits: a request whose answer a database
 * has yet to give is suspended, and resumed by the thread that has the answer (entry.c).  Then libmicrohttpd calls
 * handle() again for it.
 *
 * Limits: CONNECTIONS at once, MEMORY bytes for a request's line and headers, MAX_BODY for a body, IDLE_S seconds in
 * which nothing comes or goes.  Addresses are matched whole; no part of one becomes a path in the file system or SQL.
 */
#include "http.h"

#include "actions.h"
#include "answer.h"
#include "auth.h"
#include "database.h"
#include "entry.h"
#include "files.h"
#include "metrics.h"
#include "options.h"
#include "views.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define CONNECTIONS 512
#define OF_ONE_ADDRESS 384		/* so that nobody alone takes them all */
#define MEMORY (16 << 10)
#define MAX_BODY (64 << 10)
#define IDLE_S 30

typedef struct Request
{
	Buffer		body;
	bool		too_large;
	Entry	  **entries;		/* what it waits for; NULL: nothing was asked yet */
	int			nentries;
} Request;

static struct MHD_Daemon *http_daemon;

/* ---- answers of entries ---- */

static void
expect(Request *request, int n)
{
	request->entries = xmalloc(sizeof(Entry *) * (size_t) (n > 0 ? n : 1));
}

/* Suspends the request if one of its entries has no answer yet.  The caller holds the entries' lock. */
static bool
waits(struct MHD_Connection *connection, Request *request)
{
	for (int i = 0; i < request->nentries; i++)
	{
		if (!request->entries[i]->ready)
		{
			entry_wait(request->entries[i], connection);
			return true;
		}
	}
	return false;
}

static enum MHD_Result
answer_entry(struct MHD_Connection *connection, Request *request)
{
	bool		waiting;

	entry_lock();
	waiting = waits(connection, request);
	entry_unlock();
	if (waiting)
		return MHD_YES;
	return MHD_queue_response(connection, request->entries[0]->status, request->entries[0]->response);
}

/* ---- views ---- */

/* Reads the parameters of a view; false: one is wrong, and that was answered. */
static bool
read_params(struct MHD_Connection *connection, const Query *query, char *values[], int *n, enum MHD_Result *result)
{
	char	   *message = NULL;

	for (*n = 0; message == NULL && *n < MAX_PARAMS && query->params[*n].name != NULL; (*n)++)
	{
		const Param *param = &query->params[*n];
		const char *value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, param->name);

		if (value == NULL || *value == '\0')
			value = param->by_default;
		if (value == NULL && param->required)
			message = xprintf("parameter %s is missing", param->name);
		else if (value != NULL && param->type == PARAM_NUMBER && !whole_number(value, param->low, param->high))
			message = xprintf("parameter %s must be a whole number from %lld to %lld", param->name,
							  (long long) param->low, (long long) param->high);
		values[*n] = value != NULL ? xstrdup(value) : NULL;
	}
	if (message == NULL)
		return true;
	for (int i = 0; i < *n; i++)
		free(values[i]);
	*result = answer_error(connection, MHD_HTTP_BAD_REQUEST, "22023", message, NULL);
	free(message);
	return false;
}

static enum MHD_Result
answer_view(struct MHD_Connection *connection, Request *request, const char *database_name, const char *view)
{
	if (request->entries == NULL)
	{
		Database   *database = database_find(database_name);
		const Query *query = view_find(view);
		char	   *values[MAX_PARAMS];
		int			n;
		enum MHD_Result result;

		if (database == NULL)
			return answer_error(connection, MHD_HTTP_NOT_FOUND, "database", "there is no such database here", NULL);
		if (query == NULL)
			return answer_error(connection, MHD_HTTP_NOT_FOUND, "view", "there is no such view", NULL);
		if (!read_params(connection, query, values, &n, &result))
			return result;
		expect(request, 1);
		entry_lock();
		request->entries[request->nentries++] = entry_get(database, query, values, n);
		entry_unlock();
	}
	return answer_entry(connection, request);
}

/* ---- actions ---- */

/* Where a request comes from, for the log. */
static char *
peer(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *address = info != NULL ? info->client_addr : NULL;
	char		text[INET6_ADDRSTRLEN] = "";

	if (address != NULL && address->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *) address)->sin_addr, text, sizeof(text));
	else if (address != NULL && address->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) address)->sin6_addr, text, sizeof(text));
	return xstrdup(*text != '\0' ? text : "the socket");
}

/* Is this request an action that a page of ours sends? */
static bool
is_ours(struct MHD_Connection *connection, const Caller *caller, enum MHD_Result *result)
{
	if (!auth_origin(connection))
		*result = answer_error(connection, MHD_HTTP_FORBIDDEN, "origin", "the request comes from another site", NULL);
	else if (!auth_csrf(connection, caller))
		*result = answer_error(connection, MHD_HTTP_FORBIDDEN, "csrf", "the CSRF token is missing or wrong",
							   "Send csrf of /api/session in the header X-Queue-CSRF.");
	else
		return true;
	return false;
}

/* what: do or count. */
static enum MHD_Result
answer_action(struct MHD_Connection *connection, Request *request, const Caller *caller, const char *database_name,
			  const char *what, const char *name)
{
	const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Type");
	bool		acts = strcmp(what, "do") == 0;
	Database   *database = database_find(database_name);
	const Query *query = acts ? action_find(name) : action_count(name);
	enum MHD_Result result;

	if (request->entries != NULL)
		return answer_entry(connection, request);
	if (!is_ours(connection, caller, &result))
		return result;
	if (database == NULL)
		return answer_error(connection, MHD_HTTP_NOT_FOUND, "database", "there is no such database here", NULL);
	if (query == NULL)
		return answer_error(connection, MHD_HTTP_NOT_FOUND, "address", "there is no such action", NULL);
	if (acts && !options.write)
		return answer_error(connection, MHD_HTTP_FORBIDDEN, "readonly", "queue-web was started without --write", NULL);
	if (type == NULL || strncasecmp(type, "application/json", 16) != 0)
		return answer_error(connection, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "type",
							"the body must be application/json", NULL);
	if (request->body.length == 0 || strlen(request->body.data) != request->body.length)
		return answer_error(connection, MHD_HTTP_BAD_REQUEST, "22P02", "the body must be a JSON object", NULL);
	expect(request, 1);
	entry_lock();
	request->entries[request->nentries++] = entry_make(database, query, (char *[]) {xstrdup(request->body.data)}, 1);
	request->entries[0]->who = peer(connection);
	database_submit(database, request->entries[0]);
	entry_unlock();
	return answer_entry(connection, request);
}

/* ---- what needs no database ---- */

static enum MHD_Result
answer_session(struct MHD_Connection *connection, const Caller *caller)
{
	Buffer		text = {0};
	enum MHD_Result result;

	buffer_printf(&text, "{\"login\": %s, \"write\": %s, \"csrf\": \"%s\", \"version\": \"%s\", \"databases\": [",
				  caller->by_session ? "true" : "false", options.write ? "true" : "false", caller->csrf,
				  QUEUE_WEB_VERSION);
	for (int i = 0; i < database_count(); i++)
	{
		buffer_text(&text, i > 0 ? ", " : "");
		buffer_json(&text, database_name(database_at(i)));
	}
	buffer_text(&text, "]}\n");
	result = answer_text(connection, MHD_HTTP_OK, "application/json", text.data);
	buffer_free(&text);
	return result;
}

static enum MHD_Result
answer_databases(struct MHD_Connection *connection)
{
	Buffer		text = {0};
	enum MHD_Result result;

	buffer_text(&text, "[");
	for (int i = 0; i < database_count(); i++)
	{
		DatabaseState state = database_state(database_at(i));

		buffer_text(&text, i > 0 ? ",\n {\"name\": " : "{\"name\": ");
		buffer_json(&text, database_name(database_at(i)));
		buffer_printf(&text, ", \"up\": %s, \"error\": ", state.up ? "true" : "false");
		buffer_json(&text, state.error);
		buffer_text(&text, ", \"role\": ");
		buffer_json(&text, state.role);
		buffer_text(&text, ", \"server_version\": ");
		buffer_json(&text, state.server_version);
		buffer_text(&text, ", \"host\": ");
		buffer_json(&text, state.host);
		buffer_text(&text, "}");
		database_state_free(&state);
	}
	buffer_text(&text, "]\n");
	result = answer_text(connection, MHD_HTTP_OK, "application/json", text.data);
	buffer_free(&text);
	return result;
}

static enum MHD_Result
answer_health(struct MHD_Connection *connection)
{
	Buffer		down = {0};
	enum MHD_Result result;

	for (int i = 0; i < database_count(); i++)
	{
		DatabaseState state = database_state(database_at(i));

		if (!state.up)
			buffer_printf(&down, "down: %s\n", database_name(database_at(i)));
		database_state_free(&state);
	}
	result = answer_text(connection, down.length > 0 ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, "text/plain",
						 down.length > 0 ? down.data : "ok\n");
	buffer_free(&down);
	return result;
}

/* A database that is down or refuses shows as queue_database_up 0; the others' metrics are there nevertheless. */
static enum MHD_Result
answer_metrics(struct MHD_Connection *connection, Request *request)
{
	bool		waiting;
	Metrics    *metrics;
	char	   *text;
	size_t		length;
	struct MHD_Response *response;
	enum MHD_Result result;

	entry_lock();
	if (request->entries == NULL)
	{
		expect(request, database_count());
		for (int i = 0; i < database_count(); i++)
			request->entries[request->nentries++] = entry_get(database_at(i), &view_metrics, NULL, 0);
	}
	waiting = waits(connection, request);
	entry_unlock();
	if (waiting)
		return MHD_YES;
	metrics = metrics_begin();
	for (int i = 0; i < request->nentries; i++)
	{
		Entry	   *entry = request->entries[i];

		metrics_add(metrics, database_name(entry->database), entry->status == MHD_HTTP_OK, entry->text, entry->size);
	}
	text = metrics_end(metrics, &length);
	response = answer_of("application/openmetrics-text; version=1.0.0; charset=utf-8", text, length, text, free);
	result = MHD_queue_response(connection, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return result;
}

/* The body is the token. */
static enum MHD_Result
answer_login(struct MHD_Connection *connection, Request *request, bool in, const Caller *caller)
{
	struct MHD_Response *response;
	enum MHD_Result result;
	char	   *cookie;

	if (!auth_origin(connection))
		return answer_error(connection, MHD_HTTP_FORBIDDEN, "origin", "the request comes from another site", NULL);
	if (!in && !is_ours(connection, caller, &result))
		return result;
	cookie = in ? auth_login(connection, request->body.length > 0 ? request->body.data : "") : auth_logout(connection);
	if (cookie == NULL)
	{
		char	   *who = peer(connection);

		log_line("wrong token from %s", who);
		free(who);
		return answer_error(connection, MHD_HTTP_UNAUTHORIZED, "token", "the token is wrong", NULL);
	}
	response = answer_of("text/plain", NULL, 0, xmalloc(1), free);
	(void) MHD_add_response_header(response, "Set-Cookie", cookie);
	free(cookie);
	result = MHD_queue_response(connection, MHD_HTTP_NO_CONTENT, response);
	MHD_destroy_response(response);
	return result;
}

/* ---- addresses ---- */

static enum MHD_Result
refuse_method(struct MHD_Connection *connection)
{
	return answer_error(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "method", "this method is not for this address", NULL);
}

/* Cuts a path at its last slash; gives what stands behind it, NULL: there is none. */
static char *
cut_last(char *path)
{
	char	   *slash = strrchr(path, '/');

	if (slash != NULL)
		*slash++ = '\0';
	return slash;
}

/* /api/d/NAME/VIEW, /api/d/NAME/do/ACTION, /api/d/NAME/count/ACTION; a database's name may hold slashes. */
static enum MHD_Result
route_database(struct MHD_Connection *connection, Request *request, const Caller *caller, const char *rest, bool post)
{
	char	   *path = xstrdup(rest);
	char	   *last = cut_last(path);
	char	   *what = post && last != NULL ? cut_last(path) : NULL;
	enum MHD_Result result;

	if (last == NULL || (post && (what == NULL || (strcmp(what, "do") != 0 && strcmp(what, "count") != 0))))
		result = answer_error(connection, MHD_HTTP_NOT_FOUND, "address", "there is nothing here", NULL);
	else if (post)
		result = answer_action(connection, request, caller, path, what, last);
	else
		result = answer_view(connection, request, path, last);
	free(path);
	return result;
}

static enum MHD_Result
route(struct MHD_Connection *connection, Request *request, const char *url, const char *method)
{
	bool		post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
	bool		get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	bool		in = strcmp(url, "/login") == 0;
	Caller		caller = auth_caller(connection);

	if (!get && !post)
		return refuse_method(connection);
	if (in || strcmp(url, "/logout") == 0)
		return post ? answer_login(connection, request, in, &caller) : refuse_method(connection);
	if (post && strncmp(url, "/api/d/", 7) != 0)
		return refuse_method(connection);
	if (strcmp(url, "/healthz") == 0)
		return answer_health(connection);
	if (strcmp(url, "/") == 0 || strncmp(url, "/d/", 3) == 0)
		return file_answer(connection, "index.html");
	if (strncmp(url, "/static/", 8) == 0)
		return file_answer(connection, url + 8);
	if (!caller.allowed)
		return answer_error(connection, MHD_HTTP_UNAUTHORIZED, "token", "a token is asked for", NULL);
	if (strcmp(url, "/metrics") == 0)
		return answer_metrics(connection, request);
	/* another site cannot read an answer, but each question would cost the database a query */
	if (!auth_origin(connection))
		return answer_error(connection, MHD_HTTP_FORBIDDEN, "origin", "the request comes from another site", NULL);
	if (strcmp(url, "/api/session") == 0)
		return answer_session(connection, &caller);
	if (strcmp(url, "/api/databases") == 0)
		return answer_databases(connection);
	if (strncmp(url, "/api/d/", 7) == 0)
		return route_database(connection, request, &caller, url + 7, post);
	return answer_error(connection, MHD_HTTP_NOT_FOUND, "address", "there is nothing here", NULL);
}

/* ---- the server ---- */

/* Called at a request's headers, for each piece of its body, at its end, and after each wait. */
static enum MHD_Result
handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
	   const char *upload, size_t *nupload, void **state)
{
	Request    *request = *state;

	(void) cls;
	(void) version;
	if (request == NULL)
	{
		*state = xmalloc(sizeof(Request));
		if (!auth_host(connection))
			return answer_error(connection, MHD_HTTP_FORBIDDEN, "host", "the Host header is none of this server's",
								"Start queue-web with --host NAME.");
		/* a proxy in front might see the end of the request elsewhere */
		if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding") != NULL &&
			MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length") != NULL)
			return answer_error(connection, MHD_HTTP_BAD_REQUEST, "length", "the request has two lengths", NULL);
		return MHD_YES;
	}
	if (*nupload > 0)
	{
		if (request->body.length + *nupload > MAX_BODY)
			request->too_large = true;
		else
			buffer_add(&request->body, upload, *nupload);
		*nupload = 0;
		return MHD_YES;
	}
	if (request->too_large)
		return answer_error(connection, MHD_HTTP_CONTENT_TOO_LARGE, "large", "the body is larger than 64 kB", NULL);
	return route(connection, request, url, method);
}

/* The request is over, whatever became of it. */
static void
completed(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	Request    *request = *state;

	(void) cls;
	(void) connection;
	(void) code;
	if (request == NULL)
		return;
	entry_lock();
	for (int i = 0; i < request->nentries; i++)
		entry_release(request->entries[i]);
	entry_unlock();
	free(request->entries);
	buffer_free(&request->body);
	free(request);
	*state = NULL;
}

static int
hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *found = c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

	return found != NULL ? (int) (found - digits) : -1;
}

/* Decodes %XX in place, all but %00, which would end the text; what is no such thing stays. */
static size_t
unescape(void *cls, struct MHD_Connection *connection, char *text)
{
	char	   *to = text;

	(void) cls;
	(void) connection;
	for (const char *from = text; *from != '\0'; to++)
	{
		int			high = *from == '%' ? hex_digit(from[1]) : -1;
		int			low = high >= 0 ? hex_digit(from[2]) : -1;

		if (low < 0 || high + low == 0)
			*to = *from++;
		else
		{
			*to = (char) (high * 16 + low);
			from += 3;
		}
	}
	*to = '\0';
	return (size_t) (to - text);
}

/* libmicrohttpd's complaints, mostly of clients that went away. */
static void
ignore_log(void *cls, const char *format, va_list args)
{
	(void) cls;
	(void) format;
	(void) args;
}

bool
http_start(int listen_socket)
{
	auth_start();
	http_daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
								   0, NULL, NULL, handle, NULL,
								   MHD_OPTION_EXTERNAL_LOGGER, ignore_log, NULL,
								   MHD_OPTION_LISTEN_SOCKET, (MHD_socket) listen_socket,
								   MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
								   MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
								   MHD_OPTION_CONNECTION_LIMIT, (unsigned int) CONNECTIONS,
								   MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned int) OF_ONE_ADDRESS,
								   MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int) IDLE_S,
								   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) MEMORY,
								   MHD_OPTION_STRICT_FOR_CLIENT, 1,
								   MHD_OPTION_END);
	return http_daemon != NULL;
}

void
http_stop(void)
{
	MHD_stop_daemon(http_daemon);
}
