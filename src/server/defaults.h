/*
 * defaults.h
 *		The defaults of our functions' parameters, read once a backend.
 */
#ifndef QUEUE_DEFAULTS_H
#define QUEUE_DEFAULTS_H

/* Called by _PG_init. */
extern void queue_defaults_install(void);

#endif							/* QUEUE_DEFAULTS_H */
