/*
 * rekeep.h
 *		Finished jobs whose queue keeps them for another time than when they ended.
 */
#ifndef QUEUE_REKEEP_H
#define QUEUE_REKEEP_H

#include "config/config.h"
#include "job/finished.h"
#include "job/job.h"

#include "utils/relcache.h"

/* Has a queue's keep_completed or keep_discarded changed since rows came into this slot of the ring? */
extern bool queue_rekeep_changed(int slot, TimestampTz now);
/*
 * Until when a row of this table is kept, by what its queue says now or because live jobs depend on it; DT_NOBEGIN:
 * none is any more.
 */
extern TimestampTz queue_rekeep_needed(QueueJobTable *jobs, Relation rel, TimestampTz now);
/* Until when this job is kept, by what its queue says now; of a queue that is gone: as before. */
extern TimestampTz queue_rekeep_until(const QueueFinished *finished);
/*
 * Copies the rows that are kept longer to where they belong by that, before the table of slot `here` is truncated.  How
 * many; -1, and none is: one belongs where it is, for it ended at a time still to come (the clock was set back).
 */
extern int64 queue_rekeep_move(QueueJobTable *jobs, Relation rel, int here, TimestampTz now);

#endif
