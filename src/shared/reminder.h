/*
 * reminder.h
 *		Reminders: jobs and workflows that the scheduler shall look at after a commit.
 *
 * See reminder.c.
 */
#ifndef QUEUE_REMINDER_H
#define QUEUE_REMINDER_H

#include "shared/database.h"

typedef enum QueueRemindOf
{
	QUEUE_REMIND_ALL,			/* only as a row: more were noted than are kept */
	QUEUE_REMIND_DEPENDENT,		/* this job may depend on something */
	QUEUE_REMIND_ENDED,			/* this job ended, or came back: others depend on it */
	QUEUE_REMIND_AWAITS,		/* this job awaits an event */
	QUEUE_REMIND_EMITTED,		/* this event was emitted */
	QUEUE_REMIND_WORKFLOW,		/* a job of this workflow ended */
	QUEUE_REMIND_WORKFLOW_NOW,	/* .. badly, or something else happened to it */
	QUEUE_REMIND_COMPLETED,		/* this job completed: others depend on it */
	QUEUE_REMIND_LESS			/* something that this job depends on completed */
} QueueRemindOf;

typedef struct QueueReminder
{
	int64		id;
	QueueRemindOf of;
} QueueReminder;

extern Size queue_reminder_shmem_size(void);
extern void queue_reminder_shmem_init(void);
extern void queue_reminder_reset(Oid db);	/* commit-safe */

/*
 * This transaction tells of it when it commits; what it noted a moment ago is noted once.  by: the job that completed
 * (of QUEUE_REMIND_LESS); PG_INT64_MAX: it is told in any case.
 */
extern void queue_remind(QueueRemindOf of, int64 id, int64 by);
/*
 * Until further notice this database's job waits for waits_for, and need not be reminded of when a job of a lower id
 * completes; 0: it must be.  Called by who looks, BEFORE he looks whether waits_for has ended.
 */
extern void queue_reminder_waits(int64 job, int64 waits_for);
/* What this transaction has noted, where the notes lie; *overflow: more than are kept. */
extern const QueueReminder *queue_reminders_noted(int *n, bool *overflow);
extern void queue_reminders_forget(void);

/*
 * Takes up to max reminders of this database out, the oldest first; they go back if this transaction (or
 * subtransaction) aborts.
 */
extern int	queue_reminder_take(QueueReminder *reminders, int max);
extern bool queue_reminder_any(void);	/* is there one to take?  Without a lock */

/* Reminders were lost, or rows came in without any: everything is to be looked at.  Commit-safe. */
extern void queue_reminder_lose(Oid db);
extern bool queue_reminder_lost(void);	/* are they?  Taken with the answer */
/* There may be rows in queue.reminder (job/remind.c).  Commit-safe. */
extern void queue_reminder_rows(Oid db);
extern bool queue_reminder_any_rows(void);	/* without a lock */
extern bool queue_reminder_take_rows(void);
/* This transaction's commit asks for a look at everything. */
extern void queue_remind_all(void);

#endif
