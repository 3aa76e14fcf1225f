/*
 * explain.h
 *		Why a job does not run, in words: for explain_job, and for who refuses to run it.
 */
#ifndef QUEUE_EXPLAIN_H
#define QUEUE_EXPLAIN_H

#include "job/job.h"

/* Of a live job as read (lean or deep) under `snapshot`, for who may read its queue. */
extern char *queue_explain_live(QueueJobTable *table, const QueueJob *job, const QueueLine *line, Snapshot snapshot);

#endif
