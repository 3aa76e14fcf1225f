/*
 * kept.h
 *		Rows of queue.finished_job, written one by one or, by an executor, many together.
 */
#ifndef QUEUE_KEPT_H
#define QUEUE_KEPT_H

#include "job/job.h"

/*
 * Inserts a row of ncols columns, all that the table has, into the table of a slot of the ring.  RowExclusiveLock on
 * that table, which stays open as long as `jobs` is.
 */
extern void queue_kept_insert(QueueJobTable *jobs, int slot, const Datum *values, const bool *nulls, int ncols);
/*
 * From now on rows that are inserted with `jobs` outside of subtransactions wait, to be written together, at
 * queue_job_close at the latest.  Called by an executor, once a transaction.
 */
extern void queue_kept_gather(QueueJobTable *jobs);
/* Writes what waits.  Called by whoever is about to read the tables. */
extern void queue_kept_write(void);

#endif
