/*
 * database.c
 *		The shared entry of each database, and the launcher's latch.
 *
 * Owns one array of QUEUE_MAX_DATABASES entries.  An entry is made at the first use of
 * a database by anybody (a client that enqueues, the launcher that looks) and is given
 * up only when the database is dropped, so a pointer to one's own database's entry
 * stays good as long as one is connected.  When all are taken, callers get NULL and act
 * as if the library was not preloaded: the client API works, nobody is woken.
 *
 * Locks: shared->lock (LWLock) to make and forget entries.  Looking one up takes no
 * lock: db is a 4-byte store that comes last when an entry is made, and
 * entries never move.  All else in an entry is an atomic.
 */
#include "shared/database.h"

#include "lib/text.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/json.h"

typedef struct QueueDatabaseShared
{
	LWLock		lock;
	int			tranche;
	pg_atomic_uint32 used;		/* entries ever made: where a search may stop */
	pg_atomic_uint32 incarnations;	/* of entries, counted */
	pg_atomic_uint32 launcher_procno;
	pg_atomic_uint64 launcher_requests;
	pg_atomic_uint64 prepares_since;	/* when the first PREPARE TRANSACTION of this shared memory ran; 0: none did */
	pg_atomic_uint32 prepared_ddl;	/* an extension was created or dropped in a transaction that was prepared */
	QueueDatabase	bases[QUEUE_MAX_DATABASES];
} QueueDatabaseShared;

static QueueDatabaseShared *shared = NULL;
static QueueDatabase *my_base = NULL;

/* How much shared memory the entries need.  Called by the request hook. */
Size
queue_database_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueDatabaseShared));
}

/* Everything in an entry as if nobody had ever looked at its database.  Lock: held, or nobody else is there yet. */
static void
base_clear(QueueDatabase *base)
{
	pg_atomic_write_u64(&base->generation, 1);
	pg_atomic_write_u32(&base->state, QUEUE_DATABASE_UNKNOWN);
	pg_atomic_write_u32(&base->closed, 0);
	pg_atomic_write_u32(&base->scheduler_procno, PG_UINT32_MAX);
	pg_atomic_write_u64(&base->sleep_until, 0);
	pg_atomic_write_u64(&base->next_expiry, (uint64) PG_INT64_MAX);
	pg_atomic_write_u64(&base->unplaced_expiry, (uint64) PG_INT64_MAX);
	pg_atomic_write_u64(&base->deadline_low, (uint64) PG_INT64_MAX);
	pg_atomic_write_u64(&base->waiting_low, (uint64) PG_INT64_MAX);
	pg_atomic_write_u32(&base->executors_wanted, 0);
	pg_atomic_write_u32(&base->restarts, 0);
	pg_atomic_write_u32(&base->http_ends, 0);
	base->trouble[0] = '\0';
	pg_atomic_write_u32(&base->hunger, 0);
	pg_atomic_write_u64(&base->hungry_since, 0);
	pg_atomic_write_u64(&base->hungry_at, 0);
	pg_atomic_write_u64(&base->rest_until, 0);
	base->created = false;
	pg_atomic_write_u64(&base->sorted_generation, 0);
	pg_atomic_write_u32(&base->cursors_lost, QUEUE_CURSORS_ALL);
	pg_atomic_write_u64(&base->loaded_at, 0);
	pg_atomic_write_u64(&base->refused_at, 0);
	pg_atomic_write_u64(&base->lines_bound, (uint64) (PG_INT64_MAX / 2));
	pg_atomic_write_u64(&base->session_claims, (uint64) pg_atomic_add_fetch_u32(&shared->incarnations, 1) << 32);
}

/* Makes or finds the structure.  Called by the startup hook, under AddinShmemInitLock. */
void
queue_database_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue databases", queue_database_shmem_size(), &found);
	if (!found)
	{
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u32(&shared->used, 0);
		pg_atomic_init_u32(&shared->incarnations, 0);
		pg_atomic_init_u32(&shared->launcher_procno, PG_UINT32_MAX);
		pg_atomic_init_u64(&shared->launcher_requests, 0);
		pg_atomic_init_u64(&shared->prepares_since, 0);
		pg_atomic_init_u32(&shared->prepared_ddl, 0);
		for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
		{
			QueueDatabase *base = &shared->bases[i];

			base->db = InvalidOid;
			pg_atomic_init_u64(&base->generation, 1);
			pg_atomic_init_u32(&base->state, QUEUE_DATABASE_UNKNOWN);
			pg_atomic_init_u32(&base->closed, 0);
			pg_atomic_init_u32(&base->scheduler_procno, PG_UINT32_MAX);
			pg_atomic_init_u64(&base->sleep_until, 0);
			pg_atomic_init_u64(&base->next_expiry, (uint64) PG_INT64_MAX);
			pg_atomic_init_u64(&base->unplaced_expiry, (uint64) PG_INT64_MAX);
			pg_atomic_init_u64(&base->deadline_low, (uint64) PG_INT64_MAX);
			pg_atomic_init_u64(&base->waiting_low, (uint64) PG_INT64_MAX);
			pg_atomic_init_u32(&base->executors_wanted, 0);
			pg_atomic_init_u32(&base->restarts, 0);
			pg_atomic_init_u32(&base->http_ends, 0);
			base->trouble[0] = '\0';
			pg_atomic_init_u32(&base->hunger, 0);
			pg_atomic_init_u64(&base->hungry_since, 0);
			pg_atomic_init_u64(&base->hungry_at, 0);
			pg_atomic_init_u64(&base->rest_until, 0);
			base->created = false;
			pg_atomic_init_u64(&base->session_claims, 0);
			pg_atomic_init_u32(&base->drops, 0);
			pg_atomic_init_u32(&base->drops_begun, 0);
			pg_atomic_init_u32(&base->drops_unlisted, 0);
			for (int d = 0; d < QUEUE_DROPS_LISTED; d++)
				pg_atomic_init_u64(&base->drop[d], 0);
			pg_atomic_init_u64(&base->lines_made, 0);
			pg_atomic_init_u64(&base->loaded_at, 0);
			pg_atomic_init_u64(&base->refused_at, 0);
			pg_atomic_init_u64(&base->refused_lost_at, 0);
			pg_atomic_init_u64(&base->lines_bound, (uint64) (PG_INT64_MAX / 2));
			pg_atomic_init_u64(&base->sorted_generation, 0);
			pg_atomic_init_u32(&base->cursors_lost, QUEUE_CURSORS_ALL);
			base->cursors = 0;
			pg_atomic_init_u32(&base->queue_places, 0);
			pg_atomic_init_u32(&base->kind_places, 0);
			pg_atomic_init_u32(&base->handled_places, 0);
			pg_atomic_init_u64(&base->lines_told, 0);
		}
	}
	LWLockRegisterTranche(shared->tranche, "QueueDatabase");
}

/* Is there shared memory?  Called by everyone. */
bool
queue_preloaded(void)
{
	return shared != NULL;
}

/* A transaction is about to be prepared here.  Called by hook.c. */
void
queue_database_preparing(void)
{
	uint64		never = 0;

	if (shared != NULL && pg_atomic_read_u64(&shared->prepares_since) == 0)
		(void) pg_atomic_compare_exchange_u64(&shared->prepares_since, &never, (uint64) queue_now());
}

/*
 * A transaction prepared before this has no notes here: it is from before a crash or restart, or was replayed by a
 * standby that was promoted since (this shared memory may be older than it then).  Called by hook.c.
 */
TimestampTz
queue_database_prepares_since(void)
{
	uint64		since = shared ? pg_atomic_read_u64(&shared->prepares_since) : 0;

	return since != 0 ? (TimestampTz) since : queue_now();
}

/* Remembers, until the server restarts, that a prepared transaction creates or drops an extension.  Commit-safe. */
void
queue_database_set_prepared_ddl(void)
{
	if (shared != NULL)
		pg_atomic_write_u32(&shared->prepared_ddl, 1);
}

/* May a transaction that is now committed or rolled back have been such?  Called by hook.c. */
bool
queue_database_prepared_ddl(void)
{
	return shared != NULL && pg_atomic_read_u32(&shared->prepared_ddl) != 0;
}

/* This database's entry, looked up once.  Commit-safe after its first call. */
QueueDatabase *
queue_database(void)
{
	if (my_base != NULL && my_base->db == MyDatabaseId)
		return my_base;
	if (shared == NULL || !OidIsValid(MyDatabaseId))
		return NULL;
	my_base = queue_database_of(MyDatabaseId, true);
	return my_base;
}

/* The entry of any database; with create, made under the lock.  Commit-safe. */
QueueDatabase *
queue_database_of(Oid db, bool create)
{
	uint32		used;
	QueueDatabase *base = NULL;
	bool		made = false;

	if (shared == NULL || !OidIsValid(db))
		return NULL;
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i < used; i++)
	{
		if (shared->bases[i].db == db)
			return &shared->bases[i];
	}
	if (!create)
		return NULL;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i < used; i++)
	{
		if (shared->bases[i].db == db)
		{
			base = &shared->bases[i];
			break;
		}
	}
	for (uint32 i = 0; base == NULL && i < QUEUE_MAX_DATABASES; i++)
	{
		if (!OidIsValid(shared->bases[i].db))
		{
			base = &shared->bases[i];
			base_clear(base);
			pg_write_barrier();
			base->db = db;
			made = true;
			if (i >= used)
				pg_atomic_write_u32(&shared->used, i + 1);
		}
	}
	LWLockRelease(&shared->lock);
	if (made)
		queue_launcher_poke();	/* it may think that this database has no extension */
	return base;
}

/* How far queue_database_nth may go. */
int
queue_database_count(void)
{
	return shared ? (int) pg_atomic_read_u32(&shared->used) : 0;
}

/* The i'th entry, NULL when it is free.  Called by the launcher, doctor() and stat_worker. */
QueueDatabase *
queue_database_nth(int i)
{
	if (shared == NULL || i < 0 || i >= QUEUE_MAX_DATABASES || !OidIsValid(shared->bases[i].db))
		return NULL;
	return &shared->bases[i];
}

/* Its entry is free for another database.  Called by the launcher. */
bool
queue_database_forget(Oid db, bool dropped)
{
	QueueDatabase *base = queue_database_of(db, false);
	bool		forget = true;

	if (base == NULL)
		return true;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (base->db == db)
	{
		forget = dropped ||
			(!base->created && pg_atomic_read_u32(&base->state) == QUEUE_DATABASE_NO_EXTENSION &&
			 pg_atomic_read_u32(&base->closed) == 0);
		base->created = false;
		if (forget)
		{
			base->db = InvalidOid;
			pg_write_barrier();
			base_clear(base);
		}
		else
			pg_atomic_write_u32(&base->state, QUEUE_DATABASE_UNKNOWN);
	}
	LWLockRelease(&shared->lock);
	return forget;
}

/*
 * Under the same lock as the forgetting: either the launcher finds the entry changed, or this makes a new one, which
 * the launcher finds.  A look that is under way may have come too early and is repeated.
 */
void
queue_database_extension_created(Oid db)
{
	for (int tries = 0; tries < 10; tries++)
	{
		QueueDatabase *base = queue_database_of(db, true);
		bool		mine;

		if (base == NULL)
			return;
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		mine = base->db == db;
		if (mine)
		{
			uint32		state = QUEUE_DATABASE_NO_EXTENSION;

			base->created = true;
			(void) pg_atomic_compare_exchange_u32(&base->state, &state, QUEUE_DATABASE_UNKNOWN);
		}
		LWLockRelease(&shared->lock);
		if (mine)
			return;
	}
}

/* Called by the scheduler when a part of its work fails, or does so no more. */
void
queue_database_set_trouble(QueueDatabase *base, const char *trouble)
{
	char		copy[sizeof(base->trouble)];

	queue_text_copy(copy, sizeof(copy), trouble);
	queue_text_mend(copy);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	strcpy(base->trouble, copy);
	LWLockRelease(&shared->lock);
}

/* Called by doctor(). */
void
queue_database_trouble(QueueDatabase *base, char *trouble, Size size)
{
	LWLockAcquire(&shared->lock, LW_SHARED);
	strlcpy(trouble, base->trouble, size);
	LWLockRelease(&shared->lock);
}

void
queue_database_loaded(void)
{
	QueueDatabase *base = queue_database();

	if (base != NULL)
		pg_atomic_write_u64(&base->loaded_at, (uint64) queue_now());
}

TimestampTz
queue_database_lately_loaded(int64 within)
{
	QueueDatabase *base = queue_database();
	TimestampTz at = base != NULL ? (TimestampTz) pg_atomic_read_u64(&base->loaded_at) : 0;

	return at != 0 && queue_now() - at < within ? at : 0;
}

/* The generation of this database's configuration; 0 without preload. */
uint64
queue_database_generation(void)
{
	QueueDatabase *base = queue_database();

	return base ? pg_atomic_read_u64(&base->generation) : 0;
}

/* The configuration changed and that is committed.  Commit-safe.  Called by note.c. */
void
queue_database_bump(QueueDatabase *base)
{
	if (base == NULL)
		return;
	pg_atomic_fetch_add_u64(&base->generation, 1);
	queue_database_wake(base, 0);
}

/* A line found no place: readers look at all until the scheduler has done so.  Commit-safe.  Called by cursor.c. */
void
queue_database_lose_cursor(QueueDatabase *base)
{
	if (base != NULL)
		(void) pg_atomic_exchange_u32(&base->cursors_lost, QUEUE_CURSORS_LOST);
}

void
queue_database_forgive_lost(QueueDatabase *base)
{
	(void) pg_atomic_exchange_u32(&base->cursors_lost, QUEUE_CURSORS_ALL);
}

/* Unless another was lost meanwhile. */
void
queue_database_know_lost(QueueDatabase *base)
{
	uint32		state = QUEUE_CURSORS_ALL;

	(void) pg_atomic_compare_exchange_u32(&base->cursors_lost, &state, QUEUE_CURSORS_KNOWN);
}

/* A new line was committed.  Commit-safe.  Called by note.c, before it tells of the line's jobs. */
void
queue_database_tell_line(QueueDatabase *base, const QueueNewLine *line)
{
	uint64		told;

	if (base == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	told = pg_atomic_read_u64(&base->lines_told);
	base->new_lines[told % QUEUE_NEW_LINES] = *line;
	pg_atomic_write_u64(&base->lines_told, told + 1);
	LWLockRelease(&shared->lock);
}

/* How many were told of; a reader compares it with what it has. */
uint64
queue_database_lines_told(QueueDatabase *base)
{
	return pg_atomic_read_u64(&base->lines_told);
}

/* Copies what was told since *seen.  Called by lines.c. */
int
queue_database_new_lines(QueueDatabase *base, uint64 *seen, QueueNewLine *lines)
{
	uint64		told;
	int			n = 0;

	LWLockAcquire(&shared->lock, LW_SHARED);
	told = pg_atomic_read_u64(&base->lines_told);
	if (told - *seen > QUEUE_NEW_LINES)
		n = -1;
	else
	{
		for (uint64 i = *seen; i < told; i++)
			lines[n++] = base->new_lines[i % QUEUE_NEW_LINES];
	}
	LWLockRelease(&shared->lock);
	*seen = told;
	return n;
}

/* A scheduler that gave its slot up is needed at `when`.  Commit-safe. */
static void
wake_resting(QueueDatabase *base, TimestampTz when)
{
	uint64		until = pg_atomic_read_u64(&base->rest_until);

	while ((TimestampTz) until > when)
	{
		if (pg_atomic_compare_exchange_u64(&base->rest_until, &until, (uint64) when))
		{
			queue_launcher_poke();
			return;
		}
	}
}

/*
 * Wakes the scheduler unless it wakes by itself by then.  The full barrier pairs with
 * the scheduler's own between storing its deadline and its last look, so either it
 * sees what the caller did or the caller sees that it sleeps.  Commit-safe.
 */
void
queue_database_wake(QueueDatabase *base, TimestampTz when)
{
	uint32		procno;
	TimestampTz until;

	if (base == NULL)
		return;
	pg_memory_barrier();
	procno = pg_atomic_read_u32(&base->scheduler_procno);
	if (procno != PG_UINT32_MAX)
	{
		until = (TimestampTz) pg_atomic_read_u64(&base->sleep_until);
		if (until != 0 && when >= until)
			return;
		queue_set_latch(procno);
		pg_memory_barrier();
		if (pg_atomic_read_u32(&base->scheduler_procno) == procno)
			return;
		/* it ended meanwhile; if it saw our wake it says so itself */
	}
	if (pg_atomic_read_u32(&base->state) == QUEUE_DATABASE_RESTING)
		wake_resting(base, when);
}

/* The scheduler's own last act; see queue_database_wake. */
void
queue_database_rest(QueueDatabase *base, TimestampTz until)
{
	pg_atomic_write_u64(&base->rest_until, (uint64) until);
	pg_atomic_write_u32(&base->state, QUEUE_DATABASE_RESTING);
	pg_memory_barrier();
	pg_atomic_write_u32(&base->scheduler_procno, PG_UINT32_MAX);
	pg_memory_barrier();
	if (MyLatch->is_set || queue_is_woken())
		wake_resting(base, 0);
}

/* Lowers one of the entry's times to `when`, if it is later.  Commit-safe. */
void
queue_database_lower(pg_atomic_uint64 *time, TimestampTz when)
{
	uint64		old = pg_atomic_read_u64(time);

	while ((TimestampTz) old > when && !pg_atomic_compare_exchange_u64(time, &old, (uint64) when))
		;
}

/* Commit-safe.  Called by lease.c and cursor.c. */
void
queue_database_unplaced(QueueDatabase *base, TimestampTz until)
{
	if (base == NULL)
		return;
	queue_database_lower(&base->unplaced_expiry, until);
	queue_database_lower(&base->next_expiry, until);
}

/* Commit-safe.  Called by note.c. */
void
queue_database_deadline(QueueDatabase *base, TimestampTz at)
{
	if (base == NULL)
		return;
	queue_database_lower(&base->deadline_low, at);
	queue_database_wake(base, at);
}

/*
 * A job waits for this time: then it counts as available, which only a recount finds out of a job that nobody claims.
 * A scheduler that rests does not come back for that.  Commit-safe.  Called by note.c.
 */
void
queue_database_waiting(QueueDatabase *base, TimestampTz at)
{
	if (base == NULL || at >= (TimestampTz) pg_atomic_read_u64(&base->waiting_low))
		return;
	queue_database_lower(&base->waiting_low, at);
	if (pg_atomic_read_u32(&base->state) != QUEUE_DATABASE_RESTING)
		queue_database_wake(base, at);
}

/* What was told since the last call.  Called by the scheduler. */
TimestampTz
queue_database_take_deadline(QueueDatabase *base)
{
	return (TimestampTz) pg_atomic_exchange_u64(&base->deadline_low, (uint64) PG_INT64_MAX);
}

/* Those who waited are seen by the recount that begins now.  Called by the scheduler. */
void
queue_database_forget_waiting(QueueDatabase *base)
{
	(void) pg_atomic_exchange_u64(&base->waiting_low, (uint64) PG_INT64_MAX);
}

/* One claim more; returns the incarnation that it is counted in.  Called by session.c before it takes the lock. */
uint32
queue_database_add_session_claim(QueueDatabase *base)
{
	return (uint32) (pg_atomic_fetch_add_u64(&base->session_claims, 1) >> 32);
}

/* One claim less, if it was counted in what the entry is now.  Called by session.c. */
void
queue_database_remove_session_claim(QueueDatabase *base, uint32 incarnation)
{
	uint64		old = pg_atomic_read_u64(&base->session_claims);

	while ((uint32) (old >> 32) == incarnation && (uint32) old > 0 &&
		   !pg_atomic_compare_exchange_u64(&base->session_claims, &old, old - 1))
		;
}

/* How many sessions' claims there are.  Called by every other claimer. */
uint32
queue_database_session_claims(QueueDatabase *base)
{
	return (uint32) pg_atomic_read_u64(&base->session_claims);
}

/* on_shmem_exit: nobody is the launcher any more. */
static void
launcher_exit(int code, Datum arg)
{
	pg_atomic_write_u32(&shared->launcher_procno, PG_UINT32_MAX);
}

/* I am the launcher.  Called once by it. */
void
queue_launcher_register(void)
{
	pg_atomic_write_u32(&shared->launcher_procno, queue_procno_of(MyProc));
	on_shmem_exit(launcher_exit, (Datum) 0);
}

/* The set of databases or extensions may have changed: look at all again.  Commit-safe. */
void
queue_launcher_wake(void)
{
	if (shared == NULL)
		return;
	pg_atomic_fetch_add_u64(&shared->launcher_requests, 1);
	queue_set_latch(pg_atomic_read_u32(&shared->launcher_procno));
}

/* How often that was asked. */
uint64
queue_launcher_requests(void)
{
	return shared ? pg_atomic_read_u64(&shared->launcher_requests) : 0;
}

/* Is there a launcher?  Called by doctor(). */
bool
queue_launcher_alive(void)
{
	return shared != NULL && pg_atomic_read_u32(&shared->launcher_procno) != PG_UINT32_MAX;
}

/* A scheduler came up or ended.  Commit-safe. */
void
queue_launcher_poke(void)
{
	if (shared != NULL)
		queue_set_latch(pg_atomic_read_u32(&shared->launcher_procno));
}

/* Appends `"name": "value"` to an object, unless the value is NULL. */
static void
add_field(StringInfo json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(json, ", \"%s\": ", name);
	escape_json(json, value);
}

/* Writes a line about `job`, or about none (NULL). */
static void
write_log(const char *event, const QueueLogJob *job, const char *message)
{
	StringInfoData json;

	if (queue_log_format != 1)
	{
		ereport(queue_log_level,
				(errmsg_internal("queue %s: %s", event, message), errhidestmt(true), errhidecontext(true)));
		return;
	}
	initStringInfo(&json);
	appendStringInfo(&json, "{\"event\": \"%s\", \"pid\": %d, \"database\": %u", event, MyProcPid, MyDatabaseId);
	if (job != NULL)
	{
		appendStringInfo(&json, ", \"job\": " INT64_FORMAT, job->id);
		add_field(&json, "kind", job->kind);
		add_field(&json, "queue", job->queue);
		if (job->attempt != 0)
			appendStringInfo(&json, ", \"attempt\": %d", job->attempt);
		add_field(&json, "error", job->error);
	}
	add_field(&json, "message", message);
	appendStringInfoChar(&json, '}');
	ereport(queue_log_level, (errmsg_internal("%s", json.data), errhidestmt(true), errhidecontext(true)));
	pfree(json.data);
}

#define FORMAT_MESSAGE(message, format) \
	do { \
		initStringInfo(&(message)); \
		for (;;) \
		{ \
			va_list		args; \
			int			needed; \
			va_start(args, format); \
			needed = appendStringInfoVA(&(message), format, args); \
			va_end(args); \
			if (needed == 0) \
				break; \
			enlargeStringInfo(&(message), needed); \
		} \
	} while (0)

/* One line in the log.  Called by launcher, scheduler and executors, outside of critical sections. */
void
queue_log(const char *event, const char *format,...)
{
	StringInfoData message;

	FORMAT_MESSAGE(message, format);
	write_log(event, NULL, message.data);
	pfree(message.data);
}

/* The same about a job. */
void
queue_log_job(const char *event, const QueueLogJob *job, const char *format,...)
{
	StringInfoData message;

	FORMAT_MESSAGE(message, format);
	write_log(event, job, message.data);
	pfree(message.data);
}
