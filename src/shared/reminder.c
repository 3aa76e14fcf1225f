/*
 * reminder.c
 *		Reminders: what happened to which job or workflow since somebody last looked at what hangs on it.
 *
 * A reminder says only where to look; the tables say what is there.  One too many does no harm, one too few leaves a
 * job standing, therefore:
 *
 * - A transaction notes its reminders in this backend's memory and tells of them after its commit took effect.  Who
 *   looks takes reminders out BEFORE the snapshot with which it looks, and what it took goes back if its transaction
 *   aborts.
 * - What finds no room here says so with the flag `lost`, and then everything is looked at (scheduler/dependents.c).
 *   So does the start of a scheduler, because a crash takes all reminders along.
 * - Where there is no shared memory, and at PREPARE TRANSACTION, what is noted goes into rows of queue.reminder instead
 *   (job/remind.c).
 *
 * - Of a job that depends on many the ends of most change nothing.  Who looks says what it waits for (struct Waiter),
 *   and nobody reminds of it when a job below that one completes.  Who ends a job looks there after his commit took
 *   effect; who looks says it before he looks whether that one has ended.  If he sees it unfinished, its end is told.
 *
 * They lie in a pool that all databases share, a list of each in the order of the commits.
 *
 * Lock: QueueReminder (LWLock), exclusive for every change, a few memory accesses a reminder.  Nothing is taken under
 * it.
 */
#include "shared/reminder.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#define MAX_REMINDERS 65536		/* in shared memory, of all databases */
#define MAX_OF_DATABASE 49152
#define MAX_NOTED 32768			/* of one transaction; more and everything is looked at */
#define DOUBLES 8				/* the last ones that a new one is compared with */
#define MAX_WAITERS 256			/* by hash; one that finds its place taken puts the other one out */
#define NONE (-1)

typedef struct Entry
{
	int64		id;
	int32		next;			/* in its database's list, or in the free list */
	int32		of;
} Entry;

typedef struct Place			/* what there is of a database */
{
	Oid			db;				/* InvalidOid: free */
	int			first, last;
	pg_atomic_uint32 n;
	pg_atomic_uint32 lost;		/* everything is to be looked at */
	pg_atomic_uint32 rows;		/* rows of queue.reminder were committed */
} Place;

typedef struct Waiter			/* a job that waits for another one, by the last look */
{
	Oid			db;
	int64		job;
	int64		waits_for;
} Waiter;

typedef struct ReminderTable
{
	LWLock		lock;
	int			tranche;
	int			free;
	Waiter		waiter[MAX_WAITERS];
	Place		place[QUEUE_MAX_DATABASES];
	Entry		entry[MAX_REMINDERS];
} ReminderTable;

static ReminderTable *table = NULL;

/* This transaction's: reminders to tell of, and reminders taken.  They form stacks by nest level. */
typedef struct Stack
{
	QueueReminder *reminders;
	int64	   *by;				/* the highest job that completed; see queue_remind */
	int		   *levels;
	int			n;
	int			size;
} Stack;

static Stack noted;
static Stack taken;
static int	overflow_level = 0; /* > 0: at this level more were noted than are kept */

static void register_callbacks(void);

Size
queue_reminder_shmem_size(void)
{
	return MAXALIGN(sizeof(ReminderTable));
}

void
queue_reminder_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("queue reminders", sizeof(ReminderTable), &found);
	if (!found)
	{
		memset(table, 0, sizeof(ReminderTable));
		table->tranche = LWLockNewTrancheId();
		LWLockInitialize(&table->lock, table->tranche);
		for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
		{
			table->place[i].first = table->place[i].last = NONE;
			pg_atomic_init_u32(&table->place[i].n, 0);
			pg_atomic_init_u32(&table->place[i].lost, 0);
			pg_atomic_init_u32(&table->place[i].rows, 0);
		}
		for (int i = 0; i < MAX_REMINDERS; i++)
			table->entry[i].next = i + 1 < MAX_REMINDERS ? i + 1 : NONE;
		table->free = 0;
	}
	LWLockRegisterTranche(table->tranche, "QueueReminder");
}

/* A database's place; one is made if there is room, which there is: QUEUE_MAX_DATABASES bounds everything. */
static Place *
place_of(Oid db)
{
	Place	   *unused = NULL;

	Assert(LWLockHeldByMe(&table->lock));
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		Place	   *place = &table->place[i];

		if (place->db == db)
			return place;
		if (place->db == InvalidOid && unused == NULL)
			unused = place;
	}
	if (unused != NULL && LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE))
	{
		unused->db = db;
		unused->first = unused->last = NONE;
		pg_atomic_write_u32(&unused->n, 0);
		pg_atomic_write_u32(&unused->lost, 1);	/* until somebody has looked, nothing is known */
		pg_atomic_write_u32(&unused->rows, 0);
		return unused;
	}
	return NULL;
}

/* This database's place, with its fields that are read without the lock; NULL: there is none (yet). */
static Place *
my_place(bool create)
{
	static Place *mine = NULL;

	if (table == NULL)
		return NULL;
	if (mine == NULL || mine->db != MyDatabaseId)
	{
		LWLockAcquire(&table->lock, create ? LW_EXCLUSIVE : LW_SHARED);
		mine = place_of(MyDatabaseId);
		LWLockRelease(&table->lock);
	}
	return mine;
}

/* Puts a reminder at the end of its database's list.  Commit-safe. */
static void
append(Place *place, const QueueReminder *reminder)
{
	int			number = table->free;
	Entry	   *entry;

	Assert(LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE));
	if (number == NONE || pg_atomic_read_u32(&place->n) >= MAX_OF_DATABASE)
	{
		pg_atomic_write_u32(&place->lost, 1);
		return;
	}
	entry = &table->entry[number];
	table->free = entry->next;
	*entry = (Entry) {reminder->id, NONE, reminder->of};
	if (place->last == NONE)
		place->first = number;
	else
		table->entry[place->last].next = number;
	place->last = number;
	pg_atomic_fetch_add_u32(&place->n, 1);
}

/* Takes the first one of a list out; false: it is empty. */
static bool
take_first(Place *place, QueueReminder *reminder)
{
	int			number = place->first;
	Entry	   *entry;

	if (number == NONE)
		return false;
	entry = &table->entry[number];
	*reminder = (QueueReminder) {entry->id, entry->of};
	place->first = entry->next;
	if (place->first == NONE)
		place->last = NONE;
	entry->next = table->free;
	table->free = number;
	pg_atomic_fetch_sub_u32(&place->n, 1);
	return true;
}

void
queue_reminder_reset(Oid db)
{
	QueueReminder reminder;

	if (table == NULL)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		Place	   *place = &table->place[i];

		if (place->db != db)
			continue;
		while (take_first(place, &reminder))
			;
		place->db = InvalidOid;
	}
	LWLockRelease(&table->lock);
}

/* ---------------------------------------------------------------- this transaction's */

static void
push(Stack *stack, const QueueReminder *reminder, int64 by, int level)
{
	if (stack->n == stack->size)
	{
		int			size = Max(64, stack->size * 2);

		if (stack->size == 0)
		{
			stack->reminders = MemoryContextAlloc(TopMemoryContext, size * sizeof(QueueReminder));
			stack->by = MemoryContextAlloc(TopMemoryContext, size * sizeof(int64));
			stack->levels = MemoryContextAlloc(TopMemoryContext, size * sizeof(int));
		}
		else
		{
			stack->reminders = repalloc_huge(stack->reminders, size * sizeof(QueueReminder));
			stack->by = repalloc_huge(stack->by, size * sizeof(int64));
			stack->levels = repalloc_huge(stack->levels, size * sizeof(int));
		}
		stack->size = size;
	}
	stack->reminders[stack->n] = *reminder;
	stack->by[stack->n] = by;
	stack->levels[stack->n++] = level;
}

void
queue_remind(QueueRemindOf of, int64 id, int64 by)
{
	int			level = GetCurrentTransactionNestLevel();

	register_callbacks();
	(void) queue_database();	/* made now: the callbacks must not */
	(void) my_place(true);
	for (int i = noted.n - 1; i >= 0 && i >= noted.n - DOUBLES; i--)
	{
		/* its level is at most this one, so it is forgotten with a rollback only if this one would be */
		if (noted.reminders[i].id == id && noted.reminders[i].of == of)
		{
			noted.by[i] = Max(noted.by[i], by);
			return;
		}
	}
	if (table != NULL && noted.n >= MAX_NOTED)
	{
		if (overflow_level == 0)
			overflow_level = level;
		return;
	}
	push(&noted, &(QueueReminder) {id, of}, by, level);
}

void
queue_remind_all(void)
{
	register_callbacks();
	(void) queue_database();
	if (overflow_level == 0)
		overflow_level = GetCurrentTransactionNestLevel();
}

const QueueReminder *
queue_reminders_noted(int *n, bool *overflow)
{
	*n = noted.n;
	*overflow = overflow_level > 0;
	return noted.reminders;
}

void
queue_reminders_forget(void)
{
	noted.n = 0;
	overflow_level = 0;
}

static Waiter *
waiter_of(int64 job)
{
	return &table->waiter[(uint64) job % MAX_WAITERS];
}

/* Does a job above the one that completed tell of this one when it ends? */
static bool
is_quiet(const QueueReminder *reminder, int64 by)
{
	const Waiter *waiter = waiter_of(reminder->id);

	Assert(LWLockHeldByMe(&table->lock));
	return waiter->waits_for > by && waiter->job == reminder->id && waiter->db == MyDatabaseId;
}

/* After a commit.  Commit-safe. */
static void
tell(void)
{
	if (table != NULL)
	{
		Place	   *place;
		bool		told = overflow_level > 0;

		LWLockAcquire(&table->lock, LW_EXCLUSIVE);
		place = place_of(MyDatabaseId);
		for (int i = 0; place != NULL && i < noted.n; i++)
		{
			if (is_quiet(&noted.reminders[i], noted.by[i]))
				continue;
			append(place, &noted.reminders[i]);
			told = true;
		}
		if (place != NULL && overflow_level > 0)
			pg_atomic_write_u32(&place->lost, 1);
		LWLockRelease(&table->lock);
		if (told)
			queue_database_wake(queue_database_of(MyDatabaseId, false), 0);
	}
	queue_reminders_forget();
}

/* What was taken at this level and above is there again, or done with.  Commit-safe. */
static void
end_taken(int level, bool again)
{
	Place	   *place;

	if (taken.n == 0 || taken.levels[taken.n - 1] < level)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	place = place_of(MyDatabaseId);
	while (taken.n > 0 && taken.levels[taken.n - 1] >= level)
	{
		taken.n--;
		if (again && place != NULL)
			append(place, &taken.reminders[taken.n]);
	}
	LWLockRelease(&table->lock);
}

static void
reminder_xact(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	/* a prepared transaction may yet be rolled back, so what it took stays there */
	end_taken(1, event != XACT_EVENT_COMMIT);
	if (event == XACT_EVENT_COMMIT && (noted.n > 0 || overflow_level > 0))
		tell();
	queue_reminders_forget();	/* at PREPARE they are rows by now */
}

static void
reminder_subxact(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level;

	if ((event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB) ||
		(noted.n == 0 && taken.n == 0 && overflow_level == 0))
		return;
	level = GetCurrentTransactionNestLevel();
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		end_taken(level, true);
		while (noted.n > 0 && noted.levels[noted.n - 1] >= level)
			noted.n--;
		if (overflow_level >= level)
			overflow_level = 0;
		return;
	}
	for (int i = noted.n - 1; i >= 0 && noted.levels[i] >= level; i--)
		noted.levels[i] = level - 1;
	for (int i = taken.n - 1; i >= 0 && taken.levels[i] >= level; i--)
		taken.levels[i] = level - 1;
	overflow_level = Min(overflow_level, level - 1);
}

static void
register_callbacks(void)
{
	static bool done = false;

	if (done)
		return;
	RegisterXactCallback(reminder_xact, NULL);
	RegisterSubXactCallback(reminder_subxact, NULL);
	done = true;
}

/* ---------------------------------------------------------------- who looks */

void
queue_reminder_waits(int64 job, int64 waits_for)
{
	Waiter	   *waiter;

	if (table == NULL)
		return;
	waiter = waiter_of(job);
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	if (waits_for != 0)
		*waiter = (Waiter) {MyDatabaseId, job, waits_for};
	else if (waiter->job == job && waiter->db == MyDatabaseId)
		waiter->job = 0;
	LWLockRelease(&table->lock);
}

bool
queue_reminder_any(void)
{
	Place	   *place = my_place(false);

	return place != NULL && pg_atomic_read_u32(&place->n) > 0;
}

int
queue_reminder_take(QueueReminder *reminders, int max)
{
	int			level = GetCurrentTransactionNestLevel();
	Place	   *place = my_place(true);
	int			n = 0;

	if (place == NULL || pg_atomic_read_u32(&place->n) == 0)
		return 0;
	register_callbacks();
	for (int i = 0; i < max; i++)
		push(&taken, &(QueueReminder) {0}, 0, level);	/* room for them, because nothing may fail under the lock */
	taken.n -= max;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	while (n < max && take_first(place, &reminders[n]))
		push(&taken, &reminders[n++], 0, level);
	LWLockRelease(&table->lock);
	return n;
}

/* Sets a flag of a database that has a place; one without has no scheduler, which looks at all when it starts. */
static void
set_flag(Oid db, bool lost)
{
	Place	   *place;

	if (table == NULL)
		return;
	LWLockAcquire(&table->lock, LW_SHARED);
	place = place_of(db);
	if (place != NULL)
		pg_atomic_write_u32(lost ? &place->lost : &place->rows, 1);
	LWLockRelease(&table->lock);
	queue_database_wake(queue_database_of(db, false), 0);
}

void
queue_reminder_lose(Oid db)
{
	set_flag(db, true);
}

void
queue_reminder_rows(Oid db)
{
	set_flag(db, false);
}

bool
queue_reminder_lost(void)
{
	Place	   *place = my_place(true);

	return place != NULL && pg_atomic_exchange_u32(&place->lost, 0) != 0;
}

bool
queue_reminder_any_rows(void)
{
	Place	   *place = my_place(false);

	return place != NULL && pg_atomic_read_u32(&place->rows) != 0;
}

bool
queue_reminder_take_rows(void)
{
	Place	   *place = my_place(true);

	return place != NULL && pg_atomic_exchange_u32(&place->rows, 0) != 0;
}
