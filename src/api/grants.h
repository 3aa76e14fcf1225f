/*
 * grants.h
 *		Privileges of a queue that is dropped.
 */
#ifndef QUEUE_GRANTS_H
#define QUEUE_GRANTS_H

#include "api/arguments.h"

/* Every role loses its privileges on the queue, and the EXECUTE and USAGE that nothing else of it needs. */
extern void queue_grants_drop_queue(const char *queue);

#endif
