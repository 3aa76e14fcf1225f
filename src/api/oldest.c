/*
 * oldest.c
 *		Since when the oldest job of a queue, or of a kind in it, waits.
 *
 * Agendas tell of each line that may have something due from where on (shared/agenda.c).  So lines are looked at in
 * that order, each at the few rows behind its cursor, until something was found for all that is asked for; of 100,000
 * lines a few.  A job that was held out of its line has waited for longer than its place there says, so some more
 * lines are looked at.  Where agendas do not tell of all lines, all are looked at.
 *
 * Locks: none beyond those of the structures read; AccessShareLock on live_job, the caller's.
 */
#include "api/oldest.h"

#include "job/claim.h"
#include "shared/channel.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "lib/binaryheap.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* How many leased rows behind a cursor are passed by before its line's age is taken as theirs. */
#define OLDEST_LOOKS 16
#define MORE_LINES 64			/* looked at beside those that were needed */

/* The row that an exact key names is still there, due, and nobody's. */
static bool
key_waits(QueueJobTable *table, QueueLine *line, QueuePos key, Snapshot snapshot, TimestampTz now)
{
	QueueJob	job;

	return key.run_at <= now && queue_job_peek(table, key.id, snapshot, &job) && job.line == line->id &&
		job.run_at == key.run_at && queue_claim_holder(job.id, job.leased_until, now) == QUEUE_HELD_BY_NOBODY;
}

/* From when a job waits: a job that was held out of its line has waited since the time that was asked for. */
static TimestampTz
waits_since(QueueJobTable *table, QueuePos pos, Snapshot snapshot)
{
	QueueJob	job;
	TimestampTz asked = queue_job_find_lean(table, pos.id, snapshot, &job) ? queue_extra_time(job.extra, "run_at") : 0;

	return asked != 0 ? Min(asked, pos.run_at) : pos.run_at;
}

/*
 * Since when the oldest due job of a line that nobody has waits; DT_NOEND: none does.  As near as the line's exact keys
 * and a few looks behind its cursor tell.  Called with live_job open.
 */
static TimestampTz
oldest_of(QueueJobTable *table, QueueLine *line, TimestampTz now)
{
	QueueCursorView view = queue_cursor_look(&line->cursor);
	QueuePos	exact[QUEUE_CURSOR_KEYS];
	int			nexact = view.valid && view.nkeys > 0 ? queue_cursor_keys(&line->cursor, exact) : 0;
	QueuePos	found = {DT_NOEND, 0};
	TimestampTz oldest = DT_NOEND;
	ScanKeyData keys[2];
	IndexScanDesc scan;
	Snapshot	snapshot;
	int			looks;

	if (nexact == 0 && view.valid && (view.empty || view.next_due > now))
		return oldest;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < nexact; i++)
	{
		if (exact[i].run_at < found.run_at && key_waits(table, line, exact[i], snapshot, now))
			found = exact[i];
	}
	if (found.id != 0)
		oldest = waits_since(table, found, snapshot);
	if (view.valid && (view.empty || view.next_due > now || view.cursor.run_at >= found.run_at))
	{
		UnregisterSnapshot(snapshot);
		return oldest;
	}
	found.id = 0;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line->id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMP_GE, TimestampTzGetDatum(view.cursor.run_at));
	scan = queue_index_beginscan(table->rel, queue_job_ready(table), snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	for (looks = 0; looks <= OLDEST_LOOKS; looks++)
	{
		QueueJob	job;

		if (!index_getnext_slot(scan, ForwardScanDirection, table->slot))
			break;
		queue_job_read(table->slot, &job, false);
		if (job.run_at > now)
			break;
		if (looks < OLDEST_LOOKS && queue_claim_holder(job.id, job.leased_until, now) != QUEUE_HELD_BY_NOBODY)
			continue;
		found = queue_job_pos(&job);
		break;
	}
	ExecClearTuple(table->slot);
	index_endscan(scan);
	if (found.id != 0)
		oldest = queue_earlier(oldest, waits_since(table, found, snapshot));
	UnregisterSnapshot(snapshot);
	return oldest;
}

/*
 * What the scheduler of this database has pulled out of the lines and no executor has taken yet, palloc'd; run_at is
 * since when the job waits.
 */
static QueueEntry *
pulled_entries(QueueJobTable *table, int *n)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueEntry *entries = palloc(QUEUE_CHANNEL_SIZE * sizeof(QueueEntry));

	*n = 0;
	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *channel = queue_channel_nth(i);

		if (channel == NULL || channel->db != MyDatabaseId)
			continue;
		entries = repalloc(entries, (*n + QUEUE_CHANNEL_SIZE) * sizeof(QueueEntry));
		*n += queue_channel_copy(channel, &entries[*n]);
	}
	for (int i = 0; i < *n; i++)
		entries[i].run_at = waits_since(table, (QueuePos) {entries[i].run_at, entries[i].id}, snapshot);
	UnregisterSnapshot(snapshot);
	return entries;
}

/* ---- several at once ---- */

HTAB *
queue_oldest_table(Size entry_size)
{
	HASHCTL		ctl = {
		.keysize = sizeof(QueueCounterRef *), .entrysize = entry_size, .hcxt = CurrentMemoryContext
	};

	return hash_create("queue oldest jobs", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

QueueOldest *
queue_oldest_want(HTAB *table, QueueCounterRef *ref, bool awaited)
{
	bool		found;
	QueueOldest *entry = hash_search(table, &ref, HASH_ENTER, &found);

	if (!found)
	{
		entry->since = DT_NOEND;
		entry->looks = 0;
	}
	entry->awaited = awaited;
	return entry;
}

TimestampTz
queue_oldest_since(HTAB *table, QueueCounterRef *ref)
{
	QueueOldest *entry = hash_search(table, &ref, HASH_FIND, NULL);

	return entry != NULL ? entry->since : DT_NOEND;
}

/* The entry that a line counts for; NULL: nobody asks. */
static QueueOldest *
entry_of(HTAB *table, const QueueLine *line, bool by_kind)
{
	QueueCounterRef *ref = by_kind ? queue_line_counter(line) : line->queue->counter;

	return hash_search(table, &ref, HASH_FIND, NULL);
}

/* Lines whose first job comes first, first. */
static int
compare_items(Datum a, Datum b, void *arg)
{
	TimestampTz one = ((QueueAgendaItem *) DatumGetPointer(a))->bound.run_at;
	TimestampTz two = ((QueueAgendaItem *) DatumGetPointer(b))->bound.run_at;

	return one == two ? 0 : (one < two ? 1 : -1);
}

/* Do agendas tell of all lines? */
static bool
agendas_tell(void)
{
	QueueDatabase *base = queue_database();

	return base != NULL && pg_atomic_read_u32(&base->cursors_lost) == QUEUE_CURSORS_ALL &&
		(pg_atomic_read_u64(&base->sorted_generation) != 0 ||
		 (pg_atomic_read_u32(&base->scheduler_procno) != PG_UINT32_MAX && base->cursors > 0));
}

/* All lines, each from its front. */
static QueueAgendaItem *
all_lines(int *n)
{
	QueueLine **lines = queue_lines_all(n);
	QueueAgendaItem *items = palloc((*n + 1) * sizeof(QueueAgendaItem));

	for (int i = 0; i < *n; i++)
		items[i] = (QueueAgendaItem) {lines[i]->id, QUEUE_POS_FIRST, 0};
	return items;
}

/* A job of this entry has waited since then. */
static void
note_since(QueueOldest *entry, TimestampTz since, int *nawaited)
{
	if (since == DT_NOEND)
		return;
	*nawaited -= entry->awaited && entry->since == DT_NOEND;
	entry->since = queue_earlier(entry->since, since);
}

void
queue_oldest_find(QueueJobTable *table, HTAB *wanted, bool by_kind)
{
	TimestampTz now = queue_now();
	bool		tell = agendas_tell();
	int			n;
	QueueAgendaItem *items = tell ? queue_cursor_due_lines(now, &n) : all_lines(&n);
	binaryheap *heap = binaryheap_allocate(Max(n, 1), compare_items, NULL);
	int			more = tell ? MORE_LINES : n;
	int			nawaited = 0;
	int			npulled;
	QueueEntry *pulled = pulled_entries(table, &npulled);
	HASH_SEQ_STATUS seq;
	QueueOldest *entry;

	hash_seq_init(&seq, wanted);
	while ((entry = hash_seq_search(&seq)) != NULL)
		nawaited += entry->awaited;
	for (int i = 0; i < npulled; i++)
	{
		QueueLine  *line = queue_config_line(pulled[i].line);

		entry = line != NULL ? entry_of(wanted, line, by_kind) : NULL;
		if (entry != NULL)
			note_since(entry, pulled[i].run_at, &nawaited);
	}
	for (int i = 0; i < n; i++)
		binaryheap_add_unordered(heap, PointerGetDatum(&items[i]));
	binaryheap_build(heap);
	while (!binaryheap_empty(heap) && (nawaited > 0 || more-- > 0))
	{
		QueueAgendaItem *item = (QueueAgendaItem *) DatumGetPointer(binaryheap_remove_first(heap));
		QueueLine  *line = queue_config_line(item->line);

		CHECK_FOR_INTERRUPTS();
		entry = line != NULL ? entry_of(wanted, line, by_kind) : NULL;
		if (entry != NULL && (entry->looks++ < MORE_LINES || (entry->awaited && entry->since == DT_NOEND)))
			note_since(entry, oldest_of(table, line, now), &nawaited);
	}
	binaryheap_free(heap);
	pfree(items);
	pfree(pulled);
}

TimestampTz
queue_oldest_of(QueueJobTable *table, const QueueConf *conf)
{
	HTAB	   *wanted = queue_oldest_table(sizeof(QueueOldest));
	TimestampTz since;

	(void) queue_oldest_want(wanted, conf->counter, true);
	queue_oldest_find(table, wanted, false);
	since = queue_oldest_since(wanted, conf->counter);
	hash_destroy(wanted);
	return since;
}
