/*
 * actions.c
 *		What the pages may do: each action's call, and how the jobs that it is about are counted.
 *
 * $1 is the body of the request.  The database takes it apart and refuses what is no JSON; grants decide who may do
 * what.  `count` asks find_jobs with the states that the action takes.
 */
#include "actions.h"

#include "util.h"

#include <string.h>

#define DONE(done) \
	"SELECT json_build_object('at', clock_timestamp(), 'data', json_build_object('done', " done "))::text"
#define BODY "$1::jsonb"
#define FILTER "(" BODY " -> 'filter')"
#define TEXT(key) "(" BODY " ->> '" key "')"
#define NUMBER(key) "(" BODY " ->> '" key "')::bigint"
#define TIME(key) "(" BODY " ->> '" key "')::timestamptz"
/* A call that returns nothing counts as one done. */
#define VOID(call) DONE("(SELECT 1 FROM (SELECT " call ") c(c))")
#define TRUTH(call) DONE("(SELECT coalesce(c, false)::int FROM (SELECT " call ") c(c))")

/*
 * How many jobs an action would find, up to 10,000: of the states that the filter asks for, or else of those that the
 * action takes by itself, those that it takes at all.  An empty filter is none, since the actions refuse it.
 */
#define COUNT(states, by_default) \
	"SELECT json_build_object('at', clock_timestamp(), 'data', " \
	"(SELECT json_build_object('count', least(count(*), 10000), 'more', count(*) > 10000) FROM " \
	"(SELECT " FILTER " AS filter WHERE jsonb_typeof(" FILTER ") = 'object' AND " FILTER " <> '{}') f, LATERAL " \
	"queue.find_jobs(f.filter || jsonb_build_object('state', (SELECT coalesce(jsonb_agg(s), '[]') FROM " \
	"jsonb_array_elements_text(CASE jsonb_typeof(f.filter -> 'state') WHEN 'array' THEN f.filter -> 'state' " \
	"WHEN 'string' THEN jsonb_build_array(f.filter -> 'state') ELSE '" by_default "' END) s " \
	"WHERE '" states "'::jsonb ? s)), 10001)))::text"

#define WAITING "\"scheduled\", \"available\", \"pending\", \"retryable\""
#define FINISHED "\"completed\", \"cancelled\", \"discarded\""

typedef struct Action
{
	Query		query;
	Query		count;			/* without a name: none */
} Action;

#define ACT(action_name, call) .query = {.action = true, .name = action_name, .sql = call}
#define COUNTED(action, states, by_default) .count = {.name = "count/" action, .sql = COUNT(states, by_default)}
#define UNFINISHED WAITING ", \"running\""

static const Action actions[] = {
	{ACT("cancel_jobs", DONE("queue.cancel_jobs(" FILTER ", " TEXT("reason") ", " NUMBER("qty") ")")),
	COUNTED("cancel_jobs", "[" UNFINISHED "]", "[" UNFINISHED "]")},
	{ACT("discard_jobs", DONE("queue.discard_jobs(" FILTER ", " TEXT("reason") ", " NUMBER("qty") ")")),
	COUNTED("discard_jobs", "[" UNFINISHED "]", "[" UNFINISHED "]")},
	{ACT("retry_jobs", DONE("queue.retry_jobs(" FILTER ", " TIME("run_at") ", " NUMBER("qty") ")")),
	COUNTED("retry_jobs", "[" WAITING ", " FINISHED "]", "[\"discarded\", \"cancelled\", \"retryable\"]")},
	{ACT("move_jobs", DONE("queue.move_jobs(" FILTER ", " TEXT("queue") ", " TEXT("kind") ", "
						   NUMBER("priority") "::int, " NUMBER("qty") ")")),
	COUNTED("move_jobs", "[" WAITING "]", "[" WAITING "]")},
	{ACT("delete_jobs", DONE("queue.delete_jobs(" FILTER ", " NUMBER("qty") ")")),
	COUNTED("delete_jobs", "[" FINISHED "]", "[" FINISHED "]")},
	{ACT("cancel_job", TRUTH("queue.cancel(" NUMBER("id") ", " TEXT("reason") ")"))},
	{ACT("discard_job", TRUTH("queue.discard(" NUMBER("id") ", " TEXT("reason") ")"))},
	{ACT("retry_job", TRUTH("queue.retry(" NUMBER("id") ", " TIME("run_at") ")"))},
	{ACT("pause_queue", VOID("queue.pause(" TEXT("queue") ")"))},
	{ACT("resume_queue", VOID("queue.resume(" TEXT("queue") ")"))},
	{ACT("redrive", DONE("queue.redrive(" TEXT("queue") ", " NUMBER("qty") ")"))},
	{ACT("pause_handler", VOID("queue.pause_handler(" TEXT("kind") ", " TEXT("queue") ")"))},
	{ACT("resume_handler", VOID("queue.resume_handler(" TEXT("kind") ", " TEXT("queue") ")"))},
	{ACT("pause_schedule", VOID("queue.pause_schedule(" TEXT("schedule") ")"))},
	{ACT("resume_schedule", VOID("queue.resume_schedule(" TEXT("schedule") ")"))},
	{ACT("run_schedule", DONE("1, 'id', queue.run_schedule(" TEXT("schedule") ")::text"))},
	{ACT("cancel_workflow", DONE("queue.cancel_workflow(" NUMBER("workflow") ", " TEXT("reason") ")"))},
	{ACT("retry_workflow", DONE("queue.retry_workflow(" NUMBER("workflow") ")"))},
};

static const Action *
find(const char *name)
{
	for (size_t i = 0; i < lengthof(actions); i++)
	{
		if (strcmp(actions[i].query.name, name) == 0)
			return &actions[i];
	}
	return NULL;
}

const Query *
action_find(const char *name)
{
	const Action *action = find(name);

	return action != NULL ? &action->query : NULL;
}

const Query *
action_count(const char *name)
{
	const Action *action = find(name);

	return action != NULL && action->count.name != NULL ? &action->count : NULL;
}
