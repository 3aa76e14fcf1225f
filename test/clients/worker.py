"""A worker in Python with psycopg 3 (Debian: python3-psycopg).  Copy it, and change `work`.

    DATABASE_URL=postgres://... python3 worker.py      SIGTERM: give back what is claimed, then end
"""
import json
import os
import signal
import sys
import threading
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


class Database:
    """A connection that comes back: after a restart of the server or of the pooler the statement is tried again.

    That is safe for every call here: with the attempt given, a second complete or fail of one claim changes nothing.
    """
    conn = None

    def call(self, sql, values):
        while True:
            try:
                if self.conn is None:
                    # prepare_threshold=None: behind a transaction pooler (PgBouncer before 1.21) prepare nothing
                    self.conn = psycopg.connect(DSN, autocommit=True, prepare_threshold=None)
                return self.conn.execute(sql, values).fetchall()
            except psycopg.OperationalError as e:
                print(e, file=sys.stderr)
                self.close()
                if stop.is_set():
                    raise
                stop.wait(0.5)

    def close(self):
        if self.conn is not None:
            self.conn.close()
            self.conn = None


def heartbeat(job_id, attempt, lost, done):
    """On a connection of its own: the worker's is busy or waiting."""
    db = Database()
    try:
        while not done.wait(LEASE / 3):
            (until,), = db.call("SELECT queue.heartbeat(%s, make_interval(secs => %s), %s)", (job_id, LEASE, attempt))
            if until is None:
                lost.set()
                return
    except psycopg.OperationalError:
        pass                                         # we are to stop
    finally:
        db.close()


def run(db, job_id, attempt, payload):
    lost, done = threading.Event(), threading.Event()
    current.append(lost)
    beat = threading.Thread(target=heartbeat, args=(job_id, attempt, lost, done), daemon=True)
    beat.start()
    try:
        if stop.is_set():
            raise Stopped
        result = work(job_id, payload, lost)
        db.call("SELECT queue.complete(%s, %s, %s)", (job_id, attempt, json.dumps(result)))
    except Stopped:
        db.call("SELECT queue.release(%s, %s)", (job_id, attempt))
    except psycopg.OperationalError:
        raise
    except Exception:
        db.call("SELECT queue.fail(%s, %s, %s)", (job_id, attempt, traceback.format_exc()))
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

database = Database()
try:
    while not stop.is_set():
        rows = database.call(
            "SELECT id, attempt, payload FROM queue.fetch(%s, 1, lease => make_interval(secs => %s), wait => %s, worker => %s)",
            (QUEUE, LEASE, WAIT, f"python:{os.getpid()}"))
        for job_id, attempt, payload in rows:
            run(database, job_id, attempt, payload)
except psycopg.OperationalError:
    pass                                             # we are to stop, and the server is gone
database.close()
