/*
 * config.h
 *		This backend's cache of the configuration: queues, handlers, privileges, lines.
 *		Read by plain table scans (no SPI, no planner), thrown away when a config table
 *		changes (relcache invalidation sent by their statement triggers) or the database's
 *		generation was bumped.
 */
#ifndef QUEUE_CONFIG_H
#define QUEUE_CONFIG_H

#include "config/types.h"

/* A queue with create_queue's defaults, palloc'd: for jobs of a queue that was dropped. */
extern QueueConf *queue_conf_make(const char *name);

/* The current configuration; 55000 if the extension is not in this database. Valid until the next call or CCI. */
extern QueueConfig *queue_config(void);
/*
 * From here to the release nothing that the cache holds now is freed, however often it is read again. Ends with the
 * transaction.
 */
extern int	queue_config_hold(void);
extern void queue_config_release(int before);
/* The current one, held too: for who goes through it, asking for rights on the way, between a hold and its release. */
static inline QueueConfig *
queue_config_keep(void)
{
	QueueConfig *config = queue_config();

	(void) queue_config_hold();
	return config;
}

extern uint64 queue_config_generation(void);	/* of the last reading; reads nothing */
extern bool queue_config_stale(void);	/* would queue_config() read again? */

extern QueueConf *queue_config_queue(const char *name, bool missing_ok);	/* 42704 with hint */
extern QueueHandler *queue_config_handlers(const char *kind);	/* of exactly this kind, by same_kind; or NULL */
extern bool queue_handler_names(const QueueHandler *handler, const char *queue);

/*
 * For lines.c, which works on one reading: a queue of it, or NULL; which handler serves a line of it, and may it; the
 * same, and its limits.  And: the current one is wrong, read again.
 */
extern QueueConf *queue_config_find(QueueConfig *config, const char *name);
extern void queue_config_serve(QueueConfig *config, QueueLine *line);
extern void queue_config_resolve(QueueConfig *config, QueueLine *line);
extern void queue_config_invalidate(void);	/* commit-safe */
extern void queue_config_no_queue(const char *name) pg_attribute_noreturn();	/* 42704 with hint */

/* May this user do that?  One place decides it.  queue NULL: on '*'. */
extern bool queue_may(Oid userid, const char *queue, int privilege);
extern const char *queue_may_where(Oid userid, int privilege);	/* the first queue where he may; NULL: nowhere */

#endif
