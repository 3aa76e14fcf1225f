/*
 * limit.c
 *		Gates: how many jobs of something may be in force at once, counted in shared memory.
 *
 * A gate counts units: one per job in force.  Who may take one is decided by one compare-and-swap against the limit
 * that the taker gives (limits are configuration, gates only count), so two takers never share the last unit.  The
 * rules, for all gates there are and will be:
 *
 * - A unit belongs to somebody who gives it back whatever happens.  An HTTP handler's units belong to the http worker:
 *   one is taken with the claim and given back when the request ends, and all are void when the worker begins or ends
 *   (queue_gate_clear), as an executor's or a session's would be at its exit.  A unit of a lease would be its row in
 *   queue.running: whoever's delete of that row commits gives it back, and nothing is given back twice.
 * - Units of several gates are taken in the order of QueueGateType; who is refused at one gives back what it has taken.
 * - Who is refused sets `refused` and looks once more, so that a give-back in between is not missed; every give-back
 *   clears it and says that somebody is to be woken.
 * - A gate whose units outlive their taker must be counted (from queue.running) before it grants anything after a
 *   start; an HTTP gate's do not, and it is right at 0.
 *
 * `admitted` bounds what is read ahead of the gate: the scheduler reads no more jobs for it than it lets through and a
 * few to go on with, so a full gate holds nobody else's jobs up.
 *
 * Places are found by database, type and id, at most QUEUE_MAX_GATES_OF_DATABASE of one database; they are taken by who
 * has read the committed configuration, and given back when a later reading no longer has their owner.  What finds no
 * place uses its database's spare gate: it is counted with the others there, so it is never above its limit, but may be
 * kept waiting by them.  doctor() says so.
 *
 * Locks: QueueLimit (LWLock) to take, free and find places.  Counts are atomics.
 */
#include "shared/limit.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"

#define LOW_WATER 32			/* jobs ahead of a gate, below which who was refused is woken */

typedef struct LimitShared
{
	LWLock		lock;
	int			tranche;
	int			ngates;			/* places ever taken */
	QueueGate	gates[QUEUE_MAX_GATES];
	QueueGate	spares[QUEUE_MAX_DATABASES];
} LimitShared;

static LimitShared *shared = NULL;

/* How much shared memory it needs.  Called by the request hook. */
Size
queue_limit_shmem_size(void)
{
	return MAXALIGN(sizeof(LimitShared));
}

/* Makes or finds it.  Called by the startup hook. */
void
queue_limit_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue limits", queue_limit_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(LimitShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		for (int i = 0; i < QUEUE_MAX_GATES + QUEUE_MAX_DATABASES; i++)
		{
			QueueGate  *gate = queue_gate_nth(i);

			pg_atomic_init_u32(&gate->taken, 0);
			pg_atomic_init_u32(&gate->admitted, 0);
			pg_atomic_init_u32(&gate->refused, 0);
			pg_atomic_init_u32(&gate->wanted, 0);
		}
	}
	LWLockRegisterTranche(shared->tranche, "QueueLimit");
}

/* ---- places ---- */

int
queue_gate_number(const QueueGate *gate)
{
	return gate->shared ? QUEUE_MAX_GATES + (int) (gate - shared->spares) : (int) (gate - shared->gates);
}

QueueGate *
queue_gate_nth(int number)
{
	return number < QUEUE_MAX_GATES ? &shared->gates[number] : &shared->spares[number - QUEUE_MAX_GATES];
}

/* Puts an owner into a free place.  Caller holds the lock exclusively. */
static void
occupy(QueueGate *gate, Oid db, QueueGateType type, int64 id, bool is_spare)
{
	Assert(LWLockHeldByMeInMode(&shared->lock, LW_EXCLUSIVE));
	pg_atomic_write_u32(&gate->taken, 0);
	pg_atomic_write_u32(&gate->admitted, 0);
	pg_atomic_write_u32(&gate->refused, 0);
	pg_atomic_write_u32(&gate->wanted, 0);
	gate->type = type;
	gate->id = id;
	gate->shared = is_spare;
	gate->db = db;
}

/* The database's spare gate, made if asked.  Caller holds the lock, exclusively to make it. */
static QueueGate *
spare_of(Oid db, bool create)
{
	QueueGate  *free_place = NULL;

	Assert(LWLockHeldByMe(&shared->lock));
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		if (shared->spares[i].db == db)
			return &shared->spares[i];
		if (free_place == NULL && !OidIsValid(shared->spares[i].db))
			free_place = &shared->spares[i];
	}
	if (!create || free_place == NULL)
		return NULL;
	occupy(free_place, db, QUEUE_GATE_HTTP, 0, true);
	return free_place;
}

QueueGate *
queue_gate_of(Oid db, QueueGateType type, int64 id, bool create)
{
	QueueGate  *free_place = NULL;
	QueueGate  *found = NULL;
	int			used = 0;

	if (shared == NULL)
		return NULL;
	LWLockAcquire(&shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < shared->ngates && found == NULL; i++)
	{
		QueueGate  *gate = &shared->gates[i];

		if (gate->db == db)
		{
			used++;
			if (gate->id == id && gate->type == type)
				found = gate;
		}
		else if (free_place == NULL && !OidIsValid(gate->db))
			free_place = gate;
	}
	if (found == NULL && free_place == NULL && shared->ngates < QUEUE_MAX_GATES)
		free_place = &shared->gates[shared->ngates];
	if (found == NULL && create && free_place != NULL && used < QUEUE_MAX_GATES_OF_DATABASE)
	{
		occupy(free_place, db, type, id, false);
		shared->ngates = Max(shared->ngates, (int) (free_place - shared->gates) + 1);
		found = free_place;
	}
	if (found == NULL)
		found = spare_of(db, create);
	LWLockRelease(&shared->lock);
	return found;
}

void
queue_gate_keep(Oid db, QueueGateType type, const int64 *ids, int n)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->ngates; i++)
	{
		QueueGate  *gate = &shared->gates[i];
		bool		keep = false;

		if (gate->db != db || gate->type != type ||
			pg_atomic_read_u32(&gate->taken) > 0 || pg_atomic_read_u32(&gate->admitted) > 0)
			continue;
		for (int j = 0; j < n && !keep; j++)
			keep = gate->id == ids[j];
		if (!keep)
			gate->db = InvalidOid;
	}
	LWLockRelease(&shared->lock);
}

/* All of a database is forgotten.  Called when the extension or the database is dropped. */
void
queue_gate_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_GATES + QUEUE_MAX_DATABASES; i++)
	{
		if (queue_gate_nth(i)->db == db)
			queue_gate_nth(i)->db = InvalidOid;
	}
	LWLockRelease(&shared->lock);
}

/* ---- units ---- */

bool
queue_gate_take(QueueGate *gate, int limit)
{
	uint32		taken = pg_atomic_read_u32(&gate->taken);
	bool		again = false;

	for (;;)
	{
		if (taken < (uint32) limit)
		{
			if (pg_atomic_compare_exchange_u32(&gate->taken, &taken, taken + 1))
				return true;
		}
		else if (again)
			return false;
		else
		{
			again = true;
			pg_atomic_exchange_u32(&gate->refused, 1);	/* a barrier, too */
			taken = pg_atomic_read_u32(&gate->taken);
		}
	}
}

/* One less, but not below 0: the gate may have been cleared meanwhile. */
static void
lower(pg_atomic_uint32 *count)
{
	uint32		old = pg_atomic_read_u32(count);

	while (old > 0 && !pg_atomic_compare_exchange_u32(count, &old, old - 1))
		;
}

bool
queue_gate_give(QueueGate *gate)
{
	lower(&gate->taken);
	return pg_atomic_read_u32(&gate->refused) != 0 && pg_atomic_exchange_u32(&gate->refused, 0) != 0;
}

/* ---- what is read ahead ---- */

/* Are so few jobs ahead of it that more should be read? */
static bool
is_low(QueueGate *gate)
{
	return pg_atomic_read_u32(&gate->admitted) < pg_atomic_read_u32(&gate->taken) + LOW_WATER;
}

int
queue_gate_room(QueueGate *gate, int most)
{
	int			room = most - (int) pg_atomic_read_u32(&gate->admitted);

	if (room > 0)
		return room;
	pg_atomic_exchange_u32(&gate->wanted, 1);
	return most - (int) pg_atomic_read_u32(&gate->admitted);
}

void
queue_gate_admit(QueueGate *gate)
{
	pg_atomic_fetch_add_u32(&gate->admitted, 1);
}

bool
queue_gate_dismiss(QueueGate *gate)
{
	lower(&gate->admitted);
	return pg_atomic_read_u32(&gate->wanted) != 0 && is_low(gate) &&
		pg_atomic_exchange_u32(&gate->wanted, 0) != 0;
}

void
queue_gate_want_more(QueueGate *gate)
{
	pg_atomic_write_u32(&gate->wanted, 1);
}

int
queue_gate_admitted(Oid db, QueueGateType type)
{
	int			sum = 0;

	for (int i = 0; shared != NULL && i < QUEUE_MAX_GATES + QUEUE_MAX_DATABASES; i++)
	{
		QueueGate  *gate = queue_gate_nth(i);

		if (gate->db == db && gate->type == type)
			sum += (int) pg_atomic_read_u32(&gate->admitted);
	}
	return sum;
}

void
queue_gate_clear(Oid db, QueueGateType type)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_GATES + QUEUE_MAX_DATABASES; i++)
	{
		QueueGate  *gate = queue_gate_nth(i);

		if (gate->db != db || gate->type != type)
			continue;
		pg_atomic_write_u32(&gate->taken, 0);
		pg_atomic_write_u32(&gate->admitted, 0);
	}
	LWLockRelease(&shared->lock);
}
