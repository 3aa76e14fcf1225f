/*
 * shared_memory.c
 *		The table of the structures in shared memory.
 *
 * A structure with a line here is made and, where it knows something of a database's jobs, forgets it when they are
 * gone: in every case, because there is one list.
 *
 * Locks: AddinShmemInitLock; those of each structure.
 */
#include "server/shared_memory.h"

#include "shared/awaited.h"
#include "shared/census.h"
#include "shared/channel.h"
#include "shared/counter.h"
#include "shared/cursor_table.h"
#include "shared/database.h"
#include "shared/drop.h"
#include "shared/end_waiter.h"
#include "shared/ended.h"
#include "shared/endpoint.h"
#include "shared/fetch_waiter.h"
#include "shared/fetcher.h"
#include "shared/history.h"
#include "shared/lease.h"
#include "shared/limit.h"
#include "shared/mark.h"
#include "shared/placed.h"
#include "shared/prepared.h"
#include "shared/recent.h"
#include "shared/refused.h"
#include "shared/reminder.h"
#include "shared/slot.h"
#include "shared/turn.h"
#include "shared/unit.h"

#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

static const struct
{
	Size		(*size) (void);
	void		(*init) (void);
	void		(*reset) (Oid db);	/* NULL: what it knows ends with the processes that it is about */
}			structures[] = {
	{queue_wake_shmem_size, queue_wake_shmem_init, NULL},
	{queue_database_shmem_size, queue_database_shmem_init, NULL},	/* the launcher alone gives entries up */
	{queue_agenda_shmem_size, queue_agenda_shmem_init, NULL},	/* agendas are left by what cursor.c drops */
	{queue_cursor_shmem_size, queue_cursor_shmem_init, queue_cursor_drop},
	{queue_lease_shmem_size, queue_lease_shmem_init, queue_lease_reset},
	{queue_channel_shmem_size, queue_channel_shmem_init, queue_channel_reset},
	{queue_slot_shmem_size, queue_slot_shmem_init, NULL},
	{queue_counter_shmem_size, queue_counter_shmem_init, queue_counter_reset},
	{queue_placed_shmem_size, queue_placed_shmem_init, NULL},	/* its bits are hints */
	{queue_end_waiter_shmem_size, queue_end_waiter_shmem_init, NULL},
	{queue_fetch_waiter_shmem_size, queue_fetch_waiter_shmem_init, NULL},
	{queue_fetcher_shmem_size, queue_fetcher_shmem_init, queue_fetcher_reset},
	{queue_history_shmem_size, queue_history_shmem_init, queue_history_reset},
	{queue_recent_shmem_size, queue_recent_shmem_init, queue_recent_reset},
	{queue_refused_shmem_size, queue_refused_shmem_init, queue_refused_reset},
	{queue_reminder_shmem_size, queue_reminder_shmem_init, queue_reminder_reset},
	{queue_awaited_shmem_size, queue_awaited_shmem_init, queue_awaited_reset},
	{queue_mark_shmem_size, queue_mark_shmem_init, queue_mark_reset},
	{queue_prepared_shmem_size, queue_prepared_shmem_init, NULL},	/* applied at their ends */
	{queue_drop_shmem_size, queue_drop_shmem_init, NULL},	/* what is in it ends with transactions */
	{queue_ended_shmem_size, queue_ended_shmem_init, NULL},
	{queue_endpoint_shmem_size, queue_endpoint_shmem_init, queue_endpoint_reset},
	{queue_limit_shmem_size, queue_limit_shmem_init, queue_gate_reset},
	{queue_unit_shmem_size, queue_unit_shmem_init, queue_unit_reset},
	{queue_census_shmem_size, queue_census_shmem_init, NULL},
	{queue_turn_shmem_size, queue_turn_shmem_init, NULL},	/* a new group of an old number begins anew */
};

/* How much they need.  Called by the request hook. */
void
queue_shared_memory_request(void)
{
	for (int i = 0; i < lengthof(structures); i++)
		RequestAddinShmemSpace(structures[i].size());
}

/* Makes them, at start and again after a crash.  Called by the startup hook. */
void
queue_shared_memory_init(void)
{
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < lengthof(structures); i++)
		structures[i].init();
	LWLockRelease(AddinShmemInitLock);
}

/* Called by the launcher (DROP DATABASE) and by the end of a transaction that dropped the extension. */
void
queue_shared_memory_forget(Oid db)
{
	for (int i = 0; i < lengthof(structures); i++)
	{
		if (structures[i].reset != NULL)
			structures[i].reset(db);
	}
}
