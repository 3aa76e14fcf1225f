/*
 * handlers.h
 *		Why a handler runs nothing: what stat_handler, explain_job and doctor tell.
 */
#ifndef QUEUE_API_HANDLERS_H
#define QUEUE_API_HANDLERS_H

#include "config/config.h"

/*
 * Why no executor can run this handler's jobs now, in words with a hint; NULL if it can. Pausing is not told here.
 * All that concerns the function, the role and the copy; not the single queue.
 */
extern const char *queue_handler_problem(QueueHandler *handler, const char **hint);

/* What the register functions share: their queues argument, checked. NULL and 0: all queues. */
extern char **queue_handler_queues(FunctionCallInfo fcinfo, int argument, const char *kind, int *n);

/* Superusers and who has the privileges of the extension's owner. */
extern bool queue_handler_is_owner(void);
/* Is this handler the current user's: did a role register it whose privileges he has? */
extern bool queue_handler_is_registrar(const char *registered_by);

/* May the current user see this handler: read on a queue that it serves, or its role or registrar's. */
extern bool queue_handler_visible(QueueHandler *handler);

#endif
