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

/* Makes a C string of the database's encoding valid, in place: what is not valid becomes '?'. */
extern void queue_text_mend(char *text);

/*
 * A palloc'd copy, at most `limit` bytes, of bytes that ought to be text of that encoding, valid in the database's:
 * what is not valid, or cannot be told in it, is '?'; a character that the end cuts off is dropped.
 */
extern char *queue_text_clean(const char *bytes, size_t length, size_t limit, int encoding);

#endif
