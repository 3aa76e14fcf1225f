/*
 * key.h
 *		Unique keys: the rows of queue.unique_key, one for each key that a job has or that is in its window.
 */
#ifndef QUEUE_KEY_H
#define QUEUE_KEY_H

#include "job/job.h"

#include "storage/lock.h"

/* What names a key. */
typedef struct QueueKeyName
{
	const char *queue;
	const char *kind;
	const char *key;
} QueueKeyName;

/* A row of queue.unique_key, as it was read. */
typedef struct QueueKeyRow
{
	ItemPointerData tid;
	bool		own;			/* this very transaction wrote it */
	bool		unseen;			/* the transaction's own snapshot does not see it (REPEATABLE READ and above) */
	int64		job_id;
	TimestampTz until;			/* taken until then although its job may have ended; DT_NOBEGIN: only by that */
	int64		successor;		/* a pending job that gets the key when job_id ends; 0: none */
	bool		ended;			/* job_id has ended: the key is only in its window */
} QueueKeyRow;

/* The open table; in the current memory context, good until the end of the (sub)transaction. */
typedef struct QueueKeyTable
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	struct EState *estate;		/* made at the first write */
	struct ResultRelInfo *rri;
	bool		locked;			/* nobody else inserts this name now */
	LOCKTAG		lock;
} QueueKeyTable;

typedef enum QueueKeyLook
{
	QUEUE_KEY_FREE,				/* there is no row */
	QUEUE_KEY_FOUND,
	QUEUE_KEY_BUSY				/* only without wait: another transaction changes it */
} QueueKeyLook;

extern QueueKeyTable *queue_key_open(void);
extern void queue_key_close(QueueKeyTable *table);
/*
 * The newest row of a name, whatever this transaction's snapshot; who is about to write it is waited for.  FREE is only
 * a moment's truth unless queue_key_lock_name was called before.
 */
extern QueueKeyLook queue_key_look(QueueKeyTable *table, const QueueKeyName *name, bool wait, QueueKeyRow *row);
/* Locks the row that was found; not TM_Ok: look again (with wait = false also TM_WouldBlock: somebody has it). */
extern TM_Result queue_key_lock(QueueKeyTable *table, const QueueKeyRow *row, bool wait);
/*
 * From here to queue_key_unlock_name nobody else inserts a row of this name.  Nothing is waited for meanwhile that
 * another transaction holds.
 */
extern void queue_key_lock_name(QueueKeyTable *table, const QueueKeyName *name);
extern void queue_key_unlock_name(QueueKeyTable *table);
extern void queue_key_insert(QueueKeyTable *table, const QueueKeyName *name, const QueueKeyRow *row);
/* Of a row that the caller has locked. */
extern void queue_key_update(QueueKeyTable *table, const QueueKeyName *name, const QueueKeyRow *row);

/* The name of a job's key; false: it has none. */
extern bool queue_key_name(const QueueJob *job, const QueueLine *line, QueueKeyName *name);
/*
 * Gives the key to a job that comes back: it has it already (*holder is the job itself), or nobody has it (0).
 * False: *holder has it, or had it and it is in its window; 0: somebody is writing it just now (only without wait).
 */
extern bool queue_key_take(const QueueKeyName *name, int64 id, bool wait, int64 *holder);
/* The same of a job that gets another name, without waiting; its window goes with it.  False: left as it is. */
extern bool queue_key_move(const QueueKeyName *from, const QueueKeyName *to, int64 id);
/*
 * Locks the key of a job that is about to end or go back; *successor: the pending job that waits for that.  False:
 * only without wait, somebody else has the key or the successor.  Without a row, or with another's, there is nothing
 * to lock.
 */
extern bool queue_key_hold(QueueJobTable *jobs, const QueueKeyName *name, int64 id, bool wait, int64 *successor);
/* The job ended: its key goes to its successor, stays for its window, or is free. */
extern void queue_key_release(const QueueKeyName *name, int64 id);
/* The same of a job whose extra, and so its key, cannot be read. */
extern void queue_key_release_unread(int64 id);
/* Whose the key is, and who waits for it; how many those are. */
extern int	queue_key_jobs(const QueueKeyName *name, Snapshot snapshot, int64 ids[2]);
/* The successor that waits for a job, as `snapshot` sees it; 0: none. */
extern int64 queue_key_successor(const QueueKeyName *name, int64 id, Snapshot snapshot);

/*
 * Deletes what is of no use any more in so many blocks from *block on, and moves that: keys whose window is over, and
 * those of jobs that are not there.  True: the table ends there.
 */
extern bool queue_key_sweep(BlockNumber *block, BlockNumber blocks, TimestampTz now);
/* Their order, in which calls about many jobs take and release keys. */
extern int	queue_key_compare(const QueueKeyName *left, const QueueKeyName *right);
/*
 * Between these, releases are only noted; the end does them in the order of the names, so that two calls about many
 * jobs never wait for each other's keys.  An error ends it too.  False: there is one already.
 */
extern bool queue_key_batch_begin(void);
extern void queue_key_batch_end(void);

#endif
