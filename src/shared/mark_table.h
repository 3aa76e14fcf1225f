/*
 * mark_table.h
 *		What a mark is, and where marks lie: one entry for each group, in shared memory.
 *
 * The entries are for mark.c only.  All but the atomics is read and changed under queue_marks->lock.
 */
#ifndef QUEUE_MARK_TABLE_H
#define QUEUE_MARK_TABLE_H

#include "shared/database.h"

#define QUEUE_KEY_MAX 200		/* bytes of a group's key */

typedef struct QueueMark
{
	int64		position;		/* the lowest that is meant: of a job that came, or of a head that ended */
	bool		came;			/* a job came */
	bool		ended;			/* a job ended that had been let in, so no other one is in */
	bool		front;			/* position is that of the group's first place */
	bool		doubted;		/* .. but somebody else than who eats marks has let one in */
	char		queue[QUEUE_NAME_MAX + 1];
	char		key[QUEUE_KEY_MAX + 1];
} QueueMark;

#define QUEUE_MARKS 2048		/* of all databases */
#define QUEUE_MARKS_OF_DATABASE 1536
#define QUEUE_MARKS_WAITED 768	/* of a database, of groups in which somebody waits and nothing is to be done */
#define QUEUE_MARK_BUCKETS 4096
#define QUEUE_MARK_RANGES 16
#define QUEUE_MARK_NONE (-1)

typedef struct QueueMarkEntry
{
	QueueMark	mark;
	Oid			db;
	uint32		hash;
	enum
	{
		QUEUE_MARK_READY,		/* in its database's list: to be taken -> TAKEN */
		QUEUE_MARK_TAKEN,		/* somebody looks at the group -> freed or PARKED at his commit, READY at his abort */
		QUEUE_MARK_PARKED,		/* -> READY when another one of the group comes; KEPT; TAKEN by who put it off */
		QUEUE_MARK_KEPT			/* for who goes on in the group by himself -> READY */
	}			state;
	bool		waited;			/* counted in nparked */
	uint64		serial;			/* of the taking or keeping */
	int			next_in_bucket;	/* or in the free list */
	int			next;			/* in the list of those that are ready */
} QueueMarkEntry;

/* Jobs of groups came with ids from low to high. */
typedef struct QueueMarkRange
{
	int64		low;
	int64		high;
} QueueMarkRange;

typedef struct QueueMarkPlace	/* what there is of a database */
{
	Oid			db;				/* InvalidOid: free */
	int			first, last;	/* of those that are ready */
	int			n;				/* of all */
	int			nparked;		/* of those that were parked because others wait */
	QueueMarkRange range[QUEUE_MARK_RANGES + 1];	/* those that wait, then the one that is looked at */
	bool		looking;		/* there is such a one */
	pg_atomic_uint32 nranges;	/* how many wait */
	pg_atomic_uint32 crowded;	/* not all groups in which somebody waits are known here */
	pg_atomic_uint32 ready;		/* how many are ready */
	pg_atomic_uint32 lost;		/* 1: all groups are to be looked at; 2: somebody does */
	pg_atomic_uint32 rows;		/* rows of queue.group_mark were committed */
} QueueMarkPlace;

typedef struct QueueMarkTable
{
	LWLock		lock;
	int			tranche;
	int			free;
	uint64		serials;
	int			bucket[QUEUE_MARK_BUCKETS];
	QueueMarkPlace place[QUEUE_MAX_DATABASES];
	QueueMarkEntry entry[QUEUE_MARKS];
} QueueMarkTable;

extern QueueMarkTable *queue_marks; /* NULL without shared memory */

extern Size queue_mark_shmem_size(void);
extern void queue_mark_shmem_init(void);
extern void queue_mark_reset(Oid db);	/* commit-safe */
extern void queue_mark_merge(QueueMark *into, const QueueMark *mark);	/* of one group */

/* All that follows but queue_mark_place is called under the lock, and commit-safe. */

extern uint32 queue_mark_hash(Oid db, const char *queue, const char *key);
/* A database's place; one is made if the lock is held exclusively and there is room, which there is. */
extern QueueMarkPlace *queue_mark_place_of(Oid db);
/* This database's, with its atomics, which are read without the lock; NULL: there is none (yet).  Takes the lock. */
extern QueueMarkPlace *queue_mark_place(bool create);
/* The number of a group's entry; NONE: it has none. */
extern int	queue_mark_find(Oid db, const char *queue, const char *key);
/* Likewise, a new one (parked) if there is none; the mark is merged into it.  NONE: there is no room. */
extern int	queue_mark_enter(Oid db, QueueMarkPlace *place, const QueueMark *mark);
extern void queue_mark_make_ready(QueueMarkPlace *place, int number);	/* of one that is not: it can be taken */
extern void queue_mark_release(QueueMarkPlace *place, int number);	/* frees an entry that is not ready */
extern void queue_mark_add_range(QueueMarkPlace *place, int64 low, int64 high);

#endif
