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

/*
 * Each sequence with the largest id that its tables hold, as a FROM item (name, needed, last_value): index probes
 * only.
 */
#define QUEUE_SEQUENCES \
	"(VALUES ('queue.job_id'::regclass, greatest((SELECT max(id) FROM queue.live_job), (SELECT max(id) FROM " \
	"queue.finished_job)," \
	" (SELECT max(job_id) FROM queue.failure), (SELECT max(job_id) FROM queue.log_line))," \
	" (SELECT last_value FROM queue.job_id))," \
	" ('queue.line_id', greatest((SELECT max(id) FROM queue.line), (SELECT max(what) / 4 FROM queue.finished_job))," \
	" (SELECT last_value FROM queue.line_id))," \
	" ('queue.subscription_id', (SELECT max(id) FROM queue.subscription)," \
	" (SELECT last_value FROM queue.subscription_id))," \
	" ('queue.event_id', (SELECT max(id) FROM queue.event), (SELECT last_value FROM queue.event_id))," \
	" ('queue.workflow_id', (SELECT max(id) FROM queue.workflow_base), (SELECT last_value FROM queue.workflow_id))," \
	" ('queue.workflow_number', (SELECT max(number) FROM queue.workflow_end)," \
	" (SELECT last_value FROM queue.workflow_number))," \
	" ('queue.handler_id', greatest((SELECT max(id) FROM queue.handler), (SELECT max(id) FROM queue.endpoint))," \
	" (SELECT last_value FROM queue.handler_id))) s (name, needed, last_value)"

#endif
