/*
 * ready.c
 *		Reading due, unclaimed jobs in (priority, run_at, id) order over a set of lines.
 *
 * The one way in which fetch and the scheduler look for work.  A line is read behind
 * its cursor by one index scan, and several are merged by their heads.  A line's scan
 * is opened only when its lower bound (lowest exact key, else the cursor) may be the
 * next position, so a fetch over many lines opens few.
 *
 * What was passed (returned, leased, or found locked by the caller) is told to the
 * cursors at the end, under their rules (cursor.c): looks before the snapshot, keys
 * probed first and given back unless used, no raise above READ COMMITTED.
 */
#include "job/ready.h"

#include "shared/clock.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"

typedef struct ReadyLine
{
	QueueLine  *line;
	QueueCursorView view;
	QueuePos	bound;			/* no unread row of this line is before it */
	bool		loaded;			/* bound is the position of `head` */
	bool		from_key;		/* head came from an exact key */
	bool		keys_done;		/* no key is left for us */
	bool		done;			/* nothing more to read */
	bool		at_end;			/* done: the index had no further visible row */
	bool		scanned;		/* the scan was opened: there is something to tell the cursor */
	bool		own;			/* reads also what only this transaction sees, and tells its notes */
	QueueJob	head;
	QueuePos	passed;			/* everything before it was passed by the scan */
	TimestampTz next_due;		/* done before the end: when the first row not due falls due */
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* where head lies */
	ScanKeyData keys[3];
	ScanKeyData members[2];
} ReadyLine;

struct QueueReady
{
	QueueJobTable *table;
	Snapshot	snapshot;
	bool		may_raise;
	TimestampTz now;
	TimestampTz next_due;		/* of lines that were not worth opening */
	bool		limited;		/* only rows before (limit_priority, limit_pos) are wanted */
	int16		limit_priority;
	QueuePos	limit_pos;
	ReadyLine  *current;		/* the line of the row returned last */
	ReadyLine  *lent;			/* whose head was lent */
	int			n;
	ReadyLine	line[FLEXIBLE_ARRAY_MEMBER];
};

/* Called by doctor() and by who retires lines. */
bool
queue_ready_any(QueueJobTable *table, int64 line)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	IndexScanDesc scan;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line));
	scan = queue_index_beginscan(table->rel, queue_job_ready(table), snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, table->slot);
	ExecClearTuple(table->slot);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

QueueReady *
queue_ready_begin(QueueJobTable *table, QueueLine **lines, int nlines, TimestampTz now)
{
	QueueReady *ready = palloc0(offsetof(QueueReady, line) + nlines * sizeof(ReadyLine));

	ready->table = table;
	ready->now = now;
	ready->next_due = DT_NOEND;
	ready->may_raise = !IsolationUsesXactSnapshot();
	for (int i = 0; i < nlines; i++)
	{
		QueueCursorView view = queue_cursor_look(&lines[i]->cursor, lines[i]->id);
		ReadyLine  *line;
		QueuePos	own_pos;
		bool		own = false;

		/*
		 * What this transaction itself made claimable and nobody else sees yet: read on from there, over whatever
		 * the keys name.  The cursor may still be raised over it: the commit appends it.
		 */
		if (view.valid && ready->may_raise && queue_note_own(lines[i]->id, &own_pos))
		{
			own = true;
			if (view.nkeys > 0 && queue_pos_cmp(view.first_key, own_pos) < 0)
				own_pos = view.first_key;
			if (view.empty || queue_pos_cmp(own_pos, view.cursor) < 0)
				view.cursor = own_pos;
			view.empty = false;
			view.next_due = DT_NOBEGIN;
			view.nkeys = 0;
		}
		if (view.valid && view.nkeys == 0 && ready->may_raise)
		{
			if (view.empty)
				continue;
			if (view.next_due > now)
			{
				ready->next_due = Min(ready->next_due, view.next_due);
				continue;
			}
		}
		line = &ready->line[ready->n++];
		line->line = lines[i];
		line->view = view;
		line->own = own;
		if (!ready->may_raise)
		{
			/* an old snapshot may see rows claimable that were claimed long ago, and not the new ones */
			line->view.valid = false;
			line->view.cursor = QUEUE_POS_FIRST;
		}
		line->keys_done = own || !line->view.valid;
		line->bound = line->view.cursor;
		if (!line->keys_done && view.nkeys > 0 && queue_pos_cmp(view.first_key, line->bound) < 0)
			line->bound = view.first_key;
		line->passed = line->view.cursor;
		line->next_due = DT_NOEND;
	}
	PushActiveSnapshot(ready->may_raise ? GetLatestSnapshot() : GetTransactionSnapshot());
	ready->snapshot = GetActiveSnapshot();
	return ready;
}

Snapshot
queue_ready_snapshot(QueueReady *ready)
{
	return ready->snapshot;
}

void
queue_ready_before(QueueReady *ready, int16 priority, QueuePos pos)
{
	ready->limited = true;
	ready->limit_priority = priority;
	ready->limit_pos = pos;
}

/* Does the line begin at or behind the limit? */
static inline bool
behind_limit(const QueueReady *ready, const ReadyLine *line)
{
	return ready->limited &&
		(line->line->priority > ready->limit_priority ||
		 (line->line->priority == ready->limit_priority && queue_pos_cmp(line->bound, ready->limit_pos) >= 0));
}

/* Remembers a leased row that the scan passed, so that its expiry is noticed. */
static void
note_leased(const QueueJob *job)
{
	queue_lease_note(MyDatabaseId, job->id, job->line, queue_job_pos(job), job->leased_until);
}

/*
 * Takes exact keys, lowest first, until one names a due row that nobody leased.  A key
 * whose row is gone, moved or leased is dropped: whoever has it appends it again.
 */
static bool
load_key(QueueReady *ready, ReadyLine *line)
{
	QueueLine  *queue_line = line->line;
	QueuePos	key;

	while (queue_cursor_take_key(&queue_line->cursor, queue_line->id, line->view.start_seq, &key))
	{
		QueueNote	note = {0};
		QueueJob	job;

		/* in hand until it is claimed: given back if this transaction aborts meanwhile */
		note.line = queue_line->id;
		note.keys = queue_line_keys(queue_line);
		note.on_abort = true;
		note.abort_pos = note.commit_pos = key;
		queue_note_end(queue_note_begin(&note), true);

		if (!queue_job_peek(ready->table, key.id, ready->snapshot, &job) ||
			job.line != queue_line->id || job.run_at != key.run_at)
			continue;
		if (job.leased_until > ready->now)
		{
			note_leased(&job);
			continue;
		}
		if (job.run_at > ready->now)
		{
			/* the clock went back: keep it for later */
			queue_line_claimable(queue_line, key);
			ready->next_due = Min(ready->next_due, job.run_at);
			break;
		}
		line->head = job;
		line->bound = key;
		line->from_key = true;
		return true;
	}
	line->keys_done = true;
	return false;
}

/* Opens the line's scan at the cursor: line = $1 AND (run_at, id) >= (cursor). */
static void
open_scan(QueueReady *ready, ReadyLine *line)
{
	int			nkeys = 1;

	ScanKeyInit(&line->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line->line->id));
	if (queue_pos_cmp(line->view.cursor, QUEUE_POS_FIRST) > 0)
	{
		ScanKeyEntryInitialize(&line->members[0], SK_ROW_MEMBER, 2, BTGreaterEqualStrategyNumber,
							   InvalidOid, InvalidOid, F_TIMESTAMPTZ_CMP,
							   TimestampTzGetDatum(line->view.cursor.run_at));
		ScanKeyEntryInitialize(&line->members[1], SK_ROW_MEMBER | SK_ROW_END, 3, BTGreaterEqualStrategyNumber,
							   InvalidOid, InvalidOid, F_BTINT8CMP, Int64GetDatum(line->view.cursor.id));
		memset(&line->keys[1], 0, sizeof(ScanKeyData));
		line->keys[1].sk_flags = SK_ROW_HEADER;
		line->keys[1].sk_attno = 2;
		line->keys[1].sk_strategy = BTGreaterEqualStrategyNumber;
		line->keys[1].sk_argument = PointerGetDatum(line->members);
		nkeys = 2;
	}
	/* pending jobs lie at infinity, and under a held snapshot many dead entries of them */
	ScanKeyInit(&line->keys[nkeys++], 2, BTLessStrategyNumber, F_TIMESTAMP_LT, TimestampTzGetDatum(DT_NOEND));
	line->slot = table_slot_create(ready->table->rel, NULL);
	line->scan = queue_index_beginscan(ready->table->rel, queue_job_ready(ready->table), ready->snapshot, nkeys);
	index_rescan(line->scan, line->keys, nkeys, NULL, 0);
	line->scanned = true;
}

static void
close_scan(ReadyLine *line)
{
	if (line->scan != NULL)
	{
		index_endscan(line->scan);
		line->scan = NULL;
	}
	if (line->slot != NULL)
	{
		ExecDropSingleTupleTableSlot(line->slot);
		line->slot = NULL;
	}
}

/* Finds the line's next row; false: the line is done. */
static bool
load_head(QueueReady *ready, ReadyLine *line)
{
	line->loaded = true;
	line->from_key = false;
	if (!line->keys_done && load_key(ready, line))
		return true;
	if (!line->scanned && line->view.valid && (line->view.empty || line->view.next_due > ready->now))
	{
		/* only the keys made this line worth a look */
		if (!line->view.empty)
			line->next_due = line->view.next_due;
		line->done = true;
		return false;
	}
	if (!line->scanned)
		open_scan(ready, line);
	while (index_getnext_slot(line->scan, ForwardScanDirection, line->slot))
	{
		CHECK_FOR_INTERRUPTS();
		queue_job_read(line->slot, &line->head, false);
		line->bound = queue_job_pos(&line->head);
		if (line->head.run_at > ready->now)
		{
			line->passed = line->bound;
			line->next_due = line->head.run_at;
			line->done = true;
			return false;
		}
		if (line->head.leased_until <= ready->now)
			return true;
		note_leased(&line->head);
		line->passed = (QueuePos) {line->bound.run_at, line->bound.id + 1};
	}
	line->done = line->at_end = true;
	return false;
}

bool
queue_ready_next(QueueReady *ready, QueueJob *job, QueueLine **line)
{
	ReadyLine  *best;

	if (ready->current != NULL)
	{
		/* the row returned last is passed now */
		ReadyLine  *last = ready->current;

		if (!last->from_key)
			last->passed = (QueuePos) {last->head.run_at, last->head.id + 1};
		last->loaded = false;
		ready->current = NULL;
	}
	for (;;)
	{
		best = NULL;
		for (int i = 0; i < ready->n; i++)
		{
			ReadyLine  *candidate = &ready->line[i];

			if (candidate->done)
				continue;
			if (best == NULL || candidate->line->priority < best->line->priority ||
				(candidate->line->priority == best->line->priority &&
				 queue_pos_cmp(candidate->bound, best->bound) < 0))
				best = candidate;
		}
		if (best == NULL || behind_limit(ready, best))
			return false;
		if (best->loaded || load_head(ready, best))
		{
			/* loading may have moved its bound past another's */
			bool		first = true;

			for (int i = 0; i < ready->n && first; i++)
			{
				ReadyLine  *other = &ready->line[i];

				first = other == best || other->done || other->line->priority != best->line->priority ||
					queue_pos_cmp(best->bound, other->bound) <= 0;
			}
			if (first)
				break;
		}
	}
	ready->current = best;
	*job = best->head;
	*line = best->line;
	return true;
}

/* The row returned last was only looked at: it does not count as passed. */
void
queue_ready_put_back(QueueReady *ready)
{
	ready->current = NULL;
}

/* Likewise, and nobody is woken for it now: the caller sees to that it is looked at again. */
void
queue_ready_lend(QueueReady *ready)
{
	ready->lent = ready->current;
	ready->current = NULL;
}

/* Completes the row returned last with payload and extra, in the current memory context. */
void
queue_ready_read_deep(QueueReady *ready, QueueJob *job)
{
	ReadyLine  *line = ready->current;

	if (line->from_key)
	{
		if (!queue_job_find(ready->table, line->head.id, ready->snapshot, job))
			elog(ERROR, "job " INT64_FORMAT " vanished from its snapshot", line->head.id);
	}
	else
		queue_job_read(line->slot, job, true);
}

TimestampTz
queue_ready_later_due(QueueReady *ready, bool *more)
{
	TimestampTz due = ready->next_due;

	*more = false;
	for (int i = 0; i < ready->n; i++)
	{
		if (ready->line[i].done)
			due = Min(due, ready->line[i].next_due);
		else
			*more = true;
	}
	return due;
}

TimestampTz
queue_ready_next_due(QueueReady *ready)
{
	bool		more;
	TimestampTz due = queue_ready_later_due(ready, &more);

	return more ? DT_NOBEGIN : due;
}

void
queue_ready_end(QueueReady *ready)
{
	if (ready->current != NULL)
	{
		ReadyLine  *last = ready->current;

		if (!last->from_key)
			last->passed = (QueuePos) {last->head.run_at, last->head.id + 1};
		last->loaded = false;
	}
	for (int i = 0; i < ready->n; i++)
	{
		ReadyLine  *line = &ready->line[i];
		QueueLine  *queue_line = line->line;

		close_scan(line);
		if (line->own && line->scanned)
			queue_note_own_passed(queue_line->id, line->at_end ? (QueuePos) {DT_NOEND, PG_INT64_MAX} : line->passed);
		if (!line->view.valid)
			continue;
		if (line->loaded && !line->done && line->from_key)
		{
			/* a key not used; who looked meanwhile has missed it.  What is lent, whoever lends it tells of later */
			if (line == ready->lent)
				(void) queue_cursor_append(MyDatabaseId, queue_line->id, line->bound, 1);
			else
				queue_line_claimable(queue_line, line->bound);
		}
		if (!line->scanned)
			continue;
		if (line->at_end)
		{
			/* what commits from now on is due later than now, or is appended */
			QueuePos	end = {ready->now, PG_INT64_MIN};

			queue_cursor_raise(&queue_line->cursor, queue_line->id, line->view.start_seq,
							   queue_pos_cmp(end, line->passed) > 0 ? end : line->passed, true, DT_NOEND);
		}
		else
			queue_cursor_raise(&queue_line->cursor, queue_line->id, line->view.start_seq, line->passed,
							   false, line->done ? line->next_due : DT_NOBEGIN);
	}
	PopActiveSnapshot();
	pfree(ready);
}
