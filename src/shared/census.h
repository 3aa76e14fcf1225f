/*
 * census.h
 *		Who claims jobs as if there were no limit, so that a new limit can count them.
 */
#ifndef QUEUE_CENSUS_H
#define QUEUE_CENSUS_H

#include "shared/database.h"

extern Size queue_census_shmem_size(void);
extern void queue_census_shmem_init(void);
extern void queue_census_register_callbacks(void);	/* _PG_init */

/*
 * This transaction claims jobs of a queue, by its key (0: of any), as the configuration says that it reads FROM NOW ON.
 * True: it did not look before, so it may end its look if it claimed nothing.
 */
extern bool queue_census_look(uint64 queue_key);
/* It claimed a job of this kind, by its key; and claims no more before it looks again. */
extern void queue_census_claimed(uint64 kind_key);
extern void queue_census_looked(void);
extern void queue_census_leave(void);
/* The time of a new limit: a look that begins after this, and after the generation was bumped, knows the limit. */
extern uint64 queue_census_announce(void);
/* A kind, in a set of kinds; several may be the same there. */
static inline uint64
queue_census_kind(uint64 kind_key)
{
	return UINT64CONST(1) << (kind_key & 63);
}

#define QUEUE_CENSUS_KINDS PG_UINT64_MAX	/* all of them */

/*
 * Does another open transaction of this database look at this queue (0: at any) since before that time, and may have
 * claimed one of these kinds?
 */
extern bool queue_census_looks(uint64 queue_key, uint64 kinds, uint64 announced);

/* An executor: from now on it may be given units.  Before its first claim. */
extern void queue_census_attach(void);
/* It was given some (who counts saw its job in its slot), and takes notice of it when its transaction ends. */
extern void queue_census_give(uint32 procno);
extern bool queue_census_given(void);	/* once */

#endif
