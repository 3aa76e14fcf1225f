/*
 * arguments.c
 *		What the SQL functions share: reading arguments with the right errors, and SPI as the extension's owner.
 *
 * Locks: none of its own.
 */
#include "api/arguments.h"

#include "config/owner.h"
#include "shared/clock.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

char *
queue_arg_text(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what),
				 errhint("Give a value for it.")));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
queue_arg_name(FunctionCallInfo fcinfo, int n, const char *what, bool star)
{
	char	   *name = queue_arg_text(fcinfo, n, what);
	size_t		len = strlen(name);

	if (len < 1 || len > QUEUE_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(len < 1 ? "%s must not be empty" : "%s is too long", what),
				 errhint("It has 1 to %d bytes.", QUEUE_NAME_MAX)));
	if (!star && strcmp(name, "*") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be \"*\"", what),
				 errhint("\"*\" stands for all; name one.")));
	return name;
}

int64
queue_arg_interval(FunctionCallInfo fcinfo, int n, const char *what, int64 min)
{
	return queue_check_span(what, PG_GETARG_INTERVAL_P(n), min);
}

int
queue_arg_range(FunctionCallInfo fcinfo, int n, const char *what, int min, int max)
{
	int			value = PG_GETARG_INT32(n);

	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range: %d", what, value),
				 max == PG_INT32_MAX ? errhint("It is %d or more.", min) :
				 errhint("It is a number from %d to %d.", min, max)));
	return value;
}

Datum
queue_check_attempts(FunctionCallInfo fcinfo, int n, const char *what)
{
	return Int32GetDatum(queue_arg_range(fcinfo, n, what, 1, PG_INT32_MAX));
}

Datum
queue_check_backoff(FunctionCallInfo fcinfo, int n, const char *what)
{
	(void) queue_backoff_parse(PG_GETARG_JSONB_P(n));
	return PG_GETARG_DATUM(n);
}

Datum
queue_check_length(FunctionCallInfo fcinfo, int n, const char *what)
{
	(void) queue_arg_interval(fcinfo, n, what, 0);
	return PG_GETARG_DATUM(n);
}

Datum
queue_check_period(FunctionCallInfo fcinfo, int n, const char *what)
{
	(void) queue_arg_interval(fcinfo, n, what, 1);
	return PG_GETARG_DATUM(n);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

char	  **
queue_arg_texts(FunctionCallInfo fcinfo, int n, const char *what, int *count)
{
	Datum	   *elems;
	bool	   *nulls;
	char	  **texts;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, count);
	texts = palloc((*count + 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not contain null", what),
					 errhint("Leave element %d out, or give it a value.", i + 1)));
		texts[i] = TextDatumGetCString(elems[i]);
	}
	return texts;
}

char	  **
queue_arg_names(FunctionCallInfo fcinfo, int n, const char *what, int *count)
{
	int			nelems = ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(n)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(n)));
	char	  **names;

	if (nelems == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what),
				 errhint("Name them, or pass null for all.")));
	if (nelems > QUEUE_MAX_NAMES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s has %d elements", what, nelems),
				 errhint("It has at most %d; pass null for all.", QUEUE_MAX_NAMES)));
	names = queue_arg_texts(fcinfo, n, what, &nelems);
	qsort(names, nelems, sizeof(char *), compare_names);
	*count = 0;
	for (int i = 0; i < nelems; i++)
	{
		if (*count == 0 || strcmp(names[i], names[*count - 1]) != 0)
			names[(*count)++] = names[i];
	}
	return names;
}

void
queue_arg_not_built(FunctionCallInfo fcinfo, int n, const char *function, const char *option)
{
	if (!PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option %s of queue.%s is not built yet", option, function),
				 errhint("Leave it out, or pass null.")));
}

Oid
queue_role_oid(const char *name)
{
	Oid			role = get_role_oid(name, true);

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", name),
				 errhint("Name a role of this server; PUBLIC is none.")));
	return role;
}

/* ---- SPI as the owner ---- */

void
queue_param(QueueParams *params, Oid type, Datum value, bool isnull)
{
	Assert(params->n < QUEUE_MAX_PARAMS);
	params->types[params->n] = type;
	params->values[params->n] = isnull ? (Datum) 0 : value;
	params->nulls[params->n++] = isnull ? 'n' : ' ';
}

Datum
queue_name_datum(const char *name)
{
	Name		result = palloc(NAMEDATALEN);

	namestrcpy(result, name);
	return NameGetDatum(result);
}

void
queue_spi_begin(QueueSpi *spi)
{
	queue_as_owner_begin(&spi->owner);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
queue_spi_end(QueueSpi *spi)
{
	SPI_finish();
	queue_as_owner_end(&spi->owner);
}

uint64
queue_spi_run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (result < 0)
		elog(ERROR, "SPI failed (%s): %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}
