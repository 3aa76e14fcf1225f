/*
 * catalog.c
 *		Is the extension in this database one that this library works with?
 *
 * The library may be newer than the extension (the server was restarted with it, and nobody has run ALTER EXTENSION
 * queue UPDATE) or older (that was run before the restart).  The files of job/ take columns by their number, so a table
 * of another shape would have them write past a row or read one value for another.  So before anything else of the
 * extension is used its version must be one that the library serves, and every table must begin with the columns that
 * the library was built for; behind them there may be others, because later versions only append.  What the columns
 * are stands in the SQL script alone: make writes columns.inc from it.
 *
 * A backend looks at a table once, and again after an invalidation of its relcache entry.
 *
 * Locks: AccessShareLock on pg_attribute.
 */
#include "config/catalog.h"

#include "shared/database.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

typedef struct Column
{
	const char *table;
	const char *name;
	Oid			type;			/* InvalidOid: one of the extension's own */
} Column;

static const Column columns[] = {
#include "config/columns.inc"
};

/* A table, and what this backend has seen of it. */
typedef struct Table
{
	int			first;			/* of columns[] */
	int			n;
	Oid			relid;
	bool		good;			/* it is as it must be */
	bool		changed;		/* .. or may not be any more: an invalidation came while it was looked at */
} Table;

bool		queue_catalog_stale = true;

static Table tables[lengthof(columns)];	/* more than there are tables */
static int	ntables = 0;

void
queue_catalog_invalidate(Oid relid)
{
	for (int i = 0; i < ntables; i++)
	{
		if (tables[i].relid == relid || relid == InvalidOid)
		{
			tables[i].good = false;
			tables[i].changed = true;
			queue_catalog_stale = true;
		}
	}
}

/* Finds the tables among the columns.  Once per backend. */
static void
find_tables(void)
{
	for (int i = 0; i < lengthof(columns); i++)
	{
		if (i == 0 || strcmp(columns[i].table, columns[i - 1].table) != 0)
			tables[ntables++] = (Table) {.first = i};
		tables[ntables - 1].n++;
	}
}

/* The number of columns, from the first on, that are as they must be. */
static int
matching_columns(Oid relid, const Column *expected, int n)
{
	Relation	rel = table_open(AttributeRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int			good = 0;

	ScanKeyInit(&keys[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_attribute_attnum, BTGreaterStrategyNumber, F_INT2GT, Int16GetDatum(0));
	scan = systable_beginscan(rel, AttributeRelidNumIndexId, true, NULL, 2, keys);
	while (good < n && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_attribute column = (Form_pg_attribute) GETSTRUCT(tuple);

		if (column->attnum != good + 1 || column->attisdropped ||
			strcmp(NameStr(column->attname), expected[good].name) != 0 ||
			(OidIsValid(expected[good].type) && column->atttypid != expected[good].type))
			break;
		good++;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return good;
}

/* What is wrong with the first table that is; NULL: nothing.  Looks at those alone that may have changed. */
static char *
wrong_table(void)
{
	Oid			schema = get_namespace_oid("queue", true);
	bool		again = false;

	if (!OidIsValid(schema))
		return pstrdup("its schema queue is not there");
	if (ntables == 0)
		find_tables();
	for (int i = 0; i < ntables; i++)
	{
		Table	   *table = &tables[i];
		const Column *expected = &columns[table->first];
		int			good;

		if (table->good)
			continue;
		table->relid = get_relname_relid(expected->table, schema);
		table->changed = false;
		if (!OidIsValid(table->relid))
			return psprintf("there is no table queue.%s", expected->table);
		good = matching_columns(table->relid, expected, table->n);
		if (good < table->n)
			return psprintf("column %d of table queue.%s is not \"%s\"%s%s",
							good + 1, expected->table, expected[good].name,
							OidIsValid(expected[good].type) ? " of type " : "",
							OidIsValid(expected[good].type) ? format_type_be(expected[good].type) : "");
		table->good = !table->changed;
		again |= table->changed;
	}
	queue_catalog_stale = again;
	return NULL;
}

/* Is version a an earlier one than b?  By the numbers between the dots. */
static bool
earlier(const char *a, const char *b)
{
	while (*a != '\0' || *b != '\0')
	{
		char	   *rest_a;
		char	   *rest_b;
		long		left = strtol(a, &rest_a, 10);
		long		right = strtol(b, &rest_b, 10);

		if (left != right)
			return left < right;
		if (rest_a == a && rest_b == b)
			return strcmp(a, b) < 0;
		a = rest_a + (*rest_a == '.');
		b = rest_b + (*rest_b == '.');
	}
	return false;
}

char *
queue_catalog_problem(const char *version, const char **hint)
{
	char	   *wrong;

	*hint = "Run ALTER EXTENSION queue UPDATE in this database.";
	if (strcmp(version, QUEUE_VERSION) != 0 && strcmp(version, queue_debug_serves) != 0)
	{
		if (!earlier(version, QUEUE_VERSION))
			*hint = queue_preloaded() ?
				"Restart the server, so that it loads the library of that version." :
				"Connect again, so that the library of that version is loaded.";
		return psprintf("extension queue is of version %s, but the loaded library is of version %s",
						version, QUEUE_VERSION);
	}
	wrong = wrong_table();
	if (wrong == NULL)
		return NULL;
	*hint = "Run ALTER EXTENSION queue UPDATE in this database, or create the extension anew.";
	return psprintf("extension queue is not the one that the loaded library was built for: %s", wrong);
}

void
queue_catalog_require(const char *version)
{
	const char *hint;
	char	   *problem = queue_catalog_problem(version, &hint);

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", problem), errhint("%s", hint)));
}
