/*
 * attempt.c
 *		A subtransaction around what may fail without taking the rest with it.
 *
 * Called by whoever reads rows, runs functions or does chores that may be damaged, hostile or gone.  What the end of a
 * subtransaction leaves changed, the memory context and the resource owner, is set back here.
 */
#include "lib/attempt.h"

#include "access/xact.h"

void
queue_attempt_begin(QueueAttempt *attempt)
{
	attempt->context = CurrentMemoryContext;
	attempt->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(attempt->context);
}

static void
set_back(const QueueAttempt *attempt)
{
	MemoryContextSwitchTo(attempt->context);
	CurrentResourceOwner = attempt->owner;
}

void
queue_attempt_commit(const QueueAttempt *attempt)
{
	ReleaseCurrentSubTransaction();
	set_back(attempt);
}

bool
queue_attempt_cancelled(const ErrorData *error)
{
	/* user's code may raise the same SQLSTATE, for a row of its own */
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname != NULL &&
		strcmp(error->funcname, "ProcessInterrupts") == 0;
}

ErrorData *
queue_attempt_failed(const QueueAttempt *attempt)
{
	ErrorData  *error;

	MemoryContextSwitchTo(attempt->context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	set_back(attempt);
	if (queue_attempt_cancelled(error))
		ReThrowError(error);
	return error;
}
