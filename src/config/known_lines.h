/*
 * known_lines.h
 *		What this backend knows of lines over all readings of the configuration: what never changes of them.
 */
#ifndef QUEUE_KNOWN_LINES_H
#define QUEUE_KNOWN_LINES_H

#include "config/types.h"

typedef struct QueueKnownLine
{
	int64		id;
	QueueCounterRef *queue;		/* its queue's name; NULL: there is no such line any more */
	QueueCounterRef *counter;	/* of the kind in it; NULL: not asked for yet */
	uint64		kind_key;
	char	   *key;			/* concurrency key, or NULL */
	int16		priority;
	int64		handler;		/* of which .. */
	QueueKindRef stat;			/* .. these are the kind's numbers */
	QueueCursorRef cursor;
	uint32		visited;		/* the last queue_lines_visit() that met its row; 0: none did */
	uint32		length;			/* of the kind, with its end */
	char		kind[FLEXIBLE_ARRAY_MEMBER];
} QueueKnownLine;

/* From now on the lines of this table are meant: another one than before after DROP EXTENSION. */
extern void queue_known_lines_of(Oid line_table);
/* NULL: it is not known.  Good until another line becomes known. */
extern QueueKnownLine *queue_known_line(int64 id);
/* Makes a line known that is not, from its row. */
extern QueueKnownLine *queue_know_line(int64 id, const text *queue, const text *kind, int16 priority, const text *key);
/* How many are known. */
extern uint32 queue_known_lines(void);
/* There is no such line any more. */
extern void queue_unknow_line(int64 id);

#endif
