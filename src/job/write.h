/*
 * write.h
 *		Writes of single rows through the executor, with the triggers that a user has put on our tables.
 */
#ifndef QUEUE_WRITE_H
#define QUEUE_WRITE_H

#include "lib/compat.h"

#include "nodes/execnodes.h"

/* Pushes a snapshot if none is active, for what is stored out of line.  True: the caller pops it. */
extern bool queue_write_snapshot(void);

/*
 * One insert; the slot's tid tells where.  The caller has RowExclusiveLock, opened the indexes and took a command id.
 * Unless it is needed, a trigger may skip it.
 */
extern void queue_write_insert(ResultRelInfo *rri, EState *estate, TupleTableSlot *row, bool needed);
/* Updates (to `new`) or deletes (NULL) the row in `old`, which this transaction has locked; `old` is cleared. */
extern void queue_write_locked(ResultRelInfo *rri, EState *estate, TupleTableSlot *old, TupleTableSlot *new);
/*
 * Instead of ExecCloseIndices, which would unlock them: the lock on the table, which stays, excludes all that theirs
 * do, and the next write of the transaction has them.
 */
extern void queue_write_close_indexes(ResultRelInfo *rri);
/* Frees the state of writes, with what triggers used. */
extern void queue_write_end(EState *estate);

/*
 * Before table_tuple_update: heap_update can do without waiting, but asserts that nobody asks it to.  On a server with
 * assertions this locks the row first, and *wait becomes true, which then waits for nobody; elsewhere it does nothing.
 * False: *result says why the row cannot be updated.
 */
extern bool queue_write_may_update(Relation rel, ItemPointer tid, Snapshot snapshot, bool *wait, TM_Result *result);

#endif
