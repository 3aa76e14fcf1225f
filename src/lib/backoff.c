/*
 * backoff.c
 *		Reads a backoff setting and computes how long a failed job waits.
 *
 * Owns the one place that knows the default: failures^4 + 15 s with 10 % jitter, as
 * Que, River and Sidekiq have it (25 attempts take about 20 days).  Pure: no server
 * state, no shared memory, no tables.
 */
#include "lib/backoff.h"

#include <math.h>

#include "common/int.h"
#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define MAX_DELAY ((double) USECS_PER_DAY * 365250.0)	/* 1000 years */

const QueueBackoff queue_backoff_default = {
	.type = QUEUE_BACKOFF_POLYNOMIAL,
	.base = 15 * USECS_PER_SEC,
	.factor = 2,
	.cap = 0,
	.jitter = 0.1
};

/*
 * An interval in microseconds, a month counted as 30 days, as PostgreSQL's own
 * interval comparison does.  Infinite or overflowing values come back as
 * PG_INT64_MAX or PG_INT64_MIN.
 */
int64
queue_interval_us(const Interval *interval)
{
	int64		days;
	int64		us;

	if (pg_mul_s64_overflow(interval->month, DAYS_PER_MONTH, &days) ||
		pg_add_s64_overflow(days, interval->day, &days) ||
		pg_mul_s64_overflow(days, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us))
		return interval->month < 0 || (interval->month == 0 && interval->day < 0) ? PG_INT64_MIN : PG_INT64_MAX;
	return us;
}

/* A backoff member that must be an interval written as a string, at least 0. */
static int64
backoff_interval(const char *name, JsonbValue *value)
{
	char	   *text;
	Interval   *interval;
	int64		us;

	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff member \"%s\" must be an interval in a string", name),
				 errhint("Write it like {\"type\": \"fixed\", \"base\": \"15 s\"}.")));
	text = pnstrdup(value->val.string.val, value->val.string.len);
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
													 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	us = queue_interval_us(interval);
	if (us < 0 || us > (int64) MAX_DELAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff member \"%s\" is out of range: %s", name, text),
				 errhint("It is an interval from 0 to 1000 years.")));
	return us;
}

/* A backoff member that must be a number in a range. */
static double
backoff_number(const char *name, JsonbValue *value, double min, double max)
{
	double		number;

	if (value->type != jbvNumeric)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff member \"%s\" must be a number", name),
				 errhint("Write it like {\"type\": \"exponential\", \"base\": \"1 s\", \"factor\": 2}.")));
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	if (isnan(number) || number < min || number > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff member \"%s\" is out of range: %g", name, number),
				 errhint("It is a number from %g to %g.", min, max)));
	return number;
}

/*
 * Reads a backoff object.  Called when a queue or handler is written (to
 * refuse a bad one) and when the configuration is read.
 */
QueueBackoff
queue_backoff_parse(Jsonb *json)
{
	QueueBackoff backoff = queue_backoff_default;
	bool		cap_given = false;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff must be a JSON object"),
				 errhint("Write it like {\"type\": \"fixed\", \"base\": \"15 s\"}.")));

	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (strcmp(name, "type") == 0)
		{
			char	   *type = value.type == jbvString ?
				pnstrdup(value.val.string.val, value.val.string.len) : pstrdup("");

			if (strcmp(type, "polynomial") == 0)
				backoff.type = QUEUE_BACKOFF_POLYNOMIAL;
			else if (strcmp(type, "exponential") == 0)
				backoff.type = QUEUE_BACKOFF_EXPONENTIAL;
			else if (strcmp(type, "linear") == 0)
				backoff.type = QUEUE_BACKOFF_LINEAR;
			else if (strcmp(type, "fixed") == 0)
				backoff.type = QUEUE_BACKOFF_FIXED;
			else
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("unknown backoff type \"%s\"", type),
						 errhint("Use polynomial, exponential, linear or fixed.")));
		}
		else if (strcmp(name, "base") == 0)
			backoff.base = backoff_interval(name, &value);
		else if (strcmp(name, "cap") == 0)
		{
			backoff.cap = backoff_interval(name, &value);
			if (backoff.cap == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("backoff member \"cap\" must be more than 0"),
						 errhint("Leave it out for the default, 1 day (none for polynomial).")));
			cap_given = true;
		}
		else if (strcmp(name, "factor") == 0)
			backoff.factor = backoff_number(name, &value, 1, 1000);
		else if (strcmp(name, "jitter") == 0)
			backoff.jitter = backoff_number(name, &value, 0, 1);
		else
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("unknown backoff member \"%s\"", name),
					 errhint("The members are type, base, factor, cap and jitter.")));
	}
	if (!cap_given && backoff.type != QUEUE_BACKOFF_POLYNOMIAL)
		backoff.cap = USECS_PER_DAY;
	return backoff;
}

/* In numbers alone, so that reading it back depends on no setting and never raises an error. */
char *
queue_backoff_text(const QueueBackoff *backoff)
{
	return psprintf("%d " INT64_FORMAT " %.17g " INT64_FORMAT " %.17g", (int) backoff->type, backoff->base,
					backoff->factor, backoff->cap, backoff->jitter);
}

bool
queue_backoff_of_text(const char *text, QueueBackoff *backoff)
{
	int			type;

	if (sscanf(text, "%d " INT64_FORMAT " %lf " INT64_FORMAT " %lf", &type, &backoff->base, &backoff->factor,
			   &backoff->cap, &backoff->jitter) != 5 ||
		type < QUEUE_BACKOFF_POLYNOMIAL || type > QUEUE_BACKOFF_FIXED || backoff->base < 0 || backoff->cap < 0 ||
		!(backoff->factor >= 1 && backoff->factor <= 1000) || !(backoff->jitter >= 0 && backoff->jitter <= 1))
		return false;
	backoff->type = (QueueBackoffType) type;
	return true;
}

/*
 * The wait after this many failures, in microseconds.  In floating point throughout,
 * so that no count of failures overflows.
 */
int64
queue_backoff_delay(const QueueBackoff *backoff, int failures)
{
	double		n = Max(failures, 1);
	double		delay = (double) backoff->base;

	switch (backoff->type)
	{
		case QUEUE_BACKOFF_POLYNOMIAL:
			delay += n * n * n * n * USECS_PER_SEC;
			break;
		case QUEUE_BACKOFF_EXPONENTIAL:
			if (delay > 0)		/* pow() may be infinite, and 0 times that is no number */
				delay *= pow(backoff->factor, n - 1);
			break;
		case QUEUE_BACKOFF_LINEAR:
			delay *= n;
			break;
		case QUEUE_BACKOFF_FIXED:
			break;
	}
	if (backoff->cap > 0 && !(delay < (double) backoff->cap))
		delay = (double) backoff->cap;
	if (backoff->jitter > 0)
		delay *= 1 + backoff->jitter * (2 * pg_prng_double(&pg_global_prng_state) - 1);
	return (int64) Min(Max(delay, 0), MAX_DELAY);
}
