/*
 * main.c
 *		queue-web: see and steer the jobs of databases that have the extension queue, in a browser.
 *
 * Reads the command line, opens the listening socket, starts the databases' threads and the HTTP server, and waits for
 * the signal to end.
 */
#include "database.h"
#include "http.h"
#include "options.h"
#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MIN_TOKEN 16
#define MAX_TOKEN 256

Options options = {.timeout = 5, .action_timeout = 60};

static mode_t socket_mode = 0600;

static const char help[] =
"queue-web shows the jobs of PostgreSQL databases that have the extension queue, in a browser.\n"
"\n"
"Usage: queue-web [OPTION]... CONNECTION...\n"
"\n"
"CONNECTION is a connection string of libpq, such as 'postgresql://reader@/app'; each one is a database. The role's\n"
"grants decide what is shown and done. Put passwords into ~/.pgpass or a service file, not here.\n"
"\n"
"  --listen HOST:PORT       where to listen (127.0.0.1:8432); another address than loopback needs --token-file\n"
"  --socket PATH            listen on a Unix socket instead\n"
"  --socket-mode MODE       its permissions (0600)\n"
"  --token-file FILE        ask for the token that the file holds (16 to 256 characters; no others may read it)\n"
"  --host NAME              accept requests for this name too, such as a proxy's; may be repeated\n"
"  --write                  allow actions: retry, cancel, pause ..; without it all is read-only\n"
"  --timeout SECONDS        statement_timeout of what the pages read (5)\n"
"  --action-timeout SECONDS statement_timeout of actions (60)\n"
"  --static DIR             read the pages from a folder instead of the program, for work on them\n"
"  --help, --version\n"
"\n"
"/metrics has the metrics of all databases for Prometheus, /healthz says ok while all databases are up.\n";

/* ---- the command line ---- */

static _Noreturn void
usage(const char *problem, const char *what)
{
	fprintf(stderr, "queue-web: %s%s\nTry queue-web --help.\n", problem, what);
	exit(2);
}

static int
seconds(const char *name, const char *text)
{
	if (!whole_number(text, 1, 86400))
		usage(name, " must be a number of seconds from 1 to 86400");
	return atoi(text);
}

static mode_t
mode_of(const char *text)
{
	char	   *end;
	long		mode = strtol(text, &end, 8);

	if (*text < '0' || *text > '7' || *end != '\0' || mode > 0777)
		usage("--socket-mode must be octal, such as 0660, not ", text);
	return (mode_t) mode;
}

/* The first line of the file, which others may not read. */
static char *
read_token(const char *path)
{
	char		text[MAX_TOKEN + 3] = "";
	FILE	   *file = fopen(path, "r");
	struct stat info;

	if (file == NULL || fstat(fileno(file), &info) != 0)
		die("cannot read the token file %s: %s", path, strerror(errno));
	if (S_ISREG(info.st_mode) && (info.st_mode & (S_IRWXO | S_IWGRP)) != 0)
		die("others may read or write the token file %s: chmod 0600 it", path);
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	text[strcspn(text, "\r\n")] = '\0';
	if (strlen(text) < MIN_TOKEN || strlen(text) > MAX_TOKEN)
		die("the token in %s must have %d to %d characters", path, MIN_TOKEN, MAX_TOKEN);
	return xstrdup(text);
}

enum { LISTEN = 256, SOCKET, SOCKET_MODE, TOKEN_FILE, HOST, WRITE, TIMEOUT, ACTION_TIMEOUT, STATIC, HELP, VERSION };

static const struct option long_options[] = {
	{"listen", required_argument, NULL, LISTEN},
	{"socket", required_argument, NULL, SOCKET},
	{"socket-mode", required_argument, NULL, SOCKET_MODE},
	{"token-file", required_argument, NULL, TOKEN_FILE},
	{"host", required_argument, NULL, HOST},
	{"write", no_argument, NULL, WRITE},
	{"timeout", required_argument, NULL, TIMEOUT},
	{"action-timeout", required_argument, NULL, ACTION_TIMEOUT},
	{"static", required_argument, NULL, STATIC},
	{"help", no_argument, NULL, HELP},
	{"version", no_argument, NULL, VERSION},
	{NULL, 0, NULL, 0}
};

static void
read_option(int option)
{
	switch (option)
	{
		case LISTEN:
			options.listen = optarg;
			break;
		case SOCKET:
			options.socket = optarg;
			break;
		case SOCKET_MODE:
			socket_mode = mode_of(optarg);
			break;
		case TOKEN_FILE:
			options.token = read_token(optarg);
			break;
		case HOST:
			if (options.nhosts == MAX_HOSTS)
				usage("too many --host", "");
			options.hosts[options.nhosts++] = optarg;
			break;
		case WRITE:
			options.write = true;
			break;
		case TIMEOUT:
			options.timeout = seconds("--timeout", optarg);
			break;
		case ACTION_TIMEOUT:
			options.action_timeout = seconds("--action-timeout", optarg);
			break;
		case STATIC:
			options.static_dir = optarg;
			break;
		case HELP:
			fputs(help, stdout);
			exit(0);
		case VERSION:
			puts("queue-web " QUEUE_WEB_VERSION);
			exit(0);
		default:
			exit(2);			/* getopt has said why */
	}
}

static void
read_options(int argc, char **argv)
{
	int			option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		read_option(option);
	if (optind == argc)
		usage("no database given", "");
	if (argc - optind > MAX_DATABASES)
		usage("too many databases", "");
	while (optind < argc)
		options.databases[options.ndatabases++] = argv[optind++];
	if (options.listen != NULL && options.socket != NULL)
		usage("--listen and --socket", " do not go together");
	if (options.listen == NULL && options.socket == NULL)
		options.listen = "127.0.0.1:8432";
}

/* ---- the listening socket ---- */

static bool
is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr) >> 24 == 127;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) address)->sin6_addr);
}

/* Says where, with the port that the kernel chose if 0 was asked for. */
static void
tell_address(int listening)
{
	struct sockaddr_storage address = {0};
	socklen_t	length = sizeof(address);
	char		host[NI_MAXHOST];
	char		port[NI_MAXSERV];

	if (getsockname(listening, (struct sockaddr *) &address, &length) == 0 &&
		getnameinfo((struct sockaddr *) &address, length, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		log_line(address.ss_family == AF_INET6 ? "listening on http://[%s]:%s/" : "listening on http://%s:%s/", host,
				 port);
}

static int
listen_tcp(const char *where)
{
	const char *colon = strrchr(where, ':');
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *addresses;
	char	   *host;
	size_t		length;
	int			listening;
	int			error;
	int			on = 1;

	if (colon == NULL || colon == where || !whole_number(colon + 1, 0, 65535))
		usage("--listen wants HOST:PORT, not ", where);
	host = xstrdup(where);
	length = (size_t) (colon - where);
	host[length] = '\0';
	if (host[0] == '[' && host[length - 1] == ']')
	{
		host[length - 1] = '\0';
		memmove(host, host + 1, length - 1);
	}
	error = getaddrinfo(host, colon + 1, &hints, &addresses);
	if (error != 0)
		die("cannot listen on %s: %s", where, gai_strerror(error));
	if (!is_loopback(addresses->ai_addr) && options.token == NULL)
		usage("without --token-file it listens on loopback addresses only, not on ", where);
	listening = socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listening < 0 || setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(listening, addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(listening, 511) != 0)
		die("cannot listen on %s: %s", where, strerror(errno));
	freeaddrinfo(addresses);
	free(host);
	tell_address(listening);
	return listening;
}

static int
listen_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat info;
	mode_t		mask;

	if (strlen(path) >= sizeof(address.sun_path))
		usage("the path of the socket is too long: ", path);
	memcpy(address.sun_path, path, strlen(path));
	/* one that a program left behind goes; one that answers stays */
	if (lstat(path, &info) == 0 && S_ISSOCK(info.st_mode))
	{
		int			probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		/* one that we may not ask, or that is too busy to answer, is nobody's leftover */
		if (connect(probe, (struct sockaddr *) &address, sizeof(address)) == 0 || errno != ECONNREFUSED)
			die("another program listens on %s", path);
		close(probe);
		unlink(path);
	}
	mask = umask(0777);
	if (listening < 0 || bind(listening, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		chmod(path, socket_mode) != 0 || listen(listening, 511) != 0)
		die("cannot listen on %s: %s", path, strerror(errno));
	umask(mask);
	log_line("listening on %s", path);
	return listening;
}

int
main(int argc, char **argv)
{
	sigset_t	signals;
	int			listening;
	int			got;

	read_options(argc, argv);
	databases_read();
	signal(SIGPIPE, SIG_IGN);
	/* no thread gets them but this one, which waits for them */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	/* an arena a thread would keep much more memory than is in use */
	mallopt(M_ARENA_MAX, 2);

	if (options.socket != NULL)
		listening = listen_unix(options.socket);
	else if (options.listen != NULL)
		listening = listen_tcp(options.listen);
	else
		die("there is nothing to listen on");
	databases_start();
	if (!http_start(listening))
		die("cannot start the HTTP server");
	sigwait(&signals, &got);
	databases_stop();
	http_stop();
	if (options.socket != NULL)
		unlink(options.socket);
	return 0;
}
