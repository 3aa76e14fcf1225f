/*
 * owner.h
 *		Acting as the extension's owner, and the settings that the server's own workers pin.
 */
#ifndef QUEUE_OWNER_H
#define QUEUE_OWNER_H

#include "config/config.h"

/* 42501 naming the privilege and the grant_queue call that would give it. */
extern void queue_require(const char *queue, int privilege);
extern void queue_require_of(Oid role, const char *queue, int privilege);	/* of another than the caller */

/* Act as the extension's owner with a pinned search_path; undone by queue_as_owner_end or by abort. */
typedef struct QueueOwnerContext
{
	Oid			userid;
	int			sec_context;
	int			guc_nestlevel;
} QueueOwnerContext;
extern void queue_as_owner_begin(QueueOwnerContext *saved);
extern void queue_as_owner_end(QueueOwnerContext *saved);

/*
 * For workers without a role: settings that the database or the bootstrap user may have and that must not reach them.
 */
extern void queue_pin_settings(void);

#endif
