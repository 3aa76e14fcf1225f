/*
 * survey.c
 *		The scheduler's chore that finds out where the jobs of unknown lines are, so that no fetch has to.
 *
 * After a start nothing is known of a line, so it is at the front of its agenda, and the first reader has to open all
 * such lines to find the one whose job comes first: with 100,000 of them a second.  The scheduler is itself the reader
 * of roles' and handlers' agendas; for those of queues, which sessions read that do not like to wait, this chore opens
 * the unknown lines a few at a time, without taking anything, and tells the cursors what it found (job/ready.c).
 * Only once after a start: lines that are restored later may get their jobs after they were read, without a word.
 *
 * Locks: AccessShareLock on live_job; those of agenda.c and cursor.c, for a moment.
 */
#include "scheduler/survey.h"

#include "config/lines.h"
#include "job/ready.h"
#include "shared/clock.h"

#define ITEMS 64
#define SLICE_US INT64CONST(10000)
#define PAUSE_US SLICE_US

static bool wanted = false;
static int	queue;				/* of the configuration's, where the survey is .. */
static uint64 serial = 0;		/* .. in this reading of it */
static QueueAgendaItem after;	/* and the line of its agenda that was looked at last */
static bool begun;				/* one was */
static TimestampTz next_slice = 0;

void
queue_survey_wanted(void)
{
	wanted = true;
	serial = 0;
}

TimestampTz
queue_survey_due(void)
{
	return wanted ? next_slice : DT_NOEND;
}

/* Every line of these is told where its first job is. */
static void
open_lines(QueueJobTable *table, QueueLine **lines, int n, TimestampTz now)
{
	QueueReadyLines what = {.lines = lines, .nlines = n, .scheduler = true};
	QueueReady *ready = queue_ready_begin(table, &what, now);
	QueueJob	job;
	QueueLine  *line;

	/* all begin at their front, so the first job is known when all were looked at */
	if (queue_ready_next(ready, &job, &line))
		queue_ready_put_back(ready);
	queue_ready_end(ready);
}

/* Some more lines of an agenda.  False: it has no more. */
static bool
survey_some(QueueJobTable *table, QueueAgenda *agenda, TimestampTz now)
{
	QueueAgendaItem items[ITEMS];
	QueueLine  *lines[ITEMS];
	TimestampTz next_due;
	int			nlines = 0;
	int			n = queue_agenda_read(agenda, now, begun ? &after : NULL, items, ITEMS, &next_due, NULL);

	for (int i = 0; i < n; i++)
	{
		bool		unknown = queue_pos_cmp(items[i].bound, QUEUE_POS_FIRST) == 0;
		QueueLine  *line = unknown ? queue_config_line(items[i].line) : NULL;

		if (line != NULL)
			lines[nlines++] = line;
	}
	if (nlines > 0)
		open_lines(table, lines, nlines, now);
	if (n > 0)
		after = items[n - 1];
	begun = n > 0;
	return n == ITEMS;
}

TimestampTz
queue_survey_run(TimestampTz now)
{
	TimestampTz began = queue_now();
	QueueConfig *config = queue_config();
	QueueJobTable *table = queue_job_open(AccessShareLock);

	if (config->serial != serial)
	{
		serial = config->serial;
		queue = 0;
		begun = false;
	}
	while (queue < config->nqueues && queue_now() - began < SLICE_US)
	{
		if (!survey_some(table, &config->queues[queue]->agenda, now))
		{
			queue++;
			begun = false;
		}
	}
	wanted = queue < config->nqueues;
	queue_job_close(table);
	next_slice = queue_now() + PAUSE_US;
	return DT_NOEND;			/* queue_survey_due tells */
}
