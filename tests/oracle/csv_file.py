"""Reads CSV files, each a JSON string on a line, as Python's own reader does: the rows as objects."""

import csv
import io
import json
import sys

for line in sys.stdin:
    reader = csv.DictReader(io.StringIO(json.loads(line), newline=""), strict=True)
    print(json.dumps(list(reader)), flush=True)
