/*
 * limits.h
 *		The limits of queues and handlers, and under which of them the claims of a line are; and turns and ageing of
 *		queues.
 */
#ifndef QUEUE_CONFIG_LIMITS_H
#define QUEUE_CONFIG_LIMITS_H

#include "config/reader.h"
#include "config/types.h"

/* For config.c: a queue's and a handler's, from their rows; a line's, from these. */
extern void queue_limits_read_queue(QueueReader *reader, QueueConf *conf);
extern void queue_limits_read_handler(QueueReader *reader, QueueHandler *handler);
extern void queue_limits_resolve(QueueLine *line);
extern bool queue_limits_any(const QueueConfig *config);

/* reserved, as in {"-10": 2}: at most QUEUE_MAX_RESERVED priorities.  False: what is wrong with it. */
extern bool queue_reserved_read(Jsonb *json, QueueReserved reserved[QUEUE_MAX_RESERVED], int *n, QueueComplaint *wrong);

#endif
