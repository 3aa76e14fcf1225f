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

#include "common/pg_prng.h"

#define MAX_DELAY ((double) USECS_PER_DAY * 365250.0)	/* 1000 years */

const QueueBackoff queue_backoff_default = {
	.type = QUEUE_BACKOFF_POLYNOMIAL,
	.base = 15 * USECS_PER_SEC,
	.factor = 2,
	.cap = 0,
	.jitter = 0.1
};

/* A backoff member that must be an interval written as a string, at least 0. */
static bool
read_interval(const char *name, const JsonbValue *value, int64 *us, QueueComplaint *wrong)
{
	char	   *text;

	if (!queue_option_interval(value, us, &text))
	{
		if (text != NULL)
			return queue_complain(wrong, ERRCODE_INVALID_DATETIME_FORMAT,
								  psprintf("Write backoff member \"%s\" like \"15 s\".", name),
								  "invalid input syntax for type interval: \"%s\"", text);
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Write it like {\"type\": \"fixed\", \"base\": \"15 s\"}.",
							  "backoff member \"%s\" must be an interval in a string", name);
	}
	if (*us < 0 || *us > (int64) MAX_DELAY)
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE, "It is an interval from 0 to 1000 years.",
							  "backoff member \"%s\" is out of range: %s", name, text);
	return true;
}

/* A backoff member that must be a number in a range. */
static bool
read_number(const char *name, const JsonbValue *value, double min, double max, double *number, QueueComplaint *wrong)
{
	if (!queue_option_number(value, number))
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Write it like {\"type\": \"exponential\", \"base\": \"1 s\", \"factor\": 2}.",
							  "backoff member \"%s\" must be a number", name);
	if (*number < min || *number > max)
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
							  psprintf("It is a number from %g to %g.", min, max),
							  "backoff member \"%s\" is out of range: %g", name, *number);
	return true;
}

/* The member "type". */
static bool
read_type(const JsonbValue *value, QueueBackoffType *type, QueueComplaint *wrong)
{
	static const char *const names[] = {
		[QUEUE_BACKOFF_POLYNOMIAL] = "polynomial",
		[QUEUE_BACKOFF_EXPONENTIAL] = "exponential",
		[QUEUE_BACKOFF_LINEAR] = "linear",
		[QUEUE_BACKOFF_FIXED] = "fixed"
	};
	char	   *name = value->type == jbvString ?
		pnstrdup(value->val.string.val, value->val.string.len) : pstrdup("");

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
		{
			*type = (QueueBackoffType) i;
			return true;
		}
	}
	return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE, "Use polynomial, exponential, linear or fixed.",
						  "unknown backoff type \"%s\"", name);
}

/* One member of the object. */
static bool
read_member(const char *name, const JsonbValue *value, QueueBackoff *backoff, bool *cap_given, QueueComplaint *wrong)
{
	if (strcmp(name, "type") == 0)
		return read_type(value, &backoff->type, wrong);
	if (strcmp(name, "base") == 0)
		return read_interval(name, value, &backoff->base, wrong);
	if (strcmp(name, "factor") == 0)
		return read_number(name, value, 1, 1000, &backoff->factor, wrong);
	if (strcmp(name, "jitter") == 0)
		return read_number(name, value, 0, 1, &backoff->jitter, wrong);
	if (strcmp(name, "cap") != 0)
		return queue_complain(wrong, ERRCODE_UNDEFINED_OBJECT, "The members are type, base, factor, cap and jitter.",
							  "unknown backoff member \"%s\"", name);
	*cap_given = true;
	if (!read_interval(name, value, &backoff->cap, wrong))
		return false;
	if (backoff->cap == 0)
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Leave it out for the default, 1 day (none for polynomial).",
							  "backoff member \"cap\" must be more than 0");
	return true;
}

/* Called when the configuration is read: a bad one parks its row. */
bool
queue_backoff_read(Jsonb *json, QueueBackoff *backoff, QueueComplaint *wrong)
{
	bool		cap_given = false;
	JsonbIterator *it;
	JsonbValue	value;
	char	   *name;

	*backoff = queue_backoff_default;
	if (!JB_ROOT_IS_OBJECT(json))
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE,
							  "Write it like {\"type\": \"fixed\", \"base\": \"15 s\"}.",
							  "backoff must be a JSON object");
	it = JsonbIteratorInit(&json->root);
	while (queue_option_next(&it, &name, &value))
	{
		if (!read_member(name, &value, backoff, &cap_given, wrong))
		{
			*backoff = queue_backoff_default;
			return false;
		}
	}
	if (!cap_given && backoff->type != QUEUE_BACKOFF_POLYNOMIAL)
		backoff->cap = USECS_PER_DAY;
	return true;
}

/* Called when a queue or handler is written, to refuse a bad one. */
QueueBackoff
queue_backoff_parse(Jsonb *json)
{
	QueueBackoff backoff;
	QueueComplaint wrong;

	if (!queue_backoff_read(json, &backoff, &wrong))
		queue_complaint_raise(&wrong);
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
