/*
 * leases.c
 *		The chores of leases: what is done when a claim expires, and the far look.
 *
 * Ends of leases are hints in memory (shared/lease.h): single jobs, looked up by primary key, and
 * ranges of a line, walked from their lowest position to their highest; what found no place
 * there is a range that the line's cursor keeps.  So no expiry costs a walk from a line's front.
 *
 * The far look walks all lines, served or not, for what no hint tells of: leases from before a
 * start or that were lost, and rows before a cursor that became claimable without a note (manual
 * UPDATE, restore, replication).  It goes in slices: a fifth of the time until it has been through
 * once after a start, or when it is known that an end was lost; then 1 %.
 *
 * Locks: AccessShareLock on live_job; RowExclusiveLock, conditional, where a job ends.
 */
#include "scheduler/leases.h"

#include "config/lines.h"
#include "job/claim.h"
#include "job/walk.h"
#include "job/workflow.h"
#include "scheduler/apart.h"
#include "shared/clock.h"
#include "shared/lease.h"
#include "shared/mark.h"
#include "shared/reminder.h"
#include "shared/session.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lmgr.h"

#define BATCH 256
#define PAUSE_US INT64CONST(50000)	/* expiries are looked at in batches, at most this late */
#define SLICE_US INT64CONST(10000)
#define FAR_FAST_US (4 * SLICE_US)	/* between slices: a fifth of the time */
#define FAR_SLOW_US (99 * SLICE_US) /* 1 % */
#define FAR_US (30 * USECS_PER_SEC) /* between two times through */
#define FAILED_US (10 * USECS_PER_SEC)	/* a job that could not be ended is tried again */

static TimestampTz next_batch = 0;	/* not before */
static QueuePlace far_place;	/* where the far look goes on */
static TimestampTz far_next = 0;	/* not before */
static bool far_under_way = false;
static bool far_fast = true;	/* something is likely to be found */
static QueueApart apart = {0};
static bool far_in_row = false; /* a slice that ended by an error had this row in hand */
static QueuePlace far_row;

/* What a walk needs to judge the rows that it visits. */
typedef struct Visit
{
	TimestampTz now;
	bool		far;			/* also rows that are not leased */
	bool		found;
} Visit;

/* The job is claimable again: tells who may want it. */
static void
tell_claimable(const QueueJob *job)
{
	QueueLine  *line = queue_config_line(job->line);

	if (line != NULL)
		queue_line_claimable(line, queue_job_pos(job));
}

/* What end_exhausted() gets. */
typedef struct Exhausted
{
	const QueueJob *job;
	bool		ended;
} Exhausted;

/*
 * Was this the job's last attempt?  Then its expired claim ends it here, whether or not anybody fetches from its line
 * again.  A fetch would do the same.  Of nobody's job.
 */
static void
end_exhausted(void *arg)
{
	Exhausted  *one = arg;
	const QueueJob *job = one->job;
	QueueClaim	claim = {.job = *job, .snapshot = GetActiveSnapshot(), .line = queue_job_line(job->line)};

	queue_extra_unpack(job->extra, &claim.extra);
	claim.table = queue_job_open(RowExclusiveLock);
	one->ended = queue_claim_judge(&claim) != QUEUE_CLAIM_OURS;
	queue_job_close(claim.table);
}

/* False: that failed. */
static bool
end_or_fail(Exhausted *one, TimestampTz now)
{
	if (queue_apart_needed(&apart, now))
		return queue_apart_try(&apart, "lease ends", end_exhausted, one);
	end_exhausted(one);
	return true;
}

/* Looks one expired lease up: claimable again, or moved meanwhile, or gone. */
static void
expire(QueueJobTable *table, int64 id, TimestampTz now)
{
	QueueJob	job;
	TimestampTz again = 0;
	Exhausted	one = {&job};

	if (!queue_job_find_lean(table, id, GetActiveSnapshot(), &job))
		return;
	/* not leased: a session's claim, or the loan of an await that took no job (fetch.c) */
	switch (queue_claim_holder(job.id, job.leased_until, now))
	{
		case QUEUE_HELD_BY_LEASE:
			again = job.leased_until;
			break;
		case QUEUE_HELD_BY_SESSION:
			again = now + QUEUE_SESSION_PROBE_US;
			break;
		case QUEUE_HELD_BY_EXECUTOR:
			break;				/* its end tells */
		case QUEUE_HELD_BY_NOBODY:
			/* who wants the table for himself is not waited for */
			if (job.leased_until != DT_NOBEGIN &&
				ConditionalLockRelationOid(queue_config()->live_job, RowExclusiveLock) &&
				!end_or_fail(&one, now))
				again = now + FAILED_US;
			else if (!one.ended)
			{
				QueueExtra	extra;

				queue_extra_unpack(job.extra, &extra);
				queue_workflow_waits(&extra);
				if (job.run_at <= now)
					tell_claimable(&job);
			}
			break;
	}
	if (again > now)
		queue_lease_note(MyDatabaseId, job.id, job.line, queue_job_pos(&job), again);
}

/* A lease that the far look meets: it may have come without its unit, by a restore or from a prepared transaction. */
static void
count_lease(QueueJobTable *table, const QueueJob *job)
{
	QueueLine  *line = queue_config_line(job->line);

	if (line != NULL)
		queue_limit_seen(table, line, job);
}

/* A row that a walk passes. */
static void
visit_row(QueueJobTable *table, const QueueJob *job, void *arg)
{
	Visit	   *visit = arg;

	if (visit->far)
	{
		far_row = (QueuePlace) {job->line, queue_job_pos(job)};
		far_in_row = true;
	}
	if (job->leased_until > visit->now)
	{
		if (visit->far)
			count_lease(table, job);
		queue_lease_note(MyDatabaseId, job->id, job->line, queue_job_pos(job), job->leased_until);
	}
	else if (job->leased_until != DT_NOBEGIN)
	{
		expire(table, job->id, visit->now);
		visit->found = true;
	}
	else if (visit->far)
	{
		if (!queue_cursor_reaches(MyDatabaseId, job->line, queue_job_pos(job)) &&
			queue_claim_holder(job->id, job->leased_until, visit->now) == QUEUE_HELD_BY_NOBODY)
		{
			tell_claimable(job);
			visit->found = true;
		}
	}
	if (visit->far)
		far_in_row = false;
}

/* Walks a range of which some leases have ended.  False: its slice is over, and it is kept for the next call. */
static bool
walk_range(QueueJobTable *table, int64 line, QueuePos low, QueuePos high, TimestampTz now)
{
	Visit		visit = {.now = now};
	QueuePlace	from = {line, low};

	if (queue_walk(table, &from, (QueuePlace) {line, high}, now, SLICE_US, visit_row, &visit))
		return true;
	queue_lease_claimed(MyDatabaseId, &(QueueLease) {
		.line = line, .pos = from.pos, .high = high, .count = 1, .until = now
	}, 0);
	return false;
}

/* What the table of leases had no room for: the cursors know when and where. */
static void
run_lost(QueueDatabase *base, QueueJobTable *table, TimestampTz now)
{
	int64		line;
	QueuePos	low;
	QueuePos	high;
	TimestampTz next = DT_NOEND;
	TimestampTz unplaced = (TimestampTz) pg_atomic_read_u64(&base->unplaced_expiry);

	while (queue_cursor_take_expired(MyDatabaseId, now, &line, &low, &high, &next))
	{
		if (!walk_range(table, line, low, high, now))
		{
			next = now;
			break;
		}
	}
	if (unplaced <= now)
	{
		pg_atomic_write_u64(&base->unplaced_expiry, (uint64) PG_INT64_MAX);
		far_fast = true;
		far_under_way = false;
		far_next = now;
		unplaced = DT_NOEND;
	}
	if (Min(next, unplaced) != DT_NOEND)
		queue_database_lower(&base->next_expiry, Min(next, unplaced));
}

/* When the next lease ends, as far as memory tells: any process may note an earlier one. */
TimestampTz
queue_leases_due(void)
{
	QueueDatabase *base = queue_database();

	return base == NULL ? DT_NOEND : Max((TimestampTz) pg_atomic_read_u64(&base->next_expiry), next_batch);
}

TimestampTz
queue_leases_run(TimestampTz now)
{
	QueueDatabase *base = queue_database();
	QueueLease	leases[BATCH];
	QueueJobTable *table;
	int			n;

	(void) queue_apart_begin(&apart, now);
	next_batch = now + PAUSE_US;
	table = queue_job_open(AccessShareLock);
	n = queue_lease_expired(MyDatabaseId, now, leases, BATCH);
	PG_TRY();
	{
		PushActiveSnapshot(GetLatestSnapshot());
		for (int i = 0; i < n; i++)
		{
			if (leases[i].id != 0)
				expire(table, leases[i].id, now);
			else
				(void) walk_range(table, leases[i].line, leases[i].pos, leases[i].high, now);
		}
		PopActiveSnapshot();
		run_lost(base, table, now);
	}
	PG_CATCH();
	{
		/* what this batch knew is lost: the far look finds it */
		far_fast = true;
		far_next = now;
		PG_RE_THROW();
	}
	PG_END_TRY();
	queue_job_close(table);
	if (n == BATCH)
		next_batch = now;
	if (n > 0)
		queue_wake_self();		/* for the next round */
	queue_apart_end(&apart);
	return DT_NOEND;			/* queue_leases_due tells */
}

/* When the far look goes on. */
TimestampTz
queue_leases_far_due(void)
{
	return far_next;
}

TimestampTz
queue_leases_far_look(TimestampTz now)
{
	Visit		visit = {.now = now, .far = true};
	QueueJobTable *table;
	bool		through;

	(void) queue_apart_begin(&apart, now);
	if (!far_under_way)
	{
		far_place = QUEUE_PLACE_FIRST;
		/* nor does a hint tell of a transaction that was prepared before a crash and ended without a statement */
		queue_mark_rows(MyDatabaseId);
		queue_reminder_rows(MyDatabaseId);
	}
	else if (far_in_row)
		far_place = (QueuePlace) {far_row.line, {far_row.pos.run_at, far_row.pos.id + 1}};	/* the rows behind it */
	far_in_row = false;
	far_under_way = true;
	table = queue_job_open(AccessShareLock);
	through = queue_walk(table, &far_place, QUEUE_PLACE_LAST, now, SLICE_US, visit_row, &visit);
	queue_job_close(table);
	if (visit.found)
		queue_wake_self();		/* for the next round */
	if (through)
	{
		far_under_way = far_fast = false;
		far_next = queue_debug_far_look ? now + FAR_US : DT_NOEND;
	}
	else
		far_next = now + (far_fast ? FAR_FAST_US : FAR_SLOW_US);
	queue_apart_end(&apart);
	return DT_NOEND;			/* queue_leases_far_due tells */
}

TimestampTz
queue_leases_walk(TimestampTz now)
{
	(void) queue_leases_far_look(now);
	return far_under_way ? now : DT_NOEND;
}
