/*
 * follow.c
 *		Following on in a FIFO group.
 *
 * The next job of a group is let in by the scheduler after the commit of the one before it: two commits a step.  The
 * executor that ended that one may instead take the next one in the very same transaction.  Nobody else can: for all
 * others the job before it is there until this transaction commits, and then both are gone.  It does so only if nobody
 * could tell the difference:
 *	- the job was committed before the transaction began, as in any group commit: what its enqueuer wrote is in the past
 *	  of the frozen now().  Therefore a snapshot is looked at before the begin;
 *	- it is due, of a short kind that this executor's role runs, was never tried, and its group is all that blocks it;
 *	- no lower place came to light (queue_group_next);
 *	- nothing in the channel would have come before it, had it not been blocked.
 * A job that does not end well just stays pending: the mark of the end before it brings it back.
 *
 * When the transaction has to end and the group goes on, the next transaction goes on with it likewise.  In between
 * others may look at the group, so this takes the group's lock before it looks, as who promotes does; and the mark of
 * the end is kept (shared/mark.c), so that nobody looks without need.
 *
 * Locks: the lock of a group, to the end of a transaction that goes on in it.
 */
#include "executor/follow.h"

#include "executor/entries.h"
#include "job/group.h"
#include "job/pending.h"
#include "shared/clock.h"
#include "shared/pace.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/memutils.h"

/* Which transactions had ended before this one began. */
static struct
{
	bool		valid;
	TransactionId xmin;			/* all before it had */
	TransactionId xmax;			/* none from it on */
	int			n;
	int			size;
	TransactionId *running;		/* those in between that had not */
}			past;

static bool wanted = false;		/* jobs of groups came by lately */

static QueueJob followed;		/* the job that was found last */
static bool ended_valid = false;	/* the job that ended last in this transaction has a group, .. */
static QueueMark ended;			/* .. and this place in it */

void
queue_follow_begin(void)
{
	Snapshot	snapshot;
	int			n;

	past.valid = ended_valid = false;
	if (!wanted)
		return;
	wanted = false;
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	snapshot = GetTransactionSnapshot();
	n = snapshot->xcnt + snapshot->subxcnt;
	if (!snapshot->suboverflowed)
	{
		if (n > past.size)
		{
			past.running = past.running == NULL ?
				MemoryContextAlloc(TopMemoryContext, 2 * n * sizeof(TransactionId)) :
				repalloc(past.running, 2 * n * sizeof(TransactionId));
			past.size = 2 * n;
		}
		past.xmin = snapshot->xmin;
		past.xmax = snapshot->xmax;
		past.n = n;
		if (n > 0)
		{
			memcpy(past.running, snapshot->xip, snapshot->xcnt * sizeof(TransactionId));
			memcpy(past.running + snapshot->xcnt, snapshot->subxip, snapshot->subxcnt * sizeof(TransactionId));
		}
		past.valid = true;
	}
	CommitTransactionCommand();
}

/* Had this transaction, which has committed, ended before ours began? */
static bool
had_ended(TransactionId xid)
{
	if (!TransactionIdIsNormal(xid) || TransactionIdPrecedes(xid, past.xmin))
		return true;
	if (TransactionIdFollowsOrEquals(xid, past.xmax))
		return false;
	for (int i = 0; i < past.n; i++)
	{
		if (TransactionIdEquals(past.running[i], xid))
			return false;
	}
	return true;
}

/* Was this version of the row committed before our transaction began? */
static bool
is_past(QueueJobTable *table, const QueueJob *job)
{
	bool		is = false;
	bool		isnull;

	if (table_tuple_fetch_row_version(table->rel, unconstify(ItemPointerData *, &job->tid), GetActiveSnapshot(),
									  table->slot))
		is = had_ended(DatumGetTransactionId(slot_getsysattr(table->slot, MinTransactionIdAttributeNumber, &isnull)));
	ExecClearTuple(table->slot);
	return is;
}

void
queue_follow_ended(const QueueClaim *claim)
{
	const QueueExtra *extra = &claim->extra;

	ended_valid = extra->group_key != NULL;
	if (!ended_valid)
		return;
	wanted = true;
	ended.position = extra->position != 0 ? extra->position : claim->job.id;
	strlcpy(ended.queue, claim->line->queue->name, sizeof(ended.queue));
	strlcpy(ended.key, extra->group_key, sizeof(ended.key));
}

/* Is the line's kind known to be short? */
static bool
is_short(QueueLine *line, TimestampTz now)
{
	(void) queue_line_stat(line);
	return queue_kind_is_short(&line->stat, now);
}

/* Where the job would come, had it not been blocked; where keys take turns, behind all that waits. */
static QueueOrder
order_of(const QueueLine *line, TimestampTz asked, int64 id, TimestampTz now)
{
	if (line->queue->fair > 0)
		return (QueueOrder) {PG_INT32_MAX, {DT_NOEND, PG_INT64_MAX}, 0, 0};
	return (QueueOrder) {queue_urgency(line->queue, line->priority, asked, now), {asked, id}, 0, 0};
}

/* May this executor run the job here and now?  What is asked of any entry and what its claim finds out come later. */
static bool
may_follow(const QueueJob *job, QueueLine *line, TimestampTz now)
{
	TimestampTz asked;
	QueueOrder	order;

	if (job->extra == NULL || job->attempt > 0 || !queue_job_pending(job) || line == NULL || !line->served ||
		!is_short(line, now))
		return false;
	asked = queue_extra_time(job->extra, "run_at");
	order = order_of(line, asked, job->id, now);
	return asked <= now && !queue_entries_urgent(&order);
}

/* Puts the job that was found under the active snapshot into queue_held, if this executor may run it. */
static bool
take(QueueJobTable *table, TimestampTz group_start)
{
	const QueueJob *job = &followed;

	if (!may_follow(job, queue_config_line(job->line), queue_now()) || !is_past(table, job))
		return false;
	queue_held[queue_nheld++] = (QueueEntry) {
		.id = job->id, .line = job->line, .run_at = job->run_at, .stamp = group_start, .tid = job->tid,
		.flags = QUEUE_ENTRY_FOLLOWS
	};
	return true;
}

bool
queue_follow_next(QueueJobTable *table, TimestampTz group_start)
{
	bool		found;

	if (!ended_valid)
		return false;
	ended_valid = false;
	if (!past.valid || queue_nheld == QUEUE_SUSPECT_IDS || !queue_group_has_next(table))
		return false;
	PushActiveSnapshot(GetLatestSnapshot());
	found = queue_group_next(table, ended.queue, ended.key, &followed) && take(table, group_start);
	PopActiveSnapshot();
	return found;
}

const QueueJob *
queue_follow_found(void)
{
	return &followed;
}

bool
queue_follow_keep(QueueJobTable *table)
{
	bool		keep = ended_valid && queue_group_has_next(table);

	if (keep)
		queue_mark_keep(ended.queue, ended.key);
	return keep;
}

bool
queue_follow_resume(QueueJobTable *table, TimestampTz group_start)
{
	bool		found = false;

	if (!queue_mark_kept())
		return false;
	queue_entries_ended();
	if (past.valid && queue_group_lock(&ended))
	{
		PushActiveSnapshot(GetLatestSnapshot());
		found = queue_group_resume(table, &ended, &followed) && take(table, group_start);
		PopActiveSnapshot();
		if (!found)
			queue_group_unlock(&ended);
	}
	if (!found)
		queue_mark_unkeep();
	return found;
}
