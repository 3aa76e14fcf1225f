/*
 * line_insert.c
 *		A new row of queue.line, and what becomes of what this backend knows when it is undone.
 *
 * Locks: RowExclusiveLock on queue.line, to the end of the transaction.
 */
#include "config/line_insert.h"

#include "config/reader.h"
#include "config/relations.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "utils/rel.h"

static int	own_lines = 0;		/* rows that this transaction inserted */

bool
queue_line_inserted(void)
{
	return own_lines > 0;
}

/* A row that this transaction inserted is gone, or is a prepared transaction's: what the cache knows is wrong. */
static void
lines_xact_callback(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_COMMIT)
		return;
	if (own_lines > 0 && event != XACT_EVENT_COMMIT)
		queue_config_invalidate();
	own_lines = 0;
}

static void
lines_subxact_callback(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && own_lines > 0)
		queue_config_invalidate();
}

/* Once per backend, before the first row is inserted. */
static void
register_callbacks(void)
{
	static bool done = false;

	if (done)
		return;
	RegisterXactCallback(lines_xact_callback, NULL);
	RegisterSubXactCallback(lines_subxact_callback, NULL);
	done = true;
}

/* A column of the new row. */
static void
set(Relation rel, TupleTableSlot *slot, const char *column, Datum value)
{
	AttrNumber	number = queue_column(rel, column);

	slot->tts_values[number - 1] = value;
	slot->tts_isnull[number - 1] = false;
}

int64
queue_line_insert(QueueConfig *config, text *queue, text *kind, int16 priority, text *key)
{
	Relation	rel = queue_relation_open(config->line_table, RowExclusiveLock);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	int64		id = nextval_internal(config->line_id_seq, false);

	InitResultRelInfo(rri, rel, 0, NULL, 0);	/* in no range table */
	ExecOpenIndices(rri, false);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, RelationGetDescr(rel)->natts * sizeof(bool));
	set(rel, slot, "id", Int64GetDatum(id));
	set(rel, slot, "queue", PointerGetDatum(queue));
	set(rel, slot, "kind", PointerGetDatum(kind));
	set(rel, slot, "priority", Int16GetDatum(priority));
	if (key != NULL)
		set(rel, slot, "concurrency_key", PointerGetDatum(key));
	ExecStoreVirtualTuple(slot);

	PushActiveSnapshot(GetLatestSnapshot());
	register_callbacks();
	own_lines++;
	ExecSimpleRelationInsert(rri, estate, slot);
	PopActiveSnapshot();

	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
	return id;
}
