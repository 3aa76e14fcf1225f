/*
 * worker.c
 *		Starting background workers, and their sleep and end.
 *
 * A parent reserves a slot, registers the worker with the slot's number and token, and looks at the two afterwards:
 * the postmaster's word that the process has ended, and how far the slot got.
 *
 * Every worker ends in time whatever it waits for.  At SIGTERM a POSIX timer is set (timer_settime is
 * async-signal-safe; PostgreSQL's list of timeouts may not be touched in a signal handler).  Its first signal says
 * that the deadline has passed; the next one, grace_ms later, and one a second from then on make the process die at
 * its next interrupt check: a wait for a lock, a latch or a synchronous standby ends with one.
 *
 * SIGUSR2 carries what stands in the slot or on the clock and is level-triggered: the handler looks, so that a
 * signal that comes late or for somebody else does nothing.  SIGINT is left to pg_cancel_backend alone.
 *
 * Locks: those of slot.c.
 */
#include "shared/worker.h"

#include <malloc.h>
#include <signal.h>
#include <time.h>

#include "shared/clock.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define LONG_SLEEP_MS 1000

static const struct
{
	const char *type;			/* backend_type */
	const char *function;
}			kinds[] = {
	[QUEUE_SLOT_LAUNCHER] = {"queue launcher", "queue_launcher_main"},
	[QUEUE_SLOT_SCHEDULER] = {"queue scheduler", "queue_scheduler_main"},
	[QUEUE_SLOT_EXECUTOR] = {"queue executor", "queue_executor_main"},
	[QUEUE_SLOT_HTTP] = {"queue http", "queue_http_main"},
};

void		(*queue_worker_signal_hook) (QueueWorkerSignal why) = NULL;

static timer_t stop_timer;
static volatile sig_atomic_t stopping = 0;	/* 0: no; 1: SIGTERM came; 2: and the deadline has passed */
static int64 next_at = 0;		/* when the timer sends its next signal; written by signal handlers only */
static int	grace_ms;

/* ---------------------------------------------------------------- the parent's side */

/* Everything of a registration but the slot.  Called here, and by the launcher for the postmaster's own list. */
void
queue_worker_describe(BackgroundWorker *worker, QueueSlotType type, Oid db, Oid role)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "queue");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "%s", kinds[type].function);
	snprintf(worker->bgw_type, BGW_MAXLEN, "%s", kinds[type].type);
	if (OidIsValid(role))
		snprintf(worker->bgw_name, BGW_MAXLEN, "%s for role %u in database %u", kinds[type].type, role, db);
	else if (OidIsValid(db))
		snprintf(worker->bgw_name, BGW_MAXLEN, "%s for database %u", kinds[type].type, db);
	else
		snprintf(worker->bgw_name, BGW_MAXLEN, "%s", kinds[type].type);
}

/* Reserves a slot and registers the worker.  False: one of the two is not free; nothing is left behind. */
bool
queue_child_start(QueueChild *child, QueueSlotType type, Oid db, Oid role)
{
	BackgroundWorker worker;
	MemoryContext old;
	int			number = queue_slot_reserve(type, db, role);
	bool		ok;

	if (number < 0)
		return false;
	queue_worker_describe(&worker, type, db, role);
	worker.bgw_notify_pid = MyProcPid;
	queue_slot_pass(number, &worker);
	old = MemoryContextSwitchTo(TopMemoryContext);
	ok = RegisterDynamicBackgroundWorker(&worker, &child->handle);
	MemoryContextSwitchTo(old);
	if (!ok)
	{
		child->handle = NULL;
		queue_slot_free(number);
		return false;
	}
	child->slot = number;
	child->token = queue_slot_nth(number)->registered_at;
	child->up = false;
	return true;
}

/* How is it?  An end is told once; the slot of a child that never came up is freed with that. */
QueueChildState
queue_child_look(QueueChild *child)
{
	QueueSlot  *slot;
	bool		mine;
	bool		adopted;
	pid_t		pid;

	if (child->handle == NULL)
		return QUEUE_CHILD_NONE;
	slot = queue_slot_nth(child->slot);
	mine = slot->registered_at == child->token;
	if (!mine || pg_atomic_read_u32(&slot->state) != QUEUE_SLOT_STARTING)
		child->up = true;
	if (GetBackgroundWorkerPid(child->handle, &pid) != BGWH_STOPPED)
		return child->up ? QUEUE_CHILD_UP : QUEUE_CHILD_STARTING;
	pfree(child->handle);
	child->handle = NULL;
	if (child->up || slot->registered_at != child->token || pg_atomic_read_u32(&slot->state) != QUEUE_SLOT_STARTING)
		return QUEUE_CHILD_ENDED;
	adopted = slot->started_at != 0;
	if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_FREE)
		queue_slot_free(child->slot);
	return adopted ? QUEUE_CHILD_REFUSED : QUEUE_CHILD_LOST;
}

/* The server may not have started it yet: then it never does. */
void
queue_child_recall(QueueChild *child)
{
	pid_t		pid;

	if (child->handle != NULL && GetBackgroundWorkerPid(child->handle, &pid) == BGWH_NOT_YET_STARTED)
		TerminateBackgroundWorker(child->handle);
}

/* ---------------------------------------------------------------- the worker's side */

/* Milliseconds of a clock that nobody sets.  Async-signal-safe. */
static int64
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* SIGUSR2 comes in so many milliseconds, and next_at with it.  Async-signal-safe. */
static void
set_timer(int ms)
{
	struct itimerspec timer = {0};

	next_at = monotonic_ms() + ms;
	timer.it_value.tv_sec = ms / 1000;
	timer.it_value.tv_nsec = (long) (ms % 1000) * 1000000L + 999999L;	/* not before the clock shows next_at */
	timer_settime(stop_timer, 0, &timer, NULL);
}

/* The time to end has come: the hook breaks off what runs; the timer's next signal ends the process. */
static void
pass_deadline(void)
{
	stopping = 2;
	set_timer(grace_ms);
	if (queue_worker_signal_hook != NULL)
		queue_worker_signal_hook(QUEUE_SIGNAL_DEADLINE);
}

/* SIGTERM: end, at the deadline at the latest; a slot that says abort leaves no time. */
static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (stopping < 2 && queue_my_slot != NULL && pg_atomic_read_u32(&queue_my_slot->abort) != 0)
		pass_deadline();
	else if (stopping == 0)
	{
		stopping = 1;
		set_timer(queue_shutdown_timeout);
	}
	queue_wake_self();
	errno = save_errno;
}

/* SIGUSR2: from the timer, or from a process that wrote something into my slot. */
static void
on_sigusr2(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (stopping == 1 && monotonic_ms() >= next_at)
		pass_deadline();
	else if (stopping == 2 && monotonic_ms() >= next_at)
	{
		/* also in proc_exit: what a last transaction waits for ends too */
		ProcDiePending = true;
		InterruptPending = true;
		set_timer(1000);
	}
	if (queue_worker_signal_hook != NULL)
		queue_worker_signal_hook(QUEUE_SIGNAL_SLOT);
	queue_wake_self();
	errno = save_errno;
}

/* SIGINT: pg_cancel_backend. */
static void
on_sigint(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (queue_worker_signal_hook != NULL)
		queue_worker_signal_hook(QUEUE_SIGNAL_CANCEL);
	else
		StatementCancelHandler(postgres_signal_arg);
	errno = save_errno;
}

/* Signals, the timer of the end, and the slot that the parent reserved (the launcher has none yet).  Called once. */
void
queue_worker_begin(int slot_number, int grace)
{
	struct sigevent event = {0};

	grace_ms = grace;
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGUSR2;
	if (timer_create(CLOCK_MONOTONIC, &event, &stop_timer) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create a timer: %m"),
				 errhint("The process limits of the server may be too low.")));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGINT, on_sigint);
	pqsignal(SIGUSR2, on_sigusr2);
	if (slot_number >= 0)
		queue_slot_adopt(slot_number);
	BackgroundWorkerUnblockSignals();
}

/* Connected, and at work from now on: an end after this is no failure to start.  Called by each worker's main. */
void
queue_worker_up(void)
{
	if (queue_my_slot != NULL)
		pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_IDLE);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Who is going to sleep for long gives the system back what its start, or a large job, needed and is free again: of 100
 * idle databases' schedulers 0.2 MB each.  Once a minute at most, because who is woken soon needs some of it again.
 */
static void
give_memory_back(long timeout)
{
	static TimestampTz last = 0;
	TimestampTz now = queue_now();

	if ((timeout >= 0 && timeout < LONG_SLEEP_MS) || now - last < USECS_PER_MINUTE)
		return;
	last = now;
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}

/* The one place where workers sleep, reload and hear of their end. */
int
queue_worker_sleep(struct WaitEventSet *set, TimestampTz deadline, uint32 wait_event)
{
	WaitEvent	events[4];
	long		timeout = -1;
	int			why = 0;
	int			n = 1;
	bool		woken = queue_woken() || ConfigReloadPending;

	Assert(!IsTransactionState());
	if (woken)
		timeout = 0;
	else if (deadline != DT_NOEND)
		timeout = TimestampDifferenceMilliseconds(queue_now(), deadline);
	give_memory_back(timeout);
	if (set != NULL)
		n = WaitEventSetWait(set, timeout, events, lengthof(events), wait_event);
	else if (timeout != 0)
		n = (WaitLatch(MyLatch, WL_LATCH_SET | (timeout > 0 ? WL_TIMEOUT : 0) | WL_EXIT_ON_PM_DEATH,
					   timeout, wait_event) & WL_TIMEOUT) != 0 ? 0 : 1;
	else
		n = 0;
	if (n == 0 && !woken)
		why |= QUEUE_WOKE_TIMEOUT;
	ResetLatch(MyLatch);
	(void) queue_woken();
	QueryCancelPending = false;	/* it came when there was nothing to cancel */
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		why |= QUEUE_WOKE_RELOADED;
	}
	if (ShutdownRequestPending)
		why |= QUEUE_WOKE_STOP;
	return why;
}

/* Called by executors: nothing more is begun then. */
bool
queue_worker_deadline_passed(void)
{
	return stopping == 2;
}
