/*
 * finding.h
 *		What doctor() found: its rows.
 */
#ifndef QUEUE_FINDING_H
#define QUEUE_FINDING_H

#include "lib/queue.h"

#include "nodes/execnodes.h"
#include "nodes/pg_list.h"

typedef struct QueueFindings
{
	MemoryContext context;
	List	   *bad;
	List	   *good;
} QueueFindings;

typedef void (*QueueFindingCheck) (QueueFindings *findings);

/* One row; a hint is kept only where something is wrong. */
extern void queue_finding(QueueFindings *findings, const char *check, bool ok, const char *detail, const char *hint);
/* Makes a check behind an error boundary: what it could not find out is a row, and the other checks go on. */
extern void queue_finding_check(QueueFindings *findings, const char *name, QueueFindingCheck check);
/* Returns all rows, what is wrong first. */
extern void queue_finding_return(QueueFindings *findings, ReturnSetInfo *rsinfo);

#endif
