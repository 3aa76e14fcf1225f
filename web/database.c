/*
 * database.c
 *		The databases: their connections, the threads that use them, whether they are up.
 *
 * Each database has WORKERS threads with a connection each.  They take entries from the database's queue, first come
 * first served; the first thread takes no actions, so a long one never stops the pages.  The first thread alone says
 * whether the database is up.  While it is down, what is asked is refused at once, and the first thread tries again
 * every RETRY_MS.  Another one that gets no connection (the role or the server allows no more) leaves a view to the
 * first.
 *
 * A connection is an ordinary one, of the role that the connection string says.  Every query has the server's
 * statement_timeout, and a deadline of our own for a network that swallows answers.  Without --write the session is
 * read-only as well.
 */
#include "database.h"

#include "options.h"
#include "util.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS 3
#define MAX_QUEUED 500
#define RETRY_MS 2000
#define GRACE_MS 30000			/* beyond the statement timeout */
#define TICK_MS 200
#define TEXT_TYPE 25			/* the OID of type text, of all parameters; queries cast them */

typedef struct Worker
{
	Database   *database;
	int			number;
	PGconn	   *connection;
	char	   *error;			/* why it has none; of the first thread the database keeps it */
	pthread_t	thread;
} Worker;

struct Database
{
	char	   *name;
	const char *conninfo;
	bool		up;
	char	   *error;			/* NULL when up */
	char	   *role;
	char	   *server_version;
	char	   *host;
	int64_t		generation;		/* counts the actions that ended, and its downfalls */
	Entry	   *first;
	Entry	   *last;
	int			nqueued;
	Worker		workers[WORKERS];
};

static Database *databases;
static int	ndatabases;
static atomic_bool stopping;
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;		/* one for all; the threads look what is theirs */
static int64_t wakes;

int
database_count(void)
{
	return ndatabases;
}

Database *
database_at(int number)
{
	return &databases[number];
}

Database *
database_find(const char *name)
{
	for (int i = 0; i < ndatabases; i++)
	{
		if (strcmp(databases[i].name, name) == 0)
			return &databases[i];
	}
	return NULL;
}

const char *
database_name(const Database *database)
{
	return database->name;
}

int64_t
database_generation(const Database *database)
{
	return database->generation;
}

static char *
copy_or_null(const char *text)
{
	return text != NULL ? xstrdup(text) : NULL;
}

DatabaseState
database_state(Database *database)
{
	DatabaseState state;

	entry_lock();
	state = (DatabaseState) {database->up, copy_or_null(database->error), copy_or_null(database->role),
		copy_or_null(database->server_version), copy_or_null(database->host)};
	entry_unlock();
	return state;
}

void
database_state_free(DatabaseState *state)
{
	free(state->error);
	free(state->role);
	free(state->server_version);
	free(state->host);
}

/* ---- the queue of entries ---- */

static void
wake_workers(void)
{
	pthread_mutex_lock(&wake_lock);
	wakes++;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&wake_lock);
}

static void
refuse_down(Entry *entry)
{
	entry_refuse(entry, MHD_HTTP_SERVICE_UNAVAILABLE, "down", entry->database->error,
				 "queue-web tries again every 2 seconds.");
}

void
database_submit(Database *database, Entry *entry)
{
	entry_hold(entry);
	if (!database->up)
	{
		refuse_down(entry);
		entry_release(entry);
		return;
	}
	if (database->nqueued >= MAX_QUEUED)
	{
		entry_refuse(entry, MHD_HTTP_SERVICE_UNAVAILABLE, "busy", "too many queries wait for this database",
					 "Ask again later.");
		entry_release(entry);
		return;
	}
	entry->next = NULL;
	if (database->last != NULL)
		database->last->next = entry;
	else
		database->first = entry;
	database->last = entry;
	database->nqueued++;
	wake_workers();
}

/* A view that a worker cannot run stands first again, for the first thread.  The caller holds the entries' lock. */
static void
put_back(Database *database, Entry *entry)
{
	entry_hold(entry);
	entry->running = false;
	entry->next = database->first;
	database->first = entry;
	if (database->last == NULL)
		database->last = entry;
	database->nqueued++;
	wake_workers();
}

/* The next entry for a worker, with the queue's reference; NULL: none. */
static Entry *
take_entry(Worker *worker)
{
	Database   *database = worker->database;
	Entry	   *before = NULL;
	Entry	   *entry;

	for (entry = database->first; entry != NULL; before = entry, entry = entry->next)
	{
		if (worker->number > 0 || !entry->query->action)
			break;
	}
	if (entry == NULL)
		return NULL;
	if (before != NULL)
		before->next = entry->next;
	else
		database->first = entry->next;
	if (database->last == entry)
		database->last = before;
	database->nqueued--;
	entry->running = true;
	entry->generation = database->generation;
	return entry;
}

/* ---- connections ---- */

/* The end of a message of libpq, without its line ends. */
static char *
trimmed(const char *message)
{
	char	   *text = xstrdup(message != NULL && *message != '\0' ? message : "no answer");
	size_t		length = strlen(text);

	while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
		text[--length] = '\0';
	return text;
}

/* The database does not answer: everybody who waits is told. */
static void
mark_down(Database *database, const char *message)
{
	entry_lock();
	if (!stopping && (database->up || database->error == NULL))
		log_line("database %s is down: %s", database->name, message);
	database->up = false;
	database->generation++;		/* what was answered before tells nothing now */
	free(database->error);
	database->error = xstrdup(message);
	while (database->first != NULL)
	{
		Entry	   *entry = database->first;

		database->first = entry->next;
		database->nqueued--;
		refuse_down(entry);
		entry_release(entry);
	}
	database->last = NULL;
	entry_unlock();
}

static void
disconnect(Worker *worker)
{
	if (worker->connection != NULL)
		PQfinish(worker->connection);
	worker->connection = NULL;
}

static void
mark_up(Worker *worker)
{
	Database   *database = worker->database;
	const char *host = PQhost(worker->connection);

	entry_lock();
	if (!database->up)
		log_line("database %s is up, as role %s", database->name, PQuser(worker->connection));
	database->up = true;
	free(database->error);
	free(database->role);
	free(database->server_version);
	free(database->host);
	database->error = NULL;
	database->role = xstrdup(PQuser(worker->connection));
	database->server_version = copy_or_null(PQparameterStatus(worker->connection, "server_version"));
	database->host = copy_or_null(host != NULL && *host != '\0' ? host : NULL);
	entry_unlock();
}

static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static void
forget_error(Worker *worker)
{
	free(worker->error);
	worker->error = NULL;
}

/* It is no news for the database when another thread than the first gets no connection. */
static void
keep_error(Worker *worker, char *message)
{
	if (worker->error == NULL && !stopping)
		log_line("database %s gives no further connection: %s", worker->database->name, message);
	free(worker->error);
	worker->error = message;
}

/* Connects if it is not; false: the database is down or, for another thread than the first, allows no more of them. */
static bool
connected(Worker *worker)
{
	static const char *const names[] = {"connect_timeout", "keepalives_idle", "tcp_user_timeout", "application_name",
		"dbname", "client_encoding", NULL};
	const char *values[] = {"5", "10", "15000", "queue-web", worker->database->conninfo, "UTF8", NULL};
	char	   *settings;
	PGresult   *result;
	char	   *message;
	bool		ok;

	if (worker->connection != NULL)
	{
		/* tells of a server that went away meanwhile */
		if (PQconsumeInput(worker->connection) && PQstatus(worker->connection) == CONNECTION_OK)
			return true;
		disconnect(worker);
	}
	worker->connection = PQconnectdbParams(names, values, 1);
	PQsetNoticeProcessor(worker->connection, ignore_notice, NULL);
	settings = xprintf("SET search_path = pg_catalog; SET statement_timeout = '%d s'; "
					   "SET idle_in_transaction_session_timeout = '60 s'; SET jit = off; "
					   "SET client_connection_check_interval = '5 s'; "
					   "SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; "
					   "SET bytea_output = hex; SET default_transaction_read_only = %s",
					   options.timeout, options.write ? "off" : "on");
	result = PQstatus(worker->connection) == CONNECTION_OK ? PQexec(worker->connection, settings) : NULL;
	ok = PQresultStatus(result) == PGRES_COMMAND_OK;
	message = ok ? NULL : trimmed(PQerrorMessage(worker->connection));
	PQclear(result);
	free(settings);
	if (ok)
	{
		forget_error(worker);
		mark_up(worker);
		return true;
	}
	disconnect(worker);
	if (worker->number > 0)
		keep_error(worker, message);
	else
	{
		mark_down(worker->database, message);
		free(message);
	}
	return false;
}

/* ---- queries ---- */

/* Runs one statement; NULL: the connection is lost, or the program ends (then the server is told to stop it). */
static PGresult *
execute(Worker *worker, const char *sql, int nvalues, char *const values[], int timeout)
{
	int64_t		deadline = now_ms() + (int64_t) timeout * 1000 + GRACE_MS;
	PGconn	   *connection = worker->connection;
	PGresult   *result = NULL;
	PGresult   *next;
	Oid			types[MAX_PARAMS];

	for (int i = 0; i < nvalues; i++)
		types[i] = TEXT_TYPE;
	if (!PQsendQueryParams(connection, sql, nvalues, types, (const char *const *) values, NULL, NULL, 0))
		return NULL;
	for (;;)
	{
		struct pollfd ready = {.fd = PQsocket(connection), .events = POLLIN};

		while (!PQisBusy(connection))
		{
			next = PQgetResult(connection);
			if (next == NULL)
				return PQstatus(connection) == CONNECTION_OK ? result : (PQclear(result), NULL);
			PQclear(result);
			result = next;
		}
		if (stopping || now_ms() > deadline)
		{
			PGcancel   *cancel = PQgetCancel(connection);
			char		message[256];

			if (cancel != NULL)
				(void) PQcancel(cancel, message, sizeof(message));
			PQfreeCancel(cancel);
			PQclear(result);
			return NULL;
		}
		if (poll(&ready, 1, TICK_MS) > 0 && !PQconsumeInput(connection))
		{
			PQclear(result);
			return NULL;
		}
	}
}

/* What an SQLSTATE is in HTTP. */
static const struct
{
	const char *sqlstate;		/* or its beginning */
	unsigned int status;
	const char *code;			/* NULL: the SQLSTATE */
}			statuses[] = {
	{"57014", MHD_HTTP_GATEWAY_TIMEOUT, NULL},
	{"42501", MHD_HTTP_FORBIDDEN, NULL},
	{"25006", MHD_HTTP_FORBIDDEN, "readonly"},
	{"42704", MHD_HTTP_NOT_FOUND, NULL},
	{"3F000", MHD_HTTP_NOT_IMPLEMENTED, "extension"},
	{"42883", MHD_HTTP_NOT_IMPLEMENTED, "extension"},
	{"42P01", MHD_HTTP_NOT_IMPLEMENTED, "extension"},
	{"42703", MHD_HTTP_NOT_IMPLEMENTED, "extension"},
	{"0A000", MHD_HTTP_BAD_REQUEST, NULL},
	{"55000", MHD_HTTP_CONFLICT, NULL},
	{"23505", MHD_HTTP_CONFLICT, NULL},
	{"22", MHD_HTTP_BAD_REQUEST, NULL},
	{"54", MHD_HTTP_BAD_REQUEST, NULL},
};

static void
answer_sql_error(Entry *entry, const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	unsigned int status = MHD_HTTP_INTERNAL_SERVER_ERROR;
	const char *code = sqlstate;

	for (size_t i = 0; sqlstate != NULL && i < lengthof(statuses); i++)
	{
		if (strncmp(sqlstate, statuses[i].sqlstate, strlen(statuses[i].sqlstate)) != 0)
			continue;
		status = statuses[i].status;
		if (statuses[i].code != NULL)
			code = statuses[i].code;
		break;
	}
	if (code != sqlstate && strcmp(code, "extension") == 0)
		hint = "CREATE EXTENSION queue in this database, and grant the role something there (queue.grant_queue).";
	entry_refuse(entry, status, code, message != NULL ? message : "the database gave no answer", hint);
}

static void
clear_result(void *result)
{
	PQclear(result);
}

/* Gives the answer; takes the result. */
static void
answer(Entry *entry, PGresult *result)
{
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
		entry_answer(entry, MHD_HTTP_OK, PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0), result,
					 clear_result);
	else
	{
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
			entry_refuse(entry, MHD_HTTP_NOT_FOUND, "missing", "there is nothing of that id that you may see", NULL);
		else
			answer_sql_error(entry, result);
		PQclear(result);
	}
}

/*
 * Before an action: its time, and a line in the database's log (where the role may use plpgsql) that names it.  The
 * text goes in as a value, so nothing of it is read as SQL, and without control characters.  A result without
 * rows is the action's error.
 */
static PGresult *
prepare_action(Worker *worker, Entry *entry)
{
	char	   *timeout = xprintf("%d s", options.action_timeout);
	char	   *note = xprintf("%s %s", entry->query->name, entry->values[0]);
	char	   *values[] = {timeout, note};
	PGresult   *result = execute(worker, "SELECT set_config('statement_timeout', $1, false), "
								 "set_config('queue_web.action', "
								 "left(regexp_replace($2, '[\\x01-\\x1f\\x7f-\\x9f]', '?', 'g'), 2000), false)",
								 2, values, options.timeout);

	free(timeout);
	free(note);
	/* where there is no plpgsql, our own log must do */
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		PQclear(execute(worker, "DO LANGUAGE plpgsql $$BEGIN RAISE LOG 'queue-web: % by role %', "
						"current_setting('queue_web.action'), session_user; END$$", 0, NULL, options.timeout));
	return result;
}

static void
end_action(Worker *worker, Entry *entry, const PGresult *result)
{
	char	   *timeout = xprintf("%d s", options.timeout);
	char	   *values[] = {timeout};
	const char *error = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	log_line("action %s in %s as role %s from %s: %.2000s: %s", entry->query->name, worker->database->name,
			 PQuser(worker->connection), entry->who, entry->values[0],
			 PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) :
			 error != NULL ? error : "nothing");
	PQclear(execute(worker, "SELECT set_config('statement_timeout', $1, false)", 1, values, options.timeout));
	free(timeout);
}

/* Runs an entry and answers it. */
static void
run_entry(Worker *worker, Entry *entry)
{
	const Query *query = entry->query;
	PGresult   *result = NULL;
	bool		room;

	entry_lock();
	room = entry_has_room();
	if (!room)
		entry_refuse(entry, MHD_HTTP_SERVICE_UNAVAILABLE, "busy", "too many large answers are under way",
					 "Ask again later.");
	entry_unlock();
	if (!room)
		return;
	/* a view is tried a second time: the connection may have been lost long ago without our knowing */
	for (int try = 0; result == NULL && try < (query->action ? 1 : 2) && !stopping && connected(worker); try++)
	{
		if (query->action)
			result = prepare_action(worker, entry);
		if (!query->action || PQresultStatus(result) == PGRES_TUPLES_OK)
		{
			PQclear(result);
			result = execute(worker, query->sql, entry->nvalues, entry->values,
							 query->action ? options.action_timeout : options.timeout);
		}
		if (result == NULL)
		{
			if (query->action)
				log_line("action %s in %s from %s: %.2000s: the connection was lost", query->name,
						 worker->database->name, entry->who, entry->values[0]);
			disconnect(worker);
		}
	}
	if (result != NULL && query->action)
		end_action(worker, entry, result);
	entry_lock();
	if (query->action)
		worker->database->generation++;
	if (result != NULL)
		answer(entry, result);
	else if (!worker->database->up)
		refuse_down(entry);
	else if (worker->error != NULL && !query->action)
		put_back(worker->database, entry);
	else if (worker->error != NULL)
		entry_refuse(entry, MHD_HTTP_SERVICE_UNAVAILABLE, "busy", worker->error,
					 "An action needs a second connection beside that of the pages. Nothing was done.");
	else
		entry_refuse(entry, MHD_HTTP_SERVICE_UNAVAILABLE, "down",
					 "the connection to the database was lost; whether an action took hold is not known", NULL);
	entry_unlock();
}

/* Waits RETRY_MS, or until something may have to be done. */
static void
wait_for_work(int64_t seen, bool only_time)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RETRY_MS / 1000;
	pthread_mutex_lock(&wake_lock);
	while ((wakes == seen || only_time) && !stopping &&
		   pthread_cond_timedwait(&wake, &wake_lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&wake_lock);
}

static void *
worker_main(void *arg)
{
	Worker	   *worker = arg;

	while (!stopping)
	{
		int64_t		seen;
		Entry	   *entry;

		pthread_mutex_lock(&wake_lock);
		seen = wakes;
		pthread_mutex_unlock(&wake_lock);
		/* the first thread finds out whether the database is there, also while nobody asks */
		if (worker->number == 0 && !connected(worker))
		{
			wait_for_work(seen, true);
			continue;
		}
		entry_lock();
		entry = take_entry(worker);
		entry_unlock();
		if (entry == NULL)
		{
			wait_for_work(seen, false);
			continue;
		}
		run_entry(worker, entry);
		entry_lock();
		entry_release(entry);
		entry_unlock();
		if (worker->error != NULL)
			wait_for_work(seen, true);
	}
	disconnect(worker);
	forget_error(worker);
	return NULL;
}

/* ---- beginning and end ---- */

/* The database's name, from its connection string and the environment, as libpq understands them. */
static char *
name_of(const char *conninfo)
{
	char	   *message = NULL;
	PQconninfoOption *given = PQconninfoParse(conninfo, &message);
	PQconninfoOption *defaults = PQconndefaults();
	const char *name = NULL;
	const char *user = NULL;
	char	   *copy;

	if (given == NULL)
		die("wrong connection string: %s(a database's name alone is none: write dbname=NAME)",
			message != NULL ? message : "unknown\n");
	for (int i = 0; i < 2; i++)
	{
		for (PQconninfoOption *option = i == 0 ? given : defaults; option != NULL && option->keyword != NULL; option++)
		{
			if (option->val == NULL || *option->val == '\0')
				continue;
			if (strcmp(option->keyword, "dbname") == 0 && name == NULL)
				name = option->val;
			else if (strcmp(option->keyword, "service") == 0 && name == NULL)
				name = option->val;
			else if (strcmp(option->keyword, "user") == 0 && user == NULL)
				user = option->val;
		}
		if (name == NULL && user != NULL)
			name = user;		/* libpq's default */
	}
	copy = xstrdup(name != NULL ? name : "database");
	PQconninfoFree(given);
	PQconninfoFree(defaults);
	return copy;
}

/* Reads the connection strings; ends the program if one is wrong. */
void
databases_read(void)
{
	databases = xmalloc(sizeof(Database) * (size_t) options.ndatabases);
	for (int i = 0; i < options.ndatabases; i++)
	{
		char	   *name = name_of(options.databases[i]);
		char	   *unique = xstrdup(name);

		for (int n = 2; database_find(unique) != NULL; n++)
		{
			free(unique);
			unique = xprintf("%s-%d", name, n);
		}
		free(name);
		databases[i].name = unique;
		databases[i].conninfo = options.databases[i];
		ndatabases++;
	}
}

/* Starts all threads; returns when each database is known to be up or down, or after some seconds. */
void
databases_start(void)
{
	int64_t		patience = now_ms() + 5000;
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&wake, &attributes);
	for (int i = 0; i < ndatabases; i++)
	{
		for (int number = 0; number < WORKERS; number++)
		{
			Worker	   *worker = &databases[i].workers[number];

			*worker = (Worker) {.database = &databases[i], .number = number};
			if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
				die("could not start a thread");
		}
	}
	for (int i = 0; i < ndatabases; i++)
	{
		bool		known = false;

		while (!known && now_ms() < patience)
		{
			nanosleep(&(struct timespec) {.tv_nsec = 10000000}, NULL);
			entry_lock();
			known = databases[i].up || databases[i].error != NULL;
			entry_unlock();
		}
	}
}

void
databases_stop(void)
{
	pthread_mutex_lock(&wake_lock);
	stopping = true;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&wake_lock);
	for (int i = 0; i < ndatabases; i++)
	{
		for (int number = 0; number < WORKERS; number++)
			pthread_join(databases[i].workers[number].thread, NULL);
		mark_down(&databases[i], "queue-web is being stopped");
	}
}
