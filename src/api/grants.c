/*
 * grants.c
 *		queue.grant_queue and queue.revoke_queue.
 *
 * A privilege is a row that queue_may reads (config.c) and EXECUTE on just the functions
 * that it allows: the grants keep others out of the functions, the row says in which
 * queue.  What a user gave goes into SQL as parameters, but for the role in GRANT, which
 * is a quoted identifier.
 *
 * Locks: ShareRowExclusiveLock on queue.privilege until the end of the transaction, since
 * two GRANTs on one function at a time fail ("tuple concurrently updated").
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "config/owner.h"
#include "job/finish.h"

#include "catalog/pg_type.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_sql_grant_queue);
PG_FUNCTION_INFO_V1(queue_sql_revoke_queue);

#define PRIV_STAR	0x10		/* manage on '*' */

/* api.md's matrix, function by function; what is in no row here is for the extension's owner and superusers. */
static const struct
{
	const char *name;
	int			bits;
}			function_privileges[] = {
	{"enqueue", QUEUE_PRIV_ENQUEUE},
	{"enqueue_many", QUEUE_PRIV_ENQUEUE},
	{"enqueue_json", QUEUE_PRIV_ENQUEUE},
	{"enqueue_json_many", QUEUE_PRIV_ENQUEUE},
	{"publish", QUEUE_PRIV_ENQUEUE},
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
	{"register_sql_handler", QUEUE_PRIV_WORK},	/* as run_as itself */
	{"unregister_handler", QUEUE_PRIV_WORK},
	{"pause_handler", QUEUE_PRIV_WORK},
	{"resume_handler", QUEUE_PRIV_WORK},
	{"test_run", QUEUE_PRIV_WORK},
	{"test_drain", QUEUE_PRIV_WORK},
	{"result", QUEUE_PRIV_READ},
	{"wait_for", QUEUE_PRIV_READ},
	{"explain_job", QUEUE_PRIV_READ},
	{"doctor", QUEUE_PRIV_READ},
	{"clock", QUEUE_PRIV_READ},
	{"is_running", QUEUE_PRIV_READ},
	{"stat_queue_rows", QUEUE_PRIV_READ},
	{"stat_handler_rows", QUEUE_PRIV_READ},
	{"stat_endpoint_rows", QUEUE_PRIV_READ},
	{"stat_worker_rows", QUEUE_PRIV_READ},
	{"cancel", QUEUE_PRIV_MANAGE},
	{"discard", QUEUE_PRIV_MANAGE},
	{"retry", QUEUE_PRIV_MANAGE},
	{"alter_job", QUEUE_PRIV_MANAGE},
	{"redrive", QUEUE_PRIV_MANAGE},
	{"pause", QUEUE_PRIV_MANAGE},
	{"resume", QUEUE_PRIV_MANAGE},
	{"purge", QUEUE_PRIV_MANAGE},
	{"alter_queue", QUEUE_PRIV_MANAGE},
	{"drop_queue", QUEUE_PRIV_MANAGE},
	{"grant_queue", QUEUE_PRIV_MANAGE},
	{"revoke_queue", QUEUE_PRIV_MANAGE},
	{"schedule", QUEUE_PRIV_MANAGE},
	{"unschedule", QUEUE_PRIV_MANAGE},
	{"pause_schedule", QUEUE_PRIV_MANAGE},
	{"resume_schedule", QUEUE_PRIV_MANAGE},
	{"register_http_handler", QUEUE_PRIV_MANAGE},
	{"add_endpoint", QUEUE_PRIV_MANAGE},
	{"remove_endpoint", QUEUE_PRIV_MANAGE},
	{"create_queue", PRIV_STAR},
	{"subscribe", PRIV_STAR},
	{"unsubscribe", PRIV_STAR},
	{"adopt", PRIV_STAR},
};

#define VIEWS "queue.job, queue.job_error, queue.stat_queue, queue.stat_handler, queue.stat_endpoint, queue.stat_worker"

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
		return QUEUE_PRIV_ENQUEUE | QUEUE_PRIV_WORK | QUEUE_PRIV_READ | QUEUE_PRIV_MANAGE | (star ? PRIV_STAR : 0);
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
	queue_spi_run("SELECT string_agg('queue.' || quote_ident(p.proname), ', ' ORDER BY p.proname)"
				  " FROM pg_catalog.pg_proc p"
				  " WHERE p.pronamespace = 'queue'::regnamespace AND p.proname::text = ANY ($1)"
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

	queue_spi_run("SELECT queue, privilege FROM queue.privilege WHERE role = $1", 1, &type, &value, NULL);
	for (i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];

		bits |= privilege_word_bits(SPI_getvalue(row, SPI_tuptable->tupdesc, 2),
									strcmp(SPI_getvalue(row, SPI_tuptable->tupdesc, 1), "*") == 0);
	}
	return bits;
}

/* Arguments and checks that grant_queue and revoke_queue share; opens the SPI section and locks. */
static void
privilege_begin(FunctionCallInfo fcinfo, const char *function, char **queue, Oid *role, char **quoted_role,
				QueueSpi *spi)
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
	*quoted_role = pstrdup(quote_identifier(NameStr(*PG_GETARG_NAME(1))));

	queue_spi_begin(spi);
	queue_spi_run("LOCK TABLE queue.privilege IN SHARE ROW EXCLUSIVE MODE", 0, NULL, NULL, NULL);
	/* rows of roles that were dropped: their number must not serve another role one day */
	queue_spi_run("DELETE FROM queue.privilege p WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_authid a WHERE a.oid = p.role)",
				  0, NULL, NULL, NULL);
}

/* queue.grant_queue(queue, role, privilege): manage on the queue. */
Datum
queue_sql_grant_queue(PG_FUNCTION_ARGS)
{
	char	   *queue;
	char	   *quoted_role;
	char	   *privilege = PG_ARGISNULL(2) ? "enqueue" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Oid			role;
	int			bits;
	QueueSpi	spi;
	Oid			types[3] = {TEXTOID, OIDOID, TEXTOID};
	Datum		values[3];

	bits = privilege_word_bits(privilege, !PG_ARGISNULL(0) && strcmp(text_to_cstring(PG_GETARG_TEXT_PP(0)), "*") == 0);
	privilege_begin(fcinfo, "queue.grant_queue()", &queue, &role, &quoted_role, &spi);
	values[0] = CStringGetTextDatum(queue);
	values[1] = ObjectIdGetDatum(role);
	values[2] = CStringGetTextDatum(privilege);
	queue_spi_run("INSERT INTO queue.privilege (queue, role, privilege) VALUES ($1, $2::regrole, $3) ON CONFLICT DO NOTHING",
				  3, types, values, NULL);
	change_execute(true, role, quoted_role, bits);
	if (!superuser_arg(role))
		queue_spi_run(psprintf("GRANT USAGE ON SCHEMA queue TO %s", quoted_role), 0, NULL, NULL, NULL);
	if ((bits & QUEUE_PRIV_READ) != 0)
		queue_spi_run(psprintf("GRANT SELECT ON " VIEWS " TO %s", quoted_role), 0, NULL, NULL, NULL);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* queue.revoke_queue(queue, role, privilege): manage on the queue; what other rows of the role need stays. */
Datum
queue_sql_revoke_queue(PG_FUNCTION_ARGS)
{
	char	   *queue;
	char	   *quoted_role;
	char	   *privilege = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Oid			role;
	int			before;
	int			after;
	QueueSpi	spi;
	Oid			types[3] = {TEXTOID, OIDOID, TEXTOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	if (privilege != NULL)
		(void) privilege_word_bits(privilege, false);
	privilege_begin(fcinfo, "queue.revoke_queue()", &queue, &role, &quoted_role, &spi);
	values[0] = CStringGetTextDatum(queue);
	values[1] = ObjectIdGetDatum(role);
	values[2] = privilege == NULL ? (Datum) 0 : CStringGetTextDatum(privilege);
	nulls[2] = privilege == NULL ? 'n' : ' ';
	before = remaining_bits(role);
	queue_spi_run("DELETE FROM queue.privilege WHERE queue = $1 AND role = $2 AND privilege = coalesce($3, privilege)",
				  3, types, values, nulls);
	after = remaining_bits(role);
	if ((before & ~after) != 0)
		change_execute(false, role, quoted_role, before & ~after);
	if ((before & ~after & QUEUE_PRIV_READ) != 0)
		queue_spi_run(psprintf("REVOKE SELECT ON " VIEWS " FROM %s", quoted_role), 0, NULL, NULL, NULL);
	if (before != 0 && after == 0)
		queue_spi_run(psprintf("REVOKE USAGE ON SCHEMA queue FROM %s", quoted_role), 0, NULL, NULL, NULL);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}
