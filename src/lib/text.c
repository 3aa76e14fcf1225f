/*
 * text.c
 *		Cutting text at the boundary of a character, and making what came from outside text that the database can hold.
 *
 * Everything that goes into a table, to a client or into shared memory after it was cut (a buffer of fixed size, a
 * limit of bytes) or after it came from outside (an answer's body, libcurl's and the system's messages) passes through
 * here: half a character in a row makes a dump that cannot be restored.
 *
 * Pure but for the database's encoding.  Nothing is thrown, and nothing palloc'd but by queue_text_clean.
 */
#include "lib/text.h"

#include "mb/pg_wchar.h"

size_t
queue_text_fitting(const char *text, size_t length, size_t limit)
{
	return length <= limit ? length : (size_t) pg_mbcliplen(text, (int) length, (int) limit);
}

void
queue_text_copy(char *to, size_t size, const char *from)
{
	size_t		fitting = queue_text_fitting(from, strlen(from), size - 1);

	memcpy(to, from, fitting);
	to[fitting] = '\0';
}

/* Are the bytes up to the end the beginning of a character of which the rest is missing? */
static bool
is_cut_off(const unsigned char *bytes, size_t left, int encoding)
{
	if ((size_t) pg_encoding_mblen(encoding, (const char *) bytes) <= left)
		return false;
	for (size_t i = 0; i < left; i++)
	{
		if (!IS_HIGHBIT_SET(bytes[i]))
			return false;
	}
	return true;
}

/* Makes bytes of `encoding` valid in the database's encoding, in place (see queue_text_clean); the new length. */
static size_t
mend(char *text, size_t length, int encoding)
{
	int			own = GetDatabaseEncoding();
	bool		only_ascii = encoding != own && own != PG_SQL_ASCII;
	const unsigned char *bytes = (const unsigned char *) text;
	size_t		from = 0;
	size_t		to = 0;

	while (from < length)
	{
		int			size = 1;

		if (bytes[from] == '\0')
			size = -1;
		else if (IS_HIGHBIT_SET(bytes[from]))
			size = pg_encoding_verifymbchar(encoding, text + from, (int) Min(length - from, 16));
		if (size < 0 && is_cut_off(bytes + from, length - from, encoding))
			break;
		if (size < 0 || (size > 1 && only_ascii) || (only_ascii && IS_HIGHBIT_SET(bytes[from])))
			text[to++] = '?';
		else
		{
			memmove(text + to, text + from, size);
			to += size;
		}
		from += Max(size, 1);
	}
	return to;
}

void
queue_text_mend(char *text)
{
	text[mend(text, strlen(text), GetDatabaseEncoding())] = '\0';
}

char *
queue_text_clean(const char *bytes, size_t length, size_t limit, int encoding)
{
	/* a few bytes more than may stay, so that only the real end of it can look cut off */
	size_t		taken = Min(length, limit + MAX_MULTIBYTE_CHAR_LEN);
	char	   *text = palloc(taken + 1);

	if (taken > 0)
		memcpy(text, bytes, taken);
	taken = mend(text, taken, encoding);
	taken = queue_text_fitting(text, taken, limit);
	text[taken] = '\0';
	return text;
}
