/*
 * keys.c
 *		queue.key_of: a unique key made of what a payload says.
 *
 * The digest is kept in tables and compared with those of other servers and later versions, so it is made of the values
 * as SQL compares them: members in jsonb's own order, numbers without zeros at their end, every part with its length.
 *
 * Locks: none.
 */
#include "lib/queue.h"

#include "api/arguments.h"
#include "shared/clock.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_sql_key_of);

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* Adds one part: what it is, how long, and its bytes. */
static void
feed(pg_cryptohash_ctx *hash, char what, const char *bytes, int len)
{
	char	   *head = psprintf("%c%d:", what, len);

	if (pg_cryptohash_update(hash, (const uint8 *) head, strlen(head)) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) bytes, len) < 0)
		elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(hash));
	pfree(head);
}

static void
feed_scalar(pg_cryptohash_ctx *hash, const JsonbValue *value)
{
	char	   *number;

	switch (value->type)
	{
		case jbvBool:
			feed(hash, value->val.boolean ? 't' : 'f', "", 0);
			break;
		case jbvNumeric:
			number = DatumGetCString(DirectFunctionCall1(numeric_out,
														 DirectFunctionCall1(numeric_trim_scale,
																			 NumericGetDatum(value->val.numeric))));
			feed(hash, 'd', number, strlen(number));
			break;
		case jbvString:
			feed(hash, 's', value->val.string.val, value->val.string.len);
			break;
		default:
			feed(hash, 'n', "", 0);
	}
}

static void
feed_container(pg_cryptohash_ctx *hash, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				feed(hash, value.val.array.rawScalar ? 'r' : 'A', "", 0);
				break;
			case WJB_END_ARRAY:
				feed(hash, 'a', "", 0);
				break;
			case WJB_BEGIN_OBJECT:
				feed(hash, 'O', "", 0);
				break;
			case WJB_END_OBJECT:
				feed(hash, 'o', "", 0);
				break;
			case WJB_KEY:
				feed(hash, 'k', value.val.string.val, value.val.string.len);
				break;
			default:
				feed_scalar(hash, &value);
		}
	}
}

/* The members of an object that are named. */
static void
feed_fields(pg_cryptohash_ctx *hash, Jsonb *payload, char **fields, int nfields)
{
	JsonbIterator *it = JsonbIteratorInit(&payload->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		wanted = false;
	int		   *lengths = palloc((nfields + 1) * sizeof(int));

	for (int i = 0; i < nfields; i++)
		lengths[i] = (int) strlen(fields[i]);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_KEY)
		{
			wanted = false;
			for (int i = 0; i < nfields && !wanted; i++)
				wanted = lengths[i] == value.val.string.len &&
					memcmp(fields[i], value.val.string.val, value.val.string.len) == 0;
			if (wanted)
				feed(hash, 'k', value.val.string.val, value.val.string.len);
		}
		else if (token == WJB_VALUE && wanted)
		{
			if (value.type == jbvBinary)
				feed_container(hash, value.val.binary.data);
			else
				feed_scalar(hash, &value);
		}
		else if (token == WJB_BEGIN_OBJECT || token == WJB_END_OBJECT)
			feed(hash, token == WJB_BEGIN_OBJECT ? 'O' : 'o', "", 0);
	}
}

/* queue.key_of(payload, fields, period) -> text */
Datum
queue_sql_key_of(PG_FUNCTION_ARGS)
{
	pg_cryptohash_ctx *hash;
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char		text[2 * PG_SHA256_DIGEST_LENGTH + 1];
	Jsonb	   *payload;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("payload must not be null"),
				 errhint("Pass the payload of the job whose key it shall be.")));
	payload = PG_GETARG_JSONB_P(0);
	hash = pg_cryptohash_create(PG_SHA256);
	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(hash));
	if (PG_ARGISNULL(1))
		feed_container(hash, &payload->root);
	else
	{
		int			nfields;
		char	  **fields = queue_names(PG_GETARG_DATUM(1), "fields", &nfields);

		if (!JB_ROOT_IS_OBJECT(payload))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a payload with fields must be a JSON object"),
					 errhint("Pass null as fields to make the key of the whole payload.")));
		feed_fields(hash, payload, fields, nfields);
	}
	if (!PG_ARGISNULL(2))
	{
		int64		period = queue_check_span("period", PG_GETARG_INTERVAL_P(2), 1);
		int64		now = queue_now() + UNIX_EPOCH_US;
		int64		start = now - now % period;
		char	   *bucket = psprintf(INT64_FORMAT "+" INT64_FORMAT, start, period);

		feed(hash, 'p', bucket, strlen(bucket));
	}
	if (pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(hash));
	pg_cryptohash_free(hash);
	for (int i = 0; i < lengthof(digest); i++)
		snprintf(&text[2 * i], 3, "%02x", digest[i]);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
