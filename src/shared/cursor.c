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
 *	   The one row of a line that was empty is such a key, too, which needs no place in the list.
 *	5. Sequence numbers are never reused; an entry that was given up and made again has
 *	   another incarnation, and raises for the old one are refused.  A new entry refuses
 *	   the raises of all readers that began before it was made.
 *
 * Where entries lie, and that a line without one is read from its front: cursor_table.c.  What an entry says of its
 * line's work stands in the line's agenda too (agenda.c): every change ends with queue_cursor_settle().
 *
 * Locks: an entry is found and changed under the lock of its partition of the table; it comes before those of agendas.
 */
#include "shared/cursor.h"

#include "port/pg_bitutils.h"
#include "utils/timestamp.h"

/*
 * Locks the line's entry for who may have looked at it before; false: it has none.  With create it is made; false: no
 * place.
 */
static bool
lock_ref(QueueCursorRef *ref, bool create)
{
	LWLock	   *lock;

	if (queue_cursors == NULL)
		return false;
	lock = queue_cursor_lock(MyDatabaseId, ref->line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (ref->entry != NULL && ref->entry->incarnation == ref->incarnation)
		return true;
	ref->entry = create ? queue_cursor_find(MyDatabaseId, ref->line) : NULL;
	if (ref->entry == NULL && create)
		ref->entry = queue_cursor_make(MyDatabaseId, ref->line, ref->priority);
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
	LWLockRelease(queue_cursor_lock(MyDatabaseId, ref->line));
}

/* ---------------------------------------------------------------- readers */

uint64
queue_cursor_seq(void)
{
	uint64		seq = queue_cursors != NULL ? pg_atomic_read_u64(&queue_cursors->seq) : 0;

	pg_memory_barrier();		/* before the caller's snapshot */
	return seq;
}

QueueCursorView
queue_cursor_look(QueueCursorRef *ref)
{
	QueueCursorView view = {.valid = false, .cursor = QUEUE_POS_FIRST, .next_due = DT_NOBEGIN};
	const QueueCursorBlock *block;

	if (!lock_ref(ref, true))
		return view;
	view.valid = true;
	view.cursor = ref->entry->cursor;
	view.empty = ref->entry->empty;
	view.next_due = ref->entry->front.run_at;
	view.distance = ref->entry->distance > 0 ? INT64CONST(1) << ref->entry->distance : 0;
	block = queue_cursor_block(ref->entry);
	view.nkeys = block != NULL ? block->nkeys : 0;
	for (int i = 0; i < view.nkeys; i++)
	{
		if (i == 0 || queue_pos_cmp(block->key[i], view.first_key) < 0)
			view.first_key = block->key[i];
	}
	if (ref->entry->single)
	{
		if (view.nkeys++ == 0)
			view.first_key = ref->entry->front;
		view.empty = true;
	}
	unlock_ref(ref);
	return view;
}

TimestampTz
queue_cursor_glance(QueueCursorRef *ref, QueuePos *bound)
{
	TimestampTz due = DT_NOBEGIN;
	LWLock	   *lock;

	*bound = QUEUE_POS_FIRST;
	if (queue_cursors == NULL)
		return due;
	lock = queue_cursor_lock(MyDatabaseId, ref->line);
	LWLockAcquire(lock, LW_SHARED);
	if (ref->entry == NULL || ref->entry->incarnation != ref->incarnation)
	{
		ref->entry = queue_cursor_find(MyDatabaseId, ref->line);
		ref->incarnation = ref->entry != NULL ? ref->entry->incarnation : 0;
	}
	if (ref->entry != NULL)
		due = queue_cursor_work(ref->entry, bound);
	LWLockRelease(lock);
	return due;
}

bool
queue_cursor_take_key(QueueCursorRef *ref, uint64 start_seq, QueuePos *key)
{
	QueueCursorBlock *block;
	int			lowest = -1;
	bool		single;

	if (!lock_ref(ref, false))
		return false;
	block = queue_cursor_block(ref->entry);
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
	}
	single = lowest < 0 && ref->entry->single && ref->entry->last_seq <= start_seq;
	if (single)
	{
		*key = ref->entry->front;
		ref->entry->single = false;
		ref->entry->empty = true;
	}
	if (single || lowest >= 0)
		queue_cursor_settle(ref->entry);
	unlock_ref(ref);
	return single || lowest >= 0;
}

int
queue_cursor_keys(QueueCursorRef *ref, QueuePos keys[QUEUE_CURSOR_KEYS])
{
	const QueueCursorBlock *block;
	int			n = 0;

	if (!lock_ref(ref, false))
		return 0;
	block = queue_cursor_block(ref->entry);
	if (block != NULL)
		memcpy(keys, block->key, (n = block->nkeys) * sizeof(QueuePos));
	if (ref->entry->single && n < QUEUE_CURSOR_KEYS)
		keys[n++] = ref->entry->front;
	unlock_ref(ref);
	return n;
}

QueueAgendaItem *
queue_cursor_due_lines(TimestampTz now, int *n)
{
	int			used = queue_cursors != NULL ? queue_cursors->used : 0;
	QueueAgendaItem *items = palloc((used + 1) * sizeof(QueueAgendaItem));

	*n = queue_agenda_due(used, now, items);
	return items;
}

void
queue_cursor_raise(QueueCursorRef *ref, uint64 start_seq, QueuePos pos, bool empty, TimestampTz next_due,
				   int64 distance)
{
	QueuePos	front = {next_due, PG_INT64_MIN};
	QueueCursor *entry;
	QueueCursorBlock *block;
	bool		cut = false;

	if (!lock_ref(ref, false))
		return;
	entry = ref->entry;
	block = queue_cursor_block(entry);
	if (distance > 0)
		entry->distance = Min(pg_leftmost_one_pos64((uint64) distance) + 1, 40);
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
		entry->single = false;
		queue_cursor_settle(entry);
	}
	else
		(void) queue_cursor_give_block(entry);	/* so that the next one is only cut */
	unlock_ref(ref);
}

/* ---------------------------------------------------------------- who makes rows claimable */

/* There are rows from pos on, which is not before the cursor.  The caller holds the partition's lock exclusively. */
static void
expect(QueueCursor *entry, QueuePos pos, int count)
{
	entry->single = entry->empty && count == 1;
	if (entry->empty || queue_pos_cmp(pos, entry->front) < 0)
		entry->front = pos;
	entry->empty = false;
}

bool
queue_cursor_append(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos, int count)
{
	LWLock	   *lock;
	QueueCursor *entry;
	QueueCursorBlock *block;
	uint64		seq;
	bool		cares;

	if (queue_cursors == NULL)
		return false;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = queue_cursor_find(db, line);
	if (entry == NULL && keys != NULL)
		entry = queue_cursor_make(db, line, keys->priority);
	seq = pg_atomic_add_fetch_u64(&queue_cursors->seq, 1);
	if (entry == NULL)
	{
		queue_database_lose_cursor(queue_database_of(db, false));	/* before others may make it */
		LWLockRelease(lock);
		return true;
	}
	block = queue_cursor_block(entry);
	if (block == NULL && count == 1 && queue_pos_cmp(pos, entry->cursor) < 0)
		block = queue_cursor_give_block(entry);
	if (block != NULL)
	{
		block->lost_seq = Max(block->lost_seq, block->ring_seq[block->ring_next]);
		block->ring_seq[block->ring_next] = seq;
		block->ring_pos[block->ring_next] = pos;
		block->ring_next = (block->ring_next + 1) % QUEUE_CURSOR_RING;
	}
	entry->last_seq = seq;

	if (queue_pos_cmp(pos, entry->cursor) >= 0)
		expect(entry, pos, count);
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
		expect(entry, pos, 2);	/* and perhaps rows that keys name */
	}
	queue_cursor_settle(entry);
	cares = !entry->unserved;
	LWLockRelease(lock);
	return cares;
}

void
queue_cursor_begin(Oid db, int64 line, int16 priority)
{
	QueueDatabase *base = queue_database_of(db, false);
	LWLock	   *lock;
	QueueCursor *entry;

	if (queue_cursors == NULL || base == NULL)
		return;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = queue_cursor_find(db, line) == NULL ? queue_cursor_make(db, line, priority) : NULL;
	/* who saw the line committed, and found no place for an entry, lost one */
	if (entry != NULL && pg_atomic_read_u32(&base->cursors_lost) == QUEUE_CURSORS_ALL)
	{
		entry->empty = true;
		queue_cursor_settle(entry);
	}
	LWLockRelease(lock);
}

/* The line's agenda holds it until then.  True: the scheduler cares. */
static bool
hold(Oid db, int64 line, TimestampTz until)
{
	LWLock	   *lock;
	QueueCursor *entry;
	bool		cares = false;

	if (queue_cursors == NULL)
		return false;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = queue_cursor_find(db, line);
	if (entry != NULL)
	{
		queue_agenda_hold(queue_cursor_number(entry), until);
		cares = !entry->unserved;
	}
	LWLockRelease(lock);
	return cares;
}

void
queue_cursor_hold(Oid db, int64 line, TimestampTz until)
{
	(void) hold(db, line, until);
}

bool
queue_cursor_let_go(Oid db, int64 line)
{
	return hold(db, line, DT_NOBEGIN);
}

bool
queue_cursor_note_expiry(Oid db, int64 line, QueuePos low, QueuePos high, TimestampTz when)
{
	LWLock	   *lock;
	QueueCursor *entry;
	QueueCursorBlock *block;

	if (queue_cursors == NULL)
		return false;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = queue_cursor_find(db, line);
	block = entry != NULL ? queue_cursor_give_block(entry) : NULL;
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

bool
queue_cursor_place(QueueCursorRef *ref, QueueAgenda *agenda, bool served, bool fair)
{
	bool		placed = true;
	int			number;

	/* what only we write is read without the lock: mostly it stays as it is, and over many lines that counts */
	if (ref->entry != NULL && ref->entry->incarnation == ref->incarnation && ref->entry->unserved == !served &&
		queue_agenda_is_in(queue_cursor_number(ref->entry), agenda, fair))
		return true;
	if (!lock_ref(ref, true))
		return false;
	ref->entry->unserved = !served;
	number = queue_cursor_number(ref->entry);
	if (!queue_agenda_is_in(number, agenda, true))
	{
		placed = queue_agenda_move(number, agenda, ref->line, ref->priority);
		queue_cursor_settle(ref->entry);
	}
	if (!fair)
		queue_agenda_tell_turn(number, 0);
	unlock_ref(ref);
	return placed;
}

void
queue_cursor_tell_turn(QueueCursorRef *ref, uint64 turn)
{
	if (!lock_ref(ref, false))
		return;
	queue_agenda_tell_turn(queue_cursor_number(ref->entry), turn);
	unlock_ref(ref);
}

bool
queue_cursor_take_expired(Oid db, TimestampTz now, int64 *line, QueuePos *low, QueuePos *high, TimestampTz *next)
{
	bool		taken = false;

	*next = DT_NOEND;
	for (int i = 0; queue_cursors != NULL && i < QUEUE_CURSOR_BLOCKS && !taken; i++)
	{
		QueueCursorBlock *block = &queue_cursors->block[i];
		int			owner = block->owner;
		QueueCursor *entry;
		LWLock	   *lock;

		if (owner == QUEUE_CURSOR_NONE || block->unnoted_expiry == DT_NOEND)
			continue;
		entry = &queue_cursors->entry[owner];
		if (entry->db != db)
			continue;
		lock = queue_cursor_lock(db, entry->line);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		/* looked at without its lock: again */
		if (block->owner == owner && entry->db == db && lock == queue_cursor_lock(db, entry->line))
		{
			if (block->unnoted_expiry <= now)
			{
				taken = true;
				*line = entry->line;
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

	if (queue_cursors == NULL)
		return true;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_SHARED);
	entry = queue_cursor_find(db, line);
	reaches = entry != NULL && !entry->empty && queue_pos_cmp(pos, entry->cursor) >= 0 &&
		entry->front.run_at <= pos.run_at && (!entry->single || queue_pos_cmp(pos, entry->front) == 0);
	LWLockRelease(lock);
	return reaches;
}

uint64
queue_cursor_activity(Oid db, int64 line)
{
	LWLock	   *lock;
	QueueCursor *entry;
	uint64		last = 0;

	if (queue_cursors == NULL)
		return 0;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_SHARED);
	entry = queue_cursor_find(db, line);
	if (entry != NULL)
		last = entry->last_seq;
	LWLockRelease(lock);
	return last;
}

/* ---------------------------------------------------------------- when something unknown happened */

/* Nothing is known of the line any more.  The caller holds the partition's lock. */
static void
to_front(QueueCursor *entry)
{
	queue_cursor_return_block(entry);
	entry->last_seq = pg_atomic_add_fetch_u64(&queue_cursors->seq, 1);
	entry->cursor = QUEUE_POS_FIRST;
	entry->empty = entry->single = false;
	entry->front = QUEUE_POS_FIRST;
	queue_cursor_settle(entry);
}

void
queue_cursor_reset(Oid db)
{
	queue_cursor_for_each(db, to_front);
	queue_database_lose_cursor(queue_database_of(db, false));	/* lines without an entry may have jobs, too */
}
