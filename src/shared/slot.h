/*
 * slot.h
 *		One shared slot per background worker: who it is, what it runs, and the
 *		requests made to it (cancel this job, retire, abort).
 *
 * A slot is written by its owner; requests are atomics that anyone may set, followed by
 * a signal (SIGUSR2: look at your slot).  Lock: slot table LWLock for taking and freeing a slot.
 */
#ifndef QUEUE_SLOT_H
#define QUEUE_SLOT_H

#include "shared/database.h"

typedef enum QueueSlotType
{
	QUEUE_SLOT_FREE, QUEUE_SLOT_LAUNCHER, QUEUE_SLOT_SCHEDULER, QUEUE_SLOT_EXECUTOR, QUEUE_SLOT_HTTP
} QueueSlotType;

typedef enum QueueSlotState
{
	QUEUE_SLOT_STARTING,		/* registered by its parent, not yet connected -> IDLE */
	QUEUE_SLOT_IDLE,			/* -> RUNNING, STOPPING */
	QUEUE_SLOT_RUNNING,			/* -> IDLE, STOPPING */
	QUEUE_SLOT_STOPPING			/* -> the slot is free at exit */
} QueueSlotState;

#define QUEUE_PROGRESS_MAX 1024	/* bytes of a jsonb */
#define QUEUE_WORKER_NAME 32	/* bytes of "executor 4711" */

typedef struct QueueSlot
{
	pg_atomic_uint32 type;		/* QueueSlotType */
	pg_atomic_uint32 state;		/* QueueSlotState */
	pid_t		pid;			/* 0 while starting */
	pg_atomic_uint32 procno;
	Oid			db;
	Oid			role;
	TimestampTz registered_at;
	TimestampTz started_at;
	pg_atomic_uint64 job_id;	/* the job being run; 0: none. Ids start at 1 */
	pg_atomic_uint64 line;		/* its line */
	pg_atomic_uint64 job_started_at;
	pg_atomic_uint64 jobs;		/* ended here, any outcome */
	pg_atomic_uint32 restarts;
	pg_atomic_uint64 cancel_id; /* cancel this job if it is still the one being run */
	pg_atomic_uint64 cancelled_id;	/* the last job so cancelled; nobody takes it again .. */
	pg_atomic_uint64 cancelled_until;	/* .. before then: the caller who ends it must get its row first */
	pg_atomic_uint64 sharing_since; /* runs a group of short jobs, so it takes further entries by itself, soon; 0: no */
	/* What the job's handler last gave to progress(), if it is small: the owner makes seq odd while it writes. */
	pg_atomic_uint32 progress_seq;
	uint32		progress_length;	/* 0: none */
	int64		progress_id;	/* the job that it is of */
	char		progress[QUEUE_PROGRESS_MAX];
	pg_atomic_uint32 retire;	/* end after the current job */
	pg_atomic_uint32 abort;		/* end now, the current job is rolled back uncounted (DDL) */
} QueueSlot;

extern PGDLLIMPORT QueueSlot *queue_my_slot;	/* NULL in client backends */

extern Size queue_slot_shmem_size(void);
extern void queue_slot_shmem_init(void);
/* A parent reserves a slot for a child and passes its number in bgw_main_arg/bgw_extra; -1: none free. */
extern int	queue_slot_reserve(QueueSlotType type, Oid db, Oid role);
struct BackgroundWorker;
extern void queue_slot_pass(int number, struct BackgroundWorker *worker);	/* into bgw_main_arg and bgw_extra */
/* The child adopts it (sets pid, procno, on_shmem_exit to free it). */
extern void queue_slot_adopt(int number);
extern void queue_slot_free(int number);	/* the parent, when the child never came up */
extern void queue_slot_take_back(QueueSlotType type, Oid db);	/* those that a dead parent's children never used */
/* Is this one of our processes that work in a database? */
extern bool queue_slot_is_ours(pid_t pid);
extern int	queue_slot_count(void);
extern QueueSlot *queue_slot_nth(int i);
/* Is this job being run by an executor of my database right now? Cheap: atomics only. */
extern bool queue_slot_runs(Oid db, int64 job_id);

/* A run of a job in an executor. */
typedef struct QueueSlotJob
{
	pid_t		pid;
	TimestampTz started_at;
} QueueSlotJob;
/* Since when and where the job runs; false: no executor runs it. */
extern bool queue_slot_job(Oid db, int64 job_id, QueueSlotJob *job);
/* "executor 4711": what the view job shows as worker.  name has QUEUE_WORKER_NAME bytes. */
extern void queue_executor_name(char *name, pid_t pid);
/* In an executor: what all can see as the progress of the job that it runs; length 0: nothing. */
extern void queue_slot_show_progress(int64 job_id, const void *value, uint32 length);
/* Copies the progress that a job's executor shows, at most QUEUE_PROGRESS_MAX bytes; 0: it shows none. */
extern uint32 queue_slot_progress(Oid db, int64 job_id, void *value);
/* Asks the executor that runs the job to roll it back and let go; false if nobody runs it. */
extern bool queue_slot_cancel(Oid db, int64 job_id);
/* The caller of queue_slot_cancel has the row: executors need not keep off it any longer. */
extern void queue_slot_cancel_done(Oid db, int64 job_id);
/* Is somebody about to end this job, for whom an executor just let it go? */
extern bool queue_slot_cancelled(Oid db, int64 job_id);
/*
 * n entries wait for workers of (db, role): sets the latches of as many idle ones, less what those who run groups of
 * short jobs will take by themselves within a moment. Returns how many entries it left to these.
 */
extern int	queue_slot_wake_idle(Oid db, Oid role, int n, TimestampTz now);
#define QUEUE_SHARING_PATIENCE_US INT64CONST(5000)	/* who shares a commit for longer is not counted on */

#endif
