/*
 * agenda.h
 *		Agendas: the lines that have something to do, in the order in which their jobs are taken.
 *
 * Every line with an entry in cursor.c is in one agenda: of the role whose executors run its jobs, of its HTTP
 * handler, of its queue (external workers fetch from it), of the parked lines, or of the new ones that the scheduler
 * has not sorted yet.  A reader takes an agenda's lines from the front, so it meets none that has nothing for it.
 */
#ifndef QUEUE_AGENDA_H
#define QUEUE_AGENDA_H

#include "shared/database.h"

typedef enum QueueAgendaType
{
	QUEUE_AGENDA_NEW,			/* of the database; the scheduler moves them to another */
	QUEUE_AGENDA_QUEUE,			/* key: hash of the queue's name; readers compare the name */
	QUEUE_AGENDA_ROLE,			/* key: its Oid */
	QUEUE_AGENDA_HTTP,			/* key: the handler's id */
	QUEUE_AGENDA_PARKED			/* served, but by nobody at present */
} QueueAgendaType;

/* Which agenda, and where this backend found it last (zeroed at first). */
typedef struct QueueAgenda
{
	Oid			db;
	QueueAgendaType type;
	uint64		key;
	int			place;			/* its number + 1 */
	bool		special;		/* of a queue that is fair, ages, or is limited: it is read priority by priority */
} QueueAgenda;

/* The agendas of one reader: its own, and one for each queue that is fair or ages. */
typedef struct QueueAgendaSet
{
	QueueAgenda **agendas;
	int			n;
	int			allocated;
	MemoryContext cxt;
} QueueAgendaSet;

/* A line with something to do. */
typedef struct QueueAgendaItem
{
	int64		line;
	QueuePos	bound;			/* nothing of it is before this */
	int16		priority;
	uint64		turn;			/* of a fair queue's key: not before this one (shared/turn.h); else 0 */
} QueueAgendaItem;

extern void queue_agenda_set_begin(QueueAgendaSet *set, QueueAgendaType type, uint64 key, MemoryContext cxt);
/* The one for the lines of a queue. */
extern QueueAgenda *queue_agenda_set_of(QueueAgendaSet *set, uint64 queue_key, bool special);

extern Size queue_agenda_shmem_size(void);
extern void queue_agenda_shmem_init(void);

/*
 * For cursor.c, which holds the lock of the line's entry; commit-safe.  `number` is the entry's.  enter: the line is
 * in this agenda, with nothing to do; false: there is no place for such an agenda, and nobody finds the line here. 
 * set: nothing of it is before `bound`, or due before `due` (DT_NOBEGIN: unknown; DT_NOEND: there is nothing).
 */
extern bool queue_agenda_enter(int number, QueueAgenda *agenda, int64 line, int16 priority);
extern void queue_agenda_leave(int number);
/* Likewise, and out of the agenda that it is in, at once; false: it is in none now. */
extern bool queue_agenda_move(int number, QueueAgenda *to, int64 line, int16 priority);
extern void queue_agenda_set(int number, QueuePos bound, TimestampTz due);
extern void queue_agenda_tell_turn(int number, uint64 turn);
/* Likewise: nothing of the line is to be taken before `until` (DT_NOBEGIN: it is as due as queue_agenda_set says). */
extern void queue_agenda_hold(int number, TimestampTz until);
/* Is it in that agenda, and without a turn unless its queue has `turns`?  For the scheduler, which says so: no lock. */
extern bool queue_agenda_is_in(int number, const QueueAgenda *agenda, bool turns);
/* How many entries there may be. */
extern int	queue_agenda_capacity(void);

/*
 * The first lines, in order of (priority, turn, bound, line), that may have something due now and come after `after`
 * (NULL: from the front).  *next_due: when the first of the others is due; DT_NOEND: never.  *changed (if not NULL):
 * another number whenever a line has left, or comes earlier than it did: who reads in several steps may have missed
 * it.
 */
extern int	queue_agenda_read(QueueAgenda *agenda, TimestampTz now, const QueueAgendaItem *after,
							  QueueAgendaItem *items, int max, TimestampTz *next_due, uint64 *changed);
/* That number now. */
extern uint64 queue_agenda_changed(QueueAgenda *agenda);

/*
 * Lines of this database that may have something due, held ones too, of the first `used` entries; unordered, and read
 * without locks: for who shows them.  `items` has room for all.
 */
extern int	queue_agenda_due(int used, TimestampTz now, QueueAgendaItem *items);

/* The order of an agenda. */
static inline int
queue_agenda_cmp(const QueueAgendaItem *a, const QueueAgendaItem *b)
{
	int			cmp;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->turn != b->turn)
		return a->turn < b->turn ? -1 : 1;
	cmp = queue_pos_cmp(a->bound, b->bound);
	if (cmp != 0)
		return cmp;
	return a->line < b->line ? -1 : (a->line > b->line ? 1 : 0);
}

#endif
