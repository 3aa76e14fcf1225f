/*
 * sleep.c
 *		How a client's session sleeps inside a call: fetch with wait, await, await_idle.
 *
 * It ends at once when its client has gone, before it claims or changes anything.  A procedure sleeps without a
 * snapshot.
 *
 * Locks: none; the caller holds none of ours while it sleeps.
 */
#include "api/sleep.h"

#include "shared/clock.h"
#include "shared/wake.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#define POLL_MS 100				/* for a session without a place among the waiters */

void
queue_sleep_check_isolation(const char *function)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("%s can wait only in READ COMMITTED", function),
				 errhint("This transaction's snapshot would never see what happens meanwhile. Leave wait out, or use "
						 "READ COMMITTED.")));
}

void
queue_sleep_check_procedure(FunctionCallInfo fcinfo, const char *procedure, const char *hint)
{
	CallContext *context =
		fcinfo->context != NULL && IsA(fcinfo->context, CallContext) ? (CallContext *) fcinfo->context : NULL;

	if (context == NULL || context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block or a function", procedure),
				 errhint("%s", hint)));
	PreventCommandDuringRecovery(procedure);
	queue_sleep_check_isolation(procedure);
}

/*
 * Neither the portal's active snapshot, nor the one that it registered to read toasted output under (our output is a
 * boolean), nor the catalog's.
 */
void
queue_sleep_no_snapshot(void)
{
	if (ActivePortal != NULL && ActivePortal->portalSnapshot != NULL &&
		ActiveSnapshotSet() && GetActiveSnapshot() == ActivePortal->portalSnapshot)
	{
		PopActiveSnapshot();
		ActivePortal->portalSnapshot = NULL;
	}
	if (ActivePortal != NULL && ActivePortal->holdSnapshot != NULL)
	{
		UnregisterSnapshotFromOwner(ActivePortal->holdSnapshot, ActivePortal->resowner);
		ActivePortal->holdSnapshot = NULL;
	}
	InvalidateCatalogSnapshot();
}

void
queue_sleep(TimestampTz deadline, bool woken, uint32 wait_event)
{
	long		timeout = TimestampDifferenceMilliseconds(queue_now(), deadline);

	if (!woken)
		timeout = Min(timeout, POLL_MS);
	if (timeout > 0 && !queue_woken())
	{
		if (MyProcPort != NULL && WaitEventSetCanReportClosed())
		{
			WaitEvent	event;

			ModifyWaitEvent(FeBeWaitSet, QUEUE_FEBE_SOCKET_POS, WL_SOCKET_CLOSED, NULL);
			if (WaitEventSetWait(FeBeWaitSet, timeout, &event, 1, wait_event) == 1)
			{
				if ((event.events & WL_SOCKET_CLOSED) != 0)
				{
					ClientConnectionLost = true;
					InterruptPending = true;
				}
				if ((event.events & WL_POSTMASTER_DEATH) != 0)
					proc_exit(1);
			}
		}
		else
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, wait_event);
	}
	ResetLatch(MyLatch);
	(void) queue_woken();
	CHECK_FOR_INTERRUPTS();
	if (MyProcPort != NULL && !pq_check_connection())
	{
		ClientConnectionLost = true;
		InterruptPending = true;
		CHECK_FOR_INTERRUPTS();
	}
}
