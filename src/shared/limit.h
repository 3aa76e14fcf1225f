/*
 * limit.h
 *		Gates: how many jobs of something may be in force at once, counted in shared memory.
 */
#ifndef QUEUE_LIMIT_H
#define QUEUE_LIMIT_H

#include "shared/database.h"

#define QUEUE_MAX_GATES 2048
#define QUEUE_MAX_GATES_OF_DATABASE 512

/* What a gate limits.  Units of several gates are taken in this order. */
typedef enum QueueGateType
{
	QUEUE_GATE_HTTP				/* requests of an HTTP handler under way; its id is the handler's */
} QueueGateType;

typedef struct QueueGate
{
	Oid			db;				/* InvalidOid: free */
	QueueGateType type;
	bool		shared;			/* the database's spare one, for all that found no place */
	int64		id;
	pg_atomic_uint32 taken;		/* units in force: never above the limit that takers give */
	pg_atomic_uint32 admitted;	/* jobs that were read for it: those in force and some that wait ahead of it */
	pg_atomic_uint32 refused;	/* somebody could not take a unit: a give-back wakes him */
	pg_atomic_uint32 wanted;	/* somebody has more jobs than were admitted: a dismissal wakes him */
} QueueGate;

extern Size queue_limit_shmem_size(void);
extern void queue_limit_shmem_init(void);

/*
 * The gate of something; with create, made if need be: the database's spare gate where no place is left.  NULL: there
 * is none, or no shared memory.
 */
extern QueueGate *queue_gate_of(Oid db, QueueGateType type, int64 id, bool create);
extern int	queue_gate_number(const QueueGate *gate);
extern QueueGate *queue_gate_nth(int number);

/* Takes a unit while less than `limit` are taken.  False: it is full, and the next give-back wakes. */
extern bool queue_gate_take(QueueGate *gate, int limit);
/* Gives a unit back; true: somebody was refused and is to be woken. */
extern bool queue_gate_give(QueueGate *gate);

/* How many more jobs may be admitted, up to `most` in all; at 0 or below the next dismissal wakes. */
extern int	queue_gate_room(QueueGate *gate, int most);
extern void queue_gate_admit(QueueGate *gate);
/* A job that was admitted is neither in force nor ahead any more; true: there is room for who was refused. */
extern bool queue_gate_dismiss(QueueGate *gate);
/* There is more than was admitted: a dismissal wakes. */
extern void queue_gate_want_more(QueueGate *gate);

/* Sums of a database's gates of a type. */
extern int	queue_gate_admitted(Oid db, QueueGateType type);
/* Nothing of this type is in force or admitted: the process that held all of it begins or ends. */
extern void queue_gate_clear(Oid db, QueueGateType type);
/* Gates of this type other than these, at rest, are no more: their places are free. */
extern void queue_gate_keep(Oid db, QueueGateType type, const int64 *ids, int n);
/* The extension or the database was dropped.  Commit-safe. */
extern void queue_gate_reset(Oid db);

#endif
