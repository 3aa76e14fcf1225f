/*
 * eligible.h
 *		Which handlers may run now, as the scheduler sees it.
 */
#ifndef QUEUE_ELIGIBLE_H
#define QUEUE_ELIGIBLE_H

#include "scheduler/executors.h"

/* A new look begins: what the catalogs were asked before is forgotten. */
extern void queue_eligible_begin(const QueueConfig *config, TimestampTz now);
/* May this handler run here now?  In a transaction. */
extern bool queue_eligible(QueueHandler *handler, TimestampTz now);
/* When the answers of this look should be asked again, if nothing is heard before. */
extern TimestampTz queue_eligible_until(TimestampTz now);
/* Hears what an executor of the role said about a handler that it could not run; true: another look is needed. */
extern bool queue_eligible_refused(QueueRole *role, TimestampTz now);
/* Did catalogs change that handlers depend on?  *when: the time for another look, not too many a second. */
extern bool queue_eligible_changed(TimestampTz *when);

#endif
