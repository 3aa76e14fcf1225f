/*
 * note.c
 *		What a transaction owes to others when it ends, and the transaction callbacks
 *		that pay it.
 *
 * Every write to a job row makes a note BEFORE the change: which position becomes
 * claimable if it commits, which if it aborts, which lease it takes, which counters it
 * moves.  The callbacks run after the transaction's end took effect for others (its
 * xid has left the proc array), so a reader that looks later sees what we tell of.
 * They only touch shared memory and latches: no palloc, no ereport, no catalog.
 *
 * The notes form a stack by nest level: those of a subtransaction are at the tail, are
 * handed to its parent when it commits and paid when it aborts.
 *
 * PREPARE TRANSACTION moves the notes to a shared table (prepared.c).
 *
 * Locks: none of its own.
 */
#include "shared/note.h"

#include "shared/clock.h"
#include "shared/ended.h"
#include "shared/endpoint.h"
#include "shared/unit.h"

#include "access/xact.h"
#include "utils/memutils.h"

#define MERGE_AFTER 64			/* notes of one level before like ones are merged */
#define MERGE_ENDS_AFTER QUEUE_ENDED_MAX	/* of those that end a job: who waits for one is woken */
#define MERGE_LOOKBACK 16
#define RANGE_FROM 8			/* claims of one line and end that are told as a range */
#define RANGE_WINDOW (MERGE_AFTER + MERGE_LOOKBACK)

static QueueNote *notes = NULL;
static int	nnotes = 0;
static int	maxnotes = 0;
static int	last_on_commit = -1;	/* no note behind this one has on_commit */

/* A new line and the nest level that made it; they form a stack like the notes. */
typedef struct NewLine
{
	int			level;
	QueueNewLine line;
} NewLine;

static NewLine *new_lines = NULL;
static int	nnew_lines = 0;
static int	maxnew_lines = 0;
static int	config_level = 0;	/* > 0: queue_note_config was called at this nest level */
static int	launcher_level = 0;

/* Can these two be told as one (lowest position, sum of counts)? */
static bool
mergeable(const QueueNote *a, const QueueNote *b)
{
	return a->level == b->level && a->line == b->line &&
		a->on_commit == b->on_commit && a->on_abort == b->on_abort &&
		a->ends == b->ends && a->failed == b->failed && a->kind_only == b->kind_only &&
		a->keys.counter == b->keys.counter && a->from == b->from && a->to == b->to &&
		a->leased_until == b->leased_until && a->lease_was == b->lease_was && (a->deadline != 0) == (b->deadline != 0);
}

void
queue_note_reserve(void)
{
	int			size = Max(64, maxnotes * 2);

	if (!queue_preloaded() || nnotes < maxnotes)
		return;
	notes = notes == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(QueueNote)) :
		repalloc_huge(notes, size * sizeof(QueueNote));
	maxnotes = size;
}

int
queue_note_begin(const QueueNote *note)
{
	QueueNote  *new;

	if (!queue_preloaded())
		return -1;
	(void) queue_database();		/* made now: the callbacks must not */
	queue_note_reserve();
	new = &notes[nnotes];
	*new = *note;
	new->level = GetCurrentTransactionNestLevel();
	if (new->count == 0)
		new->count = 1;
	new->own_pos = new->high_pos = new->commit_pos;
	if (new->on_commit)
		last_on_commit = nnotes;
	return nnotes++;
}

/*
 * The job of this note is leased now, after this transaction itself had made it claimable: nobody is told of that.  A
 * position told would stay with its line as an exact key, and the next fetch that goes on in its own transaction would
 * read from there.
 */
static void
claimed_own(const QueueNote *lease)
{
	int			last = Min(last_on_commit, nnotes - 2);

	for (int i = last; i >= 0 && i > last - MERGE_LOOKBACK; i--)
	{
		QueueNote  *note = &notes[i];

		if (note->on_commit && note->job_id == lease->job_id && note->level == lease->level &&
			note->line == lease->line)
			note->commit_pos.run_at = DT_NOEND;
	}
}

void
queue_note_end(int number, bool done)
{
	QueueNote  *note;

	if (number < 0)
		return;
	note = &notes[number];
	if (!done)
	{
		/* a row trigger may have noted something behind it: then it stays, void */
		note->on_commit = note->on_abort = note->ends = note->failed = false;
		note->leased_until = note->deadline = 0;
		note->to = note->from;
	}
	else if (note->lease_was != 0 && note->job_id != 0)
	{
		/* a lease that ends, or earlier */
		if (note->leased_until == DT_NOBEGIN)
			queue_unit_row(note->job_id, 0);
		else if (note->leased_until < note->lease_was)
			queue_unit_row(note->job_id, note->leased_until);
	}
	if (number != nnotes - 1)
		return;
	if (!done)
	{
		nnotes--;
		return;
	}
	if (note->leased_until > 0 && !note->on_commit && note->job_id != 0)
		claimed_own(note);
	for (int i = number - 1; number >= (note->ends ? MERGE_ENDS_AFTER : MERGE_AFTER) && i >= number - MERGE_LOOKBACK;
		 i--)
	{
		QueueNote  *old = &notes[i];

		if (!mergeable(old, note))
			continue;
		if (queue_pos_cmp(note->commit_pos, old->commit_pos) < 0)
			old->commit_pos = note->commit_pos;
		if (queue_pos_cmp(note->high_pos, old->high_pos) > 0)
			old->high_pos = note->high_pos;
		if (queue_pos_cmp(note->own_pos, old->own_pos) < 0)
			old->own_pos = note->own_pos;
		if (queue_pos_cmp(note->abort_pos, old->abort_pos) < 0)
			old->abort_pos = note->abort_pos;
		old->deadline = Min(old->deadline, note->deadline);
		old->count += note->count;
		old->job_id = 0;
		nnotes--;
		return;
	}
}

bool
queue_note_own_line(int *i, int64 *line)
{
	for (; *i < nnotes; (*i)++)
	{
		if (notes[*i].on_commit && notes[*i].own_pos.run_at != DT_NOEND)
		{
			*line = notes[(*i)++].line;
			return true;
		}
	}
	return false;
}

bool
queue_note_own(int64 line, QueuePos *lowest)
{
	int			last = Min(last_on_commit, nnotes - 1);
	bool		found = false;

	for (int i = 0; i <= last; i++)
	{
		if (notes[i].line != line || !notes[i].on_commit || notes[i].own_pos.run_at == DT_NOEND ||
			(found && queue_pos_cmp(notes[i].own_pos, *lowest) >= 0))
			continue;
		*lowest = notes[i].own_pos;
		found = true;
	}
	return found;
}

void
queue_note_own_passed(int64 line, QueuePos pos)
{
	for (int i = 0; i < nnotes; i++)
	{
		if (notes[i].line != line || !notes[i].on_commit || queue_pos_cmp(notes[i].own_pos, pos) >= 0)
			continue;
		notes[i].own_pos = pos;
		if (notes[i].count == 1)
			notes[i].own_pos.run_at = DT_NOEND; /* its one row was passed */
	}
}

void
queue_note_own_anew(void)
{
	for (int i = 0; i < nnotes; i++)
	{
		if (notes[i].on_commit)
			notes[i].own_pos = notes[i].commit_pos;
	}
}

void
queue_note_new_line(const QueueNewLine *line)
{
	(void) queue_database();
	if (nnew_lines == maxnew_lines)
	{
		int			size = Max(16, maxnew_lines * 2);

		new_lines = new_lines == NULL ?
			MemoryContextAlloc(TopMemoryContext, size * sizeof(NewLine)) :
			repalloc_huge(new_lines, size * sizeof(NewLine));
		maxnew_lines = size;
	}
	new_lines[nnew_lines++] = (NewLine) {GetCurrentTransactionNestLevel(), *line};
}

void
queue_note_config(void)
{
	(void) queue_database();
	if (config_level == 0)
		config_level = GetCurrentTransactionNestLevel();
}

bool
queue_note_configured(void)
{
	return config_level > 0;
}

void
queue_note_launcher(void)
{
	if (launcher_level == 0)
		launcher_level = GetCurrentTransactionNestLevel();
}

/* Wakes the scheduler once for a batch of notes: now, or when the earliest future job is due. */
typedef struct Wake
{
	bool		needed;
	TimestampTz when;
} Wake;

static void
append(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos, int count, Wake *wake)
{
	if (pos.run_at == DT_NOEND)
		return;					/* nobody reads there: whoever lets it into its line makes a note of that */
	if (queue_cursor_append(db, line, keys, pos, count))
	{
		wake->when = wake->needed ? Min(wake->when, pos.run_at) : pos.run_at;
		wake->needed = true;
	}
	/* also for a job that is due later: one waiter then knows until when to sleep */
	if (keys != NULL)
		(void) queue_fetch_waiter_wake(db, keys, count);
	else
		queue_fetch_waiter_wake_all(db);
}

static void
wake_scheduler(QueueDatabase *base, const Wake *wake)
{
	if (base != NULL && wake->needed)
		queue_database_wake(base, wake->when <= queue_now() ? 0 : wake->when);
}

void
queue_note_claimable(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos, int count)
{
	Wake		wake = {false, 0};

	append(db, line, keys, pos, count, &wake);
	wake_scheduler(queue_database_of(db, false), &wake);
}

/* Called by ready.c. */
void
queue_note_left(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos)
{
	Wake		wake = {false, 0};

	append(db, line, keys, pos, 1, &wake);
}

/*
 * Tells of the leases that a note took: with those of its like among the notes behind it as one range, if they are
 * many; these are then marked as told.  n: the notes from this one on.  Commit-safe.
 */
static void
tell_leases(Oid db, QueueNote *note, int n)
{
	QueueLease	lease = {.id = note->job_id, .line = note->line, .pos = note->commit_pos, .until = note->leased_until};
	QueueLease range = {.line = note->line,
						.pos = note->commit_pos,
						.high = note->high_pos,
						.count = note->count,
						.until = note->leased_until};
	int			last = 0;

	for (int i = 1; i < Min(n, RANGE_WINDOW); i++)
	{
		if (note[i].line != note->line || note[i].leased_until != note->leased_until ||
			note[i].lease_was != note->lease_was)
			continue;
		if (queue_pos_cmp(note[i].commit_pos, range.pos) < 0)
			range.pos = note[i].commit_pos;
		if (queue_pos_cmp(note[i].high_pos, range.high) > 0)
			range.high = note[i].high_pos;
		range.count += note[i].count;
		last = i;
	}
	if (range.count < RANGE_FROM && note->job_id != 0)
	{
		queue_lease_claimed(db, &lease, note->lease_was);
		return;
	}
	for (int i = 1; i <= last; i++)
	{
		if (note[i].line == note->line && note[i].leased_until == note->leased_until &&
			note[i].lease_was == note->lease_was)
			note[i].leased_until = 0;
	}
	queue_lease_claimed(db, &range, note->lease_was);
}

/* How many more rows of a note, filed as waiting, are due: those that are, less those that were.  Commit-safe. */
static int64
became_due(const QueueNote *note)
{
	TimestampTz now = queue_now();
	int64		due;

	if (!note->on_commit)
		return 0;
	due = note->high_pos.run_at <= now ? note->count : 0;
	/* another filing leaves the due ones with it */
	if (note->from == note->to && note->on_abort && note->abort_pos.run_at <= now)
		due -= note->count;
	return due;
}

/* The queue's reference; NULL: unknown. */
static inline QueueCounterRef *
queue_of(const QueueNote *note)
{
	return note->keys.counter != NULL ? note->keys.counter->queue : NULL;
}

/* Do two notes move the same numbers of a queue? */
static inline bool
move_alike(const QueueNote *a, const QueueNote *b)
{
	return a->from == b->from && a->to == b->to && a->kind_only == b->kind_only &&
		a->keys.queue_key == b->keys.queue_key && queue_of(a) == queue_of(b);
}

/* Pays notes of a transaction that committed, after what ended: who is woken then finds how.  Commit-safe. */
void
queue_note_pay_commit(Oid db, QueueDatabase *base, QueueNote *note, int n)
{
	Wake		wake = {false, 0};
	int64		moved = 0;		/* rows, by notes in a row that move the same numbers of a queue */
	int64		due = 0;		/* of those, the ones that need not wait for a time */
	int64		kind_moved = 0; /* the same of a kind in it */
	int64		kind_due = 0;
	TimestampTz deadline = PG_INT64_MAX;
	TimestampTz waiting = DT_NOEND; /* the earliest time that one of them waits for */

	for (int i = 0; i < n; i++, note++)
	{
		if (note->leased_until > 0)
			tell_leases(db, note, n - i);
		else if (note->leased_until == DT_NOBEGIN)
			queue_lease_forget(db, note->job_id, note->line, note->lease_was, note->count);
		if (note->deadline != 0)
			deadline = Min(deadline, note->deadline);
		if (note->on_commit)
			append(db, note->line, &note->keys, note->commit_pos, note->count, &wake);
		if (note->ends)
			queue_end_waiter_wake(db, note->job_id);
		if (note->ends && note->leased_until == DT_NOBEGIN && note->to != QUEUE_STATE_COMPLETED)
			queue_endpoint_stop(db, note->job_id);	/* if the http worker has it under way */
		if (note->failed)
			queue_counter_failed(note->keys.counter, note->count);
		moved += note->count;
		kind_moved += note->count;
		/* filed as waiting for a time that has passed: promoted, redriven, released, altered */
		if (note->to == QUEUE_STATE_SCHEDULED || note->to == QUEUE_STATE_RETRYABLE)
		{
			int64		passed = became_due(note);

			due += passed;
			kind_due += passed;
			if (note->on_commit && passed <= 0)
				waiting = Min(waiting, note->commit_pos.run_at);
		}
		if (i + 1 < n && move_alike(note, note + 1) && note[1].keys.counter == note->keys.counter)
			continue;
		queue_counter_move(note->keys.counter, note->from, note->to, kind_moved, kind_due);
		kind_moved = kind_due = 0;
		if (i + 1 < n && move_alike(note, note + 1))
			continue;
		if (note->from == QUEUE_STATE_NONE && note->to != QUEUE_STATE_NONE)
			queue_counter_sample(queue_of(note), queue_now());
		if (!note->kind_only)
			queue_counter_move(queue_of(note), note->from, note->to, moved, due);
		if (note->from != QUEUE_STATE_NONE)
			queue_end_waiter_wake_queue(db, note->keys.queue_key);
		moved = due = 0;
	}
	if (waiting != DT_NOEND)
		queue_database_waiting(base, waiting);
	if (deadline != PG_INT64_MAX)
		queue_database_deadline(base, deadline);
	wake_scheduler(base, &wake);
}

/* Pays notes of a (sub)transaction that aborted.  Commit-safe. */
void
queue_note_pay_abort(Oid db, QueueDatabase *base, const QueueNote *note, int n)
{
	Wake		wake = {false, 0};

	for (int i = 0; i < n; i++, note++)
	{
		if (note->on_abort)
			append(db, note->line, &note->keys, note->abort_pos, note->count, &wake);
	}
	wake_scheduler(base, &wake);
}

/* Everything told; back to an empty stack, without keeping the memory of a huge transaction. */
static void
forget_all(void)
{
	queue_ended_forget();
	nnotes = 0;
	last_on_commit = -1;
	nnew_lines = 0;
	config_level = 0;
	launcher_level = 0;
	if (maxnotes > 65536)
	{
		pfree(notes);
		notes = NULL;
		maxnotes = 0;
	}
}

const QueueNote *
queue_note_owed(int *n, bool *config)
{
	*n = nnotes;
	*config = config_level > 0 || nnew_lines > 0;	/* a new generation tells of new lines too */
	return notes;
}

/* The extension's one transaction callback. */
static void
xact_callback(XactEvent event, void *arg)
{
	QueueDatabase *base;
	QueueEnded *ended;
	int			nended = queue_ended_all(&ended);

	if (event == XACT_EVENT_PRE_COMMIT && nended > 0)
		queue_ended_commit_begins();
	if (event == XACT_EVENT_COMMIT && nended > 0)
		queue_ended_pay(MyDatabaseId, ended, nended, queue_now());
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		queue_ended_commit_over();
	if (nnotes == 0 && nnew_lines == 0 && config_level == 0 && launcher_level == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			base = queue_database_of(MyDatabaseId, false);
			for (int i = 0; i < nnew_lines; i++)
			{
				queue_cursor_begin(MyDatabaseId, new_lines[i].line.id, new_lines[i].line.priority);
				queue_database_tell_line(base, &new_lines[i].line);
			}
			if (config_level > 0 && base != NULL)
			{
				queue_database_bump(base);
				queue_fetch_waiter_wake_all(MyDatabaseId);
			}
			queue_note_pay_commit(MyDatabaseId, base, notes, nnotes);
			if (launcher_level > 0)
				queue_launcher_wake();
			forget_all();
			break;
		case XACT_EVENT_ABORT:
			queue_note_pay_abort(MyDatabaseId, queue_database_of(MyDatabaseId, false), notes, nnotes);
			if (launcher_level > 0)
				queue_launcher_wake();
			forget_all();
			break;
		case XACT_EVENT_PREPARE:
			forget_all();
			break;
		default:
			break;
	}
}

/* The extension's one subtransaction callback. */
static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid, SubTransactionId parentSubid, void *arg)
{
	int			level;
	int			first = nnotes;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (nnotes == 0 && nnew_lines == 0 && config_level == 0 && launcher_level == 0)
		return;
	level = GetCurrentTransactionNestLevel();
	while (first > 0 && notes[first - 1].level >= level)
		first--;
	queue_ended_subxact(event == SUBXACT_EVENT_COMMIT_SUB, level);
	if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = first; i < nnotes; i++)
			notes[i].level = level - 1;
		for (int i = nnew_lines - 1; i >= 0 && new_lines[i].level >= level; i--)
			new_lines[i].level = level - 1;
		config_level = Min(config_level, level - 1);
		launcher_level = Min(launcher_level, level - 1);
	}
	else
	{
		queue_note_pay_abort(MyDatabaseId, queue_database_of(MyDatabaseId, false), notes + first, nnotes - first);
		nnotes = first;
		while (nnew_lines > 0 && new_lines[nnew_lines - 1].level >= level)
			nnew_lines--;
		if (config_level >= level)
			config_level = 0;
		if (launcher_level >= level)
			launcher_level = 0;
	}
}

void
queue_note_register_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
