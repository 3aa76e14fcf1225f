/*
 * database.h
 *		The databases: their connections, the threads that use them, whether they are up.
 */
#ifndef WEB_DATABASE_H
#define WEB_DATABASE_H

#include "entry.h"

#include <stdbool.h>

/* What /api/databases tells; texts may be NULL. */
typedef struct DatabaseState
{
	bool		up;
	char	   *error;
	char	   *role;
	char	   *server_version;
	char	   *host;
} DatabaseState;

extern void databases_read(void);
extern void databases_start(void);
extern void databases_stop(void);
extern int	database_count(void);
extern Database *database_at(int number);
extern Database *database_find(const char *name);	/* NULL: none of that name */
extern const char *database_name(const Database *database);
extern DatabaseState database_state(Database *database);	/* to be freed by database_state_free */
extern void database_state_free(DatabaseState *state);

/* The caller holds the entries' lock. */
extern void database_submit(Database *database, Entry *entry);
extern int64_t database_generation(const Database *database);

#endif
