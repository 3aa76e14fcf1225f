/*
 * lines.c
 *		Rows of queue.line: a line's id is a hash of (queue, kind, priority), and its row
 *		is there before any job of it is.
 *
 * The row is inserted by the first enqueue that sees none.  The index is not unique: two
 * first enqueues at a time insert equal rows, which are one line, and neither waits for
 * the other.
 *
 * Locks: RowExclusiveLock on queue.line until the end of the transaction that inserts.
 */
#include "config/lines.h"

#include "config/reader.h"
#include "shared/note.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"

/* The 64-bit hash of (queue, kind, priority) that names a line.  Stored: must never change. */
static int64
line_id(const char *queue, const char *kind, int16 priority)
{
	char		buf[2 * QUEUE_NAME_MAX + 2];
	size_t		qlen = strlen(queue);
	size_t		klen = strlen(kind);

	Assert(qlen <= QUEUE_NAME_MAX && klen <= QUEUE_NAME_MAX);
	memcpy(buf, queue, qlen + 1);
	memcpy(buf + qlen + 1, kind, klen);
	return (int64) hash_bytes_extended((const unsigned char *) buf, (int) (qlen + 1 + klen),
									   UINT64CONST(0x71756575) + (uint64) (uint16) priority);
}

/* One row of queue.line by id, committed or of this transaction; for line_ensure and conf_of_line. */
static bool
read_line_row(Relation rel, int64 id, char **queue, char **kind, int16 *priority)
{
	Relation	index = index_open(queue_config()->line_index, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan;
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = queue_index_beginscan(rel, index, SnapshotSelf, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
	{
		bool		isnull;

		*queue = TextDatumGetCString(slot_getattr(slot, queue_column(rel, "queue"), &isnull));
		*kind = TextDatumGetCString(slot_getattr(slot, queue_column(rel, "kind"), &isnull));
		*priority = DatumGetInt16(slot_getattr(slot, queue_column(rel, "priority"), &isnull));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	return found;
}

/* Whose a line is, from the cache or else from the table; 55000 if nobody knows it. */
QueueConf *
queue_config_conf_of_line(int64 id, char **kind, int16 *priority)
{
	QueueLine  *line = queue_config_line(id);
	Relation	rel;
	char	   *queue;
	bool		found;
	QueueConf  *conf;

	if (line != NULL)
	{
		if (kind != NULL)
			*kind = line->kind;
		if (priority != NULL)
			*priority = line->priority;
		return line->queue;
	}

	{
		char	   *row_kind = NULL;
		int16		row_priority = 0;

		rel = table_open(queue_config()->line_table, AccessShareLock);
		found = read_line_row(rel, id, &queue, &row_kind, &row_priority);
		table_close(rel, AccessShareLock);
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("line " INT64_FORMAT " is not in queue.line", id),
					 errhint("The row was deleted by hand; enqueue a job of the same queue, kind and priority to bring it back.")));
		if (kind != NULL)
			*kind = row_kind;
		if (priority != NULL)
			*priority = row_priority;
	}
	conf = queue_config_queue(queue, true);
	return conf != NULL ? conf : queue_conf_make(queue);
}

/* Two lines of one hash: one in 2^64 pairs, but then it must not mix them up. */
static void
check_clash(int64 id, const char *queue, const char *kind, int16 priority,
			const char *row_queue, const char *row_kind, int16 row_priority)
{
	if (likely(priority == row_priority && strcmp(kind, row_kind) == 0 && strcmp(queue, row_queue) == 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("queue \"%s\", kind \"%s\", priority %d has the same hash as queue \"%s\", kind \"%s\", priority %d",
					queue, kind, priority, row_queue, row_kind, row_priority),
			 errhint("Use another kind or another priority.")));
}

/*
 * The line's row exists, or will when this transaction commits.  On the path of every enqueue: one hash lookup once
 * the row is committed and cached.  Until then the row is looked up, so that a transaction inserts it once whatever
 * its savepoints do; two transactions may both insert it, and nobody waits for the other.
 */
int64
queue_line_ensure(const char *queue, const char *kind, int16 priority)
{
	int64		id = line_id(queue, kind, priority);
	QueueLine  *line = queue_config_line(id);
	Relation	rel;
	char	   *row_queue;
	char	   *row_kind;
	int16		row_priority;

	if (likely(line != NULL))
	{
		check_clash(id, queue, kind, priority, line->queue->name, line->kind, line->priority);
		if (likely(line->committed))
			return id;
	}

	rel = table_open(queue_config()->line_table, RowExclusiveLock);
	if (read_line_row(rel, id, &row_queue, &row_kind, &row_priority))
		check_clash(id, queue, kind, priority, row_queue, row_kind, row_priority);
	else
	{
		EState	   *estate = CreateExecutorState();
		ResultRelInfo *rri = makeNode(ResultRelInfo);
		TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
		AttrNumber	attno;

		InitResultRelInfo(rri, rel, 0, NULL, 0);	/* in no range table */
		ExecOpenIndices(rri, false);
		ExecClearTuple(slot);
		memset(slot->tts_isnull, true, RelationGetDescr(rel)->natts * sizeof(bool));
		attno = queue_column(rel, "id");
		slot->tts_values[attno - 1] = Int64GetDatum(id);
		slot->tts_isnull[attno - 1] = false;
		attno = queue_column(rel, "queue");
		slot->tts_values[attno - 1] = CStringGetTextDatum(queue);
		slot->tts_isnull[attno - 1] = false;
		attno = queue_column(rel, "kind");
		slot->tts_values[attno - 1] = CStringGetTextDatum(kind);
		slot->tts_isnull[attno - 1] = false;
		attno = queue_column(rel, "priority");
		slot->tts_values[attno - 1] = Int16GetDatum(priority);
		slot->tts_isnull[attno - 1] = false;
		ExecStoreVirtualTuple(slot);

		PushActiveSnapshot(GetLatestSnapshot());
		queue_note_config();
		ExecSimpleRelationInsert(rri, estate, slot);
		PopActiveSnapshot();
		CacheInvalidateRelcacheByRelid(RelationGetRelid(rel));

		ExecCloseIndices(rri);
		ExecDropSingleTupleTableSlot(slot);
		FreeExecutorState(estate);
	}
	table_close(rel, NoLock);
	return id;
}
