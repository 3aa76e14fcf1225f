/*
 * grants.c
 *		queue.grant_queue and queue.revoke_queue, and the type of the column that names a role.
 *
 * A privilege is a row that queue_may reads (config.c) and EXECUTE on just the functions
 * that it allows: the grants keep others out of the functions, the row says in which
 * queue.  What a user gave goes into SQL as parameters, but for the role in GRANT, which
 * is a quoted identifier.
 *
 * queue.privilege holds roles as OIDs, so that a renamed role keeps its privileges and a new role of an old name
 * gets none.  The column's type, queue.role_name, writes the name, so that a dump carries names; a role that the
 * restored server lacks reads as 0, and a trigger skips that row instead of failing the whole COPY.
 *
 * Locks: ShareRowExclusiveLock on queue.privilege until the end of the transaction, since
 * two GRANTs on one function at a time fail ("tuple concurrently updated").
 */
#include "api/grants.h"

#include "api/arguments.h"
#include "config/owner.h"
#include "config/reader.h"
#include "job/finish.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_sql_grant_queue);
PG_FUNCTION_INFO_V1(queue_sql_revoke_queue);
PG_FUNCTION_INFO_V1(queue_sql_role_name_in);
PG_FUNCTION_INFO_V1(queue_sql_role_name_out);
PG_FUNCTION_INFO_V1(queue_sql_privilege_inserted);

#define PRIV_ANY	(QUEUE_PRIV_ENQUEUE | QUEUE_PRIV_WORK | QUEUE_PRIV_READ | QUEUE_PRIV_MANAGE)
#define PRIV_STAR	0x10		/* manage on '*' */

/*
 * The matrix of privileges, function by function; what is in no row here is for the extension's owner and superusers.
 */
static const struct
{
	const char *name;
	int			bits;
}			function_privileges[] = {
	{"enqueue", QUEUE_PRIV_ENQUEUE},
	{"enqueue_many", QUEUE_PRIV_ENQUEUE},
	{"enqueue_json", QUEUE_PRIV_ENQUEUE},
	{"enqueue_json_many", QUEUE_PRIV_ENQUEUE},
	{"enqueue_unique", QUEUE_PRIV_ENQUEUE},
	{"key_of", PRIV_ANY},
	{"publish", QUEUE_PRIV_ENQUEUE},
	{"enqueue_workflow", QUEUE_PRIV_ENQUEUE},
	{"create_workflow", QUEUE_PRIV_ENQUEUE},
	{"close_workflow", QUEUE_PRIV_ENQUEUE},
	{"fetch", QUEUE_PRIV_WORK},
	{"fetch_any", QUEUE_PRIV_WORK},
	{"await", QUEUE_PRIV_WORK},
	{"complete", QUEUE_PRIV_WORK},
	{"complete_many", QUEUE_PRIV_WORK},
	{"fail", QUEUE_PRIV_WORK},
	{"snooze", QUEUE_PRIV_WORK},
	{"release", QUEUE_PRIV_WORK},
	{"release_many", QUEUE_PRIV_WORK},
	{"heartbeat", QUEUE_PRIV_WORK},
	{"heartbeat_many", QUEUE_PRIV_WORK},
	{"progress", QUEUE_PRIV_WORK},
	{"log", QUEUE_PRIV_WORK},
	{"emit", QUEUE_PRIV_ENQUEUE},
	{"await_event", QUEUE_PRIV_WORK},
	{"save_step", QUEUE_PRIV_WORK},
	{"steps", QUEUE_PRIV_WORK},
	{"dependency_results", QUEUE_PRIV_WORK | QUEUE_PRIV_READ},
	{"test_run", PRIV_ANY},		/* as the handler's run_as */
	{"test_drain", PRIV_ANY},
	{"result", QUEUE_PRIV_READ},
	{"wait_for", QUEUE_PRIV_READ},
	{"explain_job", QUEUE_PRIV_READ},
	{"await_idle", QUEUE_PRIV_READ},
	{"doctor", QUEUE_PRIV_READ},
	{"job_state", QUEUE_PRIV_READ},
	{"job_time", QUEUE_PRIV_READ},
	{"job_max_attempts", QUEUE_PRIV_READ},
	{"job_tags", QUEUE_PRIV_READ},
	{"job_attempt", QUEUE_PRIV_READ},
	{"job_started_at", QUEUE_PRIV_READ},
	{"job_worker", QUEUE_PRIV_READ},
	{"job_progress", QUEUE_PRIV_READ},
	{"recent_job_rows", QUEUE_PRIV_READ},
	{"metrics", QUEUE_PRIV_READ},
	{"history_rows", QUEUE_PRIV_READ},
	{"stat_queue_rows", QUEUE_PRIV_READ},
	{"stat_kind_rows", QUEUE_PRIV_READ},
	{"stat_handler_rows", QUEUE_PRIV_READ},
	{"stat_endpoint_rows", QUEUE_PRIV_READ},
	{"stat_worker_rows", QUEUE_PRIV_READ},
	{"find_jobs", QUEUE_PRIV_READ},
	{"cancel_jobs", QUEUE_PRIV_MANAGE | QUEUE_PRIV_ENQUEUE},	/* those that their unique keys name */
	{"discard_jobs", QUEUE_PRIV_MANAGE},
	{"retry_jobs", QUEUE_PRIV_MANAGE},
	{"move_jobs", QUEUE_PRIV_MANAGE},
	{"delete_jobs", QUEUE_PRIV_MANAGE},
	{"cancel", QUEUE_PRIV_MANAGE},
	{"cancel_workflow", QUEUE_PRIV_MANAGE},
	{"retry_workflow", QUEUE_PRIV_MANAGE},
	{"discard", QUEUE_PRIV_MANAGE},
	{"retry", QUEUE_PRIV_MANAGE},
	{"alter_job", QUEUE_PRIV_MANAGE},
	{"redrive", QUEUE_PRIV_MANAGE},
	{"pause", QUEUE_PRIV_MANAGE},
	{"resume", QUEUE_PRIV_MANAGE},
	{"purge", QUEUE_PRIV_MANAGE},
	{"stat_reset", QUEUE_PRIV_MANAGE},
	{"alter_queue", QUEUE_PRIV_MANAGE},
	{"drop_queue", QUEUE_PRIV_MANAGE},
	{"grant_queue", QUEUE_PRIV_MANAGE},
	{"revoke_queue", QUEUE_PRIV_MANAGE},
	{"schedule", QUEUE_PRIV_MANAGE},
	{"unschedule", QUEUE_PRIV_MANAGE},
	{"pause_schedule", QUEUE_PRIV_MANAGE},
	{"resume_schedule", QUEUE_PRIV_MANAGE},
	{"run_schedule", QUEUE_PRIV_MANAGE},
	{"next_ticks", PRIV_ANY},
	{"schedule_status_rows", QUEUE_PRIV_READ},
	{"tick", PRIV_STAR},
	{"register_sql_handler", QUEUE_PRIV_MANAGE},
	{"register_http_handler", QUEUE_PRIV_MANAGE},
	{"unregister_handler", QUEUE_PRIV_MANAGE},
	{"pause_handler", QUEUE_PRIV_MANAGE},
	{"resume_handler", QUEUE_PRIV_MANAGE},
	{"alter_http_handler", QUEUE_PRIV_MANAGE},
	{"add_endpoint", QUEUE_PRIV_MANAGE},
	{"remove_endpoint", QUEUE_PRIV_MANAGE},
	{"create_queue", PRIV_STAR},
	{"subscribe", PRIV_STAR},
	{"unsubscribe", PRIV_STAR},
	{"adopt", PRIV_STAR},
	{"maintain", PRIV_STAR},
};

#define VIEWS "queue.job, queue.workflow, queue.workflow_edge, queue.job_error, queue.job_log, queue.recent_job, " \
	"queue.history, queue.schedule_status, queue.stat_queue, queue.stat_kind, queue.stat_handler, " \
	"queue.stat_endpoint, queue.stat_worker"

/* What a row (queue, privilege) gives, as bits of function_privileges. */
static int
privilege_word_bits(const char *word, bool star)
{
	if (strcmp(word, "enqueue") == 0)
		return QUEUE_PRIV_ENQUEUE;
	if (strcmp(word, "work") == 0)
		return QUEUE_PRIV_WORK;
	if (strcmp(word, "read") == 0)
		return QUEUE_PRIV_READ;
	if (strcmp(word, "manage") == 0)
		return PRIV_ANY | (star ? PRIV_STAR : 0);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown privilege \"%s\"", word),
			 errhint("It is enqueue, work, read or manage.")));
	return 0;
}

/* The functions of these bits as an array for SQL. */
static Datum
functions_of(int bits)
{
	Datum		names[lengthof(function_privileges)];
	int			n = 0;
	size_t		i;

	for (i = 0; i < lengthof(function_privileges); i++)
	{
		if ((function_privileges[i].bits & bits) != 0)
			names[n++] = CStringGetTextDatum(function_privileges[i].name);
	}
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * GRANTs or REVOKEs EXECUTE on the functions of `bits` where the role's own entry is missing or there; leaves the
 * catalog alone where it is right already.  Inside queue_spi_begin.
 */
static void
change_execute(bool grant, Oid role, const char *quoted_role, int bits)
{
	Oid			types[3] = {TEXTARRAYOID, OIDOID, BOOLOID};
	Datum		values[3];
	char	   *list;

	values[0] = functions_of(bits);
	values[1] = ObjectIdGetDatum(role);
	values[2] = BoolGetDatum(grant);
	queue_spi_run("SELECT string_agg(p.oid::regproc::text, ', ' ORDER BY p.proname)"
				  " FROM pg_catalog.pg_proc p"
				  " WHERE p.pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)"
				  " AND p.proname::text = ANY ($1)"
				  " AND $3 <> EXISTS (SELECT FROM aclexplode(p.proacl) a"
				  "                   WHERE a.grantee = $2 AND a.privilege_type = 'EXECUTE')",
				  3, types, values, NULL);
	list = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (list != NULL)
		queue_spi_run(psprintf(grant ? "GRANT EXECUTE ON ROUTINE %s TO %s" : "REVOKE EXECUTE ON ROUTINE %s FROM %s",
							   list, quoted_role),
					  0, NULL, NULL, NULL);
}

/* What the role's remaining rows give.  Inside queue_spi_begin. */
static int
remaining_bits(Oid role)
{
	Oid			type = OIDOID;
	Datum		value = ObjectIdGetDatum(role);
	int			bits = 0;
	uint64		i;

	queue_spi_run_now("SELECT queue, privilege FROM queue.privilege WHERE role = $1", 1, &type, &value, NULL);
	for (i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];

		bits |= privilege_word_bits(SPI_getvalue(row, SPI_tuptable->tupdesc, 2),
									strcmp(SPI_getvalue(row, SPI_tuptable->tupdesc, 1), "*") == 0);
	}
	return bits;
}

/*
 * Takes the lock that all changes of privileges take, and drops the rows of roles that are no more: their OIDs must not
 * serve other roles one day.  Inside queue_spi_begin.
 */
static void
lock_privileges(void)
{
	queue_spi_run("LOCK TABLE queue.privilege IN SHARE ROW EXCLUSIVE MODE", 0, NULL, NULL, NULL);
	queue_spi_run_now("DELETE FROM queue.privilege p"
				  " WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_authid a WHERE a.oid = p.role)",
				  0, NULL, NULL, NULL);
}

/* Arguments and checks that grant_queue and revoke_queue share; opens the SPI section and locks. */
static void
privilege_begin(FunctionCallInfo fcinfo, const char *function, char **queue, Oid *role, QueueSpi *spi)
{
	bool		star;

	*queue = queue_arg_name(fcinfo, 0, "queue", true);
	star = strcmp(*queue, "*") == 0;
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("role must not be null"),
				 errhint("Give a value for it.")));
	queue_finish_writable(function);
	queue_require(star ? NULL : *queue, QUEUE_PRIV_MANAGE);
	if (!star)
		(void) queue_config_queue(*queue, false);
	*role = queue_role_oid(NameStr(*PG_GETARG_NAME(1)));

	queue_spi_begin(spi);
	lock_privileges();
}

/* queue.grant_queue(queue, role, privilege): manage on the queue. */
Datum
queue_sql_grant_queue(PG_FUNCTION_ARGS)
{
	char	   *queue;
	const char *quoted_role;
	char	   *privilege = PG_ARGISNULL(2) ? "enqueue" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Oid			role;
	int			bits;
	QueueSpi	spi;
	Oid			types[3] = {TEXTOID, OIDOID, TEXTOID};
	Datum		values[3];

	bits = privilege_word_bits(privilege, !PG_ARGISNULL(0) && strcmp(text_to_cstring(PG_GETARG_TEXT_PP(0)), "*") == 0);
	privilege_begin(fcinfo, "queue.grant_queue()", &queue, &role, &spi);
	quoted_role = quote_identifier(GetUserNameFromId(role, false));
	values[0] = CStringGetTextDatum(queue);
	values[1] = ObjectIdGetDatum(role);
	values[2] = CStringGetTextDatum(privilege);
	queue_spi_run_now("INSERT INTO queue.privilege (queue, role, privilege) VALUES ($1, $2::queue.role_name, $3)"
				  " ON CONFLICT DO NOTHING",
				  3, types, values, NULL);
	change_execute(true, role, quoted_role, bits);
	if (!superuser_arg(role))
		queue_spi_run(psprintf("GRANT USAGE ON SCHEMA queue TO %s", quoted_role), 0, NULL, NULL, NULL);
	if ((bits & QUEUE_PRIV_READ) != 0)
		queue_spi_run(psprintf("GRANT SELECT ON " VIEWS " TO %s", quoted_role), 0, NULL, NULL, NULL);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/*
 * Deletes a role's rows of a queue (privilege NULL: all of them) and revokes of EXECUTE, SELECT and USAGE what its
 * other rows do not need.  Inside queue_spi_begin, after lock_privileges.
 */
static void
take_privileges(const char *queue, Oid role, const char *privilege)
{
	const char *quoted_role = quote_identifier(GetUserNameFromId(role, false));
	Oid			types[3] = {TEXTOID, OIDOID, TEXTOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', privilege == NULL ? 'n' : ' '};
	int			before = remaining_bits(role);
	int			after;

	values[0] = CStringGetTextDatum(queue);
	values[1] = ObjectIdGetDatum(role);
	values[2] = privilege == NULL ? (Datum) 0 : CStringGetTextDatum(privilege);
	queue_spi_run_now("DELETE FROM queue.privilege"
					  " WHERE queue = $1 AND role = $2 AND privilege = coalesce($3, privilege)",
					  3, types, values, nulls);
	after = remaining_bits(role);
	if ((before & ~after) != 0)
		change_execute(false, role, quoted_role, before & ~after);
	if ((before & ~after & QUEUE_PRIV_READ) != 0)
		queue_spi_run(psprintf("REVOKE SELECT ON " VIEWS " FROM %s", quoted_role), 0, NULL, NULL, NULL);
	if (before != 0 && after == 0)
		queue_spi_run(psprintf("REVOKE USAGE ON SCHEMA queue FROM %s", quoted_role), 0, NULL, NULL, NULL);
}

/* queue.revoke_queue(queue, role, privilege): manage on the queue; what other rows of the role need stays. */
Datum
queue_sql_revoke_queue(PG_FUNCTION_ARGS)
{
	char	   *queue;
	char	   *privilege = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Oid			role;
	QueueSpi	spi;

	if (privilege != NULL)
		(void) privilege_word_bits(privilege, false);
	privilege_begin(fcinfo, "queue.revoke_queue()", &queue, &role, &spi);
	take_privileges(queue, role, privilege);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* See grants.h.  Inside queue_spi_begin.  Called by drop_queue. */
void
queue_grants_drop_queue(const char *queue)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(queue);
	Oid		   *roles;
	uint64		nroles;

	lock_privileges();
	nroles = queue_spi_run_now("SELECT DISTINCT role::oid FROM queue.privilege WHERE queue = $1", 1, &type, &value,
							   NULL);
	roles = palloc((nroles + 1) * sizeof(Oid));
	for (uint64 i = 0; i < nroles; i++)
	{
		bool		isnull;

		roles[i] = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	for (uint64 i = 0; i < nroles; i++)
		take_privileges(queue, roles[i], NULL);
}

/* ---------------------------------------------------------------- type queue.role_name */

/* queue_internal.role_name_in(cstring): the role's OID; 0, with a warning, if there is none. */
Datum
queue_sql_role_name_in(PG_FUNCTION_ARGS)
{
	char	   *name = PG_GETARG_CSTRING(0);
	Oid			role = name[0] == '\0' ? InvalidOid : get_role_oid(name, true);

	if (!OidIsValid(role) && name[0] != '\0')
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist, so its privileges on queues are skipped", name),
				 errhint("Create the role and call queue.grant_queue for it.")));
	PG_RETURN_OID(role);
}

/* queue_internal.role_name_out(queue.role_name): the role's name; empty if it was dropped. */
Datum
queue_sql_role_name_out(PG_FUNCTION_ARGS)
{
	char	   *name = GetUserNameFromId(PG_GETARG_OID(0), true);

	PG_RETURN_CSTRING(name != NULL ? name : pstrdup(""));
}

/* Row trigger on queue.privilege: a row without a role, which a restore may bring, is not inserted. */
Datum
queue_sql_privilege_inserted(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	bool		isnull;
	Datum		role;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("queue_internal.privilege_inserted() is a trigger"),
				 errhint("It fires by itself when a row is inserted.")));
	role = SPI_getbinval(trigdata->tg_trigtuple, RelationGetDescr(trigdata->tg_relation),
						 queue_column(trigdata->tg_relation, "role"), &isnull);
	PG_RETURN_POINTER(isnull || !OidIsValid(DatumGetObjectId(role)) ? NULL : trigdata->tg_trigtuple);
}
