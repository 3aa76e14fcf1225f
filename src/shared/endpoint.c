/*
 * endpoint.c
 *		The shared state of HTTP endpoints and http workers.
 *
 * Owns two fixed arrays.  An entry is found by a linear look over those in use, which are few and cached by those who
 * look often.  Places are bounded per database, taken by the http worker and the scheduler, which have read the
 * committed configuration, and given back when they read it without the endpoint, or when extension or database are
 * dropped.  An endpoint without a place is sent to all the same: the worker keeps its state itself, where nobody else
 * sees it and where it ends with the worker; doctor() says so.
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
	QueueEndpointState endpoints[QUEUE_MAX_ENDPOINTS];
	StopList	stops[QUEUE_MAX_DATABASES];
} EndpointShared;

static EndpointShared *shared = NULL;

/* The atomics of a state in memory that is new. */
static void
init_counts(QueueEndpointState *e)
{
	pg_atomic_init_u32(&e->healthy, 0);
	pg_atomic_init_u32(&e->reported, 0);
	pg_atomic_init_u32(&e->in_flight, 0);
	pg_atomic_init_u64(&e->succeeded, 0);
	pg_atomic_init_u64(&e->failed, 0);
	pg_atomic_init_u64(&e->total_us, 0);
	pg_atomic_init_u64(&e->answers, 0);
	pg_atomic_init_u64(&e->next_probe_at, 0);
}

void
queue_endpoint_state_init(QueueEndpointState *e, Oid db, uint64 key)
{
	init_counts(e);
	memset(&e->breaker, 0, sizeof(e->breaker));
	e->down_since = queue_now();
	e->probes_failed = 0;
	e->key = key;
	e->db = db;
}

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
		for (int i = 0; i < QUEUE_MAX_ENDPOINTS; i++)
			init_counts(&shared->endpoints[i]);
	}
	LWLockRegisterTranche(shared->tranche, "QueueEndpoint");
}

/* The state of an endpoint, made if asked.  Called by the http worker, the scheduler and the views. */
QueueEndpointState *
queue_endpoint_state_of(Oid db, uint64 key, bool create)
{
	QueueEndpointState *found = NULL;
	QueueEndpointState *free_place = NULL;
	int			used = 0;

	if (shared == NULL)
		return NULL;
	LWLockAcquire(&shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < shared->nendpoints && found == NULL; i++)
	{
		QueueEndpointState *e = &shared->endpoints[i];

		if (e->db == db)
		{
			used++;
			if (e->key == key)
				found = e;
		}
		else if (free_place == NULL && !OidIsValid(e->db))
			free_place = e;
	}
	if (free_place == NULL && shared->nendpoints < QUEUE_MAX_ENDPOINTS)
		free_place = &shared->endpoints[shared->nendpoints];
	if (found == NULL && create && free_place != NULL && used < QUEUE_MAX_ENDPOINTS_OF_DATABASE)
	{
		queue_endpoint_state_init(free_place, db, key);
		shared->nendpoints = Max(shared->nendpoints, (int) (free_place - shared->endpoints) + 1);
		found = free_place;
	}
	LWLockRelease(&shared->lock);
	return found;
}

int
queue_endpoint_places(Oid db)
{
	int			used = 0;
	int			others = 0;

	if (shared == NULL)
		return 0;
	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < shared->nendpoints; i++)
	{
		used += shared->endpoints[i].db == db;
		others += OidIsValid(shared->endpoints[i].db) && shared->endpoints[i].db != db;
	}
	LWLockRelease(&shared->lock);
	return Min(QUEUE_MAX_ENDPOINTS_OF_DATABASE, QUEUE_MAX_ENDPOINTS - others) - used;
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
	LWLockRelease(&shared->lock);
}

/* See endpoint.h.  Called by the http worker when it has read the configuration, by the scheduler without one. */
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
