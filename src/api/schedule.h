/*
 * schedule.h
 *		A schedule as its rows have it: reading it, what is wrong with it, and its jobs.
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include "job/unique.h"
#include "lib/cron.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* What a tick does while the last tick's job has not ended. */
typedef enum QueueOverlap
{
	QUEUE_OVERLAP_ALLOW,
	QUEUE_OVERLAP_SKIP,
	QUEUE_OVERLAP_REPLACE
} QueueOverlap;

extern const char *const queue_overlap_names[];	/* by QueueOverlap; NULL at the end */

typedef struct QueueSchedule
{
	char	   *name;
	char	   *line;
	char	   *timezone;
	char	   *kind;
	Jsonb	   *payload;
	char	   *queue;
	int			priority;
	Jsonb	   *options;		/* of its jobs; NULL: none */
	bool		missed_last;	/* of several missed ticks only the newest comes */
	TimestampTz starts_at;		/* DT_NOBEGIN: no bound */
	TimestampTz ends_at;		/* DT_NOEND: no bound */
	int64		jitter;			/* us; 0: none */
	int64		expires_after;	/* us; 0: never */
	QueueOverlap overlap;
	int64		catch_up;		/* us */
	char	   *owner;
	Oid			owner_oid;		/* InvalidOid: no such role */
	TimestampTz paused_at;		/* 0: not paused */
	bool		adopted;		/* its stamp is this system's and this database's */
	QueueCron	cron;
	const pg_tz *zone;
	char	   *broken;			/* what of the row cannot be read; NULL: nothing */
	/* its state */
	TimestampTz reached;
	TimestampTz last_tick;		/* 0: none came */
	int64		last_job;		/* 0: none */
	int64		missed;
	int64		skipped;
	char	   *reason;			/* NULL: none */
} QueueSchedule;

/* Selects schedules for queue_schedule_read; goes on with WHERE .. or ORDER BY.  s and t name the two tables. */
#define QUEUE_SCHEDULE_SELECT \
	"SELECT s.name, s.cron, s.timezone, s.kind, s.payload, s.queue, s.priority, s.options, s.missed, s.starts_at," \
	" s.ends_at, s.jitter, s.expires_after, s.overlap, s.catch_up, s.owner, s.paused_at, s.system_identifier," \
	" s.database_oid, t.reached, t.last_tick, t.last_job_id, t.missed, t.skipped, t.reason" \
	" FROM queue.schedule s JOIN queue.schedule_state t ON t.name = s.name "

extern void queue_schedule_read(HeapTuple tuple, TupleDesc desc, QueueSchedule *schedule);
/* Why it cannot tick, but for its being paused, as far as that can be known without trying; NULL: nothing. */
extern const char *queue_schedule_problem(const QueueSchedule *schedule, const char **hint);
/* The first tick that is not done with; DT_NOEND: none comes. */
extern TimestampTz queue_schedule_next(const QueueSchedule *schedule);
/*
 * Enqueues the job of a tick, for the schedule's owner, and gives the id of the job that stands for it.  Errors as of
 * an enqueue.
 */
extern int64 queue_schedule_enqueue(const QueueSchedule *schedule, TimestampTz tick, TimestampTz now,
									QueueEnqueued *outcome);

#endif
