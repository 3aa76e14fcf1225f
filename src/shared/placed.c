/*
 * placed.c
 *		Which kinds may have a place among the counted ones (counter.c), without a lock.
 *
 * Of 100,000 kinds 1,024 are counted, and each process that met one of the others for the first time looked for its
 * place under a lock, by its whole name.  A bit for each hash of names that ever got a place answers that with one
 * memory access.  Bits are never taken back: one too many only costs that look.  Who asks for the same kind again
 * remembers how many had got one, and asks the bits only if that has changed.
 *
 * Atomics only.
 */
#include "shared/placed.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

#define WORDS 8192				/* so that of thousands of kinds that once had a place few others look so */

typedef struct Placed
{
	pg_atomic_uint64 given;		/* how often a kind got a place, and 1; counted when its bit is there */
	pg_atomic_uint64 word[WORDS];
} Placed;

static Placed *placed = NULL;

Size
queue_placed_shmem_size(void)
{
	return sizeof(Placed);
}

void
queue_placed_shmem_init(void)
{
	bool		found;

	placed = ShmemInitStruct("queue placed kinds", queue_placed_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u64(&placed->given, 1);
	for (int i = 0; i < WORDS; i++)
		pg_atomic_init_u64(&placed->word[i], 0);
}

static inline pg_atomic_uint64 *
word_of(uint64 owner, uint64 kind_key, uint64 *bit)
{
	uint64		hash = hash_combine64(owner, kind_key);

	*bit = UINT64CONST(1) << (hash & 63);
	return &placed->word[(hash >> 6) % WORDS];
}

void
queue_placed_set(uint64 owner, uint64 kind_key)
{
	uint64		bit;
	pg_atomic_uint64 *word = word_of(owner, kind_key, &bit);

	pg_atomic_fetch_or_u64(word, bit);
	pg_atomic_fetch_add_u64(&placed->given, 1);
}

bool
queue_placed_never(pg_atomic_uint32 *places, uint64 owner, uint64 kind_key, uint64 *as_of)
{
	uint64		given = pg_atomic_read_u64(&placed->given);
	uint64		bit;
	pg_atomic_uint64 *word;

	if (pg_atomic_read_u32(places) < QUEUE_MAX_PLACES)
		return false;
	if (as_of != NULL && *as_of == given)
		return true;
	pg_read_barrier();			/* the bit is no older than the number */
	word = word_of(owner, kind_key, &bit);
	if ((pg_atomic_read_u64(word) & bit) != 0)
		return false;
	if (as_of != NULL)
		*as_of = given;
	return true;
}
