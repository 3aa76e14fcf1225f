/*
 * line_table.h
 *		Lines by a 64-bit key: where lines.c and known_lines.c look one up.
 *
 * Open addressing, nothing is ever taken out: over many lines a lookup costs one miss of the processor's cache, where
 * dynahash has four.
 */
#ifndef QUEUE_LINE_TABLE_H
#define QUEUE_LINE_TABLE_H

#include "config/types.h"

#include "common/hashfn.h"

typedef struct QueueLineEntry
{
	uint64		key;
	void	   *line;			/* NULL: free */
} QueueLineEntry;

typedef struct QueueLineTable
{
	MemoryContext cxt;
	QueueLineEntry *entries;
	bool		hashed;			/* keys are hashes, else ids */
	uint32		mask;			/* of a place in entries; their number less 1 */
	uint32		n;				/* taken ones */
} QueueLineTable;

/* The key of a name: in a backend's table and in what shared memory tells of new lines. */
static inline uint64
queue_line_name_key(uint64 queue_key, uint64 kind_key, int16 priority, uint64 concurrency_hash)
{
	uint64		key = hash_combine64(hash_combine64(queue_key, kind_key), (uint64) (uint16) priority);

	return concurrency_hash == 0 ? key : hash_combine64(key, concurrency_hash);
}

static inline uint64
queue_line_concurrency_hash(const char *key)
{
	return key != NULL ? Max(queue_name_hash(key), 1) : 0;
}

static inline uint64
queue_line_key_of_name(const QueueLine *line)
{
	return queue_line_name_key(line->queue->key, line->kind_key, line->priority,
							   queue_line_concurrency_hash(line->key));
}

/* hashed: its keys are hashes, else ids.  expected: about so many will be in it. */
extern void queue_line_table_init(QueueLineTable *table, MemoryContext cxt, bool hashed, uint32 expected);
/* What has this key; NULL: nothing. */
extern void *queue_line_table_find(const QueueLineTable *table, uint64 key);
/* Puts a line under this key, in the place of what is there. */
extern void queue_line_table_put(QueueLineTable *table, uint64 key, void *line);

#endif
