/*
 * transfer.h
 *		Requests under way: their names looked up, sent by libcurl, ended.
 */
#ifndef QUEUE_TRANSFER_H
#define QUEUE_TRANSFER_H

#include "http/request.h"

/* Once a process; at most so many connections are kept. */
extern void queue_transfer_init(int max_connections);
extern void queue_transfer_limit(int max_connections);

/* Sends a prepared request, at once or when its host's name is resolved.  It ends in queue_transfer_ended, always. */
extern void queue_transfer_start(QueueRequest *request);
/* Gives a request up that queue_transfer_ended has not returned. */
extern void queue_transfer_stop(QueueRequest *request);
/* Lets names and libcurl do what is due, without waiting. */
extern void queue_transfer_turn(void);
/* One that ended, judged; NULL: none. */
extern QueueRequest *queue_transfer_ended(TimestampTz now);

#endif
