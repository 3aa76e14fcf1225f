/*
 * redact.h
 *		Taking what a request carried in secret out of the answer that is kept of it.
 */
#ifndef QUEUE_REDACT_H
#define QUEUE_REDACT_H

#include "http/request.h"

/*
 * Masks in the request's answer the values of its headers, its url's query and the handler's secrets (conf NULL: it is
 * gone).
 */
extern void queue_redact(QueueRequest *request, const QueueHttpConf *conf);

#endif
