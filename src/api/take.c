/*
 * take.c
 *		Claims of jobs by their ids, for a reader that chooses by what the jobs say: extension queue_pgmq.
 *
 * The ids come in the order of the reader's wish, more than it wants, because others may be faster with some.  What is
 * free and due gets a lease, as in fetch; the rest is passed over, and nothing is waited for.
 *
 * Locks: RowExclusiveLock on live_job; the row lock of each job that is claimed.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "job/claim.h"
#include "job/finish.h"
#include "shared/clock.h"
#include "shared/fetcher.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(queue_sql_take);

/* Claims the job of this id, if it is free and due, and puts it into the result. */
static bool
take(QueueJobTable *table, int64 id, int64 lease, Tuplestorestate *store)
{
	QueueClaim	claim = {.table = table, .snapshot = queue_finish_snapshot()};
	TimestampTz now = queue_now();
	bool		taken = false;

	if (queue_finish_find(table, id, QUEUE_PRIV_WORK, claim.snapshot, &claim.job, &claim.line) &&
		!claim.line->queue->paused && claim.job.run_at <= now &&
		queue_job_find(table, id, claim.snapshot, &claim.job) &&
		queue_claim_look(&claim) == QUEUE_CLAIM_OURS && queue_claim_judge(&claim) == QUEUE_CLAIM_OURS &&
		queue_claim_lease(&claim, queue_time_add(now, lease), NULL, now) == QUEUE_CLAIM_OURS)
	{
		const QueueLine *line = claim.line;

		queue_fetcher_claimed(line->id);
		tuplestore_puttuple(store, queue_job_tuple(&claim.job, &claim.extra, line->queue, line->kind, line->priority,
												   line->handler, QUEUE_STATE_RUNNING, now, NULL));
		taken = true;
	}
	PopActiveSnapshot();
	return taken;
}

/* pgmq._take(job_ids bigint[], lease interval, qty bigint) -> setof queue.job, in the order of the ids */
Datum
queue_sql_take(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueJobTable *table;
	MemoryContext per_job;
	Datum	   *ids;
	bool	   *nulls;
	int			n;
	int64		lease;
	int64		qty;

	queue_finish_writable("pgmq._take()");
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("job_ids, lease and qty must not be null"),
				 errhint("Pass the jobs to choose from, how long to have them, and how many of them.")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &ids, &nulls, &n);
	lease = queue_check_span("lease", PG_GETARG_INTERVAL_P(1), 1);
	qty = PG_GETARG_INT64(2);

	table = queue_job_open(RowExclusiveLock);
	per_job = AllocSetContextCreate(CurrentMemoryContext, "queue take", ALLOCSET_SMALL_SIZES);
	for (int i = 0; i < n && qty > 0; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(per_job);

		CHECK_FOR_INTERRUPTS();
		if (!nulls[i] && take(table, DatumGetInt64(ids[i]), lease, rsinfo->setResult))
			qty--;
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_job);
	}
	MemoryContextDelete(per_job);
	queue_job_close(table);
	CommandCounterIncrement();
	return (Datum) 0;
}
