/*
 * latency.c
 *		Enqueues one job a transaction at a fixed pace and prints, per job, its
 *		number and the client's clock just before COMMIT was sent and just after it
 *		returned, in microseconds since 1970: "i before after".
 *
 * latency CONNINFO KIND SAMPLES PAUSE_US [FIRST]
 *
 * The handler writes clock_timestamp(); client and server share one machine and so one clock.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include <libpq-fe.h>

static long long
now_us(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return tv.tv_sec * 1000000LL + tv.tv_usec;
}

static void
must(PGconn *conn, PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(res);
}

int
main(int argc, char **argv)
{
	PGconn	   *conn;
	int			samples;
	int			first;

	if (argc < 5)
	{
		fprintf(stderr, "usage: latency CONNINFO KIND SAMPLES PAUSE_US [FIRST]\n");
		return 2;
	}
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		return 1;
	}
	samples = atoi(argv[3]);
	first = argc > 5 ? atoi(argv[5]) : 1;
	must(conn, PQprepare(conn, "e", "SELECT queue.enqueue($1::text, jsonb_build_object('i', $2::int))", 2, NULL));

	for (int i = first; i < first + samples; i++)
	{
		char		number[16];
		const char *values[2] = {argv[2], number};
		long long	before;
		long long	after;

		snprintf(number, sizeof(number), "%d", i);
		must(conn, PQexec(conn, "BEGIN"));
		must(conn, PQexecPrepared(conn, "e", 2, values, NULL, NULL, 0));
		before = now_us();
		must(conn, PQexec(conn, "COMMIT"));
		after = now_us();
		printf("%d\t%lld\t%lld\n", i, before, after);
		usleep(atoi(argv[4]));
	}
	PQfinish(conn);
	return 0;
}
