/*
 * database.h
 *		One shared entry per database: the generation of its configuration, who its
 *		scheduler is and how long it sleeps, whether the database is closed to
 *		workers.  Also the cluster-wide part: the launcher's latch.
 *
 * Lock: base->lock (LWLock) for creating an entry; fields are atomics or are
 * written only under the lock.  Everything marked "commit-safe" may be called from
 * a transaction callback: no palloc, no ereport, no catalog.
 */
#ifndef QUEUE_DATABASE_H
#define QUEUE_DATABASE_H

#include "shared/wake.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#define QUEUE_DROPS_LISTED 32		/* drops of queues at a time that enqueuers can tell from each other */
#define QUEUE_REST_MAX_US (5 * USECS_PER_MINUTE)	/* the longest rest: then the housekeeping has its turn */

/* Why a database has no scheduler; doctor() words them. */
typedef enum QueueDatabaseState
{
	QUEUE_DATABASE_UNKNOWN,			/* never looked at since the server started -> STARTING, NO_SLOT */
	QUEUE_DATABASE_NO_EXTENSION,	/* a scheduler looked: the extension is not there -> STARTING when it is created */
	QUEUE_DATABASE_STARTING,		/* -> RUNNING, NO_EXTENSION, FAILED, NO_SLOT */
	QUEUE_DATABASE_RUNNING,			/* -> FAILED, NO_EXTENSION, RESTING */
	QUEUE_DATABASE_FAILED,			/* the scheduler ended with an error -> STARTING after a pause */
	QUEUE_DATABASE_NO_SLOT,			/* max_worker_processes is used up -> STARTING when a slot is free */
	QUEUE_DATABASE_RESTING			/* the scheduler gave its slot up -> STARTING at rest_until or when it is woken */
} QueueDatabaseState;

/*
 * What is told of a new line once it is committed: its id, and keys of its queue and kind by which others see
 * whether it concerns them.
 */
typedef struct QueueNewLine
{
	int64		id;
	uint64		queue_key;
	uint64		kind_key;
	uint64		concurrency_hash;	/* of its concurrency key; 0: none */
	int16		priority;
} QueueNewLine;

#define QUEUE_NEW_LINES 128		/* who was told less often reads its lists again */

#define QUEUE_TROUBLE_SIZE 80
#define QUEUE_STABLE_US (10 * USECS_PER_SEC)	/* a worker that has run for so long does not end over and over */

typedef struct QueueDatabase
{
	Oid			db;				/* InvalidOid: free */
	pg_atomic_uint64 generation;	/* bumped after the commit of any change of configuration or lines */
	pg_atomic_uint32 state;		/* QueueDatabaseState */
	pg_atomic_uint32 closed;	/* >0: a DDL command needs the database without workers */
	pg_atomic_uint32 scheduler_procno;	/* PG_UINT32_MAX: none */
	pg_atomic_uint64 sleep_until;	/* the scheduler sleeps until then; 0: it is awake */
	pg_atomic_uint64 next_expiry;	/* earliest noted lease end (lease.c); PG_INT64_MAX: none */
	/* earliest lease end that neither lease.c nor a cursor has; PG_INT64_MAX: none */
	pg_atomic_uint64 unplaced_expiry;
	pg_atomic_uint64 deadline_low;	/* lowest deadline committed since the scheduler looked; PG_INT64_MAX: none */
	/* lowest time that a job was filed to wait for since the last recount began; PG_INT64_MAX: none */
	pg_atomic_uint64 waiting_low;
	pg_atomic_uint32 executors_wanted;	/* executors that could not be started: no worker slot */
	pg_atomic_uint32 restarts;	/* of the scheduler */
	pg_atomic_uint32 http_ends;	/* of the http worker, in a row, each within QUEUE_STABLE_US of its start, unasked */
	pg_atomic_uint32 hunger;	/* what it lacks a worker slot for (share.h) .. */
	pg_atomic_uint64 hungry_since;
	pg_atomic_uint64 hungry_at; /* .. when that was last said */
	pg_atomic_uint64 rest_until;	/* RESTING: the scheduler is needed again then; a wake lowers it */
	bool		created;		/* an extension was, while a scheduler looked for ours; under the lock */
	char		trouble[QUEUE_TROUBLE_SIZE];	/* what of the scheduler's work fails just now; under the lock */
	/* claims by advisory lock (session.c) in the low half, this entry's incarnation in the high one */
	pg_atomic_uint64 session_claims;
	pg_atomic_uint32 drops;		/* queues that open transactions drop (drop.c).. */
	pg_atomic_uint32 drops_begun;	/* ..since the server started, the number of the last one */
	pg_atomic_uint32 drops_unlisted;	/* those of `drops` that found no place in.. */
	pg_atomic_uint64 drop[QUEUE_DROPS_LISTED]; /* the key of the queue in the high half, the number in the low */
	/* rows of queue.line that were inserted since the server started, committed or not */
	pg_atomic_uint64 lines_made;
	pg_atomic_uint64 refused_at;	/* when the last fetch met a row that refuses its claim (refused.c); 0: never */
	pg_atomic_uint64 refused_lost_at;	/* when there was last no place to remember one; 0: never */
	pg_atomic_uint64 loaded_at; /* when rows came in otherwise than by our functions; 0: never */
	pg_atomic_uint64 lines_bound;	/* with that many made, at most as many plus this exist; as an int64 */
	/* by which generation of the configuration the scheduler has put all lines into agendas; 0: it has not */
	pg_atomic_uint64 sorted_generation;
	pg_atomic_uint32 cursors_lost;	/* QueueCursorsLost */
	uint32		cursors;		/* entries of this database; cursor.c's, under its lock */
	pg_atomic_uint32 queue_places, kind_places, handled_places; /* counter.c's: how many this database has */
	pg_atomic_uint64 lines_told;	/* new lines since the server started */
	QueueNewLine new_lines[QUEUE_NEW_LINES];	/* the last of them; under the lock */
} QueueDatabase;

extern Size queue_database_shmem_size(void);
extern void queue_database_shmem_init(void);

/* Is the library in shared_preload_libraries, that is, is there shared memory? */
extern bool queue_preloaded(void);

/* Hook: PREPARE TRANSACTION is about to run; since when has it been run under this shared memory (now: never yet)? */
extern void queue_database_preparing(void);
extern TimestampTz queue_database_prepares_since(void);

/* Hook: did any prepared transaction since the start create or drop an extension? */
extern void queue_database_set_prepared_ddl(void);	/* commit-safe */
extern bool queue_database_prepared_ddl(void);

/* This database's entry (made at first use, cached); NULL without preload or when all are taken. */
extern QueueDatabase *queue_database(void);
extern QueueDatabase *queue_database_of(Oid db, bool create);
extern int	queue_database_count(void);
extern QueueDatabase *queue_database_nth(int i);	/* NULL when free */

/*
 * The launcher gives up an entry: of a database that is gone, or (not dropped) where a scheduler found no extension.
 * False: one was created since, and must be looked for again.
 */
extern bool queue_database_forget(Oid db, bool dropped);
/* An extension was created in this database, perhaps ours.  Commit-safe. */
extern void queue_database_extension_created(Oid db);

/* What of the scheduler's work fails; "": nothing.  Copied under the lock. */
extern void queue_database_set_trouble(QueueDatabase *base, const char *trouble);
extern void queue_database_trouble(QueueDatabase *base, char *trouble, Size size);

/* Rows came into this database's tables otherwise than by our functions, by a restore perhaps. */
extern void queue_database_loaded(void);
extern TimestampTz queue_database_lately_loaded(int64 within);	/* when the last did, within so many us; 0: none */

extern uint64 queue_database_generation(void);	/* 0 without preload */
extern void queue_database_bump(QueueDatabase *base);	/* commit-safe: generation + 1 and wake the scheduler */

/* Are there lines with jobs and without an entry in cursor.c, or an agenda? */
typedef enum QueueCursorsLost
{
	QUEUE_CURSORS_ALL,			/* -> LOST when one found no place */
	QUEUE_CURSORS_LOST,			/* -> ALL or KNOWN when the scheduler has looked at all lines */
	QUEUE_CURSORS_KNOWN			/* the scheduler knows which; -> LOST */
} QueueCursorsLost;

extern void queue_database_lose_cursor(QueueDatabase *base);	/* commit-safe */
extern void queue_database_forgive_lost(QueueDatabase *base);	/* before the scheduler looks at all lines */
extern void queue_database_know_lost(QueueDatabase *base);	/* it found some */

/* Commit-safe: a new line was committed. */
extern void queue_database_tell_line(QueueDatabase *base, const QueueNewLine *line);
extern uint64 queue_database_lines_told(QueueDatabase *base);
/* The lines told of since *seen, which moves to now; -1: more than are kept. */
extern int	queue_database_new_lines(QueueDatabase *base, uint64 *seen, QueueNewLine *lines);

/*
 * Commit-safe.  Wakes the database's scheduler unless it will be awake by `when` by
 * itself (pass 0 for "now").  The scheduler stores 0 in sleep_until as soon as it
 * wakes and before it looks at anything, and its deadline after it looked: a caller
 * that reads 0 sets the latch, so no wake is lost.
 */
extern void queue_database_wake(QueueDatabase *base, TimestampTz when);

/* Commit-safe: lowers one of these times to `when`, if it is later. */
extern void queue_database_lower(pg_atomic_uint64 *time, TimestampTz when);

/* Commit-safe: a lease ends then that nothing else in memory tells of. */
extern void queue_database_unplaced(QueueDatabase *base, TimestampTz until);

/*
 * Deadlines (queue.deadline) that were committed out of the order in which the scheduler reads them: commit-safe, tells
 * of the lowest of a transaction, DT_NOBEGIN of unknown ones.  The scheduler takes the word BEFORE its snapshot.
 */
extern void queue_database_deadline(QueueDatabase *base, TimestampTz at);
extern void queue_database_waiting(QueueDatabase *base, TimestampTz at);
extern void queue_database_forget_waiting(QueueDatabase *base);
extern TimestampTz queue_database_take_deadline(QueueDatabase *base);	/* PG_INT64_MAX: none */

/*
 * The scheduler of this database is about to end to give its slot up, with nothing to do before `until`.  From now on
 * a wake reaches the launcher; one that came just before this makes the rest short.
 */
extern void queue_database_rest(QueueDatabase *base, TimestampTz until);

/*
 * Commit-safe.  One claim by advisory lock more or less.  A claim may outlive its entry (DROP EXTENSION while its
 * session stays), and the entry's next use must not be counted down for it: so the removal names the incarnation that
 * the addition returned.
 */
extern uint32 queue_database_add_session_claim(QueueDatabase *base);	/* a full barrier */
extern void queue_database_remove_session_claim(QueueDatabase *base, uint32 incarnation);
extern uint32 queue_database_session_claims(QueueDatabase *base);

/* The launcher's: procno, and a counter of "look at all databases again" requests. */
extern void queue_launcher_register(void);
extern void queue_launcher_wake(void);	/* commit-safe */
extern uint64 queue_launcher_requests(void);
extern bool queue_launcher_alive(void);

/* Sets the launcher's latch without asking for a new look at the databases: a scheduler came up or ended. */
extern void queue_launcher_poke(void);	/* commit-safe */

/*
 * One line in the server log at queue.log_level about a worker or a job: `event` is a word (executor_start, ..),
 * the message is for people and never has payload. With queue.log_format = json the line is a JSON object.
 */
extern void queue_log(const char *event, const char *format,...) pg_attribute_printf(2, 3);

/* What a line about a job tells in fields of its own, if queue.log_format is json. */
typedef struct QueueLogJob
{
	int64		id;
	const char *kind;			/* NULL: unknown */
	const char *queue;			/* NULL: unknown */
	int			attempt;		/* 0: unknown */
	const char *error;			/* NULL: none */
} QueueLogJob;
extern void queue_log_job(const char *event, const QueueLogJob *job, const char *format,...) pg_attribute_printf(3, 4);

#endif
