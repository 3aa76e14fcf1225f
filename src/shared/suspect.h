/*
 * suspect.h
 *		A MAP_SHARED file per database (pg_stat_tmp/queue.<oid>) where executors keep the
 *		ids that they run, so that after a crash just those are suspected of it.
 *
 * Each executor owns the row of its slot number: QUEUE_SUSPECT_IDS ids, each an
 * aligned 8-byte store.  Cleared on clean exit and by the SIGQUIT handler (another
 * process died); what is left was run by a process that died itself.
 */
#ifndef QUEUE_SUSPECT_H
#define QUEUE_SUSPECT_H

#include "shared/slot.h"

#define QUEUE_SUSPECT_IDS 64

extern void queue_suspect_attach(int slot_number);	/* executor; also installs the exit hook */
extern void queue_suspect_set(int i, int64 id); /* i < QUEUE_SUSPECT_IDS */
extern void queue_suspect_clear(void);	/* all of mine; async-signal-safe */
/* Scheduler at its start: reads and empties rows that no living executor owns; ids into out, at most max. */
extern int	queue_suspect_collect(int64 *out, int max);
extern void queue_suspect_forget(Oid db);	/* DROP DATABASE: the file goes */

#endif
