/*
 * ddl_hook.h
 *		The ProcessUtility hook: DDL that must have workers out of the way or that they must hear of.
 */
#ifndef QUEUE_DDL_HOOK_H
#define QUEUE_DDL_HOOK_H

#include "lib/queue.h"

extern void queue_ddl_hook_install(void);	/* _PG_init, preload only */

#endif
