/*
 * apart.c
 *		What may fail in a chore for a row's sake, and who is told.
 *
 * A chore does many things in a transaction.  One that raises an error, because a user's trigger refuses its row say,
 * undoes them all; so for a while after that each is done in a subtransaction, and the chore puts off what fails there.
 * Any number of such rows hold up no others.
 *
 * Locks: none of its own.
 */
#include "scheduler/apart.h"

#include "lib/attempt.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/slot.h"

#define APART_US (2 * USECS_PER_MINUTE) /* longer than any pause after which what failed is tried again */

int			queue_apart_failing = 0;

/* For doctor().  The message is for the log alone: it may quote somebody's data. */
void
queue_apart_trouble(const char *chore, const ErrorData *error)
{
	char		text[QUEUE_TROUBLE_SIZE];

	snprintf(text, sizeof(text), "%s failed (SQLSTATE %s)", chore, unpack_sql_state(error->sqlerrcode));
	if (queue_database() != NULL && !queue_attempt_cancelled(error))
		queue_database_set_trouble(queue_database(), text);
}

void
queue_apart_recovered(void)
{
	if (--queue_apart_failing == 0 && queue_database() != NULL)
		queue_database_set_trouble(queue_database(), "");
}

bool
queue_apart_needed(const QueueApart *apart, TimestampTz now)
{
	return queue_my_slot == NULL || queue_put_off(apart->until, APART_US, now);
}

bool
queue_apart_begin(QueueApart *apart, TimestampTz now)
{
	bool		failed = apart->under_way;

	if (failed)
		apart->until = now + APART_US;
	else if (apart->troubled && !queue_apart_needed(apart, now))
	{
		apart->troubled = false;
		queue_apart_recovered();
	}
	if (queue_my_slot == NULL)
		apart->quiet_until = 0;
	apart->under_way = true;
	return failed;
}

void
queue_apart_end(QueueApart *apart)
{
	apart->under_way = false;
}

/* Tells of one that failed. */
static void
tell_apart(QueueApart *apart, const char *chore, const ErrorData *error)
{
	TimestampTz now = queue_now();

	apart->until = now + APART_US;
	if (queue_my_slot != NULL)
	{
		if (!apart->troubled)
			queue_apart_failing++;
		apart->troubled = true;
		queue_apart_trouble(chore, error);
	}
	if (queue_put_off(apart->quiet_until, USECS_PER_MINUTE, now))
		return;
	apart->quiet_until = now + USECS_PER_MINUTE;
	ereport(queue_my_slot != NULL ? LOG : WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("%s%s failed: %s", queue_my_slot != NULL ? "queue scheduler: " : "", chore, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) :
			 errhint("What failed is tried again, less and less often; the others go on.")));
}

bool
queue_apart_try(QueueApart *apart, const char *chore, void (*work) (void *arg), void *arg)
{
	QueueAttempt attempt;
	volatile bool ok = true;

	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		work(arg);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error = queue_attempt_failed(&attempt);

		ok = false;
		tell_apart(apart, chore, error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	return ok;
}
