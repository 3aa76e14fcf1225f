/*
 * event.h
 *		Events that jobs wait for: what was emitted, who awaits it, and who is let in for it.
 *
 * See event.c.
 */
#ifndef QUEUE_EVENT_H
#define QUEUE_EVENT_H

#include "job/job.h"

typedef enum QueueAwaited
{
	QUEUE_AWAITED_WAITING,
	QUEUE_AWAITED_EVENT,
	QUEUE_AWAITED_TIMEOUT
} QueueAwaited;

/* Their names, as SQL shows them. */
extern const char *const queue_awaited_names[];

/* One event that a job awaits, or has awaited. */
typedef struct QueueAwait
{
	int64		job_id;
	char	   *event;
	char	   *queue;
	TimestampTz until;			/* DT_NOEND: for ever */
	TimestampTz awaited_at;
	QueueAwaited status;
	bool		known;			/* it was so before this call */
	Jsonb	   *payload;		/* of the event; NULL: there is none (any more) */
} QueueAwait;

/* Tells of an event in a queue, when this transaction commits; false: there is one of this name. */
extern bool queue_event_emit(const char *queue, const char *event, Jsonb *payload);

/*
 * The job, which the caller has locked and which runs, asks for an event; timeout in us, -1: none.  WAITING: the caller
 * writes it as held (queue_finish_await).  Marks the job in memory, for whatever the caller writes.
 */
extern void queue_event_await(QueueJob *job, const char *queue, const char *event, int64 timeout, QueueAwait *await);
/* The same of one that the job has asked for before, only read; false: it has not. */
extern bool queue_event_awaited(int64 job_id, const char *event, QueueAwait *await);

/* The row of a job is deleted: it awaits nothing more. */
extern void queue_event_ended(const QueueJob *job);

/* ---- letting in ---- */

/*
 * All that this job awaits, as far as it was emitted; with `now` (else DT_NOBEGIN) also what it awaited until then.
 * False: somebody has the job, to be tried again.
 */
extern bool queue_event_look(QueueJobTable *jobs, int64 job_id, TimestampTz now);
/*
 * The jobs behind *after that await this event, up to max of them; *after: the last one.  True: there may be more.
 * busy (for max ids): those that could not be let in now.
 */
extern bool queue_event_emitted(QueueJobTable *jobs, int64 event_id, int64 *after, int max, int64 *busy, int *nbusy);
/* The next jobs after `after` that wait for an event, in the order of their ids; how many. */
extern int	queue_event_waiting(int64 after, int64 *ids, int max);

#endif
