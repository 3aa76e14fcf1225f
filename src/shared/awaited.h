/*
 * awaited.h
 *		Which jobs others may depend on: a filter, so that the end of a job on which nothing depends looks for nothing.
 *
 * See awaited.c.
 */
#ifndef QUEUE_AWAITED_H
#define QUEUE_AWAITED_H

#include "shared/database.h"

extern Size queue_awaited_shmem_size(void);
extern void queue_awaited_shmem_init(void);
extern void queue_awaited_reset(Oid db);	/* commit-safe */

/* Rows that depend on this job were inserted; a full barrier. */
extern void queue_awaited_add(int64 id);
/* May there be such rows?  The caller has deleted the job's row before; a full barrier. */
extern bool queue_awaited_maybe(int64 id);
/* How many times queue_awaited_add was called; PG_UINT64_MAX: nobody knows.  A full barrier. */
extern uint64 queue_awaited_added(void);

/*
 * Builds the filter anew: begin, then put all ids that rows name, those of open transactions too, then end.  One
 * process at a time.
 */
extern void queue_awaited_begin(void);
extern void queue_awaited_put(int64 id);
extern void queue_awaited_end(void);

#endif
