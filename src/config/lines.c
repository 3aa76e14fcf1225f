/*
 * lines.c
 *		Rows of queue.line: which line a job goes to, and which lines there are.
 *
 * A line's id comes from a sequence and says nothing about its names: were it a function of the names, whoever may
 * enqueue into one queue could compute names that give another queue's id, and so own its jobs.  The enqueuer inserts
 * a row when it sees no committed one.  Two open transactions may make two rows of one name, and neither waits for the
 * other: readers take all rows of a name together, enqueuers the lowest committed id, so the others run dry.
 *
 * A line that is empty for a while is retired (scheduler/retirement.c): readers go on reading it, enqueuers take
 * or make another, and when nobody can use it any more its row is deleted.  Therefore an enqueuer first locks
 * queue.line, which accepts invalidations and which others can see (fence.h), and only then trusts its cache.
 *
 * A session knows the lines that it needed: by id, by name, or in lists all those of a queue or of a kind in it.  They
 * belong to one reading of the configuration.  A new line does not make that stale: its id is told through shared
 * memory after the commit (shared/database.h), and whoever has a list that it belongs to reads that one row.  Who was
 * not told reads its lists again (more new lines than shared memory keeps) or the configuration (a standby, no
 * preload).  Who meets ids that it does not know (executors, the scheduler) reads some of the next ones along.
 *
 * Locks: RowExclusiveLock on live_job, then on queue.line, until the end of the transaction that enqueues; readers
 * AccessShareLock on queue.line for a moment.
 */
#include "config/lines.h"

#include "config/drops.h"
#include "config/known_lines.h"
#include "config/line_insert.h"
#include "config/line_limit.h"
#include "config/line_table.h"
#include "config/reader.h"
#include "config/relations.h"
#include "shared/clock.h"
#include "shared/note.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"

/* The list of a kind in a queue, under the key of both: what lies under one key is compared with the names. */
typedef struct KindList
{
	uint64		key;
	const QueueConf *queue;
	char	   *kind;
	QueueLineList lines;
	struct KindList *same_key;
} KindList;

typedef struct KindEntry
{
	uint64		key;
	KindList   *list;
} KindEntry;

/* What a reading of the configuration knows of lines so far. */
typedef struct QueueLines
{
	QueueConfig *config;		/* the reading */
	MemoryContext cxt;
	MemoryContext objects;		/* where the lines are, packed; a child of that */
	QueueLineTable ids;
	QueueLine  *last;			/* looked up by id */
	QueueLine  *last_named;		/* and by name */
	QueueLineTable names;		/* where new jobs go: by a key of the name, the first of those that have it */
	int			names_read;		/* how often one was looked up in the table, .. */
	ItemPointerData found_at;	/* .. and where its row was */
	HTAB	   *kinds;			/* lists of kinds; NULL: none yet */
	QueueConf **complete;		/* queues whose list was read */
	int			ncomplete;
	uint64		news;			/* how much of what shared memory told is in here */
	TimestampTz standby;		/* a list was read on a standby, where nothing is told, by this statement; 0 */
} QueueLines;

#define READ_AHEAD 64			/* rows read along with one whose id was not known, .. */
#define READ_AHEAD_MAX 2048		/* .. and by who knows many lines; a millisecond */
#define NAMES_AHEAD_AFTER 8		/* .. and with one whose name was not, in a session that did this so often, .. */
#define NAMES_AHEAD_MAX 2048	/* .. so many at most; a millisecond, too */

static uint32 visits = 0;		/* of queue_lines_visit() */

/* Columns of queue.line. */
typedef struct Columns
{
	AttrNumber	id, queue, kind, priority, retired_at, concurrency_key;
} Columns;

/* ---------------------------------------------------------------- the cache */

/* The current reading's lines, none at first. */
static QueueLines *
current_lines(void)
{
	static uint32 before = 0;	/* about how many the last ones had; one that had few, as in a pause, says little */
	QueueConfig *config = queue_config();

	if (unlikely(config->lines == NULL))
	{
		QueueLines *lines = MemoryContextAllocZero(config->cxt, sizeof(QueueLines));
		QueueDatabase *base = queue_database();

		lines->config = config;
		lines->cxt = config->cxt;
		/* blocks so small that malloc has them again from the reading before: larger ones are mapped, page by page */
		lines->objects = GenerationContextCreate(config->cxt, "queue lines", 0, 8 * 1024, 64 * 1024);
		queue_line_table_init(&lines->ids, config->cxt, false, before);
		before /= 2;
		queue_line_table_init(&lines->names, config->cxt, true, 0);
		lines->complete = MemoryContextAlloc(lines->cxt, config->nqueues * sizeof(QueueConf *));
		lines->news = base != NULL ? queue_database_lines_told(base) : 0;
		queue_known_lines_of(config->line_table);
		config->lines = lines;
	}
	before = Max(before, config->lines->ids.n);
	return config->lines;
}

static void
append(MemoryContext cxt, QueueLineList *list, QueueLine *line)
{
	if (list->n == list->allocated)
	{
		int			size = Max(16, list->allocated * 2);

		list->lines = list->lines == NULL ? MemoryContextAlloc(cxt, size * sizeof(QueueLine *)) :
			repalloc_huge(list->lines, size * sizeof(QueueLine *));
		list->allocated = size;
	}
	list->lines[list->n++] = line;
}

static inline uint64
kind_list_key(uint64 queue_key, uint64 kind_key)
{
	return hash_combine64(queue_key, kind_key);
}

/* The list of a kind; NULL: nobody asked for it. */
static KindList *
find_kind(QueueLines *lines, const QueueConf *conf, const char *kind, uint64 kind_key)
{
	uint64		key = kind_list_key(conf->key, kind_key);
	KindEntry  *entry = lines->kinds != NULL ? hash_search(lines->kinds, &key, HASH_FIND, NULL) : NULL;
	KindList   *list = entry != NULL ? entry->list : NULL;

	while (list != NULL && (list->queue != conf || strcmp(list->kind, kind) != 0))
		list = list->same_key;
	return list;
}

/* The list of a kind from now on: new lines are put in. */
static KindList *
keep_kind(QueueLines *lines, const QueueConf *conf, const char *kind)
{
	uint64		kind_key = queue_name_hash(kind);
	KindList   *list = find_kind(lines, conf, kind, kind_key);
	uint64		key = kind_list_key(conf->key, kind_key);
	KindEntry  *entry;
	bool		found;

	if (list != NULL)
		return list;
	if (lines->kinds == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(KindEntry), .hcxt = lines->cxt};

		lines->kinds = hash_create("queue lines by kind", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	list = MemoryContextAllocZero(lines->cxt, sizeof(KindList));
	list->key = key;
	list->queue = conf;
	list->kind = MemoryContextStrdup(lines->cxt, kind);
	list->lines.kept = true;
	entry = hash_search(lines->kinds, &key, HASH_ENTER, &found);
	list->same_key = found ? entry->list : NULL;
	entry->list = list;
	return list;
}

/* Lists may lack lines that shared memory did not keep: they are read again before they are used. */
static void
doubt_lists(QueueLines *lines)
{
	for (int i = 0; i < lines->ncomplete; i++)
		lines->complete[i]->lines.complete = false;
	lines->ncomplete = 0;
	if (lines->kinds != NULL)
	{
		HASH_SEQ_STATUS seq;
		KindEntry  *entry;

		hash_seq_init(&seq, lines->kinds);
		while ((entry = hash_seq_search(&seq)) != NULL)
		{
			for (KindList *list = entry->list; list != NULL; list = list->same_key)
				list->lines.complete = false;
		}
	}
}

/* Puts a line into the lists that are kept, once.  Those of a dropped queue are in none: nobody serves them. */
static void
list_line(QueueLines *lines, QueueLine *line)
{
	if (line->gone)
		return;
	if (line->queue->lines.kept && !line->in_queue)
	{
		append(lines->cxt, &line->queue->lines, line);
		line->in_queue = true;
	}
	if (lines->kinds != NULL && !line->in_kind)
	{
		KindList   *list = find_kind(lines, line->queue, line->kind, line->kind_key);

		if (list != NULL)
		{
			append(lines->cxt, &list->lines, line);
			line->in_kind = true;
		}
	}
}

static QueueLine *
find_id(QueueLines *lines, int64 id)
{
	QueueLine  *line = lines->last;

	if (line != NULL && line->id == id)
		return line;
	line = queue_line_table_find(&lines->ids, (uint64) id);
	if (line != NULL)
		lines->last = line;
	return line;
}

static inline bool
same_concurrency(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Where new jobs of this name go, as far as is known. */
static QueueLine *
find_name(QueueLines *lines, uint64 key, const QueueConf *conf, const char *kind, int16 priority,
		  const char *concurrency_key)
{
	QueueLine  *line = queue_line_table_find(&lines->names, key);

	while (line != NULL && (line->priority != priority || line->queue != conf || strcmp(line->kind, kind) != 0 ||
							!same_concurrency(line->key, concurrency_key)))
		line = line->same_key;
	return line;
}

/* New jobs of its name go to this line from now on. */
static void
name_line(QueueLines *lines, QueueLine *line)
{
	uint64		key = queue_line_key_of_name(line);
	QueueLine  *first = queue_line_table_find(&lines->names, key);
	QueueLine **link = &first;

	lines->last_named = line;
	while (*link != NULL && ((*link)->priority != line->priority || (*link)->queue != line->queue ||
							 strcmp((*link)->kind, line->kind) != 0 || !same_concurrency((*link)->key, line->key)))
		link = &(*link)->same_key;
	if (*link == line)
		return;
	line->same_key = *link != NULL ? (*link)->same_key : NULL;
	*link = line;
	if (first == line)
		queue_line_table_put(&lines->names, key, line);
}

/* Adds a line that this reading does not have yet. */
static QueueLine *
add_line(QueueLines *lines, const QueueKnownLine *known)
{
	const QueueLine *last = lines->last;
	QueueConf  *conf = last != NULL && !last->gone && last->queue->counter == known->queue ?
		last->queue : queue_config_find(lines->config, known->queue->name);
	MemoryContext old = MemoryContextSwitchTo(lines->objects);
	char	   *kind = palloc0(MAXALIGN(known->length) + sizeof(QueueLine));
	QueueLine  *line = (QueueLine *) (kind + MAXALIGN(known->length));

	line->id = known->id;
	line->cursor = known->cursor;
	line->kind = memcpy(kind, known->kind, known->length);
	line->kind_key = known->kind_key;
	line->priority = known->priority;
	line->key = known->key != NULL ? pstrdup(known->key) : NULL;
	line->counter = known->counter;
	line->gone = conf == NULL;
	line->queue = conf != NULL ? conf : queue_conf_make(known->queue->name);
	if (!line->gone)
		queue_config_resolve(lines->config, line);
	if (line->handler != NULL && line->handler->id == known->handler)
		line->stat = known->stat;
	queue_line_table_put(&lines->ids, (uint64) line->id, line);
	MemoryContextSwitchTo(old);
	list_line(lines, line);
	return line;
}

/* ---------------------------------------------------------------- reading the table */

static Columns
columns_of(Relation rel)
{
	return (Columns) {queue_column(rel, "id"), queue_column(rel, "queue"), queue_column(rel, "kind"),
		queue_column(rel, "priority"), queue_column(rel, "retired_at"), queue_column(rel, "concurrency_key")};
}

/* What never changes of the line of a row just read. */
static QueueKnownLine *
known_of_row(const Columns *columns, TupleTableSlot *slot)
{
	bool		never, isnull;
	int64		id = DatumGetInt64(slot_getattr(slot, columns->id, &never));
	QueueKnownLine *known = queue_known_line(id);
	Datum		key;

	if (known != NULL)
		return known;
	key = slot_getattr(slot, columns->concurrency_key, &isnull);
	return queue_know_line(id, DatumGetTextPP(slot_getattr(slot, columns->queue, &never)),
						   DatumGetTextPP(slot_getattr(slot, columns->kind, &never)),
						   DatumGetInt16(slot_getattr(slot, columns->priority, &never)),
						   isnull ? NULL : DatumGetTextPP(key));
}

/* The line of a row just read. */
static QueueLine *
line_of_row(QueueLines *lines, const Columns *columns, TupleTableSlot *slot)
{
	bool		isnull;
	QueueLine  *line = find_id(lines, DatumGetInt64(slot_getattr(slot, columns->id, &isnull)));

	if (line != NULL)
		list_line(lines, line);
	else
		line = lines->last = add_line(lines, known_of_row(columns, slot));
	line->retired = !slot_attisnull(slot, columns->retired_at);
	return line;
}

/* Which rows read_index() gives. */
typedef enum Wanted
{
	ALL_ROWS,
	FIRST_ROW,					/* the first, and those behind it become known, up to one that is */
	FIRST_USABLE				/* the first that takes new jobs, and no more */
} Wanted;

/*
 * Reads rows through an index of queue.line, under the latest snapshot at every isolation level; with `self` also what
 * this very command inserted.  At most `max` rows; gives the first.
 */
static QueueLine *
read_index(QueueLines *lines, Oid index_oid, ScanKey keys, int nkeys, bool self, Wanted wanted, int max)
{
	Relation	rel = queue_relation_open(lines->config->line_table, AccessShareLock);
	Relation	index = index_open(index_oid, AccessShareLock);
	Columns		columns = columns_of(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(self ? SnapshotSelf : GetLatestSnapshot());
	IndexScanDesc scan = queue_index_beginscan(rel, index, snapshot, nkeys);
	QueueLine  *found = NULL;

	index_rescan(scan, keys, nkeys, NULL, 0);
	for (int n = 0; n < max && index_getnext_slot(scan, ForwardScanDirection, slot); n++)
	{
		QueueLine  *line;

		CHECK_FOR_INTERRUPTS();
		if (wanted == FIRST_ROW && found != NULL)
		{
			uint32		before = queue_known_lines();

			(void) known_of_row(&columns, slot);
			if (queue_known_lines() == before)
				break;
			continue;
		}
		if (wanted == FIRST_USABLE && !slot_attisnull(slot, columns.retired_at))
			continue;
		line = line_of_row(lines, &columns, slot);
		if (found == NULL)
			found = line;
		lines->found_at = slot->tts_tid;
		if (wanted == FIRST_USABLE)
			break;
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return found;
}

/* The line of this id, from its row, with at most `max` rows; NULL: there is none. */
static QueueLine *
read_id(QueueLines *lines, int64 id, int max)
{
	ScanKeyData key;
	QueueLine  *line;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(id));
	line = read_index(lines, lines->config->line_pkey, &key, 1, false, FIRST_ROW, max);
	if (line != NULL && line->id == id)
		return line;
	if (!queue_line_inserted())
		return NULL;
	/* a row that this very command inserted is in no such snapshot */
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return read_index(lines, lines->config->line_pkey, &key, 1, true, ALL_ROWS, 1);
}

/* A scan key for a text column of collation "C". */
static void
text_key(ScanKey key, AttrNumber attno, const char *value)
{
	ScanKeyEntryInitialize(key, 0, attno, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
}

/* The line of lowest id that takes new jobs of this name, committed or of this transaction; NULL: none. */
static QueueLine *
read_name(QueueLines *lines, const char *queue, const char *kind, int16 priority, const char *concurrency_key)
{
	ScanKeyData keys[4];

	text_key(&keys[0], 1, queue);
	text_key(&keys[1], 2, kind);
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(priority));
	if (concurrency_key != NULL)
		text_key(&keys[3], 4, concurrency_key);
	else
		ScanKeyEntryInitialize(&keys[3], SK_ISNULL | SK_SEARCHNULL, 4, InvalidStrategy, InvalidOid, InvalidOid,
							   InvalidOid, (Datum) 0);
	return read_index(lines, lines->config->line_name, keys, 4, false, FIRST_USABLE, PG_INT32_MAX);
}

/* Where new jobs of this line's name go, as far as is known. */
static QueueLine *
named_as(QueueLines *lines, const QueueLine *line)
{
	return find_name(lines, queue_line_key_of_name(line), line->queue, line->kind, line->priority, line->key);
}

/*
 * A session that enqueues into many lines reads, with a name that it did not know, the rows that lie behind its row in
 * the table, as many as it looked for, up to one that it knows.  That costs a tenth of a look for each alone, and less
 * than in the order of the names: the table is read page by page, and ids that follow one another stand together in
 * memory.  Of several rows of one name the first that it meets is taken, mostly the lowest.
 */
static void
read_names_ahead(QueueLines *lines)
{
	Relation	rel;
	TupleTableSlot *slot;
	Snapshot	snapshot;
	TableScanDesc scan;
	Columns		columns;
	ItemPointerData from = lines->found_at;
	ItemPointerData to;

	if (++lines->names_read < NAMES_AHEAD_AFTER)
		return;
	ItemPointerInc(&from);
	ItemPointerSet(&to, MaxBlockNumber, PG_UINT16_MAX);
	rel = queue_relation_open(lines->config->line_table, AccessShareLock);
	columns = columns_of(rel);
	slot = table_slot_create(rel, NULL);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan_tidrange(rel, snapshot, &from, &to);
	for (int n = Min(lines->names_read, NAMES_AHEAD_MAX);
		 n > 0 && table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot); n--)
	{
		QueueLine  *line;
		QueueLine  *named;

		CHECK_FOR_INTERRUPTS();
		if (!slot_attisnull(slot, columns.retired_at))
			continue;
		line = line_of_row(lines, &columns, slot);
		if (line->gone)
			continue;
		named = named_as(lines, line);
		if (named == NULL)
			name_line(lines, line);
		else if (named == line)
			break;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

/* Is this news of a line that somebody here asked for? */
static bool
news_concern(QueueLines *lines, const QueueNewLine *news)
{
	uint64		key = queue_line_name_key(news->queue_key, news->kind_key, news->priority, news->concurrency_hash);

	if (queue_line_table_find(&lines->names, key) != NULL)
		return true;
	key = kind_list_key(news->queue_key, news->kind_key);
	if (lines->kinds != NULL && hash_search(lines->kinds, &key, HASH_FIND, NULL) != NULL)
		return true;
	for (int i = 0; i < lines->ncomplete; i++)
	{
		if (lines->complete[i]->key == news->queue_key)
			return true;
	}
	return false;
}

/*
 * Takes in what shared memory told of new lines.  Before the caller's snapshot: a line whose row that does not see is
 * told of later.
 */
static void
read_news(QueueLines *lines)
{
	QueueDatabase *base = queue_database();
	QueueNewLine news[QUEUE_NEW_LINES];
	int			n;

	if (base == NULL || likely(queue_database_lines_told(base) == lines->news))
		return;					/* without shared memory a new line's invalidation makes the configuration stale */
	n = queue_database_new_lines(base, &lines->news, news);
	if (n < 0)
		doubt_lists(lines);
	for (int i = 0; i < n; i++)
	{
		QueueLine  *line;
		QueueLine  *named;

		if (!news_concern(lines, &news[i]) || (line = read_id(lines, news[i].id, READ_AHEAD)) == NULL || line->gone)
			continue;
		/* of several lines of a name the lowest takes the new jobs */
		named = named_as(lines, line);
		if (named != NULL && line->id < named->id)
			name_line(lines, line);
	}
}

/*
 * The lines with all news in them, before a list is used.  What lists lack on a standby, where nothing is told, is
 * found by reading the configuration again.
 */
static QueueLines *
fresh_lines(void)
{
	QueueLines *lines;

	/* without shared memory messages are all that tells; a transaction that has its locks already asks for none */
	if (queue_database() == NULL)
		AcceptInvalidationMessages();
	lines = current_lines();
	read_news(lines);
	if (unlikely(lines->standby != 0 &&
				 (lines->standby != GetCurrentStatementStartTimestamp() || !RecoveryInProgress())))
	{
		queue_config_invalidate();
		lines = current_lines();
	}
	if (unlikely(RecoveryInProgress()))
		lines->standby = GetCurrentStatementStartTimestamp();
	return lines;
}

/* ---------------------------------------------------------------- for readers */

QueueLine *
queue_config_line(int64 id)
{
	QueueLines *lines = current_lines();
	QueueLine  *line = find_id(lines, id);
	QueueKnownLine *known;

	if (likely(line != NULL))
		return line;
	known = queue_known_line(id);
	if (known != NULL)
		return lines->last = add_line(lines, known);
	/* whoever meets many lines reads them in fewer looks */
	return read_id(lines, id, Min(Max(READ_AHEAD, queue_known_lines() / 4), READ_AHEAD_MAX));
}

bool
queue_line_stored(int64 id)
{
	const QueueKnownLine *known = queue_known_line(id);

	if ((known != NULL && known->visited == visits) || read_id(current_lines(), id, 1) != NULL)
		return true;
	queue_unknow_line(id);
	return false;
}

QueueCounterRef *
queue_line_counter(const QueueLine *line)
{
	QueueKnownLine *known;

	if (likely(line->counter != NULL))
		return line->counter;
	known = queue_known_line(line->id);
	if (known == NULL)
		return unconstify(QueueLine *, line)->counter = queue_counter_kind_ref(line->queue->counter, line->kind);
	if (known->counter == NULL)
		known->counter = queue_counter_kind_ref(known->queue, line->kind);
	return unconstify(QueueLine *, line)->counter = known->counter;
}

QueueKindStat *
queue_line_stat(QueueLine *line)
{
	const QueueKindStat *before = line->stat.entry;
	QueueKindStat *stat = queue_kind_stat(&line->stat, line->handler->id, line->kind, line->kind_key, true);
	QueueKnownLine *known = stat != before ? queue_known_line(line->id) : NULL;

	if (known != NULL)
	{
		known->handler = line->handler->id;
		known->stat = line->stat;
	}
	return stat;
}

QueueLine **
queue_lines_of(const QueueConf *conf, int *n)
{
	QueueLines *lines = fresh_lines();
	QueueConf  *mine = queue_config_find(lines->config, conf->name);	/* the caller's may be of an older reading */

	*n = 0;
	if (mine == NULL)
		return NULL;
	if (!mine->lines.complete)
	{
		ScanKeyData key;

		/* kept from now on, so that a reading which an error ends is simply done again */
		mine->lines.kept = true;
		text_key(&key, 1, conf->name);
		(void) read_index(lines, lines->config->line_name, &key, 1, false, ALL_ROWS, PG_INT32_MAX);
		mine->lines.complete = true;
		lines->complete[lines->ncomplete++] = mine;
	}
	*n = mine->lines.n;
	return mine->lines.lines;
}

QueueLine **
queue_lines_of_kind(const QueueConf *conf, const char *kind, int *n)
{
	QueueLines *lines = fresh_lines();
	QueueConf  *mine = queue_config_find(lines->config, conf->name);
	KindList   *list;

	*n = 0;
	if (mine == NULL)
		return NULL;
	list = keep_kind(lines, mine, kind);
	if (!list->lines.complete)
	{
		ScanKeyData keys[2];

		text_key(&keys[0], 1, conf->name);
		text_key(&keys[1], 2, kind);
		(void) read_index(lines, lines->config->line_name, keys, 2, false, ALL_ROWS, PG_INT32_MAX);
		list->lines.complete = true;
	}
	*n = list->lines.n;
	return list->lines.lines;
}

QueueLine **
queue_lines_all(int *n)
{
	QueueLines *lines = current_lines();
	QueueLineList all = {0};
	QueueReader reader;
	Columns		columns;

	queue_reader_begin(&reader, lines->config->line_table);
	columns = columns_of(reader.rel);
	while (queue_reader_next(&reader))
		append(CurrentMemoryContext, &all, line_of_row(lines, &columns, reader.slot));
	queue_reader_end(&reader);
	*n = all.n;
	return all.lines;
}

int
queue_lines_visit(void (*visit) (QueueLine *line, TimestampTz now), TimestampTz now)
{
	QueueConfig *config = current_lines()->config;
	QueueConf  *conf = NULL;
	QueueReader reader;
	Columns		columns;
	int			n = 0;

	visits++;
	queue_reader_begin(&reader, config->line_table);
	columns = columns_of(reader.rel);
	for (; queue_reader_next(&reader); n++)
	{
		QueueKnownLine *known = known_of_row(&columns, reader.slot);
		QueueLine	line;

		if (conf == NULL || conf->counter != known->queue)
			conf = queue_config_find(config, known->queue->name);
		line = (QueueLine) {.id = known->id, .queue = conf, .kind = known->kind, .kind_key = known->kind_key,
			.key = known->key, .priority = known->priority, .gone = conf == NULL, .cursor = known->cursor};
		if (conf != NULL)
			queue_config_serve(config, &line);
		visit(&line, now);
		known->cursor = line.cursor;
		known->visited = visits;
	}
	queue_reader_end(&reader);
	return n;
}

/* ---------------------------------------------------------------- for enqueuers */

/* Inserts the row of a new line and tells of it when it commits. */
static QueueLine *
insert_line(QueueLines *lines, const QueueConf *conf, const char *kind, int16 priority, const char *concurrency_key)
{
	text	   *queue_name = cstring_to_text(conf->name);
	text	   *kind_name = cstring_to_text(kind);
	text	   *key = concurrency_key != NULL ? cstring_to_text(concurrency_key) : NULL;
	int64		id = queue_line_insert(lines->config, queue_name, kind_name, priority, key);
	QueueLine  *line = add_line(lines, queue_know_line(id, queue_name, kind_name, priority, key));

	if (queue_database() != NULL)
		queue_note_new_line(&(QueueNewLine) {id, conf->key, line->kind_key, queue_line_concurrency_hash(line->key),
							priority});
	else
		CacheInvalidateRelcacheByRelid(lines->config->line_table);
	return line;
}

/*
 * On the path of every enqueue: one lookup, but for the transaction's first.  The locks come first: with them, whoever
 * retires the line, or drops its queue, waits for us.
 */
int64
queue_line_ensure(const char *queue, const char *kind, int16 priority, const char *key)
{
	QueueLines *lines;
	QueueLine  *line;
	QueueConf  *conf;

	queue_lock_to_enqueue(queue);
	lines = current_lines();
	read_news(lines);
	line = lines->last_named;
	if (line != NULL && line->priority == priority && strcmp(line->kind, kind) == 0 &&
		strcmp(line->queue->name, queue) == 0 && same_concurrency(line->key, line->queue->keyed ? key : NULL))
		return line->id;
	conf = queue_config_find(lines->config, queue);
	if (unlikely(conf == NULL))
		queue_config_no_queue(queue);
	if (!conf->keyed)
		key = NULL;
	line = find_name(lines, queue_line_name_key(conf->key, queue_name_hash(kind), priority,
												queue_line_concurrency_hash(key)), conf, kind, priority, key);
	if (unlikely(line == NULL))
	{
		line = read_name(lines, queue, kind, priority, key);
		if (line != NULL)
			read_names_ahead(lines);
		else
		{
			queue_line_limit_check(lines->config);
			line = insert_line(lines, conf, kind, priority, key);
		}
		name_line(lines, line);
	}
	lines->last = lines->last_named = line;
	return line->id;
}
