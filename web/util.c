/*
 * util.c
 *		Memory, text and time, for all of queue-web.
 */
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

void *
xmalloc(size_t size)
{
	void	   *memory = calloc(1, size > 0 ? size : 1);

	if (memory == NULL)
		die("out of memory");
	return memory;
}

char *
xstrdup(const char *text)
{
	size_t		size = strlen(text) + 1;

	return memcpy(xmalloc(size), text, size);
}

static char *
format_text(const char *format, va_list args)
{
	char	   *text;

	if (vasprintf(&text, format, args) < 0)
		die("out of memory");
	return text;
}

char *
xprintf(const char *format, ...)
{
	va_list		args;
	char	   *text;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	return text;
}

void
buffer_add(Buffer *buffer, const char *data, size_t length)
{
	if (buffer->length + length + 1 > buffer->size)
	{
		size_t		size = 2 * (buffer->length + length) + 64;
		char	   *bigger = realloc(buffer->data, size);

		if (bigger == NULL)
			die("out of memory");
		buffer->data = bigger;
		buffer->size = size;
	}
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
}

void
buffer_text(Buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text));
}

void
buffer_printf(Buffer *buffer, const char *format, ...)
{
	va_list		args;
	char	   *text;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	buffer_text(buffer, text);
	free(text);
}

/* What markup could mean something is escaped too, although nothing puts JSON into a page. */
void
buffer_json(Buffer *buffer, const char *text)
{
	if (text == NULL)
	{
		buffer_text(buffer, "null");
		return;
	}
	buffer_add(buffer, "\"", 1);
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if (c == '"' || c == '\\')
		{
			buffer_add(buffer, "\\", 1);
			buffer_add(buffer, text, 1);
		}
		else if (c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&')
			buffer_printf(buffer, "\\u%04x", c);
		else
			buffer_add(buffer, text, 1);
	}
	buffer_add(buffer, "\"", 1);
}

void
buffer_free(Buffer *buffer)
{
	free(buffer->data);
	*buffer = (Buffer) {0};
}

int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One line to stderr in one write, so that threads do not mix theirs; control characters show as ?. */
static void
write_line(const char *format, va_list args)
{
	char	   *text = format_text(format, args);
	char		stamp[32];
	time_t		now = time(NULL);
	struct tm	parts;
	Buffer		line = {0};

	gmtime_r(&now, &parts);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &parts);
	for (char *c = text; *c != '\0'; c++)
	{
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			*c = '?';
	}
	buffer_printf(&line, "%s queue-web: %s\n", stamp, text);
	for (size_t done = 0; done < line.length;)
	{
		ssize_t		n = write(STDERR_FILENO, line.data + done, line.length - done);

		if (n < 0 && errno != EINTR)
			break;
		done += n > 0 ? (size_t) n : 0;
	}
	buffer_free(&line);
	free(text);
}

void
log_line(const char *format, ...)
{
	va_list		args;

	va_start(args, format);
	write_line(format, args);
	va_end(args);
}

void
die(const char *format, ...)
{
	va_list		args;

	fputs("queue-web: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void
random_hex(char hex[RANDOM_HEX + 1])
{
	unsigned char bytes[RANDOM_HEX / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t) sizeof(bytes))
		die("no random numbers");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

bool
equal_secret(const char *given, const char *secret)
{
	size_t		ngiven = strlen(given);
	size_t		nsecret = strlen(secret);
	volatile unsigned char differs = ngiven != nsecret;

	/* walks over what is given, whose length the caller knows anyway */
	for (size_t i = 0; i < ngiven; i++)
		differs |= (unsigned char) (given[i] ^ secret[nsecret > 0 ? i % nsecret : 0]);
	return differs == 0 && nsecret > 0;
}

bool
whole_number(const char *text, int64_t low, int64_t high)
{
	char	   *end;
	long long	number;

	if (*text != '-' && (*text < '0' || *text > '9'))
		return false;
	errno = 0;
	number = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' && end != text && number >= low && number <= high;
}
