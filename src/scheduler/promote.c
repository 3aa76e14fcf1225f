/*
 * promote.c
 *		The chore of groups: the scheduler eats marks (shared/mark.h) and lets the next job of each group in
 *		(job/group.c), many groups a transaction.
 *
 * Jobs of very many groups that came together are told as a range of ids, which is read in slices.  Each of their
 * groups is settled once: all of the range is committed by then.
 *
 * All groups are looked at, one after the other in slices, when the scheduler starts, and when marks were lost.  Only
 * after that it knows in which groups somebody is in; until then it reads a group that it does not know to the end.
 *
 * A group that cannot be settled now, because somebody has its lock or a row, and one whose look raises an error, is
 * deferred in memory, the latter with a pause that doubles; after an error each is looked at behind a boundary of its
 * own for a while.  What finds no room there is lost like a mark.
 *
 * Locks: RowExclusiveLock on live_job and live_key, conditional; then those of queue_group_settle.
 */
#include "scheduler/promote.h"

#include "config/config.h"
#include "job/group.h"
#include "job/job.h"
#include "scheduler/apart.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define BATCH 200				/* marks a transaction, and so locks */
#define MAX_PROMOTED 1000		/* by one maintain(), whose transaction keeps as many locks */
#define MAX_DEFERRED 512
#define BUSY_US INT64CONST(10000)
#define MAX_BUSY_US INT64CONST(200000)
#define MAX_PAUSE_US (60 * USECS_PER_SEC)
#define LOCK_RETRY_US INT64CONST(100000)
#define CROWD_US USECS_PER_MINUTE	/* between two looks at all groups because there were many once */
#define CHORE "the promotion of groups"

typedef struct Deferred
{
	QueueMark	mark;
	TimestampTz again_at;
	int64		pause;
} Deferred;

static Deferred *deferred = NULL;	/* MAX_DEFERRED */
static int	ndeferred = 0;
static bool forgot_deferred = false;	/* .. of which some were settled by a batch that is not committed */
static QueueApart apart = {0};
static bool all_under_way = false;
static TimestampTz all_again_at = DT_NOEND; /* for groups that failed and were not deferred for want of room */
static QueueMark all_at;		/* the last group of that look */
static TimestampTz all_begun_at = 0;

/* The groups that a transaction settles, each with a job of it as it was read, or NULL. */
typedef struct Batch
{
	int			n;
	QueueMark	mark[BATCH + MAX_DEFERRED];
	const QueueJob *read[BATCH + MAX_DEFERRED];
} Batch;

static Batch batch;

/* A group of the range that was settled. */
typedef struct Seen
{
	uint64		hash;			/* of its names */
	char	   *queue;
	char	   *key;
} Seen;

/* The range of ids that is looked through. */
static struct
{
	bool		under_way;
	int64		next;
	int64		high;
	HTAB	   *seen;
	MemoryContext context;		/* of seen */
}			range;

static inline bool
is_group(const QueueMark *mark, const char *queue, const char *key)
{
	return strcmp(mark->key, key) == 0 && strcmp(mark->queue, queue) == 0;
}

static Deferred *
find_deferred(const QueueMark *mark)
{
	for (int i = 0; i < ndeferred; i++)
	{
		if (is_group(&deferred[i].mark, mark->queue, mark->key))
			return &deferred[i];
	}
	return NULL;
}

/*
 * To be looked at again after a pause, which is at least `pause` and doubles up to `most`.  Until then its place stays
 * known to who follows on in the group.
 */
static void
defer(const QueueMark *mark, TimestampTz now, int64 pause, int64 most)
{
	Deferred   *found = find_deferred(mark);

	if (found == NULL && ndeferred == MAX_DEFERRED)
	{
		queue_mark_lose(MyDatabaseId);
		return;
	}
	Assert(deferred != NULL);
	if (found == NULL)
	{
		found = &deferred[ndeferred++];
		*found = (Deferred) {*mark, 0, 0};
	}
	queue_mark_merge(&found->mark, mark);
	queue_mark_park(mark->queue, mark->key, found->mark.position);
	found->pause = Min(Max(pause, found->pause * 2), most);
	found->again_at = now + found->pause;
}

static TimestampTz
deferred_due(TimestampTz now)
{
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < ndeferred; i++)
		due = Min(due, queue_put_off(deferred[i].again_at, deferred[i].pause, now) ? deferred[i].again_at : now);
	return due;
}

static bool
in_batch(const char *queue, const char *key)
{
	for (int i = 0; i < batch.n; i++)
	{
		if (is_group(&batch.mark[i], queue, key))
			return true;
	}
	return false;
}

/*
 * Adds a group to the batch, unless it was deferred and its pause is not over.  One that was just busy is free again
 * when its head has ended.
 */
static void
add(const QueueMark *mark, const QueueJob *read, TimestampTz now)
{
	Deferred   *waits = find_deferred(mark);

	if (waits != NULL && queue_put_off(waits->again_at, waits->pause, now) &&
		(waits->pause > MAX_BUSY_US || !mark->ended))
	{
		queue_mark_merge(&waits->mark, mark);
		queue_mark_park(mark->queue, mark->key, waits->mark.position);
		return;
	}
	if (in_batch(mark->queue, mark->key))
		return;					/* it is looked at after this mark was taken */
	batch.mark[batch.n] = *mark;
	if (waits != NULL)
	{
		queue_mark_take_parked(mark);
		queue_mark_merge(&batch.mark[batch.n], &waits->mark);
	}
	batch.read[batch.n++] = read;
}

/* What settle_apart() gets. */
typedef struct One
{
	const QueueMark *mark;
	const QueueJob *read;
	bool		busy;
} One;

/* With a table of its own: the caller's may be at anything when an error ends this. */
static void
settle_apart(void *arg)
{
	One		   *one = arg;
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);

	one->busy = queue_group_settle_locked(jobs, one->mark, one->read) == QUEUE_GROUP_BUSY;
	queue_job_close(jobs);
}

/* Settles one whose lock we have.  False: it is busy, or failed and is deferred. */
static bool
settle_one(QueueJobTable *jobs, const QueueMark *mark, const QueueJob *read, TimestampTz now)
{
	One			one = {mark, read};

	if (!queue_apart_needed(&apart, now))
		one.busy = queue_group_settle_locked(jobs, mark, read) == QUEUE_GROUP_BUSY;
	else if (!queue_apart_try(&apart, CHORE, settle_apart, &one))
	{
		if (ndeferred < MAX_DEFERRED || find_deferred(mark) != NULL)
			defer(mark, now, USECS_PER_SEC, MAX_PAUSE_US);
		else
			all_again_at = Min(all_again_at, now + MAX_PAUSE_US);
		return false;
	}
	if (one.busy)
		defer(mark, now, BUSY_US, MAX_BUSY_US);
	return !one.busy;
}

/* Settles the groups of the batch, or defers them; one that was deferred is so no more once it is settled. */
static void
settle(QueueJobTable *jobs, TimestampTz now)
{
	MemoryContext per_group = AllocSetContextCreate(CurrentMemoryContext, "queue groups", ALLOCSET_SMALL_SIZES);
	bool	   *locked = palloc(Max(batch.n, 1) * sizeof(bool));
	MemoryContext old;

	for (int i = 0; i < batch.n; i++)
		locked[i] = queue_group_lock(&batch.mark[i]);
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(per_group);
	for (int i = 0; i < batch.n; i++)
	{
		const QueueMark *mark = &batch.mark[i];

		CHECK_FOR_INTERRUPTS();
		if (!locked[i])
			defer(mark, now, BUSY_US, MAX_BUSY_US);
		else if (settle_one(jobs, mark, batch.read[i], now) && ndeferred > 0)
		{
			Deferred   *waited = find_deferred(mark);

			if (waited != NULL)
			{
				*waited = deferred[--ndeferred];
				forgot_deferred = true;
			}
		}
		MemoryContextReset(per_group);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(per_group);
	PopActiveSnapshot();
}

/* ---------------------------------------------------------------- ranges */

static uint64
hash_of(const char *queue, const char *key)
{
	return hash_combine64(queue_name_hash(queue), queue_name_hash(key));
}

/* Is it in the batch, or was it settled since the range is looked through? */
static bool
is_known(const char *queue, const char *key)
{
	uint64		hash = hash_of(queue, key);
	Seen	   *seen = hash_search(range.seen, &hash, HASH_FIND, NULL);

	return (seen != NULL && strcmp(seen->key, key) == 0 && strcmp(seen->queue, queue) == 0) || in_batch(queue, key);
}

static void
remember_seen(const QueueMark *mark)
{
	uint64		hash = hash_of(mark->queue, mark->key);
	bool		found;
	char	   *queue = MemoryContextStrdup(range.context, mark->queue);
	char	   *key = MemoryContextStrdup(range.context, mark->key);
	Seen	   *seen = hash_search(range.seen, &hash, HASH_ENTER, &found);

	seen->queue = queue;
	seen->key = key;
}

/* No range is looked through any more. */
static void
end_range(void)
{
	if (range.context != NULL)
		MemoryContextDelete(range.context);
	range.context = NULL;
	range.under_way = false;
}

/* Begins with the next range, if there is one. */
static void
begin_range(void)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(Seen)};

	if (!queue_mark_take_range(&range.next, &range.high))
		return;
	forgot_deferred = true;		/* the range too, if there is no memory for it */
	range.context = ctl.hcxt = AllocSetContextCreate(TopMemoryContext, "queue range", ALLOCSET_DEFAULT_SIZES);
	range.seen = hash_create("queue groups of a range", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	forgot_deferred = false;
	range.under_way = true;
}

/* ---------------------------------------------------------------- batches */

/* One batch, in a transaction of its own.  True: there is more to do at once. */
static bool
run_batch(TimestampTz now)
{
	static QueueMark found[BATCH];
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);
	QueueJob   *read;
	bool		more = false;
	int64		next;
	int			nrange = 0;
	int			nall = 0;
	int			room;
	int			first;
	int			n;

	batch.n = 0;
	if (!range.under_way)
		begin_range();
	next = range.next;
	n = queue_mark_take(found, all_under_way || range.under_way ? BATCH / 2 : BATCH);
	room = BATCH - n;
	for (int i = 0; i < n; i++)
		add(&found[i], NULL, now);
	for (int i = 0; i < ndeferred; i++)
	{
		if (!queue_put_off(deferred[i].again_at, deferred[i].pause, now) &&
			!in_batch(deferred[i].mark.queue, deferred[i].mark.key))
		{
			queue_mark_take_parked(&deferred[i].mark);
			batch.read[batch.n] = NULL;
			batch.mark[batch.n++] = deferred[i].mark;
		}
	}
	first = batch.n;
	if (range.under_way && !all_under_way)
	{
		read = palloc((room + 1) * sizeof(QueueJob));
		nrange = queue_group_range(jobs, &next, range.high, is_known, found, read, room);
		for (int i = 0; i < nrange; i++)
			add(&found[i], &read[i], now);
	}
	else if (all_under_way)
	{
		nall = queue_group_all(&all_at, found, room);
		for (int i = 0; i < nall; i++)
			add(&found[i], NULL, now);
	}
	settle(jobs, now);
	if (queue_mark_take_rows() && !queue_group_eat_rows(jobs, BATCH))
	{
		queue_mark_rows(MyDatabaseId);
		more = true;
	}
	queue_job_close(jobs);
	CommitTransactionCommand();
	/* only now: what an error cuts short is looked at again */
	forgot_deferred = false;
	if (nall > 0)
		all_at = found[nall - 1];
	if (all_under_way && nall < room)
	{
		all_under_way = false;
		queue_group_remember(true);
		queue_mark_found();
	}
	if (range.under_way)
	{
		for (int i = first; i < batch.n; i++)
			remember_seen(&batch.mark[i]);
		range.next = next;
		queue_mark_range_looked(next);
		if (next > range.high)
			end_range();
	}
	return more || all_under_way || range.under_way || queue_mark_any();
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
	/* of a batch that failed the marks went back, but nobody knows what it had taken out of the deferred ones */
	(void) queue_apart_begin(&apart, now);
	if (forgot_deferred || (all_again_at != DT_NOEND && !queue_put_off(all_again_at, MAX_PAUSE_US, now)))
		queue_mark_lose(MyDatabaseId);
	forgot_deferred = false;
	if (now - all_begun_at > CROWD_US && queue_mark_crowd_gone())
		queue_mark_lose(MyDatabaseId);	/* after which ends that concern nobody are not told again */
	if (!all_under_way && queue_mark_lost())
	{
		all_begun_at = now;
		all_again_at = DT_NOEND;
		end_range();
		all_under_way = true;
		memset(&all_at, 0, sizeof(all_at));
		queue_group_remember(false);
	}
	if (!all_under_way && !range.under_way && !queue_mark_any() && !queue_mark_any_rows() && deferred_due(now) > now)
	{
		queue_apart_end(&apart);
		return queue_earlier(deferred_due(now), all_again_at);
	}

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	config = queue_config();
	if (ConditionalLockRelationOid(config->live_job, RowExclusiveLock) &&
		ConditionalLockRelationOid(config->live_key, RowExclusiveLock))
		more = run_batch(now);
	else
	{
		next = now + LOCK_RETRY_US;
		CommitTransactionCommand();
	}
	queue_apart_end(&apart);
	return more ? now : queue_earlier(queue_earlier(next, all_again_at), deferred_due(now));
}

/* What promote_apart() gets. */
typedef struct Unattended
{
	const QueueMark *mark;
	bool		promoted;
} Unattended;

static void
promote_apart(void *arg)
{
	Unattended *one = arg;
	QueueJobTable *jobs = queue_job_open(RowExclusiveLock);

	one->promoted = queue_group_waits(jobs, one->mark) &&
		queue_group_settle(jobs, one->mark) == QUEUE_GROUP_PROMOTED;
	queue_job_close(jobs);
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
	(void) queue_apart_begin(&apart, now);
	jobs = queue_job_open(RowExclusiveLock);
	queue_group_promote(jobs);
	/* what no mark tells of: a crash, a restore */
	marks = palloc0(BATCH * sizeof(QueueMark));
	while (promoted < MAX_PROMOTED && (n = queue_group_all(&marks[n - 1], marks, BATCH)) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			Unattended	one = {&marks[i]};

			CHECK_FOR_INTERRUPTS();
			promoted += queue_apart_try(&apart, CHORE, promote_apart, &one) && one.promoted;
		}
	}
	queue_job_close(jobs);
	return DT_NOEND;
}
