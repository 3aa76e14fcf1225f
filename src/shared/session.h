/*
 * session.h
 *		Claims by advisory lock (claim => 'session'): nothing is written, the claim is a lock of
 *		this session and ends with it.
 */
#ifndef QUEUE_SESSION_H
#define QUEUE_SESSION_H

#include "shared/note.h"

/*
 * Tries to take the job's lock for this session; returns the claim's token, or 0 if somebody has it.  The caller then
 * rechecks the row with a dirty snapshot, and calls queue_session_drop if it is taken.  An aborted (sub)transaction
 * gives its claims back.  `table` is live_job's oid: a claim ends with its extension.  54000 when too many are held.
 *
 * The token is a negative number drawn by chance: it fits no lease, and no other claim of this or another session.
 */
extern int	queue_session_claim(Oid table, int64 id, int64 line, const QueueLineKeys *keys, QueuePos pos);
extern void queue_session_drop(int64 id);	/* without telling anyone: the job is not claimable */

extern int	queue_session_token(Oid table, int64 id);	/* of the claim that this session holds; 0: none */
extern void queue_session_finish(int64 id); /* the job ends or goes back when this transaction commits: then unlock */

/* Has any session claimed the job? Other claimers ask before they write their claim, and again after (job/claim.c). */
extern bool queue_session_taken(int64 id);
/* May any session hold a claim in this database? True without preload.  Who asks by id need not ask this. */
extern bool queue_session_any(void);
/*
 * The ids of all jobs of this database that sessions have claimed, and (unless NULL) the sessions' process ids,
 * palloc'd; returns how many.  Reads the whole lock table.
 */
extern int	queue_session_list(int64 **ids, pid_t **pids);

#define QUEUE_SESSION_PROBE_US USECS_PER_SEC	/* how often the scheduler tests whether a claim's lock is still held */

#endif
