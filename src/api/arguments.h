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
/* A job's id: 22004 when null. */
extern int64 queue_arg_id(FunctionCallInfo fcinfo, int n, const char *what);
/* How long to wait, in microseconds: 0 when null, 22023 when negative.  The caller caps it. */
extern int64 queue_arg_wait(FunctionCallInfo fcinfo, int n);

/* Values that are not null, `what` being their name in the error.  A number from min to max, else 22023. */
extern int64 queue_in_range(int64 value, const char *what, int64 min, int64 max);
extern int16 queue_priority(int64 value);	/* 22003 */
extern int	queue_max_attempts(int64 value);	/* 1 or more */
/* A text[] as C strings; 22004 if an element is null. */
extern char **queue_texts(Datum array, const char *what, int *count);
/* Names in a text[], sorted, each once: 22023 if there is none, 54000 if there are more than QUEUE_MAX_NAMES. */
extern char **queue_names(Datum array, const char *what, int *count);

/* Checks a value that is not null, and gives what is to be kept of it. */
typedef Datum (*QueueCheck) (Datum value, const char *what);
extern Datum queue_check_attempts(Datum value, const char *what);
extern Datum queue_check_limit(Datum value, const char *what);	/* 0 or more */
extern Datum queue_check_reserved(Datum value, const char *what);
extern Datum queue_check_backoff(Datum value, const char *what);
extern Datum queue_check_kind(Datum value, const char *what);	/* a name other than * */
extern Datum queue_check_text(Datum value, const char *what);	/* any */
extern Datum queue_check_length(Datum value, const char *what);	/* an interval of 0 or more */
extern Datum queue_check_period(Datum value, const char *what);	/* an interval of more than 0 */

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
/*
 * The same on the newest snapshot, also at a higher isolation level, as DDL: for what must see whatever was committed
 * before a lock that was waited for, which may be younger than the transaction's snapshot.
 */
extern uint64 queue_spi_run_now(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls);

#endif
