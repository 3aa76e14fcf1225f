/*
 * option.h
 *		Members of a JSON option: read without raising an error, so that who reads a table can park its row instead.
 */
#ifndef QUEUE_OPTION_H
#define QUEUE_OPTION_H

#include "lib/queue.h"

#include "utils/jsonb.h"

/* What is wrong with an option. */
typedef struct QueueComplaint
{
	int			sqlstate;
	char	   *message;
	char	   *hint;
} QueueComplaint;

/* Fills it in, message as for psprintf; always false. */
extern bool queue_complain(QueueComplaint *wrong, int sqlstate, const char *hint, const char *format,...)
			pg_attribute_printf(4, 5);
extern void queue_complaint_raise(const QueueComplaint *wrong) pg_attribute_noreturn();

/* An interval in microseconds (a month is 30 days); out of range: PG_INT64_MAX or PG_INT64_MIN. */
extern int64 queue_interval_us(const Interval *interval);
/* An interval in a JSON string, in microseconds; whatever IntervalStyle is set to here, it says the same. */
extern bool queue_option_interval(const JsonbValue *value, int64 *us, char **text);
/* The next member of an object, its name copied; false: there is none. */
extern bool queue_option_next(JsonbIterator **it, char **name, JsonbValue *value);
/* A JSON number; false if it is none or no double can hold it. */
extern bool queue_option_number(const JsonbValue *value, double *number);

#endif
