/*
 * worker.h
 *		The one process per database that sends HTTP handlers' jobs to their endpoints.
 */
#ifndef QUEUE_HTTP_WORKER_H
#define QUEUE_HTTP_WORKER_H

#include "lib/queue.h"

extern PGDLLEXPORT void queue_http_main(Datum arg); /* arg: its slot; bgw_extra has the slot's token */

#endif
