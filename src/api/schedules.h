/*
 * schedules.h
 *		SQL functions about schedules.
 */
#ifndef QUEUE_SCHEDULES_H
#define QUEUE_SCHEDULES_H

#include "api/schedule.h"

#endif
