/*
 * endpoint.c
 *		The shared state of HTTP endpoints, handlers and http workers.
 *
 * Owns three fixed arrays.  An entry is found by a linear look over those in use, which are few and
 * cached by those who look often; places of endpoints that were removed are freed when the http worker
 * reads the configuration.  When the array is full an endpoint has no state: it is not sent to
 * (register_http_handler refuses it before).
 *
 * Locks: shared->lock (LWLock) to take a place; a spinlock for each database's stop list.
 */
#include "shared/endpoint.h"

#include "shared/clock.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"

/* What others ask of a database's http worker. */
typedef struct StopList
{
	slock_t		mutex;
	Oid			db;
	pg_atomic_uint32 procno;
	int			n;
	bool		all;
	int64		ids[QUEUE_STOP_IDS];
} StopList;

typedef struct EndpointShared
{
	LWLock		lock;
	int			tranche;
	int			nendpoints;		/* places ever taken */
	int			ncouriers;
	QueueEndpointState endpoints[QUEUE_MAX_ENDPOINTS];
	QueueCourierState couriers[QUEUE_MAX_COURIERS];
	StopList	stops[QUEUE_MAX_DATABASES];
} EndpointShared;

static EndpointShared *shared = NULL;

/* How much shared memory it needs.  Called by the request hook. */
Size
queue_endpoint_shmem_size(void)
{
	return MAXALIGN(sizeof(EndpointShared));
}

/* Makes or finds it.  Called by the startup hook. */
void
queue_endpoint_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue endpoints", queue_endpoint_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(EndpointShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
		{
			SpinLockInit(&shared->stops[i].mutex);
			pg_atomic_init_u32(&shared->stops[i].procno, PG_UINT32_MAX);
		}
		for (int i = 0; i < QUEUE_MAX_COURIERS; i++)
		{
			pg_atomic_init_u32(&shared->couriers[i].admitted, 0);
			pg_atomic_init_u32(&shared->couriers[i].in_flight, 0);
			pg_atomic_init_u32(&shared->couriers[i].wants, 0);
		}
		for (int i = 0; i < QUEUE_MAX_ENDPOINTS; i++)
		{
			QueueEndpointState *e = &shared->endpoints[i];

			pg_atomic_init_u32(&e->healthy, 0);
			pg_atomic_init_u32(&e->reported, 0);
			pg_atomic_init_u32(&e->in_flight, 0);
			pg_atomic_init_u64(&e->succeeded, 0);
			pg_atomic_init_u64(&e->failed, 0);
			pg_atomic_init_u64(&e->total_us, 0);
			pg_atomic_init_u64(&e->answers, 0);
			pg_atomic_init_u64(&e->next_probe_at, 0);
		}
	}
	LWLockRegisterTranche(shared->tranche, "QueueEndpoint");
}

/* The state of an endpoint, made if asked.  Called by the http worker, the scheduler and the views. */
QueueEndpointState *
queue_endpoint_state_of(Oid db, uint64 key, bool create)
{
	QueueEndpointState *found = NULL;

	if (shared == NULL)
		return NULL;
	LWLockAcquire(&shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < shared->nendpoints && found == NULL; i++)
	{
		if (shared->endpoints[i].key == key && shared->endpoints[i].db == db)
			found = &shared->endpoints[i];
	}
	for (int i = 0; i < QUEUE_MAX_ENDPOINTS && found == NULL && create; i++)
	{
		QueueEndpointState *e = &shared->endpoints[i];

		if (OidIsValid(e->db))
			continue;
		memset(&e->breaker, 0, sizeof(e->breaker));
		pg_atomic_write_u32(&e->healthy, 0);
		pg_atomic_write_u32(&e->reported, 0);
		pg_atomic_write_u32(&e->in_flight, 0);
		pg_atomic_write_u64(&e->succeeded, 0);
		pg_atomic_write_u64(&e->failed, 0);
		pg_atomic_write_u64(&e->total_us, 0);
		pg_atomic_write_u64(&e->answers, 0);
		pg_atomic_write_u64(&e->next_probe_at, 0);
		e->down_since = queue_now();
		e->probes_failed = 0;
		e->key = key;
		e->db = db;
		shared->nendpoints = Max(shared->nendpoints, i + 1);
		found = e;
	}
	LWLockRelease(&shared->lock);
	return found;
}

/* The state of a handler, made if asked.  Called by the scheduler, the http worker and the views. */
QueueCourierState *
queue_courier_state_of(Oid db, uint64 key, bool create)
{
	QueueCourierState *found = NULL;

	if (shared == NULL)
		return NULL;
	LWLockAcquire(&shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < shared->ncouriers && found == NULL; i++)
	{
		if (shared->couriers[i].key == key && shared->couriers[i].db == db)
			found = &shared->couriers[i];
	}
	for (int i = 0; i < QUEUE_MAX_COURIERS && found == NULL && create; i++)
	{
		QueueCourierState *c = &shared->couriers[i];

		if (OidIsValid(c->db))
			continue;
		pg_atomic_write_u32(&c->admitted, 0);
		pg_atomic_write_u32(&c->in_flight, 0);
		pg_atomic_write_u32(&c->wants, 0);
		c->key = key;
		c->db = db;
		shared->ncouriers = Max(shared->ncouriers, i + 1);
		found = c;
	}
	LWLockRelease(&shared->lock);
	return found;
}

void
queue_endpoint_lower(pg_atomic_uint32 *count)
{
	uint32		old = pg_atomic_read_u32(count);

	while (old > 0 && !pg_atomic_compare_exchange_u32(count, &old, old - 1))
		;
}

/* Nothing is in flight in this database.  Called by the http worker at its start and its end. */
void
queue_endpoint_clear(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nendpoints; i++)
	{
		QueueEndpointState *e = &shared->endpoints[i];

		if (e->db != db)
			continue;
		pg_atomic_write_u32(&e->in_flight, 0);
		e->breaker.probing = 0;
	}
	for (int i = 0; i < shared->ncouriers; i++)
	{
		QueueCourierState *c = &shared->couriers[i];

		if (c->db != db)
			continue;
		pg_atomic_write_u32(&c->admitted, 0);
		pg_atomic_write_u32(&c->in_flight, 0);
	}
	LWLockRelease(&shared->lock);
}

/* How many jobs are with the http worker or on their way to it.  Called by the scheduler. */
uint32
queue_endpoint_admitted(Oid db)
{
	uint32		sum = 0;

	for (int i = 0; shared != NULL && i < shared->ncouriers; i++)
	{
		if (shared->couriers[i].db == db)
			sum += pg_atomic_read_u32(&shared->couriers[i].admitted);
	}
	return sum;
}

/* See endpoint.h.  Called by the http worker when it has read the configuration. */
void
queue_endpoint_keep(Oid db, const uint64 *keys, int n)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nendpoints; i++)
	{
		QueueEndpointState *e = &shared->endpoints[i];
		bool		keep = false;

		if (e->db != db || pg_atomic_read_u32(&e->in_flight) > 0)
			continue;
		for (int j = 0; j < n && !keep; j++)
			keep = e->key == keys[j];
		if (!keep)
			e->db = InvalidOid;
	}
	LWLockRelease(&shared->lock);
}

/* All of a database is forgotten.  Commit-safe.  Called by hook.c. */
void
queue_endpoint_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nendpoints; i++)
	{
		if (shared->endpoints[i].db == db)
			shared->endpoints[i].db = InvalidOid;
	}
	for (int i = 0; i < shared->ncouriers; i++)
	{
		if (shared->couriers[i].db == db)
			shared->couriers[i].db = InvalidOid;
	}
	LWLockRelease(&shared->lock);
}

/* ---- the stop list ---- */

/* The list of a database; NULL: it has had no http worker.  No lock: a place is never given back. */
static StopList *
stops_of(Oid db)
{
	for (int i = 0; shared != NULL && i < QUEUE_MAX_DATABASES && OidIsValid(shared->stops[i].db); i++)
	{
		if (shared->stops[i].db == db)
			return &shared->stops[i];
	}
	return NULL;
}

/* See endpoint.h.  Called by note.c after commit. */
void
queue_endpoint_stop(Oid db, int64 job_id)
{
	StopList   *list = stops_of(db);
	uint32		procno;

	if (list == NULL || (procno = pg_atomic_read_u32(&list->procno)) == PG_UINT32_MAX ||
		procno == queue_procno_of(MyProc))
		return;
	SpinLockAcquire(&list->mutex);
	if (job_id == 0 || list->n == QUEUE_STOP_IDS)
		list->all = true;
	else
		list->ids[list->n++] = job_id;
	SpinLockRelease(&list->mutex);
	queue_set_latch(procno);
}

/* See endpoint.h.  Called by the http worker at its start and its end. */
void
queue_endpoint_worker(Oid db, uint32 procno)
{
	StopList   *list;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	list = stops_of(db);
	for (int i = 0; list == NULL && i < QUEUE_MAX_DATABASES; i++)
	{
		if (OidIsValid(shared->stops[i].db))
			continue;
		shared->stops[i].db = db;
		list = &shared->stops[i];
	}
	if (list != NULL)
	{
		SpinLockAcquire(&list->mutex);
		list->n = 0;
		list->all = false;
		SpinLockRelease(&list->mutex);
		pg_atomic_write_u32(&list->procno, procno);
	}
	LWLockRelease(&shared->lock);
}

/* The worker's latch.  Called by the scheduler. */
uint32
queue_endpoint_procno(Oid db)
{
	StopList   *list = stops_of(db);

	return list == NULL ? PG_UINT32_MAX : pg_atomic_read_u32(&list->procno);
}

/* See endpoint.h.  Called by the http worker. */
int
queue_endpoint_take_stops(Oid db, int64 *ids, bool *all)
{
	StopList   *list = stops_of(db);
	int			n = 0;

	*all = false;
	if (list == NULL || (list->n == 0 && !list->all))
		return 0;
	SpinLockAcquire(&list->mutex);
	n = list->n;
	memcpy(ids, list->ids, n * sizeof(int64));
	*all = list->all;
	list->n = 0;
	list->all = false;
	SpinLockRelease(&list->mutex);
	return n;
}
