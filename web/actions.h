/*
 * actions.h
 *		What the pages may do: each action's call, and how the jobs that it is about are counted.
 */
#ifndef WEB_ACTIONS_H
#define WEB_ACTIONS_H

#include "entry.h"

extern const Query *action_find(const char *name);
extern const Query *action_count(const char *name);	/* NULL: it is about no filter */

#endif
