/*
 * breaker.c
 *		The circuit breaker of an endpoint.
 *
 * Closed, it counts what ended in the present interval and opens at a failure rate (with
 * a minimum of requests) or after so many failures in a row.  Open, it lets nothing
 * through for a pause that grows with each opening.  Then half-open: a bounded number of
 * requests at once; enough successes close it, one failure opens it again.  What was sent
 * while it was open (when no endpoint was available, any is taken) does not move it.
 *
 * Pure: no server state but the struct that it is given; only its parser throws.  No locks:
 * one process, the http worker, changes a breaker; others read single words of it.
 */
#include "lib/breaker.h"

#include <math.h>


const QueueBreakerConf queue_breaker_default = {
	.interval = USECS_PER_MINUTE,
	.failure_rate = 0.7,
	.min_requests = 10,
	.consecutive_failures = 10,
	.pause = USECS_PER_SEC / 2,
	.factor = 1.5,
	.jitter = 0.5,
	.cap = USECS_PER_MINUTE,
	.probes = 4,
	.successes = 4
};

/* Complains about one key of the option. */
static bool
bad_value(const char *key, const char *what, QueueComplaint *wrong)
{
	return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
						  "Example: {\"failure_rate\": 0.7, \"min_requests\": 10, \"consecutive_failures\": 10, "
						  "\"interval\": \"1 min\", \"pause\": \"0.5 s\", \"factor\": 1.5, \"jitter\": 0.5, \"cap\": "
						  "\"1 min\", \"probes\": 4, \"successes\": 4}.",
						  "breaker: \"%s\" must be %s", key, what);
}

/* One key of the option that is a number. */
typedef struct Number
{
	const char *key;
	size_t		place;			/* in QueueBreakerConf */
	bool		whole;			/* an int there, else a double */
	double		min;
	double		max;
	const char *what;
} Number;

static const Number numbers[] = {
	{"failure_rate", offsetof(QueueBreakerConf, failure_rate), false, 0.01, 1, "a number from 0.01 to 1"},
	{"min_requests", offsetof(QueueBreakerConf, min_requests), true, 1, 1000000, "a number from 1 to 1000000"},
	{"consecutive_failures", offsetof(QueueBreakerConf, consecutive_failures), true, 0, 1000000,
	 "a number from 0 (never) to 1000000"},
	{"factor", offsetof(QueueBreakerConf, factor), false, 1, 100, "a number from 1 to 100"},
	{"jitter", offsetof(QueueBreakerConf, jitter), false, 0, 1, "a number from 0 to 1"},
	{"probes", offsetof(QueueBreakerConf, probes), true, 1, 1000, "a number from 1 to 1000"},
	{"successes", offsetof(QueueBreakerConf, successes), true, 1, 1000, "a number from 1 to 1000"},
};

/* Those that are an interval. */
static const struct
{
	const char *key;
	size_t		place;
}			pauses[] = {
	{"interval", offsetof(QueueBreakerConf, interval)},
	{"pause", offsetof(QueueBreakerConf, pause)},
	{"cap", offsetof(QueueBreakerConf, cap)},
};

static bool
read_number(const Number *number, const JsonbValue *value, QueueBreakerConf *conf, QueueComplaint *wrong)
{
	double		read;
	void	   *place = (char *) conf + number->place;

	if (!queue_option_number(value, &read) || !(read >= number->min && read <= number->max))
		return bad_value(number->key, number->what, wrong);
	if (number->whole)
		*(int *) place = (int) read;
	else
		*(double *) place = read;
	return true;
}

static bool
read_pause(const char *key, const JsonbValue *value, int64 *us, QueueComplaint *wrong)
{
	char	   *text;

	if (!queue_option_interval(value, us, &text))
		return bad_value(key, "an interval such as \"0.5 s\"", wrong);
	if (*us <= 0 || *us > 366 * USECS_PER_DAY)
		return bad_value(key, "an interval above 0", wrong);
	return true;
}

/* One member of the object. */
static bool
read_member(const char *key, const JsonbValue *value, QueueBreakerConf *conf, QueueComplaint *wrong)
{
	for (int i = 0; i < lengthof(numbers); i++)
	{
		if (strcmp(key, numbers[i].key) == 0)
			return read_number(&numbers[i], value, conf, wrong);
	}
	for (int i = 0; i < lengthof(pauses); i++)
	{
		if (strcmp(key, pauses[i].key) == 0)
			return read_pause(key, value, (int64 *) ((char *) conf + pauses[i].place), wrong);
	}
	return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
						  "It has interval, failure_rate, min_requests, consecutive_failures, pause, factor, jitter, "
						  "cap, probes and successes.",
						  "breaker has no setting \"%s\"", key);
}

bool
queue_breaker_read(Jsonb *json, QueueBreakerConf *conf, QueueComplaint *wrong)
{
	JsonbIterator *it;
	JsonbValue	value;
	char	   *key;

	*conf = queue_breaker_default;
	if (!JB_ROOT_IS_OBJECT(json))
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Example: {\"failure_rate\": 0.7, \"min_requests\": 10}.",
							  "breaker must be a JSON object");
	it = JsonbIteratorInit(&json->root);
	while (queue_option_next(&it, &key, &value))
	{
		if (!read_member(key, &value, conf, wrong))
		{
			*conf = queue_breaker_default;
			return false;
		}
	}
	return true;
}

QueueBreakerConf
queue_breaker_parse(Jsonb *json)
{
	QueueBreakerConf conf;
	QueueComplaint wrong;

	if (!queue_breaker_read(json, &conf, &wrong))
		queue_complaint_raise(&wrong);
	return conf;
}

int64
queue_breaker_pause(int64 first, double factor, double jitter, int64 cap, int n, double random)
{
	double		pause = (double) first * pow(factor, Min(n, 200));

	pause = Min(pause, (double) cap);
	return (int64) Max(1000.0, pause * (1 + jitter * (2 * random - 1)));
}

bool
queue_breaker_allows(QueueBreaker *breaker, const QueueBreakerConf *conf, TimestampTz now, bool *changed)
{
	*changed = false;
	if (breaker->state == QUEUE_BREAKER_CLOSED)
		return true;
	if (breaker->state == QUEUE_BREAKER_OPEN)
	{
		/* the second comparison: the clock was set back */
		if (now < breaker->open_until && breaker->open_until - now <= 2 * conf->cap)
			return false;
		breaker->state = QUEUE_BREAKER_HALF_OPEN;
		breaker->probing = 0;
		breaker->succeeded = 0;
		*changed = true;
	}
	return breaker->probing < conf->probes;
}

bool
queue_breaker_began(QueueBreaker *breaker)
{
	if (breaker->state != QUEUE_BREAKER_HALF_OPEN)
		return false;
	breaker->probing++;
	return true;
}

/* Opens it for a pause that has grown with the openings in a row. */
static void
open_it(QueueBreaker *breaker, const QueueBreakerConf *conf, TimestampTz now, double random)
{
	breaker->state = QUEUE_BREAKER_OPEN;
	breaker->open_until = now + queue_breaker_pause(conf->pause, conf->factor, conf->jitter, conf->cap,
													breaker->openings, random);
	breaker->openings = Min(breaker->openings + 1, 1000);
	breaker->probing = 0;
	breaker->succeeded = 0;
}

bool
queue_breaker_ended(QueueBreaker *breaker, const QueueBreakerConf *conf, TimestampTz now, bool probe, bool success,
					double random)
{
	breaker->consecutive = success ? 0 : Min(breaker->consecutive + 1, 1000000);
	switch (breaker->state)
	{
		case QUEUE_BREAKER_CLOSED:
			if (now < breaker->window_start || now - breaker->window_start >= conf->interval)
			{
				breaker->window_start = now;
				breaker->requests = breaker->failures = 0;
			}
			breaker->requests++;
			if (success)
				return false;
			breaker->failures++;
			if ((breaker->requests >= conf->min_requests &&
				 breaker->failures >= conf->failure_rate * breaker->requests) ||
				(conf->consecutive_failures > 0 && breaker->consecutive >= conf->consecutive_failures))
			{
				open_it(breaker, conf, now, random);
				return true;
			}
			return false;
		case QUEUE_BREAKER_HALF_OPEN:
			if (!probe)
				return false;	/* sent before it opened: an old story */
			breaker->probing = Max(breaker->probing - 1, 0);
			if (!success)
			{
				open_it(breaker, conf, now, random);
				return true;
			}
			if (++breaker->succeeded < conf->successes)
				return false;
			breaker->state = QUEUE_BREAKER_CLOSED;
			breaker->window_start = now;
			breaker->requests = breaker->failures = breaker->consecutive = 0;
			breaker->openings = 0;
			return true;
		case QUEUE_BREAKER_OPEN:
			break;
	}
	return false;
}

void
queue_breaker_aborted(QueueBreaker *breaker, bool probe)
{
	if (probe && breaker->state == QUEUE_BREAKER_HALF_OPEN)
		breaker->probing = Max(breaker->probing - 1, 0);
}

const char *
queue_breaker_word(QueueBreakerState state)
{
	return state == QUEUE_BREAKER_CLOSED ? "closed" : state == QUEUE_BREAKER_OPEN ? "open" : "half-open";
}
