/*
 * catalog.h
 *		Is the extension in this database one that this library works with?
 */
#ifndef QUEUE_CATALOG_H
#define QUEUE_CATALOG_H

#include "lib/queue.h"

/* What is known of a table may have changed: queue_catalog_require() is to be called before anything else. */
extern PGDLLIMPORT bool queue_catalog_stale;

/* A table's relcache entry was thrown away (InvalidOid: all were). */
extern void queue_catalog_invalidate(Oid relid);

/* Why not, with the hint for it; NULL: it is.  For an extension that is there, of this version.  In a transaction. */
extern char *queue_catalog_problem(const char *version, const char **hint);

/* 55000 if it is not. */
extern void queue_catalog_require(const char *version);

#endif
