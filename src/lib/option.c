/*
 * option.c
 *		Members of a JSON option: read without raising an error, so that who reads a table can park its row instead.
 *
 * The text of an interval is read in one style. With the session's IntervalStyle what one session wrote would mean
 * something else in another, or nothing at all.
 *
 * Pure: no server state.
 */
#include "lib/option.h"

#include <math.h>

#include "common/int.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/numeric.h"

bool
queue_complain(QueueComplaint *wrong, int sqlstate, const char *hint, const char *format,...)
{
	StringInfoData message;
	int			needed = 0;

	initStringInfo(&message);
	do
	{
		va_list		args;

		if (needed > 0)
			enlargeStringInfo(&message, needed);
		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
	} while (needed > 0);
	wrong->sqlstate = sqlstate;
	wrong->message = message.data;
	wrong->hint = hint == NULL ? NULL : pstrdup(hint);
	return false;
}

void
queue_complaint_raise(const QueueComplaint *wrong)
{
	ereport(ERROR,
			(errcode(wrong->sqlstate),
			 errmsg("%s", wrong->message),
			 wrong->hint != NULL ? errhint("%s", wrong->hint) : 0));
	pg_unreachable();
}

/* Behind JsonbIteratorInit of an object; for who reads options, filters and whatever else has names. */
bool
queue_option_next(JsonbIterator **it, char **name, JsonbValue *value)
{
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(it, value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			*name = pnstrdup(value->val.string.val, value->val.string.len);
		else if (token == WJB_VALUE)
			return true;
	}
	return false;
}

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

/* Reads an interval as interval_in does with IntervalStyle postgres, but raises nothing. */
static bool
read_interval(const char *text, Interval *interval)
{
	char		buffer[256];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nf;
	int			dtype = DTK_DELTA;
	int			style = IntervalStyle;
	int			error;
	struct pg_itm_in parts = {0};
	char	   *again = pstrdup(text);	/* nothing throws below */

	IntervalStyle = INTSTYLE_POSTGRES;
	error = ParseDateTime(text, buffer, sizeof(buffer), field, ftype, MAXDATEFIELDS, &nf);
	if (error == 0)
		error = DecodeInterval(field, ftype, nf, INTERVAL_FULL_RANGE, &dtype, &parts);
	if (error == DTERR_BAD_FORMAT)
		error = DecodeISO8601Interval(again, &dtype, &parts);
	IntervalStyle = style;
	return error == 0 && dtype == DTK_DELTA && itmin2interval(&parts, interval) == 0;
}

bool
queue_option_interval(const JsonbValue *value, int64 *us, char **text)
{
	Interval	interval;

	*text = NULL;
	if (value->type != jbvString)
		return false;
	*text = pnstrdup(value->val.string.val, value->val.string.len);
	if (!read_interval(*text, &interval))
		return false;
	*us = queue_interval_us(&interval);
	return true;
}

bool
queue_option_number(const JsonbValue *value, double *number)
{
	if (value->type != jbvNumeric)
		return false;
	*number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
	return !isnan(*number);
}
