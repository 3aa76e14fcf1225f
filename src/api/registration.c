/*
 * registration.c
 *		What the functions about handlers share: their options, the queues, the row, and which handler a call means.
 *
 * A kind may have several handlers, each for queues of its own, so that a manager of one queue cannot take a kind from
 * another's.  No two of them name the same queue, and only one is for all queues.  No index says so (the queues are an
 * array): who registers takes the kind's lock, then reads the configuration again, and only then writes.
 *
 * Locks: an advisory lock of our own per kind, until the end of the transaction; those of the SQL statements.
 */
#include "api/registration.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"

#define KIND_LOCK_SPACE 0x5156	/* locktag_field4; session.c has another */

bool
queue_registration_is_mine(const QueueHandler *handler)
{
	Oid			role = get_role_oid(handler->registered_by, true);

	return OidIsValid(role) && has_privs_of_role(GetUserId(), role);
}

/* Superusers and who has the privileges of the extension's owner may replace everybody's handlers. */
static bool
is_owner(void)
{
	return superuser() || has_privs_of_role(GetUserId(), queue_config()->extension_owner);
}

/* ---- checking ---- */

/* 42501 unless the current user manages all queues, as a handler that names none needs; the hint is to name some. */
static void
require_all_queues(const char *kind)
{
	const char *me = GetUserNameFromId(GetUserId(), false);
	const char *mine;

	if (queue_may(GetUserId(), NULL, QUEUE_PRIV_MANAGE))
		return;
	if (strcmp(kind, "*") == 0)
		queue_require(NULL, QUEUE_PRIV_MANAGE);
	mine = queue_may_where(GetUserId(), QUEUE_PRIV_MANAGE);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" lacks privilege manage on queue \"*\", which a handler without queues needs", me),
			 mine != NULL ?
			 errhint("Name the queues that it is for: queues => %s needs manage on just these, which you hold.",
					 quote_literal_cstr(psprintf("{%s}", mine))) :
			 errhint("Name the queues that it is for: queues => '{default}' needs manage on just these. "
					 "A role that holds it can run: SELECT queue.grant_queue('default', %s, 'manage').",
					 quote_literal_cstr(me))));
}

char	  **
queue_registration_check_queues(const char *kind, FunctionCallInfo fcinfo, int argument, int *nqueues)
{
	char	  **queues;

	*nqueues = 0;
	if (PG_ARGISNULL(argument) || strcmp(kind, "*") == 0)
		require_all_queues(kind);
	if (PG_ARGISNULL(argument))
		return NULL;
	queues = queue_names(PG_GETARG_DATUM(argument), "queues", nqueues);
	for (int i = 0; i < *nqueues; i++)
	{
		queue_require(queues[i], QUEUE_PRIV_MANAGE);
		(void) queue_config_queue(queues[i], false);
	}
	return queues;
}

void
queue_registration_check(QueueRegistration *registration, FunctionCallInfo fcinfo, int queues_argument)
{
	registration->values = palloc0(registration->noptions * sizeof(Datum));
	for (int i = 0; i < registration->noptions; i++)
	{
		const QueueHandlerOption *option = &registration->options[i];

		if (option->argument != QUEUE_NO_ARGUMENT && !PG_ARGISNULL(option->argument))
			registration->values[i] = option->check(PG_GETARG_DATUM(option->argument), option->name);
	}
	registration->queues = queue_registration_check_queues(registration->kind, fcinfo, queues_argument,
														   &registration->nqueues);
}

/* ---- the row ---- */

/*
 * Others who change handlers of the kind wait until this transaction has ended; what those before committed is known.
 */
static void
lock_kind(const char *kind)
{
	uint64		key = queue_name_hash(kind);
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, KIND_LOCK_SPACE);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	AcceptInvalidationMessages();
}

void
queue_registration_changed(const char *kind)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to a concurrent change of the handlers of kind \"%s\"", kind),
			 errhint("Run the transaction again.")));
}

/* A queue that both are for ("*": both are for all); NULL: they share none. */
static const char *
shared_queue(char **queues, int nqueues, const QueueHandler *handler)
{
	if (queues == NULL || handler->queues == NULL)
		return queues == NULL && handler->queues == NULL ? "*" : NULL;
	for (int i = 0; i < nqueues; i++)
	{
		if (queue_handler_names(handler, queues[i]))
			return queues[i];
	}
	return NULL;
}

/* 42501: another role has the kind there.  owner: is_owner(), asked before going through handlers, as it reads. */
static void
refuse_others(const QueueHandler *handler, const char *queue, bool owner)
{
	if (!owner && !queue_registration_is_mine(handler))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("kind \"%s\" has a handler in queue \"%s\" that role \"%s\" registered", handler->kind, queue,
						handler->registered_by),
				 errhint("That role or a superuser can replace or unregister it.")));
}

void
queue_registration_no_other(const QueueHandler *handler, char **queues, int nqueues)
{
	bool		owner = is_owner();

	for (QueueHandler *other = queue_config_handlers(handler->kind); other != NULL; other = other->same_kind)
	{
		const char *shared = other->id == handler->id ? NULL : shared_queue(queues, nqueues, other);

		if (shared == NULL)
			continue;
		refuse_others(other, shared, owner);
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("kind \"%s\" has another handler in queue \"%s\"", handler->kind, shared),
				 errhint("Unregister that one first.")));
	}
}

/* A handler that is replaced. */
typedef struct Replaced
{
	int64		id;
	TimestampTz paused_at;
} Replaced;

/* The handlers that this one replaces, by id.  As the user, under the kind's lock. */
static Replaced *
find_replaced(const QueueRegistration *registration, int *n)
{
	Replaced   *replaced = palloc((registration->nqueues + 1) * sizeof(Replaced));
	bool		owner = is_owner();

	*n = 0;
	for (QueueHandler *handler = queue_config_handlers(registration->kind); handler != NULL;
		 handler = handler->same_kind)
	{
		const char *shared = shared_queue(registration->queues, registration->nqueues, handler);

		if (shared == NULL)
			continue;
		refuse_others(handler, shared, owner);
		replaced[(*n)++] = (Replaced) {handler->id, handler->paused_at};
	}
	return replaced;
}

/* Deletes them, with the endpoints of all but the first, whose id goes on.  In an SPI section. */
static void
delete_replaced(const QueueRegistration *registration, const Replaced *replaced, int n)
{
	Oid			type = INT8OID;

	for (int i = 0; i < n; i++)
	{
		Datum		id = Int64GetDatum(replaced[i].id);

		if (i > 0)
			queue_spi_run_now("DELETE FROM queue.endpoint WHERE handler = $1", 1, &type, &id, NULL);
		if (queue_spi_run("DELETE FROM queue.handler WHERE id = $1", 1, &type, &id, NULL) == 0)
			queue_registration_changed(registration->kind);
	}
}

Datum
queue_registration_queues(char **queues, int nqueues)
{
	Datum	   *names = palloc((nqueues + 1) * sizeof(Datum));

	for (int i = 0; i < nqueues; i++)
		names[i] = CStringGetTextDatum(queues[i]);
	return PointerGetDatum(construct_array(names, nqueues, TEXTOID, -1, false, TYPALIGN_INT));
}

/* One column of the row: its name, and its value or the SQL of what stands for null (NULL: null itself). */
static void
column(StringInfo names, StringInfo values, QueueParams *params, const char *name, const char *missing, Oid type,
	   Datum value, bool isnull)
{
	queue_param(params, type, value, isnull);
	appendStringInfo(names, "%s%s", params->n == 1 ? "" : ", ", name);
	appendStringInfoString(values, params->n == 1 ? "" : ", ");
	if (missing != NULL)
		appendStringInfo(values, "coalesce($%d, %s)", params->n, missing);
	else
		appendStringInfo(values, "$%d", params->n);
}

int64
queue_registration_write(QueueRegistration *registration, FunctionCallInfo fcinfo, const char *url, QueueSpi *spi)
{
	StringInfoData names;
	StringInfoData values;
	QueueParams params = {0};
	const char *me = GetUserNameFromId(GetUserId(), false);
	const QueueFunction *function = registration->function;
	Replaced   *replaced;
	int			nreplaced;
	TimestampTz paused_at;
	int64		id;
	bool		isnull;

	lock_kind(registration->kind);
	replaced = find_replaced(registration, &nreplaced);
	paused_at = nreplaced > 0 ? replaced[0].paused_at : 0;
	queue_spi_begin(spi);
	delete_replaced(registration, replaced, nreplaced);
	initStringInfo(&names);
	initStringInfo(&values);
#define COLUMN(name, missing, type, value, isnull) column(&names, &values, &params, name, missing, type, value, isnull)
	COLUMN("id", "nextval('queue.handler_id')", INT8OID, Int64GetDatum(nreplaced > 0 ? replaced[0].id : 0),
		   nreplaced == 0);
	COLUMN("kind", NULL, TEXTOID, CStringGetTextDatum(registration->kind), false);
	COLUMN("type", NULL, TEXTOID, CStringGetTextDatum(registration->type), false);
	COLUMN("queues", NULL, TEXTARRAYOID, queue_registration_queues(registration->queues, registration->nqueues),
		   registration->queues == NULL);
	COLUMN("run_as", NULL, NAMEOID, queue_name_datum(registration->run_as), false);
	COLUMN("registered_by", NULL, NAMEOID, queue_name_datum(me), false);
	COLUMN("paused_at", NULL, TIMESTAMPTZOID, TimestampTzGetDatum(paused_at), paused_at == 0);
	COLUMN("system_identifier", NULL, INT8OID, Int64GetDatum((int64) GetSystemIdentifier()), false);
	COLUMN("database_oid", NULL, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	if (function != NULL)
	{
		COLUMN("function_schema", NULL, NAMEOID, queue_name_datum(function->schema), false);
		COLUMN("function_name", NULL, NAMEOID, queue_name_datum(function->name), false);
		COLUMN("function_argument", NULL, TEXTOID, CStringGetTextDatum(function->takes_job ? "queue.job" : "jsonb"),
			   false);
		COLUMN("function_owner", NULL, NAMEOID, queue_name_datum(function->owner), false);
	}
	for (int i = 0; i < registration->noptions; i++)
	{
		const QueueHandlerOption *option = &registration->options[i];

		if (option->argument != QUEUE_NO_ARGUMENT && OidIsValid(option->type))
			COLUMN(option->column != NULL ? option->column : option->name, option->missing, option->type,
				   registration->values[i], PG_ARGISNULL(option->argument));
	}
#undef COLUMN
	queue_spi_run(psprintf("INSERT INTO queue.handler (%s) VALUES (%s) RETURNING id", names.data, values.data),
				  params.n, params.types, params.values, params.nulls);
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (nreplaced > 0)
	{
		QueueParams gone = {0};

		queue_param(&gone, INT8OID, Int64GetDatum(id), false);
		queue_param(&gone, TEXTOID, url == NULL ? 0 : CStringGetTextDatum(url), url == NULL);
		queue_spi_run_now("DELETE FROM queue.endpoint WHERE handler = $1 AND url IS DISTINCT FROM $2",
						  gone.n, gone.types, gone.values, gone.nulls);
	}
	return id;
}

/* ---- which handler a call means ---- */

/* Is this the handler of the kind that `queue` picks? */
static bool
picked_by(const QueueHandler *handler, const char *queue)
{
	if (queue == NULL)
		return true;
	return strcmp(queue, "*") == 0 ? handler->queues == NULL : queue_handler_names(handler, queue);
}

QueueHandler *
queue_registration_pick(const char *kind, const char *queue, bool http, bool any_manager)
{
	bool		may_all = is_owner() || (any_manager && queue_may(GetUserId(), NULL, QUEUE_PRIV_MANAGE));
	QueueHandler *mine = NULL;
	QueueHandler *other = NULL;

	lock_kind(kind);
	for (QueueHandler *handler = queue_config_handlers(kind); handler != NULL; handler = handler->same_kind)
	{
		if ((http && !handler->http) || !picked_by(handler, queue))
			continue;
		if (!may_all && !queue_registration_is_mine(handler))
			other = handler;
		else if (mine != NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("kind \"%s\" has several handlers", kind),
							errhint("Pass queue => and a queue that the handler names, or '*' for the handler of all "
									"queues; the view queue.stat_handler lists them.")));
		else
			mine = handler;
	}
	if (mine != NULL)
		return mine;
	if (other != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("handler for kind \"%s\" was registered by role \"%s\"", kind, other->registered_by),
				 errhint(any_manager ? "That role, or one that holds manage on \"*\", can change it." :
						 "That role or a superuser can change it.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 queue == NULL ? errmsg("kind \"%s\" has no %shandler", kind, http ? "HTTP " : "") :
			 errmsg("kind \"%s\" has no %shandler that names queue \"%s\"", kind, http ? "HTTP " : "", queue),
			 errhint("The view queue.stat_handler lists the handlers and their queues.")));
	return NULL;
}
