/*
 * ddl_hook.c
 *		The ProcessUtility hook.
 *
 * Owns what DDL means for the workers:
 * - A command that needs a database without other sessions (DROP DATABASE, ALTER DATABASE
 *   RENAME / SET TABLESPACE, CREATE DATABASE from it) or that takes the extension away closes
 *   the database: its workers abort and nobody starts new ones until the transaction
 *   that ran the command ends, however it ends.  Only for who may run the command: nobody else
 *   stops workers by trying.
 * - A command that may change whether a handler can run bumps the configuration's
 *   generation after commit; role DDL does so in every database.
 * - PREPARE TRANSACTION tells note.c its gid, COMMIT and ROLLBACK PREPARED have it apply
 *   the notes, because these run no callback of the prepared transaction.
 *
 * Everything that must wait for the end of the transaction is kept in `pending`, a
 * static of this file, and done by its own transaction callback (commit-safe: shared memory,
 * latches, fixed size).  Nothing happens in recovery.  Installed with preload only.
 */
#include "server/ddl_hook.h"

#include "executor/run.h"
#include "job/kept.h"
#include "server/shared_memory.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/ended.h"
#include "shared/note.h"
#include "shared/prepared.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#define MAX_CLOSED 8
#define CLOSE_TIMEOUT_MS 10000
#define LOCK_TRIES 100

/* What the end of this transaction owes. */
static struct
{
	int			nclosed;
	Oid			closed[MAX_CLOSED];
	Oid			dropped;		/* the extension of this database, if it commits, and not only to a savepoint */
	bool		created;		/* an extension in this database, if it commits */
	bool		roles;			/* roles changed: every database's handlers may have, if it commits */
}			pending;

static Oid	dropping;			/* by the command that is just executed */

static ProcessUtility_hook_type previous_utility = NULL;

/* The database may have workers again.  Commit-safe. */
static void
reopen(Oid db)
{
	QueueDatabase *base = queue_database_of(db, false);

	if (base == NULL || pg_atomic_read_u32(&base->closed) == 0)
		return;
	pg_atomic_write_u32(&base->state, QUEUE_DATABASE_UNKNOWN);
	pg_atomic_fetch_sub_u32(&base->closed, 1);
}

/* The end of a transaction that ran such a command.  Commit-safe. */
static void
hook_xact_callback(XactEvent event, void *arg)
{
	bool		commit = event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE;
	bool		wake = false;

	if (event == XACT_EVENT_PRE_COMMIT && OidIsValid(pending.dropped) &&
		get_extension_oid("queue", true) == pending.dropped)
		pending.dropped = InvalidOid;	/* a savepoint was rolled back */
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (pending.nclosed == 0 && !pending.created && !OidIsValid(pending.dropped) && !pending.roles)
		return;
	if (event == XACT_EVENT_PREPARE && (OidIsValid(pending.dropped) || pending.created))
		queue_database_set_prepared_ddl();
	if (event == XACT_EVENT_COMMIT && OidIsValid(pending.dropped))
		queue_shared_memory_forget(MyDatabaseId);
	for (int i = 0; i < pending.nclosed; i++)
	{
		reopen(pending.closed[i]);
		wake = true;
	}
	if (commit && pending.created)
	{
		queue_database_extension_created(MyDatabaseId);
		wake = true;
	}
	if (commit && pending.roles)
	{
		for (int i = 0; i < queue_database_count(); i++)
			queue_database_bump(queue_database_nth(i));
	}
	memset(&pending, 0, sizeof(pending));
	if (wake)
		queue_launcher_wake();
}

/* Workers of the database that are still there; each is told once to abort.  Called by close_database. */
static int
abort_workers(Oid db)
{
	int			n = 0;

	queue_slot_take_back(QUEUE_SLOT_FREE, db);	/* those that have not come so far never connect */
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_FREE || slot->db != db || slot == queue_my_slot)
			continue;
		n++;
		if (slot->pid != 0 && pg_atomic_exchange_u32(&slot->abort, 1) == 0)
			(void) kill(slot->pid, SIGTERM);
	}
	return n;
}

/*
 * Closes a database until this transaction ends, and waits for its workers to be gone; not for ever:
 * after CLOSE_TIMEOUT_MS the command goes on and says itself what is in its way.  Called after the privilege check.
 */
static void
close_database(Oid db)
{
	QueueDatabase *base;
	TimestampTz deadline;

	if (!OidIsValid(db))
		return;
	for (int i = 0; i < pending.nclosed; i++)
	{
		if (pending.closed[i] == db)
			return;
	}
	base = queue_database_of(db, true);
	if (base == NULL || pending.nclosed >= MAX_CLOSED)
		return;
	pg_atomic_fetch_add_u32(&base->closed, 1);
	pending.closed[pending.nclosed++] = db;

	deadline = queue_now() + CLOSE_TIMEOUT_MS * INT64CONST(1000);
	while (abort_workers(db) > 0 && queue_now() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 queue_wait_event("QueueCloseDatabase"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* May the current user do to this database what its owner may? */
static bool
owns_database(Oid db)
{
	return OidIsValid(db) && queue_database_ownercheck(db, GetUserId());
}

/* May the current user make and rename databases?  The server's own function is static in older minor versions. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		may = superuser();

	if (may)
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return may;
}

/* May the current user copy this database: a template, or one's own? */
static bool
may_copy_database(Oid db)
{
	HeapTuple	tuple;
	bool		may = false;

	if (!may_create_databases())
		return false;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(db));
	if (HeapTupleIsValid(tuple))
	{
		may = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate || owns_database(db);
		ReleaseSysCache(tuple);
	}
	return may;
}

/* The string value of a DefElem list's option; NULL: not given. */
static const char *
option_string(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0 && def->arg != NULL)
			return defGetString(def);
	}
	return NULL;
}

/*
 * Closes this database if the current user may drop or alter the extension; does he?  A handler may not: that would end
 * its own process first, and the job would start over for ever, each time with all workers of the database.
 */
static bool
close_for_extension(void)
{
	Oid			extension = get_extension_oid("queue", true);

	if (!OidIsValid(extension) || !queue_extension_ownercheck(extension, GetUserId()))
		return false;
	if (queue_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a handler cannot alter or drop the extension queue"),
				 errhint("Do it in a session of your own.")));
	close_database(MyDatabaseId);
	return true;
}

/* The extension's relations, live_job first: who works with jobs locks that before anything else. */
static Oid *
extension_relations(int *n)
{
	Oid		   *relations = NULL;
	MemoryContext context = CurrentMemoryContext;

	*n = 0;
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute("SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s "
					"ON s.oid OPERATOR(pg_catalog.=) c.relnamespace "
					"WHERE s.nspname OPERATOR(pg_catalog.=) 'queue' AND c.relkind IN ('r', 'p', 'v', 'S') "
					"ORDER BY c.relname OPERATOR(pg_catalog.<>) 'live_job', c.oid", true, 0) == SPI_OK_SELECT)
	{
		relations = MemoryContextAlloc(context, (SPI_processed + 1) * sizeof(Oid));
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;

			relations[(*n)++] =
				DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		}
	}
	PopActiveSnapshot();
	SPI_finish();
	return relations;
}

/*
 * Locks all that DROP EXTENSION will lock without ever waiting for one relation while it holds another, so that it
 * waits for whoever works with jobs and none of them meets a deadlock.  After many vain tries in plain order.
 */
static void
lock_extension(void)
{
	int			n;
	Oid		   *relations = extension_relations(&n);
	Oid			held = InvalidOid;

	for (int tries = 0; tries < LOCK_TRIES; tries++)
	{
		int			i = 0;

		CHECK_FOR_INTERRUPTS();
		while (i < n && (relations[i] == held || ConditionalLockRelationOid(relations[i], AccessExclusiveLock)))
			i++;
		if (i == n)
			return;
		for (int j = 0; j < i; j++)
		{
			if (relations[j] != held)
				UnlockRelationOid(relations[j], AccessExclusiveLock);
		}
		if (OidIsValid(held))
			UnlockRelationOid(held, AccessExclusiveLock);
		held = relations[i];
		LockRelationOid(held, AccessExclusiveLock);
	}
	for (int i = 0; i < n; i++)
		LockRelationOid(relations[i], AccessExclusiveLock);
}

/* Is this DROP EXTENSION for ours? */
static bool
drops_extension(DropStmt *stmt)
{
	ListCell   *lc;

	if (stmt->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, stmt->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "queue") == 0)
			return true;
	}
	return false;
}

/*
 * Was this gid prepared before any was under this shared memory?  Looked up only while the cluster has such
 * transactions: no new ones can appear.  Called before COMMIT or ROLLBACK PREPARED of a gid without notes.
 */
static bool
prepared_before_start(const char *gid)
{
	static bool none_left = false;
	Oid			types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[2];
	bool		old = false;

	if (none_left)
		return false;
	values[0] = CStringGetTextDatum(gid);
	values[1] = TimestampTzGetDatum(queue_database_prepares_since());
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args("SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0, "
							  "COALESCE(pg_catalog.bool_or(gid OPERATOR(pg_catalog.=) $1), false) "
							  "FROM pg_catalog.pg_prepared_xact() WHERE prepared OPERATOR(pg_catalog.<) $2",
							  2, types, values, NULL, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		bool		isnull;

		none_left = !DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		old = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	PopActiveSnapshot();
	SPI_finish();
	return old;
}

/* Does an object of this type carry what a handler's call depends on? */
static bool
is_handler_object(ObjectType type)
{
	switch (type)
	{
		case OBJECT_FUNCTION:
		case OBJECT_PROCEDURE:
		case OBJECT_ROUTINE:
		case OBJECT_AGGREGATE:
		case OBJECT_SCHEMA:
		case OBJECT_TYPE:
		case OBJECT_LANGUAGE:
			return true;
		default:
			return false;
	}
}

/* Before the command: what must be out of its way. */
static void
before_utility(Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_DropdbStmt:
			{
				Oid			db = get_database_oid(((DropdbStmt *) parsetree)->dbname, true);

				if (owns_database(db) && db != MyDatabaseId)
					close_database(db);
				break;
			}
		case T_CreatedbStmt:
			{
				const char *template = option_string(((CreatedbStmt *) parsetree)->options, "template");
				Oid			db = get_database_oid(template ? template : "template1", true);

				if (OidIsValid(db) && may_copy_database(db))
					close_database(db);
				break;
			}
		case T_RenameStmt:
			{
				RenameStmt *stmt = (RenameStmt *) parsetree;

				if (stmt->renameType == OBJECT_DATABASE)
				{
					Oid			db = get_database_oid(stmt->subname, true);

					if (owns_database(db) && may_create_databases() && db != MyDatabaseId)
						close_database(db);
				}
				break;
			}
		case T_AlterDatabaseStmt:
			{
				AlterDatabaseStmt *stmt = (AlterDatabaseStmt *) parsetree;

				if (option_string(stmt->options, "tablespace") != NULL)
				{
					Oid			db = get_database_oid(stmt->dbname, true);

					if (owns_database(db) && db != MyDatabaseId)
						close_database(db);
				}
				break;
			}
		case T_DropStmt:
			if (!drops_extension((DropStmt *) parsetree))
				break;
			dropping = get_extension_oid("queue", true);
			if (close_for_extension())
				lock_extension();
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) parsetree)->extname, "queue") == 0)
				(void) close_for_extension();
			break;
		default:
			break;
	}
}

/* After the command succeeded: who must hear of it when it commits. */
static void
after_utility(Node *parsetree)
{
	bool		config = false;

	switch (nodeTag(parsetree))
	{
		case T_CreateExtensionStmt:
			pending.created = true;	/* any: CASCADE may have brought ours */
			break;
		case T_AlterExtensionStmt:
			pending.created = true;
			queue_note_config();	/* every session looks again whether its library works with it */
			break;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			queue_note_launcher();
			break;
		case T_DropStmt:
			if (drops_extension((DropStmt *) parsetree))
				pending.dropped = OidIsValid(pending.dropped) ? pending.dropped : dropping;	/* the first one */
			else
				config = is_handler_object(((DropStmt *) parsetree)->removeType);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) parsetree)->renameType == OBJECT_ROLE)
				pending.roles = true;
			else if (((RenameStmt *) parsetree)->renameType == OBJECT_DATABASE)
				queue_note_launcher();
			else
				config = is_handler_object(((RenameStmt *) parsetree)->renameType);
			break;
		case T_AlterOwnerStmt:
			config = is_handler_object(((AlterOwnerStmt *) parsetree)->objectType) ||
				((AlterOwnerStmt *) parsetree)->objectType == OBJECT_DATABASE;
			break;
		case T_AlterObjectSchemaStmt:
			config = is_handler_object(((AlterObjectSchemaStmt *) parsetree)->objectType);
			break;
		case T_GrantStmt:
			config = is_handler_object(((GrantStmt *) parsetree)->objtype) ||
				((GrantStmt *) parsetree)->objtype == OBJECT_DATABASE;
			break;
		case T_CreateFunctionStmt:
		case T_AlterFunctionStmt:
		case T_DropOwnedStmt:
		case T_ReassignOwnedStmt:
			config = true;
			break;
		case T_GrantRoleStmt:
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_DropRoleStmt:
			pending.roles = true;
			break;
		default:
			break;
	}
	if (config)
	{
		QueueDatabase *base = queue_database_of(MyDatabaseId, false);

		if (base != NULL && (pg_atomic_read_u32(&base->scheduler_procno) != PG_UINT32_MAX ||
							 pg_atomic_read_u32(&base->state) == QUEUE_DATABASE_RESTING))
			queue_note_config();
	}
}

/* The hook. */
static void
queue_process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
					  ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *query_env,
					  DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *parsetree = pstmt->utilityStmt;
	ProcessUtility_hook_type next = previous_utility ? previous_utility : standard_ProcessUtility;
	bool		active = queue_preloaded() && !IsBinaryUpgrade && !RecoveryInProgress();
	bool		finish = false;
	bool		commit = false;
	bool		maybe_old = false;
	char	   *gid = NULL;

	if (active && IsA(parsetree, TransactionStmt))
	{
		TransactionStmt *stmt = (TransactionStmt *) parsetree;

		if (stmt->kind == TRANS_STMT_PREPARE)
		{
			queue_database_preparing();
			queue_prepared_set_gid(stmt->gid);
		}
		else if (stmt->kind == TRANS_STMT_COMMIT_PREPARED || stmt->kind == TRANS_STMT_ROLLBACK_PREPARED)
		{
			finish = true;
			commit = stmt->kind == TRANS_STMT_COMMIT_PREPARED;
			gid = pstrdup(stmt->gid);
			if (queue_prepared_knows(gid))
				queue_ended_commit_begins();
			else if (!IsTransactionBlock())
				maybe_old = prepared_before_start(gid);
		}
	}
	else if (active)
	{
		queue_kept_write();		/* it may read what an executor keeps */
		before_utility(parsetree);
	}

	next(pstmt, query_string, read_only_tree, context, params, query_env, dest, completion);

	if (finish)
	{
		queue_prepared_finish(gid, commit, maybe_old);
		/* it may have created the extension, or kept it by rolling a DROP back */
		if (maybe_old || queue_database_prepared_ddl())
			pending.created = true;
	}
	else if (active && !IsA(parsetree, TransactionStmt))
		after_utility(parsetree);
}

/* Chains the hook in.  Called by _PG_init with preload. */
void
queue_ddl_hook_install(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = queue_process_utility;
	RegisterXactCallback(hook_xact_callback, NULL);
}
