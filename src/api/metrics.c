/*
 * metrics.c
 *		queue.metrics(): the stat views as OpenMetrics text.
 *
 * A table says which query gives which metrics; each query reads one view, as the caller, so that the metrics are of
 * what the caller may see there.  The histograms of kinds are read from shared memory.  No job table is scanned.
 *
 * In OpenMetrics a counter's family is named without _total and its sample with it.
 *
 * Locks: none beyond those of the structures read; AccessShareLock on live_job.
 */
#include "lib/queue.h"

#include "api/stats.h"
#include "config/owner.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(queue_sql_metrics);

typedef struct Metric
{
	const char *name;			/* NULL: one more label of the family before */
	const char *type;			/* gauge or counter */
	const char *unit;			/* the end of the name; NULL: none */
	const char *help;
	const char *value;			/* an aggregate of the view's columns */
	const char *label;			/* NULL: none beside those of the source */
} Metric;

typedef struct Source
{
	const char *from;
	const char *labels[4];		/* expressions with the labels as names; NULL: no more */
	const Metric *metrics;
	int			nmetrics;
} Source;

#define AGE(column) "greatest(0, extract(epoch FROM clock_timestamp() - min(" column ")))"

static const Metric of_queues[] = {
	{"queue_jobs", "gauge", NULL, "Jobs of a queue that are not finished, by state.", "sum(available)",
	"state=\"available\""},
	{.value = "sum(running)", .label = "state=\"running\""},
	{.value = "sum(retryable)", .label = "state=\"retryable\""},
	{.value = "sum(scheduled)", .label = "state=\"scheduled\""},
	{.value = "sum(pending)", .label = "state=\"pending\""},
	{"queue_jobs_enqueued", "counter", NULL, "Jobs enqueued into a queue.", "sum(enqueued)"},
	{"queue_jobs_ended", "counter", NULL, "Jobs of a queue that ended, by state.", "sum(completed)",
	"state=\"completed\""},
	{.value = "sum(discarded)", .label = "state=\"discarded\""},
	{.value = "sum(cancelled)", .label = "state=\"cancelled\""},
	{"queue_attempts_failed", "counter", NULL, "Failed attempts at jobs of a queue.", "sum(failed)"},
	{"queue_oldest_job_age_seconds", "gauge", "seconds", "How long the oldest due job of a queue waits; 0: none does.",
	"coalesce(" AGE("oldest_run_at") ", 0)"},
	{"queue_paused", "gauge", NULL, "1 if a queue, or all of them, are paused.",
	"max((paused_at IS NOT NULL OR all_paused_at IS NOT NULL)::int)"},
	{"queue_stats_reset_timestamp_seconds", "gauge", "seconds", "Since when the totals of a queue count.",
	"extract(epoch FROM max(stats_reset))"},
};

static const Metric of_kinds[] = {
	{"queue_kind_jobs", "gauge", NULL, "Jobs of a kind in a queue that are not finished, by state.", "sum(available)",
	"state=\"available\""},
	{.value = "sum(running)", .label = "state=\"running\""},
	{.value = "sum(retryable)", .label = "state=\"retryable\""},
	{.value = "sum(scheduled)", .label = "state=\"scheduled\""},
	{.value = "sum(pending)", .label = "state=\"pending\""},
	{"queue_kind_jobs_ended", "counter", NULL, "Jobs of a kind in a queue that ended, by state.", "sum(completed)",
	"state=\"completed\""},
	{.value = "sum(discarded)", .label = "state=\"discarded\""},
	{"queue_kind_attempts_failed", "counter", NULL, "Failed attempts at jobs of a kind in a queue.", "sum(failed)"},
	{"queue_kind_oldest_job_age_seconds", "gauge", "seconds",
	"How long the oldest due job of a kind in a queue waits; 0: none does.", "coalesce(" AGE("oldest_run_at") ", 0)"},
};

static const Metric of_handlers[] = {
	{"queue_handler_ready", "gauge", NULL, "1 if a handler runs jobs, 0 if it is paused or parked.",
	"min((state = 'ready')::int)"},
	{"queue_handler_running", "gauge", NULL, "Jobs that a handler runs, or sends, now.", "sum(running)"},
	{"queue_handler_jobs_ended", "counter", NULL, "Jobs that ended by their handler, by state.", "sum(completed)",
	"state=\"completed\""},
	{.value = "sum(discarded)", .label = "state=\"discarded\""},
	{"queue_handler_attempts_failed", "counter", NULL, "Failed attempts of a handler.", "sum(failed)"},
	{"queue_handler_timeouts", "counter", NULL, "Attempts of a handler that ran longer than their timeout.",
	"sum(timeouts)"},
	{"queue_handler_mean_run_seconds", "gauge", "seconds", "How long a run of a handler took on average.",
	"max(mean_ms) / 1000"},
	{"queue_handler_max_run_seconds", "gauge", "seconds", "How long the longest run of a handler took.",
	"max(max_ms) / 1000"},
	{"queue_handler_last_error_timestamp_seconds", "gauge", "seconds", "When an attempt of a handler failed last.",
	"extract(epoch FROM max(last_error_at))"},
};

static const Metric of_endpoints[] = {
	{"queue_endpoint_healthy", "gauge", NULL, "1 if an HTTP endpoint is healthy.", "min(healthy::int)"},
	{"queue_endpoint_breaker_open", "gauge", NULL, "1 if the circuit breaker of an HTTP endpoint is open.",
	"max((breaker = 'open')::int)"},
	{"queue_endpoint_in_flight", "gauge", NULL, "Requests to an HTTP endpoint that are under way.", "sum(in_flight)"},
	{"queue_endpoint_requests", "counter", NULL, "Requests to an HTTP endpoint, by what became of them.",
	"sum(succeeded)", "outcome=\"succeeded\""},
	{.value = "sum(failed)", .label = "outcome=\"failed\""},
	{"queue_endpoint_consecutive_failures", "gauge", NULL,
	"Requests to an HTTP endpoint that failed since one succeeded.", "max(consecutive_failures)"},
	{"queue_endpoint_mean_request_seconds", "gauge", "seconds",
	"How long an answer of an HTTP endpoint took on average.", "max(mean_ms) / 1000"},
};

static const Metric of_workers[] = {
	{"queue_workers", "gauge", NULL, "Workers of this database, and sessions that fetch, by type and state.",
	"count(*)"},
	{"queue_worker_longest_job_age_seconds", "gauge", "seconds", "How long the job runs that runs longest.",
	AGE("job_started_at")},
};

static const Source sources[] = {
	{"queue.stat_queue", {"queue"}, of_queues, lengthof(of_queues)},
	{"queue.stat_kind", {"queue", "kind"}, of_kinds, lengthof(of_kinds)},
	{"queue.stat_handler",
	{"kind", "type", "coalesce(array_to_string(queues, ','), '*') AS queues"}, of_handlers, lengthof(of_handlers)},
	{"queue.stat_endpoint",
	{"kind", "url", "coalesce(array_to_string(queues, ','), '*') AS queues"}, of_endpoints, lengthof(of_endpoints)},
	{"(SELECT * FROM queue.stat_worker WHERE database = current_database() OR database IS NULL) w",
	{"type", "state"}, of_workers, lengthof(of_workers)},
};

/* Appends a label's value, quoted. */
static void
append_value(StringInfo out, const char *value)
{
	appendStringInfoChar(out, '"');
	for (; *value != '\0'; value++)
	{
		if (*value == '\n')
			appendStringInfoString(out, "\\n");
		else
		{
			if (*value == '\\' || *value == '"')
				appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, *value);
		}
	}
	appendStringInfoChar(out, '"');
}

/* Begins a family of samples. */
static void
begin_family(StringInfo out, const char *name, const char *type, const char *unit, const char *help)
{
	appendStringInfo(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
	if (unit != NULL)
		appendStringInfo(out, "# UNIT %s %s\n", name, unit);
}

/* The samples of one column of the rows; *family: whose header is written. */
static void
append_samples(StringInfo out, const Source *source, const Metric *metric, const Metric *of, const Metric **family,
			   SPITupleTable *rows, uint64 nrows, int nlabels, int column)
{
	for (uint64 i = 0; i < nrows; i++)
	{
		char	   *value = SPI_getvalue(rows->vals[i], rows->tupdesc, column);

		if (value == NULL)
			continue;
		if (*family != of)
			begin_family(out, of->name, of->type, of->unit, of->help);
		*family = of;
		appendStringInfo(out, "%s%s{", of->name, strcmp(of->type, "counter") == 0 ? "_total" : "");
		for (int label = 1; label <= nlabels; label++)
		{
			char	   *text = SPI_getvalue(rows->vals[i], rows->tupdesc, label);

			appendStringInfo(out, "%s%s=", label > 1 ? "," : "", SPI_fname(rows->tupdesc, label));
			append_value(out, text != NULL ? text : "");
		}
		if (metric->label != NULL)
			appendStringInfo(out, ",%s", metric->label);
		appendStringInfo(out, "} %s\n", value);
	}
}

/* All metrics of one view.  Inside SPI. */
static void
append_source(StringInfo out, const Source *source)
{
	StringInfoData query;
	int			nlabels = 0;
	const Metric *of = NULL;
	const Metric *family = NULL;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	for (; nlabels < lengthof(source->labels) && source->labels[nlabels] != NULL; nlabels++)
		appendStringInfo(&query, "%s%s", nlabels > 0 ? ", " : "", source->labels[nlabels]);
	for (int i = 0; i < source->nmetrics; i++)
		appendStringInfo(&query, ", (%s)::float8", source->metrics[i].value);
	appendStringInfo(&query, " FROM %s GROUP BY", source->from);
	for (int i = 1; i <= nlabels; i++)
		appendStringInfo(&query, "%s %d", i > 1 ? "," : "", i);
	appendStringInfoString(&query, " ORDER BY 1, 2");
	if (SPI_execute(query.data, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s", source->from);
	for (int i = 0; i < source->nmetrics; i++)
	{
		if (source->metrics[i].name != NULL)
			of = &source->metrics[i];
		Assert(of != NULL);
		append_samples(out, source, &source->metrics[i], of, &family, SPI_tuptable, SPI_processed, nlabels,
					   nlabels + 1 + i);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* The buckets that are told, among the bounds of those that are counted (shared/times.h). */
static const struct
{
	int64		us;
	const char *le;
}			buckets[] = {
	{1000, "0.001"}, {2500, "0.0025"}, {5000, "0.005"}, {10000, "0.01"}, {25000, "0.025"}, {50000, "0.05"},
	{100000, "0.1"}, {250000, "0.25"}, {500000, "0.5"}, {1000000, "1.0"}, {2500000, "2.5"}, {5000000, "5.0"},
	{10000000, "10.0"}, {25000000, "25.0"}, {50000000, "50.0"}, {100000000, "100.0"}, {250000000, "250.0"},
	{500000000, "500.0"}, {1000000000, "1000.0"}, {2500000000, "2500.0"}, {10000000000, "10000.0"},
	{100000000000, "100000.0"}
};

/* One histogram of each kind in a queue that the caller may see; wait or run. */
static void
append_histograms(StringInfo out, QueueKindCounter *kinds, int n, bool wait)
{
	const char *name = wait ? "queue_kind_wait_seconds" : "queue_kind_run_seconds";
	bool		begun = false;

	for (int i = 0; i < n; i++)
	{
		QueueCounterKey *key = &kinds[i].counter.key;
		QueueTimes *times = wait ? &kinds[i].wait : &kinds[i].run;
		StringInfoData labels;
		int64		count;

		CHECK_FOR_INTERRUPTS();
		if (queue_config_queue(key->name, true) == NULL || !queue_may(GetUserId(), key->name, QUEUE_PRIV_MONITOR))
			continue;
		if (!begun)
			begin_family(out, name, "histogram", "seconds", wait ?
						 "How long attempts that completed or failed waited, from the time that was asked for." :
						 "How long attempts that completed or failed ran.");
		begun = true;
		initStringInfo(&labels);
		appendStringInfoString(&labels, "queue=");
		append_value(&labels, key->name);
		appendStringInfoString(&labels, ",kind=");
		append_value(&labels, key->kind);
		for (int b = 0; b < lengthof(buckets); b++)
			appendStringInfo(out, "%s_bucket{%s,le=\"%s\"} " INT64_FORMAT "\n", name, labels.data, buckets[b].le,
							 queue_times_until(times, buckets[b].us));
		count = queue_times_count(times);
		appendStringInfo(out, "%s_bucket{%s,le=\"+Inf\"} " INT64_FORMAT "\n", name, labels.data, count);
		appendStringInfo(out, "%s_count{%s} " INT64_FORMAT "\n", name, labels.data, count);
		appendStringInfo(out, "%s_sum{%s} %.6f\n", name, labels.data,
						 (double) pg_atomic_read_u64(&times->sum_us) / 1000000.0);
		pfree(labels.data);
	}
}

/* queue.metrics() -> text */
Datum
queue_sql_metrics(PG_FUNCTION_ARGS)
{
	int			nestlevel = NewGUCNestLevel();
	MemoryContext context = CurrentMemoryContext;
	StringInfoData out;
	QueueKindCounter *kinds;
	int			nkinds;

	initStringInfo(&out);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	begin_family(&out, "queue_build_info", "gauge", NULL, "1, with the version of the extension's library.");
	appendStringInfo(&out, "queue_build_info{version=\"%s\"} 1\n", QUEUE_VERSION);
	SPI_connect();
	for (int i = 0; i < lengthof(sources); i++)
		append_source(&out, &sources[i]);
	SPI_finish();
	MemoryContextSwitchTo(context);
	AtEOXact_GUC(true, nestlevel);
	kinds = queue_counter_copies(&nkinds);
	append_histograms(&out, kinds, nkinds, true);
	append_histograms(&out, kinds, nkinds, false);
	appendStringInfoString(&out, "# EOF");	/* the line's end is for who prints it */
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
