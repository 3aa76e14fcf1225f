/*
 * metrics.c
 *		Puts the metrics of several databases together.
 *
 * A family of OpenMetrics must stand in one piece, so the text of each database is taken apart by families and each
 * sample gets the label `database`.
 */
#include "metrics.h"

#include <stdlib.h>
#include <string.h>

#define MAX_FAMILIES 256

typedef struct Family
{
	char	   *name;
	Buffer		head;			/* HELP, TYPE, UNIT; of the database that has it first */
	Buffer		samples;
} Family;

struct Metrics
{
	int			nfamilies;
	Family		families[MAX_FAMILIES];
};

Metrics *
metrics_begin(void)
{
	return xmalloc(sizeof(Metrics));
}

static Family *
find_family(Metrics *metrics, const char *name, size_t length)
{
	for (int i = 0; i < metrics->nfamilies; i++)
	{
		if (strlen(metrics->families[i].name) == length && memcmp(metrics->families[i].name, name, length) == 0)
			return &metrics->families[i];
	}
	return NULL;
}

static Family *
make_family(Metrics *metrics, const char *name, size_t length)
{
	Family	   *family;

	if (metrics->nfamilies == MAX_FAMILIES)
		return NULL;
	family = &metrics->families[metrics->nfamilies++];
	family->name = xmalloc(length + 1);
	memcpy(family->name, name, length);
	return family;
}

/* The value of a label, quoted as OpenMetrics wants it. */
static void
add_label(Buffer *buffer, const char *value)
{
	buffer_text(buffer, "database=\"");
	for (; *value != '\0'; value++)
	{
		if (*value == '\n')
			buffer_text(buffer, "\\n");
		else
		{
			if (*value == '"' || *value == '\\')
				buffer_text(buffer, "\\");
			buffer_add(buffer, value, 1);
		}
	}
	buffer_text(buffer, "\"");
}

/* One sample: name{labels} value, or name value. */
static void
add_sample(Family *family, const char *database, const char *line, size_t length)
{
	size_t		name = strcspn(line, "{ ");

	if (name >= length)
		return;
	buffer_add(&family->samples, line, name);
	buffer_text(&family->samples, "{");
	add_label(&family->samples, database);
	if (line[name] == '{')
	{
		if (line[name + 1] != '}')
			buffer_text(&family->samples, ",");
		buffer_add(&family->samples, line + name + 1, length - name - 1);
	}
	else
	{
		buffer_text(&family->samples, "}");
		buffer_add(&family->samples, line + name, length - name);
	}
	buffer_text(&family->samples, "\n");
}

static void
add_up(Metrics *metrics, const char *database, bool up)
{
	static const char name[] = "queue_database_up";
	Family	   *family = find_family(metrics, name, strlen(name));

	if (family == NULL)
	{
		family = make_family(metrics, name, strlen(name));
		buffer_printf(&family->head, "# HELP %s 1 if queue-web could read the metrics of a database.\n"
					  "# TYPE %s gauge\n",
					  name, name);
	}
	buffer_printf(&family->samples, "%s{", name);
	add_label(&family->samples, database);
	buffer_printf(&family->samples, "} %d\n", up ? 1 : 0);
}

void
metrics_add(Metrics *metrics, const char *database, bool up, const char *text, size_t length)
{
	const char *end = text + length;
	Family	   *family = NULL;
	bool		first = false;	/* is this database the first that has the family? */

	add_up(metrics, database, up);
	for (const char *line = text; up && line < end;)
	{
		const char *newline = memchr(line, '\n', (size_t) (end - line));
		size_t		width = (size_t) ((newline != NULL ? newline : end) - line);

		if (width > 7 && (strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0 ||
						  strncmp(line, "# UNIT ", 7) == 0))
		{
			const char *name = line + 7;
			size_t		size = strcspn(name, " \n");

			if (family == NULL || strlen(family->name) != size || memcmp(family->name, name, size) != 0)
			{
				family = find_family(metrics, name, size);
				first = family == NULL;
				if (first)
					family = make_family(metrics, name, size);
			}
			if (first && family != NULL)
			{
				buffer_add(&family->head, line, width);
				buffer_text(&family->head, "\n");
			}
		}
		else if (width > 0 && *line != '#' && family != NULL)
			add_sample(family, database, line, width);
		line += width + 1;
	}
}

char *
metrics_end(Metrics *metrics, size_t *length)
{
	Buffer		text = {0};

	for (int i = 0; i < metrics->nfamilies; i++)
	{
		Family	   *family = &metrics->families[i];

		buffer_add(&text, family->head.data, family->head.length);
		if (family->samples.length > 0)
			buffer_add(&text, family->samples.data, family->samples.length);
		free(family->name);
		buffer_free(&family->head);
		buffer_free(&family->samples);
	}
	free(metrics);
	buffer_text(&text, "# EOF\n");
	*length = text.length;
	return text.data;
}
