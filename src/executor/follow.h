/*
 * follow.h
 *		Following on: an executor that ended a group's head runs the group's next job in the same transaction, and in
 *		the one after it.
 */
#ifndef QUEUE_FOLLOW_H
#define QUEUE_FOLLOW_H

#include "job/claim.h"

/* Before the transaction of a group of jobs begins, so that its now() is later than what this looks at. */
extern void queue_follow_begin(void);
/* A job ended well in it. */
extern void queue_follow_ended(const QueueClaim *claim);
/* Puts what follows that job into queue_held; false: nothing does, or it must not run here. */
extern bool queue_follow_next(QueueJobTable *table, TimestampTz group_start);
/* That one, as it was read, in the memory context of that call. */
extern const QueueJob *queue_follow_found(void);
/* The transaction is about to commit, with that job as its last one: may the next transaction go on from there? */
extern bool queue_follow_keep(QueueJobTable *table);
/* That one has begun: likewise.  Nothing is kept then unless it is found. */
extern bool queue_follow_resume(QueueJobTable *table, TimestampTz group_start);

#endif
