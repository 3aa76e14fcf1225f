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
#include "api/preload.h"
#include "api/registration.h"
#include "config/http_handlers.h"
#include "config/line_limit.h"
#include "job/finish.h"
#include "shared/channel.h"
#include "shared/endpoint.h"
#include "shared/mark.h"
#include "shared/note.h"
#include "shared/reminder.h"

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

/* ---------------------------------------------------------------- register_sql_handler */

/* Arguments of register_sql_handler that its table of options does not tell of. */
enum
{
	ARG_KIND, ARG_FUNCTION, ARG_QUEUES, ARG_TIMEOUT, ARG_MAX_ATTEMPTS, ARG_BACKOFF, ARG_MAX_RUNNING, ARG_RATE_LIMIT,
	ARG_RATE_PERIOD, ARG_RUN_AS
};

static const QueueHandlerOption sql_options[] = {
	{"timeout", ARG_TIMEOUT, QUEUE_NO_ARGUMENT, queue_check_length, INTERVALOID},
	{"max_attempts", ARG_MAX_ATTEMPTS, QUEUE_NO_ARGUMENT, queue_check_attempts, INT4OID},
	{"backoff", ARG_BACKOFF, QUEUE_NO_ARGUMENT, queue_check_backoff, JSONBOID},
	{"max_running", ARG_MAX_RUNNING, QUEUE_NO_ARGUMENT, queue_check_limit, INT4OID},
	{"rate_limit", ARG_RATE_LIMIT, QUEUE_NO_ARGUMENT, queue_check_limit, INT4OID},
	{"rate_period", ARG_RATE_PERIOD, QUEUE_NO_ARGUMENT, queue_check_period, INTERVALOID, "'1 s'"},
};

/* The role that a handler is to run as. */
static Oid
check_run_as(FunctionCallInfo fcinfo, const char **name)
{
	Oid			run_as = GetUserId();

	if (!PG_ARGISNULL(ARG_RUN_AS))
		run_as = queue_role_oid(NameStr(*PG_GETARG_NAME(ARG_RUN_AS)));
	*name = GetUserNameFromId(run_as, false);
	if (!queue_can_set_role(GetUserId(), run_as))
	{
		/* from 16 on a member may lack the option to become the role */
		bool		member = is_member_of_role(GetUserId(), run_as);

		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg(member ? "must be able to SET ROLE \"%s\" to register a handler that runs as it" :
						"must be a member of role \"%s\" to register a handler that runs as it", *name),
				 errhint("Leave run_as out, or a superuser (or who may grant that role) can run: GRANT %s TO %s%s.",
						 quote_identifier(*name), quote_identifier(GetUserNameFromId(GetUserId(), false)),
						 member ? " WITH SET TRUE" : "")));
	}
	if (!QUEUE_NOLOGIN_ROLES_WORK && !role_can_login(run_as))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" cannot log in, so no executor can run as it", *name),
				 errhint("Up to PostgreSQL 16 a handler's role needs LOGIN (a password is not needed).")));
	return run_as;
}

/* 42501 unless run_as may work in each of the queues. */
static void
check_work(const QueueRegistration *registration, Oid run_as)
{
	for (int i = 0; i < registration->nqueues; i++)
	{
		const char *queue = registration->queues[i];

		if (!queue_may(run_as, queue, QUEUE_PRIV_WORK))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("role \"%s\" lacks privilege work on queue \"%s\"", registration->run_as, queue),
					 errhint("A handler runs as a role that may work there. A role that holds manage on it can run: "
							 "SELECT queue.grant_queue(%s, %s, 'work').",
							 quote_literal_cstr(queue), quote_literal_cstr(registration->run_as))));
	}
}

void
queue_handler_warn_preload(const char *kind)
{
	const char *hint;
	const char *problem = queue_preload_problem(&hint);

	if (problem != NULL)
		ereport(WARNING,
				(errmsg("no server process will run jobs of kind \"%s\": %s", kind, problem),
				 errhint("%s", hint)));
}

/* queue.register_sql_handler(..): manage on each queue. */
Datum
queue_sql_register_sql_handler(PG_FUNCTION_ARGS)
{
	QueueRegistration registration = {
		.type = "sql",
		.kind = queue_arg_name(fcinfo, ARG_KIND, "kind", true),
		.options = sql_options,
		.noptions = lengthof(sql_options)
	};
	char	   *function = queue_arg_text(fcinfo, ARG_FUNCTION, "function");
	Oid			run_as;
	QueueFunction found;
	QueueSpi	spi;

	queue_finish_writable("queue.register_sql_handler()");
	queue_registration_check(&registration, fcinfo, ARG_QUEUES);
	run_as = check_run_as(fcinfo, &registration.run_as);
	check_work(&registration, run_as);
	queue_run_resolve(function, run_as, &found);
	registration.function = &found;
	if (superuser_arg(run_as))
		ereport(WARNING,
				(errmsg("handler for kind \"%s\" runs as superuser \"%s\"", registration.kind, registration.run_as),
				 errhint("Whoever may enqueue this kind has a superuser run that function. Pass run_as => a role with "
						 "just the rights that it needs.")));
	queue_handler_warn_preload(registration.kind);
	(void) queue_registration_write(&registration, fcinfo, NULL, &spi);
	queue_spi_end(&spi);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- unregister, pause, resume, adopt */

/* What unregister, pause and resume share: sql changes the handler with the id $1; `all`: its endpoints go with it. */
static void
change_handler(FunctionCallInfo fcinfo, const char *function, const char *sql, bool all)
{
	char	   *kind = queue_arg_name(fcinfo, 0, "kind", true);
	char	   *queue = PG_ARGISNULL(1) ? NULL : queue_arg_name(fcinfo, 1, "queue", true);
	QueueSpi	spi;
	Oid			type = INT8OID;
	Datum		id;

	queue_finish_writable(function);
	id = Int64GetDatum(queue_registration_pick(kind, queue, false, true)->id);
	queue_spi_begin(&spi);
	if (queue_spi_run(sql, 1, &type, &id, NULL) == 0)
		queue_registration_changed(kind);
	if (all)
		queue_spi_run_now("DELETE FROM queue.endpoint WHERE handler = $1", 1, &type, &id, NULL);
	queue_spi_end(&spi);
}

/* queue.unregister_handler(kind, queue) */
Datum
queue_sql_unregister_handler(PG_FUNCTION_ARGS)
{
	change_handler(fcinfo, "queue.unregister_handler()", "DELETE FROM queue.handler WHERE id = $1", true);
	PG_RETURN_VOID();
}

/* queue.pause_handler(kind, queue): its lines are then anybody's to fetch. */
Datum
queue_sql_pause_handler(PG_FUNCTION_ARGS)
{
	change_handler(fcinfo, "queue.pause_handler()",
				   "UPDATE queue.handler SET paused_at = coalesce(paused_at, queue_internal.clock()) WHERE id = $1",
				   false);
	PG_RETURN_VOID();
}

/* queue.resume_handler(kind, queue) */
Datum
queue_sql_resume_handler(PG_FUNCTION_ARGS)
{
	change_handler(fcinfo, "queue.resume_handler()", "UPDATE queue.handler SET paused_at = NULL WHERE id = $1",
				   false);
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
	/* a schedule goes on from now */
	queue_spi_run("WITH adopted AS (UPDATE queue.schedule SET system_identifier = $1, database_oid = $2"
				  "  WHERE system_identifier <> $1 OR database_oid <> $2 RETURNING name)"
				  " INSERT INTO queue.schedule_state (name, reached) SELECT name, queue_internal.clock() FROM adopted"
				  " ON CONFLICT (name) DO UPDATE SET reached = excluded.reached, reason = NULL",
				  2, types, values, NULL);
	/* what was restored or replicated may be ahead of its sequence */
	queue_spi_run("SELECT setval(name, needed) FROM " QUEUE_SEQUENCES " WHERE needed > last_value", 0, NULL, NULL,
				  NULL);
	queue_spi_end(&spi);
	/* what triggers did when rows came, unless they were switched off: look at everything */
	queue_mark_all();
	queue_remind_all();
	queue_lines_loaded();
	queue_note_config();
	PG_RETURN_VOID();
}

/* Why an HTTP handler sends nothing.  Called by queue_handler_problem. */
static const char *
http_problem(QueueHandler *handler, const char **hint)
{
	bool		healthy = false;
	bool		weight = false;
	QueueEndpoint *broken = NULL;

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

		if (endpoint->broken != NULL)
			broken = endpoint;
		if (!endpoint->adopted || endpoint->weight == 0)
			continue;
		weight = true;
		if (endpoint->health_url == NULL || !queue_preloaded() ||
			state == NULL || pg_atomic_read_u32(&state->healthy) != 0)
			healthy = true;
	}
	if (!weight && broken != NULL)
	{
		*hint = "Remove that endpoint and add it again.";
		return psprintf("endpoint %s: %s", queue_httpconf_shown(broken->url), broken->broken);
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
		char		refused[sizeof(channel->refused)];
		int64		line_id;
		QueueLine  *line;

		queue_channel_reasons(channel, parked, &line_id, refused);
		if (parked[0] != '\0')
		{
			*hint = "The server log tells more; it is tried again from time to time.";
			return psprintf("no executor can start as role \"%s\": %s", handler->run_as, parked);
		}
		line = refused[0] == '\0' ? NULL : queue_config_line(line_id);
		if (line != NULL && line->handler == handler)
		{
			*hint = "It is tried again from time to time.";
			return psprintf("an executor could not run it: %s", refused);
		}
	}
	return NULL;
}

/* Is it the current user's: did he register it, does it run as him, or may he read everything? */
static bool
own(const QueueHandler *handler)
{
	return queue_may(GetUserId(), NULL, QUEUE_PRIV_READ) || queue_registration_is_mine(handler) ||
		(OidIsValid(handler->run_as_oid) && has_privs_of_role(GetUserId(), handler->run_as_oid));
}

/* See handlers.h. */
bool
queue_handler_visible(const QueueHandler *handler)
{
	if (own(handler))
		return true;
	if (handler->queues == NULL)
		return queue_may_where(GetUserId(), QUEUE_PRIV_MONITOR) != NULL;
	for (int i = 0; i < handler->nqueues; i++)
	{
		if (queue_may(GetUserId(), handler->queues[i], QUEUE_PRIV_MONITOR))
			return true;
	}
	return false;
}

/* See handlers.h.  Called by stat_handler and stat_endpoint. */
Datum
queue_handler_queues(const QueueHandler *handler, bool *isnull)
{
	char	  **names = palloc((handler->nqueues + 1) * sizeof(char *));
	bool		all = own(handler);
	int			n = 0;

	*isnull = handler->queues == NULL;
	if (*isnull)
		return (Datum) 0;
	for (int i = 0; i < handler->nqueues; i++)
	{
		if (all || queue_may(GetUserId(), handler->queues[i], QUEUE_PRIV_MONITOR))
			names[n++] = handler->queues[i];
	}
	return queue_registration_queues(names, n);
}
