/*
 * unit.c
 *		Units: the claims in force under limits, and what a transaction takes and gives back.
 *
 * A unit is known by whose it is and by its job, so giving it back is idempotent: whoever ends a claim removes its
 * unit if it is there.
 *	- A lease's unit goes when the transaction that ended the lease has committed, or at the lease's end.  A finish
 *	  after that finds no unit, or not its own: serial numbers tell.
 *	- A run's unit goes at its transaction's end, because only then others see what it did; or with the subtransaction
 *	  that took it, if that is rolled back: then it did nothing.
 *	- A session claim's unit goes with the claim (session.c).
 * The rows of live_job, the slots and the session locks are the truth.  A meter that did not count for a limit grants
 * nothing; job/limit.c counts, by adding units.  One too many is let go when the claim ends, or by who added it and
 * looks again.
 *
 * What a transaction takes for leases, and the leases that it ends, stand in a stack by nest level, as notes do
 * (note.c). A unit of a claim that this transaction has ended serves its next claim under the same limit, before the
 * commit.
 *
 * Locks: QueueUnit (meter.c), and what is taken under it.
 */
#include "shared/unit.h"

#include "shared/census.h"
#include "shared/clock.h"
#include "shared/meter.h"
#include "shared/slot.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define KEEP_OPS 4096
#define NO_METER_US USECS_PER_SEC	/* after which who found no meter looks again */
#define COUNTING_US (10 * USECS_PER_SEC)	/* then who counts has failed */

/* What this transaction's end does. */
typedef enum OpWhat
{
	OP_TAKE,					/* abort: delete the unit */
	OP_MOVE,					/* the same, and give places back to the unit that they were taken from */
	OP_RENEW,					/* abort: it is the former lease's again */
	OP_END,						/* commit: the lease is over, or ends earlier */
	OP_EXTEND					/* abort: the lease ends as before */
} OpWhat;

typedef struct Op
{
	OpWhat		what;
	QueueUnitKind kind;			/* LEASE; of TAKE also SESSION */
	int			level;
	int64		job;
	uint64		serial;
	TimestampTz until;			/* END: 0 or the earlier end; EXTEND, RENEW: as before */
	int			from;			/* MOVE, RENEW: the number of the END whose unit it was */
	int			moved;			/* MOVE: bits of the limits */
	bool		unused;			/* TAKE, MOVE, RENEW: before the commit its tokens have served for nothing */
} Op;

static Op  *ops = NULL;
static int	nops = 0;
static int	maxops = 0;
static int	nends = 0;			/* those that end a lease */

/* Units of this transaction's runs: a stack by nest level too. */
typedef struct Run
{
	int			level;
	int64		job;
	uint64		id[QUEUE_NLIMITS];
} Run;

static Run *runs = NULL;
static int	nruns = 0;
static int	maxruns = 0;

static bool claiming = false;	/* between queue_unit_claim_begin and _end */
static bool of_session = false; /* this transaction took or finished a session's claim */

/* ---- the stack ---- */

/* Memory for one more of each; before the lock is taken. */
static void
reserve(void)
{
	if (nops == maxops)
	{
		int			size = Max(64, maxops * 2);

		ops = ops == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Op)) :
			repalloc_huge(ops, size * sizeof(Op));
		maxops = size;
	}
	if (nruns == maxruns)
	{
		int			size = Max(16, maxruns * 2);

		runs = runs == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Run)) :
			repalloc(runs, size * sizeof(Run));
		maxruns = size;
	}
}

static Op *
push(OpWhat what, int64 job, uint64 serial)
{
	Assert(nops < maxops);
	nends += what == OP_END;
	ops[nops] = (Op) {.what = what, .level = GetCurrentTransactionNestLevel(), .job = job, .serial = serial};
	return &ops[nops++];
}

/* Takes the last one off. */
static Op *
pop(void)
{
	nops--;
	nends -= ops[nops].what == OP_END;
	return &ops[nops];
}

/* The unit that an op is about, if it is still that lease's. */
static QueueUnit *
unit_of(const Op *op)
{
	QueueUnit  *unit = queue_unit_find(op->kind, MyProcPid, op->job);

	return unit != NULL && unit->serial == op->serial ? unit : NULL;
}

/* Takes back what an op did. */
static void
undo(const Op *op, QueueMeterWake *wake)
{
	QueueUnit  *unit = unit_of(op);
	QueueUnit  *from;

	if (unit == NULL)
		return;
	for (int i = 0; i < QUEUE_NLIMITS && op->unused; i++)
	{
		if (unit->meter[i] != NULL)
			queue_meter_return_token(unit->meter[i]);
	}
	switch (op->what)
	{
		case OP_END:
			return;
		case OP_EXTEND:
			queue_unit_until(unit, op->until);
			return;
		case OP_RENEW:
			unit->serial = ops[op->from].serial;
			queue_unit_until(unit, op->until);
			return;
		case OP_MOVE:
			from = unit_of(&ops[op->from]);
			for (int i = 0; from != NULL && i < QUEUE_NLIMITS; i++)
			{
				if ((op->moved & (1 << i)) == 0)
					continue;
				from->meter[i] = unit->meter[i];
				unit->meter[i] = NULL;
			}
			if (from != NULL)
				queue_unit_until(from, from->until);
			break;
		case OP_TAKE:
			break;
	}
	queue_unit_delete(unit, wake);
}

/* Does what the commit owes. */
static void
pay(const Op *op, QueueMeterWake *wake)
{
	QueueUnit  *unit = op->what == OP_END ? unit_of(op) : NULL;

	if (unit == NULL)
		return;
	if (op->until == 0)
	{
		queue_unit_delete(unit, wake);
		return;
	}
	queue_unit_until(unit, Min(unit->until, op->until));
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (unit->meter[i] != NULL)
			queue_meter_opens(unit->meter[i], wake);
	}
}

/* Gives back what the last of this transaction's runs took.  The caller holds the lock. */
static void
pop_run(QueueMeterWake *wake)
{
	QueueUnit  *unit = queue_unit_find(QUEUE_UNIT_RUN, MyProcPid, runs[--nruns].job);

	if (unit != NULL)
		queue_unit_delete(unit, wake);
}

static void
end_transaction(bool commit)
{
	bool		given = queue_census_given();
	QueueMeterWake wake = {0};

	of_session = false;
	if (nops == 0 && nruns == 0 && !given)
		return;
	queue_meter_lock(true);
	for (int i = 0; i < nops && commit; i++)
		pay(&ops[i], &wake);
	for (int i = nops - 1; i >= 0 && !commit; i--)
		undo(&ops[i], &wake);
	while (nruns > 0)
		pop_run(&wake);
	if (given)
		queue_unit_delete_runs(&wake);
	queue_meter_unlock(&wake);
	nops = nends = 0;
	if (maxops > KEEP_OPS)
	{
		pfree(ops);
		ops = NULL;
		maxops = 0;
	}
}

static void
unit_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (nops > 0 || nruns > 0 || of_session)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has fetched or finished jobs under a limit"),
						 errhint("Commit it.")));
			break;
		case XACT_EVENT_COMMIT:
			end_transaction(true);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:	/* there is nothing but what who counts gave */
			end_transaction(false);
			break;
		default:
			break;
	}
}

static void
unit_subxact(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level;
	QueueMeterWake wake = {0};

	if ((nops == 0 && nruns == 0) || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	level = GetCurrentTransactionNestLevel();
	if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = nops - 1; i >= 0 && ops[i].level >= level; i--)
			ops[i].level = level - 1;
		for (int i = nruns - 1; i >= 0 && runs[i].level >= level; i--)
			runs[i].level = level - 1;
		return;
	}
	if ((nops == 0 || ops[nops - 1].level < level) && (nruns == 0 || runs[nruns - 1].level < level))
		return;
	queue_meter_lock(true);
	while (nops > 0 && ops[nops - 1].level >= level)
		undo(pop(), &wake);
	while (nruns > 0 && runs[nruns - 1].level >= level)
		pop_run(&wake);
	queue_meter_unlock(&wake);
}

void
queue_unit_register_callbacks(void)
{
	RegisterXactCallback(unit_xact, NULL);
	RegisterSubXactCallback(unit_subxact, NULL);
}

/* ---- taking ---- */

/* Does such a limit bear on such a claim?  Reserved executors are kept from jobs that executors run. */
static bool
applies(QueueLimitOf of, QueueUnitKind kind)
{
	return of < QUEUE_LIMIT_RESERVED || (kind == QUEUE_UNIT_RUN && queue_my_slot != NULL);
}

/* Has this transaction's run a unit that also serves a job under these limits? */
static bool
run_serves(const QueueLimits *limits)
{
	for (int n = 0; n < nruns; n++)
	{
		bool		same = true;

		for (int i = 0; i < QUEUE_NLIMITS && same; i++)
			same = runs[n].id[i] == limits->of[i].id;
		if (same)
			return true;
	}
	return false;
}

/* The END of a lease whose unit counts in all of these meters; -1: there is none. */
static int
ended_in(QueueMeter *const *full)
{
	for (int n = nops - 1; n >= 0; n--)
	{
		QueueUnit  *unit = ops[n].what == OP_END && ops[n].until == 0 ? unit_of(&ops[n]) : NULL;
		bool		fits = unit != NULL;

		for (int i = 0; i < QUEUE_NLIMITS && fits; i++)
			fits = full[i] == NULL || unit->meter[i] == full[i];
		if (fits)
			return n;
	}
	return -1;
}

/* The END of this very unit; -1: its lease has not ended here. */
static int
ended_here(const QueueUnit *unit)
{
	for (int n = nops - 1; n >= 0; n--)
	{
		if (ops[n].what == OP_END && ops[n].job == unit->key.job && ops[n].serial == unit->serial)
			return n;
	}
	return -1;
}

/* Uses a token of each rate, or none if one has none. */
static bool
take_tokens(const QueueLimits *limits, QueueMeter *const *meter, TimestampTz now, QueueUnitRefusal *refusal)
{
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		refusal->of = i;
		if (meter[i] != NULL && limits->of[i].rate_limit >= 0 &&
			queue_meter_tokens(meter[i], &limits->of[i], 1, now, &refusal->when) == 0)
			return false;
	}
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (meter[i] != NULL && limits->of[i].rate_limit >= 0)
			queue_meter_use_token(meter[i], &limits->of[i], now);
	}
	return true;
}

/* A new unit that counts in these meters, in the `full` ones in place of that of the END number `from`. */
static QueueUnitAnswer
make(QueueUnitKind kind, int64 job, TimestampTz until, QueueMeter *const *meter, QueueMeter *const *full, int from)
{
	QueueUnit  *unit = queue_unit_make(kind, MyProcPid, job, kind == QUEUE_UNIT_LEASE ? until : DT_NOEND);
	QueueUnit  *ended = from >= 0 ? unit_of(&ops[from]) : NULL;
	int			moved = 0;

	if (unit == NULL)
		return QUEUE_UNIT_FULL;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (ended != NULL && full[i] != NULL)
		{
			ended->meter[i] = NULL;
			unit->meter[i] = full[i];
			moved |= 1 << i;
		}
		else if (meter[i] != NULL)
			queue_unit_count(unit, i, meter[i]);
	}
	queue_unit_until(unit, unit->until);
	if (kind != QUEUE_UNIT_RUN)
	{
		Op		   *op = push(from >= 0 ? OP_MOVE : OP_TAKE, job, unit->serial);

		op->kind = kind;
		op->from = from;
		op->moved = moved;
	}
	return QUEUE_UNIT_TAKEN;
}

/* A lease's unit is the next lease's of the same job, which the END number `from` gave back. */
static void
renew(QueueUnit *lease, int from, TimestampTz until)
{
	Op		   *op = push(OP_RENEW, lease->key.job, queue_unit_renew(lease));

	op->from = from;
	op->until = lease->until;
	queue_unit_until(lease, until);
}

/* See queue_unit_take; with the lock. */
static QueueUnitAnswer
take(const QueueLimits *limits, QueueUnitKind kind, int64 job, TimestampTz until, QueueUnitRefusal *refusal,
	 QueueMeterWake *wake)
{
	TimestampTz now = queue_now();
	bool		reuse = kind == QUEUE_UNIT_RUN && run_serves(limits);
	QueueMeter *meter[QUEUE_NLIMITS] = {NULL};
	QueueMeter *full[QUEUE_NLIMITS] = {NULL};
	bool		any_full = false;
	int			renewed = -1;
	int			from = -1;
	QueueUnit  *lease;
	QueueUnit  *own;

	refusal->when = DT_NOEND;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		const QueueLimit *limit = &limits->of[i];

		if (limit->id == 0 || !applies(i, kind))
			continue;
		refusal->of = i;
		meter[i] = queue_meter_make(limit, i);
		if (limit->since != 0 && (meter[i] == NULL || meter[i]->since != limit->since))
			return QUEUE_UNIT_UNCOUNTED;
		if (meter[i] == NULL)
		{
			refusal->when = now + NO_METER_US;
			return QUEUE_UNIT_FULL;
		}
	}
	lease = queue_unit_find(QUEUE_UNIT_LEASE, 0, job);
	if (lease != NULL && lease->until <= now)
		queue_unit_delete(lease, wake);
	else if (lease != NULL)
	{
		renewed = ended_here(lease);
		if (renewed < 0)
			return QUEUE_UNIT_HELD;
	}
	if (renewed >= 0 && kind == QUEUE_UNIT_LEASE)
	{
		/* this transaction gave the job back and takes it again */
		if (!take_tokens(limits, meter, now, refusal))
			return QUEUE_UNIT_RATE;
		renew(lease, renewed, until);
		return QUEUE_UNIT_TAKEN;
	}
	for (int i = 0; i < QUEUE_NLIMITS && !reuse; i++)
	{
		if (meter[i] != NULL && queue_meter_full(meter[i], &limits->of[i], now, wake))
		{
			full[i] = meter[i];
			any_full = true;
		}
	}
	if (any_full)
	{
		from = kind == QUEUE_UNIT_LEASE ? ended_in(full) : -1;
		for (int i = 0; i < QUEUE_NLIMITS && from < 0; i++)
		{
			if (full[i] == NULL)
				continue;
			refusal->of = i;
			refusal->when = Min(refusal->when, full[i]->first_end);
			queue_meter_refuse(full[i], limits);
		}
		if (from < 0)
			return QUEUE_UNIT_FULL;
	}
	if (!take_tokens(limits, meter, now, refusal))
		return QUEUE_UNIT_RATE;
	/* the same job was run in this transaction before, under other limits: moved to another queue say */
	own = kind == QUEUE_UNIT_RUN && !reuse ? queue_unit_find(kind, MyProcPid, job) : NULL;
	if (own != NULL)
	{
		queue_unit_delete(own, wake);
		for (int n = 0; n < nruns; n++)
		{
			if (runs[n].job == job)
				memset(runs[n].id, 0, sizeof(runs[n].id));	/* serves no other job any more */
		}
	}
	return reuse ? QUEUE_UNIT_TAKEN : make(kind, job, until, meter, full, from);
}

/* The http worker sends when its claims are committed; a session may have done anything with what it fetched. */
static bool
sends_later(void)
{
	return queue_my_slot != NULL && pg_atomic_read_u32(&queue_my_slot->type) == QUEUE_SLOT_HTTP;
}

void
queue_unit_claim_begin(void)
{
	claiming = true;
}

void
queue_unit_claim_end(bool ok)
{
	claiming = false;
	for (int i = nops; ok && !sends_later() && i > 0 && ops[i - 1].unused; i--)
		ops[i - 1].unused = false;
}

QueueUnitAnswer
queue_unit_take(const QueueLimits *limits, QueueUnitKind kind, int64 job, TimestampTz until, QueueUnitRefusal *refusal)
{
	QueueMeterWake wake = {0};
	QueueUnitAnswer answer;

	reserve();
	queue_meter_lock(true);
	answer = take(limits, kind, job, until, refusal, &wake);
	queue_meter_unlock(&wake);
	if (answer != QUEUE_UNIT_TAKEN)
		return answer;
	if (kind == QUEUE_UNIT_LEASE)
		ops[nops - 1].unused = claiming || sends_later();
	if (kind == QUEUE_UNIT_RUN && !run_serves(limits))
	{
		Run		   *run = &runs[nruns++];

		run->level = GetCurrentTransactionNestLevel();
		run->job = job;
		for (int i = 0; i < QUEUE_NLIMITS; i++)
			run->id[i] = limits->of[i].id;
	}
	of_session |= kind == QUEUE_UNIT_SESSION;
	return answer;
}

void
queue_unit_undo(int64 job)
{
	QueueMeterWake wake = {0};

	if (nops == 0 || ops[nops - 1].job != job)
		return;
	queue_meter_lock(true);
	undo(pop(), &wake);
	queue_meter_unlock(&wake);
}

bool
queue_unit_extend(const QueueLimits *limits, int64 job, TimestampTz until)
{
	QueueUnit  *unit;
	QueueUnitRefusal refusal;
	QueueLimits unrated = *limits;

	reserve();
	queue_meter_lock(true);
	unit = queue_unit_find(QUEUE_UNIT_LEASE, 0, job);
	/* one that is to end earlier does so with the commit (queue_unit_row) */
	if (unit != NULL && until > unit->until)
	{
		push(OP_EXTEND, job, unit->serial)->until = unit->until;
		queue_unit_until(unit, until);
	}
	queue_meter_unlock(NULL);
	if (unit != NULL)
		return true;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
		unrated.of[i].rate_limit = -1;
	return queue_unit_take(&unrated, QUEUE_UNIT_LEASE, job, until, &refusal) == QUEUE_UNIT_TAKEN;
}

/* This transaction may have the place of this lease, and must see the lines for that. */
static void
show_held(int64 job)
{
	QueueUnit  *unit;

	queue_meter_lock(true);
	unit = queue_unit_find(QUEUE_UNIT_LEASE, 0, job);
	for (int i = 0; i < QUEUE_NLIMITS && unit != NULL; i++)
	{
		if (unit->meter[i] != NULL && queue_meter_let_go(unit->meter[i]))
			unit->meter[i]->refused = true;	/* the scheduler may have held them: it is told when the place is free */
	}
	queue_meter_unlock(NULL);
}

void
queue_unit_row(int64 job, TimestampTz until)
{
	QueueUnit  *unit;
	uint64		serial = 0;
	bool		holds = false;

	if (likely(!queue_meter_any()))
		return;
	reserve();
	queue_meter_lock(false);
	unit = queue_unit_find(QUEUE_UNIT_LEASE, 0, job);
	if (unit != NULL && (until == 0 || until < unit->until))
	{
		serial = unit->serial;
		for (int i = 0; i < QUEUE_NLIMITS && until == 0; i++)
			holds |= unit->meter[i] != NULL && unit->meter[i]->nlines > 0;
	}
	queue_meter_unlock(NULL);
	if (serial == 0)
		return;
	push(OP_END, job, serial)->until = until;
	if (holds)
		show_held(job);
}

void
queue_unit_drop_session(int64 job)
{
	if (queue_meter_any())
		queue_unit_remove(QUEUE_UNIT_SESSION, MyProcPid, job);
}

void
queue_unit_finish_session(int64 job)
{
	if (!queue_meter_any())
		return;
	queue_meter_lock(false);
	of_session |= queue_unit_find(QUEUE_UNIT_SESSION, MyProcPid, job) != NULL;
	queue_meter_unlock(NULL);
}

bool
queue_unit_ended_any(void)
{
	return nends > 0;
}

/* ---- counting ---- */

QueueCount
queue_unit_count_state(const QueueLimit *limit, QueueLimitOf of, uint64 *announced)
{
	QueueMeter *meter;
	TimestampTz now = queue_now();
	QueueCount	state;

	queue_meter_lock(true);
	meter = queue_meter_make(limit, of);
	if (meter == NULL)
		state = QUEUE_COUNT_OTHERS;
	else if (meter->since == limit->since)
		state = QUEUE_COUNT_DONE;
	else if (meter->announced_for != limit->since)
		state = QUEUE_COUNT_FIRST;
	else if (meter->counting != 0 && meter->counting <= now && meter->counting > now - COUNTING_US)
		state = QUEUE_COUNT_OTHERS;
	else
	{
		state = QUEUE_COUNT_YOURS;
		meter->counting = now;
		*announced = meter->announced;
	}
	queue_meter_unlock(NULL);
	return state;
}

void
queue_unit_announced(const QueueLimit *limit, QueueLimitOf of, uint64 announced)
{
	QueueMeter *meter;

	queue_meter_lock(true);
	meter = queue_meter_make(limit, of);
	if (meter != NULL && meter->since != limit->since && meter->announced_for != limit->since)
	{
		meter->announced_for = limit->since;
		meter->announced = announced;
		meter->announced_at = queue_now();
		meter->counting = 0;
	}
	queue_meter_unlock(NULL);
}

void
queue_unit_counted(const QueueLimit *limit, QueueLimitOf of, bool all)
{
	QueueMeter *meter;
	QueueMeterWake wake = {0};

	queue_meter_lock(true);
	meter = queue_meter_make(limit, of);
	if (meter != NULL)
	{
		meter->counting = 0;
		if (all)
		{
			meter->since = limit->since;
			queue_meter_opens(meter, &wake);
		}
	}
	queue_meter_unlock(&wake);
}

bool
queue_unit_add(const QueueLimits *limits, QueueUnitKind kind, pid_t owner, int64 job, TimestampTz until)
{
	QueueUnit  *unit = NULL;

	queue_meter_lock(true);
	if (queue_unit_find(kind, owner, job) == NULL)
		unit = queue_unit_make(kind, owner, job, until);
	for (int i = 0; unit != NULL && i < QUEUE_NLIMITS; i++)
	{
		bool		counts = limits->of[i].id != 0 && (i < QUEUE_LIMIT_RESERVED || kind == QUEUE_UNIT_RUN);
		QueueMeter *meter = counts ? queue_meter_make(&limits->of[i], i) : NULL;

		if (meter != NULL)
			queue_unit_count(unit, i, meter);
	}
	queue_meter_unlock(NULL);
	return unit != NULL;
}

void
queue_unit_remove(QueueUnitKind kind, pid_t owner, int64 job)
{
	QueueUnit  *unit;
	QueueMeterWake wake = {0};

	queue_meter_lock(true);
	unit = queue_unit_find(kind, owner, job);
	if (unit != NULL)
		queue_unit_delete(unit, &wake);
	queue_meter_unlock(&wake);
}
