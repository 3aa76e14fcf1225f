/*
 * end_waiter.h
 *		Sessions that wait for the end of a job (wait_for, result) and are woken by the
 *		commit that ends it.  A bounded shared array; a waiter that finds no place, or
 *		runs without preload, looks again every 100 ms instead.
 */
#ifndef QUEUE_END_WAITER_H
#define QUEUE_END_WAITER_H

#include "shared/database.h"

extern Size queue_end_waiter_shmem_size(void);
extern void queue_end_waiter_shmem_init(void);
extern bool queue_end_waiter_register(int64 job_id);	/* false: no place: poll. Released by unregister or at exit */
extern void queue_end_waiter_unregister(void);
extern void queue_end_waiter_wake(Oid db, int64 job_id);	/* commit-safe; nearly free when nobody waits; 0: all */

#endif
