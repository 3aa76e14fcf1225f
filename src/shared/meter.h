/*
 * meter.h
 *		Limits, and the tables of units and meters: the claims in force under them, and how many they are.
 *
 * What follows the tables' structs is for unit.c, and is called with the lock held.
 */
#ifndef QUEUE_METER_H
#define QUEUE_METER_H

#include "shared/fetch_waiter.h"

#define QUEUE_MAX_RESERVED 4	/* priorities for which a queue keeps executors */

/* What has limits. */
typedef enum QueueLimitOf
{
	QUEUE_LIMIT_QUEUE, QUEUE_LIMIT_HANDLER, QUEUE_LIMIT_KEY,
	QUEUE_LIMIT_RESERVED,		/* and the next ones: what runs in executors beside those kept for urgent jobs */
	QUEUE_NLIMITS = QUEUE_LIMIT_RESERVED + QUEUE_MAX_RESERVED
} QueueLimitOf;

/* The limits of one of them. */
typedef struct QueueLimit
{
	uint64		id;				/* whose; 0: there is none */
	int			max_running;	/* -1: any number */
	int			rate_limit;		/* claims in a period; -1: any number */
	int64		rate_period;	/* us */
	TimestampTz since;			/* since when claims must be counted for it; 0: they need not be */
	bool		gated;			/* an HTTP handler's: how much is read ahead is for feed.c */
	int			reserved;		/* RESERVED: so many executors are kept for others; one at least is not */
} QueueLimit;

/* How many claims it lets be in force; -1: any number. */
static inline int
queue_limit_most(const QueueLimit *limit)
{
	return limit->reserved > 0 ? Max(queue_executors - limit->reserved, 1) : limit->max_running;
}

/* The limits that a claim is under. */
typedef struct QueueLimits
{
	QueueLimit	of[QUEUE_NLIMITS];
	QueueLineKeys keys;			/* of its line: who waits for such a claim */
} QueueLimits;

/* To whom a unit belongs. */
typedef enum QueueUnitKind
{
	QUEUE_UNIT_LEASE,			/* the job's lease: it ends with that */
	QUEUE_UNIT_RUN,				/* this transaction, in which the job runs */
	QUEUE_UNIT_SESSION			/* this session's claim (session.h) */
} QueueUnitKind;

extern Size queue_unit_shmem_size(void);
extern void queue_unit_shmem_init(void);
extern void queue_unit_reset(Oid db);	/* the extension or the database is gone.  Commit-safe */

/* The id of what has these names, for QueueLimit; b may be NULL. */
extern uint64 queue_unit_id(const char *a, const char *b);

#define QUEUE_METER_WAITERS 4	/* kinds whose waiters are told apart */
#define QUEUE_METER_LINES 8		/* lines of a key that are held back while it is full; further ones are passed over */

typedef struct QueueMeterKey
{
	Oid			db;
	QueueLimitOf of;
	uint64		id;
} QueueMeterKey;

/* How much of one limit is used. */
typedef struct QueueMeter
{
	QueueMeterKey key;
	uint64		touched;		/* when the lock was held that often: who holds it may have found it */
	int			taken;
	bool		refused;		/* the scheduler or one of its workers was */
	int			nwaiters;		/* kinds of sessions that were; more than there is room for: all */
	QueueLineKeys waiter[QUEUE_METER_WAITERS];
	int			nlines;			/* held back until there is room */
	int64		line[QUEUE_METER_LINES];
	TimestampTz first_end;		/* no lease among its units ends before this */
	TimestampTz since;			/* for which limit it counted; 0: none */
	TimestampTz announced_for;	/* for which limit everybody was told to read the configuration .. */
	uint64		announced;		/* .. and when (census.h), .. */
	TimestampTz announced_at;	/* .. also by the clock */
	TimestampTz counting;		/* somebody counts since then; 0: nobody */
	bool		rated;
	double		arrival;		/* us; of the next claim, if they came evenly .. */
	double		step;			/* .. after each other; as of the last one */
} QueueMeter;

typedef struct QueueUnitKey
{
	Oid			db;
	QueueUnitKind kind;
	int64		owner;			/* a process id; 0: the lease */
	int64		job;
} QueueUnitKey;

typedef struct QueueUnit
{
	QueueUnitKey key;
	uint64		serial;
	TimestampTz until;			/* of a lease; DT_NOEND */
	QueueMeter *meter[QUEUE_NLIMITS];	/* where it counts; NULL: nowhere, or for another unit */
} QueueUnit;

/* Who is to be woken when the lock is let go. */
typedef struct QueueMeterWake
{
	Oid			db;
	bool		scheduler;
	bool		all;
	int			n;
	QueueLineKeys keys[QUEUE_METER_WAITERS];
} QueueMeterWake;

extern bool queue_meter_any(void);	/* without the lock: is there any unit? */
extern void queue_meter_lock(bool exclusive);
extern void queue_meter_unlock(const QueueMeterWake *wake);	/* and wakes; NULL: nobody */

/* The meter of a limit; NULL: there is none and no place for one. */
extern QueueMeter *queue_meter_find(const QueueLimit *limit, QueueLimitOf of);
extern QueueMeter *queue_meter_make(const QueueLimit *limit, QueueLimitOf of);
/* Lets go of the leases that have ended; none ends before meter->first_end then. */
extern void queue_meter_expire(QueueMeter *meter, TimestampTz now, QueueMeterWake *wake);
/* Is there no room?  Leases that have ended are let go first. */
extern bool queue_meter_full(QueueMeter *meter, const QueueLimit *limit, TimestampTz now, QueueMeterWake *wake);
/* This process found it full; limits NULL: it is the scheduler. */
extern void queue_meter_refuse(QueueMeter *meter, const QueueLimits *limits);
/* Was that done, by a session? */
extern bool queue_meter_refused(const QueueMeter *meter, const QueueLimits *limits);
/* Agendas hold this line back until then, or until there is room. */
extern void queue_meter_hold(QueueMeter *meter, int64 line, TimestampTz until);
extern bool queue_meter_holds(const QueueMeter *meter, int64 line);
extern bool queue_meter_let_go(QueueMeter *meter);	/* all of them; true: a scheduler cares */
extern void queue_meter_opens(QueueMeter *meter, QueueMeterWake *wake);	/* there is room again */
extern void queue_meter_open_all(QueueMeterWake *wake);	/* of this database: the limits may be others now */
/* How many tokens there are; fewer than wanted: *when there are as many.  One is used. */
extern int	queue_meter_tokens(QueueMeter *meter, const QueueLimit *limit, int wanted, TimestampTz now,
							   TimestampTz *when);
/* As the first, without the lock's being exclusive: is there none? */
extern bool queue_meter_dry(const QueueMeter *meter, const QueueLimit *limit, TimestampTz now, TimestampTz *when);
extern void queue_meter_use_token(QueueMeter *meter, const QueueLimit *limit, TimestampTz now);
extern void queue_meter_return_token(QueueMeter *meter);	/* as if it had not been used */

extern QueueUnit *queue_unit_find(QueueUnitKind kind, int64 owner, int64 job);
extern QueueUnit *queue_unit_make(QueueUnitKind kind, int64 owner, int64 job, TimestampTz until);	/* NULL: no place */
extern uint64 queue_unit_renew(QueueUnit *unit);	/* it is another lease's: its new serial number */
extern void queue_unit_count(QueueUnit *unit, int i, QueueMeter *meter);
extern void queue_unit_until(QueueUnit *unit, TimestampTz until);
extern void queue_unit_delete(QueueUnit *unit, QueueMeterWake *wake);
extern void queue_unit_delete_runs(QueueMeterWake *wake);	/* those of this process */

#endif
