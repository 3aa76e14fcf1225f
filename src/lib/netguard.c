/*
 * netguard.c
 *		The address guard of HTTP handlers.
 *
 * It looks at the address that a connection is about to go to, after the name was resolved: so neither a name that
 * points inwards, nor one that changes between two look-ups, nor another spelling (decimal, octal, ::ffff:) passes.
 * IPv4 addresses that stand inside IPv6 ones (mapped, compatible, translated, NAT64) are judged as what they are.
 * Addresses of tunnels (6to4, Teredo, ISATAP) are judged twice, as they stand and by the IPv4 address that they lead
 * to.
 *
 * Some networks are refused whatever the list says: unspecified and link-local addresses, and those under which clouds
 * give a machine's credentials away.  Only an element of the list that lies within such a network names it, and so
 * allows what it contains: 0.0.0.0/0 does not allow 169.254.169.254, and neither does 169.254.0.0/16.
 *
 * Pure: called from callbacks of libcurl, where nothing may be thrown.  No locks.
 */
#include "lib/netguard.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define V4(a, b, c, d) {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}

/* What must be named to be allowed. */
static const QueueNetwork refused[] = {
	{V4(0, 0, 0, 0), 104},		/* unspecified: reaches the host itself */
	{{0}, 128},
	{V4(169, 254, 0, 0), 112},	/* link-local */
	{{0xfe, 0x80}, 10},
	/* metadata and credentials: most clouds; AWS containers, twice; Alibaba; Oracle; Azure; AWS and Google by IPv6 */
	{V4(169, 254, 169, 254), 128},
	{V4(169, 254, 170, 2), 128},
	{V4(169, 254, 170, 23), 128},
	{V4(100, 100, 100, 200), 128},
	{V4(192, 0, 0, 192), 128},
	{V4(168, 63, 129, 16), 128},
	{{0xfd, 0x00, 0x0e, 0xc2}, 32},
	{{0xfd, 0x20, 0x00, 0xce}, 32},
	/* a NAT64 prefix of local use: where in it an IPv4 address stands is known to nobody but its router */
	{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48},
};

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const unsigned char translated[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b};

/* One form for all: an IPv4 address, however dressed, becomes ::ffff:a.b.c.d. */
static void
normalize(unsigned char *address)
{
	static const unsigned char zero[12];

	if (memcmp(address, nat64, 12) == 0 || memcmp(address, translated, 12) == 0)
		memcpy(address, mapped, 12);
	else if (memcmp(address, zero, 12) == 0 && (address[12] != 0 || address[13] != 0))
		memcpy(address, mapped, 12);	/* IPv4-compatible; :: and ::1 stay what they are */
}

/* The IPv4 address that an IPv6 one tunnels to, as ::ffff:a.b.c.d; false: it is no tunnel's. */
static bool
tunnelled(const unsigned char *address, unsigned char *inner)
{
	static const unsigned char teredo[4] = {0x20, 0x01, 0, 0};

	memcpy(inner, mapped, 12);
	if (address[0] == 0x20 && address[1] == 0x02)	/* 6to4 */
		memcpy(inner + 12, address + 2, 4);
	else if (memcmp(address, teredo, 4) == 0)
	{
		for (int i = 12; i < 16; i++)
			inner[i] = address[i] ^ 0xff;
	}
	else if ((address[8] & 0xfd) == 0 && address[9] == 0 && address[10] == 0x5e && address[11] == 0xfe) /* ISATAP */
		memcpy(inner + 12, address + 12, 4);
	else
		return false;
	return true;
}

/* Is the address in the network?  A network of IPv6 addresses contains no IPv4 address. */
static bool
contains(const QueueNetwork *network, const unsigned char *address)
{
	int			bytes = network->bits / 8;
	int			rest = network->bits % 8;

	if (memcmp(address, mapped, 12) == 0 && network->bits < 96)
		return false;
	if (memcmp(network->address, address, bytes) != 0)
		return false;
	return rest == 0 || ((network->address[bytes] ^ address[bytes]) >> (8 - rest)) == 0;
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
	if (network->bits >= 96)
		normalize(network->address);
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

/* Is the address refused, because the list does not name the network of ours that it is in? */
static bool
is_refused(const QueueNetguard *guard, const unsigned char *address)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		bool		named = false;

		if (!contains(&refused[i], address))
			continue;
		for (int j = 0; j < guard->n && !named; j++)
		{
			const QueueNetwork *element = &guard->networks[j];

			named = element->bits >= refused[i].bits && contains(&refused[i], element->address) &&
				contains(element, address);
		}
		if (!named)
			return true;
	}
	return false;
}

/* The judgement on a normalized address. */
static bool
allows(const QueueNetguard *guard, const unsigned char *address)
{
	unsigned char inner[16];

	if (is_refused(guard, address) || (tunnelled(address, inner) && is_refused(guard, inner)))
		return false;
	for (int i = 0; i < guard->n; i++)
	{
		if (contains(&guard->networks[i], address))
			return true;
	}
	return guard->n == 0;
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
