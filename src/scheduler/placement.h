/*
 * placement.h
 *		Which agenda a line is in: who runs its jobs, as the scheduler sees it.
 */
#ifndef QUEUE_PLACEMENT_H
#define QUEUE_PLACEMENT_H

#include "scheduler/executors.h"

/* The role whose executors run this line's jobs now; NULL: nobody may.  In a transaction. */
extern QueueRole *queue_placement_role(QueueLine *line, TimestampTz now);

/*
 * Before the scheduler reads: every line with work is in the agenda of who runs its jobs, and in no other.  True: all
 * were looked at, because something changed that decides who runs them.
 */
extern bool queue_placement_refresh(QueueConfig *config, TimestampTz now);
/* When that may change by itself. */
extern TimestampTz queue_placement_due(void);
/* Something happened that may change it. */
extern void queue_placement_recheck(void);

#endif
