/*
 * prepared.h
 *		The notes of prepared transactions, which somebody else pays.
 *
 * See prepared.c.
 */
#ifndef QUEUE_PREPARED_H
#define QUEUE_PREPARED_H

#include "shared/note.h"

extern Size queue_prepared_shmem_size(void);
extern void queue_prepared_shmem_init(void);

/* At PREPARE TRANSACTION; config: it changed the configuration.  Commit-safe.  Called by note.c. */
extern void queue_prepared_store(const QueueNote *notes, int n, bool config);
/*
 * Pays what transactions owe that are over and of whose end the hook is not told.  Called by note.c, by a worker of a
 * subscription that is about to commit.
 */
extern void queue_prepared_pay_over(void);

/* Hook (ddl_hook.c) around PREPARE TRANSACTION / COMMIT PREPARED / ROLLBACK PREPARED. */
extern void queue_prepared_set_gid(const char *gid);	/* before PREPARE */
extern void queue_prepared_finish(const char *gid, bool commit, bool maybe_old);	/* after success */
extern bool queue_prepared_knows(const char *gid);

#endif
