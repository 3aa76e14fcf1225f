/*
 * ready.c
 *		Reading due, unclaimed jobs in (priority, run_at, id) order over a set of lines; where concurrency keys take
 *		turns, in the order of these.
 *
 * The one way in which fetch and the scheduler look for work.  A line is read behind
 * its cursor by one index scan, and several are merged by their heads, in a heap.  A line's scan
 * is opened only when its lower bound (lowest exact key, else the cursor) may be the
 * next position.  Lines come from the caller, or from agendas, which give them in the order of their bounds,
 * a few at a time: so a reading opens few lines, and meets none that has nothing for it.
 *
 * What was passed (returned, leased, or found locked by the caller) is told to the
 * cursor when its line is done or the reading ends, under the rules of cursor.c: the sequence number before
 * the snapshot, keys probed first and given back unless used, no raise above READ COMMITTED.  A line that is left
 * in the midst is told the exact position of its next row, so that the next reader knows where it comes in the order
 * without opening it.
 */
#include "job/ready.h"

#include "job/ready_line.h"
#include "job/seek.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"

#define BURST_PART 2			/* of the time that a job waited */
#define OPENED_AT_ONCE 16		/* lines that were given; of more, only those that come first */
#define SCANS_MAX 16			/* open at once; each takes 30 kB, and the server's lists of what is open are slow */

#define WINDOW 16				/* a scan is opened for so many rows, by their usual distance; then for all .. */
#define FEW 32					/* .. and at once for all if they are no more than these */

struct QueueReady
{
	QueueJobTable *table;
	QueueReadyLines what;
	Snapshot	snapshot;
	uint64		start_seq;
	uint64		number;			/* of this reading */
	bool		may_raise;
	TimestampTz now;
	TimestampTz next_due;		/* of lines that were read to what is due, or were not worth opening */
	bool		limited;		/* only rows before .. are wanted */
	QueueOrder	limit;
	bool		left_some;		/* behind it */
	ReadyLine  *current;		/* the line of the row returned last */
	ReadyLine  *lent;			/* whose head was lent */
	ReadyLine **heap;			/* lines with more to read, the next one first */
	int			n;
	int			allocated;
	QueueTurns	turns;
	QueueStreams streams;
	QueueSeek	keyed;			/* the rows of exact keys */
	ReadyScan	scans[SCANS_MAX];
	int			nscans;
	MemoryContext cxt;
};

static uint64 readings = 0;

/* ---------------------------------------------------------------- the heap */

/* The i'th line comes later now. */
static void
sift_down_at(QueueReady *ready, int i)
{
	ReadyLine  *line = ready->heap[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child + 1 < ready->n && comes_before(ready->heap[child + 1], ready->heap[child]))
			child++;
		if (child >= ready->n || !comes_before(ready->heap[child], line))
			break;
		ready->heap[i] = ready->heap[child];
		i = child;
	}
	ready->heap[i] = line;
}

/* The first line comes later now. */
static inline void
sift_down(QueueReady *ready)
{
	sift_down_at(ready, 0);
}

static void
push(QueueReady *ready, ReadyLine *line)
{
	int			i = ready->n++;

	if (i == ready->allocated)
	{
		ready->allocated = Max(16, ready->allocated * 2);
		ready->heap = ready->heap == NULL ? MemoryContextAlloc(ready->cxt, ready->allocated * sizeof(ReadyLine *)) :
			repalloc_huge(ready->heap, ready->allocated * sizeof(ReadyLine *));
	}
	while (i > 0 && comes_before(line, ready->heap[(i - 1) / 2]))
	{
		ready->heap[i] = ready->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	ready->heap[i] = line;
}

/* Takes the first line out. */
static void
pop(QueueReady *ready)
{
	ready->heap[0] = ready->heap[--ready->n];
	if (ready->n > 0)
		sift_down(ready);
}

/* ---------------------------------------------------------------- which lines */

/* The line's key takes turns with others.  Where the group comes is fixed once the reading has begun. */
static void
join_group(QueueReady *ready, ReadyLine *line)
{
	line->group = queue_turns_group(&ready->turns, line->line->queue, line->line->priority);
	line->tells_turn &= line->group != NULL;
	if (line->group == NULL)
		return;
	line->order.group = line->group->order.group;
	line->order.turn = queue_turns_of(line->group, line->line);
	if (line->view.valid && (ready->snapshot == NULL || !queue_turns_seen(line->group)))
		queue_turns_see(&ready->turns, line->group, line->bound);
}

/* Takes a line into the reading, unless it is in it or its cursor tells that there is nothing for us. */
static void
add_line(QueueReady *ready, QueueLine *queue_line, bool tells_turn, uint64 told_turn)
{
	QueueCursorView view;
	ReadyLine  *line;
	QueuePos	own_pos;
	bool		own = false;

	if (queue_line->reading == ready->number)
		return;
	queue_line->reading = ready->number;
	view = queue_cursor_look(&queue_line->cursor);

	/*
	 * What this transaction itself made claimable and nobody else sees yet: read on from there, over whatever
	 * the keys name.  The cursor may still be raised over it: the commit appends it.
	 */
	if (view.valid && ready->may_raise && queue_note_own(queue_line->id, &own_pos))
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
			return;
		if (view.next_due > ready->now)
		{
			ready->next_due = Min(ready->next_due, view.next_due);
			return;
		}
	}
	line = MemoryContextAllocZero(ready->cxt, sizeof(ReadyLine));
	line->line = queue_line;
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
	if (!line->keys_done && view.nkeys > 0 && (view.empty || queue_pos_cmp(view.first_key, line->bound) < 0))
		line->bound = view.first_key;
	line->passed = line->view.cursor;
	line->next_due = line->until = DT_NOEND;
	/* a page of the index is read as far as the scan goes, however few of its rows are wanted */
	if (view.distance > 0 && line->bound.run_at > 0 &&
		(ready->now - line->bound.run_at) / view.distance > FEW)
		line->until = line->bound.run_at + WINDOW * view.distance;
	line->tells_turn = tells_turn;
	line->told_turn = told_turn;
	join_group(ready, line);
	order_line(line, ready->now);
	push(ready, line);
}

static bool load_head(QueueReady *ready, ReadyLine *line);
static void end_line(QueueReady *ready, ReadyLine *line);
static void leave_line(QueueReady *ready, ReadyLine *line);

/*
 * Now that all lines are known that were given, where groups come among others: by their oldest jobs.  Where no cursor
 * tells of these, the lines are opened.
 */
static void
place_groups(QueueReady *ready)
{
	int			n = ready->n;

	ready->n = 0;
	for (int i = 0; i < n; i++)
	{
		ReadyLine  *line = ready->heap[i];

		if (line->group != NULL && !line->view.valid)
		{
			line->loaded = load_head(ready, line);
			if (!line->loaded)
			{
				end_line(ready, line);
				continue;
			}
			queue_turns_see(&ready->turns, line->group, line->bound);
		}
		ready->heap[ready->n++] = line;
	}
	for (int i = 0; i < ready->n; i++)
		order_line(ready->heap[i], ready->now);
	for (int i = ready->n / 2 - 1; i >= 0; i--)
		sift_down_at(ready, i);
}

QueueReady *
queue_ready_begin(QueueJobTable *table, const QueueReadyLines *what, TimestampTz now)
{
	QueueReady *ready = palloc0(sizeof(QueueReady));

	ready->table = table;
	ready->what = *what;
	ready->now = now;
	ready->next_due = DT_NOEND;
	ready->may_raise = !IsolationUsesXactSnapshot();
	ready->number = ++readings;
	ready->cxt = ready->keyed.cxt = CurrentMemoryContext;
	ready->turns = (QueueTurns) {.readers = what->readers, .now = now, .cxt = CurrentMemoryContext};
	ready->start_seq = queue_cursor_seq();
	queue_streams_begin(&ready->streams, &ready->what, &ready->turns, ready->number);
	if (ready->may_raise && queue_database() != NULL && what->nlines > OPENED_AT_ONCE)
		queue_streams_give(&ready->streams);
	else
	{
		for (int i = 0; i < what->nlines; i++)
			add_line(ready, what->lines[i], false, 0);
	}
	PushActiveSnapshot(ready->may_raise ? GetLatestSnapshot() : GetTransactionSnapshot());
	ready->snapshot = GetActiveSnapshot();
	if (ready->turns.groups != NULL)
		place_groups(ready);
	return ready;
}

/* Is this behind the limit? */
static inline bool
behind_limit(const QueueReady *ready, const QueueOrder *order)
{
	return unlikely(ready->limited) && queue_order_beyond(order, &ready->limit);
}

/* Takes in the lines of agendas that may come before what is known; then the first line is in heap[0]. */
static void
take_lines(QueueReady *ready)
{
	QueueLine  *line;
	QueueOrder	order;
	QueuePos	bound;

	while (queue_streams_peek(&ready->streams, &line, &order, &bound))
	{
		uint64		turn = 0;
		bool		tells;

		if (ready->n > 0 && may_go_before(ready->heap[0], &order, bound))
			break;
		tells = queue_streams_pass(&ready->streams, &turn);
		add_line(ready, line, tells, turn);
	}
}

Snapshot
queue_ready_snapshot(QueueReady *ready)
{
	return ready->snapshot;
}

void
queue_ready_before(QueueReady *ready, const QueueOrder *limit)
{
	ready->limited = true;
	ready->limit = *limit;
	ready->streams.limit = &ready->limit;
}

QueueOrder
queue_ready_order(const QueueReady *ready)
{
	const ReadyLine *line = ready->current;
	QueueOrder	order = line->burst_order;

	if (line->group != NULL)
		order.turn = queue_turns_of(line->group, line->line);
	return order;
}

void
queue_ready_use(QueueReady *ready, bool started)
{
	ReadyLine  *line = ready->current;
	uint64		turn;

	if (likely(line->group == NULL))
		return;
	if (started)
		queue_turn_started(&line->order);
	turn = queue_turns_use(line->group, line->line);
	line->in_turn = queue_turn_round(turn) == queue_turn_round(line->order.turn);
	if (!line->in_turn)
		line->order.turn = turn;
}

/* Another line of its key, or another session, may have used some of its turn.  True: it comes later. */
static bool
turn_passed(QueueReady *ready, ReadyLine *line)
{
	uint64		turn;

	if (likely(line->group == NULL) || line->in_turn)
		return false;
	turn = queue_turns_of(line->group, line->line);
	if (turn <= line->order.turn)
		return false;
	line->order.turn = turn;
	return true;
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
	/* without the kind's numbers: what is only in hand moves none, and to find them costs a miss of the cache */
	QueueLineKeys keys = {queue_line->queue->key, queue_line->kind_key, queue_line->priority, queue_line->served,
		queue_config_generation(), NULL};
	QueuePos	key;

	for (;;)
	{
		QueueNote	note = {0};
		QueueJob	job;

		queue_note_reserve();
		if (!queue_cursor_take_key(&queue_line->cursor, ready->start_seq, &key))
			break;
		line->view.nkeys--;

		/* in hand until it is claimed: given back if this transaction aborts meanwhile */
		note.line = queue_line->id;
		note.keys = keys;
		note.on_abort = true;
		note.abort_pos = note.commit_pos = key;
		queue_note_end(queue_note_begin(&note), true);

		if (!queue_seek(&ready->keyed, ready->table, key.id, ready->snapshot, &job) ||
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

/* A scan that no line uses; if all are in use, that of the line which comes last. */
static ReadyScan *
free_scan(QueueReady *ready)
{
	ReadyScan  *last = NULL;

	for (int i = 0; i < ready->nscans; i++)
	{
		ReadyScan  *scan = &ready->scans[i];

		if (scan->user == NULL)
			return scan;
		if (last == NULL || comes_before(last->user, scan->user))
			last = scan;
	}
	if (ready->nscans < SCANS_MAX)
	{
		ReadyScan  *scan = &ready->scans[ready->nscans];
		MemoryContext old = MemoryContextSwitchTo(ready->cxt);

		scan->slot = table_slot_create(ready->table->rel, NULL);
		scan->scan = queue_index_beginscan(ready->table->rel, queue_job_ready(ready->table), ready->snapshot, NKEYS);
		scan->user = NULL;
		ready->nscans++;
		MemoryContextSwitchTo(old);
		return scan;
	}
	last->user->scan = NULL;
	return last;
}

/* Opens the line's scan behind what was passed: line = $1 AND (run_at, id) >= (passed) AND run_at < until. */
static void
open_scan(QueueReady *ready, ReadyLine *line)
{
	ReadyScan  *scan = free_scan(ready);

	ScanKeyInit(&line->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line->line->id));
	ScanKeyEntryInitialize(&line->members[0], SK_ROW_MEMBER, 2, BTGreaterEqualStrategyNumber,
						   InvalidOid, InvalidOid, F_TIMESTAMPTZ_CMP,
						   TimestampTzGetDatum(line->passed.run_at));
	ScanKeyEntryInitialize(&line->members[1], SK_ROW_MEMBER | SK_ROW_END, 3, BTGreaterEqualStrategyNumber,
						   InvalidOid, InvalidOid, F_BTINT8CMP, Int64GetDatum(line->passed.id));
	memset(&line->keys[1], 0, sizeof(ScanKeyData));
	line->keys[1].sk_flags = SK_ROW_HEADER;
	line->keys[1].sk_attno = 2;
	line->keys[1].sk_strategy = BTGreaterEqualStrategyNumber;
	line->keys[1].sk_argument = PointerGetDatum(line->members);
	/* pending jobs lie at infinity, and under a held snapshot many dead entries of them */
	ScanKeyInit(&line->keys[2], 2, BTLessStrategyNumber, F_TIMESTAMP_LT, TimestampTzGetDatum(line->until));
	index_rescan(scan->scan, line->keys, NKEYS, NULL, 0);
	scan->user = line;
	line->scan = scan;
	line->scanned = true;
}

/* Another line may have the scan. */
static void
close_scan(ReadyLine *line)
{
	if (line->scan == NULL)
		return;
	ExecClearTuple(line->scan->slot);
	line->scan->user = NULL;
	line->scan = NULL;
}

/* The next row of the line's scan, in its slot; false: there is none. */
static bool
scan_row(QueueReady *ready, ReadyLine *line)
{
	if (line->scan == NULL)
		open_scan(ready, line);
	if (index_getnext_slot(line->scan->scan, ForwardScanDirection, line->scan->slot))
		return true;
	if (line->until == DT_NOEND)
		return false;
	line->until = DT_NOEND;
	close_scan(line);
	return scan_row(ready, line);
}

/* Finds the next row of the line's scan; false: there is none that is due. */
static bool
scan_head(QueueReady *ready, ReadyLine *line)
{
	while (scan_row(ready, line))
	{
		CHECK_FOR_INTERRUPTS();
		queue_job_read(line->scan->slot, &line->head, false);
		line->bound = line->passed = queue_job_pos(&line->head);
		if (line->returned != 0)
			line->distance = line->bound.run_at - line->returned;
		line->returned = 0;
		if (line->head.run_at > ready->now)
		{
			line->next_due = line->head.run_at;
			return false;
		}
		if (line->head.leased_until <= ready->now)
			return true;
		note_leased(&line->head);
		line->passed = (QueuePos) {line->bound.run_at, line->bound.id + 1};
	}
	line->at_end = true;
	return false;
}

/* Finds the line's next row; false: there is none. */
static bool
load_head(QueueReady *ready, ReadyLine *line)
{
	QueueLine  *queue_line = line->line;

	line->from_key = false;
	if (!line->keys_done && load_key(ready, line))
		return true;
	if (!line->scanned && line->view.valid && line->view.nkeys > 0)
	{
		/* a key that we saw is gone: another took it, or it was the line's single row and is one of several now */
		line->view = queue_cursor_look(&queue_line->cursor);
		line->passed = line->view.cursor;
	}
	if (!line->scanned && line->view.valid && (line->view.empty || line->view.next_due > ready->now))
	{
		/* only the keys made this line worth a look */
		if (!line->view.empty)
			line->next_due = line->view.next_due;
		return false;
	}
	return scan_head(ready, line);
}

/* Tells the agenda of the line's turn, if that is another than it knows. */
static void
tell_turn(ReadyLine *line)
{
	uint64		turn = queue_turns_of(line->group, line->line);

	if (turn != line->told_turn)
		queue_cursor_tell_turn(&line->line->cursor, turn);
}

/* Tells the cursor, and this transaction's notes, how far the line was read; then nothing of it is needed any more. */
static void
end_line(QueueReady *ready, ReadyLine *line)
{
	QueueLine  *queue_line = line->line;

	ready->next_due = Min(ready->next_due, line->next_due);
	close_scan(line);
	if (line->own && line->scanned)
		queue_note_own_passed(queue_line->id, line->at_end ? (QueuePos) {DT_NOEND, PG_INT64_MAX} : line->passed);
	if (line->view.valid && line->scanned)
	{
		QueuePos	pos = line->passed;

		/* what commits from now on is due later than now, or is appended */
		if (line->at_end && queue_pos_cmp((QueuePos) {ready->now, PG_INT64_MIN}, pos) > 0)
			pos = (QueuePos) {ready->now, PG_INT64_MIN};
		queue_cursor_raise(&queue_line->cursor, ready->start_seq, pos, line->at_end,
						   line->at_end || line->next_due != DT_NOEND ? line->next_due : DT_NOBEGIN,
						   line->distance);
	}
	if (line->tells_turn)
		tell_turn(line);
	pfree(line);
}

/* The row returned last is passed now. */
static void
pass_current(QueueReady *ready)
{
	ReadyLine  *line = ready->current;

	if (line == NULL)
		return;
	if (!line->from_key)
	{
		line->bound = line->passed = (QueuePos) {line->head.run_at, line->head.id + 1};
		line->returned = line->head.run_at;
	}
	line->loaded = false;
	order_line(line, ready->now);
	ready->current = NULL;
}

/*
 * May the line's next job come right behind the one that was returned last, though another line's is older?  Only over
 * more lines than have scans, where each change of the line costs a descent in the index, and only if the jobs have
 * waited nearly as long.
 */
static bool
may_burst(const QueueReady *ready, const ReadyLine *line)
{
	TimestampTz from = line->burst_order.place.run_at;

	return line->burst > 0 && line->burst < ready->what.burst && ready->nscans == SCANS_MAX &&
		line->head.run_at - from < (ready->now - from) / BURST_PART &&
		line->group == NULL && !behind_limit(ready, &line->order);
}

bool
queue_ready_next(QueueReady *ready, QueueJob *job, QueueLine **line)
{
	ReadyLine  *last = ready->current;

	pass_current(ready);
	for (;;)
	{
		ReadyLine  *best;

		if (last == NULL)
			take_lines(ready);
		if (ready->n == 0)
			return false;
		best = ready->heap[0];
		if (behind_limit(ready, &best->order))
		{
			if (ready->turns.groups == NULL)
				return false;
			ready->left_some = true;	/* groups may come behind it */
			pop(ready);
			leave_line(ready, best);
			last = NULL;
			continue;
		}
		if (turn_passed(ready, best))
		{
			sift_down(ready);
			last = NULL;
			continue;
		}
		if (best->loaded)
		{
			if (best->burst++ == 0)
				best->burst_order = best->order;
			ready->current = best;
			*job = best->head;
			*line = best->line;
			return true;
		}
		best->loaded = load_head(ready, best);
		order_line(best, ready->now);
		if (best->loaded && best == last && may_burst(ready, best))
			continue;
		last = NULL;
		best->burst = 0;
		if (best->loaded)
			sift_down(ready);	/* loading may have moved its bound past another's */
		else
		{
			pop(ready);
			end_line(ready, best);
		}
	}
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

	if (line->scan == NULL)
	{
		if (!queue_job_find(ready->table, line->head.id, ready->snapshot, job))
			elog(ERROR, "job " INT64_FORMAT " vanished from its snapshot", line->head.id);
	}
	else
		queue_job_read(line->scan->slot, job, true);
}

TimestampTz
queue_ready_later_due(QueueReady *ready, bool *more)
{
	QueueLine  *line;
	QueueOrder	order;
	QueuePos	bound;

	ready->streams.limit = NULL;
	*more = ready->n > 0 || ready->left_some || queue_streams_peek(&ready->streams, &line, &order, &bound);
	return Min(ready->next_due, ready->streams.next_due);
}

TimestampTz
queue_ready_next_due(QueueReady *ready)
{
	bool		more;
	TimestampTz due = queue_ready_later_due(ready, &more);

	return more ? DT_NOBEGIN : due;
}

/*
 * Gives the line's key back if it was not used, and finds the line's next row, so that its place in the order is known
 * exactly.
 */
static void
leave_line(QueueReady *ready, ReadyLine *line)
{
	if (line->loaded && line->from_key && line->view.valid)
	{
		QueueLineKeys keys = queue_line_keys(line->line);

		/* a key not used; who looked meanwhile has missed it.  What is lent, whoever lends it tells of later */
		if (line == ready->lent)
			(void) queue_cursor_append(MyDatabaseId, line->line->id, &keys, line->bound, 1);
		else if (ready->what.scheduler)
			queue_note_left(MyDatabaseId, line->line->id, &keys, line->bound);
		else
			queue_line_claimable(line->line, line->bound);
	}
	if (!line->loaded && line->scanned && line->view.valid)
		(void) scan_head(ready, line);
	end_line(ready, line);
}

void
queue_ready_skip(QueueReady *ready)
{
	ReadyLine  *line = ready->current;

	Assert(line == ready->heap[0]);
	ready->current = NULL;
	ready->lent = line;
	pop(ready);
	leave_line(ready, line);
	ready->lent = NULL;
}

void
queue_ready_end(QueueReady *ready)
{
	pass_current(ready);
	for (int i = 0; i < ready->n; i++)
		leave_line(ready, ready->heap[i]);
	queue_seek_end(&ready->keyed);
	for (int i = ready->nscans - 1; i >= 0; i--)
	{
		index_endscan(ready->scans[i].scan);
		ExecDropSingleTupleTableSlot(ready->scans[i].slot);
	}
	PopActiveSnapshot();
	pfree(ready);
}
