/*
 * launcher.h
 *		The one process per cluster that sees to it that every database with the extension has a scheduler.
 */
#ifndef QUEUE_LAUNCHER_H
#define QUEUE_LAUNCHER_H

#include "lib/queue.h"

extern void queue_launcher_register_worker(void);	/* _PG_init, preload only */
extern PGDLLEXPORT void queue_launcher_main(Datum arg);

#endif
