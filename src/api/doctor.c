/*
 * doctor.c
 *		queue.doctor(): why nothing runs, in words.
 *
 * It goes from the server down to single kinds, one row per check, each with what to do, each check behind an error
 * boundary.  It only reads; it may walk a few index entries but scans no job table.  explain.c tells the same of one
 * job.
 *
 * Locks: AccessShareLock on live_job and the catalogs.
 */
#include "api/doctor.h"

#include "api/arguments.h"
#include "api/handlers.h"
#include "api/preload.h"
#include "config/http_handlers.h"
#include "config/lines.h"
#include "config/relations.h"
#include "job/finished.h"
#include "job/ready.h"
#include "shared/channel.h"
#include "shared/clock.h"
#include "shared/endpoint.h"
#include "shared/limit.h"
#include "shared/recent.h"
#include "shared/slot.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "postmaster/bgworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(queue_sql_doctor);

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

/* See doctor.h.  Called by doctor() and explain_job(). */
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

/* ---------------------------------------------------------------- the rows of doctor() */

typedef struct Doctor
{
	ReturnSetInfo *rsinfo;
} Doctor;

/* One row; a hint only where something is wrong. */
static void
row(Doctor *doctor, const char *check, bool ok, const char *detail, const char *hint)
{
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	values[0] = CStringGetTextDatum(check);
	values[1] = BoolGetDatum(ok);
	values[2] = CStringGetTextDatum(detail);
	nulls[3] = ok || hint == NULL;
	values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(hint);
	tuplestore_putvalues(doctor->rsinfo->setResult, doctor->rsinfo->setDesc, values, nulls);
}

/* Preload, settings, launcher, scheduler, worker slots, version. */
static void
check_server(Doctor *doctor)
{
	const char *hint = NULL;
	const char *problem;
	QueueDatabase *base = queue_preloaded() ? queue_database() : NULL;
	const char *version = queue_extension_version();
	char		trouble[QUEUE_TROUBLE_SIZE] = "";
	uint32		wanted;

	problem = queue_preload_problem(&hint);
	row(doctor, "preload", problem == NULL,
		problem == NULL ? "the library is in shared_preload_libraries" : problem,
		problem == NULL ? NULL :
		psprintf("%s Until then jobs can be enqueued and fetched, but the server runs none.", hint));

	if (version == NULL)
		version = "?";
	row(doctor, "version", strcmp(version, QUEUE_VERSION) == 0 &&
		(base == NULL || pg_atomic_read_u32(&base->library_differs) == 0),
		psprintf("the extension is of version %s, the loaded library of version %s", version, QUEUE_VERSION),
		"Run ALTER EXTENSION queue UPDATE; if the library is the older one, restart the server first.");

	row(doctor, "recovery", !RecoveryInProgress(),
		RecoveryInProgress() ? "this server is a standby" : "this server is a primary",
		"Nothing runs here before promotion.");
	row(doctor, "enabled", queue_enabled, queue_enabled ? "queue.enabled is on" : "queue.enabled is off",
		"Set queue.enabled = on and reload.");
	row(doctor, "database", database_listed(),
		psprintf("database \"%s\" is %s queue.databases", get_database_name(MyDatabaseId),
				 database_listed() ? "among" : "not among"),
		"Add it to queue.databases, or set that to '*', and reload.");
	row(doctor, "executors", queue_executors > 0, psprintf("queue.executors is %d", queue_executors),
		"Set queue.executors above 0 and reload, or the server runs no handlers.");
	if (!queue_preloaded())
		return;

	row(doctor, "launcher", queue_launcher_alive(),
		queue_launcher_alive() ? "the launcher runs" : "the launcher does not run",
		"It is restarted within seconds; if not, look into the server log, and at max_worker_processes.");

	problem = queue_doctor_scheduler_problem(&hint);
	row(doctor, "scheduler", problem == NULL, problem == NULL ? "the scheduler of this database runs" : problem, hint);

	if (base != NULL)
		queue_database_trouble(base, trouble, sizeof(trouble));
	row(doctor, "chores", trouble[0] == '\0', trouble[0] == '\0' ? "no part of the scheduler's work fails" : trouble,
		"It is tried again; the server log tells the error.");

	wanted = base == NULL ? 0 : pg_atomic_read_u32(&base->executors_wanted);
	row(doctor, "worker slots",
		wanted == 0 && (base == NULL || pg_atomic_read_u32(&base->state) != QUEUE_DATABASE_NO_SLOT),
		wanted > 0 ? psprintf("%u executors could not start: all worker slots of the server are taken "
							  "(max_worker_processes is %d)",
							  wanted, max_worker_processes) :
					 psprintf("max_worker_processes is %d", max_worker_processes),
		"Raise max_worker_processes and restart the server.");
}

/* How many lines there are, and places in shared memory: what finds none works on. */
static void
check_places(Doctor *doctor)
{
	int			nqueues;
	int			nkinds;
	int			nlines;

	(void) queue_lines_all(&nlines, NULL);
	row(doctor, "lines", nlines < queue_max_lines - queue_max_lines / 10,
		psprintf("%d lines of jobs (a queue, kind and priority each); queue.max_lines is %d", nlines, queue_max_lines),
		"Put what differs from job to job into the payload instead of the kind, or raise queue.max_lines and reload: "
		"at the limit the first job of a new kind is refused.");
	if (!queue_preloaded())
		return;
	queue_counter_places(&nqueues, &nkinds);
	row(doctor, "statistics", nqueues < QUEUE_MAX_PLACES && nkinds < QUEUE_MAX_PLACES,
		nkinds >= QUEUE_MAX_PLACES	? psprintf("%d kinds have run statistics of their own, as many as a database can "
												"have; those of a handler that came later share one",
											   QUEUE_MAX_PLACES) :
		nqueues >= QUEUE_MAX_PLACES ? psprintf("%d queues are counted, as many as a database can have; what came later "
											   "shows no numbers in queue.stat_queue",
											   QUEUE_MAX_PLACES) :
									  psprintf("%d queues and %d kinds are counted", nqueues, nkinds),
		"Jobs run all the same. Use fewer kinds (put what differs into the payload) or fewer queues; places of those "
		"that are gone are free again within a quarter of an hour.");
	row(doctor, "recent jobs", queue_recent_room() == queue_recent_jobs,
		queue_recent_room() == queue_recent_jobs ?
		psprintf("the last %d jobs that end are remembered", queue_recent_jobs) :
		psprintf("only the last %d jobs that end are remembered, not %d: other databases have the rest of the room",
				 queue_recent_room(), queue_recent_jobs),
		"Raise queue.recent_jobs and restart the server: all databases together have room for eight times as many.");
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
check_replica_role(Doctor *doctor)
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
		row(doctor, "replica role", false, "session_replication_role is replica in this session", hint);
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
		row(doctor, "replica role", false,
			role != NULL ? psprintf("session_replication_role is set to replica for role \"%s\"", role) :
			"session_replication_role is set to replica for this database", hint);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!found)
		row(doctor, "replica role", true, "session_replication_role is not set to replica", NULL);
}

/* One row per queue that is paused, or whose row cannot be read as a whole. */
static void
check_queues(Doctor *doctor)
{
	QueueConfig *config = queue_config();
	bool		found = false;
	int			i;

	for (i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];

		if ((conf->paused_at == 0 && conf->broken == NULL) || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_READ))
			continue;
		if (conf->broken != NULL)
			row(doctor, "queue settings", false,
				psprintf("queue \"%s\": %s; the default takes its place", conf->name, conf->broken),
				psprintf("Set it again with queue.alter_queue(%s, ..).", quote_literal_cstr(conf->name)));
		if (conf->paused_at == 0)
			continue;
		found = true;
		row(doctor, "queue paused", false,
			psprintf("queue \"%s\" is paused since %s", conf->name, timestamptz_to_str(conf->paused_at)),
			psprintf("Run SELECT queue.resume(%s).", quote_literal_cstr(conf->name)));
	}
	if (!found)
		row(doctor, "queue paused", true, "no queue is paused", NULL);
}

/* The first queue that a handler names and its role may not work in, or that does not exist; NULL: none. */
static const char *
handler_queue_problem(QueueHandler *handler, const char **hint)
{
	int			i;

	for (i = 0; i < handler->nqueues; i++)
	{
		const char *queue = handler->queues[i];

		if (queue_config_queue(queue, true) == NULL)
		{
			*hint = "Create the queue, or register the handler without it.";
			return psprintf("queue \"%s\" does not exist", queue);
		}
		if (!queue_may(handler->run_as_oid, queue, handler->http ? QUEUE_PRIV_MANAGE : QUEUE_PRIV_WORK))
		{
			const char *privilege = handler->http ? "manage" : "work";

			*hint = psprintf("Run SELECT queue.grant_queue(%s, %s, '%s').", quote_literal_cstr(queue),
							 quote_literal_cstr(handler->run_as), privilege);
			return psprintf("role \"%s\" lacks privilege %s on queue \"%s\"", handler->run_as, privilege, queue);
		}
	}
	return NULL;
}

/* Which handler: its kind, and a queue that it names if the kind has several. */
static char *
handler_label(const QueueHandler *handler)
{
	if (queue_config_handlers(handler->kind)->same_kind == NULL)
		return psprintf("kind \"%s\"", handler->kind);
	if (handler->queues == NULL)
		return psprintf("kind \"%s\" in all other queues", handler->kind);
	return psprintf(handler->nqueues > 1 ? "kind \"%s\" in queue \"%s\" and %d more" : "kind \"%s\" in queue \"%s\"",
					handler->kind, handler->queues[0], handler->nqueues - 1);
}

/* One row per handler that the caller may see. */
static void
check_handlers(Doctor *doctor)
{
	QueueConfig *config = queue_config();
	int			i;

	for (i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		const char *hint = NULL;
		const char *problem;

		if (!queue_handler_visible(handler))
			continue;
		problem = queue_handler_problem(handler, &hint);
		if (problem == NULL && handler->run_as_oid != InvalidOid)
			problem = handler_queue_problem(handler, &hint);
		if (problem == NULL && handler->paused_at != 0)
		{
			problem = psprintf("paused since %s", timestamptz_to_str(handler->paused_at));
			hint = psprintf("Run SELECT queue.resume_handler(%s, %s).", quote_literal_cstr(handler->kind),
							quote_literal_cstr(handler->queues == NULL ? "*" : handler->queues[0]));
		}
		row(doctor, "handler", problem == NULL,
			psprintf("%s: %s", handler_label(handler),
					 problem != NULL ? problem : psprintf("ready, runs as \"%s\"", handler->run_as)),
			hint);
	}
}

/* One row per endpoint that nothing is sent to because its row cannot be read; its handler may have others. */
static void
check_endpoints(Doctor *doctor)
{
	QueueConfig *config = queue_config();

	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		if (!handler->http || !queue_handler_visible(handler))
			continue;
		for (int j = 0; j < handler->conf->nendpoints; j++)
		{
			QueueEndpoint *endpoint = handler->conf->endpoints[j];

			if (endpoint->broken != NULL)
				row(doctor, "endpoint", false,
					psprintf("kind \"%s\": endpoint %s: %s", handler->kind, queue_httpconf_shown(endpoint->url),
							 endpoint->broken),
					"Remove that endpoint and add it again.");
		}
	}
}

/* How many executors of this database run jobs of a role (InvalidOid: of any). */
static int
executors_of(Oid role)
{
	int			n = 0;

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_EXECUTOR && slot->db == MyDatabaseId &&
			(!OidIsValid(role) || slot->role == role))
			n++;
	}
	return n;
}

/* One row per role whose jobs wait because others' jobs have all executors. */
static void
check_shares(Doctor *doctor)
{
	TimestampTz since = queue_now() - USECS_PER_SEC;
	bool		found = false;

	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *channel = queue_channel_nth(i);

		if (channel == NULL || channel->db != MyDatabaseId || !OidIsValid(channel->role) ||
			queue_executors == 0 || queue_channel_oldest(channel) > since || executors_of(channel->role) > 0 ||
			executors_of(InvalidOid) < queue_executors)
			continue;
		found = true;
		row(doctor, "shares of executors", false,
			psprintf("jobs of role \"%s\" wait since %s: jobs of other roles have all %d executors",
					 GetUserNameFromId(channel->role, true), timestamptz_to_str(queue_channel_oldest(channel)),
					 queue_executors),
			"An executor is given to them when its job ends. Raise queue.executors, or register handlers whose jobs "
			"run long with a timeout.");
	}
	if (!found)
		row(doctor, "shares of executors", true, "no role waits for executors of others", NULL);
}

/* HTTP handlers and endpoints that found no place in shared memory. */
static void
check_http_places(Doctor *doctor)
{
	QueueConfig *config = queue_config();
	int			handlers = 0;
	int			endpoints = 0;

	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		QueueGate  *gate = handler->http ? queue_gate_of(MyDatabaseId, QUEUE_GATE_HTTP, handler->id, false) : NULL;

		handlers += gate != NULL && gate->shared;
		for (int j = 0; handler->http && j < handler->conf->nendpoints; j++)
			endpoints += queue_endpoint_state_of(MyDatabaseId, handler->conf->endpoints[j]->key, false) == NULL;
	}
	if (queue_endpoint_places(MyDatabaseId) > 0)
		endpoints = 0;			/* the worker has only not come by yet */
	if (handlers + endpoints == 0 || !queue_preloaded())
		row(doctor, "http places", true, "HTTP handlers and endpoints have their places in shared memory", NULL);
	else
		row(doctor, "http places", false,
			psprintf("%d HTTP handlers and %d endpoints have no place in shared memory: the handlers wait for each "
					 "other, and the endpoints' state is in no view and ends with the http worker",
					 handlers, endpoints),
			psprintf("A database has room for %d handlers and %d endpoints: unregister some.",
					 QUEUE_MAX_GATES_OF_DATABASE, QUEUE_MAX_ENDPOINTS_OF_DATABASE));
}

/* Kinds with jobs that no handler serves: one row per queue and kind. */
static void
check_kinds(Doctor *doctor)
{
	QueueJobTable *table = queue_job_open(AccessShareLock);
	int			nlines;
	QueueLine **lines = queue_lines_all(&nlines, NULL);
	bool		found = false;
	int			i;
	int			j;
	bool	   *told = palloc0((nlines + 1) * sizeof(bool));

	for (i = 0; i < nlines; i++)
	{
		QueueLine  *line = lines[i];

		CHECK_FOR_INTERRUPTS();
		if (line->served || (line->handler != NULL && line->handler->paused_at != 0) ||
			!queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ) || !queue_ready_any(table, line->id))
			continue;
		for (j = 0; j < i; j++)
		{
			/* the same kind at another priority */
			if (told[j] && lines[j]->queue == line->queue && strcmp(lines[j]->kind, line->kind) == 0)
				break;
		}
		if (j < i)
			continue;
		told[i] = true;
		found = true;
		if (line->handler != NULL)
			row(doctor, "kind without handler", false,
				psprintf("jobs of kind \"%s\" wait in queue \"%s\": its handler's role \"%s\" may not work there",
						 line->kind, line->queue->name, line->handler->run_as),
				psprintf("Run SELECT queue.grant_queue(%s, %s, 'work').", quote_literal_cstr(line->queue->name),
						 quote_literal_cstr(line->handler->run_as)));
		else
			row(doctor, "kind without handler", false,
				psprintf("jobs of kind \"%s\" wait in queue \"%s\" and no handler serves them", line->kind,
						 line->queue->name),
				"All is well if external workers fetch them; else register a handler with queue.register_sql_handler.");
	}
	if (!found)
		row(doctor, "kind without handler", true, "every kind that has jobs has a handler", NULL);
	queue_job_close(table);
}

/* Who but the owner reaches the tables past the views and functions: one row for each such role. */
static void
check_tables(Doctor *doctor)
{
	QueueSpi	spi;
	uint64		found;
	char	   *behind;

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

		row(doctor, "table privileges", false,
			psprintf("%s holds %s on %s and %s more of schema queue: jobs, secrets and privileges lie open", role,
					 SPI_getvalue(tuple, desc, 3), SPI_getvalue(tuple, desc, 4), SPI_getvalue(tuple, desc, 2)),
			psprintf("Users need the views only. REVOKE ALL ON ALL TABLES IN SCHEMA queue FROM %s, likewise ALL "
					 "SEQUENCES,"
					 " then give back what it needs with queue.grant_queue; look at ALTER DEFAULT PRIVILEGES too.",
					 role));
	}
	if (found == 0)
		row(doctor, "table privileges", true, "only the owner reaches the tables of schema queue", NULL);
	queue_spi_run("SELECT string_agg(name::text, ', ' ORDER BY name) FROM " QUEUE_SEQUENCES
				  " WHERE needed > last_value",
				  0, NULL, NULL, NULL);
	behind = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	row(doctor, "sequences", behind == NULL,
		behind == NULL ? "sequences are ahead of their tables" :
		psprintf("%s: behind the ids in its tables, so what comes next fails as a duplicate", behind),
		"Rows were replicated or restored without their sequence. Run SELECT queue.adopt().");
	queue_spi_end(&spi);
}

static const struct
{
	const char *name;
	void		(*check) (Doctor *doctor);
}			checks[] = {
	{"server", check_server},
	{"places", check_places},
	{"replica role", check_replica_role},
	{"tables", check_tables},
	{"queues", check_queues},
	{"handlers", check_handlers},
	{"endpoints", check_endpoints},
	{"http places", check_http_places},
	{"executors", check_shares},
	{"kinds", check_kinds},
};

/* One check behind an error boundary: what it could not find out is a row, and the other checks go on. */
static void
run_check(Doctor *doctor, const char *name, void (*check) (Doctor *doctor))
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		check(doctor);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		row(doctor, name, false, psprintf("this check failed: %s", edata->message),
			edata->hint != NULL ? edata->hint : "What it looks at is damaged, or was changed by hand.");
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* queue.doctor(): for whoever may read or manage some queue; rows about queues and handlers as one may see them. */
Datum
queue_sql_doctor(PG_FUNCTION_ARGS)
{
	Doctor		doctor;

	InitMaterializedSRF(fcinfo, 0);
	doctor.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	for (int i = 0; i < lengthof(checks); i++)
		run_check(&doctor, checks[i].name, checks[i].check);
	PG_RETURN_NULL();
}
