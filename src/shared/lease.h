/*
 * lease.h
 *		A bounded shared table of (job id, lease end), so that the scheduler looks
 *		expired claims up by primary key instead of scanning for them.
 *
 * A hint: what does not fit is told to the line's cursor (queue_cursor_note_expiry),
 * and the scheduler then walks that line when the time has come.  All commit-safe
 * but queue_lease_expired.  Lock: one LWLock per partition of the hash table.
 */
#ifndef QUEUE_LEASE_H
#define QUEUE_LEASE_H

#include "shared/cursor.h"

typedef struct QueueLease
{
	int64		id;
	int64		line;
	QueuePos	pos;
	TimestampTz until;
} QueueLease;

extern Size queue_lease_shmem_size(void);
extern void queue_lease_shmem_init(void);
/* Notes or moves the lease's end, lowers base->next_expiry and wakes a scheduler that sleeps past it. */
extern void queue_lease_note(Oid db, int64 id, int64 line, QueuePos pos, TimestampTz until);
extern void queue_lease_forget(Oid db, int64 id);
/* Scheduler: takes up to max leases that ended by `now` out of the table; recomputes base->next_expiry. */
extern int	queue_lease_expired(Oid db, TimestampTz now, QueueLease *out, int max);
extern void queue_lease_reset(Oid db);

#endif
