/*
 * http_handlers.h
 *		Reading what is registered about HTTP handlers into the configuration cache, and the
 *		checks that registering and reading share.
 */
#ifndef QUEUE_CONFIG_HTTP_HANDLERS_H
#define QUEUE_CONFIG_HTTP_HANDLERS_H

#include "config/reader.h"
#include "config/types.h"

/* The columns of one row of queue.handler. */
extern void queue_httpconf_handler(QueueReader *reader, QueueHandler *handler);
/* queue.endpoint and queue.installation; after the handlers. */
extern void queue_httpconf_endpoints(QueueConfig *config);

/* Statuses like "200" and "200-299" as bits; false: `bad` is none. */
extern bool queue_httpconf_statuses(ArrayType *array, uint32 *bits, char **bad);
static inline bool
queue_httpconf_has(const uint32 *bits, long status)
{
	return status >= 0 && status < 640 && (bits[status / 32] & ((uint32) 1 << (status % 32))) != 0;
}

/* A header name that may be sent: a token of RFC 9110. */
extern bool queue_httpconf_name_ok(const char *name);
/* A value that may be sent: no CR, LF or NUL, nor other control characters but tab. */
extern bool queue_httpconf_value_ok(const char *value, int length);
/* Headers that are ours or the protocol's: neither handlers nor jobs set them. */
extern bool queue_httpconf_reserved(const char *name);

/* A url without its query and fragment: what views and logs may show.  palloc'd. */
extern char *queue_httpconf_shown(const char *url);

#endif
