/*
 * wake.h
 *		Waking a process.
 *
 * See wake.c.
 */
#ifndef QUEUE_WAKE_H
#define QUEUE_WAKE_H

#include "lib/queue.h"

extern Size queue_wake_shmem_size(void);
extern void queue_wake_shmem_init(void);

/* Commit-safe: wakes a process by its pgprocno, and PG_UINT32_MAX is ignored. */
extern void queue_set_latch(uint32 procno);
/* Wakes this process when it next sleeps.  Async-signal-safe. */
extern void queue_wake_self(void);
/* Was this process woken since it last asked?  Before it sleeps: then it must not; and after, before it looks. */
extern bool queue_woken(void);
/* The same, and it will be so when it asks. */
extern bool queue_is_woken(void);

#endif
