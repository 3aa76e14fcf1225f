/* Bytes from outside that become text of the database. */
#include "../../src/lib/text.c"

#include "fuzz.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size + 1);
	size_t		limit = size > 0 ? data[0] % (size + 1) : 0;
	char	   *clean;
	char		small[16];

	memcpy(copy, data, size);
	copy[size] = '\0';
	clean = queue_text_clean(copy, size, limit, PG_UTF8);
	FUZZ_CHECK(strlen(clean) <= limit);
	FUZZ_CHECK(pg_encoding_verifymbstr(PG_UTF8, clean, (int) strlen(clean)) == (int) strlen(clean));
	queue_text_mend(copy);
	FUZZ_CHECK(strlen(copy) <= size);
	FUZZ_CHECK(pg_encoding_verifymbstr(PG_UTF8, copy, (int) strlen(copy)) == (int) strlen(copy));
	FUZZ_CHECK(queue_text_fitting(copy, strlen(copy), limit) <= limit);
	queue_text_copy(small, sizeof(small), copy);
	FUZZ_CHECK(pg_encoding_verifymbstr(PG_UTF8, small, (int) strlen(small)) == (int) strlen(small));
	free(copy);
	fuzz_end();
	return 0;
}
