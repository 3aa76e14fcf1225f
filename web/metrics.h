/*
 * metrics.h
 *		Puts the metrics of several databases together.
 */
#ifndef WEB_METRICS_H
#define WEB_METRICS_H

#include "util.h"

#include <stdbool.h>

typedef struct Metrics Metrics;

extern Metrics *metrics_begin(void);
extern void metrics_add(Metrics *metrics, const char *database, bool up, const char *text, size_t length);
extern char *metrics_end(Metrics *metrics, size_t *length);

#endif
