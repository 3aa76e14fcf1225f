/*
 * step.h
 *		What a job's worker stored step by step, so that its next attempt need not do it again.
 *
 * See step.c.
 */
#ifndef QUEUE_STEP_H
#define QUEUE_STEP_H

#include "job/job.h"

/* What is stored under a name, copied; NULL: nothing. */
extern Jsonb *queue_step_find(int64 job_id, const char *name);
/* Stores it and marks the job in memory; 54000 if the job then stored too much.  The caller writes the row. */
extern void queue_step_store(QueueJob *job, const char *name, Jsonb *value);
/* All of a live job, as an object. */
extern Jsonb *queue_steps_of(int64 job_id);

/* Of a job whose row is deleted: its steps go from their table into extra, for the row that may be kept. */
extern void queue_steps_end(QueueJob *job);
/* The other way round, of a job that comes back. */
extern void queue_steps_revive(int64 job_id, QueueExtra *extra);

#endif
