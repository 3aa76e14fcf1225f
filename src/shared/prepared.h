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

extern void queue_prepared_register_callback(void);	/* _PG_init, after that of note.c, which is then called later */

/* Hook (ddl_hook.c) around PREPARE TRANSACTION / COMMIT PREPARED / ROLLBACK PREPARED. */
extern void queue_prepared_set_gid(const char *gid);	/* before PREPARE */
extern void queue_prepared_finish(const char *gid, bool commit, bool maybe_old);	/* after success */
extern bool queue_prepared_knows(const char *gid);

#endif
