/*
 * line_limit.c
 *		queue.max_lines: how many rows of queue.line there may be.
 *
 * Counting all rows for each new line would be quadratic, so shared memory keeps a bound: rows made since the last
 * count.
 *
 * Locks: AccessShareLock on queue.line while it is counted.
 */
#include "config/line_limit.h"

#include "config/relations.h"
#include "shared/clock.h"

#include "access/relscan.h"
#include "access/table.h"
#include "executor/tuptable.h"
#include "utils/rel.h"

/* The rows of queue.line, those of open transactions too. */
static int64
count_rows(const QueueConfig *config)
{
	Relation	rel = queue_relation_open(config->line_table, AccessShareLock);
	SnapshotData dirty;
	TableScanDesc scan;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64		n = 0;

	InitDirtySnapshot(dirty);
	scan = table_beginscan(rel, &dirty, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		n++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return n;
}

/*
 * May there be one more line?  Counts only when there may be too many: rows made since the last count are known in
 * shared memory, and rows deleted or rolled back only make them fewer.  Without it a session counts before every 256th
 * line.
 */
void
queue_line_limit_check(const QueueConfig *config)
{
	static uint64 own_made = 0;
	QueueDatabase *base = queue_database();
	uint64		made = base != NULL ? pg_atomic_add_fetch_u64(&base->lines_made, 1) : own_made++;
	int64		rows;

	if (base != NULL ? (int64) pg_atomic_read_u64(&base->lines_bound) + (int64) made <= queue_max_lines :
					   made % 256 != 0)
		return;
	if (base != NULL)
		made = pg_atomic_read_u64(&base->lines_made);	/* all these may be in the count, or come later */
	rows = count_rows(config);
	if (base != NULL)
		pg_atomic_write_u64(&base->lines_bound, (uint64) (rows + 1 - (int64) made));
	if (rows >= queue_max_lines)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there are " INT64_FORMAT " lines of jobs, more than queue.max_lines (%d) allows", rows + 1,
						queue_max_lines),
				 errhint(
					 "A line is a queue, kind and priority in use. Put what differs from job to job into the payload, "
					 "or raise queue.max_lines; lines without jobs go away by themselves after a while.")));
}

/*
 * They are counted before the next new line, and stay though they have no jobs yet.  Called by the trigger on
 * queue.line.
 */
void
queue_lines_loaded(void)
{
	QueueDatabase *base = queue_database();

	if (base == NULL)
		return;
	pg_atomic_write_u64(&base->lines_bound, (uint64) (PG_INT64_MAX / 2));
}
