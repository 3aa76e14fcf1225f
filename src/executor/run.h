/*
 * run.h
 *		Finding a handler's SQL function and calling it for one job: what executors and
 *		test_run share.  Touches no job row.
 */
#ifndef QUEUE_RUN_H
#define QUEUE_RUN_H

#include "job/job.h"
#include "job/log.h"

typedef enum QueueOutcome
{
	QUEUE_RUN_COMPLETED,
	QUEUE_RUN_FAILED,			/* any error: effects undone */
	QUEUE_RUN_DISCARD,			/* QU001, or queue.discard of oneself */
	QUEUE_RUN_SNOOZE,			/* QU002 (undone) or queue.snooze of oneself (kept) */
	QUEUE_RUN_CANCEL,			/* queue.cancel of oneself */
	QUEUE_RUN_RELEASE,			/* queue.release of oneself */
	QUEUE_RUN_AWAIT,			/* queue.await_event of oneself, which has to wait */
	QUEUE_RUN_INTERRUPTED		/* its executor asked for it (cancel, shutdown, commit interval): undone, uncounted */
} QueueOutcome;

typedef struct QueueRunResult
{
	QueueOutcome outcome;
	Jsonb	   *result;			/* what the function returned, or complete() was given */
	int64		delay;			/* us, snooze */
	int64		retry_in;		/* us, fail() of oneself; -1: backoff */
	Jsonb	   *progress;		/* progress() of oneself: kept if the row is */
	Jsonb	   *marks;			/* the job's extra, if save_step() or await_event() of oneself changed it */
	char	   *error;			/* message (and detail), never with payload */
	char		sqlstate[6];
	char	   *context;
	bool		timed_out;
	QueueJobLog log;			/* in the context that queue_run_job was called in */
} QueueRunResult;

/* What a call about one's own job, made inside its handler, asked for; taken up when the handler returns. */
typedef struct QueueVerdict
{
	bool		given;
	QueueOutcome outcome;
	int			level;			/* transaction nest level at which it was given; forgotten if that aborts */
	int64		delay;
	int64		retry_in;		/* fail(): us, -1: backoff */
	char	   *text;
	Jsonb	   *result;
	Jsonb	   *progress;
} QueueVerdict;

/* The job whose handler is running in this backend (executor or test_run); NULL: none. */
typedef struct QueueCurrent
{
	QueueJob   *job;
	QueueLine  *line;
	TimestampTz started_at;
	MemoryContext context;		/* where a verdict's values and the log's lines must live */
	bool		in_company;		/* its row is already deleted in a group: a verdict makes it rerun alone */
	bool		wants_alone;	/* a verdict was tried in company */
	bool		marked;			/* save_step() and await_event() wrote into job->extra what they did */
	QueueVerdict verdict;
	QueueJobLog log;
} QueueCurrent;
extern QueueCurrent *queue_current;

/* Set by who interrupts a job in company: it runs again alone, also when its handler caught the cancel. */
extern volatile sig_atomic_t queue_run_swallowed;

/*
 * Why this handler cannot run now, in words with a hint; NULL if it can. Checks the function (there, same owner or
 * superuser, right type, EXECUTE for run_as), the membership of registered_by in run_as, the stamp.
 * Cached until pg_proc, pg_namespace or pg_authid change.
 */
extern const char *queue_run_parked(QueueHandler *handler, const char **hint);

/* The function that the handler calls, as resolved; InvalidOid: it is parked. */
extern Oid	queue_run_function(QueueHandler *handler);

/* A handler's function as its registration keeps it. */
typedef struct QueueFunction
{
	bool		takes_job;		/* f(queue.job), else f(jsonb) */
	char	   *schema;
	char	   *name;
	char	   *owner;
} QueueFunction;

/*
 * The function that register_sql_handler's argument names, palloc'd: f(queue.job), else f(jsonb), of one schema.
 * 42883 if there is none, 42P13 or 42809 if it does not suit, 42501 if the caller or run_as may not execute it or its
 * owner may not decide what runs as run_as.
 */
extern void queue_run_resolve(const char *function, Oid run_as, QueueFunction *found);

/* Another number when what queue_run_parked says may have changed, as far as invalidations were accepted. */
extern uint64 queue_run_catalog_epoch(void);

/*
 * Runs the handler for the job: GUC nest level, fresh snapshot.  before(arg) runs first (the claim in a group;
 * false: nothing is run, and false is returned, as when the handler is parked).  With `subtransaction` in one of its
 * own, which is rolled back on an error or a fail() of oneself, and the result tells; without, errors are the caller's
 * (the caller then sets queue_current to NULL) and in_company must be true, so that every end but the good one is an
 * error.
 */
extern bool queue_run_job(QueueHandler *handler, QueueLine *line, QueueJob *job, TimestampTz started_at,
						  bool in_company, bool subtransaction, bool (*before) (void *arg), void *arg,
						  QueueRunResult *result);

#endif
