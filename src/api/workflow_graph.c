/*
 * workflow_graph.c
 *		A workflow in one call: enqueue_workflow, and enqueue_json with a "workflow".
 *
 * The jobs name each other by refs.  They are enqueued level by level, those that depend on none first, so that each
 * finds what it depends on in its place; a circle of refs is refused with its path.
 *
 * Locks: those of an enqueue.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/enqueue.h"
#include "api/workflows.h"
#include "job/finish.h"
#include "lib/option.h"

#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(queue_sql_enqueue_workflow);
PG_FUNCTION_INFO_V1(queue_sql_enqueue_json);

#define REF_MAX QUEUE_NAME_MAX
#define CIRCLE_SHOWN 20		/* refs in the message about a circle */

/* One job of a graph. */
typedef struct GraphJob
{
	char	   *ref;			/* NULL: none */
	Jsonb	   *options;		/* the job without ref and depends_on */
	int		   *after;			/* numbers of those that it depends on by ref */
	int			nafter;
	int64	   *ids;			/* of others */
	int			nids;
	int			level;			/* 0: not known yet, -1: being looked for */
	int64		id;
} GraphJob;

typedef struct RefEntry
{
	char		ref[REF_MAX + 1];
	int			number;
} RefEntry;

static void refuse(int number, const char *what, const char *hint) pg_attribute_noreturn();

static void
refuse(int number, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("element %d: %s", number + 1, what),
			 errhint("%s", hint)));
}

/* 22004: there is no array of jobs. */
static void
refuse_no_jobs(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("jobs must not be null"),
			 errhint("Give the jobs as a JSON array; of an empty one comes a workflow that is complete.")));
}

static bool
all_digits(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

static JsonbValue *
member(Jsonb *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), value);
}

static Jsonb *
without(Jsonb *object, const char *key)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(object), CStringGetTextDatum(key)));
}

/* Reads the ref of a job, if it has one. */
static void
read_ref(GraphJob *nodes, int i, HTAB *refs)
{
	JsonbValue	value;
	RefEntry   *entry;
	bool		found;

	if (member(nodes[i].options, "ref", &value) == NULL || value.type == jbvNull)
		return;
	if (value.type != jbvString || value.val.string.len == 0 ||
		all_digits(pnstrdup(value.val.string.val, value.val.string.len)))
		refuse(i, "ref must be a string that is not all digits",
			   "It names the job for depends_on, such as \"reserve\".");
	if (value.val.string.len > REF_MAX)
		refuse(i, psprintf("ref is a name of %d bytes", value.val.string.len),
			   psprintf("A name has at most %d bytes.", REF_MAX));
	nodes[i].ref = pnstrdup(value.val.string.val, value.val.string.len);
	entry = hash_search(refs, nodes[i].ref, HASH_ENTER, &found);
	if (found)
		refuse(i, psprintf("ref \"%s\" is taken", nodes[i].ref), "Each job of a workflow has a ref of its own.");
	entry->number = i;
}

/* The id of a job that is written in digits, or refuses what is none. */
static int64
read_id(int i, const char *text)
{
	int64		id;

	errno = 0;
	id = strtoi64(text, NULL, 10);
	if (errno != 0)
		refuse(i, psprintf("depends_on names %.30s, which is no id of a job", text),
			   "Give ids that queue.enqueue returned.");
	return id;
}

/* Reads what a job depends on: refs and ids. */
static void
read_depends_on(GraphJob *nodes, int i, HTAB *refs)
{
	GraphJob	   *node = &nodes[i];
	JsonbValue	value;
	JsonbIterator *it;
	JsonbIteratorToken token;
	int			n;

	if (member(node->options, "depends_on", &value) == NULL || value.type == jbvNull)
		return;
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
		refuse(i, "depends_on must be an array of refs and ids", "Write it like [\"reserve\", 17].");
	n = Max(JsonContainerSize(value.val.binary.data), 1);
	node->after = palloc(n * sizeof(int));
	node->ids = palloc(n * sizeof(int64));
	it = JsonbIteratorInit(value.val.binary.data);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *text;

		if (token != WJB_ELEM)
			continue;
		if (value.type == jbvString)
			text = pnstrdup(value.val.string.val, value.val.string.len);
		else if (value.type == jbvNumeric)
			text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
		else
			text = "";
		if (all_digits(text))
			node->ids[node->nids++] = read_id(i, text);
		else
		{
			RefEntry   *entry = strlen(text) > REF_MAX ? NULL : hash_search(refs, text, HASH_FIND, NULL);

			if (entry == NULL)
				refuse(i, psprintf("depends_on names \"%s\", which is no ref of this workflow", text),
					   "Give refs of its jobs, or ids of other jobs.");
			node->after[node->nafter++] = entry->number;
		}
	}
}

/* "a -> b -> a": the circle that leads back to this job; of a long one its beginning. */
static void
refuse_circle(GraphJob *nodes, const int *path, int n, int back)
{
	StringInfoData text;
	int			first = 0;

	initStringInfo(&text);
	while (path[first] != back)
		first++;
	for (int i = first; i < n && i < first + CIRCLE_SHOWN; i++)
		appendStringInfo(&text, "%s -> ", nodes[path[i]].ref);
	if (n > first + CIRCLE_SHOWN)
		appendStringInfo(&text, "(%d more) -> ", n - first - CIRCLE_SHOWN);
	appendStringInfoString(&text, nodes[back].ref);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the jobs of the workflow depend on each other in a circle: %s", text.data),
			 errhint("None of them could ever begin. The arrow reads: depends on.")));
}

/*
 * Gives each job its level: one more than the highest of those that it depends on.  Without recursion: chains are
 * long.
 */
static int
find_levels(GraphJob *nodes, int n)
{
	int		   *path = palloc(Max(n, 1) * sizeof(int));
	int		   *next = palloc0(Max(n, 1) * sizeof(int));
	int			most = 0;

	for (int start = 0; start < n; start++)
	{
		int			depth = 0;

		if (nodes[start].level > 0)
			continue;
		path[depth++] = start;
		nodes[start].level = -1;
		while (depth > 0)
		{
			int			i = path[depth - 1];
			GraphJob	   *node = &nodes[i];

			CHECK_FOR_INTERRUPTS();
			if (next[i] < node->nafter)
			{
				int			other = node->after[next[i]++];

				if (nodes[other].level == -1)
					refuse_circle(nodes, path, depth, other);
				if (nodes[other].level == 0)
				{
					nodes[other].level = -1;
					path[depth++] = other;
				}
				continue;
			}
			node->level = 1;
			for (int j = 0; j < node->nafter; j++)
				node->level = Max(node->level, nodes[node->after[j]].level + 1);
			most = Max(most, node->level);
			depth--;
		}
	}
	return most;
}

/* Reads and enqueues the jobs of one level into the workflow. */
static void
enqueue_level(GraphJob *nodes, int n, int level, int64 workflow)
{
	QueueNewJob *requests = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(QueueNewJob));
	int		   *numbers = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(int));
	int64	   *ids = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(int64));
	int			nrequests = 0;

	for (int i = 0; i < n; i++)
	{
		GraphJob	   *node = &nodes[i];
		QueueNewJob *request = &requests[nrequests];
		MemoryContext context = CurrentMemoryContext;

		if (node->level != level)
			continue;
		PG_TRY();
		{
			queue_request_of_json(&node->options->root, request);
		}
		PG_CATCH();
		{
			queue_rethrow_for_element(i + 1, context);
		}
		PG_END_TRY();
		if (request->workflow != 0)
			refuse(i, "\"workflow\" must not be among the options", "It joins the workflow that this call makes.");
		request->workflow = workflow;
		request->within = true; /* it is closed from the start */
		request->ref = node->ref;
		request->ndepends = node->nids + node->nafter;
		request->depends_on = palloc(Max(request->ndepends, 1) * sizeof(int64));
		for (int j = 0; j < node->nids; j++)
			request->depends_on[j] = node->ids[j];
		for (int j = 0; j < node->nafter; j++)
			request->depends_on[node->nids + j] = nodes[node->after[j]].id;
		numbers[nrequests++] = i;
	}
	queue_enqueue_requests(requests, numbers, nrequests, ids);
	for (int i = 0; i < nrequests; i++)
		nodes[numbers[i]].id = ids[i];
	pfree(requests);
	pfree(numbers);
	pfree(ids);
}

/* Makes the workflow and its jobs; *n: how many. */
static GraphJob *
enqueue_graph(Jsonb *jobs, const QueueNewWorkflow *new, int64 *workflow, int *n)
{
	HASHCTL		ctl = {.keysize = REF_MAX + 1, .entrysize = sizeof(RefEntry), .hcxt = CurrentMemoryContext};
	HTAB	   *refs = hash_create("queue refs", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	GraphJob	   *nodes;
	int			levels;

	if (!JB_ROOT_IS_ARRAY(jobs) || JB_ROOT_IS_SCALAR(jobs))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the jobs of a workflow must be a JSON array of jobs"),
				 errhint("Write it like [{\"ref\": \"a\", \"kind\": \"reserve\"}, {\"kind\": \"ship\", \"depends_on\": "
						 "[\"a\"]}].")));
	*n = JB_ROOT_COUNT(jobs);
	nodes = MemoryContextAllocExtended(CurrentMemoryContext, Max(*n, 1) * sizeof(GraphJob),
									   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < *n; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&jobs->root, i);

		if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
			refuse(i, "a job must be a JSON object", "Write it like {\"kind\": \"mail\", \"payload\": {}}.");
		nodes[i].options = JsonbValueToJsonb(element);
		read_ref(nodes, i, refs);
		CHECK_FOR_INTERRUPTS();
	}
	for (int i = 0; i < *n; i++)
	{
		read_depends_on(nodes, i, refs);
		nodes[i].options = without(without(nodes[i].options, "depends_on"), "ref");
		CHECK_FOR_INTERRUPTS();
	}
	levels = find_levels(nodes, *n);
	*workflow = queue_workflow_create(new, true);
	CommandCounterIncrement();
	for (int level = 1; level <= levels; level++)
		enqueue_level(nodes, *n, level, *workflow);
	return nodes;
}

/* queue.enqueue_workflow(jobs, name, queue, on_finished, on_completed, on_discarded, payload) -> table(..) */
Datum
queue_sql_enqueue_workflow(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueNewWorkflow new = {0};
	GraphJob	   *nodes;
	int64		workflow;
	int			n;

	queue_finish_writable("queue.enqueue_workflow()");
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		refuse_no_jobs();
	queue_workflow_arguments(fcinfo, 1, &new);
	nodes = enqueue_graph(PG_GETARG_JSONB_P(0), &new, &workflow, &n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[3] = {Int64GetDatum(workflow), (Datum) 0, Int64GetDatum(nodes[i].id)};
		bool		nulls[3] = {false, nodes[i].ref == NULL, false};

		if (nodes[i].ref != NULL)
			values[1] = CStringGetTextDatum(nodes[i].ref);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Reads the members of {"jobs": [..], "name": .., ..} and enqueues that; the workflow's id. */
static int64
enqueue_object(Jsonb *object)
{
	QueueNewWorkflow new = {.queue = "default"};
	static const char *const names[] = {"name", "queue", "on_finished", "on_completed", "on_discarded"};
	char	  **texts[] = {&new.name, &new.queue, &new.callbacks[0], &new.callbacks[1], &new.callbacks[2]};
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	value;
	Jsonb	   *jobs = NULL;
	char	   *name;
	int64		workflow;
	int			n;

	new.payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	while (queue_option_next(&it, &name, &value))
	{
		int			i = 0;

		while (i < lengthof(names) && strcmp(name, names[i]) != 0)
			i++;
		if (strcmp(name, "jobs") == 0)
			jobs = JsonbValueToJsonb(&value);
		else if (strcmp(name, "payload") == 0)
			new.payload = JsonbValueToJsonb(&value);
		else if (i < lengthof(names) && value.type == jbvString)
			*texts[i] = pnstrdup(value.val.string.val, value.val.string.len);
		else if (i == lengthof(names) || value.type != jbvNull)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg(i == lengthof(names) ? "unknown workflow option \"%s\"" :
							"workflow option \"%s\" must be a string", name),
					 errhint("The options are jobs, name, queue, on_finished, on_completed, on_discarded and "
							 "payload.")));
	}
	if (jobs == NULL)
		refuse_no_jobs();
	(void) enqueue_graph(jobs, &new, &workflow, &n);
	return workflow;
}

/* queue.enqueue_json(job text) -> bigint: a job's id, or that of a workflow */
Datum
queue_sql_enqueue_json(PG_FUNCTION_ARGS)
{
	Jsonb	   *json;
	JsonbValue	value;

	queue_finish_writable("queue.enqueue_json()");
	if (PG_ARGISNULL(0))
		queue_null_value("job");
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	if (JB_ROOT_IS_OBJECT(json) && member(json, "workflow", &value) != NULL && value.type == jbvBinary &&
		JsonContainerIsObject(value.val.binary.data))
	{
		if (JB_ROOT_COUNT(json) > 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("an object \"workflow\" must be the only member"),
					 errhint("Its jobs and options are inside of it: {\"workflow\": {\"jobs\": [{\"kind\": \"a\"}]}}. "
							 "A job that joins a workflow names its id.")));
		PG_RETURN_INT64(enqueue_object(JsonbValueToJsonb(&value)));
	}
	PG_RETURN_INT64(queue_enqueue_one(json));
}
