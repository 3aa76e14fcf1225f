/*
 * views.h
 *		What the pages read: each view's query, parameters, and how long its answer serves.
 */
#ifndef WEB_VIEWS_H
#define WEB_VIEWS_H

#include "entry.h"

extern const Query *view_find(const char *name);
extern const Query view_metrics;

#endif
