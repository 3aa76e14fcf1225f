/*
 * attempt.h
 *		A subtransaction around what may fail without taking the rest with it.
 *
 *	queue_attempt_begin(&attempt);
 *	PG_TRY();
 *	{
 *		...
 *		queue_attempt_commit(&attempt);
 *	}
 *	PG_CATCH();
 *	{
 *		ErrorData  *error = queue_attempt_failed(&attempt);
 *		...
 *	}
 *	PG_END_TRY();
 */
#ifndef QUEUE_ATTEMPT_H
#define QUEUE_ATTEMPT_H

#include "lib/queue.h"

#include "utils/elog.h"
#include "utils/resowner.h"

/* Where the caller was, and is again afterwards. */
typedef struct QueueAttempt
{
	MemoryContext context;
	ResourceOwner owner;
} QueueAttempt;

extern void queue_attempt_begin(QueueAttempt *attempt);
/* At the end of what was tried, inside of PG_TRY: a commit can fail as well. */
extern void queue_attempt_commit(const QueueAttempt *attempt);
/*
 * In PG_CATCH: undoes what was tried and hands the error over, in the caller's memory.  A cancel goes on to whom it was
 * meant for.
 */
extern ErrorData *queue_attempt_failed(const QueueAttempt *attempt);
/* Did this process get a cancel (or a timeout of its statement), which ends whatever it does? */
extern bool queue_attempt_cancelled(const ErrorData *error);

#endif
