/*
 * mark.c
 *		Marks: what happened in which group since somebody last promoted there.
 *
 * A mark is (group, lowest position): a job came, or the group's head ended.  It says only where to look; the tables
 * say what is there.  So marks of one group merge into one, with the lower position, and a mark too many does no harm.
 * One too few leaves a group standing, therefore:
 *
 * - A transaction notes its marks in this backend's memory and tells of them after its commit took effect.  Who
 *   promotes takes marks out BEFORE the snapshot with which it looks, and what it took goes back if its transaction
 *   aborts.
 * - What finds no room here says so with the flag `lost`, and then all groups are looked at (scheduler/promote.c).  So
 *   does the start of a scheduler, because a crash takes all marks along.
 * - Where there is no shared memory, and at PREPARE TRANSACTION, what is noted goes into rows of queue.group_mark
 *   instead (job/group.c).
 *
 * A mark that is taken stays in the table until its taker's commit.  It may then be parked: it is not given out until
 * another one of its group is merged into it.  That is done for two reasons:
 *
 * - A job with a lower place than the one that is in waits: who follows on must not pass it by (queue_mark_before).
 * - Others wait behind the one that is in.  As long as every group in which somebody waits has an entry here, the end
 *   of a job in a group without one concerns nobody, and is not told: what is enqueued there later brings a mark of its
 *   own, after the end.  `crowded` says that not every one has.
 *
 * A group is known by its whole name, queue and key.
 *
 * Lock: QueueMark (LWLock), exclusive for every change, a few memory accesses a mark.  Nothing is taken under it.
 */
#include "shared/mark.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#define MAX_MARKS 2048			/* in shared memory, of all databases */
#define MAX_OF_DATABASE 1536
#define MAX_WAITED 768			/* of a database, of groups in which somebody waits and nothing is to be done */
#define NBUCKETS 4096
#define MAX_NOTED 1024			/* groups of one transaction; more and all groups are looked at */
#define NOTED_BUCKETS 2048
#define NONE (-1)

typedef struct Entry
{
	QueueMark	mark;
	Oid			db;
	uint32		hash;
	enum
	{
		MARK_READY,				/* in its database's list: to be taken -> TAKEN */
		MARK_TAKEN,				/* somebody looks at the group -> freed or PARKED at his commit, READY at his abort */
		MARK_PARKED				/* -> READY when another one of the group comes */
	}			state;
	bool		waited;			/* counted in nparked */
	uint64		serial;			/* of the taking */
	int			next_in_bucket;	/* or in the free list */
	int			next;			/* in the list of those that are ready */
} Entry;

typedef struct Place			/* what there is of a database */
{
	Oid			db;				/* InvalidOid: free */
	int			first, last;	/* of those that are ready */
	int			n;				/* of all */
	int			nparked;		/* of those that were parked because others wait */
	pg_atomic_uint32 crowded;	/* not all groups in which somebody waits are known here */
	pg_atomic_uint32 ready;		/* how many are ready */
	pg_atomic_uint32 lost;		/* 1: all groups are to be looked at; 2: somebody does */
	pg_atomic_uint32 rows;		/* rows of queue.group_mark were committed */
} Place;

typedef struct MarkTable
{
	LWLock		lock;
	int			tranche;
	int			free;
	uint64		serials;
	int			bucket[NBUCKETS];
	Place		place[QUEUE_MAX_DATABASES];
	Entry		entry[MAX_MARKS];
} MarkTable;

static MarkTable *table = NULL;

/* This transaction's: marks to tell of, and marks taken. */
typedef struct Noted
{
	int			level;			/* transaction nest level */
	int			next;			/* noted before it, of the same hash */
	QueueMark	mark;
} Noted;

typedef struct Taken
{
	int			level;
	int			number;			/* of its entry .. */
	uint64		serial;			/* .. which is ours as long as it has this */
} Taken;

static Noted *noted = NULL;
static int	nnoted = 0;
static int	maxnoted = 0;
static int	noted_bucket[NOTED_BUCKETS];	/* good while nnoted > 0 */
static int	overflow_level = 0; /* > 0: at this level more were noted than are kept */
static Taken *taken = NULL;
static int	ntaken = 0;
static int	maxtaken = 0;

static void register_callbacks(void);

Size
queue_mark_shmem_size(void)
{
	return MAXALIGN(sizeof(MarkTable));
}

void
queue_mark_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("queue marks", sizeof(MarkTable), &found);
	if (!found)
	{
		memset(table, 0, sizeof(MarkTable));
		table->tranche = LWLockNewTrancheId();
		LWLockInitialize(&table->lock, table->tranche);
		for (int i = 0; i < NBUCKETS; i++)
			table->bucket[i] = NONE;
		for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
		{
			table->place[i].first = table->place[i].last = NONE;
			pg_atomic_init_u32(&table->place[i].ready, 0);
			pg_atomic_init_u32(&table->place[i].lost, 0);
			pg_atomic_init_u32(&table->place[i].rows, 0);
			pg_atomic_init_u32(&table->place[i].crowded, 0);
		}
		for (int i = 0; i < MAX_MARKS; i++)
			table->entry[i].next_in_bucket = i + 1 < MAX_MARKS ? i + 1 : NONE;
		table->free = 0;
	}
	LWLockRegisterTranche(table->tranche, "QueueMark");
}

static inline bool
same_group(const QueueMark *mark, const char *queue, const char *key)
{
	return strcmp(mark->key, key) == 0 && strcmp(mark->queue, queue) == 0;
}

static inline uint32
hash_of(Oid db, const char *queue, const char *key)
{
	return hash_combine(murmurhash32(db),
						hash_combine(hash_bytes((const unsigned char *) queue, strlen(queue)),
									 hash_bytes((const unsigned char *) key, strlen(key))));
}

/* The lower position, and what either tells of the head. */
static void
merge(QueueMark *into, const QueueMark *mark)
{
	into->position = Min(into->position, mark->position);
	into->front = false;
	into->came |= mark->came;
	into->ended |= mark->ended;
	into->doubted |= mark->doubted;
}

/* A database's place; one is made if there is room, which there is: QUEUE_MAX_DATABASES bounds everything. */
static Place *
place_of(Oid db)
{
	static Place *mine = NULL;
	Place	   *unused = NULL;

	Assert(LWLockHeldByMe(&table->lock));
	if (mine != NULL && mine->db == db)
		return mine;
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		Place	   *place = &table->place[i];

		if (place->db == db)
			return db == MyDatabaseId ? (mine = place) : place;
		if (place->db == InvalidOid && unused == NULL)
			unused = place;
	}
	if (unused != NULL && LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE))
	{
		unused->db = db;
		unused->first = unused->last = NONE;
		unused->n = 0;
		pg_atomic_write_u32(&unused->ready, 0);
		pg_atomic_write_u32(&unused->lost, 1);	/* until somebody has looked, nothing is known */
		pg_atomic_write_u32(&unused->rows, 0);
		pg_atomic_write_u32(&unused->crowded, 0);
		unused->nparked = 0;
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

static int
find(Oid db, uint32 hash, const char *queue, const char *key)
{
	int			i = table->bucket[hash % NBUCKETS];

	while (i != NONE && (table->entry[i].hash != hash || table->entry[i].db != db ||
						 !same_group(&table->entry[i].mark, queue, key)))
		i = table->entry[i].next_in_bucket;
	return i;
}

/* Takes an entry out of its bucket and frees it; it is in no list. */
static void
release(Place *place, int number)
{
	int		   *link = &table->bucket[table->entry[number].hash % NBUCKETS];

	while (*link != number)
		link = &table->entry[*link].next_in_bucket;
	*link = table->entry[number].next_in_bucket;
	table->entry[number].db = InvalidOid;
	place->nparked -= table->entry[number].waited;
	table->entry[number].waited = false;
	table->entry[number].next_in_bucket = table->free;
	table->free = number;
	place->n--;
}

/* It can be taken.  Commit-safe. */
static void
make_ready(Place *place, int number)
{
	Entry	   *entry = &table->entry[number];

	entry->state = MARK_READY;
	place->nparked -= entry->waited;
	entry->waited = false;
	entry->next = NONE;
	if (place->last == NONE)
		place->first = number;
	else
		table->entry[place->last].next = number;
	place->last = number;
	pg_atomic_fetch_add_u32(&place->ready, 1);
}

/*
 * The entry of a mark's group, a new one (parked) if there is none; the mark is merged into it.  NONE: there is no
 * room, so the mark is lost.  Commit-safe.
 */
static int
enter(Oid db, Place *place, const QueueMark *mark)
{
	uint32		hash = hash_of(db, mark->queue, mark->key);
	int			number = find(db, hash, mark->queue, mark->key);
	Entry	   *entry;

	Assert(LWLockHeldByMeInMode(&table->lock, LW_EXCLUSIVE));
	if (number != NONE)
	{
		merge(&table->entry[number].mark, mark);
		return number;
	}
	if (table->free == NONE || place->n >= MAX_OF_DATABASE)
	{
		pg_atomic_write_u32(&place->lost, 1);
		return NONE;
	}
	number = table->free;
	entry = &table->entry[number];
	table->free = entry->next_in_bucket;
	entry->mark = *mark;
	entry->db = db;
	entry->hash = hash;
	entry->state = MARK_PARKED;
	entry->waited = false;
	entry->next_in_bucket = table->bucket[hash % NBUCKETS];
	table->bucket[hash % NBUCKETS] = number;
	place->n++;
	return number;
}

void
queue_mark_reset(Oid db)
{
	if (table == NULL)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_DATABASES; i++)
	{
		Place	   *place = &table->place[i];

		if (place->db != db)
			continue;
		for (int number = 0; number < MAX_MARKS; number++)
		{
			if (table->entry[number].db == db)
				release(place, number);
		}
		place->db = InvalidOid;
		place->nparked = 0;
		place->first = place->last = NONE;
		pg_atomic_write_u32(&place->ready, 0);
	}
	LWLockRelease(&table->lock);
}

/* ---------------------------------------------------------------- this transaction's */

bool
queue_mark_note(const QueueMark *mark)
{
	int			level = GetCurrentTransactionNestLevel();
	uint32		bucket = hash_of(MyDatabaseId, mark->queue, mark->key) % NOTED_BUCKETS;

	register_callbacks();
	(void) queue_database();	/* made now: the callbacks must not */
	(void) my_place(true);
	if (nnoted == 0)
		memset(noted_bucket, 0xff, sizeof(noted_bucket));
	for (int i = noted_bucket[bucket]; i != NONE; i = noted[i].next)
	{
		if (noted[i].level == level && same_group(&noted[i].mark, mark->queue, mark->key))
		{
			merge(&noted[i].mark, mark);
			return true;
		}
	}
	if (nnoted == MAX_NOTED)
	{
		if (overflow_level == 0)
			overflow_level = level;
		return false;
	}
	if (nnoted == maxnoted)
	{
		int			size = Max(8, maxnoted * 2);

		noted = noted == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Noted)) :
			repalloc(noted, size * sizeof(Noted));
		maxnoted = size;
	}
	noted[nnoted] = (Noted) {level, noted_bucket[bucket], *mark};
	noted_bucket[bucket] = nnoted++;
	return true;
}

void
queue_mark_all(void)
{
	register_callbacks();
	(void) queue_database();
	if (overflow_level == 0)
		overflow_level = GetCurrentTransactionNestLevel();
}

void
queue_mark_settled(const QueueMark *mark)
{
	for (int i = 0; i < nnoted; i++)
	{
		if (same_group(&noted[i].mark, mark->queue, mark->key))
		{
			noted[i].mark.ended = false;
			noted[i].mark.doubted = true;
		}
	}
}

QueueMark *
queue_mark_noted(int *n, bool *overflow)
{
	QueueMark  *marks = palloc(Max(nnoted, 1) * sizeof(QueueMark));

	for (int i = 0; i < nnoted; i++)
		marks[i] = noted[i].mark;
	*n = nnoted;
	*overflow = overflow_level > 0;
	return marks;
}

bool
queue_mark_any_noted(void)
{
	return nnoted > 0;
}

void
queue_mark_forget_noted(void)
{
	nnoted = 0;
	overflow_level = 0;
}

/* Those of this level and above: the last ones, because they form a stack. */
static void
drop_noted(int level)
{
	while (nnoted > 0 && noted[nnoted - 1].level >= level)
	{
		QueueMark  *mark = &noted[--nnoted].mark;

		noted_bucket[hash_of(MyDatabaseId, mark->queue, mark->key) % NOTED_BUCKETS] = noted[nnoted].next;
	}
	if (overflow_level >= level)
		overflow_level = 0;
}

/* After a commit.  Commit-safe. */
static void
tell(void)
{
	QueueDatabase *base = queue_database_of(MyDatabaseId, false);

	if (table != NULL)
	{
		bool		told = overflow_level > 0;
		Place	   *place;

		LWLockAcquire(&table->lock, LW_EXCLUSIVE);
		place = place_of(MyDatabaseId);
		for (int i = 0; place != NULL && i < nnoted; i++)
		{
			const QueueMark *mark = &noted[i].mark;
			int			number;

			if (!mark->came && pg_atomic_read_u32(&place->crowded) == 0 && pg_atomic_read_u32(&place->lost) == 0 &&
				find(MyDatabaseId, hash_of(MyDatabaseId, mark->queue, mark->key), mark->queue, mark->key) == NONE)
				continue;		/* nobody waits for that end */
			told = true;
			number = enter(MyDatabaseId, place, mark);
			if (number != NONE && table->entry[number].state != MARK_READY)
				make_ready(place, number);
		}
		LWLockRelease(&table->lock);
		if (overflow_level > 0)
			queue_mark_lose(MyDatabaseId);
		if (told && base != NULL)
			queue_database_wake(base, 0);
	}
	queue_mark_forget_noted();
}

/*
 * What was taken at this level and above is there again, or done with.  One of which another mark came meanwhile is
 * ready already, and one that was parked stays.  Commit-safe.
 */
static void
end_taken(int level, bool again)
{
	if (ntaken == 0 || taken[ntaken - 1].level < level)
		return;
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	while (ntaken > 0 && taken[ntaken - 1].level >= level)
	{
		Taken	   *mine = &taken[--ntaken];
		Entry	   *entry = &table->entry[mine->number];
		Place	   *place = place_of(MyDatabaseId);

		if (place == NULL || entry->db != MyDatabaseId || entry->serial != mine->serial || entry->state == MARK_READY)
			continue;
		if (again)
			make_ready(place, mine->number);
		else if (entry->state == MARK_TAKEN)
			release(place, mine->number);
	}
	LWLockRelease(&table->lock);
}

static void
mark_xact(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	/* a prepared transaction may yet be rolled back, so what it took stays there */
	end_taken(1, event != XACT_EVENT_COMMIT);
	if (event == XACT_EVENT_COMMIT && (nnoted > 0 || overflow_level > 0))
		tell();
	queue_mark_forget_noted();	/* at PREPARE they are rows by now */
}

static void
mark_subxact(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level;

	if ((event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB) ||
		(nnoted == 0 && ntaken == 0 && overflow_level == 0))
		return;
	level = GetCurrentTransactionNestLevel();
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		end_taken(level, true);
		drop_noted(level);
		return;
	}
	for (int i = nnoted - 1; i >= 0 && noted[i].level >= level; i--)
		noted[i].level = level - 1;
	for (int i = ntaken - 1; i >= 0 && taken[i].level >= level; i--)
		taken[i].level = level - 1;
	overflow_level = Min(overflow_level, level - 1);
}

static void
register_callbacks(void)
{
	static bool done = false;

	if (done)
		return;
	done = true;
	RegisterXactCallback(mark_xact, NULL);
	RegisterSubXactCallback(mark_subxact, NULL);
}

/* ---------------------------------------------------------------- who promotes */

bool
queue_mark_any(void)
{
	Place	   *place = my_place(false);

	return place != NULL && pg_atomic_read_u32(&place->ready) > 0;
}

int
queue_mark_take(QueueMark *marks, int max)
{
	int			level = GetCurrentTransactionNestLevel();
	Place	   *place = my_place(true);
	int			n = 0;

	if (place == NULL)
		return 0;
	register_callbacks();
	if (ntaken + max > maxtaken)
	{
		maxtaken = ntaken + max;
		taken = taken == NULL ? MemoryContextAlloc(TopMemoryContext, maxtaken * sizeof(Taken)) :
			repalloc(taken, maxtaken * sizeof(Taken));
	}
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	while (n < max && place->first != NONE)
	{
		int			number = place->first;
		Entry	   *entry = &table->entry[number];

		place->first = entry->next;
		if (place->first == NONE)
			place->last = NONE;
		pg_atomic_fetch_sub_u32(&place->ready, 1);
		entry->state = MARK_TAKEN;
		entry->serial = ++table->serials;
		taken[ntaken++] = (Taken) {level, number, entry->serial};
		marks[n++] = entry->mark;
	}
	LWLockRelease(&table->lock);
	return n;
}

void
queue_mark_park(const char *queue, const char *key, int64 position)
{
	Place	   *place = my_place(true);
	QueueMark	mark = {.position = position};
	int			number;

	if (place == NULL)
		return;
	strlcpy(mark.queue, queue, sizeof(mark.queue));
	strlcpy(mark.key, key, sizeof(mark.key));
	LWLockAcquire(&table->lock, LW_EXCLUSIVE);
	number = find(MyDatabaseId, hash_of(MyDatabaseId, queue, key), queue, key);
	if (number != NONE && table->entry[number].state == MARK_READY)
		;						/* another one came meanwhile: the group is looked at once more */
	else if (position == PG_INT64_MAX && place->nparked >= MAX_WAITED)
		pg_atomic_write_u32(&place->crowded, 1);
	else
	{
		if (number != NONE)
			table->entry[number].mark.position = PG_INT64_MAX;	/* what it told of is settled */
		number = enter(MyDatabaseId, place, &mark);
		if (number != NONE)
		{
			table->entry[number].state = MARK_PARKED;
			place->nparked += !table->entry[number].waited;
			table->entry[number].waited = true;
		}
	}
	LWLockRelease(&table->lock);
}

bool
queue_mark_before(const char *queue, const char *key, int64 position)
{
	Place	   *place = my_place(false);
	int			number;
	bool		before;

	if (place == NULL || pg_atomic_read_u32(&place->lost) != 0)
		return true;
	LWLockAcquire(&table->lock, LW_SHARED);
	number = find(MyDatabaseId, hash_of(MyDatabaseId, queue, key), queue, key);
	before = number != NONE && table->entry[number].mark.position < position;
	LWLockRelease(&table->lock);
	return before;
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
queue_mark_lose(Oid db)
{
	set_flag(db, true);
}

void
queue_mark_rows(Oid db)
{
	set_flag(db, false);
}

bool
queue_mark_lost(void)
{
	Place	   *place = my_place(true);
	uint32		lost = 1;

	if (place == NULL || !pg_atomic_compare_exchange_u32(&place->lost, &lost, 2))
		return false;
	pg_atomic_write_u32(&place->crowded, 0);
	return true;
}

void
queue_mark_found(void)
{
	Place	   *place = my_place(true);
	uint32		looked = 2;

	if (place != NULL)
		(void) pg_atomic_compare_exchange_u32(&place->lost, &looked, 0);
}

bool
queue_mark_any_rows(void)
{
	Place	   *place = my_place(false);

	return place != NULL && pg_atomic_read_u32(&place->rows) != 0;
}

bool
queue_mark_take_rows(void)
{
	Place	   *place = my_place(true);

	return place != NULL && pg_atomic_exchange_u32(&place->rows, 0) != 0;
}
