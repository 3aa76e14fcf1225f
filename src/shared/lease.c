/*
 * lease.c
 *		The shared table of lease ends.
 *
 * Owns QUEUE_MAX_LEASES places in 16 partitions, each a small chained hash table of its
 * own, so that claims of different jobs rarely meet.  It is a hint: the truth is
 * live_job.leased_until.  A lease that finds its partition full is told to its line's
 * cursor, and the scheduler walks that line when the time has come.  base->next_expiry is a
 * lower bound of all ends of a database; it is raised only by the scheduler's own look, which
 * first sets it to "none" and then lowers it to what it saw, while everyone who notes a lease lowers it
 * AFTER the lease is in the table: so no end is ever forgotten.
 *
 * Locks: one LWLock per partition, held for one look.
 */
#include "shared/lease.h"

#include "common/hashfn.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define PARTITIONS 16
#define PLACES (QUEUE_MAX_LEASES / PARTITIONS)

typedef struct QueueLeaseEntry
{
	QueueLease	lease;
	Oid			db;				/* InvalidOid: free */
	int			next;			/* in the chain or the free list; -1: last */
} QueueLeaseEntry;

typedef struct QueueLeasePartition
{
	LWLock		lock;
	int			count;
	int			free;			/* head of the free list */
	int			heads[PLACES];
	QueueLeaseEntry entries[PLACES];
} QueueLeasePartition;

typedef struct QueueLeaseShared
{
	int			tranche;
	QueueLeasePartition partitions[PARTITIONS];
} QueueLeaseShared;

static QueueLeaseShared *shared = NULL;

/* How much shared memory the table needs.  Called by the request hook. */
Size
queue_lease_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueLeaseShared));
}

/* Makes or finds the table.  Called by the startup hook. */
void
queue_lease_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue leases", queue_lease_shmem_size(), &found);
	if (!found)
	{
		shared->tranche = LWLockNewTrancheId();
		for (int i = 0; i < PARTITIONS; i++)
		{
			QueueLeasePartition *p = &shared->partitions[i];

			LWLockInitialize(&p->lock, shared->tranche);
			p->count = 0;
			p->free = 0;
			for (int j = 0; j < PLACES; j++)
			{
				p->heads[j] = -1;
				p->entries[j].db = InvalidOid;
				p->entries[j].next = j + 1 < PLACES ? j + 1 : -1;
			}
		}
	}
	LWLockRegisterTranche(shared->tranche, "QueueLease");
}

/* The hash of a job. */
static inline uint32
lease_hash(Oid db, int64 id)
{
	return murmurhash32((uint32) id ^ murmurhash32((uint32) (id >> 32) + db));
}

/* Lowers an atomic time to `when` if it is later.  Commit-safe. */
static void
lower(pg_atomic_uint64 *time, TimestampTz when)
{
	uint64		old = pg_atomic_read_u64(time);

	while ((TimestampTz) old > when && !pg_atomic_compare_exchange_u64(time, &old, (uint64) when))
		;
}

/* Takes entry j out of its chain; prev is the link that points to it.  Lock: the partition's, exclusive. */
static void
unlink_entry(QueueLeasePartition *p, int *prev, int j)
{
	*prev = p->entries[j].next;
	p->entries[j].db = InvalidOid;
	p->entries[j].next = p->free;
	p->free = j;
	p->count--;
}

/* Notes or moves a lease's end.  Commit-safe.  Called by note.c and by scans that pass a leased entry. */
void
queue_lease_note(Oid db, int64 id, int64 line, QueuePos pos, TimestampTz until)
{
	uint32		h = lease_hash(db, id);
	QueueLeasePartition *p;
	QueueLeaseEntry *e = NULL;
	QueueBase  *base;
	int		   *head;

	if (shared == NULL)
		return;
	p = &shared->partitions[h % PARTITIONS];
	LWLockAcquire(&p->lock, LW_EXCLUSIVE);
	head = &p->heads[(h / PARTITIONS) % PLACES];
	for (int j = *head; j >= 0; j = p->entries[j].next)
	{
		if (p->entries[j].lease.id == id && p->entries[j].db == db)
		{
			e = &p->entries[j];
			break;
		}
	}
	if (e == NULL && p->free >= 0)
	{
		int			j = p->free;

		e = &p->entries[j];
		p->free = e->next;
		e->next = *head;
		*head = j;
		e->db = db;
		e->lease.id = id;
		p->count++;
	}
	if (e != NULL)
	{
		e->lease.line = line;
		e->lease.pos = pos;
		e->lease.until = until;
	}
	LWLockRelease(&p->lock);
	if (e == NULL)
		queue_cursor_note_expiry(db, line, until);

	base = queue_base_of(db, true);
	if (base != NULL && (TimestampTz) pg_atomic_read_u64(&base->next_expiry) > until)
	{
		lower(&base->next_expiry, until);
		queue_base_wake(base, until);
	}
}

/* The claim ended.  Commit-safe.  Called by note.c. */
void
queue_lease_forget(Oid db, int64 id)
{
	uint32		h = lease_hash(db, id);
	QueueLeasePartition *p;

	if (shared == NULL)
		return;
	p = &shared->partitions[h % PARTITIONS];
	if (p->count == 0)
		return;
	LWLockAcquire(&p->lock, LW_EXCLUSIVE);
	for (int *prev = &p->heads[(h / PARTITIONS) % PLACES]; *prev >= 0; prev = &p->entries[*prev].next)
	{
		QueueLeaseEntry *e = &p->entries[*prev];

		if (e->lease.id == id && e->db == db)
		{
			unlink_entry(p, prev, *prev);
			break;
		}
	}
	LWLockRelease(&p->lock);
}

/*
 * Takes leases that ended by now out of the table and sets next_expiry to the earliest that is left.  Called by the
 * scheduler.
 */
int
queue_lease_expired(Oid db, TimestampTz now, QueueLease *out, int max)
{
	QueueBase  *base = queue_base_of(db, true);
	TimestampTz earliest = PG_INT64_MAX;
	int			n = 0;

	if (shared == NULL || base == NULL)
		return 0;
	pg_atomic_exchange_u64(&base->next_expiry, (uint64) PG_INT64_MAX);
	for (int i = 0; i < PARTITIONS; i++)
	{
		QueueLeasePartition *p = &shared->partitions[i];

		LWLockAcquire(&p->lock, LW_EXCLUSIVE);
		for (int b = 0; b < PLACES && p->count > 0; b++)
		{
			int		   *prev = &p->heads[b];

			while (*prev >= 0)
			{
				QueueLeaseEntry *e = &p->entries[*prev];

				if (e->db == db && e->lease.until <= now && n < max)
				{
					out[n++] = e->lease;
					unlink_entry(p, prev, *prev);
					continue;
				}
				if (e->db == db)
					earliest = Min(earliest, e->lease.until);
				prev = &e->next;
			}
		}
		LWLockRelease(&p->lock);
	}
	lower(&base->next_expiry, earliest);
	return n;
}

/* Forgets all leases of a database.  Called when its extension or the database itself is dropped. */
void
queue_lease_reset(Oid db)
{
	if (shared == NULL)
		return;
	for (int i = 0; i < PARTITIONS; i++)
	{
		QueueLeasePartition *p = &shared->partitions[i];

		LWLockAcquire(&p->lock, LW_EXCLUSIVE);
		for (int b = 0; b < PLACES; b++)
		{
			int		   *prev = &p->heads[b];

			while (*prev >= 0)
			{
				if (p->entries[*prev].db == db)
					unlink_entry(p, prev, *prev);
				else
					prev = &p->entries[*prev].next;
			}
		}
		LWLockRelease(&p->lock);
	}
}
