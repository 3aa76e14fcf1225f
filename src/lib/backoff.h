/*
 * backoff.h
 *		How long a failed job waits for its next attempt.  Pure: no server state.
 */
#ifndef QUEUE_BACKOFF_H
#define QUEUE_BACKOFF_H

#include "lib/option.h"

typedef enum QueueBackoffType
{
	QUEUE_BACKOFF_POLYNOMIAL,	/* failures^4 + base */
	QUEUE_BACKOFF_EXPONENTIAL,	/* base * factor^(failures - 1) */
	QUEUE_BACKOFF_LINEAR,		/* base * failures */
	QUEUE_BACKOFF_FIXED			/* base */
} QueueBackoffType;

typedef struct QueueBackoff
{
	QueueBackoffType type;
	int64		base;			/* microseconds */
	double		factor;
	int64		cap;			/* microseconds; 0: none */
	double		jitter;			/* 0.1: +-10 % */
} QueueBackoff;

extern const QueueBackoff queue_backoff_default;

/* Reads a backoff object; false: it is the default instead, and *wrong tells what is wrong with it. */
extern bool queue_backoff_read(Jsonb *json, QueueBackoff *backoff, QueueComplaint *wrong);
/* Reads a backoff object; 22023 for a value that is out of range, 42704 for an unknown member. */
extern QueueBackoff queue_backoff_parse(Jsonb *json);

/* As a row carries it, and back; false: it is not what queue_backoff_text wrote. */
extern char *queue_backoff_text(const QueueBackoff *backoff);
extern bool queue_backoff_of_text(const char *text, QueueBackoff *backoff);

/* Microseconds to wait after this many failures (>= 1); never overflows (at most 1000 years). */
extern int64 queue_backoff_delay(const QueueBackoff *backoff, int failures);

#endif
