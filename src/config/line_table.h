/*
 * line_table.h
 *		Lines by a 64-bit key: where lines.c looks a line up.
 *
 * Open addressing, nothing is ever taken out: over many lines a lookup costs one miss of the processor's cache, where
 * dynahash has four.
 */
#ifndef QUEUE_LINE_TABLE_H
#define QUEUE_LINE_TABLE_H

#include "config/types.h"

typedef struct QueueLineEntry
{
	uint64		key;
	QueueLine  *line;			/* NULL: free */
} QueueLineEntry;

typedef struct QueueLineTable
{
	MemoryContext cxt;
	QueueLineEntry *entries;
	uint32		mask;			/* of a place in entries; their number less 1 */
	uint32		n;				/* taken ones */
} QueueLineTable;

extern void queue_line_table_init(QueueLineTable *table, MemoryContext cxt);
/* What has this key; NULL: nothing. */
extern QueueLine *queue_line_table_find(const QueueLineTable *table, uint64 key);
/* Puts a line under this key, in the place of what is there. */
extern void queue_line_table_put(QueueLineTable *table, uint64 key, QueueLine *line);

#endif
