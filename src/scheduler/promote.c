/*
 * promote.c
 *		The chore of groups: the scheduler eats marks (shared/mark.h) and lets the next job of each group in
 *		(job/group.c), many groups a transaction.
 *
 * All groups are looked at, one after the other in slices, when the scheduler starts, and when marks were lost.  Only
 * after that it knows in which groups somebody is in; until then it reads a group that it does not know to the end.
 *
 * A group that cannot be settled now, because somebody has its lock or a row, and one whose look raises an error, is
 * deferred in memory, the latter with a pause that doubles.  What finds no room there is lost like a mark.
 *
 * Locks: RowExclusiveLock on live_job and live_key, conditional; then those of queue_group_settle.
 */
#include "scheduler/promote.h"

#include "config/config.h"
#include "job/group.h"
#include "job/job.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#define BATCH 200				/* marks a transaction, and so locks */
#define MAX_PROMOTED 1000		/* by one maintain(), whose transaction keeps as many locks */
#define MAX_DEFERRED 512
#define BUSY_US INT64CONST(10000)
#define MAX_BUSY_US INT64CONST(200000)
#define MAX_PAUSE_US (60 * USECS_PER_SEC)
#define LOCK_RETRY_US INT64CONST(100000)

typedef struct Deferred
{
	QueueMark	mark;
	TimestampTz again_at;
	int64		pause;
} Deferred;

static Deferred *deferred = NULL;	/* MAX_DEFERRED */
static int	ndeferred = 0;
static QueueMark in_hand;		/* queue "": none; else an error is about this group */
static bool all_under_way = false;
static QueueMark all_at;		/* the last group of that look */

static inline bool
same_group(const QueueMark *a, const QueueMark *b)
{
	return strcmp(a->key, b->key) == 0 && strcmp(a->queue, b->queue) == 0;
}

static Deferred *
find_deferred(const QueueMark *mark)
{
	for (int i = 0; i < ndeferred; i++)
	{
		if (same_group(&deferred[i].mark, mark))
			return &deferred[i];
	}
	return NULL;
}

/* As shared/mark.c merges them. */
static void
merge(QueueMark *into, const QueueMark *mark)
{
	into->position = Min(into->position, mark->position);
	into->front = false;
	into->came |= mark->came;
	into->ended |= mark->ended;
	into->doubted |= mark->doubted;
}

/* To be looked at again after a pause, which is at least `pause` and doubles up to `most`. */
static void
defer(const QueueMark *mark, TimestampTz now, int64 pause, int64 most)
{
	Deferred   *found = find_deferred(mark);

	if (found == NULL && ndeferred == MAX_DEFERRED)
	{
		queue_mark_lose(MyDatabaseId);
		return;
	}
	if (found == NULL)
	{
		found = &deferred[ndeferred++];
		*found = (Deferred) {*mark, 0, 0};
	}
	merge(&found->mark, mark);
	found->pause = Min(Max(pause, found->pause * 2), most);
	found->again_at = now + found->pause;
}

static TimestampTz
deferred_due(void)
{
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < ndeferred; i++)
		due = Min(due, deferred[i].again_at);
	return due;
}

/* Adds a group to the batch, unless it was deferred and its pause is not over. */
static void
add(QueueMark *batch, int *n, const QueueMark *mark, TimestampTz now)
{
	Deferred   *waits = find_deferred(mark);

	if (waits != NULL && waits->again_at > now)
	{
		merge(&waits->mark, mark);
		return;
	}
	batch[*n] = *mark;
	if (waits != NULL)
		merge(&batch[*n], &waits->mark);
	(*n)++;
}

/* Settles the groups of a batch, or defers them; one that was deferred is so no more once it is settled. */
static void
settle(QueueJobTable *jobs, const QueueMark *batch, int n, TimestampTz now)
{
	MemoryContext per_group = AllocSetContextCreate(CurrentMemoryContext, "queue groups", ALLOCSET_SMALL_SIZES);
	bool	   *locked = palloc(Max(n, 1) * sizeof(bool));
	MemoryContext old;

	for (int i = 0; i < n; i++)
		locked[i] = queue_group_lock(&batch[i]);
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(per_group);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		in_hand = batch[i];
		if (!locked[i] || queue_group_settle_locked(jobs, &batch[i]) == QUEUE_GROUP_BUSY)
			defer(&batch[i], now, BUSY_US, MAX_BUSY_US);
		else if (ndeferred > 0)
		{
			Deferred   *waited = find_deferred(&batch[i]);

			if (waited != NULL)
				*waited = deferred[--ndeferred];
		}
		in_hand.queue[0] = '\0';
		MemoryContextReset(per_group);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(per_group);
	PopActiveSnapshot();
}

/* One batch, in a transaction.  True: there is more to do at once. */
static bool
run_batch(TimestampTz now)
{
	static QueueMark taken[BATCH];
	static QueueMark batch[BATCH + MAX_DEFERRED];
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	bool		more = false;
	int			ntaken = queue_mark_take(taken, all_under_way ? BATCH / 2 : BATCH);
	int			max = all_under_way ? BATCH - ntaken : 0;
	int			nall;
	int			n = 0;

	for (int i = 0; i < ntaken; i++)
		add(batch, &n, &taken[i], now);
	for (int i = 0; i < ndeferred; i++)
	{
		if (deferred[i].again_at <= now)
			batch[n++] = deferred[i].mark;
	}
	nall = max > 0 ? queue_group_all(&all_at, taken, max) : 0;
	for (int i = 0; i < nall; i++)
		add(batch, &n, &taken[i], now);
	settle(jobs, batch, n, now);
	/* only now: what an error cuts short is looked at again */
	if (nall > 0)
		all_at = taken[nall - 1];
	if (nall < max)
	{
		all_under_way = false;
		queue_group_remember(true);
		queue_mark_found();
	}
	if (queue_mark_take_rows() && !queue_group_eat_rows(jobs, BATCH))
	{
		queue_mark_rows(MyDatabaseId);
		more = true;
	}
	queue_job_close(jobs);
	return more || all_under_way || queue_mark_any();
}

/* Called by the scheduler whenever it is awake; returns when it wants to be called again. */
TimestampTz
queue_promote_run(TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	bool		more = false;
	QueueConfig *config;

	if (deferred == NULL)
	{
		/* the first time: nobody knows what a former scheduler, or a crash, left */
		deferred = MemoryContextAlloc(TopMemoryContext, MAX_DEFERRED * sizeof(Deferred));
		(void) queue_mark_lost();	/* makes this database's place */
		queue_mark_lose(MyDatabaseId);
		queue_mark_rows(MyDatabaseId);
	}
	if (in_hand.queue[0] != '\0')
	{
		/* the last batch failed about this one; the others' marks went back */
		QueueMark	failed = in_hand;

		in_hand.queue[0] = '\0';
		defer(&failed, now, USECS_PER_SEC, MAX_PAUSE_US);
	}
	if (!all_under_way && queue_mark_lost())
	{
		all_under_way = true;
		memset(&all_at, 0, sizeof(all_at));
		queue_group_remember(false);
	}
	if (!all_under_way && !queue_mark_any() && !queue_mark_any_rows() && deferred_due() > now)
		return deferred_due();

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	config = queue_config();
	if (ConditionalLockRelationOid(config->live_job, RowExclusiveLock) &&
		ConditionalLockRelationOid(config->live_key, RowExclusiveLock))
		more = run_batch(now);
	else
		next = now + LOCK_RETRY_US;
	CommitTransactionCommand();
	return more ? now : queue_earlier(next, deferred_due());
}

/* Called by maintain(), in its transaction. */
TimestampTz
queue_promote_unattended(TimestampTz now)
{
	QueueJobTable *jobs;
	QueueMark  *marks;
	int			n = 1;
	int			promoted = 0;

	if (!queue_group_unattended())
		return DT_NOEND;
	jobs = queue_job_open(RowExclusiveLock);
	queue_group_promote(jobs);
	/* what no mark tells of: a crash, a restore */
	marks = palloc0(BATCH * sizeof(QueueMark));
	while (promoted < MAX_PROMOTED && (n = queue_group_all(&marks[n - 1], marks, BATCH)) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			promoted += queue_group_waits(jobs, &marks[i]) &&
				queue_group_settle(jobs, &marks[i]) == QUEUE_GROUP_PROMOTED;
		}
	}
	queue_job_close(jobs);
	return DT_NOEND;
}
