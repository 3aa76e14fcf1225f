/*
 * interrupt.c
 *		Breaking into the job that an executor runs.
 *
 * Signal and timeout handlers only set flags and QueryCancelPending, and only while a job is
 * armed: so nothing ever hits the next job.  A long wall time that was only waiting
 * for a CPU (no voluntary context switch, little CPU time) does not break into a group: on a
 * busy machine every kind would be cut out of its groups otherwise.
 *
 * The shutdown deadline is a POSIX timer, because a signal handler may set one (timer_settime
 * is async-signal-safe) and may not touch PostgreSQL's list of timeouts.
 *
 * No locks, no shared memory but my own slot.
 */
#include "executor/interrupt.h"

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "executor/run.h"
#include "shared/clock.h"

#include "libpq/pqsignal.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/timeout.h"

static volatile sig_atomic_t armed = false; /* a job runs: it may be interrupted */
static volatile sig_atomic_t in_company = false;
static volatile sig_atomic_t reason = QUEUE_INTERRUPT_NONE;
static volatile sig_atomic_t deadline_passed = false;
static volatile sig_atomic_t aborting = false;	/* SIGTERM came with slot->abort */

/* The process's use of its CPU when the running job began. */
static struct rusage usage_at_start;

static TimeoutId commit_timeout;
static TimeoutId job_timeout;
static timer_t stop_timer;

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

/* SIGTERM: end after the current job, but not later than queue.shutdown_timeout. */
static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;
	struct itimerspec deadline = {0};

	deadline.it_interval.tv_sec = 1;
	if (!ShutdownRequestPending)
	{
		deadline.it_value.tv_sec = queue_shutdown_timeout / 1000;
		deadline.it_value.tv_nsec = (long) (queue_shutdown_timeout % 1000) * 1000000L + 1;
		timer_settime(stop_timer, 0, &deadline, NULL);
	}
	ShutdownRequestPending = true;
	if (!aborting && queue_my_slot != NULL && pg_atomic_read_u32(&queue_my_slot->abort) != 0)
	{
		aborting = true;
		deadline.it_value = deadline.it_interval;
		timer_settime(stop_timer, 0, &deadline, NULL);
		interrupt_job(QUEUE_INTERRUPT_STOP);
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * SIGUSR2 comes from stop_timer only: at the deadline, and each second after it.  A handler that catches the cancel
 * and goes on does not hold up the end of the process: at the second one that still finds its job, the process dies.
 */
static void
on_deadline(SIGNAL_ARGS)
{
	deadline_passed = true;
	if (armed && reason == QUEUE_INTERRUPT_STOP)
	{
		ProcDiePending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
	else
		interrupt_job(QUEUE_INTERRUPT_STOP);
}

/* SIGINT: somebody cancels the job that we run, by queue.cancel or pg_cancel_backend. */
static void
on_sigint(SIGNAL_ARGS)
{
	int			save_errno = errno;
	uint64		wanted = queue_my_slot == NULL ? 0 : pg_atomic_read_u64(&queue_my_slot->cancel_id);

	if (wanted == 0)
		interrupt_job(QUEUE_INTERRUPT_USER);
	else if (wanted == pg_atomic_read_u64(&queue_my_slot->job_id))
		interrupt_job(QUEUE_INTERRUPT_CANCEL);
	errno = save_errno;
}

void
queue_interrupt_signals(void)
{
	struct sigevent event = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGINT, on_sigint);
	pqsignal(SIGUSR2, on_deadline);
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGUSR2;
	if (timer_create(CLOCK_MONOTONIC, &event, &stop_timer) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create a timer: %m"),
				 errhint("The process limits of the server may be too low.")));
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
	if (deadline_passed || aborting)
		interrupt_job(QUEUE_INTERRUPT_STOP);	/* it came a moment too early to hit this job */
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

bool
queue_interrupt_deadline_passed(void)
{
	return deadline_passed;
}
