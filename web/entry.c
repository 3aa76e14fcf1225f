/*
 * entry.c
 *		The queries that are asked for, run, or have their answers, and the table of those that are shared.
 */
#include "entry.h"

#include "answer.h"
#include "database.h"
#include "util.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHARED 256			/* entries in the table */
#define MAX_KEPT (8 << 20)		/* bytes of answers that serve others */
#define MAX_BYTES (12 << 20)	/* bytes of all answers, those that are being sent too */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Entry *shared;			/* the newest first */
static int	nshared;
static size_t bytes_kept;		/* of answers in the table */
static size_t bytes_all;

void
entry_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
entry_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void
entry_hold(Entry *entry)
{
	entry->references++;
}

void
entry_release(Entry *entry)
{
	if (--entry->references > 0)
		return;
	bytes_all -= entry->size;
	if (entry->response != NULL)
		MHD_destroy_response(entry->response);
	for (int i = 0; i < entry->nvalues; i++)
		free(entry->values[i]);
	free(entry->key);
	free(entry->who);
	free(entry);
}

/* Takes it out of the table; who has it goes on with it. */
static void
drop_shared(Entry **place)
{
	Entry	   *entry = *place;

	*place = entry->next_shared;
	nshared--;
	if (entry->ready)
		bytes_kept -= entry->size;
	free(entry->key);
	entry->key = NULL;
	entry_release(entry);
}

/* May its answer, or the one that it will have, serve who asks now? */
static bool
is_fresh(const Entry *entry, int64_t now)
{
	if (!entry->ready && !entry->running)
		return true;
	return entry->generation == database_generation(entry->database) &&
		(!entry->ready || (now - entry->ready_at < entry->query->fresh_ms &&
							 entry->status != MHD_HTTP_SERVICE_UNAVAILABLE));
}

/* Drops what serves nobody any more, then the oldest, until there is room for one more. */
static void
make_room(int64_t now)
{
	for (Entry **place = &shared; *place != NULL;)
	{
		if (is_fresh(*place, now))
			place = &(*place)->next_shared;
		else
			drop_shared(place);
	}
	while (shared != NULL && (nshared >= MAX_SHARED || bytes_kept > MAX_KEPT))
	{
		Entry	  **place = &shared;

		while ((*place)->next_shared != NULL)
			place = &(*place)->next_shared;
		drop_shared(place);
	}
}

Entry *
entry_make(Database *database, const Query *query, char *values[], int nvalues)
{
	Entry	   *entry = xmalloc(sizeof(Entry));

	entry->database = database;
	entry->query = query;
	entry->nvalues = nvalues;
	for (int i = 0; i < nvalues; i++)
		entry->values[i] = values[i];
	entry->references = 1;
	return entry;
}

/* The view's name and its parameters, each with its length, so that no two sets of them are one text. */
static char *
make_key(const Query *query, char *values[], int nvalues)
{
	Buffer		key = {0};

	buffer_text(&key, query->name);
	for (int i = 0; i < nvalues; i++)
	{
		if (values[i] == NULL)
			buffer_text(&key, " -");
		else
			buffer_printf(&key, " %zu:%s", strlen(values[i]), values[i]);
	}
	return key.data;
}

Entry *
entry_get(Database *database, const Query *query, char *values[], int nvalues)
{
	char	   *key = make_key(query, values, nvalues);
	Entry	   *entry;

	make_room(now_ms());
	for (entry = shared; entry != NULL; entry = entry->next_shared)
	{
		if (entry->database == database && strcmp(entry->key, key) == 0)
			break;
	}
	if (entry != NULL)
	{
		free(key);
		for (int i = 0; i < nvalues; i++)
			free(values[i]);
		entry_hold(entry);
		return entry;
	}
	entry = entry_make(database, query, values, nvalues);
	entry->key = key;
	entry_hold(entry);
	entry->next_shared = shared;
	shared = entry;
	nshared++;
	database_submit(database, entry);
	return entry;
}

void
entry_wait(Entry *entry, struct MHD_Connection *connection)
{
	Waiter	   *waiter = xmalloc(sizeof(Waiter));

	waiter->connection = connection;
	waiter->next = entry->waiters;
	entry->waiters = waiter;
	MHD_suspend_connection(connection);
}

bool
entry_has_room(void)
{
	if (bytes_all >= MAX_BYTES)
		make_room(now_ms());
	return bytes_all < MAX_BYTES;
}

static void
resume(Entry *entry)
{
	while (entry->waiters != NULL)
	{
		Waiter	   *waiter = entry->waiters;

		entry->waiters = waiter->next;
		MHD_resume_connection(waiter->connection);
		free(waiter);
	}
}

void
entry_answer(Entry *entry, unsigned int status, const char *text, size_t length, void *data, void (*free_data) (void *))
{
	if (entry->ready)
	{
		free_data(data);
		resume(entry);
		return;
	}
	entry->response = answer_of(entry->query->plain && status == MHD_HTTP_OK ? "text/plain" : "application/json",
								text, length, data, free_data);
	entry->text = text;
	entry->size = length;
	entry->status = status;
	entry->ready = true;
	entry->running = false;
	entry->ready_at = now_ms();
	bytes_all += length;
	if (entry->key != NULL)
		bytes_kept += length;
	resume(entry);
}

void
entry_refuse(Entry *entry, unsigned int status, const char *code, const char *message, const char *hint)
{
	Buffer		text = {0};

	answer_error_text(&text, code, message, hint);
	entry_answer(entry, status, text.data, text.length, text.data, free);
}
