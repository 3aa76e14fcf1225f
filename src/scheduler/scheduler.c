/*
 * scheduler.c
 *		The scheduler of one database: what runs next.
 *
 * Owns the rounds.  In each it reads, for every role that has eligible lines and room in its
 * channel, the due jobs of those lines in order (one merged scan), writes nothing,
 * and puts (id, tid) into the channel; the executors claim.  All that decides who may run -
 * pause of queue and handler, a function that is missing, a role that cannot connect, an unadopted
 * copy - decides here which lines are eligible, so no job ever hides another.
 *
 * It sleeps on its latch until the next due job, lease end, or chore; a commit of a served
 * line sets the latch, and so does an executor whose channel runs low.  sleep_until (base.h)
 * is 0 from the moment it wakes, before it looks at anything.
 *
 * Suspects (jobs that ran in a process that died) are kept out of the rounds and pushed one at a time in the
 * whole database, alone, each only when the one before has left its executor.
 *
 * When the extension is not there (or goes away) it says so in the shared entry and ends
 * quietly; when the library does not work with the extension as it is here it runs nothing until that changes.
 * An ERROR ends the slice of work that it came from, not the process (chores.c).
 *
 * Locks: AccessShareLock on live_job in a round, taken conditionally: who wants the table for
 * itself (ALTER TABLE, VACUUM FULL) gets it.
 */
#include "scheduler/scheduler.h"

#include "config/catalog.h"
#include "config/config.h"
#include "config/owner.h"
#include "config/relations.h"
#include "http/feed.h"
#include "job/limit.h"
#include "job/pause.h"
#include "job/pending.h"
#include "job/ready.h"
#include "scheduler/chores.h"
#include "scheduler/dependents.h"
#include "scheduler/placement.h"
#include "scheduler/promote.h"
#include "shared/channel.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/lease.h"
#include "shared/pace.h"
#include "shared/share.h"
#include "shared/slot.h"
#include "shared/suspect.h"
#include "shared/worker.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define LOCK_RETRY_US INT64CONST(100000)
#define NO_CHANNEL_RETRY_US USECS_PER_SEC
#define RECHECK_US (30 * USECS_PER_SEC)
#define FAILED_MAX_S 60
#define SUSPECT_RECHECK_US INT64CONST(50000)
#define SUSPECT_GRACE_US (5 * USECS_PER_SEC)
#define STOP_GRACE_US INT64CONST(1200000)	/* beyond the deadline at which the children die by themselves, 1 s later */
#define STOP_LOOK_US INT64CONST(100000)
#define BURST 8					/* jobs of one line pulled together, if there are many */
#define MAX_SUSPECTS (QUEUE_SUSPECT_IDS * 16)

/* A job that is suspected of having killed its process. */
typedef struct Suspect
{
	int64		id;
	TimestampTz pushed_at;		/* 0: not yet */
	bool		seen_running;
	ItemPointerData tid;		/* of the row that was pushed */
} Suspect;

static QueueDatabase *base = NULL;
static TimestampTz work_due;	/* when the next job falls due */
static TimestampTz rest_until;	/* when this scheduler gives its worker slot up: it is needed again then */
static bool gone = false;		/* the extension is not there any more */
static Suspect suspects[MAX_SUSPECTS];
static int	nsuspects = 0;

/* ---------------------------------------------------------------- entries */

/* What may wait in a role's channel: as much as its executors are expected to run in about two groups each. */
static int64
channel_budget(void)
{
	return (int64) queue_executors * Max(queue_commit_interval, 1) * 1000;
}

/*
 * Fills in what the run is expected to take: of a kind that is new, or slow on average, one executor's whole share.
 * The line may have lost its handler since its entry was put into the channel, and counts as new then.
 */
static void
estimate(QueueEntry *entry, QueueLine *line)
{
	QueueKindStat *own = line->handler == NULL ? NULL : queue_line_stat(line);
	QueueKindStat *stat = own == NULL ? NULL : queue_kind_guide(own);
	int64		whole = (int64) Max(queue_commit_interval, 1) * 1000;
	int64		mean = stat == NULL ? whole : (int64) pg_atomic_read_u64(&stat->mean_us);

	if (stat == NULL || mean >= whole || !queue_kind_is_known(stat))
	{
		entry->cost = (int32) whole;
		entry->flags |= QUEUE_ENTRY_LONG;
	}
	else
	{
		entry->cost = (int32) Max(mean, 1);
		entry->flags &= ~QUEUE_ENTRY_LONG;
	}
}

/* Puts an entry into its role's channel and gives back what leaves for it; false: no room. */
static bool
put(QueueChannel *channel, const QueueEntry *entry, int64 budget)
{
	QueueEntry	evicted[QUEUE_CHANNEL_SIZE];
	int			nevicted;
	bool		ok = queue_channel_put(channel, entry, budget, evicted, &nevicted);

	queue_turns_give_back(evicted, nevicted);
	return ok;
}

/* How urgent is an entry now?  Of a group as its oldest job was. */
static int32
urgency_of(const QueueEntry *entry, TimestampTz now)
{
	QueueLine  *line = queue_config_line(entry->line);

	return line == NULL ? entry->order.urgency :
		queue_urgency(line->queue, line->priority, entry->order.place.run_at, now);
}

/* An entry that is in no channel goes back into this one, if it may run and has room there. */
static void
sift_entry(QueueRole *role, QueueEntry *entry, TimestampTz now)
{
	QueueLine  *line = queue_config_line(entry->line);
	bool		stays = queue_placement_role(line, now) == role;
	bool		suspect = (entry->flags & QUEUE_ENTRY_SUSPECT) != 0;

	if (stays)
	{
		estimate(entry, line);
		entry->order.urgency = urgency_of(entry, now);
	}
	if (!stays || !put(role->channel, entry, suspect ? QUEUE_CHANNEL_ANY_COST : channel_budget()))
		queue_turns_give_back(entry, 1);
}

/* Takes entries that may no longer run, or would wait too long, out of a channel and lets others have them. */
static void
sift_channel(QueueRole *role, TimestampTz now)
{
	QueueEntry	entries[QUEUE_CHANNEL_SIZE];
	volatile int sifted = 0;
	int			n;

	if (role->channel == NULL || queue_channel_count(role->channel) == 0)
		return;
	n = queue_channel_drain(role->channel, entries);
	PG_TRY();
	{
		for (; sifted < n; sifted++)
			sift_entry(role, &entries[sifted], now);
	}
	PG_CATCH();
	{
		for (; sifted < n; sifted++)
			queue_turns_tell(&entries[sifted]);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Entries that have become more urgent by waiting take their new places. */
static void
age_channel(QueueRole *role, TimestampTz now)
{
	QueueEntry	entries[QUEUE_CHANNEL_SIZE];
	bool		aged = false;
	int			n = role->channel == NULL ? 0 : queue_channel_copy(role->channel, entries);

	for (int i = 0; i < n && !aged; i++)
		aged = urgency_of(&entries[i], now) != entries[i].order.urgency;
	if (aged)
		sift_channel(role, now);
}

/* ---------------------------------------------------------------- suspects */

/* Is this job kept out of the rounds? */
static bool
is_suspect(int64 id)
{
	for (int i = 0; i < nsuspects; i++)
	{
		if (suspects[i].id == id)
			return true;
	}
	return false;
}

/* Removes one; the order stays. */
static void
clear_suspect(int i)
{
	memmove(&suspects[i], &suspects[i + 1], sizeof(Suspect) * (nsuspects - i - 1));
	nsuspects--;
}

/*
 * Sees whether the one that was pushed has ended, and pushes the next whose line is eligible.  A suspect has ended
 * when its row is gone or is another version and no executor runs it; an unchanged row gets some time, because an
 * executor may have taken it off the channel and not yet said so.
 */
static TimestampTz
tend_suspects(QueueJobTable *table, TimestampTz now)
{
	QueueTally *tally = queue_tally_begin(now);

	PushActiveSnapshot(GetLatestSnapshot());
	for (int i = 0; i < nsuspects;)
	{
		Suspect    *s = &suspects[i];
		QueueJob	job;
		QueueRole  *role = NULL;
		bool		there = queue_job_find_lean(table, s->id, GetActiveSnapshot(), &job);
		QueueEntry	entry;

		if (!there)
		{
			clear_suspect(i);
			continue;
		}
		role = queue_job_pending(&job) ? NULL : queue_placement_role(queue_config_line(job.line), now);
		if (s->pushed_at != 0)
		{
			bool		running = queue_slot_runs(MyDatabaseId, s->id);
			bool		changed = !ItemPointerEquals(&s->tid, &job.tid);

			if (running)
				s->seen_running = true;
			if (running || (role != NULL && role->channel != NULL && queue_channel_has(role->channel, s->id)) ||
				(!changed && !s->seen_running && now < s->pushed_at + SUSPECT_GRACE_US) ||
				(changed && job.leased_until > now && now < s->pushed_at + SUSPECT_GRACE_US))
			{
				PopActiveSnapshot();
				return now + SUSPECT_RECHECK_US;
			}
			if (!changed)
			{
				/* it came back as it was: let it be found like any other, but alone */
				queue_line_claimable(queue_job_line(job.line), queue_job_pos(&job));
			}
			clear_suspect(i);
			continue;
		}
		if (role == NULL || !queue_tally_room(tally, queue_config_line(job.line)))
		{
			i++;				/* nobody may run it now; the others need not wait for that */
			continue;
		}
		memset(&entry, 0, sizeof(entry));
		entry.id = job.id;
		entry.line = job.line;
		entry.run_at = job.run_at;
		entry.tid = job.tid;
		entry.stamp = queue_now();
		entry.flags = QUEUE_ENTRY_SUSPECT | QUEUE_ENTRY_ALONE;
		entry.order.place = queue_job_pos(&job);
		entry.order.urgency = urgency_of(&entry, now);
		if (queue_role_channel(role) != NULL && put(role->channel, &entry, QUEUE_CHANNEL_ANY_COST))
		{
			s->pushed_at = now;
			s->tid = job.tid;
			queue_log_job("suspect", &(QueueLogJob) {.id = s->id},
						  "job " INT64_FORMAT " was running in a process that died: it is tried alone", s->id);
			(void) queue_slot_wake_idle(MyDatabaseId, role->role, QUEUE_CHANNEL_SIZE, now);
		}
		PopActiveSnapshot();
		return now + SUSPECT_RECHECK_US;
	}
	PopActiveSnapshot();
	return nsuspects > 0 ? now + RECHECK_US : DT_NOEND;
}

/* ---------------------------------------------------------------- rounds */

/*
 * Entries wait in the channel: wakes idle executors for them.  What is left to executors that share a commit just
 * now is looked at again, should one of them take longer than its kind used to.
 */
static void
wake_executors(QueueRole *role, TimestampTz now)
{
	int			waiting = role->channel == NULL ? 0 : queue_channel_runnable(role->channel);

	if (waiting == 0)
		return;
	if (queue_slot_wake_idle(MyDatabaseId, role->role, waiting, now) > 0)
		role->next_due = Min(role->next_due, now + QUEUE_SHARING_PATIENCE_US);
}

/*
 * Only what is more urgent than the channel's last entry, or has its turn before one of its group, may still enter a
 * full channel.  If the last entry's kind has turned out to be LONG, the channel's entries are weighed again first.
 * False: the channel is not full.
 */
static bool
limit_to_urgent(QueueRole *role, QueueReady *ready, TimestampTz now)
{
	QueueEntry	last;
	QueueEntry	again;
	QueueLine  *line;

	if (role->channel == NULL || !queue_channel_last(role->channel, &last))
		return false;
	again = last;
	line = queue_config_line(last.line);
	if (line != NULL)
		estimate(&again, line);
	if (line == NULL || (again.flags & ~last.flags & QUEUE_ENTRY_LONG) != 0)
	{
		sift_channel(role, now);
		if (!queue_channel_last(role->channel, &last))
			return false;
	}
	if (!queue_channel_full(role->channel, channel_budget()))
		return false;
	queue_ready_before(ready, &last.order);
	return true;
}

/* Whose lines a pull reads. */
typedef struct Puller
{
	QueueRole  *role;
	QueueTally *tally;
	TimestampTz now;
} Puller;

/* Does the role still run the jobs of this line, which its agenda has, and do its limits let it? */
static bool
wants(QueueLine *line, void *arg)
{
	const Puller *puller = arg;

	return queue_placement_role(line, puller->now) == puller->role && queue_tally_room(puller->tally, line);
}

/* Was this line not wanted because its queue's limit is full? */
static bool
is_shut(const QueueLine *line, void *arg)
{
	const Puller *puller = arg;

	return queue_tally_shut(puller->tally, line);
}

/* Pulls what fits into one role's channel, the most urgent first. */
static void
pull(QueueRole *role, QueueJobTable *table, QueueTally *tally, TimestampTz now)
{
	TimestampTz retry = role->channel == NULL ? DT_NOEND : queue_pause_unshun(role->channel, now);
	Puller		puller = {role, tally, now};
	QueueReadyLines lines = {
		.lines = role->unplaced,
		.nlines = role->nunplaced,
		.agendas = role->agendas.agendas,
		.nagendas = role->agendas.n,
		.wants = wants,
		.shut = is_shut,
		.arg = &puller,
		.burst = BURST,
		.readers = (uint64) role->role << 32 | QUEUE_AGENDA_ROLE,
		.scheduler = true,
	};
	QueueReady *ready;
	QueueEntry	entry = {0};
	QueueJob	job;
	QueueLine  *line;
	QueueLine  *last_line = NULL;
	QueueEntry	last;
	bool		limited;		/* to what may still enter a full channel */

	if (role->ages)
		age_channel(role, now);
	ready = queue_ready_begin(table, &lines, now);
	entry.stamp = queue_now();	/* after the snapshot */
	limited = limit_to_urgent(role, ready, now);
	while (queue_tally_next(tally, ready, &job, &line))
	{
		if (nsuspects > 0 && is_suspect(job.id))
			continue;
		entry.id = job.id;
		entry.line = job.line;
		entry.run_at = job.run_at;
		entry.tid = job.tid;
		entry.order = queue_ready_order(ready);
		if (line != last_line)
			estimate(&entry, last_line = line);
		entry.flags &= QUEUE_ENTRY_LONG;
		if (job.failures > 0 || job.leased_until != DT_NOBEGIN)
			entry.flags |= QUEUE_ENTRY_ALONE;
		if (role->channel != NULL && queue_channel_shuns(role->channel, &entry))
			continue;			/* queue_pause_unshun() gives it back */
		if (queue_role_channel(role) == NULL)
			retry = Min(retry, now + NO_CHANNEL_RETRY_US);
		else if (put(role->channel, &entry, channel_budget()))
		{
			queue_ready_use(ready, false);
			continue;
		}
		queue_ready_put_back(ready);
		if (limited || role->channel == NULL || !queue_channel_last(role->channel, &last))
			break;
		/* what does not fit hides nobody who may take the place of another one of his group */
		queue_ready_before(ready, &last.order);
		limited = true;
	}
	role->next_due = queue_earlier(queue_ready_later_due(ready, &role->more), retry);
	if (role->channel != NULL)
		queue_channel_filled(role->channel, queue_role_share(role));
	queue_ready_end(ready);
}

/*
 * Pulls for each role that may run, and wakes its executors.  An error ends the round (chores.c logs it and begins
 * another soon); the role whose lines raised it is then left out for a pause that doubles, so that it holds up no
 * other. Returns when the next job falls due.
 */
static TimestampTz
pull_all(QueueJobTable *table, QueueTally *tally, TimestampTz now)
{
	static Oid	pulling = InvalidOid;
	QueueRole  *failed = OidIsValid(pulling) ? queue_role_of(pulling, false) : NULL;
	static int	first = 0;
	TimestampTz next = DT_NOEND;

	if (failed != NULL)
	{
		failed->failed_s = failed->failed_s == 0 ? 1 : Min(failed->failed_s * 2, FAILED_MAX_S);
		failed->failed_until = now + failed->failed_s * USECS_PER_SEC;
		pulling = InvalidOid;	/* it is put off once for this, not anew in each round until its pause is over */
	}
	first = queue_nroles > 0 && tally != NULL ? (first + 1) % queue_nroles : 0;
	for (int i = 0; i < queue_nroles; i++)
	{
		QueueRole  *role = queue_roles[(first + i) % queue_nroles];

		if (role->nlines == 0 || !queue_role_ready(role, now))
			continue;
		if (queue_put_off(role->failed_until, FAILED_MAX_S * USECS_PER_SEC, now))
		{
			next = Min(next, role->failed_until);
			continue;
		}
		pulling = role->role;
		pull(role, table, tally, now);
		pulling = InvalidOid;
		role->failed_s = 0;
		wake_executors(role, queue_now());
		next = Min(next, role->next_due);
	}
	return next;
}

/* Chore: one round.  Returns the time of the next one, if nobody wakes us before. */
static TimestampTz
do_round(TimestampTz now)
{
	TimestampTz next;
	QueueConfig *config;
	QueueJobTable *table;
	QueueTally *tally;
	static bool feed_first = false;
	static TimestampTz last = 0;

	if (now < last)
		queue_placement_recheck();	/* the clock was set back: the next look is put off by the former one */
	last = now;
	if (queue_config_stale() && !OidIsValid(get_extension_oid("queue", true)))
	{
		gone = true;
		return DT_NOEND;
	}
	config = queue_config();
	if (!ConditionalLockRelationOid(config->live_job, AccessShareLock))
		return now + LOCK_RETRY_US;
	table = queue_job_open(AccessShareLock);
	if (queue_placement_refresh(queue_config(), now))
	{
		/* who has no lines any more is not pulled for */
		for (int i = 0; i < queue_nroles; i++)
		{
			if (queue_roles[i]->channel != NULL)
				(void) queue_pause_unshun(queue_roles[i]->channel, DT_NOEND);
			sift_channel(queue_roles[i], now);
		}
		queue_feed_unshun();
	}
	next = queue_placement_due();
	if (nsuspects > 0)
		next = queue_earlier(next, tend_suspects(table, now));
	tally = queue_tally_begin(now);
	/* who is read first takes what room there is under a limit that they share */
	feed_first = tally != NULL && !feed_first;
	if (feed_first)
		next = queue_earlier(next, queue_feed_pull(table, tally, now));
	next = queue_earlier(next, pull_all(table, tally, now));
	if (!feed_first)
		next = queue_earlier(next, queue_feed_pull(table, tally, now));
	next = queue_earlier(next, queue_tally_when(tally));
	queue_job_close(table);
	return next;
}

/* ---------------------------------------------------------------- life */

/* on_shmem_exit: nobody schedules this database any more. */
static void
scheduler_exit(int code, Datum arg)
{
	uint32		me = queue_procno_of(MyProc);

	(void) pg_atomic_compare_exchange_u32(&base->scheduler_procno, &me, PG_UINT32_MAX);
	pg_atomic_write_u64(&base->sleep_until, 0);
	pg_atomic_write_u32(&base->executors_wanted, 0);
	queue_database_set_trouble(base, "");
	queue_launcher_poke();
}

static void leave(QueueDatabaseState state) pg_attribute_noreturn();
static void stop(QueueDatabaseState state) pg_attribute_noreturn();

/* Ends this process in order.  The state tells the launcher whether it shall be tried again. */
static void
leave(QueueDatabaseState state)
{
	pg_atomic_write_u32(&base->state, state);
	proc_exit(0);
}

/* Must it end?  A closed database aborts its workers, anything else lets them finish. */
static bool
must_stop(void)
{
	return ShutdownRequestPending || pg_atomic_read_u32(&base->closed) > 0 ||
		pg_atomic_read_u32(&queue_my_slot->abort) != 0 || !queue_enabled;
}

/* What waits in a channel may be waited for by others, if no scheduler comes back soon. */
static void
empty_channel(QueueRole *role)
{
	QueueEntry	entry;

	if (role->channel == NULL)
		return;
	(void) queue_pause_unshun(role->channel, DT_NOEND);
	while (queue_channel_pop(role->channel, &entry))
		queue_turns_give_back(&entry, 1);
}

/* Ends executors and http worker, which die of themselves at their deadline, and then this process. */
static void
stop(QueueDatabaseState state)
{
	bool		abort = state == QUEUE_DATABASE_NO_EXTENSION;
	TimestampTz deadline = queue_now() + queue_shutdown_timeout * INT64CONST(1000) + STOP_GRACE_US;

	pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_STOPPING);
	for (;;)
	{
		TimestampTz now = queue_now();
		int			left;

		abort |= pg_atomic_read_u32(&base->closed) > 0 || pg_atomic_read_u32(&queue_my_slot->abort) != 0;
		if (abort)
			deadline = Min(deadline, now + STOP_GRACE_US);
		(void) queue_executors_reap(now);
		left = queue_executors_signal(abort) + (queue_feed_signal(abort) ? 1 : 0);
		if (left == 0 || now >= deadline)
			break;
		(void) queue_worker_sleep(NULL, Min(now + STOP_LOOK_US, deadline), queue_wait_event("QueueSchedulerStop"));
	}
	queue_slot_take_back(QUEUE_SLOT_EXECUTOR, MyDatabaseId);
	queue_slot_take_back(QUEUE_SLOT_HTTP, MyDatabaseId);
	for (int i = 0; i < queue_nroles; i++)
		empty_channel(queue_roles[i]);
	queue_feed_end();
	queue_log("scheduler_stop", "scheduler of database %u ends", MyDatabaseId);
	queue_share_sated(base);
	if (state == QUEUE_DATABASE_RESTING)
	{
		queue_database_rest(base, rest_until);
		proc_exit(0);
	}
	leave(state);
}

/* Roles whose channels a former scheduler left. */
static void
find_channels(void)
{
	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *ch = queue_channel_nth(i);

		if (ch != NULL && ch->db == MyDatabaseId && OidIsValid(ch->role))
			(void) queue_role_of(ch->role, true);
	}
}

/* Sleeps until the deadline or a wake; what others did before they saw that we sleep is seen after this. */
static int
sleep_until(TimestampTz deadline)
{
	int			woke;

	pg_atomic_write_u64(&base->sleep_until, (uint64) deadline);
	pg_memory_barrier();
	woke = queue_worker_sleep(NULL, deadline, queue_wait_event("QueueSchedulerMain"));
	pg_atomic_write_u64(&base->sleep_until, 0);
	pg_memory_barrier();
	return woke;
}

/*
 * Why the library does not work with the extension in this database, or "" if it does.  False: the extension is not
 * there.  In no transaction.
 */
static bool
look_at_extension(char *problem, Size size, const char **hint)
{
	char	   *version;
	char	   *wrong = NULL;

	StartTransactionCommand();
	version = queue_extension_version();
	if (version != NULL)
		wrong = queue_catalog_problem(version, hint);
	strlcpy(problem, wrong != NULL ? wrong : "", size);
	CommitTransactionCommand();
	return version != NULL;
}

/*
 * Waits until the library works with the extension: ALTER EXTENSION ends this process, what changes otherwise is seen
 * when I wake.  Called before anything of the extension is used.
 */
static void
wait_for_extension(void)
{
	char		problem[256];
	char		told[256] = "";
	const char *hint;

	while (!must_stop())
	{
		if (!look_at_extension(problem, sizeof(problem), &hint))
			stop(QUEUE_DATABASE_NO_EXTENSION);
		if (problem[0] == '\0')
			return;
		if (strcmp(problem, told) != 0)
			ereport(WARNING,
					(errmsg("queue: no job of database %u is run: %s", MyDatabaseId, problem), errhint("%s", hint)));
		strlcpy(told, problem, sizeof(told));
		if (pg_atomic_read_u32(&queue_my_slot->retire) != 0)
		{
			rest_until = queue_now() + QUEUE_REST_MAX_US;
			stop(QUEUE_DATABASE_RESTING);
		}
		(void) sleep_until(queue_now() + RECHECK_US);
	}
	stop(QUEUE_DATABASE_UNKNOWN);
}

/*
 * Another database needs my worker slot (share.c).  True: it can have it, and I am needed again at *next.  Asked for it
 * soon, nothing more is pulled and the executors end one by one.
 */
static bool
may_rest(TimestampTz *next)
{
	bool		busy = queue_executors_any() || queue_feed_any();

	if (pg_atomic_read_u32(&queue_my_slot->retire) == QUEUE_RETIRE_SOON)
	{
		if (busy)
		{
			queue_executors_retire();
			queue_feed_retire();
			return false;
		}
		*next = queue_now();	/* others first, then I again */
		return true;
	}
	if (MyLatch->is_set || queue_is_woken())
		return false;			/* another look first */
	pg_atomic_write_u32(&queue_my_slot->retire, 0);
	*next = Min(work_due, queue_chores_urgent());
	*next = Min(*next, queue_now() + QUEUE_REST_MAX_US);
	return !busy && nsuspects == 0 && *next > queue_now() + USECS_PER_SEC;
}

/* What finds work, in this order, whenever the scheduler is awake. */
static QueueChore work[] = {
	{"jobs that depend on others", queue_dependents_run, NULL, QUEUE_CHORE_EACH_WAKE | QUEUE_CHORE_BARE},
	{"the promotion of groups", queue_promote_run, NULL, QUEUE_CHORE_EACH_WAKE | QUEUE_CHORE_BARE},
	{"the search for due jobs", do_round, NULL, QUEUE_CHORE_EACH_WAKE},
	{"the number of executors", queue_executors_scale, NULL, QUEUE_CHORE_EACH_WAKE | QUEUE_CHORE_BARE},
	{"the http worker", queue_feed_scale, NULL, QUEUE_CHORE_EACH_WAKE | QUEUE_CHORE_BARE},
};

/* Entry point, started by the launcher. */
void
queue_scheduler_main(Datum arg)
{
	uint32		nobody = PG_UINT32_MAX;
	char		problem[256];
	const char *hint;
	int64		ids[MAX_SUSPECTS];
	Oid			db;

	queue_worker_begin(DatumGetInt32(arg), STOP_GRACE_US / 1000 + 300);
	db = queue_my_slot->db;
	base = queue_database_of(db, true);
	if (base == NULL || pg_atomic_read_u32(&base->closed) > 0 || ShutdownRequestPending)
	{
		if (base != NULL)
			pg_atomic_write_u32(&base->state, QUEUE_DATABASE_UNKNOWN);
		proc_exit(0);
	}
	if (!pg_atomic_compare_exchange_u32(&base->scheduler_procno, &nobody, queue_procno_of(MyProc)))
		proc_exit(0);			/* there is one */
	pg_atomic_write_u64(&base->sleep_until, 0);
	on_shmem_exit(scheduler_exit, (Datum) 0);
	BackgroundWorkerInitializeConnectionByOid(db, InvalidOid, 0);
	queue_pin_settings();
	/*
	 * nothing that it commits was promised to anybody, and what a crash undoes it does again; so it waits for no
	 * standby
	 */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);

	if (!look_at_extension(problem, sizeof(problem), &hint))
		leave(QUEUE_DATABASE_NO_EXTENSION);
	pg_atomic_write_u32(&base->state, QUEUE_DATABASE_RUNNING);
	queue_worker_up();
	queue_slot_take_back(QUEUE_SLOT_EXECUTOR, db);	/* a former scheduler's children that are not there yet */
	queue_slot_take_back(QUEUE_SLOT_HTTP, db);
	queue_launcher_poke();
	queue_log("scheduler_start", "scheduler of database %u started", db);
	wait_for_extension();

	find_channels();
	nsuspects = queue_suspect_collect(ids, MAX_SUSPECTS);
	for (int i = 0; i < nsuspects; i++)
		suspects[i].id = ids[i];

	while (!must_stop())
	{
		TimestampTz next;

		if (queue_executors_reap(queue_now()))
			queue_placement_recheck();
		next = DT_NOEND;
		if (pg_atomic_read_u32(&queue_my_slot->retire) != QUEUE_RETIRE_SOON)
			next = work_due = queue_chores_run(work, lengthof(work), queue_now());
		if (next != DT_NOBEGIN && !gone)
			next = queue_earlier(next, queue_chores_housekeeping(queue_now()));
		/* or it is not one any more that the library works with: I begin anew, and wait */
		if (next == DT_NOBEGIN || gone)
			stop(look_at_extension(problem, sizeof(problem), &hint) ? QUEUE_DATABASE_UNKNOWN :
				 QUEUE_DATABASE_NO_EXTENSION);
		if (pg_atomic_read_u32(&queue_my_slot->retire) != 0 && may_rest(&next))
		{
			rest_until = next;
			stop(QUEUE_DATABASE_RESTING);
		}
		(void) pgstat_report_stat(false);
		if ((sleep_until(next) & QUEUE_WOKE_RELOADED) != 0)
			queue_placement_recheck();
	}
	stop(QUEUE_DATABASE_UNKNOWN);
}
