/*
 * session.c
 *		Claims that are advisory locks.
 *
 * As in Que: the claim writes no row, and it ends the moment the session does.  The locks live in
 * a lock space of our own (locktag_field4), with the full 64-bit job id, so they never meet the
 * application's advisory locks.
 *
 * Excluding every other claimer, none of which takes these locks: a session claimer counts its claim in
 * shared memory, takes the lock, and then rechecks the row with a dirty snapshot (a change in
 * progress is a claim).  Every other claimer writes its claim and then reads the count; if it
 * is not zero it tests the job's lock, and undoes its claim if that is held.  Whichever
 * comes first, one of the two sees the other.
 *
 * What a session lets go of (release, abort, exit) is told to the line's cursor.  DISCARD ALL and
 * pg_advisory_unlock_all drop our locks without a word: our list is compared when that transaction commits (a long one
 * at the next claim), and the scheduler tests the positions (noted in lease.c's table) every second.
 *
 * Locks: the advisory locks themselves, never waited for.
 */
#include "shared/session.h"

#include "shared/clock.h"
#include "shared/unit.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#define CHECKED_CLAIMS 256		/* so many are looked after at each commit */
#define LOCK_SPACE 0x5155		/* locktag_field4; PostgreSQL's own advisory locks use 1 and 2 */

typedef struct Claim
{
	int64		id;
	Oid			table;			/* live_job, while its extension is there */
	int			token;			/* negative; what complete() and the like must name */
	QueueDatabase *base;			/* where it is counted, NULL: nowhere .. */
	uint32		incarnation;	/* .. and in which use of that entry */
	int64		line;
	QueueLineKeys keys;
	QueuePos	pos;
	int			level;			/* nest level of the transaction that took it; 0: that one has committed */
	int			finish_level;	/* > 0: unlock when that level's transaction commits */
} Claim;

static Claim *claims = NULL;
static int	nclaims = 0;
static int	maxclaims = 0;

static LOCKTAG
lock_of(int64 id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (id >> 32), (uint32) id, LOCK_SPACE);
	return tag;
}

static Claim *
find(int64 id)
{
	for (int i = nclaims - 1; i >= 0; i--)
	{
		if (claims[i].id == id)
			return &claims[i];
	}
	return NULL;
}

/* The claim is counted no longer. */
static void
uncount(Claim *claim)
{
	if (claim->base != NULL)
		queue_database_remove_session_claim(claim->base, claim->incarnation);
}

/* Unlocks (if the lock is still ours), forgets the claim, and if `tell` says that the job is claimable. */
static void
let_go(Claim *claim, bool tell)
{
	Claim		gone = *claim;
	LOCKTAG		tag = lock_of(gone.id);

	*claim = claims[--nclaims];
	if (queue_lock_held_by_me(&tag, ExclusiveLock))
	{
		/* nothing is left to test; before the unlock, after which the note may be a lease's */
		if (!tell && gone.finish_level > 0)
			queue_lease_forget(MyDatabaseId, gone.id, 0, 0, 1);
		(void) LockRelease(&tag, ExclusiveLock, true);
	}
	uncount(&gone);
	queue_unit_drop_session(gone.id);
	if (tell)
		queue_note_claimable(MyDatabaseId, gone.line, &gone.keys, gone.pos, 1);
}

static void
session_xact(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	for (int i = nclaims - 1; i >= 0; i--)
	{
		if (event == XACT_EVENT_ABORT)
		{
			claims[i].finish_level = 0;
			if (claims[i].level > 0)
				let_go(&claims[i], true);
		}
		else if (claims[i].finish_level > 0)
			let_go(&claims[i], false);	/* the row's own note tells where it is now, after this */
		else
		{
			LOCKTAG		tag = lock_of(claims[i].id);

			claims[i].level = 0;
			if (nclaims <= CHECKED_CLAIMS && !queue_lock_held_by_me(&tag, ExclusiveLock))
				let_go(&claims[i], true);
		}
	}
}

static void
session_subxact(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level;

	if (nclaims == 0 || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	level = GetCurrentTransactionNestLevel();
	for (int i = nclaims - 1; i >= 0; i--)
	{
		if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			claims[i].level = Min(claims[i].level, level - 1);
			claims[i].finish_level = Min(claims[i].finish_level, level - 1);
			continue;
		}
		if (claims[i].finish_level >= level)
			claims[i].finish_level = 0;
		if (claims[i].level >= level)
			let_go(&claims[i], true);
	}
}

/* At exit the locks are gone already (ShutdownPostgres runs before this). */
static void
session_exit(int code, Datum arg)
{
	while (nclaims > 0)
	{
		Claim		gone = claims[--nclaims];

		uncount(&gone);
		queue_unit_drop_session(gone.id);
		queue_note_claimable(MyDatabaseId, gone.line, &gone.keys, gone.pos, 1);
	}
}

/* Claims whose lock somebody's DISCARD ALL dropped, or whose extension is gone, are no claims any more. */
static void
forget_dropped(Oid table)
{
	for (int i = nclaims - 1; i >= 0; i--)
	{
		LOCKTAG		tag = lock_of(claims[i].id);

		if (claims[i].table != table)
			let_go(&claims[i], false);
		else if (!queue_lock_held_by_me(&tag, ExclusiveLock))
			let_go(&claims[i], true);
	}
}

int
queue_session_claim(Oid table, int64 id, int64 line, const QueueLineKeys *keys, QueuePos pos)
{
	LOCKTAG		tag = lock_of(id);
	QueueDatabase *base = queue_database();
	int64		lock_entries = (int64) max_locks_per_xact * (MaxBackends + max_prepared_xacts);
	Claim	   *claim;

	if (claims == NULL)
	{
		RegisterXactCallback(session_xact, NULL);
		RegisterSubXactCallback(session_subxact, NULL);
		claims = MemoryContextAlloc(TopMemoryContext, 64 * sizeof(Claim));
		maxclaims = 64;
		on_shmem_exit(session_exit, (Datum) 0);
	}
	if (nclaims == maxclaims || (nclaims > 0 && claims[0].table != table))
		forget_dropped(table);
	if (nclaims == maxclaims)
	{
		claims = repalloc(claims, 2 * maxclaims * sizeof(Claim));
		maxclaims *= 2;
	}
	if ((base != NULL ? (int64) queue_database_session_claims(base) : nclaims) >= lock_entries / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many session claims"),
				 errhint("Each is a lock: raise max_locks_per_transaction, or use claim => 'lease'.")));
	claim = find(id);
	if (claim != NULL)
	{
		if (queue_lock_held_by_me(&tag, ExclusiveLock))
			return 0;			/* this session has it already */
		let_go(claim, false);
	}
	claim = &claims[nclaims++];
	*claim = (Claim) {
		.id = id, .table = table, .base = base, .line = line, .keys = *keys, .pos = pos,
		.token = -1 - (int) (pg_prng_uint32(&pg_global_prng_state) % PG_INT32_MAX),
		.level = GetCurrentTransactionNestLevel()
	};
	if (base != NULL)
		claim->incarnation = queue_database_add_session_claim(base);
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		let_go(claim, false);
		if (LockAcquire(&tag, RowShareLock, true, true) != LOCKACQUIRE_NOT_AVAIL)
		{
			/*
			 * only somebody's test of the lock was in the way (explain_job, a lease that looks): have it looked at
			 * again
			 */
			(void) LockRelease(&tag, RowShareLock, true);
			queue_lease_note(MyDatabaseId, id, line, pos, queue_now());
		}
		return 0;
	}
	queue_lease_note(MyDatabaseId, id, line, pos, queue_now() + QUEUE_SESSION_PROBE_US);
	return claim->token;
}

void
queue_session_drop(int64 id)
{
	Claim	   *claim = find(id);

	if (claim != NULL)
		let_go(claim, false);
}

int
queue_session_token(Oid table, int64 id)
{
	LOCKTAG		tag = lock_of(id);
	Claim	   *claim = nclaims > 0 ? find(id) : NULL;

	return claim != NULL && claim->table == table && queue_lock_held_by_me(&tag, ExclusiveLock) ? claim->token : 0;
}

void
queue_session_finish(int64 id)
{
	Claim	   *claim = find(id);

	if (claim == NULL)
		return;
	claim->finish_level = GetCurrentTransactionNestLevel();
	queue_unit_finish_session(id);
}

bool
queue_session_any(void)
{
	QueueDatabase *base;

	if (!queue_preloaded())
		return true;
	base = queue_database_of(MyDatabaseId, false);
	pg_memory_barrier();
	return base == NULL || queue_database_session_claims(base) > 0;
}

bool
queue_session_taken(int64 id)
{
	LOCKTAG		tag;

	if (likely(!queue_session_any()) || RecoveryInProgress())
		return false;
	tag = lock_of(id);
	if (queue_lock_held_by_me(&tag, ExclusiveLock))
		return true;			/* by my own session: still a claim */
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, ShareLock, false);
	return false;
}

int
queue_session_list(int64 **ids, pid_t **pids)
{
	LockData   *locks = GetLockStatusData();
	int			n = 0;

	*ids = palloc(Max(locks->nelements, 1) * sizeof(int64));
	if (pids != NULL)
		*pids = palloc(Max(locks->nelements, 1) * sizeof(pid_t));
	for (int i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];
		LOCKTAG    *tag = &lock->locktag;

		if (tag->locktag_type == LOCKTAG_ADVISORY && tag->locktag_field4 == LOCK_SPACE &&
			tag->locktag_field1 == MyDatabaseId && (lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
		{
			if (pids != NULL)
				(*pids)[n] = lock->pid;
			(*ids)[n++] = (int64) (((uint64) tag->locktag_field2 << 32) | tag->locktag_field3);
		}
	}
	return n;
}
