/*
 * router.h
 *		Which endpoint a request goes to, and what its end says about that endpoint: breakers,
 *		health probes.  The http worker's own.
 */
#ifndef QUEUE_ROUTER_H
#define QUEUE_ROUTER_H

#include "http/request.h"

typedef enum QueueRoute
{
	QUEUE_ROUTE_GO,				/* *endpoint is set */
	QUEUE_ROUTE_FULL,			/* all that may be used have as many requests as they may */
	QUEUE_ROUTE_DOWN			/* none is healthy, or there is none */
} QueueRoute;

/* Chooses an endpoint of the handler. */
extern QueueRoute queue_router_pick(QueueHandler *handler, TimestampTz now, QueueEndpoint **endpoint);
/* Has the handler an endpoint whose breaker is to be tried out by the next request? */
extern bool queue_router_due(QueueHandler *handler, TimestampTz now);
/* A request goes to it: counts, and fills in the request's copies. */
extern void queue_router_began(QueueRequest *request, QueueHandler *handler, QueueEndpoint *endpoint);
/* It ended and was judged; or was given up without an answer (aborted). */
extern void queue_router_ended(QueueRequest *request, TimestampTz now, bool aborted);

/* The configuration was read: which endpoints to probe.  In a transaction. */
extern void queue_router_sync(QueueConfig *config, TimestampTz now);
/* Starts the probes that are due; when the next one is. */
extern TimestampTz queue_router_probe(TimestampTz now);
/* A probe ended.  True: an endpoint is healthy now, the scheduler should look. */
extern bool queue_router_probed(QueueRequest *request, TimestampTz now);
/* Aborts the probes that are under way. */
extern void queue_router_stop(void);

#endif
