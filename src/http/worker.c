/*
 * worker.c
 *		The http worker: sends HTTP handlers' jobs to their endpoints.
 *
 * One process per database, one loop over libcurl's multi interface (event.c), thousands of requests under way.
 * Three things happen to a job, in this order: it is claimed in a short transaction (claim.c), sent without any, its
 * outcome is recorded in another (outcome.c).
 *
 * A job that another process ends (cancel, discard) while it is under way: note.c puts its id on the stop list
 * (endpoint.c) after commit, and the transfer is aborted; its outcome would be refused anyway.
 *
 * At SIGTERM: nothing more is taken, what is under way may end until queue.shutdown_timeout, every known outcome is
 * recorded, the rest is released uncounted.  After a crash the next worker ends the leases of its predecessor, so
 * that its jobs need not wait for their end.
 *
 * Locks: none beyond those of claim.c and outcome.c.
 */
#include "http/worker.h"

#include <malloc.h>
#include <sys/resource.h>

#include "config/owner.h"
#include "http/delivery.h"
#include "http/event.h"
#include "http/outcome.h"
#include "http/router.h"
#include "http/sender.h"
#include "http/transfer.h"
#include "shared/clock.h"
#include "shared/slot.h"
#include "shared/worker.h"

#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define SPARE_FILES 128			/* descriptors for resolver threads, TLS files and the like */
#define LARGE_BLOCK (128 * 1024)
#define LOCKED_RETRY_US INT64CONST(20000)
#define ERROR_PAUSE_US USECS_PER_SEC

static uint64 seen_serial = 0;	/* of the configuration */
static int	counted_for = 0;	/* the queue.http_max_in_flight that open files were counted for */

/* Exit hook: in a crash nobody comes here; else nothing of ours may stay in shared memory. */
static void
at_exit(int code, Datum arg)
{
	queue_endpoint_worker(MyDatabaseId, PG_UINT32_MAX);
	queue_delivery_give_back();
	queue_endpoint_clear(MyDatabaseId);
	queue_gate_clear(MyDatabaseId, QUEUE_GATE_HTTP);
}

/* ---- stopping transfers ---- */

/* Ends a transfer without an outcome: somebody else has ended its job. */
static void
abort_transfer(QueueRequest *request)
{
	if (request->state == QUEUE_TRANSFER_ENDED)
		return;					/* it ended meanwhile: recording finds the row gone */
	queue_transfer_stop(request);
	queue_sender.nsending--;
	queue_router_ended(request, 0, true);
	queue_sender_forget(request);
}

/* Looks at all jobs under way: which of them are still ours? */
static void
check_all(void)
{
	HASH_SEQ_STATUS scan;
	QueueInFlight *place;
	QueueRequest **gone = NULL;
	int			ngone = 0;

	gone = palloc((hash_get_num_entries(queue_sender.in_flight) + 1) * sizeof(QueueRequest *));
	PG_TRY();
	{
		queue_sender_begin();
		hash_seq_init(&scan, queue_sender.in_flight);
		while ((place = hash_seq_search(&scan)) != NULL)
		{
			QueueJob	job;

			if (!queue_job_refind(queue_sender.table, &place->request->tid, place->id, GetActiveSnapshot(), &job) ||
				job.attempt != place->request->attempt)
				gone[ngone++] = place->request;
		}
		queue_sender_commit(true);
	}
	PG_CATCH();
	{
		pfree(queue_sender_rollback("jobs under way could not be looked at"));
		ngone = 0;
	}
	PG_END_TRY();
	for (int i = 0; i < ngone; i++)
		abort_transfer(gone[i]);
}

/* Jobs that others have ended. */
static void
obey_stops(void)
{
	int64		ids[QUEUE_STOP_IDS];
	bool		all;
	int			n = queue_endpoint_take_stops(MyDatabaseId, ids, &all);

	for (int i = 0; i < n; i++)
	{
		QueueInFlight *place = hash_search(queue_sender.in_flight, &ids[i], HASH_FIND, NULL);

		if (place != NULL)
			abort_transfer(place->request);
	}
	if (all && hash_get_num_entries(queue_sender.in_flight) > 0)
		check_all();
}

/* ---- start and end ---- */

/* The configuration may have changed: what the router probes, and the guard's networks. */
static void
read_configuration(void)
{
	queue_sender_begin();
	if (queue_config()->serial != seen_serial)
	{
		seen_serial = queue_config()->serial;
		queue_router_sync(queue_config(), queue_now());
	}
	queue_sender_commit(true);
}

static void
read_settings(void)
{
	(void) queue_netguard_parse(queue_http_allowed_networks != NULL ? queue_http_allowed_networks : "",
								&queue_request_guard, NULL, 0);
}

/*
 * How many sockets may be open: what the system gives beyond what PostgreSQL's own files may take; the soft limit is
 * raised for it as far as may be.  If that is little, descriptors of PostgreSQL's share are reserved.
 */
static void
count_files(void)
{
	struct rlimit limit;
	long		wanted = (long) queue_http_max_in_flight * 5 / 4;
	long		need = (long) max_safe_fds + wanted + SPARE_FILES;
	long		spare;

	counted_for = queue_http_max_in_flight;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		limit.rlim_cur = limit.rlim_max = 1024;
	if (limit.rlim_cur != RLIM_INFINITY && (long) limit.rlim_cur < need)
	{
		struct rlimit raised = limit;

		raised.rlim_cur = limit.rlim_max == RLIM_INFINITY ? (rlim_t) need : Min((rlim_t) need, limit.rlim_max);
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	spare = limit.rlim_cur == RLIM_INFINITY ? need : (long) Min(limit.rlim_cur, (rlim_t) INT_MAX);
	spare -= (long) max_safe_fds + SPARE_FILES;
	for (int i = 0; spare < wanted && i < max_safe_fds / 4; i++)
	{
		if (!AcquireExternalFD())
			break;
		spare++;
	}
	queue_sender.capacity = (int) Max(8, Min(spare * 4 / 5, queue_http_max_in_flight));
	if (queue_sender.capacity < queue_http_max_in_flight)
		ereport(LOG, (errmsg("queue: at most %d HTTP requests run at once, because of the limit of open files",
							 queue_sender.capacity),
					  errhint("Raise the limit (ulimit -n) above %ld.", need)));
}

/* Must we end?  *abort: at once. */
static bool
must_stop(bool *abort)
{
	*abort = queue_worker_deadline_passed() || pg_atomic_read_u32(&queue_my_slot->abort) != 0 ||
		pg_atomic_read_u32(&queue_sender.base->closed) > 0;
	return *abort || ShutdownRequestPending || pg_atomic_read_u32(&queue_my_slot->retire) != 0;
}

/* Waits for the latch, libcurl, or the time. */
static int
sleep_until(WaitEventSet *set, TimestampTz deadline)
{
	queue_event_arm();
	return queue_worker_sleep(set, deadline, queue_wait_event("QueueHttpMain"));
}

/* Lets what is under way end until the deadline, records every known outcome, releases the rest, ends. */
static void
stop(WaitEventSet *set)
{
	bool		abort;
	TimestampTz deadline;
	HASH_SEQ_STATUS scan;
	QueueInFlight *place;

	pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_STOPPING);
	(void) must_stop(&abort);
	deadline = queue_now() + (abort ? 0 : queue_shutdown_timeout * INT64CONST(1000));
	queue_delivery_give_back();
	queue_router_stop();
	while (queue_sender.nsending > 0 && queue_now() < deadline && !abort)
	{
		(void) sleep_until(set, queue_earlier(queue_outcome_next(), deadline));
		(void) must_stop(&abort);
		obey_stops();
		queue_transfer_turn();
		queue_outcome_collect();
		queue_outcome_record(false);
		MemoryContextReset(queue_sender.loop_context);
	}
	/* a last look: an answer that is here is an outcome that is known */
	queue_transfer_turn();
	queue_outcome_collect();
	if (queue_sender.nsending > 0)
	{
		queue_log("http_release", "%d requests did not end before the shutdown deadline; their jobs are released",
				  queue_sender.nsending);
		hash_seq_init(&scan, queue_sender.in_flight);
		while ((place = hash_seq_search(&scan)) != NULL)
		{
			QueueRequest *request = place->request;

			if (request->state == QUEUE_TRANSFER_ENDED)
				continue;
			queue_transfer_stop(request);
			queue_sender.nsending--;
			queue_router_ended(request, 0, true);
			request->verdict = QUEUE_HTTP_RELEASE;
			queue_sender_ended(request, queue_now());
		}
	}
	for (int tries = 0; queue_sender.ndone > 0 && tries < 40; tries++)
	{
		queue_outcome_record(true);
		if (queue_sender.ndone > 0)
			pg_usleep(LOCKED_RETRY_US);
	}
	queue_database_wake(queue_sender.base, 0);
	proc_exit(0);
}

/* One turn of the loop: everything that can be done without waiting.  When there is more to do by the clock. */
static TimestampTz
turn(void)
{
	static bool running = false;
	TimestampTz next;
	bool		busy;
	bool		hurried = false;

	obey_stops();
	queue_transfer_turn();
	queue_outcome_collect();
	queue_outcome_record(false);
	queue_delivery_take_entries();
	if (queue_config_stale() || seen_serial == 0)
		read_configuration();
	for (;;)
	{
		if (queue_delivery_pass())
			hurried = false;
		else if (queue_sender.hurry && queue_sender.ndone > 0 && !hurried)
			hurried = true;
		else
			break;
		queue_transfer_turn();
		queue_outcome_collect();
		queue_outcome_record(false);
	}
	next = queue_earlier(queue_router_probe(queue_now()), queue_outcome_next());
	next = queue_earlier(next, queue_delivery_next());
	if (queue_sender.wake_scheduler)
	{
		queue_sender.wake_scheduler = false;
		queue_database_wake(queue_sender.base, 0);
	}
	busy = hash_get_num_entries(queue_sender.in_flight) > 0;
	if (running != busy)
	{
		running = busy;
		pg_atomic_write_u32(&queue_my_slot->state, running ? QUEUE_SLOT_RUNNING : QUEUE_SLOT_IDLE);
		pgstat_report_activity(running ? STATE_RUNNING : STATE_IDLE, running ? "queue: sending jobs" : NULL);
		if (!running)
			(void) pgstat_report_stat(true);
	}
	return next;
}

/* The settings were read, for the first time or again. */
static void
apply_settings(bool again)
{
	read_settings();
	if (counted_for == queue_http_max_in_flight)
		return;
	count_files();
	if (!again)
		queue_transfer_init(queue_sender.capacity);
	else
		queue_transfer_limit(queue_sender.capacity);
}

void
queue_http_main(Datum arg)
{
	HASHCTL		control = {.keysize = sizeof(int64), .entrysize = sizeof(QueueInFlight)};
	WaitEventSet *set;
	bool		abort;

	queue_worker_begin(DatumGetInt32(arg), 1000);
	BackgroundWorkerInitializeConnectionByOid(queue_my_slot->db, InvalidOid, 0);
	queue_pin_settings();
#ifdef M_MMAP_THRESHOLD
	(void) mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);	/* large bodies go back to the system when they are freed */
#endif
	queue_sender.base = queue_database();
	queue_sender.channel = queue_channel_of(MyDatabaseId, InvalidOid, true);
	if (queue_sender.base == NULL || queue_sender.channel == NULL)
		proc_exit(0);
	queue_sender.loop_context = AllocSetContextCreate(TopMemoryContext, "queue http loop", ALLOCSET_DEFAULT_SIZES);
	queue_sender.work_context = AllocSetContextCreate(TopMemoryContext, "queue http work", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(queue_sender.loop_context);
	queue_sender.in_flight = hash_create("queue http in flight", 256, &control, HASH_ELEM | HASH_BLOBS);
	snprintf(queue_sender.worker_name, sizeof(queue_sender.worker_name), QUEUE_SENDER_NAME "%d", MyProcPid);
	before_shmem_exit(at_exit, (Datum) 0);
	queue_delivery_give_back();			/* what stood in the channel was counted for somebody else */
	queue_endpoint_clear(MyDatabaseId);
	queue_gate_clear(MyDatabaseId, QUEUE_GATE_HTTP);
	queue_endpoint_worker(MyDatabaseId, queue_procno_of(MyProc));
	apply_settings(false);
	set = queue_wait_event_set(3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, queue_event_fd(), NULL, NULL);
	queue_worker_up();
	queue_delivery_recover();
	queue_log("http_start", "http worker of database %u started", MyDatabaseId);
	queue_database_wake(queue_sender.base, 0);

	while (!must_stop(&abort))
	{
		/* volatile: set in PG_TRY */
		volatile TimestampTz next = queue_now() + ERROR_PAUSE_US;

		MemoryContextSwitchTo(queue_sender.loop_context);
		MemoryContextReset(queue_sender.loop_context);
		PG_TRY();
		{
			next = turn();
		}
		PG_CATCH();
		{
			/* each part has a boundary of its own around what it expects to fail */
			pfree(queue_sender_rollback("the http worker was interrupted"));
		}
		PG_END_TRY();
		if ((sleep_until(set, next) & QUEUE_WOKE_RELOADED) != 0)
			apply_settings(true);
	}
	stop(set);
}
