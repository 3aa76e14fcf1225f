/*
 * arguments.c
 *		What the SQL functions share: reading arguments with the right errors, and SPI as the extension's owner.
 *
 * Locks: none of its own.
 */
#include "api/arguments.h"

#include "config/limits.h"

#include "config/owner.h"
#include "shared/clock.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

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

static char *
check_name(char *name, const char *what, bool star)
{
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

char *
queue_arg_name(FunctionCallInfo fcinfo, int n, const char *what, bool star)
{
	return check_name(queue_arg_text(fcinfo, n, what), what, star);
}

int64
queue_arg_id(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what),
				 errhint("Pass the id that %s returned.", strcmp(what, "workflow_id") == 0 ? "queue.create_workflow" :
						 strcmp(what, "subscription_id") == 0 ? "queue.subscribe" : "queue.enqueue or queue.fetch")));
	return PG_GETARG_INT64(n);
}

int64
queue_arg_wait(FunctionCallInfo fcinfo, int n)
{
	int64		us = PG_ARGISNULL(n) ? 0 : queue_interval_us(PG_GETARG_INTERVAL_P(n));

	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("wait must not be negative"),
				 errhint("It is an interval of 0 or more.")));
	return us;
}

int64
queue_in_range(int64 value, const char *what, int64 min, int64 max)
{
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range: " INT64_FORMAT, what, value),
				 errhint("It is a number from " INT64_FORMAT " to " INT64_FORMAT ".", min, max)));
	return value;
}

int16
queue_priority(int64 value)
{
	if (value < PG_INT16_MIN || value > PG_INT16_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("priority is out of range: " INT64_FORMAT, value),
				 errhint("It is a number from %d to %d; lower goes first.", PG_INT16_MIN, PG_INT16_MAX)));
	return (int16) value;
}

int
queue_max_attempts(int64 value)
{
	return (int) queue_in_range(value, "max_attempts", 1, PG_INT32_MAX);
}

Datum
queue_check_attempts(Datum value, const char *what)
{
	(void) queue_max_attempts(DatumGetInt32(value));
	return value;
}

Datum
queue_check_limit(Datum value, const char *what)
{
	return Int32GetDatum((int32) queue_in_range(DatumGetInt32(value), what, 0, PG_INT32_MAX));
}

Datum
queue_check_reserved(Datum value, const char *what)
{
	QueueReserved reserved[QUEUE_MAX_RESERVED];
	int			n;
	QueueComplaint wrong;

	if (!queue_reserved_read(DatumGetJsonbP(value), reserved, &n, &wrong))
		queue_complaint_raise(&wrong);
	return value;
}

Datum
queue_check_backoff(Datum value, const char *what)
{
	(void) queue_backoff_parse(DatumGetJsonbP(value));
	return value;
}

Datum
queue_check_length(Datum value, const char *what)
{
	(void) queue_check_span(what, DatumGetIntervalP(value), 0);
	return value;
}

Datum
queue_check_period(Datum value, const char *what)
{
	(void) queue_check_span(what, DatumGetIntervalP(value), 1);
	return value;
}

Datum
queue_check_kind(Datum value, const char *what)
{
	(void) check_name(TextDatumGetCString(value), what, false);
	return value;
}

Datum
queue_check_text(Datum value, const char *what)
{
	return value;
}

char	  **
queue_texts(Datum array, const char *what, int *count)
{
	Datum	   *elems;
	bool	   *nulls;
	char	  **texts;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, count);
	texts = palloc((*count + 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("element %d of %s is null", i + 1, what),
					 errhint("Leave it out, or give it a value.")));
		texts[i] = TextDatumGetCString(elems[i]);
	}
	return texts;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

char	  **
queue_names(Datum array, const char *what, int *count)
{
	ArrayType  *elements = DatumGetArrayTypeP(array);
	int			nelems = ArrayGetNItems(ARR_NDIM(elements), ARR_DIMS(elements));
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
	names = queue_texts(array, what, &nelems);
	qsort(names, nelems, sizeof(char *), compare_names);
	*count = 0;
	for (int i = 0; i < nelems; i++)
	{
		if (*count == 0 || strcmp(names[i], names[*count - 1]) != 0)
			names[(*count)++] = names[i];
	}
	return names;
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

uint64
queue_spi_run_now(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	SPIPlanPtr	plan;
	int			result;

	if (likely(!IsolationUsesXactSnapshot()))
		return queue_spi_run(sql, nargs, types, values, nulls);
	plan = SPI_prepare(sql, nargs, types);
	result = plan == NULL ? SPI_result :
		SPI_execute_snapshot(plan, values, nulls, GetLatestSnapshot(), InvalidSnapshot, false, true, 0);
	if (result < 0)
		elog(ERROR, "SPI failed (%s): %s", SPI_result_code_string(result), sql);
	return SPI_processed;
}
