/*
 * lease.h
 *		A bounded shared table of lease ends, so that the scheduler looks expired claims up
 *		instead of scanning for them: single jobs by id, and batches as one range of
 *		positions with one time and a count of unfinished members.
 *
 * A hint: what does not fit, or had to give way to an earlier end, is told to the line's
 * cursor as a range (queue_cursor_note_expiry), which the scheduler walks when the time has
 * come.  All commit-safe but queue_lease_expired.  Lock: one LWLock per partition of the
 * hash table.
 */
#ifndef QUEUE_LEASE_H
#define QUEUE_LEASE_H

#include "shared/cursor.h"

typedef struct QueueLease
{
	int64		id;				/* 0: a range */
	int64		line;
	QueuePos	pos;			/* of a range: the lowest */
	QueuePos	high;			/* of a range: the highest */
	int			count;			/* of a range: members whose claim has not ended yet */
	TimestampTz until;
} QueueLease;

extern Size queue_lease_shmem_size(void);
extern void queue_lease_shmem_init(void);

/*
 * A claim, or a heartbeat, of one job or of `count` jobs of one line; was: when the jobs' leases ended before (0: they
 * had none).  Lowers base->next_expiry and wakes a scheduler that sleeps past it.
 */
extern void queue_lease_claimed(Oid db, const QueueLease *lease, TimestampTz was);
/* A reader passed a leased row: notes it unless a range tells of it. */
extern void queue_lease_note(Oid db, int64 id, int64 line, QueuePos pos, TimestampTz until);
/* The claims of `count` jobs ended before their lease `was`; id: the job, if it is only one. */
extern void queue_lease_forget(Oid db, int64 id, int64 line, TimestampTz was, int count);
/* Scheduler: takes up to max leases that ended by `now` out of the table; recomputes base->next_expiry. */
extern int	queue_lease_expired(Oid db, TimestampTz now, QueueLease *out, int max);
/* A fetch where no scheduler looks, or none in time: what ended by `now` may be found again.  No row is looked at. */
extern void queue_lease_tell_expired(Oid db, TimestampTz now);
extern void queue_lease_reset(Oid db);

#endif
