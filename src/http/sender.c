/*
 * sender.c
 *		The http worker's state and its transactions.
 *
 * Locks: RowExclusiveLock on live_job.
 */
#include "http/sender.h"

#include "shared/clock.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"

QueueSender queue_sender;

void
queue_sender_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextReset(queue_sender.work_context);
	MemoryContextSwitchTo(queue_sender.work_context);
	queue_sender.table = queue_job_open(RowExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot());
}

bool
queue_sender_commit(bool async)
{
	bool		wrote = TransactionIdIsValid(GetTopTransactionIdIfAny());

	PopActiveSnapshot();
	queue_job_close(queue_sender.table);
	queue_sender.table = NULL;
	if (async)
		(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
	CommitTransactionCommand();
	MemoryContextSwitchTo(queue_sender.loop_context);
	pgstat_report_stat(false);
	return wrote;
}

bool
queue_sender_tells(const char *what)
{
	static struct
	{
		const char *what;
		TimestampTz quiet_until;
	}			told[8] = {0};
	TimestampTz now = queue_now();

	for (int i = 0; i < lengthof(told); i++)
	{
		if (told[i].what == NULL)
			told[i].what = what;
		if (told[i].what != what)
			continue;
		if (queue_put_off(told[i].quiet_until, USECS_PER_MINUTE, now))
			return false;
		told[i].quiet_until = now + USECS_PER_MINUTE;
		break;
	}
	return true;
}

char *
queue_sender_rollback(const char *what)
{
	ErrorData  *edata;
	char	   *message;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(queue_sender.loop_context);
	edata = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(queue_sender.loop_context);
	queue_sender.table = NULL;
	message = pstrdup(edata->message);
	queue_sender.code = edata->sqlerrcode;
	if (queue_sender_tells(what))
		queue_log("http_error", "%s: %s", what, message);
	FreeErrorData(edata);
	RESUME_INTERRUPTS();
	return message;
}

void
queue_sender_dismiss(QueueGate *gate)
{
	if (queue_gate_dismiss(gate))
		queue_sender.wake_scheduler = true;
}

/* Appends to the list of what is to be recorded. */
void
queue_sender_ended(QueueRequest *request, TimestampTz now)
{
	request->next = NULL;
	if (queue_sender.done_last != NULL)
		queue_sender.done_last->next = request;
	else
		queue_sender.done_first = request;
	queue_sender.done_last = request;
	if (queue_sender.ndone++ == 0 || now < queue_sender.oldest_done)
		queue_sender.oldest_done = now;
}

/* The job is not ours any more. */
void
queue_sender_forget(QueueRequest *request)
{
	QueueGate  *gate = request->gate;

	hash_search(queue_sender.in_flight, &request->id, HASH_REMOVE, NULL);
	queue_request_release(request);
	(void) queue_gate_give(gate);
	queue_sender_dismiss(gate);
}
