"""The floor: requests that a sync sent, sent again over as many connections, their replies thrown away.

    python benchmarks/floor.py REQUESTS

No client that asks the same can be faster. Prints requests and bytes received (compressed, as the server sends them).
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

# as many as a sync has, see `ReadSettings.connections`
CONNECTIONS = 4


def download(file: Path) -> dict[str, int]:
    """Send the requests that `recording` wrote."""
    local = threading.local()

    def fetch(line: str) -> int:
        method, url, body = json.loads(line)
        if not hasattr(local, "session"):
            local.session = requests.Session()
        headers = {"Content-Type": "application/json"}
        reply = local.session.request(method, url, data=body, headers=headers, timeout=60)
        reply.raise_for_status()
        return int(reply.raw.tell())

    lines = file.read_text().splitlines()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return {"requests": len(lines), "bytes": sum(pool.map(fetch, lines))}


if __name__ == "__main__":
    print(json.dumps(download(Path(sys.argv[1]))))
