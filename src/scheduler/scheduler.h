/*
 * scheduler.h
 *		The one process per database that decides what runs next, and starts who runs it.
 */
#ifndef QUEUE_SCHEDULER_H
#define QUEUE_SCHEDULER_H

#include "lib/queue.h"

extern PGDLLEXPORT void queue_scheduler_main(Datum arg);	/* arg: its slot; bgw_extra has the slot's token */

#endif
