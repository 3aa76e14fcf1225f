/*
 * cursor.c
 *		The ready cursor of each line: how far its front is known to hold nothing
 *		claimable.
 *
 * Why: the ready index (line, run_at, id) is read from its front, and while any
 * transaction holds an old snapshot the front fills with dead entries that no scan
 * may kill (108 ns each, measured).  A reader that starts at the cursor never meets
 * them.
 *
 * It is only a hint; the table is the truth.  The rules that keep it a right hint:
 *
 *	1. A reader looks (queue_cursor_look) BEFORE it takes its snapshot: it reads the
 *	   global sequence number, then the entry.
 *	2. Whoever makes a row claimable (by commit, abort or subabort of whatever it did
 *	   to the row) appends the row's position AFTER that took effect.  The append
 *	   takes the next sequence number and stands in the line's ring.
 *	3. A raise is cut to the lowest position appended since the reader's look.  If
 *	   the ring has lost an append that young, the raise is refused.
 *	4. A single row behind the cursor goes into the list of exact keys, which readers
 *	   probe first; only a full list, or many rows at once, lower the cursor.  A key is
 *	   given out only to readers whose look came after its append: their snapshot sees
 *	   the row.
 *	5. Sequence numbers are never reused; an entry that was evicted and made again has
 *	   another incarnation, and raises for the old one are refused.
 *
 * No line has an entry until somebody reads it; an append to a line without an entry
 * needs no record, because whoever makes the entry takes its snapshot later.
 *
 * Locks: the table lock (shared to find, exclusive to make or evict an entry), then
 * the entry's own lock.  Nothing else is taken while either is held.
 */
#include "shared/cursor.h"

#include "common/hashfn.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define NBUCKETS (QUEUE_MAX_CURSORS * 2)
#define NO_ENTRY (-1)

struct QueueCursor
{
	LWLock		lock;
	Oid			db;				/* InvalidOid: free */
	int64		line;
	int			next;			/* in its bucket or in the free list */
	uint64		incarnation;
	pg_atomic_uint32 used;		/* by the eviction clock */

	QueuePos	cursor;			/* nothing claimable before it, but for the keys */
	bool		empty;			/* nothing at all at or after it */
	bool		unserved;		/* the scheduler said that it does not care */
	TimestampTz next_due;		/* nothing at or after the cursor is due before this */
	TimestampTz unnoted_expiry; /* earliest lease end that lease.c had no room for; DT_NOEND: none */
	QueuePos	unnoted_low,	/* and the range of positions that has all of them */
				unnoted_high;

	uint64		lost_seq;		/* youngest append that the ring no longer holds */
	int			ring_next;
	uint64		ring_seq[QUEUE_CURSOR_RING];
	QueuePos	ring_pos[QUEUE_CURSOR_RING];

	int			nkeys;
	uint64		key_seq[QUEUE_CURSOR_KEYS];
	QueuePos	key[QUEUE_CURSOR_KEYS];
};

typedef struct CursorTable
{
	LWLock		lock;
	int			tranche;
	pg_atomic_uint64 seq;		/* of appends, over all lines */
	uint64		incarnations;
	int			free;
	int			clock;
	int			bucket[NBUCKETS];
	QueueCursor entry[QUEUE_MAX_CURSORS];
} CursorTable;

static CursorTable *table = NULL;

Size
queue_cursor_shmem_size(void)
{
	return MAXALIGN(sizeof(CursorTable));
}

void
queue_cursor_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("queue cursors", sizeof(CursorTable), &found);
	if (!found)
	{
		memset(table, 0, sizeof(CursorTable));
		table->tranche = LWLockNewTrancheId();
		LWLockInitialize(&table->lock, table->tranche);
		pg_atomic_init_u64(&table->seq, 1);
		for (int i = 0; i < NBUCKETS; i++)
			table->bucket[i] = NO_ENTRY;
		for (int i = 0; i < QUEUE_MAX_CURSORS; i++)
		{
			LWLockInitialize(&table->entry[i].lock, table->tranche);
			pg_atomic_init_u32(&table->entry[i].used, 0);
			table->entry[i].next = i + 1 < QUEUE_MAX_CURSORS ? i + 1 : NO_ENTRY;
		}
		table->free = 0;
	}
	LWLockRegisterTranche(table->tranche, "QueueCursor");
}

static inline int
bucket_of(Oid db, int64 line)
{
	return murmurhash32((uint32) line ^ (uint32) (line >> 32) ^ db) % NBUCKETS;
}

/* Finds an entry; the caller holds the table lock. */
static QueueCursor *
find_entry(Oid db, int64 line)
{
	Assert(LWLockHeldByMe(&table->lock));
	for (int i = table->bucket[bucket_of(db, line)]; i != NO_ENTRY; i = table->entry[i].next)
	{
		if (table->entry[i].line == line && table->entry[i].db == db)
			return &table->entry[i];
	}
	return NULL;
}

/* Takes an entry out of its bucket; the caller holds the table lock exclusively. */
static void
unlink_entry(QueueCursor *entry)
{
	int		   *link = &table->bucket[bucket_of(entry->db, entry->line)];

	Assert(LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE));
	while (*link != entry - table->entry)
		link = &table->entry[*link].next;
	*link = entry->next;
}

/*
 * A free entry, evicting one that nobody looked at lately.  The caller holds the
 * table lock exclusively.
 */
static QueueCursor *
free_entry(void)
{
	QueueCursor *entry;

	Assert(LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE));
	if (table->free != NO_ENTRY)
	{
		entry = &table->entry[table->free];
		table->free = entry->next;
		return entry;
	}
	for (;;)
	{
		entry = &table->entry[table->clock];
		table->clock = (table->clock + 1) % QUEUE_MAX_CURSORS;
		if (pg_atomic_exchange_u32(&entry->used, 0) == 0)
			break;
	}
	unlink_entry(entry);
	/* what it knew of leases: the scheduler looks at all lines when their time has come */
	if (entry->unnoted_expiry != DT_NOEND)
		queue_database_unplaced(queue_database_of(entry->db, false), entry->unnoted_expiry);
	return entry;
}

/*
 * Locks the line's entry for a reader that has looked at it before; false if it is
 * another incarnation by now.  The entry lock excludes eviction from changing it
 * under us, because eviction takes it too.
 */
static bool
lock_ref(QueueCursorRef *ref, int64 line)
{
	if (ref->entry == NULL)
		return false;
	LWLockAcquire(&ref->entry->lock, LW_EXCLUSIVE);
	if (ref->entry->incarnation == ref->incarnation)
		return true;
	LWLockRelease(&ref->entry->lock);
	ref->entry = NULL;
	return false;
}

/* Makes the line's entry at the line's front, or finds the one somebody made meanwhile. */
static void
make_entry(QueueCursorRef *ref, int64 line)
{
	QueueCursor *entry;

	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	entry = find_entry(MyDatabaseId, line);
	if (entry == NULL)
	{
		int			bucket = bucket_of(MyDatabaseId, line);

		entry = free_entry();
		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		entry->incarnation = ++table->incarnations;
		entry->db = MyDatabaseId;
		entry->line = line;
		entry->cursor = QUEUE_POS_FIRST;
		entry->empty = false;
		entry->unserved = false;
		entry->next_due = DT_NOBEGIN;
		entry->unnoted_expiry = DT_NOEND;
		entry->lost_seq = 0;
		entry->ring_next = 0;
		memset(entry->ring_seq, 0, sizeof(entry->ring_seq));
		entry->nkeys = 0;
		entry->next = table->bucket[bucket];
		table->bucket[bucket] = entry - table->entry;
		LWLockRelease(&entry->lock);
	}
	ref->entry = entry;
	ref->incarnation = entry->incarnation;
	LWLockRelease(&table->lock);
}

QueueCursorView
queue_cursor_look(QueueCursorRef *ref, int64 line)
{
	QueueCursorView view = {.valid = false, .cursor = QUEUE_POS_FIRST, .next_due = DT_NOBEGIN};
	QueueCursor *entry;

	if (table == NULL)
		return view;
	while (!lock_ref(ref, line))
		make_entry(ref, line);
	entry = ref->entry;
	view.valid = true;
	view.start_seq = pg_atomic_read_u64(&table->seq);
	view.cursor = entry->cursor;
	view.empty = entry->empty;
	view.next_due = entry->next_due;
	view.nkeys = entry->nkeys;
	for (int i = 0; i < entry->nkeys; i++)
	{
		if (i == 0 || queue_pos_cmp(entry->key[i], view.first_key) < 0)
			view.first_key = entry->key[i];
	}
	pg_atomic_write_u32(&entry->used, 1);
	LWLockRelease(&entry->lock);
	return view;
}

bool
queue_cursor_take_key(QueueCursorRef *ref, int64 line, uint64 start_seq, QueuePos *key)
{
	QueueCursor *entry;
	int			lowest = -1;

	if (!lock_ref(ref, line))
		return false;
	entry = ref->entry;
	for (int i = 0; i < entry->nkeys; i++)
	{
		if (entry->key_seq[i] <= start_seq &&
			(lowest < 0 || queue_pos_cmp(entry->key[i], entry->key[lowest]) < 0))
			lowest = i;
	}
	if (lowest >= 0)
	{
		*key = entry->key[lowest];
		entry->nkeys--;
		entry->key[lowest] = entry->key[entry->nkeys];
		entry->key_seq[lowest] = entry->key_seq[entry->nkeys];
	}
	LWLockRelease(&entry->lock);
	return lowest >= 0;
}

int
queue_cursor_keys(QueueCursorRef *ref, int64 line, QueuePos keys[QUEUE_CURSOR_KEYS])
{
	int			n;

	if (!lock_ref(ref, line))
		return 0;
	n = ref->entry->nkeys;
	memcpy(keys, ref->entry->key, n * sizeof(QueuePos));
	LWLockRelease(&ref->entry->lock);
	return n;
}

void
queue_cursor_raise(QueueCursorRef *ref, int64 line, uint64 start_seq, QueuePos pos,
				   bool empty, TimestampTz next_due)
{
	QueueCursor *entry;
	bool		cut = false;

	if (!lock_ref(ref, line))
		return;
	entry = ref->entry;
	if (entry->lost_seq <= start_seq)
	{
		for (int i = 0; i < QUEUE_CURSOR_RING; i++)
		{
			if (entry->ring_seq[i] > start_seq)
			{
				cut = true;
				if (queue_pos_cmp(entry->ring_pos[i], pos) < 0)
					pos = entry->ring_pos[i];
			}
		}
		if (queue_pos_cmp(pos, entry->cursor) > 0)
		{
			entry->cursor = pos;
			entry->next_due = cut ? DT_NOBEGIN : next_due;
		}
		else if (!cut && (empty || next_due > entry->next_due))
			entry->next_due = next_due;
		entry->empty = empty && !cut;
	}
	LWLockRelease(&entry->lock);
}

bool
queue_cursor_append(Oid db, int64 line, QueuePos pos, int count)
{
	QueueCursor *entry;
	bool		cares = true;

	if (table == NULL)
		return false;
	LWLockAcquire(&table->lock, LW_SHARED);
	entry = find_entry(db, line);
	if (entry != NULL)
	{
		uint64		seq;

		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		seq = pg_atomic_add_fetch_u64(&table->seq, 1);
		entry->lost_seq = Max(entry->lost_seq, entry->ring_seq[entry->ring_next]);
		entry->ring_seq[entry->ring_next] = seq;
		entry->ring_pos[entry->ring_next] = pos;
		entry->ring_next = (entry->ring_next + 1) % QUEUE_CURSOR_RING;

		if (queue_pos_cmp(pos, entry->cursor) >= 0)
		{
			entry->empty = false;
			entry->next_due = Min(entry->next_due, pos.run_at);
		}
		else if (count == 1 && entry->nkeys < QUEUE_CURSOR_KEYS)
		{
			int			i = 0;

			while (i < entry->nkeys && queue_pos_cmp(entry->key[i], pos) != 0)
				i++;
			entry->key[i] = pos;
			entry->key_seq[i] = seq;
			entry->nkeys = Max(entry->nkeys, i + 1);
		}
		else
		{
			entry->cursor = pos;
			entry->empty = false;
			entry->next_due = Min(entry->next_due, pos.run_at);
		}
		cares = !entry->unserved;
		LWLockRelease(&entry->lock);
	}
	LWLockRelease(&table->lock);
	return cares;
}

void
queue_cursor_set_served(QueueCursorRef *ref, int64 line, bool served)
{
	if (table == NULL)
		return;
	while (!lock_ref(ref, line))
		make_entry(ref, line);
	ref->entry->unserved = !served;
	LWLockRelease(&ref->entry->lock);
}

bool
queue_cursor_note_expiry(Oid db, int64 line, QueuePos low, QueuePos high, TimestampTz when)
{
	QueueCursor *entry;

	if (table == NULL)
		return false;
	LWLockAcquire(&table->lock, LW_SHARED);
	entry = find_entry(db, line);
	if (entry != NULL)
	{
		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		if (entry->unnoted_expiry == DT_NOEND || queue_pos_cmp(low, entry->unnoted_low) < 0)
			entry->unnoted_low = low;
		if (entry->unnoted_expiry == DT_NOEND || queue_pos_cmp(high, entry->unnoted_high) > 0)
			entry->unnoted_high = high;
		entry->unnoted_expiry = Min(entry->unnoted_expiry, when);
		LWLockRelease(&entry->lock);
	}
	LWLockRelease(&table->lock);
	return entry != NULL;
}

bool
queue_cursor_take_expired(Oid db, TimestampTz now, int64 *line, QueuePos *low, QueuePos *high, TimestampTz *next)
{
	bool		taken = false;

	*next = DT_NOEND;
	if (table == NULL)
		return false;
	LWLockAcquire(&table->lock, LW_SHARED);
	for (int i = 0; i < QUEUE_MAX_CURSORS && !taken; i++)
	{
		QueueCursor *entry = &table->entry[i];

		if (entry->db != db || entry->unnoted_expiry == DT_NOEND)
			continue;
		LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
		if (entry->unnoted_expiry <= now)
		{
			taken = true;
			*line = entry->line;
			*low = entry->unnoted_low;
			*high = entry->unnoted_high;
			entry->unnoted_expiry = DT_NOEND;
		}
		else
			*next = Min(*next, entry->unnoted_expiry);
		LWLockRelease(&entry->lock);
	}
	LWLockRelease(&table->lock);
	return taken;
}

bool
queue_cursor_peek(Oid db, int64 line, QueuePos *cursor)
{
	QueueCursor *entry;

	if (table == NULL)
		return false;
	LWLockAcquire(&table->lock, LW_SHARED);
	entry = find_entry(db, line);
	if (entry != NULL)
	{
		LWLockAcquire(&entry->lock, LW_SHARED);
		*cursor = entry->cursor;
		LWLockRelease(&entry->lock);
	}
	LWLockRelease(&table->lock);
	return entry != NULL;
}

uint64
queue_cursor_activity(Oid db, int64 line)
{
	QueueCursor *entry;
	uint64		last = 0;

	if (table == NULL)
		return 0;
	LWLockAcquire(&table->lock, LW_SHARED);
	entry = find_entry(db, line);
	if (entry != NULL)
	{
		LWLockAcquire(&entry->lock, LW_SHARED);
		last = entry->ring_seq[(entry->ring_next + QUEUE_CURSOR_RING - 1) % QUEUE_CURSOR_RING];
		LWLockRelease(&entry->lock);
	}
	LWLockRelease(&table->lock);
	return last;
}

/* Makes an entry a free one.  The caller holds the table lock exclusively. */
static void
give_up_entry(QueueCursor *entry)
{
	Assert(LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE));
	unlink_entry(entry);
	LWLockAcquire(&entry->lock, LW_EXCLUSIVE);
	entry->db = InvalidOid;
	entry->incarnation = ++table->incarnations;
	LWLockRelease(&entry->lock);
	entry->next = table->free;
	table->free = entry - table->entry;
}

void
queue_cursor_forget(Oid db, int64 line)
{
	QueueCursor *entry;

	if (table == NULL)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	entry = find_entry(db, line);
	if (entry != NULL)
		give_up_entry(entry);
	LWLockRelease(&table->lock);
}

void
queue_cursor_reset(Oid db)
{
	if (table == NULL)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_CURSORS; i++)
	{
		if (table->entry[i].db == db)
			give_up_entry(&table->entry[i]);
	}
	LWLockRelease(&table->lock);
}
