/*
 * interrupt.c
 *		Breaking into the job that an executor runs.
 *
 * Signal and timeout handlers only set flags and QueryCancelPending, and only while a job is
 * armed: so nothing ever hits the next job.  A long wall time that was only waiting
 * for a CPU (no voluntary context switch, little CPU time) does not break into a group: on a
 * busy machine every kind would be cut out of its groups otherwise.
 *
 * No locks, no shared memory but my own slot.
 */
#include "executor/interrupt.h"

#include <sys/resource.h>

#include "executor/run.h"
#include "shared/clock.h"
#include "shared/worker.h"

#include "storage/latch.h"
#include "utils/timeout.h"

static volatile sig_atomic_t armed = false; /* a job runs: it may be interrupted */
static volatile sig_atomic_t in_company = false;
static volatile sig_atomic_t reason = QUEUE_INTERRUPT_NONE;

/* The process's use of its CPU when the running job began. */
static struct rusage usage_at_start;

static TimeoutId commit_timeout;
static TimeoutId job_timeout;

static void
interrupt_job(QueueInterrupt why)
{
	if (!armed)
		return;
	/* a handler may have caught an earlier one (lock_timeout comes as one too): it must not shield it from others */
	if (why > reason)
		reason = why;
	if (why == QUEUE_INTERRUPT_INTERVAL || why == QUEUE_INTERRUPT_CANCEL)
		queue_run_swallowed = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static int64
cpu_us(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * USECS_PER_SEC +
		usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
}

/* Async-signal-safe, because on_commit_timeout asks. */
bool
queue_interrupt_preempted(int64 *used_us)
{
	struct rusage now;

	if (getrusage(RUSAGE_THREAD, &now) != 0)
		return false;
	*used_us = cpu_us(&now) - cpu_us(&usage_at_start);
	return now.ru_nvcsw == usage_at_start.ru_nvcsw && *used_us < (int64) queue_commit_interval * 500;
}

/* Fires every commit_interval while a group is open. */
static void
on_commit_timeout(void)
{
	int64		used;

	if (armed && in_company && !queue_interrupt_preempted(&used))
		interrupt_job(QUEUE_INTERRUPT_INTERVAL);
}

static void
on_job_timeout(void)
{
	interrupt_job(QUEUE_INTERRUPT_TIMEOUT);
}

/*
 * What a signal means for the job, called in its handler.  A request in the slot names the job that it is for.  A
 * handler that catches the cancel of the deadline and goes on dies with the process a moment later (worker.c).
 */
static void
on_signal(QueueWorkerSignal why)
{
	uint64		wanted;

	switch (why)
	{
		case QUEUE_SIGNAL_CANCEL:
			interrupt_job(QUEUE_INTERRUPT_USER);
			break;
		case QUEUE_SIGNAL_SLOT:
			wanted = queue_my_slot == NULL ? 0 : pg_atomic_read_u64(&queue_my_slot->cancel_id);
			if (wanted != 0 && wanted == pg_atomic_read_u64(&queue_my_slot->job_id))
				interrupt_job(QUEUE_INTERRUPT_CANCEL);
			break;
		case QUEUE_SIGNAL_DEADLINE:
			interrupt_job(QUEUE_INTERRUPT_STOP);
			break;
	}
}

/* From here on signals reach the job.  Called before they are unblocked. */
void
queue_interrupt_begin(void)
{
	queue_worker_signal_hook = on_signal;
}

void
queue_interrupt_timeouts(void)
{
	commit_timeout = RegisterTimeout(USER_TIMEOUT, on_commit_timeout);
	job_timeout = RegisterTimeout(USER_TIMEOUT, on_job_timeout);
}

void
queue_interrupt_arm(bool company, int64 timeout_us)
{
	reason = QUEUE_INTERRUPT_NONE;
	in_company = company;
	(void) getrusage(RUSAGE_THREAD, &usage_at_start);
	queue_run_swallowed = false;
	armed = true;
	if (queue_worker_deadline_passed())
		interrupt_job(QUEUE_INTERRUPT_STOP);	/* it came a moment too early to hit this job */
	pg_memory_barrier();
	if (pg_atomic_read_u64(&queue_my_slot->cancel_id) == pg_atomic_read_u64(&queue_my_slot->job_id))
		interrupt_job(QUEUE_INTERRUPT_CANCEL);	/* so did its signal */
	/* in company the commit interval is tighter than any timeout */
	if (!company && timeout_us > 0)
		enable_timeout_after(job_timeout, (int) Min(Max(timeout_us / 1000, 1), PG_INT32_MAX));
}

void
queue_interrupt_disarm(void)
{
	armed = false;
	if (!in_company)
		disable_timeout(job_timeout, false);
	in_company = false;
	QueryCancelPending = false;
}

/* No job has been interrupted since.  Called before each job of a group, which may end before it is armed. */
void
queue_interrupt_clear(void)
{
	reason = QUEUE_INTERRUPT_NONE;
}

QueueInterrupt
queue_interrupt_reason(void)
{
	return reason;
}

void
queue_interrupt_group_begin(TimestampTz start)
{
	int			interval = Max(queue_commit_interval, 1);

	reason = QUEUE_INTERRUPT_NONE;
	enable_timeout_every(commit_timeout, TimestampTzPlusMilliseconds(queue_clock_real(start), interval), interval);
}

void
queue_interrupt_group_end(void)
{
	disable_timeout(commit_timeout, false);
}
