/*
 * http.c
 *		The http worker: sends HTTP handlers' jobs to their endpoints.
 *
 * One process per database, one loop over libcurl's multi interface (event.c), thousands of requests under way.
 * Three things happen to a job, in this order:
 *
 *	- claimed: in a short transaction for up to BATCH jobs the row gets attempt + 1 and a lease that outlives
 *	  the request's timeout.  That commit is asynchronous: if a crash undoes it, the request has died too, and the job is
 *	  there to be sent again, with the same Idempotency-Key.
 *	- sent: no transaction, no snapshot.
 *	- recorded: its outcome, fenced by the attempt, in a short transaction with others that ended within
 *	  FLUSH_US, so that one flush of the log serves many; at once when nothing else is under way.
 *
 * Entries that came through the channel and are not claimed stand in `waiting`, until their handler and an
 * endpoint have room (router.c); they go back to their line when their handler may not run, and at exit.
 *
 * A job that another process ends (cancel, discard) while it is under way: note.c puts its id on the stop list
 * (endpoint.c) after commit, and the transfer is aborted; its outcome would be refused anyway.
 *
 * At SIGTERM: nothing more is taken, what is under way may end until queue.shutdown_timeout, every known outcome is
 * recorded, the rest is released uncounted.  After a crash the next worker ends the leases of its predecessor, so
 * that its jobs need not wait for their end.
 *
 * Locks: RowExclusiveLock on live_job in those transactions; row locks, never waited for.
 */
#include "http.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "channel.h"
#include "event.h"
#include "feed.h"
#include "finish.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "router.h"
#include "slot.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "webhook.h"

#define BATCH 60				/* jobs in a transaction: fewer than note.c merges */
#define FLUSH_US INT64CONST(2000)
#define FLUSH_COUNT 48
#define LEASE_MARGIN_US (10 * USECS_PER_SEC)
#define LOCKED_RETRY_US INT64CONST(20000)
#define ERROR_PAUSE_US USECS_PER_SEC
#define RECORD_TRIES 5
#define LOW_WATER 32			/* entries ahead of a handler, below which the scheduler is asked for more */
#define SPARE_FILES 64			/* descriptors for libcurl's threads, TLS files and the like */
#define WORKER_NAME "queue http "
#define RECOVER_ROWS 20000

/* A job that is claimed and not yet recorded. */
typedef struct InFlight
{
	int64		id;				/* hash key */
	QueueRequest *request;
} InFlight;

static QueueBase *base;
static QueueChannel *channel;
static CURLM *multi;
static HTAB *in_flight;
static int	nsending = 0;		/* transfers under way, without probes */
static int	capacity;			/* of transfers, by the limit of open files */
static QueueEntry *waiting = NULL;
static int	nwaiting = 0;
static int	max_waiting = 0;
static QueueRequest *done_first = NULL;
static QueueRequest *done_last = NULL;
static int	ndone = 0;
static TimestampTz oldest_done;
static MemoryContext loop_context;	/* reset in each turn of the loop */
static MemoryContext work_context;	/* reset for each transaction */
static QueueJobTable *table;
static char worker_name[32];
static uint64 seen_serial = 0;
static int	claim_limit = BATCH;	/* 1 after an error, to find whose it was */
static int	record_limit = BATCH;
static TimestampTz claim_pause = 0;
static bool wake_scheduler = false;
static bool counted = false;	/* something was admitted since the counts were last set to 0 */

/* ---- transactions ---- */

static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextReset(work_context);
	MemoryContextSwitchTo(work_context);
	table = queue_job_open(RowExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot());
}

/* With async the commit may be lost in a crash of the server (and nothing else). */
static void
commit(bool async)
{
	PopActiveSnapshot();
	queue_job_close(table);
	table = NULL;
	if (async)
		(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	CommitTransactionCommand();
	MemoryContextSwitchTo(loop_context);
	pgstat_report_stat(false);
}

/* After an error: rolls back, says what it was. */
static void
rollback(const char *what)
{
	ErrorData  *edata;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(loop_context);
	edata = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(loop_context);
	table = NULL;
	queue_log("http_error", "%s: %s", what, edata->message);
	FreeErrorData(edata);
	RESUME_INTERRUPTS();
}

/* ---- entries ---- */

/* Back to its line, for whoever may run it. */
static void
give_back(const QueueEntry *entry)
{
	if (queue_cursor_append(MyDatabaseId, entry->line, (QueuePos) {entry->run_at, entry->id}, 1))
		wake_scheduler = true;
}

/* One job of a handler is with us no more. */
static void
dismiss(QueueCourierState *courier)
{
	if (courier == NULL)
		return;
	queue_endpoint_lower(&courier->admitted);
	if (pg_atomic_read_u32(&courier->wants) != 0 &&
		pg_atomic_read_u32(&courier->admitted) < pg_atomic_read_u32(&courier->in_flight) + LOW_WATER)
		wake_scheduler = true;
}

/* Takes what is in the channel. */
static void
take_entries(void)
{
	QueueEntry	entry;
	bool		any = false;

	while (queue_channel_pop(channel, &entry))
	{
		if (nwaiting == max_waiting)
		{
			max_waiting = Max(512, max_waiting * 2);
			waiting = waiting == NULL ? MemoryContextAlloc(TopMemoryContext, max_waiting * sizeof(QueueEntry)) :
				repalloc(waiting, max_waiting * sizeof(QueueEntry));
		}
		waiting[nwaiting++] = entry;
		any = true;
	}
	if (any)
		counted = wake_scheduler = true;	/* it may have more than the channel held */
}

/* Gives everything that is not claimed back.  Commit-safe but for the wake. */
static void
give_all_back(void)
{
	QueueEntry	entry;

	for (int i = 0; i < nwaiting; i++)
	{
		if (waiting[i].id != 0)
			give_back(&waiting[i]);
	}
	nwaiting = 0;
	while (channel != NULL && queue_channel_pop(channel, &entry))
		give_back(&entry);
	queue_base_wake(base, 0);
}

/* Exit hook: in a crash nobody comes here; else nothing of ours may stay in shared memory. */
static void
at_exit(int code, Datum arg)
{
	queue_endpoint_worker(MyDatabaseId, PG_UINT32_MAX);
	give_all_back();
	queue_endpoint_clear(MyDatabaseId);
}

/* ---- claims ---- */

/* Fills the request in from the job.  False: the job cannot be sent, request->error tells why. */
static bool
fill_request(QueueRequest *request, const QueueJob *job, const QueueExtra *extra, const QueueLine *line,
			 QueueEndpoint *endpoint, int64 timeout, TimestampTz now)
{
	QueueHttpConf *conf = line->handler->conf;
	char	   *body = NULL;
	char	   *error;

	if (strcmp(conf->method, "GET") != 0)
	{
		body = queue_webhook_body(job->payload, &request->body_length);
		request->body = malloc(request->body_length + 1);
		if (request->body == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errhint("The job is tried again.")));
		memcpy(request->body, body, request->body_length + 1);
	}
	request->headers = queue_webhook_headers(job, extra, line, queue_config()->installation,
											 body != NULL ? body : "", request->body_length, now, &error);
	if (request->headers == NULL)
	{
		strlcpy(request->error, error, sizeof(request->error));
		return false;
	}
	if (!queue_request_prepare(request, endpoint->url, conf->method, timeout, conf->connect_timeout, conf->ca_file))
	{
		strlcpy(request->error, "libcurl refused the request", sizeof(request->error));
		return false;
	}
	return true;
}

/*
 * Claims one row and fills its request.  False: it is not ours to send (gone, somebody's, ended).  The
 * request is only filled, not counted.  In a transaction; *final: something was written that must not be lost.
 */
static bool
claim_row(QueueRequest *request, const QueueEntry *entry, QueueLine *line, QueueEndpoint *endpoint, bool *final)
{
	Snapshot	snapshot = GetActiveSnapshot();
	TimestampTz now = GetCurrentTimestamp();
	QueueJob	job;
	QueueJob	new;
	QueueExtra	extra;
	QueueFailure expired = {0};
	int64		timeout;
	int			attempt;
	TM_Result	res;

	if (!queue_job_refind(table, unconstify(ItemPointerData *, &entry->tid), entry->id, snapshot, &job) ||
		job.line != entry->line || job.run_at != entry->run_at)
		return false;			/* whoever moved it appended where it is now */
	if (job.leased_until > now)
	{
		queue_lease_note(MyDatabaseId, job.id, job.line, queue_job_pos(&job), job.leased_until);
		return false;
	}
	queue_extra_unpack(job.extra, &extra);
	new = job;
	if (job.leased_until != DT_NOBEGIN)
	{
		*final = true;
		if (!queue_finish_expired(table, &new, &extra, line, snapshot, &expired))
			return false;
		extra.last_error = unconstify(char *, expired.error);
	}
	timeout = extra.timeout > 0 ? Min(extra.timeout, USECS_PER_DAY) :
		line->handler->timeout > 0 ? line->handler->timeout : 30 * USECS_PER_SEC;
	attempt = new.attempt++ + 1;
	new.leased_until = now + timeout + line->handler->conf->connect_timeout + LEASE_MARGIN_US;
	extra.started_at = now;
	extra.worker = worker_name;
	if (extra.first_at == 0)
		extra.first_at = now;
	if (!fill_request(request, &new, &extra, line, endpoint, timeout, now))
	{
		QueueFailure failure = {0};
		QueueState	state;

		failure.error = request->error;
		failure.worker = worker_name;
		failure.started_at = now;
		*final = true;
		(void) queue_finish_fail(table, &job, attempt, &failure, -1, true, snapshot, false, &state);
		return false;
	}
	new.extra = queue_extra_pack(&extra);
	res = queue_job_update(table, &job, &new, snapshot, false);
	if (res != TM_Ok)
		return false;
	if (expired.error != NULL)
		queue_failure_insert(&job, line->queue->name, line->kind, &expired);
	request->id = new.id;
	request->line = new.line;
	request->run_at = new.run_at;
	request->tid = new.tid;
	request->attempt = attempt;
	request->started_at = now;
	return true;
}

/* What became of a waiting entry in a pass. */
typedef enum Fate
{
	FATE_STAYS, FATE_GOES_BACK, FATE_IS_OVER, FATE_CLAIMED
} Fate;

static QueueRequest *claiming;	/* being filled, not yet in claimed[]; freed after an error */
static QueueRequest *claimed[BATCH];
static QueueEntry claimed_entry[BATCH];
static int	nclaimed;

/* One waiting entry. */
static Fate
claim_entry(QueueEntry *entry, TimestampTz now, bool *final)
{
	QueueLine  *line = queue_config_line(entry->line);
	QueueHttpConf *conf;
	QueueEndpoint *endpoint;
	InFlight   *place;

	if (!queue_feed_takes(line) || queue_config()->installation == NULL)
		return FATE_GOES_BACK;
	if (hash_search(in_flight, &entry->id, HASH_FIND, NULL) != NULL)
		return FATE_IS_OVER;	/* its lease ended before its outcome is recorded: that comes */
	conf = line->handler->conf;
	if (conf->state == NULL)
		conf->state = queue_courier_state_of(MyDatabaseId, line->handler->key, true);
	if (conf->state == NULL)
		return FATE_GOES_BACK;
	if (line->handler->max_running > 0 &&
		pg_atomic_read_u32(&conf->state->in_flight) >= (uint32) line->handler->max_running)
		return FATE_STAYS;
	switch (queue_router_pick(line->handler, now, &endpoint))
	{
		case QUEUE_ROUTE_FULL:
			return FATE_STAYS;
		case QUEUE_ROUTE_DOWN:
			return FATE_GOES_BACK;
		case QUEUE_ROUTE_GO:
			break;
	}
	claiming = queue_request_take();
	if (claiming == NULL)
		return FATE_STAYS;
	if (!claim_row(claiming, entry, line, endpoint, final))
	{
		queue_request_release(claiming);
		claiming = NULL;
		return FATE_IS_OVER;
	}
	place = hash_search(in_flight, &entry->id, HASH_ENTER, NULL);
	place->request = claiming;
	queue_router_began(claiming, line->handler, endpoint);
	claimed[nclaimed] = claiming;
	claimed_entry[nclaimed++] = *entry;
	claiming = NULL;
	return FATE_CLAIMED;
}

/* The courier of a waiting entry, for its count; NULL when its handler is gone. */
static QueueCourierState *
courier_of(const QueueEntry *entry)
{
	QueueLine  *line = queue_config_line(entry->line);

	if (line == NULL || line->handler == NULL || !line->handler->http)
		return NULL;
	return queue_courier_state_of(MyDatabaseId, line->handler->key, false);
}

/* A claim that was not committed, or not sent: as if it had not been. */
static void
unclaim(QueueRequest *request)
{
	queue_router_ended(request, 0, true);
	hash_search(in_flight, &request->id, HASH_REMOVE, NULL);
	queue_request_release(request);
}

/* Claims up to a batch of what waits and may go, and sends it.  True: there may be more. */
static bool
claim_pass(void)
{
	TimestampTz now = GetCurrentTimestamp();
	volatile int at = 0;
	bool		final = false;
	bool		failed = false;
	int			kept = 0;

	if (nwaiting == 0 || now < claim_pause || hash_get_num_entries(in_flight) >= Min(capacity, queue_http_max_in_flight))
		return false;
	nclaimed = 0;
	claiming = NULL;
	PG_TRY();
	{
		begin();
		for (at = 0; at < nwaiting && nclaimed < claim_limit &&
			 hash_get_num_entries(in_flight) < Min(capacity, queue_http_max_in_flight); at++)
		{
			QueueEntry *entry = &waiting[at];

			switch (claim_entry(entry, now, &final))
			{
				case FATE_STAYS:
					continue;
				case FATE_GOES_BACK:
					give_back(entry);
					dismiss(courier_of(entry));
					break;
				case FATE_IS_OVER:
					dismiss(courier_of(entry));
					break;
				case FATE_CLAIMED:
					break;
			}
			entry->id = 0;
		}
		commit(!final);
	}
	PG_CATCH();
	{
		rollback("jobs could not be claimed");
		failed = true;
	}
	PG_END_TRY();

	if (failed)
	{
		if (claiming != NULL)
			queue_request_release(claiming);
		claiming = NULL;
		for (int i = 0; i < nclaimed; i++)
		{
			QueueCourierState *courier = claimed[i]->courier;

			unclaim(claimed[i]);
			give_back(&claimed_entry[i]);
			dismiss(courier);
		}
		/* alone and still an error: left to the far look, which comes by later */
		if (claim_limit == 1 && at < nwaiting)
			waiting[at].id = 0;
		claim_limit = 1;
		claim_pause = GetCurrentTimestamp() + (nclaimed == 0 ? ERROR_PAUSE_US / 10 : 0);
		nclaimed = 0;
	}
	else if (claim_limit < BATCH)
		claim_limit *= 2;
	claim_limit = Min(claim_limit, BATCH);
	for (int i = 0; i < nwaiting; i++)
	{
		if (waiting[i].id != 0)
			waiting[kept++] = waiting[i];
	}
	nwaiting = kept;
	if (nclaimed == 0)
		return failed;

	queue_event_block_signals();
	for (int i = 0; i < nclaimed; i++)
	{
		if (curl_multi_add_handle(multi, claimed[i]->easy) == CURLM_OK)
		{
			nsending++;
			continue;
		}
		/* no memory: an outcome like any other */
		queue_request_judge(claimed[i], CURLE_OUT_OF_MEMORY, now);
		queue_router_ended(claimed[i], now, true);
		claimed[i]->next = done_first;
		done_first = claimed[i];
		if (done_last == NULL)
			done_last = claimed[i];
		if (ndone++ == 0)
			oldest_done = now;
	}
	queue_event_unblock_signals();
	return true;
}

/* ---- outcomes ---- */

/* Appends to the list of what is to be recorded. */
static void
append_done(QueueRequest *request, TimestampTz now)
{
	request->next = NULL;
	if (done_last != NULL)
		done_last->next = request;
	else
		done_first = request;
	done_last = request;
	if (ndone++ == 0)
		oldest_done = now;
}

/* Takes the transfers that ended from libcurl. */
static void
collect(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		TimestampTz now = GetCurrentTimestamp();
		QueueRequest *request;
		char	   *private;
		CURLcode	code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		request = (QueueRequest *) private;
		(void) curl_multi_remove_handle(multi, request->easy);
		queue_request_judge(request, code, now);
		if (request->owner != NULL)
		{
			if (queue_router_probed(request, now))
				wake_scheduler = true;
			queue_request_release(request);
			continue;
		}
		nsending--;
		queue_router_ended(request, now, false);
		append_done(request, now);
	}
}

/* {"status": .., "body": .., "duration_ms": ..} */
static Jsonb *
make_result(QueueRequest *request)
{
	JsonbParseState *state = NULL;
	JsonbValue	key = {.type = jbvString};
	JsonbValue	value;

#define KEY(name) (key.val.string.val = (name), key.val.string.len = strlen(name), pushJsonbValue(&state, WJB_KEY, &key))
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	KEY("status");
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(request->status);
	pushJsonbValue(&state, WJB_VALUE, &value);
	KEY("body");
	value.type = jbvString;
	value.val.string.val = queue_webhook_text(request->answer != NULL ? request->answer : "", request->answer_length);
	value.val.string.len = strlen(value.val.string.val);
	pushJsonbValue(&state, WJB_VALUE, &value);
	KEY("duration_ms");
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(request->duration / 1000);
	pushJsonbValue(&state, WJB_VALUE, &value);
	if (request->cut)
	{
		KEY("truncated");
		value.type = jbvBool;
		value.val.boolean = true;
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
#undef KEY
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Counts an outcome in the kind's statistics and tells the log of failures. */
static void
count_outcome(QueueRequest *request, QueueLine *line, QueueState state)
{
	QueueKindStat *stat = queue_kind_stat_of(MyDatabaseId, queue_name_hash(line->kind), true);
	bool		failed = request->verdict == QUEUE_HTTP_FAIL || request->verdict == QUEUE_HTTP_DISCARD;

	pg_atomic_fetch_add_u64(&queue_my_slot->jobs, 1);
	if (failed)
		queue_log("job_failed", "job " INT64_FORMAT " of kind \"%s\" failed (attempt %d, HTTP status %ld, now %s): %s",
				  request->id, line->kind, request->attempt, request->status, queue_state_names[state], request->error);
	if (stat == NULL)
		return;
	if (request->verdict != QUEUE_HTTP_RELEASE)
		queue_kind_ran(stat, request->duration);
	if (request->verdict == QUEUE_HTTP_COMPLETE)
		pg_atomic_fetch_add_u64(&stat->completed, 1);
	if (failed)
	{
		pg_atomic_fetch_add_u64(&stat->failed, 1);
		pg_atomic_write_u64(&stat->last_error_at, (uint64) GetCurrentTimestamp());
		if (request->timed_out)
			pg_atomic_fetch_add_u64(&stat->timeouts, 1);
	}
	if (state == QUEUE_STATE_DISCARDED)
		pg_atomic_fetch_add_u64(&stat->discarded, 1);
}

/* Writes one outcome, if the claim is still ours.  TM_BeingModified: somebody has the row locked, later. */
static TM_Result
record(QueueRequest *request)
{
	Snapshot	snapshot = GetActiveSnapshot();
	QueueJob	job;
	QueueLine  *line;
	QueueState	state = QUEUE_STATE_AVAILABLE;
	QueueFailure failure = {0};
	TM_Result	res = TM_Ok;

	if (!queue_job_refind(table, &request->tid, request->id, snapshot, &job) ||
		job.attempt != request->attempt || job.leased_until == DT_NOBEGIN)
		return TM_Ok;			/* ended, or taken again, by somebody else */
	line = queue_job_line(job.line);
	switch (request->verdict)
	{
		case QUEUE_HTTP_COMPLETE:
			state = QUEUE_STATE_COMPLETED;
			res = queue_finish_end(table, &job, job.attempt, QUEUE_STATE_COMPLETED, request->started_at,
								   line->queue->keep_completed > 0 ? make_result(request) : NULL, NULL, snapshot, false);
			break;
		case QUEUE_HTTP_FAIL:
		case QUEUE_HTTP_DISCARD:
			failure.error = request->error;
			failure.http_status = (int) request->status;
			failure.worker = worker_name;
			failure.started_at = request->started_at;
			if (request->answer_length > 0)
				failure.context = queue_webhook_text(request->answer, Min(request->answer_length, 1000));
			res = queue_finish_fail(table, &job, job.attempt, &failure, request->delay,
									request->verdict == QUEUE_HTTP_DISCARD, snapshot, false, &state);
			break;
		case QUEUE_HTTP_SNOOZE:
			state = QUEUE_STATE_SCHEDULED;
			res = queue_finish_return(table, &job, job.attempt, request->delay, NULL, snapshot, false);
			break;
		case QUEUE_HTTP_RELEASE:
			res = queue_finish_return(table, &job, job.attempt, -1, NULL, snapshot, false);
			break;
	}
	if (res == TM_Ok)
		count_outcome(request, line, state);
	return res;
}

/* The job is not ours any more. */
static void
forget(QueueRequest *request)
{
	QueueCourierState *courier = request->courier;

	hash_search(in_flight, &request->id, HASH_REMOVE, NULL);
	queue_request_release(request);
	dismiss(courier);
}

/* Records up to a batch of outcomes in one transaction. */
static void
record_pass(void)
{
	QueueRequest *batch[BATCH];
	bool		later[BATCH] = {false};
	volatile int n = 0;
	int			todo = ndone;
	TimestampTz now = GetCurrentTimestamp();
	volatile bool failed = false;

	/* what could not be written a moment ago waits a little */
	for (int i = 0; i < todo && n < record_limit; i++)
	{
		QueueRequest *request = done_first;

		done_first = request->next;
		if (done_first == NULL)
			done_last = NULL;
		ndone--;
		if (request->retry_at > now)
			append_done(request, now);
		else
			batch[n++] = request;
	}
	if (n == 0)
	{
		oldest_done = now;
		return;
	}
	PG_TRY();
	{
		begin();
		for (int i = 0; i < n; i++)
			later[i] = record(batch[i]) != TM_Ok;
		commit(false);
	}
	PG_CATCH();
	{
		rollback("outcomes of jobs could not be recorded");
		failed = true;
	}
	PG_END_TRY();
	now = GetCurrentTimestamp();
	for (int i = 0; i < n; i++)
	{
		QueueRequest *request = batch[i];

		if (failed && n == 1 && ++request->tries >= RECORD_TRIES)
		{
			queue_log("http_lost", "the outcome of job " INT64_FORMAT " cannot be recorded; it is sent again when its lease ends",
					  request->id);
			forget(request);
		}
		else if (failed || later[i])
		{
			request->retry_at = failed && n > 1 ? 0 : now + LOCKED_RETRY_US;
			append_done(request, now);
		}
		else
			forget(request);
	}
	record_limit = failed ? 1 : Min(record_limit * 2, BATCH);
	oldest_done = now;
}

/* Records what is due to be; with all: everything that can be at once. */
static void
record_outcomes(bool all)
{
	int			passes = ndone;

	while (ndone > 0 && passes-- > 0 &&
		   (all || nsending == 0 || ndone >= FLUSH_COUNT || GetCurrentTimestamp() - oldest_done >= FLUSH_US))
	{
		int			before = ndone;

		record_pass();
		if (ndone >= before && !all)
			break;
	}
}

/* ---- stopping transfers ---- */

/* Ends a transfer without an outcome: somebody else has ended its job. */
static void
abort_transfer(QueueRequest *request)
{
	for (QueueRequest *done = done_first; done != NULL; done = done->next)
	{
		if (done == request)
			return;				/* it ended meanwhile: recording finds the row gone */
	}
	(void) curl_multi_remove_handle(multi, request->easy);
	nsending--;
	queue_router_ended(request, 0, true);
	forget(request);
}

/* Looks at all jobs under way: which of them are still ours? */
static void
check_all(void)
{
	HASH_SEQ_STATUS scan;
	InFlight   *place;
	QueueRequest **gone = NULL;
	int			ngone = 0;

	gone = palloc((hash_get_num_entries(in_flight) + 1) * sizeof(QueueRequest *));
	PG_TRY();
	{
		begin();
		hash_seq_init(&scan, in_flight);
		while ((place = hash_seq_search(&scan)) != NULL)
		{
			QueueJob	job;

			if (!queue_job_refind(table, &place->request->tid, place->id, GetActiveSnapshot(), &job) ||
				job.attempt != place->request->attempt)
				gone[ngone++] = place->request;
		}
		commit(true);
	}
	PG_CATCH();
	{
		rollback("jobs under way could not be looked at");
		ngone = 0;
	}
	PG_END_TRY();
	for (int i = 0; i < ngone; i++)
		abort_transfer(gone[i]);
}

/* Jobs that others have ended. */
static void
obey_stops(void)
{
	int64		ids[QUEUE_STOP_IDS];
	bool		all;
	int			n = queue_endpoint_take_stops(MyDatabaseId, ids, &all);

	for (int i = 0; i < n; i++)
	{
		InFlight   *place = hash_search(in_flight, &ids[i], HASH_FIND, NULL);

		if (place != NULL)
			abort_transfer(place->request);
	}
	if (all && hash_get_num_entries(in_flight) > 0)
		check_all();
}

/* ---- start and end ---- */

/*
 * Jobs that a worker before us had under way when the server crashed: their leases end now, which counts as
 * a failed attempt when they are taken again.  They stand near the front of their lines; what is farther
 * back is found when its lease ends.
 */
static void
recover_line(QueueLine *line)
{
	ScanKeyData key;
	IndexScanDesc scan;
	Snapshot	snapshot = GetActiveSnapshot();
	TimestampTz now = GetCurrentTimestamp();
	int			rows = 0;
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line->id));
	scan = queue_index_beginscan(table->rel, table->ready, snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (rows < RECOVER_ROWS && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		QueueJob	job;
		QueueExtra	extra;

		queue_job_read(slot, &job, false);
		if (job.run_at > now)
			break;
		rows++;
		if (job.leased_until <= now)
			continue;
		queue_job_read(slot, &job, true);
		queue_extra_unpack(job.extra, &extra);
		if (extra.worker != NULL && strncmp(extra.worker, WORKER_NAME, strlen(WORKER_NAME)) == 0)
		{
			QueueJob	new = job;

			new.leased_until = now;
			(void) queue_job_update(table, &job, &new, snapshot, false);
			rows = 0;
		}
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

static void
recover(void)
{
	int			nlines;
	int64	   *ids;

	begin();
	nlines = 0;
	ids = MemoryContextAlloc(loop_context, (queue_config()->nlines + 1) * sizeof(int64));
	for (int i = 0; i < queue_config()->nlines; i++)
	{
		if (queue_feed_takes(queue_config()->lines[i]))
			ids[nlines++] = queue_config()->lines[i]->id;
	}
	commit(true);
	for (int i = 0; i < nlines; i++)
	{
		QueueLine  *line;

		begin();
		line = queue_config_line(ids[i]);
		if (line != NULL)
			recover_line(line);
		commit(true);
	}
}

/* The configuration may have changed: what the router probes, and the guard's networks. */
static void
read_configuration(void)
{
	begin();
	if (queue_config()->serial != seen_serial)
	{
		seen_serial = queue_config()->serial;
		queue_router_sync(queue_config(), GetCurrentTimestamp());
	}
	commit(true);
}

static void
read_settings(void)
{
	(void) queue_netguard_parse(queue_http_allowed_networks != NULL ? queue_http_allowed_networks : "",
								&queue_request_guard, NULL, 0);
}

/*
 * How many sockets may be open: what the system gives beyond what PostgreSQL's own files may take; the soft limit is
 * raised for it as far as may be.  If that is little, descriptors of PostgreSQL's share are reserved.
 */
static void
count_files(void)
{
	struct rlimit limit;
	long		wanted = (long) queue_http_max_in_flight * 5 / 4;
	long		need = (long) max_safe_fds + wanted + SPARE_FILES;
	long		spare;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		limit.rlim_cur = limit.rlim_max = 1024;
	if (limit.rlim_cur != RLIM_INFINITY && (long) limit.rlim_cur < need)
	{
		struct rlimit raised = limit;

		raised.rlim_cur = limit.rlim_max == RLIM_INFINITY ? (rlim_t) need : Min((rlim_t) need, limit.rlim_max);
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	spare = limit.rlim_cur == RLIM_INFINITY ? need : (long) Min(limit.rlim_cur, (rlim_t) INT_MAX);
	spare -= (long) max_safe_fds + SPARE_FILES;
	for (int i = 0; spare < wanted && i < max_safe_fds / 4; i++)
	{
		if (!AcquireExternalFD())
			break;
		spare++;
	}
	capacity = (int) Max(8, Min(spare * 4 / 5, queue_http_max_in_flight));
	if (capacity < queue_http_max_in_flight)
		ereport(LOG,
				(errmsg("queue: at most %d HTTP requests run at once, because of the limit of open files", capacity),
				 errhint("Raise the limit (ulimit -n) above %ld.", need)));
}

/* Must we end?  *abort: at once. */
static bool
must_stop(bool *abort)
{
	*abort = pg_atomic_read_u32(&queue_my_slot->abort) != 0 || pg_atomic_read_u32(&base->closed) > 0;
	return *abort || ShutdownRequestPending || pg_atomic_read_u32(&queue_my_slot->retire) != 0;
}

/* Waits for the latch, libcurl, or the time. */
static void
sleep_until(WaitEventSet *set, TimestampTz deadline)
{
	WaitEvent	events[3];
	long		timeout = -1;
	int			n;

	if (deadline != DT_NOEND)
	{
		TimestampTz now = GetCurrentTimestamp();

		timeout = deadline <= now ? 0 : (long) Min((deadline - now) / 1000 + 1, 3600000);
	}
	queue_event_arm();
	n = WaitEventSetWait(set, timeout, events, lengthof(events), queue_wait_event("QueueHttpMain"));
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

/* Lets what is under way end until the deadline, records every known outcome, releases the rest, ends. */
static void
stop(WaitEventSet *set)
{
	bool		abort;
	TimestampTz deadline;
	HASH_SEQ_STATUS scan;
	InFlight   *place;

	pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_STOPPING);
	(void) must_stop(&abort);
	deadline = GetCurrentTimestamp() + (abort ? 0 : queue_shutdown_timeout * INT64CONST(1000));
	give_all_back();
	queue_router_stop(multi);
	while (nsending > 0 && GetCurrentTimestamp() < deadline && !abort)
	{
		TimestampTz next = ndone > 0 ? Min(oldest_done + FLUSH_US, deadline) : deadline;

		sleep_until(set, next);
		(void) must_stop(&abort);
		obey_stops();
		queue_event_dispatch();
		collect();
		record_outcomes(false);
		MemoryContextReset(loop_context);
	}
	/* a last look: an answer that is here is an outcome that is known */
	queue_event_dispatch();
	collect();
	if (nsending > 0)
	{
		queue_log("http_release", "%d requests did not end before the shutdown deadline; their jobs are released", nsending);
		hash_seq_init(&scan, in_flight);
		while ((place = hash_seq_search(&scan)) != NULL)
		{
			QueueRequest *request = place->request;
			bool		ended = false;

			for (QueueRequest *done = done_first; done != NULL && !ended; done = done->next)
				ended = done == request;
			if (ended)
				continue;
			(void) curl_multi_remove_handle(multi, request->easy);
			nsending--;
			queue_router_ended(request, 0, true);
			request->verdict = QUEUE_HTTP_RELEASE;
			append_done(request, GetCurrentTimestamp());
		}
	}
	for (int tries = 0; ndone > 0 && tries < 50; tries++)
	{
		record_outcomes(true);
		if (ndone > 0)
			pg_usleep(LOCKED_RETRY_US);
	}
	queue_base_wake(base, 0);
	proc_exit(0);
}

void
queue_http_main(Datum arg)
{
	HASHCTL		control = {.keysize = sizeof(int64), .entrysize = sizeof(InFlight)};
	WaitEventSet *set;
	QueueSlot  *slot = queue_slot_nth(DatumGetInt32(arg));
	bool		running = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(slot->db, InvalidOid, 0);
	queue_slot_adopt(DatumGetInt32(arg));
	queue_pin_settings();
	base = queue_base();
	channel = queue_channel_of(MyDatabaseId, InvalidOid, true);
	if (base == NULL || channel == NULL)
		proc_exit(0);
	loop_context = AllocSetContextCreate(TopMemoryContext, "queue http loop", ALLOCSET_DEFAULT_SIZES);
	work_context = AllocSetContextCreate(TopMemoryContext, "queue http work", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(loop_context);
	in_flight = hash_create("queue http in flight", 256, &control, HASH_ELEM | HASH_BLOBS);
	snprintf(worker_name, sizeof(worker_name), WORKER_NAME "%d", MyProcPid);
	before_shmem_exit(at_exit, (Datum) 0);
	give_all_back();			/* what stood in the channel was counted for somebody else */
	queue_endpoint_clear(MyDatabaseId);
	queue_endpoint_worker(MyDatabaseId, queue_procno_of(MyProc));
	read_settings();
	count_files();
	multi = queue_event_init(capacity);
	set = queue_wait_event_set(3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, queue_event_fd(), NULL, NULL);
	recover();
	pgstat_report_activity(STATE_IDLE, NULL);
	pg_atomic_write_u32(&queue_my_slot->state, QUEUE_SLOT_IDLE);
	queue_log("http_start", "http worker of database %u started", MyDatabaseId);
	queue_base_wake(base, 0);

	for (;;)
	{
		TimestampTz next;
		bool		abort;

		MemoryContextSwitchTo(loop_context);
		MemoryContextReset(loop_context);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			read_settings();
		}
		if (must_stop(&abort))
			stop(set);
		obey_stops();
		queue_event_dispatch();
		collect();
		record_outcomes(false);
		take_entries();
		if (queue_config_stale() || seen_serial == 0)
			read_configuration();
		while (claim_pass())
		{
			queue_event_dispatch();
			collect();
			record_outcomes(false);
		}
		queue_event_block_signals();
		next = queue_router_probe(multi, GetCurrentTimestamp());
		queue_event_unblock_signals();
		if (ndone > 0)
			next = Min(next, oldest_done + FLUSH_US);
		if (nwaiting > 0)
			next = Min(next, Max(claim_pause, GetCurrentTimestamp() + USECS_PER_SEC / 10));
		if (wake_scheduler)
		{
			wake_scheduler = false;
			queue_base_wake(base, 0);
		}
		if (counted && nwaiting == 0 && hash_get_num_entries(in_flight) == 0 && queue_channel_count(channel) == 0)
		{
			/* a handler that was taken away keeps its count: at rest all are 0 */
			queue_endpoint_clear(MyDatabaseId);
			counted = false;
		}
		if (running != (hash_get_num_entries(in_flight) > 0))
		{
			running = !running;
			pg_atomic_write_u32(&queue_my_slot->state, running ? QUEUE_SLOT_RUNNING : QUEUE_SLOT_IDLE);
			pgstat_report_activity(running ? STATE_RUNNING : STATE_IDLE, running ? "queue: sending jobs" : NULL);
			if (!running)
				(void) pgstat_report_stat(true);
		}
		sleep_until(set, next);
	}
}
