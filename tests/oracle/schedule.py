"""A second implementation of keywheel's time rules, to hold the first against.

It shares nothing with the first but the rules: Python's `zoneinfo` instead of chrono-tz, a cron matcher written by hand
instead of croner, and brute force instead of arithmetic. It walks through time, or through every date that could matter,
and takes what the rule's own words name: "the first instant at which", "the latest slot that". Slow is fine here; clever
is not.

One JSON document a line comes in, one goes out, in order. Instants are whole seconds since 1970, UTC. The first line out
names the version of the tz database.
"""

import heapq
import json
import os
import sys
import zoneinfo
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import count

import tzdata

import cron
from cron import Refused

DAY = 86_400
HOUR = 3_600
EPOCH = datetime(1970, 1, 1)
TWO_YEARS = 731 * DAY
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


# --- local time ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=None)
def load(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


@lru_cache(maxsize=1_000_000)
def shown(at: int, zone: str) -> int:
    """What the clocks of a zone show at an instant, as seconds on a clock that has neither zone nor leap."""
    local = datetime.fromtimestamp(at, load(zone)).replace(tzinfo=None)
    return seconds(local)


def seconds(local: datetime) -> int:
    passed = local - EPOCH
    return passed.days * DAY + passed.seconds


def local_date(at: int, zone: str) -> date:
    return (EPOCH + timedelta(seconds=shown(at, zone))).date()


@lru_cache(maxsize=1_000_000)
def instant(local: datetime, zone: str) -> int:
    """The first instant at which the clocks show a local time or a later one: by walking there.

    An hour in which they just run on is taken in one step, any other one second by second.
    """
    wanted = seconds(local)
    at = (wanted - 26 * HOUR) // HOUR * HOUR
    assert shown(at, zone) < wanted
    while True:
        begin, end = shown(at, zone), shown(at + HOUR, zone)
        if end - begin == HOUR:
            if end >= wanted:
                return at + (wanted - begin)
        else:
            for second in range(at, at + HOUR + 1):
                if shown(second, zone) >= wanted:
                    return second
        at += HOUR


def days(first: date, last: date):
    """Every date from the first to the last, backward if need be."""
    step = timedelta(days=1 if first <= last else -1)
    while first != last + step:
        yield first
        first += step


# --- slots -----------------------------------------------------------------------------------------------------------


class Interval:
    """Each date has a slot; a key takes one every `interval` days."""

    def __init__(self, policy: dict):
        self.zone = policy["timezone"]
        self.interval = policy["rotation_interval_days"]
        self.time = time.fromisoformat(policy["rotation_time_of_day"])
        self.gap = min(self.interval * DAY // 2, DAY // 2)

    def slot(self, day: date) -> int:
        return instant(datetime.combine(day, self.time), self.zone)

    def after(self, at: int):
        """The first slot of any date after an instant."""
        near = local_date(at, self.zone)
        return next((day, self.slot(day)) for day in days(near - timedelta(5), near + timedelta(9)) if self.slot(day) > at)

    def after_rotation(self, at: int, served):
        if served is not None:
            day = self.date_of(served) + timedelta(self.interval)
            return day, self.slot(day)
        end = at + self.interval * DAY
        near = local_date(end, self.zone)
        day = next(day for day in days(near + timedelta(5), near - timedelta(9)) if self.slot(day) <= end)
        return (day, self.slot(day)) if self.slot(day) >= at + self.gap else self.after(at + self.gap - 1)

    def date_of(self, served: int) -> date:
        own = local_date(served, self.zone)
        before = own - timedelta(1)
        return before if self.slot(own) != served and self.slot(before) == served else own

    def next(self, slot):
        day = slot[0] + timedelta(self.interval)
        return day, self.slot(day)

    def latest(self, first, now: int) -> int:
        latest = first
        for step in count(1):
            day = first[0] + timedelta(step * self.interval)
            if self.slot(day) > now:
                return latest[1]
            latest = day, self.slot(day)


class Cron:
    """Each firing is a slot, and a key takes them all."""

    def __init__(self, policy: dict):
        self.zone = policy["timezone"]
        self.cron = cron.parse(policy["rotation_schedule"])
        # Its distances show within a leap year's cycle.
        self.gap = min(cron.check(self.cron, 5 * 366) * 60 // 2, DAY // 2)

    def on(self, day: date) -> list:
        """The firings of a date."""
        return [(local, instant(local, self.zone)) for local in self.cron.firings(day)]

    def after(self, at: int):
        near = local_date(at, self.zone)
        dates = days(near - timedelta(5), near + timedelta(cron.HORIZON))
        return next(slot for day in dates for slot in self.on(day) if slot[1] > at)

    def after_rotation(self, at: int, served):
        return self.after(served if served is not None else at + self.gap - 1)

    def next(self, slot):
        dates = days(slot[0].date(), slot[0].date() + timedelta(cron.HORIZON))
        return next(later for day in dates for later in self.on(day) if later[0] > slot[0])

    def latest(self, first, now: int) -> int:
        near = local_date(now, self.zone)
        passed = (at for day in days(near + timedelta(5), first[0].date()) for _, at in reversed(self.on(day)) if at <= now)
        return max(next(passed, first[1]), first[1])


def cadence(policy: dict):
    if policy.get("rotation_schedule"):
        return Cron(policy)
    return Interval(policy) if policy.get("rotation_interval_days") else None


# --- windows and freezes ---------------------------------------------------------------------------------------------


class Openings:
    def __init__(self, policy: dict, freezes: list):
        self.zone = policy["timezone"]
        self.windows = policy.get("rotation_windows", [])
        self.freezes = [
            (
                instant(datetime.fromisoformat(freeze["from"]), freeze["timezone"]),
                instant(datetime.fromisoformat(freeze["until"]), freeze["timezone"]),
                freeze["name"],
            )
            for freeze in freezes
        ]

    def spans(self, day: date) -> list:
        """The windows that open on a date."""
        spans = []
        for window in self.windows:
            if window["days"] and WEEKDAYS[day.weekday()] not in window["days"]:
                continue
            start, end = time.fromisoformat(window["start"]), time.fromisoformat(window["end"])
            last = day if end > start else day + timedelta(1)
            spans.append((instant(datetime.combine(day, start), self.zone), instant(datetime.combine(last, end), self.zone)))
        return spans

    def hold(self, at: int):
        frozen = [(until, name) for begin, until, name in self.freezes if begin <= at < until]
        if frozen:
            return ["freeze", max(frozen)[1]]
        near = local_date(at, self.zone)
        spans = (span for day in days(near - timedelta(4), near + timedelta(4)) for span in self.spans(day))
        return None if not self.windows or any(begin <= at < end for begin, end in spans) else ["window"]

    def openings(self, at: int):
        """Every instant from one on, in order, at which something can open: windows' beginnings and freezes' ends."""
        dates = days(local_date(at, self.zone) - timedelta(4), local_date(at, self.zone) + timedelta(800))
        begins = (begin for day in dates for begin, _ in sorted(self.spans(day)))
        ends = sorted(until for _, until, _ in self.freezes)
        return (opening for opening in heapq.merge([at], begins, ends) if opening >= at)

    def first(self, at: int):
        if not self.windows:
            return next((opening for opening in sorted([at] + [until for _, until, _ in self.freezes])
                         if at <= opening <= at + TWO_YEARS and not self.hold(opening)), None)
        for opening in self.openings(at):
            if opening > at + TWO_YEARS:
                return None
            if not self.hold(opening):
                return opening
        return None

    def closes(self, at: int) -> int:
        """The first instant after an open one that is closed; two days later at most, for no spread is longer."""
        near = local_date(at, self.zone)
        ends = [end for day in days(near - timedelta(4), near + timedelta(6)) for _, end in self.spans(day)]
        closings = sorted(closing for closing in ends + [begin for begin, _, _ in self.freezes] if closing > at)
        return next((closing for closing in closings if self.hold(closing)), at + 2 * DAY)


# --- decisions -------------------------------------------------------------------------------------------------------


def fnv1a(text: str) -> int:
    digest = 0xCBF29CE484222325
    for byte in text.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return digest


class Key:
    """A key with its history, under its policy."""

    def __init__(self, case: dict):
        policy, history = case["policy"], case["history"]
        self.cadence = cadence(policy)
        self.openings = Openings(policy, case["freezes"])
        self.name = case["key"]
        self.spread = policy.get("rotation_spread_minutes", 0) * 60
        self.missed_at_adoption = None
        self.first = None
        self.gap_until = None
        if self.cadence is None:
            return
        last = history.get("last_rotation")
        created, adopted = history.get("version_created_at"), history.get("managed_since")
        if last:
            self.rotated(last["at"], last["slot"])
        elif created is not None or adopted is not None:
            self.first = self.cadence.after_rotation(adopted if created is None else created, None)
            if created is not None and adopted is not None and self.first[1] <= adopted:
                self.missed_at_adoption = self.first[1]
                self.first = self.cadence.after(adopted)
        self.spread_until = self.first and self.spread_over()

    def rotated(self, at: int, served) -> None:
        self.missed_at_adoption = None
        self.first = self.cadence.after_rotation(at, served)
        self.gap_until = at + self.cadence.gap
        self.spread_until = self.spread_over()

    def spread_over(self) -> int:
        slot = self.first[1]
        opens = self.openings.first(slot) if self.spread else None
        if opens is None:
            return slot
        span = min(self.spread, self.openings.closes(opens) - opens, self.cadence.next(self.first)[1] - slot)
        return opens + fnv1a(f"{self.name}/{slot}") % max(span, 1)

    def hold(self, now: int):
        """What keeps the key from rotating at an instant, if anything does."""
        if now < self.first[1]:
            return ["adoption"] if self.missed_at_adoption is not None else ["slot"]
        if closed := self.openings.hold(now):
            return closed
        if now < self.spread_until:
            return ["spread"]
        return ["gap"] if self.gap_until is not None and now < self.gap_until else None

    def starts_at(self, now: int):
        """The first instant from `now` on at which nothing holds the key."""
        earliest = max(now, self.first[1], self.spread_until, self.gap_until or self.first[1])
        if self.hold(now) is None:
            return now
        return next((at for at in [earliest, self.openings.first(earliest)] if at is not None and not self.hold(at)), None)

    def decide(self, now: int) -> dict:
        if self.first is None:
            return {"is": "unscheduled"}
        hold = self.hold(now)
        if hold == ["slot"]:
            return {"is": "not due", "slot": self.first[1], "starts_at": self.starts_at(now)}
        slot = self.cadence.latest(self.first, now)
        if hold:
            return {"is": "waiting", "slot": slot, "hold": hold, "starts_at": self.starts_at(now)}
        missed = self.first[1] if slot > self.first[1] else None
        if self.missed_at_adoption is not None:
            missed = self.missed_at_adoption
        return {"is": "due", "slot": slot, "overdue_since": missed}

    def upcoming(self, now: int, times: int) -> list:
        instants = []
        while self.first is not None and len(instants) < times and (at := self.starts_at(now)) is not None:
            instants.append(at)
            self.rotated(at, self.cadence.latest(self.first, at))
            now = at
        return instants


def answer(case: dict) -> dict:
    if "schedule" in case:
        try:
            cron.check(cron.parse(case["schedule"]))
        except Refused as refused:
            return {"refused": str(refused)}
        return {"refused": None}
    now = case["now"]
    key = Key(case)
    hold = key.openings.hold(now)
    return {
        "decision": key.decide(now),
        "open": {"hold": hold, "until": key.openings.first(now) if hold else None},
        "upcoming": key.upcoming(now, case["upcoming"]),
    }


def main() -> None:
    # Python's own copy of the tz database would be another version.
    assert os.environ.get("PYTHONTZPATH") == "", "run this with PYTHONTZPATH set to nothing"
    print(json.dumps({"tz_version": tzdata.IANA_VERSION}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
