/*
 * breaker.h
 *		A circuit breaker: closed, open, half-open.  Pure arithmetic on a struct that lies
 *		in shared memory, so that its state outlives the process that uses it.
 */
#ifndef QUEUE_BREAKER_H
#define QUEUE_BREAKER_H

#include "lib/option.h"

typedef enum QueueBreakerState
{
	QUEUE_BREAKER_CLOSED,		/* requests go through -> OPEN when too many fail */
	QUEUE_BREAKER_OPEN,			/* none does -> HALF_OPEN after a pause */
	QUEUE_BREAKER_HALF_OPEN		/* a few are let through -> CLOSED when they succeed, OPEN when one fails */
} QueueBreakerState;

/* Its settings; queue_breaker_default has the usual numbers. */
typedef struct QueueBreakerConf
{
	int64		interval;		/* us over which failures are counted */
	double		failure_rate;	/* opens at this share of failures .. */
	int			min_requests;	/* .. of at least so many requests */
	int			consecutive_failures;	/* or after so many in a row; 0: never */
	int64		pause;			/* us of the first open pause */
	double		factor;			/* each further one is so much longer */
	double		jitter;			/* 0.5: +-50 % */
	int64		cap;			/* us, the longest pause */
	int			probes;			/* requests at once while half-open */
	int			successes;		/* that close it */
} QueueBreakerConf;

extern const QueueBreakerConf queue_breaker_default;

typedef struct QueueBreaker
{
	QueueBreakerState state;
	TimestampTz window_start;
	int			requests;		/* ended in this interval */
	int			failures;
	int			consecutive;	/* failures in a row, in any state */
	int			openings;		/* in a row, without closing: the pause grows with them */
	TimestampTz open_until;
	int			probing;		/* half-open: requests under way */
	int			succeeded;		/* half-open */
} QueueBreaker;

/* Reads the jsonb option; false: it is the default instead, and *wrong tells what is wrong with it. */
extern bool queue_breaker_read(Jsonb *json, QueueBreakerConf *conf, QueueComplaint *wrong);
/* Reads the jsonb option; unknown keys and values out of range are 22023. */
extern QueueBreakerConf queue_breaker_parse(Jsonb *json);

/* May a request go through now?  Turns open into half-open when the pause is over; *changed tells of it. */
extern bool queue_breaker_allows(QueueBreaker *breaker, const QueueBreakerConf *conf, TimestampTz now, bool *changed);
/* A request was let through; true: as a probe, to be told to queue_breaker_ended. */
extern bool queue_breaker_began(QueueBreaker *breaker);
/* It ended; true: the state changed.  random in [0, 1). */
extern bool queue_breaker_ended(QueueBreaker *breaker, const QueueBreakerConf *conf, TimestampTz now, bool probe,
								bool success, double random);
/* It was aborted and says nothing about the endpoint. */
extern void queue_breaker_aborted(QueueBreaker *breaker, bool probe);
/* first * factor^n, capped, +-jitter. */
extern int64 queue_breaker_pause(int64 first, double factor, double jitter, int64 cap, int n, double random);
extern const char *queue_breaker_word(QueueBreakerState state);

#endif
