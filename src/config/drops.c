/*
 * drops.c
 *		Who enqueues while queues are being dropped.
 *
 * drop_queue must see every job that can still come: it publishes that a queue is being dropped, then waits for the
 * enqueuers of that moment (fence.h).  Who enqueues for the first time after it waits for the end of the drop.
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
static bool hindered = false;	/* ..and took them while queues were being dropped */
static int	own_drops = 0;		/* queues that this transaction drops */

/* The locks go with the transaction; so does what it dropped. */
static void
drops_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && own_drops > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has dropped a queue"),
				 errhint("Commit it.")));
	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_COMMIT)
		return;
	if (own_drops > 0)
	{
		/* who finds that none is under way any more reads the configuration after it, and not what it has */
		if (event == XACT_EVENT_COMMIT)
			queue_database_bump(queue_database());
		queue_database_change_drops(queue_database(), -own_drops);
	}
	own_drops = 0;
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
	return base != NULL && queue_database_drops(base) > 0;
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
	if (unlikely(hindered) && queue_database_drops(base) > 0)
		wait_for_drop(config, queue);
}

/* Without shared memory nobody can be told: then enqueuers of all queues wait. */
void
queue_lines_begin_drop(const char *queue)
{
	QueueConfig *config = queue_config();
	QueueDatabase *base = queue_database();

	if (base == NULL)
	{
		LockRelationOid(config->line_table, ShareRowExclusiveLock);
		return;
	}
	register_callbacks();
	LockDatabaseObject(config->queue_table, drop_key(queue), 0, AccessExclusiveLock);
	own_drops++;
	queue_database_change_drops(base, 1);
}
