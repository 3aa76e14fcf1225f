/*
 * mark_table.c
 *		Where marks lie: entries by group, and what is known of each database.
 *
 * Every database has a place; QUEUE_MAX_DATABASES bounds everything.  An entry is found by the whole name of its group,
 * through a hash table of fixed size; those that can be taken are in their database's list, in the order in which they
 * came.  What the states mean is told by mark.c.
 *
 * Lock: QueueMark (LWLock), exclusive for every change, a few memory accesses a mark.  Nothing is taken under it.
 */
#include "shared/mark_table.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

QueueMarkTable *queue_marks = NULL;

Size
queue_mark_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueMarkTable));
}

void
queue_mark_shmem_init(void)
{
	bool		found;

	queue_marks = ShmemInitStruct("queue marks", sizeof(QueueMarkTable), &found);
	if (!found)
	{
		memset(queue_marks, 0, sizeof(QueueMarkTable));
		queue_marks->tranche = LWLockNewTrancheId();
		LWLockInitialize(&queue_marks->lock, queue_marks->tranche);
		for (int i = 0; i < QUEUE_MARK_BUCKETS; i++)
			queue_marks->bucket[i] = QUEUE_MARK_NONE;
		for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
		{
			QueueMarkPlace *place = &queue_marks->place[i];

			place->first = place->last = QUEUE_MARK_NONE;
			pg_atomic_init_u32(&place->nranges, 0);
			pg_atomic_init_u32(&place->ready, 0);
			pg_atomic_init_u32(&place->lost, 0);
			pg_atomic_init_u32(&place->rows, 0);
			pg_atomic_init_u32(&place->crowded, 0);
		}
		for (int i = 0; i < QUEUE_MARKS; i++)
			queue_marks->entry[i].next_in_bucket = i + 1 < QUEUE_MARKS ? i + 1 : QUEUE_MARK_NONE;
		queue_marks->free = 0;
	}
	LWLockRegisterTranche(queue_marks->tranche, "QueueMark");
}

/* ---------------------------------------------------------------- databases */

QueueMarkPlace *
queue_mark_place_of(Oid db)
{
	static QueueMarkPlace *mine = NULL;
	QueueMarkPlace *unused = NULL;

	Assert(LWLockHeldByMe(&queue_marks->lock));
	if (mine != NULL && mine->db == db)
		return mine;
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		QueueMarkPlace *place = &queue_marks->place[i];

		if (place->db == db)
			return db == MyDatabaseId ? (mine = place) : place;
		if (place->db == InvalidOid && unused == NULL)
			unused = place;
	}
	if (unused != NULL && LWLockHeldByMeInMode(&queue_marks->lock, LW_EXCLUSIVE))
	{
		unused->db = db;
		unused->first = unused->last = QUEUE_MARK_NONE;
		unused->n = 0;
		unused->looking = false;
		pg_atomic_write_u32(&unused->nranges, 0);
		pg_atomic_write_u32(&unused->ready, 0);
		pg_atomic_write_u32(&unused->lost, 1);	/* until somebody has looked, nothing is known */
		pg_atomic_write_u32(&unused->rows, 0);
		pg_atomic_write_u32(&unused->crowded, 0);
		unused->nparked = 0;
		return unused;
	}
	return NULL;
}

QueueMarkPlace *
queue_mark_place(bool create)
{
	static QueueMarkPlace *mine = NULL;

	if (queue_marks == NULL)
		return NULL;
	if (mine == NULL || mine->db != MyDatabaseId)
	{
		LWLockAcquire(&queue_marks->lock, create ? LW_EXCLUSIVE : LW_SHARED);
		mine = queue_mark_place_of(MyDatabaseId);
		LWLockRelease(&queue_marks->lock);
	}
	return mine;
}

void
queue_mark_reset(Oid db)
{
	if (queue_marks == NULL)
		return;
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		QueueMarkPlace *place = &queue_marks->place[i];

		if (place->db != db)
			continue;
		for (int number = 0; number < QUEUE_MARKS; number++)
		{
			if (queue_marks->entry[number].db == db)
				queue_mark_release(place, number);
		}
		place->db = InvalidOid;
		place->nparked = 0;
		place->first = place->last = QUEUE_MARK_NONE;
		pg_atomic_write_u32(&place->ready, 0);
		pg_atomic_write_u32(&place->nranges, 0);
	}
	LWLockRelease(&queue_marks->lock);
}

/* ---------------------------------------------------------------- entries */

void
queue_mark_merge(QueueMark *into, const QueueMark *mark)
{
	into->position = Min(into->position, mark->position);
	into->front = false;
	into->came |= mark->came;
	into->ended |= mark->ended;
	into->doubted |= mark->doubted;
}

uint32
queue_mark_hash(Oid db, const char *queue, const char *key)
{
	return hash_combine(murmurhash32(db),
						hash_combine(hash_bytes((const unsigned char *) queue, strlen(queue)),
									 hash_bytes((const unsigned char *) key, strlen(key))));
}

static int
find(Oid db, uint32 hash, const char *queue, const char *key)
{
	int			i = queue_marks->bucket[hash % QUEUE_MARK_BUCKETS];

	while (i != QUEUE_MARK_NONE &&
		   (queue_marks->entry[i].hash != hash || queue_marks->entry[i].db != db ||
			strcmp(queue_marks->entry[i].mark.key, key) != 0 || strcmp(queue_marks->entry[i].mark.queue, queue) != 0))
		i = queue_marks->entry[i].next_in_bucket;
	return i;
}

int
queue_mark_find(Oid db, const char *queue, const char *key)
{
	return find(db, queue_mark_hash(db, queue, key), queue, key);
}

void
queue_mark_release(QueueMarkPlace *place, int number)
{
	QueueMarkEntry *entry = &queue_marks->entry[number];
	int		   *link = &queue_marks->bucket[entry->hash % QUEUE_MARK_BUCKETS];

	while (*link != number)
		link = &queue_marks->entry[*link].next_in_bucket;
	*link = entry->next_in_bucket;
	entry->db = InvalidOid;
	place->nparked -= entry->waited;
	entry->waited = false;
	entry->next_in_bucket = queue_marks->free;
	queue_marks->free = number;
	place->n--;
}

void
queue_mark_make_ready(QueueMarkPlace *place, int number)
{
	QueueMarkEntry *entry = &queue_marks->entry[number];

	entry->state = QUEUE_MARK_READY;
	place->nparked -= entry->waited;
	entry->waited = false;
	entry->next = QUEUE_MARK_NONE;
	if (place->last == QUEUE_MARK_NONE)
		place->first = number;
	else
		queue_marks->entry[place->last].next = number;
	place->last = number;
	pg_atomic_fetch_add_u32(&place->ready, 1);
}

int
queue_mark_enter(Oid db, QueueMarkPlace *place, const QueueMark *mark)
{
	uint32		hash = queue_mark_hash(db, mark->queue, mark->key);
	int			number = find(db, hash, mark->queue, mark->key);
	QueueMarkEntry *entry;

	Assert(LWLockHeldByMeInMode(&queue_marks->lock, LW_EXCLUSIVE));
	if (number != QUEUE_MARK_NONE)
	{
		queue_mark_merge(&queue_marks->entry[number].mark, mark);
		return number;
	}
	if (queue_marks->free == QUEUE_MARK_NONE || place->n >= QUEUE_MARKS_OF_DATABASE)
		return QUEUE_MARK_NONE;
	number = queue_marks->free;
	entry = &queue_marks->entry[number];
	queue_marks->free = entry->next_in_bucket;
	entry->mark = *mark;
	entry->db = db;
	entry->hash = hash;
	entry->state = QUEUE_MARK_PARKED;
	entry->waited = false;
	entry->next_in_bucket = queue_marks->bucket[hash % QUEUE_MARK_BUCKETS];
	queue_marks->bucket[hash % QUEUE_MARK_BUCKETS] = number;
	place->n++;
	return number;
}

/* Ranges may have ids that are not meant, so one too many goes into the last one. */
void
queue_mark_add_range(QueueMarkPlace *place, int64 low, int64 high)
{
	int			n = (int) pg_atomic_read_u32(&place->nranges);

	if (n < QUEUE_MARK_RANGES)
	{
		place->range[n] = (QueueMarkRange) {low, high};
		pg_atomic_write_u32(&place->nranges, n + 1);
		return;
	}
	place->range[n - 1].low = Min(place->range[n - 1].low, low);
	place->range[n - 1].high = Max(place->range[n - 1].high, high);
}
