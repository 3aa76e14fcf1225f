/*
 * delivery.c
 *		How the http worker claims jobs and puts them onto the wire.
 *
 * What came through the channel waits until its handler and an endpoint have room (stock.c, router.c), and goes back
 * to its line when its handler may not run, and at exit.  A claim is a short transaction for up to QUEUE_SENDER_BATCH
 * jobs: attempt + 1 and a lease that outlives the request's timeout.  Its commit is asynchronous: if a crash undoes
 * it, the request has died too, and the job is there to be sent again, with the same Idempotency-Key.  Only then
 * libcurl gets the requests.
 *
 * Memory is bounded.  A job is read only when it is claimed, into a context of its own, and no more is claimed while
 * the bodies and answers of requests take more than MEMORY_BUDGET; a handler with nothing under way may take it to
 * twice that, so that large bodies of one hold nobody else up.
 *
 * A job that cannot be sent (its payload cannot be written out, its row not be read) fails alone, with the reason: a
 * batch that fails is claimed one by one, and what fails alone is charged to its job.
 *
 * Locks: RowExclusiveLock on live_job; row locks, never waited for.
 */
#include "http/delivery.h"

#include "http/body.h"
#include "http/feed.h"
#include "http/router.h"
#include "http/sender.h"
#include "http/stock.h"
#include "http/transfer.h"
#include "http/webhook.h"
#include "job/claim.h"
#include "job/finish.h"
#include "job/pause.h"
#include "job/record.h"
#include "lib/attempt.h"
#include "lib/text.h"
#include "shared/census.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define LEASE_MARGIN_US (10 * USECS_PER_SEC)
#define ERROR_PAUSE_US (USECS_PER_SEC / 10)
#define MEMORY_BUDGET ((size_t) 64 * 1024 * 1024)
#define RECOVER_ROWS 20000

static int	claim_limit = QUEUE_SENDER_BATCH;	/* 1 after an error, to find whose it was */
static TimestampTz claim_pause = 0;
static QueuePause no_room = {0};	/* jobs could be neither sent nor failed */

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
	if (queue_stock_fill(queue_sender.channel))
		queue_sender.wake_scheduler = true; /* it may have more than the channel held */
}

/* Gives everything that is not claimed back.  Commit-safe but for the wake. */
void
queue_delivery_give_back(void)
{
	QueueEntry	entry;

	while (queue_stock_take_any(&entry))
		give_back(&entry);
	while (queue_sender.channel != NULL && queue_channel_pop(queue_sender.channel, &entry))
		give_back(&entry);
	queue_database_wake(queue_sender.base, 0);
}

/* ---- claims ---- */

/* Fills the request in from the job.  False: the job can never be sent, request->error tells why. */
static bool
fill_request(QueueRequest *request, const QueueJob *job, const QueueExtra *extra, const QueueLine *line,
			 QueueEndpoint *endpoint, int64 timeout, TimestampTz now)
{
	QueueHttpConf *conf = line->handler->conf;
	bool		has_body = strcmp(conf->method, "GET") != 0;
	char	   *body = NULL;
	char	   *error;

	if (has_body)
	{
		size_t		length;

		body = queue_webhook_body(conf->sends_job ? queue_body_of_job(job, extra, line, now) : job->payload, &length,
								  &error);
		if (body != NULL && !queue_request_set_body(request, body, length))
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errhint("The job is tried again.")));
	}
	if (!has_body || body != NULL)
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
 * request is only filled, not counted.  In a transaction; *final: something was written that must not be lost; *full: a
 * limit is in the way.
 */
static bool
claim_row(QueueRequest *request, const QueueEntry *entry, QueueLine *line, QueueEndpoint *endpoint, bool *final,
		  bool *full)
{
	TimestampTz now = queue_now();
	QueueClaim	claim = {.table = queue_sender.table, .snapshot = GetActiveSnapshot(), .line = line};
	QueueJob	run;
	int64		timeout;
	TimestampTz leased_until;
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
		queue_finish_check(&claim.job, queue_finish_fail(queue_sender.table, &claim.job, run.attempt, &failure, -1,
														 true, claim.snapshot, true, &state));
		return false;
	}
	leased_until = now + timeout + line->handler->conf->connect_timeout + LEASE_MARGIN_US;
	claimed = queue_claim_lease(&claim, leased_until, queue_sender.worker_name, now);
	*full = claimed == QUEUE_CLAIM_FULL;
	if (claimed != QUEUE_CLAIM_OURS)
		return false;
	request->id = claim.job.id;
	request->line = claim.job.line;
	request->run_at = claim.job.run_at;
	request->tid = claim.job.tid;
	request->attempt = claim.job.attempt;
	request->leased_until = leased_until;
	request->started_at = claim.extra.started_at;	/* with the claim's unit, if it is under a limit */
	return true;
}

/* What became of a waiting entry in a pass. */
typedef enum Fate
{
	FATE_STAYS, FATE_GOES_BACK, FATE_IS_OVER, FATE_CLAIMED
} Fate;

static QueueRequest *claiming;	/* being filled, not yet in claimed[]; freed after an error */
static QueueEntry claiming_entry;	/* being looked at; id 0: none */
static QueueStock *claiming_stock;	/* where it still is */
static QueueRequest *claimed[QUEUE_SENDER_BATCH];
static QueueEntry claimed_entry[QUEUE_SENDER_BATCH];
static int	nclaimed;

/* Is there memory for one more request of this handler? */
static bool
has_memory(QueueGate *gate)
{
	return queue_request_memory() < (pg_atomic_read_u32(&gate->taken) == 0 ? 2 * MEMORY_BUDGET : MEMORY_BUDGET);
}

/* How many requests of a handler may be under way: sessions that fetch its kinds have some of its max_running. */
static int
handler_room(const QueueHandler *handler, QueueGate *gate)
{
	if (handler->max_running == 0)
		return INT_MAX;
	return Max(handler->max_running -
			   queue_tally_others(NULL, handler, (int) pg_atomic_read_u32(&gate->taken)), 0);
}

/* One waiting entry; its gate counts it when it is claimed. */
static Fate
claim_entry(QueueEntry *entry, QueueGate *gate, TimestampTz now, bool *final)
{
	QueueLine  *line = queue_config_line(entry->line);
	QueueHttpConf *conf;
	QueueEndpoint *endpoint;
	QueueRoute	route;
	QueueInFlight *place;
	bool		full = false;

	if (!queue_feed_takes(line) || queue_config()->installation == NULL)
		return FATE_GOES_BACK;
	if (hash_search(queue_sender.in_flight, &entry->id, HASH_FIND, NULL) != NULL)
		return FATE_IS_OVER;	/* its lease ended before its outcome is recorded: that comes */
	if (queue_channel_shuns(queue_sender.channel, entry))
		return FATE_IS_OVER;
	conf = line->handler->conf;
	if (conf->gate == NULL)
		conf->gate = queue_gate_of(MyDatabaseId, QUEUE_GATE_HTTP, line->handler->id, true);
	if (conf->gate != gate)
		return FATE_GOES_BACK;	/* another handler's now */
	if (!has_memory(gate))
		return FATE_STAYS;
	if (!queue_gate_take(gate, handler_room(line->handler, gate)))
	{
		queue_sender.hurry = true;
		return FATE_STAYS;
	}
	route = queue_router_pick(line->handler, now, &endpoint);
	claiming = route == QUEUE_ROUTE_GO ? queue_request_take() : NULL;
	if (claiming == NULL)
	{
		(void) queue_gate_give(gate);
		return route == QUEUE_ROUTE_DOWN ? FATE_GOES_BACK : FATE_STAYS;
	}
	claiming->gate = gate;
	if (!claim_row(claiming, entry, line, endpoint, final, &full))
	{
		(void) queue_gate_give(gate);
		queue_request_release(claiming);
		claiming = NULL;
		return full ? FATE_GOES_BACK : FATE_IS_OVER;
	}
	place = hash_search(queue_sender.in_flight, &entry->id, HASH_ENTER, NULL);
	place->request = claiming;
	queue_router_began(claiming, line->handler, endpoint);
	claimed[nclaimed] = claiming;
	claimed_entry[nclaimed++] = *entry;
	claiming = NULL;
	return FATE_CLAIMED;
}

/* Is a request more than this worker may have under way? */
static bool
is_full(void)
{
	return hash_get_num_entries(queue_sender.in_flight) >= Min(queue_sender.capacity, queue_http_max_in_flight);
}

/* Has a handler an endpoint to be tried out?  Looks at the stock's first entry. */
static bool
is_urgent(QueueStock *stock, TimestampTz now)
{
	QueueLine  *line = stock->n > 0 ? queue_config_line(queue_stock_entry(stock)->line) : NULL;

	return line != NULL && queue_feed_takes(line) && queue_router_due(line->handler, now);
}

/* Claims up to claim_limit of what waits, in its order.  In a transaction; *final: see claim_row. */
static void
claim_some(TimestampTz now, bool *final)
{
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "queue http row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(row_context);
	QueueStock *stock;
	int			nstocks = queue_stock_begin();

	queue_census_look(0);
	for (int i = 0; i < nstocks; i++)
		queue_stock_nth(i)->urgent = is_urgent(queue_stock_nth(i), now);
	while (nclaimed < claim_limit && !is_full() && (stock = queue_stock_next()) != NULL)
	{
		Fate		fate;

		claiming_stock = stock;
		claiming_entry = *queue_stock_entry(stock);
		fate = claim_entry(&claiming_entry, stock->gate, now, final);
		MemoryContextReset(row_context);
		if (fate == FATE_STAYS)
		{
			/* so do the others of its handler; of those that share the spare gate one may not */
			stock->tried = stock->gate->shared ? stock->tried + 1 : stock->n;
			claiming_entry.id = 0;
			continue;
		}
		if (fate == FATE_GOES_BACK)
			give_back(&claiming_entry); /* an error in it takes the entry out of the stock, too */
		queue_stock_remove(stock);
		if (fate != FATE_CLAIMED)
			queue_sender_dismiss(stock->gate);
		claiming_entry.id = 0;
		stock->urgent = stock->urgent && is_urgent(stock, now);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row_context);
}

/* After an error: nothing of the batch was claimed.  All but the one that failed wait again. */
static void
unclaim(void)
{
	if (claiming != NULL)
	{
		(void) queue_gate_give(claiming->gate);
		queue_request_release(claiming);
		claiming = NULL;
	}
	for (int i = 0; i < nclaimed; i++)
	{
		QueueGate  *gate = claimed[i]->gate;

		queue_router_ended(claimed[i], 0, true);
		hash_search(queue_sender.in_flight, &claimed[i]->id, HASH_REMOVE, NULL);
		queue_request_release(claimed[i]);
		give_back(&claimed_entry[i]);
		(void) queue_gate_give(gate);
		queue_sender_dismiss(gate);
	}
	nclaimed = 0;
}

/* Charges an error to the job that met it alone: a failed attempt.  False: not even that can be written. */
static bool
charge(const QueueEntry *entry, const char *error)
{
	volatile bool charged = true;

	PG_TRY();
	{
		QueueClaim	claim = {0};
		QueueFailure failure = {.error = error, .worker = queue_sender.worker_name, .started_at = queue_now()};
		QueueState	state;

		queue_sender_begin();
		claim.table = queue_sender.table;
		claim.snapshot = GetActiveSnapshot();
		claim.line = queue_job_line(entry->line);
		if (queue_claim_read(&claim, entry) == QUEUE_CLAIM_OURS && queue_claim_lock(&claim, false) == QUEUE_CLAIM_OURS)
			queue_finish_check(&claim.job, queue_finish_fail(claim.table, &claim.job, claim.job.attempt + 1, &failure,
															 -1, false, claim.snapshot, true, &state));
		if (queue_sender_commit(false))
			no_room = (QueuePause) {0};
	}
	PG_CATCH();
	{
		pfree(queue_sender_rollback("a job could be neither sent nor failed"));
		charged = false;
	}
	PG_END_TRY();
	return charged;
}

/* A job that could be neither sent nor failed is left alone for a while. */
static void
shun(const QueueEntry *entry)
{
	bool		room = !queue_pause_is_for(queue_sender.code);
	TimestampTz now = queue_now();

	queue_channel_shun(queue_sender.channel, entry, now, room);
	if (!room)
		queue_pause_failed(&no_room, entry->id, now);
	queue_sender.wake_scheduler = true;
}

/*
 * After an error: what was claimed waits again.  A batch goes on one by one; what fails alone is charged to its job and
 * leaves.
 */
static void
recover(const char *error)
{
	bool		alone = claim_limit == 1;
	QueueEntry	culprit = claiming_entry;

	if (culprit.id != 0)
	{
		if (alone)
		{
			queue_stock_remove(claiming_stock);
			queue_sender_dismiss(claiming_stock->gate);
		}
	}
	else if (nclaimed == 1)
		culprit = claimed_entry[0];	/* its commit failed */
	unclaim();
	claim_limit = 1;
	if (alone && culprit.id != 0 && !charge(&culprit, error))
		shun(&culprit);
	else if (culprit.id == 0)
		claim_pause = queue_now() + ERROR_PAUSE_US;
}

/* Claims up to a batch of what waits and may go, and sends it.  True: there may be more. */
bool
queue_delivery_pass(void)
{
	TimestampTz now = queue_now();
	bool		final = false;
	char	   *volatile error = NULL;
	int			n;

	if (queue_stock_count() == 0 || now < claim_pause || is_full() ||
		queue_pause_until(&no_room, now) != DT_NOEND)
		return false;
	nclaimed = 0;
	claiming = NULL;
	claiming_entry.id = 0;
	PG_TRY();
	{
		queue_sender_begin();
		claim_some(now, &final);
		if (queue_sender_commit(!final))
			no_room = (QueuePause) {0};
	}
	PG_CATCH();
	{
		error = queue_sender_rollback("jobs could not be claimed");
	}
	PG_END_TRY();
	if (error != NULL)
	{
		recover(error);
		pfree(error);
		return true;
	}
	claim_limit = Min(claim_limit * 2, QUEUE_SENDER_BATCH);
	for (int i = 0; i < nclaimed; i++)
		queue_transfer_start(claimed[i]);
	queue_sender.nsending += nclaimed;
	n = nclaimed;
	nclaimed = 0;
	return n > 0;
}

/* When to look at what waits again, if nothing else wakes us: a breaker's pause may be over, or ours. */
TimestampTz
queue_delivery_next(void)
{
	TimestampTz now = queue_now();
	TimestampTz paused = queue_pause_until(&no_room, now);

	if (queue_stock_count() == 0)
		return DT_NOEND;
	return paused != DT_NOEND ? paused : Max(claim_pause, now + USECS_PER_SEC / 10);
}

/* ---- after a crash ---- */

/* Ends the lease of a job; apart: if that cannot be written it ends by itself. */
static void
end_lease(QueueJob *job, TimestampTz now, bool apart)
{
	QueueAttempt attempt;
	QueueJob	new = *job;

	new.leased_until = now;
	if (!apart)
	{
		(void) queue_job_update(queue_sender.table, job, &new, GetActiveSnapshot(), false);
		return;
	}
	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		(void) queue_job_update(queue_sender.table, job, &new, GetActiveSnapshot(), false);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		FreeErrorData(queue_attempt_failed(&attempt));
	}
	PG_END_TRY();
}

/*
 * Jobs that a worker before us had under way when the server crashed: their leases end now, which counts as
 * a failed attempt when they are taken again.  They stand near the front of their lines; what is farther
 * back is found when its lease ends, and so is one that cannot be written.
 */
static void
recover_line(const QueueLine *line, bool apart)
{
	ScanKeyData key;
	IndexScanDesc scan;
	TimestampTz now = queue_now();
	int			rows = 0;
	TupleTableSlot *slot = table_slot_create(queue_sender.table->rel, NULL);

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(line->id));
	scan = queue_index_beginscan(queue_sender.table->rel, queue_job_ready(queue_sender.table),
								 GetActiveSnapshot(), 1);
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
		if (extra.worker == NULL || strncmp(extra.worker, QUEUE_SENDER_NAME, strlen(QUEUE_SENDER_NAME)) != 0)
			continue;
		end_lease(&job, now, apart);
		rows = 0;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* In a transaction of its own.  False: something in it fails. */
static bool
recover_line_of(int64 id, bool apart)
{
	volatile bool ok = true;

	PG_TRY();
	{
		QueueLine  *line;

		queue_sender_begin();
		line = queue_config_line(id);
		if (line != NULL)
			recover_line(line, apart);
		queue_sender_commit(true);
	}
	PG_CATCH();
	{
		pfree(queue_sender_rollback("leases of a former http worker could not be ended"));
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

void
queue_delivery_recover(void)
{
	QueueLine **lines;
	int			nlines;
	int			n = 0;
	int64	   *ids;

	queue_sender_begin();
	lines = queue_lines_all(&nlines);
	ids = MemoryContextAlloc(queue_sender.loop_context, (nlines + 1) * sizeof(int64));
	for (int i = 0; i < nlines; i++)
	{
		if (queue_feed_takes(lines[i]))
			ids[n++] = lines[i]->id;
	}
	queue_sender_commit(true);
	for (int i = 0; i < n; i++)
	{
		if (!recover_line_of(ids[i], false))
			(void) recover_line_of(ids[i], true);
	}
}
