/*
 * entry.h
 *		An entry: one query that is asked for, runs, or has its answer, and the browsers that wait for it.
 *
 * Browsers that ask the same view with the same parameters share an entry, while its query runs and for as long as the
 * answer is fresh, so fifty of them cost one query a second.  An action has an entry of its own.
 *
 * One lock (entry_lock) is over all entries and the databases' queues of them.  References: the table of answers, the
 * queue or the thread that runs the query, and each request that waits or answers.
 */
#ifndef WEB_ENTRY_H
#define WEB_ENTRY_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Database Database;

#define MAX_PARAMS 8

/* A parameter of a view, in the order of $1, $2 .. */
typedef struct Param
{
	const char *name;			/* NULL: no more */
	enum { PARAM_TEXT, PARAM_NUMBER } type;
	const char *by_default;		/* NULL: SQL null */
	int64_t		low;
	int64_t		high;
	bool		required;
} Param;

/* What a query is: a view or an action.  The tables are in views.c and actions.c. */
typedef struct Query
{
	const char *name;
	const char *sql;			/* one row, one column of text; none: nothing is there (404) */
	Param		params[MAX_PARAMS];	/* of an action: none, $1 is the body */
	int			fresh_ms;		/* how long its answer serves others */
	bool		action;			/* logged, never shared, never tried twice */
	bool		plain;			/* no JSON (metrics) */
} Query;

typedef struct Waiter
{
	struct MHD_Connection *connection;
	struct Waiter *next;
} Waiter;

typedef struct Entry
{
	const Query *query;
	Database   *database;
	char	   *key;			/* NULL: not shared */
	char	   *values[MAX_PARAMS];
	int			nvalues;
	char	   *who;			/* of an action: from where it came */
	int			references;
	bool		running;
	bool		ready;
	int64_t		generation;		/* of the database's data when the query began */
	int64_t		ready_at;
	unsigned int status;
	struct MHD_Response *response;	/* when ready */
	const char *text;			/* of a plain one */
	size_t		size;
	Waiter	   *waiters;
	struct Entry *next;			/* in the database's queue */
	struct Entry *next_shared;	/* in the table */
} Entry;

extern void entry_lock(void);
extern void entry_unlock(void);

/* The calls below expect the lock to be held. */
extern Entry *entry_get(Database *database, const Query *query, char *values[], int nvalues);	/* takes the values */
extern Entry *entry_make(Database *database, const Query *query, char *values[], int nvalues);	/* not shared */
extern void entry_hold(Entry *entry);
extern void entry_release(Entry *entry);
extern void entry_wait(Entry *entry, struct MHD_Connection *connection);	/* suspends it */
extern bool entry_has_room(void);		/* for one more answer in memory */

/* Ends it with an answer; resumes who waits.  free_data(data) is called when nobody needs the text any more. */
extern void entry_answer(Entry *entry, unsigned int status, const char *text, size_t length, void *data,
						 void (*free_data) (void *));
extern void entry_refuse(Entry *entry, unsigned int status, const char *code, const char *message, const char *hint);

#endif
