/*
 * control.h
 *		Changing one waiting job: what retry, alter_job and the calls about many jobs share.
 */
#ifndef QUEUE_CONTROL_H
#define QUEUE_CONTROL_H

#include "executor/run.h"
#include "job/extra.h"
#include "job/finished.h"
#include "job/job.h"

/* Changes the row and its extra members; line is where the job is now.  False: it is left as it is after all. */
typedef bool (*QueueChange) (QueueJob *job, QueueExtra *extra, QueueLine *line, void *arg);

/*
 * Changes a live row, read under `snapshot`, that nobody works on.  TM_Invisible: a session has the job, or the change
 * left it alone.  The other results as queue_job_lock has them.
 */
extern TM_Result queue_control_change(QueueJobTable *table, const QueueJob *job, QueueLine *line, QueueChange change,
									  void *arg, Snapshot snapshot, bool wait);
/* Of a discarded job that comes back: its copy in a dead-letter queue goes; 55000 if somebody has that. */
extern void queue_control_drop_letter(QueueJobTable *table, const QueueFinished *finished);
/* The change that retry makes; run_at is a TimestampTz *. */
extern bool queue_control_retry(QueueJob *job, QueueExtra *extra, QueueLine *line, void *run_at);

/*
 * Cancels or discards a waiting or running job, waiting for who has it; false: there is none that the caller may end.
 */
extern bool queue_control_end(int64 id, QueueState to, QueueOutcome outcome, const char *reason);
/*
 * Puts a finished, kept job back into its line: same id, failures 0, attempt goes on.  *missing: none is kept, or
 * the caller may not see it.
 */
extern bool queue_control_revive(int64 id, TimestampTz run_at, bool *missing);

#endif
