/*
 * preload.c
 *		What is missing where the library is not in shared_preload_libraries: the line, or the restart; and what else
 *		the installation script calls.
 *
 * The setting takes hold when the server starts, so who has just written it into the configuration is told to restart,
 * and not to write it again.  The file is read as the extension's owner, since pg_file_settings is for superusers.
 *
 * Locks: none of its own.
 */
#include "api/preload.h"

#include "api/arguments.h"

#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(queue_sql_preload_notice);
PG_FUNCTION_INFO_V1(queue_sql_execute);

/* Is the library in a value of shared_preload_libraries? */
static bool
names_library(const char *list)
{
	List	   *names;
	ListCell   *lc;

	if (!SplitDirectoriesString(pstrdup(list), ',', &names))
		return false;
	foreach(lc, names)
	{
		const char *name = last_dir_separator(lfirst(lc)) != NULL ? last_dir_separator(lfirst(lc)) + 1 : lfirst(lc);

		if (strcmp(name, "queue") == 0 || strcmp(name, "queue.so") == 0)
			return true;
	}
	return false;
}

/*
 * The value that the next start of the server will find, as far as the extension's owner may read it: the files' one,
 * unless the command line has the word.  NULL: there is none.
 */
static const char *
configured(void)
{
	QueueSpi	spi;
	MemoryContext context = CurrentMemoryContext;
	const char *value = NULL;
	char	   *found;

	queue_spi_begin(&spi);
	queue_spi_run("SELECT has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE')",
				  0, NULL, NULL, NULL);
	if (strcmp(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), "t") == 0)
	{
		queue_spi_run("SELECT CASE s.source WHEN 'command line' THEN s.setting ELSE"
					  " (SELECT f.setting FROM pg_catalog.pg_file_settings f"
					  "  WHERE f.name = s.name AND f.setting IS NOT NULL ORDER BY f.seqno DESC LIMIT 1) END"
					  " FROM pg_catalog.pg_settings s WHERE s.name = 'shared_preload_libraries'",
					  0, NULL, NULL, NULL);
		found = SPI_processed == 0 ? NULL : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		if (found != NULL)
			value = MemoryContextStrdup(context, found);
	}
	queue_spi_end(&spi);
	return value;
}

/* See preload.h.  Called by doctor(), explain_job(), the register functions and, through SQL, by CREATE EXTENSION. */
const char *
queue_preload_problem(const char **hint)
{
	const char *value;

	*hint = NULL;
	if (queue_preloaded())
		return NULL;
	value = configured();
	if (value != NULL && names_library(value))
	{
		*hint = "Restart the server: a reload is not enough for this setting.";
		return "the library is set in shared_preload_libraries, and the server has not been restarted since";
	}
	/* the other libraries are nothing that everybody may know */
	if (value == NULL || *value == '\0' || !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS))
		value = NULL;
	*hint = psprintf("Put shared_preload_libraries = '%s%squeue' into postgresql.conf and restart the server "
					 "(a reload is not enough).",
					 value != NULL ? value : "", value != NULL ? ", " : "");
	return "the library is not in shared_preload_libraries";
}

/*
 * queue_internal.preload_notice(): CREATE EXTENSION says at once that the server will run no jobs.  A script runs at
 * client_min_messages warning at least; the session's own level decides whether this is said.
 */
Datum
queue_sql_preload_notice(PG_FUNCTION_ARGS)
{
	const char *own = GetConfigOptionResetString("client_min_messages");
	const char *hint;
	int			saved = client_min_messages;

	if (queue_preload_problem(&hint) == NULL || saved != WARNING || strcmp(own, "warning") == 0 ||
		strcmp(own, "error") == 0)
		PG_RETURN_VOID();
	client_min_messages = NOTICE;
	PG_TRY();
	{
		ereport(NOTICE, (errmsg("the server runs no jobs yet"), errhint("%s", hint)));
	}
	PG_FINALLY();
	{
		client_min_messages = saved;
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

/*
 * queue_internal.execute(statement): what the installation script would do in a loop of PL/pgSQL, which a database may
 * lack.  As its caller, and only from a script.
 */
Datum
queue_sql_execute(PG_FUNCTION_ARGS)
{
	if (!creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue_internal.execute is for the scripts of the extension"),
				 errhint("Run the statement itself.")));
	SPI_connect();
	if (SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(0)), false, 0) < 0)
		elog(ERROR, "could not run a statement of the script");
	SPI_finish();
	PG_RETURN_VOID();
}
