/*
 * stubs.c
 *		What the fuzzed files need of the server: memory that is given back after each input, UTF-8, and a time zone that
 *		changes its clock twice a year.
 */
#include "postgres.h"

#include "fuzz.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

volatile sig_atomic_t InterruptPending = false;

typedef struct Piece
{
	struct Piece *next;
} Piece;

static Piece *pieces = NULL;		/* of the input at hand */

void *
palloc(Size size)
{
	Piece	   *piece = malloc(sizeof(Piece) + 8 + size);

	piece->next = pieces;
	pieces = piece;
	return (char *) piece + sizeof(Piece) + 8;
}

/* Only for what was allocated last, or the address sanitizer would see nothing of the rest. */
void
pfree(void *pointer)
{
	Piece	   *piece = (Piece *) ((char *) pointer - sizeof(Piece) - 8);

	for (Piece **link = &pieces; *link != NULL; link = &(*link)->next)
	{
		if (*link == piece)
		{
			*link = piece->next;
			free(piece);
			return;
		}
	}
	abort();
}

void
fuzz_end(void)
{
	while (pieces != NULL)
	{
		Piece	   *piece = pieces;

		pieces = piece->next;
		free(piece);
	}
}

char *
pstrdup(const char *text)
{
	return strcpy(palloc(strlen(text) + 1), text);
}

char *
psprintf(const char *format,...)
{
	va_list		args;
	char	   *text = palloc(4096);

	va_start(args, format);
	(void) pg_vsnprintf(text, 4096, format, args);
	va_end(args);
	return text;
}

int
pg_mblen(const char *text)
{
	return pg_utf_mblen((const unsigned char *) text);
}

int
pg_mbstrlen_with_len(const char *text, int limit)
{
	int			n = 0;

	for (const char *at = text; at < text + limit && *at != '\0'; at += pg_mblen(at))
		n++;
	return n;
}

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

int
pg_mbcliplen(const char *text, int length, int limit)
{
	int			n = 0;

	while (n < length && text[n] != '\0' && n + pg_mblen(text + n) <= limit)
		n += pg_mblen(text + n);
	return n;
}

void
ProcessInterrupts(void)
{
}

/* ---- time ---- */

#define HALF (182 * 86400)

const int	day_tab[2][13] = {
	{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0},
	{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0}
};

int
pg_next_dst_boundary(const pg_time_t *at, long int *before_gmtoff, int *before_isdst, pg_time_t *boundary,
					 long int *after_gmtoff, int *after_isdst, const pg_tz *zone)
{
	pg_time_t	half = *at >= 0 ? *at / HALF : -((-*at + HALF - 1) / HALF);

	*before_isdst = half & 1;
	*after_isdst = !*before_isdst;
	*before_gmtoff = *before_isdst ? 7200 : 3600;
	*after_gmtoff = *after_isdst ? 7200 : 3600;
	*boundary = (half + 1) * HALF;
	return 1;
}

const char *
pg_get_timezone_name(pg_tz *zone)
{
	return "stub";
}

bool
pg_tz_acceptable(pg_tz *zone)
{
	return true;
}

pg_tz *
pg_tzset(const char *name)
{
	return NULL;
}

int
pg_open_tzfile(const char *name, char *canonical)
{
	return -1;
}

/* by Howard Hinnant's days_from_civil, so that it is not the server's own */
int
date2j(int year, int month, int day)
{
	int64		y = year - (month <= 2);
	int64		era = (y >= 0 ? y : y - 399) / 400;
	int64		yoe = y - era * 400;
	int64		doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int64		doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

	return (int) (era * 146097 + doe - 719468 + UNIX_EPOCH_JDATE);
}

void
j2date(int jd, int *year, int *month, int *day)
{
	int64		z = (int64) jd - UNIX_EPOCH_JDATE + 719468;
	int64		era = (z >= 0 ? z : z - 146096) / 146097;
	int64		doe = z - era * 146097;
	int64		yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64		doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64		mp = (5 * doy + 2) / 153;

	*day = (int) (doy - (153 * mp + 2) / 5 + 1);
	*month = (int) (mp < 10 ? mp + 3 : mp - 9);
	*year = (int) (yoe + era * 400 + (*month <= 2));
}

int
j2day(int jd)
{
	return (int) ((((int64) jd + 1) % 7 + 7) % 7);
}

TimestampTz
time_t_to_timestamptz(pg_time_t at)
{
	return (at - ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)) * USECS_PER_SEC;
}

char *
fuzz_text(const uint8_t *data, size_t size)
{
	char	   *text;

	if (memchr(data, '\0', size) != NULL || pg_encoding_verifymbstr(PG_UTF8, (const char *) data, (int) size) != (int) size)
		return NULL;
	text = palloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}
