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

/* Warns that no process runs it, where the library is not preloaded. */
extern void queue_handler_warn_preload(const char *kind);

/* May the current user see this handler: read on a queue that it serves, or its role or registrar's. */
extern bool queue_handler_visible(const QueueHandler *handler);
/* The queues that it names, as far as the current user may know of them, as a text[]; null: it is for all. */
extern Datum queue_handler_queues(const QueueHandler *handler, bool *isnull);

#endif
