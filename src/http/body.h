/*
 * body.h
 *		The body of a handler with body => 'job': the job with what goes with it.
 */
#ifndef QUEUE_BODY_H
#define QUEUE_BODY_H

#include "job/job.h"

/* {"job": .., "steps": .., "event": ..} of a job that is about to be sent, in the current memory context. */
extern Jsonb *queue_body_of_job(const QueueJob *job, const QueueExtra *extra, const QueueLine *line, TimestampTz now);

#endif
