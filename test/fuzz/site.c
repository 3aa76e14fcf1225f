/*
 * What queue-web makes of the bytes that a connection brings: libmicrohttpd reads them for web/http.c, whose addresses,
 * parameters, tokens and bodies are looked at as in the program.  In place of the databases stands a thread that answers
 * each question after a moment, so that requests are suspended and resumed.
 *
 * Whatever comes: no word of a database without the token, no action without it, and each answer is whole.
 */
#include "../../web/answer.h"
#include "../../web/database.h"
#include "../../web/http.h"
#include "../../web/options.h"
#include "../../web/util.h"

#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"

#define TOKEN "the token"
#define WORD "what only the database knows"

Options		options;

struct Database
{
	const char *name;
};

static Database databases[] = {{"one"}, {"two/half"}};
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t asked_lock = PTHREAD_MUTEX_INITIALIZER;
static Entry *questions;		/* under the entries' lock */
static volatile bool may_ask;	/* does the input hold the token? */

int
database_count(void)
{
	return 2;
}

Database *
database_at(int number)
{
	return &databases[number];
}

Database *
database_find(const char *name)
{
	for (int i = 0; i < 2; i++)
	{
		if (strcmp(databases[i].name, name) == 0)
			return &databases[i];
	}
	return NULL;
}

const char *
database_name(const Database *database)
{
	return database->name;
}

DatabaseState
database_state(Database *database)
{
	return (DatabaseState) {.up = true};
}

void
database_state_free(DatabaseState *state)
{
}

int64_t
database_generation(const Database *database)
{
	return 1;
}

void
database_submit(Database *database, Entry *entry)
{
	FUZZ_CHECK(may_ask);
	FUZZ_CHECK(entry->nvalues <= MAX_PARAMS && (!entry->query->action || (entry->nvalues == 1 && entry->who != NULL)));
	entry_hold(entry);
	entry->next = questions;
	questions = entry;
	pthread_mutex_lock(&asked_lock);
	pthread_cond_signal(&asked);
	pthread_mutex_unlock(&asked_lock);
}

/* Answers with what was asked, as JSON. */
static void
give_answer(Entry *entry)
{
	Buffer		text = {0};

	buffer_json(&text, WORD);
	for (int i = 0; i < entry->nvalues; i++)
		buffer_json(&text, entry->values[i]);
	entry_answer(entry, 200, text.data, text.length, text.data, free);
	entry_release(entry);
}

static void *
answer_questions(void *arg)
{
	for (;;)
	{
		Entry	   *entry;

		pthread_mutex_lock(&asked_lock);
		while (questions == NULL)
			pthread_cond_wait(&asked, &asked_lock);
		pthread_mutex_unlock(&asked_lock);
		entry_lock();
		while ((entry = questions) != NULL)
		{
			questions = entry->next;
			give_answer(entry);
		}
		entry_unlock();
	}
	return NULL;
}

static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void
start(void)
{
	int			listening = socket(AF_UNIX, SOCK_STREAM, 0);
	pthread_t	thread;

	options.listen = "127.0.0.1:8080";
	options.token = strdup(TOKEN);
	options.write = true;
	options.hosts[options.nhosts++] = "queue.example";
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "queue-fuzz-%d", (int) getpid());
	FUZZ_CHECK(bind(listening, (struct sockaddr *) &address, sizeof(address)) == 0 && listen(listening, 16) == 0);
	FUZZ_CHECK(http_start(listening));
	FUZZ_CHECK(pthread_create(&thread, NULL, answer_questions, NULL) == 0);
}

static bool
holds(const char *text, size_t length, const char *word)
{
	return memmem(text, length, word, strlen(word)) != NULL;
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool started = false;
	static char answer[1 << 20];
	size_t		length = 0;
	ssize_t		n;
	int			unread;
	int			connection = socket(AF_UNIX, SOCK_STREAM, 0);

	if (!started)
		start();
	started = true;
	may_ask = holds((const char *) data, size, TOKEN);
	FUZZ_CHECK(connection >= 0 && connect(connection, (struct sockaddr *) &address, sizeof(address)) == 0);
	(void) send(connection, data, size, MSG_NOSIGNAL);
	/* libmicrohttpd does not see an end that comes with the last bytes, and would wait for more until its timeout */
	while (ioctl(connection, SIOCOUTQ, &unread) == 0 && unread > 0)
		sched_yield();
	(void) shutdown(connection, SHUT_WR);
	while ((n = recv(connection, answer + length, sizeof(answer) - length, 0)) > 0)
		length += (size_t) n;
	close(connection);
	FUZZ_CHECK(length < sizeof(answer));
	FUZZ_CHECK(length == 0 || strncmp(answer, "HTTP/1.", 7) == 0);
	FUZZ_CHECK(may_ask || !holds(answer, length, WORD));
	FUZZ_CHECK(may_ask || !holds(answer, length, "Set-Cookie"));
	FUZZ_CHECK(!holds(answer, length, "\nX-Injected"));
	return 0;
}
