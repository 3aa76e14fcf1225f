/* A line of cron: it is read, or refused at one of its bytes; its ticks go forward, and are counted as they come. */
#include "../../src/lib/cron.c"

#include "fuzz.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const TimestampTz starts[] = {0, INT64CONST(843000000) * USECS_PER_SEC, -INT64CONST(3155760000) * USECS_PER_SEC};
	QueueCron	cron;
	QueueCronError wrong = {0};
	char	   *line = size <= 300 ? fuzz_text(data, size) : NULL;

	if (line == NULL)
		return 0;
	if (!queue_cron_parse(line, &cron, &wrong))
	{
		FUZZ_CHECK(wrong.message != NULL && wrong.at >= 0 && wrong.at <= (int) strlen(line));
		(void) queue_cron_caret(line, wrong.at);
	}
	else
	{
		for (int i = 0; i < lengthof(starts); i++)
		{
			TimestampTz at = starts[i];
			int64		n = 0;

			for (; n < 20; n++)
			{
				TimestampTz next = queue_cron_next(&cron, NULL, at);

				FUZZ_CHECK(next > at);
				if (next == DT_NOEND)
					break;
				FUZZ_CHECK(queue_cron_count(&cron, NULL, at, next) == 1);
				FUZZ_CHECK(queue_cron_count(&cron, NULL, at, next - 1) == 0);
				FUZZ_CHECK(queue_cron_last(&cron, NULL, at, next) == next);
				at = next;
			}
			FUZZ_CHECK(queue_cron_count(&cron, NULL, starts[i], at) == n);
		}
	}
	fuzz_end();
	return 0;
}
