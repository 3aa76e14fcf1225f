/*
 * handlers.c
 *		SQL functions about handlers: register, unregister, pause, resume, adopt; and
 *		why a handler cannot run.
 *
 * A handler belongs to the role that registered it.  It runs as run_as, of which its
 * registrar must be a member; that role needs privilege work in the queues that the
 * handler names, so registering gives nobody access to jobs.  The function is looked up
 * once here, as the registrar, and kept by name (run.c looks it up when it runs).
 *
 * Locks: those of the SQL statements.
 */
#include "api/handlers.h"

#include "api/arguments.h"
#include "config/owner.h"
#include "executor/run.h"
#include "job/finish.h"
#include "shared/channel.h"
#include "shared/endpoint.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(queue_sql_register_sql_handler);
PG_FUNCTION_INFO_V1(queue_sql_unregister_handler);
PG_FUNCTION_INFO_V1(queue_sql_pause_handler);
PG_FUNCTION_INFO_V1(queue_sql_resume_handler);
PG_FUNCTION_INFO_V1(queue_sql_adopt);

/* Arguments of register_sql_handler. */
enum
{
	ARG_KIND, ARG_FUNCTION, ARG_QUEUES, ARG_TIMEOUT, ARG_MAX_ATTEMPTS, ARG_BACKOFF, ARG_MAX_RUNNING, ARG_RATE_LIMIT,
	ARG_RATE_PERIOD, ARG_RUN_AS
};

/* rolcanlogin of a role that exists. */
static bool
role_can_login(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Superusers and who has the privileges of the extension's owner. */
bool
queue_handler_is_owner(void)
{
	return superuser() || has_privs_of_role(GetUserId(), queue_config()->extension_owner);
}

/* Is this handler the current user's: did a role register it whose privileges he has? */
bool
queue_handler_is_registrar(const char *registered_by)
{
	Oid			role = get_role_oid(registered_by, true);

	return OidIsValid(role) && has_privs_of_role(GetUserId(), role);
}

/*
 * The queues that a handler is for, all of them existing; none (*n is 0) when the argument is null.  Then, and for
 * kind '*', the caller needs manage on '*'.  Called by register_sql_handler and register_http_handler.
 */
char	  **
queue_handler_queues(FunctionCallInfo fcinfo, int argument, const char *kind, int *n)
{
	Datum	   *elems;
	bool	   *nulls;
	char	  **queues;

	*n = 0;
	if (PG_ARGISNULL(argument) || strcmp(kind, "*") == 0)
		queue_require(NULL, QUEUE_PRIV_MANAGE);
	if (PG_ARGISNULL(argument))
		return NULL;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, n);
	if (*n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queues must not be empty"),
				 errhint("Name the queues, or pass null for all.")));
	queues = palloc(*n * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("queues must not contain null"),
					 errhint("Name the queues, or pass null for all.")));
		queues[i] = TextDatumGetCString(elems[i]);
		(void) queue_config_queue(queues[i], false);
	}
	return queues;
}

/* The queues of an SQL handler: run_as may work in each.  Called by register_sql_handler. */
static void
check_queues(FunctionCallInfo fcinfo, const char *kind, Oid run_as)
{
	int			n;
	char	  **queues = queue_handler_queues(fcinfo, ARG_QUEUES, kind, &n);

	for (int i = 0; i < n; i++)
	{
		if (!queue_may(run_as, queues[i], QUEUE_PRIV_WORK))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("role \"%s\" lacks privilege work on queue \"%s\"", GetUserNameFromId(run_as, false), queues[i]),
					 errhint("A handler runs as a role that may work there. Somebody who holds manage on it can run: SELECT queue.grant_queue(%s, %s, 'work').",
							 quote_literal_cstr(queues[i]), quote_literal_cstr(GetUserNameFromId(run_as, false)))));
	}
}

/* The role that a handler is to run as. */
static Oid
check_run_as(FunctionCallInfo fcinfo, const char **name)
{
	Oid			run_as = GetUserId();

	if (!PG_ARGISNULL(ARG_RUN_AS))
		run_as = queue_role_oid(NameStr(*PG_GETARG_NAME(ARG_RUN_AS)));
	*name = GetUserNameFromId(run_as, false);
	if (!queue_can_set_role(GetUserId(), run_as))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of role \"%s\" to register a handler that runs as it", *name),
				 errhint("Name a role that you can SET ROLE to, or leave run_as out.")));
	if (!QUEUE_NOLOGIN_ROLES_WORK && !role_can_login(run_as))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" cannot log in, so no executor can run as it", *name),
				 errhint("Up to PostgreSQL 16 a handler's role needs LOGIN (a password is not needed).")));
	return run_as;
}

/* queue.register_sql_handler(..) */
Datum
queue_sql_register_sql_handler(PG_FUNCTION_ARGS)
{
	char	   *kind = queue_arg_name(fcinfo, ARG_KIND, "kind", true);
	char	   *function = queue_arg_text(fcinfo, ARG_FUNCTION, "function");
	const char *run_as_name;
	Oid			run_as;
	QueueFunction found;
	QueueHandler *existing;
	bool		may_replace;
	QueueSpi	spi;
	Oid			types[14];
	Datum		values[14];
	char		nulls[14];
	NameData	names[6];

	queue_finish_writable("queue.register_sql_handler()");
	queue_arg_not_built(fcinfo, ARG_MAX_RUNNING, "register_sql_handler", "max_running");
	queue_arg_not_built(fcinfo, ARG_RATE_LIMIT, "register_sql_handler", "rate_limit");
	if (!PG_ARGISNULL(ARG_TIMEOUT))
		(void) queue_arg_interval(fcinfo, ARG_TIMEOUT, "timeout", 0);
	if (!PG_ARGISNULL(ARG_RATE_PERIOD))
		(void) queue_arg_interval(fcinfo, ARG_RATE_PERIOD, "rate_period", 1);
	if (!PG_ARGISNULL(ARG_MAX_ATTEMPTS) && PG_GETARG_INT32(ARG_MAX_ATTEMPTS) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_attempts is out of range: %d", PG_GETARG_INT32(ARG_MAX_ATTEMPTS)),
				 errhint("It is 1 or more.")));
	if (!PG_ARGISNULL(ARG_BACKOFF))
		(void) queue_backoff_parse(PG_GETARG_JSONB_P(ARG_BACKOFF));

	run_as = check_run_as(fcinfo, &run_as_name);
	check_queues(fcinfo, kind, run_as);
	may_replace = queue_handler_is_owner();
	existing = queue_config_handler(kind);
	if (existing != NULL && !may_replace && !queue_handler_is_registrar(existing->registered_by))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("kind \"%s\" has a handler that role \"%s\" registered", kind, existing->registered_by),
				 errhint("That role or a superuser can replace or unregister it.")));
	queue_run_resolve(function, run_as, &found);
	if (superuser_arg(run_as))
		ereport(WARNING,
				(errmsg("handler for kind \"%s\" runs as superuser \"%s\"", kind, run_as_name),
				 errhint("Whoever may enqueue this kind has a superuser run that function. Pass run_as => a role with just the rights that it needs.")));
	if (!queue_preloaded())
		ereport(WARNING,
				(errmsg("no server process will run jobs of kind \"%s\": the library is not preloaded", kind),
				 errhint("Set shared_preload_libraries = 'queue' in postgresql.conf and restart the server.")));

	memset(nulls, ' ', sizeof(nulls));
	namestrcpy(&names[0], found.schema);
	namestrcpy(&names[1], found.name);
	namestrcpy(&names[2], found.owner);
	namestrcpy(&names[3], run_as_name);
	namestrcpy(&names[4], GetUserNameFromId(GetUserId(), false));
	types[0] = TEXTOID;
	values[0] = CStringGetTextDatum(kind);
	types[1] = NAMEOID;
	values[1] = NameGetDatum(&names[0]);
	types[2] = NAMEOID;
	values[2] = NameGetDatum(&names[1]);
	types[3] = TEXTOID;
	values[3] = CStringGetTextDatum(found.takes_job ? "queue.job" : "jsonb");
	types[4] = NAMEOID;
	values[4] = NameGetDatum(&names[2]);
	types[5] = TEXTARRAYOID;
	types[6] = INTERVALOID;
	types[7] = INT4OID;
	types[8] = JSONBOID;
	{
		static const int args[] = {ARG_QUEUES, ARG_TIMEOUT, ARG_MAX_ATTEMPTS, ARG_BACKOFF};
		int			i;

		for (i = 0; i < 4; i++)
		{
			nulls[5 + i] = PG_ARGISNULL(args[i]) ? 'n' : ' ';
			values[5 + i] = PG_ARGISNULL(args[i]) ? (Datum) 0 : PG_GETARG_DATUM(args[i]);
		}
	}
	types[9] = NAMEOID;
	values[9] = NameGetDatum(&names[3]);
	types[10] = NAMEOID;
	values[10] = NameGetDatum(&names[4]);
	types[11] = INT8OID;
	values[11] = Int64GetDatum((int64) GetSystemIdentifier());
	types[12] = OIDOID;
	values[12] = ObjectIdGetDatum(MyDatabaseId);
	/* $14: whose row may be replaced; null: anyone's. The row checked above may have changed since. */
	types[13] = NAMEOID;
	nulls[13] = may_replace ? 'n' : ' ';
	namestrcpy(&names[5], existing != NULL ? existing->registered_by : NameStr(names[4]));
	values[13] = NameGetDatum(&names[5]);

	queue_spi_begin(&spi);
	if (queue_spi_run("INSERT INTO queue.handler AS h (kind, type, function_schema, function_name, function_argument,"
					  " function_owner, queues, timeout, max_attempts, backoff, run_as, registered_by,"
					  " system_identifier, database_oid)"
					  " VALUES ($1, 'sql', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
					  " ON CONFLICT (kind) DO UPDATE SET type = excluded.type,"
					  " function_schema = excluded.function_schema, function_name = excluded.function_name,"
					  " function_argument = excluded.function_argument, function_owner = excluded.function_owner,"
					  " queues = excluded.queues, timeout = excluded.timeout, max_attempts = excluded.max_attempts,"
					  " backoff = excluded.backoff, run_as = excluded.run_as, registered_by = excluded.registered_by,"
					  " system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,"
					  " max_running = NULL, method = NULL, headers = NULL, connect_timeout = NULL, secret = NULL,"
					  " complete_on = NULL, discard_on = NULL, health_timeout = NULL, ca_file = NULL, breaker = NULL"
					  " WHERE $14 IS NULL OR h.registered_by = $14",
					  14, types, values, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("kind \"%s\" has a handler that another role registered", kind),
				 errhint("That role or a superuser can replace or unregister it.")));
	(void) queue_spi_run("DELETE FROM queue.endpoint WHERE kind = $1", 1, types, values, NULL);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* What unregister, pause and resume share: who may, and 42704 if the kind has no handler. */
static void
change_handler(FunctionCallInfo fcinfo, const char *function, const char *sql)
{
	char	   *kind = queue_arg_name(fcinfo, 0, "kind", true);
	QueueHandler *handler;
	QueueSpi	spi;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(kind);
	uint64		changed = 0;

	queue_finish_writable(function);
	handler = queue_config_handler(kind);
	if (handler != NULL)
	{
		if (!queue_handler_is_registrar(handler->registered_by) && !queue_may(GetUserId(), NULL, QUEUE_PRIV_MANAGE))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("handler for kind \"%s\" was registered by role \"%s\"", kind, handler->registered_by),
					 errhint("That role, or one that holds manage on \"*\", can change it.")));
		queue_spi_begin(&spi);
		changed = queue_spi_run(sql, 1, &type, &value, NULL);
		queue_spi_end(&spi);
	}
	if (changed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("kind \"%s\" has no handler", kind),
				 errhint("The view queue.stat_handler lists them.")));
}

/* queue.unregister_handler(kind) */
Datum
queue_sql_unregister_handler(PG_FUNCTION_ARGS)
{
	change_handler(fcinfo, "queue.unregister_handler()",
				   "WITH gone AS (DELETE FROM queue.endpoint WHERE kind = $1)"
				   " DELETE FROM queue.handler WHERE kind = $1");
	PG_RETURN_VOID();
}

/* queue.pause_handler(kind): its lines are then anybody's to fetch. */
Datum
queue_sql_pause_handler(PG_FUNCTION_ARGS)
{
	change_handler(fcinfo, "queue.pause_handler()",
				   "UPDATE queue.handler SET paused_at = coalesce(paused_at, queue.clock()) WHERE kind = $1");
	PG_RETURN_VOID();
}

/* queue.resume_handler(kind) */
Datum
queue_sql_resume_handler(PG_FUNCTION_ARGS)
{
	change_handler(fcinfo, "queue.resume_handler()", "UPDATE queue.handler SET paused_at = NULL WHERE kind = $1");
	PG_RETURN_VOID();
}

/* queue.adopt(): stamps every handler as this database's, so that a restored or cloned one runs its jobs. */
Datum
queue_sql_adopt(PG_FUNCTION_ARGS)
{
	QueueSpi	spi;
	Oid			types[2] = {INT8OID, OIDOID};
	Datum		values[2];

	queue_finish_writable("queue.adopt()");
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	queue_spi_begin(&spi);
	queue_spi_run("UPDATE queue.handler SET system_identifier = $1, database_oid = $2"
				  " WHERE system_identifier <> $1 OR database_oid <> $2",
				  2, types, values, NULL);
	queue_spi_run("UPDATE queue.endpoint SET system_identifier = $1, database_oid = $2"
				  " WHERE system_identifier <> $1 OR database_oid <> $2",
				  2, types, values, NULL);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* Why an HTTP handler sends nothing.  Called by queue_handler_problem. */
static const char *
http_problem(QueueHandler *handler, const char **hint)
{
	bool		healthy = false;
	bool		weight = false;

	if (!OidIsValid(handler->run_as_oid))
	{
		*hint = "Register the handler again as a role that exists.";
		return psprintf("role \"%s\", which registered it, does not exist", handler->run_as);
	}
	if (queue_config()->installation == NULL)
	{
		*hint = "Register any HTTP handler again: that makes one.";
		return "queue.installation has no row, so there are no idempotency keys";
	}
	for (int i = 0; i < handler->conf->nendpoints; i++)
	{
		QueueEndpoint *endpoint = handler->conf->endpoints[i];
		QueueEndpointState *state = queue_endpoint_state_of(MyDatabaseId, endpoint->key, false);

		if (!endpoint->adopted || endpoint->weight == 0)
			continue;
		weight = true;
		if (endpoint->health_url == NULL || !queue_preloaded() ||
			(state != NULL && pg_atomic_read_u32(&state->healthy) != 0))
			healthy = true;
	}
	if (!weight)
	{
		*hint = "Add one with queue.add_endpoint.";
		return "it has no endpoint with a weight above 0";
	}
	if (!healthy)
	{
		*hint = "Its jobs stay available until one answers 200; queue.stat_endpoint tells when it is asked next.";
		return "no endpoint answers its health_url";
	}
	return NULL;
}

/* See handler.h.  Called by stat_handler, explain_job and doctor. */
const char *
queue_handler_problem(QueueHandler *handler, const char **hint)
{
	const char *problem = queue_run_parked(handler, hint);
	QueueChannel *channel;

	if (problem != NULL)
		return problem;
	if (handler->http)
		return http_problem(handler, hint);
	if (!OidIsValid(handler->run_as_oid))
	{
		*hint = "Register the handler again with run_as naming another role.";
		return psprintf("role \"%s\" does not exist", handler->run_as);
	}
	if (!QUEUE_NOLOGIN_ROLES_WORK && !role_can_login(handler->run_as_oid))
	{
		*hint = psprintf("ALTER ROLE %s LOGIN; a password is not needed.", quote_identifier(handler->run_as));
		return psprintf("role \"%s\" cannot log in, so no executor can run as it", handler->run_as);
	}
	if (queue_database_aclcheck(MyDatabaseId, handler->run_as_oid, ACL_CONNECT) != ACLCHECK_OK)
	{
		*hint = psprintf("GRANT CONNECT ON DATABASE %s TO %s.",
						 quote_identifier(get_database_name(MyDatabaseId)), quote_identifier(handler->run_as));
		return psprintf("role \"%s\" may not connect to this database", handler->run_as);
	}
	channel = queue_preloaded() ? queue_channel_of(MyDatabaseId, handler->run_as_oid, false) : NULL;
	if (channel != NULL)
	{
		char		parked[sizeof(channel->parked)];

		SpinLockAcquire(&channel->mutex);
		memcpy(parked, channel->parked, sizeof(parked));
		SpinLockRelease(&channel->mutex);
		parked[sizeof(parked) - 1] = '\0';
		if (parked[0] != '\0')
		{
			*hint = "The server log tells more; it is tried again from time to time.";
			return psprintf("no executor can start as role \"%s\": %s", handler->run_as, parked);
		}
	}
	return NULL;
}

/* See handler.h. */
bool
queue_handler_visible(QueueHandler *handler)
{
	int			i;

	if (queue_may(GetUserId(), NULL, QUEUE_PRIV_READ) || queue_handler_is_registrar(handler->registered_by) ||
		queue_handler_is_registrar(handler->run_as))
		return true;
	if (handler->queues == NULL)
	{
		QueueConfig *config = queue_config();

		for (i = 0; i < config->nqueues; i++)
		{
			if (queue_may(GetUserId(), config->queues[i]->name, QUEUE_PRIV_READ))
				return true;
		}
		return false;
	}
	for (i = 0; i < handler->nqueues; i++)
	{
		if (queue_may(GetUserId(), handler->queues[i], QUEUE_PRIV_READ))
			return true;
	}
	return false;
}
