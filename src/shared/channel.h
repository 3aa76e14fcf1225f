/*
 * channel.h
 *		The bounded channel between a database's scheduler and the executors of one
 *		role: a ring of entries (id, tid, ..) in shared memory.
 *
 * One producer (the scheduler), many consumers.  Lock: one spinlock a channel, held
 * for a copy of one entry.  An entry in a channel or popped from it is behind its
 * line's cursor; whoever drops one unclaimed gives it back with queue_cursor_append.
 */
#ifndef QUEUE_CHANNEL_H
#define QUEUE_CHANNEL_H

#include "shared/database.h"

#include "storage/itemptr.h"
#include "storage/spin.h"

#define QUEUE_ENTRY_ALONE	0x01	/* never in company: retry, keys, expired claim */
#define QUEUE_ENTRY_SUSPECT 0x02	/* ran in a process that died: attempt is committed first, one at a time */

typedef struct QueueEntry
{
	int64		id;
	int64		line;
	TimestampTz run_at;
	TimestampTz stamp;			/* clock read after the scheduler's snapshot */
	ItemPointerData tid;
	uint16		flags;
} QueueEntry;

typedef struct QueueChannel
{
	slock_t		mutex;
	Oid			db;				/* InvalidOid: free */
	Oid			role;
	int			head;
	int			count;
	int			target;			/* 2 .. QUEUE_CHANNEL_SIZE, set by the scheduler */
	char		parked[128];	/* why no executor of this role can start; "" if one can */
	QueueEntry	ring[QUEUE_CHANNEL_SIZE];
} QueueChannel;

extern Size queue_channel_shmem_size(void);
extern void queue_channel_shmem_init(void);
extern QueueChannel *queue_channel_of(Oid db, Oid role, bool create);	/* NULL: none, or all taken */
extern QueueChannel *queue_channel_nth(int i);	/* i < QUEUE_MAX_CHANNELS; NULL: free */
/* the scheduler, when the role has no handler any more; must be empty */
extern void queue_channel_release(QueueChannel *ch);
extern int	queue_channel_room(QueueChannel *ch);	/* target - count, at least 0 */
extern int	queue_channel_count(QueueChannel *ch);
extern TimestampTz queue_channel_oldest(QueueChannel *ch);	/* stamp of the entry that waits longest; DT_NOEND: none */
extern bool queue_channel_has(QueueChannel *ch, int64 id);
extern void queue_channel_park(QueueChannel *ch, const char *reason);	/* "": not parked */
extern void queue_channel_set_target(QueueChannel *ch, int target);
extern int	queue_channel_put(QueueChannel *ch, const QueueEntry *entries, int n);	/* how many fitted */
extern bool queue_channel_pop(QueueChannel *ch, QueueEntry *entry);
/* Takes everything out (configuration changed, database closed); returns how many, into out[QUEUE_CHANNEL_SIZE]. */
extern int	queue_channel_drain(QueueChannel *ch, QueueEntry *out);

/* Gives up all channels of a database that has no workers any more (extension or database dropped). Commit-safe. */
extern void queue_channel_reset(Oid db);

#endif
