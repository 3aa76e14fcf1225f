/*
 * session.h
 *		Claims by advisory lock (claim => 'session'): nothing is written, the claim is a lock of
 *		this session and ends with it.
 */
#ifndef QUEUE_SESSION_H
#define QUEUE_SESSION_H

#include "shared/note.h"

/*
 * Tries to take the job's lock for this session.  The caller then rechecks the row with a dirty snapshot, and calls
 * queue_session_drop if it is taken.  An aborted (sub)transaction gives its claims back.  54000 when too many are held.
 */
extern bool queue_session_claim(int64 id, int64 line, const QueueLineKeys *keys, QueuePos pos);
extern void queue_session_drop(int64 id);	/* without telling anyone: the job is not claimable */

extern bool queue_session_holds(int64 id);	/* does this session hold the claim? */
extern void queue_session_finish(int64 id); /* the job ends or goes back when this transaction commits: then unlock */

/* May any session hold a claim in this database? True without preload. */
extern bool queue_session_any(void);
/* Is the job claimed by another session? Every other claimer asks before it writes its claim, and again after. */
extern bool queue_session_taken(int64 id);
/* The ids of all jobs of this database that sessions have claimed, palloc'd; returns how many.  Reads the whole lock table. */
extern int	queue_session_list(int64 **ids);

#endif
