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

void
queue_line_table_init(QueueLineTable *table, MemoryContext cxt, uint32 expected)
{
	Size		size = FIRST_SIZE;

	while (size / 2 < expected)
		size *= 2;
	table->cxt = cxt;
	table->n = 0;
	table->mask = (uint32) (size - 1);
	table->entries = MemoryContextAllocExtended(cxt, size * sizeof(QueueLineEntry), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/*
 * The place of a key: where it is, or the free one where it goes.  Keys are ids, or hashes.  Lines with ids that follow
 * one another mostly come one after the other, so four of them share a line of the processor's cache; more would make
 * long runs of taken places, through which a search for what is not there goes.
 */
static inline QueueLineEntry *
place_of(const QueueLineTable *table, uint64 key)
{
	uint64		four = key >> 2;
	uint32		i = (murmurhash32((uint32) four ^ (uint32) (four >> 32)) << 2 | (uint32) (key & 3)) & table->mask;

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
