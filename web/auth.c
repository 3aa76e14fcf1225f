/*
 * auth.c
 *		Who may ask: the token, sessions, CSRF tokens, and the headers that tell where a request comes from.
 *
 * A browser gives the token once and gets a session: a random cookie that scripts cannot read and that other sites'
 * requests do not carry.  Programs send the token itself (Authorization: Bearer).  Sessions live in memory; they end
 * after SESSION_MS without a request, and with the program.
 *
 * The Host header must be an address, localhost or a name that --host gives: a site that lets its own name resolve to
 * this machine (DNS rebinding) sends its own name.  An action must carry the CSRF token, which only a page of this
 * origin can read, in a header that no form can send; the origin is checked besides.
 *
 * Only the HTTP thread calls this file.
 */
#include "auth.h"

#include "options.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_SESSIONS 128		/* beyond it the one that was idle longest ends */
#define SESSION_MS (12 * 3600 * (int64_t) 1000)

typedef struct Session
{
	char		id[RANDOM_HEX + 1]; /* empty: none */
	char		csrf[RANDOM_HEX + 1];
	int64_t		seen;
} Session;

static Session sessions[MAX_SESSIONS];
static char csrf[RANDOM_HEX + 1];	/* of who needs no session */
static char *cookie_name;

void
auth_start(void)
{
	const char *port = options.listen != NULL ? strrchr(options.listen, ':') : NULL;

	random_hex(csrf);
	/* browsers keep cookies by host, not by port */
	cookie_name = port != NULL ? xprintf("queue_web_%s", port + 1) : xstrdup("queue_web");
}

static const char *
header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static Session *
find_session(struct MHD_Connection *connection)
{
	const char *cookie = MHD_lookup_connection_value(connection, MHD_COOKIE_KIND, cookie_name);
	int64_t		now = now_ms();
	Session    *found = NULL;

	if (cookie == NULL)
		return NULL;
	for (int i = 0; i < MAX_SESSIONS; i++)
	{
		/* (nothing equals the id of a place without a session, which is empty) */
		if (now - sessions[i].seen < SESSION_MS && equal_secret(cookie, sessions[i].id))
			found = &sessions[i];
	}
	if (found != NULL)
		found->seen = now;
	return found;
}

Caller
auth_caller(struct MHD_Connection *connection)
{
	Caller		caller = {0};
	const char *authorization = header(connection, "Authorization");
	Session    *session;

	memcpy(caller.csrf, csrf, sizeof(csrf));
	if (options.token == NULL)
		caller.allowed = true;
	else if (authorization != NULL && strncasecmp(authorization, "Bearer ", 7) == 0)
		caller.allowed = equal_secret(authorization + 7, options.token);
	else if ((session = find_session(connection)) != NULL)
	{
		caller.allowed = caller.by_session = true;
		memcpy(caller.csrf, session->csrf, sizeof(csrf));
	}
	return caller;
}

static char *
cookie_text(struct MHD_Connection *connection, const char *value, const char *more)
{
	const char *scheme = header(connection, "X-Forwarded-Proto");	/* of a proxy that speaks TLS */

	return xprintf("%s=%s; Path=/; HttpOnly; SameSite=Strict%s%s", cookie_name, value,
				   scheme != NULL && strcasecmp(scheme, "https") == 0 ? "; Secure" : "", more);
}

char *
auth_login(struct MHD_Connection *connection, const char *token)
{
	Session    *oldest = &sessions[0];

	if (options.token == NULL || !equal_secret(token, options.token))
		return NULL;
	for (int i = 1; i < MAX_SESSIONS && oldest->id[0] != '\0'; i++)
	{
		if (sessions[i].id[0] == '\0' || sessions[i].seen < oldest->seen)
			oldest = &sessions[i];
	}
	random_hex(oldest->id);
	random_hex(oldest->csrf);
	oldest->seen = now_ms();
	return cookie_text(connection, oldest->id, "");
}

char *
auth_logout(struct MHD_Connection *connection)
{
	Session    *session = find_session(connection);

	if (session != NULL)
		*session = (Session) {0};
	return cookie_text(connection, "", "; Max-Age=0");
}

/* The host of "host:port" or "[address]:port", in a buffer; false: it is none. */
static bool
host_of(const char *value, char *host, size_t size)
{
	const char *end;
	size_t		length;

	if (*value == '[')
	{
		value++;
		end = strchr(value, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return false;
	}
	else
		end = value + strcspn(value, ":");
	length = (size_t) (end - value);
	if (length == 0 || length >= size)
		return false;
	memcpy(host, value, length);
	host[length] = '\0';
	return true;
}

bool
auth_host(struct MHD_Connection *connection)
{
	const char *value = header(connection, "Host");
	char		host[256];
	unsigned char address[16];

	if (value == NULL || !host_of(value, host, sizeof(host)))
		return false;
	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1 ||
		strcasecmp(host, "localhost") == 0)
		return true;
	for (int i = 0; i < options.nhosts; i++)
	{
		if (strcasecmp(host, options.hosts[i]) == 0)
			return true;
	}
	return false;
}

bool
auth_origin(struct MHD_Connection *connection)
{
	const char *host = header(connection, "Host");
	const char *origin = header(connection, "Origin");
	const char *site = header(connection, "Sec-Fetch-Site");

	if (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
		return false;
	if (origin == NULL)
		return true;			/* no browser */
	if (strncmp(origin, "http://", 7) == 0)
		origin += 7;
	else if (strncmp(origin, "https://", 8) == 0)
		origin += 8;
	else
		return false;
	return host != NULL && strcasecmp(origin, host) == 0;
}

bool
auth_csrf(struct MHD_Connection *connection, const Caller *caller)
{
	const char *given = header(connection, "X-Queue-CSRF");

	return given != NULL && equal_secret(given, caller->csrf);
}
