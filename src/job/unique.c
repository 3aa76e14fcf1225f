/*
 * unique.c
 *		An enqueue with a unique key: into which job it goes.
 *
 * The row of the key (key.c) is looked at first and locked before anything is decided, so the enqueues of one key go
 * one after the other.  The job that has the key is changed if it waits.  If anybody has it in hand, be it that he
 * claims, runs or ends it or just holds its row's lock, it is taken for running and is left alone: the request becomes
 * its successor, a pending job that gets the key in the transaction that ends the other.  So an enqueue never waits
 * for a job, only for other enqueues of its key and for ends that are being committed.
 *
 * Locks: the row lock of the key, then that of the job, which is waited for only of a successor.
 */
#include "job/unique.h"

#include "config/lines.h"
#include "job/claim.h"
#include "job/finish.h"
#include "job/key.h"
#include "job/pending.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/fmgrprotos.h"

const char *const queue_enqueued_names[] = {"inserted", "existing", "replaced", "merged", "successor"};

/* One request under way. */
typedef struct Request
{
	const QueueNewJob *new;
	QueueJob   *job;			/* prepared */
	QueueKeyName name;
	QueueKeyTable *keys;
	QueueKeyRow row;			/* of the key, as found */
} Request;

/* Until when the key is taken by this request, if its job ends before. */
static TimestampTz
window_end(const Request *request, TimestampTz at_least)
{
	int64		length = request->new->unique_for;
	TimestampTz until = length > 0 ? queue_time_add(queue_now(), length) : DT_NOBEGIN;

	return Max(until, at_least);
}

/* Gives the key to the new job and inserts that. */
static int64
insert(Request *request)
{
	QueueJob   *job = request->job;

	if (job->id == 0)
		job->id = nextval_internal(queue_config()->job_id_seq, false);
	if (request->keys->locked)
		queue_key_insert(request->keys, &request->name,
						 &(QueueKeyRow) {.job_id = job->id, .until = window_end(request, DT_NOBEGIN)});
	else
	{
		request->row.job_id = job->id;
		request->row.until = window_end(request, DT_NOBEGIN);
		request->row.successor = 0;
		request->row.ended = false;
		queue_key_update(request->keys, &request->name, &request->row);
	}
	queue_key_unlock_name(request->keys);
	return queue_job_create(job);
}

static void
raise_taken(const Request *request)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("unique key \"%s\" of kind \"%s\" in queue \"%s\" is taken by job " INT64_FORMAT,
					request->name.key, request->name.kind, request->name.queue, request->row.job_id),
			 errhint("Without on_conflict 'error' the call gives that job's id, or changes it.")));
}

/* The payload that the request gives to a job that has this one. */
static Jsonb *
new_payload(const Request *request, Jsonb *old)
{
	Jsonb	   *new = request->job->payload;
	bool		arrays;

	if (request->new->on_conflict != QUEUE_CONFLICT_MERGE)
		return new;
	arrays = old != NULL && JB_ROOT_IS_ARRAY(old);
	if (old == NULL || JB_ROOT_IS_SCALAR(old) || JB_ROOT_IS_SCALAR(new) || arrays != JB_ROOT_IS_ARRAY(new))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the payload cannot be merged into that of job " INT64_FORMAT, request->row.job_id),
				 errhint("on_conflict 'merge' takes two objects or two arrays.")));
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(old), JsonbPGetDatum(new)));
}

/* Changes a job that waits, as read under `snapshot`. */
static TM_Result
change(Request *request, QueueJobTable *table, const QueueJob *old, Snapshot snapshot)
{
	QueueJob	new = *old;
	QueueExtra	extra;
	TimestampTz run_at;

	/* the request may name a group, and is pending then */
	queue_extra_unpack(request->job->extra, &extra);
	run_at = queue_job_asked(request->job, &extra);
	queue_extra_unpack(old->extra, &extra);
	new.payload = new_payload(request, old->payload);
	queue_check_size("job", queue_job_size(new.payload, extra.headers, extra.tags));
	if (request->new->on_conflict != QUEUE_CONFLICT_REPLACE)
		run_at = Min(run_at, queue_job_asked(old, &extra));
	queue_job_set_run_at(&new, &extra, run_at);
	new.line = queue_line_ensure(request->name.queue, request->name.kind, (int16) request->new->priority,
								 extra.concurrency_key);
	if (new.failures > 0)
		new.failures = 0;
	extra.deaths = 0;
	/* an extra that could not be read stays as it is */
	if (old->extra != NULL || old->stored_extra == NULL)
		new.extra = queue_extra_pack(&extra);
	return queue_job_update(table, old, &new, snapshot, true);
}

/* Makes the request the successor of the running job that has the key. */
static int64
succeed(Request *request, QueueJob *running)
{
	QueueJob   *job = request->job;
	QueueExtra	extra;

	job->payload = new_payload(request, running->payload);
	queue_extra_unpack(job->extra, &extra);
	queue_check_size("job", queue_job_size(job->payload, extra.headers, extra.tags));
	queue_job_hold(job, &extra, QUEUE_BLOCK_KEY);
	job->extra = queue_extra_pack(&extra);
	if (job->id == 0)
		job->id = nextval_internal(queue_config()->job_id_seq, false);
	request->row.successor = job->id;
	request->row.until = window_end(request, request->row.until);
	queue_key_update(request->keys, &request->name, &request->row);
	return queue_job_create(job);
}

typedef enum Tried
{
	TRIED_DONE,
	TRIED_RUNNING,				/* somebody has the job in hand */
	TRIED_GONE,					/* there is no such job */
	TRIED_AGAIN					/* it was changed meanwhile */
} Tried;

/* Changes the job of this id if it waits; `wait` for who has its row.  *job: as read. */
static Tried
try_change(Request *request, QueueJobTable *table, int64 id, bool wait, QueueJob *job)
{
	Snapshot	snapshot = queue_finish_snapshot();
	QueueClaim	claim = {.table = table, .snapshot = snapshot};
	Tried		tried = TRIED_RUNNING;
	TM_Result	result;

	if (!queue_job_find(table, id, snapshot, job))
		tried = TRIED_GONE;
	else if (job->leased_until == DT_NOBEGIN &&
			 queue_claim_holder(id, job->leased_until, queue_now()) == QUEUE_HELD_BY_NOBODY &&
			 !queue_claim_runs_here(id))
	{
		claim.job = *job;
		if (queue_claim_lock(&claim, wait) == QUEUE_CLAIM_OURS)
		{
			result = change(request, table, job, snapshot);
			tried = result == TM_Ok ? TRIED_DONE : TRIED_AGAIN;
		}
		else
		{
			QueueJob	now;

			/* changed and committed since, or in somebody's hands */
			PushActiveSnapshot(GetLatestSnapshot());
			if (!queue_job_peek(table, id, GetActiveSnapshot(), &now) || !ItemPointerEquals(&now.tid, &job->tid))
				tried = TRIED_AGAIN;
			PopActiveSnapshot();
		}
	}
	PopActiveSnapshot();
	return tried;
}

/* The key, locked, belongs to a live job: changes that, or its successor, or makes one. */
static int64
replace(Request *request, QueueEnqueued *outcome)
{
	QueueJobTable *table = queue_job_open(RowExclusiveLock);
	QueueJob	old;
	int64		id = request->row.successor != 0 ? request->row.successor : request->row.job_id;
	Tried		tried;

	do
	{
		CommandCounterIncrement();	/* this command may have made or changed it */
		CHECK_FOR_INTERRUPTS();
		tried = try_change(request, table, id, request->row.successor != 0, &old);
	} while (tried == TRIED_AGAIN);
	if (tried == TRIED_DONE)
	{
		TimestampTz until = window_end(request, request->row.until);

		*outcome = request->new->on_conflict == QUEUE_CONFLICT_MERGE ? QUEUE_ENQUEUED_MERGED : QUEUE_ENQUEUED_REPLACED;
		if (until != request->row.until)
		{
			request->row.until = until;
			queue_key_update(request->keys, &request->name, &request->row);
		}
	}
	else if (tried == TRIED_RUNNING)
	{
		*outcome = QUEUE_ENQUEUED_SUCCESSOR;
		id = succeed(request, &old);
	}
	else
	{
		/* its row was deleted by hand, or not restored: nobody will let go of the key */
		*outcome = QUEUE_ENQUEUED_INSERTED;
		id = insert(request);
	}
	queue_job_close(table);
	return id;
}

/* Looks at the key and does what is to be done.  0: it changed meanwhile, look again. */
static int64
attempt(Request *request, QueueEnqueued *outcome)
{
	QueueKeyRow *row = &request->row;
	QueueConflict conflict = request->new->on_conflict;
	bool		free;

	if (queue_key_look(request->keys, &request->name, true, row) == QUEUE_KEY_FREE)
	{
		if (!request->keys->locked)
		{
			queue_key_lock_name(request->keys, &request->name);
			return 0;
		}
		*outcome = QUEUE_ENQUEUED_INSERTED;
		return insert(request);
	}
	queue_key_unlock_name(request->keys);
	if (row->unseen)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Unique key \"%s\" of kind \"%s\" in queue \"%s\" was changed since this transaction began.",
						   request->name.key, request->name.kind, request->name.queue),
				 errhint("Retry the transaction, or use READ COMMITTED.")));
	free = row->ended && (row->until <= queue_now() ||
						  (conflict != QUEUE_CONFLICT_IGNORE && conflict != QUEUE_CONFLICT_ERROR));
	if (!free && conflict == QUEUE_CONFLICT_ERROR)
		raise_taken(request);
	if (!free && conflict == QUEUE_CONFLICT_IGNORE)
	{
		*outcome = QUEUE_ENQUEUED_EXISTING;
		return row->job_id;
	}
	if (queue_key_lock(request->keys, row, true) != TM_Ok)
		return 0;
	*outcome = QUEUE_ENQUEUED_INSERTED;
	return free ? insert(request) : replace(request, outcome);
}

int64
queue_unique_create(const QueueNewJob *new, QueueJob *job, QueueEnqueued *outcome)
{
	Request		request = {.new = new, .job = job, .name = {new->queue, new->kind, new->unique_key}};
	int64		id;

	*outcome = QUEUE_ENQUEUED_INSERTED;
	if (new->unique_key == NULL)
		return queue_job_create(job);
	request.keys = queue_key_open();
	while ((id = attempt(&request, outcome)) == 0)
		CHECK_FOR_INTERRUPTS();
	queue_key_close(request.keys);
	return id;
}
