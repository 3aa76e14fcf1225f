/*
 * pending.c
 *		Jobs that something blocks: another job of their group, the job before them with their unique key, a job that
 *		they depend on.
 *
 * A blocked job has run_at = infinity in its row, so it lies behind every other one in the ready index, where no reader
 * goes, and claim.c refuses it.  That alone makes it pending.  What blocks it, and the time that was asked for, are in
 * extra; whoever takes the last block away writes a time into the row, and the note of that write wakes who waits for
 * the line.
 *
 * Locks: the row lock.
 */
#include "job/pending.h"

void
queue_job_set_run_at(QueueJob *job, QueueExtra *extra, TimestampTz run_at)
{
	if (extra->enqueued_at == 0 && !queue_job_pending(job) && run_at != job->run_at)
		extra->enqueued_at = job->run_at;
	if (queue_job_pending(job))
		extra->run_at = run_at;
	else
	{
		if (run_at != job->run_at)
			extra->run_at = 0;
		job->run_at = run_at;
	}
}
