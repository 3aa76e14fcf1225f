/*
 * unique.h
 *		Making a job that may have a unique key, and what happens when that is taken.
 */
#ifndef QUEUE_UNIQUE_H
#define QUEUE_UNIQUE_H

#include "job/create.h"

/* What became of an enqueue. */
typedef enum QueueEnqueued
{
	QUEUE_ENQUEUED_INSERTED,	/* there is a new job */
	QUEUE_ENQUEUED_EXISTING,	/* the key is taken, and nothing was changed */
	QUEUE_ENQUEUED_REPLACED,	/* the waiting job that has the key was changed */
	QUEUE_ENQUEUED_MERGED,		/* so it was, and it has both payloads */
	QUEUE_ENQUEUED_SUCCESSOR	/* a new job waits for the end of the running one that has the key */
} QueueEnqueued;

extern const char *const queue_enqueued_names[];

/*
 * Makes a prepared job as asked for, and gives the id of the job that stands for the request afterwards.  job->id may
 * be set; else a new job takes the next one.
 */
extern int64 queue_unique_create(const QueueNewJob *new, QueueJob *job, QueueEnqueued *outcome);

#endif
