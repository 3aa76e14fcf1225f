/*
 * end_waiter.h
 *		Sessions that wait for the end of a job (wait_for, result) or for a queue to run dry (await_idle), and are woken
 *		by the commits that may have brought it.  A bounded shared array; a waiter that finds no place, or runs without
 *		preload, looks again every 100 ms instead.
 */
#ifndef QUEUE_END_WAITER_H
#define QUEUE_END_WAITER_H

#include "shared/database.h"

extern Size queue_end_waiter_shmem_size(void);
extern void queue_end_waiter_shmem_init(void);
/* job_id 0: for a queue, by the hash of its name.  False: no place: poll.  Released by unregister or at exit. */
extern bool queue_end_waiter_register(int64 job_id, uint64 queue_key);
extern void queue_end_waiter_unregister(void);
/* Commit-safe; nearly free when nobody waits.  This job ended; 0: many did. */
extern void queue_end_waiter_wake(Oid db, int64 job_id);
/* Jobs that this queue had ended, or are due at another time than before. */
extern void queue_end_waiter_wake_queue(Oid db, uint64 queue_key);

#endif
