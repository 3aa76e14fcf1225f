/*
 * netguard.c
 *		The address guard of HTTP handlers.
 *
 * It looks at the address that a connection is about to go to, after the name was resolved:
 * so neither a name that points inwards, nor one that changes between two look-ups, nor another
 * spelling (decimal, octal, ::ffff:) passes.  IPv4 addresses that stand inside IPv6 ones
 * (mapped, compatible, NAT64) are judged as what they are.
 *
 * Pure: called from callbacks of libcurl, where nothing may be thrown.  No locks.
 */
#include "lib/netguard.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b};

/* One form for all: IPv4, however dressed, becomes ::ffff:a.b.c.d. */
static void
normalize(unsigned char *address)
{
	static const unsigned char zero[12];

	if (memcmp(address, nat64, 12) == 0)
		memcpy(address, mapped, 12);
	else if (memcmp(address, zero, 12) == 0 && (address[12] != 0 || address[13] != 0))
		memcpy(address, mapped, 12);	/* IPv4-compatible; :: and ::1 stay what they are */
}

/* Is the address in the network? */
static bool
contains(const unsigned char *network, int bits, const unsigned char *address)
{
	int			bytes = bits / 8;

	if (memcmp(network, address, bytes) != 0)
		return false;
	if (bits % 8 == 0)
		return true;
	return ((network[bytes] ^ address[bytes]) >> (8 - bits % 8)) == 0;
}

/* Reads an address in words into 16 bytes; *v4 tells which family it was written in. */
static bool
read_address(const char *text, unsigned char *address, bool *v4)
{
	*v4 = inet_pton(AF_INET, text, address + 12) == 1;
	if (*v4)
	{
		memcpy(address, mapped, 12);
		return true;
	}
	if (inet_pton(AF_INET6, text, address) != 1)
		return false;
	return true;
}

/* Reads one element: an address, with /bits or without. */
static bool
read_network(char *text, QueueNetwork *network)
{
	char	   *slash = strchr(text, '/');
	bool		v4;
	long		bits;

	if (slash != NULL)
		*slash = '\0';
	if (!read_address(text, network->address, &v4))
		return false;
	bits = v4 ? 32 : 128;
	if (slash != NULL)
	{
		char	   *end;

		if (!isdigit((unsigned char) slash[1]))
			return false;
		bits = strtol(slash + 1, &end, 10);
		if (*end != '\0' || bits < 0 || bits > (v4 ? 32 : 128))
			return false;
	}
	network->bits = (int) bits + (v4 ? 96 : 0);
	return true;
}

/* See netguard.h.  Called by the check and assign hooks of queue.http_allowed_networks. */
bool
queue_netguard_parse(const char *list, QueueNetguard *guard, char *bad, size_t size)
{
	guard->n = 0;
	while (*list != '\0')
	{
		const char *end;
		char		element[64];
		size_t		length;

		while (isspace((unsigned char) *list) || *list == ',')
			list++;
		if (*list == '\0')
			break;
		end = list + strcspn(list, ", \t\n\r");
		length = (size_t) (end - list);
		if (length >= sizeof(element))
			length = sizeof(element) - 1;
		memcpy(element, list, length);
		element[length] = '\0';
		if (bad != NULL && size > 0)
		{
			size_t		copied = length < size - 1 ? length : size - 1;

			memcpy(bad, element, copied);
			bad[copied] = '\0';
		}
		if (guard->n >= QUEUE_NETGUARD_MAX || !read_network(element, &guard->networks[guard->n]))
			return false;
		guard->n++;
		list = end;
	}
	return true;
}

/* The judgement on a normalized address. */
static bool
allows(const QueueNetguard *guard, const unsigned char *address)
{
	/* refused by default: unspecified (0.0.0.0/8 reaches the host itself), link-local */
	static const QueueNetwork refused[] = {
		{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}, 104},
		{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254, 0, 0}, 112},
		{{0}, 128},
		{{0xfe, 0x80}, 10},
	};

	if (guard->n == 0)
	{
		for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		{
			if (contains(refused[i].address, refused[i].bits, address))
				return false;
		}
		return true;
	}
	for (int i = 0; i < guard->n; i++)
	{
		if (contains(guard->networks[i].address, guard->networks[i].bits, address))
			return true;
	}
	return false;
}

/* See netguard.h.  Called when a socket is about to be made. */
bool
queue_netguard_allows(const QueueNetguard *guard, const struct sockaddr *address)
{
	unsigned char bytes[16];

	if (address->sa_family == AF_INET)
	{
		memcpy(bytes, mapped, 12);
		memcpy(bytes + 12, &((const struct sockaddr_in *) address)->sin_addr, 4);
	}
	else if (address->sa_family == AF_INET6)
	{
		memcpy(bytes, &((const struct sockaddr_in6 *) address)->sin6_addr, 16);
		normalize(bytes);
	}
	else
		return false;
	return allows(guard, bytes);
}

/* See netguard.h.  Called for connections that are used again. */
bool
queue_netguard_allows_text(const QueueNetguard *guard, const char *text)
{
	unsigned char bytes[16];
	char		plain[64];
	size_t		length = strcspn(text, "%");
	bool		v4;

	if (length >= sizeof(plain))
		return false;
	memcpy(plain, text, length);
	plain[length] = '\0';
	if (!read_address(plain, bytes, &v4))
		return false;
	normalize(bytes);
	return allows(guard, bytes);
}
