/*
 * cursor_table.h
 *		Where the entries of cursor.c lie: found by line, made, and given up.
 *
 * The entries themselves are for cursor.c only.
 */
#ifndef QUEUE_CURSOR_TABLE_H
#define QUEUE_CURSOR_TABLE_H

#include "shared/agenda.h"

#define QUEUE_CURSOR_RING 64
#define QUEUE_CURSOR_KEYS 64
#define QUEUE_CURSORS_SURE 1024	/* entries that every database can have, whatever others have */
#define QUEUE_CURSOR_PARTITIONS 128
#define QUEUE_CURSOR_BLOCKS 1024
#define QUEUE_CURSOR_NONE (-1)

/* What a busy line has beside its entry. */
typedef struct QueueCursorBlock
{
	int			owner;			/* an entry; -1: free */
	int			next;			/* in the free list */
	TimestampTz unnoted_expiry; /* earliest lease end that lease.c had no room for; DT_NOEND: none */
	QueuePos	unnoted_low,	/* and the range of positions that has all of them */
				unnoted_high;

	uint64		lost_seq;		/* youngest append that the ring does not hold */
	int			ring_next;
	uint64		ring_seq[QUEUE_CURSOR_RING];
	QueuePos	ring_pos[QUEUE_CURSOR_RING];

	int			nkeys;
	uint64		key_seq[QUEUE_CURSOR_KEYS];
	QueuePos	key[QUEUE_CURSOR_KEYS];
} QueueCursorBlock;

typedef struct QueueCursor
{
	Oid			db;				/* InvalidOid: free */
	int			next;			/* in its bucket or in the free list */
	int64		line;
	uint64		incarnation;
	QueuePos	cursor;			/* nothing claimable before it, but for the keys */
	QueuePos	front;			/* nothing at or after the cursor is before this; DT_NOBEGIN: unknown */
	uint64		last_seq;		/* of its youngest append, or of when it was made */
	int			block;			/* -1: it has none */
	uint8		distance;		/* of two rows, as a power of 2 of us; 0: unknown */
	bool		empty;			/* nothing at all at or after the cursor */
	bool		single;			/* or just one row, at front, which is given out as an exact key */
	bool		unserved;		/* the scheduler said that it does not care */
} QueueCursor;

typedef struct QueueCursorTable
{
	LWLock		pool;			/* the free lists, and: */
	int			tranche;
	pg_atomic_uint64 seq;		/* of appends, over all lines */
	uint64		incarnations;
	int			free;			/* entries that were given up */
	int			used;			/* entries ever used */
	int			nfree;			/* free ones, of both sorts */
	int			free_block;
	int			block_hand;		/* where the search for one goes on */
	LWLockPadded partition[QUEUE_CURSOR_PARTITIONS];
	QueueCursorBlock block[QUEUE_CURSOR_BLOCKS];
	int		   *bucket;			/* of as many as there are entries */
	QueueCursor *entry;
	int			nentries;
} QueueCursorTable;

extern QueueCursorTable *queue_cursors;	/* NULL without shared memory */

extern Size queue_cursor_shmem_size(void);
extern void queue_cursor_shmem_init(void);

/* The line was deleted: its entry is free for another. */
extern void queue_cursor_forget(Oid db, int64 line);
/* All entries of a database are free for others. Commit-safe. */
extern void queue_cursor_drop(Oid db);
/* Calls gone() for the lines of this database that have an entry, and frees those for which it is true. */
extern void queue_cursor_sweep(bool (*gone) (int64 line));

/* The lock of a line's partition.  Who holds it may call what follows, exclusively where something changes. */
extern LWLock *queue_cursor_lock(Oid db, int64 line);
extern QueueCursor *queue_cursor_find(Oid db, int64 line);	/* NULL: it has none */
/*
 * Makes the line's entry at the line's front, among the new lines; NULL: no place.  The caller holds the lock
 * exclusively, and has found none.
 */
extern QueueCursor *queue_cursor_make(Oid db, int64 line, int16 priority);
/* From where on, and when, the entry's line has something to do; DT_NOBEGIN: unknown, DT_NOEND: never. */
extern TimestampTz queue_cursor_work(const QueueCursor *entry, QueuePos *bound);
/* Tells the agenda of that: after every change. */
extern void queue_cursor_settle(const QueueCursor *entry);
/* Gives the entry a block, if it has none; NULL: there is none to be had. */
extern QueueCursorBlock *queue_cursor_give_block(QueueCursor *entry);
extern void queue_cursor_return_block(QueueCursor *entry);

/* Calls visit() for each entry of a database, under its lock.  The caller holds none. */
extern void queue_cursor_for_each(Oid db, void (*visit) (QueueCursor *));

static inline int
queue_cursor_number(const QueueCursor *entry)
{
	return (int) (entry - queue_cursors->entry);
}

static inline QueueCursorBlock *
queue_cursor_block(const QueueCursor *entry)
{
	return entry->block == QUEUE_CURSOR_NONE ? NULL : &queue_cursors->block[entry->block];
}

#endif
