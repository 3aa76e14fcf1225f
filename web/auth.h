/*
 * auth.h
 *		Who may ask: the token, sessions, CSRF tokens, and the headers that tell where a request comes from.
 */
#ifndef WEB_AUTH_H
#define WEB_AUTH_H

#include "util.h"

#include <microhttpd.h>
#include <stdbool.h>

/* Who a request is from, as far as its headers tell. */
typedef struct Caller
{
	bool		allowed;		/* no token is asked for, or it came with it or with a session */
	bool		by_session;
	char		csrf[RANDOM_HEX + 1];	/* what an action must carry */
} Caller;

extern void auth_start(void);
extern Caller auth_caller(struct MHD_Connection *connection);
extern char *auth_login(struct MHD_Connection *connection, const char *token);	/* the Set-Cookie; NULL: wrong */
extern char *auth_logout(struct MHD_Connection *connection);	/* the Set-Cookie that removes it */
extern bool auth_host(struct MHD_Connection *connection);	/* is the Host header one of ours? */
extern bool auth_origin(struct MHD_Connection *connection);	/* does a page of ours ask? */
extern bool auth_csrf(struct MHD_Connection *connection, const Caller *caller);

#endif
