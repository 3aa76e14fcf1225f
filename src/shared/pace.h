/*
 * pace.h
 *		How long runs of a handler's kind take.
 *
 * See pace.c.
 */
#ifndef QUEUE_PACE_H
#define QUEUE_PACE_H

#include "shared/counter.h"

/* One run of a kind ended after `us` microseconds. */
extern void queue_kind_ran(QueueKindRef *ref, int64 us);
/* Do its recent runs tell how long one takes on average? (at least 4) */
extern bool queue_kind_is_known(QueueKindStat *stat);
/*
 * Whose runs tell how long one of this kind takes: its own, but while these are few and short, those that kinds of its
 * handler without numbers of their own have in common, if there are any.
 */
extern QueueKindStat *queue_kind_guide(QueueKindStat *stat);
/* May jobs of this kind share a commit? (mean under commit_interval / 10 over >= 4 runs, no long one lately) */
extern bool queue_kind_is_short(const QueueKindRef *ref, TimestampTz now);

#endif
