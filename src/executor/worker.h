/*
 * worker.h
 *		The processes that run SQL handlers, each connected as the role that its handlers run as.
 */
#ifndef QUEUE_EXECUTOR_WORKER_H
#define QUEUE_EXECUTOR_WORKER_H

#include "lib/queue.h"

extern PGDLLEXPORT void queue_executor_main(Datum arg);	/* arg: its slot (Int32); database and role are in the slot */

#endif
