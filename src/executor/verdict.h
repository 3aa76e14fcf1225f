/*
 * verdict.h
 *		What a run of a handler, and a call about the own job inside it, mean for the job.
 */
#ifndef QUEUE_VERDICT_H
#define QUEUE_VERDICT_H

#include "executor/run.h"

/* After a run in an executor: is it let go uncounted, to be rolled back?  Else a timeout is made a failure. */
extern bool queue_verdict_lets_go(QueueRunResult *result);

/*
 * Writes how a run of a handler ended (not INTERRUPTED) for a job that this transaction has locked; counts it in
 * `stat`.
 */
extern QueueState queue_verdict_write(QueueJobTable *table, const QueueJob *job, int attempt,
									  const QueueRunResult *result, TimestampTz started_at, const char *worker,
									  QueueKindStat *stat);

/* An error, if `id` is the job that runs in company in this backend, so that it runs again alone. */
extern void queue_verdict_alone(int64 id);
/*
 * If `id` is the job whose handler runs in this backend: its verdict, marked as given, for the caller to fill in
 * queue_current->context. NULL: it is not. In a group an error that makes it run again alone.
 */
extern QueueVerdict *queue_verdict_own(int64 id, QueueOutcome outcome);

#endif
