/*
 * options.h
 *		What the command line says; read by main.c, never changed after that.
 */
#ifndef WEB_OPTIONS_H
#define WEB_OPTIONS_H

#include <stdbool.h>

#define MAX_DATABASES 32
#define MAX_HOSTS 16

typedef struct Options
{
	const char *listen;			/* HOST:PORT */
	const char *socket;			/* a Unix socket instead */
	char	   *token;			/* NULL: none is asked for */
	const char *static_dir;		/* NULL: the files in the binary */
	const char *hosts[MAX_HOSTS];	/* names in the Host header besides addresses and localhost */
	int			nhosts;
	const char *databases[MAX_DATABASES];	/* connection strings */
	int			ndatabases;
	bool		write;
	int			timeout;		/* of a view's query, seconds */
	int			action_timeout;
} Options;

extern Options options;

#endif
