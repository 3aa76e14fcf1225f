/*
 * create.h
 *		A job to be, its checks, and its making.
 */
#ifndef QUEUE_CREATE_H
#define QUEUE_CREATE_H

#include "job/job.h"

#include "utils/jsonb.h"

/* What an enqueue does when the unique key is taken. */
typedef enum QueueConflict
{
	QUEUE_CONFLICT_IGNORE,
	QUEUE_CONFLICT_REPLACE,
	QUEUE_CONFLICT_REPLACE_PAYLOAD,
	QUEUE_CONFLICT_MERGE,
	QUEUE_CONFLICT_ERROR
} QueueConflict;

/* One job to be, as asked for; the priority is within its range. */
typedef struct QueueNewJob
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
	const char *unique_key;		/* NULL: none */
	const char *concurrency_key;	/* NULL: none */
	QueueConflict on_conflict;
	int64		unique_for;		/* us; 0: not given */
	const char *group_key;		/* NULL: none */
	Jsonb	   *origin;			/* what made the job, if no enqueue did; NULL: an enqueue */
	int64	   *depends_on;		/* NULL: none */
	int			ndepends;
	bool		depends_finished;	/* on any end; else on completion */
	int64		workflow;		/* that it joins; 0: none */
	bool		within;			/* .. from inside one of its own jobs */
	const char *ref;			/* its name there; NULL: none */
	const char *compensate_with;	/* NULL: none */
} QueueNewJob;

#define QUEUE_NEW_JOB_NONE ((QueueNewJob) {.timeout = -1, .expires_at = DT_NOEND})

/*
 * The checks alone: for who only notes what is to be enqueued later.
 */
extern void queue_job_check(const QueueNewJob *new, Oid creator);
/*
 * Checks what is asked for, and the creator's right to enqueue, and fills `job`, all but its id.  22004, 22023, 42501
 * or 42704 for what is wrong, 54000 for what is too large.  The line exists afterwards.
 */
extern void queue_job_prepare(const QueueNewJob *new, Oid creator, QueueJob *job);
/*
 * Inserts one prepared job and what goes with its row, with a new id unless it has one, and gives its id.  With a
 * unique key: job/unique.h.
 */
extern int64 queue_job_create(QueueJob *job);
/* Inserts jobs that have their ids, and what goes with their rows. */
extern void queue_job_add(QueueJobTable *table, QueueJob *jobs, int n);
/* 22004: what must not be null is. */
extern void queue_null_value(const char *name) pg_attribute_noreturn();

#endif
