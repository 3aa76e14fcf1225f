/*
 * channel.c
 *		The bounded channels between schedulers and executors.
 *
 * Owns QUEUE_MAX_CHANNELS channels in shared memory, one per (database, role) in use.  A
 * channel per role, because executors are connected as their role: one role's backlog never
 * fills another's channel.  When all are taken, a further role waits (its scheduler tries again
 * when one is released).
 *
 * A channel is ordered, because an urgent job must overtake what was pulled before it and not started.
 * Entries stay in their places; what is sorted is a ring of their numbers, so that an insertion moves a few
 * bytes, and none for what comes last, as nearly everything does.
 *
 * LONG entries need a permit: while other roles have work, the scheduler lets one role's jobs of unknown or long
 * duration have all executors but one.
 *
 * Locks: shared->lock (LWLock) to take and release a channel; each channel's spinlock for a
 * copy of one entry in or out.  db and role are read without a lock: only the database's own
 * scheduler takes and releases its channels.
 */
#include "shared/channel.h"

#include "lib/text.h"
#include "shared/clock.h"

#include "storage/shmem.h"

typedef struct QueueChannelShared
{
	LWLock		lock;
	int			tranche;
	pg_atomic_uint32 used;		/* channels ever taken: where a search may stop */
	QueueChannel channels[QUEUE_MAX_CHANNELS];
} QueueChannelShared;

static QueueChannelShared *shared = NULL;

/* How much shared memory the channels need.  Called by the request hook. */
Size
queue_channel_shmem_size(void)
{
	return MAXALIGN(sizeof(QueueChannelShared));
}

/* Makes or finds the channels.  Called by the startup hook. */
void
queue_channel_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue channels", queue_channel_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(QueueChannelShared));
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		pg_atomic_init_u32(&shared->used, 0);
		for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
			SpinLockInit(&shared->channels[i].mutex);
	}
	LWLockRegisterTranche(shared->tranche, "QueueChannel");
}

/* The channel of a database's role, made if asked.  Called by the scheduler, executors and doctor(). */
QueueChannel *
queue_channel_of(Oid db, Oid role, bool create)
{
	QueueChannel *ch = NULL;
	uint32		used;

	if (shared == NULL || !OidIsValid(db))
		return NULL;
	used = pg_atomic_read_u32(&shared->used);
	for (uint32 i = 0; i < used; i++)
	{
		if (shared->channels[i].db == db && shared->channels[i].role == role)
			return &shared->channels[i];
	}
	if (!create)
		return NULL;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (uint32 i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		if (OidIsValid(shared->channels[i].db))
			continue;
		ch = &shared->channels[i];
		ch->role = role;
		ch->head = 0;
		ch->count = 0;
		ch->cost = 0;
		ch->low = 0;
		ch->max_long = QUEUE_MAX_SLOTS;
		ch->running_long = 0;
		for (int j = 0; j < QUEUE_CHANNEL_SIZE; j++)
			ch->order[j] = (uint8) j;
		ch->parked[0] = '\0';
		ch->nshunned = ch->nalone = 0;
		ch->quiet_until = 0;
		ch->refusals = 0;
		ch->refused_line = 0;
		ch->refused[0] = '\0';
		pg_write_barrier();
		ch->db = db;
		if (i >= pg_atomic_read_u32(&shared->used))
			pg_atomic_write_u32(&shared->used, i + 1);
		break;
	}
	LWLockRelease(&shared->lock);
	return ch;
}

/* The i'th channel; NULL when it is free.  Called by the scheduler at its start and by doctor(). */
QueueChannel *
queue_channel_nth(int i)
{
	if (shared == NULL || i < 0 || i >= QUEUE_MAX_CHANNELS || !OidIsValid(shared->channels[i].db))
		return NULL;
	return &shared->channels[i];
}

/* Gives an empty channel up.  Called by the scheduler. */
void
queue_channel_release(QueueChannel *ch)
{
	Assert(ch->count == 0);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	ch->db = InvalidOid;
	ch->parked[0] = '\0';
	LWLockRelease(&shared->lock);
}

/* How many entries are in it, those that are left alone for a while, too. */
int
queue_channel_count(QueueChannel *ch)
{
	int			count;

	SpinLockAcquire(&ch->mutex);
	count = ch->count + ch->nalone;
	SpinLockRelease(&ch->mutex);
	return count;
}

/* The i'th entry by urgency.  Lock: the channel's. */
static inline QueueEntry *
nth(QueueChannel *ch, int i)
{
	return &ch->place[ch->order[(uint8) (ch->head + i)]];
}

/* May the entry be taken, as far as max_long goes?  Lock: the channel's. */
static inline bool
permitted(const QueueChannel *ch, const QueueEntry *entry)
{
	return (entry->flags & QUEUE_ENTRY_LONG) == 0 || ch->running_long < ch->max_long;
}

/* How many entries could be taken at once: all but LONG ones without a permit.  Called by the scheduler. */
int
queue_channel_runnable(QueueChannel *ch)
{
	int			runnable = 0;
	int			longs = 0;

	SpinLockAcquire(&ch->mutex);
	for (int i = 0; i < ch->count; i++)
	{
		if ((nth(ch, i)->flags & QUEUE_ENTRY_LONG) != 0)
			longs++;
		else
			runnable++;
	}
	runnable += Min(longs, Max(ch->max_long - ch->running_long, 0));
	SpinLockRelease(&ch->mutex);
	return runnable;
}

/* Since when its oldest entry waits.  Called by the scheduler, which starts another executor when that is long. */
TimestampTz
queue_channel_oldest(QueueChannel *ch)
{
	TimestampTz oldest = DT_NOEND;

	SpinLockAcquire(&ch->mutex);
	for (int i = 0; i < ch->count; i++)
		oldest = Min(oldest, nth(ch, i)->stamp);
	SpinLockRelease(&ch->mutex);
	return oldest;
}

/* Called by the stat views, and by counts of limits: an entry is behind its line's cursor, so it is found here only. */
int
queue_channel_copy(QueueChannel *ch, QueueEntry out[QUEUE_CHANNEL_SIZE])
{
	int			n;

	SpinLockAcquire(&ch->mutex);
	n = ch->count;
	for (int i = 0; i < n; i++)
		out[i] = *nth(ch, i);
	SpinLockRelease(&ch->mutex);
	return n;
}

/* Copies the least urgent entry; false when there is none.  Called by the scheduler. */
bool
queue_channel_last(QueueChannel *ch, QueueEntry *entry)
{
	bool		got;

	SpinLockAcquire(&ch->mutex);
	got = ch->count > 0;
	if (got)
		*entry = *nth(ch, ch->count - 1);
	SpinLockRelease(&ch->mutex);
	return got;
}

bool
queue_channel_first(QueueChannel *ch, QueueEntry *entry)
{
	bool		got;

	SpinLockAcquire(&ch->mutex);
	got = ch->count > 0;
	if (got)
		*entry = *nth(ch, 0);
	SpinLockRelease(&ch->mutex);
	return got;
}

/* Is there no room for even the shortest job?  Called by the scheduler. */
bool
queue_channel_full(QueueChannel *ch, int64 budget)
{
	bool		full;

	SpinLockAcquire(&ch->mutex);
	full = ch->count >= QUEUE_CHANNEL_SIZE || (ch->count >= 2 && ch->cost >= budget);
	SpinLockRelease(&ch->mutex);
	return full;
}

/* Does this job wait in it?  Called by the scheduler, for the one suspect that may be under way. */
bool
queue_channel_has(QueueChannel *ch, int64 id)
{
	bool		found = false;

	SpinLockAcquire(&ch->mutex);
	for (int i = 0; i < ch->count && !found; i++)
		found = nth(ch, i)->id == id;
	SpinLockRelease(&ch->mutex);
	return found;
}

/* Says why no executor of the role can start, for doctor() and stat_handler.  Called by the scheduler. */
void
queue_channel_park(QueueChannel *ch, const char *reason)
{
	char		copy[sizeof(ch->parked)];

	queue_text_copy(copy, sizeof(copy), reason);
	queue_text_mend(copy);	/* it has a role's name, which may be in another database's encoding */
	SpinLockAcquire(&ch->mutex);
	memcpy(ch->parked, copy, sizeof(copy));
	SpinLockRelease(&ch->mutex);
}

/* The place of a job that is or was left alone; NULL: it has none.  Lock: the channel's. */
static QueueShunned *
find_shunned(QueueChannel *ch, int64 id)
{
	for (int i = 0; i < ch->nshunned; i++)
	{
		if (ch->shunned[i].entry.id == id)
			return &ch->shunned[i];
	}
	return NULL;
}

/*
 * A place for one more.  With none left one that is only remembered goes, or else another one's is taken, which its
 * line's cursor has passed by: given back it would be tried at once, and jobs behind many such never.  Lock: the
 * channel's.
 */
static QueueShunned *
place_for_shunned(QueueChannel *ch)
{
	QueueShunned *first = &ch->shunned[0];

	if (ch->nshunned < QUEUE_MAX_SHUNNED)
		first = &ch->shunned[ch->nshunned++];
	else
	{
		for (int i = 1; i < QUEUE_MAX_SHUNNED; i++)
		{
			QueueShunned *s = &ch->shunned[i];

			if (s->alone != first->alone ? first->alone : s->until < first->until)
				first = s;
		}
		ch->nalone -= first->alone;
	}
	first->alone = false;
	first->pause = 0;
	return first;
}

/* Called by executors and the http worker. */
void
queue_channel_shun(QueueChannel *ch, const QueueEntry *entry, TimestampTz now, bool longer)
{
	QueueShunned *s;

	SpinLockAcquire(&ch->mutex);
	s = find_shunned(ch, entry->id);
	if (s == NULL && (longer || ch->nalone < QUEUE_MAX_SHUNNED))
		s = place_for_shunned(ch);
	if (s == NULL)
	{
		/* where there is no room none is left to the look from afar: its line was told of it, and its worker pauses */
		SpinLockRelease(&ch->mutex);
		return;
	}
	if (!s->alone)
		s->pause = longer ? Min(Max(s->pause * 2, QUEUE_SHUNNED_US), QUEUE_SHUNNED_MAX_US) : QUEUE_SHUNNED_US;
	ch->nalone += !s->alone;
	s->alone = true;
	s->until = now + s->pause;
	s->entry = *entry;
	SpinLockRelease(&ch->mutex);
}

bool
queue_channel_tells(QueueChannel *ch, TimestampTz now)
{
	bool		tells;

	SpinLockAcquire(&ch->mutex);
	tells = !queue_put_off(ch->quiet_until, USECS_PER_MINUTE, now);
	if (tells)
		ch->quiet_until = now + USECS_PER_MINUTE;
	SpinLockRelease(&ch->mutex);
	return tells;
}

/* Called by the scheduler, which gives them back.  What was not left alone again since then is forgotten. */
int
queue_channel_unshun(QueueChannel *ch, TimestampTz now, QueueEntry out[QUEUE_MAX_SHUNNED], int *left)
{
	int			n = 0;

	SpinLockAcquire(&ch->mutex);
	for (int i = ch->nshunned - 1; i >= 0; i--)
	{
		QueueShunned *s = &ch->shunned[i];

		if (queue_put_off(s->until, QUEUE_SHUNNED_MAX_US, now))
			continue;
		if (s->alone)
		{
			out[n++] = s->entry;
			s->alone = false;
			ch->nalone--;
		}
		else if (now - s->until > QUEUE_SHUNNED_MAX_US || now < s->until)
			*s = ch->shunned[--ch->nshunned];
	}
	*left = ch->nalone;
	SpinLockRelease(&ch->mutex);
	return n;
}

/*
 * Called by the scheduler for each job that it finds, and by who takes one from the channel: it may have been read
 * again when its row was let go, before it was left alone.
 */
bool
queue_channel_shuns(QueueChannel *ch, QueueEntry *found)
{
	QueueShunned *s;
	bool		alone;

	if (likely(ch->nshunned == 0))
		return false;
	SpinLockAcquire(&ch->mutex);
	s = find_shunned(ch, found->id);
	alone = s != NULL && s->alone;
	if (s != NULL && ItemPointerEquals(&s->entry.tid, &found->tid))
		found->flags |= s->entry.flags & QUEUE_ENTRY_LASTING;
	if (alone && found->stamp > s->entry.stamp)
	{
		/* its line may be another one, by alter_job say; then no turn of the former one is given back */
		if (s->entry.line != found->line)
			s->entry.order.group = 0;
		s->entry.line = found->line;
		s->entry.run_at = found->run_at;
		s->entry.stamp = found->stamp;
	}
	SpinLockRelease(&ch->mutex);
	return alone;
}

/* Called by executors. */
void
queue_channel_refuse(QueueChannel *ch, int64 line, const char *reason)
{
	char		copy[sizeof(ch->refused)];

	queue_text_copy(copy, sizeof(copy), reason);
	SpinLockAcquire(&ch->mutex);
	ch->refusals++;
	ch->refused_line = line;
	memcpy(ch->refused, copy, sizeof(copy));
	SpinLockRelease(&ch->mutex);
}

/* Called by the scheduler. */
bool
queue_channel_refusal(QueueChannel *ch, uint32 *seen, int64 *line)
{
	bool		new;

	SpinLockAcquire(&ch->mutex);
	new = ch->refusals != *seen;
	*seen = ch->refusals;
	*line = ch->refused_line;
	SpinLockRelease(&ch->mutex);
	return new;
}

void
queue_channel_forgive(QueueChannel *ch)
{
	SpinLockAcquire(&ch->mutex);
	ch->refused_line = 0;
	ch->refused[0] = '\0';
	SpinLockRelease(&ch->mutex);
}

/* Called by stat_handler, explain_job and doctor(). */
void
queue_channel_reasons(QueueChannel *ch, char parked[128], int64 *line, char refused[128])
{
	SpinLockAcquire(&ch->mutex);
	memcpy(parked, ch->parked, sizeof(ch->parked));
	*line = ch->refused_line;
	memcpy(refused, ch->refused, sizeof(ch->refused));
	SpinLockRelease(&ch->mutex);
}

/* Ends a round of puts.  Called by the scheduler. */
void
queue_channel_filled(QueueChannel *ch, int max_long)
{
	SpinLockAcquire(&ch->mutex);
	ch->low = ch->count / 2;
	ch->max_long = max_long;
	SpinLockRelease(&ch->mutex);
}

/* Is there room for it beside what waits?  Lock: the channel's. */
static bool
fits(const QueueChannel *ch, const QueueEntry *entry, int64 budget)
{
	return ch->count < QUEUE_CHANNEL_SIZE && (ch->count < 2 || ch->cost <= budget - entry->cost);
}

/*
 * Which entry must leave for this one: the last, if it is less urgent, or the last of its group, if its turn is after;
 * -1: none.  A suspect stays: it is the only one under way.  Lock: the channel's.
 */
static int
leaves_for(QueueChannel *ch, const QueueEntry *entry)
{
	int			i = ch->count - 1;
	bool		leaves = queue_order_before(&entry->order, &nth(ch, i)->order);

	if (!leaves && entry->order.group != 0)
	{
		while (i >= 0 && nth(ch, i)->order.group != entry->order.group)
			i--;
		leaves = i >= 0 && queue_order_before(&entry->order, &nth(ch, i)->order);
	}
	return leaves && (nth(ch, i)->flags & QUEUE_ENTRY_SUSPECT) == 0 ? i : -1;
}

/*
 * The i'th entry goes before those of its group whose turns are after: what is one's place in the order of all becomes
 * that of the next one, so that the order of the others stays.  Lock: the channel's.
 */
static void
take_turn(QueueChannel *ch, int i)
{
	for (int j = i - 1; j >= 0; j--)
	{
		QueueEntry *mine = nth(ch, i);
		QueueEntry *other = nth(ch, j);
		QueueOrder	order = mine->order;
		uint8		place = ch->order[(uint8) (ch->head + i)];

		if (other->order.group != order.group)
			continue;
		if (!queue_order_before(&mine->order, &other->order))
			break;
		mine->order.urgency = other->order.urgency;
		mine->order.place = other->order.place;
		other->order.urgency = order.urgency;
		other->order.place = order.place;
		ch->order[(uint8) (ch->head + i)] = ch->order[(uint8) (ch->head + j)];
		ch->order[(uint8) (ch->head + j)] = place;
		i = j;
	}
}

/* Takes the i'th entry out.  Lock: the channel's. */
static void
take_nth(QueueChannel *ch, int i, QueueEntry *entry)
{
	uint8		place = ch->order[(uint8) (ch->head + i)];

	*entry = ch->place[place];
	for (; i > 0; i--)
		ch->order[(uint8) (ch->head + i)] = ch->order[(uint8) (ch->head + i - 1)];
	ch->order[(uint8) ch->head] = place;
	ch->head = (uint8) (ch->head + 1);
	ch->count--;
	ch->cost -= entry->cost;
}

/* Puts an entry in its place.  Called by the scheduler and, with what must run again, by executors. */
bool
queue_channel_put(QueueChannel *ch, const QueueEntry *entry, int64 budget,
				  QueueEntry evicted[QUEUE_CHANNEL_SIZE], int *nevicted)
{
	QueueEntry	in = *entry;
	bool		ok;
	int			leaver;

	*nevicted = 0;
	SpinLockAcquire(&ch->mutex);
	while (!(ok = fits(ch, entry, budget)) && (leaver = leaves_for(ch, entry)) >= 0)
	{
		if (leaver == ch->count - 1)
		{
			evicted[*nevicted] = *nth(ch, leaver);
			ch->cost -= evicted[*nevicted].cost;
			ch->count--;
		}
		else
		{
			take_nth(ch, leaver, &evicted[*nevicted]);
			/* of its own group: it has its place */
			in.order.urgency = evicted[*nevicted].order.urgency;
			in.order.place = evicted[*nevicted].order.place;
		}
		(*nevicted)++;
	}
	if (ok)
	{
		uint8		place = ch->order[(uint8) (ch->head + ch->count)];
		int			i = ch->count;

		ch->place[place] = in;
		for (; i > 0 && queue_order_before(&in.order, &nth(ch, i - 1)->order); i--)
			ch->order[(uint8) (ch->head + i)] = ch->order[(uint8) (ch->head + i - 1)];
		ch->order[(uint8) (ch->head + i)] = place;
		ch->count++;
		if (entry->order.group != 0)
			take_turn(ch, i);
		ch->cost += entry->cost;
	}
	SpinLockRelease(&ch->mutex);
	return ok;
}

/* Takes the most urgent entry; false when there is none.  Called by the http worker, and to empty a channel. */
bool
queue_channel_pop(QueueChannel *ch, QueueEntry *entry)
{
	bool		got;

	SpinLockAcquire(&ch->mutex);
	got = ch->count > 0;
	if (got)
		take_nth(ch, 0, entry);
	SpinLockRelease(&ch->mutex);
	return got;
}

/* Takes the most urgent entry that may run; false when there is none.  Called by executors. */
bool
queue_channel_take(QueueChannel *ch, QueueEntry *entry, bool *permit, int *left)
{
	int			i = 0;
	bool		got;

	SpinLockAcquire(&ch->mutex);
	while (i < ch->count && !*permit && !permitted(ch, nth(ch, i)))
		i++;
	got = i < ch->count;
	if (got)
	{
		take_nth(ch, i, entry);
		if ((entry->flags & QUEUE_ENTRY_LONG) != 0 && !*permit)
		{
			ch->running_long++;
			*permit = true;
		}
	}
	*left = ch->count;
	SpinLockRelease(&ch->mutex);
	return got;
}

/* The caller's LONG entry has ended.  Called by executors. */
void
queue_channel_return(QueueChannel *ch, bool *permit)
{
	if (!*permit)
		return;
	SpinLockAcquire(&ch->mutex);
	ch->running_long = Max(ch->running_long - 1, 0);	/* it may have been given up and taken anew meanwhile */
	SpinLockRelease(&ch->mutex);
	*permit = false;
}

/* Takes everything out.  Called by the scheduler, which puts back what may still run. */
int
queue_channel_drain(QueueChannel *ch, QueueEntry *out)
{
	int			n = 0;

	SpinLockAcquire(&ch->mutex);
	while (ch->count > 0)
		take_nth(ch, 0, &out[n++]);
	SpinLockRelease(&ch->mutex);
	return n;
}

/* The extension or the database was dropped: nobody reads or writes its channels any more.  Commit-safe. */
void
queue_channel_reset(Oid db)
{
	if (shared == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < QUEUE_MAX_CHANNELS; i++)
	{
		QueueChannel *ch = &shared->channels[i];

		if (ch->db == db)
		{
			ch->db = InvalidOid;
			ch->count = 0;
			ch->cost = 0;
			ch->parked[0] = '\0';
		}
	}
	LWLockRelease(&shared->lock);
}
