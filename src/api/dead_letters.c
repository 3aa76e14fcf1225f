/*
 * dead_letters.c
 *		queue.redrive: dead letters back where they came from.
 *
 * Letters go one by one, by id upwards.  One that somebody works on, whose queue is gone or is not the caller's to
 * enqueue into, or whose unique key is taken, stays and is not counted.
 *
 * Locks: of each letter its row lock, that of its discarded original, its unique key; none is waited for, but a letter
 * or an original that one of our processes has for a moment (job/held.c).
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/search.h"
#include "config/lines.h"
#include "config/owner.h"
#include "job/claim.h"
#include "job/create.h"
#include "job/dead_letter.h"
#include "job/depend.h"
#include "job/finish.h"
#include "job/finished.h"
#include "job/held.h"
#include "job/key.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(queue_sql_redrive);

/* Is there, or does anybody make just now, a live job of this id?  Retried, perhaps, while its letter was in hand. */
static bool
lives(QueueJobTable *table, int64 id)
{
	SnapshotData dirty;
	QueueJob	job;

	InitDirtySnapshot(dirty);
	return queue_job_peek(table, id, &dirty, &job);
}

/*
 * The letter is read and locked: its original takes its place.  False: it stays, or the row of the original, which is
 * read then, was another's (*met).
 */
static bool
bring_back(QueueClaim *letter, QueueOrigin *origin, QueueFinished *original, TM_Result *met)
{
	QueueFinished revived = {.queue = origin->queue, .kind = letter->line->kind, .priority = origin->priority};
	QueueKeyName key = {origin->queue, letter->line->kind, origin->extra.unique_key};
	int64		holder = 0;
	TM_Result	result = TM_Ok;

	if (key.key != NULL && !queue_key_take(&key, origin->id, false, &holder))
		return false;
	if (queue_finished_find(origin->id, letter->snapshot, original))
	{
		QueueExtra	extra;

		/* one that holds its group comes back to its place */
		queue_extra_unpack(original->job.extra, &extra);
		origin->extra.position = extra.position;
		origin->extra.holds_group = extra.holds_group;
		origin->attempt = Max(origin->attempt, original->job.attempt);
		*met = result = queue_finished_delete(original, letter->snapshot, false);
	}
	if (result == TM_Ok)
		result = queue_finish_end(letter->table, &letter->job, letter->job.attempt, QUEUE_STATE_NONE,
								  &(QueueEnding) {0}, letter->snapshot, false);
	if (result != TM_Ok)
	{
		if (key.key != NULL && holder != origin->id)
			queue_key_release(&key, origin->id);
		return false;
	}
	origin->extra.headers = letter->extra.headers;
	origin->extra.tags = letter->extra.tags;
	revived.job = (QueueJob) {
		.id = origin->id, .leased_until = DT_NOBEGIN, .attempt = origin->attempt, .payload = letter->job.payload,
		.run_at = letter->job.run_at, .extra = queue_extra_pack(&origin->extra)
	};
	queue_finished_revive(&revived, queue_now());
	if (!queue_dependency_has_rows(letter->table, origin->id))
	{
		/* they went with the job, which was not kept */
		revived.job.depends_on = origin->depends_on;
		revived.job.ndepends = origin->ndepends;
	}
	queue_job_add(letter->table, &revived.job, 1);
	queue_depend_hold(letter->table, origin->id);
	return true;
}

/* Takes one letter in hand; false: there is none, or it stays. */
static bool
redrive_one(QueueJobTable *table, int64 id, const char *queue)
{
	for (;;)
	{
		Snapshot	snapshot = queue_finish_snapshot();
		QueueClaim	letter = {.table = table, .snapshot = snapshot};
		QueueOrigin origin;
		QueueFinished original;
		TM_Result	met = TM_Ok;	/* at the original */
		bool		done = false;

		if (queue_job_find(table, id, snapshot, &letter.job) && letter.job.problem == NULL)
		{
			letter.line = queue_job_line(letter.job.line);
			queue_extra_unpack(letter.job.extra, &letter.extra);
			done = strcmp(letter.line->queue->name, queue) == 0 &&
				queue_dead_letter_origin(letter.extra.origin, &origin) &&
				queue_config_queue(origin.queue, true) != NULL &&
				queue_may(GetUserId(), origin.queue, QUEUE_PRIV_ENQUEUE) &&
				queue_claim_holder(id, letter.job.leased_until, queue_now()) == QUEUE_HELD_BY_NOBODY &&
				queue_claim_lock(&letter, false) == QUEUE_CLAIM_OURS &&
				!lives(table, origin.id) && bring_back(&letter, &origin, &original, &met);
		}
		PopActiveSnapshot();
		if (letter.met == TM_Ok && met == TM_Ok)
			return done;
		if (met == TM_WouldBlock || met == TM_BeingModified)
		{
			if (!queue_finished_wait_moment(&original))
				return false;
		}
		else if (letter.met != TM_WouldBlock)
			queue_finish_retry(met != TM_Ok ? met : letter.met);
		else if (!queue_row_wait_moment(table->rel, &letter.job.tid, table->slot, id))
			return false;
	}
}

/* queue.redrive(queue, qty) -> bigint */
Datum
queue_sql_redrive(PG_FUNCTION_ARGS)
{
	char	   *queue = queue_arg_text(fcinfo, 0, "queue");
	int64		qty = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "queue job", ALLOCSET_DEFAULT_SIZES);
	QueueSearch *search;
	QueueJobTable *table;
	int64	   *ids;
	int64		n;
	int64		done = 0;
	MemoryContext old;

	queue_finish_writable("queue.redrive()");
	if (qty < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("qty must be at least 1"),
				 errhint("It is how many jobs at most; null means all.")));
	queue_require(queue, QUEUE_PRIV_MANAGE);
	(void) queue_config_queue(queue, false);
	search = queue_search_of_queue(queue, QUEUE_PRIV_MANAGE, QUEUE_STATES_WAITING);
	table = queue_job_open(RowExclusiveLock);
	ids = queue_search_ids(search, table, queue_finish_snapshot(), PG_INT64_MIN, PG_INT64_MAX, false, -1, &n);
	PopActiveSnapshot();
	old = MemoryContextSwitchTo(row);
	for (int64 i = 0; i < n && done < qty; i++)
	{
		CHECK_FOR_INTERRUPTS();
		done += redrive_one(table, ids[i], queue);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(old);
	queue_job_close(table);
	CommandCounterIncrement();
	PG_RETURN_INT64(done);
}
