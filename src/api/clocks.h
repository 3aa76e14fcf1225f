/*
 * clocks.h
 *		Who ticks: the scheduler, and pg_cron; and doctor()'s rows about schedules and their clocks.
 */
#ifndef QUEUE_CLOCKS_H
#define QUEUE_CLOCKS_H

#include "api/finding.h"

/* A schedule was registered: in pg_cron's own database its row is made, if it is not there. */
extern void queue_clocks_wind(void);
/* A schedule was removed: with the last one goes pg_cron's row. */
extern void queue_clocks_unwind(void);
/* queue.tick() or queue.maintain() was called.  Does not wait. */
extern void queue_clocks_note(void);

/* doctor()'s rows. */
extern void queue_doctor_schedules(QueueFindings *findings);

#endif
