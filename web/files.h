/*
 * files.h
 *		The pages' files, in the binary or, with --static, in a folder.
 */
#ifndef WEB_FILES_H
#define WEB_FILES_H

#include <microhttpd.h>

/* What embed.sh makes of the folder static/. */
typedef struct StaticFile
{
	const char *name;
	const char *data;
	const char *end;
} StaticFile;

extern const StaticFile static_files[];
extern const int static_file_count;

extern enum MHD_Result file_answer(struct MHD_Connection *connection, const char *name);

#endif
