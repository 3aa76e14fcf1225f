/*
 * json_option.c
 *		Members of a job in its JSON form, read as values of their option's type.  No locks; called by enqueue.c.
 */
#include "api/json_option.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

static void
refuse(const char *name, const char *what, const char *example)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("job option \"%s\" must be %s", name, what),
			 errhint("Write it like %s.", example)));
}

char *
queue_json_text(const char *name, JsonbValue *value, const char *example)
{
	if (value->type != jbvString)
		refuse(name, "a string", example);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

typedef struct Told
{
	const char *name;
	const char *example;
} Told;

/* An error of an input function: tells the option, and how to write one. */
static void
tell_option(void *arg)
{
	const Told *told = (const Told *) arg;

	errhint("Write job option \"%s\" like %s.", told->name, told->example);
}

Datum
queue_json_parsed(const char *name, JsonbValue *value, PGFunction input, const char *example)
{
	char	   *text = queue_json_text(name, value, example);
	Told		told = {.name = name, .example = example};
	ErrorContextCallback context = {.callback = tell_option, .arg = &told, .previous = error_context_stack};
	Datum		datum;

	error_context_stack = &context;
	datum = DirectFunctionCall3(input, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	error_context_stack = context.previous;
	return datum;
}

int64
queue_json_int(const char *name, JsonbValue *value)
{
	double		number;

	/* drivers that know only strings send "3" */
	if (value->type == jbvString)
		return DatumGetInt64(queue_json_parsed(name, value, int8in, "3"));
	if (value->type != jbvNumeric)
		refuse(name, "a number", "3");
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
	if (number != floor(number))
		refuse(name, "a whole number", "3");
	/* beyond what a double counts exactly, so beyond any option's range: its own check refuses it */
	if (number > INT64CONST(1) << 53 || number < -(INT64CONST(1) << 53))
		return number > 0 ? PG_INT64_MAX : PG_INT64_MIN;
	return (int64) number;
}

Datum
queue_json_array(const char *name, JsonbValue *value, Oid type)
{
	Jsonb	   *json = JsonbValueToJsonb(value);
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue	element;
	ArrayBuildState *array = initArrayResult(type, CurrentMemoryContext, false);
	int64		id = 0;
	bool		ok = JB_ROOT_IS_ARRAY(json) && !JB_ROOT_IS_SCALAR(json);

	while (ok && (token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		ok = element.type == (type == TEXTOID ? jbvString : jbvNumeric);
		if (ok)
			array = accumArrayResult(array, type == TEXTOID ?
									 CStringGetTextDatum(queue_json_text(name, &element, "[\"a\", \"b\"]")) :
									 Int64GetDatum(id = queue_json_int(name, &element)), false, type,
									 CurrentMemoryContext);
		ok = ok && id != PG_INT64_MAX && id != PG_INT64_MIN;	/* what comes of a number beyond all ids */
	}
	if (!ok)
		refuse(name, type == TEXTOID ? "an array of strings" : "an array of job ids",
			   type == TEXTOID ? "[\"a\", \"b\"]" : "[1, 2]");
	return makeArrayResult(array, CurrentMemoryContext);
}
