/*
 * placement.c
 *		Which agenda a line is in: who runs its jobs, as the scheduler sees it.
 *
 * All that decides who may run - pause of queue and handler, a function that is missing, a role that cannot connect, an
 * unadopted copy - decides here which agenda (shared/agenda.c) a line is in, so no job ever hides another.  An agenda
 * is read by one sort of reader:
 *
 *		role	the scheduler, for the channel of its executors
 *		HTTP	the scheduler, for the http worker (http/feed.c)
 *		queue	sessions that fetch: what no server handler serves
 *		parked	nobody: served, but not at present
 *		new		the scheduler, to put its lines into one of the others, and sessions that fetch
 *
 * All lines are looked at when the configuration was read again, when a handler can be run that could not, or the other
 * way round, and when a line found no place in shared memory; else only the new ones, in which there is something to
 * do.  While all are looked at because of a newer configuration, base->sorted_generation tells sessions that fetch to
 * look at all lines of their queue themselves.
 *
 * The scheduler's own memory.  Locks: those of cursor.c, for a moment.
 */
#include "scheduler/placement.h"

#include "config/lines.h"
#include "http/feed.h"
#include "job/job.h"
#include "scheduler/eligible.h"
#include "scheduler/survey.h"
#include "shared/clock.h"
#include "shared/room.h"

#include "utils/memutils.h"

#define RECHECK_US (30 * USECS_PER_SEC)
#define LOST_US USECS_PER_SEC	/* between two looks because lines found no place */
#define UNPLACED_US (5 * USECS_PER_SEC)
#define NEW_AT_ONCE 64

static QueueConfig *sorted_config = NULL;	/* the configuration that sort_lines saw last .. */
static uint64 sorted_serial = 0;	/* .. and which reading of it */
static TimestampTz sorted_at = 0;
static uint64 seen_generation = 0;
static TimestampTz recheck_at = 0;	/* when to ask again who can run what .. */
static bool must_sort = true;	/* .. and sort the lines whatever comes out */
static TimestampTz new_due = DT_NOEND;	/* when the first of the new lines without due jobs has one */
static int	nunplaced = 0;		/* lines without a place in shared memory */
static MemoryContext lines_context = NULL;	/* until all are looked at again */

/* The role whose executors can run the handler at present; NULL: none can. */
static QueueRole *
role_of(QueueHandler *handler, TimestampTz now)
{
	QueueRole  *role;

	if (handler->http || !handler->adopted || !OidIsValid(handler->run_as_oid) || !queue_eligible(handler, now))
		return NULL;
	role = queue_role_of(handler->run_as_oid, false);
	return role != NULL && queue_role_ready(role, now) ? role : NULL;
}

QueueRole *
queue_placement_role(QueueLine *line, TimestampTz now)
{
	if (line == NULL || !line->served || line->handler == NULL || line->queue->paused)
		return NULL;
	return role_of(line->handler, now);
}

/* A line has no place in shared memory: its role reads it in each round. */
static void
keep_unplaced(QueueRole *role, QueueLine *line)
{
	if (role->nunplaced == role->maxunplaced)
	{
		int			size = Max(16, role->maxunplaced * 2);

		role->unplaced = role->unplaced == NULL ? MemoryContextAlloc(lines_context, size * sizeof(QueueLine *)) :
			repalloc_huge(role->unplaced, size * sizeof(QueueLine *));
		role->maxunplaced = size;
	}
	role->unplaced[role->nunplaced++] = line;
}

/* Puts a line, which may be one of queue_lines_visit(), into the agenda of who runs its jobs. */
static void
place_line(QueueLine *line, TimestampTz now)
{
	static QueueAgenda parked = {.type = QUEUE_AGENDA_PARKED};
	QueueRole  *role = NULL;
	bool		sent = false;
	QueueAgenda *agenda = &parked;
	bool		placed;

	parked.db = MyDatabaseId;
	if (line->gone)
		agenda = &parked;
	else if (!line->served)
		agenda = &line->queue->agenda;
	else if ((role = queue_placement_role(line, now)) != NULL)
		agenda = queue_agenda_set_of(&role->agendas, line->queue->key, line->queue->agenda.special);
	else if ((sent = queue_feed_takes(line)))
		agenda = queue_feed_agenda(line);
	placed = queue_cursor_place(&line->cursor, agenda, role != NULL || sent, !line->gone && line->queue->fair > 0);
	if (!placed)
	{
		nunplaced++;
		if (role != NULL || sent)
			line = queue_config_line(line->id);	/* one that stays */
	}
	if (role != NULL)
	{
		role->nlines++;
		role->ages |= line->queue->ageing > 0;
		if (!placed)
			keep_unplaced(role, line);
	}
	else if (sent)
		queue_feed_add(line, placed, lines_context);
}

/* Puts the new lines in which there is something to do into their agendas. */
static void
place_new_lines(TimestampTz now)
{
	static QueueAgenda fresh = {.type = QUEUE_AGENDA_NEW};
	QueueAgendaItem items[NEW_AT_ONCE];
	QueueAgendaItem last;
	const QueueAgendaItem *after = NULL;
	int			before = nunplaced;
	int			n;

	fresh.db = MyDatabaseId;
	do
	{
		n = queue_agenda_read(&fresh, now, after, items, NEW_AT_ONCE, &new_due, NULL);
		for (int i = 0; i < n; i++)
		{
			QueueLine  *line = queue_config_line(items[i].line);

			if (line != NULL)
				place_line(line, now);
		}
		if (n > 0)
			last = items[n - 1];
		after = &last;
	} while (n == NEW_AT_ONCE);
	if (nunplaced > before)
		queue_database_know_lost(queue_database());
}

/* Roles that a handler runs as, and whether they can connect.  True: one cannot. */
static bool
find_roles(QueueConfig *config, TimestampTz now)
{
	bool		waits = false;

	for (int i = 0; i < queue_nroles; i++)
	{
		queue_roles[i]->used = false;
		queue_roles[i]->nlines = 0;
		queue_roles[i]->unplaced = NULL;
		queue_roles[i]->nunplaced = queue_roles[i]->maxunplaced = 0;
		queue_roles[i]->more = queue_roles[i]->ages = false;
		queue_agenda_set_begin(&queue_roles[i]->agendas, QUEUE_AGENDA_ROLE, queue_roles[i]->role, lines_context);
		queue_roles[i]->next_due = DT_NOEND;
	}
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];
		QueueRole  *role;

		if (handler->http || !OidIsValid(handler->run_as_oid))
			continue;
		role = queue_role_of(handler->run_as_oid, true);
		if (role->agendas.n == 0)
			queue_agenda_set_begin(&role->agendas, QUEUE_AGENDA_ROLE, role->role, lines_context);
		if (!role->used)
		{
			role->used = true;
			queue_executors_precheck(role, now);
			waits |= role->reason[0] != '\0';
		}
	}
	return waits;
}

/*
 * What may have changed without a word to us is asked again: whose executors can run which handler.  True: all is as
 * when the lines were sorted, which over 100,000 of them takes long.  *waits: a role cannot connect.
 */
static bool
same_as_sorted(QueueConfig *config, TimestampTz now, bool *waits)
{
	*waits = false;
	queue_eligible_begin(config, now);
	for (int i = 0; i < queue_nroles; i++)
	{
		if (!queue_roles[i]->used)
			continue;
		queue_executors_precheck(queue_roles[i], now);
		*waits |= queue_roles[i]->reason[0] != '\0';
	}
	for (int i = 0; i < config->nhandlers; i++)
	{
		if (config->handlers[i]->placed != (role_of(config->handlers[i], now) != NULL))
			return false;
	}
	return true;
}

/* When to ask again. */
static TimestampTz
ask_again_at(TimestampTz now, bool waits)
{
	return queue_earlier(queue_eligible_until(now), waits ? now + RECHECK_US : DT_NOEND);
}

/* Was the row of this line deleted?  For queue_cursor_sweep. */
static bool
is_deleted(int64 line)
{
	return !queue_line_stored(line);
}

/*
 * Sorts the lines by who runs them.  Called in a transaction when the configuration is another one, and every
 * RECHECK_US while something is parked.
 */
static void
sort_lines(QueueConfig *config, TimestampTz now)
{
	QueueDatabase *base = queue_database();
	MemoryContext old;
	bool		waits;
	int			nlines;

	if (lines_context == NULL)
		lines_context = AllocSetContextCreate(TopMemoryContext, "queue scheduler lines", ALLOCSET_DEFAULT_SIZES);
	must_sort = true;			/* again, if an error cuts this short */
	MemoryContextReset(lines_context);
	/* when what the configuration says is the same, what fetch reads stays where it is */
	if (pg_atomic_read_u64(&base->sorted_generation) != config->generation ||
		pg_atomic_read_u32(&base->cursors_lost) != QUEUE_CURSORS_ALL)
		pg_atomic_write_u64(&base->sorted_generation, 0);
	queue_database_forgive_lost(base);
	nunplaced = 0;
	if (config != sorted_config || config->serial != sorted_serial)
		queue_room_open_all();
	queue_eligible_begin(config, now);
	waits = find_roles(config, now);
	for (int i = 0; i < config->nhandlers; i++)
		config->handlers[i]->placed = role_of(config->handlers[i], now) != NULL;
	old = MemoryContextSwitchTo(lines_context);
	queue_feed_sort(config);
	MemoryContextSwitchTo(old);

	nlines = queue_lines_visit(place_line, now);
	if (base->cursors > nlines)
		queue_cursor_sweep(is_deleted);
	if (nunplaced > 0)
		queue_database_know_lost(base);
	queue_executors_forget_unused();
	if (sorted_config == NULL)
		queue_survey_wanted();
	sorted_config = config;
	sorted_serial = config->serial;
	sorted_at = now;
	pg_atomic_write_u64(&base->sorted_generation, config->generation);
	recheck_at = ask_again_at(now, waits);
	must_sort = false;
	if (nunplaced > 0)
		recheck_at = Min(recheck_at, now + UNPLACED_US);	/* others may have given places up */
}

/* Did a line find no place since all were looked at, and is that long enough ago? */
static bool
some_lost(TimestampTz now)
{
	return pg_atomic_read_u32(&queue_database()->cursors_lost) == QUEUE_CURSORS_LOST && now >= sorted_at + LOST_US;
}

bool
queue_placement_refresh(QueueConfig *config, TimestampTz now)
{
	TimestampTz when;

	for (int i = 0; i < queue_nroles && recheck_at > now; i++)
	{
		/* a role that was parked for a while may be tried again */
		if (queue_roles[i]->retry_at != 0 && !queue_role_waits(queue_roles[i], now))
		{
			queue_roles[i]->retry_at = 0;
			queue_placement_recheck();
		}
	}
	if (config->generation != seen_generation)
	{
		/* what kept a role from connecting may be what was changed */
		for (int i = 0; i < queue_nroles; i++)
			queue_executors_retry(queue_roles[i], now);
		seen_generation = config->generation;
	}
	if (queue_eligible_changed(&when))
		recheck_at = Min(recheck_at, when);
	for (int i = 0; i < queue_nroles; i++)
	{
		if (queue_eligible_refused(queue_roles[i], now))
			queue_placement_recheck();
	}
	if (config == sorted_config && config->serial == sorted_serial && !must_sort && !some_lost(now))
	{
		bool		waits;
		bool		same = recheck_at > now;

		if (!same && nunplaced == 0 && (same = same_as_sorted(config, now, &waits)))
			recheck_at = ask_again_at(now, waits);
		if (same)
		{
			place_new_lines(now);
			return false;
		}
	}
	sort_lines(config, now);
	place_new_lines(now);
	return true;
}

TimestampTz
queue_placement_due(void)
{
	TimestampTz due = queue_earlier(recheck_at, new_due);

	return pg_atomic_read_u32(&queue_database()->cursors_lost) == QUEUE_CURSORS_LOST ?
		queue_earlier(due, sorted_at + LOST_US) : due;
}

void
queue_placement_recheck(void)
{
	recheck_at = 0;
	must_sort = true;
}
