"""A worker in Python with psycopg 3 (Debian: python3-psycopg).  Copy it, and change `work`.

    DATABASE_URL=postgres://... python3 worker.py      SIGTERM: give back what is claimed, then end
"""
import json
import os
import signal
import sys
import threading
import time
import traceback

import psycopg

DSN = os.environ["DATABASE_URL"]
QUEUE = os.environ.get("QUEUE", "default")
LEASE = int(os.environ.get("LEASE", "60"))
WAIT = os.environ.get("WAIT", "5 s")
stop = threading.Event()


class Stopped(Exception):
    pass


def work(job_id, payload, lost):
    """lost is set when the job is not ours any more, or when we are to stop."""
    if payload.get("fail"):
        raise RuntimeError(payload["fail"])
    if lost.wait(payload.get("sleep_ms", 0) / 1000):
        raise Stopped
    return {"ok": True}


def heartbeat(job_id, attempt, lost, done):
    """On a connection of its own: the worker's is busy or waiting."""
    with psycopg.connect(DSN, autocommit=True, prepare_threshold=None) as conn:
        while not done.wait(LEASE / 3):
            row = conn.execute("SELECT queue.heartbeat(%s, make_interval(secs => %s), %s)", (job_id, LEASE, attempt)).fetchone()
            if row[0] is None:
                lost.set()
                return


def run(conn, job_id, attempt, payload):
    lost, done = threading.Event(), threading.Event()
    current.append(lost)
    beat = threading.Thread(target=heartbeat, args=(job_id, attempt, lost, done), daemon=True)
    beat.start()
    try:
        if stop.is_set():
            raise Stopped
        result = work(job_id, payload, lost)
        conn.execute("SELECT queue.complete(%s, %s, %s)", (job_id, attempt, json.dumps(result)))
    except Stopped:
        conn.execute("SELECT queue.release(%s, %s)", (job_id, attempt))
    except psycopg.OperationalError:
        raise
    except Exception:
        conn.execute("SELECT queue.fail(%s, %s, %s)", (job_id, attempt, traceback.format_exc()))
    finally:
        current.remove(lost)
        done.set()
        beat.join()


current = []


def on_signal(*_):
    stop.set()
    for lost in current:
        lost.set()


signal.signal(signal.SIGTERM, on_signal)
signal.signal(signal.SIGINT, on_signal)

while not stop.is_set():
    try:
        # prepare_threshold=None: behind a transaction pooler (PgBouncer before 1.21) prepare nothing
        with psycopg.connect(DSN, autocommit=True, prepare_threshold=None) as conn:
            while not stop.is_set():
                rows = conn.execute(
                    "SELECT id, attempt, payload FROM queue.fetch(%s, 1, lease => make_interval(secs => %s), wait => %s, worker => %s)",
                    (QUEUE, LEASE, WAIT, f"python:{os.getpid()}")).fetchall()
                for job_id, attempt, payload in rows:
                    run(conn, job_id, attempt, payload)
    except psycopg.OperationalError as e:
        print(e, file=sys.stderr)
        stop.wait(1)
