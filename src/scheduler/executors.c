/*
 * executors.c
 *		The executors of one database: starting, retiring and collecting them.
 *
 * Owns the scheduler's records of roles and of the executors that it started.  Who runs
 * is read from the shared slots (executors outlive a scheduler that failed); the
 * handles here only tell of children that never came up.
 *
 * A role whose executors are none, or all busy with long jobs, gets one for each entry that waits; else
 * others are added when entries wait longer than PATIENCE_US or more is due than the channel holds: so a
 * short burst costs no fork and a backlog takes all that queue.executors allows.  When another role needs a
 * place and all are taken, an idle executor is retired, else the one that has served longest, but
 * not before TENURE_US: so two roles with endless backlogs share without forking for every job.
 *
 * Locks: none of its own.
 */
#include "scheduler/executors.h"

#include <signal.h>

#include "executor/worker.h"
#include "lib/text.h"
#include "shared/clock.h"
#include "shared/share.h"
#include "shared/slot.h"
#include "shared/worker.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define PATIENCE_US INT64CONST(5000)
#define TENURE_US USECS_PER_SEC
#define LOST_RETRY_US (USECS_PER_SEC / 2)
#define PARK_MIN_S 10
#define PARK_MAX_S 60
#define TRIAL_LOOK_US (100 * 1000)	/* between looks whether the first one after a failure came up */

/* An executor that this scheduler started. */
typedef struct Executor
{
	QueueChild	child;
	Oid			role;
} Executor;

/* What the slots say of a role's executors. */
typedef struct Tally
{
	int			all;
	int			idle;
	int			starting;
	int			retiring;
	int			busy;			/* with a job that has run for longer than PATIENCE_US */
} Tally;

QueueRole **queue_roles = NULL;
int			queue_nroles = 0;

/* One per role, for queue_executors_scale. */
static Tally *tallies = NULL;
static int *wants = NULL;
static int	roles_size = 0;		/* of these three */

static Executor executors[QUEUE_MAX_SLOTS];
static int	nexecutors = 0;
static TimestampTz start_after = 0; /* a start failed: not before this, at most LOST_RETRY_US later */
static bool no_slot = false;	/* because there was no worker slot */

/* An array that lives as long as the process, made larger. */
static void *
grow(void *array, Size size)
{
	return array == NULL ? MemoryContextAlloc(TopMemoryContext, size) : repalloc(array, size);
}

/* The record of a role.  Called by the scheduler when it reads the configuration. */
QueueRole *
queue_role_of(Oid role, bool create)
{
	QueueRole  *r;

	for (int i = 0; i < queue_nroles; i++)
	{
		if (queue_roles[i]->role == role)
			return queue_roles[i];
	}
	if (!create)
		return NULL;
	if (queue_nroles == roles_size)
	{
		int			size = Max(16, roles_size * 2);

		queue_roles = grow(queue_roles, size * sizeof(QueueRole *));
		tallies = grow(tallies, size * sizeof(Tally));
		wants = grow(wants, size * sizeof(int));
		roles_size = size;
	}
	r = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueRole));
	queue_roles[queue_nroles++] = r;
	r->role = role;
	r->channel = queue_channel_of(MyDatabaseId, role, false);
	r->next_due = DT_NOEND;
	return r;
}

/* Its channel, made when there is something to put into it; NULL when all are taken. */
QueueChannel *
queue_role_channel(QueueRole *role)
{
	if (role->channel == NULL)
		role->channel = queue_channel_of(MyDatabaseId, role->role, true);
	return role->channel;
}

bool
queue_role_waits(const QueueRole *role, TimestampTz now)
{
	return queue_put_off(role->retry_at, PARK_MAX_S * USECS_PER_SEC, now);
}

/* May executors run for it? */
bool
queue_role_ready(QueueRole *role, TimestampTz now)
{
	return role->reason[0] == '\0' && !queue_role_waits(role, now) && queue_executors > 0;
}

/* See executors.h.  Called by the scheduler when it has filled the role's channel. */
int
queue_role_share(QueueRole *role)
{
	for (int i = 0; i < queue_nroles; i++)
	{
		if (queue_roles[i] != role && queue_roles[i]->nlines > 0 && queue_roles[i]->reason[0] == '\0')
			return Max(queue_executors - 1, 1);
	}
	return QUEUE_MAX_SLOTS;
}

/* The executors of a role (InvalidOid: of all roles) in this database. */
static Tally
tally(Oid role, TimestampTz now)
{
	Tally		t = {0};

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId ||
			(OidIsValid(role) && slot->role != role))
			continue;
		t.all++;
		if (pg_atomic_read_u32(&slot->retire) != 0)
			t.retiring++;
		else if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_STARTING)
			t.starting++;
		else if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_IDLE)
			t.idle++;
		else if (pg_atomic_read_u64(&slot->job_id) != 0 &&
				 (TimestampTz) pg_atomic_read_u64(&slot->job_started_at) + PATIENCE_US < now)
			t.busy++;
	}
	return t;
}

/*
 * Would the server let an executor of this role in?  The same checks that it makes itself when a
 * worker connects, so that the reason can be told instead of a failure repeated.  Called in a
 * transaction, when the configuration is read and before an executor is started.
 */
void
queue_executors_precheck(QueueRole *role, TimestampTz now)
{
	char		reason[128] = "";
	HeapTuple	tuple;

	role->limited = false;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role->role));
	if (!HeapTupleIsValid(tuple))
		snprintf(reason, sizeof(reason), "role %u does not exist", role->role);
	else
	{
		Form_pg_authid form = (Form_pg_authid) GETSTRUCT(tuple);
		const char *name = NameStr(form->rolname);

		if (!form->rolcanlogin && !QUEUE_NOLOGIN_ROLES_WORK)
			snprintf(reason, sizeof(reason), "role \"%s\" is not permitted to log in", name);
		else if (!form->rolsuper && form->rolconnlimit >= 0 && CountUserBackends(role->role) > form->rolconnlimit)
		{
			role->limited = true;
			snprintf(reason, sizeof(reason), "role \"%s\" is at its connection limit", name);
		}
		else if (queue_database_aclcheck(MyDatabaseId, role->role, ACL_CONNECT) != ACLCHECK_OK)
			snprintf(reason, sizeof(reason), "role \"%s\" has no CONNECT privilege on this database", name);
		else if (!form->rolsuper)
		{
			HeapTuple	dbtuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));

			if (HeapTupleIsValid(dbtuple))
			{
				int			limit = ((Form_pg_database) GETSTRUCT(dbtuple))->datconnlimit;

				role->limited = limit >= 0 && CountDBConnections(MyDatabaseId) > limit;
				if (role->limited)
					snprintf(reason, sizeof(reason), "this database is at its connection limit");
				ReleaseSysCache(dbtuple);
			}
		}
		ReleaseSysCache(tuple);
	}
	queue_text_mend(reason);	/* a long name may be cut, or in another encoding */
	if (strcmp(reason, role->reason) != 0)
	{
		if (reason[0] != '\0')
			queue_log("role_parked", "no executor can start: %s", reason);
		strlcpy(role->reason, reason, sizeof(role->reason));
	}
	if (role->limited && queue_role_channel(role) != NULL)
		queue_channel_park(role->channel, reason);
	else if (role->channel != NULL && !queue_role_waits(role, now))
		queue_channel_park(role->channel, "");
}

/* Starts one executor.  False: no slot or no worker slot is free. */
static bool
start_executor(QueueRole *role)
{
	Executor	e = {.role = role->role};

	if (nexecutors >= QUEUE_MAX_SLOTS || !queue_child_start(&e.child, QUEUE_SLOT_EXECUTOR, MyDatabaseId, role->role))
		return false;
	executors[nexecutors++] = e;
	return true;
}

/* An executor ended before it was connected: its role waits, longer each time. */
static void
park_role(Oid oid, TimestampTz now)
{
	QueueRole  *role = queue_role_of(oid, false);

	if (role == NULL || queue_role_waits(role, now))
		return;					/* it was started together with one that said so already */
	role->retry_s = role->retry_s == 0 ? PARK_MIN_S : Min(role->retry_s * 2, PARK_MAX_S);
	role->retry_at = now + role->retry_s * USECS_PER_SEC;
	if (role->channel != NULL)
		queue_channel_park(role->channel, "an executor of this role could not connect: see the server log");
	if (role->told_at + USECS_PER_MINUTE <= now)
	{
		queue_log("role_parked", "an executor of role %u could not connect; next try in %d s", oid, role->retry_s);
		role->told_at = now;
	}
}

/* A change may have been what the role waited for; one second between two tries at least.  Called by the scheduler. */
void
queue_executors_retry(QueueRole *role, TimestampTz now)
{
	if (queue_role_waits(role, now))
		role->retry_at = Max(now, Min(role->retry_at, role->retry_at - role->retry_s * USECS_PER_SEC + USECS_PER_SEC));
}

/*
 * Collects executors that ended.  True: a role was parked, so its lines are not eligible any more.  Called by the
 * scheduler.
 */
bool
queue_executors_reap(TimestampTz now)
{
	bool		parked = false;

	for (int i = nexecutors - 1; i >= 0; i--)
	{
		Executor   *e = &executors[i];
		QueueRole  *role = queue_role_of(e->role, false);
		QueueSlot  *slot = queue_slot_nth(e->child.slot);

		switch (queue_child_look(&e->child))
		{
			case QUEUE_CHILD_NONE:
			case QUEUE_CHILD_STARTING:
				continue;
			case QUEUE_CHILD_UP:
				if (role != NULL)
					role->retry_s = 0;
				continue;
			case QUEUE_CHILD_ENDED:
				if (role != NULL)
					role->retry_s = 0;
				break;
			case QUEUE_CHILD_REFUSED:
				if (pg_atomic_read_u32(&slot->retire) == 0 && pg_atomic_read_u32(&slot->abort) == 0)
				{
					park_role(e->role, now);
					parked = true;
				}
				break;
			case QUEUE_CHILD_LOST:
				start_after = now + LOST_RETRY_US;	/* a failed fork says nothing about its role */
				break;
		}
		executors[i] = executors[--nexecutors];
		queue_share_freed(now);
	}
	return parked;
}

/* How soon an executor ends if it is told to. */
typedef enum Soon
{
	SOON_NOW,					/* it is idle, and so is its role */
	SOON_BETWEEN_JOBS,
	SOON_NEVER					/* it is in a long job, and nobody knows how long it takes */
} Soon;

static Soon
how_soon(QueueSlot *slot, TimestampTz now)
{
	QueueRole  *role = queue_role_of(slot->role, false);

	if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_IDLE &&
		(role == NULL || role->channel == NULL || queue_channel_runnable(role->channel) == 0))
		return SOON_NOW;
	if (pg_atomic_read_u64(&slot->job_id) != 0 &&
		(TimestampTz) pg_atomic_read_u64(&slot->job_started_at) + TENURE_US < now)
		return SOON_NEVER;
	return SOON_BETWEEN_JOBS;
}

/*
 * Makes place for a role that waits and has `has` executors: an idle one of a role with nothing to do ends at once,
 * else, when another role has at least two more, one of them: rather not one in a long job, and then the one that has
 * served longest.  Returns when that may be tried again.
 */
static TimestampTz
retire_for(QueueRole *role, int has, TimestampTz now)
{
	QueueSlot  *victim = NULL;
	Soon		victim_soon = SOON_NEVER;
	bool		told = false;	/* one was told, and is in a long job */

	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);
		Soon		soon;

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId ||
			slot->role == role->role)
			continue;
		soon = how_soon(slot, now);
		if (pg_atomic_read_u32(&slot->retire) != 0)
		{
			if (soon != SOON_NEVER)
				return DT_NOEND;	/* one is on its way out; its exit wakes us */
			told = true;
			continue;
		}
		if (pg_atomic_read_u32(&slot->state) == QUEUE_SLOT_STARTING ||
			(soon != SOON_NOW && has > 0 && tally(slot->role, now).all < has + 2))
			continue;
		if (victim == NULL || soon < victim_soon || (soon == victim_soon && slot->started_at < victim->started_at))
		{
			victim = slot;
			victim_soon = soon;
		}
	}
	if (victim == NULL || (told && victim_soon == SOON_NEVER))
		return has > 0 ? DT_NOEND : now + TENURE_US;
	if (victim_soon != SOON_NOW && victim->started_at + TENURE_US > now)
		return victim->started_at + TENURE_US;
	pg_atomic_write_u32(&victim->retire, 1);
	queue_set_latch(pg_atomic_read_u32(&victim->procno));
	return DT_NOEND;
}

/* queue.executors was lowered: idle ones first. */
static void
retire_surplus(int surplus)
{
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < queue_slot_count() && surplus > 0; i++)
		{
			QueueSlot  *slot = queue_slot_nth(i);

			if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId ||
				pg_atomic_read_u32(&slot->retire) != 0)
				continue;
			if (pass == 0 && pg_atomic_read_u32(&slot->state) != QUEUE_SLOT_IDLE)
				continue;
			pg_atomic_write_u32(&slot->retire, 1);
			queue_set_latch(pg_atomic_read_u32(&slot->procno));
			surplus--;
		}
	}
}

/* Is there an executor of this database, or one on its way? */
bool
queue_executors_any(void)
{
	return tally(InvalidOid, 0).all > 0;
}

/* All executors end after what they run now.  Called by the scheduler, whose worker slot is needed elsewhere. */
void
queue_executors_retire(void)
{
	retire_surplus(QUEUE_MAX_SLOTS);
}

/*
 * A channel that nobody reads or fills is for others, in whatever database.  Its reason, if any, must stay to be
 * seen.
 */
static void
release_idle(QueueRole *role, const Tally *t)
{
	if (role->channel != NULL && t->all == 0 && !role->limited && role->retry_at == 0 &&
		queue_channel_count(role->channel) == 0)
	{
		queue_channel_release(role->channel);
		role->channel = NULL;
	}
}

/*
 * How many more executors this role could use now; 0: none.  *again: when that may be otherwise.
 */
static int
wanted(QueueRole *role, const Tally *t, TimestampTz now, TimestampTz *again)
{
	int			count;
	int			want;

	if (queue_role_waits(role, now) && role->nlines > 0)
		*again = Min(*again, role->retry_at);
	if (!queue_role_ready(role, now) || role->channel == NULL ||
		(count = queue_channel_runnable(role->channel)) == 0)
		return 0;
	want = count - t->idle - t->starting;
	if (want > 0 && t->all - t->retiring - t->busy > 0 && !role->more)
	{
		TimestampTz oldest = queue_channel_oldest(role->channel);

		if (oldest == DT_NOEND)
			return 0;
		if (oldest + PATIENCE_US > now)
		{
			*again = Min(*again, oldest + PATIENCE_US);
			return 0;
		}
	}
	/* after a failure one tries it out, before the others follow */
	if (role->retry_s > 0 && want > 0)
	{
		want = t->starting == 0 ? 1 : 0;
		*again = Min(*again, now + TRIAL_LOOK_US);
	}
	return Max(want, 0);
}

/*
 * Starts and retires.  A free place goes to the role that has fewest executors, among equals to the one served least
 * lately.  Called by the scheduler after each round, outside of a transaction.
 */
TimestampTz
queue_executors_scale(TimestampTz now)
{
	TimestampTz again = DT_NOEND;
	QueueDatabase *base = queue_database();
	Tally		total = tally(InvalidOid, now);
	Tally	   *t = tallies;
	int		   *want = wants;
	int			failed = 0;

	if (total.all - total.retiring > queue_executors)
		retire_surplus(total.all - total.retiring - queue_executors);
	for (int i = 0; i < queue_nroles; i++)
	{
		/* of the many roles of a database few have work */
		t[i] = queue_roles[i]->channel == NULL ? (Tally) {0} : tally(queue_roles[i]->role, now);
		release_idle(queue_roles[i], &t[i]);
		want[i] = wanted(queue_roles[i], &t[i], now, &again);
	}
	for (;;)
	{
		int			best = -1;

		for (int i = 0; i < queue_nroles; i++)
		{
			if (want[i] > 0 &&
				(best < 0 || t[i].all < t[best].all ||
				 (t[i].all == t[best].all && queue_roles[i]->started_at < queue_roles[best]->started_at)))
				best = i;
		}
		if (best < 0)
			break;
		if (total.all >= queue_executors)
		{
			again = queue_earlier(again, retire_for(queue_roles[best], t[best].all, now));
			break;
		}
		if (queue_put_off(start_after, LOST_RETRY_US, now))
		{
			again = Min(again, start_after);
			if (no_slot)
				again = Min(again, retire_for(queue_roles[best], t[best].all, now));
			failed = no_slot ? Min(want[best], queue_executors - total.all) : 0;
			break;
		}
		if (total.all > 0 && queue_share_others_first(base, now))
		{
			again = Min(again, now + QUEUE_HUNGER_US);	/* a free slot is for them */
			break;
		}
		if (!start_executor(queue_roles[best]))
		{
			if (!no_slot)
				ereport(LOG,
						(errmsg("queue: no worker slot is free for an executor"),
						 errhint("Raise max_worker_processes.")));
			no_slot = true;
			start_after = now + QUEUE_HUNGER_US;
			queue_share_hungry(base, total.all == 0 ? QUEUE_HUNGER_FIRST : QUEUE_HUNGER_MORE, now);
			continue;
		}
		if (no_slot)
			queue_share_sated(base);
		no_slot = false;
		queue_roles[best]->started_at = now;
		total.all++;
		t[best].all++;
		want[best]--;
	}
	pg_atomic_write_u32(&base->executors_wanted, failed);
	if (no_slot && failed == 0)
	{
		no_slot = false;		/* nothing waits any more */
		queue_share_sated(base);
	}
	return again;
}

/* Tells all executors of this database to end; with abort they roll back at once.  How many there are. */
int
queue_executors_signal(bool abort)
{
	int			n = 0;

	for (int i = 0; i < nexecutors; i++)
		queue_child_recall(&executors[i].child);
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_nth(i);

		if (pg_atomic_read_u32(&slot->type) != QUEUE_SLOT_EXECUTOR || slot->db != MyDatabaseId)
			continue;
		n++;
		if (slot->pid != 0 && (abort ? pg_atomic_exchange_u32(&slot->abort, 1) == 0 :
							   pg_atomic_read_u32(&slot->state) != QUEUE_SLOT_STOPPING))
			(void) kill(slot->pid, SIGTERM);
	}
	return n;
}

/* Forgets roles that no handler runs as any more, once their executors are gone.  Called by the scheduler. */
void
queue_executors_forget_unused(void)
{
	for (int i = queue_nroles - 1; i >= 0; i--)
	{
		QueueRole  *role = queue_roles[i];

		if (role->used || tally(role->role, 0).all > 0)
			continue;
		if (role->channel != NULL)
		{
			QueueEntry	entries[QUEUE_MAX_SHUNNED];
			int			left;
			int			n = queue_channel_unshun(role->channel, DT_NOEND, entries, &left);

			for (int j = 0; j < n; j++)
				(void) queue_cursor_append(MyDatabaseId, entries[j].line, NULL,
										   (QueuePos) {entries[j].run_at, entries[j].id}, 1);
			if (queue_channel_count(role->channel) > 0)
				continue;
			queue_channel_release(role->channel);
		}
		pfree(role);
		queue_roles[i] = queue_roles[--queue_nroles];
	}
}
