/*
 * topics.h
 *		Who subscribed to which topics, as a part of this backend's configuration.
 *
 * See topics.c.
 */
#ifndef QUEUE_TOPICS_H
#define QUEUE_TOPICS_H

#include "lib/queue.h"

#include "utils/jsonpath.h"

typedef struct QueueSubscription
{
	int64		id;
	char	   *kind;
	char	   *queue;
	JsonPath   *filter;			/* NULL: none */
	struct QueueSubscription *next; /* topics.c's: of the same pattern */
} QueueSubscription;

/* 22023 unless it is words with dots; pattern: of which one may be * or #. */
extern void queue_topic_check(const char *topic, bool pattern);
/* The subscriptions whose pattern matches the topic, palloc'd, by id; how many. */
extern QueueSubscription *queue_topic_match(const char *topic, int *n);

#endif
