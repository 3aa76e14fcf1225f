/*
 * cursor.c
 *		The ready cursor of each line: how far its front is known to hold nothing
 *		claimable.
 *
 * Why: the ready index (line, run_at, id) is read from its front, and while any transaction holds an old snapshot the
 * front fills with dead entries that no scan may kill (108 ns each, measured).  A reader that starts at the cursor
 * never meets them.
 *
 * It is only a hint; the table is the truth.  The rules that keep it a right hint:
 *
 *	1. A reader reads the global sequence number (queue_cursor_seq) BEFORE it takes its snapshot, then looks at the
 *	   entry and reads.
 *	2. Whoever makes a row claimable (by commit, abort or subabort of whatever it did to the row) appends the row's
 *	   position AFTER that took effect.  The append takes the next sequence number and stands in the line's ring, if it
 *	   has one.
 *	3. A raise is cut to the lowest position appended since the reader's sequence number.  If an append that young is
 *	   not in the ring, the raise is refused.
 *	4. A single row behind the cursor goes into the list of exact keys, which readers probe first; only a full list, or
 *	   many rows at once, lower the cursor.  A key is given out only to readers that read the sequence number after its
 *	   append: their snapshot sees the row.
 *	5. Sequence numbers are never reused; an entry that was given up and made again has
 *	   another incarnation, and raises for the old one are refused.  A new entry refuses
 *	   the raises of all readers that began before it was made.
 *
 * Memory.  There are as many entries as queue.max_lines allows lines, and some more; none is evicted.  An entry is made
 * by the first append to its line or by its first reader, and given up when the line, the extension or the database is
 * dropped.  Each database can have QUEUE_CURSORS_SURE of them, whatever others have.  A line without an entry is read
 * from its front; base->cursors_lost tells readers that there are such lines.
 *
 * Ring and exact keys are in a block, of which there are fewer: a line borrows one when a raise was refused for want of
 * a ring, or when it needs an exact key.  If none is free, the next one whose line needs it no more is taken from it;
 * else the raise stays refused, and the append lowers the cursor.
 *
 * What an entry says of its line's work stands in the line's agenda too (agenda.c): every change ends with settle().
 *
 * Locks: an entry is found and changed under the lock of its partition of the hash table.  Partition < pool (free
 * entries and blocks) and < agendas.  A second partition's lock is taken only conditionally.
 */
#include "shared/cursor.h"

#include "common/hashfn.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define PARTITIONS 128
#define BLOCKS 1024
#define BLOCK_LOOKS 8			/* blocks looked at for one that is not needed */
#define RESERVE_SHARE 8			/* this part of all entries is for databases with few */
#define NONE (-1)

/* What a busy line has beside its entry. */
typedef struct Block
{
	int			owner;			/* an entry; NONE: free */
	int			next;			/* in the free list */
	TimestampTz unnoted_expiry; /* earliest lease end that lease.c had no room for; DT_NOEND: none */
	QueuePos	unnoted_low,	/* and the range of positions that has all of them */
				unnoted_high;

	uint64		lost_seq;		/* youngest append that the ring does not hold */
	int			ring_next;
	uint64		ring_seq[QUEUE_CURSOR_RING];
	QueuePos	ring_pos[QUEUE_CURSOR_RING];

	int			nkeys;
	uint64		key_seq[QUEUE_CURSOR_KEYS];
	QueuePos	key[QUEUE_CURSOR_KEYS];
} Block;

struct QueueCursor
{
	Oid			db;				/* InvalidOid: free */
	int			next;			/* in its bucket or in the free list */
	int64		line;
	uint64		incarnation;
	QueuePos	cursor;			/* nothing claimable before it, but for the keys */
	QueuePos	front;			/* nothing at or after the cursor is before this; DT_NOBEGIN: unknown */
	uint64		last_seq;		/* of its youngest append, or of when it was made */
	int			block;			/* NONE: it has none */
	bool		empty;			/* nothing at all at or after the cursor */
	bool		unserved;		/* the scheduler said that it does not care */
};

typedef struct CursorTable
{
	LWLock		pool;			/* the free lists, and: */
	int			tranche;
	pg_atomic_uint64 seq;		/* of appends, over all lines */
	uint64		incarnations;
	int			free;			/* entries that were given up */
	int			used;			/* entries ever used */
	int			nfree;			/* free ones, of both sorts */
	int			free_block;
	int			block_hand;		/* where the search for one goes on */
	LWLockPadded partition[PARTITIONS];
	Block		block[BLOCKS];
} CursorTable;

static CursorTable *table = NULL;
static int *buckets;
static QueueCursor *entries;
static int	nentries;
static int	nbuckets;

Size
queue_cursor_shmem_size(void)
{
	return MAXALIGN(sizeof(CursorTable)) + MAXALIGN(mul_size(queue_agenda_capacity(), sizeof(int))) +
		mul_size(queue_agenda_capacity(), sizeof(QueueCursor));
}

void
queue_cursor_shmem_init(void)
{
	bool		found;
	char	   *memory = ShmemInitStruct("queue cursors", queue_cursor_shmem_size(), &found);

	nentries = nbuckets = queue_agenda_capacity();
	table = (CursorTable *) memory;
	memory += MAXALIGN(sizeof(CursorTable));
	buckets = (int *) memory;
	memory += MAXALIGN(nbuckets * sizeof(int));
	entries = (QueueCursor *) memory;
	if (!found)
	{
		memset(table, 0, sizeof(CursorTable));
		table->tranche = LWLockNewTrancheId();
		LWLockInitialize(&table->pool, table->tranche);
		for (int i = 0; i < PARTITIONS; i++)
			LWLockInitialize(&table->partition[i].lock, table->tranche);
		pg_atomic_init_u64(&table->seq, 1);
		table->free = NONE;
		table->nfree = nentries;
		for (int i = 0; i < nbuckets; i++)
			buckets[i] = NONE;
		memset(entries, 0, nentries * sizeof(QueueCursor));
		for (int i = 0; i < BLOCKS; i++)
		{
			table->block[i].owner = NONE;
			table->block[i].next = i + 1 < BLOCKS ? i + 1 : NONE;
		}
	}
	LWLockRegisterTranche(table->tranche, "QueueCursor");
}

/* ---------------------------------------------------------------- entries */

static inline uint32
hash_of(Oid db, int64 line)
{
	return murmurhash32((uint32) line ^ (uint32) (line >> 32) ^ murmurhash32(db));
}

static inline int *
bucket_of(Oid db, int64 line)
{
	return &buckets[hash_of(db, line) % (uint32) nbuckets];
}

/* The lock of a line's partition; all of a bucket are in one partition. */
static inline LWLock *
lock_of(Oid db, int64 line)
{
	return &table->partition[(bucket_of(db, line) - buckets) % PARTITIONS].lock;
}

static inline int
number_of(const QueueCursor *entry)
{
	return (int) (entry - entries);
}

static inline Block *
block_of(const QueueCursor *entry)
{
	return entry->block == NONE ? NULL : &table->block[entry->block];
}

/* Finds an entry; the caller holds the partition's lock. */
static QueueCursor *
find_entry(Oid db, int64 line)
{
	Assert(LWLockHeldByMe(lock_of(db, line)));
	for (int i = *bucket_of(db, line); i != NONE; i = entries[i].next)
	{
		if (entries[i].line == line && entries[i].db == db)
			return &entries[i];
	}
	return NULL;
}

/* A free entry's number, counted as the database's; NONE: no place.  The caller holds a partition's lock. */
static int
take_entry(Oid db, uint64 *incarnation)
{
	QueueDatabase *base = queue_database_of(db, false);
	int			i = NONE;

	if (base == NULL)
		return NONE;
	LWLockAcquire(&table->pool, LW_EXCLUSIVE);
	if (table->nfree > nentries / RESERVE_SHARE || (table->nfree > 0 && base->cursors < QUEUE_CURSORS_SURE))
	{
		i = table->free;
		if (i != NONE)
			table->free = entries[i].next;
		else
			i = table->used++;
		table->nfree--;
		base->cursors++;
		*incarnation = ++table->incarnations;
	}
	LWLockRelease(&table->pool);
	return i;
}

/*
 * Tells the agenda when and from where on the entry's line has something to do.  The caller holds the partition's lock
 * exclusively.
 */
static void
settle(const QueueCursor *entry)
{
	const Block *block = block_of(entry);
	QueuePos	bound = queue_pos_cmp(entry->front, entry->cursor) > 0 ? entry->front : entry->cursor;
	TimestampTz due = entry->empty ? DT_NOEND : entry->front.run_at;

	for (int i = 0; block != NULL && i < block->nkeys; i++)
	{
		if (due == DT_NOEND || queue_pos_cmp(block->key[i], bound) < 0)
			bound = block->key[i];
		due = Min(due, block->key[i].run_at);
	}
	if (due == DT_NOEND)
		bound = QUEUE_POS_FIRST;	/* the same whatever the cursor: an idle line costs no lock */
	queue_agenda_set(number_of(entry), bound, due);
}

/*
 * Makes the line's entry at the line's front, among the new lines; NULL: no place, which base->cursors_lost tells.  The
 * caller holds the partition's lock exclusively.
 */
static QueueCursor *
make_entry(Oid db, int64 line, int16 priority)
{
	static QueueAgenda fresh = {.type = QUEUE_AGENDA_NEW};
	uint64		incarnation;
	int			i = take_entry(db, &incarnation);
	QueueCursor *entry;
	int		   *bucket = bucket_of(db, line);

	if (i == NONE)
		return NULL;
	entry = &entries[i];
	*entry = (QueueCursor) {
		.db = db,
		.next = *bucket,
		.line = line,
		.incarnation = incarnation,
		.cursor = QUEUE_POS_FIRST,
		.front = QUEUE_POS_FIRST,
		.last_seq = pg_atomic_read_u64(&table->seq),
		.block = NONE,
	};
	*bucket = i;
	fresh.db = db;
	if (queue_agenda_enter(i, &fresh, line, priority))
		settle(entry);
	else
		queue_database_lose_cursor(queue_database_of(db, false));
	return entry;
}

/*
 * Locks the line's entry for who may have looked at it before; false: it has none.  With create it is made; false: no
 * place.
 */
static bool
lock_ref(QueueCursorRef *ref, bool create)
{
	LWLock	   *lock;

	if (table == NULL)
		return false;
	lock = lock_of(MyDatabaseId, ref->line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (ref->entry != NULL && ref->entry->incarnation == ref->incarnation)
		return true;
	ref->entry = create ? find_entry(MyDatabaseId, ref->line) : NULL;
	if (ref->entry == NULL && create)
		ref->entry = make_entry(MyDatabaseId, ref->line, ref->priority);
	if (ref->entry != NULL)
	{
		ref->incarnation = ref->entry->incarnation;
		return true;
	}
	LWLockRelease(lock);
	return false;
}

static inline void
unlock_ref(const QueueCursorRef *ref)
{
	LWLockRelease(lock_of(MyDatabaseId, ref->line));
}

/* ---------------------------------------------------------------- blocks */

/* An entry's block is for another; what its ring knew is lost.  The caller holds the owner's partition's lock. */
static void
let_go(QueueCursor *entry)
{
	table->block[entry->block].owner = NONE;
	entry->block = NONE;
}

/*
 * Takes a block away from a line that has no keys, no lease ends, and no append so young that a reader is likely to
 * have begun before it.  The caller holds its own partition's lock and the pool's.
 */
static int
steal_block(const LWLock *mine)
{
	for (int i = 0; i < BLOCK_LOOKS; i++)
	{
		int			number = table->block_hand;
		Block	   *block = &table->block[number];
		int			owner = block->owner;
		LWLock	   *lock;
		bool		taken;

		table->block_hand = (table->block_hand + 1) % BLOCKS;
		if (owner == NONE || block->nkeys > 0 || block->unnoted_expiry != DT_NOEND ||
			entries[owner].last_seq + BLOCKS > pg_atomic_read_u64(&table->seq))
			continue;
		lock = lock_of(entries[owner].db, entries[owner].line);
		if (lock != mine && !LWLockConditionalAcquire(lock, LW_EXCLUSIVE))
			continue;
		/* looked at without its lock: again */
		taken = block->owner == owner && entries[owner].block == number &&
			lock == lock_of(entries[owner].db, entries[owner].line) && block->nkeys == 0 &&
			block->unnoted_expiry == DT_NOEND;
		if (taken)
			let_go(&entries[owner]);
		if (lock != mine)
			LWLockRelease(lock);
		if (taken)
			return number;
	}
	return NONE;
}

/* Gives the entry a block, if it has none; NULL: there is none to be had.  The caller holds the partition's lock. */
static Block *
give_block(QueueCursor *entry)
{
	int			number;
	Block	   *block;

	if (entry->block != NONE)
		return block_of(entry);
	LWLockAcquire(&table->pool, LW_EXCLUSIVE);
	number = table->free_block;
	if (number != NONE)
		table->free_block = table->block[number].next;
	else
		number = steal_block(lock_of(entry->db, entry->line));
	LWLockRelease(&table->pool);
	if (number == NONE)
		return NULL;
	block = &table->block[number];
	block->nkeys = block->ring_next = 0;
	block->unnoted_expiry = DT_NOEND;
	block->lost_seq = entry->last_seq;
	memset(block->ring_seq, 0, sizeof(block->ring_seq));
	block->owner = number_of(entry);
	entry->block = number;
	return block;
}

/* The block goes back to the pool.  The caller holds the partition's lock. */
static void
return_block(QueueCursor *entry)
{
	int			number = entry->block;

	if (number == NONE)
		return;
	LWLockAcquire(&table->pool, LW_EXCLUSIVE);
	let_go(entry);
	table->block[number].next = table->free_block;
	table->free_block = number;
	LWLockRelease(&table->pool);
}

/* ---------------------------------------------------------------- readers */

uint64
queue_cursor_seq(void)
{
	uint64		seq = table != NULL ? pg_atomic_read_u64(&table->seq) : 0;

	pg_memory_barrier();		/* before the caller's snapshot */
	return seq;
}

QueueCursorView
queue_cursor_look(QueueCursorRef *ref)
{
	QueueCursorView view = {.valid = false, .cursor = QUEUE_POS_FIRST, .next_due = DT_NOBEGIN};
	const Block *block;

	if (!lock_ref(ref, true))
		return view;
	view.valid = true;
	view.cursor = ref->entry->cursor;
	view.empty = ref->entry->empty;
	view.next_due = ref->entry->front.run_at;
	block = block_of(ref->entry);
	view.nkeys = block != NULL ? block->nkeys : 0;
	for (int i = 0; i < view.nkeys; i++)
	{
		if (i == 0 || queue_pos_cmp(block->key[i], view.first_key) < 0)
			view.first_key = block->key[i];
	}
	unlock_ref(ref);
	return view;
}

bool
queue_cursor_take_key(QueueCursorRef *ref, uint64 start_seq, QueuePos *key)
{
	Block	   *block;
	int			lowest = -1;

	if (!lock_ref(ref, false))
		return false;
	block = block_of(ref->entry);
	for (int i = 0; block != NULL && i < block->nkeys; i++)
	{
		if (block->key_seq[i] <= start_seq &&
			(lowest < 0 || queue_pos_cmp(block->key[i], block->key[lowest]) < 0))
			lowest = i;
	}
	if (lowest >= 0)
	{
		*key = block->key[lowest];
		block->nkeys--;
		block->key[lowest] = block->key[block->nkeys];
		block->key_seq[lowest] = block->key_seq[block->nkeys];
		settle(ref->entry);
	}
	unlock_ref(ref);
	return lowest >= 0;
}

int
queue_cursor_keys(QueueCursorRef *ref, QueuePos keys[QUEUE_CURSOR_KEYS])
{
	const Block *block;
	int			n = 0;

	if (!lock_ref(ref, false))
		return 0;
	block = block_of(ref->entry);
	if (block != NULL)
		memcpy(keys, block->key, (n = block->nkeys) * sizeof(QueuePos));
	unlock_ref(ref);
	return n;
}

void
queue_cursor_raise(QueueCursorRef *ref, uint64 start_seq, QueuePos pos, bool empty, TimestampTz next_due)
{
	QueuePos	front = {next_due, PG_INT64_MIN};
	QueueCursor *entry;
	Block	   *block;
	bool		cut = false;

	if (!lock_ref(ref, false))
		return;
	entry = ref->entry;
	block = block_of(entry);
	if ((block != NULL ? block->lost_seq : entry->last_seq) <= start_seq)
	{
		for (int i = 0; block != NULL && i < QUEUE_CURSOR_RING; i++)
		{
			if (block->ring_seq[i] > start_seq)
			{
				cut = true;
				if (queue_pos_cmp(block->ring_pos[i], pos) < 0)
					pos = block->ring_pos[i];
			}
		}
		if (queue_pos_cmp(pos, entry->cursor) > 0)
		{
			entry->cursor = pos;
			entry->front = cut ? QUEUE_POS_FIRST : front;
		}
		else if (!cut && (empty || queue_pos_cmp(front, entry->front) > 0))
			entry->front = front;
		entry->empty = empty && !cut;
		settle(entry);
	}
	else
		(void) give_block(entry);	/* so that the next one is only cut */
	unlock_ref(ref);
}

/* ---------------------------------------------------------------- who makes rows claimable */

/* There is a row at pos, which is not before the cursor.  The caller holds the partition's lock exclusively. */
static void
expect(QueueCursor *entry, QueuePos pos)
{
	if (entry->empty || queue_pos_cmp(pos, entry->front) < 0)
		entry->front = pos;
	entry->empty = false;
}

bool
queue_cursor_append(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos, int count)
{
	LWLock	   *lock;
	QueueCursor *entry;
	Block	   *block;
	uint64		seq;
	bool		cares;

	if (table == NULL)
		return false;
	lock = lock_of(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(db, line);
	if (entry == NULL && keys != NULL)
		entry = make_entry(db, line, keys->priority);
	seq = pg_atomic_add_fetch_u64(&table->seq, 1);
	if (entry == NULL)
	{
		LWLockRelease(lock);
		queue_database_lose_cursor(queue_database_of(db, false));
		return true;
	}
	block = block_of(entry);
	if (block == NULL && count == 1 && queue_pos_cmp(pos, entry->cursor) < 0)
		block = give_block(entry);
	if (block != NULL)
	{
		block->lost_seq = Max(block->lost_seq, block->ring_seq[block->ring_next]);
		block->ring_seq[block->ring_next] = seq;
		block->ring_pos[block->ring_next] = pos;
		block->ring_next = (block->ring_next + 1) % QUEUE_CURSOR_RING;
	}
	entry->last_seq = seq;

	if (queue_pos_cmp(pos, entry->cursor) >= 0)
		expect(entry, pos);
	else if (count == 1 && block != NULL && block->nkeys < QUEUE_CURSOR_KEYS)
	{
		int			i = 0;

		while (i < block->nkeys && queue_pos_cmp(block->key[i], pos) != 0)
			i++;
		block->key[i] = pos;
		block->key_seq[i] = seq;
		block->nkeys = Max(block->nkeys, i + 1);
	}
	else
	{
		entry->cursor = pos;
		expect(entry, pos);
	}
	settle(entry);
	cares = !entry->unserved;
	LWLockRelease(lock);
	return cares;
}

bool
queue_cursor_note_expiry(Oid db, int64 line, QueuePos low, QueuePos high, TimestampTz when)
{
	LWLock	   *lock;
	QueueCursor *entry;
	Block	   *block;

	if (table == NULL)
		return false;
	lock = lock_of(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(db, line);
	block = entry != NULL ? give_block(entry) : NULL;
	if (block != NULL)
	{
		if (block->unnoted_expiry == DT_NOEND || queue_pos_cmp(low, block->unnoted_low) < 0)
			block->unnoted_low = low;
		if (block->unnoted_expiry == DT_NOEND || queue_pos_cmp(high, block->unnoted_high) > 0)
			block->unnoted_high = high;
		block->unnoted_expiry = Min(block->unnoted_expiry, when);
	}
	LWLockRelease(lock);
	return block != NULL;
}

/* ---------------------------------------------------------------- the scheduler */

QueueCursorPlaced
queue_cursor_place(QueueCursorRef *ref, QueueAgenda *agenda, bool served)
{
	QueueCursorPlaced placed = QUEUE_CURSOR_STAYED;
	int			number;

	if (!lock_ref(ref, true))
		return QUEUE_CURSOR_NO_PLACE;
	ref->entry->unserved = !served;
	number = number_of(ref->entry);
	if (!queue_agenda_is_in(number, agenda))
	{
		queue_agenda_leave(number);
		placed = queue_agenda_enter(number, agenda, ref->line, ref->priority) ?
			QUEUE_CURSOR_MOVED : QUEUE_CURSOR_NO_PLACE;
		settle(ref->entry);
	}
	unlock_ref(ref);
	return placed;
}

bool
queue_cursor_take_expired(Oid db, TimestampTz now, int64 *line, QueuePos *low, QueuePos *high, TimestampTz *next)
{
	bool		taken = false;

	*next = DT_NOEND;
	for (int i = 0; table != NULL && i < BLOCKS && !taken; i++)
	{
		Block	   *block = &table->block[i];
		int			owner = block->owner;
		LWLock	   *lock;

		if (owner == NONE || block->unnoted_expiry == DT_NOEND || entries[owner].db != db)
			continue;
		lock = lock_of(db, entries[owner].line);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		if (block->owner == owner && entries[owner].db == db && lock == lock_of(db, entries[owner].line))
		{
			if (block->unnoted_expiry <= now)
			{
				taken = true;
				*line = entries[owner].line;
				*low = block->unnoted_low;
				*high = block->unnoted_high;
				block->unnoted_expiry = DT_NOEND;
			}
			else
				*next = Min(*next, block->unnoted_expiry);
		}
		LWLockRelease(lock);
	}
	return taken;
}

bool
queue_cursor_reaches(Oid db, int64 line, QueuePos pos)
{
	LWLock	   *lock;
	QueueCursor *entry;
	bool		reaches;

	if (table == NULL)
		return true;
	lock = lock_of(db, line);
	LWLockAcquire(lock, LW_SHARED);
	entry = find_entry(db, line);
	reaches = entry != NULL && !entry->empty && queue_pos_cmp(pos, entry->cursor) >= 0 &&
		entry->front.run_at <= pos.run_at;
	LWLockRelease(lock);
	return reaches;
}

uint64
queue_cursor_activity(Oid db, int64 line)
{
	LWLock	   *lock;
	QueueCursor *entry;
	uint64		last = 0;

	if (table == NULL)
		return 0;
	lock = lock_of(db, line);
	LWLockAcquire(lock, LW_SHARED);
	entry = find_entry(db, line);
	if (entry != NULL)
		last = entry->last_seq;
	LWLockRelease(lock);
	return last;
}

/* ---------------------------------------------------------------- giving up */

/* Makes an entry a free one.  The caller holds the partition's lock. */
static void
give_up(QueueCursor *entry)
{
	QueueDatabase *base = queue_database_of(entry->db, false);
	int		   *link = bucket_of(entry->db, entry->line);

	queue_agenda_leave(number_of(entry));
	return_block(entry);
	while (*link != number_of(entry))
		link = &entries[*link].next;
	*link = entry->next;
	LWLockAcquire(&table->pool, LW_EXCLUSIVE);
	if (base != NULL)
		base->cursors--;
	entry->db = InvalidOid;
	entry->incarnation = 0;
	entry->next = table->free;
	table->free = number_of(entry);
	table->nfree++;
	LWLockRelease(&table->pool);
}

void
queue_cursor_forget(Oid db, int64 line)
{
	LWLock	   *lock;
	QueueCursor *entry;

	if (table == NULL)
		return;
	lock = lock_of(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(db, line);
	if (entry != NULL)
		give_up(entry);
	LWLockRelease(lock);
}

/* Calls visit() for each entry of a database, under its lock. */
static void
for_each(Oid db, void (*visit) (QueueCursor *))
{
	int			used;

	if (table == NULL)
		return;
	LWLockAcquire(&table->pool, LW_SHARED);
	used = table->used;
	LWLockRelease(&table->pool);
	for (int i = 0; i < used; i++)
	{
		int64		line = entries[i].line;
		LWLock	   *lock;

		if (entries[i].db != db)
			continue;
		lock = lock_of(db, line);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		if (entries[i].db == db && entries[i].line == line)
			visit(&entries[i]);
		LWLockRelease(lock);
	}
}

/* Nothing is known of the line any more.  The caller holds the partition's lock. */
static void
to_front(QueueCursor *entry)
{
	return_block(entry);
	entry->last_seq = pg_atomic_add_fetch_u64(&table->seq, 1);
	entry->cursor = QUEUE_POS_FIRST;
	entry->empty = false;
	entry->front = QUEUE_POS_FIRST;
	settle(entry);
}

void
queue_cursor_reset(Oid db)
{
	for_each(db, to_front);
	queue_database_lose_cursor(queue_database_of(db, false));	/* lines without an entry may have jobs, too */
}

void
queue_cursor_drop(Oid db)
{
	for_each(db, give_up);
}

void
queue_cursor_sweep(bool (*gone) (int64 line))
{
	for (int i = 0; table != NULL && i < table->used; i++)
	{
		int64		line = entries[i].line;

		if (entries[i].db == MyDatabaseId && gone(line))
			queue_cursor_forget(MyDatabaseId, line);
	}
}
