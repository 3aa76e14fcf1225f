/*
 * search.h
 *		The search for the jobs that a filter names.
 */
#ifndef QUEUE_SEARCH_H
#define QUEUE_SEARCH_H

#include "api/filter.h"

/* The ids of what it finds between the bounds (both excluded), by id upwards or downwards, at most limit (-1: all). */
extern int64 *queue_search_ids(QueueSearch *search, QueueJobTable *table, Snapshot snapshot,
							   int64 above, int64 below, bool down, int64 limit, int64 *n);

#endif
