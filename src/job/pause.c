/*
 * pause.c
 *		How a worker waits where nothing can be written.
 *
 * A job that nothing can be written of may have itself to blame, a trigger that refuses its row say: it is left alone,
 * and nobody pauses for it.  Where there is no room (disk, memory, transaction ids) the next one is such a job, too,
 * and the one after it: from the second on the worker pauses, each time for longer, so that the machine is not busy
 * with vain tries.  The first write that succeeds ends it.
 *
 * Whose fault it is the error's code tells only by half: a trigger may raise any, and an index of the user's for which
 * a value is too large says that some limit is exceeded, as the server does that is out of transaction ids.  So after
 * such a code it is tried out.
 *
 * Locks: none.
 */
#include "job/pause.h"

#include "job/job.h"
#include "job/turns.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define TRIAL_BYTES (8 * BLCKSZ)
#define PAUSE_US (100 * INT64CONST(1000))
#define MAX_PAUSE_US (5 * USECS_PER_SEC)

/* Uses a transaction id, and some pages of a file where live_job is: whatever lacks is an error. */
static void
try_out(void)
{
	Oid		   *space = MemoryContextAlloc(TopTransactionContext, sizeof(Oid));
	char	   *zeros = palloc0(TRIAL_BYTES);
	BufFile    *file;

	(void) GetCurrentTransactionId();
	(void) set_config_option("temp_file_limit", "-1", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	*space = get_rel_tablespace(queue_config()->live_job);
	SetTempTablespaces(space, 1);
	file = BufFileCreateTemp(false);
	BufFileWrite(file, zeros, TRIAL_BYTES);
	BufFileClose(file);
}

/* Could something else be written now? */
static bool
has_room(void)
{
	MemoryContext old = CurrentMemoryContext;
	volatile bool room = true;

	PG_TRY();
	{
		StartTransactionCommand();
		try_out();
	}
	PG_CATCH();
	{
		room = false;
		MemoryContextSwitchTo(old);
		FlushErrorState();
	}
	PG_END_TRY();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(old);
	return room;
}

bool
queue_pause_is_for(int code)
{
	int			class = ERRCODE_TO_CATEGORY(code);

	return (class == ERRCODE_INSUFFICIENT_RESOURCES || class == ERRCODE_SYSTEM_ERROR ||
			code == ERRCODE_PROGRAM_LIMIT_EXCEEDED) && !has_room();
}

void
queue_pause_failed(QueuePause *pause, int64 job_id, TimestampTz now)
{
	if (job_id != pause->last)
		pause->njobs++;
	pause->last = job_id;
	if (pause->njobs > 1)
		pause->until = now + Min(PAUSE_US << Min(pause->njobs - 2, 10), MAX_PAUSE_US);
}

TimestampTz
queue_pause_until(const QueuePause *pause, TimestampTz now)
{
	return queue_put_off(pause->until, MAX_PAUSE_US, now) ? pause->until : DT_NOEND;
}

TimestampTz
queue_pause_unshun(QueueChannel *channel, TimestampTz now)
{
	QueueEntry	entries[QUEUE_MAX_SHUNNED];
	int			left;
	int			n;

	if (channel->nshunned == 0)
		return DT_NOEND;
	n = queue_channel_unshun(channel, now, entries, &left);
	queue_turns_give_back(entries, n);
	return left > 0 ? now + USECS_PER_SEC : DT_NOEND;
}
