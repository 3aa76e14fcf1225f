/*
 * turn.c
 *		Whose turn it is where concurrency keys take turns.
 *
 * A group is the jobs of one fair queue and priority that one sort of reader takes (the executors of a role, an HTTP
 * handler, sessions that fetch the same kinds).  Its rounds are numbered.  A key may have `fair` jobs in a round, so
 * it is known by its round and how many it had in it.  A group is in the round of the job that was started last; a
 * key that is behind, because it was idle or under a limit, joins in there, and what it did not use is not saved up.
 *
 * The scheduler pulls ahead: a key that is alone goes on to later rounds.  Another one that comes then begins in the
 * round that was started, and so before most of what was pulled.
 *
 * Owns a table of fixed size without locks, in which a number is looked for in the four places of its bucket; of
 * these the one with the earliest round makes room.  All of this is a hint: what is lost, or raced, costs a key a
 * turn or gives it one.  A group that is new, or was forgotten, begins later than all rounds that there were, so
 * later than what its keys had, and than what agendas know of them.  The numbers of groups and keys are hashes with a
 * secret seed (shared/meter.h).  Without shared memory each session has a table of its own.
 */
#include "shared/turn.h"

#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#define WAYS 4
#define LOCAL_BUCKETS 1024
#define AHEAD_MAX 1024			/* rounds that a key can be ahead by what was pulled; more is of another time */

typedef struct TurnEntry
{
	pg_atomic_uint64 id;		/* of a key or a group; 0: free */
	pg_atomic_uint64 turn;
} TurnEntry;

typedef struct TurnTable
{
	pg_atomic_uint64 latest;	/* round of any group */
	TurnEntry	entries[FLEXIBLE_ARRAY_MEMBER];
} TurnTable;

static TurnTable *table = NULL;
static uint32 nbuckets;

/* A key for each line, or nearly. */
static uint32
bucket_count(void)
{
	return pg_nextpower2_32(Max(queue_max_lines, 4096)) / WAYS;
}

Size
queue_turn_shmem_size(void)
{
	return offsetof(TurnTable, entries) + mul_size(bucket_count() * WAYS, sizeof(TurnEntry));
}

static void
clear(void)
{
	pg_atomic_init_u64(&table->latest, 0);
	for (uint32 i = 0; i < nbuckets * WAYS; i++)
	{
		pg_atomic_init_u64(&table->entries[i].id, 0);
		pg_atomic_init_u64(&table->entries[i].turn, 0);
	}
}

void
queue_turn_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("queue turns", queue_turn_shmem_size(), &found);
	nbuckets = bucket_count();
	if (!found)
		clear();
}

/* The entry of a number, made if asked; NULL: there is none. */
static TurnEntry *
find(uint64 id, bool create)
{
	TurnEntry  *bucket;
	TurnEntry  *oldest;
	uint64		other;

	if (unlikely(table == NULL))
	{
		nbuckets = LOCAL_BUCKETS;
		table = MemoryContextAlloc(TopMemoryContext,
								   offsetof(TurnTable, entries) + nbuckets * WAYS * sizeof(TurnEntry));
		clear();
	}
	bucket = &table->entries[(id & (nbuckets - 1)) * WAYS];
	oldest = bucket;
	for (int i = 0; i < WAYS; i++)
	{
		if (pg_atomic_read_u64(&bucket[i].id) == id)
			return &bucket[i];
		if (pg_atomic_read_u64(&bucket[i].turn) < pg_atomic_read_u64(&oldest->turn))
			oldest = &bucket[i];
	}
	if (!create)
		return NULL;
	other = pg_atomic_read_u64(&oldest->id);
	/* another's turn may be read as this one's for a moment: it is an early one */
	return pg_atomic_compare_exchange_u64(&oldest->id, &other, id) ? oldest : NULL;
}

void
queue_turn_set(uint64 id, uint64 turn)
{
	TurnEntry  *entry = find(id, true);

	if (entry != NULL)
		pg_atomic_write_u64(&entry->turn, turn);
}

/* Kept as a late turn, so that none of the group's keys stays longer. */
static void
set_group_round(uint64 group, uint64 round)
{
	queue_turn_set(group, queue_turn_of_round(round + AHEAD_MAX));
	if (pg_atomic_read_u64(&table->latest) < round)
		pg_atomic_write_u64(&table->latest, round);
}

uint64
queue_turn_group_round(uint64 group)
{
	TurnEntry  *entry = find(group, false);
	uint64		round;

	if (entry != NULL)
		return queue_turn_round(pg_atomic_read_u64(&entry->turn)) - AHEAD_MAX;
	round = pg_atomic_read_u64(&table->latest) + AHEAD_MAX + 1;
	set_group_round(group, round);
	return round;
}

uint64
queue_turn_of_key(uint64 key, uint64 round)
{
	TurnEntry  *entry = find(key, false);
	uint64		turn = entry != NULL ? pg_atomic_read_u64(&entry->turn) : 0;

	if (queue_turn_round(turn) < round || queue_turn_round(turn) > round + AHEAD_MAX)
		return queue_turn_of_round(round);
	return turn;
}

uint64
queue_turn_after(uint64 turn, int fair)
{
	uint64		had = turn - queue_turn_of_round(queue_turn_round(turn));

	return had + 1 >= (uint64) fair ? queue_turn_of_round(queue_turn_round(turn) + 1) : turn + 1;
}

uint64
queue_turn_before(uint64 turn, int fair)
{
	uint64		begin = queue_turn_of_round(queue_turn_round(turn));

	return turn > begin ? turn - 1 : queue_turn_of_round(queue_turn_round(turn) - 1) + fair - 1;
}

void
queue_turn_started(const QueueOrder *order)
{
	uint64		round = queue_turn_round(order->turn);

	if (order->group != 0 && queue_turn_group_round(order->group) < round)
		set_group_round(order->group, round);
}
