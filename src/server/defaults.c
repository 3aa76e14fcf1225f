/*
 * defaults.c
 *		The defaults of our functions' parameters, read once a backend.
 *
 * Why: a client that prepares nothing has each call planned, and for a call that leaves parameters out the planner
 * reads their defaults from the catalog as text: for queue.enqueue 20 expressions, a quarter of what such a call cost.
 * So a planner hook gives the planner calls that are complete.  What it puts in is what the planner would have read, a
 * copy of it that is kept until a function changes.
 *
 * The executor then looks at each argument whenever it begins, also of a prepared call: a third of what it did before
 * it called queue.enqueue.  That function does with fewer arguments, so those at the end that are as by default are cut
 * off again in the plan.
 *
 * Only calls that stand where they are the whole of an output column or of a function in FROM are looked at.
 */
#include "lib/queue.h"

#include "api/enqueue.h"
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
	int			needed;			/* as many at least must be given to its C function.. */
	List	   *defaults;		/* of its last parameters: ..and those that follow if they are not these */
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

/* The default of the parameter at place i; NULL: it has none. */
static Node *
default_of(const Known *function, int i)
{
	int			without = function->nargs - list_length(function->defaults);

	return i < without ? NULL : list_nth(function->defaults, i - without);
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
		char	   *symbol = TextDatumGetCString(SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull));
		Datum		defaults = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargdefaults, &isnull);
		MemoryContext old = MemoryContextSwitchTo(known_context);

		if (!isnull)
		{
			char	   *string = TextDatumGetCString(defaults);

			entry->defaults = castNode(List, stringToNode(string));
			entry->nargs = function->pronargs;
			entry->needed = entry->nargs;
			if (strcmp(symbol, "queue_sql_enqueue") == 0)
			{
				for (int i = entry->nargs - 1; queue_enqueue_unset(i, default_of(entry, i)); i--)
					entry->needed = i;
			}
			pfree(string);
		}
		pfree(symbol);
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
	for (int i = 0; i < function->nargs; i++)
	{
		if (args[i] == NULL && default_of(function, i) == NULL)
			return;				/* the planner tells what is wrong */
	}
	call->args = NIL;
	for (int i = 0; i < function->nargs; i++)
	{
		call->args = lappend(call->args, args[i] != NULL ? args[i] : copyObject(default_of(function, i)));
	}
}

/* Cuts off what the function itself would put in, from a call in a plan, which nobody completes any more. */
static void
shorten_call(Node *expression)
{
	FuncExpr   *call = (FuncExpr *) expression;
	const Known *function;
	int			n;

	if (expression == NULL || !IsA(expression, FuncExpr) || call->funcid < FirstNormalObjectId)
		return;
	function = look_up(call->funcid);
	n = list_length(call->args);
	if (n != function->nargs)
		return;
	while (n > function->needed && equal(list_nth(call->args, n - 1), default_of(function, n - 1)))
		n--;
	call->args = list_truncate(call->args, n);
}

/* planner_hook. */
static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	PlannedStmt *planned;
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
	planned = previous_planner != NULL ? previous_planner(query, text, options, params) :
		standard_planner(query, text, options, params);
	if (query->commandType != CMD_SELECT)
		return planned;
	foreach(cell, planned->planTree->targetlist)
	{
		shorten_call((Node *) lfirst_node(TargetEntry, cell)->expr);
	}
	if (IsA(planned->planTree, FunctionScan))
		shorten_call(linitial_node(RangeTblFunction, ((FunctionScan *) planned->planTree)->functions)->funcexpr);
	return planned;
}

void
queue_defaults_install(void)
{
	previous_planner = planner_hook;
	planner_hook = plan;
}
