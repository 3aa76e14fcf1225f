/*
 * cursor_table.c
 *		Where the entries of cursor.c lie: found by line, made, and given up.
 *
 * There are as many entries as queue.max_lines allows lines, and some more; none is evicted.  An entry is made
 * by the first append to its line or by its first reader, and given up when the line, the extension or the database is
 * dropped.  Each database can have QUEUE_CURSORS_SURE of them, whatever others have.  A line without an entry is read
 * from its front; base->cursors_lost tells readers that there are such lines.
 *
 * Ring and exact keys are in a block, of which there are fewer: a line borrows one when a raise was refused for want of
 * a ring, or when it needs an exact key.  If none is free, the next one whose line needs it no more is taken from it;
 * else the raise stays refused, and the append lowers the cursor.
 *
 * Locks: an entry is found and changed under the lock of its partition of the hash table.  Partition < pool (free
 * entries and blocks) and < agendas.  A second partition's lock is taken only conditionally.
 */
#include "shared/cursor_table.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

#define BLOCK_LOOKS 8			/* blocks looked at for one that is not needed */
#define RESERVE_SHARE 8			/* this part of all entries is for databases with few */

QueueCursorTable *queue_cursors = NULL;

Size
queue_cursor_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueCursorTable)) + MAXALIGN(mul_size(queue_agenda_capacity(), sizeof(int))) +
		mul_size(queue_agenda_capacity(), sizeof(QueueCursor));
}

void
queue_cursor_shmem_init(void)
{
	bool		found;
	int			nentries;
	char	   *memory = ShmemInitStruct("queue cursors", queue_cursor_shmem_size(), &found);

	queue_cursors = (QueueCursorTable *) memory;
	memory += MAXALIGN(sizeof(QueueCursorTable));
	nentries = queue_agenda_capacity();
	if (!found)
	{
		memset(queue_cursors, 0, sizeof(QueueCursorTable));
		queue_cursors->tranche = LWLockNewTrancheId();
		LWLockInitialize(&queue_cursors->pool, queue_cursors->tranche);
		for (int i = 0; i < QUEUE_CURSOR_PARTITIONS; i++)
			LWLockInitialize(&queue_cursors->partition[i].lock, queue_cursors->tranche);
		pg_atomic_init_u64(&queue_cursors->seq, 1);
		queue_cursors->free = QUEUE_CURSOR_NONE;
		queue_cursors->nentries = queue_cursors->nfree = nentries;
		queue_cursors->bucket = (int *) memory;
		queue_cursors->entry = (QueueCursor *) (memory + MAXALIGN(nentries * sizeof(int)));
		for (int i = 0; i < nentries; i++)
			queue_cursors->bucket[i] = QUEUE_CURSOR_NONE;
		memset(queue_cursors->entry, 0, nentries * sizeof(QueueCursor));
		for (int i = 0; i < QUEUE_CURSOR_BLOCKS; i++)
		{
			queue_cursors->block[i].owner = QUEUE_CURSOR_NONE;
			queue_cursors->block[i].next = i + 1 < QUEUE_CURSOR_BLOCKS ? i + 1 : QUEUE_CURSOR_NONE;
		}
	}
	LWLockRegisterTranche(queue_cursors->tranche, "QueueCursor");
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
	return &queue_cursors->bucket[hash_of(db, line) % (uint32) queue_cursors->nentries];
}

/* The lock of a line's partition; all of a bucket are in one partition. */
LWLock *
queue_cursor_lock(Oid db, int64 line)
{
	return &queue_cursors->partition[(bucket_of(db, line) - queue_cursors->bucket) % QUEUE_CURSOR_PARTITIONS].lock;
}

/* Finds an entry; the caller holds the partition's lock. */
QueueCursor *
queue_cursor_find(Oid db, int64 line)
{
	Assert(LWLockHeldByMe(queue_cursor_lock(db, line)));
	for (int i = *bucket_of(db, line); i != QUEUE_CURSOR_NONE; i = queue_cursors->entry[i].next)
	{
		if (queue_cursors->entry[i].line == line && queue_cursors->entry[i].db == db)
			return &queue_cursors->entry[i];
	}
	return NULL;
}

/* A free entry's number, counted as the database's; -1: no place.  The caller holds a partition's lock. */
static int
take_entry(Oid db, uint64 *incarnation)
{
	QueueDatabase *base = queue_database_of(db, false);
	int			i = QUEUE_CURSOR_NONE;

	if (base == NULL)
		return QUEUE_CURSOR_NONE;
	LWLockAcquire(&queue_cursors->pool, LW_EXCLUSIVE);
	if (queue_cursors->nfree > queue_cursors->nentries / RESERVE_SHARE ||
		(queue_cursors->nfree > 0 && base->cursors < QUEUE_CURSORS_SURE))
	{
		i = queue_cursors->free;
		if (i != QUEUE_CURSOR_NONE)
			queue_cursors->free = queue_cursors->entry[i].next;
		else
			i = queue_cursors->used++;
		queue_cursors->nfree--;
		base->cursors++;
		*incarnation = ++queue_cursors->incarnations;
	}
	LWLockRelease(&queue_cursors->pool);
	return i;
}

/*
 * From where on and when the entry's line has something to do (DT_NOEND: never).  The caller holds the partition's
 * lock.
 */
TimestampTz
queue_cursor_work(const QueueCursor *entry, QueuePos *bound)
{
	const QueueCursorBlock *block = queue_cursor_block(entry);
	TimestampTz due = entry->empty ? DT_NOEND : entry->front.run_at;

	*bound = queue_pos_cmp(entry->front, entry->cursor) > 0 ? entry->front : entry->cursor;
	for (int i = 0; block != NULL && i < block->nkeys; i++)
	{
		if (due == DT_NOEND || queue_pos_cmp(block->key[i], *bound) < 0)
			*bound = block->key[i];
		due = Min(due, block->key[i].run_at);
	}
	if (due == DT_NOEND)
		*bound = QUEUE_POS_FIRST;	/* the same whatever the cursor: an idle line costs no lock */
	return due;
}

/* Tells the agenda of that.  The caller holds the partition's lock exclusively. */
void
queue_cursor_settle(const QueueCursor *entry)
{
	QueuePos	bound;
	TimestampTz due = queue_cursor_work(entry, &bound);

	queue_agenda_set(queue_cursor_number(entry), bound, due);
}

/*
 * Makes the line's entry at the line's front, among the new lines; NULL: no place, which base->cursors_lost tells.  The
 * caller holds the partition's lock exclusively.
 */
QueueCursor *
queue_cursor_make(Oid db, int64 line, int16 priority)
{
	static QueueAgenda fresh = {.type = QUEUE_AGENDA_NEW};
	uint64		incarnation;
	int			i = take_entry(db, &incarnation);
	QueueCursor *entry;
	int		   *bucket = bucket_of(db, line);

	if (i == QUEUE_CURSOR_NONE)
		return NULL;
	entry = &queue_cursors->entry[i];
	*entry = (QueueCursor) {
		.db = db,
		.next = *bucket,
		.line = line,
		.incarnation = incarnation,
		.cursor = QUEUE_POS_FIRST,
		.front = QUEUE_POS_FIRST,
		.last_seq = pg_atomic_read_u64(&queue_cursors->seq),
		.block = QUEUE_CURSOR_NONE,
	};
	*bucket = i;
	fresh.db = db;
	if (queue_agenda_enter(i, &fresh, line, priority))
		queue_cursor_settle(entry);
	else
		queue_database_lose_cursor(queue_database_of(db, false));
	return entry;
}

/* ---------------------------------------------------------------- blocks */

/* An entry's block is for another; what its ring knew is lost.  The caller holds the owner's partition's lock. */
static void
let_go(QueueCursor *entry)
{
	queue_cursors->block[entry->block].owner = QUEUE_CURSOR_NONE;
	entry->block = QUEUE_CURSOR_NONE;
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
		int			number = queue_cursors->block_hand;
		QueueCursorBlock *block = &queue_cursors->block[number];
		int			owner = block->owner;
		QueueCursor *entry;
		LWLock	   *lock;
		bool		taken;

		queue_cursors->block_hand = (queue_cursors->block_hand + 1) % QUEUE_CURSOR_BLOCKS;
		if (owner == QUEUE_CURSOR_NONE)
			continue;
		entry = &queue_cursors->entry[owner];
		if (block->nkeys > 0 || block->unnoted_expiry != DT_NOEND ||
			entry->last_seq + QUEUE_CURSOR_BLOCKS > pg_atomic_read_u64(&queue_cursors->seq))
			continue;
		lock = queue_cursor_lock(entry->db, entry->line);
		if (lock != mine && !LWLockConditionalAcquire(lock, LW_EXCLUSIVE))
			continue;
		/* looked at without its lock: again */
		taken = block->owner == owner && entry->block == number && lock == queue_cursor_lock(entry->db, entry->line) &&
			block->nkeys == 0 && block->unnoted_expiry == DT_NOEND;
		if (taken)
			let_go(entry);
		if (lock != mine)
			LWLockRelease(lock);
		if (taken)
			return number;
	}
	return QUEUE_CURSOR_NONE;
}

/* Gives the entry a block, if it has none; NULL: there is none to be had.  The caller holds the partition's lock. */
QueueCursorBlock *
queue_cursor_give_block(QueueCursor *entry)
{
	int			number;
	QueueCursorBlock *block;

	if (entry->block != QUEUE_CURSOR_NONE)
		return queue_cursor_block(entry);
	LWLockAcquire(&queue_cursors->pool, LW_EXCLUSIVE);
	number = queue_cursors->free_block;
	if (number != QUEUE_CURSOR_NONE)
		queue_cursors->free_block = queue_cursors->block[number].next;
	else
		number = steal_block(queue_cursor_lock(entry->db, entry->line));
	LWLockRelease(&queue_cursors->pool);
	if (number == QUEUE_CURSOR_NONE)
		return NULL;
	block = &queue_cursors->block[number];
	block->nkeys = block->ring_next = 0;
	block->unnoted_expiry = DT_NOEND;
	block->lost_seq = entry->last_seq;
	memset(block->ring_seq, 0, sizeof(block->ring_seq));
	block->owner = queue_cursor_number(entry);
	entry->block = number;
	return block;
}

/* The block goes back to the pool.  The caller holds the partition's lock. */
void
queue_cursor_return_block(QueueCursor *entry)
{
	int			number = entry->block;

	if (number == QUEUE_CURSOR_NONE)
		return;
	LWLockAcquire(&queue_cursors->pool, LW_EXCLUSIVE);
	let_go(entry);
	queue_cursors->block[number].next = queue_cursors->free_block;
	queue_cursors->free_block = number;
	LWLockRelease(&queue_cursors->pool);
}

/* ---------------------------------------------------------------- giving up */

/* Makes an entry a free one.  The caller holds the partition's lock. */
static void
give_up(QueueCursor *entry)
{
	QueueDatabase *base = queue_database_of(entry->db, false);
	int		   *link = bucket_of(entry->db, entry->line);

	queue_agenda_leave(queue_cursor_number(entry));
	queue_cursor_return_block(entry);
	while (*link != queue_cursor_number(entry))
		link = &queue_cursors->entry[*link].next;
	*link = entry->next;
	LWLockAcquire(&queue_cursors->pool, LW_EXCLUSIVE);
	if (base != NULL)
		base->cursors--;
	entry->db = InvalidOid;
	entry->incarnation = 0;
	entry->next = queue_cursors->free;
	queue_cursors->free = queue_cursor_number(entry);
	queue_cursors->nfree++;
	LWLockRelease(&queue_cursors->pool);
}

/* Frees the line's entry; activity > 0: unless there was an append since its last_seq was that. */
static void
forget(Oid db, int64 line, uint64 activity)
{
	LWLock	   *lock;
	QueueCursor *entry;

	if (queue_cursors == NULL)
		return;
	lock = queue_cursor_lock(db, line);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = queue_cursor_find(db, line);
	if (entry != NULL && (activity == 0 || entry->last_seq == activity))
		give_up(entry);
	LWLockRelease(lock);
}

void
queue_cursor_forget(Oid db, int64 line)
{
	forget(db, line, 0);
}

/* Calls visit() for each entry of a database, under its lock. */
void
queue_cursor_for_each(Oid db, void (*visit) (QueueCursor *))
{
	int			used;

	if (queue_cursors == NULL)
		return;
	LWLockAcquire(&queue_cursors->pool, LW_SHARED);
	used = queue_cursors->used;
	LWLockRelease(&queue_cursors->pool);
	for (int i = 0; i < used; i++)
	{
		int64		line = queue_cursors->entry[i].line;
		LWLock	   *lock;

		if (queue_cursors->entry[i].db != db)
			continue;
		lock = queue_cursor_lock(db, line);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		if (queue_cursors->entry[i].db == db && queue_cursors->entry[i].line == line)
			visit(&queue_cursors->entry[i]);
		LWLockRelease(lock);
	}
}

void
queue_cursor_drop(Oid db)
{
	queue_cursor_for_each(db, give_up);
}

void
queue_cursor_sweep(bool (*gone) (int64 line))
{
	for (int i = 0; queue_cursors != NULL && i < queue_cursors->used; i++)
	{
		int64		line = queue_cursors->entry[i].line;
		uint64		activity = queue_cursors->entry[i].last_seq;

		/* its maker may have looked at the line, and commit it with jobs once gone() has not seen it */
		if (queue_cursors->entry[i].db == MyDatabaseId && gone(line))
			forget(MyDatabaseId, line, activity);
	}
}
