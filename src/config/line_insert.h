/*
 * line_insert.h
 *		A new row of queue.line.
 *
 * See line_insert.c.
 */
#ifndef QUEUE_LINE_INSERT_H
#define QUEUE_LINE_INSERT_H

#include "config/config.h"

/* Inserts the row; its id.  If it is undone the configuration is read again. */
extern int64 queue_line_insert(QueueConfig *config, text *queue, text *kind, int16 priority, text *key);
/* Has this transaction inserted one? */
extern bool queue_line_inserted(void);

#endif
