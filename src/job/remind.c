/*
 * remind.c
 *		Reminders as rows.
 *
 * Where the library is not preloaded nobody could remember a reminder, and of a prepared transaction no callback of
 * ours runs at its COMMIT.  So its reminders become rows of queue.reminder at the end of the transaction; whoever
 * looks next eats them.
 *
 * Locks: RowExclusiveLock on reminder.
 */
#include "job/remind.h"

#include "config/config.h"
#include "job/place.h"
#include "job/rows.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"

/* The columns of reminder.  Later versions only append. */
enum
{
	COL_ID = 1, COL_OF, NCOLS = COL_OF
};

static void
insert_row(QueueInserter *inserter, const QueueReminder *reminder)
{
	Datum		values[NCOLS] = {[COL_ID - 1] = Int64GetDatum(reminder->id),
								 [COL_OF - 1] = Int16GetDatum(reminder->of)};

	queue_inserter_put(inserter, values, NCOLS);
}

/* What this transaction noted becomes rows: before PREPARE TRANSACTION, and where there is no shared memory. */
static void
flush(XactEvent event, void *arg)
{
	const QueueReminder *noted;
	QueueInserter inserter;
	bool		overflow;
	int			n;

	if (event != XACT_EVENT_PRE_PREPARE && (event != XACT_EVENT_PRE_COMMIT || queue_preloaded()))
		return;
	noted = queue_reminders_noted(&n, &overflow);
	if ((n == 0 && !overflow) || !OidIsValid(get_extension_oid("queue", true)))
	{
		queue_reminders_forget();	/* this transaction dropped it */
		return;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	queue_inserter_open(&inserter, queue_config()->reminder);
	for (int i = 0; i < n; i++)
		insert_row(&inserter, &noted[i]);
	if (overflow)
		insert_row(&inserter, &(QueueReminder) {0, QUEUE_REMIND_ALL});
	queue_inserter_close(&inserter);
	PopActiveSnapshot();
	queue_reminders_forget();
}

void
queue_remind_register_callback(void)
{
	RegisterXactCallback(flush, NULL);
}

void
queue_job_remind(QueueRemindOf of, int64 id)
{
	queue_remind(of, id, PG_INT64_MAX);
}

void
queue_job_remind_less(int64 id, int64 completed)
{
	queue_remind(QUEUE_REMIND_LESS, id, completed);
}

/* What queue_remind_eat_rows calls for each. */
typedef struct Eater
{
	QueueRemindHandler handler;
	void	   *arg;
} Eater;

static bool
eat(TupleTableSlot *row, void *arg)
{
	Eater	   *eater = arg;
	QueueReminder reminder = {.id = DatumGetInt64(row->tts_values[COL_ID - 1]),
							  .of = DatumGetInt16(row->tts_values[COL_OF - 1])};

	if (reminder.of != QUEUE_REMIND_ALL)
		return eater->handler(&reminder, eater->arg);
	queue_reminder_lose(MyDatabaseId);
	return true;
}

bool
queue_remind_eat_rows(QueueRemindHandler handler, void *arg, int max)
{
	return queue_rows_eat(queue_config()->reminder, eat, &(Eater) {handler, arg}, max);
}
