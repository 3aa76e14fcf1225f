/*
 * lines.h
 *		The rows of queue.line as this backend knows them: which lines a queue has, which one a job of a queue,
 *		kind and priority goes to, and back from a line's id.
 *
 * Pointers are good as long as the reading of the configuration that they belong to (config.h).
 */
#ifndef QUEUE_LINES_H
#define QUEUE_LINES_H

#include "config/config.h"

/*
 * By id, read from the table if need be; NULL: there is no such row that anybody sees.  It may give a line that was
 * deleted.
 */
extern QueueLine *queue_config_line(int64 id);
/* Is its row there?  For who has just visited all of them. */
extern bool queue_line_stored(int64 id);

/* Where the line's kind is counted in its queue. */
extern QueueCounterRef *queue_line_counter(const QueueLine *line);

/* The same for who only counts: kinds that have no place share a reference, and none is made for each. */
static inline QueueCounterRef *
queue_line_counted(const QueueLine *line)
{
	QueueCounterRef *counter = line->counter;

	if (unlikely(counter == NULL))
		counter = queue_counter_placeless(line->queue->counter, line->kind_key,
										  &unconstify(QueueLine *, line)->placeless);
	return counter != NULL ? counter : queue_line_counter(line);
}

/* The numbers of the line's kind and handler, which it has; as queue_kind_stat, made if need be. */
extern QueueKindStat *queue_line_stat(QueueLine *line);

/* The lines of one queue, and of one kind in it; an array that grows at its end only.  Retired ones too. */
extern QueueLine **queue_lines_of(const QueueConf *conf, int *n);
extern QueueLine **queue_lines_of_kind(const QueueConf *conf, const char *kind, int *n);
/* All rows of queue.line, read now and palloc'd: retired ones too, and those whose queue is gone. */
extern QueueLine **queue_lines_all(int *n);
/*
 * Calls visit() for all of them, without making them: what it gets is good for the call, has no limits, and no queue if
 * that is gone.  Where its cursor is then is known to later readings, too.  How many there are.
 */
extern int	queue_lines_visit(void (*visit) (QueueLine *line, TimestampTz now), TimestampTz now);

/*
 * The id of a line for new jobs, whose row exists or will if this transaction commits; 42704: no such queue; 54000:
 * more lines than queue.max_lines.  key: the job's concurrency key or NULL, which matters where the queue goes by keys.
 */
extern int64 queue_line_ensure(const char *queue, const char *kind, int16 priority, const char *key);

#endif
