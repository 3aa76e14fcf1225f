/*
 * reader.h
 *		Reading a config table by a plain scan, columns by name: no SPI, no planner, and
 *		one library serves several SQL versions.
 */
#ifndef QUEUE_READER_H
#define QUEUE_READER_H

#include "lib/backoff.h"
#include "lib/breaker.h"

#include "access/relscan.h"
#include "executor/tuptable.h"
#include "utils/rel.h"

/* An open scan, and the row that it is at. */
typedef struct QueueReader
{
	Relation	rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	Snapshot	snapshot;
} QueueReader;

extern void queue_reader_begin(QueueReader *reader, Oid relid);	/* AccessShareLock, the latest snapshot */
extern bool queue_reader_next(QueueReader *reader);
extern void queue_reader_end(QueueReader *reader);

/* The attribute number of a column that this library needs; 55000 if the table is of another version. */
extern AttrNumber queue_column(Relation rel, const char *name);

/* Columns of the present row, palloc'd; NULL, 0 or `missing` for null. */
extern Datum queue_reader_datum(QueueReader *reader, const char *name, bool *isnull);
extern char *queue_reader_text(QueueReader *reader, const char *name);
extern char *queue_reader_name(QueueReader *reader, const char *name);
extern int64 queue_reader_int(QueueReader *reader, const char *name, int64 missing);
extern TimestampTz queue_reader_time(QueueReader *reader, const char *name);
extern int64 queue_reader_interval(QueueReader *reader, const char *name, int64 missing);	/* microseconds */
extern char **queue_reader_texts(QueueReader *reader, const char *name, int *count);
/* false: null; what cannot be read is the default, too, and told in *broken */
extern bool queue_reader_backoff(QueueReader *reader, const char *name, QueueBackoff *backoff, char **broken);
extern bool queue_reader_breaker(QueueReader *reader, const char *name, QueueBreakerConf *breaker, char **broken);

#endif
