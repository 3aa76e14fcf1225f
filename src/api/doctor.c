/*
 * doctor.c
 *		queue.doctor() and queue.explain_job(): why nothing runs, in words.
 *
 * doctor goes from the server down to single kinds, one row per check, each with what to
 * do.  explain_job tells the same of one job.  Both only read; they may walk a few index
 * entries but scan no job table.
 *
 * Locks: AccessShareLock on live_job and the catalogs.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/handlers.h"
#include "config/lines.h"
#include "job/claim.h"
#include "job/finished.h"
#include "shared/clock.h"
#include "shared/recent.h"
#include "shared/slot.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "postmaster/bgworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(queue_sql_doctor);
PG_FUNCTION_INFO_V1(queue_sql_explain_job);

/* ---------------------------------------------------------------- the server and this database */

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

/* Why no scheduler works for this database, with a hint; NULL if one does. */
static const char *
scheduler_problem(const char **hint)
{
	QueueBase  *base;
	uint32		procno;

	if (!queue_preloaded())
	{
		*hint = "Set shared_preload_libraries = 'queue' in postgresql.conf and restart the server.";
		return "the library is not in shared_preload_libraries, so no workers run";
	}
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
	base = queue_base();
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
	switch ((QueueBaseState) pg_atomic_read_u32(&base->state))
	{
		case QUEUE_BASE_RUNNING:
			if (procno != PG_UINT32_MAX)
				return NULL;
			*hint = "The launcher starts it again within seconds; the server log tells why it ended.";
			return "the scheduler of this database is gone";
		case QUEUE_BASE_STARTING:
			*hint = "Ask again in a second.";
			return "the scheduler of this database is starting";
		case QUEUE_BASE_NO_SLOT:
			*hint = "Raise max_worker_processes and restart the server.";
			return "no scheduler could start: all worker slots of the server are taken";
		case QUEUE_BASE_FAILED:
			*hint = "It is started again after a pause; the server log tells the error.";
			return "the scheduler of this database ended with an error";
		case QUEUE_BASE_NO_EXTENSION:
		case QUEUE_BASE_UNKNOWN:
			break;
	}
	*hint = "Ask again in a second; if it stays, look into the server log.";
	return "the launcher has not looked at this database yet";
}

/* The extension's SQL version. */
static char *
extension_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("queue"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		d = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		if (!isnull)
			version = TextDatumGetCString(d);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version != NULL ? version : "?";
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
	QueueBase  *base = queue_preloaded() ? queue_base() : NULL;
	char	   *version = extension_version();
	uint32		wanted;

	row(doctor, "preload", queue_preloaded(),
		queue_preloaded() ? "the library is in shared_preload_libraries" : "the library is not in shared_preload_libraries",
		"Set shared_preload_libraries = 'queue' in postgresql.conf and restart the server. Until then jobs can be enqueued and fetched, but the server runs none.");

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

	problem = scheduler_problem(&hint);
	row(doctor, "scheduler", problem == NULL, problem == NULL ? "the scheduler of this database runs" : problem, hint);

	wanted = base == NULL ? 0 : pg_atomic_read_u32(&base->executors_wanted);
	row(doctor, "worker slots",
		wanted == 0 && (base == NULL || pg_atomic_read_u32(&base->state) != QUEUE_BASE_NO_SLOT),
		wanted > 0 ? psprintf("%u executors could not start: all worker slots of the server are taken (max_worker_processes is %d)",
							  wanted, max_worker_processes)
		: psprintf("max_worker_processes is %d", max_worker_processes),
		"Raise max_worker_processes and restart the server.");
}

/* Places in shared memory: what finds none works on. */
static void
check_places(Doctor *doctor)
{
	int			nqueues;
	int			nkinds;

	if (!queue_preloaded())
		return;
	queue_counter_places(&nqueues, &nkinds);
	row(doctor, "statistics", nqueues < QUEUE_MAX_PLACES && nkinds < QUEUE_MAX_PLACES,
		nkinds >= QUEUE_MAX_PLACES ?
		psprintf("%d kinds have run statistics of their own, as many as a database can have; those of a handler that came later share one",
				 QUEUE_MAX_PLACES) :
		nqueues >= QUEUE_MAX_PLACES ?
		psprintf("%d queues are counted, as many as a database can have; what came later shows no numbers in queue.stat_queue",
				 QUEUE_MAX_PLACES) :
		psprintf("%d queues and %d kinds are counted", nqueues, nkinds),
		"Jobs run all the same. Use fewer kinds (put what differs into the payload) or fewer queues; places of those that are gone are free again within a quarter of an hour.");
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
	const char *hint = "Handlers and enqueuers then run without triggers and foreign keys. Reset session_replication_role, or ALTER ROLE / DATABASE .. RESET it.";

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

/* One row per paused queue. */
static void
check_queues(Doctor *doctor)
{
	QueueConfig *config = queue_config();
	bool		found = false;
	int			i;

	for (i = 0; i < config->nqueues; i++)
	{
		QueueConf  *conf = config->queues[i];

		if (conf->paused_at == 0 || !queue_may(GetUserId(), conf->name, QUEUE_PRIV_READ))
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

/* Is there any job in the line?  Ends at the first visible row. */
static bool
line_has_jobs(QueueJobTable *table, int64 line)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	IndexScanDesc scan;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line));
	scan = queue_index_beginscan(table->rel, table->ready, snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, table->slot);
	ExecClearTuple(table->slot);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
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
			!queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ) || !line_has_jobs(table, line->id))
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
			psprintf("Users need the views only. REVOKE ALL ON ALL TABLES IN SCHEMA queue FROM %s, likewise ALL SEQUENCES,"
					 " then give back what it needs with queue.grant_queue; look at ALTER DEFAULT PRIVILEGES too.", role));
	}
	if (found == 0)
		row(doctor, "table privileges", true, "only the owner reaches the tables of schema queue", NULL);
	queue_spi_end(&spi);
}

/* queue.doctor(): for whoever may read or manage some queue; rows about queues and handlers as one may see them. */
Datum
queue_sql_doctor(PG_FUNCTION_ARGS)
{
	Doctor		doctor;

	InitMaterializedSRF(fcinfo, 0);
	doctor.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	check_server(&doctor);
	check_places(&doctor);
	check_replica_role(&doctor);
	check_tables(&doctor);
	check_queues(&doctor);
	check_handlers(&doctor);
	check_kinds(&doctor);
	PG_RETURN_NULL();
}

/* ---------------------------------------------------------------- explain_job */

/* Appends "; waits: a; b" piece by piece. */
static void
wait_for_reason(StringInfo out, int *count, const char *reason)
{
	appendStringInfo(out, "; %s%s", (*count)++ == 0 ? "waits: " : "", reason);
}

/* What an available job waits for. */
static void
explain_available(StringInfo out, int *count, QueueConf *conf, const char *kind, QueueHandler *handler)
{
	const char *hint;
	const char *problem;

	if (conf->paused_at != 0)
		wait_for_reason(out, count, psprintf("queue %s is paused since %s", conf->name, timestamptz_to_str(conf->paused_at)));
	if (handler == NULL)
	{
		wait_for_reason(out, count, psprintf("no handler serves kind %s in queue %s, so a worker has to fetch it",
											 kind, conf->name));
		return;
	}
	if (handler->paused_at != 0)
		wait_for_reason(out, count, psprintf("the handler of kind %s is paused since %s, so a worker has to fetch it",
											 handler->kind, timestamptz_to_str(handler->paused_at)));
	problem = queue_handler_problem(handler, &hint);
	if (problem != NULL)
		wait_for_reason(out, count, hint != NULL ? psprintf("the handler of kind %s is parked: %s (%s)", handler->kind, problem, hint) :
						psprintf("the handler of kind %s is parked: %s", handler->kind, problem));
	else if (!queue_may(handler->run_as_oid, conf->name, QUEUE_PRIV_WORK))
		wait_for_reason(out, count, psprintf("role \"%s\" of the handler of kind %s may not work in queue %s",
											 handler->run_as, handler->kind, conf->name));
	problem = scheduler_problem(&hint);
	if (problem != NULL)
		wait_for_reason(out, count, problem);
	else if (queue_executors == 0)
		wait_for_reason(out, count, "queue.executors is 0");
	if (*count == 0)
		wait_for_reason(out, count, "its turn");
}

/* "3 s", "5 min", "2 h" or "4 days" between two times. */
static char *
how_long(TimestampTz from, TimestampTz to)
{
	int64		s = Max(to - from, 0) / USECS_PER_SEC;

	return s < 120 ? psprintf(INT64_FORMAT " s", s) :
		s < 2 * SECS_PER_HOUR ? psprintf(INT64_FORMAT " min", s / SECS_PER_MINUTE) :
		s < 2 * SECS_PER_DAY ? psprintf(INT64_FORMAT " h", s / SECS_PER_HOUR) :
		psprintf(INT64_FORMAT " days", s / SECS_PER_DAY);
}

/* As the session's DateStyle has it. */
static char *
time_text(TimestampTz at)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(at)));
}

/* The statement that makes a queue keep jobs that end so. */
static char *
keep_statement(const char *queue, QueueState state)
{
	return psprintf("SELECT queue.alter_queue(%s, %s => '7 days')", queue == NULL ? "<queue>" : quote_literal_cstr(queue),
					state == QUEUE_STATE_COMPLETED ? "keep_completed" : "keep_discarded");
}

/*
 * A job without a live row, under the caller's snapshot: kept, remembered, or neither.  One that the caller may not
 * see reads like one that is gone.
 */
static char *
explain_ended(int64 id, Snapshot snapshot)
{
	QueueFinished finished;
	QueueRecent recent;

	if (queue_finished_find(id, snapshot, &finished))
	{
		if (queue_may(GetUserId(), finished.queue, QUEUE_PRIV_READ))
		{
			QueueExtra	extra;

			queue_extra_unpack(finished.job.extra, &extra);
			return psprintf("%s at %s%s%s; kept %s", queue_state_names[finished.state],
							time_text(finished.finished_at), extra.last_error != NULL ? ": " : "",
							extra.last_error != NULL ? extra.last_error : "",
							finished.keep_until == DT_NOEND ? "for ever" :
							psprintf("at least until %s", time_text(finished.keep_until)));
		}
	}
	else if (queue_recent_find(id, &recent))
	{
		QueueLine  *line = queue_config_line(recent.line);

		if (line != NULL && queue_may(GetUserId(), line->queue->name, QUEUE_PRIV_READ))
		{
			const char *ago = how_long(recent.ended_at, queue_now());

			if (recent.state == QUEUE_STATE_NONE)
				return psprintf("deleted %s ago: queue %s was purged or dropped", ago, line->queue->name);
			return psprintf("%s %s ago, not kept; to keep such jobs: %s", queue_state_names[recent.state], ago,
							keep_statement(line->queue->name, recent.state));
		}
	}
	return psprintf("unknown: no job in a queue that you may read has this id; it was never committed, or it ended, or "
					"was purged, and is not kept. To keep jobs that complete: %s",
					keep_statement(NULL, QUEUE_STATE_COMPLETED));
}

/* queue.explain_job(id): read on its queue; a job that one may not see answers like a missing one. */
Datum
queue_sql_explain_job(PG_FUNCTION_ARGS)
{
	QueueJobTable *table;
	QueueJob	job;
	Snapshot	snapshot;
	bool		found;
	StringInfoData out;
	int			count = 0;
	TimestampTz now = queue_now();
	int64		id = queue_arg_id(fcinfo, 0, "job_id");

	initStringInfo(&out);

	table = queue_job_open(AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = queue_job_find_lean(table, id, snapshot, &job);
	if (found)
	{
		QueueLine  *line = queue_job_line(job.line);
		QueueConf  *conf = line->queue;
		QueueHandler *handler = line->handler;
		QueueState	state = queue_job_state(&job, now);
		QueueHolder holder;
		QueueExtra	extra;

		found = queue_may(GetUserId(), conf->name, QUEUE_PRIV_READ);
		if (found)
		{
			queue_extra_unpack(job.extra, &extra);
			holder = queue_claim_holder(id, DT_NOBEGIN, now);
			if (holder == QUEUE_HELD_BY_EXECUTOR)
				appendStringInfoString(&out, "running: an executor runs it now");
			else if (holder == QUEUE_HELD_BY_SESSION)
				appendStringInfoString(&out, "running: a session has claimed it with fetch(claim => 'session')");
			else
			{
				appendStringInfoString(&out, queue_state_names[state]);
				if (state == QUEUE_STATE_RUNNING)
					appendStringInfo(&out, ": claimed by %s until %s", extra.worker != NULL ? extra.worker : "a worker",
									 timestamptz_to_str(job.leased_until));
				else if (state == QUEUE_STATE_RETRYABLE)
				{
					appendStringInfo(&out, ": failed %d of %d times", job.failures,
									 queue_job_max_attempts(&job, &extra, conf, handler));
					if (extra.last_error != NULL)
						appendStringInfo(&out, ", last: %s", extra.last_error);
				}
				if (state == QUEUE_STATE_SCHEDULED || state == QUEUE_STATE_RETRYABLE)
					wait_for_reason(&out, &count, psprintf("it is due at %s", timestamptz_to_str(job.run_at)));
				if (state == QUEUE_STATE_PENDING)
					wait_for_reason(&out, &count, "its group or its dependencies");
				if (state == QUEUE_STATE_AVAILABLE)
					explain_available(&out, &count, conf, line->kind, handler);
			}
		}
	}
	queue_job_close(table);
	if (!found)
		appendStringInfoString(&out, explain_ended(id, snapshot));
	UnregisterSnapshot(snapshot);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
