/*
 * housekeeping.h
 *		What the scheduler does for the tables beside finding work: expired leases, retention, equal lines,
 *		recounts, the far look.
 */
#ifndef QUEUE_HOUSEKEEPING_H
#define QUEUE_HOUSEKEEPING_H

#include "config/config.h"

/* In a transaction: makes expired claims claimable again. Returns when it wants to be called next; DT_NOEND: never. */
extern TimestampTz queue_keep_leases(TimestampTz now);
/* Outside of a transaction: one slice of whatever is due. Returns when it wants to be called next. */
extern TimestampTz queue_keep_tables(TimestampTz now);

#endif
