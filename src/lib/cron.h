/*
 * cron.h
 *		Lines of cron: what they say, and when they tick.
 */
#ifndef QUEUE_CRON_H
#define QUEUE_CRON_H

#include "lib/queue.h"

#include "pgtime.h"
#include "utils/timestamp.h"

/* A line, read.  Sets are bits by their numbers. */
typedef struct QueueCron
{
	int			seconds;		/* ticks each time that this many have passed, counted from 1970 on; 0: by the sets */
	uint64		minutes;		/* 0 .. 59 */
	uint32		hours;			/* 0 .. 23 */
	uint32		days;			/* of the month, 1 .. 31 */
	uint32		months;			/* 1 .. 12 */
	uint32		weekdays;		/* 0 (Sunday) .. 6 */
	bool		last_day;		/* $: the last of the month too */
	bool		both;			/* a day must be in days and in weekdays; else one of them will do */
	bool		fixed;			/* no * in minute and hour: times of the day, each of which comes once a day */
} QueueCron;

/* What is wrong with a line. */
typedef struct QueueCronError
{
	char	   *message;		/* begins with the field */
	const char *hint;
	int			at;				/* byte of the line */
} QueueCronError;

/* Reads a line; false: *wrong, palloc'd. */
extern bool queue_cron_parse(const char *line, QueueCron *cron, QueueCronError *wrong);
/* The line with a mark under the byte that an error is about, for the DETAIL of a report. */
extern char *queue_cron_caret(const char *line, int at);

/* The time zone of a name of pg_timezone_names, in any case; NULL: there is none. */
extern pg_tz *queue_cron_zone(const char *name);

/* The first tick after a time; DT_NOEND: none comes. */
extern TimestampTz queue_cron_next(const QueueCron *cron, const pg_tz *zone, TimestampTz after);
/* How many ticks come after a time and not after another. */
extern int64 queue_cron_count(const QueueCron *cron, const pg_tz *zone, TimestampTz after, TimestampTz until);
/* The last of these; DT_NOBEGIN: there is none. */
extern TimestampTz queue_cron_last(const QueueCron *cron, const pg_tz *zone, TimestampTz after, TimestampTz until);

#endif
