/*
 * claim.h
 *		May this row be claimed now, by whom, and the claim itself: one place for executors, the http worker, fetch,
 *		test_run and everybody else who must not touch what somebody works on.
 */
#ifndef QUEUE_CLAIM_H
#define QUEUE_CLAIM_H

#include "job/extra.h"
#include "job/limit.h"
#include "job/record.h"
#include "shared/channel.h"

typedef enum QueueClaimed
{
	QUEUE_CLAIM_OURS,			/* go on: it may be claimed, or is */
	QUEUE_CLAIM_NONE,			/* gone, moved or somebody's, who tells where it is and when he lets go */
	QUEUE_CLAIM_ENDED,			/* it ended here: it was not started in time, or its last attempt was lost */
	QUEUE_CLAIM_FULL,			/* a limit is in the way: claim->refusal tells which */
	QUEUE_CLAIM_LOST			/* a session was faster than what was just written: the caller rolls that back */
} QueueClaimed;

/* A claim under way.  The caller sets table and snapshot. */
typedef struct QueueClaim
{
	QueueJobTable *table;
	Snapshot	snapshot;
	/* the row as read; after queue_claim_lease, queue_claim_delete and _session as claimed */
	QueueJob	job;
	QueueExtra	extra;
	QueueLine  *line;
	QueueFailure lost;			/* error not NULL: the claim before this one ended without a word, a failed attempt */
	QueueLimitRefusal refusal;
	bool		follows;		/* it may be pending, because this transaction ended the job before it in its group */
	bool		paid;			/* its rates gave it their tokens before: an uncounted run is no claim of its own */
	bool		locked;			/* the row's lock is ours, and no session claimed it before that */
	TM_Result	met;			/* what queue_claim_lock met at the row; TM_Ok with NONE: a session has the job */
} QueueClaim;

/* Who works on a job. */
typedef enum QueueHolder
{
	QUEUE_HELD_BY_NOBODY, QUEUE_HELD_BY_LEASE, QUEUE_HELD_BY_EXECUTOR, QUEUE_HELD_BY_SESSION
} QueueHolder;

/* The jobs whose handlers this process is in, the innermost first; NULL: none.  executor/run.c keeps it. */
typedef struct QueueRunning
{
	int64		id;
	struct QueueRunning *outer;
} QueueRunning;

extern QueueRunning *queue_claim_running;
/* Its row is locked by this very transaction then, which is in the way of nothing else that it does. */
extern bool queue_claim_runs_here(int64 id);

extern QueueHolder queue_claim_holder(int64 id, TimestampTz leased_until, TimestampTz now);

/*
 * Reads the row of a channel's entry, or with look takes the one in claim->job; OURS: it may be claimed as far as it
 * can be seen.
 */
extern QueueClaimed queue_claim_read(QueueClaim *claim, const QueueEntry *entry);
extern QueueClaimed queue_claim_look(QueueClaim *claim);
/* Ends the job, if it came too late or its last attempt was lost. OURS: it may still be claimed. */
extern QueueClaimed queue_claim_judge(QueueClaim *claim);

/* For this transaction, which ends the job without running it; OURS or NONE. */
extern QueueClaimed queue_claim_lock(QueueClaim *claim, bool wait);
/* The claim itself, one of these; each gives OURS, NONE, FULL or, if said, LOST. */
extern QueueClaimed queue_claim_run(QueueClaim *claim, bool wait);	/* for this transaction, which runs the job */
extern QueueClaimed queue_claim_delete(QueueClaim *claim);	/* the same, and completes it; LOST */
extern QueueClaimed queue_claim_lease(QueueClaim *claim, TimestampTz until, const char *worker, TimestampTz now);
extern QueueClaimed queue_claim_session(QueueClaim *claim); /* for this session; job.attempt is its token */

/* Counts a claim that ran out as failed, in the row; OURS, also if none did, or NONE. */
extern QueueClaimed queue_claim_free_lost(QueueClaim *claim);
/* For who claimed by the row's lock: counts the lost attempt before in job.failures, and keeps it in queue.failure. */
extern void queue_claim_count_lost(QueueClaim *claim);

#endif
