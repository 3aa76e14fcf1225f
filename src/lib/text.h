/*
 * text.h
 *		Cutting text at the boundary of a character, and making what came from outside text that the database can hold.
 */
#ifndef QUEUE_TEXT_H
#define QUEUE_TEXT_H

#include "lib/compat.h"

/* How many of the bytes of a valid text, at most `limit`, are whole characters. */
extern size_t queue_text_fitting(const char *text, size_t length, size_t limit);

/* Copies a valid text into `to`, cut to whole characters if it does not fit. */
extern void queue_text_copy(char *to, size_t size, const char *from);

/*
 * Makes bytes that ought to be text of that encoding valid in the database's: what is not valid, or cannot be told in
 * it, becomes '?'; a character that the end cuts off is dropped.  In place; returns the new length.
 */
extern size_t queue_text_mend(char *text, size_t length, int encoding);
extern void queue_text_mend_own(char *text);	/* the same of a C string in the database's encoding */

/* A palloc'd copy, mended, of at most `limit` bytes. */
extern char *queue_text_clean(const char *bytes, size_t length, size_t limit, int encoding);

#endif
