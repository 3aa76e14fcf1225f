/*
 * entries.h
 *		The channel entries that this executor has in hand.
 */
#ifndef QUEUE_ENTRIES_H
#define QUEUE_ENTRIES_H

#include "shared/channel.h"
#include "shared/suspect.h"

/* Those of the transaction under way, then those that must run again alone; id 0: not in hand any more. */
extern QueueEntry queue_held[QUEUE_SUSPECT_IDS];
extern int	queue_nheld;

extern bool queue_entries_open(void);	/* finds the role's channel; false: there is none */
extern bool queue_entries_any(void);	/* does the channel have one that may run? */
extern bool queue_entries_next(void);	/* takes one more into queue_held; false: none, or no place for it */
extern void queue_entries_ended(void);	/* all that were taken have: none of them needs a permit any more */
extern bool queue_entries_urgent(const QueueOrder *order);	/* does any wait that comes before this? */
extern void queue_entries_postpone(QueueEntry *entry);	/* it heads the next group */
extern void queue_entries_put_back_alone(QueueEntry *entry);	/* into the channel, for whichever executor is free */
extern void queue_entries_give_back(const QueueEntry *entry);	/* to its line: whoever may can have it */
extern void queue_entries_give_back_all(void);
/* Nobody tries it again before a pause is over; what went wrong. */
extern void queue_entries_shun(const QueueEntry *entry, const char *error, int code);
extern void queue_entries_wrote(void);	/* a transaction that wrote something has committed */
/* queue_entries_next() finds nothing before; DT_NOEND: it does. */
extern TimestampTz queue_entries_paused_until(void);
/* tells the scheduler that its handler cannot run */
extern void queue_entries_refuse(int64 line, const char *reason);

#endif
