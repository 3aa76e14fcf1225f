/*
 * util.h
 *		Memory, text and time, for all of queue-web.
 */
#ifndef WEB_UTIL_H
#define WEB_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

/* A text that grows; always ends with a NUL that is not counted. */
typedef struct Buffer
{
	char	   *data;
	size_t		length;
	size_t		size;
} Buffer;

extern void *xmalloc(size_t size);		/* zeroed; ends the program when there is no memory */
extern char *xstrdup(const char *text);
extern char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

extern void buffer_add(Buffer *buffer, const char *data, size_t length);
extern void buffer_text(Buffer *buffer, const char *text);
extern void buffer_printf(Buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void buffer_json(Buffer *buffer, const char *text);	/* as a JSON string, or null */
extern void buffer_free(Buffer *buffer);

extern int64_t now_ms(void);			/* a clock that only rises */
extern void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define RANDOM_HEX 64					/* 256 bits */
extern void random_hex(char hex[RANDOM_HEX + 1]);
extern bool equal_secret(const char *given, const char *secret);	/* in a time that tells nothing of the secret */
extern bool whole_number(const char *text, int64_t low, int64_t high);

#endif
