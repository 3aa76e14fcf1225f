/*
 * log.h
 *		What a job logs: the lines of one attempt in memory, and rows of queue.log_line.
 */
#ifndef QUEUE_JOB_LOG_H
#define QUEUE_JOB_LOG_H

#include "job/job.h"

#define QUEUE_LOG_LINES 1000	/* of an attempt; the rest is counted in one line more */
#define QUEUE_LOG_LINE_BYTES 8192

typedef enum QueueLogLevel
{
	QUEUE_LOG_DEBUG, QUEUE_LOG_INFO, QUEUE_LOG_WARNING, QUEUE_LOG_ERROR
} QueueLogLevel;

#define QUEUE_LOG_NLEVELS (QUEUE_LOG_ERROR + 1)
extern const char *const queue_log_levels[QUEUE_LOG_NLEVELS];

typedef struct QueueLogLine
{
	struct QueueLogLine *next;
	TimestampTz logged_at;
	QueueLogLevel level;
	char		message[FLEXIBLE_ARRAY_MEMBER];
} QueueLogLine;

/* The lines of an attempt that is under way, in order.  All zero: none. */
typedef struct QueueJobLog
{
	QueueLogLine *first;
	QueueLogLine *last;
	int			n;
	int64		dropped;		/* lines that were too many */
	TimestampTz dropped_at;		/* the last of them */
} QueueJobLog;

/*
 * Adds a line, cut to QUEUE_LOG_LINE_BYTES, in memory of `context`.  Throws nothing: a line for which there is no
 * memory is counted with those that were too many.
 */
extern void queue_job_log_add(QueueJobLog *log, MemoryContext context, QueueLogLevel level, const char *message);

/* Inserts the lines as those of this attempt of the job; nothing if queue.keep_errors is 0. */
extern void queue_job_log_write(const QueueJob *job, int attempt, const QueueLine *line, const QueueJobLog *log);

/* Inserts one line after those that the attempt has already, or counts it in the last one. */
extern void queue_job_log_append(const QueueJob *job, int attempt, const QueueLine *line, QueueLogLevel level,
								 const char *message);

#endif
