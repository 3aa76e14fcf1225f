/*
 * workflow_end.h
 *		Finishing workflows, and undoing them.
 *
 * See workflow_end.c.
 */
#ifndef QUEUE_WORKFLOW_END_H
#define QUEUE_WORKFLOW_END_H

#include "job/job.h"

/*
 * Looks at a workflow of which a job ended, or that was closed: finishes it if all its jobs have ended, or undoes it.
 * now: one of them ended badly.  False: somebody has what is needed, so it is to be tried again.
 */
extern bool queue_workflow_check(QueueJobTable *jobs, int64 id, bool now);
/* Cancels the jobs of a workflow that wait; false: somebody has one of them.  *ended: adds how many. */
extern bool queue_workflow_cancel_waiting(QueueJobTable *jobs, int64 id, const char *reason, int64 *ended);
/* The scheduler remembers an unfinished job of each workflow.  Forgets all, or begins with it. */
extern void queue_workflow_remember(void);
/* Up to max of those that are not finished, from behind this one on; how many. */
extern int	queue_workflow_open(int64 after, int64 *ids, int max);
/*
 * A queue is dropped: 55000 without force if an unfinished workflow would enqueue something in it; with force those of
 * the queue are closed, so that they finish.  Or one was created: those that go on now are looked at.  Inside
 * queue_spi_begin.
 */
extern void queue_workflow_queue_dropped(const char *queue, bool force);
extern void queue_workflow_queue_created(const char *queue);
/* In SQL, of a row w of workflow_base: it has finished, and a callback that applies could not be enqueued. */
#define QUEUE_WORKFLOW_UNFIRED \
	"(w.finished_at IS NOT NULL AND (w.on_finished IS NOT NULL AND w.fired & 1 = 0" \
	" OR w.on_completed IS NOT NULL AND w.fired & 2 = 0 AND w.completed = w.jobs AND w.state <> 'cancelled'" \
	" OR w.on_discarded IS NOT NULL AND w.fired & 4 = 0 AND w.discarded > 0))"
/* Deletes workflows that are not kept any more; a slice.  True: there may be more. */
extern bool queue_workflow_retention(TimestampTz now);

#endif
