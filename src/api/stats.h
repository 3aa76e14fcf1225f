/*
 * stats.h
 *		What the stat views of queues and of kinds, and doctor(), have in common.
 */
#ifndef QUEUE_STATS_H
#define QUEUE_STATS_H

#include "job/job.h"
#include "shared/channel.h"

/* The first columns of numbers in both. */
enum
{
	QUEUE_STAT_AVAILABLE, QUEUE_STAT_RUNNING, QUEUE_STAT_RETRYABLE, QUEUE_STAT_SCHEDULED, QUEUE_STAT_PENDING,
	QUEUE_NGAUGES
};

/* How many jobs are in each of these states, by the place of a queue or kind and what its executors run. */
extern void queue_stats_gauges(QueueCounter *counter, int64 in_slots, Datum gauges[QUEUE_NGAUGES]);
/* A number counted by atomics in any order, which may be below zero for a moment. */
extern int64 queue_stats_number(pg_atomic_uint64 *counter);
/* How many executors run a job of this queue, or only of this kind in it (NULL: of all), now. */
extern int64 queue_stats_running(const char *queue, const char *kind);

#endif
