/*
 * registration.h
 *		What the functions about handlers share: their options, the queues, the row, and which handler a call means.
 */
#ifndef QUEUE_REGISTRATION_H
#define QUEUE_REGISTRATION_H

#include "api/arguments.h"
#include "executor/run.h"

/*
 * An option of a register or alter function.  The functions' tables of them say how each is checked, kept and left out;
 * an option that only one of the two has is no argument (QUEUE_NO_ARGUMENT) of the other.
 */
#define QUEUE_NO_ARGUMENT (-1)
typedef struct QueueHandlerOption
{
	const char *name;			/* of the argument, and of the column that keeps it */
	int			argument;		/* of the register function */
	int			alter;			/* of the alter function */
	QueueCheck	check;
	Oid			type;			/* InvalidOid: it is checked and not kept */
	const char *missing;		/* SQL of the value when it is null; NULL: null */
	const char *column;			/* NULL: it is called like the argument */
} QueueHandlerOption;

/* A handler that is to be registered. */
typedef struct QueueRegistration
{
	const char *type;			/* sql | http */
	const char *kind;
	char	  **queues;			/* sorted; NULL: all */
	int			nqueues;
	const char *run_as;
	const QueueFunction *function;	/* sql only */
	const QueueHandlerOption *options;
	int			noptions;
	Datum	   *values;			/* of the options, as checked */
} QueueRegistration;

/* Existing queues, sorted; the caller must hold manage on each, on '*' for null (and NULL) and kind '*'. */
extern char **queue_registration_check_queues(const char *kind, FunctionCallInfo fcinfo, int argument, int *nqueues);
/* Checks the options, and the queues argument like that. */
extern void queue_registration_check(QueueRegistration *registration, FunctionCallInfo fcinfo, int queues_argument);

/*
 * Writes the row, in place of the caller's own handlers of the kind that share a queue with it, whose endpoints but
 * `url` (NULL: all) go too; 42501 if another role's shares one.  Begins the SPI section that the caller ends, and takes
 * the kind's lock until the end of the transaction.  The row's id: that of a handler that was replaced, or a new one.
 */
extern int64 queue_registration_write(QueueRegistration *registration, FunctionCallInfo fcinfo, const char *url,
									  QueueSpi *spi);

/* 42501 or 23505 if another handler of the kind than this one is for one of the queues (NULL: is for all). */
extern void queue_registration_no_other(const QueueHandler *handler, char **queues, int nqueues);

/* The names as a text[]. */
extern Datum queue_registration_queues(char **queues, int nqueues);

/*
 * The handler of a kind that a call means and the caller may change: the one that names the queue ('*': the one of all
 * queues), or with NULL his only one.  42704, 42501, or 22023 if he has several.  With `http` only HTTP handlers; with
 * `any_manager` also who holds manage on '*' may.  Takes the kind's lock until the end of the transaction.
 */
extern QueueHandler *queue_registration_pick(const char *kind, const char *queue, bool http, bool any_manager);

/* 40001: the transaction's snapshot does not see the handlers that there are. */
extern void queue_registration_changed(const char *kind) pg_attribute_noreturn();

/* Did a role register it whose privileges the current user has? */
extern bool queue_registration_is_mine(const QueueHandler *handler);

#endif
