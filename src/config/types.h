/*
 * types.h
 *		What one reading of the configuration holds: queues, handlers, endpoints, lines, privileges, relations.
 */
#ifndef QUEUE_TYPES_H
#define QUEUE_TYPES_H

#include "lib/backoff.h"
#include "lib/breaker.h"
#include "shared/counter.h"
#include "shared/cursor.h"
#include "shared/unit.h"

/* Lines, appended to only (lines.c). */
typedef struct QueueLineList
{
	struct QueueLine **lines;
	int			n;
	int			allocated;
	bool		kept;			/* new ones are put in */
	bool		complete;		/* all that there are */
} QueueLineList;

/* So many executors are kept for jobs of this priority and more urgent ones. */
typedef struct QueueReserved
{
	int16		priority;
	int			executors;
} QueueReserved;

typedef struct QueueConf		/* one queue */
{
	char	   *name;
	uint64		key;			/* queue_name_hash(name) */
	QueueCounterRef *counter;
	QueueAgenda agenda;			/* of its lines that no server handler serves */
	bool		stored;			/* has a row; only 'default' may lack one */
	int			max_attempts;
	int64		lease;			/* us */
	QueueBackoff backoff;
	int64		keep_completed; /* us; 0: not kept */
	int64		keep_discarded; /* us */
	bool		holds_group;	/* on_group_discard: a discarded job holds its group */
	TimestampTz rekept_at;		/* when keep_* was changed; 0: never */
	TimestampTz paused_at;		/* 0: not paused by itself */
	bool		paused;			/* by itself, or with all queues */
	QueueLimit	limit;
	char	   *dead_letter;	/* the queue that gets copies of discarded jobs; NULL: none */
	char	   *on_discarded;	/* the kind that is told of them; NULL: none */
	bool		is_dead_letter; /* another queue's: only handlers that name it serve it */
	QueueLimit	key_limit;		/* of each concurrency key */
	bool		keyed;			/* each key has lines of its own */
	int			fair;			/* so many jobs of a key make a turn; 0: keys take none */
	int64		ageing;			/* us of waiting that make a job one step more urgent; 0: none do */
	QueueReserved reserved[QUEUE_MAX_RESERVED]; /* executors kept for urgent jobs */
	int			nreserved;
	char	   *broken;			/* what of its row cannot be read (a default stands for it); NULL: nothing */
	QueueLineList lines;		/* lines.c's */
} QueueConf;

/* A place that an HTTP handler's jobs are sent to. */
typedef struct QueueEndpoint
{
	char	   *url;
	uint64		key;			/* the id of its row, which names it in shared memory too */
	int			weight;
	int			max_running;	/* 0: only the handler's */
	char	   *health_url;		/* NULL: none */
	QueueBreakerConf breaker;
	bool		adopted;
	char	   *broken;			/* why nothing is sent there: what of its row cannot be read; NULL: nothing */
	struct QueueEndpointState *state;	/* for who uses it: looked up once a reading; NULL: not yet */
	bool		unseen;			/* no place in shared memory was left for it: the http worker has a state of its own */
	int			current;		/* smooth weighted round-robin, the http worker's */
} QueueEndpoint;

/* What an HTTP handler has beyond what all have; httpconf.c reads it. */
typedef struct QueueHttpConf
{
	char	   *method;
	bool		sends_job;		/* body => 'job' */
	Jsonb	   *headers;		/* NULL: none */
	int64		connect_timeout;	/* us */
	char	  **secrets;		/* a request is signed with each */
	int			nsecrets;
	uint32		complete_on[20];	/* a bit for each status below 640 */
	uint32		discard_on[20];
	int64		health_timeout; /* us */
	char	   *ca_file;		/* NULL: the system's */
	QueueBreakerConf breaker;	/* of endpoints without one */
	QueueEndpoint **endpoints;
	int			nendpoints;
	struct QueueGate *gate;		/* as an endpoint's state */
	struct QueueFeed *feed;		/* feed.c's */
} QueueHttpConf;

typedef struct QueueHandler
{
	int64		id;				/* of its row, which names it in shared memory too */
	char	   *kind;			/* "*": kinds without a handler of their own */
	uint64		key;			/* queue_name_hash(kind) */
	struct QueueHandler *same_kind; /* the next one of the kind, by id; NULL: none */
	bool		http;
	QueueHttpConf *conf;		/* http only */
	int			max_running;	/* http only; 0: no limit of its own */
	QueueLimit	limit;
	char	   *function_schema;
	char	   *function_name;
	bool		takes_job;		/* f(queue.job), else f(jsonb) */
	char	   *function_owner;
	char	  **queues;			/* sorted; NULL: every queue that no other handler of the kind names */
	int			nqueues;
	int64		timeout;		/* us; -1: not set; 0: none */
	int			max_attempts;	/* 0: not set */
	bool		has_backoff;
	QueueBackoff backoff;
	char	   *run_as;
	Oid			run_as_oid;		/* InvalidOid: no such role */
	char	   *registered_by;
	TimestampTz paused_at;		/* 0: not paused */
	bool		adopted;		/* its stamp is this system's and this database's */
	char	   *broken;			/* why it is parked: what of its row cannot be read; NULL: nothing */
	uint64		looked;			/* the look (eligible.c) in which .. */
	bool		eligible;		/* .. it was asked whether it may run */
	bool		placed;			/* placement.c's: executors could run it when its lines were sorted */
} QueueHandler;

/* What an enqueue reads comes first: over many lines nothing of them is in the processor's cache. */
typedef struct QueueLine
{
	int64		id;
	QueueConf  *queue;
	char	   *kind;			/* stands before the struct */
	uint64		kind_key;		/* queue_name_hash(kind) */
	char	   *key;			/* the concurrency key of its jobs; NULL: of any */
	QueueCounterRef *counter;	/* of the kind in the queue; queue_line_counter() sets it */
	uint64		placeless;		/* as of when the kind had no place, where it is NULL (shared/placed.h) */
	struct QueueLine *same_key; /* lines.c's */
	int16		priority;
	bool		served;			/* handler && !paused && its run_as may work in the queue */
	bool		gone;			/* its queue was dropped */
	bool		retired;		/* takes no new jobs */
	bool		in_queue, in_kind;	/* which lists have it (lines.c) */
	QueueHandler *handler;		/* whose the kind is here, paused or not; NULL: nobody's */
	QueueLimits *limits;		/* of its claims; NULL: there is none */
	QueueKindRef stat;
	uint64		reading;		/* the last one that opened it (ready.c) */
	uint64		turn_id;		/* of a fair queue: the key's number */
	QueueCursorRef cursor;
} QueueLine;

/* How urgent a job is that waits since run_at: its priority, less a step for each `ageing` of its queue. */
static inline int32
queue_urgency(const QueueConf *conf, int16 priority, TimestampTz run_at, TimestampTz now)
{
	if (likely(conf->ageing == 0) || run_at >= now)
		return priority;
	if (run_at == DT_NOBEGIN)
		return PG_INT32_MIN / 2;	/* unknown */
	return priority - (int32) Min((now - run_at) / conf->ageing, PG_INT32_MAX / 4);
}

/* Privileges, in rising order of the matrix's bits. */
#define QUEUE_PRIV_ENQUEUE	0x01
#define QUEUE_PRIV_WORK		0x02
#define QUEUE_PRIV_READ		0x04
#define QUEUE_PRIV_MANAGE	0x08
#define QUEUE_PRIV_MONITOR	0x20	/* its numbers: who may read, and members of pg_monitor */

typedef struct QueueConfig
{
	Oid			extension_owner;
	TimestampTz all_paused_at;	/* pause('*'): all queues are, also new ones; 0: not */
	Oid			live_job, live_job_pkey, live_job_ready, job_id_seq;	/* relations, by name */
	Oid			queue_table;
	Oid			line_table, line_pkey, line_name, line_id_seq;
	Oid			endpoint_table, installation_table;
	char	   *installation;	/* the installation's uuid; NULL: no HTTP handler was ever registered */
	Oid			job_view, job_type;
	Oid			deadline, deadline_at;	/* table and index */
	Oid			unique_key, unique_key_pkey;
	Oid			live_key, live_key_place, group_mark;	/* table and index, table */
	Oid			dependency, dependency_job, dependency_other;	/* table and indexes */
	Oid			reminder;
	Oid			workflow_base, workflow_base_pkey, workflow_job, workflow_job_pkey, workflow_end, workflow_end_pkey;
	Oid			workflow_id_seq, workflow_number_seq;
	Oid			finished_job[QUEUE_KEPT_SLOTS], failure[QUEUE_RING_SLOTS];
	Oid			log_line[QUEUE_RING_SLOTS], log_line_attempt[QUEUE_RING_SLOTS]; /* tables and their index */
	Oid			finished_job_id[QUEUE_KEPT_SLOTS];	/* the index on id */
	Oid			failure_job_id[QUEUE_RING_SLOTS];	/* likewise */
	Oid			finished_job_what[QUEUE_RING_SLOTS];	/* the index on (what, id) */
	QueueConf **queues;
	int			nqueues;
	QueueHandler **handlers;
	int			nhandlers;
	bool		limited;		/* some queue or handler has limits */
	struct QueueLines *lines;	/* what lines.c knows of them; NULL: nothing yet */
	Oid			subscription;
	Oid			step, step_pkey;
	Oid			event, event_pkey, event_name, event_wait, event_wait_pkey, event_wait_event;
	struct QueueTopics *topics; /* topics.c's tree of them; NULL: not read yet */
	MemoryContext cxt;			/* lives as long as this reading */
	uint64		generation;
	uint64		serial;			/* counts the readings of this backend: another serial, other pointers */
} QueueConfig;

#endif
