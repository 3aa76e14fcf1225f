/*
 * arguments.h
 *		What the SQL functions about queues, handlers and states share: reading
 *		arguments with the right errors, and SPI as the extension's owner.
 */
#ifndef QUEUE_ARGUMENTS_H
#define QUEUE_ARGUMENTS_H

#include "config/config.h"
#include "config/owner.h"

#include "executor/spi.h"

#define QUEUE_MAX_NAMES 1000	/* in an array of names */

/* A text argument: 22004 when null. */
extern char *queue_arg_text(FunctionCallInfo fcinfo, int n, const char *what);
/* The name of a queue or kind: 1 to QUEUE_NAME_MAX bytes, else 22023; '*' only where star is true. */
extern char *queue_arg_name(FunctionCallInfo fcinfo, int n, const char *what, bool star);
/* An interval in microseconds, at least min (0 or 1), finite: else 22023. */
extern int64 queue_arg_interval(FunctionCallInfo fcinfo, int n, const char *what, int64 min);
/* A whole number from min to max, else 22023. */
extern int	queue_arg_range(FunctionCallInfo fcinfo, int n, const char *what, int min, int max);
/* A text[]; 22004 if an element is null. */
extern char **queue_arg_texts(FunctionCallInfo fcinfo, int n, const char *what, int *count);
/*
 * Names in a text[], sorted, each once: 22023 if there is none, 22004 if one is null, 54000 if there are more than
 * QUEUE_MAX_NAMES.
 */
extern char **queue_arg_names(FunctionCallInfo fcinfo, int n, const char *what, int *count);
/* Checks an argument that is not null, under the name `what`, and gives its value. */
typedef Datum (*QueueArgCheck) (FunctionCallInfo fcinfo, int n, const char *what);
extern Datum queue_check_attempts(FunctionCallInfo fcinfo, int n, const char *what);	/* 1 or more */
extern Datum queue_check_backoff(FunctionCallInfo fcinfo, int n, const char *what);
extern Datum queue_check_length(FunctionCallInfo fcinfo, int n, const char *what);	/* an interval of 0 or more */
extern Datum queue_check_period(FunctionCallInfo fcinfo, int n, const char *what);	/* an interval of more than 0 */
/* 0A000 naming the option if it is given. */
extern void queue_arg_not_built(FunctionCallInfo fcinfo, int n, const char *function, const char *option);
/* A role that exists, else 42704. */
extern Oid	queue_role_oid(const char *name);

/* The parameters of a statement, one after the other. */
#define QUEUE_MAX_PARAMS 40
typedef struct QueueParams
{
	int			n;
	Oid			types[QUEUE_MAX_PARAMS];
	Datum		values[QUEUE_MAX_PARAMS];
	char		nulls[QUEUE_MAX_PARAMS];
} QueueParams;
extern void queue_param(QueueParams *params, Oid type, Datum value, bool isnull);
/* A value of type name. */
extern Datum queue_name_datum(const char *name);

/* SPI as the extension's owner, with a pinned search_path. */
typedef struct QueueSpi
{
	QueueOwnerContext owner;
} QueueSpi;
extern void queue_spi_begin(QueueSpi *spi);
extern void queue_spi_end(QueueSpi *spi);
/* Runs a statement with parameters; nulls NULL: none is null. Returns SPI_processed. */
extern uint64 queue_spi_run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls);

#endif
