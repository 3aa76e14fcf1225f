/*
 * enqueue.h
 *		The options of enqueue, one by one, for who sets them on a job that is there.
 */
#ifndef QUEUE_ENQUEUE_H
#define QUEUE_ENQUEUE_H

#include "lib/queue.h"

#include "utils/jsonb.h"

/* One job to be, as asked for. */
typedef struct QueueRequest
{
	const char *kind;
	Jsonb	   *payload;
	const char *queue;
	int64		priority;
	bool		has_run_at;
	TimestampTz run_at;
	bool		has_delay;
	int64		delay;
	int			max_attempts;	/* 0: not given */
	int64		timeout;		/* -1: not given */
	char	   *backoff;		/* queue_backoff_text; NULL: not given */
	TimestampTz expires_at;		/* DT_NOEND: never */
	Jsonb	   *headers;
	Jsonb	   *tags;
} QueueRequest;

#define QUEUE_REQUEST_NONE ((QueueRequest) {.timeout = -1, .expires_at = DT_NOEND})

/* Checks the value of an option, which is not null (numbers as int8), and puts it into the request. */
extern void queue_request_set(QueueRequest *request, const char *name, Datum value);

#endif
