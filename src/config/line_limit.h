/*
 * line_limit.h
 *		queue.max_lines: how many rows of queue.line there may be.
 */
#ifndef QUEUE_LINE_LIMIT_H
#define QUEUE_LINE_LIMIT_H

#include "config/types.h"

/* 54000 if there may not be one more line.  Called before a row is inserted. */
extern void queue_line_limit_check(const QueueConfig *config);
/* Rows came in by another way than through an enqueue, a restore perhaps. */
extern void queue_lines_loaded(void);

#endif
