/*
 * limit_rows.c
 *		Limits where there is no shared memory: kept in queue.limit_slot.
 *
 * A limit has numbered slots, and a claim has one of them: its row names the job and the attempt.  A slot is free if
 * that job is not leased under that attempt (any more), so whoever ends a claim, or lets its lease end, has nothing
 * to do here.  Who takes a slot locks its number to the end of the transaction, without waiting: so others see a
 * claim that is not committed yet, and those that are by their rows.
 *
 * Slots are counted anew from the leases when the limit is new, and after a start of the server, which may have run
 * with the library preloaded meanwhile.  A rate is one row with the time of its next claim, for which nobody waits.
 *
 * Everything is slower than with shared memory, and a session that waits looks again every so often.
 *
 * Locks: advisory locks of our own, by limit and number; RowExclusiveLock on queue.limit_slot.
 */
#include "job/limit_rows.h"

#include "config/lines.h"
#include "config/owner.h"
#include "shared/clock.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define LOCK_SPACE 0x5158		/* locktag_field4 */
#define LOOK_AGAIN_US INT64CONST(100000)

#define IN_FORCE "FROM queue.limit_slot s JOIN queue.live_job j ON j.id = s.job_id" \
	" AND coalesce(j.attempt, 0) = s.attempt WHERE s.scope = $1 AND s.slot > 0 AND j.leased_until > $2"

/* One limit, and who asks. */
typedef struct Scope
{
	char	   *name;			/* of the limit in the table */
	const QueueLimit *limit;
	QueueLimitOf of;
	const QueueLine *line;
	const char *key;			/* KEY: the concurrency key */
} Scope;

static LOCKTAG
lock_of(const Scope *scope, int slot)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
						 DatumGetUInt32(hash_any((const unsigned char *) scope->name, strlen(scope->name))),
						 (uint32) slot, LOCK_SPACE);
	return tag;
}

/* Runs a statement whose first parameters are the limit's name and the time. */
static uint64
run(const Scope *scope, const char *sql, int nargs, Oid t3, Datum v3, Oid t4, Datum v4, Oid t5, Datum v5)
{
	Oid			types[5] = {TEXTOID, TIMESTAMPTZOID, t3, t4, t5};
	Datum		values[5] = {CStringGetTextDatum(scope->name), TimestampTzGetDatum(queue_now()), v3, v4, v5};
	char		nulls[5] = {' ', ' ', ' ', t4 == TEXTOID && v4 == (Datum) 0 ? 'n' : ' ', ' '};
	int			result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (result < 0)
		elog(ERROR, "SPI failed (%s): %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}

#define RUN2(scope, sql) run(scope, sql, 2, InvalidOid, 0, InvalidOid, 0, InvalidOid, 0)
#define RUN3(scope, sql, t, v) run(scope, sql, 3, t, v, InvalidOid, 0, InvalidOid, 0)

/* The lines whose jobs count for the limit, as an array. */
static Datum
lines_of(const Scope *scope)
{
	int			n;
	QueueLine **lines = queue_lines_all(&n);
	Datum	   *ids = palloc((n + 1) * sizeof(Datum));
	int			nids = 0;

	for (int i = 0; i < n; i++)
	{
		if (scope->of == QUEUE_LIMIT_HANDLER ? lines[i]->handler == scope->line->handler :
			strcmp(lines[i]->queue->name, scope->line->queue->name) == 0)
			ids[nids++] = Int64GetDatum(lines[i]->id);
	}
	return PointerGetDatum(construct_array(ids, nids, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Gives a slot to each lease in force, unless that was done for this limit since the server started. */
static void
count(const Scope *scope)
{
	char	   *counted = psprintf(INT64_FORMAT " " INT64_FORMAT, scope->limit->since, PgStartTime);
	LOCKTAG		tag = lock_of(scope, 0);

	if (RUN3(scope, "SELECT FROM queue.limit_slot WHERE scope = $1 AND slot = 0 AND counted = $3 AND $2 IS NOT NULL",
			 TEXTOID, CStringGetTextDatum(counted)) > 0)
		return;
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (RUN3(scope, "SELECT FROM queue.limit_slot WHERE scope = $1 AND slot = 0 AND counted = $3 AND $2 IS NOT NULL",
			 TEXTOID, CStringGetTextDatum(counted)) > 0)
		return;
	(void) RUN2(scope, "DELETE FROM queue.limit_slot WHERE scope = $1 AND $2 IS NOT NULL");
	(void) run(scope, "INSERT INTO queue.limit_slot (scope, slot, job_id, attempt)"
			   " SELECT $1, row_number() OVER (), id, coalesce(attempt, 0) FROM queue.live_job"
			   " WHERE line = ANY ($3) AND leased_until > $2 AND ($4 IS NULL OR extra ->> 'concurrency_key' = $4)",
			   4, INT8ARRAYOID, lines_of(scope), TEXTOID,
			   scope->key != NULL ? CStringGetTextDatum(scope->key) : (Datum) 0, InvalidOid, 0);
	(void) RUN3(scope, "INSERT INTO queue.limit_slot (scope, slot, counted) SELECT $1, 0, $3 WHERE $2 IS NOT NULL",
				TEXTOID, CStringGetTextDatum(counted));
}

/* Is this slot another claim's?  One of this job and attempt is the asker's own. */
static bool
in_force(const Scope *scope, int slot, int64 job, int attempt)
{
	return run(scope, "SELECT " IN_FORCE " AND s.slot = $3 AND (s.job_id, s.attempt) <> ($4, $5)", 5,
			   INT4OID, Int32GetDatum(slot), INT8OID, Int64GetDatum(job), INT4OID, Int32GetDatum(attempt)) > 0;
}

/* Takes a free slot for the job; false: there is none. */
static bool
take_slot(const Scope *scope, int64 job, int attempt, QueueUnitKind kind)
{
	int		   *used;			/* slots, in order: as many as there are claims, whatever the limit is */
	int			most = scope->limit->max_running;
	uint64		n;
	uint64		next = 0;

	count(scope);
	n = RUN2(scope, "SELECT s.slot " IN_FORCE " ORDER BY s.slot");
	if (n >= (uint64) most)
		return false;
	used = palloc((n + 1) * sizeof(int));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		used[i] = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	for (int64 number = 1; number <= most; number++)
	{
		int			slot = (int) number;
		LOCKTAG		tag = lock_of(scope, slot);
		LockAcquireResult lock;

		CHECK_FOR_INTERRUPTS();
		if (next < n && used[next] == slot)
		{
			next++;
			continue;
		}
		lock = LockAcquire(&tag, ExclusiveLock, false, true);
		if (lock == LOCKACQUIRE_NOT_AVAIL)
			continue;
		if (in_force(scope, slot, job, attempt))
		{
			if (lock == LOCKACQUIRE_OK)
				(void) LockRelease(&tag, ExclusiveLock, false);
			continue;
		}
		if (kind == QUEUE_UNIT_LEASE)
			(void) run(scope, "INSERT INTO queue.limit_slot (scope, slot, job_id, attempt)"
					   " SELECT $1, $3, $4, $5 WHERE $2 IS NOT NULL"
					   " ON CONFLICT (scope, slot) DO UPDATE SET job_id = excluded.job_id, attempt = excluded.attempt",
					   5, INT4OID, Int32GetDatum(slot), INT8OID, Int64GetDatum(job), INT4OID, Int32GetDatum(attempt));
		return true;
	}
	return false;
}

/* Uses a token of the rate; false: there is none, or somebody else is just taking one. */
static bool
take_token(Scope scope, TimestampTz *when)
{
	double		now = (double) queue_now();
	double		period = (double) scope.limit->rate_period;
	double		arrival = now + period;
	double		step;
	bool		isnull;
	Datum		d;

	*when = DT_NOEND;
	if (scope.limit->rate_limit == 0)
		return false;
	step = period / scope.limit->rate_limit;
	scope.name = psprintf("rate of %s", scope.name);
	/* only where there is none yet: an insert waits for whoever has the row that it meets */
	(void) RUN3(&scope, "INSERT INTO queue.limit_slot (scope, slot, arrival) SELECT $1, 0, $3 WHERE $2 IS NOT NULL"
				" AND NOT EXISTS (SELECT FROM queue.limit_slot WHERE scope = $1 AND slot = 0)"
				" ON CONFLICT (scope, slot) DO NOTHING", FLOAT8OID, Float8GetDatum(arrival));
	*when = (TimestampTz) now + LOOK_AGAIN_US;
	if (RUN2(&scope, "SELECT arrival FROM queue.limit_slot WHERE scope = $1 AND slot = 0 AND $2 IS NOT NULL"
			 " FOR UPDATE SKIP LOCKED") == 0)
		return false;
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		arrival = Max(Min(DatumGetFloat8(d), now + period), now);
	if (arrival + step > now + period + 1)
	{
		*when = (TimestampTz) (arrival + step - period) + 1;
		/* what a shorter period, or the clock, made of it */
		if (!isnull && DatumGetFloat8(d) <= now + period)
			return false;
		arrival -= step;
	}
	(void) RUN3(&scope, "UPDATE queue.limit_slot SET arrival = $3 WHERE scope = $1 AND slot = 0 AND $2 IS NOT NULL",
				FLOAT8OID, Float8GetDatum(arrival + step));
	return *when == (TimestampTz) now + LOOK_AGAIN_US;
}

/* Asks one limit. */
static bool
admit_one(const Scope *scope, int64 job, int attempt, QueueUnitKind kind, QueueLimitRefusal *refusal)
{
	*refusal = (QueueLimitRefusal) {.of = scope->of, .id = scope->limit->id, .when = queue_now() + LOOK_AGAIN_US};
	refusal->answer = QUEUE_UNIT_FULL;
	if (scope->limit->max_running >= 0 && !take_slot(scope, job, attempt, kind))
		return false;
	refusal->answer = QUEUE_UNIT_RATE;
	return scope->limit->rate_limit < 0 || take_token(*scope, &refusal->when);
}

bool
queue_limit_rows_admit(const QueueLine *line, const QueueLimits *limits, const char *key, int64 job, int attempt,
					   QueueUnitKind kind, QueueLimitRefusal *refusal)
{
	QueueOwnerContext owner;
	bool		ok = true;

	if (kind == QUEUE_UNIT_SESSION)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" has limits, and there are no session claims under limits without shared memory",
						line->queue->name),
				 errhint("Fetch with claim => 'lease', or add queue to shared_preload_libraries and restart.")));
	queue_as_owner_begin(&owner);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	for (int i = 0; i < QUEUE_LIMIT_RESERVED && ok; i++)
	{
		Scope		scope = {.limit = &limits->of[i], .of = i, .line = line};

		if (scope.limit->id == 0)
			continue;
		if (i == QUEUE_LIMIT_HANDLER)
			scope.name = psprintf("handler " INT64_FORMAT, line->handler->id);
		else if (i == QUEUE_LIMIT_QUEUE)
			scope.name = psprintf("queue %s", line->queue->name);
		else
		{
			scope.key = line->key != NULL ? line->key : key;
			scope.name = psprintf("key %zu %s %s", strlen(line->queue->name), line->queue->name, scope.key);
		}
		ok = admit_one(&scope, job, attempt, kind, refusal);
	}
	SPI_finish();
	queue_as_owner_end(&owner);
	return ok;
}
