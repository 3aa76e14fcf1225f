/*
 * workflows.h
 *		Making workflows.
 */
#ifndef QUEUE_WORKFLOWS_H
#define QUEUE_WORKFLOWS_H

#include "lib/queue.h"

#include "utils/jsonb.h"

/* One to be, as asked for. */
typedef struct QueueNewWorkflow
{
	char	   *name;			/* NULL: none */
	char	   *queue;
	char	   *callbacks[3];	/* kinds: on_finished, on_completed, on_discarded; NULL: none */
	Jsonb	   *payload;		/* of the callbacks */
} QueueNewWorkflow;

/* Checks and inserts it, as the caller; its id. */
extern int64 queue_workflow_create(const QueueNewWorkflow *new, bool closed);
/* Reads the parameters that create_workflow and enqueue_workflow share, from the first on. */
extern void queue_workflow_arguments(FunctionCallInfo fcinfo, int first, QueueNewWorkflow *new);

#endif
