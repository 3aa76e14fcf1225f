/*
 * request.h
 *		One HTTP request through libcurl, from being filled to the judgement on its answer.
 *		Knows nothing of jobs' rows.
 */
#ifndef QUEUE_REQUEST_H
#define QUEUE_REQUEST_H

#include <curl/curl.h>

#include "config/config.h"
#include "lib/netguard.h"
#include "shared/endpoint.h"
#include "shared/limit.h"

typedef enum QueueVerdictHttp
{
	QUEUE_HTTP_COMPLETE, QUEUE_HTTP_FAIL, QUEUE_HTTP_DISCARD, QUEUE_HTTP_SNOOZE, QUEUE_HTTP_RELEASE,
	QUEUE_HTTP_AWAIT
} QueueVerdictHttp;

/* Where a request is; transfer.c moves it. */
typedef enum QueueTransferState
{
	QUEUE_TRANSFER_NONE,		/* being filled; next WAITING, SENDING or UNSENT */
	QUEUE_TRANSFER_WAITING,		/* for its host's name; next SENDING or UNSENT */
	QUEUE_TRANSFER_SENDING,		/* libcurl has it; next ENDED */
	QUEUE_TRANSFER_UNSENT,		/* failed before libcurl had it; next ENDED */
	QUEUE_TRANSFER_ENDED		/* judged, or given up */
} QueueTransferState;

typedef struct QueueRequest
{
	/* kept from one request to the next */
	CURL	   *easy;
	char	   *url;			/* malloc'd: what easy was given last */
	char		host[256];		/* of url, the name to resolve; "": it has an address */
	int			port;
	char	   *answer;			/* malloc'd */
	size_t		answer_size;

	struct QueueRequest *next;	/* in whatever list it stands */
	bool		own_ca;			/* the handle was given a CA file */
	struct curl_slist *headers;
	struct curl_slist *resolve; /* its host's addresses */
	int64		timeout;		/* us */
	int64		connect_timeout;	/* us */

	/* transfer.c's */
	QueueTransferState state;
	int64		began;			/* by the monotonic clock */
	int64		waited;			/* us, for the name */
	uint64		addresses;		/* which answer of resolver.c it goes by */
	char	   *body;			/* malloc'd */
	size_t		body_length;
	void	   *owner;			/* a health probe's; NULL: a job's */

	/* the job */
	int64		id;
	int64		line;
	TimestampTz run_at;
	ItemPointerData tid;
	int			attempt;
	TimestampTz started_at;
	TimestampTz leased_until;
	TimestampTz retry_at;		/* its outcome could not be written: not before */
	int			tries;			/* to write it .. */
	int			refusals;		/* .. that failed though there was room */

	/* where it goes; copies, because the configuration may be another one when it ends */
	QueueEndpointState *endpoint;
	QueueGate  *gate;			/* counts it */
	QueueBreakerConf breaker;
	bool		probe;			/* of a half-open breaker */
	uint32		complete_on[20];
	uint32		discard_on[20];
	char		label[200];		/* kind and url without its query, for the log */

	/* the answer */
	size_t		answer_length;
	size_t		header_bytes;
	bool		cut;			/* more than queue.http_max_response */
	bool		headers_too_big;
	bool		sent;			/* or about to be */
	bool		broken_off;		/* libcurl wanted to send it again */
	bool		refused;		/* by the guard */
	bool		no_memory;
	char		refused_address[64];
	char		retry_after[64];
	char		await[QUEUE_NAME_MAX + 2];	/* Queue-Await: an event's name; longer than that is too long */
	char		await_timeout[32];
	char		curl_error[CURL_ERROR_SIZE];

	/* the judgement */
	QueueVerdictHttp verdict;
	CURLcode	code;
	long		status;
	int64		delay;			/* us: Retry-After, or Queue-Await-Timeout; -1: none */
	bool		endpoint_ok;	/* what the breaker counts */
	bool		unreachable;	/* no connection: the endpoint's health is in doubt */
	bool		timed_out;
	int64		duration;		/* us */
	char		error[512];
} QueueRequest;

/* queue.http_allowed_networks, as the requests go by it. */
extern QueueNetguard queue_request_guard;

/* One that is free, with a handle; NULL: no memory. */
extern QueueRequest *queue_request_take(void);
/* Frees what it carries and keeps its handle for the next. */
extern void queue_request_release(QueueRequest *request);
/* Gives it a copy of a body.  False: no memory. */
extern bool queue_request_set_body(QueueRequest *request, const char *body, size_t length);
extern void queue_request_drop_body(QueueRequest *request);
/* Bytes of the bodies and answers of all requests. */
extern size_t queue_request_memory(void);
/* Where and how; timeouts in us.  False: libcurl will not have it (no memory, bad url). */
extern bool queue_request_prepare(QueueRequest *request, const char *url, const char *method, int64 timeout,
								  int64 connect_timeout, const char *ca_file);
/* Gives libcurl the addresses of the request's host, as CURLOPT_RESOLVE takes them.  False: no memory. */
extern bool queue_request_resolve(QueueRequest *request, const char *addresses);
/* Takes the time that it waited for its name off the timeouts.  False: no memory. */
extern bool queue_request_shorten(QueueRequest *request);
/* What came back, in words and as a verdict. */
extern void queue_request_judge(QueueRequest *request, CURLcode code, TimestampTz now);

#endif
