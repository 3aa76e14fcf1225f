/*
 * cron.c
 *		Lines of cron: reading them, and their ticks in a time zone.
 *
 * The grammar is pg_cron's: five fields with lists, ranges, steps and names, $ for the last day of the month, the words
 * from @hourly to @yearly, and "N seconds".
 *
 * A zone is walked by its stretches of one offset from UTC.  Within a stretch the wall clock is a plain sum, so a tick
 * is a search among the numbers of the line.  What a change of the clock does to a time of the day is decided between
 * two stretches, and only for lines that name times of the day (no * in minute and hour): a time that is left out ticks
 * at the first moment after the gap, one that comes again ticks the first time only.  PostgreSQL's own conversion from
 * local time will not do, because it gives one of two passes.
 *
 * Pure but for PostgreSQL's tables of time zones.
 */
#include "lib/cron.h"

#include <unistd.h>

#include "lib/text.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/datetime.h"

#define MINUTES_OF_DAY 1440
/* Enough for every line that ticks at all: 29 February on one day of the week comes after 40 years at most. */
#define HORIZON_S (INT64CONST(101) * 366 * SECS_PER_DAY)
/* No change of the clock goes back by more, so times before this have passed once and for all. */
#define LOOK_BACK_S (2 * (int64) SECS_PER_DAY)
#define NO_TIME PG_INT64_MAX

/* ---------------------------------------------------------------- reading a line */

typedef struct Field
{
	const char *name;
	int			low;
	int			high;
	const char *const *names;	/* of low, low + 1, .. */
	const char *hint;
} Field;

static const char *const month_names[] = {
	"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL
};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

enum
{
	OF_MINUTE, OF_HOUR, OF_DAY, OF_MONTH, OF_WEEKDAY, NFIELDS
};

static const Field fields[NFIELDS] = {
	{"minute", 0, 59, NULL, "A minute is a number from 0 to 59, such as 30, 0,30, 10-20 or */5."},
	{"hour", 0, 23, NULL, "An hour is a number from 0 to 23, such as 8, 8,20, 9-17 or */2."},
	{"day of month", 1, 31, NULL,
	"A day of the month is a number from 1 to 31, such as 1, 1,15 or 1-7; $ is the last one, * is any."},
	{"month", 1, 12, month_names, "A month is a number from 1 to 12 or a name from jan to dec; * is any."},
	{"day of week", 0, 7, weekday_names,
	"A day of the week is a number from 0 to 7 (0 and 7 are Sunday) or a name from sun to sat; * is any."},
};

/* A line being read. */
typedef struct Parser
{
	const char *line;
	const char *at;
	const Field *field;
	QueueCronError *wrong;
} Parser;

/* Notes what is wrong, at a place of the line; always false. */
static bool complain(Parser *parser, const char *at, const char *format,...) pg_attribute_printf(3, 4);

static bool
complain(Parser *parser, const char *at, const char *format,...)
{
	char		message[256];
	va_list		args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	parser->wrong->message = parser->field == NULL ? pstrdup(message) :
		psprintf("%s: %s", parser->field->name, message);
	parser->wrong->hint = parser->field == NULL ? NULL : parser->field->hint;
	parser->wrong->at = (int) (at - parser->line);
	return false;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A number without a sign, of one digit at least; one that is too large for any field stays so. */
static int
read_number(const char **at)
{
	int			value = 0;

	for (; is_digit(**at); (*at)++)
	{
		value = value * 10 + (**at - '0');
		value = Min(value, 1000000);
	}
	return value;
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void
skip_blanks(Parser *parser)
{
	while (is_blank(*parser->at))
		parser->at++;
}

/* The characters from `at` up to a separator, for a message; at least one character, if there is one. */
static int
word_length(const char *at)
{
	int			n = at[0] == '\0' ? 0 : pg_mblen(at);

	while (at[n] != '\0' && !is_blank(at[n]) && strchr(",/-", at[0]) == NULL && strchr(",/-", at[n]) == NULL && n < 40)
		n += pg_mblen(at + n);
	return n;
}

/* A number without a sign, or a name of the field. */
static bool
parse_value(Parser *parser, int *value)
{
	const char *from = parser->at;
	const Field *field = parser->field;

	*value = 0;
	if (is_digit(*from))
		*value = read_number(&parser->at);
	else if (is_letter(*from) && field->names != NULL)
	{
		int			i = 0;

		while (is_letter(*parser->at))
			parser->at++;
		while (field->names[i] != NULL &&
			   (parser->at - from != 3 || pg_strncasecmp(field->names[i], from, 3) != 0))
			i++;
		if (field->names[i] == NULL)
			return complain(parser, from, "\"%.*s\" is no name", (int) Min(parser->at - from, 40), from);
		*value = field->low + i;
	}
	else if (*from == '\0' || is_blank(*from))
		return complain(parser, from, "a value is missing");
	else
		return complain(parser, from, "\"%.*s\" is no value", word_length(from), from);
	if (*value < field->low || *value > field->high)
		return complain(parser, from, "%.*s is out of range", (int) Min(parser->at - from, 40), from);
	return true;
}

/* "/N" behind a range; *step stays 1 if there is none. */
static bool
parse_step(Parser *parser, int *step)
{
	const char *from = parser->at + 1;

	*step = 1;
	if (*parser->at != '/')
		return true;
	parser->at = from;
	if (!is_digit(*from))
		return complain(parser, from, "a step is a number of 1 or more");
	*step = read_number(&parser->at);
	if (*step == 0)
		return complain(parser, from, "a step must not be 0");
	return true;
}

/* One element of a field's list, into its set. */
static bool
parse_element(Parser *parser, uint64 *set)
{
	const Field *field = parser->field;
	const char *from = parser->at;
	int			low = field->low;
	int			high = field->high;
	int			step = 1;

	if (*parser->at == '*')
		parser->at++;
	else
	{
		if (!parse_value(parser, &low))
			return false;
		high = low;
		if (*parser->at == '/')
			return complain(parser, parser->at, "a step needs a range in front of it, such as %d-%d or *", low,
							field->high);
		if (*parser->at == '-')
		{
			const char *end = ++parser->at;

			if (!parse_value(parser, &high))
				return false;
			/* the week may end with its first day */
			if (field == &fields[OF_WEEKDAY] && high == 0 && is_letter(*end))
				high = 7;
			if (low > high)
				return complain(parser, from, "%.*s is a range that ends before it begins",
								(int) Min(parser->at - from, 40), from);
		}
	}
	if (!parse_step(parser, &step))
		return false;
	Assert(low >= 0 && high < 64);
	for (int i = low; i <= high; i += step)
		*set |= UINT64CONST(1) << i;
	return true;
}

/* One field: a list.  *star: has it a *?  *starts: does it begin with one?  *last: has it a $? */
static bool
parse_field(Parser *parser, const Field *field, uint64 *set, bool *star, bool *starts, bool *last)
{
	parser->field = field;
	*set = 0;
	*star = *last = false;
	skip_blanks(parser);
	if (*parser->at == '\0')
		return complain(parser, parser->at, "the field is missing");
	*starts = *parser->at == '*';
	for (;;)
	{
		*star |= *parser->at == '*';
		if (*parser->at == '$' && field == &fields[OF_DAY])
		{
			*last = true;
			parser->at++;
		}
		else if (!parse_element(parser, set))
			return false;
		if (*parser->at != ',')
			break;
		parser->at++;
	}
	if (*parser->at != '\0' && !is_blank(*parser->at))
		return complain(parser, parser->at, "unexpected \"%.*s\"", word_length(parser->at), parser->at);
	return true;
}

/* Does "30 seconds" stand there?  Then *seconds is the number. */
static bool
match_seconds(const char *line, int *seconds)
{
	if (!is_digit(*line))
		return false;
	*seconds = read_number(&line);
	while (is_blank(*line))
		line++;
	if (pg_strncasecmp(line, "second", 6) != 0)
		return false;
	line += 6;
	if (*line == 's' || *line == 'S')
		line++;
	while (is_blank(*line))
		line++;
	return *line == '\0';
}

/* @hourly and its like: the line that it stands for. */
static bool
expand_word(Parser *parser, const char **line)
{
	static const char *const words[][2] = {
		{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
		{"@daily", "0 0 * * *"}, {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
	};
	int			length = (int) strlen(parser->at);

	while (length > 0 && is_blank(parser->at[length - 1]))
		length--;
	for (int i = 0; i < lengthof(words); i++)
	{
		if (length == (int) strlen(words[i][0]) && pg_strncasecmp(parser->at, words[i][0], length) == 0)
		{
			*line = words[i][1];
			return true;
		}
	}
	(void) complain(parser, parser->at, "\"%.*s\" is no word for a schedule",
					(int) queue_text_fitting(parser->at, length, 40), parser->at);
	parser->wrong->hint = length == 7 && pg_strncasecmp(parser->at, "@reboot", 7) == 0 ?
		"Nothing ticks when the server starts; enqueue a job instead." :
		"Use @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually.";
	return false;
}

/* The most days that a month has. */
static int
most_days(int month)
{
	static const int days[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month];
}

/* Does a day of the month that the line names come in one of its months? */
static bool
some_day_comes(const QueueCron *cron)
{
	for (int month = 1; month <= MONTHS_PER_YEAR; month++)
	{
		uint32		days = cron->days & (uint32) ((UINT64CONST(2) << most_days(month)) - 1);

		if ((cron->months & (1U << month)) != 0 && days != 0)
			return true;
	}
	return cron->last_day;
}

bool
queue_cron_parse(const char *line, QueueCron *cron, QueueCronError *wrong)
{
	Parser		parser = {.line = line, .at = line, .wrong = wrong};
	uint64		sets[NFIELDS];
	bool		star[NFIELDS];
	bool		starts[NFIELDS];
	bool		last = false;
	const char *day = line;

	memset(cron, 0, sizeof(*cron));
	skip_blanks(&parser);
	if (*parser.at == '\0')
	{
		(void) complain(&parser, parser.at, "the line is empty");
		wrong->hint = "It has five fields, minute, hour, day of month, month and day of week, such as 0 3 * * *.";
		return false;
	}
	if (match_seconds(parser.at, &cron->seconds))
	{
		if (cron->seconds >= 1 && cron->seconds < SECS_PER_MINUTE)
			return true;
		(void) complain(&parser, parser.at, "seconds: %.*s is out of range", (int) strspn(parser.at, "0123456789"),
						parser.at);
		wrong->hint = "It is a number from 1 to 59; above that use minutes, such as */5 * * * *.";
		return false;
	}
	cron->seconds = 0;
	if (*parser.at == '@')
	{
		if (!expand_word(&parser, &parser.at))
			return false;
	}
	for (int i = 0; i < NFIELDS; i++)
	{
		bool		has_last;

		if (i == OF_DAY)
		{
			skip_blanks(&parser);
			day = parser.at;
		}
		if (!parse_field(&parser, &fields[i], &sets[i], &star[i], &starts[i], &has_last))
			return false;
		if (i == OF_DAY)
			last = has_last;
	}
	skip_blanks(&parser);
	parser.field = NULL;
	if (*parser.at != '\0')
	{
		(void) complain(&parser, parser.at, "unexpected \"%.*s\" behind the five fields", word_length(parser.at),
						parser.at);
		wrong->hint = "The fields are minute, hour, day of month, month and day of week; there is none for seconds.";
		return false;
	}
	cron->minutes = sets[OF_MINUTE];
	cron->hours = (uint32) sets[OF_HOUR];
	cron->days = (uint32) sets[OF_DAY];
	cron->months = (uint32) sets[OF_MONTH];
	cron->weekdays = (uint32) (sets[OF_WEEKDAY] & 0x7f) | ((sets[OF_WEEKDAY] & 0x80) != 0 ? 1 : 0);
	cron->last_day = last;
	cron->both = starts[OF_DAY] || starts[OF_WEEKDAY];
	cron->fixed = !star[OF_MINUTE] && !star[OF_HOUR];
	if (cron->both && !some_day_comes(cron))
	{
		parser.field = &fields[OF_DAY];
		(void) complain(&parser, day, "no such day comes in these months");
		wrong->hint = "February has 29 days at most, and April, June, September and November have 30; $ is the last "
			"day of any month.";
		return false;
	}
	return true;
}

char *
queue_cron_caret(const char *line, int at)
{
	int			column = pg_mbstrlen_with_len(line, at);
	char	   *blanks = palloc(column + 1);

	/* tabs stay tabs, so that the mark stands where the character stands */
	memset(blanks, ' ', column);
	blanks[column] = '\0';
	for (int i = 0; i < column && i < at; i++)
	{
		if (line[i] == '\t')
			blanks[i] = '\t';
	}
	return psprintf("At character %d:\n%s\n%s^", column + 1, line, blanks);
}

pg_tz *
queue_cron_zone(const char *name)
{
	static pg_tz *last = NULL;	/* many ask for the same one after the other */
	pg_tz	   *zone;
	int			fd;

	if (last != NULL && strcmp(name, pg_get_timezone_name(last)) == 0)
		return last;
	zone = strlen(name) <= TZ_STRLEN_MAX ? pg_tzset(name) : NULL;
	if (zone == NULL || !pg_tz_acceptable(zone))
		return NULL;
	/* pg_tzset takes rules like CET-1CEST too, which are no names */
	fd = queue_open_zone(pg_get_timezone_name(zone));
	if (fd < 0)
		return NULL;
	close(fd);
	return last = zone;
}

/* ---------------------------------------------------------------- ticks of the wall clock */

/*
 * Times of a wall clock are seconds since 1970-01-01 00:00 on that clock.
 */

/* A day of the wall clock, taken apart. */
typedef struct Day
{
	int			month;
	int			days_left;		/* of the month, this one too */
	bool		ticks;			/* is it a day of the line? */
} Day;

static Day
look_at_day(const QueueCron *cron, int64 day)
{
	int			julian = (int) (day + UNIX_EPOCH_JDATE);
	int			year;
	int			month;
	int			mday;
	int			length;
	bool		in_month;
	bool		in_week;

	j2date(julian, &year, &month, &mday);
	length = day_tab[isleap(year)][month - 1];
	in_month = (cron->days & (1U << mday)) != 0 || (cron->last_day && mday == length);
	in_week = (cron->weekdays & (1U << j2day(julian))) != 0;
	return (Day) {
		.month = month,
		.days_left = length - mday + 1,
		.ticks = (cron->months & (1U << month)) != 0 && (cron->both ? in_month && in_week : in_month || in_week)
	};
}

/* The first minute of a day from `from` on at which the line ticks; -1: none. */
static int
next_minute(const QueueCron *cron, int from)
{
	for (int hour = from / MINS_PER_HOUR; hour < HOURS_PER_DAY; hour++)
	{
		uint64		minutes = cron->minutes;

		if ((cron->hours & (1U << hour)) == 0)
			continue;
		if (hour == from / MINS_PER_HOUR)
			minutes &= ~((UINT64CONST(1) << (from % MINS_PER_HOUR)) - 1);
		if (minutes != 0)
			return hour * MINS_PER_HOUR + pg_rightmost_one_pos64(minutes);
	}
	return -1;
}

/* How many minutes of a day, from `from` on and before `until`, are the line's. */
static int
count_minutes(const QueueCron *cron, int from, int until)
{
	int			n = 0;

	if (from == 0 && until == MINUTES_OF_DAY)
		return pg_popcount64(cron->hours) * pg_popcount64(cron->minutes);
	for (int minute = from; (minute = next_minute(cron, minute)) >= 0 && minute < until; minute++)
	{
		n++;
		if (minute == MINUTES_OF_DAY - 1)
			break;
	}
	return n;
}

static int64
floor_div(int64 value, int64 by)
{
	int64		quotient = value / by;

	return value % by < 0 ? quotient - 1 : quotient;
}

/* Of a wall time its day, and the minute in it that it is at, or comes to next. */
static void
split_wall(int64 wall, int64 *day, int *minute)
{
	int64		minutes = floor_div(wall + SECS_PER_MINUTE - 1, SECS_PER_MINUTE);

	*day = floor_div(minutes, MINUTES_OF_DAY);
	*minute = (int) (minutes - *day * MINUTES_OF_DAY);
}

/* The first tick of the wall clock at or after `from` and before `until`; NO_TIME: none. */
static int64
next_wall(const QueueCron *cron, int64 from, int64 until)
{
	int64		day;
	int			minute;

	split_wall(from, &day, &minute);
	while (day * SECS_PER_DAY < until)
	{
		Day			what = look_at_day(cron, day);

		if (what.ticks && (minute = next_minute(cron, minute)) >= 0)
		{
			int64		wall = day * SECS_PER_DAY + minute * SECS_PER_MINUTE;

			return wall < until ? wall : NO_TIME;
		}
		day += (cron->months & (1U << what.month)) != 0 ? 1 : what.days_left;
		minute = 0;
	}
	return NO_TIME;
}

/* How many there are. */
static int64
count_walls(const QueueCron *cron, int64 from, int64 until)
{
	int64		n = 0;
	int64		day;
	int			minute;
	int64		last_day;
	int			last_minute;

	split_wall(from, &day, &minute);
	split_wall(until, &last_day, &last_minute);
	for (; day <= last_day; day++, minute = 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (look_at_day(cron, day).ticks)
			n += count_minutes(cron, minute, day == last_day ? last_minute : MINUTES_OF_DAY);
	}
	return n;
}

/* ---------------------------------------------------------------- stretches of one offset */

/* A walk along a zone, at one of its stretches; times are seconds since 1970 UTC. */
typedef struct Walk
{
	const pg_tz *zone;
	int64		from;
	int64		until;			/* NO_TIME: it does not end */
	int64		offset;			/* of the wall clock, in seconds */
	int64		passed;			/* the wall clock has shown all times before this */
	bool		first;			/* it began somewhere in the stretch */
} Walk;

/* Fills in the stretch that `from` lies in. */
static void
look_at_stretch(Walk *walk)
{
	pg_time_t	from = walk->from;
	pg_time_t	boundary;
	long int	before;
	long int	after;
	int			before_dst;
	int			after_dst;
	int			found = pg_next_dst_boundary(&from, &before, &before_dst, &boundary, &after, &after_dst, walk->zone);

	walk->offset = found < 0 ? 0 : before;
	walk->until = found > 0 ? boundary : NO_TIME;
}

static Walk
walk_begin(const pg_tz *zone, int64 at)
{
	Walk		walk = {.zone = zone, .from = at - LOOK_BACK_S, .first = true};

	look_at_stretch(&walk);
	walk.passed = walk.from + walk.offset;
	return walk;
}

/* On to the next stretch; false: there is none. */
static bool
walk_next(Walk *walk)
{
	if (walk->until == NO_TIME)
		return false;
	walk->passed = Max(walk->passed, walk->until + walk->offset);
	walk->from = walk->until;
	walk->first = false;
	look_at_stretch(walk);
	return true;
}

/* Where in the stretch the wall clock shows what this line has not ticked at yet. */
static int64
first_wall(const QueueCron *cron, const Walk *walk)
{
	int64		wall = walk->from + walk->offset;

	return cron->fixed ? Max(wall, walk->passed) : wall;
}

/* Does the line tick when the stretch begins, because the clock leaves out a time of the day that it names? */
static bool
gap_ticks(const QueueCron *cron, const Walk *walk)
{
	return cron->fixed && !walk->first && walk->passed < walk->from + walk->offset &&
		next_wall(cron, walk->passed, walk->from + walk->offset) != NO_TIME;
}

/* The wall clock at the end of the stretch, or at `at` if that comes before. */
static int64
wall_before(const Walk *walk, int64 at)
{
	return Min(walk->until, at) + walk->offset;
}

/* ---------------------------------------------------------------- ticks */

/* The whole second at or before a time. */
static int64
seconds_of(TimestampTz time)
{
	return floor_div(time, USECS_PER_SEC) + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY;
}

/* DT_NOEND: later than a timestamp can be. */
static TimestampTz
time_of(int64 seconds)
{
	int64		time = seconds - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY;

	return time < END_TIMESTAMP / USECS_PER_SEC ? time * USECS_PER_SEC : DT_NOEND;
}

TimestampTz
queue_cron_next(const QueueCron *cron, const pg_tz *zone, TimestampTz after)
{
	int64		at = seconds_of(after) + 1; /* at or after this whole second */
	int64		horizon = at + HORIZON_S;
	Walk		walk;

	if (cron->seconds > 0)
		return time_of(floor_div(at + cron->seconds - 1, cron->seconds) * cron->seconds);
	walk = walk_begin(zone, at);
	do
	{
		int64		wall;

		if (walk.until <= at)
			continue;
		if (walk.from >= at && gap_ticks(cron, &walk))
			return time_of(walk.from);
		wall = first_wall(cron, &walk);
		wall = next_wall(cron, Max(wall, at + walk.offset), wall_before(&walk, horizon));
		if (wall != NO_TIME)
			return time_of(wall - walk.offset);
	} while (walk.until < horizon && walk_next(&walk));
	return DT_NOEND;
}

int64
queue_cron_count(const QueueCron *cron, const pg_tz *zone, TimestampTz after, TimestampTz until)
{
	int64		at = seconds_of(after) + 1;
	int64		end = seconds_of(until) + 1;
	int64		n = 0;
	Walk		walk;

	if (end <= at)
		return 0;
	if (cron->seconds > 0)
		return floor_div(end - 1, cron->seconds) - floor_div(at - 1, cron->seconds);
	walk = walk_begin(zone, at);
	do
	{
		int64		wall = first_wall(cron, &walk);

		if (walk.until <= at)
			continue;
		if (walk.from >= at && gap_ticks(cron, &walk))
		{
			n++;
			wall = Max(wall, walk.from + walk.offset + 1);	/* a tick then is the same one */
		}
		n += count_walls(cron, Max(wall, at + walk.offset), wall_before(&walk, end));
	} while (walk.until < end && walk_next(&walk));
	return n;
}

TimestampTz
queue_cron_last(const QueueCron *cron, const pg_tz *zone, TimestampTz after, TimestampTz until)
{
	int64		span = USECS_PER_MINUTE;
	TimestampTz last = DT_NOBEGIN;
	TimestampTz from;

	if (cron->seconds > 0)
	{
		last = time_of(floor_div(seconds_of(until), cron->seconds) * cron->seconds);
		return last > after ? last : DT_NOBEGIN;
	}
	/* back in steps that double, until there is one; then forward to the last */
	for (;;)
	{
		from = until - after <= span ? after : until - span;
		if (queue_cron_count(cron, zone, from, until) > 0)
			break;
		if (from == after)
			return DT_NOBEGIN;
		span *= 2;
	}
	for (TimestampTz tick = queue_cron_next(cron, zone, from); tick <= until; tick = queue_cron_next(cron, zone, tick))
		last = tick;
	return last;
}
