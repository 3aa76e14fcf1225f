/* What queue-web reads of a request by itself: its headers, its numbers; and the JSON that it writes of text. */
#include "../../web/auth.c"
#include "../../web/util.c"

#include "fuzz.h"

Options		options;

/* the input: a value for each header, behind a letter for it, each ended by a NUL */
static const struct { char letter; const char *name; } headers[] = {
	{'h', "Host"}, {'o', "Origin"}, {'s', "Sec-Fetch-Site"}, {'a', "Authorization"}, {'c', "X-Queue-CSRF"},
	{'f', "X-Forwarded-Proto"}, {'k', "queue_web_8080"},
};
static const char *given[sizeof(headers) / sizeof(headers[0])];

const char *
MHD_lookup_connection_value(struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *name)
{
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
	{
		if (strcmp(headers[i].name, name) == 0)
			return given[i];
	}
	abort();
}

/* Is that what comes of the text, and nothing that a page could take for markup? */
static void
check_json(const char *text)
{
	Buffer		buffer = {0};
	const char *at;

	buffer_json(&buffer, text);
	FUZZ_CHECK(buffer.length == strlen(buffer.data) && buffer.data[0] == '"' && buffer.data[buffer.length - 1] == '"');
	for (at = buffer.data + 1; at < buffer.data + buffer.length - 1; at++, text++)
	{
		unsigned	code = (unsigned char) *at;

		FUZZ_CHECK(code >= 0x20 && code != 0x7f && code != '<' && code != '>' && code != '&' && code != '"');
		if (code == '\\' && at[1] == 'u')
		{
			FUZZ_CHECK(sscanf(at, "\\u%4x", &code) == 1);
			at += 5;
		}
		else if (code == '\\')
			code = (unsigned char) *++at;
		FUZZ_CHECK(code == (unsigned char) *text);
	}
	FUZZ_CHECK(*text == '\0');
	buffer_free(&buffer);
}

static void
check_number(const char *text)
{
	bool		whole = whole_number(text, -5, INT64_C(9223372036854775807));

	for (const char *at = text; whole && *at != '\0'; at++)
		FUZZ_CHECK((*at >= '0' && *at <= '9') || (at == text && (*at == '-' || *at == '+' || *at == ' ')));
	FUZZ_CHECK(!whole || (*text != '\0' && strtoll(text, NULL, 10) >= -5));
	FUZZ_CHECK(!whole_number(text, 1, 0));
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char token[] = "the token";
	char	   *copy = malloc(size + 1);
	Caller		caller;
	char		host[8];

	if (cookie_name == NULL)
	{
		options.listen = "127.0.0.1:8080";
		options.token = token;
		options.hosts[options.nhosts++] = "queue.example";
		auth_start();
	}
	memcpy(copy, data, size);
	copy[size] = '\0';
	memset(given, 0, sizeof(given));
	for (char *at = copy; at < copy + size; at += strlen(at) + 1)
	{
		for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		{
			if (*at == headers[i].letter)
				given[i] = at + 1;
		}
		check_json(at);
		check_number(at);
		if (host_of(at, host, sizeof(host)))
			FUZZ_CHECK(host[0] != '\0' && strlen(host) < sizeof(host));
		free(auth_login(NULL, at));
	}
	caller = auth_caller(NULL);
	FUZZ_CHECK(!caller.allowed || caller.by_session || (given[3] != NULL && strcmp(given[3] + 7, token) == 0));
	FUZZ_CHECK(!auth_csrf(NULL, &caller) || strcmp(given[4], caller.csrf) == 0);
	if (auth_host(NULL))
		FUZZ_CHECK(given[0] != NULL && given[0][0] != '\0');
	if (auth_origin(NULL) && given[1] != NULL)
		FUZZ_CHECK(given[0] != NULL && strlen(given[1]) >= strlen(given[0]) + 7);
	free(auth_logout(NULL));
	free(copy);
	return 0;
}
