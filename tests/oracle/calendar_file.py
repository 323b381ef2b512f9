"""Reads iCalendar files (RFC 5545), each a JSON string on a line, with the package `icalendar`."""

import json
import sys

from icalendar import Calendar


def event(component):
    assert not component.errors, component.errors
    at = component.decoded("DTSTART").isoformat()
    return {"uid": component["UID"], "at": at, "summary": component["SUMMARY"], "properties": sorted(component)}


for line in sys.stdin:
    calendar = Calendar.from_ical(json.loads(line))
    assert not calendar.errors, calendar.errors
    events = [event(component) for component in calendar.walk("VEVENT")]
    print(json.dumps({"version": calendar["VERSION"], "events": events}), flush=True)
