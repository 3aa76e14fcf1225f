/*
 * sender.h
 *		What the files of the http worker share: the jobs under way, and the transactions about them.
 *		Private to delivery.c, outcome.c and worker.c.
 */
#ifndef QUEUE_SENDER_H
#define QUEUE_SENDER_H

#include "http/request.h"
#include "job/job.h"
#include "shared/channel.h"
#include "shared/limit.h"

#include "utils/hsearch.h"

#define QUEUE_SENDER_BATCH 60	/* jobs in a transaction: fewer than note.c merges */
#define QUEUE_SENDER_NAME "queue http "
#define QUEUE_SENDER_FLUSH_US INT64CONST(2000)

/* A job that is claimed and not yet recorded. */
typedef struct QueueInFlight
{
	int64		id;				/* hash key */
	QueueRequest *request;
} QueueInFlight;

typedef struct QueueSender
{
	QueueDatabase *base;
	QueueChannel *channel;
	HTAB	   *in_flight;		/* of QueueInFlight */
	int			nsending;		/* transfers under way, without probes */
	int			capacity;		/* of transfers, by the limit of open files */
	QueueRequest *done_first;	/* ended, to be recorded */
	QueueRequest *done_last;
	int			ndone;
	TimestampTz oldest_done;
	bool		hurry;			/* a handler at its limit waits for outcomes to be recorded */
	MemoryContext loop_context; /* reset in each turn of the loop */
	MemoryContext work_context; /* reset for each transaction */
	QueueJobTable *table;		/* in a transaction */
	char		worker_name[32];
	bool		wake_scheduler; /* at the end of this turn */
	int			code;			/* the last error's */
} QueueSender;

extern QueueSender queue_sender;

/*
 * Transactions.  With async the commit may be lost in a crash of the server (and nothing else).  True: something was
 * written.
 */
extern void queue_sender_begin(void);
extern bool queue_sender_commit(bool async);
extern bool queue_sender_tells(const char *what);	/* Shall the log be told of this (a literal)?  Once a minute. */
/* After an error: tells the log what it was, and keeps its code.  Its message, palloc'd in loop_context. */
extern char *queue_sender_rollback(const char *what);

extern void queue_sender_dismiss(QueueGate *gate);	/* a job that a gate admitted left the worker */
extern void queue_sender_ended(QueueRequest *request, TimestampTz now); /* to be recorded */
extern void queue_sender_forget(QueueRequest *request); /* the job is not ours any more */

#endif
