/*
 * fetch_waiter.h
 *		Sessions that wait for something to fetch (fetch with wait, CALL await), woken by
 *		whoever makes a job of their queues and kinds claimable: one session a job.
 *
 * A bounded shared array; a session that finds no place, or runs without preload, looks again every 100 ms.
 */
#ifndef QUEUE_FETCH_WAITER_H
#define QUEUE_FETCH_WAITER_H

#include "shared/cursor.h"

#define QUEUE_FETCH_WAITER_NAMES 16

/* Which jobs a session waits for.  More names than fit: any, and a session woken in vain passes the wake on. */
typedef struct QueueFetchWait
{
	bool		any_queue;
	int			nqueues;
	uint64		queue_key[QUEUE_FETCH_WAITER_NAMES];
	bool		unserved;		/* only kinds that no handler serves */
	bool		any_kind;
	int			nkinds;
	uint64		kind_key[QUEUE_FETCH_WAITER_NAMES];
} QueueFetchWait;

extern Size queue_fetch_waiter_shmem_size(void);
extern void queue_fetch_waiter_shmem_init(void);

/* Takes a place; false: none is left, poll.  Given up by queue_fetch_waiter_end, on error and at exit too. */
extern bool queue_fetch_waiter_begin(const QueueFetchWait *awaited);
/* Before each look: from now on I can be woken (again). */
extern void queue_fetch_waiter_arm(void);
/* After each look: when the next job falls due (DT_NOEND: none; DT_NOBEGIN: more is due already, for somebody else). */
extern void queue_fetch_waiter_learn(TimestampTz next_due);
/* While asleep: when to look again though nobody wakes me; others that leave may have lowered it. */
extern TimestampTz queue_fetch_waiter_due(void);
extern bool queue_fetch_waiter_woken(void);
/* I leave, with a job or without; a wake that I did not use, and the due time that I knew, are passed on. */
extern void queue_fetch_waiter_end(void);

/*
 * Commit-safe; nearly free when nobody waits.  Wakes up to n sessions that wait for such jobs; returns how many.
 * Whether the line is served is asked of the keys only if the configuration is still the one that they were made in.
 */
extern int	queue_fetch_waiter_wake(Oid db, const QueueLineKeys *keys, int n);
/* The configuration changed (a queue resumed, a handler gone): all of this database look again.  Commit-safe. */
extern void queue_fetch_waiter_wake_all(Oid db);

#endif
