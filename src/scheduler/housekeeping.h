/*
 * housekeeping.h
 *		What the scheduler does for the tables beside finding work: retention and recounts, and
 *		when the chores of the files beside it are run.
 */
#ifndef QUEUE_HOUSEKEEPING_H
#define QUEUE_HOUSEKEEPING_H

#include "config/config.h"

/* Outside of a transaction: one slice of whatever is due. Returns when it wants to be called next. */
extern TimestampTz queue_keep_tables(TimestampTz now);

#endif
