/*
 * note.h
 *		What a transaction will tell others when it ends: positions that become
 *		claimable, counters, leases, wake-ups, changed configuration.
 *
 * Notes live in backend-local memory that is allocated when they are made, so that the
 * transaction callbacks only touch shared memory and latches.  They follow
 * subtransactions (moved to the parent on subcommit, applied on subabort), and two-phase
 * commits through a shared table (prepared.h).
 */
#ifndef QUEUE_NOTE_H
#define QUEUE_NOTE_H

#include "shared/counter.h"
#include "shared/cursor.h"
#include "shared/end_waiter.h"
#include "shared/fetch_waiter.h"
#include "shared/lease.h"

typedef struct QueueNote
{
	int			level;			/* transaction nest level; set by queue_note_begin */
	int64		line;
	int64		job_id;			/* for leases and waiters; 0: none */
	bool		on_commit;		/* append commit_pos when it commits */
	bool		on_abort;		/* append abort_pos when it aborts */
	bool		ends;			/* the job ended: wake who waits for job_id, forget its lease */
	bool		failed;			/* a failed attempt: counter */
	bool		kind_only;		/* it changes its kind and stays in its queue, whose counters do not move */
	QueuePos	commit_pos;
	QueuePos	high_pos;		/* the highest commit_pos of what was merged; set by note.c */
	QueuePos	abort_pos;
	/* of the rows of commit_pos, those before it were passed by this transaction's own reading; set by note.c */
	QueuePos	own_pos;
	int			count;			/* rows; positions are the lowest of them */
	TimestampTz lease_was;		/* until when the job was leased before; 0: it was not */
	TimestampTz leased_until;	/* on commit note this lease; 0: none; DT_NOBEGIN: forget it */
	TimestampTz deadline;		/* on commit: the lowest that was inserted into queue.deadline, or before it; 0: none */
	QueueLineKeys keys;			/* of the line: whose counters move, who is woken */
	QueueState	from, to;		/* counters: filed states before and after */
} QueueNote;

extern void queue_note_register_callbacks(void);	/* _PG_init */

/*
 * A note is begun BEFORE the change it tells of, so that an error in between still tells, and ended after it: with
 * done = false the change did not happen (the row was locked by another) and the note is void.  When a transaction
 * has made many, like notes of one line and level are merged into (lowest position, count).  -1 without preload.
 */
extern int	queue_note_begin(const QueueNote *note);
extern void queue_note_reserve(void);	/* memory for one more: its begin throws nothing */
extern void queue_note_end(int number, bool done);

/*
 * Commit-safe. `count` jobs of this line are claimable from now on (pos: the lowest): tells cursor, scheduler and
 * waiters.
 */
/* keys NULL: unknown */
extern void queue_note_claimable(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos, int count);
/* Likewise by the scheduler, of a job whose key it took and did not use: it has seen it, others may have missed it. */
extern void queue_note_left(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos);

/*
 * The lines that this open transaction itself made claimable jobs in, one by one, perhaps more than once: *i counts and
 * begins with 0.  False: that was all.
 */
extern bool queue_note_own_line(int *i, int64 *line);
/*
 * The lowest position of a line that this open transaction itself made claimable and has not read past: the shared
 * cursor knows nothing of it before the commit, but this transaction's own fetch must find it.  False: none.
 */
extern bool queue_note_own(int64 line, QueuePos *lowest);
/* This transaction read all of a line before pos.  What a subtransaction then gives back is in the cursor's keys. */
extern void queue_note_own_passed(int64 line, QueuePos pos);
/* Nothing of this transaction's own counts as passed: what was left then, because of a limit say, may be taken now. */
extern void queue_note_own_anew(void);

/* A new line: told of after commit, before its jobs (shared/database.h). */
extern void queue_note_new_line(const QueueNewLine *line);

/* The configuration changed: bump the database's generation after commit. */
extern void queue_note_config(void);
extern bool queue_note_configured(void);	/* did this open transaction? */
/* CREATE/DROP EXTENSION, CREATE DATABASE: wake the launcher after commit. */
extern void queue_note_launcher(void);

/* What this transaction owes; config: the configuration, or a line, is new.  Commit-safe.  Called by prepared.c. */
extern const QueueNote *queue_note_owed(int *n, bool *config);
/* Commit-safe.  What notes owe, of a transaction that is over.  Called by prepared.c. */
extern void queue_note_pay_commit(Oid db, QueueDatabase *base, QueueNote *note, int n);
extern void queue_note_pay_abort(Oid db, QueueDatabase *base, const QueueNote *note, int n);

#endif
