/*
 * shared_memory.h
 *		All structures in shared memory: made at start, and rid of a database that is gone.
 */
#ifndef QUEUE_SHARED_MEMORY_H
#define QUEUE_SHARED_MEMORY_H

#include "lib/queue.h"

extern void queue_shared_memory_request(void);
extern void queue_shared_memory_init(void);

/* The jobs of this database are gone (its extension, or itself): nothing is known of them any more.  Commit-safe. */
extern void queue_shared_memory_forget(Oid db);

#endif
