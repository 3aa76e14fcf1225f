/* What libpq makes of parameters: untyped unless told; prepared statements; text-typed ones need casts. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *conn;

static void
check(const char *name, const char *expected, PGresult *res)
{
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		printf(expected == NULL && strstr(PQerrorMessage(conn), "explicit type casts") != NULL ? "ok %s\n" : "not ok %s\n", name);
	else if (expected == NULL || PQntuples(res) == 0 || strcmp(PQgetvalue(res, 0, 0), expected) != 0)
		printf("not ok %s: got %s\n", name, PQntuples(res) == 0 ? "nothing" : PQgetvalue(res, 0, 0));
	else
		printf("ok %s\n", name);
	PQclear(res);
}

int
main(void)
{
	const char *q = getenv("QUEUE");
	const char *v[5];
	const Oid	text[] = {25, 25, 25};
	char		id[32];
	PGresult   *res;

	conn = PQconnectdb(getenv("DATABASE_URL"));
	v[0] = "k", v[1] = "{\"n\": 1}", v[2] = q, v[3] = "1 hour";
	check("enqueue, untyped", "t", PQexecParams(conn, "SELECT queue.enqueue($1, $2, $3) > 0", 3, NULL, v, NULL, NULL, 0));
	check("enqueue, delay untyped", "t", PQexecParams(conn, "SELECT queue.enqueue($1, $2, $3, delay => $4) > 0", 4, NULL, v, NULL, NULL, 0));
	check("a payload typed as text is refused with the cast", NULL, PQexecParams(conn, "SELECT queue.enqueue($1, $2, $3) > 0", 3, text, v, NULL, NULL, 0));
	check("and works with it", "t", PQexecParams(conn, "SELECT queue.enqueue($1, $2::jsonb, $3) > 0", 3, text, v, NULL, NULL, 0));
	v[0] = q, v[1] = "1", v[2] = "1 min";
	res = PQexecParams(conn, "SELECT id FROM queue.fetch($1, $2, lease => $3)", 3, NULL, v, NULL, NULL, 0);
	snprintf(id, sizeof(id), "%s", PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1 ? PQgetvalue(res, 0, 0) : "0");
	PQclear(res);
	v[0] = id, v[1] = "2 min", v[2] = "1";
	check("heartbeat, untyped", "t", PQexecParams(conn, "SELECT queue.heartbeat($1, $2, $3) > now()", 3, NULL, v, NULL, NULL, 0));
	v[1] = "99";
	check("complete, a wrong attempt", "f", PQexecParams(conn, "SELECT queue.complete($1, $2)", 2, NULL, v, NULL, NULL, 0));
	v[1] = "1", v[2] = "{\"ok\": true}";
	check("complete, a result", "t", PQexecParams(conn, "SELECT queue.complete($1, $2, $3)", 3, NULL, v, NULL, NULL, 0));
	PQfinish(conn);
	return 0;
}
