/*
 * clocks.c
 *		Who ticks: the scheduler, and pg_cron; and doctor()'s rows about schedules and their clocks.
 *
 * With preload the scheduler ticks to the second.  pg_cron, where it is, has one row for this database, which calls
 * queue.maintain() each minute: a second clock, and without preload the only one.  In the database that pg_cron itself
 * works in, that row is made with the first schedule and goes with the last; for another database somebody has to make
 * it there, and doctor() prints the call.  The row's command does nothing in a database where the extension is not, or
 * that is a copy of the one it was made for.
 *
 * That a clock works is seen by what it does: queue.tick() and queue.maintain() write when they were called.
 *
 * Locks: those of the SQL statements; what another session has locked is left alone.
 */
#include "api/clocks.h"

#include "api/arguments.h"
#include "api/doctor_server.h"
#include "api/preload.h"
#include "api/schedule.h"
#include "lib/attempt.h"
#include "shared/clock.h"
#include "shared/database.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define NOTE_US (30 * USECS_PER_SEC)	/* written down no more often */
#define SILENT_US (3 * USECS_PER_MINUTE)	/* a clock that was not heard of for this long stands still */
#define DUE_US USECS_PER_MINUTE	/* a tick that is due for this long is held up */
#define AHEAD_US USECS_PER_DAY	/* a schedule that has come so far beyond now: the clock stood ahead */

/* ---------------------------------------------------------------- pg_cron's row */

static char *
row_name(void)
{
	return psprintf("queue_maintain_%u", MyDatabaseId);
}

/* What the row runs; in a database without the extension, and in a copy of this one, nothing. */
static char *
row_command(void)
{
	return psprintf("DO $$BEGIN IF pg_catalog.to_regprocedure('queue.maintain()') IS NOT NULL AND (SELECT oid FROM"
					" pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) = %u THEN"
					" PERFORM queue.maintain(); END IF; END$$", MyDatabaseId);
}

/* The database that pg_cron works in; NULL: pg_cron is not preloaded. */
static const char *
cron_database(void)
{
	return GetConfigOption("cron.database_name", true, false);
}

/* Is pg_cron in this database, which is its own? */
static bool
cron_is_here(void)
{
	const char *name = cron_database();

	return name != NULL && strcmp(name, get_database_name(MyDatabaseId)) == 0 &&
		OidIsValid(get_extension_oid("pg_cron", true));
}

/*
 * Runs a statement about pg_cron's tables, whose parameters are the name of our row and its command.  What fails there
 * is no reason for a schedule to fail: it is a warning, and doctor() tells what is missing.
 */
static void
change_row(const char *statement)
{
	QueueAttempt attempt;
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(row_name());
	values[1] = CStringGetTextDatum(row_command());
	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		QueueSpi	spi;

		queue_spi_begin(&spi);
		queue_spi_run(statement, 2, types, values, NULL);
		queue_spi_end(&spi);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error = queue_attempt_failed(&attempt);

		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not change pg_cron's row \"%s\": %s", row_name(), error->message),
				 errhint("The schedule itself is changed; see queue.doctor().")));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

/* A time that a statement gives; 0: none, or null. */
static TimestampTz
select_time(const char *statement)
{
	QueueSpi	spi;
	TimestampTz time = 0;
	bool		isnull = true;

	queue_spi_begin(&spi);
	if (queue_spi_run(statement, 0, NULL, NULL, NULL) > 0)
	{
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			time = DatumGetTimestampTz(value);
	}
	queue_spi_end(&spi);
	return time;
}

void
queue_clocks_wind(void)
{
	const char *hint;
	const char *problem = queue_preload_problem(&hint);

	if (cron_is_here())
		change_row("SELECT cron.schedule($1, '* * * * *', $2)"
				   " WHERE NOT EXISTS (SELECT FROM cron.job WHERE jobname = $1 AND command = $2)");
	else if (problem != NULL && cron_database() == NULL && select_time("SELECT max(at) FROM queue.maintained") == 0)
		ereport(WARNING,
				(errmsg("nobody ticks for schedules: %s", problem),
				 errhint("%s Or install pg_cron, or call queue.tick() each minute.", hint)));
}

void
queue_clocks_unwind(void)
{
	if (cron_is_here())
		change_row("SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = $1 AND command = $2"
				   " AND NOT EXISTS (SELECT FROM queue.schedule)");
}

/* ---------------------------------------------------------------- who called */

void
queue_clocks_note(void)
{
	QueueSpi	spi;
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2];
	uint64		found;

	values[0] = TimestampTzGetDatum(queue_now());
	values[1] = TimestampTzGetDatum(queue_now() - NOTE_US);
	queue_spi_begin(&spi);
	found = queue_spi_run("SELECT max(at) NOT BETWEEN $2 AND $1 FROM queue.maintained HAVING count(*) > 0", 2, types,
						  values, NULL);
	if (found == 0)
		queue_spi_run("INSERT INTO queue.maintained (at) VALUES ($1)", 1, types, values, NULL);
	else if (strcmp(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), "t") == 0 &&
			 queue_spi_run("SELECT FROM queue.maintained FOR UPDATE SKIP LOCKED", 0, NULL, NULL, NULL) > 0)
		queue_spi_run("UPDATE queue.maintained SET at = $1", 1, types, values, NULL);
	queue_spi_end(&spi);
}

/* ---------------------------------------------------------------- doctor() */

static int64
count_schedules(void)
{
	QueueSpi	spi;
	bool		isnull;
	int64		n;

	queue_spi_begin(&spi);
	queue_spi_run("SELECT count(*) FROM queue.schedule WHERE paused_at IS NULL", 0, NULL, NULL, NULL);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	queue_spi_end(&spi);
	return n;
}

/* How to wind pg_cron for this database: the call, in the database where it is to be made. */
static char *
winding_call(void)
{
	const char *name = cron_database();
	const char *mine = get_database_name(MyDatabaseId);

	if (strcmp(name, mine) == 0)
		return psprintf("SELECT cron.schedule(%s, '* * * * *', %s)", quote_literal_cstr(row_name()),
						quote_literal_cstr(row_command()));
	return psprintf("In database %s: SELECT cron.schedule_in_database(%s, '* * * * *', %s, %s)", quote_identifier(name),
					quote_literal_cstr(row_name()), quote_literal_cstr(row_command()), quote_literal_cstr(mine));
}

/*
 * A row about pg_cron's last run of our row, in pg_cron's own database; needed: there is no other clock.  Is the row
 * there, and does it work, as far as one knows?
 */
static bool
finding_of_cron_row(QueueFindings *findings, bool needed)
{
	QueueSpi	spi;
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(row_name());
	MemoryContext context = CurrentMemoryContext;
	char	   *active = NULL;
	char	   *status = NULL;
	char	   *message = NULL;
	char	   *at = NULL;
	bool		works;

	queue_spi_begin(&spi);
	if (queue_spi_run("SELECT j.active, d.status, d.return_message, d.end_time FROM cron.job j LEFT JOIN LATERAL"
					  " (SELECT * FROM cron.job_run_details r WHERE r.jobid = j.jobid AND r.end_time IS NOT NULL"
					  "  ORDER BY r.runid DESC LIMIT 1) d ON true WHERE j.jobname = $1", 1, &type, &value, NULL) > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		active = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		status = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
		message = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
		at = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4);
		MemoryContextSwitchTo(old);
	}
	queue_spi_end(&spi);
	works = active != NULL && strcmp(active, "t") == 0 && (status == NULL || strcmp(status, "failed") != 0);
	if (active == NULL)
		queue_finding(findings, "pg_cron", !needed, psprintf("pg_cron has no row \"%s\"", row_name()),
					  psprintf("%s.", winding_call()));
	else if (strcmp(active, "t") != 0)
		queue_finding(findings, "pg_cron", !needed, psprintf("pg_cron's row \"%s\" is switched off", row_name()),
					  psprintf("UPDATE cron.job SET active = true WHERE jobname = %s.",
							   quote_literal_cstr(row_name())));
	else if (status != NULL && strcmp(status, "failed") == 0)
		queue_finding(findings, "pg_cron", false,
					  psprintf("pg_cron's run of \"%s\" failed at %s: %s", row_name(), at,
							   message == NULL ? "without a message" : message),
					  "It connects as the role that the row names: see cron.host, cron.use_background_workers and "
					  "pg_hba.conf.");
	else
		queue_finding(findings, "pg_cron", true,
					  status == NULL ? psprintf("pg_cron has the row \"%s\", which has not run yet", row_name()) :
					  psprintf("pg_cron's run of \"%s\" ended well at %s", row_name(), at), NULL);
	return works;
}

/* Is there a clock, and does pg_cron run what it should? */
static void
check_clocks(QueueFindings *findings)
{
	int64		n = count_schedules();
	TimestampTz heard = select_time("SELECT max(at) FROM queue.maintained");
	TimestampTz now = queue_now();
	const char *name = cron_database();
	const char *hint;
	const char *problem = queue_preload_problem(&hint);
	bool		called = heard != 0 && heard > now - SILENT_US && heard <= now + SILENT_US;
	bool		works;

	if (problem == NULL)
		problem = queue_doctor_scheduler_problem(&hint);
	works = cron_is_here() && n > 0 && finding_of_cron_row(findings, problem != NULL);
	if (problem == NULL && queue_enabled)
		queue_finding(findings, "clock", true, "the scheduler ticks for schedules", NULL);
	else if (called)
		queue_finding(findings, "clock", true,
					  psprintf("queue.tick() or queue.maintain() was called at %s", timestamptz_to_str(heard)), NULL);
	else if (n == 0)
		queue_finding(findings, "clock", true, "no clock is needed: nothing is scheduled", NULL);
	else if (works && heard == 0)
		queue_finding(findings, "clock", true, "pg_cron calls queue.maintain() each minute, and has not yet", NULL);
	else if (works)
		queue_finding(findings, "clock", false,
					  psprintf("pg_cron has a row, but queue.maintain() was last called at %s",
							   timestamptz_to_str(heard)),
					  "Look whether the pg_cron launcher runs (pg_stat_activity), and into the server log.");
	else if (name != NULL)
		queue_finding(findings, "clock", false,
					  psprintf("no clock: neither the scheduler nor pg_cron ticks for " INT64_FORMAT " schedules", n),
					  strcmp(name, get_database_name(MyDatabaseId)) == 0 &&
					  !OidIsValid(get_extension_oid("pg_cron", true)) ?
					  psprintf("CREATE EXTENSION pg_cron; then %s.", winding_call()) :
					  psprintf("%s.", winding_call()));
	else
		queue_finding(findings, "clock", false,
					  psprintf("no clock: nobody ticks for " INT64_FORMAT " schedules", n),
					  psprintf("%s Or install pg_cron, or call queue.tick() each minute.", hint));
}

/* Why a schedule that is not paused does not tick; NULL: it does. */
static char *
schedule_problem(const QueueSchedule *schedule, const char **hint)
{
	TimestampTz now = queue_now();
	TimestampTz next = queue_schedule_next(schedule);
	const char *problem = queue_schedule_problem(schedule, hint);

	if (problem != NULL)
		return psprintf("is parked: %s", problem);
	*hint = "It is tried again by itself.";
	if (schedule->reason != NULL)
		return psprintf("is parked: %s", schedule->reason);
	*hint = psprintf("Look for a session that holds its row of queue.schedule_state: SELECT pid, query FROM "
					 "pg_stat_activity JOIN pg_locks USING (pid) WHERE relation = 'queue.schedule_state'::regclass.");
	if (next < now - DUE_US)
		return psprintf("has a tick due since %s that nobody makes", timestamptz_to_str(next));
	*hint = "Register it again with queue.schedule: that lets it tick from now on.";
	if (schedule->reached > now + AHEAD_US)
		return psprintf("has come to %s, because the clock stood ahead, and ticks no more before",
						timestamptz_to_str(schedule->reached));
	return NULL;
}

/* One row per schedule that does not tick, of the queues that one may read. */
static void
check_schedules(QueueFindings *findings)
{
	Oid			me = GetUserId();
	QueueSpi	spi;
	SPITupleTable *found;
	int			bad = 0;

	queue_spi_begin(&spi);
	queue_spi_run(QUEUE_SCHEDULE_SELECT "WHERE s.paused_at IS NULL ORDER BY s.name", 0, NULL, NULL, NULL);
	found = SPI_tuptable;
	for (uint64 i = 0; i < found->numvals; i++)
	{
		QueueSchedule schedule;
		const char *hint = NULL;
		char	   *problem;

		CHECK_FOR_INTERRUPTS();
		queue_schedule_read(found->vals[i], found->tupdesc, &schedule);
		problem = queue_may(me, schedule.queue, QUEUE_PRIV_READ) ? schedule_problem(&schedule, &hint) : NULL;
		if (problem != NULL)
		{
			queue_finding(findings, "schedule", false, psprintf("schedule \"%s\" %s", schedule.name, problem), hint);
			bad++;
		}
	}
	queue_spi_end(&spi);
	if (bad == 0)
		queue_finding(findings, "schedule", true, "no schedule is held up", NULL);
}

void
queue_doctor_schedules(QueueFindings *findings)
{
	queue_finding_check(findings, "clock", check_clocks);
	queue_finding_check(findings, "schedule", check_schedules);
}
