/*
 * transfer.c
 *		Requests under way: their names looked up, sent by libcurl, ended.
 *
 * Owns libcurl's multi handle and the requests that wait for their host's name (resolver.c).  libcurl is given the
 * addresses with the first request for a host and port (CURLOPT_RESOLVE) and keeps them, so it looks nothing up itself
 * and nothing here ever waits.  The time that the name takes is part of the request's timeouts.
 *
 * A request: queue_transfer_start -> (WAITING: for the name) -> SENDING: libcurl has it -> ENDED: judged and returned.
 *
 * No locks.  Nothing is thrown and nothing palloc'd.
 */
#include "http/transfer.h"

#include "http/event.h"
#include "http/resolver.h"

static CURLM *multi = NULL;
static QueueRequest *waiting = NULL;	/* for their names */
static QueueRequest *unsent = NULL; /* ended before libcurl had them */
static int64 deadline = PG_INT64_MAX;	/* when the first of those that wait has waited long enough */

void
queue_transfer_init(int max_connections)
{
	multi = queue_event_init();
	queue_transfer_limit(max_connections);
}

void
queue_transfer_limit(int max_connections)
{
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) max_connections);
}

/* It ends without having been sent. */
static void
end_unsent(QueueRequest *request, CURLcode code)
{
	request->code = code;
	request->state = QUEUE_TRANSFER_UNSENT;
	request->next = unsent;
	unsent = request;
	queue_event_want(0);		/* there is something to take, at once */
}

/* Gives it to libcurl. */
static void
send_it(QueueRequest *request)
{
	CURLMcode	code;

	if (request->waited > 0 && !queue_request_shorten(request))
	{
		end_unsent(request, CURLE_OUT_OF_MEMORY);
		return;
	}
	queue_event_block_signals();
	code = curl_multi_add_handle(multi, request->easy);
	queue_event_unblock_signals();
	if (code != CURLM_OK)
		end_unsent(request, CURLE_OUT_OF_MEMORY);
	else
		request->state = QUEUE_TRANSFER_SENDING;
}

/* Looks at a request's name.  False: it waits on. */
static bool
try_name(QueueRequest *request)
{
	const char *answer;

	request->waited = queue_event_clock() - request->began;
	switch (queue_resolver_look(request->host, request->port, &answer, &request->addresses))
	{
		case QUEUE_RESOLVE_FOUND:
			if (answer == NULL || queue_request_resolve(request, answer))
				send_it(request);
			else
				end_unsent(request, CURLE_OUT_OF_MEMORY);
			return true;
		case QUEUE_RESOLVE_FAILED:
			snprintf(request->curl_error, sizeof(request->curl_error), "Could not resolve host: %.100s: %.100s",
					 request->host, answer);
			end_unsent(request, CURLE_COULDNT_RESOLVE_HOST);
			return true;
		case QUEUE_RESOLVE_WAIT:
			break;
	}
	if (request->waited < Min(request->timeout, request->connect_timeout))
		return false;
	snprintf(request->curl_error, sizeof(request->curl_error), "Could not resolve host: %.100s: no answer in %d ms",
			 request->host, (int) (request->waited / 1000));
	request->timed_out = true;
	end_unsent(request, CURLE_COULDNT_RESOLVE_HOST);
	return true;
}

/* All that wait look again. */
static void
try_names(void)
{
	deadline = PG_INT64_MAX;
	for (QueueRequest **link = &waiting; *link != NULL;)
	{
		QueueRequest *request = *link;
		QueueRequest *after = request->next;

		/* it may go onto another list */
		if (try_name(request))
			*link = after;
		else
		{
			deadline = Min(deadline, request->began + Min(request->timeout, request->connect_timeout));
			link = &request->next;
		}
	}
	queue_event_want(deadline);
}

void
queue_transfer_start(QueueRequest *request)
{
	request->began = queue_event_clock();
	if (request->host[0] == '\0')
	{
		send_it(request);
		return;
	}
	if (queue_resolver_collect())
		try_names();
	if (!try_name(request))
	{
		request->state = QUEUE_TRANSFER_WAITING;
		request->next = waiting;
		waiting = request;
		deadline = Min(deadline, request->began + Min(request->timeout, request->connect_timeout));
		queue_event_want(deadline);
	}
}

/* Takes it out of a list. */
static void
take_out(QueueRequest **link, QueueRequest *request)
{
	while (*link != NULL && *link != request)
		link = &(*link)->next;
	if (*link != NULL)
		*link = request->next;
	request->next = NULL;
}

void
queue_transfer_stop(QueueRequest *request)
{
	if (request->state == QUEUE_TRANSFER_SENDING)
		(void) curl_multi_remove_handle(multi, request->easy);
	else
		take_out(request->state == QUEUE_TRANSFER_WAITING ? &waiting : &unsent, request);
	request->state = QUEUE_TRANSFER_ENDED;
}

void
queue_transfer_turn(void)
{
	queue_event_dispatch();
	if (waiting != NULL && (queue_resolver_collect() || queue_event_clock() >= deadline))
		try_names();
}

QueueRequest *
queue_transfer_ended(TimestampTz now)
{
	QueueRequest *request = unsent;
	CURLMsg    *message;
	int			left;
	char	   *private;

	if (request != NULL)
	{
		unsent = request->next;
		request->next = NULL;
		queue_request_judge(request, request->code, now);
		request->state = QUEUE_TRANSFER_ENDED;
		return request;
	}
	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURLcode	code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		request = (QueueRequest *) private;
		(void) curl_multi_remove_handle(multi, request->easy);
		/* it was about to be sent, so libcurl has read the addresses that came with it */
		if (request->resolve != NULL && request->sent)
			queue_resolver_given(request->host, request->port, request->addresses);
		queue_request_judge(request, code, now);
		request->state = QUEUE_TRANSFER_ENDED;
		return request;
	}
	return NULL;
}
