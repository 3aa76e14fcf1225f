/*
 * search.c
 *		The search for the jobs that a filter names.
 *
 * A search gives ids in order, at most so many.  It first reads on by id, which finds the first page of whatever is
 * frequent after a few rows.  When that meets too much else there is another way: live jobs line by line (only the part
 * of the ready index where such states can be), finished ones group by group of one line and state, where the lowest
 * ids are kept in a heap.  Of finished jobs the search then goes on that way; of live jobs it reads both ways in turns,
 * so that it costs at most twice what the better one costs.  Neither a rare kind among millions nor a frequent one is a
 * long walk; only what is rare in a long line (running jobs among millions that wait) is, which is why those are read
 * by block.  Keys that are named with their queue (and kind), of one job or of a group, say themselves whose they are.
 *
 * Locks: AccessShareLock on live_job (the caller's) and, until the end of the transaction, on partitions of
 * finished_job, on unique_key and live_key.
 */
#include "api/search.h"

#include "config/lines.h"
#include "job/key.h"
#include "job/place.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define FIRST_ROWS 2000			/* rows, or rows in vain, of a reading by id before the other way is tried */
#define HEAP_IDS 100000			/* more than that are all collected and then cut */

static int
by_id(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* For a heap whose first element is the worst: the highest id of a search upwards. */
static int
compare_ids(Datum a, Datum b, void *arg)
{
	int64		left = DatumGetInt64(a);
	int64		right = DatumGetInt64(b);
	int			cmp = left < right ? -1 : left > right;

	return ((QueueSearch *) arg)->down ? -cmp : cmp;
}

static bool
better(const QueueSearch *search, int64 id, int64 than)
{
	return search->down ? id > than : id < than;
}

static void
add(QueueSearch *search, int64 id)
{
	if (search->heap == NULL)
	{
		if (search->nfound == search->maxfound)
		{
			search->maxfound = Max(1024, 2 * search->maxfound);
			search->found = search->found == NULL ?
				MemoryContextAllocHuge(search->context, search->maxfound * sizeof(int64)) :
				repalloc_huge(search->found, search->maxfound * sizeof(int64));
		}
		search->found[search->nfound++] = id;
	}
	else if (search->nfound < search->limit)
	{
		search->nfound++;
		binaryheap_add(search->heap, Int64GetDatum(id));
	}
	else if (better(search, id, DatumGetInt64(binaryheap_first(search->heap))))
		binaryheap_replace_first(search->heap, Int64GetDatum(id));
}

/* No id from this one on can be among the results any more. */
static bool
is_beyond(const QueueSearch *search, int64 id)
{
	return search->heap != NULL && search->nfound == search->limit &&
		!better(search, id, DatumGetInt64(binaryheap_first(search->heap)));
}

/* The bounds as scan keys on column `attno`. */
static int
bound_keys(const QueueSearch *search, AttrNumber attno, ScanKeyData *keys)
{
	int			n = 0;

	if (search->above > PG_INT64_MIN)
		ScanKeyInit(&keys[n++], attno, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(search->above));
	if (search->below < PG_INT64_MAX)
		ScanKeyInit(&keys[n++], attno, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(search->below));
	return n;
}

/* One row of live_job in a scan's slot; adds its id if it matches. */
static bool
visit_live(QueueSearch *search, TupleTableSlot *slot, int64 *id)
{
	QueueJob	job;
	bool		match;
	MemoryContext old;

	queue_job_read(slot, &job, false);
	*id = job.id;
	if (job.id <= search->above || job.id >= search->below || !queue_search_line(search, job.line) ||
		(search->states & (1 << queue_search_state(search, &job, false))) == 0)
		return false;
	match = true;
	if (search->deep)
	{
		old = MemoryContextSwitchTo(search->row);
		queue_job_read(slot, &job, true);
		match = queue_search_deep(search, &job, NULL);
		MemoryContextSwitchTo(old);
		MemoryContextReset(search->row);
	}
	if (match && !is_beyond(search, job.id))
		add(search, job.id);
	return match;
}

/* Which rows of a line can be of the states asked for: those due later than now, those due by now, or all. */
static int
run_at_key(const QueueSearch *search, ScanKeyData *key)
{
	int			states = search->states & QUEUE_STATES_LIVE;

	if ((states & ~(1 << QUEUE_STATE_AVAILABLE)) == 0)
		ScanKeyInit(key, 2, BTLessEqualStrategyNumber, F_TIMESTAMP_LE, TimestampTzGetDatum(search->now));
	else if ((states & ((1 << QUEUE_STATE_AVAILABLE) | (1 << QUEUE_STATE_RUNNING))) == 0)
		ScanKeyInit(key, 2, BTGreaterStrategyNumber, F_TIMESTAMP_GT, TimestampTzGetDatum(search->now));
	else
		return 0;
	return 1;
}

/* The ids of the lines that match. */
static int64 *
matching_lines(QueueSearch *search, int *nlines)
{
	int			hold = queue_config_hold();
	QueueConfig *config = queue_config_keep();
	int64	   *lines = palloc(sizeof(int64));

	*nlines = 0;
	for (int i = 0; i < config->nqueues; i++)
	{
		int			n;
		QueueLine **of_queue;

		if (!queue_search_names(&search->queues, config->queues[i]->name) ||
			!queue_search_may(search, config->queues[i]->name))
			continue;
		of_queue = queue_lines_of(config->queues[i], &n);
		lines = repalloc(lines, (*nlines + n + 1) * sizeof(int64));
		for (int j = 0; j < n; j++)
		{
			if (queue_search_names(&search->kinds, of_queue[j]->kind) &&
				queue_search_has(&search->priorities, of_queue[j]->priority))
				lines[(*nlines)++] = of_queue[j]->id;
		}
	}
	queue_config_release(hold);
	return lines;
}

/* A reading of live_job that can be interrupted, with results of its own. */
typedef struct Reading
{
	QueueSearch search;			/* a copy of the caller's */
	QueueJobTable *table;
	Snapshot	snapshot;
	TupleTableSlot *slot;
	IndexScanDesc scan;			/* NULL: none is open */
	TableScanDesc blocks;		/* by block: all of it, in no order, but the fastest way to look at every row */
	bool		by_line;		/* line by line, in no order of ids; else by id or by block */
	int64	   *lines;
	int			nlines;
	int			next;			/* line, or 1 when the reading by id has begun */
} Reading;

static Reading *
begin_reading(const QueueSearch *search, QueueJobTable *table, Snapshot snapshot, bool by_line)
{
	Reading    *reading = palloc0(sizeof(Reading));

	reading->search = *search;
	if (search->heap != NULL)
	{
		reading->search.heap = binaryheap_allocate((int) search->limit, compare_ids, &reading->search);
		for (int64 i = 0; i < search->nfound; i++)
			binaryheap_add(reading->search.heap, search->heap->bh_nodes[i]);
	}
	else if (search->nfound > 0)
	{
		reading->search.found = MemoryContextAllocHuge(search->context, search->maxfound * sizeof(int64));
		memcpy(reading->search.found, search->found, search->nfound * sizeof(int64));
	}
	reading->table = table;
	reading->snapshot = snapshot;
	reading->slot = table_slot_create(table->rel, NULL);
	reading->by_line = by_line;
	if (by_line)
		reading->lines = matching_lines(&reading->search, &reading->nlines);
	else if ((search->states & QUEUE_STATES_LIVE) == 1 << QUEUE_STATE_RUNNING)
		reading->blocks = table_beginscan(table->rel, snapshot, 0, NULL);	/* few: no page of them is full early */
	return reading;
}

/* Opens the next scan; false: there is none. */
static bool
next_scan(Reading *reading)
{
	Relation	index;
	ScanKeyData keys[2];
	int			nkeys;

	if (reading->scan != NULL)
		index_endscan(reading->scan);
	reading->scan = NULL;
	if (reading->next >= (reading->by_line ? reading->nlines : 1))
		return false;
	if (reading->by_line)
	{
		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(reading->lines[reading->next]));
		nkeys = 1 + run_at_key(&reading->search, &keys[1]);
	}
	else
		nkeys = bound_keys(&reading->search, 1, keys);
	reading->next++;
	index = reading->by_line ? queue_job_ready(reading->table) : queue_job_pkey(reading->table);
	reading->scan = queue_index_beginscan(reading->table->rel, index, reading->snapshot, nkeys);
	index_rescan(reading->scan, keys, nkeys, NULL, 0);
	return true;
}

/* Reads on for so many rows; true: it has found everything. */
static bool
read_on(Reading *reading, int64 rows)
{
	ScanDirection direction = reading->search.down && !reading->by_line ? BackwardScanDirection : ForwardScanDirection;

	while (rows > 0)
	{
		int64		id;

		CHECK_FOR_INTERRUPTS();
		if (reading->blocks != NULL)
		{
			if (!table_scan_getnextslot(reading->blocks, ForwardScanDirection, reading->slot))
				return true;
			rows--;
			(void) visit_live(&reading->search, reading->slot, &id);
			continue;
		}
		if (reading->scan == NULL || !index_getnext_slot(reading->scan, direction, reading->slot))
		{
			if (!next_scan(reading))
				return true;
			continue;
		}
		rows--;
		(void) visit_live(&reading->search, reading->slot, &id);
		if (!reading->by_line && is_beyond(&reading->search, id))
			return true;
	}
	return false;
}

static void
end_reading(Reading *reading)
{
	if (reading->scan != NULL)
		index_endscan(reading->scan);
	if (reading->blocks != NULL)
		table_endscan(reading->blocks);
	ExecDropSingleTupleTableSlot(reading->slot);
}

/* Reads by id and line by line in turns, each time twice as far, until one of the two has found everything. */
static void
search_live(QueueSearch *search, QueueJobTable *table, Snapshot snapshot)
{
	ScanKeyData key;
	bool		narrow = search->queues.given || search->kinds.given || search->priorities.given ||
		run_at_key(search, &key) > 0 || !queue_may(GetUserId(), NULL, search->privilege);
	Reading    *by_id_reading = begin_reading(search, table, snapshot, false);
	Reading    *by_line = NULL;
	Reading    *done = NULL;

	for (int64 rows = FIRST_ROWS; done == NULL; rows *= 2)
	{
		if (read_on(by_id_reading, rows))
			done = by_id_reading;
		else if (narrow)
		{
			if (by_line == NULL)
				by_line = begin_reading(search, table, snapshot, true);
			/* a row by its index costs several by block */
			if (read_on(by_line, by_id_reading->blocks != NULL ? rows / 4 : rows))
				done = by_line;
		}
	}
	end_reading(by_id_reading);
	if (by_line != NULL)
		end_reading(by_line);
	*search = done->search;
}

/* One row of a partition in a scan's slot; adds its id if it matches. */
static bool
visit_finished(QueueSearch *search, TupleTableSlot *slot, int partition, int64 *id)
{
	MemoryContext old = MemoryContextSwitchTo(search->row);
	QueueFinished finished;
	bool		match;

	queue_finished_read(slot, partition, search->deep, &finished);
	*id = finished.job.id;
	match = queue_search_finished(search, &finished);
	MemoryContextSwitchTo(old);
	MemoryContextReset(search->row);
	if (match && !is_beyond(search, *id))
		add(search, *id);
	return match;
}

/* As read_live_by_id, of one partition; *last is then where to go on.  all: there is no other way. */
static bool
read_finished_by_id(QueueSearch *search, Relation rel, Relation index, int partition, Snapshot snapshot, bool all,
					int64 *last)
{
	ScanKeyData keys[2];
	int			nkeys = bound_keys(search, 1, keys);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = queue_index_beginscan(rel, index, snapshot, nkeys);
	int			vain = 0;
	bool		done = true;

	index_rescan(scan, keys, nkeys, NULL, 0);
	while (done && index_getnext_slot(scan, search->down ? BackwardScanDirection : ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (!visit_finished(search, slot, partition, last))
			vain++;
		if (is_beyond(search, *last))
			break;
		done = all || vain < FIRST_ROWS;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return done;
}

/* The ids of one group, in order. */
static void
read_group(QueueSearch *search, Relation rel, Relation index, int partition, Snapshot snapshot, int64 what,
		   TupleTableSlot *slot)
{
	ScanKeyData keys[3];
	int			nkeys = 1;
	IndexScanDesc scan;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(what));
	nkeys += bound_keys(search, 2, &keys[1]);
	scan = queue_index_beginscan(rel, index, snapshot, nkeys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	while (index_getnext_slot(scan, search->down ? BackwardScanDirection : ForwardScanDirection, slot))
	{
		int64		id;

		CHECK_FOR_INTERRUPTS();
		(void) visit_finished(search, slot, partition, &id);
		if (is_beyond(search, id))
			break;
	}
	index_endscan(scan);
}

/* Goes from group to group of one line and state, and reads those that match. */
static void
read_finished_by_group(QueueSearch *search, Relation rel, Relation index, int partition, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64		what = PG_INT64_MIN;

	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(search->row);
		ScanKeyData key;
		IndexScanDesc scan;
		QueueFinished finished;
		bool		found;
		bool		match = false;

		/* the first row behind the last group */
		ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(what));
		scan = queue_index_beginscan(rel, index, snapshot, 1);
		index_rescan(scan, &key, 1, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, slot);
		if (found)
		{
			queue_finished_read(slot, partition, false, &finished);
			match = (search->states & (1 << finished.state)) != 0 &&
				queue_search_names(&search->queues, finished.queue) &&
				queue_search_names(&search->kinds, finished.kind) && queue_search_may(search, finished.queue);
		}
		index_endscan(scan);
		MemoryContextSwitchTo(old);
		MemoryContextReset(search->row);
		if (!found)
			break;
		CHECK_FOR_INTERRUPTS();
		what = finished.what;
		if (match)
			read_group(search, rel, index, partition, snapshot, what, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
}

static void
search_finished(QueueSearch *search, Snapshot snapshot)
{
	/* in the last tables there is no group but that of what completed, and no index of groups */
	bool		last_too = (search->states & (1 << QUEUE_STATE_COMPLETED)) != 0;

	for (int i = 0; i < (last_too ? QUEUE_KEPT_SLOTS : QUEUE_RING_SLOTS); i++)
	{
		QueueConfig *config = queue_config();
		bool		grouped = i < QUEUE_RING_SLOTS;
		Relation	rel = queue_finished_open(i, AccessShareLock);
		Relation	by_id_index = index_open(config->finished_job_id[i], AccessShareLock);
		Relation	by_what = grouped ? index_open(config->finished_job_what[i], AccessShareLock) : NULL;
		int64		above = search->above;
		int64		below = search->below;
		int64		before = search->nfound;
		int64		last = 0;

		if (!read_finished_by_id(search, rel, by_id_index, i, snapshot, !grouped, &last))
		{
			*(search->down ? &search->below : &search->above) = last;
			read_finished_by_group(search, rel, by_what, i, snapshot);
			search->above = above;
			search->below = below;
		}
		/* retention truncates only what nobody has locked: keep off what is of no use */
		if (grouped)
			index_close(by_what, search->nfound > before ? NoLock : AccessShareLock);
		index_close(by_id_index, search->nfound > before ? NoLock : AccessShareLock);
		table_close(rel, search->nfound > before ? NoLock : AccessShareLock);
	}
}

/* The ids that the filter names, one by one. */
static void
search_ids(QueueSearch *search, QueueJobTable *table, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "queue search ids", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int i = 0; i < search->ids.n && (search->limit < 0 || search->nfound < search->limit); i++)
	{
		int64		id = search->ids.ids[search->down ? search->ids.n - 1 - i : i];
		QueueJob	job;
		QueueFinished finished;
		QueueState	state;
		QueueLine  *line;

		CHECK_FOR_INTERRUPTS();
		if (id <= search->above || id >= search->below)
			continue;
		if (queue_job_find(table, id, snapshot, &job) ?
			(line = queue_config_line(job.line)) != NULL && queue_search_live(search, &job, line, &state) :
			queue_finished_find(id, snapshot, &finished) && queue_search_finished(search, &finished))
			add(search, id);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Of keys that are named with their queue and kind, the ids of the live jobs that have them. */
static void
find_keys(QueueSearch *search, Snapshot snapshot)
{
	QueueIds   *ids = &search->ids;
	int			allocated = 16;

	ids->given = true;
	ids->n = 0;
	ids->ids = palloc(allocated * sizeof(int64));
	for (int i = 0; i < search->queues.n; i++)
		for (int j = 0; j < search->kinds.n; j++)
			for (int k = 0; k < search->unique_keys.n; k++)
			{
				QueueKeyName name = {search->queues.names[i], search->kinds.names[j], search->unique_keys.names[k]};

				CHECK_FOR_INTERRUPTS();
				if (ids->n + 2 > allocated)
					ids->ids = repalloc_huge(ids->ids, (allocated *= 2) * sizeof(int64));
				ids->n += queue_key_jobs(&name, snapshot, &ids->ids[ids->n]);
			}
	qsort(ids->ids, ids->n, sizeof(int64), by_id);
	ids->n = qunique(ids->ids, ids->n, sizeof(int64), by_id);
}

/* The live jobs of groups that are named with their queue, by their places. */
static void
search_groups(QueueSearch *search, QueueJobTable *table, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "queue search ids", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	QueueGroupPlaces places;
	QueuePlace	place;
	int64		allocated = 64;
	int64	   *ids = MemoryContextAllocHuge(search->context, allocated * sizeof(int64));
	int64		n = 0;

	queue_places_open(&places, AccessShareLock);
	for (int i = 0; i < search->queues.n; i++)
		for (int j = 0; j < search->groups.n; j++)
		{
			queue_places_scan(&places, search->queues.names[i], search->groups.names[j], PG_INT64_MIN, snapshot);
			while (queue_places_next(&places, &place))
			{
				CHECK_FOR_INTERRUPTS();
				if (n == allocated)
					ids = repalloc_huge(ids, (allocated *= 2) * sizeof(int64));
				ids[n++] = place.job_id;
			}
			queue_places_end(&places);
		}
	queue_places_close(&places);
	qsort(ids, n, sizeof(int64), by_id);
	n = qunique(ids, n, sizeof(int64), by_id);	/* a name may be given twice */
	old = MemoryContextSwitchTo(context);
	for (int64 i = 0; i < n; i++)
	{
		int64		id = ids[search->down ? n - 1 - i : i];
		QueueJob	job;
		QueueLine  *line;
		QueueState	state;

		CHECK_FOR_INTERRUPTS();
		if (id <= search->above || id >= search->below)
			continue;
		if (is_beyond(search, id))
			break;
		if (queue_job_find(table, id, snapshot, &job) && (line = queue_config_line(job.line)) != NULL &&
			queue_search_live(search, &job, line, &state))
			add(search, id);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	pfree(ids);
}

int64 *
queue_search_ids(QueueSearch *search, QueueJobTable *table, Snapshot snapshot,
				 int64 above, int64 below, bool down, int64 limit, int64 *n)
{
	search->above = above;
	search->below = below;
	search->down = down;
	search->limit = limit;
	if (!search->ids.given && search->queues.given && search->kinds.given && search->unique_keys.given &&
		(search->states & QUEUE_STATES_FINISHED) == 0)
		find_keys(search, snapshot);
	if (limit >= 0 && limit <= HEAP_IDS && !search->ids.given)
		search->heap = binaryheap_allocate((int) limit, compare_ids, search);
	if (search->ids.given)
		search_ids(search, table, snapshot);
	else
	{
		if ((search->states & QUEUE_STATES_FINISHED) != 0)
			search_finished(search, snapshot);
		if ((search->states & QUEUE_STATES_LIVE) != 0 && search->queues.given && search->groups.given)
			search_groups(search, table, snapshot);
		else if ((search->states & QUEUE_STATES_LIVE) != 0)
			search_live(search, table, snapshot);
	}
	if (search->heap != NULL)
	{
		search->found = palloc(Max(search->nfound, 1) * sizeof(int64));
		for (int64 i = search->nfound - 1; i >= 0; i--)
			search->found[i] = DatumGetInt64(binaryheap_remove_first(search->heap));
	}
	else if (search->nfound > 0)
	{
		qsort(search->found, search->nfound, sizeof(int64), by_id);
		for (int64 i = 0; down && i < search->nfound / 2; i++)
		{
			int64		other = search->found[search->nfound - 1 - i];

			search->found[search->nfound - 1 - i] = search->found[i];
			search->found[i] = other;
		}
	}
	*n = limit >= 0 ? Min(search->nfound, limit) : search->nfound;
	return search->found;
}
