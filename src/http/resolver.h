/*
 * resolver.h
 *		Looking up host names without ever waiting for the answer.
 */
#ifndef QUEUE_RESOLVER_H
#define QUEUE_RESOLVER_H

#include "lib/queue.h"

typedef enum QueueResolution
{
	QUEUE_RESOLVE_WAIT,			/* a thread asks: once the worker's event descriptor is readable, look again */
	QUEUE_RESOLVE_FOUND,
	QUEUE_RESOLVE_FAILED
} QueueResolution;

/*
 * What is known of a host.  *answer, valid until the next call: its addresses as CURLOPT_RESOLVE takes them
 * ("192.0.2.1,[2001:db8::1]"), NULL if libcurl knows them for this port; or why there are none.  *version names them.
 */
extern QueueResolution queue_resolver_look(const char *host, int port, const char **answer, uint64 *version);

/* libcurl knows the addresses of that version now: it keeps what it was once given. */
extern void queue_resolver_given(const char *host, int port, uint64 version);

/* Takes what threads have found out; true: something, so that all who wait should look again. */
extern bool queue_resolver_collect(void);

#endif
