/*
 * doctor_server.c
 *		The rows of doctor() about the server and this database, from shared_preload_libraries down to tables.
 *
 * Locks: AccessShareLock on the catalogs.
 */
#include "api/doctor_server.h"

#include "api/arguments.h"
#include "api/handlers.h"
#include "api/preload.h"
#include "config/catalog.h"
#include "config/lines.h"
#include "config/relations.h"
#include "shared/clock.h"
#include "shared/counter.h"
#include "shared/database.h"
#include "shared/history.h"
#include "shared/recent.h"
#include "shared/slot.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/logicallauncher.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

/* ---------------------------------------------------------------- the server and this database */

/* May this database have workers, as far as pg_database tells?  The launcher asks the same. */
static bool
database_serves(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		serves = true;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		serves = form->datallowconn && !form->datistemplate;
		ReleaseSysCache(tuple);
	}
	return serves;
}

/* Is this database among those of queue.databases? */
static bool
database_listed(void)
{
	char	   *copy = pstrdup(queue_databases != NULL ? queue_databases : "*");
	char	   *me = get_database_name(MyDatabaseId);
	List	   *names;
	ListCell   *lc;

	if (!SplitGUCList(copy, ',', &names))
		return true;
	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), "*") == 0 || (me != NULL && strcmp(lfirst(lc), me) == 0))
			return true;
	}
	return false;
}

/* See doctor_server.h.  Called by doctor() and explain_job(). */
const char *
queue_doctor_scheduler_problem(const char **hint)
{
	QueueDatabase *base;
	uint32		procno;
	const char *problem = queue_preload_problem(hint);

	if (problem != NULL)
		return psprintf("%s, so no workers run", problem);
	if (RecoveryInProgress())
	{
		*hint = "Enqueue and look at jobs on the primary; after promotion workers start by themselves.";
		return "this server is a standby";
	}
	if (!queue_enabled)
	{
		*hint = "Set queue.enabled = on and reload.";
		return "queue.enabled is off";
	}
	if (!queue_launcher_alive())
	{
		*hint = "It is restarted within seconds; if not, look into the server log, and at max_worker_processes.";
		return "the launcher does not run";
	}
	if (!database_listed())
	{
		*hint = "Add it to queue.databases, or set that to '*', and reload.";
		return psprintf("database \"%s\" is not in queue.databases", get_database_name(MyDatabaseId));
	}
	if (!database_serves())
	{
		*hint = "No worker may connect to it, so that it can be copied. "
			"To have jobs run, ALTER DATABASE .. IS_TEMPLATE false and ALLOW_CONNECTIONS true.";
		return psprintf("database \"%s\" is a template or allows no connections", get_database_name(MyDatabaseId));
	}
	base = queue_database();
	if (base == NULL)
	{
		*hint = psprintf("At most %d databases can have workers.", QUEUE_MAX_DATABASES);
		return "there is no place for this database in shared memory";
	}
	if (pg_atomic_read_u32(&base->closed) > 0)
	{
		*hint = "It opens again when that command ends.";
		return "a DDL command (DROP, ALTER DATABASE ..) keeps the workers out of this database";
	}
	procno = pg_atomic_read_u32(&base->scheduler_procno);
	switch ((QueueDatabaseState) pg_atomic_read_u32(&base->state))
	{
		case QUEUE_DATABASE_RUNNING:
			if (procno != PG_UINT32_MAX)
				return NULL;
			*hint = "The launcher starts it again within seconds; the server log tells why it ended.";
			return "the scheduler of this database is gone";
		case QUEUE_DATABASE_STARTING:
			*hint = "Ask again in a second.";
			return "the scheduler of this database is starting";
		case QUEUE_DATABASE_RESTING:
			return NULL;		/* with nothing to do it left its worker slot to others */
		case QUEUE_DATABASE_NO_SLOT:
			*hint = "Raise max_worker_processes and restart the server.";
			return psprintf("no worker slot is free (max_worker_processes %d)", max_worker_processes);
		case QUEUE_DATABASE_FAILED:
			*hint = "It is started again after a pause; the server log tells the error.";
			return "the scheduler of this database ended with an error";
		case QUEUE_DATABASE_NO_EXTENSION:
		case QUEUE_DATABASE_UNKNOWN:
			break;
	}
	*hint = "Ask again in a second; if it stays, look into the server log.";
	return "the launcher has not looked at this database yet";
}

/* ---------------------------------------------------------------- the rows */

/* Preload, settings, launcher, scheduler, worker slots, version. */
static void
check_server(QueueFindings *findings)
{
	const char *hint = NULL;
	const char *problem;
	QueueDatabase *base = queue_preloaded() ? queue_database() : NULL;
	const char *version = queue_extension_version();
	char		trouble[QUEUE_TROUBLE_SIZE] = "";

	problem = queue_preload_problem(&hint);
	queue_finding(findings, "preload", problem == NULL,
		problem == NULL ? "the library is in shared_preload_libraries" : problem,
		problem == NULL ? NULL :
		psprintf("%s Until then jobs can be enqueued and fetched, but the server runs none.", hint));

	problem = version == NULL ? "extension queue is not in this database" : queue_catalog_problem(version, &hint);
	queue_finding(findings, "version", problem == NULL,
		problem != NULL ? problem :
		psprintf("the extension is of version %s, the loaded library of version %s", version, QUEUE_VERSION), hint);

	queue_finding(findings, "recovery", !RecoveryInProgress(),
		RecoveryInProgress() ? "this server is a standby" : "this server is a primary",
		"Nothing runs here before promotion.");
	queue_finding(findings, "enabled", queue_enabled, queue_enabled ? "queue.enabled is on" : "queue.enabled is off",
		"Set queue.enabled = on and reload.");
	queue_finding(findings, "database", database_listed(),
		psprintf("database \"%s\" is %s queue.databases", get_database_name(MyDatabaseId),
				 database_listed() ? "among" : "not among"),
		"Add it to queue.databases, or set that to '*', and reload.");
	queue_finding(findings, "executors", queue_executors > 0, psprintf("queue.executors is %d", queue_executors),
		"Set queue.executors above 0 and reload, or the server runs no handlers.");
	if (!queue_preloaded())
		return;

	queue_finding(findings, "launcher", queue_launcher_alive(),
		queue_launcher_alive() ? "the launcher runs" : "the launcher does not run",
		"It is restarted within seconds; if not, look into the server log, and at max_worker_processes.");

	problem = queue_doctor_scheduler_problem(&hint);
	queue_finding(findings, "scheduler", problem == NULL,
				  problem == NULL ? "the scheduler of this database runs" : problem, hint);

	if (base != NULL)
		queue_database_trouble(base, trouble, sizeof(trouble));
	queue_finding(findings, "chores", trouble[0] == '\0',
				  trouble[0] == '\0' ? "no part of the scheduler's work fails" : trouble,
		"It is tried again; the server log tells the error.");
}

#define FEW_ENDS 3			/* before doctor() speaks of them */

/* Does the http worker end again and again, each time soon after its start? */
static void
check_http_worker(QueueFindings *findings)
{
	QueueDatabase *base = queue_preloaded() ? queue_database() : NULL;
	uint32		ends = base == NULL ? 0 : pg_atomic_read_u32(&base->http_ends);

	for (int i = 0; i < queue_slot_count() && ends > 0; i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_HTTP && slot->db == MyDatabaseId && slot->started_at != 0 &&
			queue_now() - slot->started_at > QUEUE_STABLE_US)
			ends = 0;			/* the present one lasts */
	}
	if (base != NULL)
		queue_finding(findings, "http worker", ends < FEW_ENDS,
					  ends < FEW_ENDS ? "the http worker does not end again and again" :
					  psprintf("the http worker ended %u times in a row within 10 s of its start", ends),
					  "It is started again after up to 30 s, and HTTP jobs wait so long; the server log tells why it"
					  " ended.");
}

/*
 * How many worker slots this database can use at most, against what there are.  Other databases share them: a scheduler
 * with nothing to do gives its slot up, and who is kept waiting is told by executors_wanted.
 */
static void
check_slots(QueueFindings *findings)
{
	QueueConfig *config = queue_config_keep();
	QueueDatabase *base = queue_database();
	uint32		wanted = base == NULL ? 0 : pg_atomic_read_u32(&base->executors_wanted);
	bool		replication = max_logical_replication_workers > 0;
	bool		http = false;
	int			schedulers = 0;
	int			needed;
	char	   *detail;

	if (!queue_preloaded())
		return;
	for (int i = 0; i < queue_database_count(); i++)
	{
		QueueDatabase *other = queue_database_nth(i);

		schedulers += other != NULL && pg_atomic_read_u32(&other->state) != QUEUE_DATABASE_NO_EXTENSION;
	}
	for (int i = 0; i < config->nhandlers && !http; i++)
		http = config->handlers[i]->http;
	needed = 2 + queue_executors + http + replication;
	detail = psprintf("this database needs up to %d of max_worker_processes = %d: the launcher, a scheduler, %d "
					  "executors%s%s; %d database%s of this server share%s them", needed, max_worker_processes,
					  queue_executors, http ? ", the http worker" : "",
					  replication ? ", the server's logical replication launcher" : "", schedulers,
					  schedulers == 1 ? "" : "s", schedulers == 1 ? "s" : "");
	if (wanted > 0)
		detail = psprintf("%u executors could not start: all worker slots of the server are taken; %s", wanted, detail);
	queue_finding(findings, "worker slots",
				  wanted == 0 && needed <= max_worker_processes &&
				  (base == NULL || pg_atomic_read_u32(&base->state) != QUEUE_DATABASE_NO_SLOT),
				  detail,
				  psprintf("Set max_worker_processes to %d or more (parallel queries and other extensions need some "
						   "too) and restart the server, or lower queue.executors.",
						   Max(needed, max_worker_processes + (int) wanted)));
}

/* How many lines there are, and places in shared memory: what finds none works on. */
static void
check_places(QueueFindings *findings)
{
	QueuePlaces places;
	char	   *detail = NULL;
	int			nlines;
	QueueDatabase *base = queue_database();
	bool		lost = base != NULL && pg_atomic_read_u32(&base->cursors_lost) != QUEUE_CURSORS_ALL;

	(void) queue_lines_all(&nlines);
	queue_finding(findings, "lines", nlines < queue_max_lines - queue_max_lines / 10 && !lost,
		psprintf("%d lines of jobs (a queue, kind and priority each); queue.max_lines is %d%s", nlines, queue_max_lines,
				 lost ? "; not all have a place in shared memory, so whoever looks for jobs looks at all lines" : ""),
		lost ? "All jobs run, but finding them takes longer. The places are shared by all databases: raise "
		"queue.max_lines and restart the server, or use fewer kinds." :
		"Put what differs from job to job into the payload instead of the kind, or raise queue.max_lines and restart "
		"the server: at the limit the first job of a new kind is refused.");
	if (!queue_preloaded())
		return;
	places = queue_counter_places();
	if (places.handled >= QUEUE_MAX_PLACES)
		detail = psprintf("%d kinds have run statistics of their own, as many as a database can have; those of a "
						  "handler that came later share one", QUEUE_MAX_PLACES);
	else if (places.kinds >= QUEUE_MAX_PLACES)
		detail = psprintf("%d kinds in queues are counted, as many as a database can have; what came later shows no "
						  "numbers in queue.stat_kind", QUEUE_MAX_PLACES);
	else if (places.queues >= QUEUE_MAX_PLACES)
		detail = psprintf("%d queues are counted, as many as a database can have; what came later shows no numbers in "
						  "queue.stat_queue", QUEUE_MAX_PLACES);
	queue_finding(findings, "statistics", detail == NULL,
				  detail != NULL ? detail :
				  psprintf("%d queues and %d kinds are counted", places.queues, places.kinds),
				  "Jobs run all the same. Use fewer kinds (put what differs into the payload) or fewer queues; places "
				  "of those that are gone are free again within a quarter of an hour.");
	queue_finding(findings, "history", queue_history_count() < QUEUE_HISTORY_OF_DATABASE,
				  psprintf("%d queues of this database have a history", queue_history_count()),
				  psprintf("There is room for %d; others show none in queue.history.", QUEUE_HISTORY_OF_DATABASE));
	queue_finding(findings, "recent jobs", queue_recent_room() == queue_recent_jobs,
				  queue_recent_room() == queue_recent_jobs ?
				  psprintf("the last %d jobs that end are remembered", queue_recent_jobs) :
				  psprintf("only the last %d jobs that end are remembered, not %d: other databases have the rest of "
						   "the room",
						   queue_recent_room(), queue_recent_jobs),
				  "Raise queue.recent_jobs and restart the server: all databases together have room for eight times as "
				  "many.");
}

/* Does a setting's array set session_replication_role to replica? */
static bool
sets_replica(Datum config)
{
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(config), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	for (i = 0; i < nelems; i++)
	{
		if (!nulls[i] && pg_strcasecmp(TextDatumGetCString(elems[i]), "session_replication_role=replica") == 0)
			return true;
	}
	return false;
}

/* session_replication_role = replica: triggers and foreign keys of the handlers' tables would be off. */
static void
check_replica_role(QueueFindings *findings)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;
	const char *hint = "Handlers and enqueuers then run without triggers and foreign keys. Reset "
					   "session_replication_role, or ALTER ROLE / DATABASE .. RESET it.";

	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
	{
		found = true;
		queue_finding(findings, "replica role", false, "session_replication_role is replica in this session", hint);
	}

	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_db_role_setting form = (Form_pg_db_role_setting) GETSTRUCT(tuple);
		bool		isnull;
		Datum		config = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig, RelationGetDescr(rel), &isnull);
		char	   *role;

		if (isnull || (OidIsValid(form->setdatabase) && form->setdatabase != MyDatabaseId) || !sets_replica(config))
			continue;
		found = true;
		role = OidIsValid(form->setrole) ? GetUserNameFromId(form->setrole, true) : NULL;
		queue_finding(findings, "replica role", false,
			role != NULL ? psprintf("session_replication_role is set to replica for role \"%s\"", role) :
			"session_replication_role is set to replica for this database", hint);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!found)
		queue_finding(findings, "replica role", true, "session_replication_role is not set to replica", NULL);
}

/* Who but the owner reaches the tables past the views and functions: one row for each such role. */
static void
check_tables(QueueFindings *findings)
{
	QueueSpi	spi;
	uint64		found;

	queue_spi_begin(&spi);
	found = queue_spi_run("SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,"
						  " count(DISTINCT c.oid) - 1, string_agg(DISTINCT a.privilege_type, ', '),"
						  " min(c.oid::regclass::text)"
						  " FROM pg_class c LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL,"
						  " LATERAL (SELECT * FROM aclexplode(c.relacl) UNION SELECT * FROM aclexplode(t.attacl)) a"
						  " WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind IN ('r', 'p', 'S')"
						  " AND a.grantee <> c.relowner GROUP BY a.grantee ORDER BY 1", 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *role = SPI_getvalue(tuple, desc, 1);

		queue_finding(findings, "table privileges", false,
			psprintf("%s holds %s on %s and %s more of schema queue: jobs, secrets and privileges lie open", role,
					 SPI_getvalue(tuple, desc, 3), SPI_getvalue(tuple, desc, 4), SPI_getvalue(tuple, desc, 2)),
			psprintf("Users need the views only. REVOKE ALL ON ALL TABLES IN SCHEMA queue FROM %s, likewise ALL "
					 "SEQUENCES,"
					 " then give back what it needs with queue.grant_queue; look at ALTER DEFAULT PRIVILEGES too.",
					 role));
	}
	if (found == 0)
		queue_finding(findings, "table privileges", true, "only the owner reaches the tables of schema queue", NULL);
	queue_spi_end(&spi);
}

/* Are triggers not as the extension made them?  pg_restore --disable-triggers leaves them so. */
static void
check_triggers(QueueFindings *findings)
{
	QueueSpi	spi;
	char	   *tables;

	queue_spi_begin(&spi);
	queue_spi_run("SELECT string_agg(tgrelid::regclass::text, ', ' ORDER BY tgrelid::regclass::text),"
				  " string_agg('ALTER TABLE ' || tgrelid::regclass::text || ' ENABLE ALWAYS TRIGGER ' || tgname, '; '"
				  " ORDER BY tgrelid::regclass::text)"
				  " FROM pg_trigger WHERE tgenabled <> 'A' AND tgname IN ('config_changed', 'privilege_inserted') AND"
				  " tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'queue_internal'::regnamespace)",
				  0, NULL, NULL, NULL);
	tables = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	queue_finding(findings, "triggers", tables == NULL,
				  tables == NULL ? "all triggers of the extension fire always" :
				  psprintf("triggers of %s do not fire always: what is replicated or restored there is not noticed",
						   tables),
				  tables == NULL ? NULL :
				  psprintf("pg_restore --disable-triggers leaves them so. Run SELECT queue.adopt(), and: %s",
						   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2)));
	queue_spi_end(&spi);
}

/* Is a sequence behind the ids of its tables? */
static void
check_sequences(QueueFindings *findings)
{
	QueueSpi	spi;
	char	   *behind;

	queue_spi_begin(&spi);
	queue_spi_run("SELECT string_agg(name::text, ', ' ORDER BY name) FROM " QUEUE_SEQUENCES
				  " WHERE needed > last_value",
				  0, NULL, NULL, NULL);
	behind = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	queue_finding(findings, "sequences", behind == NULL,
		behind == NULL ? "sequences are ahead of their tables" :
		psprintf("%s: behind the ids in its tables, so what comes next fails as a duplicate", behind),
		"Rows were replicated or restored without their sequence. Run SELECT queue.adopt().");
	queue_spi_end(&spi);
}

void
queue_doctor_server(QueueFindings *findings)
{
	queue_finding_check(findings, "server", check_server);
	queue_finding_check(findings, "http worker", check_http_worker);
	queue_finding_check(findings, "worker slots", check_slots);
	queue_finding_check(findings, "places", check_places);
	queue_finding_check(findings, "replica role", check_replica_role);
	queue_finding_check(findings, "table privileges", check_tables);
	queue_finding_check(findings, "triggers", check_triggers);
	queue_finding_check(findings, "sequences", check_sequences);
}
