/*
 * finish.h
 *		Completing the jobs of a fetch's complete_ids.
 */
#ifndef QUEUE_API_FINISH_H
#define QUEUE_API_FINISH_H

#include "job/job.h"

#include "utils/array.h"

/* Completes these jobs (fetch's complete_ids): those that are the caller's; the others are left alone. */
extern void queue_complete_ids(QueueJobTable *table, ArrayType *ids, ArrayType *attempts);

#endif
