/*
 * netguard.h
 *		Which network addresses HTTP handlers may reach: a list of networks, and whether
 *		a resolved address is in it.  Pure: no server state, no palloc, no ereport.
 */
#ifndef QUEUE_NETGUARD_H
#define QUEUE_NETGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define QUEUE_NETGUARD_MAX 64	/* networks in a list */

typedef struct QueueNetwork
{
	unsigned char address[16];	/* an IPv4 network as ::ffff:a.b.c.d */
	int			bits;			/* of the 128 */
} QueueNetwork;

typedef struct QueueNetguard
{
	int			n;				/* 0: no list, everything is allowed that need not be named */
	QueueNetwork networks[QUEUE_NETGUARD_MAX];
} QueueNetguard;

/* Reads "10.0.0.0/8, ::1, fd00::/8"; false: the element copied into `bad` is no network, or there are too many. */
extern bool queue_netguard_parse(const char *list, QueueNetguard *guard, char *bad, size_t size);

/* May a connection go there?  Anything that is neither IPv4 nor IPv6 may not. */
extern bool queue_netguard_allows(const QueueNetguard *guard, const struct sockaddr *address);
/* The same of an address in words; anything unreadable may not. */
extern bool queue_netguard_allows_text(const QueueNetguard *guard, const char *address);

#endif
