/*
 * fetch.c
 *		Jobs out, for external workers: fetch, fetch_any and await.
 *
 * A fetch reads the wanted lines in order (ready.c) and claims each row with one heap
 * update that writes only leased_until, attempt and extra: no index holds these, so it is
 * HOT, and with wait = false it is SKIP LOCKED in one heap operation.  Which lines are
 * wanted decides everything (queue, kinds, served or not, paused): no job ever stands
 * before another that this fetcher may take.
 *
 * With claim => 'session' nothing is written (session.c), but for the failure of a job whose lease had ended.
 *
 * A claim whose lease ended counts as a failure when the job is taken again.
 *
 * Waiting: the session takes a place (await.c), arms it, looks, and sleeps until a commit
 * wakes it, a job falls due, the client goes away or its time is up.  While it sleeps it holds no
 * lock of ours.  A function cannot let go of its statement's snapshot, so fetch waits at most
 * queue.max_wait; CALL queue.await outside a transaction block lets go of it.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/finish.h"
#include "api/sleep.h"
#include "api/workflow_end.h"
#include "config/owner.h"
#include "job/claim.h"
#include "job/depend.h"
#include "job/finish.h"
#include "job/group.h"
#include "job/ready.h"
#include "job/record.h"
#include "lib/attempt.h"
#include "shared/census.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/fetcher.h"
#include "shared/lease.h"
#include "shared/refused.h"
#include "shared/unit.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"

#define LOAN_US INT64CONST(100000)
#define SCHEDULER_LATE_US USECS_PER_SEC
#define LOST_LOOKS 20
#define MAX_FULL 16				/* limits whose lines are left out of the rest of a look */

typedef struct FetchRequest
{
	int			qty;
	int64		lease;			/* us; -1: the queue's */
	const char *worker;
	char	  **kinds;			/* NULL: those that no server handler serves */
	int			nkinds;
	char	  **queues;
	int			nqueues;
	int64		wait;			/* us */
	bool		session;		/* claim by advisory lock */
} FetchRequest;

static bool
contains(char **strings, int n, const char *string)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(strings[i], string) == 0)
			return true;
	}
	return false;
}

/* What a fetch reads; lives as long as the current memory context. */
typedef struct Wanted
{
	QueueReadyLines lines;		/* first field */
	int			allocated;
	const FetchRequest *request;
	QueueLimitRefusal full[MAX_FULL];	/* limits that were found full in this look */
	int			nfull;
	TimestampTz full_until;		/* when to look again though nobody gives back */
} Wanted;

/* Nothing more under this limit is wanted.  One of a key is its line's, which is skipped anyway. */
static void
remember_full(Wanted *wanted, const QueueLimitRefusal *refusal)
{
	wanted->full_until = Min(wanted->full_until, refusal->when);
	if (wanted->nfull < MAX_FULL && refusal->of != QUEUE_LIMIT_KEY)
		wanted->full[wanted->nfull++] = *refusal;
}

/* Is one of the line's limits full, as far as can be told without its jobs? */
static bool
is_full(Wanted *wanted, const QueueLine *line)
{
	QueueLimitRefusal refusal;

	for (int i = 0; i < wanted->nfull && line->limits != NULL; i++)
	{
		if (line->limits->of[wanted->full[i].of].id == wanted->full[i].id)
			return true;
	}
	if (!queue_limit_blocked(line, &refusal))
		return false;
	remember_full(wanted, &refusal);
	return true;
}

/* Was this line not wanted because its queue's limit is full? */
static bool
is_shut(const QueueLine *line, void *arg)
{
	const Wanted *wanted = arg;

	for (int i = 0; i < wanted->nfull && line->limits != NULL; i++)
	{
		if (wanted->full[i].of == QUEUE_LIMIT_QUEUE && wanted->full[i].id == line->limits->of[QUEUE_LIMIT_QUEUE].id)
			return true;
	}
	return false;
}

/* Does this fetch, without kinds, take from this line? */
static bool
wants(QueueLine *line, void *arg)
{
	Wanted	   *wanted = arg;
	const FetchRequest *request = wanted->request;

	return !line->gone && !line->served && !line->queue->paused &&
		contains(request->queues, request->nqueues, line->queue->name) && !is_full(wanted, line);
}

static void
add_lines(Wanted *wanted, QueueLine **lines, int n)
{
	if (wanted->lines.nlines + n > wanted->allocated)
	{
		wanted->allocated = Max(wanted->lines.nlines + n, 2 * wanted->allocated);
		wanted->lines.lines = wanted->lines.lines == NULL ? palloc(wanted->allocated * sizeof(QueueLine *)) :
			repalloc_huge(wanted->lines.lines, wanted->allocated * sizeof(QueueLine *));
	}
	for (int i = 0; i < n; i++)
		wanted->lines.lines[wanted->lines.nlines++] = lines[i];
}

/* The lines whose kind is asked for, or those of the queue that no handler serves. */
static void
add_lines_of(Wanted *wanted, QueueConf *conf)
{
	const FetchRequest *request = wanted->request;
	QueueLine **lines;
	int			n;

	for (int i = 0; i < request->nkinds; i++)
	{
		lines = queue_lines_of_kind(conf, request->kinds[i], &n);
		for (int j = 0; j < n; j++)
		{
			if (!is_full(wanted, lines[j]))
				add_lines(wanted, &lines[j], 1);
		}
	}
	if (request->kinds != NULL)
		return;
	lines = queue_lines_of(conf, &n);
	for (int i = 0; i < n; i++)
	{
		if (!lines[i]->served && !is_full(wanted, lines[i]))
			add_lines(wanted, &lines[i], 1);
	}
}

/* Lines in which this transaction itself enqueued: agendas tell of them after its commit. */
static void
add_own_lines(Wanted *wanted)
{
	int			i = 0;
	int64		id;
	int64		last = 0;

	while (queue_note_own_line(&i, &id))
	{
		QueueLine  *line = id != last ? queue_config_line(id) : NULL;

		if (line != NULL && wants(line, wanted))
			add_lines(wanted, &line, 1);
		last = id;
	}
}

/*
 * Do agendas tell of all lines that this fetch may take from?  Those that no handler serves are in their queue's, or
 * among the new ones, if the scheduler sorted them by the configuration that we have; what this transaction itself
 * changed in it nobody else has.
 */
static bool
agendas_tell(const FetchRequest *request)
{
	QueueDatabase *base = queue_database();

	return base != NULL && request->kinds == NULL && !IsolationUsesXactSnapshot() && !queue_note_configured() &&
		pg_atomic_read_u64(&base->sorted_generation) == queue_config()->generation &&
		pg_atomic_read_u32(&base->cursors_lost) == QUEUE_CURSORS_ALL;
}

/* Fetches of the same kinds compete for the same jobs, so they give concurrency keys turns together. */
static uint64
readers(const FetchRequest *request)
{
	uint64		kinds = 0;

	for (int i = 0; i < request->nkinds; i++)
		kinds += queue_name_hash(request->kinds[i]);
	return kinds << 4 | QUEUE_AGENDA_QUEUE;
}

/* The lines that this fetch may take from. */
static void
find_lines(const FetchRequest *request, Wanted *wanted)
{
	static QueueAgenda fresh = {.type = QUEUE_AGENDA_NEW};
	bool		agendas = agendas_tell(request);

	*wanted = (Wanted) {.request = request, .full_until = DT_NOEND};
	wanted->lines.readers = readers(request);
	wanted->lines.wants = wants;
	wanted->lines.shut = is_shut;
	wanted->lines.arg = wanted;
	if (agendas)
	{
		/* a line may go from the new ones to its queue's, so these are read first */
		fresh.db = MyDatabaseId;
		wanted->lines.agendas = palloc((request->nqueues + 1) * sizeof(QueueAgenda *));
		wanted->lines.agendas[wanted->lines.nagendas++] = &fresh;
		add_own_lines(wanted);
	}
	for (int i = 0; i < request->nqueues; i++)
	{
		QueueConf  *conf = queue_config_queue(request->queues[i], true);

		if (conf == NULL || conf->paused || contains(request->queues, i, request->queues[i]))
			continue;
		if (agendas)
		{
			wanted->lines.agendas[wanted->lines.nagendas++] = &conf->agenda;
			wanted->lines.new_first |= conf->agenda.special;
		}
		else
			add_lines_of(wanted, conf);
	}
}

static void
put(Tuplestorestate *store, const QueueClaim *claim, TimestampTz now, const char *worker)
{
	const QueueLine *line = claim->line;

	tuplestore_puttuple(store, queue_job_tuple(&claim->job, &claim->extra, line->queue, line->kind, line->priority,
											   line->handler, QUEUE_STATE_RUNNING, now, worker));
}

/* Judges the job and writes its claim. */
static QueueClaimed
write_row(QueueClaim *claim, const FetchRequest *request, TimestampTz now)
{
	int64		lease = request->lease >= 0 ? request->lease : claim->line->queue->lease;
	QueueClaimed claimed = queue_claim_judge(claim);

	if (claimed != QUEUE_CLAIM_OURS)
		return claimed;
	if (request->session)
		return queue_claim_free_lost(claim);
	queue_unit_claim_begin();
	claimed = queue_claim_lease(claim, queue_time_add(now, lease), request->worker, now);
	queue_unit_claim_end(true);
	return claimed;
}

/* The same; if the row raises an error, sessions pass the job by for a while. */
static QueueClaimed
write_new(QueueClaim *claim, const FetchRequest *request, TimestampTz now)
{
	volatile QueueClaimed claimed = QUEUE_CLAIM_NONE;

	PG_TRY();
	{
		claimed = write_row(claim, request, now);
	}
	PG_CATCH();
	{
		queue_unit_claim_end(false);
		if (queue_refused_is(geterrcode()))
			queue_refused_add(claim->job.id, queue_now());
		PG_RE_THROW();
	}
	PG_END_TRY();
	return claimed;
}

/* Says once a minute in this session's log that a job is still refused. */
static void
tell_refused(int64 id, const ErrorData *error, TimestampTz now)
{
	static TimestampTz quiet_until = 0;

	if (queue_put_off(quiet_until, USECS_PER_MINUTE, now))
		return;
	quiet_until = now + USECS_PER_MINUTE;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("queue: job " INT64_FORMAT " could not be claimed: %s", id, error->message),
			 errhint("It is passed by, and tried again now and then.")));
}

/* For a job whose row has raised an error before: now it is not the caller's, who gets the jobs behind it. */
static QueueClaimed
write_known(QueueClaim *claim, const FetchRequest *request, TimestampTz now, bool *refused)
{
	QueueJobTable *table = claim->table;
	QueueAttempt attempt;
	volatile QueueClaimed claimed = QUEUE_CLAIM_NONE;

	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		claim->table = queue_job_open(RowExclusiveLock);	/* an error would leave the caller's at anything */
		claimed = write_row(claim, request, now);
		queue_job_close(claim->table);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		queue_unit_claim_end(false);
		error = queue_attempt_failed(&attempt);
		if (!queue_refused_is(error->sqlerrcode))
			ReThrowError(error);
		queue_refused_add(claim->job.id, queue_now());
		tell_refused(claim->job.id, error, now);
		FreeErrorData(error);
		claimed = QUEUE_CLAIM_NONE;
		*refused = true;
	}
	PG_END_TRY();
	claim->table = table;
	return claimed;
}

/*
 * Is the job one that is passed by?  Our reading counts it as passed, so the scheduler is to look at it again in time,
 * and so are we.  *known: its row has refused a claim.
 */
static bool
passes_by(const QueueJob *job, TimestampTz now, TimestampTz *next_due, bool *known)
{
	TimestampTz until;

	*known = queue_refused_known(job->id, now, &until);
	if (likely(until == 0))
		return false;
	queue_lease_note(MyDatabaseId, job->id, job->line, queue_job_pos(job), until);
	*next_due = Min(*next_due, until);
	return true;
}

/* Claims the row that `ready` returned last.  *refused: such a claim failed before, then: it did again. */
static QueueClaimed
claim(QueueReady *ready, QueueClaim *claim, const FetchRequest *request, TimestampTz now, Tuplestorestate *store,
	  bool *refused)
{
	bool		known = *refused;
	QueueClaimed claimed;

	*refused = false;
	queue_ready_read_deep(ready, &claim->job);
	claimed = queue_claim_look(claim);
	if (claimed == QUEUE_CLAIM_OURS)
		claimed = known ? write_known(claim, request, now, refused) : write_new(claim, request, now);
	/* this writes nothing; that there are too many of its like is not the row's fault */
	if (claimed == QUEUE_CLAIM_OURS && request->session)
		claimed = queue_claim_session(claim);
	if (claimed == QUEUE_CLAIM_OURS)
		put(store, claim, now, request->worker);
	return claimed;
}

/* ---- waiting ---- */

/* Takes a place among those who wait; false: there is none, so look again every so often. */
static bool
begin_waiting(const FetchRequest *request)
{
	QueueFetchWait awaited = {0};

	awaited.any_queue = request->nqueues > QUEUE_FETCH_WAITER_NAMES;
	for (int i = 0; i < request->nqueues && !awaited.any_queue; i++)
		awaited.queue_key[awaited.nqueues++] = queue_name_hash(request->queues[i]);
	Assert(request->kinds != NULL || request->nkinds == 0);
	awaited.unserved = request->kinds == NULL;
	awaited.any_kind = request->nkinds > QUEUE_FETCH_WAITER_NAMES;
	for (int i = 0; i < request->nkinds && !awaited.any_kind; i++)
		awaited.kind_key[awaited.nkinds++] = queue_name_hash(request->kinds[i]);
	return queue_fetch_waiter_begin(&awaited);
}

/* Sleeps until there is reason to look again. */
static void
sleep_until(TimestampTz deadline, bool placed)
{
	TimestampTz until;

	do
	{
		until = queue_earlier(deadline, queue_fetch_waiter_due());
		queue_sleep(until, placed, queue_wait_event("QueueFetch"));
	} while (placed && !queue_fetch_waiter_woken() && queue_now() < queue_earlier(deadline, queue_fetch_waiter_due()));
}

/* ---- fetching ---- */

/*
 * Lease ends are the scheduler's to find.  Where none runs (no worker slot, queue.enabled off), or it is late, a fetch
 * does it.  Returns when the next one is ours to find.
 */
static TimestampTz
find_lease_ends(void)
{
	QueueDatabase *base = queue_database();
	TimestampTz now = queue_now();
	bool		alone;

	if (base == NULL)
		return DT_NOEND;
	alone = pg_atomic_read_u32(&base->scheduler_procno) == PG_UINT32_MAX;
	if ((TimestampTz) pg_atomic_read_u64(&base->next_expiry) <= now - (alone ? 0 : SCHEDULER_LATE_US))
		queue_lease_tell_expired(MyDatabaseId, now);
	return alone ? (TimestampTz) pg_atomic_read_u64(&base->next_expiry) : DT_NOEND;
}

/*
 * Claims up to qty jobs; *next_due is when a further look makes sense without a wake-up; *lost: another was faster
 * with a job that we saw.
 */
static int
look(QueueJobTable *table, const FetchRequest *request, bool waiting, Tuplestorestate *store, TimestampTz *next_due,
	 bool *lost)
{
	QueueReady *ready;
	Wanted		wanted;
	QueueJob	job;
	QueueLine  *line;
	TimestampTz now;
	int			got = 0;
	bool		looks;
	bool		refused;
	MemoryContext per_job;
	MemoryContext old;

	TimestampTz lease_end = find_lease_ends();

	*lost = false;
	if (queue_group_unattended())
	{
		(void) queue_depend_unattended(table, queue_workflow_check);
		queue_group_promote(table);
	}
	queue_depend_own(table);
	queue_group_promote_own(table);
	looks = queue_census_look(request->nqueues == 1 ? queue_name_hash(request->queues[0]) : 0);
	for (;;)
	{
		find_lines(request, &wanted);
		now = queue_now();
		ready = queue_ready_begin(table, &wanted.lines, now);
		/* whoever counts for a new limit relies on that lines made after it are read by who knows it */
		if (likely(!queue_config_stale()))
			break;
		queue_ready_end(ready);
		CHECK_FOR_INTERRUPTS();
	}
	per_job = AllocSetContextCreate(CurrentMemoryContext, "queue fetch", ALLOCSET_SMALL_SIZES);
	while (got < request->qty && queue_ready_next(ready, &job, &line))
	{
		QueueClaim	c;

		CHECK_FOR_INTERRUPTS();
		if (passes_by(&job, now, &lease_end, &refused))
			continue;
		old = MemoryContextSwitchTo(per_job);
		c = (QueueClaim) {.table = table, .snapshot = queue_ready_snapshot(ready), .job = job, .line = line};
		switch (claim(ready, &c, request, now, store, &refused))
		{
			case QUEUE_CLAIM_OURS:
				got++;
				queue_ready_use(ready, true);
				queue_fetcher_claimed(line->id);
				queue_census_claimed(line->kind_key);
				break;
			case QUEUE_CLAIM_FULL:
				if (c.refusal.answer != QUEUE_UNIT_HELD)
				{
					remember_full(&wanted, &c.refusal);
					queue_ready_skip(ready);
					break;
				}
				/* fall through */
			default:
				if (refused)
					(void) passes_by(&job, now, &lease_end, &refused);
				else
					*lost = true;
				break;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_job);
	}
	if (waiting && got == request->qty && queue_ready_next(ready, &job, &line))
		queue_ready_put_back(ready);	/* who waits on learns what is next */
	*next_due = queue_earlier(queue_ready_next_due(ready), lease_end);
	*next_due = queue_earlier(*next_due, wanted.full_until);
	queue_ready_end(ready);
	MemoryContextDelete(per_job);
	if (got > 0)
		CommandCounterIncrement();
	else if (looks)
		queue_census_leave();
	queue_census_looked();
	return got;
}

/* The queues must exist, and the caller must be allowed to work there. */
static void
check_queues(const FetchRequest *request)
{
	for (int i = 0; i < request->nqueues; i++)
	{
		queue_require(request->queues[i], QUEUE_PRIV_WORK);
		(void) queue_config_queue(request->queues[i], false);
	}
}

/* Reads arguments 1 to 8, the same ones of fetch and fetch_any, into the request. */
static void
read_arguments(FunctionCallInfo fcinfo, FetchRequest *request)
{
	if (!PG_ARGISNULL(1))
	{
		if (PG_GETARG_INT64(1) < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("qty must be at least 1, not " INT64_FORMAT, PG_GETARG_INT64(1)),
					 errhint("It is how many jobs to claim at most.")));
		request->qty = (int) Min(PG_GETARG_INT64(1), PG_INT32_MAX);
	}
	if (!PG_ARGISNULL(2))
		request->lease = queue_check_span("lease", PG_GETARG_INTERVAL_P(2), 1);
	request->wait = queue_arg_wait(fcinfo, 3);
	if (!PG_ARGISNULL(4))
	{
		request->worker = text_to_cstring(PG_GETARG_TEXT_PP(4));
		if (strlen(request->worker) > QUEUE_NAME_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("worker is longer than %d bytes", QUEUE_NAME_MAX),
					 errhint("It is a name for people, such as a host name and a process id.")));
	}
	if (!PG_ARGISNULL(5))
		request->kinds = queue_texts(PG_GETARG_DATUM(5), "kinds", &request->nkinds);
	if (!PG_ARGISNULL(6))
	{
		char	   *mode = text_to_cstring(PG_GETARG_TEXT_PP(6));

		request->session = strcmp(mode, "session") == 0;
		if (!request->session && strcmp(mode, "lease") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown claim \"%s\"", mode),
					 errhint("Use lease or session.")));
	}
	if (PG_ARGISNULL(7) && !PG_ARGISNULL(8))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("complete_attempts needs complete_ids"),
				 errhint("Pass the ids of the jobs that these are the attempts of.")));
}

/* What fetch and fetch_any share. */
static Datum
fetch(FunctionCallInfo fcinfo, char **queues, int nqueues)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FetchRequest request = {.qty = 1, .lease = -1, .queues = queues, .nqueues = nqueues};
	QueueJobTable *table;
	TimestampTz deadline;
	bool		waiting = false;
	bool		placed = false;
	int			again = 0;
	int			got;

	read_arguments(fcinfo, &request);
	check_queues(&request);

	table = queue_job_open(RowExclusiveLock);
	if (!PG_ARGISNULL(7))
	{
		/* acknowledge and fetch in one call: it returns at once, so that the completion commits */
		queue_complete_ids(table, PG_GETARG_ARRAYTYPE_P(7), PG_ARGISNULL(8) ? NULL : PG_GETARG_ARRAYTYPE_P(8));
		request.wait = 0;
	}
	if (request.wait > 0)
		queue_sleep_check_isolation("queue.fetch");
	deadline = queue_now() + Min(request.wait, (int64) queue_max_wait * 1000);
	if (nqueues > 0)
		queue_fetcher_waits(request.worker, queues[0]);
	for (;;)
	{
		TimestampTz next_due;
		bool		lost;

		got = look(table, &request, waiting, rsinfo->setResult, &next_due, &lost);
		queue_fetch_waiter_learn(next_due);
		if (got > 0 || queue_now() >= deadline)
			break;
		if (!waiting)
		{
			/* the place first, then the look that may be the last */
			waiting = true;
			placed = begin_waiting(&request);
			queue_fetch_waiter_arm();
			continue;
		}
		/*
		 * Who took the job that we saw may have been woken for another one, which this look's snapshot was too old
		 * to see: its wake is used up, so that one is ours to find.  A row that only looks free for long (somebody
		 * holds its lock) is behind the cursor after the first look; without cursors, do not spin.
		 */
		queue_job_release(table);
		if (!lost)
			again = 0;
		if (!lost || again++ >= LOST_LOOKS)
			sleep_until(deadline, placed && !lost);
		queue_fetch_waiter_arm();
		table = queue_job_open(RowExclusiveLock);
		check_queues(&request);
	}
	queue_job_close(table);
	queue_fetch_waiter_end();
	queue_fetcher_got(got);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_fetch);
/* queue.fetch(queue, qty, lease, wait, worker, kinds, claim, complete_ids, complete_attempts) -> setof queue.job */
Datum
queue_sql_fetch(PG_FUNCTION_ARGS)
{
	char	   *queue;

	queue_finish_writable("queue.fetch()");
	InitMaterializedSRF(fcinfo, 0);
	queue = queue_arg_text(fcinfo, 0, "queue");
	return fetch(fcinfo, &queue, 1);
}

static char **
queues_argument(FunctionCallInfo fcinfo, int *n)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("queues must not be null"),
				 errhint("Name the queues to fetch from, such as '{default}'.")));
	return queue_texts(PG_GETARG_DATUM(0), "queues", n);
}

PG_FUNCTION_INFO_V1(queue_sql_fetch_any);
/* queue.fetch_any(queues, ...) -> setof queue.job */
Datum
queue_sql_fetch_any(PG_FUNCTION_ARGS)
{
	char	  **queues;
	int			n;

	queue_finish_writable("queue.fetch_any()");
	InitMaterializedSRF(fcinfo, 0);
	queues = queues_argument(fcinfo, &n);
	return fetch(fcinfo, queues, n);
}

/* ---- await ---- */

/* Is there something to fetch?  Claims nothing.  Without a snapshot on return. */
static bool
anything_ready(const FetchRequest *request, TimestampTz *next_due)
{
	QueueJobTable *table = queue_job_open(AccessShareLock);
	Wanted		wanted;
	QueueReady *ready;
	QueueJob	job;
	QueueLine  *line;
	bool		found;
	bool		known;
	TimestampTz lease_end;

	check_queues(request);
	lease_end = find_lease_ends();
	find_lines(request, &wanted);
	ready = queue_ready_begin(table, &wanted.lines, queue_now());
	do
	{
		found = queue_ready_next(ready, &job, &line);
	} while (found && passes_by(&job, queue_now(), &lease_end, &known));
	if (found)
	{
		/* our wake is a loan: if the job is unclaimed after a moment, the scheduler wakes the next waiter */
		queue_ready_lend(ready);
		queue_lease_note(MyDatabaseId, job.id, job.line, queue_job_pos(&job), queue_now() + LOAN_US);
	}
	*next_due = queue_earlier(queue_ready_next_due(ready), lease_end);
	*next_due = queue_earlier(*next_due, wanted.full_until);
	queue_ready_end(ready);
	queue_job_release(table);
	return found;
}

PG_FUNCTION_INFO_V1(queue_sql_await);
/* CALL queue.await(queues, wait, kinds, INOUT ready) */
Datum
queue_sql_await(PG_FUNCTION_ARGS)
{
	FetchRequest request = {0};
	TimestampTz deadline;
	TimestampTz now = queue_now();
	MemoryContext look_context;
	MemoryContext old;
	TupleDesc	desc;
	Datum		value;
	bool		null = false;
	bool		ready;
	bool		placed;

	queue_sleep_check_procedure(fcinfo, "queue.await",
								"CALL it by itself with autocommit on, or use the wait of queue.fetch.");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "queue.await must return a row");
	request.queues = queues_argument(fcinfo, &request.nqueues);
	request.wait = PG_ARGISNULL(1) ? USECS_PER_MINUTE : queue_arg_wait(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		request.kinds = queue_texts(PG_GETARG_DATUM(2), "kinds", &request.nkinds);
	deadline = queue_time_add(now, request.wait);

	look_context = AllocSetContextCreate(CurrentMemoryContext, "queue await", ALLOCSET_SMALL_SIZES);
	placed = begin_waiting(&request);
	for (;;)
	{
		TimestampTz next_due;

		queue_fetch_waiter_arm();
		old = MemoryContextSwitchTo(look_context);
		EnsurePortalSnapshotExists();
		ready = anything_ready(&request, &next_due);
		MemoryContextSwitchTo(old);
		MemoryContextReset(look_context);

		/* when it is ready: whoever waits on looks again once it should be taken, and sees what is next */
		queue_fetch_waiter_learn(ready ? queue_now() + 2 * LOAN_US : next_due);
		if (ready || queue_now() >= deadline)
			break;
		queue_sleep_no_snapshot();
		sleep_until(deadline, placed);
	}
	queue_fetch_waiter_end();
	MemoryContextDelete(look_context);
	value = BoolGetDatum(ready);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &null));
}
