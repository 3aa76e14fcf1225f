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
 * - Jobs that came and find no room here, because they are of very many groups, are told as a range of ids, which is
 *   looked through (scheduler/promote.c).
 * - Ends that find no room say so with the flag `lost`, and then all groups are looked at.  So does the start of a
 *   scheduler, because a crash takes all marks along.
 * - Where there is no shared memory, and at PREPARE TRANSACTION, what is noted goes into rows of queue.group_mark
 *   instead (job/group.c).
 *
 * A mark that is taken stays in the table until its taker's commit, with its position alone: what is told of the group
 * from then on is known from what was taken.  It may then be parked: it is not given out until
 * another one of its group is merged into it.  That is done for two reasons:
 *
 * - A job with a lower place than the one that is in waits, or who promotes could not look yet: who follows on must not
 *   pass it by (queue_mark_before).
 * - Others wait behind the one that is in.  As long as every group in which somebody waits has an entry here, the end
 *   of a job in a group without one concerns nobody, and is not told: what is enqueued there later brings a mark of its
 *   own, after the end.  `crowded` says that not every one has.
 *
 * Who follows on in a group from one transaction to the next keeps the mark of the end, instead of telling it
 * (queue_mark_keep): nobody else then looks at the group, whatever comes, until it gives the mark back.  It does so
 * when it does not go on, when its transaction aborts, and at its exit.
 *
 * Lock: that of the table (mark_table.c).
 */
#include "shared/mark.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#define MAX_NOTED 1024			/* groups of one transaction; more are told as a range, or all are looked at */
#define NOTED_BUCKETS 2048
#define NONE (-1)

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
	QueueMark	mark;			/* as it was taken */
} Taken;

static Noted *noted = NULL;
static int	nnoted = 0;
static int	maxnoted = 0;
static int	noted_bucket[NOTED_BUCKETS];	/* good while nnoted > 0 */
static int	overflow_level = 0; /* > 0: at this level more were noted than are kept */
/* The ids of all jobs that came; a subtransaction that aborted may have had some of them. */
static QueueMarkRange came = {PG_INT64_MAX, PG_INT64_MIN};
static bool came_overflow = false;	/* not all of them are among the noted */
static Taken *taken = NULL;
static int	ntaken = 0;
static int	maxtaken = 0;

/* The mark that this backend keeps from one transaction to the next. */
static struct
{
	bool		wanted;			/* at the commit of this transaction */
	bool		is;
	QueueMark	mark;			/* as it is given back */
	int			number;			/* of its entry .. */
	uint64		serial;			/* .. which is ours as long as it has this, and is KEPT */
}			kept;

static void register_callbacks(void);

static inline bool
same_group(const QueueMark *mark, const char *queue, const char *key)
{
	return strcmp(mark->key, key) == 0 && strcmp(mark->queue, queue) == 0;
}

/* ---------------------------------------------------------------- this transaction's */

static inline uint32
bucket_of(const QueueMark *mark)
{
	return queue_mark_hash(MyDatabaseId, mark->queue, mark->key) % NOTED_BUCKETS;
}

bool
queue_mark_note(const QueueMark *mark, int64 job_id)
{
	int			level = GetCurrentTransactionNestLevel();
	uint32		bucket = bucket_of(mark);

	register_callbacks();
	(void) queue_database();	/* made now: the callbacks must not */
	(void) queue_mark_place(true);
	if (mark->came)
		came = (QueueMarkRange) {Min(came.low, job_id), Max(came.high, job_id)};
	if (nnoted == 0)
		memset(noted_bucket, 0xff, sizeof(noted_bucket));
	for (int i = noted_bucket[bucket]; i != NONE; i = noted[i].next)
	{
		if (noted[i].level == level && same_group(&noted[i].mark, mark->queue, mark->key))
		{
			queue_mark_merge(&noted[i].mark, mark);
			return true;
		}
	}
	if (nnoted == MAX_NOTED)
	{
		if (mark->came && !mark->ended && !mark->doubted)
			came_overflow = true;
		else if (overflow_level == 0)
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
	*overflow = overflow_level > 0 || came_overflow;
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
	came = (QueueMarkRange) {PG_INT64_MAX, PG_INT64_MIN};
	came_overflow = false;
	kept.wanted = false;
}

/* Those of this level and above: the last ones, because they form a stack. */
static void
drop_noted(int level)
{
	while (nnoted > 0 && noted[nnoted - 1].level >= level)
	{
		QueueMark  *mark = &noted[--nnoted].mark;

		noted_bucket[bucket_of(mark)] = noted[nnoted].next;
	}
	if (overflow_level >= level)
		overflow_level = 0;
}

/*
 * Tells of one mark.  True: there is something to do; *full: a job came, and there is no room for its group.  The
 * caller holds the lock exclusively.
 */
static bool
tell_one(QueueMarkPlace *place, const QueueMark *mark, bool *full)
{
	int			number = queue_mark_find(MyDatabaseId, mark->queue, mark->key);

	if (number == NONE && !mark->came && pg_atomic_read_u32(&place->crowded) == 0 &&
		pg_atomic_read_u32(&place->lost) == 0)
		return false;			/* nobody waits for that end */
	number = queue_mark_enter(MyDatabaseId, place, mark);
	if (number == NONE)
	{
		if (mark->came && !mark->ended && !mark->doubted)
			*full = true;
		else
			pg_atomic_write_u32(&place->lost, 1);
		return true;
	}
	switch (queue_marks->entry[number].state)
	{
		case QUEUE_MARK_READY:
			return true;
		case QUEUE_MARK_KEPT:
			return false;		/* whoever keeps it looks, or gives it back */
		case QUEUE_MARK_TAKEN:
		case QUEUE_MARK_PARKED:
			queue_mark_make_ready(place, number);
	}
	return true;
}

/* Is the kept mark still ours?  The caller holds the lock. */
static bool
is_kept(void)
{
	const QueueMarkEntry *entry = &queue_marks->entry[kept.number];

	return kept.is && entry->db == MyDatabaseId && entry->serial == kept.serial && entry->state == QUEUE_MARK_KEPT;
}

/* The kept mark goes into the table, to be taken.  True: it did.  The caller holds the lock exclusively. */
static bool
give_back(QueueMarkPlace *place)
{
	bool		is = is_kept();

	kept.is = false;
	if (!is || place == NULL)
		return false;
	queue_mark_merge(&queue_marks->entry[kept.number].mark, &kept.mark);
	queue_mark_make_ready(place, kept.number);
	return true;
}

/*
 * Keeps the mark of an end, if nothing else is to be looked at in the group.  The caller holds the lock exclusively.
 */
static bool
keep(QueueMarkPlace *place, const QueueMark *mark)
{
	int			number = queue_mark_find(MyDatabaseId, mark->queue, mark->key);
	QueueMarkEntry *entry;

	if (mark->came || mark->doubted || pg_atomic_read_u32(&place->lost) != 0)
		return false;
	if (is_kept() && number == kept.number)
		return true;
	if (kept.is || (number != NONE && (queue_marks->entry[number].state != QUEUE_MARK_PARKED ||
									   queue_marks->entry[number].mark.position != PG_INT64_MAX)))
		return false;
	kept.mark = *mark;
	if (number == NONE)
	{
		QueueMark	others = *mark;

		others.position = PG_INT64_MAX;
		others.ended = false;
		number = queue_mark_enter(MyDatabaseId, place, &others);
	}
	if (number == NONE)
		return false;
	entry = &queue_marks->entry[number];
	entry->state = QUEUE_MARK_KEPT;
	entry->serial = ++queue_marks->serials;
	kept.number = number;
	kept.serial = entry->serial;
	kept.is = true;
	return true;
}

/* After a commit.  Commit-safe. */
static void
tell(void)
{
	QueueDatabase *base = queue_database_of(MyDatabaseId, false);
	QueueMarkPlace *place;
	bool		told = overflow_level > 0 || came_overflow;
	bool		full = came_overflow;
	bool		keeps = kept.wanted && kept.is;

	if (queue_marks == NULL)
		return;
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	place = queue_mark_place_of(MyDatabaseId);
	for (int i = 0; place != NULL && i < nnoted; i++)
	{
		const QueueMark *mark = &noted[i].mark;

		if (kept.wanted && same_group(&kept.mark, mark->queue, mark->key) && (keeps = keep(place, mark)))
			continue;
		if (!came_overflow || mark->ended || mark->doubted)	/* else the range has it */
			told |= tell_one(place, mark, &full);
	}
	if (place != NULL && full)
		queue_mark_add_range(place, came.low, came.high);
	if (kept.is && !keeps)
		told |= give_back(place);
	LWLockRelease(&queue_marks->lock);
	if (overflow_level > 0)
		queue_mark_lose(MyDatabaseId);
	if (told && base != NULL)
		queue_database_wake(base, 0);
}

/* A mark that was taken can be taken again, with what came meanwhile.  The caller holds the lock exclusively. */
static void
put_back(QueueMarkPlace *place, const QueueMark *mark)
{
	int			number = queue_mark_enter(MyDatabaseId, place, mark);

	if (number == NONE)
		pg_atomic_write_u32(&place->lost, 1);
	else if (queue_marks->entry[number].state == QUEUE_MARK_TAKEN ||
			 queue_marks->entry[number].state == QUEUE_MARK_PARKED)
		queue_mark_make_ready(place, number);
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
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	while (ntaken > 0 && taken[ntaken - 1].level >= level)
	{
		Taken	   *mine = &taken[--ntaken];
		QueueMarkEntry *entry = &queue_marks->entry[mine->number];
		QueueMarkPlace *place = queue_mark_place_of(MyDatabaseId);

		if (place == NULL)
			continue;
		if (again)
			put_back(place, &mine->mark);
		else if (entry->db == MyDatabaseId && entry->serial == mine->serial && entry->state == QUEUE_MARK_TAKEN)
			queue_mark_release(place, mine->number);
	}
	LWLockRelease(&queue_marks->lock);
}

static void
mark_xact(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	/* a prepared transaction may yet be rolled back, so what it took stays there */
	end_taken(1, event != XACT_EVENT_COMMIT);
	if (event == XACT_EVENT_COMMIT && (nnoted > 0 || overflow_level > 0 || came_overflow))
		tell();
	if (event == XACT_EVENT_ABORT)
		queue_mark_unkeep();
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
	RegisterXactCallback(mark_xact, NULL);
	RegisterSubXactCallback(mark_subxact, NULL);
	done = true;
}

/* ---------------------------------------------------------------- who goes on in a group */

/* Exit hook. */
static void
unkeep_at_exit(int code, Datum arg)
{
	queue_mark_unkeep();
}

void
queue_mark_keep(const char *queue, const char *key)
{
	static bool registered = false;

	if (queue_marks == NULL)
		return;
	if (!registered)
		before_shmem_exit(unkeep_at_exit, (Datum) 0);
	registered = true;
	if (kept.is && !same_group(&kept.mark, queue, key))
		queue_mark_unkeep();
	strlcpy(kept.mark.queue, queue, sizeof(kept.mark.queue));
	strlcpy(kept.mark.key, key, sizeof(kept.mark.key));
	kept.wanted = true;
}

bool
queue_mark_kept(void)
{
	return kept.is;
}

void
queue_mark_unkeep(void)
{
	bool		told;

	if (!kept.is)
		return;
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	told = give_back(queue_mark_place_of(MyDatabaseId));
	LWLockRelease(&queue_marks->lock);
	if (told)
		queue_database_wake(queue_database_of(MyDatabaseId, false), 0);
}

/* ---------------------------------------------------------------- who promotes */

bool
queue_mark_any(void)
{
	QueueMarkPlace *place = queue_mark_place(false);

	return place != NULL && (pg_atomic_read_u32(&place->ready) > 0 || pg_atomic_read_u32(&place->nranges) > 0);
}

/* Before n marks are taken. */
static void
make_room(int n)
{
	int			size = Max(ntaken + n, 2 * maxtaken);

	register_callbacks();
	if (ntaken + n <= maxtaken)
		return;
	taken = taken == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Taken)) :
		repalloc(taken, size * sizeof(Taken));
	maxtaken = size;
}

/* The entry's mark is this transaction's.  Its position stays for who follows on.  The caller holds the lock. */
static void
take_entry(int number, const QueueMark *mark)
{
	QueueMarkEntry *entry = &queue_marks->entry[number];

	taken[ntaken++] = (Taken) {GetCurrentTransactionNestLevel(), number, ++queue_marks->serials, *mark};
	entry->state = QUEUE_MARK_TAKEN;
	entry->serial = queue_marks->serials;
	entry->mark.came = entry->mark.ended = entry->mark.front = entry->mark.doubted = false;
}

int
queue_mark_take(QueueMark *marks, int max)
{
	QueueMarkPlace *place = queue_mark_place(true);
	int			n = 0;

	if (place == NULL)
		return 0;
	make_room(max);
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	while (n < max && place->first != NONE)
	{
		int			number = place->first;
		QueueMarkEntry *entry = &queue_marks->entry[number];

		place->first = entry->next;
		if (place->first == NONE)
			place->last = NONE;
		pg_atomic_fetch_sub_u32(&place->ready, 1);
		marks[n] = entry->mark;
		take_entry(number, &marks[n++]);
	}
	LWLockRelease(&queue_marks->lock);
	return n;
}

void
queue_mark_take_parked(const QueueMark *mark)
{
	QueueMarkPlace *place = queue_mark_place(true);
	int			number;

	if (place == NULL)
		return;
	make_room(1);
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	number = queue_mark_find(MyDatabaseId, mark->queue, mark->key);
	if (number != NONE && queue_marks->entry[number].state == QUEUE_MARK_PARKED)
	{
		place->nparked -= queue_marks->entry[number].waited;
		queue_marks->entry[number].waited = false;
		take_entry(number, mark);
	}
	LWLockRelease(&queue_marks->lock);
}

void
queue_mark_refresh(QueueMark *mark)
{
	const QueueMark *told;
	int			number;

	if (queue_marks == NULL)
		return;
	LWLockAcquire(&queue_marks->lock, LW_SHARED);
	number = queue_mark_find(MyDatabaseId, mark->queue, mark->key);
	told = number != NONE ? &queue_marks->entry[number].mark : NULL;
	if (told != NULL && (told->position < mark->position || told->ended || told->doubted))
		queue_mark_merge(mark, told);
	LWLockRelease(&queue_marks->lock);
}

bool
queue_mark_take_range(int64 *low, int64 *high)
{
	QueueMarkPlace *place = queue_mark_place(true);
	uint32		n;

	if (place == NULL || pg_atomic_read_u32(&place->nranges) == 0)
		return false;
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	n = pg_atomic_read_u32(&place->nranges);
	if (n > 0)
	{
		*low = place->range[0].low;
		*high = place->range[0].high;
		place->range[QUEUE_MARK_RANGES] = place->range[0];
		place->looking = true;
		memmove(&place->range[0], &place->range[1], (n - 1) * sizeof(QueueMarkRange));
		pg_atomic_write_u32(&place->nranges, n - 1);
	}
	LWLockRelease(&queue_marks->lock);
	return n > 0;
}

void
queue_mark_range_looked(int64 next)
{
	QueueMarkPlace *place = queue_mark_place(true);

	if (place == NULL)
		return;
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	place->range[QUEUE_MARK_RANGES].low = next;
	place->looking &= next <= place->range[QUEUE_MARK_RANGES].high;
	LWLockRelease(&queue_marks->lock);
}

void
queue_mark_park(const char *queue, const char *key, int64 position)
{
	QueueMarkPlace *place = queue_mark_place(true);
	QueueMark	mark = {.position = position};
	int			number;

	if (place == NULL)
		return;
	strlcpy(mark.queue, queue, sizeof(mark.queue));
	strlcpy(mark.key, key, sizeof(mark.key));
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	number = queue_mark_find(MyDatabaseId, queue, key);
	if (number != NONE && (queue_marks->entry[number].state == QUEUE_MARK_READY ||
						   queue_marks->entry[number].state == QUEUE_MARK_KEPT))
		;						/* another one came meanwhile: the group is looked at once more */
	else if (position == PG_INT64_MAX && place->nparked >= QUEUE_MARKS_WAITED)
		pg_atomic_write_u32(&place->crowded, 1);
	else
	{
		if (number != NONE)
			queue_marks->entry[number].mark.position = PG_INT64_MAX;	/* what it told of is settled */
		number = queue_mark_enter(MyDatabaseId, place, &mark);
		if (number != NONE)
		{
			queue_marks->entry[number].state = QUEUE_MARK_PARKED;
			place->nparked += !queue_marks->entry[number].waited;
			queue_marks->entry[number].waited = true;
		}
		else
			pg_atomic_write_u32(position == PG_INT64_MAX ? &place->crowded : &place->lost, 1);
	}
	LWLockRelease(&queue_marks->lock);
}

bool
queue_mark_before(const char *queue, const char *key, int64 position)
{
	QueueMarkPlace *place = queue_mark_place(false);
	int			number;
	bool		before;

	if (place == NULL || pg_atomic_read_u32(&place->lost) != 0)
		return true;
	LWLockAcquire(&queue_marks->lock, LW_SHARED);
	number = queue_mark_find(MyDatabaseId, queue, key);
	before = (number != NONE && queue_marks->entry[number].mark.position < position) ||
		(place->looking && place->range[QUEUE_MARK_RANGES].low < position);
	for (uint32 i = 0; i < pg_atomic_read_u32(&place->nranges) && !before; i++)
		before = place->range[i].low < position;	/* no job has a place before its id */
	LWLockRelease(&queue_marks->lock);
	return before;
}

/* Sets a flag of a database that has a place; one without has no scheduler, which looks at all when it starts. */
static void
set_flag(Oid db, bool lost)
{
	QueueMarkPlace *place;

	if (queue_marks == NULL)
		return;
	LWLockAcquire(&queue_marks->lock, LW_SHARED);
	place = queue_mark_place_of(db);
	if (place != NULL)
		pg_atomic_write_u32(lost ? &place->lost : &place->rows, 1);
	LWLockRelease(&queue_marks->lock);
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
	QueueMarkPlace *place = queue_mark_place(true);
	uint32		lost = 1;

	if (place == NULL || !pg_atomic_compare_exchange_u32(&place->lost, &lost, 2))
		return false;
	pg_atomic_write_u32(&place->crowded, 0);
	/* what ranges tell of was committed before that look begins; and it parks again where somebody waits */
	LWLockAcquire(&queue_marks->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&place->nranges, 0);
	place->looking = false;
	for (int number = 0; number < QUEUE_MARKS; number++)
	{
		if (queue_marks->entry[number].db == MyDatabaseId && queue_marks->entry[number].state == QUEUE_MARK_PARKED)
			queue_mark_release(place, number);
	}
	LWLockRelease(&queue_marks->lock);
	return true;
}

void
queue_mark_found(void)
{
	QueueMarkPlace *place = queue_mark_place(true);
	uint32		looked = 2;

	if (place != NULL)
		(void) pg_atomic_compare_exchange_u32(&place->lost, &looked, 0);
}

bool
queue_mark_crowd_gone(void)
{
	QueueMarkPlace *place = queue_mark_place(false);

	return place != NULL && pg_atomic_read_u32(&place->crowded) != 0 && place->nparked < QUEUE_MARKS_WAITED / 4;
}

bool
queue_mark_any_rows(void)
{
	QueueMarkPlace *place = queue_mark_place(false);

	return place != NULL && pg_atomic_read_u32(&place->rows) != 0;
}

bool
queue_mark_take_rows(void)
{
	QueueMarkPlace *place = queue_mark_place(true);

	return place != NULL && pg_atomic_exchange_u32(&place->rows, 0) != 0;
}
