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

/* A text argument: 22004 when null. */
extern char *queue_arg_text(FunctionCallInfo fcinfo, int n, const char *what);
/* The name of a queue or kind: 1 to QUEUE_NAME_MAX bytes, else 22023; '*' only where star is true. */
extern char *queue_arg_name(FunctionCallInfo fcinfo, int n, const char *what, bool star);
/* An interval in microseconds, at least min (0 or 1), finite: else 22023. */
extern int64 queue_arg_interval(FunctionCallInfo fcinfo, int n, const char *what, int64 min);
/* 0A000 naming the option if it is given. */
extern void queue_arg_not_built(FunctionCallInfo fcinfo, int n, const char *function, const char *option);
/* A role that exists, else 42704. */
extern Oid	queue_role_oid(const char *name);

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
