/*
 * limit_rows.h
 *		Limits where there is no shared memory: kept in queue.limit_slot.
 */
#ifndef QUEUE_LIMIT_ROWS_H
#define QUEUE_LIMIT_ROWS_H

#include "config/types.h"

/* Why a claim could not be made. */
typedef struct QueueLimitRefusal
{
	QueueUnitAnswer answer;
	QueueLimitOf of;
	uint64		id;				/* of the limit */
	TimestampTz when;			/* when to look again though nobody wakes; DT_NOEND: never */
} QueueLimitRefusal;

/*
 * As queue_limit_admit, for a claim that gets this attempt; also for a lease that ended and is made to go on.  55000
 * for a session's claim.
 */
extern bool queue_limit_rows_admit(const QueueLine *line, const QueueLimits *limits, const char *key, int64 job,
								   int attempt, QueueUnitKind kind, QueueLimitRefusal *refusal);

#endif
