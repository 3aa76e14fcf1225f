/*
 * meter.c
 *		The tables of units and meters.
 *
 * Units are the claims in force under limits (unit.c says whose they are and when they go).  A meter counts them by
 * what is limited: a queue, a handler, a concurrency key; and keeps the time of its rate.  One lock covers both
 * tables: a claim under several limits takes all or nothing, nothing is taken tentatively, and who is refused cannot
 * miss the give-back that comes next: it leaves word in the meter under the same lock.
 *
 * A lease that has ended is let go by who needs its place and finds the meter full; none is looked for before the
 * first of them ends.
 *
 * A line whose key is full would be passed over by every reader.  So who finds it full has the line's agenda hold it
 * back, under the lock, until the first lease ends; and whoever gives a place back lets it go, under the lock too.
 * Only who knows the latest configuration may: when that has changed, the scheduler lets all go.
 *
 * A rate is one theoretical arrival time per meter (GCRA): claims may be ahead of it by a period.  A new meter is a
 * period ahead, so it begins with no token.
 *
 * Meters of keys go when they are at rest and another needs their place; if that is not enough, those of queues and
 * handlers, too, which may be gone: of one that is not, the claims in force are counted anew.  A key that finds none
 * shares the meter of the spare key, for which a part of the table is kept free: its limit is never exceeded, but it
 * may wait for other such keys.  Ids of queues and keys are hashes with a secret seed, so that nobody can make his key
 * another's; two with one id would share a meter in the same way.
 *
 * Lock: QueueUnit (LWLock); under it those of cursor.c and agenda.c.  Wake-ups happen after it.
 */
#include "shared/meter.h"

#include "shared/clock.h"
#include "shared/slot.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define UNITS 16384				/* beside one for each HTTP request */
#define MAX_METERS 32768
#define MIN_METERS 1024
#define RESERVE_SHARE 8			/* keys leave this part of the meters to queues, handlers and the spare keys */
#define CROWDED_US INT64CONST(100000)	/* for which no room is looked for again where there was none */
#define ANNOUNCED_US (60 * USECS_PER_SEC)	/* for which a limit that is to be counted keeps its meter */
#define SPARE_KEY 1

typedef struct MeterShared
{
	LWLock		lock;
	int			tranche;
	uint64		seed;
	uint64		serial;			/* of the last unit */
	uint64		holds;			/* how often the lock was held exclusively */
	TimestampTz crowded_until;	/* no key's meter was at rest just now */
	pg_atomic_uint32 nunits;
} MeterShared;

static MeterShared *shared = NULL;
static HTAB *meters = NULL;
static HTAB *units = NULL;

/* A line has a queue, a handler and a key at most; where few are allowed there is no use for as many as elsewhere. */
static int
meter_count(void)
{
	return queue_max_lines > MAX_METERS / 3 ? MAX_METERS : Max(MIN_METERS, 3 * queue_max_lines);
}

/* How much shared memory they need.  Called by the request hook. */
Size
queue_unit_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(MeterShared));

	size = add_size(size, hash_estimate_size(UNITS + queue_http_max_in_flight, sizeof(QueueUnit)));
	return add_size(size, hash_estimate_size(meter_count(), sizeof(QueueMeter)));
}

/* Makes or finds them.  Called by the startup hook. */
void
queue_unit_shmem_init(void)
{
	bool		found;
	HASHCTL		ctl = {.keysize = sizeof(QueueUnitKey), .entrysize = sizeof(QueueUnit)};

	shared = ShmemInitStruct("queue meters", sizeof(MeterShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(MeterShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u32(&shared->nunits, 0);
		if (!pg_strong_random(&shared->seed, sizeof(shared->seed)))
			shared->seed = (uint64) MyProcPid;
	}
	LWLockRegisterTranche(shared->tranche, "QueueUnit");
	units = ShmemInitHash("queue units by job", UNITS + queue_http_max_in_flight, UNITS + queue_http_max_in_flight,
						  &ctl, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	ctl.keysize = sizeof(QueueMeterKey);
	ctl.entrysize = sizeof(QueueMeter);
	meters = ShmemInitHash("queue meters by limit", meter_count(), meter_count(), &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

uint64
queue_unit_id(const char *a, const char *b)
{
	uint64		seed = shared != NULL ? shared->seed : 0;
	uint64		id = hash_bytes_extended((const unsigned char *) a, strlen(a), seed);

	if (b != NULL)
		id = hash_bytes_extended((const unsigned char *) b, strlen(b), id ^ seed);
	return Max(id, SPARE_KEY + 1);
}

bool
queue_meter_any(void)
{
	return shared != NULL && pg_atomic_read_u32(&shared->nunits) > 0;
}

void
queue_meter_lock(bool exclusive)
{
	LWLockAcquire(&shared->lock, exclusive ? LW_EXCLUSIVE : LW_SHARED);
	if (exclusive)
		shared->holds++;
}

/* Commit-safe.  Sessions stay in a meter's list, because one is woken and others may wait. */
void
queue_meter_unlock(const QueueMeterWake *wake)
{
	LWLockRelease(&shared->lock);
	if (wake == NULL)
		return;
	if (wake->scheduler)
	{
		QueueDatabase *base = queue_database_of(wake->db, false);

		if (base != NULL)
			queue_database_wake(base, 0);
	}
	if (wake->all)
		queue_fetch_waiter_wake_all(wake->db);
	for (int i = 0; i < wake->n && !wake->all; i++)
		(void) queue_fetch_waiter_wake(wake->db, &wake->keys[i], 1);
}

/* ---- meters ---- */

/* Does nobody use this meter, wait for it, count for it or hold it in his hands? */
static bool
at_rest(const QueueMeter *meter, TimestampTz now)
{
	return meter->taken == 0 && !meter->refused && meter->nwaiters == 0 && meter->nlines == 0 &&
		(!meter->rated || meter->arrival <= (double) now) && meter->touched != shared->holds && meter->counting == 0 &&
		(meter->announced_for == meter->since ||
		 !queue_put_off(meter->announced_at + ANNOUNCED_US, ANNOUNCED_US, now));
}

/* Makes room: meters at rest go, with `all` not only those of keys.  Returns how many of keys stay. */
static int
evict(bool all, TimestampTz now)
{
	HASH_SEQ_STATUS seq;
	QueueMeter *meter;
	int			nkeys = 0;

	hash_seq_init(&seq, meters);
	while ((meter = hash_seq_search(&seq)) != NULL)
	{
		if ((all || meter->key.of == QUEUE_LIMIT_KEY) && at_rest(meter, now))
			(void) hash_search(meters, &meter->key, HASH_REMOVE, NULL);
		else
			nkeys += meter->key.of == QUEUE_LIMIT_KEY;
	}
	return nkeys;
}

/* Is there room for one more meter, of a key of its own or of something else?  It is made if need be. */
static bool
has_room(bool own_key)
{
	long		most = meter_count() - (own_key ? meter_count() / RESERVE_SHARE : 0);
	TimestampTz now = queue_now();

	if (hash_get_num_entries(meters) < most)
		return true;
	if (queue_put_off(shared->crowded_until, CROWDED_US, now))
		return false;
	/* keys have a spare one, and where most of all are theirs it is not for them that limits are counted anew */
	if (evict(false, now) <= most / 2 || !own_key)
	{
		if (hash_get_num_entries(meters) >= most)
			(void) evict(true, now);
	}
	if (hash_get_num_entries(meters) < most)
		return true;
	shared->crowded_until = now + CROWDED_US;
	return false;
}

static QueueMeter *
search(uint64 id, QueueLimitOf of, bool make)
{
	QueueMeterKey key;
	QueueMeter *meter;

	memset(&key, 0, sizeof(key));	/* what lies between the members is hashed too */
	key.db = MyDatabaseId;
	key.of = of;
	key.id = id;
	meter = hash_search(meters, &key, HASH_FIND, NULL);
	if (!make)
		return meter;
	if (meter == NULL)
	{
		if (!has_room(of == QUEUE_LIMIT_KEY && id != SPARE_KEY))
			return NULL;
		meter = hash_search(meters, &key, HASH_ENTER_NULL, NULL);
		if (meter == NULL)
			return NULL;
		memset((char *) meter + sizeof(key), 0, sizeof(*meter) - sizeof(key));
		meter->first_end = DT_NOEND;
	}
	meter->touched = shared->holds;
	return meter;
}

QueueMeter *
queue_meter_find(const QueueLimit *limit, QueueLimitOf of)
{
	Assert(LWLockHeldByMe(&shared->lock));
	return search(limit->id, of, false);
}

QueueMeter *
queue_meter_make(const QueueLimit *limit, QueueLimitOf of)
{
	QueueMeter *meter;

	Assert(LWLockHeldByMeInMode(&shared->lock, LW_EXCLUSIVE));
	meter = search(limit->id, of, true);
	return meter != NULL || of != QUEUE_LIMIT_KEY ? meter : search(SPARE_KEY, of, true);
}

/* The time of the meter's rate as it is now; of one that has none yet as of a start. */
static double
arrival_of(QueueMeter *meter, const QueueLimit *limit, TimestampTz now)
{
	double		latest = (double) now + (double) limit->rate_period;

	/* also when the period was made shorter, or the clock went back */
	if (!meter->rated || meter->arrival > latest)
	{
		meter->rated = true;
		meter->arrival = latest;
	}
	return Max(meter->arrival, (double) now);
}

/* A time as a number: rates of one in a thousand years may say one that is none. */
static TimestampTz
time_of(double time)
{
	return (TimestampTz) Min(time, (double) DT_NOEND / 2) + 1;
}

int
queue_meter_tokens(QueueMeter *meter, const QueueLimit *limit, int wanted, TimestampTz now, TimestampTz *when)
{
	double		arrival = arrival_of(meter, limit, now);
	double		step;
	double		n;

	*when = DT_NOEND;
	if (limit->rate_limit == 0)
		return 0;
	step = (double) limit->rate_period / limit->rate_limit;
	n = Min(((double) now + (double) limit->rate_period - arrival) / step + 1e-6, (double) limit->rate_limit);
	if (n < wanted)
		*when = time_of(arrival + wanted * step - (double) limit->rate_period);
	return n > 0 ? (int) n : 0;
}

bool
queue_meter_dry(const QueueMeter *meter, const QueueLimit *limit, TimestampTz now, TimestampTz *when)
{
	double		step;

	/* one that must be set right first is for queue_meter_tokens */
	if (limit->rate_limit <= 0 || !meter->rated || meter->arrival > (double) now + (double) limit->rate_period)
		return false;
	step = (double) limit->rate_period / limit->rate_limit;
	*when = time_of(meter->arrival + step - (double) limit->rate_period);
	return *when > now + 1;
}

void
queue_meter_use_token(QueueMeter *meter, const QueueLimit *limit, TimestampTz now)
{
	meter->step = (double) limit->rate_period / limit->rate_limit;
	meter->arrival = arrival_of(meter, limit, now) + meter->step;
}

void
queue_meter_return_token(QueueMeter *meter)
{
	meter->arrival -= meter->step;
}

/* Where a line stands among those that the meter holds back; nlines: it is none of them. */
static int
line_of(const QueueMeter *meter, int64 line)
{
	int			i = 0;

	while (i < meter->nlines && meter->line[i] != line)
		i++;
	return i;
}

bool
queue_meter_holds(const QueueMeter *meter, int64 line)
{
	return line_of(meter, line) < meter->nlines;
}

void
queue_meter_hold(QueueMeter *meter, int64 line, TimestampTz until)
{
	int			i = line_of(meter, line);

	Assert(LWLockHeldByMeInMode(&shared->lock, LW_EXCLUSIVE));
	if (i == QUEUE_METER_LINES)
		return;
	meter->line[i] = line;
	meter->nlines = Max(meter->nlines, i + 1);
	queue_cursor_hold(meter->key.db, line, until);
}

bool
queue_meter_let_go(QueueMeter *meter)
{
	bool		cares = false;

	Assert(LWLockHeldByMeInMode(&shared->lock, LW_EXCLUSIVE));
	for (int i = 0; i < meter->nlines; i++)
		cares |= queue_cursor_let_go(meter->key.db, meter->line[i]);
	meter->nlines = 0;
	return cares;
}

void
queue_meter_open_all(QueueMeterWake *wake)
{
	HASH_SEQ_STATUS seq;
	QueueMeter *meter;

	hash_seq_init(&seq, meters);
	while ((meter = hash_seq_search(&seq)) != NULL)
	{
		if (meter->key.db == MyDatabaseId && meter->nlines > 0)
			queue_meter_opens(meter, wake);
	}
}

void
queue_meter_opens(QueueMeter *meter, QueueMeterWake *wake)
{
	wake->db = meter->key.db;
	/* whoever found it full and held a line back, the scheduler too may have a use for that */
	wake->scheduler |= queue_meter_let_go(meter) | meter->refused;
	meter->refused = false;
	if (meter->nwaiters > QUEUE_METER_WAITERS)
	{
		wake->all = true;
		meter->nwaiters = 0;
	}
	for (int i = 0; i < meter->nwaiters; i++)
	{
		if (wake->n < QUEUE_METER_WAITERS)
			wake->keys[wake->n++] = meter->waiter[i];
		else
			wake->all = true;
	}
}

/* Which kind of waiters such a session is of; nwaiters: none, and there is no room for all. */
static int
waiter_of(const QueueMeter *meter, const QueueLimits *limits)
{
	int			i = 0;

	if (meter->nwaiters > QUEUE_METER_WAITERS)
		return QUEUE_METER_WAITERS;	/* all are woken */
	while (i < meter->nwaiters && (meter->waiter[i].kind_key != limits->keys.kind_key ||
								   meter->waiter[i].queue_key != limits->keys.queue_key))
		i++;
	return i;
}

bool
queue_meter_refused(const QueueMeter *meter, const QueueLimits *limits)
{
	return queue_my_slot == NULL && waiter_of(meter, limits) < meter->nwaiters;
}

void
queue_meter_refuse(QueueMeter *meter, const QueueLimits *limits)
{
	int			i;

	if (queue_my_slot != NULL || limits == NULL)
	{
		meter->refused = true;
		return;
	}
	i = waiter_of(meter, limits);
	if (i < meter->nwaiters)
	{
		if (i < QUEUE_METER_WAITERS)
			meter->waiter[i] = limits->keys;
		return;
	}
	if (meter->nwaiters < QUEUE_METER_WAITERS)
		meter->waiter[meter->nwaiters++] = limits->keys;
	else
		meter->nwaiters = QUEUE_METER_WAITERS + 1;
}

/* ---- units ---- */

static QueueUnitKey
unit_key(QueueUnitKind kind, int64 owner, int64 job)
{
	QueueUnitKey key;

	memset(&key, 0, sizeof(key));
	key.db = MyDatabaseId;
	key.kind = kind;
	key.owner = kind == QUEUE_UNIT_LEASE ? 0 : owner;
	key.job = job;
	return key;
}

QueueUnit *
queue_unit_find(QueueUnitKind kind, int64 owner, int64 job)
{
	QueueUnitKey key = unit_key(kind, owner, job);

	Assert(LWLockHeldByMe(&shared->lock));
	return hash_search(units, &key, HASH_FIND, NULL);
}

/* A new one, which counts nowhere yet. */
QueueUnit *
queue_unit_make(QueueUnitKind kind, int64 owner, int64 job, TimestampTz until)
{
	QueueUnitKey key = unit_key(kind, owner, job);
	bool		found;
	QueueUnit  *unit = hash_search(units, &key, HASH_ENTER_NULL, &found);

	Assert(LWLockHeldByMeInMode(&shared->lock, LW_EXCLUSIVE));
	if (unit == NULL)
		return NULL;
	Assert(!found);
	pg_atomic_fetch_add_u32(&shared->nunits, 1);
	unit->serial = ++shared->serial;
	unit->until = until;
	memset(unit->meter, 0, sizeof(unit->meter));
	return unit;
}

uint64
queue_unit_renew(QueueUnit *unit)
{
	return unit->serial = ++shared->serial;
}

/* It counts in this meter from now on. */
void
queue_unit_count(QueueUnit *unit, int i, QueueMeter *meter)
{
	unit->meter[i] = meter;
	meter->taken++;
	meter->first_end = Min(meter->first_end, unit->until);
}

/* Its lease ends then. */
void
queue_unit_until(QueueUnit *unit, TimestampTz until)
{
	unit->until = until;
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (unit->meter[i] != NULL)
			unit->meter[i]->first_end = Min(unit->meter[i]->first_end, until);
	}
}

void
queue_unit_delete(QueueUnit *unit, QueueMeterWake *wake)
{
	Assert(LWLockHeldByMeInMode(&shared->lock, LW_EXCLUSIVE));
	for (int i = 0; i < QUEUE_NLIMITS; i++)
	{
		if (unit->meter[i] == NULL)
			continue;
		unit->meter[i]->taken--;
		queue_meter_opens(unit->meter[i], wake);
	}
	(void) hash_search(units, &unit->key, HASH_REMOVE, NULL);
	pg_atomic_fetch_sub_u32(&shared->nunits, 1);
}

void
queue_unit_delete_runs(QueueMeterWake *wake)
{
	HASH_SEQ_STATUS seq;
	QueueUnit  *unit;

	hash_seq_init(&seq, units);
	while ((unit = hash_seq_search(&seq)) != NULL)
	{
		if (unit->key.db == MyDatabaseId && unit->key.kind == QUEUE_UNIT_RUN && unit->key.owner == MyProcPid)
			queue_unit_delete(unit, wake);
	}
}

/* One pass for all meters of the database: of many full ones none costs a pass of its own. */
void
queue_meter_expire(QueueMeter *meter, TimestampTz now, QueueMeterWake *wake)
{
	HASH_SEQ_STATUS seq;
	QueueMeter *m;
	QueueUnit  *unit;

	if (meter->first_end > now)
		return;
	hash_seq_init(&seq, meters);
	while ((m = hash_seq_search(&seq)) != NULL)
	{
		if (m->key.db == meter->key.db)
			m->first_end = DT_NOEND;
	}
	hash_seq_init(&seq, units);
	while ((unit = hash_seq_search(&seq)) != NULL)
	{
		if (unit->key.db != meter->key.db)
			continue;
		if (unit->until <= now)
			queue_unit_delete(unit, wake);
		else
			queue_unit_until(unit, unit->until);
	}
}

bool
queue_meter_full(QueueMeter *meter, const QueueLimit *limit, TimestampTz now, QueueMeterWake *wake)
{
	int			most = queue_limit_most(limit);

	if (most < 0 || meter->taken < most)
		return false;
	queue_meter_expire(meter, now, wake);
	return meter->taken >= most;
}

void
queue_unit_reset(Oid db)
{
	HASH_SEQ_STATUS seq;
	QueueUnit  *unit;
	QueueMeter *meter;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&seq, units);
	while ((unit = hash_seq_search(&seq)) != NULL)
	{
		if (unit->key.db != db)
			continue;
		(void) hash_search(units, &unit->key, HASH_REMOVE, NULL);
		pg_atomic_fetch_sub_u32(&shared->nunits, 1);
	}
	hash_seq_init(&seq, meters);
	while ((meter = hash_seq_search(&seq)) != NULL)
	{
		if (meter->key.db == db)
			(void) hash_search(meters, &meter->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(&shared->lock);
}
