/*
 * slot.c
 *		The shared slots of the background workers.
 *
 * Owns an array of QUEUE_MAX_SLOTS.  A parent reserves a slot before it registers the
 * child, so that it can tell a child that has not come up yet from one that is gone;
 * the child adopts it and frees it on exit.  registered_at is the token: the parent
 * passes it in bgw_extra (queue_slot_pass) and a child whose slot was freed meanwhile
 * ends instead of taking another's.  When all slots are taken, no more workers are
 * started (doctor() tells).
 *
 * Locks: shared->lock (LWLock) for taking, adopting and freeing a slot.  Reading needs
 * none: atomics, and words written before type is set.
 */
#include "shared/slot.h"

#include "shared/clock.h"

#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define GROUP_TAKES 4			/* entries left to an executor that shares a commit, rather than waking another */

/* How long executors keep off a cancelled job; its caller needs one wake-up, on a busy machine. */
#define CANCEL_PAUSE (500 * INT64CONST(1000))

typedef struct QueueSlotShared
{
	LWLock		lock;
	int			tranche;
	pg_atomic_uint32 used;		/* slots ever taken: where a search may stop */
	TimestampTz last_token;
	QueueSlot	slots[QUEUE_MAX_SLOTS];
} QueueSlotShared;

static QueueSlotShared *shared = NULL;

QueueSlot  *queue_my_slot = NULL;

/* How much shared memory the slots need.  Called by the request hook. */
Size
queue_slot_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueSlotShared));
}

/* Makes or finds the slots.  Called by the startup hook. */
void
queue_slot_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue worker slots", queue_slot_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(QueueSlotShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u32(&shared->used, 0);
		for (int i = 0; i < QUEUE_MAX_SLOTS; i++)
		{
			QueueSlot  *slot = &shared->slots[i];

			pg_atomic_init_u32(&slot->type, QUEUE_SLOT_FREE);
			pg_atomic_init_u32(&slot->state, QUEUE_SLOT_STARTING);
			pg_atomic_init_u32(&slot->procno, PG_UINT32_MAX);
			pg_atomic_init_u64(&slot->job_id, 0);
			pg_atomic_init_u64(&slot->line, 0);
			pg_atomic_init_u64(&slot->job_started_at, 0);
			pg_atomic_init_u64(&slot->jobs, 0);
			pg_atomic_init_u32(&slot->restarts, 0);
			pg_atomic_init_u64(&slot->cancel_id, 0);
			pg_atomic_init_u64(&slot->cancelled_id, 0);
			pg_atomic_init_u64(&slot->cancelled_until, 0);
			pg_atomic_init_u64(&slot->sharing_since, 0);
			pg_atomic_init_u32(&slot->progress_seq, 0);
			pg_atomic_init_u32(&slot->retire, 0);
			pg_atomic_init_u32(&slot->abort, 0);
		}
	}
	LWLockRegisterTranche(shared->tranche, "QueueSlot");
}

/* Takes a free slot for a child of this type; -1 when there is none.  Called by launcher and scheduler. */
int
queue_slot_reserve(QueueSlotType type, Oid db, Oid role)
{
	int			number = -1;

	if (shared == NULL)
		return -1;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_SLOTS; i++)
	{
		QueueSlot  *slot = &shared->slots[i];

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_FREE)
			continue;
		slot->pid = 0;
		slot->db = db;
		slot->role = role;
		slot->registered_at = Max(queue_now(), shared->last_token + 1);
		shared->last_token = slot->registered_at;
		slot->started_at = 0;
		pg_atomic_write_u32(&slot->state, QUEUE_SLOT_STARTING);
		pg_atomic_write_u32(&slot->procno, PG_UINT32_MAX);
		pg_atomic_write_u64(&slot->job_id, 0);
		pg_atomic_write_u64(&slot->line, 0);
		pg_atomic_write_u64(&slot->job_started_at, 0);
		pg_atomic_write_u64(&slot->jobs, 0);
		pg_atomic_write_u32(&slot->restarts, 0);
		pg_atomic_write_u64(&slot->cancel_id, 0);
		pg_atomic_write_u64(&slot->cancelled_id, 0);
		pg_atomic_write_u64(&slot->cancelled_until, 0);
		pg_atomic_write_u64(&slot->sharing_since, 0);
		slot->progress_length = 0;	/* it runs no job yet, so nobody reads this */
		pg_atomic_write_u32(&slot->progress_seq, 0);	/* odd if its last owner died while it wrote */
		pg_atomic_write_u32(&slot->retire, 0);
		pg_atomic_write_u32(&slot->abort, 0);
		pg_write_barrier();
		pg_atomic_write_u32(&slot->type, type);
		if ((uint32) i >= pg_atomic_read_u32(&shared->used))
			pg_atomic_write_u32(&shared->used, i + 1);
		number = i;
		break;
	}
	LWLockRelease(&shared->lock);
	return number;
}

/* Writes the slot's number and token into what the child is started with.  Called by the parent. */
void
queue_slot_pass(int number, struct BackgroundWorker *worker)
{
	worker->bgw_main_arg = Int32GetDatum(number);
	memcpy(worker->bgw_extra, &shared->slots[number].registered_at, sizeof(TimestampTz));
}

/*
 * on_shmem_exit: my slot is free, unless I never came up: then it stays for the parent, who reads from it how far I
 * got, and for who takes the places of a dead parent's children back.  Locks are gone by now, so whoever is woken finds
 * the row that this worker held.
 */
static void
slot_exit(int code, Datum arg)
{
	QueueSlot  *slot = queue_my_slot;
	QueueDatabase *base;

	if (slot == NULL)
		return;
	queue_my_slot = NULL;
	pg_atomic_write_u64(&slot->job_id, 0);
	pg_atomic_write_u32(&slot->procno, PG_UINT32_MAX);
	pg_write_barrier();
	if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_STARTING)
		slot->pid = 0;
	else
		pg_atomic_write_u32(&slot->type, QUEUE_SLOT_FREE);
	base = queue_database_of(slot->db, false);
	if (base != NULL && pg_atomic_read_u32(&base->scheduler_procno) != PG_UINT32_MAX)
		queue_database_wake(base, 0);
}

/* The child takes the slot that its parent reserved; ends the process if that was given up.  Called once. */
void
queue_slot_adopt(int number)
{
	QueueSlot  *slot;
	TimestampTz token;
	bool		mine;

	if (shared == NULL || number < 0 || number >= QUEUE_MAX_SLOTS)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue worker has no slot in shared memory"),
				 errhint("Workers are started by the queue launcher only.")));
	slot = &shared->slots[number];
	memcpy(&token, MyBgworkerEntry->bgw_extra, sizeof(TimestampTz));
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	mine = pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_FREE && slot->registered_at == token &&
		slot->started_at == 0;
	if (mine)
	{
		slot->started_at = queue_now();
		slot->pid = MyProcPid;
		pg_atomic_write_u32(&slot->procno, queue_procno_of(MyProc));
	}
	LWLockRelease(&shared->lock);
	if (!mine)
		proc_exit(0);
	queue_my_slot = slot;
	on_shmem_exit(slot_exit, (Datum) 0);
}

/* Gives a reserved slot back.  Called by the parent when its child never came up. */
void
queue_slot_free(int number)
{
	QueueSlot  *slot = &shared->slots[number];

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (slot->pid == 0)
		pg_atomic_write_u32(&slot->type, QUEUE_SLOT_FREE);
	LWLockRelease(&shared->lock);
}

/*
 * Frees the slots of children that are not up and have no process: a parent that died left them, or the database is
 * closed.  One that the server starts after this finds its token gone and ends before it connects.  type: of the
 * children; QUEUE_SLOT_FREE: any.  db: InvalidOid: of every database.
 */
void
queue_slot_take_back(QueueSlotType type, Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = &shared->slots[i];
		uint32		its = pg_atomic_read_u32(&slot->type);

		if (its != QUEUE_SLOT_FREE && (type == QUEUE_SLOT_FREE || its == type) && slot->pid == 0 &&
			(!OidIsValid(db) || slot->db == db))
			pg_atomic_write_u32(&slot->type, QUEUE_SLOT_FREE);
	}
	LWLockRelease(&shared->lock);
}

/* How far queue_slot_nth may go. */
int
queue_slot_count(void)
{
	return shared ? (int) pg_atomic_read_u32(&shared->used) : 0;
}

/* The i'th slot, free ones too.  Called by stat_worker, doctor() and the scheduler. */
QueueSlot *
queue_slot_nth(int i)
{
	return &shared->slots[i];
}

/* The executor of the database that runs this job now, or NULL.  No lock. */
static QueueSlot *
slot_running(Oid db, int64 job_id)
{
	int			used = queue_slot_count();

	for (int i = 0; i < used; i++)
	{
		QueueSlot  *slot = &shared->slots[i];

		if (pg_atomic_read_u64(&slot->job_id) == (uint64) job_id && slot->db == db &&
			pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_EXECUTOR)
			return slot;
	}
	return NULL;
}

/* Does an executor run this job now?  Called by the views and by whoever changes a job. */
bool
queue_slot_runs(Oid db, int64 job_id)
{
	return slot_running(db, job_id) != NULL;
}

/* Called by who met a transaction of that process.  No lock: a process that has a transaction has its slot. */
bool
queue_slot_is_ours(pid_t pid)
{
	int			used = queue_slot_count();

	for (int i = 0; i < used && pid != 0; i++)
	{
		if (shared->slots[i].pid == pid && pg_atomic_read_u32(&shared->slots[i].type) != QUEUE_SLOT_FREE)
			return true;
	}
	return false;
}

/*
 * The job may end while its slot is read: then the slot names another job, or none, and what was read is of no use.
 */
bool
queue_slot_job(Oid db, int64 job_id, QueueSlotJob *job)
{
	QueueSlot  *slot = slot_running(db, job_id);

	if (slot == NULL)
		return false;
	pg_read_barrier();
	job->pid = slot->pid;
	job->started_at = (TimestampTz) pg_atomic_read_u64(&slot->job_started_at);
	pg_read_barrier();
	return pg_atomic_read_u64(&slot->job_id) == (uint64) job_id;
}

void
queue_executor_name(char *name, pid_t pid)
{
	snprintf(name, QUEUE_WORKER_NAME, "executor %d", (int) pid);
}

void
queue_slot_show_progress(int64 job_id, const void *value, uint32 length)
{
	QueueSlot  *slot = queue_my_slot;
	uint32		seq;

	if (slot == NULL || (length == 0 && slot->progress_length == 0))
		return;
	Assert(length <= QUEUE_PROGRESS_MAX);
	seq = pg_atomic_read_u32(&slot->progress_seq);
	pg_atomic_write_u32(&slot->progress_seq, seq + 1);
	pg_write_barrier();
	slot->progress_id = job_id;
	slot->progress_length = length;
	if (length > 0)
		memcpy(slot->progress, value, length);
	pg_write_barrier();
	pg_atomic_write_u32(&slot->progress_seq, seq + 2);
}

/*
 * A seqlock: a copy counts only if the number was even and the same before and after it, and the slot's job this one
 * before and after.  Tries a few times: a writer is done in a microsecond, unless it lost its CPU.
 */
uint32
queue_slot_progress(Oid db, int64 job_id, void *value)
{
	QueueSlot  *slot = slot_running(db, job_id);

	for (int tries = 0; slot != NULL && tries < 100; tries++)
	{
		uint32		seq = pg_atomic_read_u32(&slot->progress_seq);
		uint32		length;
		int64		id;

		pg_read_barrier();
		length = Min(slot->progress_length, QUEUE_PROGRESS_MAX);
		id = slot->progress_id;
		memcpy(value, slot->progress, length);
		pg_read_barrier();
		if (pg_atomic_read_u64(&slot->job_id) != (uint64) job_id)
			break;
		if ((seq & 1) == 0 && pg_atomic_read_u32(&slot->progress_seq) == seq)
			return id == job_id ? length : 0;
	}
	return 0;
}

/*
 * Asks the executor that runs the job to let go: the request first, then SIGUSR2, after which it compares cancel_id
 * with what it runs: so the request can never hit the next job.  A job that ended meanwhile leaves no request behind.
 */
bool
queue_slot_cancel(Oid db, int64 job_id)
{
	QueueSlot  *slot = slot_running(db, job_id);
	uint64		id = (uint64) job_id;
	pid_t		pid;

	if (slot == NULL)
		return false;
	pg_atomic_write_u64(&slot->cancelled_until, (uint64) (queue_now() + CANCEL_PAUSE));
	pg_atomic_write_u64(&slot->cancelled_id, id);
	pg_atomic_write_u64(&slot->cancel_id, id);
	pg_memory_barrier();
	pid = slot->pid;
	if (pg_atomic_read_u64(&slot->job_id) == id && pid != 0 && kill(pid, SIGUSR2) == 0)
		return true;
	(void) pg_atomic_compare_exchange_u64(&slot->cancel_id, &id, 0);
	id = (uint64) job_id;
	(void) pg_atomic_compare_exchange_u64(&slot->cancelled_id, &id, 0);
	return false;
}

/* Whoever cancelled has the row, or gave up. */
void
queue_slot_cancel_done(Oid db, int64 job_id)
{
	int			used = queue_slot_count();

	for (int i = 0; i < used; i++)
	{
		QueueSlot  *slot = &shared->slots[i];

		if (slot->db == db && pg_atomic_read_u64(&slot->cancelled_id) == (uint64) job_id)
			pg_atomic_write_u64(&slot->cancelled_id, 0);
	}
}

/*
 * An executor that lets a cancelled job go frees its row, and another could claim it before the caller, who waits for
 * the row, is scheduled: so executors ask this before they claim.  Atomics only.
 */
bool
queue_slot_cancelled(Oid db, int64 job_id)
{
	int			used = queue_slot_count();

	for (int i = 0; i < used; i++)
	{
		QueueSlot  *slot = &shared->slots[i];

		if (slot->db == db && pg_atomic_read_u64(&slot->cancelled_id) == (uint64) job_id &&
			pg_atomic_read_u64(&slot->cancelled_until) > (uint64) queue_now())
			return true;
	}
	return false;
}

/* Sets the latches of up to n idle workers.  Called by the scheduler after it put entries into their channel. */
int
queue_slot_wake_idle(Oid db, Oid role, int n, TimestampTz now)
{
	int			used = queue_slot_count();
	int			woken = 0;
	int			left = 0;

	pg_memory_barrier();		/* the entries are in the channel before we look who runs */
	for (int i = 0; i < used; i++)
	{
		QueueSlot  *slot = &shared->slots[i];

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_EXECUTOR && slot->db == db && slot->role == role &&
			(TimestampTz) pg_atomic_read_u64(&slot->sharing_since) > now - QUEUE_SHARING_PATIENCE_US)
			left = Min(n, left + GROUP_TAKES);
	}
	for (int i = 0; i < used && woken < n - left; i++)
	{
		QueueSlot  *slot = &shared->slots[i];

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_EXECUTOR && slot->db == db && slot->role == role &&
			pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_IDLE)
		{
			queue_set_latch(pg_atomic_read_u32(&slot->procno));
			woken++;
		}
	}
	return left;
}
