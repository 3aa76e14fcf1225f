/*
 * doctor_jobs.h
 *		Whether the jobs of this database's queues are done.
 */
#ifndef QUEUE_DOCTOR_JOBS_H
#define QUEUE_DOCTOR_JOBS_H

#include "api/finding.h"

/* The rows about queues, handlers and their jobs, as far as the current user may see them. */
extern void queue_doctor_jobs(QueueFindings *findings);

#endif
