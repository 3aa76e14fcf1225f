/*
 * delivery.h
 *		Claiming jobs for HTTP and sending them.
 */
#ifndef QUEUE_DELIVERY_H
#define QUEUE_DELIVERY_H

#include "lib/queue.h"

extern void queue_delivery_take_entries(void); /* what is in the channel */
extern void queue_delivery_give_back(void);	/* everything that is not claimed */
extern bool queue_delivery_pass(void); /* claims and sends up to a batch; true: there may be more */
extern TimestampTz queue_delivery_next(void);	/* when to look at what waits again */
extern void queue_delivery_recover(void);	/* ends the leases of a worker before us */

#endif
