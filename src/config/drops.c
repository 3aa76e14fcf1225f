/*
 * drops.c
 *		Who enqueues while queues are being dropped.
 *
 * drop_queue must see every job that can still come: it publishes that a queue is being dropped, and looks for the
 * enqueuers of that moment (fence.h), for whom it waits.  Who enqueues for the first time after it waits for the end of
 * the drop, but not of one that found it, which waits for it (shared/drop.h).
 *
 * Locks: RowExclusiveLock on live_job, then on queue.line, until the end of the transaction that enqueues, also past
 * the end of a savepoint: whom a drop found once it waits for.  Object locks on the hash of the name of the queue that
 * is dropped, and on the drop's number: who waits for a drop waits for that one, and not for the next of the name,
 * which may have found him.  Only those that are too many for numbers to be listed are waited for by name.
 */
#include "config/drops.h"

#include "config/config.h"
#include "shared/drop.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* objsubid of the object locks on queue.queue: what their objid is. */
enum
{
	LOCK_NAME, LOCK_NUMBER
};

static bool enqueuing = false;	/* this transaction holds the enqueuer's locks.. */
static bool hindered = false;	/* ..and took them while queues were being dropped.. */
static uint32 last_drop;		/* ..up to this one: those that begin later wait for us */

/* What this transaction drops: places, -1 without one, and the transaction nest level. */
typedef struct Own
{
	int			place;
	int			level;
}			Own;

static Own *own = NULL;
static int	nown = 0;
static int	maxown = 0;

/* What was dropped at this level and above is over. */
static void
end_own(int level)
{
	while (nown > 0 && own[nown - 1].level >= level)
		queue_drop_end(queue_database(), own[--nown].place);
}

/* The locks go with the transaction; so does what it dropped. */
static void
drops_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && nown > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has dropped a queue"),
				 errhint("Commit it.")));
	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_COMMIT)
		return;
	/* who finds that none is under way any more reads the configuration after it, and not what it has */
	if (event == XACT_EVENT_COMMIT && nown > 0)
		queue_database_bump(queue_database());
	end_own(0);
	enqueuing = false;
}

/* One that tries again and again, each time to a savepoint, takes one place. */
static void
drops_subxact_callback(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
		end_own(level);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = nown - 1; i >= 0 && own[i].level >= level; i--)
			own[i].level = level - 1;
	}
}

/* Once per backend. */
static void
register_callbacks(void)
{
	static bool done = false;

	if (done)
		return;
	RegisterXactCallback(drops_xact_callback, NULL);
	RegisterSubXactCallback(drops_subxact_callback, NULL);
	done = true;
}

/* What a drop and those that wait for it lock: by the hash of the name, so that some may wait for another's. */
static uint32
drop_key(const char *queue)
{
	return (uint32) queue_name_hash(queue);
}

/* The enqueuer's locks, which are the transaction's, whatever becomes of the savepoint that it is in. */
static void
lock_tables(QueueConfig *config)
{
	ResourceOwner owner = CurrentResourceOwner;

	CurrentResourceOwner = TopTransactionResourceOwner;
	LockRelationOid(config->live_job, RowExclusiveLock);
	LockRelationOid(config->line_table, RowExclusiveLock);
	CurrentResourceOwner = owner;	/* after an error the end of the transaction, or of the savepoint, sets it */
}

/* Throws nothing: we have them. */
static void
unlock_tables(QueueConfig *config)
{
	ResourceOwner owner = CurrentResourceOwner;

	CurrentResourceOwner = TopTransactionResourceOwner;
	UnlockRelationOid(config->line_table, RowExclusiveLock);
	UnlockRelationOid(config->live_job, RowExclusiveLock);
	CurrentResourceOwner = owner;
}

/* Until no drop of this queue up to that number is under way. */
static void
wait_for_drop(QueueConfig *config, QueueDatabase *base, const char *queue, uint32 last)
{
	uint32		key = drop_key(queue);
	uint32		number;
	Oid			object;
	uint16		what;

	if (!queue_drop_until(base, key, last, &number))
		return;
	object = number != 0 ? number : key;
	what = number != 0 ? LOCK_NUMBER : LOCK_NAME;
	LockDatabaseObject(config->queue_table, object, what, AccessShareLock);
	UnlockDatabaseObject(config->queue_table, object, what, AccessShareLock);
}

/* The first time in a transaction. */
static void
begin_enqueuing(QueueConfig *config, QueueDatabase *base, const char *queue)
{
	bool		found;

	register_callbacks();
	lock_tables(config);
	hindered = base != NULL && queue_drops(base) > 0;
	if (unlikely(hindered))
	{
		/* who waits without locks holds up nobody; but who was found is waited for, and keeps them */
		queue_drop_lock();
		last_drop = queue_drop_last(base, &found);
		if (!found)
			unlock_tables(config);
		queue_drop_unlock();
		wait_for_drop(config, base, queue, last_drop);
		if (!found)
		{
			lock_tables(config);
			queue_drop_lock();
			last_drop = queue_drop_last(base, &found);
			queue_drop_unlock();
		}
	}
	enqueuing = true;
}

void
queue_lock_to_enqueue(const char *queue)
{
	QueueConfig *config = queue_config();
	QueueDatabase *base = queue_database();

	if (!enqueuing)
		begin_enqueuing(config, base, queue);
	if (unlikely(hindered))
		wait_for_drop(config, base, queue, last_drop);
}

void
queue_lines_lock_drop(const char *queue)
{
	LockDatabaseObject(queue_config()->queue_table, drop_key(queue), LOCK_NAME, AccessExclusiveLock);
	(void) queue_config_queue(queue, false);
}

/* Without shared memory nobody can be told: then enqueuers of all queues wait. */
void
queue_lines_begin_drop(const char *queue, QueueFence *fence)
{
	QueueConfig *config = queue_config();
	QueueDatabase *base = queue_database();
	Oid			line_table = config->line_table;
	Oid			queue_table = config->queue_table;
	LOCKTAG		tag;
	uint32		number;
	int			place;

	if (base == NULL)
	{
		LockRelationOid(line_table, ShareRowExclusiveLock);
		queue_fence_begin(fence, line_table);
		return;
	}
	register_callbacks();
	if (nown == maxown)
	{
		int			size = Max(8, maxown * 2);

		own = own == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Own)) :
			repalloc(own, size * sizeof(Own));
		maxown = size;
	}
	/* from here to there nothing waits, and nothing reads the catalog */
	number = queue_drop_begin(base, drop_key(queue), &place);
	own[nown++] = (Own) {place, GetCurrentTransactionNestLevel()};
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, queue_table, number, LOCK_NUMBER);
	(void) LockAcquire(&tag, AccessExclusiveLock, false, true);
	queue_fence_begin(fence, line_table);
	queue_drop_begun(fence->xids, fence->n, number);
}
