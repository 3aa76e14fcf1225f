/*
 * depend.h
 *		Jobs that depend on others are let in, cancelled or held again.
 *
 * See depend.c.
 */
#ifndef QUEUE_DEPEND_H
#define QUEUE_DEPEND_H

#include "job/dependency.h"
#include "job/remind.h"

/*
 * Looks at a job that may depend on others: lets it in, cancels it, or leaves it.  less: because something that it
 * depends on completed.  False: somebody has what is needed, so it is to be tried again, whole.  READ COMMITTED only.
 */
extern bool queue_depend_settle(QueueJobTable *jobs, int64 id, bool less);
/*
 * A job ended or came back: looks at up to max jobs that depend on it, those after *after, which is moved on.
 * completed: it is known to have completed.  False: the job itself is to be looked at again.  busy: those of them that
 * are, with room for max; *nbusy: how many; *more: there are more.
 */
extern bool queue_depend_ended(QueueJobTable *jobs, int64 id, bool completed, int64 *after, int max, int64 *busy,
							   int *nbusy, bool *more);
/* All that this transaction itself noted, as far as it can: so it can go on with what it let in. */
extern void queue_depend_own(QueueJobTable *jobs);
/* Cancels the jobs that this transaction has just made although they cannot run. */
extern void queue_depend_end_doomed(void);
/* A job came back that had ended: those that depend on it and have not started wait for it again. */
extern void queue_depend_hold(QueueJobTable *jobs, int64 id);
/* For who lets jobs in where no scheduler does: eats rows and reminders; false: some have stayed. */
typedef bool (*QueueWorkflowCheck) (QueueJobTable *jobs, int64 id, bool now);
extern bool queue_depend_unattended(QueueJobTable *jobs, QueueWorkflowCheck check);
/* The first thing that a job waits for, under the active snapshot; 0: nothing. */
extern int64 queue_depend_waits_for(QueueJobTable *jobs, int64 id);

/* The scheduler remembers what each job waits for.  Forgets all, or begins with it. */
extern void queue_depend_remember(void);

#endif
