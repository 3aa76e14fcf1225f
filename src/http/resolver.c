/*
 * resolver.c
 *		Looking up host names without ever waiting for the answer.
 *
 * libcurl's own resolver is a thread for each request, which libcurl joins when the request times out: one name whose
 * servers never answer then holds the whole worker, and everybody's deliveries, until getaddrinfo gives up.  Here a
 * name has one thread, detached, however many requests wait for it; whoever gives up waiting leaves it alone; and what
 * it finds is remembered for FOUND_US (FAILED_US: that there is none), as libcurl would.  libcurl keeps what it was
 * given until it is given something else, so it is given an answer once per port, not with each request.
 *
 * At most MAX_THREADS run at once; a name beyond them waits for one to end.  A thread touches nothing but its own
 * Question, from malloc, and hands it over through a list under a mutex, then writes to the worker's event descriptor.
 * Threads inherit the signal mask, so all signals are blocked around the start of one: none may run a signal handler
 * of PostgreSQL's.  A thread that still asks when the process exits ends with it.
 *
 * Locks: the mutex, for the length of a list operation.  Everything else belongs to the main thread.
 */
#include "http/resolver.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "http/event.h"

#define MAX_THREADS 48
#define STACK_SIZE (512 * 1024)
#define MAX_ADDRESSES 16
#define MAX_PORTS 8
#define FOUND_US INT64CONST(60000000)
#define FAILED_US INT64CONST(1000000)
#define FORGET_US INT64CONST(600000000)	/* a host that nobody asked for so long */

/* What a thread asks, and what it found. */
typedef struct Question
{
	struct Question *next;
	struct Host *host;			/* the main thread's */
	int			error;			/* of getaddrinfo; 0: found */
	char		answer[MAX_ADDRESSES * (INET6_ADDRSTRLEN + 3)];
	char		name[FLEXIBLE_ARRAY_MEMBER];
} Question;

/* What is known of a name. */
typedef struct Host
{
	struct Host *next;
	bool		asking;			/* a thread has it */
	bool		wanted;			/* somebody waits, and no thread was free */
	bool		failed;
	int64		valid_until;	/* of answer, by the monotonic clock; 0: none yet */
	int64		used_at;
	char	   *answer;			/* malloc'd; NULL: none */
	uint64		version;		/* of answer */
	int			ports[MAX_PORTS];	/* for which libcurl has the answer */
	int			nports;
	char		name[FLEXIBLE_ARRAY_MEMBER];
} Host;

static Host *hosts = NULL;
static uint64 last_version = 0;
static int	nthreads = 0;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Question *answered = NULL;	/* under the mutex */

/* ---- in a thread ---- */

/* Writes the addresses as CURLOPT_RESOLVE takes them. */
static void
write_addresses(Question *question, const struct addrinfo *list)
{
	char	   *to = question->answer;
	int			n = 0;

	for (; list != NULL && n < MAX_ADDRESSES; list = list->ai_next)
	{
		const char *separator = n > 0 ? "," : "";
		char		text[INET6_ADDRSTRLEN];

		if (list->ai_family == AF_INET &&
			inet_ntop(AF_INET, &((struct sockaddr_in *) list->ai_addr)->sin_addr, text, sizeof(text)) != NULL)
			to += sprintf(to, "%s%s", separator, text);
		else if (list->ai_family == AF_INET6 &&
				 inet_ntop(AF_INET6, &((struct sockaddr_in6 *) list->ai_addr)->sin6_addr, text, sizeof(text)) != NULL)
			to += sprintf(to, "%s[%s]", separator, text);
		else
			continue;
		n++;
	}
	if (n == 0)
		question->error = EAI_NONAME;
}

/* A thread: asks, hands the answer over, ends. */
static void *
ask(void *arg)
{
	Question   *question = arg;
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;

	question->error = getaddrinfo(question->name, NULL, &hints, &list);
	if (question->error == 0)
		write_addresses(question, list);
	if (list != NULL)
		freeaddrinfo(list);
	pthread_mutex_lock(&mutex);
	question->next = answered;
	answered = question;
	pthread_mutex_unlock(&mutex);
	queue_event_wake();
	return NULL;
}

/* ---- in the main thread ---- */

/* Starts a thread for the host; false: none is free, or there is no memory. */
static bool
start_thread(Host *host)
{
	Question   *question;
	pthread_attr_t attributes;
	pthread_t	thread;
	bool		started;

	if (nthreads >= MAX_THREADS)
		return false;
	question = malloc(offsetof(Question, name) + strlen(host->name) + 1);
	if (question == NULL)
		return false;
	question->host = host;
	strcpy(question->name, host->name);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	queue_event_block_signals();
	started = pthread_create(&thread, &attributes, ask, question) == 0;
	queue_event_unblock_signals();
	pthread_attr_destroy(&attributes);
	if (!started)
	{
		free(question);
		return false;
	}
	nthreads++;
	host->asking = true;
	host->wanted = false;
	return true;
}

/* The host of that name, made if need be; NULL: no memory.  Forgets hosts that nobody uses when it makes one. */
static Host *
host_of(const char *name, int64 now)
{
	Host	   *host;

	for (host = hosts; host != NULL && strcmp(host->name, name) != 0; host = host->next)
		;
	if (host != NULL)
		return host;
	for (Host **link = &hosts; *link != NULL;)
	{
		host = *link;
		if (host->asking || now - host->used_at < FORGET_US)
		{
			link = &host->next;
			continue;
		}
		*link = host->next;
		free(host->answer);
		free(host);
	}
	host = calloc(1, offsetof(Host, name) + strlen(name) + 1);
	if (host == NULL)
		return NULL;
	strcpy(host->name, name);
	host->next = hosts;
	hosts = host;
	return host;
}

/* Does libcurl have the host's answer for that port? */
static bool
is_given(const Host *host, int port)
{
	for (int i = 0; i < host->nports; i++)
	{
		if (host->ports[i] == port)
			return true;
	}
	return false;
}

void
queue_resolver_given(const char *name, int port, uint64 version)
{
	Host	   *host = host_of(name, queue_event_clock());

	if (host != NULL && host->version == version && host->nports < MAX_PORTS && !is_given(host, port))
		host->ports[host->nports++] = port;
}

QueueResolution
queue_resolver_look(const char *name, int port, const char **answer, uint64 *version)
{
	int64		now = queue_event_clock();
	Host	   *host = host_of(name, now);

	if (host == NULL)
	{
		*answer = "out of memory";
		return QUEUE_RESOLVE_FAILED;
	}
	host->used_at = now;
	if (now < host->valid_until)
	{
		*answer = !host->failed && is_given(host, port) ? NULL : host->answer;
		*version = host->version;
		return host->failed ? QUEUE_RESOLVE_FAILED : QUEUE_RESOLVE_FOUND;
	}
	if (!host->asking && !start_thread(host))
		host->wanted = true;
	return QUEUE_RESOLVE_WAIT;
}

/* A host's answer came.  What libcurl has stays right if it is the same. */
static void
take_answer(Host *host, int error, const char *answer, int64 now)
{
	bool		same = host->answer != NULL && host->failed == (error != 0) && strcmp(host->answer, answer) == 0;

	host->valid_until = now + (error != 0 ? FAILED_US : FOUND_US);
	if (same)
		return;
	host->failed = error != 0;
	host->version = ++last_version;
	host->nports = 0;
	free(host->answer);
	host->answer = strdup(answer);
	if (host->answer == NULL)
		host->valid_until = 0;
}

bool
queue_resolver_collect(void)
{
	Question   *list;
	int64		now;

	if (nthreads == 0)
		return false;
	pthread_mutex_lock(&mutex);
	list = answered;
	answered = NULL;
	pthread_mutex_unlock(&mutex);
	if (list == NULL)
		return false;
	now = queue_event_clock();
	while (list != NULL)
	{
		Question   *question = list;
		Host	   *host = question->host;

		list = question->next;
		nthreads--;
		host->asking = false;
		take_answer(host, question->error, question->error != 0 ? gai_strerror(question->error) : question->answer,
					now);
		free(question);
	}
	for (Host *host = hosts; host != NULL; host = host->next)
	{
		if (host->wanted && !host->asking && !start_thread(host))
			break;
	}
	return true;
}
