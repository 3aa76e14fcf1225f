/*
 * rows.h
 *		A scan over a table of ours whose rows are only inserted and deleted.
 */
#ifndef QUEUE_ROWS_H
#define QUEUE_ROWS_H

#include "lib/compat.h"

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/rel.h"

#define QUEUE_ROWS_KEYS 3

typedef struct QueueRows
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;		/* the present row */
	IndexScanDesc scan;
	Snapshot	snapshot;
	LOCKMODE	lockmode;
	MemoryContext context;		/* in which it was begun */
	ScanKeyData keys[QUEUE_ROWS_KEYS];
	int			nkeys;
} QueueRows;

/* A condition on the index's next column, before queue_rows_begin; the text is compared as in COLLATE "C". */
extern void queue_rows_where_int8(QueueRows *rows, StrategyNumber strategy, int64 value);
extern void queue_rows_where_text(QueueRows *rows, const char *value);
/* Reads in the order of the index, under the latest snapshot. */
extern void queue_rows_begin(QueueRows *rows, Oid relid, Oid index, LOCKMODE lockmode);
extern bool queue_rows_next(QueueRows *rows);
/* A column of the present row, valid until the next one. */
extern Datum queue_rows_datum(QueueRows *rows, int column, bool *isnull);
/* Deletes the present row; false: somebody else has it. */
extern bool queue_rows_delete(QueueRows *rows);
extern void queue_rows_end(QueueRows *rows);

/*
 * Gives at most max rows of a table in which transactions leave word for who looks next to `eat`, and deletes those of
 * which that says that they are done with.  True: no row is left.  RowExclusiveLock, which is kept if there was a row.
 */
typedef bool (*QueueRowEater) (TupleTableSlot *row, void *arg);
extern bool queue_rows_eat(Oid relid, QueueRowEater eat, void *arg, int max);

#endif
