/*
 * cursor.h
 *		The ready cursor: per line, a shared hint before which nothing claimable lies.
 *		See cursor.c for the rules that keep it a right one.
 */
#ifndef QUEUE_CURSOR_H
#define QUEUE_CURSOR_H

#include "shared/database.h"

#define QUEUE_CURSOR_RING 64
#define QUEUE_CURSOR_KEYS 64

typedef struct QueueCursor QueueCursor;

/* A backend's handle on a line's entry; zeroed at first. */
typedef struct QueueCursorRef
{
	QueueCursor *entry;
	uint64		incarnation;
} QueueCursorRef;

/* What a reader copies before it takes its snapshot. */
typedef struct QueueCursorView
{
	bool		valid;			/* false: no shared memory or table full: read from the line's front */
	uint64		start_seq;
	QueuePos	cursor;
	bool		empty;			/* nothing at all at or behind the cursor */
	TimestampTz next_due;		/* when not empty: nothing at or behind the cursor is due before this */
	int			nkeys;
	QueuePos	first_key;		/* the lowest exact key, if nkeys > 0 */
} QueueCursorView;

extern Size queue_cursor_shmem_size(void);
extern void queue_cursor_shmem_init(void);

/* Finds or creates the line's entry, reads the sequence number, then the entry. Call BEFORE taking the snapshot. */
extern QueueCursorView queue_cursor_look(QueueCursorRef *ref, int64 line);

/*
 * Takes the lowest exact key that was appended by start_seq (so the snapshot taken after it sees the row) out of
 * the list; the caller gives it back with queue_cursor_append if it neither claims it nor finds it gone.
 */
extern bool queue_cursor_take_key(QueueCursorRef *ref, int64 line, uint64 start_seq, QueuePos *key);

/* Copies the exact keys, unordered, without taking any: for who only wants to know. */
extern int	queue_cursor_keys(QueueCursorRef *ref, int64 line, QueuePos keys[QUEUE_CURSOR_KEYS]);

/*
 * Raises the cursor to `pos` ("nothing claimable before pos"), cut to the lowest position appended since
 * start_seq; refused if the ring overflowed since, or the entry is another incarnation. With `empty` nothing is
 * at or after pos; next_due: no entry at or after pos is due before it (DT_NOEND with empty).
 */
extern void queue_cursor_raise(QueueCursorRef *ref, int64 line, uint64 start_seq, QueuePos pos,
							   bool empty, TimestampTz next_due);

/*
 * Commit-safe. A row at `pos` may be claimable from now on (count > 1: that many, pos is the lowest).
 * Returns true if a scheduler may care (the line is served or nobody said it is not).
 */
extern bool queue_cursor_append(Oid db, int64 line, QueuePos pos, int count);

/* A number that changes with each append to the line; 0: nothing is known of it. */
extern uint64 queue_cursor_activity(Oid db, int64 line);
/* The line was deleted: its entry is free for another. */
extern void queue_cursor_forget(Oid db, int64 line);

/* The scheduler's word on who serves the line: only a served line's commits wake it. */
extern void queue_cursor_set_served(QueueCursorRef *ref, int64 line, bool served);

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

/* Where the line's cursor stands, without making an entry; false: it has none. */
extern bool queue_cursor_peek(Oid db, int64 line, QueuePos *cursor);

/* Forget all that is known of a database (its cursors go to the front). Commit-safe. */
extern void queue_cursor_reset(Oid db);

#endif
