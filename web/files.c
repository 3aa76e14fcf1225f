/*
 * files.c
 *		The pages' files, in the binary or, with --static, in a folder.
 *
 * The folder has no folders, and a name is letters, digits, '.', '_' and '-', so no name leads out of it.
 */
#include "files.h"

#include "answer.h"
#include "options.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (4 << 20)

static const char *const types[][2] = {
	{".html", "text/html; charset=utf-8"},
	{".css", "text/css; charset=utf-8"},
	{".js", "text/javascript; charset=utf-8"},
	{".json", "application/json; charset=utf-8"},
	{".svg", "image/svg+xml"},
	{".png", "image/png"},
	{".ico", "image/x-icon"},
	{".txt", "text/plain; charset=utf-8"},
	{".woff2", "font/woff2"},
};

static const char *
type_of(const char *name)
{
	const char *extension = strrchr(name, '.');

	for (size_t i = 0; extension != NULL && i < lengthof(types); i++)
	{
		if (strcmp(extension, types[i][0]) == 0)
			return types[i][1];
	}
	return "application/octet-stream";
}

static bool
is_plain_name(const char *name)
{
	if (*name == '\0' || *name == '.')
		return false;
	for (; *name != '\0'; name++)
	{
		if (!isalnum((unsigned char) *name) && strchr("._-", *name) == NULL)
			return false;
	}
	return true;
}

/* A whole file of the folder; NULL: there is none. */
static char *
read_file(const char *name, size_t *length)
{
	char	   *path = xprintf("%s/%s", options.static_dir, name);
	int			file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat info;
	char	   *data = NULL;

	free(path);
	if (file < 0)
		return NULL;
	if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= MAX_FILE)
	{
		ssize_t		n;

		data = xmalloc((size_t) info.st_size);
		n = read(file, data, (size_t) info.st_size);
		*length = n > 0 ? (size_t) n : 0;
	}
	close(file);
	return data;
}

static void
keep(void *data)
{
	(void) data;
}

/* A digest of the content (FNV-1a), for the browser to tell that it has it already. */
static void
etag_of(const char *data, size_t length, char etag[24])
{
	uint64_t	hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char) data[i]) * 0x100000001b3;
	snprintf(etag, 24, "\"%016llx\"", (unsigned long long) hash);
}

enum MHD_Result
file_answer(struct MHD_Connection *connection, const char *name)
{
	const char *known = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-None-Match");
	struct MHD_Response *response;
	enum MHD_Result result;
	char		etag[24];
	char	   *read = NULL;
	const char *data = NULL;
	size_t		length = 0;
	unsigned int status = MHD_HTTP_OK;

	if (is_plain_name(name))
	{
		if (options.static_dir != NULL)
			data = read = read_file(name, &length);
		for (int i = 0; options.static_dir == NULL && i < static_file_count; i++)
		{
			if (strcmp(static_files[i].name, name) != 0)
				continue;
			data = static_files[i].data;
			length = (size_t) (static_files[i].end - data);
		}
	}
	if (data == NULL)
		return answer_error(connection, MHD_HTTP_NOT_FOUND, "address", "there is no such file", NULL);
	etag_of(data, length, etag);
	if (known != NULL && strcmp(known, etag) == 0)
	{
		status = MHD_HTTP_NOT_MODIFIED;
		length = 0;
	}
	response = answer_of(type_of(name), data, length, read, read != NULL ? free : keep);
	(void) MHD_add_response_header(response, "ETag", etag);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}
