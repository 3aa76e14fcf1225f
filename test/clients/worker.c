/*
 * A worker in C with libpq.  Copy it, and change `work`.
 *
 *   cc -I$(pg_config --includedir) worker.c -L$(pg_config --libdir) -lpq -lpthread -o worker
 *   DATABASE_URL=postgres://... ./worker      SIGTERM: give back what is claimed, then end
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stopping = 0;
static volatile sig_atomic_t lost = 0;	/* the job is not ours any more */

static void
on_signal(int sig)
{
	stopping = 1;
}

static const char *
setting(const char *name, const char *fallback)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? value : fallback;
}

static char lease[32];

/* NULL: done. "": stopped. Else what went wrong. */
static const char *
work(const char *payload)
{
	const char *sleep_ms = strstr(payload, "\"sleep_ms\": ");

	if (strstr(payload, "\"fail\"") != NULL)
		return "told to fail";
	for (int ms = sleep_ms != NULL ? atoi(sleep_ms + 12) : 0; ms > 0; ms -= 10)
	{
		if (stopping || lost)
			return "";
		usleep(10000);
	}
	return NULL;
}

/*
 * Runs a statement, and again when the server or the pooler was restarted.  That is safe for every call here: with the
 * attempt given, a second complete or fail of one claim changes nothing.
 */
static PGresult *
call(PGconn **conn, const char *sql, int n, const char *const *values)
{
	for (;;)
	{
		PGresult   *res;
		const char *state;

		if (*conn == NULL)
			*conn = PQconnectdb(getenv("DATABASE_URL"));
		res = PQexecParams(*conn, sql, n, NULL, values, NULL, NULL, 0);
		if (PQresultStatus(res) == PGRES_TUPLES_OK)
			return res;
		fprintf(stderr, "%s", PQerrorMessage(*conn));
		state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
		if (stopping || (state != NULL && strncmp(state, "08", 2) != 0 && strncmp(state, "53", 2) != 0 &&
						 strncmp(state, "57P", 3) != 0))
			return res;
		PQclear(res);
		PQfinish(*conn);
		*conn = NULL;
		usleep(500000);
	}
}

typedef struct Beat
{
	const char *id;
	const char *attempt;
	volatile int done;
} Beat;

/* On a connection of its own: the worker's is busy or waiting. */
static void *
heartbeat(void *arg)
{
	Beat	   *beat = arg;
	PGconn	   *conn = NULL;
	const char *values[] = {beat->id, lease, beat->attempt};

	for (int tick = 1; !beat->done; tick++)
	{
		PGresult   *res;

		usleep(10000);
		if (tick % (atoi(lease) * 100 / 3) != 0)
			continue;
		res = call(&conn, "SELECT queue.heartbeat($1, $2, $3)", 3, values);
		if (PQresultStatus(res) == PGRES_TUPLES_OK && PQgetisnull(res, 0, 0))
			lost = 1;
		PQclear(res);
	}
	PQfinish(conn);
	return NULL;
}

static void
run(PGconn **conn, const char *id, const char *attempt, const char *payload)
{
	Beat		beat = {id, attempt, 0};
	pthread_t	thread;
	const char *values[] = {id, attempt, "{\"ok\": true}"};
	const char *error;
	PGresult   *res;

	lost = 0;
	pthread_create(&thread, NULL, heartbeat, &beat);
	error = work(payload);
	if (error == NULL)
		res = call(conn, "SELECT queue.complete($1, $2, $3)", 3, values);
	else if (*error == '\0')
		res = call(conn, "SELECT queue.release($1, $2)", 2, values);
	else
	{
		values[2] = error;
		res = call(conn, "SELECT queue.fail($1, $2, $3)", 3, values);
	}
	PQclear(res);
	beat.done = 1;
	pthread_join(thread, NULL);
}

int
main(void)
{
	char		name[64];
	PGconn	   *conn = NULL;

	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	snprintf(lease, sizeof(lease), "%d s", atoi(setting("LEASE", "60")));
	snprintf(name, sizeof(name), "libpq:%d", (int) getpid());
	while (!stopping)
	{
		const char *values[] = {setting("QUEUE", "default"), lease, setting("WAIT", "5 s"), name};
		PGresult   *res;

		res = call(&conn, "SELECT id, attempt, payload FROM queue.fetch($1, 1, lease => $2, wait => $3, worker => $4)",
				   4, values);
		if (PQresultStatus(res) != PGRES_TUPLES_OK)
			sleep(1);
		for (int i = 0; i < PQntuples(res); i++)
			run(&conn, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), PQgetvalue(res, i, 2));
		PQclear(res);
	}
	PQfinish(conn);
	return 0;
}
