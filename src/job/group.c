/*
 * group.c
 *		FIFO groups.
 *
 * A job of a group is enqueued pending (pending.h), with a row in queue.live_key that is its place: (queue, group_key,
 * position).  The position is the job's id, or a later number of the same sequence if it was retried or moved.  The row
 * goes when the job ends; it is only ever inserted and deleted.
 *
 * A job is let in when it is the first of those that are committed and no other one is in.  Nobody who enqueues or
 * ends a job lets another one in, because two of them would miss each other's uncommitted rows.  Each leaves a mark
 * instead (shared/mark.h), and one process at a time promotes: the scheduler (scheduler/promote.c), or where none is,
 * whoever fetches (queue_group_promote).
 *
 * queue_group_settle is all that promotes.  It takes the group's lock, then a snapshot, and reads forward.  From where?
 * The front of a group is full of dead entries while anybody holds a snapshot, and walking them at each step would be
 * quadratic.  So the scheduler remembers who is in, and that no place before him is taken; what is enqueued with a
 * lower position afterwards brings a mark.  This memory is only a hint: the row of the job that it names tells whether
 * it is in.  Of a group that it does not know, all places are read until one that is in is found.
 *
 * A job with a lower position than the one that is in may come to light by a late commit.  It waits, and its mark is
 * parked until the group's next one.
 *
 * A discarded job whose queue says so holds its group: its place stays, marked, and the kept row lies outside of the
 * ring.
 *
 * Locks: RowExclusiveLock on live_key and group_mark; the lock of a group (an advisory lock of our own space, to the
 * end of the transaction, never waited for); then row locks, never waited for by who promotes.
 */
#include "job/group.h"

#include "job/pending.h"
#include "job/place.h"
#include "job/rows.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"

#define RANGE_ROWS 2000			/* of a range looked at in one transaction */
#define MAX_REMEMBERED 1000000
#define BATCH 100				/* groups that a fetch settles at most */
#define HEAD_LOOKS 1000			/* places that explain_job looks at */

/* The columns of group_mark.  Later versions only append. */
enum
{
	MARK_POSITION = 1, MARK_ENDED, MARK_DOUBTED, MARK_QUEUE, MARK_GROUP_KEY, NMARK = MARK_GROUP_KEY
};

/* What the scheduler knows of a group. */
typedef struct Memory
{
	uint64		hash;			/* of its names; the job's row tells whether it is this one */
	int64		job_id;			/* who was in */
	int64		from;			/* no place before this was taken */
	bool		held;			/* nobody is in: a discarded job holds it */
} Memory;

static HTAB *memory = NULL;
static bool memory_complete = false;	/* every group in which somebody is stands there */

static bool is_in(const QueueJob *job);

/* ---------------------------------------------------------------- jobs come and go */

/* A mark becomes a row. */
static void
insert_mark(QueueInserter *inserter, const QueueMark *mark)
{
	Datum values[NMARK] = {[MARK_POSITION - 1] = Int64GetDatum(mark->position),
						   [MARK_ENDED - 1] = BoolGetDatum(mark->ended),
						   [MARK_DOUBTED - 1] = BoolGetDatum(mark->doubted),
						   [MARK_QUEUE - 1] = CStringGetTextDatum(mark->queue),
						   [MARK_GROUP_KEY - 1] = CStringGetTextDatum(mark->key)};

	queue_inserter_put(inserter, values, NMARK);
}

/* A group's mark, told at the commit of this transaction: a job came, or (job_id 0) one ended that was let in. */
static void
note(const char *queue, const char *key, int64 position, int64 job_id)
{
	QueueMark	mark = {.position = position, .came = job_id != 0, .ended = job_id == 0};
	QueueInserter	inserter;

	strlcpy(mark.queue, queue, sizeof(mark.queue));
	strlcpy(mark.key, key, sizeof(mark.key));
	if (queue_mark_note(&mark, job_id) || queue_preloaded())
		return;
	queue_inserter_open(&inserter, queue_config()->group_mark);
	insert_mark(&inserter, &mark);
	queue_inserter_close(&inserter);
}

void
queue_group_join(QueueJob *job, QueueExtra *extra, const char *key)
{
	extra->group_key = pstrdup(key);
	queue_job_hold(job, extra, QUEUE_BLOCK_GROUP);
}

void
queue_group_rejoin(QueueJob *job, QueueExtra *extra)
{
	if (extra->group_key == NULL)
		return;
	if (!extra->holds_group)
		extra->position = nextval_internal(queue_config()->job_id_seq, false);
	extra->holds_group = false;
	queue_job_hold(job, extra, QUEUE_BLOCK_GROUP);
}

void
queue_group_insert(const QueueJob *jobs, int n)
{
	QueueInserter	inserter;
	bool		open = false;
	MemoryContext per_job = NULL;
	MemoryContext old = CurrentMemoryContext;

	for (int i = 0; i < n; i++)
	{
		const QueueJob *job = &jobs[i];
		const char *queue;
		int64		position;
		char	   *key;

		if (!queue_extra_has_group(job->extra))
			continue;
		if (!open)
		{
			queue_inserter_open(&inserter, queue_config()->live_key);
			per_job = AllocSetContextCreate(old, "queue places", ALLOCSET_SMALL_SIZES);
			open = true;
		}
		MemoryContextSwitchTo(per_job);
		key = queue_extra_group(job->extra, job->id, &position);
		queue = queue_job_line(job->line)->queue->name;
		queue_place_insert(&inserter, &(QueuePlace) {job->id, position}, queue, key);
		note(queue, key, position, job->id);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_job);
	}
	if (!open)
		return;
	queue_inserter_close(&inserter);
	MemoryContextDelete(per_job);
}

/* A job ended whose extra cannot be read: if it has a place, that is given up, and the group goes on. */
static void
ended_unread(QueueJobTable *jobs, int64 job_id)
{
	QueuePlace	place;
	char	   *queue;
	char	   *key;

	if (!queue_place_find(queue_places_of(jobs), job_id, &place, &queue, &key))
		return;
	queue_place_delete(queue_places_of(jobs), queue, key, job_id, place.position);
	note(queue, key, place.position, 0);
}

bool
queue_group_ended(QueueJobTable *jobs, QueueJob *job, const QueueLine *line, QueueState to)
{
	const char *queue = line->queue->name;
	bool		holds = to == QUEUE_STATE_DISCARDED && line->queue->holds_group;
	int64		position;
	char	   *key;

	if (!queue_extra_has_group(job->extra))
	{
		if (job->extra == NULL && job->stored_extra != NULL)
			ended_unread(jobs, job->id);
		return false;
	}
	key = queue_extra_group(job->extra, job->id, &position);
	queue_place_delete(queue_places_of(jobs), queue, key, job->id, position);
	if (holds)
	{
		QueueInserter	inserter;
		QueueExtra	extra;

		queue_inserter_open(&inserter, queue_config()->live_key);
		queue_place_insert(&inserter, &(QueuePlace) {job->id, position, true}, queue, key);
		queue_inserter_close(&inserter);
		queue_extra_unpack(job->extra, &extra);
		extra.holds_group = true;
		job->extra = queue_extra_pack(&extra);
	}
	else if (is_in(job))
		note(queue, key, position, 0);	/* one that waited kept nobody from anything */
	return holds;
}

void
queue_group_let_go(const char *queue, const QueueJob *job)
{
	QueueGroupPlaces places;
	QueueExtra	extra;
	int64		position;

	if (!queue_extra_has_group(job->extra))
		return;
	queue_extra_unpack(job->extra, &extra);
	if (!extra.holds_group)
		return;
	position = extra.position != 0 ? extra.position : job->id;
	queue_places_open(&places, RowExclusiveLock);
	queue_place_delete(&places, queue, extra.group_key, job->id, position);
	queue_places_close(&places);
	note(queue, extra.group_key, position, 0);
}

void
queue_group_move(QueueJob *job, QueueExtra *extra, const char *from, const char *to)
{
	int64		position = extra->position != 0 ? extra->position : job->id;
	QueueGroupPlaces places;
	QueueInserter	inserter;

	if (extra->group_key == NULL || strcmp(from, to) == 0)
		return;
	queue_places_open(&places, RowExclusiveLock);
	queue_place_delete(&places, from, extra->group_key, job->id, position);
	queue_places_close(&places);
	if (is_in(job))
		note(from, extra->group_key, position, 0);
	extra->position = nextval_internal(queue_config()->job_id_seq, false);
	queue_job_hold(job, extra, QUEUE_BLOCK_GROUP);
	queue_inserter_open(&inserter, queue_config()->live_key);
	queue_place_insert(&inserter, &(QueuePlace) {job->id, extra->position}, to, extra->group_key);
	queue_inserter_close(&inserter);
	note(to, extra->group_key, extra->position, job->id);
}

int64
queue_group_head(QueueJobTable *jobs, const char *queue, const char *key, Snapshot snapshot, bool *held)
{
	QueueGroupPlaces places;
	QueuePlace	place;
	int64		head = 0;

	*held = false;
	queue_places_open(&places, AccessShareLock);
	queue_places_scan(&places, queue, key, PG_INT64_MIN, snapshot);
	for (int i = 0; i < HEAD_LOOKS && queue_places_next(&places, &place); i++)
	{
		QueueJob	job;

		*held = place.held;
		if (head == 0)
			head = place.job_id;
		if (place.held || (queue_job_find_lean(jobs, place.job_id, snapshot, &job) && is_in(&job)))
		{
			head = place.job_id;
			break;
		}
	}
	queue_places_close(&places);
	return head;
}

/* ---------------------------------------------------------------- what the scheduler remembers */

static uint64
hash_of(const QueueMark *mark)
{
	return hash_combine64(queue_name_hash(mark->queue), queue_name_hash(mark->key));
}

void
queue_group_remember(bool all)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(Memory), .hcxt = TopMemoryContext};

	memory_complete = all;
	if (all && memory != NULL)
		return;
	if (memory != NULL)
		hash_destroy(memory);
	memory = NULL;				/* until there is another one */
	memory = hash_create("queue groups", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Memory *
remembered(uint64 hash)
{
	return memory == NULL ? NULL : hash_search(memory, &hash, HASH_FIND, NULL);
}

/* job_id: who is in; 0: nobody, so that the group need not be known. */
static void
remember(uint64 hash, int64 job_id, int64 from, bool held)
{
	Memory	   *entry;
	bool		found;

	if (memory == NULL)
		return;
	if (job_id == 0)
	{
		(void) hash_search(memory, &hash, HASH_REMOVE, NULL);
		return;
	}
	if (hash_get_num_entries(memory) >= MAX_REMEMBERED)
		queue_group_remember(false);
	entry = hash_search(memory, &hash, HASH_ENTER, &found);
	entry->job_id = job_id;
	entry->from = from;
	entry->held = held;
}

/* ---------------------------------------------------------------- promotion */

static LOCKTAG
lock_of(const QueueMark *mark)
{
	uint64		hash = hash_of(mark);
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, QUEUE_GROUP_LOCK_SPACE);
	return tag;
}

/* Is this job of the group let in, whatever else may block it? */
static bool
is_in(const QueueJob *job)
{
	if (!queue_job_pending(job))
		return true;
	/* one that cannot be read is let in, and says so */
	return job->extra != NULL && (queue_extra_blocks(job->extra) & QUEUE_BLOCK_GROUP) == 0;
}

/* Is the job that the scheduler remembers there, of this group, and in? */
static bool
still_in(QueueJobTable *jobs, const QueueMark *mark, int64 job_id, bool *of_group)
{
	QueueJob	job;
	QueueExtra	extra;

	*of_group = true;
	if (!queue_job_find_lean(jobs, job_id, GetActiveSnapshot(), &job))
		return false;
	queue_extra_unpack(job.extra, &extra);
	*of_group = job.extra == NULL || (extra.group_key != NULL && strcmp(extra.group_key, mark->key) == 0 &&
									  strcmp(queue_job_line(job.line)->queue->name, mark->queue) == 0);
	return *of_group && is_in(&job);
}

/*
 * Reads the group's places from `from` on, under the active snapshot.  Returns the first job's place in *first
 * (job_id 0: there is none) with its row in *job if it waits to be let in; *in: who is in or holds the group (*held),
 * if such a one was seen (0: no); *more: it is not alone.  all: beyond the first one too, until one that is in.  read:
 * a job as somebody has read it, maybe a version that is not the last one; NULL: none.
 */
static void
look(QueueJobTable *jobs, const QueueMark *mark, int64 from, bool all, const QueueJob *read, QueuePlace *first,
	 QueueJob *job, int64 *in, bool *held, bool *more)
{
	QueueGroupPlaces *places = queue_places_of(jobs);
	QueuePlace	place;
	int			seen = 0;

	*first = (QueuePlace) {0};
	*in = 0;
	*held = false;
	queue_places_scan(places, mark->queue, mark->key, from, GetActiveSnapshot());
	while (*in == 0 && (first->job_id == 0 || all) && queue_places_next(places, &place))
	{
		QueueJob	other;
		bool		waits = false;

		CHECK_FOR_INTERRUPTS();
		if (read != NULL && place.job_id == read->id && !place.held)
			other = *read;
		else if (!place.held && !queue_job_find_lean(jobs, place.job_id, GetActiveSnapshot(), &other))
			continue;
		seen++;
		waits = !place.held && !is_in(&other);
		if (!waits)
		{
			*in = place.job_id;
			*held = place.held;
		}
		if (first->job_id == 0)
		{
			*first = place;
			if (waits)
				*job = other;
		}
	}
	*more = seen > 1 || (seen == 1 && queue_places_next(places, &place));
	queue_places_end(places);
}

bool
queue_group_lock(const QueueMark *mark)
{
	LOCKTAG		tag = lock_of(mark);

	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * From which place on to read: what lies before it is dead, and while a snapshot is held there is ever more of that.
 * It is enough to begin where the head was that ended, unless a mark tells of a lower place.
 */
static int64
read_from(const QueueMark *mark, const Memory *known)
{
	if (known != NULL)
		return Min(known->from, mark->position);
	if (mark->front || (mark->ended && !queue_mark_before(mark->queue, mark->key, mark->position)))
		return mark->position;
	return PG_INT64_MIN;
}

/*
 * The group's lock is held.  own: the mark is this transaction's, so nobody else can have let another job in since the
 * one ended that it tells of.
 */
static QueueSettled
settle_locked(QueueJobTable *jobs, const QueueMark *told, bool own, const QueueJob *read)
{
	QueueMark	refreshed = *told;
	const QueueMark *mark = &refreshed;
	uint64		hash = hash_of(mark);
	Memory	   *known = remembered(hash);
	QueueSettled settled = QUEUE_GROUP_SETTLED;
	bool		all;
	bool		held;
	bool		more;
	QueuePlace	first;
	QueueJob	job;
	int64		from;
	int64		in;

	queue_mark_refresh(&refreshed);
	if (own)
	{
		refreshed.ended = told->ended;
		refreshed.doubted = told->doubted;
	}
	from = read_from(mark, known);
	all = mark->doubted || (known != NULL ? known->held : !mark->ended && !memory_complete);
	look(jobs, mark, from, all, read, &first, &job, &in, &held, &more);
	if (in == 0 && first.job_id != 0 && known != NULL && !all)
	{
		bool		of_group;

		if (still_in(jobs, mark, known->job_id, &of_group))
			in = known->job_id;
		else if (!of_group)
			/* that is another group, of the same hash */
			look(jobs, mark, PG_INT64_MIN, true, read, &first, &job, &in, &held, &more);
	}
	if (in == 0 && first.job_id != 0)
	{
		if (queue_job_promote(jobs, &job, QUEUE_BLOCK_GROUP, GetActiveSnapshot(), false) != TM_Ok)
			return QUEUE_GROUP_BUSY;
		settled = QUEUE_GROUP_PROMOTED;
		in = first.job_id;
	}
	/* who waits has a mark here: for a lower place than that of the one that is in, or just for its end */
	if (more)
		queue_mark_park(mark->queue, mark->key, in != first.job_id ? first.position : PG_INT64_MAX);
	remember(hash, in, first.position, held);
	return settled;
}

QueueSettled
queue_group_settle_locked(QueueJobTable *jobs, const QueueMark *mark, const QueueJob *read)
{
	return settle_locked(jobs, mark, false, read);
}

bool
queue_group_waits(QueueJobTable *jobs, const QueueMark *mark)
{
	QueuePlace	first;
	QueueJob	job;
	bool		held;
	bool		more;
	int64		in;

	PushActiveSnapshot(GetLatestSnapshot());
	look(jobs, mark, mark->position, false, NULL, &first, &job, &in, &held, &more);
	PopActiveSnapshot();
	return in == 0 && first.job_id != 0;
}

static QueueSettled
lock_and_settle(QueueJobTable *jobs, const QueueMark *mark, bool own)
{
	QueueSettled settled;

	if (!queue_group_lock(mark))
		return QUEUE_GROUP_BUSY;
	PushActiveSnapshot(GetLatestSnapshot());
	settled = settle_locked(jobs, mark, own, NULL);
	PopActiveSnapshot();
	if (settled == QUEUE_GROUP_PROMOTED)
		CommandCounterIncrement();
	return settled;
}

QueueSettled
queue_group_settle(QueueJobTable *jobs, const QueueMark *mark)
{
	return lock_and_settle(jobs, mark, false);
}

bool
queue_group_has_next(QueueJobTable *jobs)
{
	return jobs->places != NULL && queue_place_follower(jobs->places) != NULL;
}

bool
queue_group_next(QueueJobTable *jobs, const char *queue, const char *key, QueueJob *job)
{
	const QueuePlace *follower = queue_group_has_next(jobs) ? queue_place_follower(jobs->places) : NULL;

	/* a lower place that is committed brings a mark, which stays until it is settled */
	return follower != NULL && !queue_mark_before(queue, key, follower->position) &&
		queue_job_find(jobs, follower->job_id, GetActiveSnapshot(), job);
}

bool
queue_group_resume(QueueJobTable *jobs, const QueueMark *mark, QueueJob *job)
{
	queue_places_resume(queue_places_of(jobs), mark->queue, mark->key, mark->position);
	return queue_group_next(jobs, mark->queue, mark->key, job);
}

void
queue_group_unlock(const QueueMark *mark)
{
	LOCKTAG		tag = lock_of(mark);

	(void) LockRelease(&tag, ExclusiveLock, false);
}

/* Is the job's group among the first n of these marks? */
static bool
has_group(const QueueMark *marks, int n, const char *queue, const char *key)
{
	for (int i = n - 1; i >= 0; i--)
	{
		if (strcmp(marks[i].key, key) == 0 && strcmp(marks[i].queue, queue) == 0)
			return true;
	}
	return false;
}

int
queue_group_range(QueueJobTable *jobs, int64 *low, int64 high, bool (*known) (const char *queue, const char *key),
				  QueueMark *marks, QueueJob *read, int max)
{
	TupleTableSlot *slot = table_slot_create(jobs->rel, NULL);
	ScanKeyData keys[2];
	IndexScanDesc scan;
	int			rows = 0;
	int			n = 0;

	PushActiveSnapshot(GetLatestSnapshot());
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(*low));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(high));
	scan = queue_index_beginscan(jobs->rel, queue_job_pkey(jobs), GetActiveSnapshot(), 2);
	index_rescan(scan, keys, 2, NULL, 0);
	*low = high + 1;
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		QueueJob   *job = &read[n];
		QueueLine  *line;
		char	   *key;
		int64		position;

		CHECK_FOR_INTERRUPTS();
		queue_job_read(slot, job, false);
		if (n == max || rows++ == RANGE_ROWS)
		{
			*low = job->id;
			break;
		}
		if (!queue_job_pending(job) || (line = queue_config_line(job->line)) == NULL)
			continue;
		queue_job_read_lean(slot, job);
		if (is_in(job) || !queue_extra_has_group(job->extra))
			continue;
		key = queue_extra_group(job->extra, job->id, &position);
		if (has_group(marks, n, line->queue->name, key) || known(line->queue->name, key))
			continue;
		marks[n] = (QueueMark) {.position = position, .came = true};
		strlcpy(marks[n].queue, line->queue->name, sizeof(marks[n].queue));
		strlcpy(marks[n].key, key, sizeof(marks[n].key));
		n++;
	}
	index_endscan(scan);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	return n;
}

int
queue_group_all(const QueueMark *after, QueueMark *marks, int max)
{
	QueueGroupFront *fronts = palloc(max * sizeof(QueueGroupFront));
	int			n;

	PushActiveSnapshot(GetLatestSnapshot());
	n = queue_places_groups(after->queue, after->key, fronts, max, GetActiveSnapshot());
	PopActiveSnapshot();
	for (int i = 0; i < n; i++)
	{
		marks[i] = (QueueMark) {.position = fronts[i].position, .front = true};
		strlcpy(marks[i].queue, fronts[i].queue, sizeof(marks[i].queue));
		strlcpy(marks[i].key, fronts[i].key, sizeof(marks[i].key));
	}
	pfree(fronts);
	return n;
}

/* ---------------------------------------------------------------- marks as rows */

/* For queue_rows_eat. */
static bool
eat(TupleTableSlot *row, void *jobs)
{
	Datum	   *values = row->tts_values;
	QueueMark	mark = {.position = DatumGetInt64(values[MARK_POSITION - 1]),
						.ended = DatumGetBool(values[MARK_ENDED - 1]),
						.doubted = DatumGetBool(values[MARK_DOUBTED - 1])};

	strlcpy(mark.queue, TextDatumGetCString(values[MARK_QUEUE - 1]), sizeof(mark.queue));
	strlcpy(mark.key, TextDatumGetCString(values[MARK_GROUP_KEY - 1]), sizeof(mark.key));
	if (mark.queue[0] != '\0')
		return queue_group_settle(jobs, &mark) != QUEUE_GROUP_BUSY;
	queue_mark_lose(MyDatabaseId);
	return true;
}

bool
queue_group_eat_rows(QueueJobTable *jobs, int max)
{
	return queue_rows_eat(queue_config()->group_mark, eat, jobs, max);
}

/*
 * What this transaction noted becomes rows: before PREPARE TRANSACTION, because no callback of ours runs at its COMMIT,
 * and where there is no shared memory.
 */
static void
flush(XactEvent event, void *arg)
{
	QueueInserter	inserter;
	QueueMark  *marks;
	bool		overflow;
	int			n;

	if (event != XACT_EVENT_PRE_PREPARE && (event != XACT_EVENT_PRE_COMMIT || queue_preloaded()))
		return;
	marks = queue_mark_noted(&n, &overflow);
	overflow = overflow && queue_preloaded();
	if (n == 0 && !overflow)
		return;
	queue_mark_forget_noted();
	if (!OidIsValid(get_extension_oid("queue", true)))
		return;					/* this transaction dropped it */
	PushActiveSnapshot(GetTransactionSnapshot());
	queue_inserter_open(&inserter, queue_config()->group_mark);
	for (int i = 0; i < n; i++)
		insert_mark(&inserter, &marks[i]);
	if (overflow)
		insert_mark(&inserter, &(QueueMark) {0});	/* of all groups */
	queue_inserter_close(&inserter);
	PopActiveSnapshot();
}

void
queue_group_register_callback(void)
{
	RegisterXactCallback(flush, NULL);
}

/* ---------------------------------------------------------------- where no scheduler is */

bool
queue_group_unattended(void)
{
	QueueDatabase *base = queue_database();

	return base == NULL || pg_atomic_read_u32(&base->scheduler_procno) == PG_UINT32_MAX;
}

void
queue_group_promote(QueueJobTable *jobs)
{
	QueueMark	taken[BATCH];
	int			n;

	if (IsolationUsesXactSnapshot())
		return;
	(void) queue_group_eat_rows(jobs, BATCH);
	n = queue_mark_take(taken, BATCH);
	for (int i = 0; i < n; i++)
	{
		if (queue_group_settle(jobs, &taken[i]) != QUEUE_GROUP_BUSY)
			continue;
		taken[i].doubted = true;
		(void) queue_mark_note(&taken[i], 0);	/* for who comes after this transaction */
	}
}

void
queue_group_promote_own(QueueJobTable *jobs)
{
	QueueMark  *marks;
	bool		overflow;
	int			n;

	if (!queue_mark_any_noted() || IsolationUsesXactSnapshot())
		return;
	marks = queue_mark_noted(&n, &overflow);
	for (int i = 0; i < n && i < BATCH; i++)
	{
		if (lock_and_settle(jobs, &marks[i], true) != QUEUE_GROUP_BUSY)
			queue_mark_settled(&marks[i]);
	}
	pfree(marks);
}

/* Is the job there, and not pending, as of now?  Called by who just tried to let it in. */
bool
queue_group_is_in(QueueJobTable *jobs, int64 id)
{
	QueueJob	job;
	bool		is;

	PushActiveSnapshot(GetLatestSnapshot());
	is = queue_job_peek(jobs, id, GetActiveSnapshot(), &job) && !queue_job_pending(&job);
	PopActiveSnapshot();
	return is;
}

bool
queue_group_let_in(QueueJobTable *jobs, const QueueJob *job)
{
	QueueMark	mark = {.doubted = true};

	if (IsolationUsesXactSnapshot() || !queue_extra_has_group(job->extra))
		return false;
	strlcpy(mark.key, queue_extra_group(job->extra, job->id, &mark.position), sizeof(mark.key));
	strlcpy(mark.queue, queue_job_line(job->line)->queue->name, sizeof(mark.queue));
	if (queue_group_settle(jobs, &mark) == QUEUE_GROUP_PROMOTED)
		(void) queue_mark_note(&mark, 0);	/* who promotes does not know of it */
	return queue_group_is_in(jobs, job->id);
}
