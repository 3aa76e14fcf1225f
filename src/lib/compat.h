/*
 * compat.h
 *		Every difference between PostgreSQL 15, 16, 17 and 18 that this extension
 *		meets, in one place.  No other file tests PG_VERSION_NUM.
 */
#ifndef QUEUE_COMPAT_H
#define QUEUE_COMPAT_H

#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "queue supports PostgreSQL 15, 16, 17 and 18"
#endif

/* 16 tells which indexes an update needs; 15 only whether it needs any. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes QueueUpdateIndexes;
#define queue_update_needs_indexes(u)	((u) != TU_None)
#define queue_update_only_summarizing(u) ((u) == TU_Summarizing)
#else
typedef bool QueueUpdateIndexes;
#define queue_update_needs_indexes(u)	(u)
#define queue_update_only_summarizing(u) false
#endif

/* A process's number in ProcGlobal->allProcs. */
#if PG_VERSION_NUM >= 170000
#define queue_procno_of(proc)	((uint32) GetNumberFromPGProc(proc))
#else
#define queue_procno_of(proc)	((uint32) (proc)->pgprocno)
#endif

/* The place of a transaction's process among all that have virtual transactions; of a prepared one's none. */
#if PG_VERSION_NUM >= 170000
#define queue_vxid_place(vxid)	((uint32) (vxid).procNumber)
#else
#define queue_vxid_place(vxid)	((uint32) ((vxid).backendId - 1))
#endif

/* Wait events have names of their own from 17 on: queue_wait_event("QueueXxx"), evaluated once per call site. */
#if PG_VERSION_NUM >= 170000
#define queue_wait_event(name) \
	({ static uint32 queue_wait_event_ = 0; \
	   if (queue_wait_event_ == 0) queue_wait_event_ = WaitEventExtensionNew(name); \
	   queue_wait_event_; })
#else
#define queue_wait_event(name)	PG_WAIT_EXTENSION
#endif

/*
 * A wait event set that lives as long as the process: 17 has it owned by a resource owner instead of a memory
 * context.
 */
#include "storage/latch.h"
#if PG_VERSION_NUM >= 170000
#define queue_wait_event_set(n) CreateWaitEventSet(NULL, n)
#else
#define queue_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* From 17 on a background worker may connect as a role that cannot log in. */
#if PG_VERSION_NUM >= 170000
#define QUEUE_NOLOGIN_ROLES_WORK true
#define QUEUE_BGWORKER_CONNECT_FLAGS BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define QUEUE_NOLOGIN_ROLES_WORK false
#define QUEUE_BGWORKER_CONNECT_FLAGS 0
#endif

/* May this role use CONNECT / CREATE .. on a database; does it own one: the names changed in 16. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#define queue_database_aclcheck(db, role, mode) object_aclcheck(DatabaseRelationId, db, role, mode)
#define queue_database_ownercheck(db, role)	object_ownercheck(DatabaseRelationId, db, role)
#define queue_extension_ownercheck(ext, role)	object_ownercheck(ExtensionRelationId, ext, role)
#else
#define queue_database_aclcheck(db, role, mode) pg_database_aclcheck(db, role, mode)
#define queue_database_ownercheck(db, role)	pg_database_ownercheck(db, role)
#define queue_extension_ownercheck(ext, role)	pg_extension_ownercheck(ext, role)
#endif

/* 18 can instrument index scans; 16 tells ExecInsertIndexTuples when only summarizing indexes need a new entry. */
#if PG_VERSION_NUM >= 180000
#define queue_index_beginscan(rel, index, snapshot, nkeys) index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define queue_index_beginscan(rel, index, snapshot, nkeys) index_beginscan(rel, index, snapshot, nkeys, 0)
#endif
#if PG_VERSION_NUM >= 160000
#define queue_insert_index_tuples(rri, slot, estate, update, summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, update, false, NULL, NIL, summarizing)
#else
#define queue_insert_index_tuples(rri, slot, estate, update, summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, update, false, NULL, NIL)
#endif

/* What an index keeps between the inserts of a statement is given up by a call of its own since 17. */
#if PG_VERSION_NUM >= 170000
#define queue_index_insert_cleanup(index, info) index_insert_cleanup(index, info)
#else
#define queue_index_insert_cleanup(index, info) ((void) 0)
#endif

#if PG_VERSION_NUM >= 160000
#define queue_epq_init(epq, estate) EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL)
#else
#define queue_epq_init(epq, estate) EvalPlanQualInit(epq, estate, NULL, NIL, -1)
#endif

#if PG_VERSION_NUM >= 160000
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#define queue_proc_aclcheck(proc, role) object_aclcheck(ProcedureRelationId, proc, role, ACL_EXECUTE)
#define queue_namespace_aclcheck(nsp, role) object_aclcheck(NamespaceRelationId, nsp, role, ACL_USAGE)
#else
#define queue_proc_aclcheck(proc, role) pg_proc_aclcheck(proc, role, ACL_EXECUTE)
#define queue_namespace_aclcheck(nsp, role) pg_namespace_aclcheck(nsp, role, ACL_USAGE)
#endif

/* 18 has pg_noreturn, before a declaration, instead. */
#ifndef pg_attribute_noreturn
#define pg_attribute_noreturn() __attribute__((noreturn))
#endif

/* May member become role: from 16 on a membership may lack the SET option. */
#if PG_VERSION_NUM >= 160000
#define queue_can_set_role(member, role) member_can_set_role(member, role)
#else
#define queue_can_set_role(member, role) is_member_of_role(member, role)
#endif

/*
 * Does this process hold an advisory lock, other than of a group? They are never fast-path, so they stand in the lists
 * of its PGPROC, to which nobody else adds but for relation locks.
 */
#include "storage/lwlock.h"
#define QUEUE_GROUP_LOCK_SPACE 0x5157	/* locktag_field4 of the locks of groups (job/group.c) */
static inline bool
queue_is_advisory(const LOCKTAG *tag)
{
	return tag->locktag_lockmethodid == USER_LOCKMETHOD && tag->locktag_field4 != QUEUE_GROUP_LOCK_SPACE;
}

static inline bool
queue_holds_advisory_lock(void)
{
	bool		found = false;

	for (int i = 0; i < NUM_LOCK_PARTITIONS && !found; i++)
	{
#if PG_VERSION_NUM >= 160000
		dlist_head *locks = &MyProc->myProcLocks[i];
		dlist_iter	iter;

		if (dlist_is_empty(locks))
			continue;
		LWLockAcquire(LockHashPartitionLockByIndex(i), LW_SHARED);
		dlist_foreach(iter, locks)
		{
			PROCLOCK   *lock = dlist_container(PROCLOCK, procLink, iter.cur);

			found |= queue_is_advisory(&lock->tag.myLock->tag);
		}
#else
		SHM_QUEUE  *locks = &MyProc->myProcLocks[i];
		PROCLOCK   *lock;

		if (SHMQueueEmpty(locks))
			continue;
		LWLockAcquire(LockHashPartitionLockByIndex(i), LW_SHARED);
		for (lock = (PROCLOCK *) SHMQueueNext(locks, locks, offsetof(PROCLOCK, procLink));
			 lock != NULL;
			 lock = (PROCLOCK *) SHMQueueNext(locks, &lock->procLink, offsetof(PROCLOCK, procLink)))
			found |= queue_is_advisory(&lock->tag.myLock->tag);
#endif
		LWLockRelease(LockHashPartitionLockByIndex(i));
	}
	return found;
}

/*
 * From libpq/libpq.h, which cannot be included: through libpq-be.h it wants GSSAPI's headers, which server-dev
 * packages do not bring. The socket of the client is event 0 of the set.
 */
extern PGDLLIMPORT struct WaitEventSet *FeBeWaitSet;
extern bool pq_check_connection(void);
#define QUEUE_FEBE_SOCKET_POS 0

/*
 * From timezone/pgtz.h, which is not installed: the file of a time zone, by its name as pg_get_timezone_name gives it;
 * below 0: there is none.
 */
extern int	pg_open_tzfile(const char *name, char *canonname);
#define queue_open_zone(name) pg_open_tzfile(name, NULL)

#if PG_VERSION_NUM >= 170000
#define queue_lock_held_by_me(tag, mode) LockHeldByMe(tag, mode, false)
#else
#define queue_lock_held_by_me(tag, mode) LockHeldByMe(tag, mode)
#endif

#endif
