/*
 * held.c
 *		Who has a row locked or changed, in a transaction that is still open.
 *
 * Our processes hold the rows of waiting jobs for a moment: the scheduler lets a job in, ends one whose time is over or
 * moves what is kept; an executor lets in who waited for the end of its job.  A session may have a row for as long as
 * its client likes, and an executor that of the job which it runs.  So operators' calls wait for the former and leave
 * the latter alone.
 *
 * Locks: the transaction of who has the row, waited for.  That one waits for no row of a job.
 */
#include "job/held.h"

#include "shared/slot.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/subtrans.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"

/* A dirty snapshot tells of a row's change in progress, not of a mere row lock, as this does. */
bool
queue_row_held(Relation rel, const ItemPointerData *tid, TupleTableSlot *slot, TransactionId *by)
{
	bool		held = true;

	*by = InvalidTransactionId;
	if (table_tuple_fetch_row_version(rel, unconstify(ItemPointerData *, tid), SnapshotAny, slot))
	{
		bool		shouldFree;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldFree);
		TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple->t_data);
		uint16		infomask = tuple->t_data->t_infomask;

		if ((infomask & HEAP_XMAX_INVALID) != 0)
			held = false;
		else if ((infomask & HEAP_XMAX_IS_MULTI) != 0)
			held = MultiXactIdIsRunning(xmax, HEAP_XMAX_IS_LOCKED_ONLY(infomask));
		else
		{
			held = !TransactionIdIsCurrentTransactionId(xmax) && TransactionIdIsInProgress(xmax);
			*by = xmax;
		}
		if (shouldFree)
			heap_freetuple(tuple);
	}
	ExecClearTuple(slot);
	return held;
}

bool
queue_row_wait_moment(Relation rel, const ItemPointerData *tid, TupleTableSlot *slot, int64 job_id)
{
	TransactionId by;

	CHECK_FOR_INTERRUPTS();
	if (!queue_row_held(rel, tid, slot, &by))
		return true;			/* no more */
	if (!TransactionIdIsValid(by))
		return false;
	/* an executor names the job that it runs before it locks the row */
	if (queue_slot_runs(MyDatabaseId, job_id) ||
		!queue_slot_is_ours(BackendXidGetPid(SubTransGetTopmostTransaction(by))))
		return !TransactionIdIsInProgress(by);
	XactLockTableWait(by, rel, unconstify(ItemPointerData *, tid), XLTW_Lock);
	return true;
}
