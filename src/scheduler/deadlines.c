/*
 * deadlines.c
 *		The chore of deadlines: the scheduler reads queue.deadline in order and looks each
 *		job up whose time has come, whether or not anybody fetches from its line.
 *
 * It reads behind a cursor of its own, so that rows that were deleted while somebody holds a
 * snapshot are passed once.  A commit that inserted a deadline before the cursor says so
 * (queue_database_deadline) and the cursor goes back there; a start, and a look from the front
 * every now and then, find what came without a word (restore, replication).
 *
 * A job that somebody has just now (a row lock, a session's claim, an executor) may turn out
 * started or not: its deadline is deferred, in memory, and looked at again.  So is one whose
 * row cannot be handled because of an error, which each then has behind a boundary of its own; the others go on.
 *
 * Locks: RowExclusiveLock on live_job and deadline, conditional; row locks, never waited for.
 */
#include "scheduler/deadlines.h"

#include "job/claim.h"
#include "job/deadline.h"
#include "job/event.h"
#include "job/missing.h"
#include "job/pending.h"
#include "scheduler/apart.h"
#include "shared/clock.h"

#include "storage/lmgr.h"
#include "utils/memutils.h"

#define BATCH 256
#define MAX_DEFERRED 1024
#define PAUSE_US USECS_PER_SEC
#define MAX_PAUSE_US USECS_PER_MINUTE
#define FRONT_US (30 * USECS_PER_SEC)
#define LOCK_RETRY_US INT64CONST(100000)

typedef struct Deferred
{
	QueueDeadline deadline;
	TimestampTz again_at;
	int64		pause;			/* grows while its row causes errors */
} Deferred;

static QueuePos cursor;			/* zero is not the front, but the first call goes there */
static TimestampTz next_due = DT_NOBEGIN;	/* nothing at or after the cursor falls due before */
static TimestampTz front_at = DT_NOBEGIN;	/* when to look from the front again */
static Deferred deferred[MAX_DEFERRED];
static int	ndeferred = 0;
static QueueApart apart = {0};
static QueuePos cursor_before;	/* the last batch, to undo it after an error */
static int	deferred_before;

/* When the first deferred one wants to be looked at. */
static TimestampTz
deferred_due(TimestampTz now)
{
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < ndeferred; i++)
		due = Min(due, queue_put_off(deferred[i].again_at, deferred[i].pause, now) ? deferred[i].again_at : now);
	return due;
}

/* Is it among those that wait for their next look? */
static bool
is_deferred(const QueueDeadline *deadline)
{
	for (int i = 0; i < ndeferred; i++)
	{
		if (queue_pos_cmp(deferred[i].deadline.pos, deadline->pos) == 0)
			return true;
	}
	return false;
}

typedef enum Fired
{
	FIRED,						/* it has done its duty */
	BUSY,						/* to be looked at again soon */
	MISSING,					/* its job may still come, by a restore: looked at from the front */
	FAILED
} Fired;

/* Looks the job up. */
static Fired
handle(QueueJobTable *jobs, const QueueDeadline *deadline, TimestampTz now)
{
	QueueClaim	claim = {.table = jobs, .snapshot = GetActiveSnapshot()};
	QueueJob   *job = &claim.job;

	if (!queue_job_find_lean(jobs, deadline->pos.id, claim.snapshot, job))
		return queue_missing_soon_gone(deadline->pos.id) ? FIRED : MISSING;
	if (queue_job_pending(job) && (queue_extra_blocks(job->extra) & QUEUE_BLOCK_EVENT) != 0)
		return queue_event_look(jobs, job->id, now) ? FIRED : BUSY;
	if (job->attempt > 0 || queue_extra_expires_at(job->extra) > now)
		return FIRED;			/* started; or it is another deadline that tells of it */
	if (queue_claim_holder(job->id, job->leased_until, now) != QUEUE_HELD_BY_NOBODY)
		return BUSY;
	claim.line = queue_job_line(job->line);
	queue_extra_unpack(job->extra, &claim.extra);
	return queue_claim_judge(&claim) == QUEUE_CLAIM_ENDED ? FIRED : BUSY;
}

/* What fire_apart() gets. */
typedef struct One
{
	const QueueDeadline *deadline;
	TimestampTz now;
	Fired		fired;
} One;

/* Handles one and deletes its row, if it has done its duty. */
static Fired
fire_one(QueueJobTable *jobs, QueueDeadlineTable *deadlines, const QueueDeadline *deadline, TimestampTz now)
{
	Fired		fired = handle(jobs, deadline, now);

	if (fired == FIRED)
		queue_deadline_delete(deadlines, deadline, GetActiveSnapshot());
	return fired;
}

/* With tables of its own: the caller's may be at anything when an error ends this. */
static void
fire_apart(void *arg)
{
	One		   *one = arg;
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	QueueDeadlineTable *deadlines = queue_deadline_open(RowExclusiveLock);

	one->fired = fire_one(jobs, deadlines, one->deadline, one->now);
	queue_deadline_close(deadlines);
	queue_job_close(jobs);
}

static Fired
fire(QueueJobTable *jobs, QueueDeadlineTable *deadlines, const QueueDeadline *deadline, TimestampTz now)
{
	One			one = {deadline, now};

	CHECK_FOR_INTERRUPTS();
	if (!queue_apart_needed(&apart, now))
		one.fired = fire_one(jobs, deadlines, deadline, now);
	else if (!queue_apart_try(&apart, "deadlines", fire_apart, &one))
		return FAILED;
	return one.fired;
}

/* One batch, in the transaction and under the snapshot that the caller began.  Moves the cursor. */
static void
run_batch(TimestampTz now)
{
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	QueueDeadlineTable *deadlines = queue_deadline_open(RowExclusiveLock);
	MemoryContext per_job = AllocSetContextCreate(CurrentMemoryContext, "queue deadlines", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(per_job);
	QueueDeadline due[BATCH];
	int			n;
	int			i;

	for (i = 0; i < ndeferred;)
	{
		Deferred   *d = &deferred[i];

		if (!queue_put_off(d->again_at, d->pause, now))
		{
			Fired		fired = fire(jobs, deadlines, &d->deadline, now);

			if (fired == FIRED || fired == MISSING)
			{
				*d = deferred[--ndeferred];
				continue;
			}
			d->pause = fired == FAILED ? Min(d->pause * 2, MAX_PAUSE_US) : PAUSE_US;
			d->again_at = now + d->pause;
		}
		i++;
		MemoryContextReset(per_job);
	}
	n = queue_deadline_read(deadlines, cursor, now, GetActiveSnapshot(), due, BATCH, &next_due);
	for (i = 0; i < n; i++)
	{
		Fired		fired = is_deferred(&due[i]) ? FIRED : fire(jobs, deadlines, &due[i], now);

		if (fired == BUSY && ndeferred == MAX_DEFERRED)
		{
			next_due = now + PAUSE_US;
			break;
		}
		/* one that fails and finds no room is found from the front again */
		if ((fired == BUSY || fired == FAILED) && ndeferred < MAX_DEFERRED)
			deferred[ndeferred++] = (Deferred) {due[i], now + PAUSE_US, PAUSE_US};
		cursor = (QueuePos) {due[i].pos.run_at, due[i].pos.id + 1};
		MemoryContextReset(per_job);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(per_job);
	queue_deadline_close(deadlines);
	queue_job_close(jobs);
}

/* This database's entry if this process is its scheduler; maintain() runs the chore in other processes too. */
static QueueDatabase *
my_base(void)
{
	QueueDatabase *base = queue_database();

	return base != NULL && pg_atomic_read_u32(&base->scheduler_procno) == queue_procno_of(MyProc) ? base : NULL;
}

TimestampTz
queue_deadlines_due(void)
{
	QueueDatabase *base = my_base();
	TimestampTz low = base != NULL ? (TimestampTz) pg_atomic_read_u64(&base->deadline_low) : DT_NOEND;

	return Min(Min(next_due, deferred_due(queue_now())), Min(front_at, low));
}

TimestampTz
queue_deadlines_run(TimestampTz now)
{
	QueueDatabase *base = my_base();
	TimestampTz low = base != NULL ? queue_database_take_deadline(base) : DT_NOBEGIN;
	bool		from_front = now >= front_at;
	TimestampTz began = queue_now();

	if (queue_apart_begin(&apart, now))
	{
		/* the last batch failed: again; one that was taken out and comes back is found from the front */
		cursor = cursor_before;
		ndeferred = Min(ndeferred, deferred_before);
		next_due = now;
	}
	if (from_front)
		low = DT_NOBEGIN;
	if (low < cursor.run_at)
		cursor = (QueuePos) {low, PG_INT64_MIN};
	cursor_before = cursor;
	deferred_before = ndeferred;
	if (ConditionalLockRelationOid(queue_config()->live_job, RowExclusiveLock) &&
		ConditionalLockRelationOid(queue_config()->deadline, RowExclusiveLock))
	{
		PushActiveSnapshot(GetLatestSnapshot());
		run_batch(now);
		PopActiveSnapshot();
	}
	else
		next_due = now + LOCK_RETRY_US;
	if (from_front)
		front_at = now + Max(FRONT_US, 100 * (queue_now() - began));
	queue_apart_end(&apart);
	return Min(next_due, deferred_due(now));
}
