/*
 * queue.h
 *		What every file of the extension shares: the version, the settings, the
 *		position of a job in its line, and the sizes of the shared structures.
 *
 * Owns nothing but constants and the GUC variables (defined in queue.c).
 */
#ifndef QUEUE_H
#define QUEUE_H

#include "lib/compat.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#define QUEUE_VERSION "1.0"		/* the library's, equal to default_version in queue.control */

/* Sizes of the shared structures (see each file's header comment for what happens when one is full). */
#define QUEUE_MAX_DATABASES 128
#define QUEUE_MAX_CHANNELS 128
#define QUEUE_MAX_SLOTS 256
#define QUEUE_MAX_LEASES 16384
#define QUEUE_MAX_COUNTERS 4096
#define QUEUE_MAX_PLACES 1024	/* of them, in one database */
#define QUEUE_MAX_WAITERS 1024
#define QUEUE_CHANNEL_SIZE 256

#define QUEUE_RING_TURNS 3		/* partitions of a keep class */
#define QUEUE_RING_SLOTS 16		/* partitions of failure and of log_line, and the first ones of finished_job; .. */
#define QUEUE_KEPT_SLOTS (QUEUE_RING_SLOTS + QUEUE_RING_TURNS)	/* .. its last: what only others' dependence keeps */
/*
 * The most that queue.max_job_size can be set to, kB: with what the server adds, extra stays a jsonb and a row below
 * 1 GB.
 */
#define QUEUE_MAX_JOB_SIZE 65536

#define QUEUE_NAME_MAX 200		/* bytes in the name of a queue, kind, worker, key */

/*
 * Where a job stands in its line: the ready index is (line, run_at, id), and a
 * line's jobs are taken in this order.
 */
typedef struct QueuePos
{
	TimestampTz run_at;
	int64		id;
} QueuePos;

static inline int
queue_pos_cmp(QueuePos a, QueuePos b)
{
	if (a.run_at != b.run_at)
		return a.run_at < b.run_at ? -1 : 1;
	return a.id < b.id ? -1 : (a.id > b.id ? 1 : 0);
}

/* The earlier of two times.  Min evaluates its arguments twice, and so is not for a call that does anything. */
static inline TimestampTz
queue_earlier(TimestampTz a, TimestampTz b)
{
	return a < b ? a : b;
}

#define QUEUE_POS_FIRST ((QueuePos) {DT_NOBEGIN, PG_INT64_MIN})

/* The settings, which server/init.c defines. */
extern PGDLLIMPORT bool queue_enabled;
extern PGDLLIMPORT int queue_executors;
extern PGDLLIMPORT int queue_max_lines;
extern PGDLLIMPORT bool queue_debug_far_look;
extern PGDLLIMPORT bool queue_debug_reread;
extern PGDLLIMPORT int queue_debug_line_idle;	/* ms */
extern PGDLLIMPORT char *queue_debug_serves;	/* a version of the extension */
extern PGDLLIMPORT int queue_executor_idle_timeout; /* ms */
extern PGDLLIMPORT int queue_commit_interval;	/* ms */
extern PGDLLIMPORT int queue_shutdown_timeout;	/* ms */
extern PGDLLIMPORT int queue_keep_errors;	/* s */
extern PGDLLIMPORT int queue_keep_workflows;	/* s */
extern PGDLLIMPORT int queue_keep_events;	/* s */
extern PGDLLIMPORT int queue_max_wait;	/* ms */
extern PGDLLIMPORT int queue_max_job_size;	/* kB */
extern PGDLLIMPORT int queue_recent_jobs;	/* 0: none are remembered */
extern PGDLLIMPORT char *queue_databases;
extern PGDLLIMPORT int queue_http_max_response;	/* kB */
extern PGDLLIMPORT int queue_http_max_in_flight;
extern PGDLLIMPORT char *queue_http_allowed_networks;
extern PGDLLIMPORT int queue_debug_clock_offset; /* s */
extern PGDLLIMPORT int queue_log_level;
extern PGDLLIMPORT int queue_log_format;	/* 0 text, 1 json */

#endif
