/*
 * init.c
 *		_PG_init: the settings, the shared memory, the callbacks and the hook.
 *
 * Owns the GUC variables.  With shared_preload_libraries = 'queue' the server asks for
 * shared memory and registers the launcher; loaded later, by the first call of a C function in
 * a backend, only the settings and the transaction callbacks are there, and everything that
 * needs shared memory answers "absent" (queue_preloaded()).
 */
#include "lib/queue.h"

#include "job/group.h"
#include "job/remind.h"
#include "lib/netguard.h"
#include "server/ddl_hook.h"
#include "server/defaults.h"
#include "server/launcher.h"
#include "server/shared_memory.h"
#include "shared/census.h"
#include "shared/note.h"
#include "shared/prepared.h"
#include "shared/unit.h"

#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/varlena.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

bool		queue_enabled = true;
int			queue_executors = 4;
int			queue_executor_idle_timeout = 60000;
int			queue_commit_interval = 10;
int			queue_shutdown_timeout = 5000;
int			queue_keep_errors = 604800;
int			queue_keep_workflows = 2592000;
int			queue_keep_events = 604800;
int			queue_max_wait = 30000;
int			queue_max_job_size = 16384;
int			queue_recent_jobs = 10000;
char	   *queue_databases = NULL;
int			queue_debug_clock_offset = 0;
int			queue_max_lines = 100000;
bool		queue_debug_far_look = true;
bool		queue_debug_reread = false;
int			queue_debug_line_idle = 1200000;
char	   *queue_debug_serves = NULL;
int			queue_log_level = LOG;
int			queue_log_format = 0;
int			queue_http_max_response = 64;
int			queue_http_max_in_flight = 1000;
char	   *queue_http_allowed_networks = NULL;

static const struct config_enum_entry log_format_options[] = {
	{"text", 0, false},
	{"json", 1, false},
	{NULL, 0, false}
};

static const struct config_enum_entry log_level_options[] = {
	{"debug5", DEBUG5, false},
	{"debug4", DEBUG4, false},
	{"debug3", DEBUG3, false},
	{"debug2", DEBUG2, false},
	{"debug1", DEBUG1, false},
	{"debug", DEBUG2, true},
	{"info", INFO, false},
	{"notice", NOTICE, false},
	{"warning", WARNING, false},
	{"log", LOG, false},
	{NULL, 0, false}
};

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* queue.databases must be '*' or a list of names. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		ok = SplitGUCList(copy, ',', &names);

	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	list_free(names);
	pfree(copy);
	return ok;
}

/* queue.http_allowed_networks must be a list of addresses and networks. */
static bool
check_networks(char **newval, void **extra, GucSource source)
{
	QueueNetguard guard;
	char		bad[64];

	if (queue_netguard_parse(*newval, &guard, bad, sizeof(bad)))
		return true;
	GUC_check_errdetail("\"%s\" is no IPv4 or IPv6 network such as 10.0.0.0/8 or fd00::/8, or there are more than %d.",
						bad, QUEUE_NETGUARD_MAX);
	return false;
}

/* Defines the settings, queue.*. */
static void
define_settings(void)
{
	DefineCustomBoolVariable("queue.enabled", "Runs the launcher's work: schedulers and executors.",
							 NULL, &queue_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("queue.executors", "Sets how many executors may run per database.",
							NULL, &queue_executors, 4, 0, 128, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("queue.executor_idle_timeout", "Sets how long an idle executor stays.",
							NULL, &queue_executor_idle_timeout, 60000, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.commit_interval", "Sets how long short jobs may share one transaction.",
							"No commit waits longer than this for its neighbours.",
							&queue_commit_interval, 10, 1, 10000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("queue.shutdown_timeout", "Sets how long running jobs may go on at shutdown.",
							NULL, &queue_shutdown_timeout, 5000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.keep_workflows",
							"Sets how long finished workflows stay in queue.workflow.",
							NULL, &queue_keep_workflows, 2592000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.keep_errors",
							"Sets how long failed attempts and log lines stay in queue.job_error and queue.job_log.",
							NULL, &queue_keep_errors, 604800, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.keep_events", "Sets how long events stay that were emitted.",
							"An older one counts as never emitted. One that an unfinished job has awaited is kept.",
							&queue_keep_events, 604800, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("queue.max_wait", "Limits how long a statement may wait for a job.",
							"A waiting statement holds a snapshot.",
							&queue_max_wait, 30000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	/* sizes shared memory; a library that is loaded later has none, and may not define a setting of the postmaster */
	DefineCustomIntVariable("queue.recent_jobs", "Sets how many ended jobs of each database are remembered.",
							"queue.recent_job shows them although their queue keeps nothing; 10,000 take 23 MB of "
							"shared memory, for all databases together.",
							&queue_recent_jobs, 10000, 0, 1000000,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SUSET, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable("queue.max_job_size", "Limits the size of a job: payload, headers and tags together.",
							"Jobs that the server makes itself are not limited.", &queue_max_job_size, 16384, 1,
							QUEUE_MAX_JOB_SIZE, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomStringVariable("queue.databases", "Lists the databases whose jobs are run; '*' means all.",
							   NULL, &queue_databases, "*", PGC_SIGHUP, 0, check_databases, NULL, NULL);
	DefineCustomIntVariable("queue.http_max_response", "Limits how much of an HTTP response is kept.",
							NULL, &queue_http_max_response, 64, 0, 65536, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("queue.http_allowed_networks", "Lists the networks that HTTP handlers may reach.",
							   "Empty means all. Link-local, unspecified and cloud metadata addresses must be named by "
							   "a "
							   "network that lies within theirs.",
							   &queue_http_allowed_networks, "", PGC_SIGHUP, 0, check_networks, NULL, NULL);
	DefineCustomIntVariable("queue.http_max_in_flight", "Limits how many HTTP requests of a database run at once.",
							NULL, &queue_http_max_in_flight, 1000, 1, 100000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("queue.log_format",
							 "Sets how log lines about jobs and workers look: text, or json with fields of their own.",
							 NULL, &queue_log_format, 0, log_format_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("queue.log_level", "Sets the level of log lines about jobs and workers.",
							 NULL, &queue_log_level, LOG, log_level_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* sizes shared memory too */
	DefineCustomIntVariable("queue.max_lines", "Limits how many lines of jobs a database may have.",
							"A line is a queue, kind and priority in use.",
							&queue_max_lines, 100000, 1, 10000000,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SUSET, 0, NULL, NULL,
							NULL);
	DefineCustomBoolVariable("queue.debug_far_look", "Looks every half minute for what nobody told of; off for tests.",
							 "Off, the scheduler does so when it starts, and when it knows that something was lost.",
							 &queue_debug_far_look, true, PGC_SIGHUP, GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, NULL,
							 NULL);
	DefineCustomBoolVariable("queue.debug_reread", "Reads the configuration anew at each look at it, for tests.",
							 "And keeps just one of the first readings that a transaction replaced.",
							 &queue_debug_reread, false, PGC_SUSET, GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, NULL,
							 NULL);
	DefineCustomIntVariable("queue.debug_line_idle", "Sets how long a line stays without jobs, for tests.",
							NULL, &queue_debug_line_idle, 1200000, 10, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_MS | GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, NULL, NULL);
	DefineCustomStringVariable("queue.debug_serves", "Names one more version that the library serves, for tests.",
							   "A version of the extension.", &queue_debug_serves, "", PGC_SUSET,
							   GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, NULL, NULL);
	DefineCustomIntVariable("queue.debug_clock_offset", "Moves the clock of queue, for tests.",
							"Set it for the whole server: processes with different clocks disagree about what is due.",
							&queue_debug_clock_offset, 0, -INT_MAX, INT_MAX, PGC_SUSET,
							GUC_UNIT_S | GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, NULL, NULL);
	MarkGUCPrefixReserved("queue");
}

/* shmem_request_hook. */
static void
shmem_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	queue_shared_memory_request();
}

/* shmem_startup_hook. */
static void
shmem_startup(void)
{
	if (previous_shmem_startup)
		previous_shmem_startup();
	queue_shared_memory_init();
}

/* Called when the library is loaded: by the postmaster, or by a backend's first use. */
void
_PG_init(void)
{
	define_settings();
	queue_note_register_callbacks();
	queue_prepared_register_callback();
	queue_unit_register_callbacks();
	queue_census_register_callbacks();
	queue_remind_register_callback();
	queue_group_register_callback();
	queue_defaults_install();
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	queue_ddl_hook_install();
	if (!IsBinaryUpgrade)
		queue_launcher_register_worker();
}
