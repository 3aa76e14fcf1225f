/*
 * delivery.c
 *		How the http worker comes by jobs: from the channel, through a lease, onto the wire.
 *
 * Owns the entries that came through the channel and are not claimed.  They wait until their handler and an
 * endpoint have room (router.c), and go back to their line when their handler may not run, and at exit.
 * A claim is a short transaction for up to QUEUE_SENDER_BATCH jobs: attempt + 1 and a lease that outlives the request's
 * timeout.  Its commit is asynchronous: if a crash undoes it, the request has died too, and the job is there to
 * be sent again, with the same Idempotency-Key.  Only then libcurl gets the requests.
 *
 * Locks: RowExclusiveLock on live_job; row locks, never waited for.
 */
#include "http/delivery.h"

#include <stdlib.h>

#include "http/feed.h"
#include "http/router.h"
#include "http/sender.h"
#include "http/transfer.h"
#include "http/webhook.h"
#include "job/claim.h"
#include "job/finish.h"
#include "job/record.h"
#include "lib/text.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define LEASE_MARGIN_US (10 * USECS_PER_SEC)
#define ERROR_PAUSE_US USECS_PER_SEC
#define RECOVER_ROWS 20000

static QueueEntry *waiting = NULL;
static int	max_waiting = 0;
static int	claim_limit = QUEUE_SENDER_BATCH;	/* 1 after an error, to find whose it was */
static TimestampTz claim_pause = 0;

/* ---- entries ---- */

/* Back to its line, for whoever may run it. */
static void
give_back(const QueueEntry *entry)
{
	queue_job_give_back(entry->line, (QueuePos) {entry->run_at, entry->id});
}

/* Takes what is in the channel. */
void
queue_delivery_take_entries(void)
{
	QueueEntry	entry;
	bool		any = false;

	while (queue_channel_pop(queue_sender.channel, &entry))
	{
		if (queue_sender.nwaiting == max_waiting)
		{
			max_waiting = Max(512, max_waiting * 2);
			waiting = waiting == NULL ? MemoryContextAlloc(TopMemoryContext, max_waiting * sizeof(QueueEntry)) :
				repalloc(waiting, max_waiting * sizeof(QueueEntry));
		}
		waiting[queue_sender.nwaiting++] = entry;
		any = true;
	}
	if (any)
		queue_sender.counted = queue_sender.wake_scheduler = true;	/* it may have more than the channel held */
}

/* Gives everything that is not claimed back.  Commit-safe but for the wake. */
void
queue_delivery_give_back(void)
{
	QueueEntry	entry;

	for (int i = 0; i < queue_sender.nwaiting; i++)
	{
		if (waiting[i].id != 0)
			give_back(&waiting[i]);
	}
	queue_sender.nwaiting = 0;
	while (queue_sender.channel != NULL && queue_channel_pop(queue_sender.channel, &entry))
		give_back(&entry);
	queue_base_wake(queue_sender.base, 0);
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
		queue_text_copy(request->error, sizeof(request->error), error);
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
	TimestampTz now = queue_now();
	QueueClaim	claim = {.table = queue_sender.table, .snapshot = GetActiveSnapshot(), .line = line};
	QueueJob	run;
	int64		timeout;
	QueueClaimed claimed;

	if (queue_claim_read(&claim, entry) != QUEUE_CLAIM_OURS)
		return false;
	claimed = queue_claim_judge(&claim);
	if (claimed == QUEUE_CLAIM_ENDED || claim.lost.error != NULL)
		*final = true;
	if (claimed != QUEUE_CLAIM_OURS)
		return false;
	timeout = claim.extra.timeout > 0 ? Min(claim.extra.timeout, USECS_PER_DAY) :
		line->handler->timeout > 0 ? line->handler->timeout : 30 * USECS_PER_SEC;
	if (claim.extra.first_at == 0)
		claim.extra.first_at = now;
	run = claim.job;
	run.attempt++;
	if (!fill_request(request, &run, &claim.extra, line, endpoint, timeout, now))
	{
		QueueFailure failure = {0};
		QueueState	state;

		if (queue_claim_lock(&claim, false) != QUEUE_CLAIM_OURS)
			return false;
		failure.error = request->error;
		failure.worker = queue_sender.worker_name;
		failure.started_at = now;
		*final = true;
		queue_finish_check(&claim.job, queue_finish_fail(queue_sender.table, &claim.job, run.attempt, &failure, -1, true,
														 claim.snapshot, true, &state));
		return false;
	}
	if (queue_claim_lease(&claim, now + timeout + line->handler->conf->connect_timeout + LEASE_MARGIN_US,
						  queue_sender.worker_name, now) != QUEUE_CLAIM_OURS)
		return false;
	request->id = claim.job.id;
	request->line = claim.job.line;
	request->run_at = claim.job.run_at;
	request->tid = claim.job.tid;
	request->attempt = claim.job.attempt;
	request->started_at = now;
	return true;
}

/* What became of a waiting entry in a pass. */
typedef enum Fate
{
	FATE_STAYS, FATE_GOES_BACK, FATE_IS_OVER, FATE_CLAIMED
} Fate;

static QueueRequest *claiming;	/* being filled, not yet in claimed[]; freed after an error */
static QueueRequest *claimed[QUEUE_SENDER_BATCH];
static QueueEntry claimed_entry[QUEUE_SENDER_BATCH];
static int	nclaimed;

/* One waiting entry. */
static Fate
claim_entry(QueueEntry *entry, TimestampTz now, bool *final)
{
	QueueLine  *line = queue_config_line(entry->line);
	QueueHttpConf *conf;
	QueueEndpoint *endpoint;
	QueueInFlight *place;

	if (!queue_feed_takes(line) || queue_config()->installation == NULL)
		return FATE_GOES_BACK;
	if (hash_search(queue_sender.in_flight, &entry->id, HASH_FIND, NULL) != NULL)
		return FATE_IS_OVER;	/* its lease ended before its outcome is recorded: that comes */
	conf = line->handler->conf;
	if (conf->state == NULL)
		conf->state = queue_courier_state_of(MyDatabaseId, line->handler->id, true);
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
	place = hash_search(queue_sender.in_flight, &entry->id, HASH_ENTER, NULL);
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
	return queue_courier_state_of(MyDatabaseId, line->handler->id, false);
}

/* A claim that was not committed, or not sent: as if it had not been. */
static void
unclaim(QueueRequest *request)
{
	queue_router_ended(request, 0, true);
	hash_search(queue_sender.in_flight, &request->id, HASH_REMOVE, NULL);
	queue_request_release(request);
}

/* Claims up to a batch of what waits and may go, and sends it.  True: there may be more. */
bool
queue_delivery_pass(void)
{
	TimestampTz now = queue_now();
	volatile int at = 0;
	bool		final = false;
	bool		failed = false;
	int			kept = 0;

	if (queue_sender.nwaiting == 0 || now < claim_pause || hash_get_num_entries(queue_sender.in_flight) >= Min(queue_sender.capacity, queue_http_max_in_flight))
		return false;
	nclaimed = 0;
	claiming = NULL;
	PG_TRY();
	{
		queue_sender_begin();
		for (at = 0; at < queue_sender.nwaiting && nclaimed < claim_limit &&
			 hash_get_num_entries(queue_sender.in_flight) < Min(queue_sender.capacity, queue_http_max_in_flight); at++)
		{
			QueueEntry *entry = &waiting[at];

			switch (claim_entry(entry, now, &final))
			{
				case FATE_STAYS:
					continue;
				case FATE_GOES_BACK:
					give_back(entry);
					queue_sender_dismiss(courier_of(entry));
					break;
				case FATE_IS_OVER:
					queue_sender_dismiss(courier_of(entry));
					break;
				case FATE_CLAIMED:
					break;
			}
			entry->id = 0;
		}
		queue_sender_commit(!final);
	}
	PG_CATCH();
	{
		queue_sender_rollback("jobs could not be claimed");
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
			queue_sender_dismiss(courier);
		}
		/* alone and still an error: left to the far look, which comes by later */
		if (claim_limit == 1 && at < queue_sender.nwaiting)
			waiting[at].id = 0;
		claim_limit = 1;
		claim_pause = queue_now() + (nclaimed == 0 ? ERROR_PAUSE_US / 10 : 0);
		nclaimed = 0;
	}
	else if (claim_limit < QUEUE_SENDER_BATCH)
		claim_limit *= 2;
	claim_limit = Min(claim_limit, QUEUE_SENDER_BATCH);
	for (int i = 0; i < queue_sender.nwaiting; i++)
	{
		if (waiting[i].id != 0)
			waiting[kept++] = waiting[i];
	}
	queue_sender.nwaiting = kept;
	if (nclaimed == 0)
		return failed;

	for (int i = 0; i < nclaimed; i++)
		queue_transfer_start(claimed[i]);
	queue_sender.nsending += nclaimed;
	return true;
}

/* When to look at what waits again, if nothing else wakes us: a breaker's pause may be over. */
TimestampTz
queue_delivery_next(void)
{
	return queue_sender.nwaiting == 0 ? DT_NOEND : Max(claim_pause, queue_now() + USECS_PER_SEC / 10);
}

/* ---- after a crash ---- */

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
	TimestampTz now = queue_now();
	int			rows = 0;
	TupleTableSlot *slot = table_slot_create(queue_sender.table->rel, NULL);

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line->id));
	scan = queue_index_beginscan(queue_sender.table->rel, queue_sender.table->ready, snapshot, 1);
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
		if (extra.worker != NULL && strncmp(extra.worker, QUEUE_SENDER_NAME, strlen(QUEUE_SENDER_NAME)) == 0)
		{
			QueueJob	new = job;

			new.leased_until = now;
			(void) queue_job_update(queue_sender.table, &job, &new, snapshot, false);
			rows = 0;
		}
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

void
queue_delivery_recover(void)
{
	QueueLine **lines;
	int			nlines;
	int			n = 0;
	int64	   *ids;

	queue_sender_begin();
	lines = queue_lines_all(&nlines, NULL);
	ids = MemoryContextAlloc(queue_sender.loop_context, (nlines + 1) * sizeof(int64));
	for (int i = 0; i < nlines; i++)
	{
		if (queue_feed_takes(lines[i]))
			ids[n++] = lines[i]->id;
	}
	queue_sender_commit(true);
	for (int i = 0; i < n; i++)
	{
		QueueLine  *line;

		queue_sender_begin();
		line = queue_config_line(ids[i]);
		if (line != NULL)
			recover_line(line);
		queue_sender_commit(true);
	}
}
