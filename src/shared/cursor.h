/*
 * cursor.h
 *		The ready cursor: per line, a shared hint before which nothing claimable lies.
 *		See cursor.c for the rules that keep it a right one.
 */
#ifndef QUEUE_CURSOR_H
#define QUEUE_CURSOR_H

#include "shared/counter.h"
#include "shared/cursor_table.h"

/* A backend's handle on a line's entry. */
typedef struct QueueCursorRef
{
	int64		line;
	int16		priority;
	QueueCursor *entry;			/* NULL at first */
	uint64		incarnation;
} QueueCursorRef;

/* Of which line a job became claimable. */
typedef struct QueueLineKeys
{
	uint64		queue_key;
	uint64		kind_key;
	int16		priority;
	bool		served;			/* as of .. */
	uint64		generation;		/* .. this generation of the configuration: in another one it may be otherwise */
	QueueCounterRef *counter;	/* the kind's numbers in its queue, for notes */
} QueueLineKeys;

/* What a reader copies before it reads. */
typedef struct QueueCursorView
{
	bool		valid;			/* false: no shared memory or table full: read from the line's front */
	QueuePos	cursor;
	bool		empty;			/* nothing at all at or behind the cursor */
	TimestampTz next_due;		/* when not empty: nothing at or behind the cursor is due before this */
	int64		distance;		/* about so far lay two rows from each other, in us; 0: unknown */
	int			nkeys;
	QueuePos	first_key;		/* the lowest exact key, if nkeys > 0 */
} QueueCursorView;

/* The sequence number of appends.  A reader reads it BEFORE it takes its snapshot, and tells it when it raises. */
extern uint64 queue_cursor_seq(void);

/* Finds or creates the line's entry and copies it, after queue_cursor_seq. */
extern QueueCursorView queue_cursor_look(QueueCursorRef *ref);

/* Only that: from where on and when the line has something to do (queue_cursor_work).  Makes no entry. */
extern TimestampTz queue_cursor_glance(QueueCursorRef *ref, QueuePos *bound);

/*
 * Takes the lowest exact key that was appended by start_seq (so the snapshot taken after it sees the row) out of
 * the list; the caller gives it back with queue_cursor_append if it neither claims it nor finds it gone.
 */
extern bool queue_cursor_take_key(QueueCursorRef *ref, uint64 start_seq, QueuePos *key);

/* Copies the exact keys, unordered, without taking any: for who only wants to know. */
extern int	queue_cursor_keys(QueueCursorRef *ref, QueuePos keys[QUEUE_CURSOR_KEYS]);

/* The lines of this database that may have something due, held ones too, palloc'd: for who shows them. */
extern QueueAgendaItem *queue_cursor_due_lines(TimestampTz now, int *n);

/*
 * Raises the cursor to `pos` ("nothing claimable before pos"), cut to the lowest position appended since
 * start_seq; refused if an append since then was not recorded, or the entry is another incarnation. With `empty`
 * nothing is at or after pos; next_due: no entry at or after pos is due before it (DT_NOEND with empty).  distance:
 * what the next view shall tell; 0: as before.
 */
extern void queue_cursor_raise(QueueCursorRef *ref, uint64 start_seq, QueuePos pos, bool empty, TimestampTz next_due,
							   int64 distance);

/*
 * Commit-safe. A row at `pos` may be claimable from now on (count > 1: that many, pos is the lowest).  Makes the line's
 * entry, if it has none, from its keys (NULL: unknown).  Returns true if a scheduler may care (the line is served or
 * nobody said it is not).
 */
extern bool queue_cursor_append(Oid db, int64 line, const QueueLineKeys *keys, QueuePos pos, int count);

/*
 * Commit-safe.  This transaction made the line, so nobody else has put a job into it yet: what it appends now is all
 * that there is, unless the entry is there already.
 */
extern void queue_cursor_begin(Oid db, int64 line, int16 priority);

/* A number that changes with each append to the line; 0: nothing is known of it. */
extern uint64 queue_cursor_activity(Oid db, int64 line);

/*
 * The scheduler's word on whose the line is: the agenda that has it, whether its commits wake the scheduler, and
 * whether keys take turns in its queue. False: the line has no entry, or its agenda no place, so nobody finds it in
 * an agenda.
 */
extern bool queue_cursor_place(QueueCursorRef *ref, QueueAgenda *agenda, bool served, bool fair);
/* The line's key does not come before this turn (shared/turn.h). */
extern void queue_cursor_tell_turn(QueueCursorRef *ref, uint64 turn);

/*
 * Commit-safe, and called under the lock of meter.c.  No agenda gives the line out before `until`, because its limit is
 * full; or it does again.  Of the latter: does a scheduler care?
 */
extern void queue_cursor_hold(Oid db, int64 line, TimestampTz until);
extern bool queue_cursor_let_go(Oid db, int64 line);

/*
 * Commit-safe. Leases in this range of the line have no place in lease.c's table; the earliest ends at `when`.  False:
 * the line has no entry that could keep this.
 */
extern bool queue_cursor_note_expiry(Oid db, int64 line, QueuePos low, QueuePos high, TimestampTz when);
/*
 * Scheduler: takes one such range whose time has passed, of any line of the database.  False: none has; *next is
 * when the first will.
 */
extern bool queue_cursor_take_expired(Oid db, TimestampTz now, int64 *line, QueuePos *low, QueuePos *high,
									  TimestampTz *next);

/* Will a reader come by a row at `pos` of this line, once it is due, without being told? */
extern bool queue_cursor_reaches(Oid db, int64 line, QueuePos pos);

/* The cursors of a database go to the front: something unknown was committed. Commit-safe. */
extern void queue_cursor_reset(Oid db);

#endif
