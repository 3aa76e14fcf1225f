/*
 * keys.h
 *		The chore of unique keys.
 */
#ifndef QUEUE_KEYS_H
#define QUEUE_KEYS_H

#include "lib/queue.h"

extern TimestampTz queue_keys_run(TimestampTz now);

#endif
