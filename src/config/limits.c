/*
 * limits.c
 *		The limits of queues and handlers, and under which of them the claims of a line are; and turns and ageing of
 *		queues.
 *
 * A line under no limit has none of this (line->limits is NULL), so its claims cost nothing more.  A line under any has
 * the ids of all that may have one: its claims are counted for each, so that another limit that is set later finds most
 * of them counted.
 *
 * An HTTP handler's max_running is also the http worker's own gate (shared/limit.h), by which jobs are read ahead.
 *
 * Owns nothing: what it makes belongs to the reading of the configuration.
 */
#include "config/limits.h"

#include "lib/option.h"

#include "utils/jsonb.h"
#include "utils/timestamp.h"

static bool
is_limited(const QueueLimit *limit)
{
	return limit->max_running >= 0 || limit->rate_limit >= 0;
}

/* How many of the queue's reservations are not for jobs of this line. */
static bool
yields(const QueueLine *line)
{
	bool		any = false;

	for (int i = 0; i < line->queue->nreserved; i++)
		any |= line->priority > line->queue->reserved[i].priority;
	return any && line->handler != NULL && !line->handler->http;
}

bool
queue_reserved_read(Jsonb *json, QueueReserved reserved[QUEUE_MAX_RESERVED], int *n, QueueComplaint *wrong)
{
	static const char *const hint = "It is an object such as {\"-10\": 2}: 2 executors for priority -10 and below.";
	JsonbIterator *it;
	JsonbValue	value;
	char	   *key;

	*n = 0;
	if (!JB_ROOT_IS_OBJECT(json))
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE, hint, "reserved must be a JSON object");
	if (JB_ROOT_COUNT(json) > QUEUE_MAX_RESERVED)
		return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE, hint, "reserved has more than %d priorities",
							  QUEUE_MAX_RESERVED);
	it = JsonbIteratorInit(&json->root);
	while (queue_option_next(&it, &key, &value))
	{
		double		executors;
		char	   *end;
		long		priority;

		priority = strtol(key, &end, 10);
		if (*key == '\0' || *end != '\0' || priority < PG_INT16_MIN || priority > PG_INT16_MAX)
			return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE, hint, "\"%s\" in reserved is no priority",
								  key);
		if (!queue_option_number(&value, &executors) || executors < 1 || executors > 10000 ||
			executors != (int) executors)
			return queue_complain(wrong, ERRCODE_INVALID_PARAMETER_VALUE, hint,
								  "\"%s\" in reserved is not a number of executors of 1 or more", key);
		reserved[(*n)++] = (QueueReserved) {(int16) priority, (int) executors};
	}
	return true;
}

/* Of a row: these columns, and rate_period. */
static QueueLimit
read_limit(QueueReader *reader, const char *max_running, const char *rate_limit)
{
	QueueLimit	limit = {0};

	limit.max_running = (int) queue_reader_int(reader, max_running, -1);
	limit.rate_limit = (int) queue_reader_int(reader, rate_limit, -1);
	limit.rate_period = Max(queue_reader_interval(reader, "rate_period", USECS_PER_SEC), 1);
	if (limit.max_running >= 0)
		limit.since = queue_reader_time(reader, "limited_at");
	return limit;
}

void
queue_limits_read_queue(QueueReader *reader, QueueConf *conf)
{
	bool		isnull;
	Datum		reserved;
	QueueComplaint wrong;

	conf->limit = read_limit(reader, "max_running", "rate_limit");
	conf->key_limit = read_limit(reader, "max_running_per_key", "rate_limit_per_key");
	/* what is in force is counted for the whole queue at once */
	if (conf->key_limit.since != 0)
		conf->limit.since = conf->key_limit.since;
	if (queue_preloaded())
		conf->key_limit.since = 0;
	conf->fair = (int) Max(queue_reader_int(reader, "fair", 0), 0);
	conf->ageing = Max(queue_reader_interval(reader, "ageing", 0), 0);
	conf->keyed = is_limited(&conf->key_limit) || conf->fair > 0;
	conf->agenda.special = conf->fair > 0 || conf->ageing > 0 || is_limited(&conf->limit);
	reserved = queue_reader_datum(reader, "reserved", &isnull);
	if (!isnull && !queue_reserved_read(DatumGetJsonbP(reserved), conf->reserved, &conf->nreserved, &wrong))
	{
		conf->nreserved = 0;
		if (conf->broken == NULL)
			conf->broken = psprintf("its reserved cannot be read: %s", wrong.message);
	}
}

void
queue_limits_read_handler(QueueReader *reader, QueueHandler *handler)
{
	handler->limit = read_limit(reader, "max_running", "rate_limit");
	if (!handler->http)
		return;
	handler->max_running = Max(handler->limit.max_running, 0);
	handler->limit.gated = true;
}

bool
queue_limits_any(const QueueConfig *config)
{
	bool		any = false;

	for (int i = 0; i < config->nqueues && !any; i++)
		any = is_limited(&config->queues[i]->limit) || is_limited(&config->queues[i]->key_limit) ||
			config->queues[i]->nreserved > 0;
	for (int i = 0; i < config->nhandlers && !any; i++)
		any = is_limited(&config->handlers[i]->limit);
	return any;
}

/* Called when the line is read, in the memory context of the reading. */
void
queue_limits_resolve(QueueLine *line)
{
	QueueConf  *conf = line->queue;
	QueueHandler *handler = line->handler;
	QueueLimits *limits;

	if (conf->fair > 0)
		line->turn_id = queue_unit_id(conf->name, line->key);
	if (!is_limited(&conf->limit) && !is_limited(&conf->key_limit) &&
		(handler == NULL || !is_limited(&handler->limit)) && !yields(line))
		return;
	limits = palloc0(sizeof(QueueLimits));
	limits->of[QUEUE_LIMIT_QUEUE] = conf->limit;
	limits->of[QUEUE_LIMIT_QUEUE].id = queue_unit_id(conf->name, NULL);
	if (handler != NULL)
	{
		limits->of[QUEUE_LIMIT_HANDLER] = handler->limit;
		limits->of[QUEUE_LIMIT_HANDLER].id = (uint64) handler->id;
	}
	limits->of[QUEUE_LIMIT_KEY] = conf->key_limit;
	if (line->key != NULL)
		limits->of[QUEUE_LIMIT_KEY].id = queue_unit_id(conf->name, line->key);
	for (int i = 0; i < conf->nreserved && yields(line); i++)
	{
		QueueLimit *limit = &limits->of[QUEUE_LIMIT_RESERVED + i];

		limit->max_running = limit->rate_limit = -1;
		if (line->priority <= conf->reserved[i].priority)
			continue;
		limit->id = queue_unit_id(conf->name, psprintf("reserved %d", conf->reserved[i].priority));
		limit->reserved = conf->reserved[i].executors;
	}
	limits->keys = (QueueLineKeys) {.queue_key = conf->key, .kind_key = line->kind_key, .served = line->served};
	line->limits = limits;
}
