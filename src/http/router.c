/*
 * router.c
 *		Which endpoint a request goes to.
 *
 * All endpoints of a handler that may be used share the load all the time by smooth weighted round-robin: no
 * path is first taken in a disaster.  May be used: healthy (if it has a health_url), its breaker lets requests
 * through, and it has fewer under way than its max_running.  When no breaker lets anything through, any healthy one is
 * taken at random, so that the system never sits still; when none is healthy, nothing is sent.
 *
 * Health: an endpoint with a health_url gets nothing before that answered 200, and again after no connection could
 * be made or its breaker opened.  Probes back off from 0.5 s by 1.5 +-50 % to 60 s.
 *
 * Breakers and health lie in shared memory (endpoint.c), so they outlive this process.  Locks: none;
 * this process is their only writer.
 */
#include "http/router.h"

#include <stdlib.h>

#include "config/http_handlers.h"
#include "http/transfer.h"
#include "lib/text.h"

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#define PROBE_TIMEOUT_US USECS_PER_SEC
#define PROBE_FIRST_US (USECS_PER_SEC / 2)
#define PROBE_FACTOR 1.5
#define PROBE_JITTER 0.5
#define PROBE_CAP_US USECS_PER_MINUTE

/* An endpoint with a health_url. */
typedef struct Probe
{
	struct Probe *next;
	uint64		key;
	QueueEndpointState *state;
	char	   *url;			/* malloc'd, as all that outlives a transaction here */
	char	   *ca_file;
	char		label[200];
	int64		connect_timeout;
	int64		health_timeout;
	QueueRequest *request;		/* under way */
	bool		seen;
} Probe;

/* The state of an endpoint that found no place in shared memory. */
typedef struct OwnState
{
	struct OwnState *next;
	QueueEndpointState state;
} OwnState;

static Probe *probes = NULL;
static OwnState *own_states = NULL;

/* "http://host/path of kind "k"", for the log. */
static void
make_label(char *label, size_t size, QueueHandler *handler, QueueEndpoint *endpoint)
{
	int			url = (int) queue_text_fitting(endpoint->url, strcspn(endpoint->url, "?#"), 110);
	int			kind = (int) queue_text_fitting(handler->kind, strlen(handler->kind), 60);

	snprintf(label, size, "%.*s of kind \"%.*s\"", url, endpoint->url, kind, handler->kind);
}

/* A state of our own for an endpoint that found no place in shared memory; NULL: no memory. */
static QueueEndpointState *
own_state(uint64 key)
{
	OwnState   *own;

	for (own = own_states; own != NULL; own = own->next)
	{
		if (own->state.key == key)
			return &own->state;
	}
	own = calloc(1, sizeof(OwnState));
	if (own == NULL)
		return NULL;
	queue_endpoint_state_init(&own->state, MyDatabaseId, key);
	own->next = own_states;
	own_states = own;
	return &own->state;
}

/* Looks an endpoint's state up.  False: there is no memory for one. */
static bool
find_state(QueueEndpoint *endpoint)
{
	if (endpoint->state == NULL)
		endpoint->state = queue_endpoint_state_of(MyDatabaseId, endpoint->key, true);
	if (endpoint->state == NULL)
	{
		endpoint->state = own_state(endpoint->key);
		endpoint->unseen = true;
	}
	return endpoint->state != NULL;
}

static bool
usable(QueueEndpoint *endpoint)
{
	return find_state(endpoint) && endpoint->adopted && endpoint->weight > 0 &&
		(endpoint->health_url == NULL || pg_atomic_read_u32(&endpoint->state->healthy) != 0);
}

static bool
has_room(QueueEndpoint *endpoint)
{
	return endpoint->max_running == 0 ||
		pg_atomic_read_u32(&endpoint->state->in_flight) < (uint32) endpoint->max_running;
}

/* Is the endpoint's breaker to be tried out by the next request? */
static bool
is_due(QueueEndpoint *endpoint, TimestampTz now)
{
	QueueBreaker *breaker = &endpoint->state->breaker;

	return (breaker->state == QUEUE_BREAKER_OPEN && breaker->open_until <= now) ||
		(breaker->state == QUEUE_BREAKER_HALF_OPEN && breaker->probing == 0);
}

bool
queue_router_due(QueueHandler *handler, TimestampTz now)
{
	for (int i = 0; i < handler->conf->nendpoints; i++)
	{
		QueueEndpoint *endpoint = handler->conf->endpoints[i];

		if (usable(endpoint) && has_room(endpoint) && is_due(endpoint, now))
			return true;
	}
	return false;
}

QueueRoute
queue_router_pick(QueueHandler *handler, TimestampTz now, QueueEndpoint **endpoint)
{
	QueueHttpConf *conf = handler->conf;
	QueueEndpoint *best = NULL;
	bool		available = false;
	bool		healthy = false;
	bool		unseen = false;
	int			total = 0;
	int			n = 0;

	for (int i = 0; i < conf->nendpoints; i++)
	{
		QueueEndpoint *e = conf->endpoints[i];
		bool		changed;
		bool		allows;

		if (!usable(e))
		{
			unseen |= e->unseen;
			continue;
		}
		healthy = true;
		allows = queue_breaker_allows(&e->state->breaker, &e->breaker, now, &changed);
		if (changed)
		{
			char		label[200];

			make_label(label, sizeof(label), handler, e);
			queue_log("breaker", "breaker of %s: open -> half-open", label);
		}
		if (!allows)
			continue;
		available = true;
		if (!has_room(e))
			continue;
		if (is_due(e, now))
		{
			*endpoint = e;
			return QUEUE_ROUTE_GO;
		}
		e->current += e->weight;
		total += e->weight;
		if (best == NULL || e->current > best->current)
			best = e;
	}
	if (best != NULL)
	{
		best->current -= total;
		*endpoint = best;
		return QUEUE_ROUTE_GO;
	}
	if (!healthy)
		return unseen ? QUEUE_ROUTE_FULL : QUEUE_ROUTE_DOWN;	/* the scheduler would send the job again and again */
	if (available)
		return QUEUE_ROUTE_FULL;
	/* no breaker lets anything through: any one with room, at random */
	for (int i = 0; i < conf->nendpoints; i++)
	{
		QueueEndpoint *e = conf->endpoints[i];

		if (usable(e) && has_room(e) && pg_prng_double(&pg_global_prng_state) * ++n < 1)
			best = e;
	}
	if (best == NULL)
		return QUEUE_ROUTE_FULL;
	*endpoint = best;
	return QUEUE_ROUTE_GO;
}

void
queue_router_began(QueueRequest *request, QueueHandler *handler, QueueEndpoint *endpoint)
{
	request->endpoint = endpoint->state;
	request->breaker = endpoint->breaker;
	memcpy(request->complete_on, handler->conf->complete_on, sizeof(request->complete_on));
	memcpy(request->discard_on, handler->conf->discard_on, sizeof(request->discard_on));
	make_label(request->label, sizeof(request->label), handler, endpoint);
	request->probe = queue_breaker_began(&endpoint->state->breaker);
	pg_atomic_fetch_add_u32(&endpoint->state->in_flight, 1);
}

/* Nothing more is sent there until its health_url answered. */
static void
doubt_health(QueueRequest *request, TimestampTz now)
{
	QueueEndpointState *state = request->endpoint;

	if (pg_atomic_read_u32(&state->healthy) == 0)
		return;					/* nor is one that has no health_url ever healthy */
	pg_atomic_write_u32(&state->healthy, 0);
	pg_atomic_write_u32(&state->reported, 0);
	state->down_since = now;
	state->probes_failed = 0;
	pg_atomic_write_u64(&state->next_probe_at, (uint64) now);
	queue_log("endpoint_doubt", "endpoint %s is sent nothing until its health_url answers 200", request->label);
}

void
queue_router_ended(QueueRequest *request, TimestampTz now, bool aborted)
{
	QueueEndpointState *state = request->endpoint;
	QueueBreakerState before = state->breaker.state;

	queue_endpoint_lower(&state->in_flight);
	if (aborted)
	{
		queue_breaker_aborted(&state->breaker, request->probe);
		return;
	}
	pg_atomic_fetch_add_u64(request->endpoint_ok ? &state->succeeded : &state->failed, 1);
	if (request->code == CURLE_OK)
	{
		pg_atomic_fetch_add_u64(&state->answers, 1);
		pg_atomic_fetch_add_u64(&state->total_us, request->duration);
	}
	if (queue_breaker_ended(&state->breaker, &request->breaker, now, request->probe, request->endpoint_ok,
							pg_prng_double(&pg_global_prng_state)))
	{
		queue_log("breaker", "breaker of %s: %s -> %s", request->label, queue_breaker_word(before),
				  queue_breaker_word(state->breaker.state));
		if (state->breaker.state == QUEUE_BREAKER_OPEN)
			doubt_health(request, now);
	}
	if (request->unreachable)
		doubt_health(request, now);
}

/* ---- health ---- */

static void
free_probe(Probe *probe)
{
	free(probe->url);
	free(probe->ca_file);
	free(probe);
}

/* One endpoint with a health_url. */
static void
sync_one(QueueHandler *handler, QueueEndpoint *endpoint, TimestampTz now)
{
	Probe	   *probe;

	for (probe = probes; probe != NULL && probe->key != endpoint->key; probe = probe->next)
		;
	if (probe == NULL)
	{
		probe = calloc(1, sizeof(Probe));
		if (probe == NULL)
			return;
		probe->key = endpoint->key;
		probe->next = probes;
		probes = probe;
	}
	if (probe->url == NULL || strcmp(probe->url, endpoint->health_url) != 0)
	{
		free(probe->url);
		probe->url = strdup(endpoint->health_url);
	}
	free(probe->ca_file);
	probe->ca_file = handler->conf->ca_file != NULL ? strdup(handler->conf->ca_file) : NULL;
	make_label(probe->label, sizeof(probe->label), handler, endpoint);
	probe->connect_timeout = handler->conf->connect_timeout;
	probe->health_timeout = handler->conf->health_timeout;
	probe->state = endpoint->state;
	probe->seen = true;
	if (pg_atomic_read_u32(&probe->state->healthy) == 0 && pg_atomic_read_u64(&probe->state->next_probe_at) == 0)
	{
		probe->state->down_since = now;
		pg_atomic_write_u64(&probe->state->next_probe_at, (uint64) now);
	}
}

/* Frees our states of endpoints that are no more, with nothing under way. */
static void
forget_own_states(const uint64 *keys, int n)
{
	for (OwnState **link = &own_states; *link != NULL;)
	{
		OwnState   *own = *link;
		bool		keep = pg_atomic_read_u32(&own->state.in_flight) > 0;

		for (int i = 0; i < n && !keep; i++)
			keep = keys[i] == own->state.key;
		if (keep)
		{
			link = &own->next;
			continue;
		}
		*link = own->next;
		free(own);
	}
}

void
queue_router_sync(QueueConfig *config, TimestampTz now)
{
	Probe	  **link;
	uint64	   *keys;
	int			nkeys = 0;

	for (int i = 0; i < config->nhandlers; i++)
		nkeys += config->handlers[i]->http ? config->handlers[i]->conf->nendpoints : 0;
	keys = palloc((nkeys + 1) * sizeof(uint64));
	nkeys = 0;
	for (Probe *probe = probes; probe != NULL; probe = probe->next)
		probe->seen = false;
	for (int i = 0; i < config->nhandlers; i++)
	{
		QueueHandler *handler = config->handlers[i];

		for (int j = 0; handler->http && j < handler->conf->nendpoints; j++)
			keys[nkeys++] = handler->conf->endpoints[j]->key;
		if (!handler->http || !handler->adopted || handler->paused_at != 0 || !OidIsValid(handler->run_as_oid))
			continue;
		for (int j = 0; j < handler->conf->nendpoints; j++)
		{
			QueueEndpoint *endpoint = handler->conf->endpoints[j];

			if (endpoint->health_url == NULL || !endpoint->adopted || endpoint->weight == 0)
				continue;
			if (find_state(endpoint))
				sync_one(handler, endpoint, now);
		}
	}
	for (link = &probes; *link != NULL;)
	{
		Probe	   *probe = *link;

		if (probe->seen)
		{
			link = &probe->next;
			continue;
		}
		/* not asked any more */
		pg_atomic_write_u64(&probe->state->next_probe_at, 0);
		pg_atomic_write_u32(&probe->state->healthy, 0);
		if (probe->request != NULL)
			probe->request->owner = &probes;	/* nobody's: only to be freed */
		*link = probe->next;
		free_probe(probe);
	}
	queue_endpoint_keep(MyDatabaseId, keys, nkeys);
	forget_own_states(keys, nkeys);
}

/* When the next probe is after a failed one. */
static void
plan_probe(QueueEndpointState *state, TimestampTz now)
{
	pg_atomic_write_u64(&state->next_probe_at,
						(uint64) (now + queue_breaker_pause(PROBE_FIRST_US, PROBE_FACTOR, PROBE_JITTER, PROBE_CAP_US,
															state->probes_failed,
															pg_prng_double(&pg_global_prng_state))));
	state->probes_failed = Min(state->probes_failed + 1, 1000);
}

TimestampTz
queue_router_probe(TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	for (Probe *probe = probes; probe != NULL; probe = probe->next)
	{
		TimestampTz when = (TimestampTz) pg_atomic_read_u64(&probe->state->next_probe_at);

		if (probe->request != NULL || pg_atomic_read_u32(&probe->state->healthy) != 0)
			continue;
		if (when > now && when - now <= 2 * PROBE_CAP_US)
		{
			next = Min(next, when);
			continue;
		}
		probe->request = probe->url != NULL ? queue_request_take() : NULL;
		if (probe->request != NULL)
		{
			probe->request->owner = probe;
			probe->request->headers = curl_slist_append(NULL, "User-Agent: queue/" QUEUE_VERSION);
			if (queue_request_prepare(probe->request, probe->url, "GET", PROBE_TIMEOUT_US,
									  Min(probe->connect_timeout, PROBE_TIMEOUT_US), probe->ca_file))
				queue_transfer_start(probe->request);
			else
			{
				queue_request_release(probe->request);
				probe->request = NULL;
			}
		}
		if (probe->request == NULL)
		{
			plan_probe(probe->state, now);
			next = Min(next, (TimestampTz) pg_atomic_read_u64(&probe->state->next_probe_at));
		}
	}
	return next;
}

bool
queue_router_probed(QueueRequest *request, TimestampTz now)
{
	Probe	   *probe = request->owner;
	bool		up;

	if (request->owner == &probes)
		return false;
	up = request->status == 200 && (request->code == CURLE_OK || request->cut);
	probe->request = NULL;
	if (up)
	{
		pg_atomic_write_u64(&probe->state->next_probe_at, 0);
		pg_atomic_write_u32(&probe->state->healthy, 1);
		pg_atomic_write_u32(&probe->state->reported, 0);
		probe->state->probes_failed = 0;
		queue_log("endpoint_up", "endpoint %s is healthy", probe->label);
		return true;
	}
	plan_probe(probe->state, now);
	if (now - probe->state->down_since >= probe->health_timeout && pg_atomic_read_u32(&probe->state->reported) == 0)
	{
		pg_atomic_write_u32(&probe->state->reported, 1);
		queue_log("endpoint_down",
				  "endpoint %s has been down for " INT64_FORMAT " s: its health_url does not answer 200 (%s)",
				  probe->label, (now - probe->state->down_since) / USECS_PER_SEC,
				  request->error[0] != '\0' ? request->error : "another status");
	}
	return false;
}

void
queue_router_stop(void)
{
	for (Probe *probe = probes; probe != NULL; probe = probe->next)
	{
		if (probe->request == NULL)
			continue;
		queue_transfer_stop(probe->request);
		queue_request_release(probe->request);
		probe->request = NULL;
	}
}
