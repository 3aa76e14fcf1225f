/*
 * defaults.c
 *		The defaults of our functions' parameters, read once a backend.
 *
 * Why: a client that prepares nothing has each call planned, and for a call that leaves parameters out the planner
 * reads their defaults from the catalog as text: for queue.enqueue 20 expressions, a quarter of what such a call cost.
 * So a planner hook gives the planner calls that are complete.  What it puts in is what the planner would have read, a
 * copy of it that is kept until a function changes.
 *
 * Only calls that stand where they are the whole of an output column or of a function in FROM are looked at.
 */
#include "lib/queue.h"

#include "server/defaults.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/primnodes.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* A function that was called. */
typedef struct Known
{
	Oid			function;		/* the key */
	int			nargs;			/* 0: not one of ours that has defaults */
	List	   *defaults;		/* of its last parameters */
} Known;

static planner_hook_type previous_planner = NULL;
static HTAB *known = NULL;
static MemoryContext known_context = NULL;
static bool stale = false;		/* a function changed */

/* A callback of the syscache, which may come in the midst of a look. */
static void
forget(Datum arg, int cache, uint32 hash)
{
	stale = true;
}

/* Reads what is to be known of a function. */
static void
read_function(Known *entry)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(entry->function));
	Form_pg_proc function;

	entry->nargs = 0;
	entry->defaults = NIL;
	if (!HeapTupleIsValid(tuple))
		return;
	function = (Form_pg_proc) GETSTRUCT(tuple);
	if (function->pronargdefaults > 0 && function->prolang == ClanguageId && !OidIsValid(function->provariadic) &&
		function->pronamespace == get_namespace_oid("queue", true))
	{
		bool		isnull;
		Datum		defaults = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargdefaults, &isnull);
		MemoryContext old = MemoryContextSwitchTo(known_context);

		if (!isnull)
		{
			char	   *string = TextDatumGetCString(defaults);

			entry->defaults = castNode(List, stringToNode(string));
			entry->nargs = function->pronargs;
			pfree(string);
		}
		MemoryContextSwitchTo(old);
	}
	ReleaseSysCache(tuple);
}

/* What is known of a function, until the next call. */
static const Known *
look_up(Oid function)
{
	static bool registered = false;
	Known	   *entry;
	bool		found;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget, (Datum) 0);
		registered = true;
	}
	if (stale && known_context != NULL)
	{
		MemoryContextDelete(known_context);
		known_context = NULL;
	}
	if (known_context == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Known)};

		known_context = AllocSetContextCreate(TopMemoryContext, "queue defaults", ALLOCSET_SMALL_SIZES);
		control.hcxt = known_context;
		stale = true;			/* until all of it is there */
		known = hash_create("queue defaults", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		stale = false;
	}
	entry = hash_search(known, &function, HASH_FIND, NULL);
	if (entry == NULL)
	{
		Known		read = {.function = function};

		read_function(&read);
		entry = hash_search(known, &function, HASH_ENTER, &found);
		*entry = read;
	}
	return entry;
}

/* Completes a call, if it is one of our functions. */
static void
complete_call(Node *expression)
{
	FuncExpr   *call = (FuncExpr *) expression;
	const Known *function;
	Node	   *args[FUNC_MAX_ARGS] = {NULL};
	int			ndefaults;
	int			n = 0;
	ListCell   *cell;

	if (expression == NULL || !IsA(expression, FuncExpr) || call->funcid < FirstNormalObjectId)
		return;
	function = look_up(call->funcid);
	if (list_length(call->args) >= function->nargs)
		return;
	foreach(cell, call->args)
	{
		Node	   *arg = lfirst(cell);

		if (IsA(arg, NamedArgExpr))
			args[((NamedArgExpr *) arg)->argnumber] = (Node *) ((NamedArgExpr *) arg)->arg;
		else
			args[n++] = arg;
	}
	ndefaults = list_length(function->defaults);
	for (int i = 0; i < function->nargs - ndefaults; i++)
	{
		if (args[i] == NULL)
			return;				/* the planner tells what is wrong */
	}
	call->args = NIL;
	for (int i = 0; i < function->nargs; i++)
	{
		Assert(args[i] != NULL || function->defaults != NIL);
		call->args = lappend(call->args, args[i] != NULL ? args[i] :
							 copyObject(list_nth(function->defaults, i - (function->nargs - ndefaults))));
	}
}

/* planner_hook. */
static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	ListCell   *cell;

	if (query->commandType == CMD_SELECT)
	{
		foreach(cell, query->targetList)
		{
			complete_call((Node *) lfirst_node(TargetEntry, cell)->expr);
		}
		foreach(cell, query->rtable)
		{
			const RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

			if (entry->rtekind == RTE_FUNCTION)
				complete_call(linitial_node(RangeTblFunction, entry->functions)->funcexpr);
		}
	}
	return previous_planner != NULL ? previous_planner(query, text, options, params) :
		standard_planner(query, text, options, params);
}

void
queue_defaults_install(void)
{
	previous_planner = planner_hook;
	planner_hook = plan;
}
