/*
 * extra.h
 *		The rare members of a job, which live_job keeps in one jsonb.
 */
#ifndef QUEUE_EXTRA_H
#define QUEUE_EXTRA_H

#include "lib/queue.h"

#include "utils/jsonb.h"

/* live_job.extra, unpacked. Anything at its default is left out of the row. */
typedef struct QueueExtra
{
	TimestampTz enqueued_at;	/* 0: equal to run_at */
	int			max_attempts;	/* 0: handler's, else queue's */
	int64		timeout;		/* us; -1: handler's, else the queue's lease; 0: none */
	char	   *backoff;		/* queue_backoff_text; NULL: handler's, else queue's */
	Jsonb	   *headers;
	Jsonb	   *tags;			/* array of strings */
	Jsonb	   *progress;
	char	   *last_error;
	char	   *worker;
	TimestampTz started_at;		/* of the present claim; 0 */
	TimestampTz first_at;		/* of the first HTTP attempt; 0 */
	TimestampTz expires_at;		/* cancelled if it was not started by then; DT_NOEND: never */
	char	   *unique_key;		/* NULL: none */
	Jsonb	   *origin;			/* where it came from: a dead letter from its original; NULL: an enqueue */
	int64		dead_letter;	/* of a discarded job: the id of its copy in the dead-letter queue; 0: none */
	char	   *concurrency_key;	/* NULL: none */
	int			deaths;			/* processes that died while they ran it alone */
	TimestampTz run_at;			/* what was asked for when the job was blocked (pending.h); 0: its row has it */
	int			blocks;			/* what blocks it: bits of pending.h */
	char	   *group_key;
	int64		position;		/* its place in the group; 0: its id */
	bool		holds_group;	/* discarded, but its group waits for it */
	int64		steps_size;		/* bytes that its steps have (step.h); 0: it has none */
	Jsonb	   *steps;			/* of an ended job; of a live one they are rows */
	int			depends_mode;	/* QueueDependsMode */
	TimestampTz retried_at;		/* of a job that depends on others: how those ended before is forgiven; 0 */
	int64		workflow;		/* that it is part of; 0: none */
	char	   *ref;			/* its name in the workflow; NULL: none */
	char	   *compensate_with;	/* the kind that undoes it; NULL: none */
	int64		compensates;	/* the job of the workflow that it undoes; 0: none */
	int64		cause;			/* of a cancelled job: the one because of which it was; 0: none */
	char	   *awaits;			/* the event that it awaits, or awaited last (event.h); NULL: it never did */
} QueueExtra;

/* Everything at its default. */
#define QUEUE_EXTRA_NONE ((QueueExtra) {.timeout = -1, .expires_at = DT_NOEND})

extern void queue_extra_unpack(const Jsonb *extra, QueueExtra *out);
extern Jsonb *queue_extra_pack(const QueueExtra *extra);	/* NULL when all is at its default */
extern TimestampTz queue_extra_time(const Jsonb *extra, const char *key);	/* one time of it; 0: not there */
extern TimestampTz queue_extra_expires_at(const Jsonb *extra);	/* DT_NOEND: never */
extern const char *queue_extra_worker(const Jsonb *extra, size_t *length);	/* not terminated; NULL: not there */
extern char *queue_extra_text(const Jsonb *extra, const char *key);	/* one text of it; NULL: not there */
extern int	queue_extra_max_attempts(const Jsonb *extra);	/* 0: not there */
extern int	queue_extra_blocks(const Jsonb *extra);
extern int64 queue_extra_int(const Jsonb *extra, const char *key);	/* one number of it; 0: not there */
extern bool queue_extra_has_group(const Jsonb *extra);
/* The group's key and place of job `id`; NULL: it has none. */
extern char *queue_extra_group(const Jsonb *extra, int64 id, int64 *position);

/* What a job's payload, headers and tags (NULL: none) come to in bytes; 54000 if that, or one value, is too much. */
extern int64 queue_job_size(const Jsonb *payload, const Jsonb *headers, const Jsonb *tags);
extern void queue_check_size(const char *what, int64 size);

#endif
