/*
 * held.h
 *		Who has a row locked or changed, in a transaction that is still open.
 */
#ifndef QUEUE_HELD_H
#define QUEUE_HELD_H

#include "lib/queue.h"

#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

/* Is it somebody else?  *by: who; invalid: several.  The slot is of the table, and is cleared. */
extern bool queue_row_held(Relation rel, const ItemPointerData *tid, TupleTableSlot *slot, TransactionId *by);
/*
 * For who deals with many jobs, and leaves those that somebody has: the row of a job, or of one that is kept, was held.
 * Was that one of our processes, which does not run the job but looks at it, lets it in or just ends?  Then this waits
 * for it.  True: look again.
 */
extern bool queue_row_wait_moment(Relation rel, const ItemPointerData *tid, TupleTableSlot *slot, int64 job_id);

#endif
