/*
 * housekeeping.h
 *		What the scheduler does for the tables beside finding work: retention and recounts, and
 *		when the chores of the files beside it are run.
 */
#ifndef QUEUE_HOUSEKEEPING_H
#define QUEUE_HOUSEKEEPING_H

#include "config/config.h"

/* Chores (chores.h): in a transaction, one slice of each; when it wants to be called again. */
extern TimestampTz queue_housekeeping_recount(TimestampTz now);
extern TimestampTz queue_housekeeping_recount_due(void);
extern TimestampTz queue_housekeeping_retention(TimestampTz now);
extern TimestampTz queue_housekeeping_events(TimestampTz now);

#endif
