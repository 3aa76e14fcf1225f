/*
 * room.c
 *		How much room there is under a limit, for who reads jobs before he claims them.
 *
 * What is told here may be otherwise a moment later; the claim decides (unit.c).  Who finds no room leaves word in the
 * meter, so that a give-back wakes him, and has the line held back if it is a key that is full (meter.c).
 *
 * Locks: QueueUnit (meter.c), and what is taken under it.
 */
#include "shared/room.h"

#include "shared/clock.h"

#define DRY_MAX_US (10 * USECS_PER_SEC) /* for which a line is held back for want of a token: the clock may go back */

/*
 * A key's line is held back, if the limit is of the latest configuration: if not, the scheduler lets go of all lines
 * after us, because that takes the lock, too.
 */
static void
hold_back(QueueMeter *meter, QueueLimitOf of, QueueRoomHold hold, TimestampTz until)
{
	if (of == QUEUE_LIMIT_KEY && hold.generation != 0 && hold.generation == queue_database_generation())
		queue_meter_hold(meter, hold.line, until);
}

int
queue_room(const QueueLimit *limit, QueueLimitOf of, int wanted, QueueRoomHold hold, TimestampTz now,
		   TimestampTz *when)
{
	QueueMeterWake wake = {0};
	QueueMeter *meter;
	int			room = PG_INT32_MAX;

	*when = DT_NOEND;
	queue_meter_lock(true);
	meter = queue_meter_make(limit, of);
	if (meter == NULL)
		room = 0;
	else
	{
		bool		full;

		/* or the time to look again would have passed */
		queue_meter_expire(meter, now, &wake);
		full = queue_meter_full(meter, limit, now, &wake);
		if (full)
			room = 0;
		else if (queue_limit_most(limit) >= 0)
			room = queue_limit_most(limit) - meter->taken;
		if (room < wanted)
		{
			*when = meter->first_end;
			queue_meter_refuse(meter, NULL);
		}
		if (limit->rate_limit >= 0)
		{
			TimestampTz token;
			int			tokens = queue_meter_tokens(meter, limit, wanted, now, &token);

			if (tokens < wanted && room >= wanted)
				*when = token;
			if (tokens == 0 && !full)
				hold_back(meter, of, hold, Min(token, now + DRY_MAX_US));
			room = Min(room, tokens);
		}
		if (full)
			hold_back(meter, of, hold, meter->first_end);
	}
	queue_meter_unlock(&wake);
	return room;
}

/* Has the meter certainly no room, of units or tokens?  *when: until then, unless somebody gives a unit back. */
static bool
is_blocked(const QueueMeter *meter, const QueueLimit *limit, TimestampTz now, TimestampTz *when, bool *dry)
{
	int			most = queue_limit_most(limit);

	*dry = false;
	*when = meter->first_end;
	if (most >= 0 && meter->taken >= most)
		return meter->first_end > now;	/* else who takes one lets go of what has ended */
	*dry = queue_meter_dry(meter, limit, now, when);
	return *dry;
}

/* Finds out, and with `note` leaves word; with the lock, for that exclusively.  *noted: that need not be done. */
static bool
look_blocked(const QueueLimits *limits, QueueRoomHold hold, QueueUnitRefusal *refusal, bool note, bool *noted)
{
	TimestampTz now = queue_now();
	bool		dry;

	for (int i = 0; i < QUEUE_LIMIT_RESERVED; i++)
	{
		const QueueLimit *limit = &limits->of[i];
		QueueMeter *meter = limit->id != 0 && (limit->max_running >= 0 || limit->rate_limit > 0) ?
			queue_meter_find(limit, i) : NULL;

		if (meter == NULL || (limit->since != 0 && meter->since != limit->since) ||
			!is_blocked(meter, limit, now, &refusal->when, &dry))
			continue;
		refusal->of = i;
		*noted = i == QUEUE_LIMIT_KEY && queue_meter_holds(meter, hold.line) &&
			(dry || queue_meter_refused(meter, limits));
		if (note && !dry)
			queue_meter_refuse(meter, limits);
		if (note)
			hold_back(meter, i, hold, dry ? Min(refusal->when, now + DRY_MAX_US) : refusal->when);
		return true;
	}
	return false;
}

bool
queue_room_blocked(const QueueLimits *limits, QueueRoomHold hold, QueueUnitRefusal *refusal)
{
	bool		blocked;
	bool		noted = false;

	if (queue_unit_ended_any())
		return false;			/* what this transaction has ended serves its next claim */
	queue_meter_lock(false);
	blocked = look_blocked(limits, hold, refusal, false, &noted);
	queue_meter_unlock(NULL);
	if (!blocked || noted)
		return blocked;
	queue_meter_lock(true);
	blocked = look_blocked(limits, hold, refusal, true, &noted);
	queue_meter_unlock(NULL);
	return blocked;
}

int
queue_room_others(const QueueLimit *limit, QueueLimitOf of, int own, TimestampTz *when)
{
	QueueMeter *meter;
	QueueMeterWake wake = {0};
	int			others;

	*when = DT_NOEND;
	queue_meter_lock(false);
	meter = queue_meter_find(limit, of);
	others = meter != NULL ? meter->taken - own : 0;
	queue_meter_unlock(NULL);
	if (others <= 0)
		return 0;
	queue_meter_lock(true);
	meter = queue_meter_make(limit, of);
	if (meter != NULL)
	{
		queue_meter_expire(meter, queue_now(), &wake);
		others = Max(meter->taken - own, 0);
		if (others > 0)
		{
			queue_meter_refuse(meter, NULL);
			*when = meter->first_end;
		}
	}
	queue_meter_unlock(&wake);
	return others;
}

void
queue_room_open_all(void)
{
	QueueMeterWake wake = {0};

	queue_meter_lock(true);
	queue_meter_open_all(&wake);
	queue_meter_unlock(&wake);
}

int
queue_room_tokens(const QueueLimit *limit, QueueLimitOf of, TimestampTz now, TimestampTz *when)
{
	QueueMeter *meter;
	int			tokens = 0;

	*when = now;
	queue_meter_lock(true);
	meter = queue_meter_make(limit, of);
	if (meter != NULL)
		tokens = queue_meter_tokens(meter, limit, 1, now, when);
	queue_meter_unlock(NULL);
	return tokens;
}

int
queue_room_taken(const QueueLimit *limit, QueueLimitOf of)
{
	QueueMeter *meter;
	int			taken;

	if (!queue_meter_any())
		return 0;
	queue_meter_lock(false);
	meter = queue_meter_find(limit, of);
	taken = meter != NULL ? meter->taken : 0;
	queue_meter_unlock(NULL);
	return taken;
}
