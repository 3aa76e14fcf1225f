/*
 * sleep.h
 *		How a client's session sleeps inside a call until something happens.
 */
#ifndef QUEUE_SLEEP_H
#define QUEUE_SLEEP_H

#include "lib/queue.h"

#include "fmgr.h"

/* 25001 above READ COMMITTED, whose first snapshot would never see what is waited for. */
extern void queue_sleep_check_isolation(const char *function);
/* 25001 unless this CALL stands alone, so that it may let go of its snapshot; hint: what to do instead. */
extern void queue_sleep_check_procedure(FunctionCallInfo fcinfo, const char *procedure, const char *hint);
/*
 * Nothing of this session keeps vacuum from what dies while it sleeps.  For procedures; EnsurePortalSnapshotExists
 * takes a new one.
 */
extern void queue_sleep_no_snapshot(void);
/* Until the latch is set or the deadline; woken false: nobody sets it, so not for long.  Resets the latch. */
extern void queue_sleep(TimestampTz deadline, bool woken, uint32 wait_event);

#endif
