/* fuzz.h: what the targets share. */
#ifndef QUEUE_FUZZ_H
#define QUEUE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Gives back all that was allocated for an input. */
extern void fuzz_end(void);

/* A copy of an input as a C string of valid UTF-8, which is all that the server ever gets; NULL: it is none. */
extern char *fuzz_text(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition) do { if (!(condition)) abort(); } while (0)

#endif
