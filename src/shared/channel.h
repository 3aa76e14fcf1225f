/*
 * channel.h
 *		The bounded channel between a database's scheduler and the executors of one
 *		role: entries (id, tid, ..) in shared memory, the most urgent first.
 *
 * The scheduler fills it; executors empty it, and put back what they must not run now.  Lock: one
 * spinlock per channel, held for a copy of one entry and a search for its place.  An entry in a channel
 * or popped from it is behind its line's cursor; the process that drops one unclaimed gives it back with
 * queue_job_give_back.
 */
#ifndef QUEUE_CHANNEL_H
#define QUEUE_CHANNEL_H

#include "shared/turn.h"

#include "storage/itemptr.h"
#include "storage/spin.h"

#define QUEUE_ENTRY_ALONE	0x01	/* never in company: retry, keys, expired claim */
#define QUEUE_ENTRY_SUSPECT 0x02	/* ran in a process that died: attempt is committed first, one at a time */
#define QUEUE_ENTRY_FOLLOWS 0x08	/* the next of a group, for who has just ended the one before it */
#define QUEUE_ENTRY_PAID	0x10	/* tokens of its rates were used for a run that was rolled back */
#define QUEUE_ENTRY_LONG	0x04	/* of a kind that is new or slow: may keep its executor for any time */
/* What stays with a job while its row is the same. */
#define QUEUE_ENTRY_LASTING (QUEUE_ENTRY_ALONE | QUEUE_ENTRY_SUSPECT)

typedef struct QueueEntry
{
	int64		id;
	int64		line;
	TimestampTz run_at;
	TimestampTz stamp;			/* clock read after the scheduler's snapshot */
	ItemPointerData tid;
	uint16		flags;
	QueueOrder	order;			/* where it comes */
	int32		cost;			/* us that its run is expected to take */
	int32		gate;			/* http only: the number of the gate that admitted it */
} QueueEntry;

#define QUEUE_SHUNNED_US (5 * USECS_PER_SEC)
#define QUEUE_SHUNNED_MAX_US (30 * USECS_PER_SEC)
#define QUEUE_MAX_SHUNNED 64	/* with more, the one whose pause ends first is left to the look from afar */

/* A job that could be neither run nor failed. */
typedef struct QueueShunned
{
	QueueEntry	entry;			/* as it was found last */
	TimestampTz until;			/* it is left alone before this .. */
	int64		pause;			/* .. for so many us */
	bool		alone;			/* false: that is over, and only remembered, for the next pause to be longer */
} QueueShunned;

typedef struct QueueChannel
{
	slock_t		mutex;
	Oid			db;				/* InvalidOid: free */
	Oid			role;
	int			head;			/* of order: the place of the most urgent entry */
	int			count;
	int64		cost;			/* of all entries in it */
	int			low;			/* so few are left that the scheduler should put more; set by the scheduler */
	int			max_long;		/* how many executors of the role may run LONG entries at once; set by the scheduler */
	int			running_long;	/* how many do */
	char		parked[128];	/* why no executor of this role can start; "" if one can */
	uint32		refusals;		/* how often executors could not run a handler .. */
	int64		refused_line;	/* .. the last time that of this line .. */
	char		refused[128];	/* .. for this reason */
	int			nshunned;		/* of the places below that are used .. */
	int			nalone;			/* .. and how many of these are of jobs that are left alone now */
	QueueShunned shunned[QUEUE_MAX_SHUNNED];
	TimestampTz quiet_until;	/* before this the log is not told of another one */
	uint8		order[QUEUE_CHANNEL_SIZE];	/* a permutation: used places by urgency from head on, then free ones */
	QueueEntry	place[QUEUE_CHANNEL_SIZE];
} QueueChannel;

StaticAssertDecl(QUEUE_CHANNEL_SIZE == 256, "order is a ring of bytes");

extern Size queue_channel_shmem_size(void);
extern void queue_channel_shmem_init(void);
extern QueueChannel *queue_channel_of(Oid db, Oid role, bool create);	/* NULL: none, or all taken */
extern QueueChannel *queue_channel_nth(int i);	/* i < QUEUE_MAX_CHANNELS; NULL: free */
/* the scheduler, when the role has no handler any more; must be empty */
extern void queue_channel_release(QueueChannel *ch);
extern int	queue_channel_count(QueueChannel *ch);
extern int	queue_channel_runnable(QueueChannel *ch);	/* those that max_long lets run now */
extern TimestampTz queue_channel_oldest(QueueChannel *ch);	/* stamp of the entry that waits longest; DT_NOEND: none */
extern bool queue_channel_first(QueueChannel *ch, QueueEntry *entry); /* likewise of the most urgent */
extern int	queue_channel_copy(QueueChannel *ch, QueueEntry out[QUEUE_CHANNEL_SIZE]);	/* all of them; how many */
extern bool queue_channel_last(QueueChannel *ch, QueueEntry *entry);	/* a copy of the least urgent; false: none */
extern bool queue_channel_full(QueueChannel *ch, int64 budget); /* nothing more fits within this budget */
extern bool queue_channel_has(QueueChannel *ch, int64 id);
extern void queue_channel_park(QueueChannel *ch, const char *reason);	/* "": not parked */
/* An executor cannot run the line's handler, which the scheduler thinks that it could. */
extern void queue_channel_refuse(QueueChannel *ch, int64 line, const char *reason);
/* The scheduler: has any refused since *seen, and of which line? */
extern bool queue_channel_refusal(QueueChannel *ch, uint32 *seen, int64 *line);
extern void queue_channel_forgive(QueueChannel *ch);	/* the scheduler: the last refusal is over */
/* The reasons why no executor can start, and why the last refused line's handler cannot run; "" if there is none. */
extern void queue_channel_reasons(QueueChannel *ch, char parked[128], int64 *line, char refused[128]);
/* Is left alone for a while; if it has itself to blame, and was before, for longer than the last time. */
extern void queue_channel_shun(QueueChannel *ch, const QueueEntry *entry, TimestampTz now, bool longer);
/* Shall the log be told of one?  At most once a minute. */
extern bool queue_channel_tells(QueueChannel *ch, TimestampTz now);
/* Takes those out whose pause is over by `now`; how many.  *left: how many are still there. */
extern int	queue_channel_unshun(QueueChannel *ch, TimestampTz now, QueueEntry out[QUEUE_MAX_SHUNNED], int *left);
/*
 * Is this job left alone now?  If so it will be given back as it was found last.  One that was left alone gets those
 * flags back that it had.
 */
extern bool queue_channel_shuns(QueueChannel *ch, QueueEntry *found);
/* After a round of puts: remembers when executors should ask for more, and how many may run LONG entries at once. */
extern void queue_channel_filled(QueueChannel *ch, int max_long);

/* Nothing but the number of entries bounds what waits. */
#define QUEUE_CHANNEL_ANY_COST PG_INT64_MAX
/*
 * Puts an entry in its place.  It fits while no more than `budget` us are expected to wait (two entries always fit);
 * otherwise the last entry leaves for a more urgent one, or the last of its group for one whose turn is before.  False:
 * it did not fit.  `evicted` gets the entries that left, *nevicted their number, also when false; the caller gives
 * them back to their lines.
 */
extern bool queue_channel_put(QueueChannel *ch, const QueueEntry *entry, int64 budget,
							  QueueEntry evicted[QUEUE_CHANNEL_SIZE], int *nevicted);
extern bool queue_channel_pop(QueueChannel *ch, QueueEntry *entry);	/* the most urgent, without a permit */
/*
 * Takes the most urgent entry that may run.  *permit: the caller holds one of max_long's permits, or gets one with a
 * LONG entry; queue_channel_return gives it back.  *left: how many entries are left.
 */
extern bool queue_channel_take(QueueChannel *ch, QueueEntry *entry, bool *permit, int *left);
extern void queue_channel_return(QueueChannel *ch, bool *permit);
/* Takes everything out (configuration changed, database closed); returns how many, into out[QUEUE_CHANNEL_SIZE]. */
extern int	queue_channel_drain(QueueChannel *ch, QueueEntry *out);

/* Gives up all channels of a database that has no workers any more (extension or database dropped). Commit-safe. */
extern void queue_channel_reset(Oid db);

#endif
