/*
 * filter.c
 *		The filter of the calls about many jobs: what it says, and whether a job matches it.
 *
 * No locks but those of the configuration.
 */
#include "api/filter.h"

#include <ctype.h>

#include "config/lines.h"
#include "job/extra.h"
#include "lib/option.h"
#include "shared/clock.h"
#include "shared/session.h"
#include "shared/slot.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

/* A line that was seen, and whether its place matches. */
typedef struct LineMatch
{
	int64		id;				/* hash key */
	bool		match;
} LineMatch;

/* ---- the filter ---- */

static void
refuse(const char *name, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("filter key \"%s\" must be %s", name, what),
			 errhint("See COMMENT ON FUNCTION queue.find_jobs for the keys of a filter.")));
}

/* A value or the elements of an array, as a C array. */
static JsonbValue *
elements_of(JsonbValue *value, int *n)
{
	JsonbValue *elements;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	*n = 1;
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return value;
	elements = palloc(Max(JsonContainerSize(value->val.binary.data), 1) * sizeof(JsonbValue));
	*n = 0;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			elements[(*n)++] = element;
	}
	return elements;
}

static char *
text_of(const char *name, JsonbValue *value)
{
	if (value->type != jbvString)
		refuse(name, "a string or an array of strings");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
read_names(QueueNames *names, const char *name, JsonbValue *value)
{
	JsonbValue *elements = elements_of(value, &names->n);

	names->given = true;
	names->names = palloc(Max(names->n, 1) * sizeof(char *));
	for (int i = 0; i < names->n; i++)
		names->names[i] = text_of(name, &elements[i]);
}

static int
by_id(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* A whole number that fits into bigint. */
static int64
whole_number(const char *name, const char *word)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoi64(word, &end, 10);
	while (isspace((unsigned char) *end))
		end++;
	if (end == word || *end != '\0' || errno == ERANGE)
		refuse(name, "a whole number or an array of them, each within the range of bigint");
	return number;
}

/* Whole numbers, also as strings, since not every driver has 64 bits; sorted, each once. */
static void
read_ids(QueueIds *ids, const char *name, JsonbValue *value)
{
	int			n;
	JsonbValue *elements = elements_of(value, &n);

	ids->given = true;
	ids->ids = palloc(Max(n, 1) * sizeof(int64));
	for (int i = 0; i < n; i++)
	{
		if (elements[i].type == jbvNumeric)
			ids->ids[i] = whole_number(name, numeric_normalize(elements[i].val.numeric));
		else if (elements[i].type == jbvString)
			ids->ids[i] = whole_number(name, text_of(name, &elements[i]));
		else
			refuse(name, "a whole number or an array of them");
	}
	qsort(ids->ids, n, sizeof(int64), by_id);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || ids->ids[i] != ids->ids[ids->n - 1])
			ids->ids[ids->n++] = ids->ids[i];
	}
}

static int
read_states(const char *name, JsonbValue *value)
{
	int			n;
	JsonbValue *elements = elements_of(value, &n);
	int			states = 0;

	for (int i = 0; i < n; i++)
	{
		char	   *word = text_of(name, &elements[i]);
		int			state = QUEUE_NSTATES - 1;

		while (state > QUEUE_STATE_NONE && strcmp(queue_state_names[state], word) != 0)
			state--;
		if (state == QUEUE_STATE_NONE)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown state \"%s\"", word),
							errhint("It is scheduled, available, pending, running, retryable, completed, cancelled or "
									"discarded.")));
		states |= 1 << state;
	}
	return states;
}

/* An error about a time in the filter: tells the key, and how to write one. */
static void
tell_key(void *name)
{
	errcontext("filter key \"%s\"", (const char *) name);
	errhint("Write filter key \"%s\" like \"2026-01-31 08:00:00+00\".", (const char *) name);
}

static TimestampTz
read_time(const char *name, JsonbValue *value)
{
	ErrorContextCallback context = {.callback = tell_key, .arg = unconstify(char *, name)};
	TimestampTz time;

	if (value->type != jbvString)
		refuse(name, "a time in a string");
	context.previous = error_context_stack;
	error_context_stack = &context;
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text_of(name, value)),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	error_context_stack = context.previous;
	return time;
}

/* Reads one member of the filter. */
static void
read_key(QueueSearch *search, const char *name, JsonbValue *value, int *states)
{
	/* a null that a program passed by mistake must not mean "all" */
	if (value->type == jbvNull)
		refuse(name, "something other than null");
	search->others |= strcmp(name, "queue") != 0 && strcmp(name, "kind") != 0 && strcmp(name, "unique_key") != 0 &&
		strcmp(name, "state") != 0;
	if (strcmp(name, "ids") == 0)
		read_ids(&search->ids, name, value);
	else if (strcmp(name, "queue") == 0)
		read_names(&search->queues, name, value);
	else if (strcmp(name, "kind") == 0)
		read_names(&search->kinds, name, value);
	else if (strcmp(name, "worker") == 0)
		read_names(&search->workers, name, value);
	else if (strcmp(name, "unique_key") == 0)
		read_names(&search->unique_keys, name, value);
	else if (strcmp(name, "concurrency_key") == 0)
		read_names(&search->concurrency_keys, name, value);
	else if (strcmp(name, "group_key") == 0)
		read_names(&search->groups, name, value);
	else if (strcmp(name, "workflow") == 0)
		read_ids(&search->workflows, name, value);
	else if (strcmp(name, "priority") == 0)
		read_ids(&search->priorities, name, value);
	else if (strcmp(name, "state") == 0)
		*states = read_states(name, value);
	else if (strcmp(name, "payload") == 0)
		search->payload = JsonbValueToJsonb(value);
	else if (strcmp(name, "error") == 0)
		search->error = text_of(name, value);
	else if (strcmp(name, "enqueued_after") == 0)
		search->enqueued_after = read_time(name, value);
	else if (strcmp(name, "enqueued_before") == 0)
		search->enqueued_before = read_time(name, value);
	else if (strcmp(name, "finished_after") == 0)
		search->finished_after = read_time(name, value);
	else if (strcmp(name, "finished_before") == 0)
		search->finished_before = read_time(name, value);
	else if (strcmp(name, "tags") == 0)
	{
		QueueNames		tags = {0};

		read_names(&tags, name, value); /* refuses what are no strings */
		search->tags = JsonbValueToJsonb(value);
	}
	else
	{
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown filter key \"%s\"", name),
				 errhint("The keys are ids, queue, kind, state, priority, worker, workflow, unique_key, "
						 "group_key, concurrency_key, tags, payload, error,"
						 " enqueued_before, enqueued_after, finished_before and finished_after.")));
	}
}

/* A search for whatever a filter will say. */
static QueueSearch *
make_search(int privilege, int states)
{
	QueueSearch *search = palloc0(sizeof(QueueSearch));
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(LineMatch), .hcxt = CurrentMemoryContext};

	search->enqueued_after = search->finished_after = DT_NOBEGIN;
	search->enqueued_before = search->finished_before = DT_NOEND;
	search->context = CurrentMemoryContext;
	search->privilege = privilege;
	search->states = states;
	search->now = queue_now();
	search->lines = hash_create("queue search lines", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	search->row = AllocSetContextCreate(CurrentMemoryContext, "queue search row", ALLOCSET_DEFAULT_SIZES);
	return search;
}

QueueSearch *
queue_search_of_queue(char *queue, int privilege, int states)
{
	QueueSearch *search = make_search(privilege, states);

	search->queues = (QueueNames) {.given = true, .n = 1, .names = palloc(sizeof(char *))};
	search->queues.names[0] = queue;
	return search;
}

QueueSearch *
queue_search_begin(Jsonb *filter, bool may_be_empty, int privilege, int states, int by_default)
{
	QueueSearch *search = make_search(privilege, states);
	JsonbIterator *it;
	JsonbValue	value;
	char	   *name;
	int			asked = by_default;

	if (filter == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("filter must not be null"),
				 errhint("Write it like {\"queue\": \"mail\", \"state\": \"discarded\"}.")));
	if (!JB_ROOT_IS_OBJECT(filter) || (JB_ROOT_COUNT(filter) == 0 && !may_be_empty))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(JB_ROOT_IS_OBJECT(filter) ? "filter must not be empty" : "filter must be a JSON object"),
				 errhint("Write it like {\"queue\": \"mail\", \"state\": \"discarded\"}.")));
	it = JsonbIteratorInit(&filter->root);
	while (queue_option_next(&it, &name, &value))
		read_key(search, name, &value, &asked);
	search->states = asked & states;
	if (search->finished_after != DT_NOBEGIN || search->finished_before != DT_NOEND)
		search->states &= QUEUE_STATES_FINISHED;
	search->deep = search->payload != NULL || search->tags != NULL || search->error != NULL || search->workers.given ||
		search->unique_keys.given || search->concurrency_keys.given ||
		search->groups.given || search->workflows.given ||
		search->enqueued_after != DT_NOBEGIN || search->enqueued_before != DT_NOEND;
	return search;
}

bool
queue_search_names_keys(const QueueSearch *search)
{
	return search->queues.given && search->kinds.given && search->unique_keys.given && !search->others;
}

/* ---- does a job match? ---- */

bool
queue_search_may(const QueueSearch *search, const char *queue)
{
	return queue_may(GetUserId(), queue, search->privilege) ||
		(search->instead != 0 && queue_may(GetUserId(), queue, search->instead));
}

bool
queue_search_names(const QueueNames *names, const char *name)
{
	if (!names->given)
		return true;
	for (int i = 0; name != NULL && i < names->n; i++)
	{
		if (strcmp(names->names[i], name) == 0)
			return true;
	}
	return false;
}

bool
queue_search_has(const QueueIds *ids, int64 id)
{
	return !ids->given || bsearch(&id, ids->ids, ids->n, sizeof(int64), by_id) != NULL;
}

/* Of a queue, kind and priority that are asked for, in a queue where the caller may. */
static bool
place_matches(QueueSearch *search, const char *queue, const char *kind, int16 priority)
{
	return queue_search_names(&search->kinds, kind) && queue_search_has(&search->priorities, priority) &&
		queue_search_names(&search->queues, queue) && queue_search_may(search, queue);
}

bool
queue_search_line(QueueSearch *search, int64 id)
{
	bool		found;
	LineMatch  *match = hash_search(search->lines, &id, HASH_ENTER, &found);

	if (!found)
	{
		QueueLine  *line = queue_config_line(id);

		match->match = line != NULL && place_matches(search, line->queue->name, line->kind, line->priority);
	}
	return match->match;
}

static bool
contains(Jsonb *outer, Jsonb *inner)
{
	JsonbIterator *left;
	JsonbIterator *right;

	if (inner == NULL)
		return true;
	if (outer == NULL || JB_ROOT_IS_OBJECT(outer) != JB_ROOT_IS_OBJECT(inner))
		return false;
	left = JsonbIteratorInit(&outer->root);
	right = JsonbIteratorInit(&inner->root);
	return JsonbDeepContains(&left, &right);
}

/* Is it of a worker that is asked for?  As queue.job shows it: the executor that runs it, else who claimed it. */
static bool
worker_matches(const QueueSearch *search, const QueueJob *job, const QueueExtra *extra)
{
	QueueSlotJob run;
	char		name[QUEUE_WORKER_NAME];

	if (!search->workers.given || !queue_slot_job(MyDatabaseId, job->id, &run))
		return queue_search_names(&search->workers, extra->worker);
	queue_executor_name(name, run.pid);
	return queue_search_names(&search->workers, name);
}

/* What lies in payload and extra; finished: its kept row, NULL for a live job. */
bool
queue_search_deep(QueueSearch *search, const QueueJob *job, const QueueFinished *finished)
{
	QueueExtra	extra;
	TimestampTz enqueued_at;

	if (!search->deep)
		return true;
	queue_extra_unpack(job->extra, &extra);
	enqueued_at = extra.enqueued_at != 0 ? extra.enqueued_at : job->run_at;
	return (finished != NULL ? queue_search_names(&search->workers, finished->worker) :
			worker_matches(search, job, &extra)) &&
		queue_search_names(&search->unique_keys, extra.unique_key) &&
		queue_search_names(&search->concurrency_keys, extra.concurrency_key) &&
		queue_search_names(&search->groups, extra.group_key) &&
		queue_search_has(&search->workflows, extra.workflow) &&
		(search->enqueued_after == DT_NOBEGIN || enqueued_at > search->enqueued_after) &&
		(search->enqueued_before == DT_NOEND || enqueued_at < search->enqueued_before) &&
		(search->error == NULL || (extra.last_error != NULL && strstr(extra.last_error, search->error) != NULL)) &&
		contains(extra.tags, search->tags) && contains(job->payload, search->payload);
}

/* Has a session claimed it?  All claims are read at once: a look at one lock takes it for a moment. */
static bool
session_claimed(QueueSearch *search, int64 id)
{
	if (!search->claimed.given)
	{
		search->claimed.given = true;
		if (queue_session_any())
		{
			MemoryContext old = MemoryContextSwitchTo(search->context);

			search->claimed.n = queue_session_list(&search->claimed.ids, NULL);
			MemoryContextSwitchTo(old);
			qsort(search->claimed.ids, search->claimed.n, sizeof(int64), by_id);
		}
	}
	return search->claimed.n > 0 && queue_search_has(&search->claimed, id);
}

/* The state of a live row; what nobody asks apart is not looked up. */
QueueState
queue_search_state(QueueSearch *search, const QueueJob *job, bool exact)
{
	QueueState	state = queue_job_state(job, search->now);

	if (state != QUEUE_STATE_RUNNING &&
		(exact || ((search->states >> state) & 1) != ((search->states >> QUEUE_STATE_RUNNING) & 1)) &&
		(queue_slot_runs(MyDatabaseId, job->id) || session_claimed(search, job->id)))
		state = QUEUE_STATE_RUNNING;
	return state;
}

bool
queue_search_live(QueueSearch *search, const QueueJob *job, const QueueLine *line, QueueState *state)
{
	*state = queue_search_state(search, job, true);
	return (search->states & (1 << *state)) != 0 && queue_search_has(&search->ids, job->id) &&
		place_matches(search, line->queue->name, line->kind, line->priority) &&
		queue_search_deep(search, job, NULL);
}

bool
queue_search_finished(QueueSearch *search, const QueueFinished *finished)
{
	return (search->states & (1 << finished->state)) != 0 && queue_search_has(&search->ids, finished->job.id) &&
		(search->finished_after == DT_NOBEGIN || finished->finished_at > search->finished_after) &&
		(search->finished_before == DT_NOEND || finished->finished_at < search->finished_before) &&
		place_matches(search, finished->queue, finished->kind, finished->priority) &&
		queue_search_deep(search, &finished->job, finished);
}
