/*
 * suspect.c
 *		What the executors of a database were running when one of them died.
 *
 * Owns the file pg_stat_tmp/queue.<database oid>, mapped shared by the database's
 * executors and its scheduler.  A file and not shared memory, because that is
 * reset after a crash; in pg_stat_tmp, because base backups leave that out.  A row of
 * QUEUE_SUSPECT_IDS ids per slot number, each an aligned 8-byte store that the kernel keeps
 * when the process is killed.  Every process that ends in order, or is told by SIGQUIT that another
 * one died, clears its row: what is left was run by a process that died itself.
 * The header names the boot of the machine: after a power failure everyone died, nobody is suspected.
 *
 * No locks: a row is written by its slot's owner, and collected when the slot has none.
 * Without a file (disk full, odd permissions) nothing is suspected: one line in the log.
 */
#include "shared/suspect.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"

#define BOOT_SIZE 64
#define FILE_SIZE (BOOT_SIZE + sizeof(int64) * QUEUE_SUSPECT_IDS * QUEUE_MAX_SLOTS)

static char *map = NULL;		/* the file */
static volatile int64 *mine = NULL; /* my row */
static volatile sig_atomic_t highest = 0;	/* ids used in my row since it was last cleared */

/* The kernel's name for this boot of the machine; empty where it has none. */
static void
read_boot(char *boot)
{
	int			fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);

	memset(boot, 0, BOOT_SIZE);
	if (fd >= 0)
	{
		if (read(fd, boot, BOOT_SIZE - 1) < 0)
			boot[0] = '\0';
		close(fd);
	}
}

/* Makes the file as long as it is to be, with room on the disk: a write to the map that finds none kills the server. */
static int
reserve(int fd)
{
	struct stat st;
	int			error;

	if (fstat(fd, &st) == 0 && st.st_size >= FILE_SIZE)
		return 0;				/* where that writes zeros it must not: others have it mapped */
	do
	{
		error = posix_fallocate(fd, 0, FILE_SIZE);
	} while (error == EINTR);
	return error;
}

/* The file's name. */
static void
file_name(char *path, Oid db)
{
	snprintf(path, MAXPGPATH, PG_STAT_TMP_DIR "/queue.%u", db);
}

/* Maps this database's file, made if it is not there; a file of another boot is emptied.  False: there is none. */
static bool
map_file(void)
{
	char		path[MAXPGPATH];
	char		boot[BOOT_SIZE];
	int			fd;

	if (map != NULL)
		return true;
	file_name(path, MyDatabaseId);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || (errno = reserve(fd)) != 0)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("queue could not create file \"%s\": %m", path),
				 errhint("A job that kills its process will not be recognized after a restart.")));
		if (fd >= 0)
			close(fd);
		return false;
	}
	map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
	{
		map = NULL;
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("queue could not map file \"%s\": %m", path)));
		return false;
	}
	read_boot(boot);
	if (memcmp(map, boot, BOOT_SIZE) != 0)
	{
		memset(map + BOOT_SIZE, 0, FILE_SIZE - BOOT_SIZE);
		memcpy(map, boot, BOOT_SIZE);
	}
	return true;
}

/* A slot's row. */
static volatile int64 *
row_of(int number)
{
	return (volatile int64 *) (map + BOOT_SIZE) + (Size) number * QUEUE_SUSPECT_IDS;
}

/* SIGQUIT: another process died (or immediate shutdown); what I run is not to blame. */
static void
suspect_sigquit(SIGNAL_ARGS)
{
	queue_suspect_clear();
	SignalHandlerForCrashExit(postgres_signal_arg);
}

/* An exit in order. */
static void
suspect_exit(int code, Datum arg)
{
	queue_suspect_clear();
	mine = NULL;
}

/*
 * Executor: the row of my slot is mine from now on; not before the scheduler collected it (it starts executors after
 * that).
 */
void
queue_suspect_attach(int slot_number)
{
	if (!map_file())
		return;
	mine = row_of(slot_number);
	highest = QUEUE_SUSPECT_IDS;
	queue_suspect_clear();
	on_shmem_exit(suspect_exit, (Datum) 0);
	pqsignal(SIGQUIT, suspect_sigquit);
}

/* Executor: I am about to run this job, the i'th of the open transaction. */
void
queue_suspect_set(int i, int64 id)
{
	if (mine == NULL || i < 0 || i >= QUEUE_SUSPECT_IDS)
		return;
	if (highest < i + 1)
		highest = i + 1;
	mine[i] = id;
}

/* Executor: the transaction ended.  Async-signal-safe. */
void
queue_suspect_clear(void)
{
	volatile int64 *row = mine;

	if (row == NULL)
		return;
	for (int i = 0; i < highest; i++)
		row[i] = 0;
	highest = 0;
}

/* Scheduler, at its start: what dead executors left, each id once.  Rows with a living owner stay. */
int
queue_suspect_collect(int64 *out, int max)
{
	int			n = 0;

	if (!map_file())
		return 0;
	for (int number = 0; number < QUEUE_MAX_SLOTS; number++)
	{
		volatile int64 *row = row_of(number);

		if (number < queue_slot_count())
		{
			QueueSlot  *slot = queue_slot_nth(number);

			if (pg_atomic_read_u32(&slot->type) == QUEUE_SLOT_EXECUTOR && slot->db == MyDatabaseId)
				continue;
		}
		for (int i = 0; i < QUEUE_SUSPECT_IDS; i++)
		{
			int64		id = row[i];
			bool		known = false;

			if (id == 0)
				continue;
			for (int j = 0; j < n && !known; j++)
				known = out[j] == id;
			if (!known && n >= max)
				return n;		/* the rest stays for the next time */
			if (!known)
				out[n++] = id;
			row[i] = 0;
		}
	}
	return n;
}

/* The database is gone, and its file.  Called by the launcher. */
void
queue_suspect_forget(Oid db)
{
	char		path[MAXPGPATH];

	file_name(path, db);
	(void) unlink(path);
}
