/*
 * missing.c
 *		Is a job that is not there gone, or still to come?
 *
 * A restore brings one table after the other, or several at a time, each in a transaction of its own, while the
 * database's scheduler runs already: so rows come that name a job whose own row comes minutes or hours later, and who
 * clears up behind jobs that are gone must not take them, nor finish a workflow because it has no jobs.  Two signs
 * tell: the sequence of the ids, which pg_restore sets after all tables unless it works with several jobs at a time,
 * and the triggers of some tables, which fire only for rows that came in otherwise than through our functions
 * (queue_database_loaded()).
 *
 * Locks: none.
 */
#include "job/missing.h"

#include "config/config.h"
#include "config/owner.h"
#include "shared/database.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* What a sequence gave last; 0: nothing. */
static int64
last_of(Oid sequence)
{
	LOCAL_FCINFO(fcinfo, 1);
	QueueOwnerContext saved;
	Datum		last;

	queue_as_owner_begin(&saved);
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	last = pg_sequence_last_value(fcinfo);
	queue_as_owner_end(&saved);
	return fcinfo->isnull ? 0 : DatumGetInt64(last);
}

int64
queue_missing_last_id(void)
{
	return last_of(queue_config()->job_id_seq);
}

/* Was a job of this id ever here?  Ids are issued before any job has one, but a restore sets the sequence last. */
static bool
issued(int64 id)
{
	return id <= queue_missing_last_id();
}

bool
queue_missing_gone(int64 id)
{
	return queue_database_lately_loaded(USECS_PER_DAY) == 0 && issued(id);
}

bool
queue_missing_soon_gone(int64 id)
{
	return !queue_missing_restoring() && issued(id);
}

bool
queue_missing_restoring(void)
{
	return queue_database_lately_loaded(USECS_PER_HOUR) != 0;
}

bool
queue_missing_members(int64 workflow, TimestampTz created_at)
{
	return created_at <= queue_database_lately_loaded(USECS_PER_DAY) ||
		workflow > last_of(queue_config()->workflow_id_seq);
}
