/*
 * placed.h
 *		Which kinds may have a place among the counted ones.
 *
 * See placed.c.
 */
#ifndef QUEUE_PLACED_H
#define QUEUE_PLACED_H

#include "lib/queue.h"

#include "port/atomics.h"

extern Size queue_placed_shmem_size(void);
extern void queue_placed_shmem_init(void);
/*
 * A kind gets a place.  owner: the hash of its queue's name, or the id of its handler; kind_key: queue_name_hash(kind).
 * Before the place can be found.
 */
extern void queue_placed_set(uint64 owner, uint64 kind_key);
/*
 * Has the kind no place for certain, nor may it get one, because all of `places` are taken?  Commit-safe.  as_of (NULL:
 * nobody keeps it): zero at first, of this kind; while no kind has got a place the answer comes from there.
 */
extern bool queue_placed_never(pg_atomic_uint32 *places, uint64 owner, uint64 kind_key, uint64 *as_of);

#endif
