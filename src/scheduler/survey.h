/*
 * survey.h
 *		The scheduler's chore that finds out where the jobs of unknown lines are, so that no fetch has to.
 */
#ifndef QUEUE_SURVEY_H
#define QUEUE_SURVEY_H

#include "lib/queue.h"

/* All lines were put into agendas for the first time: some may be unknown. */
extern void queue_survey_wanted(void);
extern TimestampTz queue_survey_due(void);
extern TimestampTz queue_survey_run(TimestampTz now);

#endif
