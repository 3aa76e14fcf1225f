/*
 * owner.c
 *		Asking for a privilege, acting as the extension's owner, and the trigger that
 *		tells of what was changed so.
 *
 * Public functions are SECURITY INVOKER: they check the matrix for the current user and
 * only then write as the owner, with a pinned search_path, in a security-restricted
 * operation.  No locks.
 */
#include "config/owner.h"

#include "config/line_limit.h"
#include "shared/database.h"
#include "shared/mark.h"
#include "shared/note.h"
#include "shared/reminder.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(queue_sql_config_changed);

/* 42501 unless the current user holds the privilege. */
void
queue_require_of(Oid role, const char *queue, int privilege)
{
	const char *word;
	const char *shown = queue == NULL ? "*" : queue;

	if (likely(queue_may(role, queue, privilege)))
		return;
	word = privilege == QUEUE_PRIV_ENQUEUE ? "enqueue" :
		privilege == QUEUE_PRIV_WORK ? "work" :
		privilege == QUEUE_PRIV_READ ? "read" : "manage";
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" lacks privilege %s on queue \"%s\"", GetUserNameFromId(role, false), word,
					shown),
			 /* the same words if there is no such queue: who has no right in it shall not learn whether there is one */
			 errhint("%s role that holds manage on it can run: SELECT queue.grant_queue(%s, %s, '%s').",
					 queue == NULL ? "A" : "If the queue's name is right, a", quote_literal_cstr(shown),
					 quote_literal_cstr(GetUserNameFromId(role, false)), word)));
}

void
queue_require(const char *queue, int privilege)
{
	queue_require_of(GetUserId(), queue, privilege);
}

/* Act as the extension's owner with a pinned search_path; an abort undoes it too. */
void
queue_as_owner_begin(QueueOwnerContext *saved)
{
	Oid			owner = queue_config()->extension_owner;

	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(owner, saved->sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	saved->guc_nestlevel = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
queue_as_owner_end(QueueOwnerContext *saved)
{
	AtEOXact_GUC(false, saved->guc_nestlevel);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

/* Pins them for this process.  Called by the scheduler and the http worker when they are connected. */
void
queue_pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},
		{"row_security", "off"},
	};

	for (int i = 0; i < lengthof(pinned); i++)
	{
		if (GetConfigOption(pinned[i][0], true, false) != NULL)
			SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/*
 * Statement trigger on the config tables: every session's cache is stale after commit (and this one's after the
 * statement), and the scheduler is woken.
 */
Datum
queue_sql_config_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("queue_internal.config_changed() is a trigger"),
				 errhint("It fires by itself when a config table changes.")));
	if (strcmp(RelationGetRelationName(trigdata->tg_relation), "event") == 0 ||
		strcmp(RelationGetRelationName(trigdata->tg_relation), "event_wait") == 0)
	{
		/* not of queue.emit, which acts so: they were restored */
		if (!InSecurityRestrictedOperation())
		{
			queue_database_loaded();
			queue_remind_all();
		}
		PG_RETURN_POINTER(NULL);
	}
	if (strcmp(RelationGetRelationName(trigdata->tg_relation), "dependency") == 0)
	{
		queue_database_loaded();	/* likewise */
		queue_remind_all();
		PG_RETURN_POINTER(NULL);
	}
	if (strcmp(RelationGetRelationName(trigdata->tg_relation), "live_key") == 0)
	{
		/* no job of ours was enqueued so: they were restored, or somebody mends them */
		queue_database_loaded();
		queue_mark_all();
		PG_RETURN_POINTER(NULL);
	}
	CacheInvalidateRelcache(trigdata->tg_relation);
	queue_note_config();
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		strcmp(RelationGetRelationName(trigdata->tg_relation), "line") == 0)
	{
		queue_database_loaded();
		queue_lines_loaded();
	}
	PG_RETURN_POINTER(NULL);
}
