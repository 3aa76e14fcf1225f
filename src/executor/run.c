/*
 * run.c
 *		Finding a handler's SQL function and calling it for one job, in a
 *		subtransaction from which nothing leaks.
 *
 * Shared by executors and test_run.  A function is kept by schema, name and argument
 * type and looked up again whenever the catalog changed, so that deploys by CREATE OR
 * REPLACE or DROP/CREATE just work; a lookup checks what fmgr does not: the owner, the
 * EXECUTE and USAGE privileges of the role that runs it.
 *
 * The owner of a function can replace it, so what he writes there runs as the handler's role: he must have its
 * privileges anyway.
 *
 * What goes wrong when a function is looked up (a library that cannot be loaded) parks its own handler and nothing
 * else.
 *
 * Touches no job row and no shared memory.
 */
#include "executor/run.h"

#include "executor/log.h"
#include "job/claim.h"
#include "job/record.h"
#include "lib/attempt.h"
#include "shared/clock.h"
#include "shared/slot.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#define SQLSTATE_DISCARD MAKE_SQLSTATE('Q', 'U', '0', '0', '1')
#define SQLSTATE_SNOOZE MAKE_SQLSTATE('Q', 'U', '0', '0', '2')

#define RESOLVED_BYTES 1024		/* of a handler, and room for some that are gone */
#define FAILED_RETRY_US (10 * USECS_PER_SEC)	/* a library may be there by then, of which no catalog tells */

#define QUEUE_OWNER_HINT \
	"Who owns the function decides what runs as that role: give the function to the role or a superuser, or name " \
	"another run_as."

QueueCurrent *queue_current = NULL;
volatile sig_atomic_t queue_run_swallowed = false;

/* A handler's function as last resolved in this backend. */
typedef struct Resolved
{
	int64		id;				/* the handler's; hash key */
	const QueueHandler *handler;	/* the configuration that it was resolved for */
	uint64		serial;
	uint64		epoch;
	const char *parked;			/* why it cannot run; NULL: it can */
	const char *hint;
	TimestampTz failed_at;		/* when looking it up raised an error; 0: it did not */
	bool		returns_jsonb;
	FmgrInfo	finfo;			/* never called: copied for each state of a call */
	FmgrInfo   *shared_call;	/* what jobs in company call; NULL: nothing yet */
	uint64		shared_serial;	/* good as long as this is shared_serial */
} Resolved;

static HTAB *resolved = NULL;
static Resolved *last_resolved = NULL;	/* used last: nearly always the one that is asked for */
static MemoryContext resolved_context = NULL;
static uint64 catalog_epoch = 1;	/* counts changes of pg_proc and pg_namespace; of roles the configuration tells */

/*
 * What fmgr and the languages keep between calls (fn_extra) is state of execution: after an error it points to
 * what the rollback freed.  So every run has its own, except for jobs in company: they share one per kind (an
 * SQL-language function takes 4 us with it, 20 us without), until their transaction ends or one of them raises an
 * error.
 */
static MemoryContext shared_calls = NULL;	/* a child of TopTransactionContext; NULL: no state is there */
static uint64 shared_serial = 1;	/* of the states in shared_calls */

/* Reset callback of shared_calls, which its transaction's end runs as well. */
static void
shared_calls_gone(void *arg)
{
	shared_calls = NULL;
	shared_serial++;
}

/* Throws away what jobs in company have kept of their calls.  Called after an error in one of them. */
static void
forget_shared_calls(void)
{
	if (shared_calls != NULL)
		MemoryContextDelete(shared_calls);
}

/* The state that this run calls the function with; its own state is made in `own`. */
static FmgrInfo *
call_state(Resolved *entry, bool in_company, MemoryContext own)
{
	FmgrInfo   *finfo;
	MemoryContext context = own;

	if (in_company)
	{
		if (entry->shared_call != NULL && entry->shared_serial == shared_serial)
			return entry->shared_call;
		if (shared_calls == NULL)
		{
			MemoryContextCallback *callback;

			shared_calls = AllocSetContextCreate(TopTransactionContext, "queue calls", ALLOCSET_SMALL_SIZES);
			callback = MemoryContextAllocZero(shared_calls, sizeof(MemoryContextCallback));
			callback->func = shared_calls_gone;
			MemoryContextRegisterResetCallback(shared_calls, callback);
		}
		context = shared_calls;
	}
	finfo = MemoryContextAlloc(context, sizeof(FmgrInfo));
	fmgr_info_copy(finfo, &entry->finfo, context);
	if (in_company)
	{
		entry->shared_call = finfo;
		entry->shared_serial = shared_serial;
	}
	return finfo;
}

static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	catalog_epoch++;
}

/* A verdict lives and dies with the subtransaction in which it was given. */
static void
verdict_subxact(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level;

	if (queue_current == NULL || !queue_current->verdict.given)
		return;
	level = GetCurrentTransactionNestLevel();
	if (queue_current->verdict.level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		queue_current->verdict.given = false;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		queue_current->verdict.level = level - 1;
}

static void
initialize(void)
{
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Resolved)};
	HTAB	   *table;

	/* what may fail comes first */
	resolved_context = AllocSetContextCreate(TopMemoryContext, "queue handlers", ALLOCSET_SMALL_SIZES);
	table = hash_create("queue handlers", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	RegisterSubXactCallback(verdict_subxact, NULL);
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_changed, (Datum) 0);
	queue_log_capture_install();
	resolved = table;
}

/* Does this function's result and kind suit a handler?  NULL: yes, else what is wrong. */
static const char *
unsuitable(Form_pg_proc proc)
{
	if (proc->prokind != PROKIND_FUNCTION)
		return "is not a plain function";
	if (proc->proretset)
		return "returns a set";
	if (proc->prorettype != VOIDOID && proc->prorettype != JSONBOID)
		return "returns neither void nor jsonb";
	return NULL;
}

/* May this owner of a function decide what runs as that role: is he a superuser, or has he its privileges? */
static bool
owner_may(Oid owner, Oid run_as)
{
	return superuser_arg(owner) || has_privs_of_role(owner, run_as);
}

/* Looks the handler's function up; fills entry->finfo, or entry->parked and hint. */
static void
resolve(Resolved *entry, QueueHandler *handler)
{
	Oid			nsp = get_namespace_oid(handler->function_schema, true);
	Oid			argument = handler->takes_job ? queue_config()->job_type : JSONBOID;
	const char *argument_name = handler->takes_job ? "queue.job" : "jsonb";
	HeapTuple	tuple = NULL;
	Form_pg_proc proc;
	Oid			owner;
	Oid			registered_by;
	const char *wrong;
	MemoryContext old = MemoryContextSwitchTo(resolved_context);

	entry->parked = NULL;
	entry->hint = NULL;
	entry->shared_call = NULL;
	if (OidIsValid(nsp))
		tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(handler->function_name),
								PointerGetDatum(buildoidvector(&argument, 1)), ObjectIdGetDatum(nsp));
	if (!HeapTupleIsValid(tuple))
	{
		entry->parked = psprintf("function %s.%s(%s) does not exist", handler->function_schema,
								 handler->function_name, argument_name);
		entry->hint = "Create it again, or register another function for the kind.";
		MemoryContextSwitchTo(old);
		return;
	}
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	owner = get_role_oid(handler->function_owner, true);
	registered_by = get_role_oid(handler->registered_by, true);
	wrong = unsuitable(proc);
	if (wrong != NULL)
	{
		entry->parked = psprintf("function %s.%s(%s) %s", handler->function_schema,
								 handler->function_name, argument_name, wrong);
		entry->hint = "A handler returns void or jsonb.";
	}
	else if (proc->proowner != owner && !superuser_arg(proc->proowner))
	{
		entry->parked = psprintf("function %s.%s(%s) belongs to another owner than when it was registered",
								 handler->function_schema, handler->function_name, argument_name);
		entry->hint = "Register it again if the new owner is trusted.";
	}
	else if (!OidIsValid(handler->run_as_oid))
	{
		entry->parked = psprintf("role \"%s\" does not exist", handler->run_as);
		entry->hint = "Register the handler again with run_as naming another role.";
	}
	else if (!OidIsValid(registered_by) || !queue_can_set_role(registered_by, handler->run_as_oid))
	{
		entry->parked = psprintf("role \"%s\", which registered the handler, is not a member of \"%s\" (any more)",
								 handler->registered_by, handler->run_as);
		entry->hint = "Grant the membership, with its SET option, or register the handler again.";
	}
	else if (!owner_may(proc->proowner, handler->run_as_oid))
	{
		entry->parked = psprintf("the owner of function %s.%s(%s), \"%s\", does not have the privileges of role \"%s\"",
								 handler->function_schema, handler->function_name, argument_name,
								 GetUserNameFromId(proc->proowner, false), handler->run_as);
		entry->hint = QUEUE_OWNER_HINT;
	}
	else if (queue_namespace_aclcheck(nsp, handler->run_as_oid) != ACLCHECK_OK ||
			 queue_proc_aclcheck(proc->oid, handler->run_as_oid) != ACLCHECK_OK)
	{
		entry->parked = psprintf("role \"%s\" may not execute function %s.%s(%s)", handler->run_as,
								 handler->function_schema, handler->function_name, argument_name);
		entry->hint = "GRANT EXECUTE on the function and USAGE on its schema to the role.";
	}
	else
	{
		entry->returns_jsonb = proc->prorettype == JSONBOID;
		fmgr_info_cxt(proc->oid, &entry->finfo, resolved_context);
	}
	ReleaseSysCache(tuple);
	MemoryContextSwitchTo(old);
}

/*
 * resolve() behind an error boundary: an error parks this handler, for a while.  Only a cancel is the caller's.  Where
 * no subtransaction can be had (parallel query) the error is the caller's, too.
 */
static void
resolve_guarded(Resolved *entry, QueueHandler *handler)
{
	QueueAttempt attempt;

	entry->failed_at = 0;
	if (IsInParallelMode())
	{
		resolve(entry, handler);
		return;
	}
	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		resolve(entry, handler);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error = queue_attempt_failed(&attempt);

		MemoryContextSwitchTo(resolved_context);
		entry->parked = psprintf("function %s.%s cannot be called: %s", handler->function_schema,
								 handler->function_name, error->message);
		entry->hint = error->hint != NULL ? pstrdup(error->hint) : "It is tried again from time to time.";
		entry->failed_at = queue_now();
		MemoryContextSwitchTo(attempt.context);
	}
	PG_END_TRY();
}

/* Do changes of handlers and functions leave more behind than what is in use? */
static bool
left_behind(const QueueConfig *config)
{
	return hash_get_num_entries(resolved) > 64 + 2 * config->nhandlers ||
		MemoryContextMemAllocated(resolved_context, true) > (64 + (Size) config->nhandlers) * RESOLVED_BYTES;
}

/* Forgets all that was resolved. */
static void
forget_resolved(void)
{
	HASH_SEQ_STATUS seq;
	Resolved   *entry;

	last_resolved = NULL;
	hash_seq_init(&seq, resolved);
	while ((entry = hash_seq_search(&seq)) != NULL)
		hash_search(resolved, &entry->id, HASH_REMOVE, NULL);
	MemoryContextReset(resolved_context);
}

/* Is the entry what a look at the catalogs now would make it? */
static bool
still_good(const Resolved *entry, const QueueHandler *handler, const QueueConfig *config)
{
	return entry->handler == handler && entry->serial == config->serial && entry->epoch == catalog_epoch &&
		queue_preloaded() && (entry->failed_at == 0 || entry->failed_at + FAILED_RETRY_US > queue_now());
}

/* The handler as resolved, from the cache while nothing changed. */
static Resolved *
resolved_handler(QueueHandler *handler)
{
	const QueueConfig *config = queue_config();
	Resolved   *entry;
	bool		found;

	if (last_resolved != NULL && last_resolved->id == handler->id && still_good(last_resolved, handler, config))
		return last_resolved;
	if (resolved == NULL)
		initialize();
	entry = hash_search(resolved, &handler->id, HASH_ENTER, &found);
	if (!found || !still_good(entry, handler, config))
	{
		uint64		epoch = catalog_epoch;

		/* the state of a handler that runs may be there */
		if (queue_current == NULL && left_behind(config))
		{
			forget_resolved();
			entry = hash_search(resolved, &handler->id, HASH_ENTER, &found);
		}
		entry->handler = NULL;	/* not valid until resolved */
		resolve_guarded(entry, handler);
		entry->handler = handler;
		entry->serial = config->serial;
		entry->epoch = epoch;
	}
	last_resolved = entry;
	return entry;
}

Oid
queue_run_function(QueueHandler *handler)
{
	Resolved   *entry = resolved_handler(handler);

	return entry->parked == NULL ? entry->finfo.fn_oid : InvalidOid;
}

uint64
queue_run_catalog_epoch(void)
{
	if (resolved == NULL)
		initialize();
	return catalog_epoch;
}

const char *
queue_run_parked(QueueHandler *handler, const char **hint)
{
	Resolved   *entry;

	if (!handler->adopted)
	{
		*hint = "If this database was restored or cloned on purpose, run SELECT queue.adopt().";
		return "it was registered in another database or system";
	}
	if (handler->broken != NULL)
	{
		*hint = "Register the handler again.";
		return handler->broken;
	}
	if (handler->http)
		return NULL;			/* nothing is called here */
	entry = resolved_handler(handler);
	*hint = entry->hint;
	return entry->parked;
}

static void raise_not_found(const char *function, List *names) pg_attribute_noreturn();

/* 42883, or what else is wrong when no function of this name has the wanted argument. */
static void
raise_not_found(const char *function, List *names)
{
	/* a procedure is refused for what it is, not as if it were not there */
	for (FuncCandidateList c = FuncnameGetCandidates(names, 1, NIL, false, false, false, true); c != NULL; c = c->next)
		if (get_func_prokind(c->oid) == PROKIND_PROCEDURE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("%s is a procedure", function),
					 errhint("A handler is a function that takes queue.job or jsonb and returns void or jsonb.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s(queue.job) or %s(jsonb) does not exist", function, function),
			 errhint("Give the name of a function that takes one queue.job, or one jsonb (the payload).")));
}

/* Splits f, f(queue.job) or f(jsonb) into the name's parts, and what may be its argument. */
static List *
function_names(const char *function, bool *job, bool *jsonb)
{
	char	   *name = pstrdup(function);
	char	   *argument = strrchr(name, '(');
	char		closing;
	char		word[16];
	char		rest;
	List	   *parts;
	List	   *names = NIL;
	ListCell   *cell;

	*job = *jsonb = true;
	if (argument != NULL && sscanf(argument, "( %15[a-z.] %c %c", word, &closing, &rest) == 2 && closing == ')' &&
		(strcmp(word, "queue.job") == 0 || strcmp(word, "jsonb") == 0))
	{
		*job = strcmp(word, "queue.job") == 0;
		*jsonb = !*job;
		*argument = '\0';
	}
	if (!SplitIdentifierString(name, '.', &parts) || parts == NIL || list_length(parts) > 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" is not the name of a function", function),
				 errhint("Write name, schema.name, or one of them with (queue.job) or (jsonb) behind it.")));
	foreach(cell, parts)
		names = lappend(names, makeString(lfirst(cell)));
	return names;
}

/*
 * The function that a name means: of the first schema of the search_path that has f(queue.job) or f(jsonb), the former
 * if it has both; so nobody's f(queue.job) in a later schema goes before one's own f(jsonb).
 */
static Oid
find_function(const char *function, bool *takes_job)
{
	bool		job;
	bool		jsonb;
	List	   *names = function_names(function, &job, &jsonb);
	Oid			job_type = queue_config()->job_type;
	FuncCandidateList best = NULL;

	for (FuncCandidateList c = FuncnameGetCandidates(names, 1, NIL, false, false, false, true); c != NULL; c = c->next)
	{
		if (!((job && c->args[0] == job_type) || (jsonb && c->args[0] == JSONBOID)) ||
			get_func_prokind(c->oid) == PROKIND_PROCEDURE)
			continue;
		if (best == NULL || c->pathpos < best->pathpos || (c->pathpos == best->pathpos && c->args[0] == job_type))
			best = c;
	}
	if (best == NULL)
		raise_not_found(NameListToQuotedString(names), names);
	*takes_job = best->args[0] == job_type;
	return best->oid;
}

void
queue_run_resolve(const char *function, Oid run_as, QueueFunction *found)
{
	Oid			oid = find_function(function, &found->takes_job);
	HeapTuple	tuple;
	Form_pg_proc proc;
	const char *wrong;

	if (queue_proc_aclcheck(oid, GetUserId()) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errhint("Who registers a function needs EXECUTE on it. Its owner can run: "
						 "GRANT EXECUTE ON FUNCTION %s TO %s.",
						 format_procedure_qualified(oid), quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	if (queue_proc_aclcheck(oid, run_as) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not execute function %s", GetUserNameFromId(run_as, false), function),
				 errhint("Its owner can run: GRANT EXECUTE ON FUNCTION %s TO %s.", format_procedure_qualified(oid),
						 quote_identifier(GetUserNameFromId(run_as, false)))));
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", oid);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	wrong = unsuitable(proc);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(proc->prokind == PROKIND_FUNCTION ?
						 ERRCODE_INVALID_FUNCTION_DEFINITION : ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s(%s) %s", function, found->takes_job ? "queue.job" : "jsonb", wrong),
				 errhint("A handler is a function that takes queue.job or jsonb and returns void or jsonb.")));
	if (!owner_may(proc->proowner, run_as))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of function %s, \"%s\", does not have the privileges of role \"%s\"", function,
						GetUserNameFromId(proc->proowner, false), GetUserNameFromId(run_as, false)),
				 errhint(QUEUE_OWNER_HINT)));
	found->schema = get_namespace_name(proc->pronamespace);
	found->name = pstrdup(NameStr(proc->proname));
	found->owner = GetUserNameFromId(proc->proowner, false);
	ReleaseSysCache(tuple);
}

/* Reads the interval in an error's DETAIL (QU002); false if it is none. */
static bool
snooze_delay(const char *detail, int64 *delay)
{
	bool		ok = detail != NULL;

	/* in a subtransaction of its own: interval_in throws */
	if (ok)
	{
		QueueAttempt attempt;

		queue_attempt_begin(&attempt);
		PG_TRY();
		{
			Interval *interval =
				DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(detail),
													  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

			*delay = queue_interval_us(interval);
			queue_attempt_commit(&attempt);
		}
		PG_CATCH();
		{
			FreeErrorData(queue_attempt_failed(&attempt));
			ok = false;
		}
		PG_END_TRY();
	}
	return ok && queue_span_valid(*delay, 0);
}

/* Turns a caught error into the job's outcome. */
static void
outcome_of_error(ErrorData *edata, QueueRunResult *result)
{
	result->outcome = QUEUE_RUN_FAILED;
	result->error = edata->detail != NULL && edata->sqlerrcode != SQLSTATE_SNOOZE ?
		psprintf("%s\nDETAIL:  %s", edata->message, edata->detail) :
		pstrdup(edata->message ? edata->message : "");
	strlcpy(result->sqlstate, unpack_sql_state(edata->sqlerrcode), sizeof(result->sqlstate));
	result->context = edata->context;
	if (edata->sqlerrcode == SQLSTATE_DISCARD)
		result->outcome = QUEUE_RUN_DISCARD;
	else if (edata->sqlerrcode == SQLSTATE_SNOOZE)
	{
		if (snooze_delay(edata->detail, &result->delay))
			result->outcome = QUEUE_RUN_SNOOZE;
		else
			result->error = psprintf("QU002 needs an interval from 0 to 1000 years as its DETAIL, not \"%s\"",
									 edata->detail ? edata->detail : "");
	}
}

/*
 * What one job leaves in its executor's session and the next must not see, as far as no transaction's end takes it:
 * currval and lastval, and the seed of random().  The session of a test_run is its user's.
 */
static void
forget_session_state(void)
{
	double		seed;

	if (queue_my_slot == NULL)
		return;
	ResetSequenceCaches();
	seed = (double) (int64) pg_prng_uint64(&pg_global_prng_state) * 0x1p-63;	/* from -1 to 1 */
	(void) DirectFunctionCall1(setseed, Float8GetDatum(seed));
}

/*
 * Calls the function; runs inside the subtransaction.  The state of the call lives in `own`, unless jobs in company
 * share it; the result is copied to the current context.
 */
static void
call(Resolved *entry, QueueHandler *handler, QueueLine *line, QueueJob *job, MemoryContext own, QueueRunResult *result)
{
	LOCAL_FCINFO(fcinfo, 1);
	MemoryContext context = CurrentMemoryContext;
	FmgrInfo   *finfo = call_state(entry, queue_current->in_company, own);
	int			nestlevel = NewGUCNestLevel();
	Oid			userid;
	int			sec_context;
	Oid			userid_after;
	int			sec_context_after;
	Datum		value;

	GetUserIdAndSecContext(&userid, &sec_context);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	InitFunctionCallInfoData(*fcinfo, finfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].isnull = false;
	if (handler->takes_job)
	{
		HeapTuple	tuple = queue_job_tuple(job, NULL, line->queue, line->kind, line->priority, handler,
											QUEUE_STATE_RUNNING, queue_current->started_at, NULL);

		fcinfo->args[0].value = HeapTupleGetDatum(tuple);
	}
	else
		fcinfo->args[0].value = JsonbPGetDatum(job->payload);
	value = FunctionCallInvoke(fcinfo);
	if (queue_current->in_company && (queue_current->wants_alone || queue_run_swallowed))
	{
		queue_current->wants_alone = true;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("job " INT64_FORMAT " is run again alone, because its handler caught a cancel", job->id),
				 errhint("This is internal and counts as no attempt.")));
	}
	if (entry->returns_jsonb && !fcinfo->isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		result->result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	AtEOXact_GUC(false, nestlevel);
	GetUserIdAndSecContext(&userid_after, &sec_context_after);
	if (userid != userid_after || sec_context != sec_context_after)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION),
				 errmsg("the handler returned as another user than it was called as"),
				 errhint("A handler must put back what it changes of the security context.")));
}

/* What the handler asked for by calls about its own job takes the place of "completed". */
static void
take_verdict(QueueVerdict *verdict, QueueRunResult *result)
{
	result->progress = verdict->progress;
	if (!verdict->given)
		return;
	result->retry_in = verdict->retry_in;
	result->outcome = verdict->outcome;
	result->delay = verdict->delay;
	if (verdict->text != NULL)
		result->error = pstrdup(verdict->text);
	if (verdict->result != NULL)
		result->result = verdict->result;
}

bool
queue_run_job(QueueHandler *handler, QueueLine *line, QueueJob *job, TimestampTz started_at, bool in_company,
			  bool subtransaction, bool (*before) (void *arg), void *arg, QueueRunResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Resolved   *entry = resolved_handler(handler);
	QueueCurrent *outer = queue_current;
	QueueRunning running = {job->id, queue_claim_running};
	QueueCurrent current = {.job = job, .line = line, .in_company = in_company, .context = context};
	MemoryContext own = in_company ? NULL : AllocSetContextCreate(context, "queue call", ALLOCSET_SMALL_SIZES);
	QueueLogTarget log = {&current.log, context};
	QueueLogTarget *outer_log;
	volatile bool ran = false;
	/* the handler may change the configuration; line and handler point into it */
	int			held = queue_config_hold();

	memset(result, 0, sizeof(*result));
	result->outcome = QUEUE_RUN_COMPLETED;
	result->retry_in = -1;
	current.started_at = started_at;
	if (outer == NULL)
		forget_session_state();
	if (!subtransaction)
	{
		outer_log = queue_log_capture_begin(&log);
		ran = entry->parked == NULL && (before == NULL || before(arg));
		if (ran)
		{
			queue_current = &current;
			queue_claim_running = &running;
			call(entry, handler, line, job, own, result);
			queue_current = outer;
			queue_claim_running = running.outer;
			MemoryContextSwitchTo(context);
			result->progress = current.verdict.progress;
			result->log = current.log;
		}
		queue_log_capture_end(outer_log);
		queue_config_release(held);
		return ran;
	}

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	outer_log = queue_log_capture_begin(&log);
	PG_TRY();
	{
		if (entry->parked == NULL && (before == NULL || before(arg)))
		{
			ran = true;
			queue_current = &current;
			queue_claim_running = &running;
			call(entry, handler, line, job, own, result);
			queue_current = outer;
			queue_claim_running = running.outer;
			MemoryContextSwitchTo(context);
			take_verdict(&current.verdict, result);
			result->marks = current.marked ? job->extra : NULL;
		}
		if (ran && result->outcome != QUEUE_RUN_FAILED)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		queue_log_capture_end(outer_log);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		queue_current = outer;
		queue_claim_running = running.outer;
		queue_log_capture_mute();	/* if there is an error here, too */
		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		(void) queue_log_capture_begin(&log);
		RollbackAndReleaseCurrentSubTransaction();
		queue_log_capture_end(outer_log);
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ran = true;
		if (in_company)
			forget_shared_calls();
		outcome_of_error(edata, result);
		if (current.wants_alone)
			result->outcome = QUEUE_RUN_INTERRUPTED;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	result->log = current.log;
	if (own != NULL)
		MemoryContextDelete(own);
	queue_config_release(held);
	return ran;
}
