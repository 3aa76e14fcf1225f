/*
 * relations.c
 *		The extension's relations by name, and its owner.
 *
 * Everything is found by its name in schema queue, so that one library serves several SQL
 * versions and a dump may give any OIDs.  Called by config.c, when it reads the
 * configuration again.  Locks: AccessShareLock on pg_extension.
 */
#include "config/relations.h"

#include "config/catalog.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* A relation of the extension by name. */
static Oid
need_relation(Oid schema, const char *name)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension queue lacks the relation queue.%s", name),
				 errhint("Run ALTER EXTENSION queue UPDATE, or create the extension anew.")));
	return relid;
}

/* The extension's row: false if it is not in this database.  The version is palloc'd. */
static bool
find_extension(Oid *owner, char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("queue"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	*version = NULL;
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		d = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
		*version = isnull ? pstrdup("") : TextDatumGetCString(d);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return *version != NULL;
}

/* Reads who owns the extension; 55000 if it is not there, or not one that this library works with. */
static void
require_extension(Oid *owner)
{
	char	   *version;

	if (!find_extension(owner, &version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension queue is not in this database"),
				 errhint("Run CREATE EXTENSION queue.")));
	queue_catalog_require(version);
}

void
queue_relations_read(QueueConfig *config, Oid *queue_table, Oid *privilege_table, Oid *handler_table)
{
	Oid			schema;
	int			i;

	require_extension(&config->extension_owner);
	schema = get_namespace_oid("queue", false);

	*queue_table = config->queue_table = need_relation(schema, "queue");
	*privilege_table = need_relation(schema, "privilege");
	*handler_table = need_relation(schema, "handler");
	config->endpoint_table = need_relation(schema, "endpoint");
	config->installation_table = need_relation(schema, "installation");
	config->subscription = need_relation(schema, "subscription");
	config->step = need_relation(schema, "step");
	config->step_pkey = need_relation(schema, "step_pkey");
	config->event = need_relation(schema, "event");
	config->event_pkey = need_relation(schema, "event_pkey");
	config->event_name = need_relation(schema, "event_name");
	config->event_wait = need_relation(schema, "event_wait");
	config->event_wait_pkey = need_relation(schema, "event_wait_pkey");
	config->event_wait_event = need_relation(schema, "event_wait_event");
	config->line_table = need_relation(schema, "line");
	config->line_pkey = need_relation(schema, "line_pkey");
	config->line_name = need_relation(schema, "line_name");
	config->line_id_seq = need_relation(schema, "line_id");
	config->live_job = need_relation(schema, "live_job");
	config->live_job_pkey = need_relation(schema, "live_job_pkey");
	config->live_job_ready = need_relation(schema, "live_job_ready");
	config->deadline = need_relation(schema, "deadline");
	config->deadline_at = need_relation(schema, "deadline_at");
	config->unique_key = need_relation(schema, "unique_key");
	config->unique_key_pkey = need_relation(schema, "unique_key_pkey");
	config->live_key = need_relation(schema, "live_key");
	config->live_key_place = need_relation(schema, "live_key_place");
	config->group_mark = need_relation(schema, "group_mark");
	config->dependency = need_relation(schema, "dependency");
	config->dependency_job = need_relation(schema, "dependency_pkey");
	config->dependency_other = need_relation(schema, "dependency_other");
	config->reminder = need_relation(schema, "reminder");
	config->workflow_base = need_relation(schema, "workflow_base");
	config->workflow_base_pkey = need_relation(schema, "workflow_base_pkey");
	config->workflow_job = need_relation(schema, "workflow_job");
	config->workflow_job_pkey = need_relation(schema, "workflow_job_pkey");
	config->workflow_end = need_relation(schema, "workflow_end");
	config->workflow_end_pkey = need_relation(schema, "workflow_end_pkey");
	config->workflow_id_seq = need_relation(schema, "workflow_id");
	config->workflow_number_seq = need_relation(schema, "workflow_number");
	config->job_id_seq = need_relation(schema, "job_id");
	config->job_view = need_relation(schema, "job");
	config->job_type = get_rel_type_id(config->job_view);
	for (i = 0; i < QUEUE_KEPT_SLOTS; i++)
	{
		config->finished_job[i] = need_relation(schema, psprintf("finished_job_%d", i));
		config->finished_job_id[i] = need_relation(schema, psprintf("finished_job_%d_id_idx", i));
	}
	for (i = 0; i < QUEUE_RING_SLOTS; i++)
	{
		config->finished_job_what[i] = need_relation(schema, psprintf("finished_job_%d_what_id_idx", i));
		config->failure_job_id[i] = need_relation(schema, psprintf("failure_%d_job_id_idx", i));
		config->failure[i] = need_relation(schema, psprintf("failure_%d", i));
		config->log_line[i] = need_relation(schema, psprintf("log_line_%d", i));
		config->log_line_attempt[i] = need_relation(schema, psprintf("log_line_%d_job_id_attempt_line_idx", i));
	}
}

void
queue_relations_check(void)
{
	Oid			owner;

	require_extension(&owner);
}

Relation
queue_relation_open(Oid relid, LOCKMODE lockmode)
{
	Relation	rel = try_table_open(relid, lockmode);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension queue was dropped meanwhile"),
				 errhint("Run CREATE EXTENSION queue, or this statement again if the extension is there by now.")));
	return rel;
}

char *
queue_extension_version(void)
{
	Oid			owner;
	char	   *version;

	return find_extension(&owner, &version) ? version : NULL;
}
