/*
 * share.c
 *		Who gives a worker slot up for whom.
 *
 * The server tells only by refusing that its worker slots are used up, so whoever is refused says so in its database's
 * entry (hunger) and picks, from the shared worker slots of all databases, the worker that can best be spared:
 *
 *	1. an idle executor whose channel is empty, of any database and role;
 *	2. an executor of the database that has most, if it has at least two more; it ends after its current job;
 *	3. for a first executor or a scheduler: a scheduler that sleeps with nothing to do.  It rests (database.h): the
 *	   launcher starts it again when its time has come or somebody commits a job;
 *	4. likewise, when nothing else helped for PATIENCE_US: the scheduler longest in service, which rests as soon as
 *	   what its executors run has ended, and then waits its turn.  For a first executor, when no database has any, all
 *	   slots being taken by schedulers, the last one started goes at once.  (Not for a scheduler: one that has just
 *	   started is idle in a second, and would be wanted again at once.)
 *
 * So each database has a scheduler and an executor as far as slots go, and in turns beyond that.
 *
 * All is advice in atomics: a hunger that nobody renews is void after STALE_US.  No locks.
 */
#include "shared/share.h"

#include "shared/channel.h"
#include "shared/clock.h"

#define PATIENCE_US (5 * USECS_PER_SEC)
#define TENURE_US (10 * USECS_PER_SEC)
#define STALE_US (3 * USECS_PER_SEC)
#define IDLE_US USECS_PER_SEC	/* a scheduler that sleeps for longer than this has nothing to do */

/* What the slots say of a database. */
typedef struct Share
{
	int			executors;		/* that are not about to end */
	int			retiring;
	bool		http;
} Share;

static Share
share_of(Oid db)
{
	Share		share = {0};

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		uint32		type = pg_atomic_read_u32(&slot->type);

		if (slot->db != db)
			continue;
		if (type == QUEUE_SLOT_HTTP)
			share.http = true;
		else if (type == QUEUE_SLOT_EXECUTOR && pg_atomic_read_u32(&slot->retire) != 0)
			share.retiring++;
		else if (type == QUEUE_SLOT_EXECUTOR)
			share.executors++;
	}
	return share;
}

/* What this database needs now. */
static QueueHunger
hunger_of(QueueDatabase *base, TimestampTz now)
{
	if (base == NULL || (TimestampTz) pg_atomic_read_u64(&base->hungry_at) + STALE_US < now)
		return QUEUE_HUNGER_NONE;
	return (QueueHunger) pg_atomic_read_u32(&base->hunger);
}

/* Asks a worker to end. */
static void
retire(QueueSlot *slot, uint32 how)
{
	pg_atomic_write_u32(&slot->retire, how);
	queue_set_latch(pg_atomic_read_u32(&slot->procno));
}

/* An executor that can be spared: an idle one, else one of the database that has most. */
static bool
spare_executor(Oid db)
{
	QueueSlot  *idle = NULL;
	QueueSlot  *busy = NULL;
	int			most = share_of(db).executors + 1;

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		QueueChannel *channel;
		Share		share;

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db == db ||
			pg_atomic_read_u32(&slot->retire) != 0)
			continue;
		channel = queue_channel_of(slot->db, slot->role, false);
		if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_IDLE &&
			(channel == NULL || queue_channel_count(channel) == 0))
		{
			if (idle == NULL || slot->started_at < idle->started_at)
				idle = slot;
			continue;
		}
		share = share_of(slot->db);
		if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_RUNNING && share.retiring == 0 &&
			(share.executors > most ||
			 (busy != NULL && share.executors == most && slot->started_at < busy->started_at)))
		{
			busy = slot;
			most = share.executors;
		}
	}
	if (idle == NULL && busy == NULL)
		return false;
	retire(idle != NULL ? idle : busy, 1);
	return true;
}

/* Has no other database been hungry for as much for longer? */
static bool
my_turn(QueueDatabase *base, TimestampTz now)
{
	uint64		since = pg_atomic_read_u64(&base->hungry_since);

	for (int i = 0; i < queue_database_count(); i++)
	{
		QueueDatabase *other = queue_database_nth(i);

		if (other != NULL && other != base && hunger_of(other, now) >= QUEUE_HUNGER_FIRST &&
			pg_atomic_read_u64(&other->hungry_since) < since)
			return false;
	}
	return true;
}

/* A scheduler that can be spared. */
static void
spare_scheduler(QueueDatabase *base, QueueHunger hunger, TimestampTz now)
{
	QueueSlot  *idle = NULL;
	QueueSlot  *oldest = NULL;
	QueueSlot  *youngest = NULL;
	bool		any_executor = false;
	bool		patient = (TimestampTz) pg_atomic_read_u64(&base->hungry_since) + PATIENCE_US > now;

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		QueueDatabase *its = queue_database_of(slot->db, false);
		uint32		type = pg_atomic_read_u32(&slot->type);
		TimestampTz until;
		Share		share;

		any_executor |= type == QUEUE_SLOT_EXECUTOR || type == QUEUE_SLOT_HTTP;
		if (type != QUEUE_SLOT_SCHEDULER || its == NULL || its == base ||
			pg_atomic_read_u32(&slot->state) != QUEUE_SLOT_IDLE)
			continue;
		if (pg_atomic_read_u32(&slot->retire) != 0)
			return;				/* one is about to go */
		until = (TimestampTz) pg_atomic_read_u64(&its->sleep_until);
		share = share_of(slot->db);
		if (share.executors + share.retiring == 0 && !share.http && until != 0 && until > now + IDLE_US &&
			hunger_of(its, now) == QUEUE_HUNGER_NONE)
		{
			if (idle == NULL ||
				until > (TimestampTz) pg_atomic_read_u64(&queue_database_of(idle->db, false)->sleep_until))
				idle = slot;
		}
		if (slot->started_at + TENURE_US < now && (oldest == NULL || slot->started_at < oldest->started_at))
			oldest = slot;
		if (youngest == NULL || slot->started_at > youngest->started_at)
			youngest = slot;
	}
	if (idle != NULL)
		retire(idle, QUEUE_RETIRE_IF_IDLE);
	else if (!my_turn(base, now))
		return;
	else if (hunger == QUEUE_HUNGER_FIRST && !any_executor && youngest != NULL)
		retire(youngest, QUEUE_RETIRE_SOON);
	else if (!patient && oldest != NULL)
		retire(oldest, QUEUE_RETIRE_SOON);
}

void
queue_share_hungry(QueueDatabase *base, QueueHunger hunger, TimestampTz now)
{
	if (hunger_of(base, now) == QUEUE_HUNGER_NONE)
		pg_atomic_write_u64(&base->hungry_since, (uint64) now);
	pg_atomic_write_u32(&base->hunger, hunger);
	pg_atomic_write_u64(&base->hungry_at, (uint64) now);
	if (!spare_executor(base->db) && hunger >= QUEUE_HUNGER_FIRST)
		spare_scheduler(base, hunger, now);
}

void
queue_share_sated(QueueDatabase *base)
{
	pg_atomic_write_u32(&base->hunger, QUEUE_HUNGER_NONE);
	pg_atomic_write_u64(&base->hungry_at, 0);
}

bool
queue_share_others_first(QueueDatabase *base, TimestampTz now)
{
	for (int i = 0; i < queue_database_count(); i++)
	{
		QueueDatabase *other = queue_database_nth(i);
		QueueHunger hunger = other == base ? QUEUE_HUNGER_NONE : hunger_of(other, now);

		if (hunger == QUEUE_HUNGER_FIRST || (base != NULL && hunger == QUEUE_HUNGER_SCHEDULER))
			return true;
	}
	return false;
}

void
queue_share_freed(TimestampTz now)
{
	for (int i = 0; i < queue_database_count(); i++)
	{
		QueueDatabase *base = queue_database_nth(i);
		QueueHunger hunger = hunger_of(base, now);

		if (hunger == QUEUE_HUNGER_SCHEDULER)
			queue_launcher_poke();
		else if (hunger != QUEUE_HUNGER_NONE)
			queue_database_wake(base, 0);
	}
}
