"""Runs in ClickHouse what it reads from standard input, and prints what questions give. Runs where chdb is installed.

A line is a JSON object: `do` is a statement, `ask` a question, whose answer is a line with its `types` and `rows`.
"""

from __future__ import annotations

import json
import sys

from chdb import session


def main() -> None:
    """One line after the other; what ClickHouse refuses is the answer `refused`."""
    clickhouse = session.Session()
    for line in map(json.loads, sys.stdin):
        if "do" in line:
            clickhouse.query(line["do"])
            continue
        try:
            found = json.loads(clickhouse.query(line["ask"], "JSON").bytes())
        except RuntimeError as error:
            print(json.dumps({"refused": str(error)}))
            continue
        types = {column["name"]: column["type"] for column in found["meta"]}
        print(json.dumps({"types": types, "rows": found["data"]}))


if __name__ == "__main__":
    main()
