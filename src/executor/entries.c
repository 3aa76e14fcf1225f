/*
 * entries.c
 *		The channel entries that this executor has in hand.
 *
 * Owns queue_held.  Every entry taken from the channel stands there until its transaction is over, and is given back to
 * its line's cursor at exit: an entry in hand is behind that cursor, so nobody else would look for its job.  A crash
 * loses nothing, because no row was changed.
 *
 * Locks: those of the channel and of the cursor, for one entry.
 */
#include "executor/entries.h"

#include "job/job.h"
#include "job/pause.h"
#include "shared/clock.h"
#include "shared/slot.h"

#include "miscadmin.h"
#include "storage/ipc.h"

QueueEntry	queue_held[QUEUE_SUSPECT_IDS];
int			queue_nheld = 0;

static QueueChannel *channel = NULL;
static QueueEntry postponed;	/* too young for the group that took it: heads the next one; id 0: none */
static bool permit = false;		/* one of the channel's permits for LONG entries is ours */

static QueuePause stuck = {0};	/* jobs could be neither run nor failed */

/* Exit hook: what was taken and not ended goes back to its line (an open transaction is aborted after that). */
static void
give_back_at_exit(int code, Datum arg)
{
	queue_entries_give_back_all();
	if (postponed.id != 0)
		queue_entries_give_back(&postponed);
	queue_channel_return(channel, &permit);
}

/* Called once, after the slot was adopted. */
bool
queue_entries_open(void)
{
	channel = queue_channel_of(MyDatabaseId, queue_my_slot->role, false);
	if (channel == NULL)
		return false;
	before_shmem_exit(give_back_at_exit, (Datum) 0);
	return true;
}

bool
queue_entries_any(void)
{
	return queue_channel_runnable(channel) > 0;
}

void
queue_entries_ended(void)
{
	queue_channel_return(channel, &permit);
}

/* Tells the scheduler when the channel runs low. */
bool
queue_entries_next(void)
{
	int			left;

	if (postponed.id != 0)
	{
		queue_held[queue_nheld++] = postponed;
		postponed.id = 0;
		return true;
	}
	do
	{
		if (queue_nheld == 0)
			queue_entries_ended();
		if (unlikely(stuck.until != 0) && queue_entries_paused_until() != DT_NOEND)
			return false;
		if (queue_nheld == QUEUE_SUSPECT_IDS || !queue_channel_take(channel, &queue_held[queue_nheld], &permit, &left))
			return false;
		if (left == channel->low || left == 0)
			queue_database_wake(queue_database(), 0);
	} while (queue_channel_shuns(channel, &queue_held[queue_nheld]));
	queue_turn_started(&queue_held[queue_nheld].order);
	queue_nheld++;
	return true;
}

bool
queue_entries_urgent(const QueueOrder *order)
{
	QueueEntry	first;

	return queue_channel_first(channel, &first) && queue_order_before(&first.order, order);
}

void
queue_entries_postpone(QueueEntry *entry)
{
	postponed = *entry;
	entry->id = 0;
}

void
queue_entries_give_back(const QueueEntry *entry)
{
	queue_job_give_back(entry->line, (QueuePos) {entry->run_at, entry->id});
}

void
queue_entries_put_back_alone(QueueEntry *entry)
{
	QueueEntry	evicted[QUEUE_CHANNEL_SIZE];
	int			nevicted;

	entry->flags |= QUEUE_ENTRY_ALONE;
	if (!queue_channel_put(channel, entry, QUEUE_CHANNEL_ANY_COST, evicted, &nevicted))
		queue_entries_give_back(entry);
	for (int i = 0; i < nevicted; i++)
		queue_entries_give_back(&evicted[i]);
	queue_database_wake(queue_database(), 0);
	entry->id = 0;
}

void
queue_entries_give_back_all(void)
{
	for (int i = 0; i < queue_nheld; i++)
	{
		if (queue_held[i].id != 0)
			queue_entries_give_back(&queue_held[i]);
	}
	queue_nheld = 0;
}

/*
 * The job could be neither run nor failed: there is nothing to write down why, and looking again at once would keep
 * the machine busy with it.  Its row was let go already, so the scheduler finds it, and is told here to leave it alone.
 * code: why it could not be failed; where there is no room this executor pauses (pause.c).  The log is told once a
 * minute.
 */
void
queue_entries_shun(const QueueEntry *entry, const char *error, int code)
{
	bool		room = !queue_pause_is_for(code);
	TimestampTz now = queue_now();

	queue_channel_shun(channel, entry, now, room);
	if (!room)
		queue_pause_failed(&stuck, entry->id, now);
	if (queue_channel_tells(channel, now))
		queue_log_job("job_error", &(QueueLogJob) {.id = entry->id, .error = error},
					  "job " INT64_FORMAT " could be neither run nor failed: %s", entry->id, error);
	queue_database_wake(queue_database(), 0);
}

void
queue_entries_wrote(void)
{
	stuck = (QueuePause) {0};
}

TimestampTz
queue_entries_paused_until(void)
{
	return queue_pause_until(&stuck, queue_now());
}

void
queue_entries_refuse(int64 line, const char *reason)
{
	queue_channel_refuse(channel, line, reason);
}
