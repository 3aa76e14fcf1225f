/*
 * executors.h
 *		The executors of one database, as its scheduler sees them: one role, one channel, from zero to
 *		queue.executors processes.
 */
#ifndef QUEUE_EXECUTORS_H
#define QUEUE_EXECUTORS_H

#include "config/config.h"
#include "shared/channel.h"

/* A role that handlers run as. The scheduler's own memory. */
typedef struct QueueRole
{
	Oid			role;
	QueueChannel *channel;		/* NULL: nothing was put into it yet */
	bool		used;			/* a handler runs as it */
	QueueAgendaSet agendas;		/* of its eligible lines */
	int			nlines;			/* how many these are */
	QueueLine **unplaced;		/* those that are in no agenda, for want of a place */
	int			nunplaced;
	int			maxunplaced;
	bool		limited;		/* reason is a limit of connections, which only its channel tells others of */
	char		reason[128];	/* why no executor of this role can connect; "" if nothing is known */
	TimestampTz retry_at;		/* executors ended before they came up: none is started before this */
	int			retry_s;		/* the last pause; 0: the last one came up */
	TimestampTz told_at;		/* when the log was told of that; once a minute is enough */
	TimestampTz failed_until;	/* looking for its due jobs raised an error: not before this */
	int			failed_s;		/* the last such pause */
	uint32		refusals;		/* of its channel, as far as they were heard */
	bool		more;			/* its lines have more due jobs than the channel took */
	TimestampTz next_due;		/* of its lines, when they have no more */
	bool		ages;			/* some of its lines gain urgency by waiting */
	TimestampTz started_at;		/* when an executor was last started for it; 0: never */
} QueueRole;

extern QueueRole **queue_roles;	/* a record does not move while its role is known */
extern int	queue_nroles;

/* The record of a role, made if asked. */
extern QueueRole *queue_role_of(Oid role, bool create);
extern QueueChannel *queue_role_channel(QueueRole *role);
/* Is it put off because executors ended before they came up? */
extern bool queue_role_waits(const QueueRole *role, TimestampTz now);
/* May executors run for it? */
extern bool queue_role_ready(QueueRole *role, TimestampTz now);
/* How many executors its jobs of unknown or long duration may have: all but one while other roles have work, too. */
extern int	queue_role_share(QueueRole *role);
/* In a transaction: can the role connect here? Sets or clears role->reason and what doctor() sees. */
extern void queue_executors_precheck(QueueRole *role, TimestampTz now);
/* The configuration changed: a parked role may be tried again, if its last failure is not too recent. */
extern void queue_executors_retry(QueueRole *role, TimestampTz now);
/* Collects executors that ended; parks roles whose executors never came up, and tells whether it did. */
extern bool queue_executors_reap(TimestampTz now);
/* Starts and retires executors by what waits; returns when it wants to be called again. */
extern TimestampTz queue_executors_scale(TimestampTz now);
extern int	queue_executors_signal(bool abort);
extern bool queue_executors_any(void);
extern void queue_executors_retire(void);
/* Forgets roles without handlers, entries and executors. */
extern void queue_executors_forget_unused(void);

#endif
