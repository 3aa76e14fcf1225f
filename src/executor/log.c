/*
 * log.c
 *		RAISE NOTICE and WARNING of a handler go to its job's log.
 *
 * The server hands a message to emit_log_hook only if it goes to the server's log.  So log_min_messages is lowered to
 * INFO while a handler runs, and the hook takes out of the server's log again what the administrator's setting keeps
 * out.  The variable is set directly, because a change through the GUC machinery would cost as much as a short job.
 *
 * The hook throws nothing and allocates only the line (job/log.c).  No locks, no shared memory.
 */
#include "executor/log.h"

#include "utils/guc.h"

static emit_log_hook_type previous_hook = NULL;
static QueueLogTarget nobody = {NULL, NULL};
static QueueLogTarget *current = NULL;	/* NULL: no handler runs; nobody: an error ended it */
static int	administrators;		/* log_min_messages before the handler began */

/* Does a message of this level reach the server's log with this log_min_messages?  (As elog.c has it: LOG is high.) */
static bool
reaches_server(int elevel, int min_messages)
{
	if (elevel == LOG || elevel == LOG_SERVER_ONLY)
		return min_messages == LOG || min_messages <= ERROR;
	if (min_messages == LOG)
		return elevel >= FATAL;
	return elevel >= min_messages;
}

/* Adds the message to the log of the job being run. */
static void
capture(const ErrorData *edata)
{
	QueueLogLevel level = edata->elevel == WARNING ? QUEUE_LOG_WARNING : QUEUE_LOG_INFO;

	if (edata->message == NULL || current == &nobody)
		return;
	if (edata->detail == NULL)
		queue_job_log_add(current->log, current->context, level, edata->message);
	else
	{
		char		text[QUEUE_LOG_LINE_BYTES + 1];

		/* cut between characters by queue_job_log_add, unless the buffer did so first */
		snprintf(text, sizeof(text), "%s\nDETAIL:  %s", edata->message, edata->detail);
		queue_job_log_add(current->log, current->context, level, text);
	}
}

static void
emit_log(ErrorData *edata)
{
	if (current != NULL)
	{
		if (edata->elevel == INFO || edata->elevel == NOTICE || edata->elevel == WARNING)
			capture(edata);
		/* unless the handler has a setting of its own by now */
		if (log_min_messages == INFO && !reaches_server(edata->elevel, administrators))
			edata->output_to_server = false;
	}
	if (edata->output_to_server && previous_hook != NULL)
		previous_hook(edata);
}

void
queue_log_capture_install(void)
{
	previous_hook = emit_log_hook;
	emit_log_hook = emit_log;
}

QueueLogTarget *
queue_log_capture_begin(QueueLogTarget *target)
{
	QueueLogTarget *outer = current;

	if (outer == NULL)
	{
		administrators = log_min_messages;
		if (!reaches_server(INFO, log_min_messages))
			log_min_messages = INFO;
	}
	current = target;
	return outer;
}

void
queue_log_capture_mute(void)
{
	if (current != NULL)
		current = &nobody;
}

void
queue_log_capture_end(QueueLogTarget *outer)
{
	if (current != NULL && outer == NULL)
		log_min_messages = administrators;
	current = outer;
}
