/*
 * record.c
 *		The rings in which rows are kept, the failed attempts in queue.failure, and the
 *		job as a value of type queue.job.
 *
 * queue.finished_job (finished.c), queue.failure and queue.log_line are fixed rings: three
 * partitions a keep class (1 hour, 1 day, 7, 30 and 400 days), each as wide as its class,
 * plus one for longer.  Of finished_job there are three more, an hour wide, for completed jobs that are
 * kept only because others depend on them: no search by kind needs an index there.  A row goes to the
 * partition of its expiry; one that is wholly expired is truncated by the scheduler
 * before its next turn, so retention never deletes a row and never makes a table.
 *
 * Locks: RowExclusiveLock on one partition.
 */
#include "job/record.h"

#include "job/pending.h"
#include "job/write.h"
#include "lib/text.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#define MAX_TEXT 10000			/* bytes of an error text or its context */
#define RING_CLASSES 5
#define RING_PLAIN (RING_CLASSES * QUEUE_RING_TURNS)	/* the slot for longer than the last class */

static const int64 ring_width[RING_CLASSES] = {
	USECS_PER_HOUR, USECS_PER_DAY, 7 * USECS_PER_DAY, 30 * USECS_PER_DAY, 400 * USECS_PER_DAY
};

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

int
queue_ring_slot(TimestampTz now, int64 keep)
{
	for (int class = 0; class < RING_CLASSES; class++)
	{
		if (keep <= ring_width[class])
			return class * QUEUE_RING_TURNS +
				(int) (((now + UNIX_EPOCH_US + keep) / ring_width[class]) % QUEUE_RING_TURNS);
	}
	return RING_PLAIN;
}

int
queue_ring_awaited_slot(TimestampTz now, int64 keep)
{
	Assert(keep <= ring_width[0]);
	return QUEUE_RING_SLOTS + queue_ring_slot(now, keep);
}

int64
queue_ring_width(int slot)
{
	return ring_width[slot < QUEUE_RING_SLOTS ? slot / QUEUE_RING_TURNS : 0];
}

/*
 * Where the ring stands at `now` for one slot: was its last turn over at *expired_at, and
 * may the first row of its next turn come at *reused_at?  Called by the scheduler's retention.
 */
bool
queue_ring_window(int slot, TimestampTz now, TimestampTz *expired_at, TimestampTz *reused_at)
{
	int64		width;
	int64		bucket;

	if (slot == RING_PLAIN)
		return false;
	width = queue_ring_width(slot);
	bucket = (now + UNIX_EPOCH_US) / width;
	/* rows that enter now expire in this bucket or the next: the third one is at rest */
	if ((bucket + QUEUE_RING_TURNS - 1) % QUEUE_RING_TURNS !=
		(slot < QUEUE_RING_SLOTS ? slot : slot - QUEUE_RING_SLOTS) % QUEUE_RING_TURNS)
		return false;
	*expired_at = bucket * width - UNIX_EPOCH_US;
	*reused_at = (bucket + 1) * width - UNIX_EPOCH_US;
	return true;
}

/* Through the executor's own helper (indexes, constraints, triggers). */
void
queue_record_insert(Oid relid, Datum *values, bool *nulls, int natts)
{
	Relation	rel = table_open(relid, RowExclusiveLock);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	bool		pushed = queue_write_snapshot();

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, RelationGetNumberOfAttributes(rel) * sizeof(bool));
	memcpy(slot->tts_values, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	InitResultRelInfo(rri, rel, 0, NULL, 0);	/* in no range table */
	ExecOpenIndices(rri, false);
	(void) GetCurrentCommandId(true);
	queue_write_insert(rri, estate, slot, false);
	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	queue_write_end(estate);
	if (pushed)
		PopActiveSnapshot();
	table_close(rel, NoLock);
}

char *
queue_record_text(const char *text)
{
	return text == NULL ? NULL : queue_text_clean(text, strlen(text), MAX_TEXT, GetDatabaseEncoding());
}

void
queue_failure_insert(const QueueJob *job, const char *queue, const char *kind, const QueueFailure *failure,
					 TimestampTz now)
{
	Datum		values[13];
	bool		nulls[13] = {false};
	int64		keep = (int64) queue_keep_errors * USECS_PER_SEC;
	int			slot;
	int			i = 0;

	if (keep <= 0)
		return;
	slot = queue_ring_slot(now, keep);
	values[i++] = Int16GetDatum(slot);
	values[i++] = Int64GetDatum(job->id);
	values[i++] = CStringGetTextDatum(queue);
	values[i++] = CStringGetTextDatum(kind);
	values[i++] = Int32GetDatum(job->attempt);
	nulls[i] = failure->started_at == 0;
	values[i++] = TimestampTzGetDatum(failure->started_at);
	values[i++] = TimestampTzGetDatum(now);
	values[i++] = TimestampTzGetDatum(now + keep);
	nulls[i] = failure->worker == NULL;
	values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(failure->worker);
	i++;
	values[i++] = CStringGetTextDatum(queue_record_text(failure->error));
	nulls[i] = failure->sqlstate == NULL || failure->sqlstate[0] == '\0';
	values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(failure->sqlstate);
	i++;
	nulls[i] = failure->http_status == 0;
	values[i++] = Int32GetDatum(failure->http_status);
	nulls[i] = failure->context == NULL;
	values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(queue_record_text(failure->context));
	i++;
	Assert(i == lengthof(values));
	queue_record_insert(queue_config()->failure[slot], values, nulls, lengthof(values));
}

/* The columns of failure that are read. */
enum
{
	FAILURE_JOB_ID = 2, FAILURE_ATTEMPT = 5, FAILURE_FAILED_AT = 7, FAILURE_ERROR = 10
};

static int
by_attempt(const void *a, const void *b)
{
	return ((const QueueFailed *) a)->attempt - ((const QueueFailed *) b)->attempt;
}

int
queue_failure_last(int64 id, QueueFailed *failed, int max)
{
	QueueConfig *config = queue_config();
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			n = 0;

	for (int i = 0; i < QUEUE_RING_SLOTS; i++)
	{
		Relation	rel = table_open(config->failure[i], AccessShareLock);
		Relation	index;
		TupleTableSlot *slot;
		IndexScanDesc scan;
		ScanKeyData key;

		if (RelationGetNumberOfBlocks(rel) == 0)
		{
			table_close(rel, AccessShareLock);
			continue;
		}
		index = index_open(config->failure_job_id[i], AccessShareLock);
		slot = table_slot_create(rel, NULL);
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
		scan = queue_index_beginscan(rel, index, snapshot, 1);
		index_rescan(scan, &key, 1, NULL, 0);
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
		{
			bool		isnull;
			int			place = n;
			int			attempt = DatumGetInt32(slot_getattr(slot, FAILURE_ATTEMPT, &isnull));

			CHECK_FOR_INTERRUPTS();
			if (n < max)
				n++;
			else
			{
				/* instead of the first one, unless that is later */
				place = 0;
				for (int j = 1; j < n; j++)
					place = failed[j].attempt < failed[place].attempt ? j : place;
				if (failed[place].attempt > attempt)
					continue;
			}
			failed[place].attempt = attempt;
			failed[place].failed_at = DatumGetTimestampTz(slot_getattr(slot, FAILURE_FAILED_AT, &isnull));
			failed[place].error = TextDatumGetCString(slot_getattr(slot, FAILURE_ERROR, &isnull));
		}
		index_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		index_close(index, AccessShareLock);
		table_close(rel, AccessShareLock);
	}
	UnregisterSnapshot(snapshot);
	qsort(failed, n, sizeof(QueueFailed), by_attempt);
	return n;
}

/* The row type queue.job.  It is not pinned: it is good until something else is looked up in the catalogs. */
static TupleDesc
job_tupdesc(void)
{
	return lookup_type_cache(queue_config()->job_type, TYPECACHE_TUPDESC)->tupDesc;
}

Datum
queue_tags_array(Jsonb *json)
{
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	ArrayBuildState *tags = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && value.type == jbvString)
			tags =
				accumArrayResult(tags,
								 PointerGetDatum(cstring_to_text_with_len(value.val.string.val, value.val.string.len)),
								 false, TEXTOID, CurrentMemoryContext);
	}
	return makeArrayResult(tags, CurrentMemoryContext);
}

/*
 * The job as a value of type queue.job, for fetch and for handlers.  Columns by their
 * place in the view's list of columns; later versions only append.
 */
HeapTuple
queue_job_tuple(const QueueJob *job, const QueueExtra *extra, const QueueConf *conf, const char *kind, int16 priority,
				const QueueHandler *handler, QueueState state, TimestampTz started_at, const char *worker)
{
	enum
	{
		ID, QUEUE, KIND, STATE, PAYLOAD, PRIORITY, ATTEMPT, FAILURES, MAX_ATTEMPTS, RUN_AT, ENQUEUED_AT,
		STARTED_AT, FINISHED_AT, LEASED_UNTIL, WORKER, HEADERS, TAGS, UNIQUE_KEY, GROUP_KEY,
		CONCURRENCY_KEY, EXPIRES_AT, PROGRESS, RESULT, LAST_ERROR, ORIGIN, WORKFLOW, NJOB
	};
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
	Datum		tags;
	QueueExtra	unpacked;
	HeapTuple	tuple;

	if (extra == NULL)
	{
		queue_extra_unpack(job->extra, &unpacked);
		extra = &unpacked;
	}
	tags = extra->tags != NULL ? queue_tags_array(extra->tags) : (Datum) 0;

	desc = job_tupdesc();		/* from here on nothing is looked up */
	if (desc->natts < NJOB)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("view queue.job is not the one that this library works with"),
				 errhint("Run ALTER EXTENSION queue UPDATE, or restart the server if its library is old.")));
	values = palloc0(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	memset(nulls, true, desc->natts * sizeof(bool));
#define SET(column, datum) (values[column] = (datum), nulls[column] = false)
	SET(ID, Int64GetDatum(job->id));
	SET(QUEUE, CStringGetTextDatum(conf->name));
	SET(KIND, CStringGetTextDatum(kind));
	SET(STATE, CStringGetTextDatum(queue_state_names[state]));
	if (job->payload != NULL)
		SET(PAYLOAD, JsonbPGetDatum(job->payload));
	SET(PRIORITY, Int32GetDatum(priority));
	SET(ATTEMPT, Int32GetDatum(job->attempt));
	SET(FAILURES, Int32GetDatum(job->failures));
	SET(MAX_ATTEMPTS, Int32GetDatum(queue_job_max_attempts(job, extra, conf, handler)));
	SET(RUN_AT, TimestampTzGetDatum(queue_job_asked(job, extra)));
	SET(ENQUEUED_AT, TimestampTzGetDatum(extra->enqueued_at != 0 ? extra->enqueued_at : job->run_at));
	if (started_at != 0)
		SET(STARTED_AT, TimestampTzGetDatum(started_at));
	if (job->leased_until != DT_NOBEGIN)
		SET(LEASED_UNTIL, TimestampTzGetDatum(job->leased_until));
	if (worker != NULL)
		SET(WORKER, CStringGetTextDatum(worker));
	if (extra->headers != NULL)
		SET(HEADERS, JsonbPGetDatum(extra->headers));
	if (extra->tags != NULL)
		SET(TAGS, tags);
	if (extra->unique_key != NULL)
		SET(UNIQUE_KEY, CStringGetTextDatum(extra->unique_key));
	if (extra->concurrency_key != NULL)
		SET(CONCURRENCY_KEY, CStringGetTextDatum(extra->concurrency_key));
	if (extra->group_key != NULL)
		SET(GROUP_KEY, CStringGetTextDatum(extra->group_key));
	if (extra->expires_at != DT_NOEND)
		SET(EXPIRES_AT, TimestampTzGetDatum(extra->expires_at));
	if (extra->progress != NULL)
		SET(PROGRESS, JsonbPGetDatum(extra->progress));
	if (extra->workflow != 0)
		SET(WORKFLOW, Int64GetDatum(extra->workflow));
	if (extra->origin != NULL)
		SET(ORIGIN, JsonbPGetDatum(extra->origin));
	if (extra->last_error != NULL)
		SET(LAST_ERROR, CStringGetTextDatum(extra->last_error));
#undef SET
	tuple = heap_form_tuple(desc, values, nulls);
	pfree(values);
	pfree(nulls);
	return tuple;
}

Jsonb *
queue_job_json(HeapTuple job)
{
	Oid			type = queue_config()->job_type;
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);
	FmgrInfo	to_jsonb;

	fmgr_info(F_TO_JSONB, &to_jsonb);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(makeConst(type, -1, InvalidOid, -1, (Datum) 0, true, false)),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL), &to_jsonb);
	return DatumGetJsonbP(FunctionCall1(&to_jsonb, heap_copy_tuple_as_datum(job, desc)));
}
