"""Cron expressions, matched by hand: five fields, names, lists, ranges, steps, `L`, `W` and `#`.

A day fires where its month matches and, of day of month and day of week, the one that is not `*`; where neither is, either
one will do.
"""

import calendar
import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache

MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
WEEKDAYS = "SUN MON TUE WED THU FRI SAT".split()
HORIZON = 40 * 366
HALF_A_DAY = 12 * 60


class Refused(Exception):
    """The code of what is wrong with an expression."""


class Expression:
    def __init__(self, minutes, hours, days_of_month, months, days_of_week):
        self.minutes, self.hours, self.months = minutes, hours, months
        self.days_of_month, self.days_of_week = days_of_month, days_of_week

    def fires_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month = self.days_of_month is None or any(matches(day) for matches in self.days_of_month)
        of_week = self.days_of_week is None or any(matches(day) for matches in self.days_of_week)
        if self.days_of_month is None or self.days_of_week is None:
            return of_month and of_week
        return of_month or of_week

    def firings(self, day: date) -> list:
        """The local times of a date at which it fires."""
        if not self.fires_on(day):
            return []
        return [datetime.combine(day, time(hour, minute)) for hour in self.hours for minute in self.minutes]


@lru_cache(maxsize=None)
def parse(text: str) -> Expression:
    parts = text.upper().split()
    if len(parts) != 5 or text.strip().startswith("@"):
        raise Refused("policy/cron-fields")
    minute, hour, day_of_month, month, day_of_week = parts
    return Expression(
        numbers(minute, 0, 59),
        numbers(hour, 0, 23),
        days_of_month(day_of_month),
        numbers(month, 1, 12, dict(zip(MONTHS, range(1, 13)))),
        days_of_week(day_of_week),
    )


def numbers(text: str, least: int, greatest: int, words: dict = {}) -> list:
    """The values of a field, in order."""
    values = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if span == "*" and (slash or text == "*"):
            begin, end = least, greatest
        else:
            begin, dash, end = span.partition("-")
            # A week may end with its Sunday.
            end = value(end, words | {"SUN": 7} if "SUN" in words else words) if dash else value(begin, words)
            begin = value(begin, words)
            if slash and not dash:
                raise Refused("policy/cron-syntax")
        width = integer(step) if slash else 1
        if not (least <= begin <= end <= greatest and 1 <= width <= greatest):
            raise Refused("policy/cron-syntax")
        values.update(range(begin, end + 1, width))
    return sorted(values)


def value(text: str, words: dict) -> int:
    return words[text] if text in words else integer(text)


def integer(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text):
        raise Refused("policy/cron-syntax")
    return int(text)


def days_of_month(text: str):
    """Tests of a date, one for each item; none where the field says nothing."""
    if text == "*":
        return None
    items = text.split(",")
    if "L" in items and "LW" in items:
        raise Refused("policy/cron-syntax")
    return [day_of_month(item) for item in items]


def day_of_month(item: str):
    if item == "L":
        return lambda day: day.day == length(day)
    if item == "LW":
        return lambda day: day.day == max(working_days(day))
    if near := re.fullmatch("([0-9]{1,3})W", item):
        wanted = numbers(near[1], 1, 31)[0]
        return lambda day: wanted <= length(day) and day.day == nearest(wanted, working_days(day))
    values = numbers(item, 1, 31) if item != "*" else refuse()
    return lambda day: day.day in values


def days_of_week(text: str):
    return None if text == "*" else [day_of_week(item) for item in text.split(",")]


def day_of_week(item: str):
    words = dict(zip(WEEKDAYS, range(7)))
    single = "([0-9]{1,3}|" + "|".join(WEEKDAYS) + ")"
    if last := re.fullmatch(single + "L", item):
        wanted = numbers(last[1], 0, 7, words)[0] % 7
        return lambda day: weekday(day) == wanted and day.day > length(day) - 7
    if nth := re.fullmatch(single + "#([0-9]{1,3})", item):
        wanted, place = numbers(nth[1], 0, 7, words)[0] % 7, integer(nth[2])
        if not 1 <= place <= 5:
            raise Refused("policy/cron-syntax")
        return lambda day: weekday(day) == wanted and sum(1 for other in range(1, day.day + 1) if (day.day - other) % 7 == 0) == place
    values = {number % 7 for number in (numbers(item, 0, 7, words) if item != "*" else refuse())}
    return lambda day: weekday(day) in values


def refuse():
    raise Refused("policy/cron-syntax")


def weekday(day: date) -> int:
    """Days since Sunday."""
    return day.isoweekday() % 7


def length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def working_days(day: date) -> list:
    """The days from Monday to Friday of a date's month."""
    return [number for number in range(1, length(day) + 1) if day.replace(day=number).isoweekday() <= 5]


def nearest(wanted: int, candidates: list) -> int:
    return min(candidates, key=lambda candidate: abs(candidate - wanted))


@lru_cache(maxsize=None)
def check(expression: Expression, days: int = HORIZON) -> int:
    """The least distance of two firings in minutes, a day at most, by looking at all of so many days."""
    least, last = 24 * 60, None
    for number in range(days):
        for firing in expression.firings(date(2000, 1, 1) + timedelta(number)):
            if last is not None:
                least = min(least, (firing - last) // timedelta(minutes=1))
            last = firing
            if least < HALF_A_DAY:
                raise Refused("policy/cron-too-often")
    if last is None:
        raise Refused("policy/cron-never-fires")
    return least
