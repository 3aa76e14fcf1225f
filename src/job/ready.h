/*
 * ready.h
 *		Reading the due, unclaimed jobs of a set of lines in (priority, run_at, id)
 *		order: the ready index behind the cursors, merged over the lines.
 *
 * The one way in which fetch and the scheduler look for work.
 */
#ifndef QUEUE_READY_H
#define QUEUE_READY_H

#include "job/job.h"
#include "job/stream.h"
#include "shared/slot.h"

typedef struct QueueReady QueueReady;

/*
 * Pushes a snapshot (the latest in READ COMMITTED; above, the transaction's, and then no cursor is raised, and agendas
 * are of no use). `now` is what due means. Lines are merged by priority, or what became of it by waiting, first.
 */
extern QueueReady *queue_ready_begin(QueueJobTable *table, const QueueReadyLines *what, TimestampTz now);
extern Snapshot queue_ready_snapshot(QueueReady *ready);
/*
 * The next due row that is not leased (or whose lease ended: job->leased_until tells). Fixed columns only are read
 * (queue_ready_read_deep for the rest, before the next call). A row that was returned
 * counts as passed: the cursor goes behind it, whether the caller could claim it or not.
 */
extern bool queue_ready_next(QueueReady *ready, QueueJob *job, QueueLine **line);
extern void queue_ready_put_back(QueueReady *ready);
extern void queue_ready_lend(QueueReady *ready);
/*
 * The row returned last cannot be claimed because of a limit: it does not count as passed, and nothing more is read of
 * its line.  Nobody is woken: who makes room does that.
 */
extern void queue_ready_skip(QueueReady *ready);
/* Where the row returned last comes; if it came right behind another of its line (burst), where that does. */
extern QueueOrder queue_ready_order(const QueueReady *ready);
/* It is taken: it counts for its key's turn.  started: and begins. */
extern void queue_ready_use(QueueReady *ready, bool started);
/*
 * Only rows before this are wanted: the reading ends there, and opens no line that begins behind it.  Where keys take
 * turns it does not end.
 */
extern void queue_ready_before(QueueReady *ready, const QueueOrder *limit);
extern void queue_ready_read_deep(QueueReady *ready, QueueJob *job);
/* Raises the cursors, gives unused keys back, closes the scans, pops the snapshot. */
extern void queue_ready_end(QueueReady *ready);
/*
 * When the next not-yet-due job of the lines falls due, as far as this reading saw; DT_NOEND: none, DT_NOBEGIN:
 * more is due now.
 */
extern TimestampTz queue_ready_next_due(QueueReady *ready);
/* The same of the lines that were read to what is due; *more: others have more that is due now. */
extern TimestampTz queue_ready_later_due(QueueReady *ready, bool *more);

#endif
