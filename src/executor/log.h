/*
 * log.h
 *		RAISE NOTICE and WARNING of a handler go to its job's log.
 */
#ifndef QUEUE_EXECUTOR_LOG_H
#define QUEUE_EXECUTOR_LOG_H

#include "job/log.h"

/* Once per process, before its first handler runs. */
extern void queue_log_capture_install(void);

/* Where the messages of a handler go. */
typedef struct QueueLogTarget
{
	QueueJobLog *log;
	MemoryContext context;		/* of its lines */
} QueueLogTarget;

/* What is raised below ERROR goes there from here on.  Returns the target until now, NULL: none. */
extern QueueLogTarget *queue_log_capture_begin(QueueLogTarget *target);
/*
 * To be called by who catches an error that left a handler: the target, which may be gone, gets nothing more.  What the
 * server's log gets stays as it is until queue_log_capture_end, which must come after the rollback.
 */
extern void queue_log_capture_mute(void);
/* Back to the target before that.  Called after errors too, once more does no harm. */
extern void queue_log_capture_end(QueueLogTarget *outer);

#endif
