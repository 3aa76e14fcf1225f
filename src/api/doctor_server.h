/*
 * doctor_server.h
 *		Whether the server can run jobs of this database at all.
 */
#ifndef QUEUE_DOCTOR_SERVER_H
#define QUEUE_DOCTOR_SERVER_H

#include "api/finding.h"

/* Why no scheduler works for this database, with a hint; NULL if one does. */
extern const char *queue_doctor_scheduler_problem(const char **hint);

/* The rows about the server and this database. */
extern void queue_doctor_server(QueueFindings *findings);

#endif
