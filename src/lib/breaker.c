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

#include "lib/backoff.h"
#include "lib/text.h"

#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

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

/* 22023 about one key of the option. */
static void
bad_value(const char *key, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("breaker: \"%s\" must be %s", key, what),
			 errhint("Example: {\"failure_rate\": 0.7, \"min_requests\": 10, \"consecutive_failures\": 10, \"interval\": \"1 min\", \"pause\": \"0.5 s\", \"factor\": 1.5, \"jitter\": 0.5, \"cap\": \"1 min\", \"probes\": 4, \"successes\": 4}.")));
}

static double
read_number(const char *key, JsonbValue *value, double min, double max, const char *what)
{
	double		number;

	if (value->type != jbvNumeric)
		bad_value(key, what);
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	if (!(number >= min && number <= max))
		bad_value(key, what);
	return number;
}

static int64
read_pause(const char *key, JsonbValue *value)
{
	char	   *text;
	int64		us;

	if (value->type != jbvString)
		bad_value(key, "an interval such as \"0.5 s\"");
	text = pnstrdup(value->val.string.val, value->val.string.len);
	us = queue_interval_us(DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
																 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
	if (us <= 0 || us > 366 * USECS_PER_DAY)
		bad_value(key, "an interval above 0");
	return us;
}

QueueBreakerConf
queue_breaker_parse(Jsonb *json)
{
	QueueBreakerConf conf = queue_breaker_default;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	char		key[32] = "";

	if (json == NULL)
		return conf;
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("breaker must be a JSON object"),
				 errhint("Example: {\"failure_rate\": 0.7, \"min_requests\": 10}.")));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			size_t		fitting = queue_text_fitting(value.val.string.val, value.val.string.len, sizeof(key) - 1);

			memcpy(key, value.val.string.val, fitting);
			key[fitting] = '\0';
		}
		if (token != WJB_VALUE)
			continue;
		if (strcmp(key, "interval") == 0)
			conf.interval = read_pause(key, &value);
		else if (strcmp(key, "failure_rate") == 0)
			conf.failure_rate = read_number(key, &value, 0.01, 1, "a number from 0.01 to 1");
		else if (strcmp(key, "min_requests") == 0)
			conf.min_requests = (int) read_number(key, &value, 1, 1000000, "a number from 1 to 1000000");
		else if (strcmp(key, "consecutive_failures") == 0)
			conf.consecutive_failures = (int) read_number(key, &value, 0, 1000000, "a number from 0 (never) to 1000000");
		else if (strcmp(key, "pause") == 0)
			conf.pause = read_pause(key, &value);
		else if (strcmp(key, "factor") == 0)
			conf.factor = read_number(key, &value, 1, 100, "a number from 1 to 100");
		else if (strcmp(key, "jitter") == 0)
			conf.jitter = read_number(key, &value, 0, 1, "a number from 0 to 1");
		else if (strcmp(key, "cap") == 0)
			conf.cap = read_pause(key, &value);
		else if (strcmp(key, "probes") == 0)
			conf.probes = (int) read_number(key, &value, 1, 1000, "a number from 1 to 1000");
		else if (strcmp(key, "successes") == 0)
			conf.successes = (int) read_number(key, &value, 1, 1000, "a number from 1 to 1000");
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("breaker has no setting \"%s\"", key),
					 errhint("It has interval, failure_rate, min_requests, consecutive_failures, pause, factor, jitter, cap, probes and successes.")));
	}
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
