/*
 * endpoint.h
 *		What is known of HTTP endpoints while they are used, in shared memory: breaker, health, totals;
 *		and which jobs the worker shall stop.  It outlives the worker process.
 *
 * Owned by one writer, the database's http worker, but for the stop list (anyone who ends a leased job).  Everything
 * else reads single words.
 */
#ifndef QUEUE_ENDPOINT_H
#define QUEUE_ENDPOINT_H

#include "lib/breaker.h"
#include "shared/database.h"

#include "storage/spin.h"

#define QUEUE_MAX_ENDPOINTS 4096
#define QUEUE_MAX_ENDPOINTS_OF_DATABASE 1024
#define QUEUE_STOP_IDS 64

/* One endpoint; its key is the id of its row. */
typedef struct QueueEndpointState
{
	Oid			db;
	uint64		key;
	QueueBreaker breaker;
	pg_atomic_uint32 healthy;	/* its health_url answered 200 since it was last in doubt */
	pg_atomic_uint32 reported;	/* being down was reported */
	pg_atomic_uint32 in_flight;
	pg_atomic_uint64 succeeded;
	pg_atomic_uint64 failed;
	pg_atomic_uint64 total_us;	/* of answers received */
	pg_atomic_uint64 answers;
	pg_atomic_uint64 next_probe_at; /* 0: none is planned */
	TimestampTz down_since;		/* since when it is not healthy */
	int			probes_failed;	/* in a row */
} QueueEndpointState;

extern Size queue_endpoint_shmem_size(void);
extern void queue_endpoint_shmem_init(void);
/* NULL when there is no place or no shared memory. */
extern QueueEndpointState *queue_endpoint_state_of(Oid db, uint64 key, bool create);
/* How many more endpoints of the database would find a place. */
extern int	queue_endpoint_places(Oid db);
/* An endpoint that nothing is known of yet.  Also for states outside of shared memory. */
extern void queue_endpoint_state_init(QueueEndpointState *state, Oid db, uint64 key);
/* One less, but never below 0: the worker may have been cleared meanwhile. */
extern void queue_endpoint_lower(pg_atomic_uint32 *count);
/* The http worker begins or ends: nothing is in flight. */
extern void queue_endpoint_clear(Oid db);
/* Endpoints of this database other than these, with nothing in flight, are no more: their places are free. */
extern void queue_endpoint_keep(Oid db, const uint64 *keys, int n);
/* The extension or the database was dropped.  Commit-safe. */
extern void queue_endpoint_reset(Oid db);

/*
 * The stop list.  A leased job was ended by another process: its request shall be aborted.  Commit-safe, nearly free
 * when the database has no http worker; id 0: some job.
 */
extern void queue_endpoint_stop(Oid db, int64 job_id);
/* The worker registers its latch (PG_UINT32_MAX: none any more). */
extern void queue_endpoint_worker(Oid db, uint32 procno);
/* The worker's latch; PG_UINT32_MAX: there is no worker. */
extern uint32 queue_endpoint_procno(Oid db);
/* Takes the list; *all: it overflowed, look at every request. */
extern int	queue_endpoint_take_stops(Oid db, int64 *ids, bool *all);

#endif
