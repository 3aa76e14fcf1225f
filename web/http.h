/*
 * http.h
 *		The HTTP server: which address leads where.
 */
#ifndef WEB_HTTP_H
#define WEB_HTTP_H

#include <stdbool.h>

extern bool http_start(int listen_socket);
extern void http_stop(void);

#endif
