/*
 * topics.c
 *		Topics: subscribe, unsubscribe, publish; and emit, which tells who awaits an event.
 *
 * A subscription is a row of queue.subscription.  publish finds those that match (config/topics.h), asks their filters,
 * and enqueues a job for each in the caller's transaction, as the caller; one without the right to enqueue for one of
 * them publishes to none.  A subscription whose queue is not there at present gets nothing.
 *
 * Locks: ShareRowExclusiveLock on queue.subscription by who subscribes; those of an enqueue.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "api/enqueue.h"
#include "config/owner.h"
#include "config/topics.h"
#include "job/event.h"
#include "job/finish.h"
#include "lib/attempt.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(queue_sql_subscribe);
PG_FUNCTION_INFO_V1(queue_sql_unsubscribe);
PG_FUNCTION_INFO_V1(queue_sql_publish);

/* queue.subscribe(topic, kind, queue, filter) -> bigint: manage on '*' */
Datum
queue_sql_subscribe(PG_FUNCTION_ARGS)
{
	Oid			types[4] = {TEXTOID, TEXTOID, TEXTOID, JSONPATHOID};
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', PG_ARGISNULL(3) ? 'n' : ' '};
	QueueSpi	spi;
	char	   *topic;
	char	   *queue;
	bool		isnull;
	int64		id;

	queue_finish_writable("queue.subscribe()");
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	topic = queue_arg_text(fcinfo, 0, "topic");
	queue_topic_check(topic, true);
	values[0] = CStringGetTextDatum(topic);
	values[1] = CStringGetTextDatum(queue_arg_name(fcinfo, 1, "kind", false));
	queue = queue_arg_name(fcinfo, 2, "queue", false);
	(void) queue_config_queue(queue, false);
	values[2] = CStringGetTextDatum(queue);
	values[3] = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	queue_spi_begin(&spi);
	queue_spi_run("LOCK TABLE queue.subscription IN SHARE ROW EXCLUSIVE MODE", 0, NULL, NULL, NULL);
	if (queue_spi_run_now("SELECT id FROM queue.subscription WHERE topic = $1 AND kind = $2 AND queue = $3"
						  " AND filter::text IS NOT DISTINCT FROM $4::text ORDER BY id LIMIT 1",
						  4, types, values, nulls) == 0)
		queue_spi_run("INSERT INTO queue.subscription (id, topic, kind, queue, filter)"
					  " VALUES (pg_catalog.nextval('queue.subscription_id'), $1, $2, $3, $4) RETURNING id",
					  4, types, values, nulls);
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	queue_spi_end(&spi);
	PG_RETURN_INT64(id);
}

/* queue.unsubscribe(subscription_id) -> boolean: manage on '*' */
Datum
queue_sql_unsubscribe(PG_FUNCTION_ARGS)
{
	Oid			type = INT8OID;
	Datum		value;
	QueueSpi	spi;
	bool		found;

	queue_finish_writable("queue.unsubscribe()");
	queue_require(NULL, QUEUE_PRIV_MANAGE);
	value = Int64GetDatum(queue_arg_id(fcinfo, 0, "subscription_id"));
	queue_spi_begin(&spi);
	found = queue_spi_run("DELETE FROM queue.subscription WHERE id = $1", 1, &type, &value, NULL) > 0;
	queue_spi_end(&spi);
	PG_RETURN_BOOL(found);
}

/* ---- filters ---- */

/*
 * Does the filter give true, or anything else that is there: not false, not null?  So both a predicate ('$.a > 1') and
 * a path with a filter ('$ ? (@.a > 1)') do what they say.
 */
static bool
passes(const QueueSubscription *subscription, Jsonb *payload, Jsonb *variables)
{
	Jsonb	   *items = DatumGetJsonbP(DirectFunctionCall4(jsonb_path_query_array_tz, JsonbPGetDatum(payload),
														   PointerGetDatum(subscription->filter),
														   JsonbPGetDatum(variables), BoolGetDatum(true)));

	for (uint32 i = 0; i < JB_ROOT_COUNT(items); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(&items->root, i);

		if (item->type != jbvNull && !(item->type == jbvBool && !item->val.boolean))
			return true;
	}
	return false;
}

/*
 * Asks filters from subscription *next on, and notes the answers, until an error, which is the answer "no" of that one:
 * the silence of jsonpath is not about all errors.  In a subtransaction, which the caller begins and ends.
 */
static void
ask_filters(const QueueSubscription *subscriptions, int n, Jsonb *payload, bool *passed, volatile int *next)
{
	JsonbParseState *state = NULL;
	Jsonb	   *variables;
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "queue filter", ALLOCSET_SMALL_SIZES);
	MemoryContext old;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	variables = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	old = MemoryContextSwitchTo(each);
	for (; *next < n; (*next)++)
	{
		CHECK_FOR_INTERRUPTS();
		passed[*next] = subscriptions[*next].filter == NULL || passes(&subscriptions[*next], payload, variables);
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(each);
}

/* Leaves those whose filter lets the payload pass; how many. */
static int
filter(QueueSubscription *subscriptions, int n, Jsonb *payload)
{
	bool	   *passed = palloc0(Max(n, 1) * sizeof(bool));
	volatile int next = 0;
	int			kept = 0;

	while (next < n && subscriptions[next].filter == NULL)
		passed[next++] = true;
	while (next < n)
	{
		QueueAttempt attempt;

		queue_attempt_begin(&attempt);
		PG_TRY();
		{
			ask_filters(subscriptions, n, payload, passed, &next);
			queue_attempt_commit(&attempt);
		}
		PG_CATCH();
		{
			ErrorData  *error = queue_attempt_failed(&attempt);

			if (error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
				ReThrowError(error);
			FreeErrorData(error);
			passed[next++] = false;
		}
		PG_END_TRY();
	}
	for (int i = 0; i < n; i++)
	{
		if (passed[i])
			subscriptions[kept++] = subscriptions[i];
	}
	return kept;
}

/* ---- publish ---- */

/* {"topic": .., "subscription": ..} */
static Jsonb *
make_origin(const char *topic, int64 subscription)
{
	JsonbParseState *state = NULL;
	JsonbValue	value = {.type = jbvString};

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	value.val.string.val = "topic";
	value.val.string.len = strlen("topic");
	(void) pushJsonbValue(&state, WJB_KEY, &value);
	value.val.string.val = unconstify(char *, topic);
	value.val.string.len = strlen(topic);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	value.val.string.val = "subscription";
	value.val.string.len = strlen("subscription");
	(void) pushJsonbValue(&state, WJB_KEY, &value);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(subscription);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* queue.publish(topic, payload, headers) -> setof bigint: enqueue on the queue of each subscription that matches */
Datum
queue_sql_publish(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	QueueNewJob request = QUEUE_NEW_JOB_NONE;
	QueueSubscription *subscriptions;
	QueueJobTable *table;
	QueueJob   *jobs;
	Oid			sequence;
	char	   *topic;
	int			matching;
	int			n = 0;

	queue_finish_writable("queue.publish()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	topic = queue_arg_text(fcinfo, 0, "topic");
	queue_topic_check(topic, false);
	if (PG_ARGISNULL(1))
		queue_null_value("payload");
	request.payload = PG_GETARG_JSONB_P(1);
	if (!PG_ARGISNULL(2))
		queue_request_set(&request, "headers", PG_GETARG_DATUM(2));
	AcceptInvalidationMessages();	/* of whoever subscribed a moment ago */
	subscriptions = queue_topic_match(topic, &matching);
	matching = filter(subscriptions, matching, request.payload);
	jobs = MemoryContextAllocHuge(CurrentMemoryContext, Max(matching, 1) * sizeof(QueueJob));
	for (int i = 0; i < matching; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (queue_config_queue(subscriptions[i].queue, true) == NULL)
			continue;
		request.kind = subscriptions[i].kind;
		request.queue = subscriptions[i].queue;
		request.origin = make_origin(topic, subscriptions[i].id);
		queue_job_prepare(&request, GetUserId(), &jobs[n++]);
	}
	if (n == 0)
		return (Datum) 0;
	sequence = queue_config()->job_id_seq;
	table = queue_job_open(RowExclusiveLock);
	for (int i = 0; i < n; i++)
		jobs[i].id = nextval_internal(sequence, false);
	queue_job_add(table, jobs, n);
	queue_job_close(table);
	for (int i = 0; i < n; i++)
	{
		Datum		id = Int64GetDatum(jobs[i].id);
		bool		null = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &id, &null);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(queue_sql_emit);
/* queue.emit(event, payload, queue) -> boolean: enqueue on the queue */
Datum
queue_sql_emit(PG_FUNCTION_ARGS)
{
	char	   *event;
	char	   *queue;
	Jsonb	   *payload;

	queue_finish_writable("queue.emit()");
	event = queue_arg_name(fcinfo, 0, "event", true);
	if (PG_ARGISNULL(1))
		queue_null_value("payload");
	payload = PG_GETARG_JSONB_P(1);
	queue = queue_arg_name(fcinfo, 2, "queue", false);
	queue_require(queue, QUEUE_PRIV_ENQUEUE);
	(void) queue_config_queue(queue, false);
	queue_check_size("event", VARSIZE(payload) - VARHDRSZ);
	PG_RETURN_BOOL(queue_event_emit(queue, event, payload));
}
