#!/usr/bin/env python3
"""When cron lines tick, computed a second time: minute by minute, from Python's own time zones.

    test/ticks.py table             writes sql/ticks.sql: some hundred cases around what the clock does in several zones
    test/ticks.py year [n [year]]   prints SQL that compares n (500) lines in five zones over a whole year with queue.next_ticks
                                    and prints what differs; pipe it into psql

Nothing here is shared with src/lib/cron.c: a line is spelt out into sets of numbers, every minute of the time is turned into
local time, and what a change of the clock leaves out is found by looking at the minute before.
"""
import hashlib
import os
import random
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

UTC = timezone.utc
MONTHS = 'jan feb mar apr may jun jul aug sep oct nov dec'.split()
WEEKDAYS = 'sun mon tue wed thu fri sat'.split()
WORDS = {'@yearly': '0 0 1 1 *', '@annually': '0 0 1 1 *', '@monthly': '0 0 1 * *', '@weekly': '0 0 * * 0',
         '@daily': '0 0 * * *', '@midnight': '0 0 * * *', '@hourly': '0 * * * *'}


def spell_out(text, low, high, names=(), base=0):
    """The numbers of a field; '$' stays as it is."""
    numbers = set()
    for part in text.lower().split(','):
        if part == '$':
            numbers.add('$')
            continue
        part, _, step = part.partition('/')
        first, dash, last = part.partition('-')
        number = lambda word: names.index(word) + base if word in names else int(word)
        if first == '*':
            a, b = low, high
        else:
            a = number(first)
            b = number(last) if dash else a
            if b == 0 and a > 0 and last == 'sun':
                b = 7
        numbers.update(range(a, b + 1, int(step or 1)))
    return numbers


class Line:
    def __init__(self, text):
        fields = WORDS.get(text.strip().lower(), text).split()
        self.minutes = spell_out(fields[0], 0, 59)
        self.hours = spell_out(fields[1], 0, 23)
        self.days = spell_out(fields[2], 1, 31)
        self.months = spell_out(fields[3], 1, 12, MONTHS, 1)
        self.weekdays = {d % 7 for d in spell_out(fields[4], 0, 7, WEEKDAYS)}
        self.both = fields[2][0] == '*' or fields[4][0] == '*'
        self.fixed = '*' not in fields[0] + fields[1]

    def day(self, local):
        month = local.day in self.days or ('$' in self.days and (local + timedelta(days=1)).day == 1)
        week = local.isoweekday() % 7 in self.weekdays
        return local.month in self.months and (month and week if self.both else month or week)

    def ticks_at(self, local):
        return local.minute in self.minutes and local.hour in self.hours and self.day(local)


class Zone:
    """Every minute of a time, with what the clock shows then."""
    def __init__(self, name, start, end):
        self.zone = ZoneInfo(name)
        self.start, self.end = start, end
        self.minutes = {}           # (when, what the clock shows) by the minute and hour that it shows
        self.shown = {}             # what the clock shows: when it does so first
        self.gaps = []              # (what it leaves out from, to, when it goes on)
        at, before = start - timedelta(days=3), None
        while at < end:
            local = at.astimezone(self.zone).replace(tzinfo=None)
            self.shown.setdefault(local, at)
            if before is not None and local - before > timedelta(minutes=1):
                self.gaps.append((before + timedelta(minutes=1), local, at))
            self.minutes.setdefault((local.minute, local.hour), []).append((at, local))
            at, before = at + timedelta(minutes=1), local

    def ticks(self, line):
        found = {at for minute in line.minutes for hour in line.hours for at, local in self.minutes.get((minute, hour), [])
                 if line.ticks_at(local) and (not line.fixed or self.shown[local] == at)}
        if line.fixed:
            for first, until, at in self.gaps:
                while first < until:
                    if line.ticks_at(first):
                        found.add(at)
                    first += timedelta(minutes=1)
        return sorted(int(at.timestamp()) for at in found if at > self.start)


def random_line(rnd):
    def field(low, high, names=(), base=0, star=0.4):
        kind = rnd.random()
        if kind < star:
            return '*'
        if kind < star + 0.1:
            return f'*/{rnd.choice([2, 3, 5, 7, 10, 15])}'
        a, b = sorted(rnd.sample(range(low, high + 1), 2))
        show = lambda n: rnd.choice([str(n), names[n - base]]) if names and n - base < len(names) else str(n)
        if kind < star + 0.2:
            return f'{show(a)}-{show(b)}'
        if kind < star + 0.25:
            return f'{a}-{b}/{rnd.choice([2, 3, 4])}'
        if kind < star + 0.35:
            return f'{show(a)},{show(b)}'
        return show(a)
    day = field(1, 31, star=0.6)
    if rnd.random() < 0.1:
        day = rnd.choice(['$', '15,$', '$'])
    month = field(1, 12, MONTHS, 1, star=0.75)
    return ' '.join([field(0, 59, star=0.15), field(0, 23, star=0.25), day, month, field(0, 7, WEEKDAYS, star=0.65)])


def comes(text):
    """Is there such a day at all?"""
    line = Line(text)
    if not line.both or '$' in line.days:
        return True
    length = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return any(d <= length[m - 1] for m in line.months for d in line.days)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# (zone, from, hours): each around something that the clock does, long ago enough for every release of the tables
TIMES = [
    ('Europe/Berlin', '2023-03-25 12:00', 48), ('Europe/Berlin', '2023-10-28 12:00', 48), ('Europe/Berlin', '2024-02-27 12:00', 90),
    ('America/New_York', '2023-03-11 12:00', 48), ('America/New_York', '2023-11-04 18:00', 48),
    ('Australia/Lord_Howe', '2023-04-01 03:00', 48), ('Australia/Lord_Howe', '2023-09-30 03:00', 48),
    ('Africa/Casablanca', '2023-03-18 12:00', 48), ('Africa/Casablanca', '2023-04-22 12:00', 48),
    ('Pacific/Apia', '2011-12-29 00:00', 60), ('UTC', '2023-12-30 00:00', 60),
]
LINES = [
    '30 2 * * *', '0 3 * * *', '15 1 * * *', '45 1,2,3 * * *', '0 0 * * *', '0 12 * * *', '0-59 2 * * *', '59 23 * * *', '30 1-3 * * *', '0,30 0-4 * * *',
    '* 2 * * *', '*/15 1-3 * * *', '30 * * * *', '0 */2 * * *', '7,37 */1 * * *', '@hourly', '@daily', '@midnight', '@weekly',
    '@monthly', '@yearly', '@annually', '0 0 $ * *', '30 2 $ * *', '30 1 $ 10 *', '0 0 29 2 *', '0 0 29 2 wed', '15 2 26 3 *', '0 0 1 1 *', '0 0 30 12 *', '0 12 31 dec *',
    '30 2 25,26 3 sun', '0 1 * * sat-sun', '0 1 * * 6-7', '0 1 * * 7', '0 1 1-7 * mon', '0 1 */7 * mon', '30 2 * * */2', '0 2 * * 0',
    '20-40/10 2 * MAR,oct Sun', '5 1,2 * 4,9,11 *',
]


def table():
    zones = {}
    rows = []
    for text in LINES:
        for name, start, hours in TIMES:
            key = (name, start)
            if key not in zones:
                at = utc(start)
                zones[key] = Zone(name, at, at + timedelta(hours=hours))
            ticks = zones[key].ticks(Line(text))
            rows.append((text, name, start, hours, len(ticks), hashlib.md5(','.join(map(str, ticks)).encode()).hexdigest()[:12],
                         ' '.join(datetime.fromtimestamp(t, UTC).strftime('%m-%d_%H:%M') for t in ticks[:3])))
    values = ',\n'.join("    ('%s', '%s', '%s', %d, %d, '%s', '%s')" % row for row in rows)
    sql = f"""-- When cron lines tick, around what the clock does in several zones: {len(rows)} cases.  Written by test/ticks.py, which computes
-- them from Python's time zones; a row below is a case in which queue.next_ticks says something else.
CREATE EXTENSION queue;
SET timezone = 'UTC';
CREATE TEMP TABLE tick (line text, zone text, start timestamptz, hours int, n int, hash text, first text);
INSERT INTO tick VALUES
{values};
SELECT t.line, t.zone, t.start, t.n, t.first, s.n AS got, s.first AS got_first
FROM tick t, LATERAL (
    SELECT count(*)::int AS n, left(md5(string_agg(extract(epoch FROM x)::bigint::text, ',' ORDER BY x)), 12) AS hash,
           coalesce(string_agg(to_char(x, 'MM-DD_HH24:MI'), ' ' ORDER BY x) FILTER (WHERE k <= 3), '') AS first
    FROM queue.next_ticks(t.line, t.zone, t.n + 1, t.start) WITH ORDINALITY y (x, k)
    WHERE x < t.start + make_interval(hours => t.hours)) s
WHERE (s.n, s.hash, s.first) IS DISTINCT FROM (t.n, CASE WHEN t.n > 0 THEN t.hash END, t.first)
ORDER BY 1, 2, 3;
SELECT count(*) AS cases, sum(n) AS ticks FROM tick;
DROP TABLE tick;
DROP EXTENSION queue;
"""
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
    with open(os.path.join(here, 'sql/ticks.sql'), 'w') as file:
        file.write(sql)


def year(n, which):
    rnd = random.Random(which)
    lines = list(dict.fromkeys(LINES))
    while len(lines) < n:
        text = random_line(rnd)
        if comes(text):
            lines.append(text)
    print("SET timezone = 'UTC';\nCREATE TEMP TABLE tick (line text, zone text, n int, hash text);")
    print("COPY tick FROM stdin;")
    for name in ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Africa/Casablanca', 'Pacific/Apia']:
        zone = Zone(name, utc(f'{which}-01-01'), utc(f'{which + 1}-01-01'))
        for text in lines[:n]:
            ticks = zone.ticks(Line(text))
            print(text, name, len(ticks), hashlib.md5(','.join(map(str, ticks)).encode()).hexdigest(), sep='\t')
    print('\\.')
    print(f"""SELECT t.line, t.zone, t.n, s.n AS got FROM tick t, LATERAL (
    SELECT count(*)::int AS n, md5(coalesce(string_agg(extract(epoch FROM x)::bigint::text, ',' ORDER BY x), '')) AS hash
    FROM queue.next_ticks(t.line, t.zone, t.n + 1, '{which}-01-01') x WHERE x < '{which + 1}-01-01') s
WHERE (s.n, s.hash) IS DISTINCT FROM (t.n, t.hash);
SELECT count(*) AS cases, sum(n) AS ticks FROM tick;""")


if __name__ == '__main__':
    if sys.argv[1:2] == ['table']:
        table()
    elif sys.argv[1:2] == ['year']:
        year(int(sys.argv[2]) if len(sys.argv) > 2 else 500, int(sys.argv[3]) if len(sys.argv) > 3 else 2023)
    else:
        sys.exit(__doc__)
