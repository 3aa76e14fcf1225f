/*
 * create.c
 *		Making a job: what every enqueue does, whoever asks for it.
 *
 * The SQL functions (api/enqueue.c) come here with the calling role, the server's own processes with the role for whom
 * they enqueue; the right to enqueue is that role's, at this moment.
 *
 * Locks: those of queue_line_ensure and RowExclusiveLock on live_job, to the end of the transaction.
 */
#include "job/create.h"

#include "config/lines.h"
#include "config/owner.h"
#include "job/dependency.h"
#include "job/extra.h"
#include "job/group.h"
#include "job/workflow.h"
#include "shared/clock.h"

#include "commands/sequence.h"

void
queue_null_value(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", name),
			 errhint("Give a value for it; only options may be null, for their defaults.")));
}

void
queue_job_check(const QueueNewJob *new, Oid creator)
{
	if (new->kind == NULL)
		queue_null_value("kind");
	if (new->queue == NULL)
		queue_null_value("queue");
	if (new->payload == NULL)
		queue_null_value("payload");
	if (new->kind[0] == '\0' || strlen(new->kind) > QUEUE_NAME_MAX || strcmp(new->kind, "*") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid kind \"%s\"", new->kind),
				 errhint("A kind is a name of 1 to %d bytes other than *.", QUEUE_NAME_MAX)));
	if (new->has_run_at && new->has_delay)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("run_at and delay cannot be given together"),
				 errhint("Give the time or the delay from now.")));
	if (new->has_run_at)
		(void) queue_check_time("run_at", new->run_at);

	/* the right first: who lacks it does not learn whether there is such a queue */
	queue_require_of(creator, new->queue, QUEUE_PRIV_ENQUEUE);
	(void) queue_config_queue(new->queue, false);
	if (new->unique_for != 0 && new->unique_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unique_for needs a unique_key"),
				 errhint("It says how long that key stays taken; queue.key_of makes one of a payload.")));
	queue_check_size("job", queue_job_size(new->payload, new->headers, new->tags));
}

void
queue_job_prepare(const QueueNewJob *new, Oid creator, QueueJob *job)
{
	QueueExtra	extra = QUEUE_EXTRA_NONE;
	TimestampTz now = queue_now();

	queue_job_check(new, creator);
	memset(job, 0, sizeof(*job));
	job->leased_until = DT_NOBEGIN;
	job->payload = new->payload;
	job->run_at = new->has_run_at ? new->run_at : queue_time_add(now, new->delay);
	if (job->run_at != now)
		extra.enqueued_at = now;
	extra.max_attempts = new->max_attempts;
	extra.timeout = new->timeout;
	extra.backoff = new->backoff;
	extra.expires_at = new->expires_at;
	extra.headers = new->headers;
	extra.tags = new->tags;
	extra.unique_key = unconstify(char *, new->unique_key);
	extra.concurrency_key = unconstify(char *, new->concurrency_key);
	extra.origin = new->origin;
	if (new->ndepends > 0)
	{
		job->depends_on = new->depends_on;
		job->ndepends = queue_dependency_check(new->depends_on, new->ndepends, creator);
		extra.depends_mode = new->depends_finished ? QUEUE_DEPENDS_FINISHED : QUEUE_DEPENDS_COMPLETED;
	}
	if (new->compensate_with != NULL && new->workflow == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("compensate_with needs a workflow"),
				 errhint("It is run when another job of the same workflow fails.")));
	if (new->workflow != 0)
	{
		queue_workflow_join(new->workflow, new->within, creator);
		job->joins = true;
		extra.workflow = new->workflow;
		extra.ref = unconstify(char *, new->ref);
		extra.compensate_with = unconstify(char *, new->compensate_with);
	}
	if (new->group_key != NULL)
		queue_group_join(job, &extra, new->group_key);
	job->extra = queue_extra_pack(&extra);
	job->line = queue_line_ensure(new->queue, new->kind, (int16) new->priority, new->concurrency_key);
}

void
queue_job_add(QueueJobTable *table, QueueJob *jobs, int n)
{
	queue_workflow_insert(jobs, n);
	queue_dependency_insert(table, jobs, n);
	if (n == 1)
		queue_job_insert(table, jobs);
	else
		queue_job_insert_many(table, jobs, n);
	queue_group_insert(jobs, n);
}

int64
queue_job_create(QueueJob *job)
{
	QueueJobTable *table = queue_job_open(RowExclusiveLock);

	if (job->id == 0)
		job->id = nextval_internal(queue_config()->job_id_seq, false);
	queue_job_add(table, job, 1);
	queue_job_close(table);
	return job->id;
}
