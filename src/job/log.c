/*
 * log.c
 *		What a job logs: the lines of one attempt in memory, and rows of queue.log_line.
 *
 * A handler's lines wait in memory, because its subtransaction may be rolled back.  The transaction that records the
 * attempt's outcome inserts them; a run that is not counted drops them.  A worker that claimed its job writes
 * each line in its own transaction.  The tables are a ring like queue.failure's (record.c), so retention truncates.
 *
 * Locks: RowExclusiveLock on one partition; AccessShareLock on those of one keep class while lines are counted.
 */
#include "job/log.h"

#include "config/owner.h"
#include "job/record.h"
#include "lib/text.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

const char *const queue_log_levels[QUEUE_LOG_NLEVELS] = {"debug", "info", "warning", "error"};

/* The columns of log_line.  Later versions only append. */
enum
{
	COL_SLOT, COL_JOB_ID, COL_QUEUE, COL_KIND, COL_ATTEMPT, COL_LINE, COL_LOGGED_AT, COL_KEEP_UNTIL, COL_LEVEL,
	COL_MESSAGE, COL_DROPPED, NCOLS
};

void
queue_job_log_add(QueueJobLog *log, MemoryContext context, QueueLogLevel level, const char *message)
{
	size_t		length = queue_text_fitting(message, strlen(message), QUEUE_LOG_LINE_BYTES);
	QueueLogLine *line = log->n >= QUEUE_LOG_LINES ? NULL :
		MemoryContextAllocExtended(context, offsetof(QueueLogLine, message) + length + 1, MCXT_ALLOC_NO_OOM);

	if (line == NULL)
	{
		log->dropped++;
		log->dropped_at = queue_now();
		return;
	}
	line->next = NULL;
	line->logged_at = queue_now();
	line->level = level;
	memcpy(line->message, message, length);
	line->message[length] = '\0';
	if (log->last != NULL)
		log->last->next = line;
	else
		log->first = line;
	log->last = line;
	log->n++;
}

/* Inserts one row.  message NULL: it counts `dropped` lines. */
static void
insert_line(const QueueJob *job, int attempt, const QueueLine *line, int number, TimestampTz logged_at,
			QueueLogLevel level, const char *message, int64 dropped)
{
	Datum		values[NCOLS];
	bool		nulls[NCOLS] = {false};
	int64		keep = (int64) queue_keep_errors * USECS_PER_SEC;
	TimestampTz now = queue_now();
	int			slot = queue_ring_slot(now, keep);

	values[COL_SLOT] = Int16GetDatum(slot);
	values[COL_JOB_ID] = Int64GetDatum(job->id);
	values[COL_QUEUE] = CStringGetTextDatum(line->queue->name);
	values[COL_KIND] = CStringGetTextDatum(line->kind);
	values[COL_ATTEMPT] = Int32GetDatum(attempt);
	values[COL_LINE] = Int32GetDatum(number);
	values[COL_LOGGED_AT] = TimestampTzGetDatum(logged_at);
	values[COL_KEEP_UNTIL] = TimestampTzGetDatum(now + keep);
	values[COL_LEVEL] = CStringGetTextDatum(queue_log_levels[level]);
	nulls[COL_MESSAGE] = message == NULL;
	values[COL_MESSAGE] = message == NULL ? (Datum) 0 :
		CStringGetTextDatum(queue_text_clean(message, strlen(message), QUEUE_LOG_LINE_BYTES, GetDatabaseEncoding()));
	nulls[COL_DROPPED] = message != NULL;
	values[COL_DROPPED] = Int64GetDatum(dropped);
	queue_record_insert(queue_config()->log_line[slot], values, nulls, NCOLS);
}

void
queue_job_log_write(const QueueJob *job, int attempt, const QueueLine *line, const QueueJobLog *log)
{
	MemoryContext context;
	MemoryContext old;
	int			number = 0;

	if ((log->n == 0 && log->dropped == 0) || queue_keep_errors == 0)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "queue log line", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	for (QueueLogLine *l = log->first; l != NULL; l = l->next)
	{
		CHECK_FOR_INTERRUPTS();
		insert_line(job, attempt, line, ++number, l->logged_at, l->level, l->message, 0);
		MemoryContextReset(context);
	}
	if (log->dropped > 0)
		insert_line(job, attempt, line, QUEUE_LOG_LINES + 1, log->dropped_at, QUEUE_LOG_WARNING, NULL, log->dropped);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* The highest number among an attempt's lines in one partition; 0: none. */
static int
last_line_in(int slot, int64 id, int attempt, Snapshot snapshot)
{
	Relation	rel = table_open(queue_config()->log_line[slot], AccessShareLock);
	Relation	index = index_open(queue_config()->log_line_attempt[slot], AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	IndexScanDesc scan;
	ScanKeyData keys[2];
	int			number = 0;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(attempt));
	scan = queue_index_beginscan(rel, index, snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, row))
	{
		bool		isnull;

		number = DatumGetInt32(slot_getattr(row, COL_LINE + 1, &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	/* retention truncates only what nobody has locked */
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return number;
}

/* One line more than an attempt may have: the last one counts it. */
static void
count_dropped(int64 id, int attempt)
{
	static SPIPlanPtr plan = NULL;
	QueueOwnerContext saved;
	Datum		values[2] = {Int64GetDatum(id), Int32GetDatum(attempt)};

	queue_as_owner_begin(&saved);
	SPI_connect();
	if (plan == NULL)
	{
		plan = SPI_prepare("UPDATE queue.log_line SET dropped = dropped + 1, logged_at = queue_internal.clock()"
						   " WHERE job_id = $1 AND attempt = $2 AND line = 1001", 2, (Oid[]) {INT8OID, INT4OID});
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the count of dropped log lines");
	}
	if (SPI_execute_plan(plan, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not count a dropped log line");
	SPI_finish();
	queue_as_owner_end(&saved);
}

void
queue_job_log_append(const QueueJob *job, int attempt, const QueueLine *line, QueueLogLevel level, const char *message)
{
	int			first = queue_ring_slot(queue_now(), (int64) queue_keep_errors * USECS_PER_SEC);
	int			last = 0;
	Snapshot	snapshot;

	StaticAssertStmt(QUEUE_LOG_LINES == 1000, "the number of the line that counts is in count_dropped's SQL");
	if (queue_keep_errors == 0)
		return;
	/* an attempt's lines lie in one partition, or in two of the class if the turn changed meanwhile */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	first -= first % QUEUE_RING_TURNS;
	for (int slot = first; slot < Min(first + QUEUE_RING_TURNS, QUEUE_RING_SLOTS); slot++)
		last = Max(last, last_line_in(slot, job->id, attempt, snapshot));
	UnregisterSnapshot(snapshot);
	if (last < QUEUE_LOG_LINES)
		insert_line(job, attempt, line, last + 1, queue_now(), level, message, 0);
	else if (last == QUEUE_LOG_LINES)
		insert_line(job, attempt, line, last + 1, queue_now(), QUEUE_LOG_WARNING, NULL, 1);
	else
		count_dropped(job->id, attempt);
}
