/*
 * topics.c
 *		Matching a topic with the patterns of all subscriptions, without looking at each.
 *
 * The patterns are a tree of words.  A match goes down it word by word with the set of nodes that the words so far can
 * lead to; a node is in a set once, so a pattern with many # costs no more than it has words.  The tree is read from
 * queue.subscription when this backend publishes for the first time, and again when the configuration is (config.c).
 *
 * Locks: AccessShareLock on queue.subscription while it is read.
 */
#include "config/topics.h"

#include "config/config.h"
#include "config/reader.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct TopicNode
{
	int			number;
	struct TopicNode *any;			/* behind a *; NULL: no pattern has one here */
	struct TopicNode *rest;			/* behind a #, which may be no word */
	bool		is_rest;		/* this is one: any further word stays here */
	QueueSubscription *first;	/* of the pattern that ends here */
	uint64		reached;		/* the step that reached it last */
	struct TopicNode *next[2];		/* the next one in the set of an even and of an odd step */
} TopicNode;

typedef struct Word
{
	char		word[QUEUE_NAME_MAX + 1];
	int			number;
} Word;

typedef struct EdgeKey
{
	int			node;
	int			word;
} EdgeKey;

typedef struct Edge
{
	EdgeKey		key;
	TopicNode	   *to;
} Edge;

typedef struct QueueTopics
{
	TopicNode	   *root;
	HTAB	   *words;
	HTAB	   *edges;
	int			nnodes;
	uint64		steps;
} QueueTopics;

/* Takes the next word off a topic; false: there is none any more. */
static bool
next_word(const char **topic, char *word)
{
	size_t		length;

	if (*topic == NULL)
		return false;
	length = strcspn(*topic, ".");
	strlcpy(word, *topic, Min(length, QUEUE_NAME_MAX) + 1);
	*topic = (*topic)[length] == '.' ? *topic + length + 1 : NULL;
	return true;
}

void
queue_topic_check(const char *topic, bool pattern)
{
	const char *rest = topic;
	char		word[QUEUE_NAME_MAX + 1];
	bool		ok = strlen(topic) <= QUEUE_NAME_MAX;

	while (ok && next_word(&rest, word))
		ok = word[0] != '\0' &&
			(strpbrk(word, "*#") == NULL || (pattern && (strcmp(word, "*") == 0 || strcmp(word, "#") == 0)));
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid topic \"%s\"", topic),
				 errhint("A topic is words with dots between them, at most %d bytes, such as orders.eu.paid. Only "
						 "queue.subscribe takes a * for one word and a # for any number of words.", QUEUE_NAME_MAX)));
}

/* ---- building ---- */

static TopicNode *
make_topic_node(QueueTopics *topics)
{
	TopicNode	   *node = palloc0(sizeof(TopicNode));

	node->number = topics->nnodes++;
	return node;
}

/* The node behind a word of a pattern, made if need be. */
static TopicNode *
grow(QueueTopics *topics, TopicNode *from, const char *name)
{
	EdgeKey		key = {from->number};
	Word	   *word;
	Edge	   *edge;
	bool		found;

	if (strcmp(name, "*") == 0)
		return from->any != NULL ? from->any : (from->any = make_topic_node(topics));
	if (strcmp(name, "#") == 0)
	{
		if (from->rest == NULL)
		{
			from->rest = make_topic_node(topics);
			from->rest->is_rest = true;
		}
		return from->rest;
	}
	word = hash_search(topics->words, name, HASH_ENTER, &found);
	if (!found)
		word->number = (int) hash_get_num_entries(topics->words);
	key.word = word->number;
	edge = hash_search(topics->edges, &key, HASH_ENTER, &found);
	if (!found)
		edge->to = make_topic_node(topics);
	return edge->to;
}

/* Reads all subscriptions into a reading of the configuration. */
static QueueTopics *
build(QueueConfig *config)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "queue topics", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	QueueTopics *topics = palloc0(sizeof(QueueTopics));
	HASHCTL		words = {.keysize = QUEUE_NAME_MAX + 1, .entrysize = sizeof(Word), .hcxt = cxt};
	HASHCTL		edges = {.keysize = sizeof(EdgeKey), .entrysize = sizeof(Edge), .hcxt = cxt};
	QueueReader	reader;

	topics->words = hash_create("queue words", 256, &words, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	topics->edges = hash_create("queue topics", 256, &edges, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	topics->root = make_topic_node(topics);
	queue_reader_begin(&reader, config->subscription);
	while (queue_reader_next(&reader))
	{
		QueueSubscription *subscription = palloc0(sizeof(QueueSubscription));
		const char *pattern = queue_reader_text(&reader, "topic");
		TopicNode	   *node = topics->root;
		char		word[QUEUE_NAME_MAX + 1];
		bool		isnull;
		Datum		filter = queue_reader_datum(&reader, "filter", &isnull);

		subscription->filter = isnull ? NULL : DatumGetJsonPathPCopy(filter);
		subscription->id = DatumGetInt64(queue_reader_datum(&reader, "id", &isnull));
		subscription->kind = queue_reader_text(&reader, "kind");
		subscription->queue = queue_reader_text(&reader, "queue");
		while (next_word(&pattern, word))
			node = grow(topics, node, word);
		subscription->next = node->first;
		node->first = subscription;
	}
	queue_reader_end(&reader);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, config->cxt);
	return config->topics = topics;
}

/* ---- matching ---- */

/* A node is in the set of this step, and so are those behind a # that stands for no word. */
static void
reach(QueueTopics *topics, TopicNode *node, TopicNode **set)
{
	for (; node != NULL && node->reached != topics->steps; node = node->rest)
	{
		node->reached = topics->steps;
		node->next[topics->steps % 2] = *set;
		*set = node;
	}
}

/* The set of nodes to which a word leads from those of `from`. */
static TopicNode *
step(QueueTopics *topics, TopicNode *from, const char *name)
{
	Word	   *word = hash_search(topics->words, name, HASH_FIND, NULL);
	int			parity = topics->steps++ % 2;
	TopicNode	   *set = NULL;

	for (TopicNode *node = from; node != NULL; node = node->next[parity])
	{
		Edge	   *edge = NULL;

		if (word != NULL)
			edge = hash_search(topics->edges, &(EdgeKey) {node->number, word->number}, HASH_FIND, NULL);
		if (edge != NULL)
			reach(topics, edge->to, &set);
		reach(topics, node->any, &set);
		if (node->is_rest)
			reach(topics, node, &set);
	}
	return set;
}

static int
by_id(const void *a, const void *b)
{
	int64		left = ((const QueueSubscription *) a)->id;
	int64		right = ((const QueueSubscription *) b)->id;

	return left < right ? -1 : left > right;
}

QueueSubscription *
queue_topic_match(const char *topic, int *n)
{
	QueueConfig *config = queue_config();
	QueueTopics *topics = config->topics != NULL ? config->topics : build(config);
	int			allocated = 8;
	QueueSubscription *found = palloc(allocated * sizeof(QueueSubscription));
	TopicNode	   *set = NULL;
	char		word[QUEUE_NAME_MAX + 1];

	*n = 0;
	topics->steps++;
	reach(topics, topics->root, &set);
	while (set != NULL && next_word(&topic, word))
		set = step(topics, set, word);
	for (TopicNode *node = set; node != NULL; node = node->next[topics->steps % 2])
	{
		for (QueueSubscription *subscription = node->first; subscription != NULL; subscription = subscription->next)
		{
			QueueSubscription *copy;

			if (*n == allocated)
				found = repalloc(found, (allocated *= 2) * sizeof(QueueSubscription));
			copy = &found[(*n)++];
			*copy = *subscription;
			copy->kind = pstrdup(subscription->kind);
			copy->queue = pstrdup(subscription->queue);
			if (subscription->filter != NULL)
				copy->filter = memcpy(palloc(VARSIZE(subscription->filter)), subscription->filter,
									  VARSIZE(subscription->filter));
		}
	}
	qsort(found, *n, sizeof(QueueSubscription), by_id);
	return found;
}
