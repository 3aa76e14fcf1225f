/*
 * known_lines.c
 *		What this backend knows of lines over all readings of the configuration.
 *
 * A reading (config.c) has pointers to queues and handlers in each of its lines, so it makes all of them anew.  Over
 * many lines most of that is reading rows of queue.line and copying names, which never change: an id is never used
 * again, and a line has its names to its end.  So these are kept here, and a new reading reads no row of a line that an
 * earlier one knew.  Of a line that was deleted this tells, too; that is harmless, because no job has its id, and who
 * wants to know reads the row (queue_line_stored).
 *
 * Memory of this backend, at most about twice as many as there may be lines: then it begins anew.  No locks.
 */
#include "config/known_lines.h"

#include "config/line_table.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#define SPARE 16384				/* beside twice as many lines as there may be */

static MemoryContext cxt = NULL;
static QueueLineTable table;
static Oid	known_of = InvalidOid;

/* Begins with an empty table. */
static void
begin(void)
{
	MemoryContext old = cxt;
	/* not rounded up to a power of two: over 100,000 lines each page of memory costs as much as what is in it */
	MemoryContext new = GenerationContextCreate(TopMemoryContext, "queue known lines", ALLOCSET_DEFAULT_SIZES);

	queue_line_table_init(&table, new, false, 0);
	cxt = new;
	if (old != NULL)
		MemoryContextDelete(old);
}

void
queue_known_lines_of(Oid line_table)
{
	if (line_table == known_of)
		return;
	begin();
	known_of = line_table;
}

QueueKnownLine *
queue_known_line(int64 id)
{
	QueueKnownLine *known = queue_line_table_find(&table, (uint64) id);

	return known != NULL && known->queue != NULL ? known : NULL;
}

/* The reference of the queue of this name; most rows that follow one another have the same. */
static QueueCounterRef *
queue_of(const text *name)
{
	static QueueCounterRef *last = NULL;
	Size		length = VARSIZE_ANY_EXHDR(name);

	if (last == NULL || strncmp(last->name, VARDATA_ANY(name), length) != 0 || last->name[length] != '\0')
	{
		char	   *copy = text_to_cstring(name);

		last = queue_counter_ref(copy);
		pfree(copy);
	}
	return last;
}

QueueKnownLine *
queue_know_line(int64 id, const text *queue, const text *kind, int16 priority, const text *key)
{
	Size		length = VARSIZE_ANY_EXHDR(kind);
	QueueKnownLine *known;

	if (table.n >= 2 * (uint32) queue_max_lines + SPARE)
		begin();
	known = MemoryContextAllocZero(cxt, offsetof(QueueKnownLine, kind) + length + 1);
	known->id = id;
	known->queue = queue_of(queue);
	known->key = key != NULL ? MemoryContextStrdup(cxt, text_to_cstring(key)) : NULL;
	known->priority = priority;
	known->length = (uint32) length + 1;
	memcpy(known->kind, VARDATA_ANY(kind), length);
	known->kind_key = queue_name_hash(known->kind);
	known->cursor = (QueueCursorRef) {.line = id, .priority = priority};
	queue_line_table_put(&table, (uint64) id, known);
	return known;
}

uint32
queue_known_lines(void)
{
	return table.n;
}

void
queue_unknow_line(int64 id)
{
	QueueKnownLine *known = queue_line_table_find(&table, (uint64) id);

	if (known != NULL)
		known->queue = NULL;
}
