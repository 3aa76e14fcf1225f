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
 * Locks: none but those of reading.
 */
#include "executor/follow.h"

#include "executor/entries.h"
#include "job/group.h"
#include "job/pending.h"
#include "shared/clock.h"
#include "shared/slot.h"

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

/* The job that ended last, if it has a group. */
static struct
{
	bool		valid;
	char		queue[QUEUE_NAME_MAX + 1];
	char		key[QUEUE_KEY_MAX + 1];
}			ended;

void
queue_follow_begin(void)
{
	Snapshot	snapshot;
	int			n;

	past.valid = ended.valid = false;
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
			past.size = 2 * n;
			past.running = past.running == NULL ?
				MemoryContextAlloc(TopMemoryContext, past.size * sizeof(TransactionId)) :
				repalloc(past.running, past.size * sizeof(TransactionId));
		}
		past.xmin = snapshot->xmin;
		past.xmax = snapshot->xmax;
		past.n = n;
		memcpy(past.running, snapshot->xip, snapshot->xcnt * sizeof(TransactionId));
		memcpy(past.running + snapshot->xcnt, snapshot->subxip, snapshot->subxcnt * sizeof(TransactionId));
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

	ended.valid = extra->group_key != NULL;
	if (!ended.valid)
		return;
	wanted = true;
	strlcpy(ended.queue, claim->line->queue->name, sizeof(ended.queue));
	strlcpy(ended.key, extra->group_key, sizeof(ended.key));
}

/* Is the line's kind known to be short? */
static bool
is_short(QueueLine *line, TimestampTz now)
{
	(void) queue_kind_stat(&line->stat, line->handler->id, line->kind, true);
	return queue_kind_is_short(&line->stat, now);
}

/* Where the job would come, had it not been blocked; where keys take turns, behind all that waits. */
static QueueOrder
order_of(const QueueLine *line, const QueueExtra *extra, int64 id, TimestampTz now)
{
	if (line->queue->fair > 0)
		return (QueueOrder) {PG_INT32_MAX, {DT_NOEND, PG_INT64_MAX}, 0, 0};
	return (QueueOrder) {queue_urgency(line->queue, line->priority, extra->run_at, now), {extra->run_at, id}, 0, 0};
}

/* May this executor run the job here and now, as far as it alone tells? */
static bool
may_follow(const QueueJob *job, QueueLine *line, TimestampTz now)
{
	QueueExtra	extra;
	QueueOrder	order;

	if (job->problem != NULL || job->extra == NULL || job->attempt > 0 || !queue_job_pending(job) || line == NULL ||
		!line->served || line->queue->paused || line->handler->http ||
		line->handler->run_as_oid != queue_my_slot->role ||
		!is_short(line, now))
		return false;
	queue_extra_unpack(job->extra, &extra);
	order = order_of(line, &extra, job->id, now);
	return extra.blocks == QUEUE_BLOCK_GROUP && extra.run_at <= now && extra.unique_key == NULL &&
		extra.expires_at == DT_NOEND && extra.deaths == 0 &&
		!queue_entries_urgent(&order);
}

bool
queue_follow_next(QueueJobTable *table, TimestampTz group_start)
{
	QueueJob	job;
	QueueLine  *line = NULL;
	bool		found;

	if (!past.valid || !ended.valid || queue_nheld == QUEUE_SUSPECT_IDS)
		return false;
	ended.valid = false;
	PushActiveSnapshot(GetLatestSnapshot());
	found = queue_group_next(table, ended.queue, ended.key, &job) &&
		may_follow(&job, line = queue_config_line(job.line), queue_now()) && is_past(table, &job);
	PopActiveSnapshot();
	if (found)
		queue_held[queue_nheld++] = (QueueEntry) {
			.id = job.id, .line = job.line, .run_at = job.run_at, .stamp = group_start, .tid = job.tid,
			.flags = QUEUE_ENTRY_FOLLOWS
		};
	return found;
}
