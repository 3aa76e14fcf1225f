/*
 * lease.c
 *		The shared table of lease ends.
 *
 * Owns QUEUE_MAX_LEASES places in 16 partitions, each a small chained hash table of its
 * own, so that claims of different jobs rarely meet.  It is a hint: the truth is
 * live_job.leased_until.  A single job is found by its id, a range by its line and its end:
 * that is all that the end of one of its members knows of it.
 *
 * A partition that is full keeps the earlier ends: the latest of a few entries gives way, and
 * what is lost is told to its line's cursor as a range with the earliest end; the scheduler walks
 * that range when the time has come.  base->next_expiry is a lower bound of all ends of a
 * database, lost ones too; it is raised only by the scheduler's own look, which first sets it to
 * "none" and then lowers it to what it saw, while everyone who notes a lease lowers it AFTER the
 * lease is in the table: so no end is ever forgotten.
 *
 * Locks: one LWLock per partition, held for one look.
 */
#include "shared/lease.h"

#include "shared/fetch_waiter.h"

#include "common/hashfn.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define PARTITIONS 16
#define PLACES (QUEUE_MAX_LEASES / PARTITIONS)
#define GIVE_WAY 8				/* entries looked at for one that ends later */

typedef struct QueueLeaseEntry
{
	QueueLease	lease;
	Oid			db;				/* InvalidOid: free */
	uint32		hash;
	int			next;			/* in the chain or the free list; -1: last */
} QueueLeaseEntry;

typedef struct QueueLeasePartition
{
	LWLock		lock;
	int			count;
	int			ranges;			/* of count */
	int			hand;			/* where the next look for what gives way begins */
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
			p->count = p->ranges = p->hand = 0;
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

/* The hash of a job, or with id 0 of a range. */
static inline uint32
lease_hash(Oid db, const QueueLease *lease)
{
	uint64		key = lease->id != 0 ? (uint64) lease->id : (uint64) lease->line ^ ((uint64) lease->until << 1);

	return murmurhash32((uint32) key ^ murmurhash32((uint32) (key >> 32) + db));
}

static inline QueueLeasePartition *
partition_of(uint32 hash)
{
	return &shared->partitions[hash % PARTITIONS];
}

static inline int *
chain_of(QueueLeasePartition *p, uint32 hash)
{
	return &p->heads[(hash / PARTITIONS) % PLACES];
}

/*
 * The link that points to the entry of this job or range; *link is -1 if there is none.  Caller holds the partition's
 * lock.
 */
static int *
find_link(QueueLeasePartition *p, uint32 hash, Oid db, const QueueLease *lease)
{
	int		   *link = chain_of(p, hash);

	Assert(LWLockHeldByMe(&p->lock));
	for (; *link >= 0; link = &p->entries[*link].next)
	{
		QueueLeaseEntry *e = &p->entries[*link];

		if (e->hash == hash && e->db == db && e->lease.id == lease->id &&
			(lease->id != 0 || (e->lease.line == lease->line && e->lease.until == lease->until)))
			break;
	}
	return link;
}

/* Takes an entry out of its chain; link is what points to it.  Caller holds the partition's lock exclusively. */
static void
unlink_entry(QueueLeasePartition *p, int *link)
{
	int			j = *link;

	Assert(LWLockHeldByMeInMode(&p->lock, LW_EXCLUSIVE));
	*link = p->entries[j].next;
	if (p->entries[j].lease.id == 0)
		p->ranges--;
	p->entries[j].db = InvalidOid;
	p->entries[j].next = p->free;
	p->free = j;
	p->count--;
}

/*
 * Makes room in a full partition for a lease that ends at `until`: the latest of a few entries goes, if it ends later.
 * *lost is what went.  Caller holds the partition's lock exclusively.
 */
static bool
make_room(QueueLeasePartition *p, TimestampTz until, Oid *lost_db, QueueLease *lost)
{
	int			latest = p->hand;
	int		   *link;

	for (int i = 1; i < GIVE_WAY; i++)
	{
		int			j = (p->hand + i) % PLACES;

		if (p->entries[j].lease.until > p->entries[latest].lease.until)
			latest = j;
	}
	p->hand = (p->hand + GIVE_WAY) % PLACES;
	if (p->entries[latest].lease.until <= until)
		return false;
	*lost_db = p->entries[latest].db;
	*lost = p->entries[latest].lease;
	link = chain_of(p, p->entries[latest].hash);
	while (*link != latest)
		link = &p->entries[*link].next;
	unlink_entry(p, link);
	return true;
}

/* A range loses n members; it is forgotten when none is left.  Commit-safe. */
static void
range_lose(Oid db, int64 line, TimestampTz until, int n)
{
	QueueLease	range = {.line = line, .until = until};
	uint32		hash = lease_hash(db, &range);
	QueueLeasePartition *p = partition_of(hash);
	int		   *link;

	if (p->ranges == 0)
		return;
	LWLockAcquire(&p->lock, LW_EXCLUSIVE);
	link = find_link(p, hash, db, &range);
	if (*link >= 0 && (p->entries[*link].lease.count -= n) <= 0)
		unlink_entry(p, link);
	LWLockRelease(&p->lock);
}

/* Tells the line's cursor of an end that has no place here.  Commit-safe. */
static void
tell_cursor(Oid db, const QueueLease *lease)
{
	QueueDatabase *base = queue_database_of(db, false);

	if (!queue_cursor_note_expiry(db, lease->line, lease->pos, lease->high, lease->until))
		queue_database_unplaced(base, lease->until);
	else if (base != NULL)
		queue_database_lower(&base->next_expiry, lease->until);
}

/* Two ranges of one line and one end are one. */
static void
join_range(QueueLease *range, const QueueLease *more)
{
	if (queue_pos_cmp(more->pos, range->pos) < 0)
		range->pos = more->pos;
	if (queue_pos_cmp(more->high, range->high) > 0)
		range->high = more->high;
	range->count += more->count;
}

void
queue_lease_claimed(Oid db, const QueueLease *lease, TimestampTz was)
{
	QueueLease	new = *lease;
	QueueLease	lost;
	Oid			lost_db = InvalidOid;
	QueueLeasePartition *p;
	QueueDatabase *base;
	uint32		hash;
	bool		known;
	bool		placed = true;
	int			j;

	if (shared == NULL)
		return;
	if (new.id != 0)
	{
		new.high = new.pos;
		new.count = 1;
	}
	hash = lease_hash(db, &new);
	p = partition_of(hash);
	LWLockAcquire(&p->lock, LW_EXCLUSIVE);
	j = *find_link(p, hash, db, &new);
	known = j >= 0;
	if (known && new.id == 0)
		join_range(&p->entries[j].lease, &new);
	else if (known)
		p->entries[j].lease = new;
	else if (p->free >= 0 || make_room(p, new.until, &lost_db, &lost))
	{
		int		   *chain = chain_of(p, hash);
		QueueLeaseEntry *e;

		j = p->free;
		e = &p->entries[j];
		p->free = e->next;
		*e = (QueueLeaseEntry) {new, db, hash, *chain};
		*chain = j;
		p->count++;
		p->ranges += new.id == 0;
	}
	else
		placed = false;
	LWLockRelease(&p->lock);

	if (OidIsValid(lost_db))
		tell_cursor(lost_db, &lost);
	if (!placed)
		tell_cursor(db, &new);
	/* what a range knew of, moved out of it */
	if (was != 0 && (new.id == 0 || !known))
		range_lose(db, new.line, was, new.count);

	base = queue_database_of(db, true);
	if (base != NULL && (TimestampTz) pg_atomic_read_u64(&base->next_expiry) > new.until)
	{
		queue_database_lower(&base->next_expiry, new.until);
		queue_database_wake(base, new.until);
	}
}

void
queue_lease_note(Oid db, int64 id, int64 line, QueuePos pos, TimestampTz until)
{
	QueueLease	range = {.line = line, .until = until};
	QueueLeasePartition *p;
	uint32		hash;
	bool		covered = false;

	if (shared == NULL)
		return;
	hash = lease_hash(db, &range);
	p = partition_of(hash);
	if (p->ranges > 0)
	{
		int			j;

		LWLockAcquire(&p->lock, LW_SHARED);
		j = *find_link(p, hash, db, &range);
		covered = j >= 0 && queue_pos_cmp(p->entries[j].lease.pos, pos) <= 0 &&
			queue_pos_cmp(pos, p->entries[j].lease.high) <= 0;
		LWLockRelease(&p->lock);
	}
	if (!covered)
		queue_lease_claimed(db, &(QueueLease) {.id = id, .line = line, .pos = pos, .until = until}, 0);
}

void
queue_lease_forget(Oid db, int64 id, int64 line, TimestampTz was, int count)
{
	QueueLease	single = {.id = id};
	QueueLeasePartition *p;
	uint32		hash;
	bool		found = false;

	if (shared == NULL)
		return;
	hash = lease_hash(db, &single);
	p = partition_of(hash);
	if (id != 0 && p->count > 0)
	{
		int		   *link;

		LWLockAcquire(&p->lock, LW_EXCLUSIVE);
		link = find_link(p, hash, db, &single);
		found = *link >= 0;
		if (found)
			unlink_entry(p, link);
		LWLockRelease(&p->lock);
	}
	if (!found && was != 0)
		range_lose(db, line, was, count);
}

/*
 * Takes leases that ended by now out of the table and sets next_expiry to the earliest that is left.  Called by the
 * scheduler, which then asks the cursors for theirs (queue_cursor_take_expired) and lowers next_expiry to what is left.
 */
int
queue_lease_expired(Oid db, TimestampTz now, QueueLease *out, int max)
{
	QueueDatabase *base = queue_database_of(db, true);
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
			int		   *link = &p->heads[b];

			while (*link >= 0)
			{
				QueueLeaseEntry *e = &p->entries[*link];

				if (e->db == db && e->lease.until <= now && n < max)
				{
					out[n++] = e->lease;
					unlink_entry(p, link);
					continue;
				}
				if (e->db == db)
					earliest = Min(earliest, e->lease.until);
				link = &e->next;
			}
		}
		LWLockRelease(&p->lock);
	}
	queue_database_lower(&base->next_expiry, earliest);
	return n;
}

void
queue_lease_tell_expired(Oid db, TimestampTz now)
{
	QueueDatabase *base = queue_database_of(db, false);
	QueueLease	leases[64];
	int64		line;
	QueuePos	low;
	QueuePos	high;
	TimestampTz next = DT_NOEND;
	bool		any = false;
	int			n;

	do
	{
		n = queue_lease_expired(db, now, leases, lengthof(leases));
		for (int i = 0; i < n; i++)
			(void) queue_cursor_append(db, leases[i].line, NULL, leases[i].pos, leases[i].id != 0 ? 1 : 2);
		any |= n > 0;
	} while (n == lengthof(leases));
	while (queue_cursor_take_expired(db, now, &line, &low, &high, &next))
	{
		(void) queue_cursor_append(db, line, NULL, low, 2);
		any = true;
	}
	if (any)
		queue_fetch_waiter_wake_all(db);	/* the caller takes its own, and nobody looks for the others */
	if (next != DT_NOEND && base != NULL)
		queue_database_lower(&base->next_expiry, next);
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
			int		   *link = &p->heads[b];

			while (*link >= 0)
			{
				if (p->entries[*link].db == db)
					unlink_entry(p, link);
				else
					link = &p->entries[*link].next;
			}
		}
		LWLockRelease(&p->lock);
	}
}
