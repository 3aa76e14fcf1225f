/*
 * workflow.h
 *		Workflows: jobs that are watched together.  The rows that go with a job's coming and going.
 *
 * See workflow.c.  What is done when all have ended: api/workflow_end.h.
 */
#ifndef QUEUE_WORKFLOW_H
#define QUEUE_WORKFLOW_H

#include "job/job.h"
#include "job/record.h"

/*
 * A job is about to join: holds the workflow against finishing until the end of this transaction.  within: the caller
 * is inside one of its own jobs.  42704 if there is none, 42501 without the right to enqueue, 55000 if it takes no
 * more jobs.
 */
extern void queue_workflow_join(int64 id, bool within, Oid creator);
/* 42704: there is no such workflow. */
extern void queue_workflow_missing(int64 id) pg_attribute_noreturn();
/* This transaction closes or cancels it: who joins later in it is checked again. */
extern void queue_workflow_shut(int64 id);
/* What goes before the rows of new jobs, and of those that come back. */
extern void queue_workflow_insert(const QueueJob *jobs, int n);
/* A job's row was deleted (NONE: without an end), or it came back and waits: what its workflow learns of it. */
extern void queue_workflow_ended(const QueueJob *job, QueueState to, const QueueEnding *ending);
extern void queue_workflow_waits(const QueueExtra *extra);
/* Is anything known of this workflow? */
extern bool queue_workflow_known(int64 id);
/* {"ref or id": result} of what a job depends on; workflow: the job's, 0: none. */
extern Jsonb *queue_workflow_results(int64 job, int64 workflow);
/* The first job of a workflow after this one that has not ended; 0: none.  Under the latest snapshot. */
extern int64 queue_workflow_unfinished(int64 id, int64 after);

#endif
