/*
 * record.h
 *		What is kept of jobs beside live_job: the rings of tables, failed attempts, and the row type queue.job.
 */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include "job/job.h"

/* What is known of a run that ended; all of it may be missing. */
typedef struct QueueEnding
{
	TimestampTz started_at;		/* 0: unknown */
	TimestampTz ended_at;		/* 0: now */
	Jsonb	   *result;
	const char *error;
	const char *worker;			/* NULL: as the row says */
	Jsonb	   *progress;		/* NULL: as the row says */
	int64		dead_letter;	/* the id of its copy; 0: none */
	int64		cause;			/* of a cancel: the job because of which; 0: none */
} QueueEnding;

#define QUEUE_FOR_EVER (INT64CONST(360000) * USECS_PER_DAY) /* 1000 years as an interval */

/* The partition of what is inserted now and kept so long, us. */
extern int	queue_ring_slot(TimestampTz now, int64 keep);
/* Likewise, of finished_job, for a job that completed and is kept only because others depend on it: for an hour. */
extern int	queue_ring_awaited_slot(TimestampTz now, int64 keep);
/* How long a slot receives rows, in us; not of the last one. */
extern int64 queue_ring_width(int slot);
/* Inserts a row into a table; further columns are null. */
extern void queue_record_insert(Oid relid, Datum *values, bool *nulls, int natts);
/*
 * The slot rests between *expired_at (its last row expired) and *reused_at (its next turn may begin); false: it does
 * not rest now.
 */
extern bool queue_ring_window(int slot, TimestampTz now, TimestampTz *expired_at, TimestampTz *reused_at);

/* A text about a failure as a row may carry it: valid, at most 10 kB; palloc'd; NULL stays NULL. */
extern char *queue_record_text(const char *text);

/* One failed attempt, told in queue.job_error. */
typedef struct QueueFailure
{
	const char *error;			/* never NULL */
	const char *sqlstate;		/* 5 characters or NULL */
	int			http_status;	/* 0: none */
	const char *context;
	const char *worker;
	TimestampTz started_at;		/* 0: unknown */
	TimestampTz ended_at;		/* 0: now */
} QueueFailure;
/* A failed attempt that is kept. */
typedef struct QueueFailed
{
	int			attempt;
	TimestampTz failed_at;
	char	   *error;
} QueueFailed;
/* The last ones of a job, at most max, in their order; how many. */
extern int	queue_failure_last(int64 id, QueueFailed *failed, int max);
/* Keeps the failed attempt `job`, which failed at `now`. */
extern void queue_failure_insert(const QueueJob *job, const char *queue, const char *kind, const QueueFailure *failure,
								 TimestampTz now);

/*
 * The job as a datum of type queue.job.  The state is as given; line gives queue, kind and priority; extra is the
 * job's, unpacked, or NULL if the caller has not unpacked it.
 */
extern HeapTuple queue_job_tuple(const QueueJob *job, const QueueExtra *extra, const QueueConf *conf,
								 const char *kind, int16 priority, const QueueHandler *handler, QueueState state,
								 TimestampTz started_at, const char *worker);
extern Jsonb *queue_job_json(HeapTuple job);	/* such a tuple as JSON, as to_jsonb writes it */
extern Datum queue_tags_array(Jsonb *tags);	/* text[] of a JSON array of strings */

#endif
