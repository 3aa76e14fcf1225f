/*
 * answer.h
 *		Answers: their headers, and what an error looks like.
 */
#ifndef WEB_ANSWER_H
#define WEB_ANSWER_H

#include "util.h"

#include <microhttpd.h>

/* An answer with the headers that all have; free_data(data) is called when it has gone out to everybody. */
extern struct MHD_Response *answer_of(const char *type, const char *text, size_t length, void *data,
									  void (*free_data) (void *));
extern enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned int status, const char *type,
								   const char *text);
extern enum MHD_Result answer_error(struct MHD_Connection *connection, unsigned int status, const char *code,
									const char *message, const char *hint);
extern void answer_error_text(Buffer *buffer, const char *code, const char *message, const char *hint);

#endif
