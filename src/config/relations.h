/*
 * relations.h
 *		Where the extension's relations are in this database.
 */
#ifndef QUEUE_RELATIONS_H
#define QUEUE_RELATIONS_H

#include "config/types.h"

/* Fills config's OIDs and owner; 55000 if the extension is not in this database or lacks a relation. */
extern void queue_relations_read(QueueConfig *config, Oid *queue_table, Oid *privilege_table, Oid *handler_table);

/* The SQL version of the extension in this database; NULL: it is not here. */
extern char *queue_extension_version(void);

#endif
