/*
 * event.h
 *		libcurl's multi interface driven by a private epoll and timer, so that one descriptor
 *		stands for all of its sockets in a worker's WaitEventSet.
 */
#ifndef QUEUE_EVENT_H
#define QUEUE_EVENT_H

#include <curl/curl.h>

#include "lib/queue.h"

/* Makes the epoll, the timer and the multi handle; once a process. */
extern CURLM *queue_event_init(void);
/* The descriptor that is readable when queue_event_dispatch has something to do. */
extern int	queue_event_fd(void);
/* The monotonic clock in us. */
extern int64 queue_event_clock(void);
/* The descriptor is readable by then at the latest. */
extern void queue_event_want(int64 when);
/* Makes it readable now.  From any thread. */
extern void queue_event_wake(void);
/* To be called before sleeping on it. */
extern void queue_event_arm(void);
/* Lets libcurl do what is due, without waiting.  Signals are blocked meanwhile. */
extern void queue_event_dispatch(void);
/* For calls into libcurl that may start a thread: it must not take this process's signals. */
extern void queue_event_block_signals(void);
extern void queue_event_unblock_signals(void);

#endif
