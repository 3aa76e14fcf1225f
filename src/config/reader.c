/*
 * reader.c
 *		Reading a config table by a plain scan, columns by name.
 *
 * Column names are looked up per row and column: config tables are small, and read only
 * when something changed.
 *
 * Locks: AccessShareLock from queue_reader_begin to queue_reader_end.
 */
#include "config/reader.h"

#include "config/relations.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Opens a config table for a plain scan under the latest snapshot.  For build_*. */
void
queue_reader_begin(QueueReader *reader, Oid relid)
{
	reader->rel = queue_relation_open(relid, AccessShareLock);
	reader->snapshot = RegisterSnapshot(GetLatestSnapshot());
	reader->slot = table_slot_create(reader->rel, NULL);
	reader->scan = table_beginscan(reader->rel, reader->snapshot, 0, NULL);
}

bool
queue_reader_next(QueueReader *reader)
{
	CHECK_FOR_INTERRUPTS();
	return table_scan_getnextslot(reader->scan, ForwardScanDirection, reader->slot);
}

void
queue_reader_end(QueueReader *reader)
{
	table_endscan(reader->scan);
	ExecDropSingleTupleTableSlot(reader->slot);
	UnregisterSnapshot(reader->snapshot);
	table_close(reader->rel, AccessShareLock);
}

/* The attribute number of a column; catalog.c has seen that it is there. */
AttrNumber
queue_column(Relation rel, const char *name)
{
	int			attnum = SPI_fnumber(RelationGetDescr(rel), name);

	if (attnum <= 0)
		elog(ERROR, "table queue.%s has no column \"%s\"", RelationGetRelationName(rel), name);
	return (AttrNumber) attnum;
}

Datum
queue_reader_datum(QueueReader *reader, const char *name, bool *isnull)
{
	return slot_getattr(reader->slot, queue_column(reader->rel, name), isnull);
}

char *
queue_reader_text(QueueReader *reader, const char *name)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);

	return isnull ? NULL : TextDatumGetCString(d);
}

char *
queue_reader_name(QueueReader *reader, const char *name)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);

	return isnull ? NULL : pstrdup(NameStr(*DatumGetName(d)));
}

int64
queue_reader_int(QueueReader *reader, const char *name, int64 missing)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);

	return isnull ? missing : DatumGetInt32(d);
}

TimestampTz
queue_reader_time(QueueReader *reader, const char *name)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(d);
}

/* In microseconds; so small that adding it to a time does not overflow. */
int64
queue_reader_interval(QueueReader *reader, const char *name, int64 missing)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);

	return isnull ? missing : Min(queue_interval_us(DatumGetIntervalP(d)), PG_INT64_MAX / 4);
}

/* What is wrong with a row, in words for doctor(); what was found first stays. */
static void
complain(char **broken, const char *name, const QueueComplaint *wrong)
{
	if (*broken == NULL)
		*broken = psprintf("its %s cannot be read: %s", name, wrong->message);
}

/* A backoff; the default and false when it is null.  One that cannot be read is the default, and told in *broken. */
bool
queue_reader_backoff(QueueReader *reader, const char *name, QueueBackoff *backoff, char **broken)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);
	QueueComplaint wrong;

	*backoff = queue_backoff_default;
	if (!isnull && !queue_backoff_read(DatumGetJsonbP(d), backoff, &wrong))
		complain(broken, name, &wrong);
	return !isnull;
}

/* The same of a breaker; untouched and false when it is null. */
bool
queue_reader_breaker(QueueReader *reader, const char *name, QueueBreakerConf *breaker, char **broken)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);
	QueueComplaint wrong;

	if (!isnull && !queue_breaker_read(DatumGetJsonbP(d), breaker, &wrong))
		complain(broken, name, &wrong);
	return !isnull;
}

/* A text[] as C strings, without its nulls; NULL and 0 if it is null. */
char	  **
queue_reader_texts(QueueReader *reader, const char *name, int *count)
{
	bool		isnull;
	Datum		d = queue_reader_datum(reader, name, &isnull);
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;
	char	  **result;

	*count = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(d), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	result = palloc((nelems + 1) * sizeof(char *));
	for (int i = 0; i < nelems; i++)
	{
		if (!nulls[i])
			result[(*count)++] = TextDatumGetCString(elems[i]);
	}
	return result;
}
