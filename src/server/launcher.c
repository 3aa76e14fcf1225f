/*
 * launcher.c
 *		The launcher: one per cluster, connected to no database.
 *
 * Owns the answer to "which database should have a scheduler": it reads pg_database, starts a
 * scheduler in every database that may have the extension, and starts it again when it
 * failed.  Whether the extension is there only a process in the database can tell: a
 * scheduler that finds none says so in the database's shared entry and ends, and is not tried
 * again until somebody creates an extension there (hook.c).  At most PROBES databases are
 * being looked into at a time, so that a cluster with many databases keeps its worker slots.
 *
 * It sleeps on its latch; a timeout only when a retry is due.  It is started by the
 * postmaster after recovery (so also on promotion) and again one second after it ended.
 * Schedulers outlive it: what runs is read from the shared slots, not from its own memory.
 *
 * Locks: none beyond those of the structures that it calls.
 */
#include "server/launcher.h"

#include <signal.h>

#include "scheduler/scheduler.h"
#include "server/shared_memory.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/share.h"
#include "shared/slot.h"
#include "shared/suspect.h"
#include "shared/worker.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#define PROBES 2
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 30000
#define STEADY_MS 60000			/* a scheduler that ran this long failed for another reason than the last one */

/* What the launcher knows of a database's scheduler, beside the shared entry. */
typedef struct Child
{
	Oid			db;
	QueueChild	child;			/* none: never started, ended, or started by a former launcher */
	TimestampTz started_at;
	TimestampTz retry_at;		/* not before; 0: now */
	int			retry_ms;		/* the last pause */
	TimestampTz waits_since;	/* for a worker slot; 0: it does not */
	bool		wanted;			/* may have a scheduler, by the last look at pg_database */
	bool		seen;			/* is in pg_database */
	bool		none;			/* a scheduler found no extension; its entry was given up */
} Child;

static Child *children = NULL;	/* one a database of the cluster, with or without the extension */
static int	nchildren = 0;
static int	children_size = 0;
static TimestampTz told_at = 0; /* when the log last said that there is no worker slot */
static TimestampTz read_told_at = 0;	/* .. or that the databases could not be read */

/* Fills in the static worker.  Called by _PG_init with preload. */
void
queue_launcher_register_worker(void)
{
	BackgroundWorker worker;

	queue_worker_describe(&worker, QUEUE_SLOT_LAUNCHER, InvalidOid, InvalidOid);
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* The record of a database, made if asked. */
static Child *
child_of(Oid db, bool create)
{
	for (int i = 0; i < nchildren; i++)
	{
		if (children[i].db == db)
			return &children[i];
	}
	if (!create)
		return NULL;
	if (nchildren == children_size)
	{
		int			size = Max(64, children_size * 2);

		if (children == NULL)
			children = MemoryContextAlloc(TopMemoryContext, size * sizeof(Child));
		else
			children = repalloc(children, size * sizeof(Child));
		children_size = size;
	}
	memset(&children[nchildren], 0, sizeof(Child));
	children[nchildren].db = db;
	return &children[nchildren++];
}

/* Does queue.databases name this database? */
static bool
database_matches(const char *name, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		const char *wanted = (const char *) lfirst(lc);

		if (strcmp(wanted, "*") == 0 || strcmp(wanted, name) == 0)
			return true;
	}
	return false;
}

/* The scheduler's slot of a database, whoever started it; NULL: none.  With pid 0 it has not come up yet. */
static QueueSlot *
scheduler_slot(Oid db)
{
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_SCHEDULER && slot->db == db)
			return slot;
	}
	return NULL;
}

/*
 * Nothing of a database that has no extension, or is dropped, stays in shared memory; false: an extension was created
 * there since.  The entry goes first: who creates an extension from now on makes a new one, and so is seen.
 */
static bool
forget_database(Oid db, bool dropped)
{
	if (!queue_database_forget(db, dropped))
		return false;
	queue_shared_memory_forget(db);
	if (dropped)
		queue_suspect_forget(db);
	return true;
}

/*
 * Reads pg_database: marks who may have a scheduler, forgets who is gone.  The entries are listed before the
 * catalog is read, so that a database created meanwhile is not taken for a dropped one.  Nothing is marked before
 * all is read: if that fails, everybody keeps the scheduler.
 */
static void
read_databases(void)
{
	Oid			known[QUEUE_MAX_DATABASES];
	int			nknown = 0;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	char	   *copy;
	List	   *names = NIL;
	List	   *seen = NIL;
	List	   *wanted = NIL;
	ListCell   *cell;
	ListCell   *cell2;

	for (int i = 0; i < queue_database_count(); i++)
	{
		QueueDatabase *base = queue_database_nth(i);

		if (base != NULL)
			known[nknown++] = base->db;
	}

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	copy = pstrdup(queue_databases ? queue_databases : "*");
	(void) SplitGUCList(copy, ',', &names);

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		seen = lappend_oid(seen, form->oid);
		wanted = lappend_int(wanted, form->datallowconn && !form->datistemplate && queue_enabled &&
							 database_matches(NameStr(form->datname), names));
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	for (int i = 0; i < nchildren; i++)
		children[i].seen = children[i].wanted = false;
	forboth(cell, seen, cell2, wanted)
	{
		Oid			db = lfirst_oid(cell);
		bool		may = lfirst_int(cell2) != 0;
		Child	   *child = child_of(db, may);

		if (child != NULL)
		{
			child->seen = true;
			child->wanted = may;
		}
		for (int i = 0; i < nknown; i++)
		{
			if (known[i] == db)
				known[i] = InvalidOid;
		}
	}
	CommitTransactionCommand();

	for (int i = 0; i < nknown; i++)
	{
		QueueDatabase *base = queue_database_of(known[i], false);

		if (base != NULL && pg_atomic_read_u32(&base->closed) == 0 && scheduler_slot(known[i]) == NULL)
			(void) forget_database(known[i], true);
	}
	for (int i = nchildren - 1; i >= 0; i--)
	{
		if (!children[i].seen && children[i].child.handle == NULL)
			children[i] = children[--nchildren];
	}
}

/* Starts a scheduler.  False: there is no worker slot for it now. */
static bool
start_scheduler(Child *child, QueueDatabase *base)
{
	base->created = false;		/* what was created until now it finds */
	pg_memory_barrier();
	pg_atomic_write_u32(&base->state, QUEUE_DATABASE_STARTING);
	if (!queue_child_start(&child->child, QUEUE_SLOT_SCHEDULER, child->db, InvalidOid))
		return false;
	child->started_at = queue_now();
	return true;
}

/* The child ended: what does its entry say, and when is it tried again? */
static void
child_ended(Child *child, QueueDatabase *base, TimestampTz now)
{
	QueueDatabaseState state = (QueueDatabaseState) pg_atomic_read_u32(&base->state);

	child->retry_at = 0;
	if (state == QUEUE_DATABASE_NO_EXTENSION)
	{
		child->retry_ms = 0;
		/* databases without the extension shall not use the entries up */
		if (pg_atomic_read_u32(&base->closed) == 0)
			child->none = forget_database(child->db, false);
		return;
	}
	if (state == QUEUE_DATABASE_UNKNOWN || state == QUEUE_DATABASE_RESTING)
	{
		child->retry_ms = 0;	/* it was told to end */
		return;
	}
	pg_atomic_write_u32(&base->state, QUEUE_DATABASE_FAILED);
	pg_atomic_fetch_add_u32(&base->restarts, 1);
	if (child->retry_ms == 0 || now - child->started_at > STEADY_MS * INT64CONST(1000))
		child->retry_ms = RETRY_MIN_MS;
	else
		child->retry_ms = Min(child->retry_ms * 2, RETRY_MAX_MS);
	child->retry_at = now + child->retry_ms * INT64CONST(1000);
}

/*
 * The database that has waited longest for its scheduler and may have one now; NULL: none.  *next: when that may be
 * otherwise.
 */
static Child *
next_child(TimestampTz now, TimestampTz *next)
{
	Child	   *best = NULL;

	for (int i = 0; i < nchildren; i++)
	{
		Child	   *child = &children[i];
		QueueDatabase *base = queue_database_of(child->db, false);
		QueueDatabaseState state;
		TimestampTz not_before = 0;
		int64		most = RETRY_MAX_MS * INT64CONST(1000);

		if (base == NULL || !child->wanted || child->child.handle != NULL || scheduler_slot(child->db) != NULL ||
			pg_atomic_read_u32(&base->closed) > 0)
			continue;
		state = (QueueDatabaseState) pg_atomic_read_u32(&base->state);
		if (state == QUEUE_DATABASE_NO_EXTENSION)
			continue;
		if (state == QUEUE_DATABASE_RESTING)
		{
			not_before = (TimestampTz) pg_atomic_read_u64(&base->rest_until);
			most = QUEUE_REST_MAX_US;
		}
		else if (state != QUEUE_DATABASE_UNKNOWN)
			not_before = child->retry_at;
		if (queue_put_off(not_before, most, now))
		{
			*next = Min(*next, not_before);
			continue;
		}
		/* it waits from here on, so that one that came just back from a rest stands behind it */
		if (child->waits_since == 0)
			child->waits_since = now;
		if (best == NULL || child->waits_since < best->waits_since)
			best = child;
	}
	return best;
}

/*
 * One look at all databases: ends what must not run, collects what ended, starts what is missing.  Returns when the
 * next retry is due; DT_NOEND: nothing to wait for.
 */
static TimestampTz
tend_children(void)
{
	TimestampTz now = queue_now();
	TimestampTz next = DT_NOEND;
	int			probing = 0;

	for (int i = 0; i < nchildren; i++)
	{
		Child	   *child = &children[i];
		QueueDatabase *base = queue_database_of(child->db, child->wanted && !child->none);
		QueueSlot  *slot;

		if (base == NULL)
			continue;
		child->none = false;	/* somebody made an entry: an extension was created, perhaps ours */
		if (queue_child_look(&child->child) >= QUEUE_CHILD_ENDED)
		{
			child_ended(child, base, now);
			queue_share_freed(now);
		}
		slot = scheduler_slot(child->db);
		if (slot != NULL && !child->wanted && slot->pid != 0)
			(void) kill(slot->pid, SIGTERM);
		if (pg_atomic_read_u32(&base->state) == QUEUE_DATABASE_STARTING &&
			(slot != NULL || child->child.handle != NULL))
			probing++;
	}

	while (probing < PROBES)	/* the one that ends or comes up wakes us */
	{
		Child	   *child = next_child(now, &next);
		QueueDatabase *base;

		if (child == NULL)
			break;
		base = queue_database_of(child->db, false);
		if (queue_share_others_first(NULL, now))
		{
			/* a free slot is for the first executor of a database that has a scheduler */
			next = Min(next, now + QUEUE_HUNGER_US);
			break;
		}
		if (start_scheduler(child, base))
		{
			queue_share_sated(base);
			child->waits_since = 0;
			probing++;
			continue;
		}
		if (told_at + STEADY_MS * INT64CONST(1000) < now)
		{
			told_at = now;
			ereport(LOG,
					(errmsg("queue: no worker slot is free for the scheduler of database %u", child->db),
					 errhint("Raise max_worker_processes.")));
		}
		pg_atomic_write_u32(&base->state, QUEUE_DATABASE_NO_SLOT);
		queue_share_hungry(base, QUEUE_HUNGER_SCHEDULER, now);
		next = Min(next, now + QUEUE_HUNGER_US);
		break;
	}
	return next;
}

/* The launcher's slot, for stat_worker.  It has no parent that could reserve one. */
static void
take_slot(void)
{
	int			number = queue_slot_reserve(QUEUE_SLOT_LAUNCHER, InvalidOid, InvalidOid);

	if (number < 0)
		return;
	queue_slot_pass(number, MyBgworkerEntry);
	queue_slot_adopt(number);
}

/* read_databases behind an error boundary; false: it failed, which the log is told of once a minute. */
static bool
try_read_databases(void)
{
	volatile bool ok = true;

	PG_TRY();
	{
		read_databases();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		QueryCancelPending = false;
		if (read_told_at + USECS_PER_MINUTE <= queue_now())
		{
			read_told_at = queue_now();
			EmitErrorReport();
		}
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(TopMemoryContext);
		RESUME_INTERRUPTS();
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

/* Entry point, called by the postmaster. */
void
queue_launcher_main(Datum arg)
{
	uint64		requests = 0;
	bool		read = false;
	int			woke = 0;

	queue_worker_begin(-1, 0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	if (!queue_preloaded())
		proc_exit(0);
	take_slot();
	queue_worker_up();
	queue_launcher_register();
	queue_slot_take_back(QUEUE_SLOT_SCHEDULER, InvalidOid);	/* a former launcher's children that are not there yet */
	queue_log("launcher_start", "launcher started");

	while ((woke & QUEUE_WOKE_STOP) == 0)
	{
		TimestampTz next;

		if (!read || (woke & QUEUE_WOKE_RELOADED) != 0 || queue_launcher_requests() != requests)
		{
			requests = queue_launcher_requests();
			read = try_read_databases();
		}
		next = tend_children();
		if (!read)
			next = Min(next, queue_now() + RETRY_MIN_MS * INT64CONST(1000));
		woke = queue_worker_sleep(NULL, next, queue_wait_event("QueueLauncherMain"));
	}
	proc_exit(1);				/* the postmaster starts it again, unless it is stopping itself */
}
