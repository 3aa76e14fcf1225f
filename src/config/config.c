/*
 * config.c
 *		This backend's cache of the configuration, and who may do what.
 *
 * The cache is one memory context under CacheMemoryContext, always rebuilt whole:
 * config tables are small and change rarely, and a whole is easy to get right.  It is
 * built as a child of the caller's context and moved when complete, so an error in the
 * middle leaves the old one, marked stale.  Replaced ones live on until a later
 * transaction rebuilds, because handlers run for a caller that holds pointers into one
 * and may change the configuration meanwhile.
 *
 * It is stale when a relcache invalidation of one of our tables came (their statement
 * triggers send them; so does whoever inserts a line), when roles or memberships
 * changed, or when the database's generation moved on.  A COMMIT is visible before its
 * invalidations arrive; the generation, bumped after the commit too, is what the
 * scheduler rechecks.  It is read BEFORE the snapshot, so that a change in between makes the
 * cache stale and not wrong.
 *
 * Locks: AccessShareLock on the config tables while reading them.
 */
#include "config/config.h"

#include "config/catalog.h"
#include "config/http_handlers.h"
#include "config/limits.h"
#include "config/reader.h"
#include "config/relations.h"
#include "shared/clock.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* A queue, with the last answer of queue_may about it. */
typedef struct ConfEntry
{
	QueueConf	conf;			/* first field: config.h hands out pointers to it */
	Oid			memo_user;
	int			memo_bits;
	QueueHandler *rest;			/* the handler of kinds without one of their own; NULL: none */
} ConfEntry;

typedef struct PrivilegeRow
{
	const char *queue;			/* NULL: on '*' */
	Oid			role;
	int			bits;
} PrivilegeRow;

typedef struct Cache
{
	QueueConfig config;			/* first field */
	uint64		invalidations;	/* value of the counter before the build began */
	ConfEntry **conf_hash;		/* open addressing by conf.key */
	uint32		conf_mask;
	QueueHandler **handler_hash;	/* the first handler of each kind; open addressing by its key */
	uint32		handler_mask;
	PrivilegeRow *privileges;
	int			nprivileges;
	Oid			star_user;		/* memo of queue_may on '*' */
	int			star_bits;
} Cache;

/* Relations whose relcache invalidations make the cache stale. */
#define WATCHED_MAX 16

/* Replaced caches kept for pointers held up the stack: the first ones of a transaction, and the last ones. */
#define RETIRED_FIRST 64
#define RETIRED_LAST 8

static Cache *current = NULL;
static uint64 readings = 0;
static uint64 invalidations = 0;
static Oid	watched[WATCHED_MAX];
static int	nwatched = 0;
static MemoryContext *retired = NULL;
static int	maxretired = 0;
static int	nretired = 0;
static int	nheld = 0;			/* the first ones, kept for a handler's caller */
static TimestampTz retired_in = 0;

/* ---------------------------------------------------------------- staleness */

/* Relcache callback: one of our relations changed.  Called wherever invalidations are accepted. */
static void
relcache_callback(Datum arg, Oid relid)
{
	queue_catalog_invalidate(relid);
	if (relid == InvalidOid)
	{
		invalidations++;
		return;
	}
	for (int i = 0; i < nwatched; i++)
	{
		if (watched[i] == relid)
		{
			invalidations++;
			return;
		}
	}
}

/* Syscache callback: roles or memberships changed, so run_as_oid and every memo may be wrong. */
static void
role_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	invalidations++;
}

/* Once per backend, before the first build. */
static void
register_callbacks(void)
{
	static bool done = false;

	if (done)
		return;
	done = true;
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, role_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, role_callback, (Datum) 0);
}

static inline bool
cache_is_current(void)
{
	return current != NULL &&
		current->invalidations == invalidations &&
		current->config.generation == queue_database_generation();
}

/* Would queue_config() look again?  The scheduler asks between rounds. */
bool
queue_config_stale(void)
{
	return !cache_is_current() || queue_catalog_stale;
}

/* What this backend read is wrong in a way that no message tells of.  Commit-safe.  Called by lines.c. */
void
queue_config_invalidate(void)
{
	invalidations++;
}

/* Puts a replaced cache aside; frees those of earlier transactions.  Called when a new one is in place. */
static void
retire(MemoryContext cxt)
{
	TimestampTz now = queue_transaction_start();
	int			first;

	if (retired_in != now)
	{
		for (int i = 0; i < nretired; i++)
			MemoryContextDelete(retired[i]);
		nretired = 0;
		nheld = 0;
		retired_in = now;
	}
	first = Max(nheld, queue_debug_reread ? 1 : RETIRED_FIRST);
	if (nretired >= first + RETIRED_LAST)
	{
		MemoryContextDelete(retired[first]);
		memmove(&retired[first], &retired[first + 1], (nretired - first - 1) * sizeof(MemoryContext));
		nretired--;
	}
	retired[nretired++] = cxt;
}

/* Makes room in `retired`, before anything is put aside. */
static void
reserve_retired(int n)
{
	if (n <= maxretired)
		return;
	retired = retired == NULL ?
		MemoryContextAlloc(TopMemoryContext, n * sizeof(MemoryContext)) :
		repalloc(retired, n * sizeof(MemoryContext));
	maxretired = n;
}

/* What is there now, current one included, stays until queue_config_release or the transaction's end. */
int
queue_config_hold(void)
{
	int			before = nheld;

	if (retired_in != queue_transaction_start())
		before = 0;				/* what is retired is of an earlier transaction; the current one comes first */
	else
	{
		reserve_retired(nretired + 1 + RETIRED_FIRST + RETIRED_LAST);
		nheld = nretired + 1;
	}
	return before;
}

void
queue_config_release(int before)
{
	nheld = before;
}

/* ---------------------------------------------------------------- building */

/* Its invalidations concern us. */
static void
watch(Oid relation)
{
	if (nwatched == WATCHED_MAX)
		elog(ERROR, "queue watches more than %d relations", WATCHED_MAX);
	watched[nwatched++] = relation;
}

/* Finds the extension's relations and notes whose invalidations concern us. */
static void
build_relations(Cache *cache, Oid *queue_table, Oid *privilege_table, Oid *handler_table)
{
	QueueConfig *config = &cache->config;

	queue_relations_read(config, queue_table, privilege_table, handler_table);

	/* watched from now on: what changes during the build makes it stale at once */
	nwatched = 0;
	watch(*queue_table);
	watch(*privilege_table);
	watch(*handler_table);
	watch(config->endpoint_table);
	watch(config->installation_table);
	watch(config->subscription);
	watch(config->line_table);
	watch(config->live_job);
	watch(config->job_view);
	watch(config->dependency);
}

/*
 * Were the triggers switched off that tell of a restore, or switched on again, but not always?  pg_restore does that,
 * with --disable-triggers, to each table before it fills it; dependency is the first.
 */
static bool
triggers_changed(Oid relation)
{
	Relation	rel = try_relation_open(relation, AccessShareLock);
	bool		changed = false;

	if (rel == NULL)
		return false;
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		changed |= strcmp(trigger->tgname, "config_changed") == 0 && trigger->tgenabled != TRIGGER_FIRES_ALWAYS;
	}
	relation_close(rel, AccessShareLock);
	return changed;
}

/* What create_queue's defaults are, for 'default' without a row and for lines of dropped queues. */
static ConfEntry *
make_conf(const char *name)
{
	ConfEntry  *entry = palloc0(sizeof(ConfEntry));

	entry->conf.name = pstrdup(name);
	entry->conf.key = queue_name_hash(name);
	entry->conf.counter = queue_counter_ref(name);
	entry->conf.agenda = (QueueAgenda) {.db = MyDatabaseId, .type = QUEUE_AGENDA_QUEUE, .key = entry->conf.key};
	entry->conf.max_attempts = 25;
	entry->conf.lease = 5 * USECS_PER_MINUTE;
	entry->conf.backoff = queue_backoff_default;
	entry->conf.keep_discarded = 30 * USECS_PER_DAY;
	entry->conf.limit.max_running = entry->conf.limit.rate_limit = -1;
	entry->conf.key_limit.max_running = entry->conf.key_limit.rate_limit = -1;
	return entry;
}

/* A queue with create_queue's defaults, palloc'd: for jobs of a queue that was dropped. */
QueueConf *
queue_conf_make(const char *name)
{
	return &make_conf(name)->conf;
}

static uint32
hash_size(int n)
{
	uint32		size = 16;

	while (size < (uint32) n * 2)
		size *= 2;
	return size;
}

static ConfEntry *
find_conf(Cache *cache, const char *name, uint64 key)
{
	uint32		i = (uint32) key & cache->conf_mask;

	while (cache->conf_hash[i] != NULL)
	{
		ConfEntry  *entry = cache->conf_hash[i];

		if (entry->conf.key == key && strcmp(entry->conf.name, name) == 0)
			return entry;
		i = (i + 1) & cache->conf_mask;
	}
	return NULL;
}

static void
add_conf(Cache *cache, ConfEntry *entry)
{
	uint32		i = (uint32) entry->conf.key & cache->conf_mask;

	while (cache->conf_hash[i] != NULL)
		i = (i + 1) & cache->conf_mask;
	cache->conf_hash[i] = entry;
}

/* Reads queue.queue. */
static void
build_queues(Cache *cache, Oid relid)
{
	QueueConfig *config = &cache->config;
	QueueReader	reader;
	List	   *found = NIL;
	ListCell   *lc;
	bool		has_default = false;

	queue_reader_begin(&reader, relid);
	while (queue_reader_next(&reader))
	{
		ConfEntry  *entry = make_conf(queue_reader_text(&reader, "name"));
		QueueConf  *conf = &entry->conf;

		if (strcmp(conf->name, "*") == 0)
		{
			/* no queue, but the switch of all */
			config->all_paused_at = queue_reader_time(&reader, "paused_at");
			continue;
		}
		conf->stored = true;
		conf->max_attempts = (int) queue_reader_int(&reader, "max_attempts", 25);
		conf->lease = queue_reader_interval(&reader, "lease", conf->lease);
		(void) queue_reader_backoff(&reader, "backoff", &conf->backoff, &conf->broken);
		conf->keep_completed = queue_reader_interval(&reader, "keep_completed", 0);
		conf->keep_discarded = queue_reader_interval(&reader, "keep_discarded", conf->keep_discarded);
		conf->holds_group = strcmp(queue_reader_text(&reader, "on_group_discard"), "hold") == 0;
		conf->dead_letter = queue_reader_text(&reader, "dead_letter");
		conf->on_discarded = queue_reader_text(&reader, "on_discarded");
		conf->rekept_at = queue_reader_time(&reader, "rekept_at");
		conf->paused_at = queue_reader_time(&reader, "paused_at");
		queue_limits_read_queue(&reader, conf);
		if (strcmp(conf->name, "default") == 0)
			has_default = true;
		found = lappend(found, entry);
	}
	queue_reader_end(&reader);
	if (!has_default)
		found = lappend(found, make_conf("default"));

	cache->conf_mask = hash_size(list_length(found)) - 1;
	cache->conf_hash = palloc0((cache->conf_mask + 1) * sizeof(ConfEntry *));
	config->queues = palloc(list_length(found) * sizeof(QueueConf *));
	foreach(lc, found)
	{
		ConfEntry  *entry = lfirst(lc);

		entry->conf.paused = entry->conf.paused_at != 0 || config->all_paused_at != 0;
		add_conf(cache, entry);
		config->queues[config->nqueues++] = &entry->conf;
	}
	for (int i = 0; i < config->nqueues; i++)
	{
		const char *name = config->queues[i]->dead_letter;
		ConfEntry  *entry = name != NULL ? find_conf(cache, name, queue_name_hash(name)) : NULL;

		if (entry != NULL)
			entry->conf.is_dead_letter = true;
	}
}

/* Reads queue.privilege. */
static void
build_privileges(Cache *cache, Oid relid)
{
	QueueReader	reader;
	int			allocated = 32;

	cache->privileges = palloc(allocated * sizeof(PrivilegeRow));
	queue_reader_begin(&reader, relid);
	while (queue_reader_next(&reader))
	{
		PrivilegeRow *row;
		bool		isnull;
		char	   *queue = queue_reader_text(&reader, "queue");
		char	   *privilege = queue_reader_text(&reader, "privilege");

		if (cache->nprivileges == allocated)
		{
			allocated *= 2;
			cache->privileges = repalloc(cache->privileges, allocated * sizeof(PrivilegeRow));
		}
		row = &cache->privileges[cache->nprivileges];
		row->queue = strcmp(queue, "*") == 0 ? NULL : queue;
		row->role = DatumGetObjectId(queue_reader_datum(&reader, "role", &isnull));
		if (strcmp(privilege, "enqueue") == 0)
			row->bits = QUEUE_PRIV_ENQUEUE;
		else if (strcmp(privilege, "work") == 0)
			row->bits = QUEUE_PRIV_WORK;
		else if (strcmp(privilege, "read") == 0)
			row->bits = QUEUE_PRIV_READ;
		else if (strcmp(privilege, "manage") == 0)
			row->bits = QUEUE_PRIV_ENQUEUE | QUEUE_PRIV_WORK | QUEUE_PRIV_READ | QUEUE_PRIV_MANAGE;
		else
			continue;			/* of a later version: gives nothing here */
		cache->nprivileges++;
	}
	queue_reader_end(&reader);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static int
compare_handlers(const void *a, const void *b)
{
	int64		left = (*(QueueHandler *const *) a)->id;
	int64		right = (*(QueueHandler *const *) b)->id;

	return left < right ? -1 : left > right;
}

/* The first handler of a kind; NULL: it has none. */
static QueueHandler *
first_handler(Cache *cache, const char *kind, uint64 key)
{
	uint32		i = (uint32) key & cache->handler_mask;

	while (cache->handler_hash[i] != NULL)
	{
		QueueHandler *handler = cache->handler_hash[i];

		if (handler->key == key && strcmp(handler->kind, kind) == 0)
			return handler;
		i = (i + 1) & cache->handler_mask;
	}
	return NULL;
}

/* Sorts the handlers by id and makes the hash table of their kinds.  Called by build_handlers. */
static void
index_handlers(Cache *cache)
{
	QueueConfig *config = &cache->config;

	qsort(config->handlers, config->nhandlers, sizeof(QueueHandler *), compare_handlers);
	cache->handler_mask = hash_size(config->nhandlers) - 1;
	cache->handler_hash = palloc0((cache->handler_mask + 1) * sizeof(QueueHandler *));
	for (int n = config->nhandlers - 1; n >= 0; n--)
	{
		QueueHandler *handler = config->handlers[n];
		uint32		i = (uint32) handler->key & cache->handler_mask;

		handler->same_kind = first_handler(cache, handler->kind, handler->key);
		while (cache->handler_hash[i] != NULL && cache->handler_hash[i] != handler->same_kind)
			i = (i + 1) & cache->handler_mask;
		cache->handler_hash[i] = handler;
	}
}

/* Reads queue.handler. */
static void
build_handlers(Cache *cache, Oid relid)
{
	QueueConfig *config = &cache->config;
	QueueReader	reader;
	int			allocated = 16;

	config->handlers = palloc(allocated * sizeof(QueueHandler *));
	queue_reader_begin(&reader, relid);
	while (queue_reader_next(&reader))
	{
		QueueHandler *handler = palloc0(sizeof(QueueHandler));
		char	   *argument = queue_reader_text(&reader, "function_argument");
		char	   *type = queue_reader_text(&reader, "type");
		bool		isnull;

		handler->id = DatumGetInt64(queue_reader_datum(&reader, "id", &isnull));
		handler->kind = queue_reader_text(&reader, "kind");
		handler->key = queue_name_hash(handler->kind);
		handler->http = strcmp(type, "http") == 0;
		if (handler->http)
			queue_httpconf_handler(&reader, handler);
		handler->function_schema = queue_reader_name(&reader, "function_schema");
		handler->function_name = queue_reader_name(&reader, "function_name");
		handler->takes_job = argument != NULL && strcmp(argument, "queue.job") == 0;
		handler->function_owner = queue_reader_name(&reader, "function_owner");
		handler->queues = queue_reader_texts(&reader, "queues", &handler->nqueues);
		if (handler->nqueues > 0)
			qsort(handler->queues, handler->nqueues, sizeof(char *), compare_names);
		queue_limits_read_handler(&reader, handler);
		handler->timeout = queue_reader_interval(&reader, "timeout", -1);
		handler->max_attempts = (int) queue_reader_int(&reader, "max_attempts", 0);
		handler->has_backoff = queue_reader_backoff(&reader, "backoff", &handler->backoff, &handler->broken);
		handler->run_as = queue_reader_name(&reader, "run_as");
		handler->run_as_oid = get_role_oid(handler->run_as, true);
		handler->registered_by = queue_reader_name(&reader, "registered_by");
		handler->paused_at = queue_reader_time(&reader, "paused_at");
		handler->adopted =
			DatumGetInt64(queue_reader_datum(&reader, "system_identifier", &isnull)) == (int64) GetSystemIdentifier() &&
			DatumGetObjectId(queue_reader_datum(&reader, "database_oid", &isnull)) == MyDatabaseId;

		if (config->nhandlers == allocated)
		{
			allocated *= 2;
			config->handlers = repalloc(config->handlers, allocated * sizeof(QueueHandler *));
		}
		config->handlers[config->nhandlers++] = handler;
	}
	queue_reader_end(&reader);
	index_handlers(cache);
}

/* Does the handler name this queue? */
bool
queue_handler_names(const QueueHandler *handler, const char *queue)
{
	return handler->nqueues > 0 &&
		bsearch(&queue, handler->queues, handler->nqueues, sizeof(char *), compare_names) != NULL;
}

/*
 * Of a kind's handlers, by the first of them (NULL: it has none), the one that names the queue, else the one for all
 * queues, which do not count a dead-letter queue; NULL: neither is there.
 */
static QueueHandler *
find_handler(QueueHandler *first, const QueueConf *queue)
{
	QueueHandler *all = NULL;

	for (QueueHandler *handler = first; handler != NULL; handler = handler->same_kind)
	{
		if (handler->queues == NULL)
			all = handler;
		else if (queue_handler_names(handler, queue->name))
			return handler;
	}
	return queue->is_dead_letter ? NULL : all;
}

/* Which handler each queue's other kinds have.  Called by build, when queues and handlers are known. */
static void
find_rest(Cache *cache)
{
	QueueHandler *first = first_handler(cache, "*", queue_name_hash("*"));

	for (int i = 0; i < cache->config.nqueues; i++)
		((ConfEntry *) cache->config.queues[i])->rest = find_handler(first, cache->config.queues[i]);
}

static int	entry_bits(Cache *cache, ConfEntry *entry, Oid userid);

/* Which handler serves a line of this reading, and whether it may.  Called by lines.c. */
void
queue_config_serve(QueueConfig *config, QueueLine *line)
{
	Cache	   *cache = (Cache *) config;
	ConfEntry  *entry = (ConfEntry *) line->queue;
	QueueHandler *handler = find_handler(first_handler(cache, line->kind, line->kind_key), line->queue);

	if (handler == NULL)
		handler = entry->rest;
	line->handler = handler;
	line->served = handler != NULL && handler->paused_at == 0 && OidIsValid(handler->run_as_oid) &&
		(entry_bits(cache, entry, handler->run_as_oid) &
		 (handler->http ? QUEUE_PRIV_MANAGE : QUEUE_PRIV_WORK)) != 0;
}

/* The same, and its limits.  Called by lines.c and for lines that are not there yet. */
void
queue_config_resolve(QueueConfig *config, QueueLine *line)
{
	queue_config_serve(config, line);
	queue_limits_resolve(line);
}

/* Reads everything into a new cache and puts it in place of the old one; unseen: nobody was handed that out. */
static void
build(bool unseen)
{
	MemoryContext cxt;
	MemoryContext old;
	Cache	   *cache;
	Oid			queue_table;
	Oid			privilege_table;
	Oid			handler_table;

	register_callbacks();
	reserve_retired(RETIRED_FIRST + RETIRED_LAST);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "queue configuration", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	cache = palloc0(sizeof(Cache));
	cache->config.cxt = cxt;
	cache->invalidations = invalidations;
	cache->config.generation = queue_database_generation();

	build_relations(cache, &queue_table, &privilege_table, &handler_table);
	if (triggers_changed(cache->config.dependency) || triggers_changed(cache->config.line_table))
		queue_database_loaded();
	build_queues(cache, queue_table);
	build_privileges(cache, privilege_table);
	build_handlers(cache, handler_table);
	find_rest(cache);
	queue_httpconf_endpoints(&cache->config);
	cache->config.limited = queue_limits_any(&cache->config);

	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	if (unseen)
		MemoryContextDelete(current->config.cxt);
	else if (current != NULL)
		retire(current->config.cxt);
	current = cache;
	cache->config.serial = ++readings;
}

/* The current configuration; see config.h.  Needs a transaction. */
QueueConfig *
queue_config(void)
{
	Assert(IsTransactionState());
	if (unlikely(queue_debug_reread))
		invalidations++;
	/* taking the tables' locks may bring the invalidation that makes the result stale: a few times at most */
	for (int tries = 0; unlikely(!cache_is_current()) && tries < 5; tries++)
		build(tries > 0);
	/* a table has changed that the configuration is not read from */
	if (unlikely(queue_catalog_stale))
		queue_relations_check();
	return &current->config;
}

uint64
queue_config_generation(void)
{
	return current != NULL ? current->config.generation : 0;
}

/* ---------------------------------------------------------------- looking up */

/* A queue by name; 42704 if there is none, unless missing_ok. */
QueueConf *
queue_config_queue(const char *name, bool missing_ok)
{
	ConfEntry  *entry;

	(void) queue_config();
	entry = find_conf(current, name, queue_name_hash(name));
	if (entry == NULL)
	{
		if (missing_ok)
			return NULL;
		queue_config_no_queue(name);
	}
	return &entry->conf;
}

/* A queue of one reading; NULL if that has none of this name.  Called by lines.c. */
QueueConf *
queue_config_find(QueueConfig *config, const char *name)
{
	ConfEntry  *entry = find_conf((Cache *) config, name, queue_name_hash(name));

	return entry != NULL ? &entry->conf : NULL;
}

/* Raises the error of a queue that is not there. */
void
queue_config_no_queue(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 errhint("Create it with queue.create_queue(name).")));
}

/* The handlers of exactly this kind, by same_kind; NULL: it has none. */
QueueHandler *
queue_config_handlers(const char *kind)
{
	(void) queue_config();
	return first_handler(current, kind, queue_name_hash(kind));
}

/* ---------------------------------------------------------------- privileges */

/* What a user may do in a queue (NULL: on '*'), from the rows.  The one place where the matrix is decided. */
static int
compute_bits(Cache *cache, Oid userid, const char *queue)
{
	const int	all = QUEUE_PRIV_ENQUEUE | QUEUE_PRIV_WORK | QUEUE_PRIV_READ | QUEUE_PRIV_MANAGE | QUEUE_PRIV_MONITOR;
	int			bits = 0;

	if (superuser_arg(userid) || has_privs_of_role(userid, cache->config.extension_owner))
		return all;
	if (has_privs_of_role(userid, ROLE_PG_MONITOR))
		bits = QUEUE_PRIV_MONITOR;
	for (int i = 0; i < cache->nprivileges && (bits | QUEUE_PRIV_MONITOR) != all; i++)
	{
		PrivilegeRow *row = &cache->privileges[i];

		if (row->queue != NULL && (queue == NULL || strcmp(row->queue, queue) != 0))
			continue;
		if ((row->bits & ~bits) != 0 && has_privs_of_role(userid, row->role))
			bits |= row->bits;
	}
	if ((bits & QUEUE_PRIV_READ) != 0)
		bits |= QUEUE_PRIV_MONITOR;
	return bits;
}

/* compute_bits with the last answer per queue remembered: enqueue asks every time. */
static int
entry_bits(Cache *cache, ConfEntry *entry, Oid userid)
{
	if (entry->memo_user != userid)
	{
		entry->memo_bits = compute_bits(cache, userid, entry->conf.name);
		entry->memo_user = userid;
	}
	return entry->memo_bits;
}

/* The same by name, and for '*' (NULL). */
static int
privilege_bits(Cache *cache, Oid userid, const char *queue)
{
	ConfEntry  *entry;

	if (queue == NULL)
	{
		if (cache->star_user != userid)
		{
			cache->star_bits = compute_bits(cache, userid, NULL);
			cache->star_user = userid;
		}
		return cache->star_bits;
	}
	entry = find_conf(cache, queue, queue_name_hash(queue));
	return entry == NULL ? compute_bits(cache, userid, queue) : entry_bits(cache, entry, userid);
}

/* May this user do that in this queue (NULL: on all)? */
bool
queue_may(Oid userid, const char *queue, int privilege)
{
	(void) queue_config();
	return (privilege_bits(current, userid, queue) & privilege) == privilege;
}

/* The first queue in which this user may do that; NULL: none.  In one reading, which is not read again in between. */
const char *
queue_may_where(Oid userid, int privilege)
{
	QueueConfig *config = queue_config();

	for (int i = 0; i < config->nqueues; i++)
	{
		if ((entry_bits(current, (ConfEntry *) config->queues[i], userid) & privilege) == privilege)
			return config->queues[i]->name;
	}
	return NULL;
}
