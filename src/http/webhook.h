/*
 * webhook.h
 *		What an HTTP request for a job says: its body, its headers, its signature.
 */
#ifndef QUEUE_WEBHOOK_H
#define QUEUE_WEBHOOK_H

#include "job/job.h"

struct curl_slist;

/* whsec_ and base64, or any text that is not empty. */
extern bool queue_webhook_secret_ok(const char *secret);

/* A payload in UTF-8; palloc'd.  NULL: it has none, and *error says why. */
extern char *queue_webhook_body(const Jsonb *payload, size_t *length, char **error);

/*
 * All headers of a request, as libcurl wants them; the caller frees them.  NULL: the job has one that cannot be
 * sent, and *error (palloc'd) says which.
 */
extern struct curl_slist *queue_webhook_headers(const QueueJob *job, const QueueExtra *extra, const QueueLine *line,
												const char *installation, const char *body, size_t length,
												TimestampTz now, char **error);

#endif
