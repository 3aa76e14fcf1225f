/*
 * relations.h
 *		Where the extension's relations are in this database.
 */
#ifndef QUEUE_RELATIONS_H
#define QUEUE_RELATIONS_H

#include "config/types.h"

#include "utils/relcache.h"

/*
 * Fills config's OIDs and owner; 55000 if the extension is not in this database, or is not one that this library works
 * with.
 */
extern void queue_relations_read(QueueConfig *config, Oid *queue_table, Oid *privilege_table, Oid *handler_table);

/*
 * Opens a relation of the extension, by an OID of the configuration.  55000 if a DROP EXTENSION that held its lock has
 * committed.  For whatever a statement opens first: then nobody drops the rest.
 */
extern Relation queue_relation_open(Oid relid, LOCKMODE lockmode);

/* The same 55000.  Called by config.c. */
extern void queue_relations_check(void);

/* The SQL version of the extension in this database; NULL: it is not here. */
extern char *queue_extension_version(void);

#endif
