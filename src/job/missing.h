/*
 * missing.h
 *		Is a job that is not there gone, or still to come?
 */
#ifndef QUEUE_MISSING_H
#define QUEUE_MISSING_H

#include "lib/queue.h"

/* The id that the sequence gave last; 0: none. */
extern int64 queue_missing_last_id(void);

/* May what seems left behind by a job that is neither live nor kept be deleted? */
extern bool queue_missing_gone(int64 id);

/* The same, for what there may be much of: only for an hour after rows came in. */
extern bool queue_missing_soon_gone(int64 id);

/* Did rows come in within an hour, so that others may still come? */
extern bool queue_missing_restoring(void);

/* May the rows of jobs of this workflow, of which there are none, still come? */
extern bool queue_missing_members(int64 workflow, TimestampTz created_at);

#endif
