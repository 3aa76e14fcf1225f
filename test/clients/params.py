"""What psycopg 3 makes of parameters: str goes untyped, int as the smallest type that holds it, Jsonb as jsonb."""
import datetime
import json
import os

import psycopg
from psycopg.types.json import Jsonb

q = os.environ["QUEUE"]
conn = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=None)


def check(name, text, values, expected):
    try:
        got = conn.execute(text, values).fetchone()[0]
        print(f"ok {name}" if got == expected else f"not ok {name}: got {got}")
    except psycopg.Error as e:
        print(f"not ok {name}: {e}".replace("\n", " "))


def refused(name, text, values, hint):
    try:
        conn.execute(text, values)
        print(f"not ok {name}: it worked")
    except psycopg.Error as e:
        print(f"ok {name}" if hint in str(e) else f"not ok {name}: {e}".replace("\n", " "))


check("enqueue, payload as Jsonb", "SELECT queue.enqueue(%s, %s, %s) > 0", ("k", Jsonb({"n": 1}), q), True)
check("enqueue, payload as text, delay as a timedelta", "SELECT queue.enqueue(%s, %s, %s, delay => %s) > 0", ("k", '{"n": 2}', q, datetime.timedelta(hours=1)), True)
check("enqueue, priority as int, run_at as datetime", "SELECT queue.enqueue(%s, %s, %s, %s, %s) > 0", ("k", "{}", q, 5, datetime.datetime.now(datetime.timezone.utc)), True)
check("enqueue_json", "SELECT queue.enqueue_json(%s) > 0", (json.dumps({"kind": "k", "queue": q}),), True)
check("enqueue_many, Jsonb", "SELECT count(*) FROM queue.enqueue_many(%s, %s, %s)", ("k", [Jsonb({"n": 3}), Jsonb({"n": 4})], q), 2)
check("enqueue_many, text with a cast", "SELECT count(*) FROM queue.enqueue_many(%s, %s::jsonb[], %s)", ("k", ['{"n": 3}'], q), 1)
job, attempt = conn.execute("SELECT id, attempt FROM queue.fetch(%s, %s, lease => %s)", (q, 1, datetime.timedelta(minutes=1))).fetchone()
check("heartbeat, ints and text", "SELECT queue.heartbeat(%s, %s, %s) > now()", (job, "2 min", attempt), True)
check("complete, a wrong attempt", "SELECT queue.complete(%s, %s)", (job, 99), False)
check("a bigint attempt fits", "SELECT queue.complete(%s, %s)", (job, 2 ** 40), False)
check("complete, a result", "SELECT queue.complete(%s, %s, %s)", (job, attempt, Jsonb({"ok": True})), True)
nxt = conn.execute("SELECT id, attempt FROM queue.fetch(%s, complete_ids => %s, complete_attempts => %s)", (q, [job], [attempt])).fetchone()
check("complete_many, arrays of small ints", "SELECT count(*) FROM queue.complete_many(%s, %s)", ([nxt[0]], [nxt[1]]), 1)
with conn.transaction():
    j, a = conn.execute("SELECT id, attempt FROM queue.fetch(%s)", (q,)).fetchone()
    check("fetch and complete in one transaction", "SELECT queue.complete(%s, %s)", (j, a), True)
check("null for an option", "SELECT queue.enqueue(%s, %s, %s, run_at => %s, headers => %s) > 0", ("k", "{}", q, None, None), True)
conn.close()
