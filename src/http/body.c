/*
 * body.c
 *		What an endpoint is told of its job beside the payload, if its handler asks for it.
 *
 * It is read in the transaction that claims the job, with the newest snapshot, so it is what holds for this attempt.
 *
 * Locks: AccessShareLock on the tables that it reads.
 */
#include "http/body.h"

#include "job/record.h"
#include "job/step.h"

/* A member of the body. */
static void
push(JsonbParseState **state, const char *name, Jsonb *json)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, name);
	value.val.string.len = strlen(name);
	(void) pushJsonbValue(state, WJB_KEY, &value);
	JsonbToJsonbValue(json, &value);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
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
	push(&state, "steps", queue_steps_of(job->id));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
