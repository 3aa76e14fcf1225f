/*
 * counter.c
 *		Totals and gauges per queue and kind, run statistics per handler and kind.
 *
 * Owns three hash tables of fixed size in shared memory, keyed by database and name.  A database has at most
 * QUEUE_MAX_PLACES in each, so that none can take all.  A place, once found, is kept by its users as a pointer with its
 * incarnation: while that is equal, it is still theirs.  (A place that is given up between the look and the addition
 * gives another queue a count too many: these are estimates, and the scheduler recounts the gauges.)
 *
 * Places are given up when the scheduler finds that the configuration knows the queue, or queue.line the kind, no more,
 * and when the extension or the database is dropped.  A kind that runs now and then has no line meanwhile; its numbers
 * in its queue stay as long as half of the places are free.
 *
 * Locks: shared->lock (LWLock), shared to look up, exclusive to take places and to give them up.  Numbers are atomics.
 */
#include "shared/counter.h"

#include "shared/clock.h"
#include "shared/placed.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

typedef struct QueueCounterShared
{
	LWLock		lock;
	int			tranche;
	uint64		incarnations;
	pg_atomic_uint64 given_up;	/* places, plus 1 */
	TimestampTz began;
} QueueCounterShared;

static QueueCounterShared *shared = NULL;
static HTAB *queues = NULL;		/* in shared memory */
static HTAB *kinds = NULL;		/* in queues */
static HTAB *handled = NULL;	/* kinds of handlers */
static HTAB *refs = NULL;		/* this backend's */

/* This backend's references of one hash of names. */
typedef struct RefEntry
{
	uint64		hash;
	QueueCounterRef *first;
} RefEntry;

#define SHARED_PLACES 64
#define OTHERS_CACHED 8

const char *const queue_state_names[QUEUE_NSTATES] = {
	"none", "scheduled", "available", "pending", "running",
	"retryable", "completed", "cancelled", "discarded"
};

/* How much shared memory the tables need.  Called by the request hook. */
Size
queue_counter_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueCounterShared)) + hash_estimate_size(QUEUE_MAX_COUNTERS, sizeof(QueueCounter)) +
		hash_estimate_size(QUEUE_MAX_COUNTERS, sizeof(QueueKindCounter)) +
		hash_estimate_size(QUEUE_MAX_COUNTERS, sizeof(QueueKindStat));
}

/* Zeroes what counts from stats_reset on.  For the first time too. */
static void
totals_zero(QueueCounter *c)
{
	for (int i = 0; i < QUEUE_NSTATES; i++)
		pg_atomic_init_u64(&c->ended[i], 0);
	pg_atomic_init_u64(&c->enqueued, 0);
	pg_atomic_init_u64(&c->failed, 0);
	pg_atomic_init_u64(&c->reset_at, (uint64) queue_now());
	if (c->key.kind[0] != '\0')
	{
		queue_times_zero(&((QueueKindCounter *) c)->wait);
		queue_times_zero(&((QueueKindCounter *) c)->run);
	}
}

/* Zeroes the numbers of a queue or kind for the first time. */
static void
counter_zero(QueueCounter *c)
{
	for (int i = 0; i < QUEUE_NSTATES; i++)
		pg_atomic_init_u64(&c->gauge[i], 0);
	pg_atomic_init_u64(&c->due_scheduled, 0);
	pg_atomic_init_u64(&c->due_retryable, 0);
	for (int i = 0; i < QUEUE_SAMPLES; i++)
		pg_atomic_init_u64(&c->sample[i], 0);
	totals_zero(c);
}

/* Zeroes what stat_handler shows of a kind. */
static void
runs_zero(QueueKindStat *k)
{
	pg_atomic_init_u64(&k->completed, 0);
	pg_atomic_init_u64(&k->failed, 0);
	pg_atomic_init_u64(&k->discarded, 0);
	pg_atomic_init_u64(&k->timeouts, 0);
	pg_atomic_init_u64(&k->runs, 0);
	pg_atomic_init_u64(&k->total_us, 0);
	pg_atomic_init_u64(&k->max_us, 0);
	pg_atomic_init_u64(&k->last_error_at, 0);
	pg_atomic_init_u32(&k->last_sqlstate, 0);
}

/* And what the executors go by. */
static void
kind_zero(QueueKindStat *k)
{
	runs_zero(k);
	pg_atomic_init_u64(&k->mean_us, 0);
	pg_atomic_init_u64(&k->recent_runs, 0);
	pg_atomic_init_u64(&k->slow_until, 0);
}

/* Makes or finds the tables.  Called by the startup hook. */
void
queue_counter_shmem_init(void)
{
	bool		found;
	HASHCTL		ctl = {.keysize = sizeof(QueueCounterKey), .entrysize = sizeof(QueueCounter)};

	shared = ShmemInitStruct("queue counters", sizeof(QueueCounterShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(QueueCounterShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u64(&shared->given_up, 1);
		shared->began = queue_now();
	}
	queues = ShmemInitHash("queue counters of queues", QUEUE_MAX_COUNTERS, QUEUE_MAX_COUNTERS, &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	ctl.entrysize = sizeof(QueueKindCounter);
	kinds = ShmemInitHash("queue counters of kinds", QUEUE_MAX_COUNTERS, QUEUE_MAX_COUNTERS, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	ctl.keysize = sizeof(QueueKindKey);
	ctl.entrysize = sizeof(QueueKindStat);
	handled = ShmemInitHash("queue runs of kinds", QUEUE_MAX_COUNTERS, QUEUE_MAX_COUNTERS, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	LWLockRegisterTranche(shared->tranche, "QueueCounter");
}

/* The key under which a queue's or kind's name is known in shared memory; never 0. */
uint64
queue_name_hash(const char *name)
{
	uint64		h = hash_bytes_extended((const unsigned char *) name, strlen(name), 0x71756575);

	return h == 0 ? 1 : h;
}

/* The key of a queue or a kind in a database. */
static QueueCounterKey
key_of(Oid db, const QueueCounterRef *ref)
{
	QueueCounterKey key = {.db = db};

	strlcpy(key.name, ref->queue != NULL ? ref->queue->name : ref->name, sizeof(key.name));
	if (ref->queue != NULL)
		strlcpy(key.kind, ref->name, sizeof(key.kind));
	return key;
}

static QueueKindKey
kind_key_of(Oid db, int64 handler, const char *kind)
{
	QueueKindKey key;

	memset(&key, 0, sizeof(key));	/* what lies between the fields too */
	key.db = db;
	key.handler = handler;
	strlcpy(key.kind, kind, sizeof(key.kind));
	return key;
}

/* Finds or makes a reference. */
static QueueCounterRef *
find_ref(QueueCounterRef *queue, const char *name)
{
	uint64		hash = hash_combine64(queue_name_hash(name), (uint64) (uintptr_t) queue);
	RefEntry   *entry;
	QueueCounterRef *ref;
	Size		length = strlen(name) + 1;
	bool		found;

	if (refs == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(RefEntry), .hcxt = TopMemoryContext};

		refs = hash_create("queue counters", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(refs, &hash, HASH_FIND, NULL);
	for (ref = entry != NULL ? entry->first : NULL; ref != NULL; ref = ref->next)
	{
		if (ref->queue == queue && strcmp(ref->name, name) == 0)
			return ref;
	}
	ref = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueCounterRef) + length);
	ref->queue = queue;
	ref->key = queue_name_hash(name);
	ref->name = memcpy(ref + 1, name, length);
	entry = hash_search(refs, &hash, HASH_ENTER, &found);
	ref->next = found ? entry->first : NULL;
	entry->first = ref;
	return ref;
}

QueueCounterRef *
queue_counter_ref(const char *queue)
{
	return find_ref(NULL, queue);
}

QueueCounterRef *
queue_counter_kind_ref(QueueCounterRef *queue, const char *kind)
{
	return find_ref(queue, kind);
}

QueueCounterRef *
queue_counter_placeless(QueueCounterRef *queue, uint64 kind_key, uint64 *as_of)
{
	QueueDatabase *base = queue_database();

	if (shared == NULL || base == NULL || !queue_placed_never(&base->kind_places, queue->key, kind_key, as_of))
		return NULL;
	if (queue->placeless == NULL)
	{
		queue->placeless = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueCounterRef));
		queue->placeless->queue = queue;
	}
	return queue->placeless;
}

/* May this database take one more of these places?  Counted if so.  Lock: held exclusively. */
static bool
take_place(pg_atomic_uint32 *places, uint32 max)
{
	uint32		n = pg_atomic_read_u32(places);

	if (n >= max)
		return false;
	pg_atomic_write_u32(places, n + 1);
	return true;
}

/* An entry of queues or of kinds, made if asked; NULL: there is none, or no place.  Lock: taken. */
static QueueCounter *
find_counter(const QueueCounterKey *key, bool create)
{
	HTAB	   *table = key->kind[0] != '\0' ? kinds : queues;
	QueueDatabase *base = queue_database_of(key->db, false);
	pg_atomic_uint32 *places = base == NULL ? NULL : table == kinds ? &base->kind_places : &base->queue_places;
	QueueCounter *c;

	LWLockAcquire(&shared->lock, LW_SHARED);
	c = hash_search(table, key, HASH_FIND, NULL);
	LWLockRelease(&shared->lock);
	if (c != NULL || !create || base == NULL || pg_atomic_read_u32(places) >= QUEUE_MAX_PLACES)
		return c;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	c = hash_search(table, key, HASH_FIND, NULL);
	if (c == NULL && take_place(places, QUEUE_MAX_PLACES))
	{
		c = hash_search(table, key, HASH_ENTER_NULL, NULL);
		if (c == NULL)
			pg_atomic_fetch_sub_u32(places, 1);
		else
		{
			counter_zero(c);
			if (table == kinds)
				queue_placed_set(queue_name_hash(key->name), queue_name_hash(key->kind));
			c->incarnation = ++shared->incarnations;
		}
	}
	LWLockRelease(&shared->lock);
	return c;
}

/*
 * The same of a handler's kind; the ones that others share have a few places of their own.  Lock: held exclusively if
 * it may be made.
 */
static QueueKindStat *
find_kind(const QueueKindKey *key, bool create)
{
	QueueKindStat *k = hash_search(handled, key, HASH_FIND, NULL);
	QueueDatabase *base;

	if (k != NULL || !create || (base = queue_database_of(key->db, false)) == NULL ||
		!take_place(&base->handled_places,
					strcmp(key->kind, QUEUE_KIND_OTHERS) == 0 ? QUEUE_MAX_PLACES + SHARED_PLACES : QUEUE_MAX_PLACES))
		return k;
	k = hash_search(handled, key, HASH_ENTER_NULL, NULL);
	if (k == NULL)
		pg_atomic_fetch_sub_u32(&base->handled_places, 1);
	else
	{
		kind_zero(k);
		queue_placed_set((uint64) key->handler, queue_name_hash(key->kind));
		k->incarnation = ++shared->incarnations;
	}
	return k;
}

QueueCounter *
queue_counter(QueueCounterRef *ref, bool create)
{
	QueueCounterKey key;
	uint64		given_up;

	if (ref == NULL || shared == NULL)
		return NULL;
	if (likely(ref->entry != NULL && ref->entry->incarnation == ref->incarnation))
		return ref->entry;
	ref->entry = NULL;
	if (ref->name == NULL)
		return NULL;
	/* before the look: a place that is given up after it makes us look again */
	given_up = pg_atomic_read_u64(&shared->given_up);
	if (ref->missed == given_up)
		return NULL;
	key = key_of(MyDatabaseId, ref);
	ref->entry = find_counter(&key, create);
	if (ref->entry != NULL)
		ref->incarnation = ref->entry->incarnation;
	ref->missed = ref->entry == NULL && create ? given_up : 0;
	return ref->entry;
}

/* What kinds without a place share, of the handlers that were asked for last. */
static QueueKindRef others_cached[OTHERS_CACHED];

QueueKindStat *
queue_kind_others(int64 handler)
{
	QueueKindRef *last = &others_cached[handler % OTHERS_CACHED];
	QueueKindKey key;

	if (shared == NULL)
		return NULL;
	if (last->entry == NULL || last->entry->incarnation != last->incarnation || last->entry->key.handler != handler)
	{
		key = kind_key_of(MyDatabaseId, handler, QUEUE_KIND_OTHERS);
		LWLockAcquire(&shared->lock, LW_SHARED);
		last->entry = find_kind(&key, false);
		last->incarnation = last->entry != NULL ? last->entry->incarnation : 0;
		LWLockRelease(&shared->lock);
	}
	return last->entry;
}

QueueKindStat *
queue_kind_stat(QueueKindRef *ref, int64 handler, const char *kind, uint64 kind_key, bool create)
{
	QueueKindRef *last = &others_cached[handler % OTHERS_CACHED];
	QueueDatabase *base = queue_database();
	QueueKindKey key, others;
	QueueKindStat *k;
	uint64		given_up;

	if (shared == NULL)
		return NULL;
	/* before the look: a place that is given up after it makes us look again */
	given_up = pg_atomic_read_u64(&shared->given_up);
	if (ref->entry != NULL && ref->entry->incarnation == ref->incarnation &&
		(ref->missed == 0 || ref->missed == given_up))
		return ref->entry;
	if (last->entry != NULL && last->entry->incarnation == last->incarnation && last->entry->key.handler == handler &&
		base != NULL && queue_placed_never(&base->handled_places, (uint64) handler, kind_key, NULL))
	{
		*ref = (QueueKindRef) {last->entry, last->incarnation, given_up, ref->slow};
		return ref->entry;
	}
	key = kind_key_of(MyDatabaseId, handler, kind);
	others = kind_key_of(MyDatabaseId, handler, QUEUE_KIND_OTHERS);
	LWLockAcquire(&shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	k = find_kind(&key, create);
	ref->missed = k == NULL ? given_up : 0;
	if (k == NULL && create)
		k = find_kind(&others, true);
	ref->entry = k;
	ref->incarnation = k != NULL ? k->incarnation : 0;
	if (k != NULL && ref->missed != 0)
		*last = *ref;
	LWLockRelease(&shared->lock);
	return k;
}

/* See counter.h.  Called by the view of handlers. */
QueueKindSums
queue_kind_sums(int64 handler)
{
	QueueKindSums sums = {0};
	HASH_SEQ_STATUS seq;
	QueueKindStat *k;

	if (shared == NULL)
		return sums;
	LWLockAcquire(&shared->lock, LW_SHARED);
	hash_seq_init(&seq, handled);
	while ((k = hash_seq_search(&seq)) != NULL)
	{
		if (k->key.db != MyDatabaseId || k->key.handler != handler)
			continue;
		sums.completed += (int64) pg_atomic_read_u64(&k->completed);
		sums.failed += (int64) pg_atomic_read_u64(&k->failed);
		sums.discarded += (int64) pg_atomic_read_u64(&k->discarded);
		sums.timeouts += (int64) pg_atomic_read_u64(&k->timeouts);
		sums.runs += (int64) pg_atomic_read_u64(&k->runs);
		sums.total_us += (int64) pg_atomic_read_u64(&k->total_us);
		sums.max_us = Max(sums.max_us, (int64) pg_atomic_read_u64(&k->max_us));
		if ((TimestampTz) pg_atomic_read_u64(&k->last_error_at) > sums.last_error_at)
		{
			sums.last_error_at = (TimestampTz) pg_atomic_read_u64(&k->last_error_at);
			sums.last_sqlstate = (int) pg_atomic_read_u32(&k->last_sqlstate);
		}
	}
	LWLockRelease(&shared->lock);
	return sums;
}

QueuePlaces
queue_counter_places(void)
{
	QueueDatabase *base = queue_database();

	if (base == NULL)
		return (QueuePlaces) {0};
	return (QueuePlaces) {(int) pg_atomic_read_u32(&base->queue_places), (int) pg_atomic_read_u32(&base->kind_places),
		(int) pg_atomic_read_u32(&base->handled_places)};
}

/* Called by the scheduler's recount. */
QueueKindCounter **
queue_counter_kinds(int *n)
{
	QueueKindCounter **found = palloc(QUEUE_MAX_PLACES * sizeof(QueueKindCounter *));
	HASH_SEQ_STATUS seq;
	QueueKindCounter *k;

	*n = 0;
	if (shared == NULL)
		return found;
	LWLockAcquire(&shared->lock, LW_SHARED);
	hash_seq_init(&seq, kinds);
	while ((k = hash_seq_search(&seq)) != NULL)
	{
		if (k->counter.key.db == MyDatabaseId && *n < QUEUE_MAX_PLACES)
			found[(*n)++] = k;
	}
	LWLockRelease(&shared->lock);
	return found;
}

/* Called by the views. */
QueueKindCounter *
queue_counter_copies(int *n)
{
	QueueKindCounter **found = queue_counter_kinds(n);
	QueueKindCounter *copies = palloc_extended(Max(*n, 1) * sizeof(QueueKindCounter), MCXT_ALLOC_HUGE);
	int			kept = 0;

	if (*n == 0)
		return copies;			/* also without preload, where there is no lock */
	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < *n; i++)
		/* one may have been given up, and taken by another database, between the two locks */
		if (found[i]->counter.incarnation != 0 && found[i]->counter.key.db == MyDatabaseId)
			copies[kept++] = *found[i];
	LWLockRelease(&shared->lock);
	pfree(found);
	*n = kept;
	return copies;
}

QueueCounter *
queue_counter_shown(QueueCounterRef *ref)
{
	static QueueKindCounter zeros = {.counter.key.kind = "-"};
	QueueCounter *c = queue_counter(ref, false);
	QueuePlaces places = queue_counter_places();

	if (c != NULL || shared == NULL || (ref->queue == NULL ? places.queues : places.kinds) >= QUEUE_MAX_PLACES)
		return c;
	counter_zero(&zeros.counter);
	pg_atomic_write_u64(&zeros.counter.reset_at, (uint64) shared->began);
	return &zeros.counter;
}

/* Moves what a kind's runs summed up to into the numbers that the handler's others share.  Lock: held exclusively. */
static void
fold(QueueKindStat *from)
{
	QueueKindKey key = kind_key_of(from->key.db, from->key.handler, QUEUE_KIND_OTHERS);
	QueueKindStat *to = find_kind(&key, true);

	if (to == NULL)
		return;
	pg_atomic_fetch_add_u64(&to->completed, pg_atomic_read_u64(&from->completed));
	pg_atomic_fetch_add_u64(&to->failed, pg_atomic_read_u64(&from->failed));
	pg_atomic_fetch_add_u64(&to->discarded, pg_atomic_read_u64(&from->discarded));
	pg_atomic_fetch_add_u64(&to->timeouts, pg_atomic_read_u64(&from->timeouts));
	pg_atomic_fetch_add_u64(&to->runs, pg_atomic_read_u64(&from->runs));
	pg_atomic_fetch_add_u64(&to->total_us, pg_atomic_read_u64(&from->total_us));
	pg_atomic_write_u64(&to->max_us, Max(pg_atomic_read_u64(&to->max_us), pg_atomic_read_u64(&from->max_us)));
	if (pg_atomic_read_u64(&from->last_error_at) > pg_atomic_read_u64(&to->last_error_at))
	{
		pg_atomic_write_u64(&to->last_error_at, pg_atomic_read_u64(&from->last_error_at));
		pg_atomic_write_u32(&to->last_sqlstate, pg_atomic_read_u32(&from->last_sqlstate));
	}
}

/* Gives the place of a queue, or of a kind in one, up.  Lock: held exclusively. */
static void
give_up_counter(QueueCounter *c)
{
	QueueDatabase *base = queue_database_of(c->key.db, false);
	bool		kind = c->key.kind[0] != '\0';

	c->incarnation = 0;
	if (base != NULL)
		pg_atomic_fetch_sub_u32(kind ? &base->kind_places : &base->queue_places, 1);
	(void) hash_search(kind ? kinds : queues, &c->key, HASH_REMOVE, NULL);
	pg_atomic_fetch_add_u64(&shared->given_up, 1);
}

/* Gives the place of a handler's kind up.  Lock: held exclusively. */
static void
give_up_kind(QueueKindStat *k)
{
	QueueDatabase *base = queue_database_of(k->key.db, false);

	k->incarnation = 0;
	if (base != NULL)
		pg_atomic_fetch_sub_u32(&base->handled_places, 1);
	(void) hash_search(handled, &k->key, HASH_REMOVE, NULL);
	pg_atomic_fetch_add_u64(&shared->given_up, 1);
}

/* See counter.h.  Called by the scheduler when the configuration changed. */
void
queue_kind_stat_keep(const int64 *handlers, int n)
{
	HASH_SEQ_STATUS seq;
	QueueKindStat *k;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&seq, handled);
	while ((k = hash_seq_search(&seq)) != NULL)
	{
		bool		keep = k->key.db != MyDatabaseId;

		for (int i = 0; i < n && !keep; i++)
			keep = k->key.handler == handlers[i];
		if (!keep)
			give_up_kind(k);
	}
	LWLockRelease(&shared->lock);
}

/* See counter.h.  Called by the scheduler now and then. */
void
queue_counter_sweep(bool (*queue_known) (const char *queue), bool (*kind_known) (const char *kind))
{
	bool		roomy = queue_counter_places().kinds <= QUEUE_MAX_PLACES / 2;
	HASH_SEQ_STATUS seq;
	QueueCounter *c;
	QueueKindStat *k;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&seq, queues);
	while ((c = hash_seq_search(&seq)) != NULL)
	{
		if (c->key.db == MyDatabaseId && !queue_known(c->key.name))
			give_up_counter(c);
	}
	hash_seq_init(&seq, kinds);
	while ((c = hash_seq_search(&seq)) != NULL)
	{
		if (c->key.db == MyDatabaseId && (!queue_known(c->key.name) || (!roomy && !kind_known(c->key.kind))))
			give_up_counter(c);
	}
	hash_seq_init(&seq, handled);
	while ((k = hash_seq_search(&seq)) != NULL)
	{
		if (k->key.db == MyDatabaseId && strcmp(k->key.kind, QUEUE_KIND_OTHERS) != 0 && !kind_known(k->key.kind))
		{
			fold(k);
			give_up_kind(k);
		}
	}
	LWLockRelease(&shared->lock);
}

/* Called when a database's extension or the database itself is dropped. */
void
queue_counter_reset(Oid db)
{
	HASH_SEQ_STATUS seq;
	QueueCounter *c;
	QueueKindStat *k;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < 2; i++)
	{
		hash_seq_init(&seq, i == 0 ? queues : kinds);
		while ((c = hash_seq_search(&seq)) != NULL)
		{
			if (c->key.db == db)
				give_up_counter(c);
		}
	}
	hash_seq_init(&seq, handled);
	while ((k = hash_seq_search(&seq)) != NULL)
	{
		if (k->key.db == db)
			give_up_kind(k);
	}
	LWLockRelease(&shared->lock);
}

/* See counter.h.  What is counted at this very moment may be lost or survive.  Called by stat_reset(). */
void
queue_counter_restart(const char *queue)
{
	HASH_SEQ_STATUS seq;
	QueueCounter *c;
	QueueKindStat *k;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < 2; i++)
	{
		hash_seq_init(&seq, i == 0 ? queues : kinds);
		while ((c = hash_seq_search(&seq)) != NULL)
		{
			if (c->key.db == MyDatabaseId && (queue == NULL || strcmp(c->key.name, queue) == 0))
				totals_zero(c);
		}
	}
	if (queue == NULL)
	{
		hash_seq_init(&seq, handled);
		while ((k = hash_seq_search(&seq)) != NULL)
		{
			if (k->key.db == MyDatabaseId)
				runs_zero(k);
		}
	}
	LWLockRelease(&shared->lock);
}

/* Takes n off a count of due rows, but never below 0: it is set by recounts alone or nearly so.  Commit-safe. */
static void
due_sub(pg_atomic_uint64 *due, int64 n)
{
	uint64		old = pg_atomic_read_u64(due);

	while (!pg_atomic_compare_exchange_u64(due, &old, old > (uint64) n ? old - (uint64) n : 0))
		;
}

/* Is this how a job ends? */
static inline bool
is_final(QueueState state)
{
	return state >= QUEUE_STATE_COMPLETED;
}

/* Moves n rows of one queue or kind, `due` more of which are due; c NULL: it is not counted. */
static void
move(QueueCounter *c, QueueState from, QueueState to, int64 n, int64 due)
{
	pg_atomic_uint64 *dues;

	if (c == NULL)
		return;
	dues = to == QUEUE_STATE_SCHEDULED ? &c->due_scheduled : &c->due_retryable;
	if (due < 0)
		due_sub(dues, -due);
	else if (due > 0)
		pg_atomic_fetch_add_u64(dues, due);
	if (from == to)
		return;
	if (from != QUEUE_STATE_NONE && !is_final(from))
	{
		/* may go below 0: whoever took the job on may tell of it before who enqueued it does */
		pg_atomic_fetch_sub_u64(&c->gauge[from], n);
		if (from == QUEUE_STATE_SCHEDULED && pg_atomic_read_u64(&c->due_scheduled) > 0)
			due_sub(&c->due_scheduled, n);
		else if (from == QUEUE_STATE_RETRYABLE && pg_atomic_read_u64(&c->due_retryable) > 0)
			due_sub(&c->due_retryable, n);
	}
	if (is_final(to))
		pg_atomic_fetch_add_u64(&c->ended[to], n);
	else if (to != QUEUE_STATE_NONE)
		pg_atomic_fetch_add_u64(&c->gauge[to], n);
	if (from == QUEUE_STATE_NONE && to != QUEUE_STATE_NONE && !is_final(to))
		pg_atomic_fetch_add_u64(&c->enqueued, n);
}

/*
 * A claimed or ended row that was filed as waiting was (nearly always) due and leaves that count too; a recount sets it
 * right.  Commit-safe.  Called by note.c.
 */
void
queue_counter_move(QueueCounterRef *ref, QueueState from, QueueState to, int64 n, int64 due)
{
	if (ref != NULL && n > 0 && (from != to || due != 0))
		move(queue_counter(ref, true), from, to, n, due);
}

int64
queue_counter_due(QueueCounter *c)
{
	int64		due = (int64) (pg_atomic_read_u64(&c->gauge[QUEUE_STATE_AVAILABLE]) +
							   pg_atomic_read_u64(&c->due_scheduled) + pg_atomic_read_u64(&c->due_retryable));

	return due > 0 ? due : 0;
}

/* See counter.h.  Called by note.c. */
void
queue_counter_sample(QueueCounterRef *ref, TimestampTz now)
{
	QueueCounter *c = queue_counter(ref, true);
	uint64		minute = (uint64) now / USECS_PER_MINUTE;
	pg_atomic_uint64 *sample;
	uint64		old;
	int64		due;

	if (c == NULL)
		return;
	sample = &c->sample[minute % QUEUE_SAMPLES];
	old = pg_atomic_read_u64(sample);
	if (old >> 32 == minute)
		return;
	due = queue_counter_due(c);
	if (due > PG_UINT32_MAX)
		due = PG_UINT32_MAX;
	/* who comes second has the same to tell */
	(void) pg_atomic_compare_exchange_u64(sample, &old, minute << 32 | (uint64) due);
}

int
queue_counter_due_before(QueueCounter *c, TimestampTz now, int64 *due)
{
	uint64		minute = (uint64) now / USECS_PER_MINUTE;
	int			ago = 0;

	for (int i = 0; i < QUEUE_SAMPLES; i++)
	{
		uint64		sample = pg_atomic_read_u64(&c->sample[i]);
		int			age = (int) (minute - (sample >> 32));

		if (sample == 0 || age <= ago || age >= QUEUE_SAMPLES)
			continue;
		ago = age;
		*due = (int64) (sample & PG_UINT32_MAX);
	}
	return ago;
}

/* n attempts failed.  Commit-safe. */
void
queue_counter_failed(QueueCounterRef *kind, int64 n)
{
	QueueCounter *c = queue_counter(kind, true);

	if (c != NULL && n > 0)
		pg_atomic_fetch_add_u64(&c->failed, n);
	c = queue_counter(kind != NULL ? kind->queue : NULL, true);
	if (c != NULL && n > 0)
		pg_atomic_fetch_add_u64(&c->failed, n);
}

/* Commit-safe.  Called by ended.c after commit. */
void
queue_counter_times(QueueCounterRef *kind, int64 wait_us, int64 run_us)
{
	QueueKindCounter *k = (QueueKindCounter *) queue_counter(kind, true);

	if (k == NULL)
		return;
	if (wait_us >= 0)
		queue_times_add(&k->wait, wait_us);
	if (run_us >= 0)
		queue_times_add(&k->run, run_us);
}
