/*
 * doctor.h
 *		Why nothing runs here.
 */
#ifndef QUEUE_DOCTOR_H
#define QUEUE_DOCTOR_H

#include "lib/queue.h"

/* Why no scheduler works for this database, with a hint; NULL if one does. */
extern const char *queue_doctor_scheduler_problem(const char **hint);

#endif
