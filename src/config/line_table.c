/*
 * line_table.c
 *		Lines by a 64-bit key.
 *
 * No locks.
 */
#include "config/line_table.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#define FIRST_SIZE 64
#define BLOCK 64				/* ids; a kilobyte */
#define CHOICES 4				/* blocks of the table where a block of ids may stand */

void
queue_line_table_init(QueueLineTable *table, MemoryContext cxt, bool hashed, uint32 expected)
{
	Size		size = FIRST_SIZE;

	while (size / 2 < expected)
		size *= 2;
	table->entries = MemoryContextAllocExtended(cxt, size * sizeof(QueueLineEntry), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	table->cxt = cxt;
	table->hashed = hashed;
	table->n = 0;
	table->mask = (uint32) (size - 1);
}

/*
 * The place of a key: where it is, or the free one where it goes.  Over many lines the table is more than the
 * processor's cache holds, so what counts is in how few places one looks.
 *
 * A hash goes to its place or one of the next, which are near.  Ids mostly follow one another, and are mostly looked up
 * one after the other, so a block of ids stands together, each at its own offset in one of a few blocks of the table:
 * who goes through them goes through memory in order, and neither a search for what is not there nor a crowded
 * neighbour makes it a long way.  Only if these places are taken, as where all ids have one offset, it goes on from
 * place to place.
 */
static inline QueueLineEntry *
place_of(const QueueLineTable *table, uint64 key)
{
	uint64		block = key / BLOCK;
	uint32		i = (uint32) key & table->mask;

	for (uint32 n = 0; n < CHOICES && !table->hashed; n++)
	{
		i = (murmurhash32((uint32) block ^ (uint32) (block >> 32) ^ n << 29) * BLOCK | (uint32) (key % BLOCK)) &
			table->mask;
		if (table->entries[i].line == NULL || table->entries[i].key == key)
			return &table->entries[i];
	}
	while (table->entries[i].line != NULL && table->entries[i].key != key)
		i = (i + 1) & table->mask;
	return &table->entries[i];
}

void *
queue_line_table_find(const QueueLineTable *table, uint64 key)
{
	return place_of(table, key)->line;
}

/* Makes it twice as large. */
static void
grow(QueueLineTable *table)
{
	QueueLineEntry *old = table->entries;
	Size		size = (Size) table->mask + 1;

	table->entries = MemoryContextAllocExtended(table->cxt, 2 * size * sizeof(QueueLineEntry),
												MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	table->mask = (uint32) (2 * size - 1);
	for (Size i = 0; i < size; i++)
	{
		if (old[i].line != NULL)
			*place_of(table, old[i].key) = old[i];
	}
	pfree(old);
}

void
queue_line_table_put(QueueLineTable *table, uint64 key, void *line)
{
	QueueLineEntry *entry = place_of(table, key);

	if (entry->line == NULL && ++table->n > table->mask / 2)
	{
		grow(table);
		entry = place_of(table, key);
	}
	entry->key = key;
	entry->line = line;
}
