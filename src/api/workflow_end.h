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
/* For who looks where no scheduler does: all that are not finished. */
extern void queue_workflow_check_all(QueueJobTable *jobs);
/* Deletes workflows that are not kept any more; a slice.  True: there may be more. */
extern bool queue_workflow_retention(TimestampTz now);

#endif
