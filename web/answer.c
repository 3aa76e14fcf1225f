/*
 * answer.c
 *		Answers: their headers, and what an error looks like.
 *
 * Nothing from a database ever stands in HTML: pages are static files, data is JSON that a page puts into text nodes.
 * The headers make that hold even if a page were wrong: no script but the files here, and none from a string.
 */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

static const char *const headers[][2] = {
	{"Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
		"form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
		"require-trusted-types-for 'script'; trusted-types 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
};

struct MHD_Response *
answer_of(const char *type, const char *text, size_t length, void *data, void (*free_data) (void *))
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer_with_free_callback_cls(length, (void *) text, free_data, data);

	if (response == NULL)
		die("out of memory");
	for (size_t i = 0; i < lengthof(headers); i++)
		(void) MHD_add_response_header(response, headers[i][0], headers[i][1]);
	(void) MHD_add_response_header(response, "Content-Type", type);
	/* pages and their files are asked for again each time, but mostly not sent again (ETag); data is never kept */
	(void) MHD_add_response_header(response, "Cache-Control",
								   strcmp(type, "application/json") == 0 || strcmp(type, "text/plain") == 0 ?
								   "no-store" : "no-cache");
	return response;
}

enum MHD_Result
answer_text(struct MHD_Connection *connection, unsigned int status, const char *type, const char *text)
{
	char	   *copy = xstrdup(text);
	struct MHD_Response *response = answer_of(type, copy, strlen(copy), copy, free);
	enum MHD_Result result = MHD_queue_response(connection, status, response);

	MHD_destroy_response(response);
	return result;
}

void
answer_error_text(Buffer *buffer, const char *code, const char *message, const char *hint)
{
	buffer_text(buffer, "{\"error\": {\"code\": ");
	buffer_json(buffer, code);
	buffer_text(buffer, ", \"message\": ");
	buffer_json(buffer, message);
	buffer_text(buffer, ", \"hint\": ");
	buffer_json(buffer, hint);
	buffer_text(buffer, "}}\n");
}

enum MHD_Result
answer_error(struct MHD_Connection *connection, unsigned int status, const char *code, const char *message,
			 const char *hint)
{
	Buffer		buffer = {0};
	enum MHD_Result result;

	answer_error_text(&buffer, code, message, hint);
	result = answer_text(connection, status, "application/json", buffer.data);
	buffer_free(&buffer);
	return result;
}
