/*
 * enqueue.h
 *		The options of enqueue, one by one, for who sets them on a job that is there.
 */
#ifndef QUEUE_ENQUEUE_H
#define QUEUE_ENQUEUE_H

#include "job/create.h"

/* Checks the value of an option, which is not null (numbers as int8), and puts it into the request. */
extern void queue_request_set(QueueNewJob *request, const char *name, Datum value);
/* queue.enqueue needs no argument at the place i if it would be this one, and none follows. */
extern bool queue_enqueue_unset(int i, Node *value);
/* Reads a job in its JSON form; unknown options are errors. */
extern void queue_request_of_json(JsonbContainer *container, QueueNewJob *request);

/* Enqueues one in its JSON form, as the caller; its id. */
extern int64 queue_enqueue_one(Jsonb *json);
/* Enqueues many, as the caller; errors name the element by its number in `numbers`. */
extern void queue_enqueue_requests(const QueueNewJob *requests, const int *numbers, int n, int64 *ids);
/* Throws the error being caught again, with the element that it is about named in front. */
extern void queue_rethrow_for_element(int index, MemoryContext context);

#endif
