/*
 * finding.c
 *		Collects the rows of doctor(), what is wrong before what is well, and keeps one check's error from the others.
 *
 * Locks: none of its own.
 */
#include "api/finding.h"

#include "config/config.h"
#include "lib/attempt.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

typedef struct Finding
{
	char	   *check;
	char	   *detail;
	char	   *hint;			/* NULL: none */
} Finding;

void
queue_finding(QueueFindings *findings, const char *check, bool ok, const char *detail, const char *hint)
{
	MemoryContext old = MemoryContextSwitchTo(findings->context);
	Finding    *finding = palloc(sizeof(Finding));

	finding->check = pstrdup(check);
	finding->detail = pstrdup(detail);
	finding->hint = ok || hint == NULL ? NULL : pstrdup(hint);
	if (ok)
		findings->good = lappend(findings->good, finding);
	else
		findings->bad = lappend(findings->bad, finding);
	MemoryContextSwitchTo(old);
}

void
queue_finding_check(QueueFindings *findings, const char *name, QueueFindingCheck check)
{
	QueueAttempt attempt;
	int			held = queue_config_hold();	/* a check goes through one reading, and asks for rights on the way */

	CHECK_FOR_INTERRUPTS();
	queue_attempt_begin(&attempt);
	PG_TRY();
	{
		check(findings);
		queue_attempt_commit(&attempt);
	}
	PG_CATCH();
	{
		ErrorData  *error = queue_attempt_failed(&attempt);

		queue_finding(findings, name, false, psprintf("this check failed: %s", error->message),
					  error->hint != NULL ? error->hint : "What it looks at is damaged, or was changed by hand.");
	}
	PG_END_TRY();
	queue_config_release(held);
}

static void
put(ReturnSetInfo *rsinfo, List *list, bool ok)
{
	ListCell   *lc;

	foreach(lc, list)
	{
		Finding    *finding = lfirst(lc);
		Datum		values[4] = {CStringGetTextDatum(finding->check), BoolGetDatum(ok),
			CStringGetTextDatum(finding->detail)};
		bool		nulls[4] = {false, false, false, finding->hint == NULL};

		if (finding->hint != NULL)
			values[3] = CStringGetTextDatum(finding->hint);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

void
queue_finding_return(QueueFindings *findings, ReturnSetInfo *rsinfo)
{
	put(rsinfo, findings->bad, false);
	put(rsinfo, findings->good, true);
}
