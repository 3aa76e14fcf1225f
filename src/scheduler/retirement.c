/*
 * retirement.c
 *		What nobody uses any more is given up: lines without jobs, places of counters.
 *
 * A line that had no job for queue.debug_line_idle (20 minutes) is retired: enqueuers take or make another of its name,
 * readers go on reading it.  Once that is committed, and every transaction that enqueues at that moment has ended
 * (config/fence.h), no job can come into it any more; so if a snapshot taken then sees none, its row is deleted.
 * Nobody waits for any of it.
 *
 * How long a line had no job is this process's own memory: the last append to its cursor does not change, and at the
 * end of the time its index entries are looked at.  A restore brings the lines before the jobs: after rows of
 * queue.line came in otherwise than through an enqueue, all stay RESTORE times as long, and in a restored or cloned
 * database that was not adopted no line is retired.
 *
 * Then queues that were dropped and kinds without a line lose their places in shared memory.
 *
 * Locks: RowExclusiveLock on queue.line to mark and to delete; AccessShareLock on live_job.
 */
#include "scheduler/retirement.h"

#include "config/fence.h"
#include "config/lines.h"
#include "job/walk.h"
#include "shared/clock.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/memutils.h"

#define PASS_US (10 * USECS_PER_MINUTE)	/* at most between two passes */
#define SLICE_US INT64CONST(10000)
#define POLL_US USECS_PER_SEC
#define RESTORE 72

/* A pass: looks at all lines, marks the idle ones, waits, deletes those that are empty then. */
typedef enum Phase
{
	PHASE_REST,					/* -> LOOK; -> REST in a copy */
	PHASE_LOOK,					/* -> MARKED when all were looked at */
	PHASE_MARKED,				/* -> FENCE; -> REST when no line is retired */
	PHASE_FENCE,				/* -> DELETE; -> REST when it takes too long */
	PHASE_DELETE				/* -> REST when all were looked at */
} Phase;

/* Since when nothing was appended to a line. */
typedef struct Idle
{
	int64		line;
	uint64		activity;
	TimestampTz since;
	uint32		pass;
} Idle;

typedef struct Ids
{
	int64	   *id;
	int			n;
	int			allocated;
} Ids;

static Phase phase = PHASE_REST;
static HTAB *idle = NULL;
static uint32 pass = 0;
static MemoryContext context;	/* of the pass */
static Ids	todo;				/* what the phase works on, from `next` on */
static int	next;
static Ids	found;				/* what it marks or deletes */
static QueueFence fence;
static TimestampTz fence_until;

/* ---------------------------------------------------------------- places of counters */

static QueueConfig *sweep_config;	/* of the sweep under way */
static const char **sweep_kinds;	/* sorted */
static int	sweep_nkinds;

static int
compare_kinds(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Does the configuration know the queue?  For queue_counter_sweep. */
static bool
queue_known(const char *queue)
{
	return queue_config_find(sweep_config, queue) != NULL;
}

/* Has the kind a line?  For queue_counter_sweep. */
static bool
kind_known(const char *kind)
{
	return bsearch(&kind, sweep_kinds, sweep_nkinds, sizeof(char *), compare_kinds) != NULL;
}

/* Gives up places of queues and kinds that are gone. */
static void
sweep(QueueConfig *config, QueueLine **lines, int nlines)
{
	sweep_config = config;
	sweep_nkinds = nlines;
	sweep_kinds = MemoryContextAllocHuge(CurrentMemoryContext, (nlines + 1) * sizeof(char *));
	for (int i = 0; i < nlines; i++)
		sweep_kinds[i] = lines[i]->kind;
	qsort(sweep_kinds, nlines, sizeof(char *), compare_kinds);
	queue_counter_sweep(queue_known, kind_known);
}

/* ---------------------------------------------------------------- lines */

static void
add(Ids *ids, int64 id)
{
	if (ids->n == ids->allocated)
	{
		int			size = Max(64, ids->allocated * 2);

		ids->id = ids->id == NULL ? MemoryContextAlloc(context, size * sizeof(int64)) :
			repalloc_huge(ids->id, size * sizeof(int64));
		ids->allocated = size;
	}
	ids->id[ids->n++] = id;
}

/* Adds the ids that a query gives. */
static void
add_selected(Ids *ids, const char *query)
{
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute(query, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read queue.line");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		add(ids, DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	}
	PopActiveSnapshot();
	SPI_finish();
}

/* Runs a statement with ids as $1 and the time as $2. */
static void
change(const char *statement, const Ids *ids)
{
	Datum	   *datums = palloc((ids->n + 1) * sizeof(Datum));
	Oid			types[2] = {INT8ARRAYOID, TIMESTAMPTZOID};
	Datum		values[2];

	for (int i = 0; i < ids->n; i++)
		datums[i] = Int64GetDatum(ids->id[i]);
	values[0] =
		PointerGetDatum(construct_array(datums, ids->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = TimestampTzGetDatum(queue_now());
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_with_args(statement, 2, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not change queue.line");
	PopActiveSnapshot();
	SPI_finish();
}

/* Is this database a copy that nobody adopted?  Then its jobs may come later than its lines. */
static bool
is_copy(const QueueConfig *config)
{
	for (int i = 0; i < config->nhandlers; i++)
	{
		if (!config->handlers[i]->adopted)
			return true;
	}
	return false;
}

/* Did rows come in otherwise than by our functions?  Then jobs of lines that look unused may still be to come. */
static bool
loaded_lately(void)
{
	return queue_database_lately_loaded(RESTORE * (int64) queue_debug_line_idle * 1000) != 0;
}

/* Begins a pass. */
static TimestampTz
begin_pass(TimestampTz now, int64 interval)
{
	QueueConfig *config = queue_config();
	int			nlines;
	QueueLine **lines = queue_lines_all(&nlines);
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Idle)};

	sweep(config, lines, nlines);
	if (is_copy(config))
		return now + interval;
	if (idle == NULL)
	{
		ctl.hcxt = TopMemoryContext;
		idle = hash_create("queue idle lines", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		context = AllocSetContextCreate(TopMemoryContext, "queue retirement", ALLOCSET_DEFAULT_SIZES);
	}
	MemoryContextReset(context);
	memset(&todo, 0, sizeof(todo));
	memset(&found, 0, sizeof(found));
	next = 0;
	pass++;
	for (int i = 0; i < nlines; i++)
	{
		if (!lines[i]->retired && !lines[i]->gone)
			add(&todo, lines[i]->id);
	}
	/* of queues that somebody deleted by hand */
	if (!loaded_lately())
		add_selected(&found, "SELECT id FROM queue.line l WHERE retired_at IS NULL AND queue <> 'default'"
					 " AND NOT EXISTS (SELECT FROM queue.queue q WHERE q.name = l.queue)");
	phase = PHASE_LOOK;
	return now;
}

/* Was the line idle for long enough, and is it empty? */
static bool
is_idle(QueueJobTable *table, int64 line, TimestampTz now, int64 limit)
{
	uint64		activity = queue_cursor_activity(MyDatabaseId, line);
	bool		known;
	Idle	   *entry = hash_search(idle, &line, HASH_ENTER, &known);

	entry->pass = pass;
	if (!known || entry->activity != activity)
	{
		entry->activity = activity;
		entry->since = now;
	}
	if (now - entry->since < limit)
		return false;
	if (!queue_walk_any(table, line))
		return true;
	entry->since = now;
	return false;
}

/* Some more of the lines; marks what was found at the end. */
static TimestampTz
look(TimestampTz now)
{
	TimestampTz began = queue_now();
	QueueJobTable *table = queue_job_open(AccessShareLock);
	int64		limit = (int64) queue_debug_line_idle * 1000;
	HASH_SEQ_STATUS seq;
	Idle	   *entry;

	if (loaded_lately())
		limit *= RESTORE;
	while (next < todo.n && queue_now() - began < SLICE_US)
	{
		if (is_idle(table, todo.id[next], now, limit))
			add(&found, todo.id[next]);
		next++;
	}
	queue_job_close(table);
	if (next < todo.n)
		return now + 10 * SLICE_US;

	hash_seq_init(&seq, idle);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->pass != pass)
			(void) hash_search(idle, &entry->line, HASH_REMOVE, NULL);
	}
	if (found.n > 0)
	{
		change("UPDATE queue.line SET retired_at = $2 WHERE id = ANY ($1) AND retired_at IS NULL", &found);
		queue_log("lines", "%d lines without jobs are retired", found.n);
	}
	phase = PHASE_MARKED;
	return now;
}

/* The marks are committed: whom do the retired lines wait for? */
static TimestampTz
begin_fence(TimestampTz now, int64 interval)
{
	MemoryContext old;

	todo.n = found.n = next = 0;
	if (!loaded_lately())
		add_selected(&todo, "SELECT id FROM queue.line WHERE retired_at IS NOT NULL");
	if (todo.n == 0)
	{
		phase = PHASE_REST;
		return now + interval;
	}
	old = MemoryContextSwitchTo(context);
	queue_fence_begin(&fence, queue_config()->line_table);
	MemoryContextSwitchTo(old);
	fence_until = now + Min(2 * PASS_US, 20 * interval);	/* then others may be marked and waited for as well */
	phase = PHASE_FENCE;
	return now;
}

/* Deletes those of some more retired lines that are empty. */
static TimestampTz
delete_empty(TimestampTz now, int64 interval)
{
	TimestampTz began = queue_now();
	QueueJobTable *table = queue_job_open(AccessShareLock);

	found.n = 0;
	while (next < todo.n && queue_now() - began < SLICE_US)
	{
		if (!queue_walk_any(table, todo.id[next]))
			add(&found, todo.id[next]);
		next++;
	}
	queue_job_close(table);
	if (found.n > 0)
	{
		change("DELETE FROM queue.line WHERE id = ANY ($1) AND retired_at IS NOT NULL", &found);
		for (int i = 0; i < found.n; i++)
			queue_cursor_forget(MyDatabaseId, found.id[i]);
	}
	if (next < todo.n)
		return now + 10 * SLICE_US;
	phase = PHASE_REST;
	return now + interval;
}

TimestampTz
queue_retirement_run(TimestampTz now)
{
	int64		interval = Min(PASS_US, (int64) queue_debug_line_idle * 1000 / 2);

	switch (phase)
	{
		case PHASE_REST:
			return begin_pass(now, interval);
		case PHASE_LOOK:
			return look(now);
		case PHASE_MARKED:
			return begin_fence(now, interval);
		case PHASE_FENCE:
			if (queue_fence_passed(&fence))
				phase = PHASE_DELETE;
			else if (now >= fence_until)
				phase = PHASE_REST;
			else
				return now + Min(POLL_US, interval);
			return now;
		case PHASE_DELETE:
			return delete_empty(now, interval);
	}
	return now + interval;
}
