/*
 * pending.c
 *		Jobs that something blocks: another job of their group, the job before them with their unique key, a job that
 *		they depend on, an event that they await.
 *
 * A blocked job has run_at = infinity in its row, so it lies behind every other one in the ready index, where no reader
 * goes, and claim.c refuses it.  That alone makes it pending.  What blocks it, and the time that was asked for, are in
 * extra; whoever takes the last block away writes a time into the row, and the note of that write wakes who waits for
 * the line.
 *
 * Locks: the row lock.
 */
#include "job/pending.h"

#include "shared/clock.h"

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

void
queue_job_hold(QueueJob *job, QueueExtra *extra, int block)
{
	if (!queue_job_pending(job))
	{
		if (extra->enqueued_at == 0)
			extra->enqueued_at = job->run_at;
		extra->run_at = job->run_at;
		job->run_at = DT_NOEND;
	}
	extra->blocks |= block;
}

TM_Result
queue_job_promote(QueueJobTable *table, const QueueJob *job, int block, Snapshot snapshot, bool wait)
{
	QueueJob	new = *job;
	TimestampTz now = queue_now();

	if (job->extra == NULL && job->stored_extra != NULL)
		new.run_at = now;		/* nobody knows what it asked for; whoever claims it says that it cannot be read */
	else
	{
		QueueExtra	extra;

		queue_extra_unpack(job->extra, &extra);
		extra.blocks &= ~block;
		if (extra.blocks == 0)
			new.run_at = Max(extra.run_at, now);
		/* how long it awaited an event does not count as waiting for its turn */
		if (extra.blocks == 0 && block == QUEUE_BLOCK_EVENT)
			extra.run_at = 0;
		new.extra = queue_extra_pack(&extra);
	}
	return queue_job_update(table, job, &new, snapshot, wait);
}
