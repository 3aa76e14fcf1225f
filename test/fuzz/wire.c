/*
 * Whole answers as they come over the wire: status lines, headers, chunks, compressed bodies; libcurl reads them for
 * request.c.  An input may be several, for one handle after the other, with "\n--\n" between them.
 */
#include "../../src/http/request.c"
#include "../../src/lib/text.c"

#include <sys/socket.h>

#include "fuzz.h"

int			queue_http_max_response = 4;

static int	ours = -1;			/* the endpoint's end of the connection */
static const uint8_t *answer;
static size_t answer_size;

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

/* CURLOPT_OPENSOCKETFUNCTION: a connection on which the answer waits already, and nothing after it. */
static curl_socket_t
open_pair(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	int			ends[2];
	const int	room = 1024 * 1024;

	FUZZ_CHECK(ours == -1 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	ours = ends[0];
	(void) setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	FUZZ_CHECK(send(ours, answer, answer_size, MSG_NOSIGNAL) == (ssize_t) answer_size);
	FUZZ_CHECK(shutdown(ours, SHUT_WR) == 0);
	return ends[1];
}

/* In place of the C library's, for libcurl: the pair is connected. */
int
connect(int socket, const struct sockaddr *address, socklen_t length)
{
	return 0;
}

static void
send_one(const uint8_t *data, size_t size)
{
	QueueRequest *request = queue_request_take();
	CURLcode	code;

	answer = data;
	answer_size = size;
	FUZZ_CHECK(request != NULL && queue_request_set_body(request, "{\"a\": 1}", 8));
	FUZZ_CHECK(queue_request_prepare(request, "http://127.0.0.1/hook", "POST", 60 * USECS_PER_SEC, 60 * USECS_PER_SEC, NULL));
	curl_easy_setopt(request->easy, CURLOPT_OPENSOCKETFUNCTION, open_pair);
	curl_easy_setopt(request->easy, CURLOPT_FORBID_REUSE, 1L);
	for (int status = 200; status < 300; status++)
		request->complete_on[status / 32] |= (uint32) 1 << (status % 32);
	request->discard_on[410 / 32] |= (uint32) 1 << (410 % 32);
	request->state = QUEUE_TRANSFER_SENDING;
	code = curl_easy_perform(request->easy);
	queue_request_judge(request, code, 0);

	FUZZ_CHECK(request->sent && !request->refused && !request->broken_off && !request->timed_out);
	FUZZ_CHECK(request->answer_length <= (size_t) queue_http_max_response * 1024);
	FUZZ_CHECK(request->answer_length <= request->answer_size);
	FUZZ_CHECK(request->header_bytes <= MAX_HEADERS || request->verdict == QUEUE_HTTP_FAIL);
	FUZZ_CHECK(strlen(request->error) < sizeof(request->error));
	FUZZ_CHECK(pg_encoding_verifymbstr(PG_UTF8, request->error, (int) strlen(request->error)) == (int) strlen(request->error));
	FUZZ_CHECK(request->delay >= -1 && request->delay <= INT64CONST(10000000000) * USECS_PER_SEC);
	switch (request->verdict)
	{
		case QUEUE_HTTP_COMPLETE:
			FUZZ_CHECK(request->status >= 200 && request->status < 300);
			FUZZ_CHECK(code == CURLE_OK || request->cut);
			break;
		case QUEUE_HTTP_DISCARD:
			FUZZ_CHECK(request->status == 410);
			break;
		case QUEUE_HTTP_SNOOZE:
			FUZZ_CHECK(request->status == 202 && request->delay >= MIN_SNOOZE && request->delay <= MAX_RETRY_AFTER);
			break;
		case QUEUE_HTTP_AWAIT:
			FUZZ_CHECK(request->status == 202 && request->await[0] != '\0' && strlen(request->await) <= QUEUE_NAME_MAX);
			break;
		case QUEUE_HTTP_FAIL:
			FUZZ_CHECK(request->error[0] != '\0');
			break;
		default:
			abort();
	}
	close(ours);
	ours = -1;
	queue_request_release(request);
	FUZZ_CHECK(queue_request_memory() == 0);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *next;

	while ((next = memmem(data, size, "\n--\n", 4)) != NULL)
	{
		send_one(data, next - data);
		size -= next + 4 - data;
		data = next + 4;
	}
	send_one(data, size);
	fuzz_end();
	return 0;
}
