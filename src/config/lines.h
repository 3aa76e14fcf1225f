/*
 * lines.h
 *		The rows of queue.line: which line a queue, kind and priority have, and back.
 */
#ifndef QUEUE_LINES_H
#define QUEUE_LINES_H

#include "config/config.h"

/* through the table if not cached; 55000 if there is none */
extern QueueConf *queue_config_conf_of_line(int64 id, char **kind, int16 *priority);
/* The line's row exists (inserted now if need be, in this transaction); a clash of hashes is an error. */
extern int64 queue_line_ensure(const char *queue, const char *kind, int16 priority);

#endif
