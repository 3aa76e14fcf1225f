/*
 * outcome.h
 *		Recording what became of requests.
 */
#ifndef QUEUE_OUTCOME_H
#define QUEUE_OUTCOME_H

#include "lib/queue.h"

#include "datatype/timestamp.h"

extern void queue_outcome_collect(void);	/* takes the transfers that ended from libcurl */
extern void queue_outcome_record(bool all); /* what is due to be; with all: everything that can be at once */
extern TimestampTz queue_outcome_next(void);	/* when that is; DT_NOEND: nothing waits */

#endif
