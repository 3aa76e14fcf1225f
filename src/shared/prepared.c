/*
 * prepared.c
 *		The notes of prepared transactions, which somebody else pays.
 *
 * PREPARE TRANSACTION puts them into a shared table under the gid, from which the hook (ddl_hook.c) has them paid after
 * COMMIT PREPARED or ROLLBACK PREPARED.  The worker of a subscription with two_phase prepares and ends transactions
 * without a statement, so no hook is told: its next commit, which follows at once, pays for all that are over by then.
 *
 * Of a transaction with more notes than an entry holds, or that was prepared before a crash, it is told only that
 * something happened: the database's cursors are reset.
 *
 * Lock: the table's LWLock; the server is asked under it whether a transaction has ended, nothing else is taken.
 */
#include "shared/prepared.h"

#include "shared/clock.h"
#include "shared/ended.h"
#include "shared/mark.h"
#include "shared/reminder.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "replication/logicalworker.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

#define PREPARED_NOTES 32
#define SLACK 32				/* entries for transactions that are over and not yet paid for */

/* Where a kind and its queue are counted, if they have a place, for who knows no names: another backend. */
typedef struct PreparedCounter
{
	QueueCounter *kind, *queue;
	uint64		kind_incarnation, queue_incarnation;
} PreparedCounter;

typedef struct PreparedNotes
{
	TransactionId xid;			/* invalid: the entry is free */
	bool		told;			/* by the hook: of .. */
	char		gid[GIDSIZE];	/* may be empty */
	Oid			db;
	bool		config;
	bool		overflow;		/* more notes than fit: reset the database's cursors instead */
	int			n;
	QueueNote	note[PREPARED_NOTES];
	PreparedCounter counter[PREPARED_NOTES];	/* of note's kind */
	int			nended;
	QueueEnded	ended[PREPARED_NOTES];
	PreparedCounter ended_counter[PREPARED_NOTES];
} PreparedNotes;

typedef struct PreparedTable
{
	LWLock		lock;
	int			tranche;
	bool		overflow;		/* a gid found no place: every unknown gid resets */
	pg_atomic_uint32 nused;
	int			size;
	PreparedNotes entry[FLEXIBLE_ARRAY_MEMBER];
} PreparedTable;

static PreparedTable *prepared = NULL;

static char prepare_gid[GIDSIZE];
static bool told = false;		/* of the PREPARE that this backend executes, and so prepare_gid is its gid */

/* As many as there can be prepared transactions. */
static int
table_size(void)
{
	return max_prepared_xacts > 0 ? max_prepared_xacts + SLACK : 0;
}

Size
queue_prepared_shmem_size(void)
{
	return MAXALIGN(add_size(offsetof(PreparedTable, entry), mul_size(table_size(), sizeof(PreparedNotes))));
}

void
queue_prepared_shmem_init(void)
{
	bool		found;

	prepared = ShmemInitStruct("queue prepared notes", queue_prepared_shmem_size(), &found);
	if (!found)
	{
		memset(prepared, 0, queue_prepared_shmem_size());
		prepared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&prepared->lock, prepared->tranche);
		pg_atomic_init_u32(&prepared->nused, 0);
		prepared->size = table_size();
	}
	LWLockRegisterTranche(prepared->tranche, "QueuePrepared");
}

/* The places of a reference, and a reference to places. */
static PreparedCounter
counter_of_ref(QueueCounterRef *ref)
{
	PreparedCounter counter = {0};

	if (ref == NULL)
		return counter;
	counter.kind = ref->entry;
	counter.kind_incarnation = ref->incarnation;
	counter.queue = ref->queue->entry;
	counter.queue_incarnation = ref->queue->incarnation;
	return counter;
}

static QueueCounterRef *
ref_of_counter(const PreparedCounter *counter, QueueCounterRef ref[2])
{
	ref[0] = (QueueCounterRef) {.queue = &ref[1], .entry = counter->kind, .incarnation = counter->kind_incarnation};
	ref[1] = (QueueCounterRef) {.entry = counter->queue, .incarnation = counter->queue_incarnation};
	return &ref[0];
}

/* At PREPARE TRANSACTION, before note.c forgets what it owes.  Commit-safe. */
static void
store(void)
{
	int			n;
	bool		config;
	const QueueNote *notes = queue_note_owed(&n, &config);
	PreparedNotes *entry = NULL;
	QueueEnded *ended;
	int			nended = queue_ended_all(&ended);
	bool		by_hook = told;

	told = false;
	if (prepared == NULL || (n == 0 && !config))
		return;
	/* places now, because later nobody knows the names; should it roll back, the next sweep finds that */
	for (int i = 0; i < Min(n, PREPARED_NOTES); i++)
	{
		QueueCounterRef *ref = notes[i].keys.counter;

		(void) queue_counter(ref, true);
		(void) queue_counter(ref != NULL ? ref->queue : NULL, true);
	}
	LWLockAcquire(&prepared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < prepared->size && entry == NULL; i++)
	{
		if (!TransactionIdIsValid(prepared->entry[i].xid))
			entry = &prepared->entry[i];
	}
	if (entry == NULL)
		prepared->overflow = true;
	else
	{
		entry->xid = GetTopTransactionIdIfAny();
		entry->told = by_hook;
		strlcpy(entry->gid, by_hook ? prepare_gid : "", GIDSIZE);
		entry->db = MyDatabaseId;
		entry->config = config;
		entry->overflow = n > PREPARED_NOTES;
		entry->n = Min(n, PREPARED_NOTES);
		if (n > 0)
			memcpy(entry->note, notes, entry->n * sizeof(QueueNote));
		/* of many the last ones: those before them are told neither to recent_job nor to the numbers of their kinds */
		entry->nended = Min(nended, PREPARED_NOTES);
		ended += nended - entry->nended;
		if (nended > 0)
			memcpy(entry->ended, ended, entry->nended * sizeof(QueueEnded));
		/* this backend's references mean nothing to who commits it */
		for (int i = 0; i < entry->n; i++)
			entry->counter[i] = counter_of_ref(notes[i].keys.counter);
		for (int i = 0; i < entry->nended; i++)
			entry->ended_counter[i] = counter_of_ref(ended[i].counter);
		pg_atomic_fetch_add_u32(&prepared->nused, 1);
	}
	LWLockRelease(&prepared->lock);
}

void
queue_prepared_set_gid(const char *gid)
{
	strlcpy(prepare_gid, gid, GIDSIZE);
	told = true;
}

/*
 * The entry of a gid that the hook was told of; with `over` of a transaction that has ended, because as soon as one has
 * another may be prepared under its gid.  Lock: the table's.
 */
static PreparedNotes *
find(const char *gid, bool over)
{
	for (int i = 0; i < prepared->size; i++)
	{
		PreparedNotes *entry = &prepared->entry[i];

		if (TransactionIdIsValid(entry->xid) && entry->told && strcmp(entry->gid, gid) == 0 &&
			!(over && TransactionIdIsInProgress(entry->xid)))
			return entry;
	}
	return NULL;
}

/* Copies an entry out and frees it.  Lock: the table's. */
static void
take(PreparedNotes *entry, PreparedNotes *copy)
{
	*copy = *entry;
	entry->xid = InvalidTransactionId;
	pg_atomic_fetch_sub_u32(&prepared->nused, 1);
}

bool
queue_prepared_knows(const char *gid)
{
	bool		known;

	if (prepared == NULL || pg_atomic_read_u32(&prepared->nused) == 0)
		return false;
	LWLockAcquire(&prepared->lock, LW_SHARED);
	known = find(gid, false) != NULL;
	LWLockRelease(&prepared->lock);
	return known;
}

/* Marks and reminders of a prepared transaction are rows. */
static void
tell_of_rows(Oid db)
{
	queue_mark_rows(db);
	queue_reminder_rows(db);
}

/* Does what its backend would have done at its end. */
static void
pay(PreparedNotes *entry, bool commit)
{
	static QueueCounterRef refs[PREPARED_NOTES][2];
	static QueueCounterRef ended_refs[PREPARED_NOTES][2];
	QueueDatabase *base = queue_database_of(entry->db, true);

	for (int i = 0; i < entry->n; i++)
		entry->note[i].keys.counter = ref_of_counter(&entry->counter[i], refs[i]);
	for (int i = 0; i < entry->nended; i++)
		entry->ended[i].counter = ref_of_counter(&entry->ended_counter[i], ended_refs[i]);
	if (base != NULL && (entry->config || entry->overflow))
		queue_database_bump(base);
	if (commit)
		queue_ended_pay(entry->db, entry->ended, entry->nended, queue_now());
	if (entry->overflow)
	{
		queue_cursor_reset(entry->db);
		queue_database_deadline(base, DT_NOBEGIN);
	}
	else if (commit)
		queue_note_pay_commit(entry->db, base, entry->note, entry->n);
	else
		queue_note_pay_abort(entry->db, base, entry->note, entry->n);
	if (entry->config || entry->overflow)
		queue_fetch_waiter_wake_all(entry->db);
}

/* Pays what transactions owe that are over and of whose end the hook was not told. */
static void
pay_over(void)
{
	static PreparedNotes entry;

	if (prepared == NULL)
		return;
	for (int i = 0; pg_atomic_read_u32(&prepared->nused) > 0 && i < prepared->size; i++)
	{
		TransactionId xid;

		LWLockAcquire(&prepared->lock, LW_SHARED);
		xid = prepared->entry[i].xid;
		LWLockRelease(&prepared->lock);
		if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid))
			continue;
		LWLockAcquire(&prepared->lock, LW_EXCLUSIVE);
		if (prepared->entry[i].xid != xid)
			xid = InvalidTransactionId; /* somebody else pays */
		else
			take(&prepared->entry[i], &entry);
		LWLockRelease(&prepared->lock);
		if (!TransactionIdIsValid(xid))
			continue;
		pay(&entry, TransactionIdDidCommit(xid));
		tell_of_rows(entry.db);
	}
}

/*
 * After COMMIT PREPARED or ROLLBACK PREPARED succeeded.  maybe_old: the gid was
 * prepared before this shared memory began, so what it owes is unknown: all of its
 * database is looked at again.
 */
void
queue_prepared_finish(const char *gid, bool commit, bool maybe_old)
{
	static PreparedNotes entry;
	PreparedNotes *found;

	if (prepared == NULL)
		return;
	LWLockAcquire(&prepared->lock, LW_EXCLUSIVE);
	found = find(gid, true);
	if (found != NULL)
	{
		take(found, &entry);
		commit = TransactionIdDidCommit(entry.xid);
	}
	else
		entry = (PreparedNotes) {.db = MyDatabaseId, .overflow = maybe_old || prepared->overflow};
	LWLockRelease(&prepared->lock);
	if (found != NULL || entry.overflow)
		pay(&entry, commit);
	if (commit)
		tell_of_rows(MyDatabaseId);
	if (found == NULL)
		pay_over();				/* it may be one that the hook was not told of */
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PREPARE)
		store();
	else if (event == XACT_EVENT_PRE_COMMIT && IsLogicalWorker())
		pay_over();
}

void
queue_prepared_register_callback(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
