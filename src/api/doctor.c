/*
 * doctor.c
 *		queue.doctor(): why nothing runs, in words.
 *
 * One row per check, each with what to do, the failing ones first, so that WHERE NOT ok is something to alert on.  It
 * only reads; it may walk a few index entries but scans no job table.  explain.c tells the same of one job.
 *
 * Locks: those of doctor_server.c and doctor_jobs.c.
 */
#include "lib/queue.h"

#include "api/clocks.h"
#include "api/doctor_jobs.h"
#include "api/doctor_server.h"

#include "funcapi.h"

PG_FUNCTION_INFO_V1(queue_sql_doctor);

/* queue.doctor(): for whoever may read or manage some queue; rows about queues and handlers as one may see them. */
Datum
queue_sql_doctor(PG_FUNCTION_ARGS)
{
	QueueFindings findings = {.context = CurrentMemoryContext};

	InitMaterializedSRF(fcinfo, 0);
	queue_doctor_server(&findings);
	queue_doctor_jobs(&findings);
	queue_doctor_schedules(&findings);
	queue_finding_return(&findings, (ReturnSetInfo *) fcinfo->resultinfo);
	PG_RETURN_NULL();
}
