/*
 * preload.h
 *		Is the library preloaded, and if not, what to do.
 */
#ifndef QUEUE_PRELOAD_H
#define QUEUE_PRELOAD_H

#include "lib/queue.h"

/*
 * Why the server runs no jobs, with what to do; NULL if the library is preloaded.  Tells a setting that waits for a
 * restart from one that is missing.
 */
extern const char *queue_preload_problem(const char **hint);

#endif
