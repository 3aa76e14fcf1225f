/*
 * finish.h
 *		How a claimed job ends or goes back, as C calls: what the SQL functions
 *		complete, fail, snooze, release .. and the executors share.
 */
#ifndef QUEUE_FINISH_H
#define QUEUE_FINISH_H

#include "job/job.h"
#include "job/record.h"

/* Why a job ended that would have waited while another waits for its unique key. */
#define QUEUE_REPLACED "replaced"

/*
 * What every end of a job does beside deleting its row (completed, discarded, cancelled, expired; NONE: purged or
 * dropped without an end): in the transaction that deleted the row, after that.  What hangs on a job's end hangs here
 * and nowhere else.  `job` as it ends: attempt and failures counted.
 */
extern void queue_job_ended(QueueJobTable *table, const QueueJob *job, const QueueLine *line, QueueState to,
							const QueueEnding *ending);

/*
 * Each acts on a row that the caller found under `snapshot`; `attempt` is the number of the run that ends. With
 * wait = false they report a locked row (TM_BeingModified, TM_WouldBlock) instead of waiting for it.
 */
extern TM_Result queue_finish_end(QueueJobTable *table, const QueueJob *job, int attempt, QueueState to,
								  const QueueEnding *ending, Snapshot snapshot, bool wait);
/*
 * A failed attempt: job_error row, failures + 1, then retryable with backoff (retry_in >= 0 overrides), or discarded,
 * or cancelled because another job waits for its unique key.
 */
extern TM_Result queue_finish_fail(QueueJobTable *table, const QueueJob *job, int attempt, const QueueFailure *failure,
								   int64 retry_in, bool discard, Snapshot snapshot, bool wait, QueueState *state);
/*
 * Not counted: due again after delay us (snooze), or where it was (release: delay < 0); cancelled if another job waits
 * for its unique key.  progress may be NULL.
 */
extern TM_Result queue_finish_return(QueueJobTable *table, const QueueJob *job, int attempt, int64 delay,
									 Jsonb *progress, Snapshot snapshot, bool wait);

/* The same, held until the event that it awaits (event.h). */
extern TM_Result queue_finish_await(QueueJobTable *table, const QueueJob *job, int attempt, Jsonb *progress,
									Snapshot snapshot, bool wait);

/* The snapshot that a single-job call works with, pushed: the latest in READ COMMITTED, else the transaction's. */
extern Snapshot queue_finish_snapshot(void);
/* After TM_Updated: true to look again (READ COMMITTED), an error 40001 above. */
extern void queue_finish_retry(TM_Result result);
/* Of a write to a row that this transaction has locked: an error unless it went well. */
extern void queue_finish_check(const QueueJob *job, TM_Result result);
/*
 * Finds a job for a call by id and checks the caller's privilege on its queue: false when there is none or the
 * caller may not see it; 42501 when it may see it but not do this.
 */
extern bool queue_finish_find(QueueJobTable *table, int64 id, int privilege, Snapshot snapshot,
							  QueueJob *job, QueueLine **line);
/* Refuses a write where none can be: read-only transaction, standby, parallel worker. */
extern void queue_finish_writable(const char *function);

#endif
