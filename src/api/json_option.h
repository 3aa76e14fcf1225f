/*
 * json_option.h
 *		Members of a job in its JSON form, read as values of their option's type.
 *
 * Another JSON type is 22023; what the type's own reader refuses is its error, with a hint that names the option and
 * shows how to write it.  `example` is JSON.
 */
#ifndef QUEUE_JSON_OPTION_H
#define QUEUE_JSON_OPTION_H

#include "lib/queue.h"

#include "utils/jsonb.h"

extern char *queue_json_text(const char *name, JsonbValue *value, const char *example);
/* A whole number, also in a string; PG_INT64_MAX or PG_INT64_MIN: beyond what a double counts exactly. */
extern int64 queue_json_int(const char *name, JsonbValue *value);
/* A string as a value of the type whose input function this is. */
extern Datum queue_json_parsed(const char *name, JsonbValue *value, PGFunction input, const char *example);
/* An array of strings (TEXTOID) or of whole numbers (INT8OID) as text[] or bigint[]. */
extern Datum queue_json_array(const char *name, JsonbValue *value, Oid type);

#endif
