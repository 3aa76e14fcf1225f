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
 * ("192.0.2.1,[2001:db8::1]"), or why there are none.
 */
extern QueueResolution queue_resolver_look(const char *host, const char **answer);

/* Takes what threads have found out; true: something, so that all who wait should look again. */
extern bool queue_resolver_collect(void);

#endif
