/*
 * place.h
 *		The rows of queue.live_key: the places of jobs in their groups.
 */
#ifndef QUEUE_PLACE_H
#define QUEUE_PLACE_H

#include "job/job.h"
#include "shared/mark.h"

#include "access/genam.h"

/* One row. */
typedef struct QueuePlace
{
	int64		job_id;
	int64		position;
	bool		held;			/* its job was discarded and holds the group */
	ItemPointerData tid;
} QueuePlace;

#define QUEUE_PLACES_AHEAD 64

/* A group and its first place. */
typedef struct QueueGroupFront
{
	char		queue[QUEUE_NAME_MAX + 1];
	char		key[QUEUE_KEY_MAX + 1];
	int64		position;
} QueueGroupFront;

/* The table, open, and a scan of one group. */
typedef struct QueueGroupPlaces
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;			/* NULL: none */
	/* the places behind the one that was deleted last, as far as they were read */
	QueuePlace	ahead[QUEUE_PLACES_AHEAD];
	int			nahead;
	int			next;			/* the first of them that is not deleted */
	int			qty;			/* how many are read at once: more each time */
} QueueGroupPlaces;

extern void queue_places_open(QueueGroupPlaces *places, LOCKMODE lockmode);
extern void queue_places_close(QueueGroupPlaces *places);	/* the lock stays */
/* Open for writing as long as the table of jobs is, for who comes again and again. */
extern QueueGroupPlaces *queue_places_of(QueueJobTable *jobs);

/* Reads the places of one group from a position on, in order, until queue_places_end. */
extern void queue_places_scan(QueueGroupPlaces *places, const char *queue, const char *key, int64 from,
							  Snapshot snapshot);
extern bool queue_places_next(QueueGroupPlaces *places, QueuePlace *place);
extern void queue_places_end(QueueGroupPlaces *places);
/* Up to max groups after this one in the order of their names, each with its first place; how many. */
extern int	queue_places_groups(const char *queue, const char *key, QueueGroupFront *fronts, int max,
								Snapshot snapshot);

/* The place of a job of which nobody can read whose group it is in, found by a look at all; false: it has none. */
extern bool queue_place_find(QueueGroupPlaces *places, int64 job_id, QueuePlace *place, char **queue, char **key);
/* Deletes a job's own place. */
extern void queue_place_delete(QueueGroupPlaces *places, const char *queue, const char *key, int64 job_id,
							   int64 position);
/* Reads the places behind a position, under the active snapshot: the one there was deleted earlier. */
extern void queue_places_resume(QueueGroupPlaces *places, const char *queue, const char *key, int64 position);
/* The place behind the one that was deleted last; NULL: there was none when it was read. */
extern const QueuePlace *queue_place_follower(const QueueGroupPlaces *places);

/* Inserts of one transaction into a table, one row after another. */
typedef struct QueueInserter
{
	Relation	rel;
	struct EState *estate;
	struct ResultRelInfo *rri;
	TupleTableSlot *slot;
} QueueInserter;

extern void queue_inserter_open(QueueInserter *inserter, Oid relid);
extern void queue_inserter_put(QueueInserter *inserter, const Datum *values, int n);	/* the first n columns */
extern void queue_inserter_close(QueueInserter *inserter);
/* Of an inserter into live_key. */
extern void queue_place_insert(QueueInserter *inserter, const QueuePlace *place, const char *queue, const char *key);

#endif
