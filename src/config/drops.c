/*
 * drops.c
 *		Who enqueues while queues are being dropped.
 *
 * drop_queue must see every job that can still come: it publishes that a queue is being dropped, then waits for the
 * enqueuers of that moment (fence.h).  Who enqueues for the first time after it waits for the end of the drop, but not
 * of one that began later, which waits for it.
 *
 * Locks: RowExclusiveLock on live_job, then on queue.line, until the end of the transaction that enqueues; an object
 * lock on the hash of the name of the queue that is dropped.
 */
#include "config/drops.h"

#include "config/config.h"
#include "shared/database.h"

#include "access/xact.h"
#include "storage/lmgr.h"

static bool enqueuing = false;	/* this transaction holds the enqueuer's locks.. */
static int	enqueuing_level;	/* ..since it was so deep, but for subtransactions that ended.. */
static bool hindered = false;	/* ..and took them while queues were being dropped.. */
static uint32 last_drop;		/* ..up to this one: those that begin later wait for us */
static uint32 own_listed = 0;	/* the places of queues that this transaction drops, as bits.. */
static int	own_unlisted = 0;	/* ..and how many have none */

/* The locks go with the transaction; so does what it dropped. */
static void
drops_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && (own_listed != 0 || own_unlisted > 0))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has dropped a queue"),
				 errhint("Commit it.")));
	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_COMMIT)
		return;
	/* who finds that none is under way any more reads the configuration after it, and not what it has */
	if (event == XACT_EVENT_COMMIT && (own_listed != 0 || own_unlisted > 0))
		queue_database_bump(queue_database());
	for (int place = 0; own_listed != 0; place++, own_listed >>= 1)
	{
		if (own_listed & 1)
			queue_database_end_drop(queue_database(), place);
	}
	for (; own_unlisted > 0; own_unlisted--)
		queue_database_end_drop(queue_database(), -1);
	enqueuing = false;
}

static void
drops_subxact_callback(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	/* the locks of a subtransaction go with it or become its parent's; who forgot older ones would wait for a waiter */
	if (event == SUBXACT_EVENT_ABORT_SUB && enqueuing_level >= level)
		enqueuing = false;
	else if (event == SUBXACT_EVENT_COMMIT_SUB && enqueuing_level >= level)
		enqueuing_level = level - 1;
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

/* Takes the enqueuer's locks; true: while queues are being dropped. */
static bool
lock_tables(QueueConfig *config, QueueDatabase *base)
{
	LockRelationOid(config->live_job, RowExclusiveLock);
	LockRelationOid(config->line_table, RowExclusiveLock);
	return base != NULL && queue_database_drops(base, &last_drop) > 0;
}

/* Until no drop of this queue is under way. */
static void
wait_for_drop(QueueConfig *config, const char *queue)
{
	LockDatabaseObject(config->queue_table, drop_key(queue), 0, AccessShareLock);
	UnlockDatabaseObject(config->queue_table, drop_key(queue), 0, AccessShareLock);
}

void
queue_lock_to_enqueue(const char *queue)
{
	QueueConfig *config = queue_config();
	QueueDatabase *base = queue_database();

	if (!enqueuing)
	{
		register_callbacks();
		hindered = lock_tables(config, base);
		if (hindered)
		{
			/* without them, so that a drop that is told of, and looks for enqueuers only now, does not wait */
			UnlockRelationOid(config->line_table, RowExclusiveLock);
			UnlockRelationOid(config->live_job, RowExclusiveLock);
			wait_for_drop(config, queue);
			hindered = lock_tables(config, base);
		}
		enqueuing = true;
		enqueuing_level = GetCurrentTransactionNestLevel();
	}
	if (unlikely(hindered) && queue_database_drop_until(base, drop_key(queue), last_drop))
		wait_for_drop(config, queue);
}

/* Without shared memory nobody can be told: then enqueuers of all queues wait. */
void
queue_lines_begin_drop(const char *queue)
{
	QueueConfig *config = queue_config();
	QueueDatabase *base = queue_database();
	int			place;

	if (base == NULL)
	{
		LockRelationOid(config->line_table, ShareRowExclusiveLock);
		return;
	}
	register_callbacks();
	LockDatabaseObject(config->queue_table, drop_key(queue), 0, AccessExclusiveLock);
	place = queue_database_begin_drop(base, drop_key(queue));
	if (place >= 0)
		own_listed |= (uint32) 1 << place;
	else
		own_unlisted++;
}
