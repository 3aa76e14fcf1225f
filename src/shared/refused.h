/*
 * refused.h
 *		Jobs whose claim by a session failed for their rows' sake, and that sessions pass by for a while.
 *
 * See refused.c.
 */
#ifndef QUEUE_REFUSED_H
#define QUEUE_REFUSED_H

#include "lib/queue.h"

#include "datatype/timestamp.h"

extern Size queue_refused_shmem_size(void);
extern void queue_refused_shmem_init(void);
extern void queue_refused_reset(Oid db);	/* the extension or the database is gone.  Commit-safe */

/* Does an error of this sqlerrcode, raised when a row was written, say that the row has itself to blame? */
extern bool queue_refused_is(int code);
/* The claim of this job, of this database, failed so. */
extern void queue_refused_add(int64 job, TimestampTz now);
/* Did one lately?  *until: sessions pass it by until then; 0: it may be tried. */
extern bool queue_refused_known(int64 job, TimestampTz now, TimestampTz *until);
/* How many were met within a minute; for doctor(). */
extern int	queue_refused_count(TimestampTz now);

#endif
