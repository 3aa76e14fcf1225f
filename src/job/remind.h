/*
 * remind.h
 *		Reminders (shared/reminder.h) as rows of queue.reminder, where no shared memory has them.
 *
 * See remind.c.
 */
#ifndef QUEUE_REMIND_H
#define QUEUE_REMIND_H

#include "shared/reminder.h"

/* Called when the library is loaded: a trigger notes reminders where nothing else of ours runs. */
extern void queue_remind_register_callback(void);

/* This transaction's commit reminds of it, in memory or by a row. */
extern void queue_job_remind(QueueRemindOf of, int64 id);
/* .. of a job that depends on one that completed, unless that makes no difference (queue_reminder_waits). */
extern void queue_job_remind_less(int64 id, int64 completed);

/* Does what a reminder asks for; false: it cannot be done now, and the reminder stays. */
typedef bool (*QueueRemindHandler) (const QueueReminder *reminder, void *arg);
/* Has up to max rows handled and deletes them; false: there may be more, or some have stayed. */
extern bool queue_remind_eat_rows(QueueRemindHandler handler, void *arg, int max);

#endif
