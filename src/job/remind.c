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

#include "access/table.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/rel.h"

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
queue_job_remind(QueueRemindOf of, int64 id)
{
	static bool done = false;

	if (!done)
		RegisterXactCallback(flush, NULL);
	done = true;
	queue_remind(of, id);
}

bool
queue_remind_eat_rows(QueueRemindHandler handler, void *arg, int max)
{
	Relation	rel = table_open(queue_config()->reminder, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "queue reminders", ALLOCSET_SMALL_SIZES);
	MemoryContext old = CurrentMemoryContext;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		all = true;
	int			n = 0;

	MemoryContextSwitchTo(per_row);
	while (n < max && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		QueueReminder reminder;
		TM_FailureData tmfd;
		bool		done = true;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		reminder.id = DatumGetInt64(slot_getattr(slot, COL_ID, &isnull));
		reminder.of = DatumGetInt16(slot_getattr(slot, COL_OF, &isnull));
		if (reminder.of == QUEUE_REMIND_ALL)
			queue_reminder_lose(MyDatabaseId);
		else
			done = handler(&reminder, arg);
		if (!done || table_tuple_delete(rel, &slot->tts_tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot,
										false, &tmfd, false) != TM_Ok)
			all = false;
		n++;
		MemoryContextReset(per_row);
	}
	MemoryContextSwitchTo(old);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(per_row);
	ExecDropSingleTupleTableSlot(slot);
	/* who only looks, perhaps again and again while it waits, keeps off no DDL */
	table_close(rel, n > 0 ? NoLock : RowExclusiveLock);
	if (n > 0)
		CommandCounterIncrement();
	return all && n < max;
}
