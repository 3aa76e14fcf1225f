/*
 * worker.h
 *		What all background workers of ours share: how a parent starts one and learns how it ended, and how a worker
 *		sleeps, reloads its settings and stops.
 *
 * The life of a child, as its slot tells it: reserved (pid 0, never adopted) -> adopted (pid set, STARTING: it
 * connects) -> up (IDLE ..) -> free.  One that ends before it is up leaves its slot to the parent, who so learns why.
 */
#ifndef QUEUE_WORKER_H
#define QUEUE_WORKER_H

#include "shared/slot.h"

struct BackgroundWorker;
struct BackgroundWorkerHandle;
struct WaitEventSet;

/* A child that this process started.  Zeroed: none. */
typedef struct QueueChild
{
	struct BackgroundWorkerHandle *handle;	/* NULL: none */
	int			slot;
	TimestampTz token;			/* of the slot */
	bool		up;				/* was seen connected */
} QueueChild;

typedef enum QueueChildState
{
	QUEUE_CHILD_NONE,			/* -> STARTING by queue_child_start */
	QUEUE_CHILD_STARTING,		/* -> UP, REFUSED, LOST */
	QUEUE_CHILD_UP,				/* -> ENDED */
	/* each of these is told once, then the record is NONE */
	QUEUE_CHILD_ENDED,			/* it had been up */
	QUEUE_CHILD_REFUSED,		/* it could not connect: the server log says why */
	QUEUE_CHILD_LOST			/* it never ran: a failed fork, or a slot taken back by a DDL command */
} QueueChildState;

/* ---- the parent's side; each returns without waiting */

/* Fills in everything of a worker's registration but where its slot is. */
extern void queue_worker_describe(struct BackgroundWorker *worker, QueueSlotType type, Oid db, Oid role);
/* Starts a child; false: no slot of ours or no worker slot of the server is free. */
extern bool queue_child_start(QueueChild *child, QueueSlotType type, Oid db, Oid role);
extern QueueChildState queue_child_look(QueueChild *child);
/* Takes the start back if the server has not yet got to it. */
extern void queue_child_recall(QueueChild *child);

/* ---- the worker's side */

/*
 * First call of a worker's main: signals, the end's timer, its slot (-1: the launcher, which has no parent).  A worker
 * that SIGTERM finds busy has queue.shutdown_timeout (no time at all when its slot says abort) and then grace_ms to end
 * by itself; then it dies wherever it waits, for a lock or for a synchronous standby.
 */
extern void queue_worker_begin(int slot_number, int grace_ms);
/* It is connected and works now. */
extern void queue_worker_up(void);

/* Why a sleeper is awake. */
#define QUEUE_WOKE_STOP		0x01	/* SIGTERM came */
#define QUEUE_WOKE_RELOADED 0x02	/* the settings were read again */
#define QUEUE_WOKE_TIMEOUT	0x04	/* the deadline has come */

/*
 * Sleeps until the latch is set, the deadline (DT_NOEND: none) or an event of `set` (NULL: just the latch), then
 * reads changed settings.  A cancel that came meanwhile hits nothing.  Outside of a transaction.
 */
extern int	queue_worker_sleep(struct WaitEventSet *set, TimestampTz deadline, uint32 wait_event);

/* The deadline of this process's end has passed: nothing more is begun. */
extern bool queue_worker_deadline_passed(void);

/*
 * For the executor, whose job may have to be broken off: called in a signal handler when somebody cancels (SIGINT),
 * when its slot may ask for something (SIGUSR2), and when the time to end has come.  NULL: SIGINT cancels what runs.
 */
typedef enum QueueWorkerSignal
{
	QUEUE_SIGNAL_CANCEL, QUEUE_SIGNAL_SLOT, QUEUE_SIGNAL_DEADLINE
} QueueWorkerSignal;
extern void (*queue_worker_signal_hook) (QueueWorkerSignal why);

#endif
