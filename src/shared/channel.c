/*
 * channel.c
 *		The bounded channels between schedulers and executors.
 *
 * Owns QUEUE_MAX_CHANNELS rings in shared memory, one per (database, role) in use.  A
 * ring per role, because executors are connected as their role: one role's backlog never
 * fills another's ring.  When all are taken, a further role waits (its scheduler tries again
 * when one is released).
 *
 * Locks: shared->lock (LWLock) to take and release a channel; each ring's spinlock for a
 * copy of one entry in or out.  db and role are read without a lock: only the database's own
 * scheduler takes and releases its channels.
 */
#include "shared/channel.h"

#include "lib/text.h"

#include "storage/shmem.h"

typedef struct QueueChannelShared
{
	LWLock		lock;
	int			tranche;
	pg_atomic_uint32 used;		/* channels ever taken: where a search may stop */
	QueueChannel channels[QUEUE_MAX_CHANNELS];
} QueueChannelShared;

static QueueChannelShared *shared = NULL;

/* How much shared memory the channels need.  Called by the request hook. */
Size
queue_channel_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueChannelShared));
}

/* Makes or finds the channels.  Called by the startup hook. */
void
queue_channel_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue channels", queue_channel_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(QueueChannelShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u32(&shared->used, 0);
		for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
			SpinLockInit(&shared->channels[i].mutex);
	}
	LWLockRegisterTranche(shared->tranche, "QueueChannel");
}

/* The channel of a database's role, made if asked.  Called by the scheduler, executors and doctor(). */
QueueChannel *
queue_channel_of(Oid db, Oid role, bool create)
{
	QueueChannel *ch = NULL;
	uint32		used;

	if (shared == NULL || !OidIsValid(db))
		return NULL;
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i < used; i++)
	{
		if (shared->channels[i].db == db && shared->channels[i].role == role)
			return &shared->channels[i];
	}
	if (!create)
		return NULL;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (uint32 i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		if (OidIsValid(shared->channels[i].db))
			continue;
		ch = &shared->channels[i];
		ch->role = role;
		ch->head = 0;
		ch->count = 0;
		ch->target = 2;
		ch->parked[0] = '\0';
		pg_write_barrier();
		ch->db = db;
		if (i >= pg_atomic_read_u32(&shared->used))
			pg_atomic_write_u32(&shared->used, i + 1);
		break;
	}
	LWLockRelease(&shared->lock);
	return ch;
}

/* The i'th channel; NULL when it is free.  Called by the scheduler at its start and by doctor(). */
QueueChannel *
queue_channel_nth(int i)
{
	if (shared == NULL || i < 0 || i >= QUEUE_MAX_CHANNELS || !OidIsValid(shared->channels[i].db))
		return NULL;
	return &shared->channels[i];
}

/* Gives an empty channel up.  Called by the scheduler. */
void
queue_channel_release(QueueChannel *ch)
{
	Assert(ch->count == 0);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	ch->db = InvalidOid;
	ch->parked[0] = '\0';
	LWLockRelease(&shared->lock);
}

/* How many more entries the scheduler should pull. */
int
queue_channel_room(QueueChannel *ch)
{
	int			room;

	SpinLockAcquire(&ch->mutex);
	room = Max(ch->target - ch->count, 0);
	SpinLockRelease(&ch->mutex);
	return room;
}

/* How many entries wait in it. */
int
queue_channel_count(QueueChannel *ch)
{
	int			count;

	SpinLockAcquire(&ch->mutex);
	count = ch->count;
	SpinLockRelease(&ch->mutex);
	return count;
}

/* Since when its oldest entry waits.  Called by the scheduler, which starts another executor when that is long. */
TimestampTz
queue_channel_oldest(QueueChannel *ch)
{
	TimestampTz oldest;

	SpinLockAcquire(&ch->mutex);
	oldest = ch->count > 0 ? ch->ring[ch->head].stamp : DT_NOEND;
	SpinLockRelease(&ch->mutex);
	return oldest;
}

/* Does this job wait in it?  Called by the scheduler, for the one suspect that may be under way. */
bool
queue_channel_has(QueueChannel *ch, int64 id)
{
	bool		found = false;

	SpinLockAcquire(&ch->mutex);
	for (int i = 0; i < ch->count && !found; i++)
		found = ch->ring[(ch->head + i) % QUEUE_CHANNEL_SIZE].id == id;
	SpinLockRelease(&ch->mutex);
	return found;
}

/* Says why no executor of the role can start, for doctor() and stat_handler.  Called by the scheduler. */
void
queue_channel_park(QueueChannel *ch, const char *reason)
{
	char		copy[sizeof(ch->parked)];

	queue_text_copy(copy, sizeof(copy), reason);
	queue_text_mend(copy);	/* it has a role's name, which may be in another database's encoding */
	SpinLockAcquire(&ch->mutex);
	memcpy(ch->parked, copy, sizeof(copy));
	SpinLockRelease(&ch->mutex);
}

/* How deep the scheduler keeps it.  Called by the scheduler. */
void
queue_channel_set_target(QueueChannel *ch, int target)
{
	SpinLockAcquire(&ch->mutex);
	ch->target = Max(2, Min(target, QUEUE_CHANNEL_SIZE));
	SpinLockRelease(&ch->mutex);
}

/* Appends entries; how many found a place (all, when n is no more than SIZE - count).  Called by the scheduler. */
int
queue_channel_put(QueueChannel *ch, const QueueEntry *entries, int n)
{
	int			done = 0;

	while (done < n)
	{
		bool		full;

		SpinLockAcquire(&ch->mutex);
		full = ch->count >= QUEUE_CHANNEL_SIZE;
		if (!full)
		{
			ch->ring[(ch->head + ch->count) % QUEUE_CHANNEL_SIZE] = entries[done];
			ch->count++;
		}
		SpinLockRelease(&ch->mutex);
		if (full)
			break;
		done++;
	}
	return done;
}

/* Takes the oldest entry; false when there is none.  Called by executors. */
bool
queue_channel_pop(QueueChannel *ch, QueueEntry *entry)
{
	bool		got;

	SpinLockAcquire(&ch->mutex);
	got = ch->count > 0;
	if (got)
	{
		*entry = ch->ring[ch->head];
		ch->head = (ch->head + 1) % QUEUE_CHANNEL_SIZE;
		ch->count--;
	}
	SpinLockRelease(&ch->mutex);
	return got;
}

/* Takes everything out.  Called by the scheduler, which puts back what may still run. */
int
queue_channel_drain(QueueChannel *ch, QueueEntry *out)
{
	int			n = 0;

	while (n < QUEUE_CHANNEL_SIZE && queue_channel_pop(ch, &out[n]))
		n++;
	return n;
}

/* The extension or the database was dropped: nobody reads or writes its channels any more.  Commit-safe. */
void
queue_channel_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *ch = &shared->channels[i];

		if (ch->db == db)
		{
			ch->db = InvalidOid;
			ch->count = 0;
			ch->parked[0] = '\0';
		}
	}
	LWLockRelease(&shared->lock);
}
