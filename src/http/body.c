/*
 * body.c
 *		What an endpoint is told of its job beside the payload, if its handler asks for it.
 *
 * It is read in the transaction that claims the job, with the newest snapshot, so it is what holds for this attempt.
 *
 * Locks: AccessShareLock on the tables that it reads.
 */
#include "http/body.h"

#include "job/event.h"
#include "job/record.h"
#include "job/step.h"
#include "job/workflow.h"

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	(void) pushJsonbValue(state, token, &value);
}

/* A member of the body. */
static void
push(JsonbParseState **state, const char *name, Jsonb *json)
{
	JsonbValue	value;

	push_text(state, WJB_KEY, name);
	JsonbToJsonbValue(json, &value);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

/* "event": what became of the last one that the job awaited; left out while that is open. */
static void
push_event(JsonbParseState **state, int64 id, const char *name)
{
	QueueAwait	await;

	if (!queue_event_awaited(id, name, &await) || await.status == QUEUE_AWAITED_WAITING)
		return;
	push_text(state, WJB_KEY, "event");
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_text(state, WJB_KEY, "name");
	push_text(state, WJB_VALUE, await.event);
	push_text(state, WJB_KEY, "status");
	push_text(state, WJB_VALUE, queue_awaited_names[await.status]);
	if (await.payload != NULL)
		push(state, "payload", await.payload);
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

Jsonb *
queue_body_of_job(const QueueJob *job, const QueueExtra *extra, const QueueLine *line, TimestampTz now)
{
	JsonbParseState *state = NULL;
	QueueJob	claimed = *job;

	claimed.leased_until = DT_NOBEGIN;	/* of a claim that was lost */
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push(&state, "job", queue_job_json(queue_job_tuple(&claimed, extra, line->queue, line->kind, line->priority,
													   line->handler, QUEUE_STATE_RUNNING, now, NULL)));
	if (extra->depends_mode != 0)
		push(&state, "dependencies", queue_workflow_results(job->id, extra->workflow));
	push(&state, "steps", queue_steps_of(job->id));
	if (extra->awaits != NULL)
		push_event(&state, job->id, extra->awaits);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
