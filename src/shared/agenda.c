/*
 * agenda.c
 *		Agendas: the lines that have something to do, in the order in which their jobs are taken.
 *
 * Why: a reader that looked at each of its lines would pay for 100,000 idle ones.  An agenda has those that are not
 * empty: in one search tree those that may have something due, by (priority, turn, bound, line), in another those
 * whose next job falls due later, by that time; each look moves over what has fallen due meanwhile.  Taking, adding
 * and moving a line costs O(log n), and a line without work costs nothing.  A line whose jobs nobody may take at
 * present, because its key's limit is full, is held (meter.c): it stands among the later ones, or in no tree, until it
 * is let go.
 *
 * Owns one node per entry of cursor.c, under the same number, and the agendas, in a hash table of fixed size.  The
 * trees are treaps: a node's rank is a hash of its number, so they are balanced whatever the order of arrival, and
 * nothing needs to be allocated in a commit callback.
 *
 * An agenda is found by database, type and key.  It is made when a line enters that has none, and its place is
 * another's when it has no lines; whoever kept its number compares the key.
 *
 * Locks: a node's agenda, bound and times are changed under the lock of its entry (cursor.c) and that of its agenda,
 * so either is enough to read them; its links and which tree it is in, under that of the agenda.  Table lock (to find
 * and make agendas) < an agenda's lock.  Only who moves a line locks two agendas at once: a database's one scheduler.
 */
#include "shared/agenda.h"

#include "shared/clock.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

#define NONE (-1)
#define RESERVE 16384			/* entries of which no database may take more than QUEUE_CURSORS_SURE */
#define LOOKS 64				/* agendas looked at for one without lines */
#define AT_ONCE 4096			/* lines that fell due, moved in one look */

/* Where a line is in its agenda. */
enum
{
	IDLE,						/* in no tree: nothing to do */
	READY,						/* something may be due */
	LATER						/* something falls due at node->at */
};

typedef struct LineNode
{
	QueueAgendaItem item;
	TimestampTz due;			/* nothing is, before this; DT_NOEND: there is nothing */
	TimestampTz held;			/* nothing may be taken before this, whatever is due; DT_NOBEGIN: it is not held */
	TimestampTz at;				/* the later of both */
	int			left,
				right;
	int			agenda;			/* NONE: in none */
	uint8		tree;
} LineNode;

typedef struct Agenda
{
	LWLock		lock;
	Oid			db;				/* InvalidOid: free */
	QueueAgendaType type;
	uint64		key;
	int			next;			/* in its bucket or in the free list */
	int			lines;
	int			ready,			/* roots */
				later;
	TimestampTz later_due;		/* of the first in `later`; DT_NOEND: it is empty */
	uint64		changed;		/* another one whenever a line has left, or comes earlier */
} Agenda;

typedef struct AgendaTable
{
	LWLock		lock;
	int			tranche;
	int			free;
	int			hand;			/* where the search for one without lines goes on */
	pg_atomic_uint64 changes;	/* of all agendas */
} AgendaTable;

static AgendaTable *table = NULL;
static int *buckets;
static Agenda *agendas;
static LineNode *nodes;

int
queue_agenda_capacity(void)
{
	return queue_max_lines + RESERVE;
}

/* How many agendas there may be. */
static int
agenda_count(void)
{
	return 4096 + queue_max_lines / 4;
}

Size
queue_agenda_shmem_size(void)
{
	return MAXALIGN(sizeof(AgendaTable)) + MAXALIGN(agenda_count() * sizeof(int)) +
		MAXALIGN(agenda_count() * sizeof(Agenda)) + mul_size(queue_agenda_capacity(), sizeof(LineNode));
}

void
queue_agenda_shmem_init(void)
{
	bool		found;
	char	   *memory = ShmemInitStruct("queue agendas", queue_agenda_shmem_size(), &found);

	table = (AgendaTable *) memory;
	memory += MAXALIGN(sizeof(AgendaTable));
	buckets = (int *) memory;
	memory += MAXALIGN(agenda_count() * sizeof(int));
	agendas = (Agenda *) memory;
	memory += MAXALIGN(agenda_count() * sizeof(Agenda));
	nodes = (LineNode *) memory;
	if (!found)
	{
		memset(table, 0, sizeof(AgendaTable));
		table->tranche = LWLockNewTrancheId();
		LWLockInitialize(&table->lock, table->tranche);
		pg_atomic_init_u64(&table->changes, 0);
		for (int i = 0; i < agenda_count(); i++)
		{
			memset(&agendas[i], 0, sizeof(Agenda));
			LWLockInitialize(&agendas[i].lock, table->tranche);
			agendas[i].next = i + 1 < agenda_count() ? i + 1 : NONE;
			buckets[i] = NONE;
		}
		for (int i = 0; i < queue_agenda_capacity(); i++)
			nodes[i].agenda = NONE;
	}
	LWLockRegisterTranche(table->tranche, "QueueAgenda");
}

/* ---------------------------------------------------------------- the trees */

/* Does node a come before node b in a tree? */
static inline bool
before(int tree, int a, int b)
{
	if (tree == READY)
		return queue_agenda_cmp(&nodes[a].item, &nodes[b].item) < 0;
	if (nodes[a].at != nodes[b].at)
		return nodes[a].at < nodes[b].at;
	return nodes[a].item.line < nodes[b].item.line;
}

/* A bijection, so no two are equal. */
static inline uint32
rank(int node)
{
	return murmurhash32((uint32) node);
}

/* Splits a tree into what comes before a node and what comes after it. */
static void
split(int tree, int root, int node, int *left, int *right)
{
	if (root == NONE)
		*left = *right = NONE;
	else if (before(tree, root, node))
	{
		*left = root;
		split(tree, nodes[root].right, node, &nodes[root].right, right);
	}
	else
	{
		*right = root;
		split(tree, nodes[root].left, node, left, &nodes[root].left);
	}
}

/* Joins two trees, of which all of the left one comes first. */
static int
join(int left, int right)
{
	if (left == NONE || right == NONE)
		return left == NONE ? right : left;
	if (rank(left) > rank(right))
	{
		nodes[left].right = join(nodes[left].right, right);
		return left;
	}
	nodes[right].left = join(left, nodes[right].left);
	return right;
}

static void
insert(int tree, int *root, int node)
{
	while (*root != NONE && rank(*root) > rank(node))
		root = before(tree, node, *root) ? &nodes[*root].left : &nodes[*root].right;
	split(tree, *root, node, &nodes[node].left, &nodes[node].right);
	*root = node;
}

static void
delete(int tree, int *root, int node)
{
	while (*root != node)
	{
		Assert(*root != NONE);
		root = before(tree, node, *root) ? &nodes[*root].left : &nodes[*root].right;
	}
	*root = join(nodes[node].left, nodes[node].right);
}

static int
first(int root)
{
	while (root != NONE && nodes[root].left != NONE)
		root = nodes[root].left;
	return root;
}

/* ---------------------------------------------------------------- agendas */

static inline int *
bucket_of(const QueueAgenda *wanted)
{
	return &buckets[murmurhash32((uint32) wanted->key ^ (uint32) (wanted->key >> 32) ^ wanted->db ^
								 ((uint32) wanted->type << 24)) % (uint32) agenda_count()];
}

static inline bool
is(const Agenda *agenda, const QueueAgenda *wanted)
{
	return agenda->db == wanted->db && agenda->type == wanted->type && agenda->key == wanted->key;
}

static void
add_to_set(QueueAgendaSet *set, QueueAgendaType type, uint64 key, bool special)
{
	QueueAgenda *agenda = MemoryContextAllocZero(set->cxt, sizeof(QueueAgenda));

	*agenda = (QueueAgenda) {.db = MyDatabaseId, .type = type, .key = key, .special = special};
	if (set->n == set->allocated)
	{
		int			size = Max(4, set->allocated * 2);

		set->agendas = set->agendas == NULL ? MemoryContextAlloc(set->cxt, size * sizeof(QueueAgenda *)) :
			repalloc(set->agendas, size * sizeof(QueueAgenda *));
		set->allocated = size;
	}
	set->agendas[set->n++] = agenda;
}

void
queue_agenda_set_begin(QueueAgendaSet *set, QueueAgendaType type, uint64 key, MemoryContext cxt)
{
	*set = (QueueAgendaSet) {.cxt = cxt};
	add_to_set(set, type, key, false);
}

QueueAgenda *
queue_agenda_set_of(QueueAgendaSet *set, uint64 queue_key, bool special)
{
	QueueAgenda *own = set->agendas[0];
	uint64		key = hash_combine64(own->key, queue_key);

	if (likely(!special))
		return own;
	for (int i = 1; i < set->n; i++)
	{
		if (set->agendas[i]->key == key)
			return set->agendas[i];
	}
	add_to_set(set, own->type, key, true);
	return set->agendas[set->n - 1];
}

/* Finds an agenda by its key; the caller holds the table lock. */
static int
find(const QueueAgenda *wanted)
{
	int			i = *bucket_of(wanted);

	Assert(LWLockHeldByMe(&table->lock));
	while (i != NONE && !is(&agendas[i], wanted))
		i = agendas[i].next;
	return i;
}

/* Frees some agendas that have no lines.  The caller holds the table lock exclusively. */
static void
collect_unused(void)
{
	for (int i = 0; i < LOOKS; i++)
	{
		Agenda	   *agenda = &agendas[table->hand];
		QueueAgenda old = {agenda->db, agenda->type, agenda->key, 0};
		int		   *link;

		table->hand = (table->hand + 1) % agenda_count();
		if (!OidIsValid(agenda->db) || !LWLockConditionalAcquire(&agenda->lock, LW_EXCLUSIVE))
			continue;
		if (agenda->lines == 0)
		{
			link = bucket_of(&old);
			while (*link != agenda - agendas)
				link = &agendas[*link].next;
			*link = agenda->next;
			agenda->db = InvalidOid;
			agenda->next = table->free;
			table->free = agenda - agendas;
		}
		LWLockRelease(&agenda->lock);
	}
}

/* Who reads this agenda step by step may miss a line.  The caller holds its lock exclusively. */
static inline void
change(Agenda *agenda)
{
	agenda->changed = pg_atomic_add_fetch_u64(&table->changes, 1);
}

/* Makes an agenda unless it is there; NONE: no place.  The caller holds the table lock exclusively. */
static int
make(const QueueAgenda *wanted)
{
	int			i = find(wanted);
	int		   *bucket = bucket_of(wanted);
	Agenda	   *agenda;

	if (i != NONE)
		return i;
	if (table->free == NONE)
		collect_unused();
	i = table->free;
	if (i == NONE)
		return NONE;
	agenda = &agendas[i];
	table->free = agenda->next;
	LWLockAcquire(&agenda->lock, LW_EXCLUSIVE);
	agenda->db = wanted->db;
	agenda->type = wanted->type;
	agenda->key = wanted->key;
	agenda->lines = 0;
	agenda->ready = agenda->later = NONE;
	agenda->later_due = DT_NOEND;
	change(agenda);
	agenda->next = *bucket;
	*bucket = i;
	LWLockRelease(&agenda->lock);
	return i;
}

/* Locks an agenda; NULL: there is none, or with `create` no place for it. */
static Agenda *
lock_agenda(QueueAgenda *wanted, LWLockMode mode, bool create)
{
	for (;;)
	{
		int			i = wanted->place - 1;

		if (i >= 0)
		{
			LWLockAcquire(&agendas[i].lock, mode);
			if (is(&agendas[i], wanted))
				return &agendas[i];
			LWLockRelease(&agendas[i].lock);
		}
		LWLockAcquire(&table->lock, create ? LW_EXCLUSIVE : LW_SHARED);
		i = create ? make(wanted) : find(wanted);
		wanted->place = i + 1;
		LWLockRelease(&table->lock);
		if (i == NONE)
			return NULL;
	}
}

/* The first of the later ones is another.  The caller holds the agenda's lock exclusively. */
static void
find_later_due(Agenda *agenda)
{
	int			node = first(agenda->later);

	agenda->later_due = node != NONE ? nodes[node].at : DT_NOEND;
}

/* Puts a node, which is in no tree, into one.  The caller holds the agenda's lock exclusively. */
static void
put_in(Agenda *agenda, int number, int tree)
{
	LineNode   *node = &nodes[number];

	if (tree == READY)
		insert(READY, &agenda->ready, number);
	else if (tree == LATER)
	{
		insert(LATER, &agenda->later, number);
		agenda->later_due = Min(agenda->later_due, node->at);
	}
	node->tree = tree;
}

/* Takes a node out of its tree.  The caller holds the agenda's lock exclusively. */
static void
take_out(Agenda *agenda, int number)
{
	LineNode   *node = &nodes[number];

	Assert(LWLockHeldByMeInMode(&agenda->lock, LW_EXCLUSIVE));
	if (node->tree == READY)
		delete(READY, &agenda->ready, number);
	else if (node->tree == LATER)
	{
		delete(LATER, &agenda->later, number);
		if (node->at == agenda->later_due)
			find_later_due(agenda);
	}
	node->tree = IDLE;
}

/* Puts a node into the tree where it belongs.  The caller holds the agenda's lock exclusively. */
static void
place(Agenda *agenda, int number, QueuePos bound, TimestampTz due, TimestampTz held)
{
	LineNode   *node = &nodes[number];
	TimestampTz at = due == DT_NOEND || due >= held ? due : held;
	bool		ready = at == DT_NOBEGIN || (at != DT_NOEND && at <= queue_now());

	if (ready && node->tree == READY && queue_pos_cmp(bound, node->item.bound) < 0)
		change(agenda);
	take_out(agenda, number);
	node->item.bound = bound;
	node->due = due;
	node->held = held;
	node->at = at;
	put_in(agenda, number, ready ? READY : at != DT_NOEND ? LATER : IDLE);
}

bool
queue_agenda_enter(int number, QueueAgenda *agenda, int64 line, int16 priority)
{
	LineNode   *node = &nodes[number];
	Agenda	   *found = lock_agenda(agenda, LW_EXCLUSIVE, true);

	Assert(node->agenda == NONE);
	if (found == NULL)
		return false;
	*node = (LineNode) {
		.item = {line, QUEUE_POS_FIRST, priority, 0},
		.due = DT_NOEND,
		.held = DT_NOBEGIN,
		.at = DT_NOEND,
		.agenda = (int) (found - agendas),
		.tree = IDLE,
	};
	found->lines++;
	LWLockRelease(&found->lock);
	return true;
}

/* Takes a line out of its agenda.  The caller holds the agenda's lock exclusively. */
static void
remove_line(Agenda *agenda, int number)
{
	if (nodes[number].tree != IDLE)
		change(agenda);
	take_out(agenda, number);
	nodes[number].agenda = NONE;
	agenda->lines--;
}

void
queue_agenda_leave(int number)
{
	LineNode   *node = &nodes[number];
	Agenda	   *agenda;

	if (node->agenda == NONE)
		return;
	agenda = &agendas[node->agenda];
	LWLockAcquire(&agenda->lock, LW_EXCLUSIVE);
	remove_line(agenda, number);
	LWLockRelease(&agenda->lock);
}

bool
queue_agenda_move(int number, QueueAgenda *to, int64 line, int16 priority)
{
	LineNode   *node = &nodes[number];
	Agenda	   *old;
	Agenda	   *found;
	uint8		tree;

	if (node->agenda == NONE)
		return queue_agenda_enter(number, to, line, priority);
	old = &agendas[node->agenda];
	found = lock_agenda(to, LW_EXCLUSIVE, true);
	if (found == NULL)
	{
		queue_agenda_leave(number);
		return false;
	}
	LWLockAcquire(&old->lock, LW_EXCLUSIVE);
	tree = node->tree;
	remove_line(old, number);
	node->item.turn = 0;
	node->agenda = (int) (found - agendas);
	found->lines++;
	put_in(found, number, tree);
	LWLockRelease(&old->lock);
	LWLockRelease(&found->lock);
	return true;
}

void
queue_agenda_set(int number, QueuePos bound, TimestampTz due)
{
	LineNode   *node = &nodes[number];
	Agenda	   *agenda;

	if (node->agenda == NONE || (node->due == due && queue_pos_cmp(node->item.bound, bound) == 0))
		return;
	agenda = &agendas[node->agenda];
	LWLockAcquire(&agenda->lock, LW_EXCLUSIVE);
	place(agenda, number, bound, due, node->held);
	LWLockRelease(&agenda->lock);
}

void
queue_agenda_hold(int number, TimestampTz until)
{
	LineNode   *node = &nodes[number];
	Agenda	   *agenda;

	if (node->agenda == NONE || node->held == until)
		return;
	agenda = &agendas[node->agenda];
	LWLockAcquire(&agenda->lock, LW_EXCLUSIVE);
	place(agenda, number, node->item.bound, node->due, until);
	LWLockRelease(&agenda->lock);
}

void
queue_agenda_tell_turn(int number, uint64 turn)
{
	LineNode   *node = &nodes[number];
	Agenda	   *agenda;
	uint8		tree;

	if (node->agenda == NONE || node->item.turn == turn)
		return;
	agenda = &agendas[node->agenda];
	LWLockAcquire(&agenda->lock, LW_EXCLUSIVE);
	if (node->tree == READY && turn < node->item.turn)
		change(agenda);
	tree = node->tree;
	take_out(agenda, number);
	node->item.turn = turn;
	put_in(agenda, number, tree);
	LWLockRelease(&agenda->lock);
}

bool
queue_agenda_is_in(int number, const QueueAgenda *agenda, bool turns)
{
	return nodes[number].agenda != NONE && is(&agendas[nodes[number].agenda], agenda) &&
		(turns || nodes[number].item.turn == 0);
}

/* What has fallen due is ready now.  The caller holds the agenda's lock exclusively. */
static void
advance(Agenda *agenda, TimestampTz now)
{
	for (int i = 0; i < AT_ONCE && agenda->later_due <= now; i++)
	{
		int			number = first(agenda->later);

		take_out(agenda, number);
		put_in(agenda, number, READY);
	}
}

/* Copies the first items of a tree that come after `after` (NULL: all do). */
static int
copy_items(int root, const QueueAgendaItem *after, QueueAgendaItem *items, int max)
{
	int			n = 0;

	if (root == NONE || max == 0)
		return 0;
	if (after != NULL && queue_agenda_cmp(&nodes[root].item, after) <= 0)
		return copy_items(nodes[root].right, after, items, max);
	n = copy_items(nodes[root].left, after, items, max);
	if (n == max)
		return n;
	items[n++] = nodes[root].item;
	return n + copy_items(nodes[root].right, NULL, items + n, max - n);
}

int
queue_agenda_read(QueueAgenda *agenda, TimestampTz now, const QueueAgendaItem *after, QueueAgendaItem *items, int max,
				  TimestampTz *next_due, uint64 *changed)
{
	Agenda	   *found;
	int			n;

	*next_due = DT_NOEND;
	if (changed != NULL)
		*changed = 0;
	if (table == NULL || (found = lock_agenda(agenda, LW_SHARED, false)) == NULL)
		return 0;
	if (found->later_due <= now)
	{
		LWLockRelease(&found->lock);
		found = lock_agenda(agenda, LW_EXCLUSIVE, false);
		if (found == NULL)
			return 0;
		advance(found, now);
	}
	n = copy_items(found->ready, after, items, max);
	*next_due = found->later_due;
	if (changed != NULL)
		*changed = found->changed;
	LWLockRelease(&found->lock);
	return n;
}

uint64
queue_agenda_changed(QueueAgenda *agenda)
{
	Agenda	   *found = table != NULL ? lock_agenda(agenda, LW_SHARED, false) : NULL;
	uint64		changed = 0;

	if (found != NULL)
	{
		changed = found->changed;
		LWLockRelease(&found->lock);
	}
	return changed;
}

int
queue_agenda_due(int used, TimestampTz now, QueueAgendaItem *items)
{
	int			n = 0;

	for (int i = 0; i < used; i++)
	{
		int			agenda = nodes[i].agenda;

		if (agenda != NONE && agendas[agenda].db == MyDatabaseId && nodes[i].due != DT_NOEND && nodes[i].due <= now)
			items[n++] = nodes[i].item;
	}
	return n;
}
