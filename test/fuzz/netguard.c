/* A list of networks, and an address in words behind it: after a NUL. */
#include "../../src/lib/netguard.c"

#include <stdint.h>

#include "fuzz.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	QueueNetguard guard;
	QueueNetguard none = {0};
	char		bad[32];
	char	   *list = malloc(size + 2);
	char	   *address;

	memcpy(list, data, size);
	list[size] = list[size + 1] = '\0';
	address = list + strlen(list) + (strlen(list) < size ? 1 : 0);
	if (queue_netguard_parse(list, &guard, bad, sizeof(bad)))
	{
		FUZZ_CHECK(guard.n >= 0 && guard.n <= QUEUE_NETGUARD_MAX);
		(void) queue_netguard_allows_text(&guard, address);
	}
	else
		FUZZ_CHECK(strlen(bad) < sizeof(bad));
	(void) queue_netguard_allows_text(&none, address);
	free(list);
	return 0;
}
