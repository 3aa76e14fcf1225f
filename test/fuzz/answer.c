/* The headers of an answer, line by line as libcurl gives them, and what is made of them. */
#include "../../src/http/request.c"
#include "../../src/lib/text.c"

#include "fuzz.h"

int			queue_http_max_response = 4;

bool
queue_netguard_allows(const QueueNetguard *guard, const struct sockaddr *address)
{
	return true;
}

bool
queue_netguard_allows_text(const QueueNetguard *guard, const char *address)
{
	return true;
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static QueueRequest request;
	const char *at = (const char *) data;
	const char *end = at + size;
	int64		delay;

	request.header_bytes = 0;
	request.headers_too_big = request.cut = false;
	request.answer_length = 0;
	request.retry_after[0] = request.await[0] = request.await_timeout[0] = '\0';
	while (at < end)
	{
		const char *eol = memchr(at, '\n', end - at);
		size_t		length = (eol != NULL ? eol + 1 : end) - at;
		char	   *line = malloc(length);	/* so that one byte too many is seen */

		memcpy(line, at, length);
		(void) on_header(line, 1, length, &request);
		(void) on_body(line, 1, length, &request);
		free(line);
		at += length;
	}
	delay = retry_after(request.retry_after, 0);
	FUZZ_CHECK(delay >= -1 && delay <= MAX_RETRY_AFTER);
	FUZZ_CHECK(strlen(request.retry_after) < sizeof(request.retry_after));
	FUZZ_CHECK(strlen(request.await) < sizeof(request.await));
	FUZZ_CHECK(request.answer_length <= (size_t) queue_http_max_response * 1024);
	request.error[0] = '\0';
	judge_await(&request);
	FUZZ_CHECK(request.delay >= -1 && request.delay <= INT64CONST(10000000000) * USECS_PER_SEC);
	strlcpy(request.curl_error, request.retry_after, sizeof(request.curl_error));
	explain_failure(&request);
	return 0;
}
